/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lockstep: every guest instruction is executed by the translator and by the interpreter, and everything they
 * leave is compared. One vCPU, in virtual time. An engine like the others, but never chosen by itself.
 */
#ifndef R3_CPU_LOCKSTEP_LOCKSTEP_H
#define R3_CPU_LOCKSTEP_LOCKSTEP_H

#include "cpu/engine.h"
#include "loop/loop.h"

struct lockstep_options {
	uint64_t limit;	      /* guest instructions after which the VM ends; 0: none */
	uint64_t plant;	      /* tests: the translation with this number is made wrong; 0: none */
	uint64_t check_every; /* instructions between comparisons of all memory, default 2^20 */
	struct loop *loop; /* the devices'; their callbacks come between blocks only. May be NULL */
};
extern struct lockstep_options lockstep_options;

/* What was done so far; of the last VM that ran. */
struct lockstep_result {
	uint64_t insns;	 /* compared, all in all */
	uint64_t blocks; /* translated blocks executed */
	uint64_t alone;	 /* instructions among them that the translator leaves to interp */
	uint64_t checks; /* comparisons of all memory */
	uint64_t differences;
};
extern struct lockstep_result lockstep_result;

/* Virtual time begins and ends. Before the machine is made; the vCPU does it itself when nobody has. */
void lockstep_time_start(struct loop *loop);
void lockstep_time_end(void);

#endif
