/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MOVS, CMPS, STOS, LODS, SCAS with repeats. SDM vol. 2, "REP". rCX, rSI and rDI are brought up to
 * date after every element or chunk, so a fault or an interrupt restarts exactly. Chunks lie within
 * one page and run as the host's own repeat instruction. The vCPU's own thread.
 */
#include "cpu/interp/alu.h"
#include "cpu/interp/exec_int.h"

/* ---- addressing ---- */

static inline int64_t step_of(const struct vcpu *v, const struct x86_insn *i)
{
	return v->s->rflags & X86_FL_DF ? -(int64_t)i->opsize : i->opsize;
}

static inline void advance(struct vcpu *v, const struct x86_insn *i, unsigned reg, int64_t by)
{
	interp_set_gpr(v->s, reg, false, i->addrsize, v->s->gpr[reg] + (uint64_t)by);
}

static inline int linear(struct vcpu *v, const struct x86_insn *i, unsigned reg, unsigned size,
			 unsigned acc, gva_t *lin)
{
	unsigned seg = reg == X86_RDI ? X86_ES : i->seg;

	return interp_linear(v, seg, v->s->gpr[reg] & int_mask(i->addrsize), size, acc, lin);
}

static int load(struct vcpu *v, const struct x86_insn *i, unsigned reg, uint64_t *val)
{
	gva_t lin;

	if (linear(v, i, reg, i->opsize, X86_ACC_R, &lin))
		return -1;
	return interp_load(v, lin, i->opsize, val);
}

static int store(struct vcpu *v, const struct x86_insn *i, uint64_t val)
{
	gva_t lin;

	if (linear(v, i, X86_RDI, i->opsize, X86_ACC_W, &lin))
		return -1;
	return interp_store(v, lin, i->opsize, val);
}

static void compare(struct vcpu *v, const struct x86_insn *i, uint64_t a, uint64_t b)
{
	uint64_t *fl = &v->s->rflags;

	if (i->opsize == 1)
		alu_cmp1(a, b, fl);
	else if (i->opsize == 2)
		alu_cmp2(a, b, fl);
	else if (i->opsize == 4)
		alu_cmp4(a, b, fl);
	else
		alu_cmp8(a, b, fl);
}

/* ---- one element ---- */

static int one(struct vcpu *v, const struct x86_insn *i)
{
	struct x86_state *s = v->s;
	int64_t step = step_of(v, i);
	uint64_t a, b;

	switch (i->id) {
	case X86_ID_MOVS:
		if (load(v, i, X86_RSI, &a) || store(v, i, a))
			return -1;
		advance(v, i, X86_RSI, step);
		break;
	case X86_ID_CMPS:
		if (load(v, i, X86_RSI, &a) || load(v, i, X86_RDI, &b))
			return -1;
		compare(v, i, a, b);
		advance(v, i, X86_RSI, step);
		break;
	case X86_ID_STOS:
		if (store(v, i, s->gpr[X86_RAX]))
			return -1;
		break;
	case X86_ID_LODS:
		if (load(v, i, X86_RSI, &a))
			return -1;
		interp_set_gpr(s, X86_RAX, false, i->opsize, a);
		advance(v, i, X86_RSI, step);
		return 0;
	default: /* SCAS */
		if (load(v, i, X86_RDI, &b))
			return -1;
		compare(v, i, s->gpr[X86_RAX], b);
	}
	advance(v, i, X86_RDI, step);
	return 0;
}

/* ---- chunks ---- */

/* Elements from reg's offset on that stay in its page and below the end of the address size. */
static uint64_t room(const struct vcpu *v, const struct x86_insn *i, gva_t lin, unsigned reg,
		     uint64_t n)
{
	uint64_t mask = int_mask(i->addrsize), off = v->s->gpr[reg] & mask;
	uint64_t page = (4096 - (lin & 0xfff)) / i->opsize, end = (mask - off) / i->opsize;

	n = MIN(n, page);
	return MIN(n, end);
}

/* Host pointer to up to *n elements at reg, *n cut to what it reaches; NULL: go element by element. */
static void *chunk(struct vcpu *v, const struct x86_insn *i, unsigned reg, unsigned acc,
		   uint64_t *n)
{
	struct interp *it = interp_of(v);
	gva_t lin, again;
	void *p = NULL;

	if (!linear(v, i, reg, i->opsize, acc, &lin)) {
		*n = room(v, i, lin, reg, *n);
		if (*n > 1 && !linear(v, i, reg, (unsigned)*n * i->opsize, acc, &again))
			p = interp_direct(v, lin, (unsigned)*n * i->opsize, acc);
	}
	it->fault.pending = false; /* the element by itself says it again */
	return p;
}

static void host_movs(void *d, const void *src, uint64_t n, unsigned size)
{
	switch (size) {
	case 1: __asm__ volatile("rep movsb" : "+D"(d), "+S"(src), "+c"(n) : : "memory"); break;
	case 2: __asm__ volatile("rep movsw" : "+D"(d), "+S"(src), "+c"(n) : : "memory"); break;
	case 4: __asm__ volatile("rep movsl" : "+D"(d), "+S"(src), "+c"(n) : : "memory"); break;
	default: __asm__ volatile("rep movsq" : "+D"(d), "+S"(src), "+c"(n) : : "memory");
	}
}

static void host_stos(void *d, uint64_t val, uint64_t n, unsigned size)
{
	switch (size) {
	case 1: __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(val) : "memory"); break;
	case 2: __asm__ volatile("rep stosw" : "+D"(d), "+c"(n) : "a"(val) : "memory"); break;
	case 4: __asm__ volatile("rep stosl" : "+D"(d), "+c"(n) : "a"(val) : "memory"); break;
	default: __asm__ volatile("rep stosq" : "+D"(d), "+c"(n) : "a"(val) : "memory");
	}
}

/* Does several elements of MOVS or STOS upwards. Returns how many; 0: not possible here. */
static uint64_t many(struct vcpu *v, const struct x86_insn *i, uint64_t n)
{
	const void *src = NULL;
	void *d;

	if ((i->id != X86_ID_MOVS && i->id != X86_ID_STOS) ||
	    (v->s->rflags & (X86_FL_DF | X86_FL_TF)))
		return 0;
	if (i->id == X86_ID_MOVS) {
		src = chunk(v, i, X86_RSI, X86_ACC_R, &n);
		if (!src)
			return 0;
	}
	d = chunk(v, i, X86_RDI, X86_ACC_W, &n);
	if (!d)
		return 0;
	if (src) {
		host_movs(d, src, n, i->opsize);
		advance(v, i, X86_RSI, (int64_t)n * i->opsize);
	} else {
		host_stos(d, v->s->gpr[X86_RAX], n, i->opsize);
	}
	advance(v, i, X86_RDI, (int64_t)n * i->opsize);
	return n;
}

/* ---- repeats ---- */

static bool must_stop(const struct vcpu *v)
{
	const uint64_t fl = v->s->rflags;

	if (fl & X86_FL_TF)
		return true;
	if (atomic_load_explicit(&v->kick_pending, memory_order_relaxed))
		return true;
	return (fl & X86_FL_IF) && atomic_load_explicit(&v->irq_hint, memory_order_relaxed);
}

/* REPE and REPNE end CMPS and SCAS by ZF. */
static bool ended_by_zf(const struct vcpu *v, const struct x86_insn *i)
{
	bool zf = v->s->rflags & X86_FL_ZF;

	if (i->id != X86_ID_CMPS && i->id != X86_ID_SCAS)
		return false;
	return zf != (i->rep == REP_REPE);
}

static int exec_string(struct vcpu *v, const struct x86_insn *i)
{
	struct interp *it = interp_of(v);
	struct x86_state *s = v->s;
	uint64_t mask = int_mask(i->addrsize), left, n;

	if (i->rep == REP_NONE)
		return one(v, i);
	while ((left = s->gpr[X86_RCX] & mask) != 0) {
		n = left > 1 ? many(v, i, left) : 0;
		if (!n) {
			if (one(v, i))
				return -1;
			n = 1;
		}
		advance(v, i, X86_RCX, -(int64_t)n);
		if (ended_by_zf(v, i))
			break;
		if (left != n && unlikely(must_stop(v))) {
			it->interrupted = true;
			it->next_rip = s->rip;
			break;
		}
	}
	return 0;
}

const struct interp_row interp_string_rows[] = {
	{ X86_ID_MOVS, exec_string }, { X86_ID_CMPS, exec_string }, { X86_ID_STOS, exec_string },
	{ X86_ID_LODS, exec_string }, { X86_ID_SCAS, exec_string }, { X86_ID_INVALID, NULL },
};
