/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pair of 8259A interrupt controllers with their edge/level registers. Intel 8259A data sheet;
 * ELCR: ICH9, ports 0x4d0 and 0x4d1. All under irqchip.lock.
 */
#include "cpu/irqchip/irqchip_priv.h"

enum { MASTER, SLAVE, CASCADE = 2, NONE = 8, SPURIOUS = 7 };

/* Place of the first set bit, counted from the line of highest priority; NONE. */
static unsigned first_place(const struct pic_chip *p, unsigned set)
{
	for (unsigned i = 0; i < 8; i++) {
		if (set >> ((p->first + i) & 7) & 1)
			return i;
	}
	return NONE;
}

/* The line whose request the chip puts forward, or -1. requests: IRR, with the slave's output. */
static int pick(const struct pic_chip *p, unsigned requests)
{
	const unsigned want = first_place(p, requests & ~(unsigned)p->imr);
	unsigned busy = p->isr;

	if (want == NONE)
		return -1;
	if (p->special_mask)
		busy &= ~(unsigned)p->imr;
	if (p->nested) /* the slave may interrupt its own service */
		busy &= ~(1u << CASCADE);
	return want < first_place(p, busy) ? (int)((p->first + want) & 7) : -1;
}

static int pick_slave(const struct irqchip *c)
{
	return c->pic[SLAVE].init_step ? -1 : pick(&c->pic[SLAVE], c->pic[SLAVE].irr);
}

static unsigned master_requests(const struct irqchip *c)
{
	const unsigned irr = c->pic[MASTER].irr & ~(1u << CASCADE);

	return irr | (pick_slave(c) >= 0 ? 1u << CASCADE : 0);
}

static int pick_master(const struct irqchip *c)
{
	return c->pic[MASTER].init_step ? -1 : pick(&c->pic[MASTER], master_requests(c));
}

/* Recomputes the output and tells the CPUs that listen to it. */
static void update(struct irqchip *c)
{
	const bool out = pick_master(c) >= 0;
	const bool was = atomic_exchange(&c->pic_intr, out);

	ioapic_set_line(c, 0, out);
	if (!out)
		return;
	for (unsigned i = 0; i < c->cpus; i++) {
		struct lapic *l = c->cpu[i];

		if (lapic_takes_extint(l))
			vcpu_irq_hint(l->v);
		else if (!was)
			lapic_local(l, LVT_LINT0); /* INTR wired as an ordinary local interrupt */
	}
}

void pic_set_line(struct irqchip *c, unsigned irq, bool level)
{
	struct pic_chip *p = &c->pic[irq >> 3];
	const uint8_t bit = (uint8_t)(1u << (irq & 7));
	const uint8_t was = p->irr;

	if (p->elcr & bit)
		p->irr = (uint8_t)(level ? p->irr | bit : p->irr & ~bit);
	else if (level && !(p->line & bit))
		p->irr |= bit;
	p->line = (uint8_t)(level ? p->line | bit : p->line & ~bit);
	if (p->irr != was)
		update(c);
}

static void take(struct pic_chip *p, unsigned n)
{
	const uint8_t bit = (uint8_t)(1u << n);

	if (!(p->elcr & bit))
		p->irr &= (uint8_t)~bit;
	if (!p->auto_eoi)
		p->isr |= bit;
	else if (p->rotate_aeoi)
		p->first = (uint8_t)((n + 1) & 7);
}

int pic_peek(const struct irqchip *c)
{
	const int m = pick_master(c);
	int s;

	if (m != CASCADE)
		return c->pic[MASTER].base + (m < 0 ? SPURIOUS : m);
	s = pick_slave(c);
	return c->pic[SLAVE].base + (s < 0 ? SPURIOUS : s);
}

int pic_ack(struct irqchip *c)
{
	const int vec = pic_peek(c);
	const int m = pick_master(c);
	const int s = m == CASCADE ? pick_slave(c) : -1;

	if (s >= 0)
		take(&c->pic[SLAVE], (unsigned)s);
	if (m >= 0)
		take(&c->pic[MASTER], (unsigned)m);
	update(c);
	return vec;
}

static void chip_init(struct pic_chip *p)
{
	p->irr = p->elcr & p->line; /* edges seen before are forgotten */
	p->imr = p->isr = p->first = 0;
	p->read_isr = p->poll = p->auto_eoi = p->rotate_aeoi = p->special_mask = p->nested = false;
}

void pic_reset(struct irqchip *c)
{
	for (unsigned i = 0; i < 2; i++) {
		struct pic_chip *p = &c->pic[i];

		p->elcr = 0;
		chip_init(p);
		p->imr = 0xff;
		p->base = 0;
		p->init_step = 0;
		p->elcr_mask = i == MASTER ? 0xf8 : 0xde;
	}
	update(c);
}

static void write_icw1(struct pic_chip *p, uint8_t val)
{
	chip_init(p);
	p->want_icw4 = val & 1;
	p->single = val & 2;
	p->init_step = 2;
}

static void write_icw(struct pic_chip *p, uint8_t val)
{
	switch (p->init_step) {
	case 2:
		p->base = val & 0xf8;
		p->init_step = (uint8_t)(!p->single ? 3 : p->want_icw4 ? 4 : 0);
		break;
	case 3: p->init_step = (uint8_t)(p->want_icw4 ? 4 : 0); break;
	default:
		p->auto_eoi = val & 2;
		p->nested = val & 0x10;
		p->init_step = 0;
		break;
	}
}

/* OCW2: end of interrupt and rotation. */
static void write_ocw2(struct pic_chip *p, uint8_t val)
{
	const bool rotate = val & 0x80, specific = val & 0x40, eoi = val & 0x20;
	unsigned n = val & 7;

	if (!eoi) {
		if (specific && rotate)
			p->first = (uint8_t)((n + 1) & 7);
		else if (!specific)
			p->rotate_aeoi = rotate;
		return;
	}
	if (!specific) {
		const unsigned place = first_place(p, p->isr);

		if (place == NONE)
			return;
		n = (p->first + place) & 7;
	}
	p->isr &= (uint8_t) ~(1u << n);
	if (rotate)
		p->first = (uint8_t)((n + 1) & 7);
}

static void write_ocw3(struct pic_chip *p, uint8_t val)
{
	p->poll = val & 4;
	if (val & 2)
		p->read_isr = val & 1;
	if (val & 0x40)
		p->special_mask = val & 0x20;
}

static void pio_write(void *opaque, unsigned which, uint16_t off, uint32_t val32)
{
	struct irqchip *c = opaque;
	struct pic_chip *p = &c->pic[which];
	const uint8_t val = (uint8_t)val32;

	pthread_mutex_lock(&c->lock);
	if (off == 0 && (val & 0x10))
		write_icw1(p, val);
	else if (off == 0 && (val & 8))
		write_ocw3(p, val);
	else if (off == 0)
		write_ocw2(p, val);
	else if (p->init_step)
		write_icw(p, val);
	else
		p->imr = val;
	update(c);
	pthread_mutex_unlock(&c->lock);
}

/* A poll takes the request as an INTA cycle would. */
static uint32_t read_poll(struct irqchip *c, unsigned which)
{
	struct pic_chip *p = &c->pic[which];
	const int n = which == MASTER ? pick_master(c) : pick_slave(c);

	p->poll = false;
	if (n < 0)
		return 0;
	take(p, (unsigned)n);
	update(c);
	return 0x80u | (unsigned)n;
}

static uint32_t pio_read(void *opaque, unsigned which, uint16_t off)
{
	struct irqchip *c = opaque;
	struct pic_chip *p = &c->pic[which];
	uint32_t val;

	pthread_mutex_lock(&c->lock);
	if (p->poll)
		val = read_poll(c, which);
	else if (off == 1)
		val = p->imr;
	else if (p->read_isr)
		val = p->isr;
	else
		val = which == MASTER ? master_requests(c) : p->irr;
	pthread_mutex_unlock(&c->lock);
	return val;
}

static void master_write(void *opaque, uint16_t off, uint32_t val, unsigned size)
{
	pio_write(opaque, MASTER, off, val);
	if (size > 1)
		pio_write(opaque, MASTER, 1, val >> 8);
}

static uint32_t master_read(void *opaque, uint16_t off, unsigned size)
{
	const uint32_t v = pio_read(opaque, MASTER, off);

	return size > 1 ? v | pio_read(opaque, MASTER, 1) << 8 : v;
}

static void slave_write(void *opaque, uint16_t off, uint32_t val, unsigned size)
{
	pio_write(opaque, SLAVE, off, val);
	if (size > 1)
		pio_write(opaque, SLAVE, 1, val >> 8);
}

static uint32_t slave_read(void *opaque, uint16_t off, unsigned size)
{
	const uint32_t v = pio_read(opaque, SLAVE, off);

	return size > 1 ? v | pio_read(opaque, SLAVE, 1) << 8 : v;
}

static void elcr_write(void *opaque, uint16_t off, uint32_t val, unsigned size)
{
	struct irqchip *c = opaque;

	pthread_mutex_lock(&c->lock);
	for (unsigned i = off; i < off + MIN(size, 2u - off); i++) {
		struct pic_chip *p = &c->pic[i];

		p->elcr = (uint8_t)(val >> (8 * (i - off))) & p->elcr_mask;
		p->irr = (uint8_t)((p->irr & ~p->elcr) | (p->line & p->elcr));
	}
	update(c);
	pthread_mutex_unlock(&c->lock);
}

static uint32_t elcr_read(void *opaque, uint16_t off, unsigned size)
{
	const struct irqchip *c = opaque;

	return size > 1 ? c->pic[0].elcr | (uint32_t)c->pic[1].elcr << 8 : c->pic[off].elcr;
}

static const struct pio_ops master_ops = { master_read, master_write };
static const struct pio_ops slave_ops = { slave_read, slave_write };
static const struct pio_ops elcr_ops = { elcr_read, elcr_write };

int pic_claim_ports(struct irqchip *c)
{
	struct bus *b = c->bus;
	int r;

	c->pic_range[0] = (struct pio_range){ "pic-master", 0x20, 2, &master_ops, c, NULL };
	c->pic_range[1] = (struct pio_range){ "pic-slave", 0xa0, 2, &slave_ops, c, NULL };
	c->elcr_range = (struct pio_range){ "pic-elcr", 0x4d0, 2, &elcr_ops, c, NULL };
	r = bus_pio_add(b, &c->pic_range[0]);
	if (r < 0)
		return r;
	r = bus_pio_add(b, &c->pic_range[1]);
	if (r < 0)
		goto out_master;
	r = bus_pio_add(b, &c->elcr_range);
	if (r < 0)
		goto out_slave;
	return 0;
out_slave:
	bus_pio_remove(b, &c->pic_range[1]);
out_master:
	bus_pio_remove(b, &c->pic_range[0]);
	return r;
}

void pic_release_ports(struct irqchip *c)
{
	bus_pio_remove(c->bus, &c->elcr_range);
	bus_pio_remove(c->bus, &c->pic_range[1]);
	bus_pio_remove(c->bus, &c->pic_range[0]);
}
