/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the table (decode_table.c) and the decoder (decode.c): rows of insn.def with their
 * encoding and operand strings parsed once, and the index from opcode to candidate rows.
 */
#ifndef R3_X86_DECODE_PRIV_H
#define R3_X86_DECODE_PRIV_H

#include "x86/insn.h"

/* What a row asks of the bytes: (key & mask) == val. Bits of the key: */
#define DK_MODRM 0xffu /* the ModRM byte */
#define DK_PFX_SHIFT 8 /* 0 none, 1 66, 2 F3, 3 F2 */
#define DK_PFX (3u << DK_PFX_SHIFT)
#define DK_L (1u << 10)
#define DK_W (1u << 11)
#define DK_MODE64 (1u << 12)
#define DK_REG (1u << 13) /* mod == 3 */
#define DK_B (1u << 14)	  /* REX.B */

/* How big an operand is; the letters are those of insn.def. */
enum dec_type {
	DT_0,
	DT_B,
	DT_BS,
	DT_W,
	DT_D,
	DT_Q,
	DT_DQ,
	DT_X,
	DT_H,
	DT_F,
	DT_E,
	DT_V,
	DT_Z,
	DT_Y,
	DT_G,
	DT_T,
	DT_P,
	DT_A,
	DT_S,
	DT_VW,
	DT_DB,
	DT_DW,
	DT_ENV,
	DT_FSAVE,
	DT_ASIZE,
};

/* Where an operand is: SDM letters, and '.' for a fixed register (kind, reg in the operand). */
struct dec_opnd {
	char letter; /* SDM letter, or '.' fixed register, '1' the constant, 'i' ST(i), 'm' fixed base */
	uint8_t type; /* enum dec_type */
	uint8_t access;
	uint8_t kind; /* fixed registers: enum x86_opkind */
	uint8_t reg;
	bool high8;
};

#define DEC_MAX_OPS 6

struct dec_row {
	uint16_t mask, val;
	uint8_t space;	      /* DEC_SPACE() */
	uint8_t opcode, span; /* span: 8 for "+r", else 1 */
	uint8_t pfx;	      /* mandatory prefix class, 0 for none */
	bool modrm, mod_ignored, byte_form, vvvv, mem_only;
	uint8_t nop;
	struct dec_opnd op[DEC_MAX_OPS];
};

#define DEC_SPACES 7u
#define DEC_SPACE(vex, map) ((vex) ? (map) + 3u : (map)) /* 0..3 legacy maps, 4..6 VEX maps 1..3 */

struct dec_cand {
	uint16_t mask, val, row;
};

struct dec_slot {
	uint16_t first; /* in dec_cands */
	uint8_t count;
	bool modrm;
};

extern struct dec_row dec_rows[];
extern struct x86_row dec_public[];
extern struct dec_cand dec_cands[];
extern struct dec_slot dec_slots[DEC_SPACES][256];

/* Parses the table once; any thread, cheap afterwards. */
void dec_init_slow(void);
extern bool dec_ready;
static inline void dec_init(void)
{
	if (unlikely(!__atomic_load_n(&dec_ready, __ATOMIC_ACQUIRE)))
		dec_init_slow();
}

#endif
