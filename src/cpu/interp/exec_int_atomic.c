/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XCHG, XADD and the compare-exchange family: atomic on plain RAM within one page when locked
 * (XCHG always is). SDM vol. 2 and vol. 3, 8.1. The vCPU's own thread.
 */
#include <string.h>

#include "cpu/interp/alu.h"
#include "cpu/interp/exec_int.h"

#define HANDLER(name) int int_exec_##name(struct vcpu *v, const struct x86_insn *i)

static inline uint64_t op_xchg(uint64_t a, uint64_t b, uint64_t *fl)
{
	(void)a;
	(void)fl;
	return b;
}

/* The memory operand is op[0] or op[1] of XCHG, whichever way the encoding names them. */
HANDLER(xchg)
{
	unsigned m = i->op[1].kind == OPK_MEM, r = !m, size = i->op[0].size;
	const struct x86_operand *reg = &i->op[r], *rm = &i->op[m];
	uint64_t a, b = interp_get_gpr(v->s, reg->reg, reg->high8, size);
	gva_t lin;

	if (rm->kind == OPK_GPR) {
		a = interp_get_gpr(v->s, rm->reg, rm->high8, size);
		interp_set_gpr(v->s, rm->reg, rm->high8, size, b);
	} else if (interp_operand(v, i, size, X86_ACC_W, &lin) ||
		   int_rmw(v, lin, size, true, op_xchg, b, &a)) {
		return -1;
	}
	interp_set_gpr(v->s, reg->reg, reg->high8, size, a);
	return 0;
}

static inline __attribute__((always_inline)) int xadd(struct vcpu *v, const struct x86_insn *i,
						      unsigned size, int_op op)
{
	const struct x86_operand *d = &i->op[0], *reg = &i->op[1];
	uint64_t a, sum, b = interp_get_gpr(v->s, reg->reg, reg->high8, size);
	gva_t lin;

	if (d->kind == OPK_GPR) {
		a = interp_get_gpr(v->s, d->reg, d->high8, size);
		sum = op(a, b, &v->s->rflags);
		interp_set_gpr(v->s, reg->reg, reg->high8, size, a);
		interp_set_gpr(v->s, d->reg, d->high8, size, sum); /* wins if both are one */
		return 0;
	}
	if (interp_operand(v, i, size, X86_ACC_W, &lin) ||
	    int_rmw(v, lin, size, i->lock, op, b, &a))
		return -1;
	interp_set_gpr(v->s, reg->reg, reg->high8, size, a);
	return 0;
}

HANDLER(xadd)
{
	switch (i->op[0].size) {
	case 1: return xadd(v, i, 1, alu_add1);
	case 2: return xadd(v, i, 2, alu_add2);
	case 4: return xadd(v, i, 4, alu_add4);
	default: return xadd(v, i, 8, alu_add8);
	}
}

/* ---- compare and exchange ---- */

static void cmp_flags(struct x86_state *s, unsigned size, uint64_t a, uint64_t b)
{
	if (size == 1)
		alu_cmp1(a, b, &s->rflags);
	else if (size == 2)
		alu_cmp2(a, b, &s->rflags);
	else if (size == 4)
		alu_cmp4(a, b, &s->rflags);
	else
		alu_cmp8(a, b, &s->rflags);
}

/* Memory: *old_val is what was there; the write happens (old value back) on a mismatch too. */
static int cmpxchg_mem(struct vcpu *v, const struct x86_insn *i, unsigned size, uint64_t expect,
		       uint64_t val, uint64_t *old_val)
{
	gva_t lin;
	void *p;

	if (interp_operand(v, i, size, X86_ACC_W, &lin))
		return -1;
	p = interp_direct(v, lin, size, X86_ACC_W);
	if (!p) {
		if (interp_of(v)->fault.pending)
			return -1;
		*old_val = 0;
		if (interp_lin_read(v, lin, old_val, size, X86_ACC_W))
			return -1;
		if (*old_val != expect)
			val = *old_val;
		return interp_lin_write(v, lin, &val, size, X86_ACC_W);
	}
	do {
		*old_val = int_host_load(p, size);
		if (*old_val != expect)
			break;
		if (!i->lock) {
			int_host_store(p, size, val);
			break;
		}
	} while (!int_host_cas(p, size, expect, val));
	return 0;
}

HANDLER(cmpxchg)
{
	const struct x86_operand *d = &i->op[0], *src = &i->op[1];
	struct x86_state *s = v->s;
	unsigned size = d->size;
	uint64_t val = interp_get_gpr(s, src->reg, src->high8, size);
	uint64_t expect = interp_get_gpr(s, X86_RAX, false, size), old_val;

	if (d->kind == OPK_GPR) {
		old_val = interp_get_gpr(s, d->reg, d->high8, size);
		if (old_val == expect)
			interp_set_gpr(s, d->reg, d->high8, size, val);
	} else if (cmpxchg_mem(v, i, size, expect, val, &old_val)) {
		return -1;
	}
	cmp_flags(s, size, expect, old_val);
	if (old_val != expect)
		interp_set_gpr(s, X86_RAX, false, size, old_val);
	return 0;
}

static void set_zf(struct x86_state *s, bool zf)
{
	s->rflags = (s->rflags & ~X86_FL_ZF) | (zf ? X86_FL_ZF : 0);
}

HANDLER(cmpxchg8b)
{
	struct x86_state *s = v->s;
	uint64_t expect = (uint32_t)s->gpr[X86_RAX] | s->gpr[X86_RDX] << 32, old_val;
	uint64_t val = (uint32_t)s->gpr[X86_RBX] | s->gpr[X86_RCX] << 32;

	if (cmpxchg_mem(v, i, 8, expect, val, &old_val))
		return -1;
	set_zf(s, old_val == expect);
	if (old_val != expect) {
		s->gpr[X86_RAX] = (uint32_t)old_val;
		s->gpr[X86_RDX] = old_val >> 32;
	}
	return 0;
}

/* 16 aligned bytes never cross a page; p is LOCK CMPXCHG16B's operand or a copy. */
static bool cas16(void *p, uint64_t expect[2], const uint64_t val[2])
{
	bool ok;

	__asm__ volatile("lock cmpxchg16b %1"
			 : "=@ccz"(ok), "+m"(*(char(*)[16])p), "+a"(expect[0]), "+d"(expect[1])
			 : "b"(val[0]), "c"(val[1])
			 : "memory");
	return ok;
}

HANDLER(cmpxchg16b)
{
	struct x86_state *s = v->s;
	uint64_t expect[2] = { s->gpr[X86_RAX], s->gpr[X86_RDX] };
	uint64_t val[2] = { s->gpr[X86_RBX], s->gpr[X86_RCX] };
	_Alignas(16) uint64_t copy[2];
	gva_t lin;
	bool ok;
	void *p;

	if (interp_operand(v, i, 16, X86_ACC_W, &lin))
		return -1;
	if (lin & 15)
		return interp_gp0(v);
	p = interp_direct(v, lin, 16, X86_ACC_W);
	if (p) {
		ok = cas16(p, expect, val);
	} else {
		if (interp_of(v)->fault.pending || interp_lin_read(v, lin, copy, 16, X86_ACC_W))
			return -1;
		ok = cas16(copy, expect, val);
		if (interp_lin_write(v, lin, copy, 16, X86_ACC_W))
			return -1;
	}
	set_zf(s, ok);
	if (!ok) {
		s->gpr[X86_RAX] = expect[0];
		s->gpr[X86_RDX] = expect[1];
	}
	return 0;
}
