/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's bus: port I/O dispatch, interrupt lines, device lifecycle.
 * MMIO regions live in the memory map (mem/mem.h); ports live here.
 */
#ifndef R3_BUS_BUS_H
#define R3_BUS_BUS_H

#include "base/base.h"
#include "base/err.h"
#include "mem/mem.h"

struct pio_ops {
	/* off is relative to the range's first port; size 1, 2 or 4 */
	uint32_t (*read)(void *opaque, uint16_t off, unsigned size);
	void (*write)(void *opaque, uint16_t off, uint32_t val, unsigned size);
};

struct pio_range {
	const char *name;
	uint16_t base, count;
	const struct pio_ops *ops;
	void *opaque;
	struct pio_range *next; /* private to the bus */
};

/*
 * How devices raise interrupts without knowing the engine: the machine fills this with the
 * engine's functions. All callable from any thread.
 */
struct irq_ops {
	void (*set_line)(void *opaque, unsigned gsi, int level);
	void (*send_msi)(void *opaque, uint64_t addr, uint32_t data);
	void *opaque;
};

struct bus {
	struct mem_map *mem;
	struct pio_range *ranges;      /* private */
	struct pio_range *port[65536]; /* private: owner of each port */
	struct irq_ops irq;
};

struct bus *bus_new(struct mem_map *mem);
void bus_free(struct bus *b);
/* -EEXIST when a port is taken. The caller keeps *r alive. */
int bus_pio_add(struct bus *b, struct pio_range *r) MUST_CHECK;
void bus_pio_remove(struct bus *b, struct pio_range *r);
/* What a vCPU does: an unclaimed port reads as all ones of its size. A wide access to byte-wide ranges of different owners is split. */
uint32_t bus_pio_read(struct bus *b, uint16_t port, unsigned size);
void bus_pio_write(struct bus *b, uint16_t port, uint32_t val, unsigned size);

static inline void bus_irq_set(struct bus *b, unsigned gsi, int level)
{
	b->irq.set_line(b->irq.opaque, gsi, level);
}
static inline void bus_irq_pulse(struct bus *b, unsigned gsi)
{
	bus_irq_set(b, gsi, 1);
	bus_irq_set(b, gsi, 0);
}
static inline void bus_msi(struct bus *b, uint64_t addr, uint32_t data)
{
	b->irq.send_msi(b->irq.opaque, addr, data);
}

/* One row of a device's state, for snapshots: nothing is saved or loaded by hand-written code. */
struct snap_field {
	const char *name;
	uint32_t offset, size; /* in the device's private struct */
};
#define SNAP_FIELD(type, member)                                                                   \
	{                                                                                          \
#member, offsetof(type, member), sizeof(((type *)0)->member)                       \
	}
#define SNAP_END                                                                                   \
	{                                                                                          \
		NULL, 0, 0                                                                         \
	}

/* A device's lifecycle. Every device has one; `priv` is its private struct, zeroed at creation. */
struct dev;
struct dev_class {
	const char *name;
	size_t priv_size;
	int (*create)(struct dev *d, const void *cfg,
		      struct err *e); /* cfg: the device's own config struct */
	void (*reset)(struct dev *d);
	void (*pause)(struct dev *d);  /* quiesce: no DMA, no irq after it returns; may be NULL */
	void (*resume)(struct dev *d); /* may be NULL */
	void (*destroy)(struct dev *d);
	const struct snap_field *fields;
};
struct dev {
	const struct dev_class *cls;
	char name[32];
	struct bus *bus;
	void *priv;
	struct dev *next; /* in dev_list */
};
struct dev_list {
	struct dev *first;
};

/* Creates, names and links a device (in order; reset and destroy run in reverse). NULL with *e on failure. */
struct dev *dev_create(struct dev_list *l, struct bus *b, const struct dev_class *cls,
		       const char *name, const void *cfg, struct err *e) MUST_CHECK;
void dev_destroy(struct dev_list *l, struct dev *d);
void dev_reset_all(struct dev_list *l);
void dev_pause_all(struct dev_list *l);
void dev_resume_all(struct dev_list *l);
void dev_destroy_all(struct dev_list *l);

#endif
