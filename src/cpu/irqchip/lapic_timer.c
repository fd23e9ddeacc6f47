/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Local APIC timer: one-shot, periodic, TSC-deadline (SDM vol. 3, "APIC Timer"). Its clock is 1 GHz,
 * so that a count is a number of nanoseconds times the divider.
 *
 * The truth is the deadline, compared with the clock whenever the vCPU looks for interrupts. A POSIX
 * timer that signals the vCPU's thread only makes it look; it is re-armed lazily: when the deadline moves
 * away, the old signal is let come and the poll that follows arms the timer anew.
 * The signal's value is the struct vcpu and its si_code SI_TIMER: the handler sets v->irq_hint.
 */
#include <errno.h>
#include <unistd.h>

#include "cpu/irqchip/irqchip_priv.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { TIMER_PERIODIC = 1, TIMER_TSC_DEADLINE = 2 }; /* 0, and 3 for want of a meaning: one-shot */
#define OFF INT64_MAX
#define FAR (INT64_MAX / 2)
/* A guest cannot have periodic interrupts more often than this: the host has to live. */
#define MIN_PERIOD_NS 20000

static unsigned mode_of(uint32_t lvt)
{
	return lvt >> 17 & 3;
}

static unsigned timer_mode(const struct lapic *l)
{
	return mode_of(atomic_load_explicit(&l->lvt[LVT_TIMER], memory_order_relaxed));
}

static int64_t deadline(const struct lapic *l)
{
	return atomic_load_explicit(&l->timer.deadline_ns, memory_order_relaxed);
}

static void set_deadline(struct lapic *l, int64_t ns)
{
	atomic_store_explicit(&l->timer.deadline_ns, ns, memory_order_relaxed);
}

static unsigned divider(const struct lapic *l)
{
	const unsigned code = (l->timer_div & 3) | (l->timer_div >> 1 & 4);

	return code == 7 ? 1 : 2u << code;
}

static uint64_t guest_tsc(const struct lapic *l)
{
	return clock_tsc() + l->v->s->tsc_offset;
}

/* When the guest's TSC will have reached tsc, rounded up. */
static int64_t tsc_to_ns(const struct lapic *l, uint64_t tsc, int64_t now)
{
	const uint64_t is = guest_tsc(l);
	unsigned __int128 ns;

	if (tsc <= is)
		return now;
	ns = (((unsigned __int128)(tsc - is) * l->chip->ns_per_tsc) >> 32) + 1;
	if (ns >= (unsigned __int128)(FAR - now))
		return FAR;
	return now + (int64_t)ns;
}

/* Makes the host's timer go off no later than the deadline. */
static void arm(struct lapic *l, int64_t now)
{
	struct lapic_timer *t = &l->timer;
	const int64_t at = deadline(l);
	struct itimerspec its = { { 0, 0 }, { 0, 0 } };

	if (!t->attached || at == OFF || at >= FAR || clock_is_virtual())
		return;
	if (t->armed_ns > now && t->armed_ns <= at)
		return;
	its.it_value.tv_sec = at / 1000000000;
	its.it_value.tv_nsec = at % 1000000000;
	if (timer_settime(t->id, TIMER_ABSTIME, &its, NULL) == 0)
		t->armed_ns = at;
}

void lapic_timer_stop(struct lapic *l)
{
	set_deadline(l, OFF);
	l->timer.tsc_deadline = 0;
	l->timer.period_ns = 0;
}

static void fire(struct lapic *l, int64_t now)
{
	struct lapic_timer *t = &l->timer;
	int64_t next = OFF;

	if (timer_mode(l) == TIMER_PERIODIC && t->period_ns > 0) {
		const int64_t late = now - deadline(l);

		next = now + (t->period_ns < MIN_PERIOD_NS ? MIN_PERIOD_NS
							   : t->period_ns - late % t->period_ns);
	}
	t->tsc_deadline = 0;
	set_deadline(l, next);
	lapic_local(l, LVT_TIMER);
}

static bool expired(const struct lapic *l, int64_t now)
{
	if (l->timer.tsc_deadline != 0)
		return guest_tsc(l) >= l->timer.tsc_deadline;
	return now >= deadline(l);
}

void lapic_timer_poll(struct lapic *l)
{
	int64_t now;

	if (likely(deadline(l) == OFF))
		return;
	now = clock_monotonic_ns();
	if (expired(l, now))
		fire(l, now);
	else if (l->timer.tsc_deadline != 0 && now >= deadline(l)) /* the two clocks have drifted */
		set_deadline(l, tsc_to_ns(l, l->timer.tsc_deadline, now));
	arm(l, now);
}

static void start(struct lapic *l, uint32_t count)
{
	const int64_t now = clock_monotonic_ns();
	const int64_t span = (int64_t)count * divider(l);

	l->timer.period_ns = (int64_t)l->timer_init * divider(l);
	set_deadline(l, now + span);
	arm(l, now);
}

void lapic_timer_start(struct lapic *l, uint32_t count)
{
	if (timer_mode(l) == TIMER_TSC_DEADLINE)
		return;
	lapic_timer_stop(l);
	l->timer_init = count;
	if (count != 0)
		start(l, count);
}

uint32_t lapic_timer_current(struct lapic *l)
{
	const unsigned div = divider(l);
	int64_t left;

	if (timer_mode(l) == TIMER_TSC_DEADLINE)
		return 0;
	lapic_timer_poll(l);
	if (deadline(l) == OFF)
		return 0;
	left = deadline(l) - clock_monotonic_ns();
	if (left <= 0)
		return 0;
	return (uint32_t)MIN((left + div - 1) / div, (int64_t)UINT32_MAX);
}

void lapic_timer_set_divider(struct lapic *l, uint32_t val)
{
	const uint32_t left = lapic_timer_current(l);

	l->timer_div = val;
	if (left != 0)
		start(l, left);
}

void lapic_timer_lvt_changed(struct lapic *l, uint32_t old)
{
	const unsigned was = mode_of(old), is = timer_mode(l);

	if (was != is && (was == TIMER_TSC_DEADLINE || is == TIMER_TSC_DEADLINE)) {
		lapic_timer_stop(l);
		l->timer_init = 0;
	}
	lapic_timer_poll(l);
}

void lapic_timer_set_tsc(struct lapic *l, uint64_t tsc)
{
	int64_t now;

	if (timer_mode(l) != TIMER_TSC_DEADLINE)
		return;
	lapic_timer_stop(l);
	if (tsc == 0)
		return;
	now = clock_monotonic_ns();
	l->timer.tsc_deadline = tsc;
	if (expired(l, now)) {
		fire(l, now);
		return;
	}
	set_deadline(l, tsc_to_ns(l, tsc, now));
	arm(l, now);
}

uint64_t lapic_timer_get_tsc(struct lapic *l)
{
	lapic_timer_poll(l);
	return l->timer.tsc_deadline;
}

int64_t irqchip_timer_deadline(const struct vcpu *v)
{
	const struct lapic *l = v->lapic;

	if (atomic_load_explicit(&l->lvt[LVT_TIMER], memory_order_relaxed) & LVT_MASKED)
		return OFF;
	return deadline(l);
}

int lapic_thread_attach(struct vcpu *v, int signo)
{
	struct lapic *l = v->lapic;
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = signo };

	ev.sigev_value.sival_ptr = v;
	ev.sigev_notify_thread_id = gettid();
	if (timer_create(CLOCK_MONOTONIC, &ev, &l->timer.id) < 0)
		return -errno;
	l->timer.attached = true;
	l->timer.armed_ns = OFF;
	arm(l, clock_monotonic_ns());
	return 0;
}

void lapic_thread_detach(struct vcpu *v)
{
	struct lapic *l = v->lapic;

	if (!l->timer.attached)
		return;
	timer_delete(l->timer.id);
	l->timer.attached = false;
	l->timer.armed_ns = OFF;
}
