/* SPDX-License-Identifier: Apache-2.0 */
/* Local APIC: register sequences of SDM vol. 3, "Advanced Programmable Interrupt Controller". */
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "irqchip_fixture.h"

static void reset_values(void **state)
{
	uint64_t base;

	(void)state;
	on_cpu(1);
	assert_int_equal(apic_rd(0x20), 1u << 24);
	assert_int_equal(apic_rd(0x30), 0x01050014);
	assert_int_equal(apic_rd(0xf0), 0xff);
	assert_int_equal(apic_rd(0xe0), 0xffffffffu);
	for (unsigned off = 0x320; off <= 0x370; off += 0x10)
		assert_int_equal(apic_rd(off), 0x10000);
	assert_int_equal(msr_rd(0x1b, &base), 0);
	assert_int_equal(base, 0xfee00800);
	on_cpu(0);
	assert_int_equal(msr_rd(0x1b, &base), 0);
	assert_int_equal(base, 0xfee00900);
	assert_int_equal(fix->s[0]->apic_base, 0xfee00900);
}

static void software_disabled(void **state)
{
	(void)state;
	msi(0, 0x40);
	assert_int_equal(pending(0), -1); /* not accepted */
	apic_wr(0x350, 0x700);
	assert_int_equal(apic_rd(0x350), 0x10700); /* mask bits stay set */
	enable_all();
	apic_wr(0x350, 0x700);
	assert_int_equal(apic_rd(0x350), 0x700);
	apic_wr(0xf0, 0xff);
	assert_int_equal(apic_rd(0x350), 0x10700);
}

static void priorities_and_eoi(void **state)
{
	(void)state;
	enable_all();
	msi(0, 0x41);
	msi(0, 0x62);
	assert_int_equal(fix->v[0].irq_hint, 1);
	assert_int_equal(fix->kicks, 1);
	assert_int_equal(apic_rd(0x220), 2);	   /* IRR 0x41 */
	assert_int_equal(apic_rd(0x230), 1u << 2); /* IRR 0x62 */
	assert_int_equal(ack(0), 0x62);
	assert_int_equal(apic_rd(0xa0), 0x60);
	assert_int_equal(apic_rd(0x130), 1u << 2); /* ISR */
	assert_int_equal(pending(0), -1);	   /* 0x41 waits */
	msi(0, 0x63);
	assert_int_equal(pending(0), -1); /* same class */
	msi(0, 0x71);
	assert_int_equal(ack(0), 0x71);
	fix->v[0].irq_hint = 0;
	apic_wr(0xb0, 0);
	assert_int_equal(pending(0), -1);
	assert_int_equal(fix->v[0].irq_hint, 0);
	apic_wr(0xb0, 0); /* ends 0x62; 0x63 may come */
	assert_int_equal(fix->v[0].irq_hint, 1);
	assert_int_equal(ack(0), 0x63);
	apic_wr(0xb0, 0);
	assert_int_equal(ack(0), 0x41);
	apic_wr(0xb0, 0);
	assert_int_equal(pending(0), -1);
	assert_int_equal(ack(0), -1);
}

static void task_priority(void **state)
{
	(void)state;
	enable_all();
	irqchip_set_tpr(fix->chip, &fix->v[0], 5);
	assert_int_equal(apic_rd(0x80), 0x50);
	assert_int_equal(apic_rd(0xa0), 0x50);
	msi(0, 0x5f);
	assert_int_equal(pending(0), -1);
	fix->v[0].irq_hint = 0;
	apic_wr(0x80, 0x4f);
	assert_int_equal(fix->v[0].irq_hint, 1);
	assert_int_equal(irqchip_get_tpr(fix->chip, &fix->v[0]), 4);
	assert_int_equal(pending(0), 0x5f);
}

static void ipi_destinations(void **state)
{
	(void)state;
	enable_all();
	apic_wr(0x310, 2u << 24);
	apic_wr(0x300, 0x31); /* fixed, physical */
	assert_int_equal(ack(2), 0x31);
	assert_int_equal(pending(1), -1);
	apic_wr(0x300, 0x40032); /* self */
	assert_int_equal(ack(0), 0x32);
	apic_wr(0x300, 0xc0043); /* all but self */
	assert_int_equal(pending(0), -1);
	assert_int_equal(ack(1), 0x43);
	assert_int_equal(ack(2), 0x43);
	apic_wr(0x300, 0x80054); /* all */
	for (unsigned i = 0; i < FIX_CPUS; i++)
		assert_int_equal(ack(i), 0x54);
	apic_wr(0x310, 0xffu << 24);
	apic_wr(0x300, 0x65); /* physical broadcast */
	for (unsigned i = 0; i < FIX_CPUS; i++)
		assert_int_equal(ack(i), 0x65);
	assert_int_equal(apic_rd(0x300), 0x65); /* delivery status reads idle */
}

static void logical_modes(void **state)
{
	(void)state;
	enable_all();
	for (unsigned i = 0; i < FIX_CPUS; i++) {
		on_cpu(i);
		apic_wr(0xd0, 1u << (24 + i));
	}
	on_cpu(0);
	apic_wr(0x310, 6u << 24);
	apic_wr(0x300, 0x841); /* flat: CPUs 1 and 2 */
	assert_int_equal(pending(0), -1);
	assert_int_equal(ack(1), 0x41);
	assert_int_equal(ack(2), 0x41);
	/* Cluster 1: CPUs 0, 1; cluster 2: CPU 2 */
	for (unsigned i = 0; i < FIX_CPUS; i++) {
		on_cpu(i);
		apic_wr(0xe0, 0x0fffffff);
		apic_wr(0xd0, i == 2 ? 0x21000000 : (0x10000000 | 1u << (24 + i)));
	}
	on_cpu(0);
	apic_wr(0x310, 0x13000000);
	apic_wr(0x300, 0x852);
	assert_int_equal(ack(0), 0x52);
	assert_int_equal(ack(1), 0x52);
	assert_int_equal(pending(2), -1);
	apic_wr(0x310, 0xf1000000);
	apic_wr(0x300, 0x863); /* first of every cluster */
	assert_int_equal(ack(0), 0x63);
	assert_int_equal(pending(1), -1);
	assert_int_equal(ack(2), 0x63);
}

static void lowest_priority_takes_one(void **state)
{
	unsigned n = 0;

	(void)state;
	enable_all();
	apic_wr(0x300, 0x80100 | 0x77);
	for (unsigned i = 0; i < FIX_CPUS; i++)
		n += pending(i) == 0x77;
	assert_int_equal(n, 1);
}

static void nmi_init_sipi(void **state)
{
	(void)state;
	enable_all();
	apic_wr(0x310, 1u << 24);
	apic_wr(0x300, 0x400);
	assert_int_equal(fix->s[1]->nmi_pending, 1);
	assert_int_equal(fix->s[0]->nmi_pending, 0);
	msi(1, 0x44);
	apic_wr(0x300, 0x4500); /* INIT assert */
	assert_int_equal(fix->v[1].init_pending, 1);
	assert_int_equal(fix->v[1].irq_hint, 1);
	fix->v[1].init_pending = 0;
	apic_wr(0x300, 0x8500); /* INIT level de-assert: nothing */
	assert_int_equal(fix->v[1].init_pending, 0);
	apic_wr(0x300, 0x4600 | 0x9a);
	assert_int_equal(fix->v[1].sipi_pending, 0x19a);
	/* INIT reset the registers, not the id */
	assert_int_equal(pending(1), -1);
	on_cpu(1);
	assert_int_equal(apic_rd(0xf0), 0xff);
	assert_int_equal(apic_rd(0x20), 1u << 24);
}

static void errors(void **state)
{
	(void)state;
	enable_all();
	apic_wr(0x370, 0xe1);
	apic_wr(0x300, 0x40005); /* illegal vector to self */
	assert_int_equal(ack(0), 0xe1);
	assert_int_equal(apic_rd(0x280), 0); /* only a write latches it */
	apic_wr(0x280, 0);
	assert_int_equal(apic_rd(0x280), 1u << 5);
	msi(0, 3);
	apic_rd(0x40); /* no such register */
	apic_wr(0x280, 0);
	assert_int_equal(apic_rd(0x280), 1u << 6 | 1u << 7);
	apic_wr(0x280, 0);
	assert_int_equal(apic_rd(0x280), 0);
}

static void base_transitions(void **state)
{
	uint64_t v;

	(void)state;
	assert_int_equal(msr_wr(0x1b, 0xfee00d00 | 1), -1); /* reserved */
	assert_int_equal(msr_wr(0x1b, 0xfee00d00 | 1ull << 60), -1);
	assert_int_equal(msr_wr(0x1b, 0xfee00500), -1); /* EXTD without EN */
	assert_int_equal(msr_rd(0x802, &v), -1);	/* not in x2APIC mode */
	assert_int_equal(msr_wr(0x1b, 0xfee00d00), 0);
	assert_int_equal(msr_wr(0x1b, 0xfee00900), -1); /* x2APIC → xAPIC */
	assert_int_equal(apic_rd(0x30), 0xffffffffu);	/* the page is gone */
	assert_int_equal(msr_rd(0x803, &v), 0);
	assert_int_equal(v, 0x01050014);
	assert_int_equal(msr_wr(0x1b, 0xfee00100), 0);	/* off */
	assert_int_equal(msr_wr(0x1b, 0xfee00d00), -1); /* off → x2APIC */
	assert_int_equal(msr_wr(0x1b, 0xfee00900), 0);
	assert_int_equal(apic_rd(0x30), 0x01050014);
}

static void x2apic_registers(void **state)
{
	uint64_t v;

	(void)state;
	x2apic_all();
	on_cpu(2);
	assert_int_equal(msr_rd(0x802, &v), 0);
	assert_int_equal(v, 2);
	assert_int_equal(msr_rd(0x80d, &v), 0);
	assert_int_equal(v, 4); /* cluster 0, member 2 */
	assert_int_equal(msr_wr(0x80d, 4), -1);
	assert_int_equal(msr_rd(0x80e, &v), -1); /* no DFR */
	assert_int_equal(msr_rd(0x831, &v), -1); /* no ICR2 */
	assert_int_equal(msr_rd(0x80b, &v), -1); /* EOI is write-only */
	assert_int_equal(msr_wr(0x80b, 1), -1);
	assert_int_equal(msr_wr(0x80b, 0), 0);
	assert_int_equal(msr_wr(0x828, 1), -1);
	assert_int_equal(msr_wr(0x808, 0x100), -1);
	assert_int_equal(msr_wr(0x808, 1ull << 32), -1);
	assert_int_equal(msr_wr(0x80f, 0x2ff | 1u << 11), -1);
	assert_int_equal(msr_wr(0x832, 1u << 20), -1);
	assert_int_equal(msr_wr(0x83e, 4), -1);
	assert_int_equal(msr_wr(0x830, 1u << 20), -1);
	assert_int_equal(msr_rd(0x83f, &v), -1);
	assert_int_equal(msr_wr(0x8ff, 0), -1);
	assert_int_equal(msr_wr(0x83f, 0x99), 0);
	assert_int_equal(ack(2), 0x99);
}

static void x2apic_ipis(void **state)
{
	uint64_t v;

	(void)state;
	x2apic_all();
	assert_int_equal(msr_wr(0x830, 2ull << 32 | 0x41), 0);
	assert_int_equal(ack(2), 0x41);
	assert_int_equal(msr_rd(0x830, &v), 0);
	assert_int_equal(v, 2ull << 32 | 0x41);
	assert_int_equal(msr_wr(0x830, 3ull << 32 | 0x852), 0); /* logical: members 0 and 1 */
	assert_int_equal(ack(0), 0x52);
	assert_int_equal(ack(1), 0x52);
	assert_int_equal(pending(2), -1);
	assert_int_equal(msr_wr(0x830, 0x1ffffull << 32 | 0x853), 0); /* cluster 1: nobody */
	assert_int_equal(pending(0), -1);
	assert_int_equal(msr_wr(0x830, 0xffffffffull << 32 | 0x64), 0);
	for (unsigned i = 0; i < FIX_CPUS; i++)
		assert_int_equal(ack(i), 0x64);
	msi(0xff, 0x75); /* 8-bit broadcast reaches x2APIC CPUs */
	for (unsigned i = 0; i < FIX_CPUS; i++)
		assert_int_equal(ack(i), 0x75);
}

static void one_hint_one_kick(void **state)
{
	(void)state;
	enable_all();
	for (unsigned vec = 0x20; vec < 0x100; vec++)
		msi(1, vec);
	assert_int_equal(fix->kicks, 1);
	irqchip_send_msi(fix->chip, 0xfed00000, 0x41); /* not the APIC's */
	irqchip_send_msi(fix->chip, 0x1fee00000, 0x41);
	assert_int_equal(pending(0), -1);
}

enum { SENDERS = 2, ROUNDS = 5000 };
static atomic_uint taken[SENDERS];

static void *sender(void *arg)
{
	const unsigned i = (unsigned)(uintptr_t)arg;

	for (unsigned round = 1; round <= ROUNDS; round++) {
		msi(0, 0x41 + 0x20 * i);
		while (atomic_load(&taken[i]) != round)
			sched_yield();
	}
	return NULL;
}

/* Each sender waits for its interrupt to be taken: a lost one, or a lost hint, hangs here. */
static void nothing_is_lost(void **state)
{
	pthread_t t[SENDERS];
	unsigned n = 0;

	(void)state;
	enable_all();
	fix->v[0].irq_hint = 0;
	for (uintptr_t i = 0; i < SENDERS; i++) {
		taken[i] = 0;
		assert_int_equal(pthread_create(&t[i], NULL, sender, (void *)i), 0);
	}
	while (n < SENDERS * ROUNDS) {
		int vec;

		if (atomic_exchange(&fix->v[0].irq_hint, 0) == 0) {
			sched_yield();
			continue;
		}
		while ((vec = ack(0)) >= 0) {
			assert_true(vec == 0x41 || vec == 0x61);
			n++;
			apic_wr(0xb0, 0);
			atomic_fetch_add(&taken[(vec - 0x41) / 0x20], 1);
		}
	}
	for (unsigned i = 0; i < SENDERS; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(pending(0), -1);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, fix_setup, fix_teardown)
	const struct CMUnitTest tests[] = {
		T(reset_values),
		T(software_disabled),
		T(priorities_and_eoi),
		T(task_priority),
		T(ipi_destinations),
		T(logical_modes),
		T(lowest_priority_takes_one),
		T(nmi_init_sipi),
		T(errors),
		T(base_transitions),
		T(x2apic_registers),
		T(x2apic_ipis),
		T(one_hint_one_kick),
		T(nothing_is_lost),
	};

	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
