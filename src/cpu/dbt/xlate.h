/* SPDX-License-Identifier: Apache-2.0 */
/* What the translator's per-class files share: the block being built and the common emissions. */
#ifndef R3_CPU_DBT_XLATE_H
#define R3_CPU_DBT_XLATE_H

#include "cpu/dbt/dbt_priv.h"
#include "x86/cpuid.h"

/* What a jump out of line leads to. */
enum xl_pend_kind { XL_PEND_LINK, XL_PEND_STEP, XL_PEND_IRQ };

struct xlate {
	struct dbt *d;
	struct emit e;
	struct dbt_block *b;
	struct x86_insn i; /* the instruction being translated */
	gva_t va;	   /* its address */
	gva_t next;	   /* of the following one */
	uint32_t mode;
	struct dbt_insn_map *m; /* its side-table row */
	unsigned base; /* host register that XL_MEM adds to S1: S0, or the guest's base register itself */
	enum dbt_fit fit;      /* how its memory operand is known to lie */
	bool rsp_aligned;      /* an access has shown that RSP is a multiple of 8 */
	bool stack_aligned;    /* the next access is aligned if RSP is; consumed by it */
	bool shadow;	       /* the previous instruction was STI: no interrupt before this one */
	struct xlate_pending { /* code for the end of the block */
		uint8_t *rel;  /* jump to it */
		gva_t va;
		enum xl_pend_kind kind;
	} pending[128];
	unsigned npending;
	uint8_t *count_disp; /* displacement that counts the instructions since */
	unsigned count_from; /* number of instructions before it */
	uint32_t written;    /* general registers the block writes */
};

enum xlate_result {
	XLATE_NEXT, /* go on with the following instruction */
	XLATE_END,  /* the block has ended */
	XLATE_STEP, /* nothing was emitted: interp executes it */
	XLATE_STOP, /* emitted, but the block must end after it */
};

/* Host register that holds guest register g, or H_NONE when it lives in memory. */
static inline unsigned xl_home(unsigned g)
{
	if (g == X86_RSP)
		return H_GUEST_RSP;
	return g == X86_R9 || g == X86_R10 || g == X86_R11 || g == X86_R15 ? H_NONE : g;
}

/* Guest register g for reading: its home, or `scratch` after loading it there. */
unsigned xl_read(struct xlate *x, unsigned g, unsigned scratch);
/* dst := guest register g, or guest register g := src. */
void xl_get(struct xlate *x, unsigned dst, unsigned g);
void xl_put(struct xlate *x, unsigned g, unsigned src);

/* S0 := linear address of the memory operand (S1 may be lost). */
void xl_address(struct xlate *x);
/* S0 holds a guest linear address: makes XL_MEM the host address of an access of `size` bytes; S2 is lost. */
void xl_translate(struct xlate *x, unsigned size);
#define XL_MEM HMX(x->base, S1)
/* The memory operand: makes XL_MEM its host address, S0 only if need be. */
void xl_operand(struct xlate *x, unsigned size);

/* State up to here is that before the instruction: what follows commits it. */
void xl_commit(struct xlate *x);

/* May this block jump straight to translations of code at target? */
bool xl_may_link(const struct xlate *x, gva_t target);
void xl_across(struct xlate *x, gva_t target, bool call);
/* The jump whose displacement is at rel shall leave for guest address va. */
void xl_pend(struct xlate *x, uint8_t *rel, gva_t va, enum xl_pend_kind kind);
/* Leaves the block for a known guest address. */
void xl_exit_to(struct xlate *x, gva_t target);
/* Hands the instruction at x->va to interp and ends the block. */
void xl_exit_step(struct xlate *x);
/* Leaves for the run loop, going on at x->next, when an interrupt waits. */
void xl_irq_check(struct xlate *x);
/* mov dword m, v */
void xl_store_imm(struct xlate *x, struct host_mem m, uint32_t v);

/* From here on control may come from elsewhere, or may have left: a new stretch to be counted. */
void xl_count_start(struct xlate *x);

/* One instruction class each. */
enum xlate_result xl_plain(struct xlate *x);
enum xlate_result xl_flow(struct xlate *x);
enum xlate_result xl_stack(struct xlate *x);
enum xlate_result xl_string(struct xlate *x);
enum xlate_result xl_system(struct xlate *x);

#endif
