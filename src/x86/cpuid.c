/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds the CPUID contract: vendor and model of the host, features cut down to what the engines
 * translate or emulate, topology of the VM, the KVM paravirtual leaves (SDM vol. 2, CPUID; AMD APM
 * vol. 3, appendix E). Built once before vCPUs run, read-only afterwards.
 */
#include "x86/cpuid.h"

#include <string.h>

#include "x86/cpuid_host.h"
#include "x86/paging.h"

enum { R_EAX, R_EBX, R_ECX, R_EDX };

/* Leaf 1. Passed through where the host has them; the "own" ones are emulated on every host. */
#define L1_ECX_HOST                                                                                \
	(BIT(0) | BIT(1) | BIT(9) | BIT(12) | BIT(13) | BIT(19) | BIT(20) | BIT(22) | BIT(23) |    \
	 BIT(25) | BIT(26) | BIT(28) | BIT(29) | BIT(30))
#define L1_ECX_OWN (BIT(17) | BIT(21) | BIT(24)) /* PCID, x2APIC, TSC deadline */
#define L1_ECX_AVX (BIT(12) | BIT(28) | BIT(29))
#define L1_ECX_HYPERVISOR BIT(31)
/* FPU DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2 */
#define L1_EDX 0x078bfbfdu
#define L1_EDX_HTT BIT(28)
/* Leaf 7. FDP_EXCPTN_ONLY and ZERO_FCS_FDS say how the host's own x87 behaves. */
#define L7_EBX_HOST                                                                                \
	(BIT(3) | BIT(5) | BIT(6) | BIT(8) | BIT(9) | BIT(13) | BIT(18) | BIT(19) | BIT(23) |      \
	 BIT(24) | BIT(29))
#define L7_EBX_OWN                                                                                 \
	(BIT(0) | BIT(1) | BIT(7) | BIT(10) | BIT(20)) /* FSGSBASE TSC_ADJUST SMEP INVPCID SMAP */
#define L7_ECX_HOST (BIT(8) | BIT(9) | BIT(10))	       /* GFNI VAES VPCLMULQDQ */
#define L7_ECX_OWN (BIT(2) | BIT(22))		       /* UMIP RDPID */
#define L7_EDX_HOST BIT(4)			       /* FSRM */
#define L7_EDX_ARCH_CAPS BIT(29)
/* 0x80000001 */
#define X1_ECX_HOST (BIT(0) | BIT(5) | BIT(8)) /* LAHF LZCNT PREFETCHW */
#define X1_ECX_CMP_LEGACY BIT(1)
#define X1_ECX_TOPOEXT BIT(22)
#define X1_EDX (BIT(11) | BIT(20) | BIT(26) | BIT(27) | BIT(29)) /* SYSCALL NX 1G RDTSCP LM */
#define X1_EDX_AMD_COPY 0x0183f3fdu				 /* bits AMD repeats from leaf 1 */
#define X1_EDX_MMXEXT BIT(22)
/* 0x80000008 EBX of AMD: error pointers of FXSAVE, SSB_NO, BTC_NO */
#define X8_EBX_HOST BIT(2)
#define X8_EBX_OWN (BIT(26) | BIT(29))
/* 0x80000021 EAX: no nested data breakpoints, LFENCE serialises, null selectors clear bases, SRSO_NO */
#define X21_EAX (BIT(0) | BIT(2) | BIT(6) | BIT(29))
#define X21_ECX (BIT(1) | BIT(2)) /* TSA_SQ_NO, TSA_L1_NO */
/* KVM: no I/O delay, clocksource by the new MSRs, stable */
#define KVM_FEATURES (BIT(1) | BIT(3) | BIT(24))

#define APIC_BUS_HZ 1000000000u
#define XSAVE_LEGACY 576u
#define XSAVE_YMM 256u

struct build {
	struct x86_cpuid *c;
	const struct x86_cpuid_options *o;
	bool amd, avx;
	unsigned vcpus, apic_bits; /* apic_bits: width of a vCPU's number */
};

static struct x86_cpuid_leaf *find(const struct x86_cpuid *c, uint32_t leaf, uint32_t subleaf)
{
	for (unsigned i = 0; i < c->count; i++) {
		const struct x86_cpuid_leaf *l = &c->leaf[i];

		if (l->leaf == leaf && (l->any_subleaf || l->subleaf == subleaf))
			return (struct x86_cpuid_leaf *)l;
	}
	return NULL;
}

static void add(struct build *b, uint32_t leaf, uint32_t subleaf, struct x86_regs4 r)
{
	struct x86_cpuid *c = b->c;

	BUG_ON(c->count == ARRAY_SIZE(c->leaf));
	c->leaf[c->count++] = (struct x86_cpuid_leaf){ .leaf = leaf,
						       .subleaf = subleaf,
						       .eax = r.eax,
						       .ebx = r.ebx,
						       .ecx = r.ecx,
						       .edx = r.edx };
}

static void add_any(struct build *b, uint32_t leaf, struct x86_regs4 r)
{
	add(b, leaf, 0, r);
	b->c->leaf[b->c->count - 1].any_subleaf = true;
}

static bool vendor_is_amd(const struct x86_regs4 *r)
{
	/* AuthenticAMD, HygonGenuine */
	return r->ebx == 0x68747541 || r->ebx == 0x6f677948;
}

static unsigned bits_for(unsigned n)
{
	unsigned bits = 0;

	while ((1u << bits) < n)
		bits++;
	return bits;
}

/* ---- basic leaves ---- */

static void build_identity(struct build *b)
{
	struct x86_regs4 r = x86_host_cpuid(0, 0);

	r.eax = b->amd ? 0xd : 0x16;
	add_any(b, 0, r);
}

static void build_features(struct build *b)
{
	const struct x86_regs4 h = x86_host_cpuid(1, 0);
	struct x86_regs4 r;

	r.eax = h.eax;
	r.ebx = 8u << 8 | MIN(1u << b->apic_bits, 255u) << 16;
	r.ecx = (uint32_t)((h.ecx & L1_ECX_HOST) | L1_ECX_OWN);
	if (!b->avx)
		r.ecx &= (uint32_t)~L1_ECX_AVX;
	if (b->c->xcr0_mask == 0)
		r.ecx &= (uint32_t)~BIT(26);
	if (b->o->hypervisor)
		r.ecx |= (uint32_t)L1_ECX_HYPERVISOR;
	r.edx = L1_EDX | (b->vcpus > 1 ? (uint32_t)L1_EDX_HTT : 0);
	add_any(b, 1, r);
}

/* Intel's cache descriptors and parameters; sharing as the VM's topology has it. */
static uint32_t cache_sharing(const struct build *b, uint32_t eax)
{
	const unsigned level = (eax >> 5) & 7;
	const uint32_t shared = level >= 3 ? (1u << b->apic_bits) - 1 : 0;

	return (eax & 0x3fffu) | shared << 14;
}

static void build_intel_caches(struct build *b)
{
	add_any(b, 2, x86_host_cpuid(2, 0));
	for (uint32_t sub = 0; sub < 5; sub++) {
		struct x86_regs4 r = x86_host_cpuid(4, sub);

		if ((r.eax & 0x1f) == 0)
			break;
		r.eax = cache_sharing(b, r.eax) | ((1u << b->apic_bits) - 1) << 26;
		add(b, 4, sub, r);
	}
}

static void build_leaf7(struct build *b)
{
	const struct x86_regs4 h = x86_host_cpuid(7, 0);
	struct x86_regs4 r = { 0 };

	r.ebx = (uint32_t)((h.ebx & L7_EBX_HOST) | L7_EBX_OWN);
	r.ecx = (uint32_t)((h.ecx & L7_ECX_HOST) | L7_ECX_OWN);
	r.edx = (uint32_t)(h.edx & L7_EDX_HOST);
	if (!b->avx) {
		r.ebx &= (uint32_t)~BIT(5);
		r.ecx &= (uint32_t) ~(BIT(9) | BIT(10));
	}
	if (!b->amd)
		r.edx |= (uint32_t)L7_EDX_ARCH_CAPS;
	add(b, 7, 0, r);
}

/* Threads are cores: one thread each, all in one package. EDX is the vCPU's own, set when asked. */
static void build_topology(struct build *b)
{
	add(b, 0xb, 0, (struct x86_regs4){ 0, 1, 1u << 8, 0 });
	add(b, 0xb, 1, (struct x86_regs4){ b->apic_bits, b->vcpus, 1 | 2u << 8, 0 });
}

static void build_xsave(struct build *b)
{
	const struct x86_regs4 h1 = x86_host_cpuid(0xd, 1);
	struct x86_cpuid *c = b->c;

	if (c->xcr0_mask == 0)
		return;
	add(b, 0xd, 0,
	    (struct x86_regs4){ (uint32_t)c->xcr0_mask, XSAVE_LEGACY, c->xsave_size, 0 });
	/* XSAVEOPT, XSAVEC, XGETBV with ECX=1 */
	add(b, 0xd, 1, (struct x86_regs4){ h1.eax & 7, XSAVE_LEGACY, 0, 0 });
	if (c->xcr0_mask & X86_XCR0_AVX)
		add(b, 0xd, 2, (struct x86_regs4){ XSAVE_YMM, XSAVE_LEGACY, 0, 0 });
}

static void build_frequency(struct build *b)
{
	const uint32_t khz = (uint32_t)(b->c->tsc_hz / 1000), mhz = khz / 1000;

	/* the "crystal" also clocks the local APIC's timer */
	add_any(b, 0x15, (struct x86_regs4){ 1000000, khz, APIC_BUS_HZ, 0 });
	add_any(b, 0x16, (struct x86_regs4){ mhz, mhz, 100, 0 });
}

static void build_basic(struct build *b)
{
	build_identity(b);
	build_features(b);
	if (!b->amd)
		build_intel_caches(b);
	add_any(b, 6, (struct x86_regs4){ 4, 0, 0, 0 }); /* ARAT */
	build_leaf7(b);
	build_topology(b);
	build_xsave(b);
	if (!b->amd)
		build_frequency(b);
}

/* ---- hypervisor leaves ---- */

static void build_kvm(struct build *b)
{
	add_any(b, 0x40000000u, (struct x86_regs4){ 0x40000010u, 0x4b4d564b, 0x564b4d56, 0x4d });
	add_any(b, 0x40000001u, (struct x86_regs4){ KVM_FEATURES, 0, 0, 0 });
	add_any(b, 0x40000010u,
		(struct x86_regs4){ (uint32_t)(b->c->tsc_hz / 1000), APIC_BUS_HZ / 1000, 0, 0 });
}

/* ---- extended leaves ---- */

static void build_extended_features(struct build *b)
{
	const struct x86_regs4 h = x86_host_cpuid(0x80000001u, 0);
	struct x86_regs4 r = { 0 };

	r.eax = h.eax;
	r.ebx = h.ebx;
	r.ecx = (uint32_t)(h.ecx & X1_ECX_HOST);
	r.edx = X1_EDX;
	if (b->amd) {
		r.ecx |=
			(uint32_t)X1_ECX_TOPOEXT | (b->vcpus > 1 ? (uint32_t)X1_ECX_CMP_LEGACY : 0);
		r.edx |= (L1_EDX & X1_EDX_AMD_COPY) | (uint32_t)X1_EDX_MMXEXT;
	}
	add_any(b, 0x80000001u, r);
}

static void build_sizes(struct build *b)
{
	struct x86_regs4 r = { 0 };

	r.eax = b->c->phys_bits | 48u << 8;
	if (b->amd) {
		r.ebx = (uint32_t)((x86_host_cpuid(0x80000008u, 0).ebx & X8_EBX_HOST) | X8_EBX_OWN);
		r.ecx = (b->vcpus - 1) | b->apic_bits << 12;
	}
	add_any(b, 0x80000008u, r);
}

static void build_amd_topology(struct build *b)
{
	for (uint32_t sub = 0; sub < 5; sub++) {
		struct x86_regs4 r = x86_host_cpuid(0x8000001du, sub);

		if ((r.eax & 0x1f) == 0)
			break;
		r.eax = cache_sharing(b, r.eax);
		add(b, 0x8000001du, sub, r);
	}
	add_any(b, 0x8000001eu, (struct x86_regs4){ 0, 0, 0, 0 });
	add_any(b, 0x80000021u, (struct x86_regs4){ (uint32_t)X21_EAX, 0, (uint32_t)X21_ECX, 0 });
}

static void build_extended(struct build *b)
{
	struct x86_regs4 r = x86_host_cpuid(0x80000000u, 0);

	r.eax = b->amd ? 0x80000021u : 0x80000008u;
	add_any(b, 0x80000000u, r);
	build_extended_features(b);
	for (uint32_t leaf = 0x80000002u; leaf <= 0x80000006u; leaf++)
		add_any(b, leaf, x86_host_cpuid(leaf, 0));
	r = x86_host_cpuid(0x80000007u, 0);
	add_any(b, 0x80000007u,
		(struct x86_regs4){ 0, 0, 0, b->o->invtsc ? r.edx & (uint32_t)BIT(8) : 0 });
	build_sizes(b);
	if (b->amd)
		build_amd_topology(b);
}

/* ---- entry points ---- */

static const struct {
	uint32_t leaf, subleaf;
	uint8_t reg, bit;
} gates[X86_FEAT_COUNT] = {
#define X86_FEAT(name, leaf, subleaf, reg, bit) [X86_FEAT_##name] = { leaf, subleaf, reg, bit },
#include "x86/features.def"
#undef X86_FEAT
};

static void build_gates(struct x86_cpuid *c)
{
	c->feature[X86_FEAT_NONE] = true;
	for (unsigned f = X86_FEAT_NONE + 1; f < X86_FEAT_COUNT; f++) {
		const struct x86_cpuid_leaf *l = find(c, gates[f].leaf, gates[f].subleaf);
		uint32_t r[4] = { 0, 0, 0, 0 };

		if (l != NULL)
			memcpy(r, (const uint32_t[]){ l->eax, l->ebx, l->ecx, l->edx }, sizeof(r));
		c->feature[f] = (r[gates[f].reg] >> gates[f].bit) & 1;
	}
}

static uint32_t xsave_size(uint64_t xcr0)
{
	return xcr0 & X86_XCR0_AVX ? XSAVE_LEGACY + XSAVE_YMM : XSAVE_LEGACY;
}

void x86_cpuid_build(struct x86_cpuid *c, const struct x86_cpuid_options *o)
{
	const struct x86_regs4 vendor = x86_host_cpuid(0, 0);
	const uint64_t avx = X86_XCR0_X87 | X86_XCR0_SSE | X86_XCR0_AVX;
	struct build b = {
		.c = c, .o = o, .amd = vendor_is_amd(&vendor), .vcpus = MAX(o->vcpus, 1u)
	};

	memset(c, 0, sizeof(*c));
	b.apic_bits = bits_for(b.vcpus);
	c->xcr0_mask = x86_host_xcr0() & avx;
	/* the YMM halves must lie where every host so far has them */
	if (x86_host_cpuid(0xd, 2).ebx != XSAVE_LEGACY)
		c->xcr0_mask &= ~X86_XCR0_AVX;
	b.avx = (c->xcr0_mask & avx) == avx && (x86_host_cpuid(1, 0).ecx & BIT(28));
	c->xsave_size = xsave_size(c->xcr0_mask);
	c->phys_bits = x86_phys_bits();
	c->tsc_hz = x86_host_tsc_hz();
	build_basic(&b);
	if (o->hypervisor)
		build_kvm(&b);
	build_extended(&b);
	build_gates(c);
}

/* What depends on the vCPU and its state. */
static void patch(const struct x86_cpuid *c, const struct x86_state *s, unsigned apic_id,
		  uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	switch (leaf) {
	case 1:
		out[R_EBX] = (out[R_EBX] & 0xffffffu) | apic_id << 24;
		if (s->cr4 & X86_CR4_OSXSAVE)
			out[R_ECX] |= (uint32_t)BIT(27);
		if (!(s->apic_base & BIT(11)))
			out[R_EDX] &= (uint32_t)~BIT(9);
		break;
	case 0xb:
		if (subleaf > 1)
			out[R_ECX] = subleaf & 0xff;
		out[R_EDX] = apic_id;
		break;
	case 0xd:
		if (subleaf <= 1 && c->xcr0_mask != 0)
			out[R_EBX] = xsave_size(s->xcr0);
		break;
	case 0x8000001eu:
		out[R_EAX] = apic_id;
		out[R_EBX] = apic_id & 0xff;
		break;
	default: break;
	}
}

void x86_cpuid_query(const struct x86_cpuid *c, const struct x86_state *s, unsigned apic_id,
		     uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	const struct x86_cpuid_leaf *l = find(c, leaf, subleaf);

	memset(out, 0, 4 * sizeof(out[0]));
	if (l != NULL) {
		out[R_EAX] = l->eax;
		out[R_EBX] = l->ebx;
		out[R_ECX] = l->ecx;
		out[R_EDX] = l->edx;
	}
	if (l != NULL || leaf == 0xb)
		patch(c, s, apic_id, leaf, subleaf, out);
}
