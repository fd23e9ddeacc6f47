/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupt controllers with a few vCPUs that never run, for the tests of src/cpu/irqchip. */
#ifndef R3_TESTS_CPU_IRQCHIP_FIXTURE_H
#define R3_TESTS_CPU_IRQCHIP_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <x86intrin.h>

#include "cpu/engine.h"
#include "cpu/irqchip/irqchip.h"

enum { FIX_CPUS = 3 };
/* Faster than any host: what is computed from it comes out too early and must be corrected. */
#define FIX_TSC_HZ 16000000000ull
#define APIC_PAGE 0xfee00000ull
#define IOAPIC_PAGE 0xfec00000ull

struct fixture {
	struct mem_map *mem;
	struct bus *bus;
	struct loop *loop;
	struct irqchip *chip;
	struct cpu_engine engine;
	struct vcpu v[FIX_CPUS];
	struct x86_state *s[FIX_CPUS];
	atomic_uint kicks;
};

static struct fixture *fix; /* the fixture of the running test */

static void fix_kick(struct vcpu *v)
{
	(void)v;
	fix->kicks++;
}

static int fix_setup(void **state)
{
	struct err e;

	fix = calloc(1, sizeof(*fix));
	fix->mem = mem_map_new();
	fix->bus = bus_new(fix->mem);
	fix->loop = loop_new(&e);
	fix->chip = irqchip_new(fix->bus, fix->loop, FIX_TSC_HZ, &e);
	fix->engine.kick = fix_kick;
	assert_non_null(fix->chip);
	for (unsigned i = 0; i < FIX_CPUS; i++) {
		struct vcpu *v = &fix->v[i];

		fix->s[i] = aligned_alloc(64, ALIGN_UP(sizeof(struct x86_state), 64u));
		*fix->s[i] = (struct x86_state){ .rip = 0 };
		v->s = fix->s[i];
		v->index = v->apic_id = i;
		v->engine = &fix->engine;
		assert_int_equal(irqchip_add_vcpu(fix->chip, v), 0);
	}
	vcpu_self = &fix->v[0];
	*state = fix;
	return 0;
}

static int fix_teardown(void **state)
{
	(void)state;
	irqchip_free(fix->chip);
	loop_free(fix->loop);
	bus_free(fix->bus);
	mem_map_free(fix->mem);
	for (unsigned i = 0; i < FIX_CPUS; i++)
		free(fix->s[i]);
	free(fix);
	vcpu_self = NULL;
	return 0;
}

/* Local APIC register of the current vCPU, by MMIO offset. */
static inline uint32_t apic_rd(unsigned off)
{
	return (uint32_t)mem_load(fix->mem, APIC_PAGE + off, 4);
}
static inline void apic_wr(unsigned off, uint32_t val)
{
	mem_store(fix->mem, APIC_PAGE + off, val, 4);
}
static inline int msr_wr(uint32_t msr, uint64_t val)
{
	return irqchip_apic_wrmsr(fix->chip, vcpu_self, msr, val);
}
static inline int msr_rd(uint32_t msr, uint64_t *val)
{
	return irqchip_apic_rdmsr(fix->chip, vcpu_self, msr, val);
}
static inline void ioapic_wr(unsigned reg, uint32_t val)
{
	mem_store(fix->mem, IOAPIC_PAGE, reg, 4);
	mem_store(fix->mem, IOAPIC_PAGE + 0x10, val, 4);
}
static inline uint32_t ioapic_rd(unsigned reg)
{
	mem_store(fix->mem, IOAPIC_PAGE, reg, 4);
	return (uint32_t)mem_load(fix->mem, IOAPIC_PAGE + 0x10, 4);
}
static inline void outb(uint16_t port, uint8_t val)
{
	bus_pio_write(fix->bus, port, val, 1);
}
static inline uint8_t inb(uint16_t port)
{
	return (uint8_t)bus_pio_read(fix->bus, port, 1);
}
static inline int pending(unsigned cpu)
{
	return irqchip_irq_pending(fix->chip, &fix->v[cpu]);
}
static inline int ack(unsigned cpu)
{
	return irqchip_irq_ack(fix->chip, &fix->v[cpu]);
}
static inline void on_cpu(unsigned cpu)
{
	vcpu_self = &fix->v[cpu];
}
/* Software-enables every local APIC, spurious vector 0xff; leaves CPU 0 current. */
static inline void enable_all(void)
{
	for (unsigned i = 0; i < FIX_CPUS; i++) {
		on_cpu(i);
		apic_wr(0xf0, 0x1ff);
	}
	on_cpu(0);
}
static inline void msi(unsigned dest, unsigned vec)
{
	irqchip_send_msi(fix->chip, APIC_PAGE | dest << 12, vec);
}
/* All CPUs to x2APIC mode, enabled. */
static inline void x2apic_all(void)
{
	for (unsigned i = 0; i < FIX_CPUS; i++) {
		uint64_t base;

		on_cpu(i);
		assert_int_equal(msr_rd(0x1b, &base), 0);
		assert_int_equal(msr_wr(0x1b, base | 0xc00), 0);
		assert_int_equal(msr_wr(0x80f, 0x1ff), 0);
	}
	on_cpu(0);
}

#endif
