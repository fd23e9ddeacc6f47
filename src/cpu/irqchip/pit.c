/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 8254 interval timer (Intel 8254 data sheet) and port 0x61 (ICH9, NMI status and control).
 *
 * Counters are computed from the clock when looked at. Only channel 0 in a mode that makes interrupts
 * uses a timer, on the loop it was given; vCPU threads, which may not touch the loop's timers, post the
 * re-arming to it. pit.lock guards all of it. The loop must not run after pit_fini.
 */
#include "cpu/irqchip/irqchip_priv.h"

#define PIT_HZ 1193182u
#define NS_PER_S 1000000000u
/* Interrupts come no closer than this, whatever the guest programs. */
#define MIN_PERIOD_NS 100000
#define REFRESH_NS 15085 /* the memory refresh bit toggles */
#define P61_GATE2 1u
#define P61_REFRESH 0x10u
#define P61_OUT2 0x20u

static uint64_t ns_to_clocks(int64_t ns)
{
	return (uint64_t)((unsigned __int128)ns * PIT_HZ / NS_PER_S);
}

static int64_t clocks_to_ns(uint64_t clocks)
{
	return (int64_t)(((unsigned __int128)clocks * NS_PER_S + PIT_HZ - 1) / PIT_HZ);
}

/* In these modes a low gate stops the count; in the others its rising edge starts it. */
static bool gate_counts(const struct pit_channel *ch)
{
	return ch->mode != 1 && ch->mode != 5;
}

static bool running(const struct pit_channel *ch)
{
	return ch->loaded && (gate_counts(ch) || ch->triggered);
}

static uint64_t elapsed(const struct pit_channel *ch, int64_t now)
{
	if (!ch->gate && gate_counts(ch))
		return ch->frozen;
	return now > ch->start_ns ? ns_to_clocks(now - ch->start_ns) : 0;
}

static bool out(const struct pit_channel *ch, int64_t now)
{
	uint64_t d;

	if (!running(ch))
		return ch->mode != 0;
	d = elapsed(ch, now);
	switch (ch->mode) {
	case 0:
	case 1: return d >= ch->count;
	case 2: return !ch->gate || d % ch->count != ch->count - 1;
	case 3: return !ch->gate || d % ch->count < (ch->count + 1) / 2;
	default: return d != ch->count;
	}
}

static uint16_t to_bcd(uint32_t v)
{
	return (uint16_t)(v % 10 | (v / 10 % 10) << 4 | (v / 100 % 10) << 8 |
			  (v / 1000 % 10) << 12);
}

static uint32_t from_bcd(uint16_t v)
{
	return (v & 15u) + (v >> 4 & 15u) * 10 + (v >> 8 & 15u) * 100 + (v >> 12 & 15u) * 1000;
}

/* The counting element as software reads it. */
static uint16_t counter(const struct pit_channel *ch, int64_t now)
{
	const uint64_t d = running(ch) ? elapsed(ch, now) : 0;
	const uint32_t wrap = ch->bcd ? 10000 : 65536;
	uint32_t v;

	switch (ch->mode) {
	case 2: v = ch->count - (uint32_t)(d % ch->count); break;
	case 3: v = ch->count - (uint32_t)(2 * d % ch->count); break;
	default: v = (uint32_t)((ch->count + wrap - d % wrap) % wrap); break;
	}
	return ch->bcd ? to_bcd(v) : (uint16_t)v;
}

/* ---- interrupt 0 ---- */

/* First edge of channel 0's output after now, or INT64_MAX. */
static int64_t next_edge(const struct pit_channel *ch, int64_t now)
{
	uint64_t periods = 0;
	int64_t at;

	if (!ch->loaded || !gate_counts(ch))
		return INT64_MAX;
	if (ch->mode == 2 || ch->mode == 3)
		periods = elapsed(ch, now) / ch->count;
	at = ch->start_ns + clocks_to_ns((periods + 1) * ch->count);
	if (ch->mode == 2 || ch->mode == 3)
		return MAX(at, now + MIN_PERIOD_NS);
	return at > now ? at : INT64_MAX;
}

static void set_irq0(struct pit *p, int level)
{
	irqchip_set_line(p->chip, 0, level);
}

/* On the loop's thread. */
static void rearm(struct loop_work *w)
{
	struct pit *p = w->opaque;

	pthread_mutex_lock(&p->lock);
	if (p->next_ns == INT64_MAX)
		loop_timer_cancel(p->loop, &p->timer);
	else
		loop_timer_set(p->loop, &p->timer, p->next_ns);
	pthread_mutex_unlock(&p->lock);
}

static void fire(struct loop_timer *t)
{
	struct pit *p = t->opaque;
	const int64_t now = clock_monotonic_ns();

	pthread_mutex_lock(&p->lock);
	if (p->next_ns <= now) {
		set_irq0(p, 0);
		set_irq0(p, 1);
		p->next_ns = next_edge(&p->ch[0], now);
	}
	if (p->next_ns != INT64_MAX)
		loop_timer_set(p->loop, &p->timer, p->next_ns);
	pthread_mutex_unlock(&p->lock);
}

static void channel0_changed(struct pit *p, int64_t now)
{
	const int64_t was = p->next_ns;

	if (p->ch[0].mode == 0)
		set_irq0(p, 0);
	p->next_ns = next_edge(&p->ch[0], now);
	if (p->next_ns != was)
		loop_post(p->loop, &p->rearm);
}

/* ---- registers ---- */

static void load(struct pit *p, unsigned n, uint16_t val)
{
	struct pit_channel *ch = &p->ch[n];
	const int64_t now = clock_monotonic_ns();
	uint32_t count = ch->bcd ? from_bcd(val) : val;

	if (count == 0)
		count = ch->bcd ? 10000 : 65536;
	if (count == 1 && (ch->mode == 2 || ch->mode == 3))
		count = 2; /* one is not a legal count there */
	ch->count = count;
	ch->loaded = true;
	ch->frozen = 0;
	if (gate_counts(ch))
		ch->start_ns = now;
	if (n == 0)
		channel0_changed(p, now);
}

static void write_counter(struct pit *p, unsigned n, uint8_t val)
{
	struct pit_channel *ch = &p->ch[n];

	switch (ch->access) {
	case 1: load(p, n, val); break;
	case 2: load(p, n, (uint16_t)(val << 8)); break;
	default:
		if (ch->write_high)
			load(p, n, (uint16_t)(ch->low | val << 8));
		else
			ch->low = val;
		ch->write_high = !ch->write_high;
		break;
	}
}

static void latch_count(struct pit_channel *ch, int64_t now)
{
	if (ch->latched != 0)
		return;
	ch->latch = counter(ch, now);
	ch->latched = ch->access == 3 ? 2 : 1;
}

static void latch_status(struct pit_channel *ch, int64_t now)
{
	if (ch->status_latched)
		return;
	ch->status = (uint8_t)((out(ch, now) ? 0x80 : 0) | (ch->loaded ? 0 : 0x40) |
			       ch->access << 4 | ch->mode << 1 | (ch->bcd ? 1 : 0));
	ch->status_latched = true;
}

static void read_back(struct pit *p, uint8_t val)
{
	const int64_t now = clock_monotonic_ns();

	for (unsigned n = 0; n < 3; n++) {
		if (!(val >> (n + 1) & 1))
			continue;
		if (!(val & 0x20))
			latch_count(&p->ch[n], now);
		if (!(val & 0x10))
			latch_status(&p->ch[n], now);
	}
}

static void write_control(struct pit *p, uint8_t val)
{
	const unsigned n = val >> 6;
	struct pit_channel *ch;

	if (n == 3) {
		read_back(p, val);
		return;
	}
	ch = &p->ch[n];
	if ((val & 0x30) == 0) {
		latch_count(ch, clock_monotonic_ns());
		return;
	}
	ch->access = val >> 4 & 3;
	ch->mode = val >> 1 & 7;
	if (ch->mode > 5)
		ch->mode &= 3; /* the top bit of modes 2 and 3 is ignored */
	ch->bcd = val & 1;
	ch->loaded = ch->triggered = ch->write_high = ch->read_high = ch->status_latched = false;
	ch->latched = 0;
	if (n == 0)
		channel0_changed(p, clock_monotonic_ns());
}

static uint8_t read_latched(struct pit_channel *ch)
{
	const bool high = ch->access == 2 || (ch->access == 3 && ch->latched == 1);

	ch->latched--;
	return (uint8_t)(high ? ch->latch >> 8 : ch->latch);
}

static uint8_t read_counter(struct pit_channel *ch)
{
	uint16_t v;
	bool high;

	if (ch->status_latched) {
		ch->status_latched = false;
		return ch->status;
	}
	if (ch->latched != 0)
		return read_latched(ch);
	v = counter(ch, clock_monotonic_ns());
	high = ch->access == 2 || (ch->access == 3 && ch->read_high);
	if (ch->access == 3)
		ch->read_high = !ch->read_high;
	return (uint8_t)(high ? v >> 8 : v);
}

static uint32_t pit_read(void *opaque, uint16_t off, unsigned size)
{
	struct pit *p = opaque;
	uint32_t val = 0;

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < size; i++) {
		const unsigned n = off + i;

		val |= (n < 3 ? read_counter(&p->ch[n]) : 0xffu) << (8 * i);
	}
	pthread_mutex_unlock(&p->lock);
	return val;
}

static void pit_write(void *opaque, uint16_t off, uint32_t val, unsigned size)
{
	struct pit *p = opaque;

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < size; i++) {
		const unsigned n = off + i;
		const uint8_t byte = (uint8_t)(val >> (8 * i));

		if (n < 3)
			write_counter(p, n, byte);
		else
			write_control(p, byte);
	}
	pthread_mutex_unlock(&p->lock);
}

static const struct pio_ops pit_ops = { pit_read, pit_write };

/* ---- port 0x61 ---- */

static void set_gate(struct pit_channel *ch, bool gate)
{
	const int64_t now = clock_monotonic_ns();

	if (gate == (ch->gate != 0))
		return;
	if (!gate) {
		ch->frozen = running(ch) ? elapsed(ch, now) : 0;
		ch->gate = 0;
		return;
	}
	ch->gate = 1;
	ch->triggered = ch->loaded;
	/* Modes 0 and 4 go on where they stood, the others start anew. */
	ch->start_ns = now;
	if (ch->mode == 0 || ch->mode == 4)
		ch->start_ns -= clocks_to_ns(ch->frozen);
}

static uint32_t p61_read(void *opaque, uint16_t off, unsigned size)
{
	struct pit *p = opaque;
	const int64_t now = clock_monotonic_ns();
	uint32_t val;

	(void)off;
	(void)size;
	pthread_mutex_lock(&p->lock);
	val = p->port61;
	if (now / REFRESH_NS & 1)
		val |= P61_REFRESH;
	if (out(&p->ch[2], now))
		val |= P61_OUT2;
	pthread_mutex_unlock(&p->lock);
	return val;
}

static void p61_write(void *opaque, uint16_t off, uint32_t val, unsigned size)
{
	struct pit *p = opaque;

	(void)off;
	(void)size;
	pthread_mutex_lock(&p->lock);
	p->port61 = val & 0xf;
	set_gate(&p->ch[2], val & P61_GATE2);
	pthread_mutex_unlock(&p->lock);
}

static const struct pio_ops p61_ops = { p61_read, p61_write };

/* ---- lifecycle ---- */

void pit_reset(struct irqchip *c)
{
	struct pit *p = &c->pit;

	pthread_mutex_lock(&p->lock);
	for (unsigned n = 0; n < 3; n++)
		p->ch[n] = (struct pit_channel){ .count = 65536, .access = 3, .gate = n != 2 };
	p->port61 = 0;
	channel0_changed(p, 0);
	pthread_mutex_unlock(&p->lock);
}

int pit_init(struct irqchip *c, struct loop *loop)
{
	struct pit *p = &c->pit;
	int r;

	p->chip = c;
	p->loop = loop;
	p->next_ns = INT64_MAX;
	p->timer.fire = fire;
	p->timer.opaque = p;
	p->rearm.run = rearm;
	p->rearm.opaque = p;
	p->range = (struct pio_range){ "pit", 0x40, 4, &pit_ops, p, NULL };
	p->range61 = (struct pio_range){ "port61", 0x61, 1, &p61_ops, p, NULL };
	r = bus_pio_add(c->bus, &p->range);
	if (r < 0)
		return r;
	r = bus_pio_add(c->bus, &p->range61);
	if (r < 0) {
		bus_pio_remove(c->bus, &p->range);
		return r;
	}
	pthread_mutex_init(&p->lock, NULL);
	return 0;
}

void pit_fini(struct irqchip *c)
{
	struct pit *p = &c->pit;

	loop_timer_cancel(p->loop, &p->timer);
	bus_pio_remove(c->bus, &p->range61);
	bus_pio_remove(c->bus, &p->range);
	pthread_mutex_destroy(&p->lock);
}
