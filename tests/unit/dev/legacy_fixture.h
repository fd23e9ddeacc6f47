/* SPDX-License-Identifier: Apache-2.0 */
/* A bus whose interrupt lines are recorded, for the tests of src/dev/legacy. */
#ifndef R3_TESTS_DEV_LEGACY_FIXTURE_H
#define R3_TESTS_DEV_LEGACY_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "bus/bus.h"
#include "loop/loop.h"

struct fixture {
	struct mem_map *mem;
	struct bus *bus;
	struct loop *loop;
	struct dev_list devs;
	struct dev *dev;
	int line[24];
	unsigned rises[24], calls;
	unsigned called; /* the device's own callback */
	uint8_t out[256];
	size_t out_len;
};

static struct fixture *fix;

static void fix_set_line(void *opaque, unsigned gsi, int level)
{
	struct fixture *f = opaque;

	if (level && !f->line[gsi])
		f->rises[gsi]++;
	f->line[gsi] = level;
	f->calls++;
}

UNUSED static void fix_callback(void *opaque)
{
	((struct fixture *)opaque)->called++;
}

static void fix_start(const struct dev_class *cls, const void *cfg)
{
	struct err e;

	fix->dev = dev_create(&fix->devs, fix->bus, cls, "dut", cfg, &e);
	assert_non_null(fix->dev);
}

static int fix_setup(void **state)
{
	struct err e;

	fix = calloc(1, sizeof(*fix));
	fix->mem = mem_map_new();
	fix->bus = bus_new(fix->mem);
	fix->loop = loop_new(&e);
	fix->bus->irq.opaque = fix;
	fix->bus->irq.set_line = fix_set_line;
	*state = fix;
	return 0;
}

static int fix_teardown(void **state)
{
	(void)state;
	dev_destroy_all(&fix->devs);
	loop_free(fix->loop);
	bus_free(fix->bus);
	mem_map_free(fix->mem);
	free(fix);
	return 0;
}

static inline void outb(uint16_t port, uint8_t val)
{
	bus_pio_write(fix->bus, port, val, 1);
}
static inline uint8_t inb(uint16_t port)
{
	return (uint8_t)bus_pio_read(fix->bus, port, 1);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, fix_setup, fix_teardown)

#endif
