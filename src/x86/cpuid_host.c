/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host side of the CPUID contract: raw leaves, XCR0, TSC frequency. Any thread; the frequency is
 * measured under pthread_once.
 */
#include "x86/cpuid_host.h"

#include <cpuid.h>
#include <pthread.h>
#include <time.h>
#include <x86intrin.h>

struct x86_regs4 x86_host_cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct x86_regs4 r = { 0, 0, 0, 0 };

	__cpuid(leaf & 0xc0000000u, r.eax, r.ebx, r.ecx, r.edx);
	if (r.eax < leaf || (r.eax ^ leaf) >> 30)
		return (struct x86_regs4){ 0, 0, 0, 0 };
	__cpuid_count(leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx);
	return r;
}

uint64_t x86_host_xcr0(void)
{
	uint32_t lo, hi;

	if (!(x86_host_cpuid(1, 0).ecx & BIT(27)))
		return 0;
	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return lo | (uint64_t)hi << 32;
}

/* ---- TSC frequency ---- */

struct sample {
	uint64_t tsc, ns;
};

/* Both clocks at one moment: the tightest of several tries. */
static struct sample take_sample(void)
{
	struct sample best = { 0, 0 };
	uint64_t width = UINT64_MAX;

	for (unsigned i = 0; i < 16; i++) {
		struct timespec ts;
		const uint64_t before = __rdtsc();
		uint64_t after;

		clock_gettime(CLOCK_MONOTONIC, &ts);
		after = __rdtsc();
		if (after - before < width) {
			width = after - before;
			best.tsc = before + width / 2;
			best.ns = (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
		}
	}
	return best;
}

static uint64_t calibrate(void)
{
	const struct timespec wait = { 0, 25000000 };
	struct sample a, b;

	do {
		a = take_sample();
		nanosleep(&wait, NULL);
		b = take_sample();
	} while (b.ns - a.ns < 20000000);
	return (uint64_t)((unsigned __int128)(b.tsc - a.tsc) * 1000000000ull / (b.ns - a.ns));
}

static uint64_t told_by_cpuid(void)
{
	const struct x86_regs4 crystal = x86_host_cpuid(0x15, 0);
	const bool guest = x86_host_cpuid(1, 0).ecx & BIT(31);

	if (crystal.eax != 0 && crystal.ebx != 0 && crystal.ecx != 0)
		return (uint64_t)crystal.ecx * crystal.ebx / crystal.eax;
	if (guest && x86_host_cpuid(0x40000000u, 0).eax >= 0x40000010u) {
		uint32_t r[4];

		__cpuid_count(0x40000010u, 0, r[0], r[1], r[2], r[3]);
		return r[0] * 1000ull;
	}
	return 0;
}

static pthread_once_t tsc_once = PTHREAD_ONCE_INIT;
static uint64_t tsc_hz;

static void tsc_find(void)
{
	tsc_hz = told_by_cpuid();
	if (tsc_hz < 100000000ull || tsc_hz > 20000000000ull)
		tsc_hz = calibrate();
}

uint64_t x86_host_tsc_hz(void)
{
	pthread_once(&tsc_once, tsc_find);
	return tsc_hz;
}
