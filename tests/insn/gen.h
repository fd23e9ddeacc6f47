/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random encodings of the instruction table's rows, for 64-bit user mode. Pure functions; any thread.
 */
#ifndef R3_TESTS_INSN_GEN_H
#define R3_TESTS_INSN_GEN_H

#include "x86/insn.h"

/* splitmix64 */
uint64_t gen_random(uint64_t *seed);
static inline bool gen_chance(uint64_t *seed, unsigned percent)
{
	return gen_random(seed) % 100 < percent;
}

/* Why a row takes no part in generated cases, or NULL. */
const char *gen_excluded(const struct x86_row *row);
/* Why one encoding of a row that does take part is left out, or NULL. */
const char *gen_unpredictable(const struct x86_insn *in);

/*
 * A random valid encoding of the row: register and memory forms, all addressing forms, prefixes,
 * operand sizes. Returns its length, or 0 when none was found (rows that 64-bit mode lacks).
 */
int gen_encode(const struct x86_row *row, uint64_t *seed, uint8_t out[15]);

/* The operand form of an instruction as a small number, for coverage. */
#define GEN_FORMS 64
unsigned gen_form(const struct x86_insn *in);
#endif
