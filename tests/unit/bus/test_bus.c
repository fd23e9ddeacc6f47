/* SPDX-License-Identifier: Apache-2.0 */
/* Port dispatch: ownership, width, splitting, the top of the port space. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bus/bus.h"

#include <errno.h>
#include <string.h>

struct chip {
	struct pio_range r;
	uint8_t reg[16];
	unsigned reads, writes, last_size;
};

static uint32_t chip_read(void *opaque, uint16_t off, unsigned size)
{
	struct chip *c = opaque;
	uint32_t v = 0;

	assert_true(off + size <= c->r.count);
	c->reads++;
	c->last_size = size;
	memcpy(&v, c->reg + off, size);
	return v;
}

static void chip_write(void *opaque, uint16_t off, uint32_t val, unsigned size)
{
	struct chip *c = opaque;

	assert_true(off + size <= c->r.count);
	c->writes++;
	c->last_size = size;
	memcpy(c->reg + off, &val, size);
}

static const struct pio_ops ops = { chip_read, chip_write };

static void chip_init(struct chip *c, uint16_t base, uint16_t count)
{
	*c = (struct chip){ .r = { "chip", base, count, &ops, c, NULL } };
}

static int setup(void **state)
{
	*state = bus_new(NULL);
	return *state == NULL;
}

static int teardown(void **state)
{
	bus_free(*state);
	return 0;
}

static void owner_gets_the_whole_access(void **state)
{
	struct bus *b = *state;
	struct chip c;

	chip_init(&c, 0x60, 8);
	assert_int_equal(bus_pio_add(b, &c.r), 0);
	bus_pio_write(b, 0x60, 0x11223344, 4);
	assert_int_equal(c.last_size, 4);
	assert_int_equal(c.writes, 1);
	assert_int_equal(bus_pio_read(b, 0x61, 2), 0x2233);
	bus_pio_write(b, 0x64, 0xabcd, 1);
	assert_int_equal(c.reg[4], 0xcd);
	assert_int_equal(c.reg[5], 0);
}

static void unclaimed_ports_read_ones(void **state)
{
	assert_int_equal(bus_pio_read(*state, 0x80, 1), 0xff);
	assert_int_equal(bus_pio_read(*state, 0x80, 2), 0xffff);
	assert_true(bus_pio_read(*state, 0xcfc, 4) == 0xffffffff);
	bus_pio_write(*state, 0x80, 1, 4);
}

static void wide_access_is_split_between_owners(void **state)
{
	struct bus *b = *state;
	struct chip x, y;

	chip_init(&x, 0x20, 2);
	chip_init(&y, 0x22, 1);
	assert_int_equal(bus_pio_add(b, &x.r), 0);
	assert_int_equal(bus_pio_add(b, &y.r), 0);
	bus_pio_write(b, 0x20, 0x44332211, 4);
	assert_int_equal(x.reg[0], 0x11);
	assert_int_equal(x.reg[1], 0x22);
	assert_int_equal(y.reg[0], 0x33);
	assert_int_equal(x.last_size, 1);
	assert_true(bus_pio_read(b, 0x20, 4) == 0xff332211);
	assert_true(bus_pio_read(b, 0x1f, 2) == 0x11ff);
}

static void top_of_the_space_wraps(void **state)
{
	struct bus *b = *state;
	struct chip c;

	chip_init(&c, 0xffff, 1);
	assert_int_equal(bus_pio_add(b, &c.r), 0);
	c.reg[0] = 0x5a;
	assert_true(bus_pio_read(b, 0xffff, 4) == 0xffffff5a);
	bus_pio_write(b, 0xffff, 0x99887766, 4);
	assert_int_equal(c.reg[0], 0x66);
}

static void ranges_are_checked(void **state)
{
	struct bus *b = *state;
	struct chip x, y;

	chip_init(&x, 0x3f8, 8);
	chip_init(&y, 0x3ff, 2);
	assert_int_equal(bus_pio_add(b, &x.r), 0);
	assert_int_equal(bus_pio_add(b, &y.r), -EEXIST);
	assert_true(bus_pio_read(b, 0x400, 1) == 0xff); /* nothing half-claimed */
	assert_null(b->port[0x400]);
	bus_pio_remove(b, &x.r);
	assert_int_equal(bus_pio_add(b, &y.r), 0);
	bus_pio_remove(b, &x.r); /* gone already: y keeps its port */
	assert_ptr_equal(b->port[0x3ff], &y.r);
	chip_init(&x, 0xfff0, 17);
	assert_int_equal(bus_pio_add(b, &x.r), -EINVAL);
	chip_init(&x, 0x10, 0);
	assert_int_equal(bus_pio_add(b, &x.r), -EINVAL);
}

static void irqs_before_an_engine_are_dropped(void **state)
{
	bus_irq_pulse(*state, 4);
	bus_msi(*state, 0xfee00000, 0x41);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(owner_gets_the_whole_access),
		T(unclaimed_ports_read_ones),
		T(wide_access_is_split_between_owners),
		T(top_of_the_space_wraps),
		T(ranges_are_checked),
		T(irqs_before_an_engine_are_dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
