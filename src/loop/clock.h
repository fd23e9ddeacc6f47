/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clocks everything here goes by, and a switch that puts a made-up one in their place: lockstep runs
 * in virtual time. Any thread may read; who set the virtual clock moves it.
 */
#ifndef R3_LOOP_CLOCK_H
#define R3_LOOP_CLOCK_H

#include <stdatomic.h>

#include "base/base.h"

struct clock_virtual {
	_Atomic int64_t ns;   /* in place of CLOCK_MONOTONIC */
	int64_t epoch_ns;     /* CLOCK_REALTIME is this much ahead */
	_Atomic uint64_t tsc; /* in place of the host's time-stamp counter */
};

int64_t clock_monotonic_ns(void);
int64_t clock_realtime_ns(void);
uint64_t clock_tsc(void);

/* NULL: the host's clocks again. While no vCPU runs. */
void clock_set_virtual(const struct clock_virtual *c);
bool clock_is_virtual(void);

#endif
