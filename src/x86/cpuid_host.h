/* SPDX-License-Identifier: Apache-2.0 */
/* What the host processor says of itself, for building the guest's CPUID. */
#ifndef R3_X86_CPUID_HOST_H
#define R3_X86_CPUID_HOST_H

#include "base/base.h"

struct x86_regs4 {
	uint32_t eax, ebx, ecx, edx;
};

/* One leaf of the host, zeros beyond what it has. */
struct x86_regs4 x86_host_cpuid(uint32_t leaf, uint32_t subleaf);
/* XCR0 as the host's kernel set it, 0 without XSAVE. */
uint64_t x86_host_xcr0(void);
/* TSC frequency of the host in Hz; measured once per process (25 ms) where CPUID does not tell it. */
uint64_t x86_host_tsc_hz(void);

#endif
