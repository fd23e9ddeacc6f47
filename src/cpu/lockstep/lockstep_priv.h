/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of lockstep. Two vCPUs, two copies of guest RAM:
 *     ref   the caller's vCPU, interpreted, on the machine's RAM; devices and local APIC belong to it
 *     dbt   a vCPU of our own, translated, on a second RAM of the same shape
 * A step is one translated block and as many interpreted instructions. What ref gets from devices is recorded
 * and played back to dbt, so that a device sees each access once. All on the vCPU's thread, except
 * ls_ram_dma, which runs with the loop's gate closed to us.
 */
#ifndef R3_CPU_LOCKSTEP_PRIV_H
#define R3_CPU_LOCKSTEP_PRIV_H

#include "cpu/interp/interp.h"
#include "cpu/lockstep/lockstep.h"

/* ---- recorded input and output (record.c) ---- */
enum ls_event_kind {
	LS_PIO_READ,
	LS_PIO_WRITE,
	LS_MMIO_READ,
	LS_MMIO_WRITE,
	LS_IRQ_PENDING,
	LS_IRQ_ACK,
	LS_RDMSR,
	LS_WRMSR,
	LS_GET_TPR,
	LS_SET_TPR,
	LS_RANDOM,
};
struct ls_event {
	uint8_t kind, size;
	int8_t ret;
	uint64_t addr, val;
};
struct ls_record {
	struct ls_event *ev;
	unsigned n, cap, played;
	bool mismatch;	       /* dbt asked for something else than ref */
	struct ls_event wrong; /* what it asked for */
	bool stop_at_end; /* ref stopped inside a repeat: dbt must stop after as many accesses */
};

/* ---- memory (ram.c) ---- */
struct ls_range {
	gpa_t gpa;
	uint64_t len;
};
struct ls_ranges {
	struct ls_range *r;
	unsigned n, cap;
	bool all; /* too many to remember: everything may have been written */
};
#define LS_MARKS 256u
struct ls_ram {
	struct mem_map *ref, *dbt;
	struct ls_ram_part {
		gpa_t base;
		uint64_t off, size;
	} part[8];
	unsigned nparts;
	uint8_t *ref_host, *dbt_host;
	struct mem_region rom[8];
	unsigned nroms;
	struct mem_listener listener;
	struct ls_ranges written; /* by ref, in this step */
	struct ls_mark {
		gpa_t gpa;
		unsigned size;
	} mark[LS_MARKS]; /* page-table entries that either engine marked, in this step */
	unsigned nmarks;
	bool failed;
};
struct ls_byte {
	gpa_t gpa;
	uint8_t ref, dbt;
};

struct lockstep {
	struct vcpu *ref;
	struct vcpu dbt;
	struct x86_state *dbt_state; /* what dbt.s points to at first */
	const struct vcpu_io *io;    /* the machine's */
	struct vcpu_io io_ref, io_dbt;
	struct ls_record rec;
	struct ls_ram ram;

	uint64_t first_insn; /* ref->insn_count at the start */
	uint64_t next_check;
	bool gate;	     /* we closed the loop's gate */
	bool kicked, hinted; /* kick_pending and irq_hint, kept from instructions in progress */
	bool ended;	     /* a difference was reported, or the limit reached */

	/* in front of the current step, for the report */
	uint64_t gpr[16], rip, rflags;
	unsigned count; /* instructions in it */
	bool single;	/* it is one that dbt leaves to interp */
};

/* ram.c */
int ls_ram_open(struct ls_ram *m, struct mem_map *ref, struct err *e) MUST_CHECK;
void ls_ram_close(struct ls_ram *m);
void ls_ram_written(struct ls_ram *m, gpa_t a, uint64_t len);
void ls_ram_marked(struct ls_ram *m, gpa_t a, unsigned size);
void ls_ram_step_begin(struct ls_ram *m);
/* Brings accessed and dirty bits together; then the written bytes that differ, at most max of them. */
unsigned ls_ram_step_end(struct ls_ram *m, struct ls_byte *diff, unsigned max);
/* All of RAM. */
unsigned ls_ram_compare(const struct ls_ram *m, struct ls_byte *diff, unsigned max);

/* record.c */
void ls_record_open(struct lockstep *ls);
void ls_record_close(struct lockstep *ls);
static inline void ls_record_begin(struct ls_record *r)
{
	r->n = r->played = 0;
	r->mismatch = r->stop_at_end = false;
}
const char *ls_event_text(char *buf, size_t n, const struct ls_event *e);

/* compare.c */
/* Are the two states the same? Fast. Differences that the architecture leaves open are evened out. */
bool ls_state_same(struct lockstep *ls);
/* The instruction at rip, as the reference sees it; false: it cannot be fetched, or is none. */
bool ls_decode(struct lockstep *ls, gva_t rip, struct x86_insn *i);
/* Says what differs, and where, on stderr. why: one line. */
void ls_report(struct lockstep *ls, const char *why, const struct ls_byte *diff, unsigned n);

/* time.c */
int64_t ls_time_now(const struct lockstep *ls);
/* The clocks show the present instruction count. */
void ls_time_update(struct lockstep *ls);
/* The guest slept until then. */
void ls_time_skip(struct lockstep *ls, int64_t to);

#endif
