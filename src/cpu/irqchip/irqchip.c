/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interrupt controllers as one thing: creation, routing of lines and MSIs, what engines call.
 * Threads: see irqchip_priv.h. MSI: SDM vol. 3, "Message Signalled Interrupts".
 */
#include "cpu/irqchip/irqchip.h"

#include <errno.h>
#include <stdlib.h>

#include "cpu/irqchip/irqchip_priv.h"

static void region_init(struct mem_region *r, const char *name, gpa_t base,
			const struct mem_io_ops *ops, void *opaque)
{
	r->name = name;
	r->base = base;
	r->size = 4096;
	r->fd = -1;
	r->ops = ops;
	r->opaque = opaque;
}

static int claim(struct irqchip *c, struct loop *loop)
{
	struct mem_map *mem = c->bus->mem;
	int r;

	r = mem_region_add(mem, &c->lapic_region);
	if (r < 0)
		return r;
	r = mem_region_add(mem, &c->ioapic.region);
	if (r < 0)
		goto out_lapic;
	r = pic_claim_ports(c);
	if (r < 0)
		goto out_ioapic;
	r = pit_init(c, loop);
	if (r < 0)
		goto out_pic;
	return 0;
out_pic:
	pic_release_ports(c);
out_ioapic:
	mem_region_remove(mem, &c->ioapic.region);
out_lapic:
	mem_region_remove(mem, &c->lapic_region);
	return r;
}

struct irqchip *irqchip_new(struct bus *bus, struct loop *loop, uint64_t tsc_hz, struct err *e)
{
	struct irqchip *c = calloc(1, sizeof(*c));
	int r;

	if (c == NULL) {
		err_set(e, -ENOMEM, "interrupt controllers: out of memory");
		return NULL;
	}
	c->bus = bus;
	c->tsc_hz = MAX(tsc_hz, (uint64_t)1);
	c->ns_per_tsc = (uint64_t)(((unsigned __int128)1000000000 << 32) / c->tsc_hz);
	pthread_mutex_init(&c->lock, NULL);
	region_init(&c->lapic_region, "lapic", LAPIC_MMIO_BASE, &lapic_mmio_ops, c);
	region_init(&c->ioapic.region, "ioapic", IOAPIC_MMIO_BASE, &ioapic_mmio_ops, c);
	r = claim(c, loop);
	if (r < 0) {
		err_set(e, r, "interrupt controllers: their ports or addresses are taken");
		pthread_mutex_destroy(&c->lock);
		free(c);
		return NULL;
	}
	irqchip_reset(c);
	return c;
}

void irqchip_free(struct irqchip *c)
{
	if (c == NULL)
		return;
	pit_fini(c);
	pic_release_ports(c);
	mem_region_remove(c->bus->mem, &c->ioapic.region);
	mem_region_remove(c->bus->mem, &c->lapic_region);
	for (unsigned i = 0; i < c->cpus; i++) {
		c->cpu[i]->v->lapic = NULL;
		lapic_free(c->cpu[i]);
	}
	pthread_mutex_destroy(&c->lock);
	free(c);
}

int irqchip_add_vcpu(struct irqchip *c, struct vcpu *v)
{
	struct lapic *l;

	if (c->cpus == IRQCHIP_MAX_VCPUS)
		return -ENOSPC;
	l = lapic_new(c, v);
	if (l == NULL)
		return -ENOMEM;
	v->lapic = l;
	c->cpu[c->cpus++] = l;
	return 0;
}

void irqchip_reset(struct irqchip *c)
{
	for (unsigned i = 0; i < c->cpus; i++)
		lapic_reset(c->cpu[i], false);
	pit_reset(c);
	pthread_mutex_lock(&c->lock);
	ioapic_reset(c);
	pic_reset(c);
	pthread_mutex_unlock(&c->lock);
}

void irqchip_set_line(void *opaque, unsigned gsi, int level)
{
	struct irqchip *c = opaque;

	if (gsi >= IOAPIC_PINS)
		return;
	pthread_mutex_lock(&c->lock);
	/* The MADT says so: ISA interrupt 0 is input 2. PIC input 2 is the slave's. */
	if (gsi < 16 && gsi != 2)
		pic_set_line(c, gsi, level != 0);
	ioapic_set_line(c, gsi == 0 ? 2 : gsi, level != 0);
	pthread_mutex_unlock(&c->lock);
}

void irqchip_send_msi(void *opaque, uint64_t addr, uint32_t data)
{
	/* Address bits 11:5 extend the destination to 15 bits where the guest was told so by CPUID. */
	const struct apic_msg m = {
		.dest = (uint32_t)(addr >> 12 & 0xff) | (uint32_t)(addr >> 5 & 0x7f) << 8,
		.logical = addr >> 2 & 1,
		.mode = (uint8_t)(data >> 8 & 7),
		.vector = (uint8_t)data,
		.level = data >> 15 & 1,
	};

	if ((addr & ~0xfffffull) != LAPIC_MMIO_BASE)
		return;
	apic_msg_deliver(opaque, &m);
}

static bool extint_waits(const struct irqchip *c, const struct lapic *l)
{
	return unlikely(atomic_load_explicit(&c->pic_intr, memory_order_acquire)) &&
	       lapic_takes_extint(l);
}

int irqchip_irq_pending(void *opaque, struct vcpu *v)
{
	struct irqchip *c = opaque;
	struct lapic *l = lapic_own(v);
	int vec;

	lapic_timer_poll(l);
	if (extint_waits(c, l)) {
		pthread_mutex_lock(&c->lock);
		vec = pic_peek(c);
		pthread_mutex_unlock(&c->lock);
		return vec;
	}
	return lapic_pending(l);
}

int irqchip_irq_ack(void *opaque, struct vcpu *v)
{
	struct irqchip *c = opaque;
	struct lapic *l = lapic_own(v);
	int vec;

	lapic_timer_poll(l);
	if (extint_waits(c, l)) {
		pthread_mutex_lock(&c->lock);
		vec = pic_ack(c);
		pthread_mutex_unlock(&c->lock);
		return vec;
	}
	vec = lapic_pending(l);
	if (vec < 0)
		return -1;
	atomic_fetch_and(&l->irr[vec >> 6], ~BIT(vec & 63));
	l->isr[vec >> 6] |= BIT(vec & 63);
	return vec;
}
