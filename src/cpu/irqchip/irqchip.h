/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt controllers and the interval timer in software, for interp and dbt: one local APIC per
 * vCPU (xAPIC MMIO and x2APIC MSRs, TSC-deadline timer), an IOAPIC with 24 inputs, two PICs, a PIT.
 *
 * Threads: one mutex per irqchip guards IOAPIC and PIC; each local APIC's IRR is set with atomics from any
 * thread; everything else of a local APIC belongs to its vCPU's thread. Whoever makes an interrupt
 * pending calls vcpu_irq_hint.
 */
#ifndef R3_CPU_IRQCHIP_H
#define R3_CPU_IRQCHIP_H

#include "bus/bus.h"
#include "cpu/vcpu.h"
#include "loop/loop.h"

struct irqchip;

/*
 * Creates the controllers, claims ports 0x20, 0xa0, 0x40–0x43, 0x61, 0x4d0/0x4d1 and MMIO 0xfec00000, 0xfee00000.
 * loop: runs the PIT's timer. tsc_hz: the guest's TSC frequency.
 */
struct irqchip *irqchip_new(struct bus *bus, struct loop *loop, uint64_t tsc_hz,
			    struct err *e) MUST_CHECK;
void irqchip_free(struct irqchip *c);
/* Gives v its local APIC (v->lapic). Before the vCPU runs. */
int irqchip_add_vcpu(struct irqchip *c, struct vcpu *v) MUST_CHECK;
void irqchip_reset(struct irqchip *c);

/* Any thread: what bus.irq calls. GSI 0–23 are IOAPIC pins; 0–15 also the PIC's. opaque is the struct irqchip. */
void irqchip_set_line(void *opaque, unsigned gsi, int level);
void irqchip_send_msi(void *opaque, uint64_t addr, uint32_t data);

/* The functions struct vcpu_io wants (opaque: struct irqchip). irq_pending first polls the vCPU's own timer and the PIC's INTR on LVT0/ExtINT. */
int irqchip_irq_pending(void *opaque, struct vcpu *v);
int irqchip_irq_ack(void *opaque, struct vcpu *v);
int irqchip_apic_rdmsr(void *opaque, struct vcpu *v, uint32_t msr, uint64_t *val);
int irqchip_apic_wrmsr(void *opaque, struct vcpu *v, uint32_t msr, uint64_t val);
uint64_t irqchip_get_tpr(void *opaque, struct vcpu *v);
void irqchip_set_tpr(void *opaque, struct vcpu *v, uint64_t cr8);

/*
 * When the vCPU's local APIC timer next fires, CLOCK_MONOTONIC ns, or INT64_MAX. A halted vCPU sleeps until then.
 * For a running one the local APIC arms a POSIX timer that signals this very thread (SIGEV_THREAD_ID, the engine's
 * kick signal), so that no other thread is involved: lapic_thread_attach is called once on the vCPU's thread.
 */
int64_t irqchip_timer_deadline(const struct vcpu *v);
int lapic_thread_attach(struct vcpu *v, int signo) MUST_CHECK;
void lapic_thread_detach(struct vcpu *v);

#endif
