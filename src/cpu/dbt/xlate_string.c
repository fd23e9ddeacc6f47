/* SPDX-License-Identifier: Apache-2.0 */
/*
 * String instructions. Generated code always runs with DF clear (a guest that sets it is interp's until it clears it), so
 * addresses go up. Single ones are moves and compares; repeated MOVS and STOS go by pages in a helper.
 */
#include "cpu/dbt/xlate.h"

static void move_host(struct xlate *x, unsigned op, unsigned reg)
{
	struct emit *e = &x->e;
	unsigned size = x->i.opsize;

	if (size == 2)
		emit_u8(e, 0x66);
	emit_op_mem(e, size == 8, 0, size == 1 ? op : op + 1, reg, XL_MEM);
}

static void address_in(struct xlate *x, unsigned reg)
{
	emit_lea(&x->e, S0, HM(reg, 0));
	xl_translate(x, x->i.opsize);
}

static void advance(struct xlate *x, unsigned reg)
{
	emit_lea(&x->e, reg, HM(reg, x->i.opsize));
}

/* S2 := element at [RSI], kept over the translation of RDI. */
static void source_then_destination(struct xlate *x)
{
	address_in(x, H_RSI);
	move_host(x, 0x8a, S2);
	emit_store(&x->e, TLS(tmp0), S2);
	address_in(x, H_RDI);
	emit_load(&x->e, S2, TLS(tmp0));
}

static enum xlate_result once(struct xlate *x)
{
	struct emit *e = &x->e;
	unsigned size = x->i.opsize;

	switch (x->i.id) {
	case X86_ID_MOVS:
		source_then_destination(x);
		xl_commit(x);
		move_host(x, 0x88, S2);
		advance(x, H_RSI);
		advance(x, H_RDI);
		return XLATE_NEXT;
	case X86_ID_CMPS:
		source_then_destination(x);
		xl_commit(x);
		move_host(x, 0x3a, S2); /* CMP S2, mem */
		advance(x, H_RSI);
		advance(x, H_RDI);
		return XLATE_NEXT;
	case X86_ID_STOS:
		address_in(x, H_RDI);
		xl_commit(x);
		move_host(x, 0x88, H_RAX);
		advance(x, H_RDI);
		return XLATE_NEXT;
	case X86_ID_SCAS:
		address_in(x, H_RDI);
		xl_commit(x);
		move_host(x, 0x3a, H_RAX);
		advance(x, H_RDI);
		return XLATE_NEXT;
	case X86_ID_LODS:
		address_in(x, H_RSI);
		xl_commit(x);
		if (size == 4)
			emit_load32(e, H_RAX, XL_MEM);
		else
			move_host(x, 0x8a, H_RAX);
		advance(x, H_RSI);
		return XLATE_NEXT;
	default: return XLATE_STEP;
	}
}

/* S0: address of the instruction; S1: its length, element size and whether it is STOS, for the helper. */
static enum xlate_result repeated(struct xlate *x)
{
	struct emit *e = &x->e;

	if (x->shadow || (x->i.id != X86_ID_MOVS && x->i.id != X86_ID_STOS))
		return XLATE_STEP;
	emit_mov_imm(e, S0, x->va);
	emit_mov_imm(e, S1,
		     x->i.len | (uint32_t)x->i.opsize << 8 |
			     (x->i.id == X86_ID_STOS ? DBT_REP_STOS : 0));
	xl_commit(x);
	emit_call(e, x->d->stub_rep);
	return XLATE_NEXT;
}

enum xlate_result xl_string(struct xlate *x)
{
	const struct x86_insn *i = &x->i;

	if (i->addrsize != 8 || i->seg == X86_FS || i->seg == X86_GS)
		return XLATE_STEP;
	return i->rep && !i->rep_mandatory ? repeated(x) : once(x);
}
