/* SPDX-License-Identifier: Apache-2.0 */
/* Local APIC timer, by the real clock: bounds are loose above and exact below. */
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "cpu/kick.h"
#include "irqchip_fixture.h"

#define MS 1000000ll

static atomic_uint signals;

static void sleep_until(int64_t ns)
{
	const struct timespec ts = { ns / 1000000000, ns % 1000000000 };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) != 0)
		;
}

static void one_shot(void **state)
{
	const int64_t t0 = clock_monotonic_ns();
	uint32_t cur;

	(void)state;
	enable_all();
	apic_wr(0x320, 0x30);
	apic_wr(0x3e0, 0xb); /* divide by one: a count is a nanosecond */
	assert_int_equal(irqchip_timer_deadline(&fix->v[0]), INT64_MAX);
	apic_wr(0x380, 2000000000);
	cur = apic_rd(0x390);
	assert_in_range(cur, 1, 2000000000);
	apic_wr(0x380, 5000000);
	assert_in_range(irqchip_timer_deadline(&fix->v[0]), t0 + 5 * MS, t0 + 1000 * MS);
	assert_int_equal(apic_rd(0x380), 5000000);
	sleep_until(irqchip_timer_deadline(&fix->v[0]));
	assert_int_equal(ack(0), 0x30);
	apic_wr(0xb0, 0);
	assert_int_equal(apic_rd(0x390), 0);
	assert_int_equal(irqchip_timer_deadline(&fix->v[0]), INT64_MAX);
	assert_int_equal(pending(0), -1);
}

static void divider(void **state)
{
	static const struct {
		uint32_t code;
		int64_t by;
	} rows[] = {
		{ 0, 2 },  { 1, 4 },  { 2, 8 },	   { 3, 16 },
		{ 8, 32 }, { 9, 64 }, { 10, 128 }, { 11, 1 },
	};

	(void)state;
	enable_all();
	apic_wr(0x320, 0x30);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		int64_t t0, t1;

		apic_wr(0x380, 0);
		apic_wr(0x3e0, rows[i].code);
		t0 = clock_monotonic_ns();
		apic_wr(0x380, 100000000);
		t1 = clock_monotonic_ns();
		assert_in_range(irqchip_timer_deadline(&fix->v[0]), t0 + rows[i].by * 100 * MS,
				t1 + rows[i].by * 100 * MS);
	}
}

static void periodic_and_mask(void **state)
{
	int64_t d;

	(void)state;
	enable_all();
	apic_wr(0x3e0, 0xb);
	apic_wr(0x320, 0x20031);
	apic_wr(0x380, 2 * MS);
	d = irqchip_timer_deadline(&fix->v[0]);
	for (unsigned i = 0; i < 3; i++) {
		sleep_until(irqchip_timer_deadline(&fix->v[0]));
		assert_int_equal(ack(0), 0x31);
		apic_wr(0xb0, 0);
		/* later deadlines keep the phase */
		assert_int_equal((irqchip_timer_deadline(&fix->v[0]) - d) % (2 * MS), 0);
	}
	apic_wr(0x320, 0x30031); /* masked: nothing to wake for, the count goes on */
	assert_int_equal(irqchip_timer_deadline(&fix->v[0]), INT64_MAX);
	assert_in_range(apic_rd(0x390), 1, 2 * MS);
	sleep_until(clock_monotonic_ns() + 3 * MS);
	assert_int_equal(pending(0), -1);
	apic_wr(0x380, 0);
	assert_int_equal(apic_rd(0x390), 0);
}

static void tsc_deadline(void **state)
{
	const uint64_t offset = 0x123456789abcull;
	uint64_t now, v;
	int64_t t0;

	(void)state;
	enable_all();
	fix->s[0]->tsc_offset = offset;
	assert_int_equal(msr_wr(0x6e0, __rdtsc() + offset + 1000), 0);
	assert_int_equal(msr_rd(0x6e0, &v), 0);
	assert_int_equal(v, 0); /* ignored in the other modes */
	apic_wr(0x320, 0x40032);
	now = __rdtsc() + offset;
	t0 = clock_monotonic_ns();
	assert_int_equal(msr_wr(0x6e0, now + FIX_TSC_HZ), 0); /* a second ahead */
	assert_in_range(irqchip_timer_deadline(&fix->v[0]), t0 + 500 * MS,
			clock_monotonic_ns() + 1000 * MS);
	assert_int_equal(msr_rd(0x6e0, &v), 0);
	assert_int_equal(v, now + FIX_TSC_HZ);
	assert_int_equal(pending(0), -1);
	assert_int_equal(msr_wr(0x6e0, 0), 0);
	assert_int_equal(irqchip_timer_deadline(&fix->v[0]), INT64_MAX);
	assert_int_equal(msr_wr(0x6e0, now), 0); /* in the past: at once */
	assert_int_equal(pending(0), 0x32);
	assert_int_equal(msr_rd(0x6e0, &v), 0);
	assert_int_equal(v, 0);
	assert_int_equal(ack(0), 0x32);
	apic_wr(0xb0, 0);
	/* never before its time, whatever the calibration says */
	now = __rdtsc() + offset;
	assert_int_equal(msr_wr(0x6e0, now + 3000000), 0);
	while (pending(0) < 0)
		;
	assert_true(__rdtsc() + offset >= now + 3000000);
	assert_int_equal(msr_wr(0x6e0, UINT64_MAX), 0); /* no overflow */
	assert_true(irqchip_timer_deadline(&fix->v[0]) > clock_monotonic_ns());
	apic_wr(0x320, 0x32); /* leaving the mode disarms */
	assert_int_equal(irqchip_timer_deadline(&fix->v[0]), INT64_MAX);
}

static void on_signal(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)uc;
	if (si->si_code == SI_TIMER) {
		struct vcpu *v = si->si_value.sival_ptr;

		atomic_store(&v->irq_hint, 1);
		atomic_fetch_add(&signals, 1);
	}
}

static void *run_attached(void *arg)
{
	struct vcpu *v = arg;

	vcpu_self = v;
	assert_int_equal(lapic_thread_attach(v, CPU_KICK_SIGNAL), 0);
	while (signals == 0)
		; /* guest code that looks at nothing */
	assert_int_equal(irqchip_irq_pending(fix->chip, v), 0x33);
	/* a deadline that moves away keeps the armed timer: one spurious signal, then the real one */
	signals = 0;
	assert_int_equal(irqchip_irq_ack(fix->chip, v), 0x33);
	apic_wr(0xb0, 0);
	apic_wr(0x380, 3 * MS);
	apic_wr(0x380, 9 * MS);
	while (irqchip_irq_pending(fix->chip, v) < 0) {
		while (atomic_exchange(&v->irq_hint, 0) == 0)
			;
	}
	assert_in_range(signals, 1, 2); /* one, if this thread did not run in between */
	lapic_thread_detach(v);
	return NULL;
}

static void signals_its_thread(void **state)
{
	const struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
	pthread_t t;

	(void)state;
	sigaction(CPU_KICK_SIGNAL, &sa, NULL);
	enable_all();
	apic_wr(0x3e0, 0xb);
	apic_wr(0x320, 0x33);
	apic_wr(0x380, 2 * MS);
	fix->v[0].irq_hint = 0;
	signals = 0;
	assert_int_equal(pthread_create(&t, NULL, run_attached, &fix->v[0]), 0);
	pthread_join(t, NULL);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, fix_setup, fix_teardown)
	const struct CMUnitTest tests[] = {
		T(one_shot),	       T(divider), T(periodic_and_mask), T(tsc_deadline),
		T(signals_its_thread),
	};

	alarm(30);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
