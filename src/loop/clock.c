/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the clocks; no locks: the switch is one pointer. */
#include "loop/clock.h"

#include <time.h>
#include <x86intrin.h>

static const struct clock_virtual *_Atomic virtual_clock;

static const struct clock_virtual *get_virtual(void)
{
	return atomic_load_explicit(&virtual_clock, memory_order_relaxed);
}

static int64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t clock_monotonic_ns(void)
{
	const struct clock_virtual *c = get_virtual();

	return unlikely(c != NULL) ? atomic_load_explicit(&c->ns, memory_order_relaxed)
				   : clock_ns(CLOCK_MONOTONIC);
}

int64_t clock_realtime_ns(void)
{
	const struct clock_virtual *c = get_virtual();

	if (unlikely(c != NULL))
		return c->epoch_ns + atomic_load_explicit(&c->ns, memory_order_relaxed);
	return clock_ns(CLOCK_REALTIME);
}

uint64_t clock_tsc(void)
{
	const struct clock_virtual *c = get_virtual();

	return unlikely(c != NULL) ? atomic_load_explicit(&c->tsc, memory_order_relaxed)
				   : __rdtsc();
}

void clock_set_virtual(const struct clock_virtual *c)
{
	atomic_store(&virtual_clock, c);
}

bool clock_is_virtual(void)
{
	return get_virtual() != NULL;
}
