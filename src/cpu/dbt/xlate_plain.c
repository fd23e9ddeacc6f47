/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Identity translation: the instruction itself, with operands replaced. Covers everything that computes:
 * integer, x87, MMX, SSE, AVX. What the operands say in the table is all that is needed here.
 */
#include "cpu/dbt/xlate.h"

/* Scratch registers given to guest registers that live in memory. */
struct loan {
	uint8_t guest, host;
	bool written;
};

struct plan {
	struct loan loan[3];
	unsigned nloan;
	uint8_t free[3];
	unsigned nfree;
};

static unsigned borrow(struct xlate *x, struct plan *p, const struct x86_operand *o)
{
	unsigned g = o->reg, h = xl_home(g);

	if (h != H_NONE)
		return h;
	for (unsigned k = 0; k < p->nloan; k++)
		if (p->loan[k].guest == g) {
			p->loan[k].written |= (o->access & OPA_W) != 0;
			return p->loan[k].host;
		}
	h = p->free[--p->nfree];
	/* Even a pure destination is loaded: a narrow write keeps the rest, a CMOV may keep all. */
	emit_load(&x->e, h, TLS_GPR(g));
	p->loan[p->nloan++] = (struct loan){ (uint8_t)g, (uint8_t)h, (o->access & OPA_W) != 0 };
	return h;
}

static unsigned count_memory_homes(const struct x86_insn *i)
{
	unsigned mask = 0;

	for (unsigned k = 0; k < i->nop; k++)
		if (i->op[k].kind == OPK_GPR && i->op[k].enc != ENC_IMPLICIT &&
		    xl_home(i->op[k].reg) == H_NONE)
			mask |= 1u << i->op[k].reg;
	return (unsigned)__builtin_popcount(mask);
}

/* AH..BH together with a register that needs REX in the host, which only RSP can be here. */
static bool high8_clash(const struct x86_insn *i)
{
	for (unsigned k = 0; k < i->nop; k++)
		if (i->op[k].kind == OPK_GPR && !i->op[k].high8 && i->op[k].enc != ENC_IMPLICIT &&
		    i->op[k].reg == X86_RSP)
			return true;
	return false;
}

static bool has_high8(const struct x86_insn *i)
{
	for (unsigned k = 0; k < i->nop; k++)
		if (i->op[k].kind == OPK_GPR && i->op[k].high8)
			return true;
	return false;
}

static void substitute(struct xlate *x, struct plan *p, struct emit_subst *s)
{
	const struct x86_insn *i = &x->i;

	s->reg = i->has_modrm ? i->reg : i->opcode & 7;
	s->rm = i->rm;
	s->vvvv = i->vex_vvvv;
	for (unsigned k = 0; k < i->nop; k++) {
		const struct x86_operand *o = &i->op[k];
		unsigned h, raw;

		if (o->kind != OPK_GPR || o->enc == ENC_IMPLICIT)
			continue;
		h = borrow(x, p, o);
		/* AH..BH are encoded 4..7; their registers stay in place. */
		raw = o->high8 ? o->reg + 4u : h;
		if (o->enc == ENC_REG || o->enc == ENC_OPCODE)
			s->reg = (uint8_t)raw;
		else if (o->enc == ENC_RM)
			s->rm = (uint8_t)raw;
		else if (o->enc == ENC_VVVV)
			s->vvvv = (uint8_t)raw;
	}
}

static void write_back(struct xlate *x, const struct plan *p)
{
	for (unsigned k = 0; k < p->nloan; k++)
		if (p->loan[k].written)
			emit_store(&x->e, TLS_GPR(p->loan[k].guest), p->loan[k].host);
}

/*
 * AH..BH cannot be encoded beside S0 (that takes a REX prefix): the address goes through RDI, whose guest value
 * waits in S1 and is put back by the side table if the access faults.
 */
static void emit_high8_mem(struct xlate *x, struct emit_subst *s)
{
	emit_lea(&x->e, S0, XL_MEM);
	emit_mov_rr(&x->e, S1, H_RDI);
	emit_mov_rr(&x->e, H_RDI, S0);
	x->m->fix = DBT_FIX_RDI_S1;
	x->m->fix_off = (uint16_t)(x->e.p - x->b->host);
	s->m = HM(H_RDI, 0);
	xl_commit(x);
	emit_guest(&x->e, &x->i, s);
	emit_mov_rr(&x->e, H_RDI, S1);
}

static unsigned access_size(const struct x86_insn *i)
{
	for (unsigned k = 0; k < i->nop; k++)
		if (i->op[k].kind == OPK_MEM)
			return i->op[k].size;
	return 0;
}

static enum xlate_result plain_mem(struct xlate *x)
{
	struct plan p = { .free = { S1, S2 }, .nfree = 2 };
	struct emit_subst s = { .mem = true };
	unsigned size = access_size(&x->i);

	if (size == 0)
		return XLATE_STEP;
	xl_operand(x, size);
	s.m = XL_MEM;
	if (has_high8(&x->i)) {
		substitute(x, &p, &s);
		emit_high8_mem(x, &s);
		return XLATE_NEXT;
	}
	if (count_memory_homes(&x->i) > 1) {
		emit_lea(&x->e, S0, XL_MEM);
		s.m = HM(S0, 0);
	} else {
		p.nfree = 0;
		p.free[p.nfree++] = S2;
	}
	substitute(x, &p, &s);
	xl_commit(x);
	emit_guest(&x->e, &x->i, &s);
	write_back(x, &p);
	return XLATE_NEXT;
}

static enum xlate_result plain_reg(struct xlate *x)
{
	struct plan p = { .free = { S2, S1, S0 }, .nfree = 3 };
	struct emit_subst s = { 0 };

	substitute(x, &p, &s);
	xl_commit(x);
	emit_guest(&x->e, &x->i, &s);
	write_back(x, &p);
	return XLATE_NEXT;
}

static enum xlate_result lea(struct xlate *x)
{
	struct x86_insn *i = &x->i;
	unsigned home = xl_home(i->reg);

	/* LEA ignores segments. */
	i->seg = X86_DS;
	if (home != H_NONE && i->addrsize == 8 && !i->rip_rel && i->base != 0xff) {
		struct host_mem m = { .base = (uint8_t)xl_read(x, i->base, S0),
				      .index = H_NONE,
				      .scale = i->scale,
				      .disp = (int32_t)i->disp };

		if (i->index != 0xff)
			m.index = (uint8_t)xl_read(x, i->index, S1);
		xl_commit(x);
		emit_op_mem(&x->e, i->opsize == 8, 0, 0x8d, home, m);
		return XLATE_NEXT;
	}
	xl_address(x);
	xl_commit(x);
	if (i->opsize == 8)
		xl_put(x, i->reg, S0);
	else
		emit_mov_rr32(&x->e, home == H_NONE ? S0 : home, S0);
	if (i->opsize == 4 && home == H_NONE)
		emit_store(&x->e, TLS_GPR(i->reg), S0);
	return XLATE_NEXT;
}

enum xlate_result xl_plain(struct xlate *x)
{
	const struct x86_insn *i = &x->i;

	if (i->id == X86_ID_LEA)
		return i->opsize == 2 ? XLATE_STEP : lea(x);
	if (i->id == X86_ID_NOP || (i->attr & IA_MEMHINT)) {
		xl_commit(x);
		return XLATE_NEXT;
	}
	if (i->moffs || (i->attr & (IA_VSIB | IA_PAIR)))
		return XLATE_STEP;
	if (has_high8(i) && high8_clash(i))
		return XLATE_STEP;
	return i->has_mem ? plain_mem(x) : plain_reg(x);
}
