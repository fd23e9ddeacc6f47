/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the VM: its vCPU threads and what they ask of the loop's thread. */
#ifndef R3_VMM_PRIV_H
#define R3_VMM_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "cpu/engine.h"
#include "vmm/panic.h"
#include "vmm/vmm.h"

enum vmm_phase { VMM_RUN, VMM_PAUSE, VMM_STOP };

struct vmm_cpu {
	struct vcpu v;
	struct x86_state *state; /* what v.s points to until the engine points it elsewhere */
	struct vmm *vmm;
	struct err err; /* why it could not start */
	bool started, parked;
};

/* What waits to be done on the loop's thread. */
#define VMM_WANT_END 1u
#define VMM_WANT_RESET 2u
#define VMM_WANT_PANIC_NOTICE 4u
#define VMM_WANT_ROOM 8u

struct vmm {
	struct vmm_cfg cfg;
	struct loop *loop;
	struct machine *machine;
	const struct cpu_engine *engine;
	void *engine_vm;
	struct vcpu_io io;
	unsigned ncpus;
	struct vmm_cpu *cpu;

	atomic_uint phase;    /* enum vmm_phase */
	pthread_mutex_t lock; /* phase changes, parked, started, panic */
	pthread_cond_t changed;

	atomic_uint want; /* VMM_WANT_* */
	struct loop_work work;
	atomic_uint end; /* enum vmm_end */
	struct err err;	 /* guarded by lock */
	struct panic_scan panic[MACHINE_CONSOLES];
	bool panicked, ended;
	char crash[160], why[160];
	unsigned resets;
	int64_t start_ns;
};

/* threads.c */
int vmm_cpus_start(struct vmm *v, struct err *e) MUST_CHECK;
void vmm_cpus_stop(struct vmm *v);
/* Gets every vCPU thread to look at the phase. */
void vmm_cpus_kick(struct vmm *v);
void vmm_set_phase(struct vmm *v, enum vmm_phase phase);
/* Waits until every vCPU stands still. */
void vmm_cpus_wait_parked(struct vmm *v);

/* Any thread: has `want` handled on the loop's thread. */
void vmm_want(struct vmm *v, unsigned want);
/* Any thread: the host side failed. */
void vmm_fail(struct vmm *v, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
