/* SPDX-License-Identifier: Apache-2.0 */
/* 8254 and port 0x61, by the real clock. */
#include <unistd.h>

#include "irqchip_fixture.h"

#define MS 1000000ll

static void run_loop_until(int64_t ns)
{
	while (clock_monotonic_ns() < ns)
		loop_once(fix->loop, ns - clock_monotonic_ns());
}

static unsigned take_irq0(int64_t wait)
{
	loop_once(fix->loop, wait);
	if (ack(0) < 0)
		return 0;
	apic_wr(0xb0, 0);
	return 1;
}

static unsigned count_irq0(int64_t span)
{
	const int64_t end = clock_monotonic_ns() + span;
	unsigned n = 0;

	while (clock_monotonic_ns() < end)
		n += take_irq0(MS / 2);
	for (unsigned i = 0; i < 3; i++) /* on a busy host the time may have passed in one go */
		n += take_irq0(0);
	return n;
}

static void route_irq0(void)
{
	enable_all();
	ioapic_wr(0x15, 0);
	ioapic_wr(0x14, 0x30);
}

static uint16_t read_latched(unsigned ch)
{
	uint16_t v;

	outb(0x43, (uint8_t)(ch << 6));
	v = inb((uint16_t)(0x40 + ch));
	return (uint16_t)(v | inb((uint16_t)(0x40 + ch)) << 8);
}

static void one_shot_gate_and_out(void **state)
{
	int64_t t0;
	uint16_t a, b;

	(void)state;
	outb(0x61, 0);
	outb(0x43, 0xb0); /* channel 2, both bytes, mode 0 */
	outb(0x42, 0xff);
	outb(0x42, 0x2e); /* 12031 clocks: 10.08 ms */
	assert_int_equal(inb(0x61) & 0x20, 0);
	a = read_latched(2);
	assert_int_equal(read_latched(2), a); /* gate low: it stands still */
	assert_int_equal(a, 0x2eff);
	t0 = clock_monotonic_ns();
	outb(0x61, 1);
	while (!(inb(0x61) & 0x20))
		assert_true(clock_monotonic_ns() - t0 < 1000 * MS);
	assert_true(clock_monotonic_ns() - t0 >= 10 * MS);
	outb(0x42, 0xff);
	outb(0x42, 0xff);
	assert_int_equal(inb(0x61) & 0x20, 0);
	t0 = clock_monotonic_ns();
	a = read_latched(2);
	usleep(2000);
	b = read_latched(2);
	if (clock_monotonic_ns() - t0 < 50 * MS) /* else it may have wrapped */
		assert_in_range((uint16_t)(a - b), 2385, 59660);
	assert_int_equal(inb(0x61) & 3, 1);
}

static void latch_and_read_back(void **state)
{
	(void)state;
	outb(0x43, 0x34); /* channel 0, both bytes, mode 2 */
	outb(0x43, 0xe2); /* status: not loaded yet */
	assert_int_equal(inb(0x40), 0x80 | 0x40 | 0x34);
	outb(0x40, 0);
	outb(0x40, 0);
	outb(0x43, 0xc2); /* count and status of channel 0; the status is read first */
	assert_int_equal(inb(0x40) & 0x7f, 0x34);
	inb(0x40);
	inb(0x40);
	outb(0x43, 0x50); /* channel 1, low byte, mode 0 */
	outb(0x41, 0x12);
	outb(0x43, 0xe4);
	assert_int_equal(inb(0x41) & 0x3f, 0x10);
	/* BCD: a count never has a digit above nine */
	outb(0x43, 0x35);
	outb(0x40, 0);
	outb(0x40, 0x50);
	for (unsigned i = 0; i < 100; i++) {
		const uint16_t v = read_latched(0);

		assert_true(v <= 0x5000 && (v & 15) < 10 && (v >> 4 & 15) < 10 &&
			    (v >> 8 & 15) < 10);
	}
}

static void no_timer_when_idle(void **state)
{
	(void)state;
	route_irq0();
	loop_once(fix->loop, 0);
	assert_int_equal(loop_once(fix->loop, 2 * MS), 0);
	outb(0x43, 0x34); /* mode set, count not: still nothing */
	loop_once(fix->loop, 0);
	assert_int_equal(count_irq0(5 * MS), 0);
}

static void periodic_interrupts(void **state)
{
	(void)state;
	route_irq0();
	outb(0x43, 0x34);
	outb(0x40, 0xa9);
	outb(0x40, 0x04); /* 1193: 1 kHz */
	assert_in_range(count_irq0(50 * MS), 3, 54);
	outb(0x43, 0x36); /* the same in mode 3 */
	outb(0x40, 0x4d);
	outb(0x40, 0x17); /* 5965: 200 Hz */
	assert_in_range(count_irq0(50 * MS), 1, 14);
	outb(0x43, 0x30); /* mode 0, no count: stops */
	loop_once(fix->loop, 0);
	assert_int_equal(count_irq0(10 * MS), 0);
}

static void one_interrupt(void **state)
{
	(void)state;
	route_irq0();
	outb(0x43, 0x38); /* mode 4, as a one-shot clock event device */
	outb(0x40, 0xa9);
	outb(0x40, 0x04);
	assert_int_equal(count_irq0(10 * MS), 1);
	outb(0x43, 0x30);
	outb(0x40, 0xa9);
	outb(0x40, 0x04);
	assert_int_equal(count_irq0(10 * MS), 1);
	outb(0x40, 0xa9); /* and again */
	outb(0x40, 0x04);
	assert_int_equal(count_irq0(10 * MS), 1);
}

static void tiny_period_does_not_storm(void **state)
{
	(void)state;
	route_irq0();
	outb(0x43, 0x14);
	outb(0x40, 1);
	assert_in_range(count_irq0(20 * MS), 1, 210);
	irqchip_reset(fix->chip);
	run_loop_until(clock_monotonic_ns() + 2 * MS);
	assert_int_equal(loop_once(fix->loop, 2 * MS), 0);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, fix_setup, fix_teardown)
	const struct CMUnitTest tests[] = {
		T(one_shot_gate_and_out), T(latch_and_read_back), T(no_timer_when_idle),
		T(periodic_interrupts),	  T(one_interrupt),	  T(tiny_period_does_not_storm),
	};

	alarm(30);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
