/* SPDX-License-Identifier: Apache-2.0 */
/* The CPUID contract: what is hidden, what is consistent, what follows the vCPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

#include "x86/cpuid.h"
#include "x86/cpuid_host.h"

enum { EAX, EBX, ECX, EDX };

static struct x86_cpuid c;
static struct x86_state *s;

static void build(unsigned vcpus, bool invtsc, bool hypervisor)
{
	const struct x86_cpuid_options o = { .vcpus = vcpus,
					     .invtsc = invtsc,
					     .hypervisor = hypervisor };

	x86_cpuid_build(&c, &o);
}

static int setup(void **state)
{
	(void)state;
	s = aligned_alloc(64, ALIGN_UP(sizeof(*s), 64));
	x86_state_reset(s);
	build(4, true, true);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(s);
	return 0;
}

static uint32_t ask(unsigned apic_id, uint32_t leaf, uint32_t sub, unsigned reg)
{
	uint32_t r[4];

	x86_cpuid_query(&c, s, apic_id, leaf, sub, r);
	return r[reg];
}

static void test_hidden(void **state)
{
	(void)state;
	/* AVX-512, MPX, SGX, TSX, PKU, LA57, CET, AMX */
	assert_int_equal(ask(0, 7, 0, EBX) & 0xdc234814u & ~(1u << 13), 0);
	assert_int_equal(ask(0, 7, 0, ECX) & ~0x00400704u, 0);
	assert_int_equal(ask(0, 7, 0, EDX) & ~0x20000010u, 0);
	assert_int_equal(ask(0, 7, 1, EAX), 0);
	/* VMX, MONITOR, VME, SVM */
	assert_int_equal(ask(0, 1, 0, ECX) & (1u << 5 | 1u << 3 | 1u << 15), 0);
	assert_int_equal(ask(0, 1, 0, EDX) & 2, 0);
	assert_int_equal(ask(0, 0x80000001u, 0, ECX) & (1u << 2 | 1u << 23), 0);
	/* XSAVES, and no performance counters */
	assert_int_equal(ask(0, 0xd, 1, EAX) & 8, 0);
	assert_int_equal(ask(0, 0xa, 0, EAX), 0);
	assert_int_equal(ask(0, 0x12345678, 0, EAX), 0);
}

static void test_subset_of_host(void **state)
{
	const struct x86_regs4 h1 = x86_host_cpuid(1, 0), h7 = x86_host_cpuid(7, 0);
	const uint32_t emulated1 = 1u << 17 | 1u << 21 | 1u << 24 | 1u << 31;

	(void)state;
	assert_int_equal(ask(0, 1, 0, ECX) & ~emulated1 & ~h1.ecx, 0);
	assert_int_equal(ask(0, 7, 0, EBX) & ~0x100483u & ~h7.ebx, 0);
	assert_int_equal(ask(0, 7, 0, ECX) & ~0x400004u & ~h7.ecx, 0);
	assert_true(c.phys_bits >= 32 && c.phys_bits <= 40);
	assert_int_equal(ask(0, 0x80000008u, 0, EAX), c.phys_bits | 48u << 8);
}

static void test_gates(void **state)
{
	(void)state;
	assert_true(x86_has(&c, X86_FEAT_NONE));
	assert_true(x86_has(&c, X86_FEAT_SMAP));
	assert_true(x86_has(&c, X86_FEAT_FSGSBASE));
	assert_true(x86_has(&c, X86_FEAT_RDTSCP));
	assert_false(x86_has(&c, X86_FEAT_MONITOR));
	assert_false(x86_has(&c, X86_FEAT_XSAVES));
	assert_int_equal(x86_has(&c, X86_FEAT_AVX2), (ask(0, 7, 0, EBX) >> 5) & 1);
	assert_int_equal(x86_has(&c, X86_FEAT_AVX), (ask(0, 1, 0, ECX) >> 28) & 1);
}

static void test_per_vcpu(void **state)
{
	(void)state;
	assert_int_equal(ask(3, 1, 0, EBX) >> 24, 3);
	assert_int_equal((ask(3, 1, 0, EBX) >> 16) & 0xff, 4);
	assert_int_equal(ask(2, 0xb, 0, EDX), 2);
	assert_int_equal(ask(2, 0xb, 1, EAX), 2);
	assert_int_equal(ask(2, 0xb, 1, EBX), 4);
	assert_int_equal(ask(2, 0xb, 1, ECX), 0x201);
	assert_int_equal(ask(2, 0xb, 7, ECX), 7);
	assert_int_equal(ask(2, 0xb, 7, EBX), 0);
	assert_int_equal(ask(0, 1, 0, ECX) & (1u << 27), 0);
	s->cr4 |= X86_CR4_OSXSAVE;
	assert_int_equal(ask(0, 1, 0, ECX) & (1u << 27), 1u << 27);
}

static void test_xsave_sizes(void **state)
{
	(void)state;
	if (c.xcr0_mask != 7)
		skip();
	assert_int_equal(ask(0, 0xd, 0, EAX), 7);
	assert_int_equal(ask(0, 0xd, 0, EBX), 576);
	assert_int_equal(ask(0, 0xd, 0, ECX), 832);
	s->xcr0 = 7;
	assert_int_equal(ask(0, 0xd, 0, EBX), 832);
	assert_int_equal(ask(0, 0xd, 2, EAX), 256);
	assert_int_equal(ask(0, 0xd, 2, EBX), 576);
	assert_int_equal(c.xsave_size, 832);
}

static void test_hypervisor(void **state)
{
	uint32_t r[4];

	(void)state;
	x86_cpuid_query(&c, s, 0, 0x40000000u, 0, r);
	assert_memory_equal(&r[1], "KVMKVMKVM\0\0\0", 12);
	assert_int_equal(ask(0, 0x40000010u, 0, EAX), c.tsc_hz / 1000);
	assert_true(ask(0, 1, 0, ECX) >> 31);
	build(1, false, false);
	assert_int_equal(ask(0, 0x40000000u, 0, EBX), 0);
	assert_false(ask(0, 1, 0, ECX) >> 31);
	assert_int_equal(ask(0, 0x80000007u, 0, EDX), 0);
	assert_int_equal(ask(0, 1, 0, EDX) & (1u << 28), 0);
}

static void test_tsc(void **state)
{
	const struct timespec wait = { 0, 50000000 };
	struct timespec a, b;
	uint64_t t, ns;
	double ratio;

	(void)state;
	clock_gettime(CLOCK_MONOTONIC, &a);
	t = __rdtsc();
	nanosleep(&wait, NULL);
	clock_gettime(CLOCK_MONOTONIC, &b);
	t = __rdtsc() - t;
	ns = (uint64_t)(b.tv_sec - a.tv_sec) * 1000000000u + (uint64_t)(b.tv_nsec - a.tv_nsec);
	ratio = (double)c.tsc_hz * (double)ns / 1e9 / (double)t;
	assert_true(ratio > 0.98 && ratio < 1.02);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_hidden, setup, teardown),
		cmocka_unit_test_setup_teardown(test_subset_of_host, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gates, setup, teardown),
		cmocka_unit_test_setup_teardown(test_per_vcpu, setup, teardown),
		cmocka_unit_test_setup_teardown(test_xsave_sizes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hypervisor, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tsc, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
