/* SPDX-License-Identifier: Apache-2.0 */
/* Keyboard controller: what Linux's probing and reset do to it. */
#include "legacy_fixture.h"

#include "dev/legacy/i8042.h"

static void start(void)
{
	const struct i8042_cfg cfg = {
		.kbd_irq = 1, .aux_irq = 12, .reset = fix_callback, .opaque = fix
	};

	fix_start(&i8042_class, &cfg);
}

static void self_test_and_command_byte(void **state)
{
	(void)state;
	start();
	assert_int_equal(inb(0x64) & 3, 0);
	outb(0x64, 0xaa);
	assert_int_equal(inb(0x64) & 5, 5);
	assert_int_equal(inb(0x60), 0x55);
	assert_int_equal(inb(0x64) & 1, 0);
	outb(0x64, 0x60);
	assert_int_equal(inb(0x64) & 8, 8);
	outb(0x60, 0x47);
	assert_int_equal(inb(0x64) & 9, 0);
	outb(0x64, 0x20);
	assert_int_equal(inb(0x60), 0x47);
	outb(0x64, 0xad);
	outb(0x64, 0xa7);
	outb(0x64, 0x20);
	assert_int_equal(inb(0x60), 0x77);
	outb(0x64, 0xae);
	outb(0x64, 0xa8);
	outb(0x64, 0x20);
	assert_int_equal(inb(0x60), 0x47);
}

static void nothing_plugged_in(void **state)
{
	(void)state;
	start();
	outb(0x64, 0xd3); /* aux loop: not an aux byte */
	outb(0x60, 0x5a);
	assert_int_equal(inb(0x64) & 0x21, 1);
	assert_int_not_equal(inb(0x60), 0x5a);
	outb(0x64, 0xa9);
	assert_in_range(inb(0x60), 1, 3);
	outb(0x64, 0xab);
	assert_int_equal(inb(0x60), 0);
	outb(0x64, 0x60);
	outb(0x60, 3);
	outb(0x60, 0xf2); /* keyboard identify: timed out at once, with its interrupt */
	assert_int_equal(fix->line[1], 1);
	assert_int_equal(inb(0x64) & 0x61, 0x41);
	assert_int_equal(inb(0x60), 0xfe);
	assert_int_equal(fix->line[1], 0);
	outb(0x64, 0xd4);
	outb(0x60, 0xf2);
	assert_int_equal(fix->line[12], 1);
	assert_int_equal(inb(0x64) & 0x61, 0x61);
	assert_int_equal(inb(0x60), 0xfe);
	assert_int_equal(fix->line[12], 0);
}

static void reset_requests(void **state)
{
	(void)state;
	start();
	outb(0x64, 0xff); /* pulses nothing */
	outb(0x92, 2);
	assert_int_equal(inb(0x92), 2);
	assert_int_equal(fix->called, 0);
	outb(0x64, 0xfe);
	assert_int_equal(fix->called, 1);
	outb(0x64, 0xd1);
	outb(0x60, 0xdf);
	assert_int_equal(fix->called, 1);
	outb(0x64, 0xd0);
	assert_int_equal(inb(0x60), 0xdf);
	outb(0x64, 0xd1);
	outb(0x60, 0xde);
	assert_int_equal(fix->called, 2);
	outb(0x92, 1);
	assert_int_equal(fix->called, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(self_test_and_command_byte),
		T(nothing_plugged_in),
		T(reset_requests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
