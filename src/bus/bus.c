/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Port dispatch: one owner pointer per port. Ranges come and go only while no vCPU runs, so
 * dispatch takes no lock; the device's own lock is the device's affair.
 */
#include "bus/bus.h"

#include <errno.h>
#include <stdlib.h>

static void irq_set_nothing(void *opaque, unsigned gsi, int level)
{
	(void)opaque;
	(void)gsi;
	(void)level;
}

static void irq_msi_nothing(void *opaque, uint64_t addr, uint32_t data)
{
	(void)opaque;
	(void)addr;
	(void)data;
}

struct bus *bus_new(struct mem_map *mem)
{
	struct bus *b = calloc(1, sizeof(*b));

	if (b == NULL)
		return NULL;
	b->mem = mem;
	b->irq.set_line = irq_set_nothing;
	b->irq.send_msi = irq_msi_nothing;
	return b;
}

void bus_free(struct bus *b)
{
	free(b);
}

int bus_pio_add(struct bus *b, struct pio_range *r)
{
	const unsigned end = (unsigned)r->base + r->count;

	if (r->count == 0 || end > ARRAY_SIZE(b->port))
		return -EINVAL;
	for (unsigned p = r->base; p < end; p++) {
		if (b->port[p] != NULL)
			return -EEXIST;
	}
	for (unsigned p = r->base; p < end; p++)
		b->port[p] = r;
	r->next = b->ranges;
	b->ranges = r;
	return 0;
}

void bus_pio_remove(struct bus *b, struct pio_range *r)
{
	for (struct pio_range **p = &b->ranges; *p != NULL; p = &(*p)->next) {
		if (*p != r)
			continue;
		*p = r->next;
		r->next = NULL;
		for (unsigned i = 0; i < r->count; i++)
			b->port[r->base + i] = NULL;
		return;
	}
}

/* The range that owns all of [port, port+size), or NULL. */
static struct pio_range *sole_owner(struct bus *b, uint16_t port, unsigned size)
{
	struct pio_range *r = b->port[port];

	if (r == NULL || (unsigned)port + size > (unsigned)r->base + r->count)
		return NULL;
	return r;
}

static uint32_t ones(unsigned size)
{
	return size >= 4 ? UINT32_MAX : (1u << (8 * size)) - 1;
}

static uint32_t read_within(struct pio_range *r, uint16_t port, unsigned size)
{
	uint32_t v = ones(size);

	if (r->ops->read != NULL)
		v &= r->ops->read(r->opaque, (uint16_t)(port - r->base), size);
	return v;
}

uint32_t bus_pio_read(struct bus *b, uint16_t port, unsigned size)
{
	struct pio_range *r = sole_owner(b, port, size);
	uint32_t v = 0;

	if (r != NULL)
		return read_within(r, port, size);
	for (unsigned i = 0; i < size; i++) {
		uint16_t p = (uint16_t)(port + i); /* wraps at 64 K as the hardware does */

		r = b->port[p];
		v |= (r != NULL ? read_within(r, p, 1) : 0xffu) << (8 * i);
	}
	return v;
}

static void write_within(struct pio_range *r, uint16_t port, uint32_t val, unsigned size)
{
	if (r->ops->write != NULL)
		r->ops->write(r->opaque, (uint16_t)(port - r->base), val & ones(size), size);
}

void bus_pio_write(struct bus *b, uint16_t port, uint32_t val, unsigned size)
{
	struct pio_range *r = sole_owner(b, port, size);

	if (r != NULL) {
		write_within(r, port, val, size);
		return;
	}
	for (unsigned i = 0; i < size; i++) {
		uint16_t p = (uint16_t)(port + i);

		r = b->port[p];
		if (r != NULL)
			write_within(r, p, val >> (8 * i), 1);
	}
}
