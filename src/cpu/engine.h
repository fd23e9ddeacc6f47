/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one interface behind which interp, dbt and kvm stand. See DESIGN in docs/ARCHITECTURE.md.
 */
#ifndef R3_CPU_ENGINE_H
#define R3_CPU_ENGINE_H

#include "base/err.h"
#include "cpu/vcpu.h"

enum cpu_exit_reason {
	CPU_EXIT_HLT, /* HLT executed (IF may be 0: only NMI/INIT wakes it) or waiting for SIPI */
	CPU_EXIT_SHUTDOWN, /* triple fault */
	CPU_EXIT_KICKED,
	CPU_EXIT_ERROR, /* host-side failure: msg says what; the VM must end */
	CPU_EXIT_END, /* the engine did what it was asked for (lockstep's count): the VM may end */
};

struct cpu_exit {
	enum cpu_exit_reason reason;
	char msg[160]; /* for ERROR and SHUTDOWN */
};

struct cpu_engine {
	const char *name;   /* "interp" "dbt" "kvm" */
	unsigned max_vcpus; /* 0: no limit of its own */
	/* Can it run on this host? 0, or -errno with the reason in *why. */
	int (*probe)(struct err *why);
	int (*vm_open)(void **vm, struct mem_map *mem, struct err *e);
	void (*vm_close)(void *vm);
	/* v->mem, io, cpuid, index and s (holding the initial state) are set by the caller. */
	int (*vcpu_open)(void *vm, struct vcpu *v, struct err *e);
	void (*vcpu_close)(struct vcpu *v);
	/* Owner thread. Runs until there is a reason to stop; delivers interrupts by itself through v->io. */
	int (*run)(struct vcpu *v, struct cpu_exit *x);
	/* Any thread; kick_pending or irq_hint is already set: get the vCPU to look. */
	void (*kick)(struct vcpu *v);
	/* While the vCPU is stopped. */
	int (*get_state)(struct vcpu *v, struct x86_state *s);
	int (*set_state)(struct vcpu *v, const struct x86_state *s);
};

extern const struct cpu_engine engine_interp, engine_dbt, engine_lockstep;

/* NULL-terminated, in order of preference for "auto", which never reaches lockstep: interp runs everywhere. */
extern const struct cpu_engine *const cpu_engines[];

#endif
