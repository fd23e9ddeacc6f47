/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtual time: the number of instructions, at a fixed pace, plus what was skipped while the guest halted. Every
 * clock a guest can see comes from it. On the vCPU's thread; others only read.
 */
#include "cpu/lockstep/lockstep_priv.h"

#include "x86/cpuid.h"

#define NS_PER_INSN 4
#define START_NS 1000000000ll
#define EPOCH_NS 1700000000000000000ll

static struct clock_virtual virt;
static int64_t skipped_ns;

void lockstep_time_start(struct loop *loop)
{
	atomic_store(&virt.ns, START_NS);
	atomic_store(&virt.tsc, 0);
	skipped_ns = 0;
	virt.epoch_ns = EPOCH_NS;
	lockstep_options.loop = loop;
	clock_set_virtual(&virt);
}

void lockstep_time_end(void)
{
	clock_set_virtual(NULL);
	lockstep_options.loop = NULL;
}

int64_t ls_time_now(const struct lockstep *ls)
{
	return START_NS + (int64_t)ls->ref->insn_count * NS_PER_INSN + skipped_ns;
}

void ls_time_update(struct lockstep *ls)
{
	int64_t now = ls_time_now(ls);
	unsigned __int128 ns = (uint64_t)(now - START_NS);

	atomic_store_explicit(&virt.ns, now, memory_order_relaxed);
	atomic_store_explicit(&virt.tsc, (uint64_t)(ns * ls->ref->cpuid->tsc_hz / 1000000000u),
			      memory_order_relaxed);
}

void ls_time_skip(struct lockstep *ls, int64_t to)
{
	int64_t now = ls_time_now(ls);

	if (to > now)
		skipped_ns += to - now;
	ls_time_update(ls);
}
