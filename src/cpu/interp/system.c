/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control registers, EFER and RFLAGS: every check and what a change sets off (SDM vol. 3, 2.5, 4.1,
 * 4.10.4, 9.8.5). Owner thread only.
 */
#include "cpu/interp/sys_priv.h"
#include "loop/clock.h"

#define CR0_KNOWN                                                                                  \
	(X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET | X86_CR0_NE |             \
	 X86_CR0_WP | X86_CR0_AM | X86_CR0_NW | X86_CR0_CD | X86_CR0_PG)
#define CR4_ALWAYS                                                                                 \
	(X86_CR4_TSD | X86_CR4_DE | X86_CR4_PSE | X86_CR4_PAE | X86_CR4_MCE | X86_CR4_PGE |        \
	 X86_CR4_PCE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT)
#define CR4_PAGING                                                                                 \
	(X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_PCIDE | X86_CR4_SMEP | X86_CR4_SMAP)

uint64_t sys_tsc(const struct vcpu *v)
{
	return clock_tsc() + v->s->tsc_offset;
}

bool sys_cpuid_bit(const struct vcpu *v, uint32_t leaf, uint32_t subleaf, unsigned reg,
		   unsigned bit)
{
	const struct x86_cpuid *c = v->cpuid;

	for (unsigned i = 0; i < c->count; i++) {
		const struct x86_cpuid_leaf *l = &c->leaf[i];
		const uint32_t r[4] = { l->eax, l->ebx, l->ecx, l->edx };

		if (l->leaf == leaf && (l->any_subleaf || l->subleaf == subleaf))
			return (r[reg] >> bit) & 1;
	}
	return false;
}

bool sys_is_amd(const struct vcpu *v)
{
	const struct x86_cpuid *c = v->cpuid;

	/* AuthenticAMD, HygonGenuine */
	return c->count != 0 && (c->leaf[0].ebx == 0x68747541 || c->leaf[0].ebx == 0x6f677948);
}

void sys_flush_all(struct vcpu *v)
{
	interp_tlb_flush(v, true);
	if (v->hooks.tlb_flush != NULL)
		v->hooks.tlb_flush(v, true);
}

/* ---- CR0 ---- */

/* Paging goes on: long mode starts here when EFER.LME asks for it. */
static int paging_on(struct vcpu *v)
{
	struct x86_state *s = v->s;

	if (!(s->efer & X86_EFER_LME))
		return 0;
	if (!(s->cr4 & X86_CR4_PAE) || (s->seg[X86_CS].attr & X86_SEG_L))
		return interp_gp0(v);
	if ((s->tr.attr & X86_SEG_P) && !(X86_SEG_TYPE(s->tr.attr) & 8))
		return interp_gp0(v);
	s->efer |= X86_EFER_LMA;
	return 0;
}

static int paging_off(struct vcpu *v)
{
	struct x86_state *s = v->s;

	if (x86_code64(s) || (s->cr4 & X86_CR4_PCIDE))
		return interp_gp0(v);
	s->efer &= ~X86_EFER_LMA;
	return 0;
}

static int write_cr0(struct vcpu *v, uint64_t val)
{
	struct x86_state *s = v->s;
	uint64_t changed;

	if (val >> 32)
		return interp_gp0(v);
	val = (val & CR0_KNOWN) | X86_CR0_ET;
	if (((val & X86_CR0_PG) && !(val & X86_CR0_PE)) ||
	    ((val & X86_CR0_NW) && !(val & X86_CR0_CD)))
		return interp_gp0(v);
	changed = val ^ s->cr0;
	if (changed & X86_CR0_PG) {
		if ((val & X86_CR0_PG ? paging_on(v) : paging_off(v)) < 0)
			return -1;
	}
	s->cr0 = val;
	if (changed & (X86_CR0_PG | X86_CR0_WP | X86_CR0_PE))
		sys_flush_all(v);
	return 0;
}

/* ---- CR3, CR4, CR8, EFER ---- */

static int write_cr3(struct vcpu *v, uint64_t val)
{
	struct x86_state *s = v->s;
	const uint64_t old = s->cr3;
	bool keep = false;

	if (s->cr4 & X86_CR4_PCIDE) {
		keep = val >> 63;
		val &= ~BIT(63);
	}
	if (x86_long_mode(s) && (val >> x86_phys_bits()) != 0)
		return interp_gp0(v);
	s->cr3 = val;
	interp_tlb_cr3(v, keep);
	if (v->hooks.cr3_load != NULL)
		v->hooks.cr3_load(v, old, keep);
	else if (!keep && v->hooks.tlb_flush != NULL)
		v->hooks.tlb_flush(v, false);
	return 0;
}

static uint64_t cr4_allowed(const struct vcpu *v)
{
	static const struct {
		uint64_t bit;
		uint32_t leaf;
		uint8_t reg, pos;
	} gate[] = {
		{ X86_CR4_UMIP, 7, 2, 2 },   { X86_CR4_FSGSBASE, 7, 1, 0 },
		{ X86_CR4_PCIDE, 1, 2, 17 }, { X86_CR4_OSXSAVE, 1, 2, 26 },
		{ X86_CR4_SMEP, 7, 1, 7 },   { X86_CR4_SMAP, 7, 1, 20 },
	};
	uint64_t ok = CR4_ALWAYS;

	for (unsigned i = 0; i < ARRAY_SIZE(gate); i++) {
		if (sys_cpuid_bit(v, gate[i].leaf, 0, gate[i].reg, gate[i].pos))
			ok |= gate[i].bit;
	}
	return ok;
}

static int write_cr4(struct vcpu *v, uint64_t val)
{
	struct x86_state *s = v->s;
	const uint64_t changed = val ^ s->cr4;

	if ((changed & val & ~cr4_allowed(v)) != 0)
		return interp_gp0(v);
	if (x86_long_mode(s) && !(val & X86_CR4_PAE))
		return interp_gp0(v);
	if ((changed & val & X86_CR4_PCIDE) && (!x86_long_mode(s) || (s->cr3 & 0xfff) != 0))
		return interp_gp0(v);
	s->cr4 = val;
	if (changed & CR4_PAGING)
		sys_flush_all(v);
	return 0;
}

static int write_cr8(struct vcpu *v, uint64_t val)
{
	if (val > 15)
		return interp_gp0(v);
	v->io->set_tpr(v->io->opaque, v, val);
	return 0;
}

int sys_write_efer(struct vcpu *v, uint64_t val)
{
	struct x86_state *s = v->s;
	const uint64_t known = X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
	const uint64_t old = s->efer;

	if (val & ~known)
		return interp_gp0(v);
	if (((val ^ old) & X86_EFER_LME) && (s->cr0 & X86_CR0_PG))
		return interp_gp0(v);
	s->efer = (val & ~X86_EFER_LMA) | (old & X86_EFER_LMA);
	if ((s->efer ^ old) & X86_EFER_NXE)
		sys_flush_all(v);
	return 0;
}

int interp_write_cr(struct vcpu *v, unsigned cr, uint64_t val)
{
	switch (cr) {
	case 0: return write_cr0(v, val);
	case 2: v->s->cr2 = val; return 0;
	case 3: return write_cr3(v, val);
	case 4: return write_cr4(v, val);
	case 8: return write_cr8(v, val);
	default: return interp_ud(v);
	}
}

/* ---- RFLAGS ---- */

void interp_load_flags(struct vcpu *v, unsigned size, uint64_t val)
{
	struct x86_state *s = v->s;
	uint64_t mask = X86_FL_ARITH | X86_FL_DF | X86_FL_TF | X86_FL_NT | X86_FL_AC | X86_FL_ID;

	if (s->cpl <= sys_iopl(s))
		mask |= X86_FL_IF;
	if (s->cpl == 0)
		mask |= X86_FL_IOPL;
	if (size == 2)
		mask &= 0xffff;
	s->rflags = ((s->rflags & ~mask) | (val & mask) | X86_FL_R1) & ~X86_FL_RF;
}

void sys_iret_flags(struct vcpu *v, unsigned size, uint64_t val)
{
	const uint64_t keep = size == 2 ? v->s->rflags & X86_FL_RF : val & X86_FL_RF;

	interp_load_flags(v, size, val);
	v->s->rflags |= keep;
}
