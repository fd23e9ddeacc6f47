/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kvmclock pages: guest time as a linear function of the guest's TSC, which is constant, so a
 * page is written once, when the guest registers it.
 */
#ifndef R3_CPU_PVCLOCK_H
#define R3_CPU_PVCLOCK_H

#include "cpu/vcpu.h"

#define KVM_MSR_WALL_CLOCK 0x4b564d00u
#define KVM_MSR_SYSTEM_TIME 0x4b564d01u

/* Fills the page named by the MSR's value (bit 0: enabled). False: it is not in RAM. */
bool pvclock_write_system_time(struct vcpu *v, uint64_t msr);
bool pvclock_write_wall_clock(struct vcpu *v, uint64_t msr);

#endif
