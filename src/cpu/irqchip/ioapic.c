/* SPDX-License-Identifier: Apache-2.0 */
/*
 * I/O APIC with 24 inputs, version 0x20 (it has the EOI register). Intel 82093AA data sheet and
 * the ICH9 chapter "Advanced Programmable Interrupt Controller". All under irqchip.lock.
 *
 * Polarity is ignored: a line is asserted or not. An edge while the entry is masked is lost, as in the
 * hardware; a level is not.
 */
#include "cpu/irqchip/irqchip_priv.h"

enum { REG_ID, REG_VERSION, REG_ARBITRATION, REG_TABLE = 0x10 };
enum { OFF_SELECT = 0x00, OFF_WINDOW = 0x10, OFF_EOI = 0x40 };

#define VERSION_VALUE (0x20u | (IOAPIC_PINS - 1) << 16)
#define ENTRY_REMOTE_IRR BIT(14)
#define ENTRY_LEVEL BIT(15)
#define ENTRY_MASKED BIT(16)
#define ENTRY_WRITABLE 0xffff00000001afffull

static unsigned entry_mode(uint64_t e)
{
	return (unsigned)(e >> 8) & 7;
}

static struct apic_msg entry_msg(uint64_t e)
{
	return (struct apic_msg){
		/* bits 48-54 extend the destination as in MSIs */
		.dest = (uint32_t)(e >> 56) | (uint32_t)(e >> 48 & 0x7f) << 8,
		.logical = e >> 11 & 1,
		.level = (e & ENTRY_LEVEL) != 0,
		.mode = (uint8_t)entry_mode(e),
		.vector = (uint8_t)e,
	};
}

static void send(struct irqchip *c, unsigned pin)
{
	uint64_t *e = &c->ioapic.entry[pin];
	const struct apic_msg m = entry_msg(*e);

	if (m.mode == APIC_EXTINT)
		return; /* the PIC's output is looked at by level: see update_extint */
	if (m.level && m.mode <= APIC_LOWEST)
		*e |= ENTRY_REMOTE_IRR;
	apic_msg_deliver(c, &m);
}

/* A level-triggered input that is asserted and not yet being handled. */
static void service_level(struct irqchip *c, unsigned pin)
{
	const uint64_t e = c->ioapic.entry[pin];

	if ((e & ENTRY_LEVEL) && !(e & (ENTRY_MASKED | ENTRY_REMOTE_IRR)) &&
	    (c->ioapic.line >> pin & 1))
		send(c, pin);
}

void ioapic_set_line(struct irqchip *c, unsigned pin, bool level)
{
	const uint32_t bit = 1u << pin;
	const bool was = c->ioapic.line & bit;

	if (level == was)
		return;
	c->ioapic.line ^= bit;
	if (!level)
		return;
	if (c->ioapic.entry[pin] & ENTRY_LEVEL)
		service_level(c, pin);
	else if (!(c->ioapic.entry[pin] & ENTRY_MASKED))
		send(c, pin);
}

/* Input 0 is the PIC's output: with mode ExtINT it reaches the CPUs the entry names. */
static void update_extint(struct irqchip *c)
{
	const uint64_t e = c->ioapic.entry[0];
	const bool on = !(e & ENTRY_MASKED) && entry_mode(e) == APIC_EXTINT;
	const struct apic_msg m = entry_msg(e);

	for (unsigned i = 0; i < c->cpus; i++) {
		struct lapic *l = c->cpu[i];
		const bool takes = on && lapic_matches(l, &m);

		atomic_store(&l->ioapic_extint, takes);
		if (takes && atomic_load(&c->pic_intr))
			vcpu_irq_hint(l->v);
	}
}

static void eoi_locked(struct irqchip *c, unsigned vector)
{
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t *e = &c->ioapic.entry[pin];

		if ((*e & 0xff) != vector || !(*e & ENTRY_LEVEL) || !(*e & ENTRY_REMOTE_IRR))
			continue;
		*e &= ~ENTRY_REMOTE_IRR;
		service_level(c, pin);
	}
}

void ioapic_eoi(struct irqchip *c, unsigned vector)
{
	pthread_mutex_lock(&c->lock);
	eoi_locked(c, vector);
	pthread_mutex_unlock(&c->lock);
}

void ioapic_reset(struct irqchip *c)
{
	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		c->ioapic.entry[i] = ENTRY_MASKED;
	c->ioapic.id = 0;
	c->ioapic.select = 0;
	update_extint(c);
}

static void write_entry(struct irqchip *c, unsigned index, uint32_t val)
{
	const unsigned pin = index >> 1, shift = index & 1 ? 32 : 0;
	uint64_t *e = &c->ioapic.entry[pin];
	const uint64_t half = (uint64_t)UINT32_MAX << shift;
	const uint64_t wr = ENTRY_WRITABLE & half;

	*e = (*e & ~wr) | (((uint64_t)val << shift) & wr);
	if (!(*e & ENTRY_LEVEL)) /* how old drivers get rid of a stuck remote IRR */
		*e &= ~ENTRY_REMOTE_IRR;
	if (pin == 0)
		update_extint(c);
	service_level(c, pin);
}

static void write_reg(struct irqchip *c, uint32_t val)
{
	const unsigned reg = c->ioapic.select;

	if (reg == REG_ID)
		c->ioapic.id = val & 0x0f000000u;
	else if (reg >= REG_TABLE && reg < REG_TABLE + 2 * IOAPIC_PINS)
		write_entry(c, reg - REG_TABLE, val);
}

static uint32_t read_reg(const struct irqchip *c)
{
	const unsigned reg = c->ioapic.select;

	if (reg == REG_ID || reg == REG_ARBITRATION)
		return c->ioapic.id;
	if (reg == REG_VERSION)
		return VERSION_VALUE;
	if (reg >= REG_TABLE && reg < REG_TABLE + 2 * IOAPIC_PINS)
		return (uint32_t)(c->ioapic.entry[(reg - REG_TABLE) >> 1] >> (reg & 1 ? 32 : 0));
	return 0;
}

static uint64_t mmio_read(void *opaque, uint64_t off, unsigned size)
{
	struct irqchip *c = opaque;
	uint32_t val = 0;

	(void)size;
	pthread_mutex_lock(&c->lock);
	if (off == OFF_SELECT)
		val = c->ioapic.select;
	else if ((off & ~3ull) == OFF_WINDOW)
		val = read_reg(c) >> (8 * (off & 3));
	pthread_mutex_unlock(&c->lock);
	return val;
}

static void mmio_write(void *opaque, uint64_t off, uint64_t val, unsigned size)
{
	struct irqchip *c = opaque;

	pthread_mutex_lock(&c->lock);
	if (off == OFF_SELECT)
		c->ioapic.select = (uint8_t)val;
	else if (off == OFF_WINDOW && size >= 4)
		write_reg(c, (uint32_t)val);
	else if (off == OFF_EOI)
		eoi_locked(c, (unsigned)val & 0xff);
	pthread_mutex_unlock(&c->lock);
}

const struct mem_io_ops ioapic_mmio_ops = { .read = mmio_read, .write = mmio_write };
