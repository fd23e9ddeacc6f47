/* SPDX-License-Identifier: Apache-2.0 */
/* The escape test: one random access a case, on interp and on the translator. See escape.c. */
#ifndef R3_TESTS_ESCAPE_H
#define R3_TESTS_ESCAPE_H

#include "box.h"

#define ESC_HIGH 0xffffffffc0000000ul /* 4 supervisor pages: the data's first */
#define ESC_LOW_PAGE 0x0ul	      /* user page at the bottom */
#define ESC_TOP_USER 0x00007ffffffff000ul
#define ESC_TOP 0xfffffffffffff000ul /* supervisor page at the very top */
#define ESC_EXTRA 0x210000u	     /* RAM of those three */
#define ESC_IST 0x9000u		     /* top of the stack that every exception gets */

struct esc_case {
	uint64_t gpr[16], rflags, fs_base, gs_base;
	uint8_t code[48];
	unsigned len, off; /* length, and where in the code page it starts */
	unsigned cpl;
	const char *form; /* kind of instruction, for the tally */
	uint64_t flags_ignored;
};

struct esc_random {
	uint64_t x;
	/* Host addresses that a guest would like to reach, and what its own translate by. */
	uint64_t host[24], delta[8];
	unsigned nhost, ndelta;
};

uint64_t esc_random(struct esc_random *r);
void esc_case_make(struct esc_case *c, struct esc_random *r);
const char *esc_form(unsigned n); /* names of the kinds; NULL after the last */

/* Sets up what all cases share: page rights, interrupt stacks. */
void esc_box(struct box *b);
/* Gives the box the case's code and registers, runs it; the vector it ended in. */
int esc_run(struct box *b, const struct esc_case *c);

/*
 * Runs `cases` cases in a child under the translator, step by step, and looks at every address that generated code
 * touches. plant: with one wrong table entry. The number of violations, or -1 when the host does not allow tracing.
 */
long esc_trace(uint64_t seed, unsigned cases, bool plant);

#endif
