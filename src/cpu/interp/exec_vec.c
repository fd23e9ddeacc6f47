/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vector instructions: MMX, SSE to SSE4.2, AES, CLMUL, SHA, GFNI, AVX, AVX2, FMA, F16C (SDM vol. 1,
 * chapters 9 to 14). Executed by native thunks (thunk.h); what touches memory element by element is
 * in exec_vec_mem.c. Owned by the vCPU's thread.
 */
#include "cpu/interp/thunk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * Every id: the other tables' rows override these, and interp_vec_exec refuses (#UD) whatever is not a
 * vector instruction.
 */
const struct interp_row interp_vec_rows[] = {
#define X86_ID(name) { X86_ID_##name, interp_vec_exec },
#include "x86/insn_ids.def"
#undef X86_ID
	{ X86_ID_INVALID, NULL },
};

int interp_vec_open(struct vcpu *v)
{
	struct vec_unit *u = aligned_alloc(64, ALIGN_UP(sizeof(*u), 64u));
	if (!u)
		return -ENOMEM;
	memset(u, 0, sizeof(*u));
	int ret = thunk_open(u);
	if (ret) {
		free(u);
		return ret;
	}
	interp_of(v)->vec = u;
	return 0;
}

void interp_vec_close(struct vcpu *v)
{
	struct vec_unit *u = vec_unit_of(v);
	if (!u)
		return;
	thunk_close(u);
	free(u);
	interp_of(v)->vec = NULL;
}

/* ---- state ---- */

static void materialise_slow(struct vec_unit *u, struct x86_state *s, uint64_t bv)
{
	if (!(bv & X86_XCR0_X87)) {
		memset(s->xsave, 0, XS_MXCSR);
		memset(s->xsave + XS_ST, 0, XS_XMM - XS_ST);
		xs_set16(s, XS_FCW, 0x37f);
	}
	if (!(bv & X86_XCR0_SSE))
		memset(s->xsave + XS_XMM, 0, 256);
	if (!(bv & X86_XCR0_AVX))
		memset(s->xsave + XS_YMMH, 0, 256);
	memset(s->xsave + XS_BV, 0, 64);
	xs_set64(s, XS_BV, u->xmask);
}

void vec_materialise(struct vcpu *v)
{
	struct vec_unit *u = vec_unit_of(v);
	uint64_t bv = xs_get64(v->s, XS_BV);
	if (unlikely(bv != u->xmask))
		materialise_slow(u, v->s, bv);
	xs_set32(v->s, XS_MXCSR, xs_get32(v->s, XS_MXCSR) & u->mxcsr_mask);
}

static int gate_vex(struct vcpu *v)
{
	const struct x86_state *s = v->s;
	const uint64_t need = X86_XCR0_SSE | X86_XCR0_AVX;
	if (!(s->cr0 & X86_CR0_PE) || (s->rflags & X86_FL_VM))
		return interp_ud(v);
	if (!(s->cr4 & X86_CR4_OSXSAVE) || (s->xcr0 & need) != need)
		return interp_ud(v);
	return 0;
}

int vec_gate(struct vcpu *v, const struct x86_insn *i)
{
	const struct x86_state *s = v->s;
	const uint32_t attr = i->attr;
	if (attr & IA_X87) {
		if (s->cr0 & (X86_CR0_EM | X86_CR0_TS))
			return interp_fault(v, X86_EX_NM, false, 0);
		return 0;
	}
	if (i->vex) {
		if (gate_vex(v))
			return -1;
	} else {
		if (s->cr0 & X86_CR0_EM)
			return interp_ud(v);
		if ((attr & IA_SSE) && !(s->cr4 & X86_CR4_OSFXSR))
			return interp_ud(v);
	}
	if (s->cr0 & X86_CR0_TS)
		return interp_fault(v, X86_EX_NM, false, 0);
	return 0;
}

/* ---- numeric exceptions ---- */

struct vec_backup {
	uint8_t legacy[XS_LEGACY], ymmh[256];
};

static void backup_take(struct vec_backup *b, const struct x86_state *s)
{
	memcpy(b->legacy, s->xsave, sizeof(b->legacy));
	memcpy(b->ymmh, s->xsave + XS_YMMH, sizeof(b->ymmh));
}

static void backup_put(const struct vec_backup *b, struct x86_state *s)
{
	memcpy(s->xsave, b->legacy, sizeof(b->legacy));
	memcpy(s->xsave + XS_YMMH, b->ymmh, sizeof(b->ymmh));
}

/* Runs the thunk with the given MXCSR; returns the resulting one. The image's own is left as it was. */
static uint32_t run_mxcsr(struct vec_unit *u, const struct thunk *t, struct x86_state *s,
			  uint32_t in)
{
	if (!(t->plan.flags & TP_FX)) {
		u->blk.mxcsr_in = in;
		t->code(u->blk.buf, s->xsave);
		return u->blk.mxcsr_out;
	}
	uint32_t old = xs_get32(s, XS_MXCSR);
	xs_set32(s, XS_MXCSR, in);
	t->code(u->blk.buf, s->xsave);
	uint32_t out = xs_get32(s, XS_MXCSR);
	xs_set32(s, XS_MXCSR, old);
	return out;
}

static int raise_xm(struct vcpu *v, const struct vec_backup *b, uint32_t mxcsr)
{
	/* A form with MMX registers has entered MMX state before it raised (as the host does). */
	bool mmx = v->s->xsave[XS_FTW] == 0xff && b->legacy[XS_FTW] != 0xff;
	mmx |= (xs_get16(v->s, XS_FSW) & 0x3800) == 0 && (b->legacy[XS_FSW + 1] & 0x38);
	backup_put(b, v->s);
	if (mmx)
		x87_enter_mmx(v->s);
	xs_set32(v->s, XS_MXCSR, mxcsr);
	if (!(v->s->cr4 & X86_CR4_OSXMMEXCPT))
		return interp_ud(v);
	return interp_fault(v, X86_EX_XM, false, 0);
}

/* VCVTPS2PH ignores flush-to-zero; a denormal half among its results is its tininess. */
static uint32_t half_is_tiny(const struct vec_unit *u, const struct thunk *t,
			     const struct x86_state *s)
{
	const struct thunk_plan *p = &t->plan;
	const uint8_t *r = u->blk.buf;
	if (!(p->flags & TP_VEX) || (p->insn[1] & 0x1f) != 3 || p->insn[3] != 0x1d)
		return 0;
	if (p->mem_op == THUNK_NO_OP)
		r = s->xsave + XS_XMM + 16 * __builtin_ctz(p->vec_store | 0x8000u);
	for (unsigned k = 0; k < (p->insn[2] & 4 ? 8u : 4u); k++) {
		uint16_t h;
		memcpy(&h, r + 2 * k, 2);
		if (!(h & 0x7c00) && (h & 0x3ff))
			return 0x10;
	}
	return 0;
}

/*
 * Some exception is unmasked. The instruction runs with all of them masked and clear flags; what it
 * raised decides (SDM vol. 1, 11.5.2: invalid, denormal and zero-divide come before the computation
 * and alone when one of them is unmasked). An unmasked underflow is tininess alone, exact or not: with
 * flush-to-zero the host's flag says just that, so a trial run tells. One corner is not the hardware's:
 * beside an unmasked overflow or underflow the precision flag is the masked response's.
 */
static int run_unmasked(struct vcpu *v, const struct thunk *t, uint32_t mxcsr, uint32_t *result)
{
	struct vec_unit *u = vec_unit_of(v);
	struct vec_backup b;
	uint32_t quiet = (mxcsr | MXCSR_MASKS) & ~MXCSR_FLAGS;
	uint32_t flags = 0;

	backup_take(&b, v->s);
	if (!(mxcsr & 0x800)) {
		uint64_t rax = u->blk.rax, fl = u->blk.flags;
		flags = run_mxcsr(u, t, v->s, quiet | 0x8000) & 0x10;
		backup_put(&b, v->s);
		u->blk.rax = rax;
		u->blk.flags = fl;
	}
	flags |= run_mxcsr(u, t, v->s, quiet) & MXCSR_FLAGS;
	if (!(mxcsr & 0x800))
		flags |= half_is_tiny(u, t, v->s);
	uint32_t unmasked = flags & ~(mxcsr >> 7);
	if (unmasked & 7)
		return raise_xm(v, &b, mxcsr | (flags & 7));
	if (unmasked & MXCSR_FLAGS)
		return raise_xm(v, &b, mxcsr | flags);
	*result = mxcsr | flags;
	return 0;
}

static int run_xm(struct vcpu *v, const struct thunk *t, uint32_t *result)
{
	uint32_t mxcsr = xs_get32(v->s, XS_MXCSR);
	if (unlikely((mxcsr & MXCSR_MASKS) != MXCSR_MASKS))
		return run_unmasked(v, t, mxcsr, result);
	*result = run_mxcsr(vec_unit_of(v), t, v->s, mxcsr);
	return 0;
}

/* ---- operands ---- */

/* Moves that fault when misaligned whatever MXCSR.MM says. */
static bool is_aligned_move(const struct x86_insn *i)
{
	if (i->map == 2)
		return i->opcode == 0x2a;
	return i->map == 1 && (i->opcode == 0x28 || i->opcode == 0x29 || i->opcode == 0x2b ||
			       i->opcode == 0x6f || i->opcode == 0x7f || i->opcode == 0xe7);
}

static int check_alignment(struct vcpu *v, const struct x86_insn *i, gva_t lin, unsigned size)
{
	const uint32_t mm = BIT(17); /* AMD's misaligned SSE mode */
	if (!(i->attr & IA_ALIGN) || !(lin & (size - 1)))
		return 0;
	if (i->row->feature == X86_FEAT_SHA && vec_unit_of(v)->sha_unaligned)
		return 0;
	if (!i->vex && (xs_get32(v->s, XS_MXCSR) & mm) && !is_aligned_move(i))
		return 0;
	return interp_gp0(v);
}

static int read_mem(struct vcpu *v, gva_t lin, void *buf, unsigned size)
{
	uint64_t val;
	if (size == 4 || size == 8) {
		if (interp_load(v, lin, size, &val))
			return -1;
		memcpy(buf, &val, size);
		return 0;
	}
	return interp_lin_read(v, lin, buf, size, X86_ACC_R);
}

int vec_write_mem(struct vcpu *v, gva_t lin, const void *buf, unsigned size)
{
	uint64_t val = 0;
	if (size == 4 || size == 8) {
		memcpy(&val, buf, size);
		return interp_store(v, lin, size, val);
	}
	return interp_lin_write(v, lin, buf, size, X86_ACC_W);
}

int vec_probe_store(struct vcpu *v, gva_t lin, unsigned size)
{
	(void)!interp_direct(v, lin, 1, X86_ACC_W);
	if (!interp_of(v)->fault.pending && ((lin + size - 1) ^ lin) >> 12)
		(void)!interp_direct(v, (lin | 4095) + 1, 1, X86_ACC_W);
	return interp_of(v)->fault.pending ? -1 : 0;
}

int vec_operand_in(struct vcpu *v, const struct x86_insn *i, const struct thunk_plan *p, gva_t *lin)
{
	struct vec_unit *u = vec_unit_of(v);
	if (p->mem_op != THUNK_NO_OP) {
		unsigned acc = p->mem_access & OPA_W ? X86_ACC_W : X86_ACC_R;
		if (interp_operand(v, i, p->mem_size, acc, lin))
			return -1;
		if (check_alignment(v, i, *lin, p->mem_size))
			return -1;
		if ((p->mem_access & OPA_R) && read_mem(v, *lin, u->blk.buf, p->mem_size))
			return -1;
	}
	if (p->gpr_op != THUNK_NO_OP)
		u->blk.rax = v->s->gpr[i->op[p->gpr_op].reg];
	if (p->flags & TP_STRCMP) {
		u->blk.rax = v->s->gpr[X86_RAX];
		u->blk.rdx = v->s->gpr[X86_RDX];
		u->blk.rcx = v->s->gpr[X86_RCX];
	}
	if (p->flags & TP_FLAGS)
		u->blk.flags = (v->s->rflags & X86_FL_ARITH) | X86_FL_R1;
	return 0;
}

void vec_operand_out(struct vcpu *v, const struct x86_insn *i, const struct thunk_plan *p)
{
	struct vec_unit *u = vec_unit_of(v);
	if (p->flags & TP_GPR_W) {
		const struct x86_operand *o = &i->op[p->gpr_op];
		interp_set_gpr(v->s, o->reg, false, o->size, u->blk.rax);
	}
	if (p->flags & TP_STRCMP)
		v->s->gpr[X86_RCX] = u->blk.rcx;
	if (p->flags & TP_FLAGS)
		v->s->rflags = (v->s->rflags & ~X86_FL_ARITH) | (u->blk.flags & X86_FL_ARITH);
}

int vec_exec_native(struct vcpu *v, const struct x86_insn *i, const struct thunk *t)
{
	struct vec_unit *u = vec_unit_of(v);
	const struct thunk_plan *p = &t->plan;
	uint8_t saved[XS_LEGACY];
	uint32_t mxcsr = 0;
	gva_t lin = 0;
	bool store = p->mem_op != THUNK_NO_OP && (p->mem_access & OPA_W);

	if (vec_operand_in(v, i, p, &lin))
		return -1;
	if (store && (p->flags & TP_FX)) /* the store may fault after the MMX state has changed */
		memcpy(saved, v->s->xsave, sizeof(saved));
	if (p->flags & TP_XM) {
		/* A page fault of the store comes before a numeric exception. */
		if (store && (xs_get32(v->s, XS_MXCSR) & MXCSR_MASKS) != MXCSR_MASKS &&
		    vec_probe_store(v, lin, p->mem_size))
			return -1;
		if (run_xm(v, t, &mxcsr))
			return -1;
	} else {
		t->code(u->blk.buf, v->s->xsave);
		mxcsr = xs_get32(v->s, XS_MXCSR);
	}
	if (store && vec_write_mem(v, lin, u->blk.buf, p->mem_size)) {
		if (p->flags & TP_FX)
			memcpy(v->s->xsave, saved, sizeof(saved));
		return -1;
	}
	xs_set32(v->s, XS_MXCSR, mxcsr);
	vec_operand_out(v, i, p);
	return 0;
}

int interp_vec_exec(struct vcpu *v, const struct x86_insn *i)
{
	const struct thunk *t = thunk_get(vec_unit_of(v), i);
	if (!t)
		return interp_ud(v);
	if (t->special)
		return t->special(v, i);
	if (vec_gate(v, i))
		return -1;
	vec_materialise(v);
	if (t->plan.flags & TP_FX)
		return x87_exec(v, i, t);
	return vec_exec_native(v, i, t);
}
