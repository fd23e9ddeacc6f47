/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoded instructions by guest-physical page and mode, one cache per vCPU, bounded.
 * A page holds an offset → entry table; entries of straight-line code lie next to each other, so
 * the run loop walks an array. Pages that went stale stay readable until the run loop asks for
 * the next run (icache_sync), because a store may drop the very page that is being executed.
 * The vCPU's own thread only, except the inbox (other vCPUs' stores, device DMA) under the VM's lock.
 */
#ifndef R3_CPU_INTERP_ICACHE_H
#define R3_CPU_INTERP_ICACHE_H

#include "cpu/interp/interp_priv.h"

struct ic_entry {
	struct x86_insn insn;
	interp_handler fn; /* what the run loop calls: real, or a check that calls it */
	interp_handler real;
	uint8_t last;	 /* the entry behind this one is not its successor */
	uint8_t special; /* may change modes, halt, inhibit interrupts: full look afterwards */
};

#define IC_CHUNK 32u
struct ic_chunk {
	struct ic_entry e[IC_CHUNK];
};

struct ic_page {
	gpa_t gpa;
	enum x86_mode mode;
	const uint8_t *host;	   /* the page's bytes */
	uint64_t lines;		   /* 64-byte lines that decoded instructions touch */
	struct ic_page *hash_next; /* or the next of the stale ones */
	unsigned used;		   /* entries handed out, 1-based numbers in at[] */
	uint16_t at[4096];
	struct ic_chunk *chunk[4096 / IC_CHUNK + 1];
};

/* Linear code page → decoded page. */
struct ic_map {
	uint64_t tag; /* linear page | generation | IC_TAG_USER | mode; ~0: empty */
	struct ic_page *page;
};
#define IC_TAG_USER 4u
#define IC_TAG_GEN 8u
#define IC_TAG_GEN_MAX 0xff0u
#define IC_MAPS 512u

/* Instructions that straddle two pages: kept by linear address, their bytes compared at each use. */
#define IC_CROSS 64u
struct ic_cross {
	uint64_t rip;
	struct ic_entry e;
};

#define IC_HASH 1024u
#define IC_INBOX 64u

struct ic_share;

struct interp_icache {
	bool changed; /* entries in use may be stale: leave the run */
	bool verify; /* RAM may change without our knowing (another engine's stores): compare bytes */
	unsigned gen; /* of the map's entries, as it stands in tags */
	struct ic_map map[IC_MAPS];
	struct ic_page *hash[IC_HASH];
	struct ic_page *stale;
	uint64_t bytes; /* memory held */
	struct ic_cross cross[IC_CROSS];
	struct ic_entry scratch;

	struct ic_share *share;
	struct interp_icache *next; /* in the share, under its lock */
	unsigned bit;		    /* ours in the flag bytes */
	bool bit_shared;
	/* under the share's lock; inbox_set is also polled without */
	atomic_uint inbox_set;
	bool inbox_all;
	unsigned inbox_n;
	gpa_t inbox[IC_INBOX];
};

int icache_open(struct vcpu *v) MUST_CHECK;
void icache_close(struct vcpu *v);
/* At a run boundary: takes in what others wrote, frees what is stale. */
void icache_sync(struct vcpu *v);
/*
 * The entry for the instruction at CS:RIP; decodes when needed. NULL: a fault was recorded.
 * It is valid until the next icache_sync.
 */
struct ic_entry *icache_get_slow(struct vcpu *v, gva_t lin, enum x86_mode mode);
/* Fills fn, real, special from insn (core.c: the dispatch table and the gates). */
void interp_bind(struct vcpu *v, struct ic_entry *e);
/* A faster handler for a frequent form, or NULL (exec_fast.c). */
interp_handler interp_int_fast(const struct x86_insn *i);

static inline struct ic_entry *ic_page_entry(const struct ic_page *p, unsigned nr)
{
	return &p->chunk[(nr - 1) / IC_CHUNK]->e[(nr - 1) % IC_CHUNK];
}

static inline uint64_t ic_tag(const struct interp_icache *ic, const struct x86_state *s, gva_t lin,
			      enum x86_mode mode)
{
	return (lin & ~0xfffull) | ic->gen | (s->cpl == 3 ? IC_TAG_USER : 0) | (unsigned)mode;
}

#endif
