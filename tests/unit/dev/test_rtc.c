/* SPDX-License-Identifier: Apache-2.0 */
/* MC146818: time, setting it, alarm, periodic and update interrupts, memory size bytes. */
#include "legacy_fixture.h"

#include <time.h>

#include "dev/legacy/rtc.h"

static void start(void)
{
	const struct rtc_cfg cfg = {
		.base = 0x70,
		.irq = 8,
		.loop = fix->loop,
		.ram_below_4g = 2 * GiB,
		.ram_above_4g = 5 * GiB,
	};

	fix_start(&rtc_class, &cfg);
}

static uint8_t rd(uint8_t i)
{
	outb(0x70, i);
	return inb(0x71);
}

static void wr(uint8_t i, uint8_t val)
{
	outb(0x70, i);
	outb(0x71, val);
}

static int bcd(uint8_t v)
{
	return (v >> 4) * 10 + (v & 15);
}

/* Reads the clock as Linux does: outside an update, twice the same. */
static time_t read_clock(void)
{
	struct tm tm = { .tm_sec = 0 };
	uint8_t sec;

	do {
		while (rd(10) & 0x80)
			;
		sec = rd(0);
		tm.tm_min = bcd(rd(2));
		tm.tm_hour = bcd(rd(4));
		tm.tm_mday = bcd(rd(7));
		tm.tm_mon = bcd(rd(8)) - 1;
		tm.tm_year = bcd(rd(0x32)) * 100 + bcd(rd(9)) - 1900;
	} while (rd(0) != sec);
	tm.tm_sec = bcd(sec);
	return timegm(&tm);
}

static void shows_utc(void **state)
{
	time_t a, t, b;

	(void)state;
	start();
	a = time(NULL);
	t = read_clock();
	b = time(NULL);
	assert_in_range(t, a, b);
	assert_int_equal(rd(13), 0x80);
	assert_int_equal(rd(11), 2);
}

static void set_time(uint8_t format)
{
	wr(11, 0x80 | format);
	wr(0, 0x30);
	wr(2, 0x59);
	wr(4, format & 2 ? 0x23 : 0x91); /* 23 h, or 11 pm */
	wr(7, 0x28);
	wr(8, 2);
	wr(9, 0x24);
	wr(0x32, 0x20);
	assert_int_equal(rd(0), 0x30); /* held */
	wr(11, format);
}

static void can_be_set(void **state)
{
	(void)state;
	start();
	set_time(2);
	assert_in_range(read_clock(), 1709164770, 1709164772); /* 2024-02-28 23:59:30 */
	set_time(0);
	assert_int_equal(rd(4), 0x91);
	wr(11, 4 | 2); /* binary, 24 h */
	assert_int_equal(rd(4), 23);
	assert_int_equal(rd(2), 59);
	assert_int_equal(rd(9), 24);
	wr(9, 0xff); /* absurd values are survived */
	wr(0x32, 0xff);
	wr(8, 0xff);
	assert_true(rd(8) <= 12);
}

static void run_for(int64_t ns)
{
	const int64_t end = clock_monotonic_ns() + ns;

	while (clock_monotonic_ns() < end)
		loop_once(fix->loop, MAX(end - clock_monotonic_ns(), (int64_t)0));
}

static void periodic(void **state)
{
	unsigned n = 0;

	(void)state;
	start();
	wr(10, 0x26);
	run_for(3000000);
	assert_int_equal(rd(12) & 0x40, 0x40); /* the flag needs no interrupt */
	assert_int_equal(fix->rises[8], 0);
	wr(11, 0x42);
	for (unsigned i = 0; i < 20; i++) {
		run_for(1000000);
		n += (rd(12) & 0xc0) == 0xc0;
	}
	assert_in_range(n, 10, 20);
	assert_in_range(fix->rises[8], 10, 45);
	wr(11, 2);
	run_for(0);
	n = fix->rises[8];
	run_for(5000000);
	assert_int_equal(fix->rises[8], n);
}

static void update_and_alarm(void **state)
{
	const int64_t t0 = clock_monotonic_ns();
	uint8_t c = 0;

	(void)state;
	start();
	set_time(2);
	wr(1, 0x31);
	wr(3, 0xc0); /* every minute */
	wr(5, 0xff); /* every hour */
	rd(12);
	wr(11, 0x32);
	while (!fix->line[8]) {
		assert_true(clock_monotonic_ns() - t0 < 3000000000);
		loop_once(fix->loop, 100000000);
	}
	assert_in_range(clock_monotonic_ns() - t0, 900000000, 2900000000);
	c = rd(12);
	assert_int_equal(c & 0xb0, 0xb0);
	assert_int_equal(fix->line[8], 0);
	assert_int_equal(rd(0), 0x31);
	assert_int_equal(rd(12) & 0xb0, 0);
}

static void memory_sizes(void **state)
{
	(void)state;
	start();
	assert_int_equal(rd(0x15) | rd(0x16) << 8, 640);
	assert_int_equal(rd(0x17) | rd(0x18) << 8, 0xffff);
	assert_int_equal(rd(0x34) | rd(0x35) << 8, (2048 - 16) * 16);
	assert_int_equal(rd(0x5b) | rd(0x5c) << 8 | rd(0x5d) << 16, 5 * 1024 * 16);
	wr(0x40, 0x5c);
	dev_reset_all(&fix->devs);
	assert_int_equal(rd(0x40), 0x5c); /* memory survives a reset */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(shows_utc), T(can_be_set), T(periodic), T(update_and_alarm), T(memory_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
