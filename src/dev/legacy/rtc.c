/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real-time clock and CMOS memory (Motorola MC146818 data sheet; the memory size bytes as PC firmware
 * has them). The time is the host's UTC plus what the guest has set it to.
 *
 * One mutex. Flags are computed from the clock when looked at; a timer of the loop runs only while an
 * interrupt is enabled, and vCPU threads have it re-armed by a post. The loop must not run after the
 * device is destroyed.
 */
#include "dev/legacy/rtc.h"

#include <pthread.h>
#include <time.h>

#define NS_PER_S 1000000000ll
#define UPDATE_NS 244000 /* "update in progress" comes this long before the second */
enum {
	SEC,
	SEC_ALARM,
	MIN_,
	MIN_ALARM,
	HOUR,
	HOUR_ALARM,
	WDAY,
	MDAY,
	MONTH,
	YEAR,
	REG_A,
	REG_B,
	REG_C,
	REG_D,
	CENTURY = 0x32,
	CMOS_SIZE = 128
};
enum { A_UIP = 0x80, B_SET = 0x80, B_24H = 2, B_BINARY = 4, D_VALID = 0x80 };
/* The same bits in B (enable) and C (flag). */
enum { EV_UPDATE = 0x10, EV_ALARM = 0x20, EV_PERIODIC = 0x40, C_IRQ = 0x80 };
#define EV_ALL (EV_UPDATE | EV_ALARM | EV_PERIODIC)
#define DAY 86400

struct rtc {
	pthread_mutex_t lock;
	struct dev *dev;
	struct rtc_cfg cfg;
	struct pio_range range;
	struct loop_timer timer;
	struct loop_work rearm;
	uint8_t index;
	uint8_t reg[CMOS_SIZE];
	int64_t offset_ns; /* guest's time minus the host's */
	int64_t last_s;	   /* guest's second when last looked at */
	int64_t last_tick; /* periodic tick when last looked at */
	bool line;
};

static int64_t guest_now(const struct rtc *r)
{
	return clock_realtime_ns() + r->offset_ns;
}

static uint8_t encode(const struct rtc *r, int v)
{
	return (uint8_t)(r->reg[REG_B] & B_BINARY ? v : v / 10 << 4 | v % 10);
}

static int decode(const struct rtc *r, uint8_t v)
{
	return r->reg[REG_B] & B_BINARY ? v : (v >> 4) * 10 + (v & 15);
}

static uint8_t encode_hour(const struct rtc *r, int h)
{
	if (r->reg[REG_B] & B_24H)
		return encode(r, h);
	return (uint8_t)(encode(r, h % 12 ? h % 12 : 12) | (h >= 12 ? 0x80 : 0));
}

static int decode_hour(const struct rtc *r, uint8_t v)
{
	if (r->reg[REG_B] & B_24H)
		return decode(r, v);
	return decode(r, v & 0x7f) % 12 + (v & 0x80 ? 12 : 0);
}

/* Time registers from the clock; while B_SET holds they belong to the guest. */
static void latch_time(struct rtc *r)
{
	const time_t t = (time_t)(guest_now(r) / NS_PER_S);
	struct tm tm;

	if ((r->reg[REG_B] & B_SET) || gmtime_r(&t, &tm) == NULL)
		return;
	r->reg[SEC] = encode(r, tm.tm_sec);
	r->reg[MIN_] = encode(r, tm.tm_min);
	r->reg[HOUR] = encode_hour(r, tm.tm_hour);
	r->reg[WDAY] = encode(r, tm.tm_wday + 1);
	r->reg[MDAY] = encode(r, tm.tm_mday);
	r->reg[MONTH] = encode(r, tm.tm_mon + 1);
	r->reg[YEAR] = encode(r, tm.tm_year % 100);
	r->reg[CENTURY] = encode(r, (tm.tm_year / 100 + 19) % 100);
}

/* The clock from the time registers. */
static void take_time(struct rtc *r)
{
	const int year = decode(r, r->reg[CENTURY]) * 100 + decode(r, r->reg[YEAR]);
	struct tm tm = {
		.tm_sec = decode(r, r->reg[SEC]),
		.tm_min = decode(r, r->reg[MIN_]),
		.tm_hour = decode_hour(r, r->reg[HOUR]),
		.tm_mday = decode(r, r->reg[MDAY]),
		.tm_mon = decode(r, r->reg[MONTH]) - 1,
		/* what nanoseconds in 64 bits can hold */
		.tm_year = MIN(MAX(year, 1971), 2199) - 1900,
	};

	r->offset_ns = (int64_t)timegm(&tm) * NS_PER_S - clock_realtime_ns();
	r->last_s = guest_now(r) / NS_PER_S;
}

/* ---- events ---- */

static int64_t period_ns(const struct rtc *r)
{
	const unsigned rate = r->reg[REG_A] & 15;

	if (rate == 0)
		return 0;
	return NS_PER_S * (1 << (rate <= 2 ? rate + 6 : rate - 1)) / 32768;
}

static bool alarm_field(int want_raw, int want, int is)
{
	return (want_raw & 0xc0) == 0xc0 || want == is;
}

static bool alarm_at(const struct rtc *r, int64_t s)
{
	const int day = (int)(s % DAY);

	return alarm_field(r->reg[SEC_ALARM], decode(r, r->reg[SEC_ALARM]), day % 60) &&
	       alarm_field(r->reg[MIN_ALARM], decode(r, r->reg[MIN_ALARM]), day / 60 % 60) &&
	       alarm_field(r->reg[HOUR_ALARM], decode_hour(r, r->reg[HOUR_ALARM]), day / 3600);
}

static void update_irq(struct rtc *r)
{
	const bool on = (r->reg[REG_C] & r->reg[REG_B] & EV_ALL) != 0;

	r->reg[REG_C] = (uint8_t)((r->reg[REG_C] & EV_ALL) | (on ? C_IRQ : 0));
	if (on == r->line)
		return;
	r->line = on;
	bus_irq_set(r->dev->bus, r->cfg.irq, on);
}

/* Sets the flags of everything that has happened since the last look. */
static void advance(struct rtc *r)
{
	const int64_t s = guest_now(r) / NS_PER_S;
	const int64_t period = period_ns(r);
	const int64_t tick = period ? clock_monotonic_ns() / period : 0;

	if (tick != r->last_tick)
		r->reg[REG_C] |= EV_PERIODIC;
	r->last_tick = tick;
	if (s > r->last_s && !(r->reg[REG_B] & B_SET)) {
		r->reg[REG_C] |= EV_UPDATE;
		for (int64_t t = MAX(r->last_s + 1, s - DAY); t <= s; t++) {
			if (alarm_at(r, t))
				r->reg[REG_C] |= EV_ALARM;
		}
	}
	r->last_s = s;
	update_irq(r);
}

/* On the loop's thread. */
static void set_timer(struct rtc *r)
{
	const int64_t now = clock_monotonic_ns(), period = period_ns(r);
	int64_t at = INT64_MAX;

	if ((r->reg[REG_B] & EV_PERIODIC) && period)
		at = (now / period + 1) * period;
	if ((r->reg[REG_B] & (EV_UPDATE | EV_ALARM)) && !(r->reg[REG_B] & B_SET)) {
		const int64_t phase = guest_now(r) % NS_PER_S;

		at = MIN(at, now + NS_PER_S - phase);
	}
	if (at == INT64_MAX)
		loop_timer_cancel(r->cfg.loop, &r->timer);
	else
		loop_timer_set(r->cfg.loop, &r->timer, at);
}

static void fire(struct loop_timer *t)
{
	struct rtc *r = t->opaque;

	pthread_mutex_lock(&r->lock);
	advance(r);
	set_timer(r);
	pthread_mutex_unlock(&r->lock);
}

static void rearm(struct loop_work *w)
{
	struct rtc *r = w->opaque;

	pthread_mutex_lock(&r->lock);
	set_timer(r);
	pthread_mutex_unlock(&r->lock);
}

/* ---- registers ---- */

static bool is_time(unsigned i)
{
	return i == CENTURY || i == SEC || i == MIN_ || i == HOUR || (i >= WDAY && i <= YEAR);
}

static void write_time(struct rtc *r, unsigned i, uint8_t val)
{
	latch_time(r);
	r->reg[i] = val;
	if (!(r->reg[REG_B] & B_SET))
		take_time(r);
}

static void write_a(struct rtc *r, uint8_t val)
{
	r->reg[REG_A] = val & (uint8_t)~A_UIP;
	r->last_tick = period_ns(r) ? clock_monotonic_ns() / period_ns(r) : 0;
	if (r->reg[REG_B] & EV_PERIODIC)
		loop_post(r->cfg.loop, &r->rearm);
}

static void write_b(struct rtc *r, uint8_t val)
{
	const uint8_t was = r->reg[REG_B];

	if ((val & B_SET) && !(was & B_SET)) {
		latch_time(r);
		val &= (uint8_t)~EV_UPDATE;
	}
	r->reg[REG_B] = val;
	if ((was & B_SET) && !(val & B_SET))
		take_time(r);
	update_irq(r);
	if ((was ^ val) & (EV_ALL | B_SET) && ((was | val) & EV_ALL))
		loop_post(r->cfg.loop, &r->rearm);
}

static void cmos_write(struct rtc *r, unsigned i, uint8_t val)
{
	advance(r);
	if (is_time(i))
		write_time(r, i, val);
	else if (i == REG_A)
		write_a(r, val);
	else if (i == REG_B)
		write_b(r, val);
	else if (i != REG_C && i != REG_D)
		r->reg[i] = val;
}

static uint8_t read_c(struct rtc *r)
{
	uint8_t val;

	advance(r);
	val = r->reg[REG_C];
	r->reg[REG_C] = 0;
	update_irq(r);
	return val;
}

static uint8_t cmos_read(struct rtc *r, unsigned i)
{
	if (is_time(i))
		latch_time(r);
	if (i == REG_C)
		return read_c(r);
	if (i == REG_A && !(r->reg[REG_B] & B_SET) &&
	    guest_now(r) % NS_PER_S >= NS_PER_S - UPDATE_NS)
		return r->reg[REG_A] | A_UIP;
	return r->reg[i];
}

static void rtc_write(void *opaque, uint16_t off, uint32_t val, unsigned size)
{
	struct rtc *r = opaque;

	pthread_mutex_lock(&r->lock);
	if (off == 0)
		r->index = val & (CMOS_SIZE - 1);
	if (off == 1 || size > 1)
		cmos_write(r, r->index, (uint8_t)(off == 1 ? val : val >> 8));
	pthread_mutex_unlock(&r->lock);
}

static uint32_t rtc_read(void *opaque, uint16_t off, unsigned size)
{
	struct rtc *r = opaque;
	uint32_t val;

	pthread_mutex_lock(&r->lock);
	if (off == 1)
		val = cmos_read(r, r->index);
	else
		val = size > 1 ? 0xffu | (uint32_t)cmos_read(r, r->index) << 8 : 0xff;
	pthread_mutex_unlock(&r->lock);
	return val;
}

static const struct pio_ops rtc_ops = { rtc_read, rtc_write };

/* ---- lifecycle ---- */

static void put16(struct rtc *r, unsigned i, uint64_t val)
{
	val = MIN(val, (uint64_t)UINT16_MAX);
	r->reg[i] = (uint8_t)val;
	r->reg[i + 1] = (uint8_t)(val >> 8);
}

static void put_sizes(struct rtc *r)
{
	const uint64_t low = r->cfg.ram_below_4g, high = r->cfg.ram_above_4g / (64 * KiB);

	put16(r, 0x15, 640); /* KiB of base memory */
	put16(r, 0x17, low > MiB ? (low - MiB) / KiB : 0);
	put16(r, 0x30, low > MiB ? (low - MiB) / KiB : 0);
	put16(r, 0x34, low > 16 * MiB ? (low - 16 * MiB) / (64 * KiB) : 0);
	r->reg[0x5b] = (uint8_t)high;
	r->reg[0x5c] = (uint8_t)(high >> 8);
	r->reg[0x5d] = (uint8_t)(high >> 16);
}

/* A reset leaves the time and the memory; only interrupts are off. */
static void rtc_reset(struct dev *d)
{
	struct rtc *r = d->priv;

	pthread_mutex_lock(&r->lock);
	r->index = 0;
	write_b(r, r->reg[REG_B] & (uint8_t) ~(EV_ALL | B_SET));
	r->reg[REG_C] = 0;
	update_irq(r);
	pthread_mutex_unlock(&r->lock);
}

static int rtc_create(struct dev *d, const void *cfg, struct err *e)
{
	struct rtc *r = d->priv;
	int err;

	r->dev = d;
	r->cfg = *(const struct rtc_cfg *)cfg;
	r->timer.fire = fire;
	r->timer.opaque = r;
	r->rearm.run = rearm;
	r->rearm.opaque = r;
	r->reg[REG_A] = 0x26; /* 32,768 Hz crystal, 1,024 Hz rate */
	r->reg[REG_B] = B_24H;
	r->reg[REG_D] = D_VALID;
	put_sizes(r);
	r->last_s = guest_now(r) / NS_PER_S;
	r->last_tick = clock_monotonic_ns() / period_ns(r);
	r->range = (struct pio_range){ "rtc", r->cfg.base, 2, &rtc_ops, r, NULL };
	err = bus_pio_add(d->bus, &r->range);
	if (err < 0)
		return err_set(e, err, "%s: port %#x is taken", d->name, r->cfg.base);
	pthread_mutex_init(&r->lock, NULL);
	return 0;
}

static void rtc_destroy(struct dev *d)
{
	struct rtc *r = d->priv;

	loop_timer_cancel(r->cfg.loop, &r->timer);
	bus_pio_remove(d->bus, &r->range);
	pthread_mutex_destroy(&r->lock);
}

static const struct snap_field rtc_fields[] = {
	SNAP_FIELD(struct rtc, index),
	SNAP_FIELD(struct rtc, reg),
	SNAP_FIELD(struct rtc, offset_ns),
	SNAP_FIELD(struct rtc, line),
	SNAP_END,
};

const struct dev_class rtc_class = {
	.name = "rtc",
	.priv_size = sizeof(struct rtc),
	.create = rtc_create,
	.reset = rtc_reset,
	.destroy = rtc_destroy,
	.fields = rtc_fields,
};
