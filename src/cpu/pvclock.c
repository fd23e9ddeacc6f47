/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvmclock as KVM's documentation defines it (struct pvclock_vcpu_time_info and
 * pvclock_wall_clock). System time 0 is where the unadjusted guest TSC is 0, the same for all vCPUs
 * of a VM, so the stable flag holds. Called on the vCPU's own thread.
 */
#include "cpu/pvclock.h"

#include <string.h>

#include "loop/clock.h"
#include "x86/cpuid.h"

#define NS_PER_S 1000000000ull
#define FLAG_TSC_STABLE 1u

struct time_info {
	uint32_t version, pad0;
	uint64_t tsc_timestamp, system_time;
	uint32_t tsc_to_system_mul;
	int8_t tsc_shift;
	uint8_t flags, pad[2];
};

struct wall_clock {
	uint32_t version, sec, nsec;
};

/* ns = ((tsc << shift) * mul) >> 32, with mul in its upper half for precision. */
static void scale(uint64_t hz, int8_t *shift, uint32_t *mul)
{
	uint64_t f = hz;
	int s = 0;

	while (f > 2 * NS_PER_S) {
		f >>= 1;
		s--;
	}
	while (f <= NS_PER_S) {
		f <<= 1;
		s++;
	}
	*shift = (int8_t)s;
	/* NS_PER_S < f ≤ 2 NS_PER_S; the exact frequency again, so that the shift loses nothing */
	*mul = (uint32_t)(s <= 0 ? ((unsigned __int128)NS_PER_S << (32 - s)) / hz
				 : ((unsigned __int128)NS_PER_S << 32) / (hz << s));
}

bool pvclock_write_system_time(struct vcpu *v, uint64_t msr)
{
	struct time_info t = { .version = 2, .flags = FLAG_TSC_STABLE };

	if (!(msr & 1))
		return true;
	t.tsc_timestamp = v->s->tsc_adjust;
	scale(v->cpuid->tsc_hz, &t.tsc_shift, &t.tsc_to_system_mul);
	return mem_copy_in(v->mem, msr & ~1ull, &t, sizeof(t)) == 0;
}

static uint64_t system_time_now(const struct vcpu *v)
{
	const uint64_t tsc = clock_tsc() + v->s->tsc_offset - v->s->tsc_adjust;

	return (uint64_t)((unsigned __int128)tsc * NS_PER_S / v->cpuid->tsc_hz);
}

bool pvclock_write_wall_clock(struct vcpu *v, uint64_t msr)
{
	struct wall_clock w = { .version = 2 };
	const uint64_t boot = (uint64_t)clock_realtime_ns() - system_time_now(v);

	w.sec = (uint32_t)(boot / NS_PER_S);
	w.nsec = (uint32_t)(boot % NS_PER_S);
	return mem_copy_in(v->mem, msr, &w, sizeof(w)) == 0;
}
