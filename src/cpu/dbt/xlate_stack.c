/* SPDX-License-Identifier: Apache-2.0 */
/* PUSH, POP, LEAVE, PUSHF, POPF in 64-bit mode. */
#include "cpu/dbt/xlate.h"

static void stack_slot(struct xlate *x, int32_t disp)
{
	emit_lea(&x->e, S0, HM(H_GUEST_RSP, disp));
	x->stack_aligned = true;
	xl_translate(x, 8);
}

static void move_rsp(struct xlate *x, int32_t by)
{
	emit_lea(&x->e, H_GUEST_RSP, HM(H_GUEST_RSP, by));
}

static enum xlate_result push(struct xlate *x)
{
	const struct x86_operand *o = &x->i.op[0];
	struct emit *e = &x->e;

	if (o->kind == OPK_MEM) {
		xl_operand(x, 8);
		emit_load(e, S2, XL_MEM);
		emit_store(e, TLS(tmp0), S2);
	}
	stack_slot(x, -8);
	if (o->kind == OPK_IMM) {
		xl_commit(x);
		emit_store_imm32(e, XL_MEM, (int32_t)x->i.imm);
	} else if (o->kind == OPK_GPR) {
		unsigned r = xl_read(x, o->reg, S2);

		xl_commit(x);
		emit_store(e, XL_MEM, r);
	} else {
		emit_load(e, S2, TLS(tmp0));
		xl_commit(x);
		emit_store(e, XL_MEM, S2);
	}
	move_rsp(x, -8);
	return XLATE_NEXT;
}

static enum xlate_result pop(struct xlate *x)
{
	const struct x86_operand *o = &x->i.op[0];
	unsigned home;

	if (o->kind != OPK_GPR)
		return XLATE_STEP;
	home = xl_home(o->reg);
	stack_slot(x, 0);
	xl_commit(x);
	emit_load(&x->e, home == H_NONE ? S2 : home, XL_MEM);
	if (home == H_NONE)
		emit_store(&x->e, TLS_GPR(o->reg), S2);
	if (o->reg != X86_RSP)
		move_rsp(x, 8);
	return XLATE_NEXT;
}

static enum xlate_result leave(struct xlate *x)
{
	emit_lea(&x->e, S0, HM(H_RBP, 0));
	xl_translate(x, 8);
	xl_commit(x);
	emit_load(&x->e, S0, XL_MEM);
	emit_lea(&x->e, H_GUEST_RSP, HM(H_RBP, 8));
	emit_mov_rr(&x->e, H_RBP, S0);
	return XLATE_NEXT;
}

static enum xlate_result pushf(struct xlate *x)
{
	struct emit *e = &x->e;

	stack_slot(x, -8);
	emit_lea(e, S0, XL_MEM);
	emit_u8(e, 0x9c); /* PUSHFQ */
	x->m->fix = DBT_FIX_PUSHED;
	x->m->fix_off = (uint16_t)(e->p - x->b->host);
	emit_bytes(e, (const uint8_t[]){ 0x41, 0x58 | (S2 & 7) }, 2); /* POP S2 */
	emit_pext_mem(e, S2, S2, TLS(mask_flags));
	emit_pdep_mem(e, S2, S2, TLS(mask_flags));
	emit_load(e, S1, TLS(sysflags));
	emit_lea(e, S2, HMX(S2, S1));
	emit_load32(e, S1, TLS(vif));
	emit_lea(e, S2, HMX(S2, S1));
	xl_commit(x);
	emit_store(e, HM(S0, 0), S2);
	move_rsp(x, -8);
	return XLATE_NEXT;
}

/* op S1/S0, imm32: AND is /4, OR is /1, CMP is /7. */
static void alu_imm(struct emit *e, bool w, unsigned ext, unsigned reg, uint32_t imm)
{
	emit_op_reg(e, w, 0, 0x81, ext, reg);
	emit_u32(e, imm);
}

/*
 * Fast when nothing but arithmetic flags, ID and (at CPL 0) IF changes; anything else is interp's. All
 * arithmetic flags are replaced, so the comparison may use them.
 */
static enum xlate_result popf(struct xlate *x)
{
	struct emit *e = &x->e;
	bool user = x->mode & DBT_MODE_USER;
	uint32_t free_bits = (uint32_t)DBT_HOST_FLAGS | X86_FL_IF | (user ? X86_FL_IOPL : 0);

	stack_slot(x, 0);
	xl_commit(x);
	emit_load(e, S0, XL_MEM);
	emit_mov_rr(e, S1, S0);
	alu_imm(e, true, 4, S1, ~free_bits);
	alu_imm(e, true, 1, S1, X86_FL_R1);
	emit_op_mem(e, true, 0, 0x3b, S1, TLS(sysflags)); /* CMP S1, sysflags */
	xl_pend(x, emit_jcc_fwd(e, 5), x->va, XL_PEND_STEP);
	if (!user) {
		emit_mov_rr32(e, S1, S0);
		alu_imm(e, false, 4, S1, X86_FL_IF);
		emit_store32(e, TLS(vif), S1);
	}
	alu_imm(e, false, 4, S0, (uint32_t)DBT_HOST_FLAGS);
	alu_imm(e, false, 1, S0, X86_FL_R1 | X86_FL_IF);
	emit_bytes(e, (const uint8_t[]){ 0x41, 0x50 | (S0 & 7), 0x9d }, 3); /* PUSH S0; POPFQ */
	move_rsp(x, 8);
	if (!user)
		xl_irq_check(x);
	return XLATE_NEXT;
}

enum xlate_result xl_stack(struct xlate *x)
{
	if (x->i.opsize != 8)
		return XLATE_STEP;
	switch (x->i.id) {
	case X86_ID_PUSH: return push(x);
	case X86_ID_POP: return pop(x);
	case X86_ID_LEAVE: return leave(x);
	case X86_ID_PUSHF: return pushf(x);
	case X86_ID_POPF: return popf(x);
	default: return XLATE_STEP;
	}
}
