/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One case: everything user code can see before an instruction, and everything after it. The same
 * linear addresses exist on the bare host and in the guest, so that results compare as they are.
 */
#ifndef R3_TESTS_INSN_CASE_H
#define R3_TESTS_INSN_CASE_H

#include "base/err.h"
#include "x86/insn.h"

#define PAGE 4096u
#define CODE_VA                                                                                    \
	0x400000ull /* read-execute; what is not the case's code is INT3; nothing after it */
#define CODE_PAGES 2u
#define DATA_VA 0x500000ull /* read-write pages, then read-only ones; nothing around them */
#define DATA_RW_PAGES 3u
#define DATA_RO_PAGES 1u
#define DATA_RW_SIZE (DATA_RW_PAGES * PAGE)
#define DATA_SIZE ((DATA_RW_PAGES + DATA_RO_PAGES) * PAGE)
#define DATA_END (DATA_VA + DATA_SIZE)

#define CASE_CODE_MAX 64
#define CASE_INSNS_MAX 4
#define OVERLAY_MAX 512
#define CHANGED_MAX 96
#define BATCH 256u

struct regs {
	uint64_t gpr[16], rip, rflags, fs_base, gs_base;
	uint8_t fx[512] __attribute__((aligned(16))); /* FXSAVE layout */
	uint8_t ymmh[256];			      /* upper halves */
};

struct test_case {
	struct regs in;
	uint64_t index;
	uint8_t code[CASE_CODE_MAX];
	uint8_t code_len, ninsn;
	uint16_t code_off;
	uint16_t row[CASE_INSNS_MAX];
	bool has_overlay;
	uint16_t overlay_off,
		overlay_len; /* in the read-write window, over the batch's base contents */
	uint8_t overlay[OVERLAY_MAX];
};

enum { VEC_TIMEOUT = 255, VEC_BROKEN = 254 };

struct outcome {
	struct regs out;
	uint64_t cr2;
	uint32_t error;
	uint8_t vector; /* INT3 (3) is the regular end */
	uint32_t nchanged;
	struct {
		uint32_t off;
		uint64_t val;
	} changed[CHANGED_MAX]; /* words of the read-write window that differ from what they were */
	uint64_t hash;		/* of the whole window */
	char msg[96];
};

struct batch {
	uint32_t n;
	uint8_t base[DATA_SIZE];
	struct test_case c[BATCH];
	struct outcome bare[BATCH];
};

/* Fills b->base; the same for one seed. */
void batch_fill_base(struct batch *b, uint64_t seed);
/* Builds case number `index` of `seed`; row: fixed row, or -1 for any of those that take part. */
struct case_plan {
	uint64_t seed;
	const unsigned *rows;
	unsigned nrows;
	unsigned max_insns;
};
void case_make(struct test_case *c, const struct case_plan *p, uint64_t index);

/* Records what became of the window, then puts base contents back. */
void window_apply(uint8_t *window, const struct test_case *c);
void window_collect(struct outcome *o, uint8_t *window, const uint8_t *base,
		    const struct test_case *c);

/* Makes FXSAVE images of different origin comparable: components in their initial state are written out. */
void regs_normalise(struct regs *r, uint64_t xstate_bv);

/* The bare host, in a child process (bare.c). */
struct bare;
struct bare *bare_start(struct batch *b);
int bare_run(struct bare *x) MUST_CHECK; /* fills b->bare */
void bare_stop(struct bare *x);

/* A guest on an engine (guest.c). */
struct cpu_engine;
struct guest;
struct guest *guest_start(const struct cpu_engine *e, struct err *err);
void guest_set_base(struct guest *g, const uint8_t *base);
void guest_run(struct guest *g, const struct test_case *c, const uint8_t *base, struct outcome *o);
void guest_stop(struct guest *g);

/* Prints the differences that count; returns their number. */
struct compare_rules {
	bool strict; /* undefined flags and results count too */
};
unsigned outcome_compare(const struct test_case *c, const struct outcome *bare,
			 const struct outcome *eng, const struct compare_rules *rules, bool print);
/* Disassembly of the case's code and the registers it starts with. */
void case_print(const struct test_case *c, bool all);

#endif
