/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Near jumps, calls and returns.
 *
 * Calls and returns are paired on the host's own stack: a guest call also does a host call, a guest return puts the
 * guest's return address into S0 and does a host return, and the place returned to compares. Where they disagree
 * (longjmp, switched stacks) the target is looked up like any indirect one.
 */
#include "cpu/dbt/xlate.h"

bool xl_may_link(const struct xlate *x, gva_t target)
{
	if (!(x->mode & DBT_MODE_USER))
		return true;
	/* Another address space may map the next page to other code; this page it maps as here. */
	return x->b->ram_off2 == UINT64_MAX && ((x->b->va ^ target) & ~4095ull) == 0 &&
	       (target & 4095) <= 4096 - 15;
}

void xl_pend(struct xlate *x, uint8_t *rel, gva_t va, enum xl_pend_kind kind)
{
	struct xlate_pending *p = &x->pending[x->npending++];

	p->rel = rel;
	p->va = va;
	p->kind = kind;
}

void xl_exit_to(struct xlate *x, gva_t target)
{
	if (x->shadow) {
		emit_store_imm8(&x->e, TLS(st.int_shadow), 1);
		emit_mov_imm(&x->e, S0, target);
		emit_jmp(&x->e, x->d->stub_miss);
	} else {
		xl_pend(x, emit_jmp_fwd(&x->e), target, XL_PEND_LINK);
	}
}

void xl_exit_step(struct xlate *x)
{
	if (x->shadow)
		emit_store_imm8(&x->e, TLS(st.int_shadow), 1);
	emit_mov_imm(&x->e, S0, x->va);
	emit_jmp(&x->e, x->d->stub_step);
}

void xl_irq_check(struct xlate *x)
{
	struct emit *e = &x->e;
	uint8_t *rel;

	emit_mov_rr(e, S1, H_RCX);
	emit_load32(e, H_RCX, TLS(irq_wait));
	rel = emit_jrcxz_fwd(e);
	emit_mov_rr(e, H_RCX, S1);
	xl_pend(x, emit_jmp_fwd(e), x->next, XL_PEND_IRQ);
	emit_patch8(e, rel, e->p);
	emit_mov_rr(e, H_RCX, S1);
}

/* Jump or call to another page of user code, which each address space may map otherwise. */
void xl_across(struct xlate *x, gva_t target, bool call)
{
	uint32_t cell = dbt_cell_new(x->d, target);
	struct host_mem m = { .seg = 0x65,
			      .base = H_NONE,
			      .index = H_NONE,
			      .disp = (int32_t)(cell * 8) - (int32_t)DBT_CELL_BYTES };

	if (cell == DBT_MAX_CELLS) {
		emit_mov_imm(&x->e, S0, target);
		if (call)
			dbt_emit_call_s0(&x->e, x->mode);
		else
			dbt_emit_jump_s0(&x->e, x->mode);
		return;
	}
	emit_mov_imm(&x->e, S0, cell);
	if (call)
		emit_call_mem(&x->e, m);
	else
		emit_jmp_mem(&x->e, m);
}

static enum xlate_result jcc(struct xlate *x)
{
	gva_t target = x->next + x->i.imm;

	xl_commit(x);
	xl_pend(x, emit_jcc_fwd(&x->e, x->i.opcode & 15), target, XL_PEND_LINK);
	return XLATE_NEXT;
}

/* LOOP and JRCXZ: the host's own JRCXZ reaches 8 bits only, so it hops over a long jump. */
static enum xlate_result jump_rcx(struct xlate *x)
{
	gva_t target = x->next + x->i.imm;
	uint8_t *rel;

	if (x->i.addrsize != 8 || (x->i.id != X86_ID_LOOP && x->i.id != X86_ID_JCXZ))
		return XLATE_STEP;
	xl_commit(x);
	if (x->i.id == X86_ID_LOOP) {
		emit_lea(&x->e, H_RCX, HM(H_RCX, -1));
		rel = emit_jrcxz_fwd(&x->e);
		xl_pend(x, emit_jmp_fwd(&x->e), target, XL_PEND_LINK);
		emit_patch8(&x->e, rel, x->e.p);
		return XLATE_NEXT;
	}
	rel = emit_jrcxz_fwd(&x->e);
	xl_exit_to(x, x->next);
	emit_patch8(&x->e, rel, x->e.p);
	xl_exit_to(x, target);
	return XLATE_END;
}

/* Stores the return address on the guest's stack; the host call must follow. */
static void push_return(struct xlate *x)
{
	struct emit *e = &x->e;

	emit_lea(e, S0, HM(H_GUEST_RSP, -8));
	x->stack_aligned = true;
	xl_translate(x, 8);
	if (x->i.attr & IA_INDIRECT) {
		emit_load(e, S2, XL_MEM);
		emit_store(e, TLS(overwritten), S2);
	}
	emit_mov_imm(e, S2, x->next);
	xl_commit(x);
	emit_store(e, XL_MEM, S2);
	emit_lea(e, H_GUEST_RSP, HM(H_GUEST_RSP, -8));
}

static void return_site(struct xlate *x)
{
	struct dbt *d = x->d;

	d->ret_site[x->b->ret_site + x->b->nret++] = (uint32_t)(x->e.p - x->b->host);
	dbt_emit_check_s0(&x->e, x->next, d->stub_jump[x->mode & DBT_MODE_USER ? 1 : 0]);
}

static enum xlate_result call_direct(struct xlate *x)
{
	gva_t target = x->next + x->i.imm;

	push_return(x);
	if (xl_may_link(x, target)) {
		xl_pend(x, emit_call_fwd(&x->e), target, XL_PEND_LINK);
	} else {
		xl_across(x, target, true);
	}
	return_site(x);
	return XLATE_NEXT;
}

/* For a target that proves not canonical: the fault is then this instruction's (run.c takes it back). */
static void note_branch(struct xlate *x)
{
	xl_store_imm(x, TLS(branch_row), (uint32_t)(x->m - x->d->map));
}

/* S0 := target of an indirect jump or call. */
static void indirect_target(struct xlate *x)
{
	if (x->i.has_mem) {
		xl_operand(x, 8);
		xl_commit(x);
		emit_load(&x->e, S0, XL_MEM);
	} else {
		xl_get(x, S0, x->i.rm);
		xl_commit(x);
	}
}

static enum xlate_result call_indirect(struct xlate *x)
{
	indirect_target(x);
	emit_store(&x->e, TLS(tmp0), S0);
	note_branch(x);
	push_return(x);
	emit_load(&x->e, S0, TLS(tmp0));
	dbt_emit_call_s0(&x->e, x->mode);
	return_site(x);
	return XLATE_NEXT;
}

static enum xlate_result ret(struct xlate *x)
{
	struct emit *e = &x->e;

	emit_lea(e, S0, HM(H_GUEST_RSP, 0));
	x->stack_aligned = true;
	xl_translate(x, 8);
	xl_commit(x);
	emit_load(e, S0, XL_MEM);
	note_branch(x);
	emit_lea(e, H_GUEST_RSP, HM(H_GUEST_RSP, 8 + (int32_t)(x->i.nop ? x->i.imm & 0xffff : 0)));
	emit_u8(e, 0xc3);
	return XLATE_END;
}

enum xlate_result xl_flow(struct xlate *x)
{
	/* An interrupt may come only after the instruction that follows STI: let interp see to that. */
	if (x->shadow)
		return XLATE_STEP;
	switch (x->i.id) {
	case X86_ID_JCC: return jcc(x);
	case X86_ID_LOOP:
	case X86_ID_JCXZ: return jump_rcx(x);
	case X86_ID_RET: return ret(x);
	case X86_ID_CALL: return x->i.attr & IA_INDIRECT ? call_indirect(x) : call_direct(x);
	case X86_ID_JMP:
		if (x->i.attr & IA_INDIRECT) {
			indirect_target(x);
			note_branch(x);
			dbt_emit_jump_s0(&x->e, x->mode);
		} else {
			xl_commit(x);
			xl_exit_to(x, x->next + x->i.imm);
		}
		return XLATE_END;
	default: return XLATE_STEP;
	}
}
