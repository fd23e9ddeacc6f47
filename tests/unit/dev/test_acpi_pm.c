/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI fixed hardware: PM1a, PM timer, power button, S5. */
#include "legacy_fixture.h"

#include <unistd.h>

#include "dev/legacy/acpi_pm.h"

enum { P = 0x600 };

static void start(bool timer32)
{
	const struct acpi_pm_cfg cfg = {
		.base = P,
		.sci = 9,
		.timer32 = timer32,
		.loop = fix->loop,
		.poweroff = fix_callback,
		.opaque = fix,
	};

	fix_start(&acpi_pm_class, &cfg);
}

static void outw(uint16_t port, uint16_t val)
{
	bus_pio_write(fix->bus, port, val, 2);
}

static uint16_t inw(uint16_t port)
{
	return (uint16_t)bus_pio_read(fix->bus, port, 2);
}

static void power_button(void **state)
{
	(void)state;
	start(true);
	acpi_pm_power_button(fix->dev);
	assert_int_equal(fix->line[9], 0); /* not enabled */
	assert_int_equal(inw(P) & 0x100, 0x100);
	outw(P + 2, 0x100);
	assert_int_equal(fix->line[9], 1);
	assert_int_equal(inw(P + 2), 0x100);
	outw(P, 0x20); /* clearing another bit changes nothing */
	assert_int_equal(fix->line[9], 1);
	outw(P, 0x100);
	assert_int_equal(fix->line[9], 0);
	assert_int_equal(inw(P) & 0x100, 0);
	acpi_pm_power_button(fix->dev);
	assert_int_equal(fix->line[9], 1);
	outb(P + 1, 1); /* byte-wide clear of bit 8 */
	assert_int_equal(fix->line[9], 0);
}

static void control_and_s5(void **state)
{
	(void)state;
	start(true);
	assert_int_equal(inw(P + 4), 1); /* SCI_EN */
	outw(P + 4, 0x1401);
	assert_int_equal(inw(P + 4), 0x1401);
	assert_int_equal(fix->called, 0);
	outw(P + 4, 0x2001 | 1 << 10); /* another sleep type */
	assert_int_equal(fix->called, 0);
	outw(P + 4, 0x2001 | 5 << 10);
	assert_int_equal(fix->called, 1);
	assert_int_equal(inw(P + 4) & 0x2000, 0);
}

static void s5_by_bytes(void **state)
{
	(void)state;
	start(true);
	outb(P + 5, 0x34); /* SLP_EN with SLP_TYP 5 in the upper byte */
	assert_int_equal(fix->called, 1);
}

static void timer_rate(void **state)
{
	uint32_t a, b;
	int64_t t0, t1;

	(void)state;
	start(true);
	t0 = clock_monotonic_ns();
	a = bus_pio_read(fix->bus, P + 8, 4);
	usleep(20000);
	b = bus_pio_read(fix->bus, P + 8, 4);
	t1 = clock_monotonic_ns();
	assert_in_range(b - a, 71590, (t1 - t0) * 3579545 / 1000000000 + 1);
}

static void timer_24_bits(void **state)
{
	(void)state;
	start(false);
	assert_int_equal(bus_pio_read(fix->bus, P + 8, 4) >> 24, 0);
}

/* The 24-bit counter's top bit changes every 2.34 s. */
static void timer_interrupt(void **state)
{
	const int64_t t0 = clock_monotonic_ns();
	uint32_t before;

	(void)state;
	start(false);
	outw(P + 2, 1);
	assert_int_equal(fix->line[9], 0);
	before = bus_pio_read(fix->bus, P + 8, 4) >> 23;
	while (!fix->line[9]) {
		assert_true(clock_monotonic_ns() - t0 < 5000000000);
		loop_once(fix->loop, 100000000);
	}
	assert_int_not_equal(bus_pio_read(fix->bus, P + 8, 4) >> 23, before);
	outw(P, 1);
	assert_int_equal(fix->line[9], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(power_button), T(control_and_s5), T(s5_by_bytes),
		T(timer_rate),	 T(timer_24_bits),  T(timer_interrupt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
