/* SPDX-License-Identifier: Apache-2.0 */
/* I/O APIC: 82093AA register sequences; EOI with the local APIC. */
#include "irqchip_fixture.h"

static void program(unsigned pin, unsigned dest, uint32_t low)
{
	ioapic_wr(0x11 + 2 * pin, dest << 24);
	ioapic_wr(0x10 + 2 * pin, low);
}

static void registers(void **state)
{
	(void)state;
	assert_int_equal(ioapic_rd(1), 0x00170020);
	for (unsigned pin = 0; pin < 24; pin++)
		assert_int_equal(ioapic_rd(0x10 + 2 * pin), 0x10000);
	ioapic_wr(0, 0xffffffff);
	assert_int_equal(ioapic_rd(0), 0x0f000000);
	ioapic_wr(0x12, 0xffffffff);
	assert_int_equal(ioapic_rd(0x12), 0x1afff); /* status and remote IRR are read-only */
	assert_int_equal(ioapic_rd(0x40), 0);	    /* past the table */
}

static void edge(void **state)
{
	(void)state;
	enable_all();
	irqchip_set_line(fix->chip, 5, 1);
	program(5, 1, 0x45); /* the edge came while masked: lost */
	assert_int_equal(pending(1), -1);
	irqchip_set_line(fix->chip, 5, 1); /* no new edge */
	assert_int_equal(pending(1), -1);
	irqchip_set_line(fix->chip, 5, 0);
	irqchip_set_line(fix->chip, 5, 1);
	assert_int_equal(ack(1), 0x45);
	on_cpu(1);
	assert_int_equal(apic_rd(0x1a0), 0); /* TMR */
	apic_wr(0xb0, 0);
	assert_int_equal(pending(1), -1);
	irqchip_set_line(fix->chip, 24, 1); /* no such pin */
	irqchip_set_line(fix->chip, 4000000000u, 1);
}

static void level(void **state)
{
	(void)state;
	enable_all();
	program(9, 0, 0x8059);
	irqchip_set_line(fix->chip, 9, 1);
	assert_int_equal(ioapic_rd(0x22), 0xc059); /* remote IRR */
	assert_int_equal(ack(0), 0x59);
	assert_int_equal(apic_rd(0x1a0), 1u << 0x19);
	irqchip_set_line(fix->chip, 9, 0);
	irqchip_set_line(fix->chip, 9, 1);
	assert_int_equal(pending(0), -1); /* held back until EOI */
	apic_wr(0xb0, 0);
	assert_int_equal(ack(0), 0x59); /* still asserted: again */
	irqchip_set_line(fix->chip, 9, 0);
	apic_wr(0xb0, 0);
	assert_int_equal(pending(0), -1);
	assert_int_equal(ioapic_rd(0x22), 0x8059);
	ioapic_wr(0x22, 0x18059);
	irqchip_set_line(fix->chip, 9, 1);
	assert_int_equal(pending(0), -1);
	ioapic_wr(0x22, 0x8059); /* a level is seen on unmasking */
	assert_int_equal(pending(0), 0x59);
}

static void directed_eoi(void **state)
{
	(void)state;
	enable_all();
	apic_wr(0xf0, 0x11ff); /* no EOI broadcast */
	program(9, 0, 0x8059);
	irqchip_set_line(fix->chip, 9, 1);
	assert_int_equal(ack(0), 0x59);
	apic_wr(0xb0, 0);
	assert_int_equal(pending(0), -1);
	assert_int_equal(ioapic_rd(0x22), 0xc059);
	irqchip_set_line(fix->chip, 9, 0);
	mem_store(fix->mem, IOAPIC_PAGE + 0x40, 0x58, 4); /* another vector */
	assert_int_equal(ioapic_rd(0x22), 0xc059);
	mem_store(fix->mem, IOAPIC_PAGE + 0x40, 0x59, 4);
	assert_int_equal(ioapic_rd(0x22), 0x8059);
	/* the old way: to edge and back clears remote IRR */
	irqchip_set_line(fix->chip, 9, 1);
	assert_int_equal(ioapic_rd(0x22), 0xc059);
	irqchip_set_line(fix->chip, 9, 0);
	ioapic_wr(0x22, 0x10059);
	ioapic_wr(0x22, 0x8059);
	assert_int_equal(ioapic_rd(0x22), 0x8059);
}

static void timer_is_pin_2(void **state)
{
	(void)state;
	enable_all();
	program(2, 0, 0x30);
	irqchip_set_line(fix->chip, 0, 1);
	assert_int_equal(ack(0), 0x30);
}

static void nmi_and_logical(void **state)
{
	(void)state;
	enable_all();
	program(4, 2, 0x400);
	irqchip_set_line(fix->chip, 4, 1);
	assert_int_equal(fix->s[2]->nmi_pending, 1);
	assert_int_equal(fix->s[0]->nmi_pending, 0);
	on_cpu(1);
	apic_wr(0xd0, 2u << 24);
	program(6, 2, 0x866);
	irqchip_set_line(fix->chip, 6, 1);
	assert_int_equal(ack(1), 0x66);
	assert_int_equal(pending(2), -1);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, fix_setup, fix_teardown)
	const struct CMUnitTest tests[] = {
		T(registers),	 T(edge),	    T(level),
		T(directed_eoi), T(timer_is_pin_2), T(nmi_and_logical),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
