/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model-specific registers (SDM vol. 4; AMD PPR for those of 0xc001xxxx). What CPUID does not
 * announce and no common kernel touches raises #GP. Owner thread only.
 */
#include "base/log.h"
#include "cpu/interp/sys_priv.h"
#include "cpu/pvclock.h"

enum {
	MSR_TSC = 0x10,
	MSR_PLATFORM_ID = 0x17,
	MSR_APIC_BASE = 0x1b,
	MSR_EBL_CR_POWERON = 0x2a,
	MSR_FEATURE_CONTROL = 0x3a,
	MSR_TSC_ADJUST = 0x3b,
	MSR_UCODE_UPDATE = 0x79,
	MSR_UCODE_REV = 0x8b,
	MSR_PLATFORM_INFO = 0xce,
	MSR_MTRR_CAP = 0xfe,
	MSR_ARCH_CAPABILITIES = 0x10a,
	MSR_MISC_FEATURES = 0x140,
	MSR_SYSENTER_CS = 0x174,
	MSR_SYSENTER_ESP,
	MSR_SYSENTER_EIP,
	MSR_MCG_CAP = 0x179,
	MSR_MCG_STATUS = 0x17a,
	MSR_MISC_ENABLE = 0x1a0,
	MSR_DEBUGCTL = 0x1d9,
	MSR_LAST_BRANCH_FROM = 0x1db,
	MSR_LAST_INT_TO = 0x1de,
	MSR_MTRR_BASE0 = 0x200,
	MSR_MTRR_LAST = 0x20f,
	MSR_PAT = 0x277,
	MSR_MTRR_DEF_TYPE = 0x2ff,
	MSR_TSC_DEADLINE = 0x6e0,
	MSR_X2APIC_FIRST = 0x800,
	MSR_X2APIC_LAST = 0x8ff,
};
#define MSR_EFER 0xc0000080u
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_CSTAR 0xc0000083u
#define MSR_SFMASK 0xc0000084u
#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define MSR_TSC_AUX 0xc0000103u

/* RDCL, SKIP_L1DFL, SSB, MDS, PSCHANGE_MC, TAA, SBDR_SSDP, FBSDP, PSDP, GDS, RFDS: not affected. */
#define ARCH_CAPS                                                                                  \
	(BIT(0) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(13) | BIT(14) | BIT(15) |       \
	 BIT(26) | BIT(27))
#define MTRR_CAP (8 | BIT(8) | BIT(10)) /* eight variable ranges, fixed ranges, write-combining */

static int unknown(struct vcpu *v, uint32_t msr, const char *what)
{
	log_debug("interp: %s of unknown MSR %#x at %#llx", what, msr,
		  (unsigned long long)v->s->rip);
	return interp_gp0(v);
}

/* ---- registers that are plain fields ---- */

enum check { CHECK_NONE, CHECK_CANONICAL, CHECK_32BIT };
struct field {
	uint32_t msr;
	uint16_t offset;
	uint8_t check;
};
#define F(msr, member, check)                                                                      \
	{                                                                                          \
		msr, offsetof(struct x86_state, member), check                                     \
	}

static const struct field fields[] = {
	F(MSR_FS_BASE, seg[X86_FS].base, CHECK_CANONICAL),
	F(MSR_GS_BASE, seg[X86_GS].base, CHECK_CANONICAL),
	F(MSR_KERNEL_GS_BASE, kernel_gs_base, CHECK_CANONICAL),
	F(MSR_STAR, star, CHECK_NONE),
	F(MSR_LSTAR, lstar, CHECK_CANONICAL),
	F(MSR_CSTAR, cstar, CHECK_CANONICAL),
	F(MSR_SFMASK, sfmask, CHECK_32BIT),
	F(MSR_TSC_AUX, tsc_aux, CHECK_32BIT),
	F(MSR_SYSENTER_CS, sysenter_cs, CHECK_NONE),
	F(MSR_SYSENTER_ESP, sysenter_esp, CHECK_CANONICAL),
	F(MSR_SYSENTER_EIP, sysenter_eip, CHECK_CANONICAL),
	F(MSR_MISC_ENABLE, misc_enable, CHECK_NONE),
};
#undef F

static const struct field *field_of(uint32_t msr)
{
	for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
		if (fields[i].msr == msr)
			return &fields[i];
	}
	return NULL;
}

static uint64_t *field_at(struct x86_state *s, const struct field *f)
{
	return (uint64_t *)(void *)((char *)s + f->offset);
}

static int field_write(struct vcpu *v, const struct field *f, uint64_t val)
{
	if ((f->check == CHECK_CANONICAL && !x86_canonical(val)) ||
	    (f->check == CHECK_32BIT && val >> 32))
		return interp_gp0(v);
	*field_at(v->s, f) = val;
	return 0;
}

/* ---- memory types ---- */

static uint64_t *mtrr_at(struct x86_state *s, uint32_t msr)
{
	if (msr == MSR_MTRR_DEF_TYPE)
		return &s->mtrr.def_type;
	if (msr >= MSR_MTRR_BASE0 && msr <= MSR_MTRR_LAST) {
		const unsigned n = (msr - MSR_MTRR_BASE0) / 2;

		return msr & 1 ? &s->mtrr.phys_mask[n] : &s->mtrr.phys_base[n];
	}
	if (msr == 0x250)
		return &s->mtrr.fix[0];
	if (msr == 0x258 || msr == 0x259)
		return &s->mtrr.fix[msr - 0x257];
	if (msr >= 0x268 && msr <= 0x26f)
		return &s->mtrr.fix[msr - 0x268 + 3];
	return NULL;
}

/* UC WC WT WP WB, and UC- in the PAT. */
static bool type_ok(unsigned t, bool pat)
{
	return t == 0 || t == 1 || (t >= 4 && t <= 6) || (pat && t == 7);
}

static bool eight_types_ok(uint64_t val, bool pat)
{
	for (unsigned i = 0; i < 8; i++) {
		if (!type_ok((unsigned)(val >> (8 * i)) & 0xff, pat))
			return false;
	}
	return true;
}

static int mtrr_write(struct vcpu *v, uint32_t msr, uint64_t *at, uint64_t val)
{
	const uint64_t beyond = ~(BIT(x86_phys_bits()) - 1);
	bool ok;

	if (msr == MSR_MTRR_DEF_TYPE)
		ok = !(val & ~0xcffull) && type_ok((unsigned)val & 0xff, false);
	else if (msr >= MSR_MTRR_BASE0 && msr <= MSR_MTRR_LAST)
		ok = msr & 1 ? !(val & (beyond | 0x7ff))
			     : !(val & (beyond | 0xf00)) && type_ok((unsigned)val & 0xff, false);
	else
		ok = eight_types_ok(val, false);
	if (!ok)
		return interp_gp0(v);
	*at = val;
	return 0;
}

/* ---- time ---- */

static int tsc_write(struct vcpu *v, uint64_t delta)
{
	struct x86_state *s = v->s;

	s->tsc_offset += delta;
	s->tsc_adjust += delta;
	(void)pvclock_write_system_time(v, interp_of(v)->kvm_system_time);
	return 0;
}

static bool kvm_clock_shown(const struct vcpu *v)
{
	return sys_cpuid_bit(v, 0x40000001, 0, 0, 3);
}

static int kvm_write(struct vcpu *v, uint32_t msr, uint64_t val)
{
	struct interp *it = interp_of(v);

	if (!kvm_clock_shown(v))
		return unknown(v, msr, "write");
	if (msr == KVM_MSR_WALL_CLOCK) {
		it->kvm_wall_clock = val;
		return pvclock_write_wall_clock(v, val) ? 0 : interp_gp0(v);
	}
	if (!pvclock_write_system_time(v, val))
		return interp_gp0(v);
	it->kvm_system_time = val;
	return 0;
}

/* ---- what only reads, or whose writes mean nothing here ---- */

static bool apic_msr(uint32_t msr)
{
	return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE ||
	       (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST);
}

/* AMD registers common kernels look at; writes to them are accepted and dropped. */
static bool amd_constant(uint32_t msr, uint64_t *val)
{
	*val = 0;
	switch (msr) {
	case 0xc0010015: /* HWCR: the TSC counts at the P0 frequency */ *val = BIT(24); return true;
	case 0xc0011029: /* DE_CFG: LFENCE serialises */ *val = BIT(1); return true;
	case 0xc0010114: /* VM_CR: SVM disabled */ *val = BIT(4); return true;
	case 0xc0010010: /* SYSCFG */
	case 0xc001001a: /* TOP_MEM */
	case 0xc001001d: /* TOP_MEM2 */
	case 0xc001001f: /* NB_CFG */
	case 0xc0010055: /* interrupt pending */
	case 0xc0010058: /* MMIO configuration base */
	case 0xc0010111: /* SMBASE */
	case 0xc0010112: /* SMM address */
	case 0xc0010113: /* SMM mask */
	case 0xc0010140: /* OSVW length: nothing */
	case 0xc0010141: /* OSVW status */
	case 0xc0011020: /* LS_CFG */
	case 0xc0011021: /* IC_CFG */
	case 0xc0011022: /* DC_CFG */
	case 0xc0011023: /* BU_CFG */
	case 0xc001102a: /* BU_CFG2 */ return true;
	default: return false;
	}
}

static bool constant(struct vcpu *v, uint32_t msr, uint64_t *val)
{
	const bool amd = sys_is_amd(v);

	*val = 0;
	switch (msr) {
	case MSR_UCODE_REV: *val = amd ? 0x01000065 : 1ull << 32; return true;
	case MSR_MTRR_CAP: *val = MTRR_CAP; return true;
	case MSR_ARCH_CAPABILITIES: *val = ARCH_CAPS; return sys_cpuid_bit(v, 7, 0, 3, 29);
	case MSR_FEATURE_CONTROL:
		*val = 1; /* locked */
		return !amd;
	case MSR_PLATFORM_ID:
	case MSR_EBL_CR_POWERON:
	case MSR_PLATFORM_INFO:
	case MSR_MCG_CAP:
	case MSR_MCG_STATUS:
	case MSR_DEBUGCTL: return true;
	default:
		if (msr >= MSR_LAST_BRANCH_FROM && msr <= MSR_LAST_INT_TO)
			return true;
		return amd && amd_constant(msr, val);
	}
}

/* Constants that may be written: microcode, debug control, machine check status, AMD's. */
static bool write_ignored(struct vcpu *v, uint32_t msr)
{
	uint64_t dummy;

	if (msr == MSR_UCODE_UPDATE || msr == MSR_UCODE_REV || msr == MSR_MCG_STATUS ||
	    msr == MSR_DEBUGCTL)
		return true;
	return sys_is_amd(v) && amd_constant(msr, &dummy);
}

/* ---- entry points ---- */

int interp_rdmsr(struct vcpu *v, uint32_t msr, uint64_t *val)
{
	struct x86_state *s = v->s;
	const struct field *f = field_of(msr);
	const uint64_t *p = mtrr_at(s, msr);

	if (f != NULL)
		p = field_at(s, f);
	if (p != NULL) {
		*val = *p;
		return 0;
	}
	if (apic_msr(msr))
		return v->io->apic_rdmsr(v->io->opaque, v, msr, val) < 0 ? interp_gp0(v) : 0;
	switch (msr) {
	case MSR_EFER: *val = s->efer; return 0;
	case MSR_PAT: *val = s->pat; return 0;
	case MSR_TSC: *val = sys_tsc(v); return 0;
	case MSR_TSC_ADJUST: *val = s->tsc_adjust; return 0;
	case KVM_MSR_WALL_CLOCK:
	case KVM_MSR_SYSTEM_TIME:
		*val = msr == KVM_MSR_WALL_CLOCK ? interp_of(v)->kvm_wall_clock
						 : interp_of(v)->kvm_system_time;
		return kvm_clock_shown(v) ? 0 : unknown(v, msr, "read");
	default: return constant(v, msr, val) ? 0 : unknown(v, msr, "read");
	}
}

int interp_wrmsr(struct vcpu *v, uint32_t msr, uint64_t val)
{
	struct x86_state *s = v->s;
	const struct field *f = field_of(msr);
	uint64_t *p = mtrr_at(s, msr);

	if (f != NULL)
		return field_write(v, f, val);
	if (p != NULL)
		return mtrr_write(v, msr, p, val);
	if (apic_msr(msr))
		return v->io->apic_wrmsr(v->io->opaque, v, msr, val) < 0 ? interp_gp0(v) : 0;
	switch (msr) {
	case MSR_EFER: return sys_write_efer(v, val);
	case MSR_PAT:
		if (!eight_types_ok(val, true))
			return interp_gp0(v);
		s->pat = val;
		return 0;
	case MSR_TSC: return tsc_write(v, val - sys_tsc(v));
	case MSR_TSC_ADJUST: return tsc_write(v, val - s->tsc_adjust);
	case KVM_MSR_WALL_CLOCK:
	case KVM_MSR_SYSTEM_TIME: return kvm_write(v, msr, val);
	default: return write_ignored(v, msr) ? 0 : unknown(v, msr, "write");
	}
}
