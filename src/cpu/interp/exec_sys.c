/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System instructions: control and debug registers, flags, MSRs, caches, time, hypercalls; and the
 * list of all handlers of the system half. Owner thread only. SDM vol. 2.
 */
#include <sched.h>
#include <string.h>

#include "base/stats.h"
#include "cpu/interp/sys_priv.h"

#define KVM_EPERM 1
#define KVM_ENOSYS 1000
#define KVM_HC_SCHED_YIELD 11

static int need_cpl0(struct vcpu *v)
{
	return v->s->cpl == 0 ? 0 : interp_gp0(v);
}

static void set_edx_eax(struct x86_state *s, uint64_t val)
{
	s->gpr[X86_RAX] = (uint32_t)val;
	s->gpr[X86_RDX] = val >> 32;
}

static uint64_t get_edx_eax(const struct x86_state *s)
{
	return (uint32_t)s->gpr[X86_RAX] | s->gpr[X86_RDX] << 32;
}

static unsigned native_size(const struct x86_insn *i)
{
	return i->mode == X86_MODE_64 ? 8 : 4;
}

/* ---- control registers ---- */

static int read_cr(struct vcpu *v, unsigned cr, uint64_t *val)
{
	const struct x86_state *s = v->s;

	switch (cr) {
	case 0: *val = s->cr0; return 0;
	case 2: *val = s->cr2; return 0;
	case 3: *val = s->cr3; return 0;
	case 4: *val = s->cr4; return 0;
	case 8: *val = v->io->get_tpr(v->io->opaque, v); return 0;
	default: return interp_ud(v);
	}
}

static int exec_mov_cr(struct vcpu *v, const struct x86_insn *i)
{
	struct x86_state *s = v->s;
	const unsigned size = native_size(i);
	uint64_t val = 0;

	if (need_cpl0(v) < 0)
		return -1;
	if (i->op[0].kind == OPK_CR)
		return interp_write_cr(v, i->op[0].reg,
				       interp_get_gpr(s, i->op[1].reg, false, size));
	if (read_cr(v, i->op[1].reg, &val) < 0)
		return -1;
	interp_set_gpr(s, i->op[0].reg, false, size, val);
	return 0;
}

static int exec_clts(struct vcpu *v, const struct x86_insn *i)
{
	(void)i;
	if (need_cpl0(v) < 0)
		return -1;
	v->s->cr0 &= ~X86_CR0_TS;
	return 0;
}

static int exec_smsw(struct vcpu *v, const struct x86_insn *i)
{
	struct x86_state *s = v->s;

	if (s->cpl != 0 && (s->cr4 & X86_CR4_UMIP))
		return interp_gp0(v);
	return sys_set(v, i, 0, i->op[0].kind == OPK_MEM ? 2 : i->opsize, s->cr0);
}

/* Sets PE but never clears it. */
static int exec_lmsw(struct vcpu *v, const struct x86_insn *i)
{
	struct x86_state *s = v->s;
	uint64_t val;

	if (need_cpl0(v) < 0 || sys_get(v, i, 0, 2, &val) < 0)
		return -1;
	return interp_write_cr(v, 0, (s->cr0 & ~0xeull) | (val & 0xf));
}

/* ---- debug registers ---- */

#define DR6_FIXED 0xffff0ff0ull
#define DR7_FIXED 0x400ull
#define DR7_GD BIT(13)
#define DR6_BD BIT(13)

static int debug_reg(struct vcpu *v, unsigned *dr)
{
	struct x86_state *s = v->s;

	if (*dr == 4 || *dr == 5) {
		if (s->cr4 & X86_CR4_DE)
			return interp_ud(v);
		*dr += 2;
	}
	if (*dr > 7)
		return interp_ud(v);
	if (s->dr[7] & DR7_GD) {
		s->dr[6] |= DR6_BD;
		return interp_fault(v, X86_EX_DB, false, 0);
	}
	return 0;
}

static int exec_mov_dr(struct vcpu *v, const struct x86_insn *i)
{
	struct x86_state *s = v->s;
	const unsigned size = native_size(i);
	const bool load = i->op[0].kind == OPK_DR;
	unsigned dr = i->op[load ? 0 : 1].reg;
	uint64_t val;

	if (need_cpl0(v) < 0 || debug_reg(v, &dr) < 0)
		return -1;
	if (!load) {
		interp_set_gpr(s, i->op[0].reg, false, size, s->dr[dr]);
		return 0;
	}
	val = interp_get_gpr(s, i->op[1].reg, false, size);
	if (dr >= 6 && val >> 32)
		return interp_gp0(v);
	if (dr == 6)
		val = (val & 0xe00f) | DR6_FIXED;
	if (dr == 7)
		val = (val & 0xffff2bff) | DR7_FIXED;
	s->dr[dr] = val;
	return 0;
}

/* ---- flags and halting ---- */

static int exec_cli(struct vcpu *v, const struct x86_insn *i)
{
	struct x86_state *s = v->s;

	(void)i;
	if (!sys_real(s) && s->cpl > sys_iopl(s))
		return interp_gp0(v);
	s->rflags &= ~X86_FL_IF;
	return 0;
}

static int exec_sti(struct vcpu *v, const struct x86_insn *i)
{
	struct x86_state *s = v->s;

	(void)i;
	if (!sys_real(s) && s->cpl > sys_iopl(s))
		return interp_gp0(v);
	if (!(s->rflags & X86_FL_IF))
		interp_of(v)->shadow_next = true;
	s->rflags |= X86_FL_IF;
	return 0;
}

static int exec_pushf(struct vcpu *v, const struct x86_insn *i)
{
	const struct x86_state *s = v->s;

	if (sys_vm86(s) && sys_iopl(s) != 3)
		return interp_gp0(v);
	return interp_push(v, i->opsize, s->rflags & ~(X86_FL_RF | X86_FL_VM));
}

static int exec_popf(struct vcpu *v, const struct x86_insn *i)
{
	uint64_t val;

	if (sys_vm86(v->s) && sys_iopl(v->s) != 3)
		return interp_gp0(v);
	if (interp_pop(v, i->opsize, &val) < 0)
		return -1;
	interp_load_flags(v, i->opsize, val);
	return 0;
}

static int exec_hlt(struct vcpu *v, const struct x86_insn *i)
{
	(void)i;
	if (need_cpl0(v) < 0)
		return -1;
	stat_inc(EXIT_HLT);
	v->s->mp_state = X86_MP_HALTED;
	interp_of(v)->halted = true;
	return 0;
}

static int exec_stac_clac(struct vcpu *v, const struct x86_insn *i)
{
	if (v->s->cpl != 0 || sys_vm86(v->s))
		return interp_ud(v);
	if (i->id == X86_ID_STAC)
		v->s->rflags |= X86_FL_AC;
	else
		v->s->rflags &= ~X86_FL_AC;
	return 0;
}

/* ---- translations and caches ---- */

static int exec_invlpg(struct vcpu *v, const struct x86_insn *i)
{
	const struct x86_state *s = v->s;
	gva_t va;

	if (need_cpl0(v) < 0)
		return -1;
	va = x86_ea(i, s->gpr, s->rip + i->len);
	if (!x86_code64(s))
		va = (uint32_t)(va + s->seg[i->seg].base);
	else if (i->seg >= X86_FS)
		va += s->seg[i->seg].base;
	if (!x86_canonical(va))
		return 0;
	interp_tlb_flush_page(v, va);
	if (v->hooks.tlb_flush_page != NULL)
		v->hooks.tlb_flush_page(v, va);
	return 0;
}

enum { INVPCID_ADDRESS, INVPCID_ONE, INVPCID_ALL_GLOBAL, INVPCID_ALL };

static int exec_invpcid(struct vcpu *v, const struct x86_insn *i)
{
	struct x86_state *s = v->s;
	const uint64_t type = interp_get_gpr(s, i->op[0].reg, false, native_size(i));
	uint64_t desc[2];
	gva_t lin;

	if (need_cpl0(v) < 0 || interp_operand(v, i, 16, X86_ACC_R, &lin) < 0 ||
	    interp_lin_read(v, lin, desc, 16, X86_ACC_R) < 0)
		return -1;
	if (type > INVPCID_ALL || desc[0] >> 12)
		return interp_gp0(v);
	if (type <= INVPCID_ONE && !(s->cr4 & X86_CR4_PCIDE) && desc[0] != 0)
		return interp_gp0(v);
	if (type == INVPCID_ADDRESS && !x86_canonical(desc[1]))
		return interp_gp0(v);
	if (type == INVPCID_ADDRESS)
		interp_tlb_drop_pcid_page(v, (unsigned)desc[0], desc[1]);
	else if (type == INVPCID_ONE)
		interp_tlb_drop_pcid(v, (unsigned)desc[0]);
	else
		interp_tlb_flush(v, true);
	if (v->hooks.tlb_flush_pcid != NULL)
		v->hooks.tlb_flush_pcid(v, (unsigned)type, desc[0], desc[1]);
	return 0;
}

/* Caches are the host's, and coherent. */
static int exec_wbinvd(struct vcpu *v, const struct x86_insn *i)
{
	(void)i;
	return need_cpl0(v);
}

/* ---- MSRs, time, identity ---- */

static int exec_rdmsr(struct vcpu *v, const struct x86_insn *i)
{
	uint64_t val;

	(void)i;
	if (need_cpl0(v) < 0 || interp_rdmsr(v, (uint32_t)v->s->gpr[X86_RCX], &val) < 0)
		return -1;
	set_edx_eax(v->s, val);
	return 0;
}

static int exec_wrmsr(struct vcpu *v, const struct x86_insn *i)
{
	(void)i;
	if (need_cpl0(v) < 0)
		return -1;
	return interp_wrmsr(v, (uint32_t)v->s->gpr[X86_RCX], get_edx_eax(v->s));
}

static int tsc_allowed(struct vcpu *v)
{
	const struct x86_state *s = v->s;

	return s->cpl != 0 && (s->cr4 & X86_CR4_TSD) ? interp_gp0(v) : 0;
}

static int exec_rdtsc(struct vcpu *v, const struct x86_insn *i)
{
	(void)i;
	if (tsc_allowed(v) < 0)
		return -1;
	set_edx_eax(v->s, sys_tsc(v));
	return 0;
}

static int exec_rdtscp(struct vcpu *v, const struct x86_insn *i)
{
	if (exec_rdtsc(v, i) < 0)
		return -1;
	v->s->gpr[X86_RCX] = (uint32_t)v->s->tsc_aux;
	return 0;
}

static int exec_rdpid(struct vcpu *v, const struct x86_insn *i)
{
	interp_set_gpr(v->s, i->op[0].reg, false, native_size(i), v->s->tsc_aux);
	return 0;
}

/* There are no counters. */
static int exec_rdpmc(struct vcpu *v, const struct x86_insn *i)
{
	(void)i;
	return interp_gp0(v);
}

static int exec_cpuid(struct vcpu *v, const struct x86_insn *i)
{
	struct x86_state *s = v->s;
	uint32_t r[4];

	(void)i;
	x86_cpuid_query(v->cpuid, s, v->apic_id, (uint32_t)s->gpr[X86_RAX],
			(uint32_t)s->gpr[X86_RCX], r);
	s->gpr[X86_RAX] = r[0];
	s->gpr[X86_RBX] = r[1];
	s->gpr[X86_RCX] = r[2];
	s->gpr[X86_RDX] = r[3];
	return 0;
}

/* ---- extended state control ---- */

static int exec_xgetbv(struct vcpu *v, const struct x86_insn *i)
{
	struct x86_state *s = v->s;
	const uint32_t ecx = (uint32_t)s->gpr[X86_RCX];

	(void)i;
	if (!(s->cr4 & X86_CR4_OSXSAVE))
		return interp_ud(v);
	/* 1 asks which components are in use: all enabled ones is a legal answer */
	if (ecx > 1 || (ecx == 1 && !sys_cpuid_bit(v, 0xd, 1, 0, 2)))
		return interp_gp0(v);
	set_edx_eax(s, s->xcr0);
	return 0;
}

static int exec_xsetbv(struct vcpu *v, const struct x86_insn *i)
{
	struct x86_state *s = v->s;
	const uint64_t val = get_edx_eax(s);

	(void)i;
	if (!(s->cr4 & X86_CR4_OSXSAVE))
		return interp_ud(v);
	if (need_cpl0(v) < 0)
		return -1;
	if ((uint32_t)s->gpr[X86_RCX] != 0 || !(val & X86_XCR0_X87) ||
	    (val & ~v->cpuid->xcr0_mask) || ((val & X86_XCR0_AVX) && !(val & X86_XCR0_SSE)))
		return interp_gp0(v);
	s->xcr0 = val;
	return 0;
}

/* ---- FS and GS bases ---- */

static int fsgs_allowed(struct vcpu *v)
{
	return v->s->cr4 & X86_CR4_FSGSBASE ? 0 : interp_ud(v);
}

static int exec_rdbase(struct vcpu *v, const struct x86_insn *i)
{
	struct x86_state *s = v->s;

	if (fsgs_allowed(v) < 0)
		return -1;
	interp_set_gpr(s, i->op[0].reg, false, i->op[0].size,
		       s->seg[i->id == X86_ID_RDFSBASE ? X86_FS : X86_GS].base);
	return 0;
}

static int exec_wrbase(struct vcpu *v, const struct x86_insn *i)
{
	struct x86_state *s = v->s;
	const uint64_t val = interp_get_gpr(s, i->op[0].reg, false, i->op[0].size);

	if (fsgs_allowed(v) < 0)
		return -1;
	if (!x86_canonical(val))
		return interp_gp0(v);
	s->seg[i->id == X86_ID_WRFSBASE ? X86_FS : X86_GS].base = val;
	return 0;
}

static int exec_swapgs(struct vcpu *v, const struct x86_insn *i)
{
	struct x86_state *s = v->s;
	const uint64_t base = s->seg[X86_GS].base;

	(void)i;
	if (need_cpl0(v) < 0)
		return -1;
	s->seg[X86_GS].base = s->kernel_gs_base;
	s->kernel_gs_base = base;
	return 0;
}

/* ---- hypercalls ---- */

static int exec_vmcall(struct vcpu *v, const struct x86_insn *i)
{
	struct x86_state *s = v->s;
	const uint64_t mask = i->mode == X86_MODE_64 ? ~0ull : 0xffffffffull;
	int64_t r = -KVM_ENOSYS;

	if (s->cpl != 0) {
		r = -KVM_EPERM;
	} else if ((s->gpr[X86_RAX] & mask) == KVM_HC_SCHED_YIELD) {
		sched_yield();
		r = 0;
	}
	s->gpr[X86_RAX] = (uint64_t)r & mask;
	return 0;
}

const struct interp_row interp_sys_rows[] = {
	{ X86_ID_MOV_CR, exec_mov_cr },
	{ X86_ID_MOV_DR, exec_mov_dr },
	{ X86_ID_CLTS, exec_clts },
	{ X86_ID_SMSW, exec_smsw },
	{ X86_ID_LMSW, exec_lmsw },
	{ X86_ID_CLI, exec_cli },
	{ X86_ID_STI, exec_sti },
	{ X86_ID_PUSHF, exec_pushf },
	{ X86_ID_POPF, exec_popf },
	{ X86_ID_HLT, exec_hlt },
	{ X86_ID_STAC, exec_stac_clac },
	{ X86_ID_CLAC, exec_stac_clac },
	{ X86_ID_INVLPG, exec_invlpg },
	{ X86_ID_INVPCID, exec_invpcid },
	{ X86_ID_INVD, exec_wbinvd },
	{ X86_ID_WBINVD, exec_wbinvd },
	{ X86_ID_WBNOINVD, exec_wbinvd },
	{ X86_ID_RDMSR, exec_rdmsr },
	{ X86_ID_WRMSR, exec_wrmsr },
	{ X86_ID_RDTSC, exec_rdtsc },
	{ X86_ID_RDTSCP, exec_rdtscp },
	{ X86_ID_RDPID, exec_rdpid },
	{ X86_ID_RDPMC, exec_rdpmc },
	{ X86_ID_CPUID, exec_cpuid },
	{ X86_ID_XGETBV, exec_xgetbv },
	{ X86_ID_XSETBV, exec_xsetbv },
	{ X86_ID_RDFSBASE, exec_rdbase },
	{ X86_ID_RDGSBASE, exec_rdbase },
	{ X86_ID_WRFSBASE, exec_wrbase },
	{ X86_ID_WRGSBASE, exec_wrbase },
	{ X86_ID_SWAPGS, exec_swapgs },
	{ X86_ID_VMCALL, exec_vmcall },
	{ X86_ID_VMMCALL, exec_vmcall },
	{ X86_ID_SGDT, exec_sgdt },
	{ X86_ID_SIDT, exec_sidt },
	{ X86_ID_LGDT, exec_lgdt },
	{ X86_ID_LIDT, exec_lidt },
	{ X86_ID_SLDT, exec_sldt },
	{ X86_ID_STR, exec_str },
	{ X86_ID_LLDT, exec_lldt },
	{ X86_ID_LTR, exec_ltr },
	{ X86_ID_VERR, exec_verr },
	{ X86_ID_VERW, exec_verw },
	{ X86_ID_LAR, exec_lar },
	{ X86_ID_LSL, exec_lsl },
	{ X86_ID_ARPL, exec_arpl },
	{ X86_ID_MOV_SEG, exec_mov_seg },
	{ X86_ID_PUSH_SEG, exec_push_seg },
	{ X86_ID_POP_SEG, exec_pop_seg },
	{ X86_ID_LES, exec_load_far_ptr },
	{ X86_ID_LDS, exec_load_far_ptr },
	{ X86_ID_LSS, exec_load_far_ptr },
	{ X86_ID_LFS, exec_load_far_ptr },
	{ X86_ID_LGS, exec_load_far_ptr },
	{ X86_ID_JMPF, exec_jmpf },
	{ X86_ID_CALLF, exec_callf },
	{ X86_ID_RETF, exec_retf },
	{ X86_ID_IRET, exec_iret },
	{ X86_ID_INT, exec_int },
	{ X86_ID_INT3, exec_int3 },
	{ X86_ID_INTO, exec_into },
	{ X86_ID_INT1, exec_int1 },
	{ X86_ID_SYSCALL, exec_syscall },
	{ X86_ID_SYSRET, exec_sysret },
	{ X86_ID_SYSENTER, exec_sysenter },
	{ X86_ID_SYSEXIT, exec_sysexit },
	{ X86_ID_IN, exec_in },
	{ X86_ID_OUT, exec_out },
	{ X86_ID_INS, exec_ins },
	{ X86_ID_OUTS, exec_outs },
	{ X86_ID_INVALID, NULL },
};
