/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x87: what surrounds the native thunks (SDM vol. 1, chapter 8). Exceptions run under the guest's own
 * control word: the host records them in FSW as it does for anyone, and the thunk saves the state with
 * instructions that do not wait. #MF at the next waiting instruction is decided here, before the state
 * is loaded, so the host never sees one.
 *
 * FOP, FIP and FDP hold guest values only. Where the host's XSAVE stores them as zero unless FSW.ES is
 * set (AMD), the image does too; FCS and FDS are not kept: FNSTENV shows the current CS and DS beside
 * non-zero pointers. Without CR0.NE a pending exception is #MF as well: IRQ 13 and IGNNE# are not
 * modelled. Owned by the vCPU's thread.
 */
#include "cpu/interp/thunk.h"

#include <string.h>

struct x87_ptrs {
	uint16_t fop;
	uint64_t fip, fdp;
};

static struct x87_ptrs ptrs_get(const struct x86_state *s)
{
	return (struct x87_ptrs){ xs_get16(s, XS_FOP), xs_get64(s, XS_FIP), xs_get64(s, XS_FDP) };
}

static void ptrs_set(struct x86_state *s, const struct x87_ptrs *p)
{
	xs_set16(s, XS_FOP, p->fop);
	xs_set64(s, XS_FIP, p->fip);
	xs_set64(s, XS_FDP, p->fdp);
}

/* Unmasked exceptions that are flagged: the value of FSW.ES. */
static unsigned x87_unmasked(const struct x86_state *s)
{
	return xs_get16(s, XS_FSW) & ~(unsigned)xs_get16(s, XS_FCW) & 0x3f;
}

static bool ptrs_kept(struct vcpu *v)
{
	return !vec_unit_of(v)->ptrs_only_es || x87_unmasked(v->s);
}

int x87_check_pending(struct vcpu *v)
{
	return x87_unmasked(v->s) ? interp_fault(v, X86_EX_MF, false, 0) : 0;
}

int x87_fwait(struct vcpu *v, const struct x86_insn *i)
{
	const uint64_t both = X86_CR0_MP | X86_CR0_TS;
	(void)i;
	if ((v->s->cr0 & both) == both)
		return interp_fault(v, X86_EX_NM, false, 0);
	vec_materialise(v);
	return x87_check_pending(v);
}

void x87_normalise(struct vcpu *v)
{
	struct vec_unit *u = vec_unit_of(v);
	struct x87_ptrs p = ptrs_get(v->s);
	xs_set32(v->s, XS_MXCSR, xs_get32(v->s, XS_MXCSR) & u->mxcsr_mask);
	u->fx_roundtrip(u->blk.buf, v->s->xsave);
	if (!ptrs_kept(v))
		memset(&p, 0, sizeof(p));
	p.fop &= 0x7ff;
	ptrs_set(v->s, &p);
}

void x87_enter_mmx(struct x86_state *s)
{
	uint8_t st[128];
	unsigned fsw = xs_get16(s, XS_FSW);
	unsigned top = (fsw >> 11) & 7;
	for (unsigned r = 0; r < 8; r++)
		memcpy(st + 16 * r, s->xsave + XS_ST + 16 * ((r - top) & 7), 16);
	memcpy(s->xsave + XS_ST, st, sizeof(st));
	xs_set16(s, XS_FSW, (uint16_t)(fsw & ~0x3800u));
	s->xsave[XS_FTW] = 0xff;
}

/* ---- environment images (SDM vol. 1, figures 8-9 to 8-12) ---- */

static void put16(uint8_t *p, uint64_t val)
{
	uint16_t w = (uint16_t)val;
	memcpy(p, &w, 2);
}

static uint16_t get16(const uint8_t *p)
{
	uint16_t w;
	memcpy(&w, p, 2);
	return w;
}

static bool real_format(const struct x86_state *s)
{
	return !(s->cr0 & X86_CR0_PE) || (s->rflags & X86_FL_VM);
}

static void env_put_real(uint8_t *b, bool wide, const struct x87_ptrs *p)
{
	unsigned step = wide ? 4 : 2;
	uint8_t *f = b + 3 * step;
	put16(f, p->fip);
	put16(f + step, (p->fip >> 16) << 12 | p->fop);
	put16(f + 2 * step, p->fdp);
	put16(f + 3 * step, (p->fdp >> 16) << 12);
	if (wide) {
		put16(f + step + 2, p->fip >> 20);
		put16(f + 3 * step + 2, p->fdp >> 20);
	}
}

static void env_put_prot(uint8_t *b, bool wide, const struct x87_ptrs *p, uint16_t cs, uint16_t ds)
{
	unsigned step = wide ? 4 : 2;
	uint8_t *f = b + 3 * step;
	put16(f, p->fip);
	put16(f + step, cs);
	put16(f + 2 * step, p->fdp);
	put16(f + 3 * step, ds);
	if (wide) {
		put16(f + 2, p->fip >> 16);
		put16(f + step + 2, p->fop);
		put16(f + 2 * step + 2, p->fdp >> 16);
	}
}

/* Replaces the pointers in an image that the host has just stored. */
static void env_store(struct vcpu *v, uint8_t *b, bool wide, const struct x87_ptrs *p)
{
	const struct x86_state *s = v->s;
	struct x87_ptrs q = *p;
	bool any = p->fip || p->fdp || p->fop;
	if (real_format(s)) {
		if (any)
			q.fip += s->seg[X86_CS].base;
		env_put_real(b, wide, &q);
		return;
	}
	env_put_prot(b, wide, &q, any ? s->seg[X86_CS].sel : 0, any ? s->seg[X86_DS].sel : 0);
}

/* The pointers of an image that was loaded. */
static struct x87_ptrs env_load(const struct x86_state *s, const uint8_t *b, bool wide)
{
	unsigned step = wide ? 4 : 2;
	const uint8_t *f = b + 3 * step;
	struct x87_ptrs p = { 0, get16(f), get16(f + 2 * step) };
	if (real_format(s)) {
		p.fop = get16(f + step) & 0x7ff;
		p.fip |= (uint64_t)(get16(f + step) >> 12) << 16;
		p.fdp |= (uint64_t)(get16(f + 3 * step) >> 12) << 16;
		if (wide) {
			p.fip |= (uint64_t)get16(f + step + 2) << 20;
			p.fdp |= (uint64_t)get16(f + 3 * step + 2) << 20;
			p.fip = (uint32_t)p.fip;
			p.fdp = (uint32_t)p.fdp;
		}
	} else if (wide) {
		p.fop = get16(f + step + 2) & 0x7ff;
		p.fip |= (uint64_t)get16(f + 2) << 16;
		p.fdp |= (uint64_t)get16(f + 2 * step + 2) << 16;
	}
	return p;
}

/* ---- execution ---- */

/* Pointers after the instruction: before is what they were, lin the operand's address. */
static void ptrs_update(struct vcpu *v, const struct x86_insn *i, const struct thunk_plan *p,
			const struct x87_ptrs *before, uint64_t ea)
{
	static const struct x87_ptrs none;
	struct x87_ptrs now = *before;
	if (!ptrs_kept(v)) {
		ptrs_set(v->s, &none);
		return;
	}
	if (p->flags & TP_PTRS) {
		now.fop = (uint16_t)((i->opcode & 7u) << 8 | i->modrm);
		now.fip = v->s->rip;
		if (p->mem_op != THUNK_NO_OP)
			now.fdp = ea;
	} else if (p->flags & TP_ENV) {
		if (p->mem_access & OPA_R)
			now = env_load(v->s, vec_unit_of(v)->blk.buf, i->opsize != 2);
		else if (i->opcode == 0xdd) /* FNSAVE initialises */
			now = none;
	} else if (!i->has_mem && i->opcode == 0xdb && i->modrm == 0xe3) {
		now = none; /* FNINIT */
	}
	ptrs_set(v->s, &now);
}

/* An unmasked exception before the result is stored keeps memory as it was; precision alone does not. */
static bool store_suppressed(const struct x86_state *s, const struct thunk_plan *p)
{
	return !(p->flags & (TP_ENV | TP_NOWAIT)) && (x87_unmasked(s) & 0x1f);
}

static int store_result(struct vcpu *v, const struct x86_insn *i, const struct thunk_plan *p,
			gva_t lin, const struct x87_ptrs *before)
{
	struct vec_unit *u = vec_unit_of(v);
	if (store_suppressed(v->s, p)) /* but it still faults where the real one would */
		return vec_probe_store(v, lin, p->mem_size);
	if (p->flags & TP_ENV)
		env_store(v, u->blk.buf, i->opsize != 2, before);
	return vec_write_mem(v, lin, u->blk.buf, p->mem_size);
}

static int exec_fpu(struct vcpu *v, const struct x86_insn *i, const struct thunk *t)
{
	struct vec_unit *u = vec_unit_of(v);
	const struct thunk_plan *p = &t->plan;
	struct x87_ptrs before = ptrs_get(v->s);
	uint8_t saved[XS_XMM];
	gva_t lin = 0;
	uint64_t ea = 0;

	if (vec_operand_in(v, i, p, &lin))
		return -1;
	if (p->flags & TP_PTRS && p->mem_op != THUNK_NO_OP)
		ea = x86_ea(i, v->s->gpr, v->s->rip + i->len);
	memcpy(saved, v->s->xsave, sizeof(saved));
	t->code(u->blk.buf, v->s->xsave);
	if (p->mem_op != THUNK_NO_OP && (p->mem_access & OPA_W) &&
	    store_result(v, i, p, lin, &before)) {
		memcpy(v->s->xsave, saved, sizeof(saved));
		return -1;
	}
	ptrs_update(v, i, p, &before, ea);
	vec_operand_out(v, i, p);
	return 0;
}

int x87_exec(struct vcpu *v, const struct x86_insn *i, const struct thunk *t)
{
	if (!(t->plan.flags & TP_NOWAIT) && x87_check_pending(v))
		return -1;
	if (i->attr & IA_X87)
		return exec_fpu(v, i, t);
	return vec_exec_native(v, i, t);
}
