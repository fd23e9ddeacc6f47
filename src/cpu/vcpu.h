/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One virtual CPU as engines and the run loop see it.
 * Owned by its thread; only vcpu_kick, and the irqchip's flags, are touched by others.
 */
#ifndef R3_CPU_VCPU_H
#define R3_CPU_VCPU_H

#include <pthread.h>
#include <stdatomic.h>

#include "mem/mem.h"
#include "x86/insn.h"
#include "x86/state.h"

struct cpu_engine;
struct vcpu;

/*
 * What the outside does for a software CPU. Called on the vCPU's thread, synchronously, from inside
 * engine->run; the KVM engine's run loop calls the same functions for its exits. MMIO goes through
 * the memory map (mem_load, mem_store).
 */
struct vcpu_io {
	void *opaque;
	uint32_t (*pio_read)(void *opaque, uint16_t port, unsigned size);
	void (*pio_write)(void *opaque, uint16_t port, uint32_t val, unsigned size);
	/* Local APIC of this vCPU; all on the vCPU's own thread except where irqchip.h says otherwise. */
	int (*irq_pending)(
		void *opaque,
		struct vcpu *v); /* vector that may be delivered now (TPR applied), or -1 */
	int (*irq_ack)(void *opaque, struct vcpu *v); /* takes it: vector, or -1 (spurious: gone) */
	/* x2APIC MSRs 0x800..0x8ff and APIC_BASE/TSC_DEADLINE: 0, or -1 for #GP */
	int (*apic_rdmsr)(void *opaque, struct vcpu *v, uint32_t msr, uint64_t *val);
	int (*apic_wrmsr)(void *opaque, struct vcpu *v, uint32_t msr, uint64_t val);
	uint64_t (*get_tpr)(void *opaque, struct vcpu *v); /* CR8 */
	void (*set_tpr)(void *opaque, struct vcpu *v, uint64_t cr8);
};

/* CPUID contract: built once per VM (x86/cpuid.h), read by CPUID and by feature gates. */
struct x86_cpuid;

/*
 * Hooks by which an engine built on interp hears of what interp did to the state.
 * dbt fills them; plain interp leaves them NULL.
 */
struct vcpu_hooks {
	void (*tlb_flush)(struct vcpu *v,
			  bool global); /* CR0/CR4/EFER paging bits changed (global) */
	void (*tlb_flush_page)(struct vcpu *v, gva_t va); /* INVLPG */
	void (*tlb_flush_pcid)(struct vcpu *v, unsigned type, uint64_t pcid,
			       gva_t va); /* INVPCID, SDM type numbers */
	void (*cr3_load)(
		struct vcpu *v, uint64_t old_cr3,
		bool keep); /* after s->cr3 changed; keep: bit 63 with PCIDE, else it flushes */
	/* RAM was written at [gpa, gpa+len) by interp: translated code there is stale. */
	void (*ram_written)(struct vcpu *v, gpa_t gpa, unsigned len);
	/* Lockstep's: an accessed or dirty bit was set in a page-table entry; MMIO and random numbers from elsewhere. */
	void (*entry_marked)(struct vcpu *v, gpa_t gpa, unsigned size);
	uint64_t (*mmio_read)(struct vcpu *v, gpa_t gpa, unsigned size);
	void (*mmio_write)(struct vcpu *v, gpa_t gpa, uint64_t val, unsigned size);
	uint64_t (*random)(struct vcpu *v);
};

struct vcpu {
	struct x86_state *s; /* the live state; engines may point it at memory of their own */
	unsigned index;	     /* 0.. */
	unsigned apic_id;
	struct mem_map *mem;
	const struct vcpu_io *io;
	const struct x86_cpuid *cpuid;
	const struct cpu_engine *engine;
	struct vcpu_hooks hooks;
	void *vm;	   /* the engine's VM */
	void *engine_priv; /* the engine's vCPU */
	void *interp;	   /* interp's caches (every software engine has one) */
	void *lapic;	   /* irqchip's */
	pthread_t thread;

	/* Set (then kicked) by others; read by engines at boundaries. */
	atomic_uint kick_pending; /* leave run() with EXIT_KICKED */
	atomic_uint
		irq_hint; /* "look at irq_pending": an interrupt, NMI, INIT or SIPI may be waiting */
	atomic_uint init_pending, sipi_pending; /* sipi_pending: vector | 0x100 */

	uint64_t insn_count; /* guest instructions retired (interp exactly; dbt in lockstep) */
};

/* Any thread: makes engine->run return soon with CPU_EXIT_KICKED. */
void vcpu_kick(struct vcpu *v);
/* Any thread: an interrupt may be waiting; wakes a halted vCPU and stops generated code at a boundary. */
void vcpu_irq_hint(struct vcpu *v);

/* The vCPU that the calling thread runs, or NULL (the local APIC's MMIO page needs it). */
extern __thread struct vcpu *vcpu_self;

#endif
