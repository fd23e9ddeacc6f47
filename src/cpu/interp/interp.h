/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reference engine: executes one guest instruction at a time, every mode, every instruction.
 * Also what the translator calls for whatever it declines. All calls on the vCPU's own thread.
 */
#ifndef R3_CPU_INTERP_INTERP_H
#define R3_CPU_INTERP_INTERP_H

#include "cpu/vcpu.h"
#include "x86/paging.h"

enum interp_result {
	INTERP_OK,	 /* the instruction retired, or an exception was delivered to the guest */
	INTERP_HLT,	 /* HLT retired: s->mp_state is X86_MP_HALTED */
	INTERP_SHUTDOWN, /* triple fault */
	INTERP_STOP, /* nothing more to do now: a repeat instruction was interrupted at an iteration
	                    boundary because v->irq_hint or kick_pending is set */
};

/* Allocates v->interp (caches). 0 or -ENOMEM. */
int interp_open(struct vcpu *v) MUST_CHECK;
void interp_close(struct vcpu *v);

/*
 * Executes exactly one instruction at CS:RIP (one whole repeat string instruction, unless interrupted),
 * or delivers the exception it raises. Handles the STI/MOV SS shadow and TF. Does not deliver interrupts.
 */
enum interp_result interp_step(struct vcpu *v);

/* Executes up to n instructions, stopping early on HLT, shutdown, kick_pending, or irq_hint with IF set. Returns the last result. */
enum interp_result interp_run(struct vcpu *v, uint64_t n);

/*
 * Delivers what waits at this instruction boundary, in architectural priority: INIT, SIPI, NMI, external interrupt (IF,
 * no shadow, TPR; taken through v->io->irq_ack). Wakes X86_MP_HALTED. Returns true if something was delivered.
 * Clears v->irq_hint before looking.
 */
bool interp_deliver_pending(struct vcpu *v);

/* Delivers exception `vec` at the current state (fault semantics: saved RIP = s->rip). Escalates to #DF and shutdown. */
enum interp_result interp_raise(struct vcpu *v, unsigned vec, bool has_error, uint32_t error);
/* #PF: sets CR2, then as above. */
enum interp_result interp_raise_pf(struct vcpu *v, gva_t va, uint32_t error);

/*
 * Linear address → host pointer within the page for a plain RAM page, doing the page walk and setting A/D
 * as an access of kind `acc` (X86_ACC_*) does. *xl describes the mapping. Returns NULL with *pf_error set
 * for a page fault, or NULL with *pf_error == 0 where it is not RAM (MMIO, ROM write, nothing).
 */
uint8_t *interp_resolve(struct vcpu *v, gva_t va, unsigned acc, struct x86_xlat *xl,
			uint32_t *pf_error);

/* Copies code bytes at linear address va; stops short at a page that cannot be fetched. Returns the number of
 * bytes (0: *pf_error is the #PF code). Does not deliver anything. */
unsigned interp_fetch(struct vcpu *v, gva_t va, uint8_t *buf, unsigned n, uint32_t *pf_error);

/* Forgets cached translations of linear addresses / cached decoded instructions of a physical page. */
void interp_tlb_flush(struct vcpu *v, bool global);
void interp_tlb_flush_page(struct vcpu *v, gva_t va);
void interp_code_invalidate(struct vcpu *v, gpa_t gpa, uint64_t len);

#endif
