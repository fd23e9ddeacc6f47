/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CPUID contract of a VM: what the guest is told, and the feature bits the engines gate on.
 */
#ifndef R3_X86_CPUID_H
#define R3_X86_CPUID_H

#include "x86/insn.h"

struct x86_cpuid_leaf {
	uint32_t leaf, subleaf;
	bool any_subleaf;
	uint32_t eax, ebx, ecx, edx;
};

struct x86_cpuid {
	struct x86_cpuid_leaf leaf[64];
	unsigned count;
	bool feature[X86_FEAT_COUNT]; /* what the table's gate column asks */
	unsigned phys_bits;
	uint64_t tsc_hz;
	uint64_t xcr0_mask;  /* components the guest may enable (subset of the host's) */
	uint32_t xsave_size; /* bytes of the standard-format area for xcr0_mask */
};

struct x86_cpuid_options {
	unsigned vcpus;
	bool invtsc;	 /* show invariant TSC (default) */
	bool hypervisor; /* show the hypervisor bit and the KVM leaf (default) */
};

/* Builds the contract from the host's CPUID masked to what we translate. */
void x86_cpuid_build(struct x86_cpuid *c, const struct x86_cpuid_options *o);

/* Executes CPUID: eax/ecx in, registers out; APIC ids, OSXSAVE and XSAVE sizes follow the vCPU's state. */
void x86_cpuid_query(const struct x86_cpuid *c, const struct x86_state *s, unsigned apic_id,
		     uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

static inline bool x86_has(const struct x86_cpuid *c, enum x86_feature f)
{
	return f == X86_FEAT_NONE || c->feature[f];
}

#endif
