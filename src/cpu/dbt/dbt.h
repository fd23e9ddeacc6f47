/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The binary translator as the outside sees it: engine_dbt (cpu/engine.h) and its switches.
 */
#ifndef R3_CPU_DBT_DBT_H
#define R3_CPU_DBT_DBT_H

#include "cpu/vcpu.h"

struct dbt_options {
	uint64_t cache_size; /* bytes of code memory, default 64 MiB */
	bool no_chain;	     /* every block ends at its first jump and returns to the run loop */
	bool count;	     /* count retired instructions (DBT_RETIRED), at some cost */
	bool dump_guest, dump_host;
	gva_t range_start, range_end; /* dump only blocks starting here; both 0: all */
	bool lockstep;		      /* what tells the time is left to interp */
	bool perf_map;		      /* write /tmp/perf-PID.map */
};
extern struct dbt_options dbt_options;

/*
 * Lockstep support: translates (if need be) and executes one block starting at the current RIP,
 * without chaining. Returns the number of guest instructions that retired; 0 when the translator
 * declines the instruction there (the caller lets interp do it) or the block stopped before its first retired.
 */
unsigned dbt_run_one_block(struct vcpu *v);
/* Has interp execute the instruction at RIP, as the run loop does; enum interp_result. */
int dbt_step_one(struct vcpu *v);
/* Prints guest and host code of the block that dbt_run_one_block ran last, to stderr. */
void dbt_dump_last(struct vcpu *v);
/* Plants a wrong translation for the n-th block translated from now (tests of lockstep); 0: none. */
extern uint64_t dbt_planted_bug;

#endif
