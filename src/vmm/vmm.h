/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One VM's life: create, run, pause, reset, end. The thread that calls vmm_run runs the device loop; each
 * vCPU has a thread of its own. Unless said otherwise, functions are for the loop's thread.
 */
#ifndef R3_VMM_VMM_H
#define R3_VMM_VMM_H

#include <stdio.h>

#include "base/err.h"
#include "loop/loop.h"
#include "machine/machine.h"

/* Why a VM ended; also the program's exit status. */
enum vmm_end {
	VMM_END_OFF = 0, /* guest powered off, or rebooted with no_reboot, or was asked to end */
	VMM_END_FAILURE = 2, /* the host side failed */
	VMM_END_CRASH = 3,   /* kernel panic, or triple fault with no_reboot */
	VMM_END_KILLED = 4,  /* ended before the guest had powered off */
};

struct vmm_cfg {
	struct machine_cfg machine;
	const char *engine;	 /* "auto", or a name, strictly */
	uint64_t lockstep_limit; /* engine lockstep: instructions, 0: no limit */
	uint64_t lockstep_plant; /* its tests: number of the translation that is made wrong, 0: none */
	uint64_t dbt_cache;	 /* engine dbt: bytes of code memory */
	bool dbt_count;		 /* count retired instructions, at some cost */
	bool dbt_no_chain, dbt_dump_guest, dbt_dump_host;
	bool no_reboot;
	/* Guest console output, from any thread; must not block for ever. */
	void (*console_out)(void *opaque, enum machine_console which, const uint8_t *buf, size_t n);
	/* The guest can take console input again; loop's thread. May be NULL. */
	void (*console_room)(void *opaque);
	/* A line for the user ("ring3: guest kernel panic: …"), loop's thread. */
	void (*notice)(void *opaque, const char *line);
	void *opaque;
};

struct vmm;

/* Everything short of running: the guest is loaded, its memory and disks are there. */
struct vmm *vmm_create(const struct vmm_cfg *cfg, struct loop *loop, struct err *e) MUST_CHECK;
void vmm_destroy(struct vmm *v);

/* Lets the vCPUs go. */
int vmm_start(struct vmm *v, struct err *e) MUST_CHECK;
/* Runs a started VM until the end; returns why. What went wrong on the host side is in *e. */
enum vmm_end vmm_run(struct vmm *v, struct err *e);

/* Any thread. */
void vmm_quit(struct vmm *v, enum vmm_end why);
void vmm_reset(struct vmm *v);

void vmm_power_button(struct vmm *v);
void vmm_pause(struct vmm *v);
void vmm_resume(struct vmm *v);
bool vmm_paused(const struct vmm *v);
/* Any thread: vCPUs are on their way out. */
bool vmm_stopping(const struct vmm *v);
/* Bytes taken; fewer than n when the guest is not reading. */
size_t vmm_console_in(struct vmm *v, enum machine_console which, const uint8_t *buf, size_t n);
void vmm_print_registers(struct vmm *v, FILE *f);
void vmm_print_status(struct vmm *v, FILE *f);
/* What the guest crashed of, after VMM_END_CRASH. */
const char *vmm_crash_text(const struct vmm *v);
/* Why "auto" did not take a better engine; empty when it took the best. */
const char *vmm_engine_why(const struct vmm *v);
const char *vmm_engine_name(const struct vmm *v);

#endif
