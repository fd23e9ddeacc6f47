/* SPDX-License-Identifier: Apache-2.0 */
/* 8259A pair: initialisation, priorities, EOI, cascade, spurious, ExtINT to the CPU. */
#include "irqchip_fixture.h"

/* Vectors 0x20 and 0x28, everything unmasked; CPU 0 takes ExtINT on LINT0. */
static void init(void)
{
	outb(0x20, 0x11);
	outb(0x21, 0x20);
	outb(0x21, 4);
	outb(0x21, 1);
	outb(0xa0, 0x11);
	outb(0xa1, 0x28);
	outb(0xa1, 2);
	outb(0xa1, 1);
	outb(0x21, 0);
	outb(0xa1, 0);
	apic_wr(0xf0, 0x1ff);
	apic_wr(0x350, 0x700);
}

static void pulse(unsigned irq)
{
	irqchip_set_line(fix->chip, irq, 1);
	irqchip_set_line(fix->chip, irq, 0);
}

static void masks(void **state)
{
	(void)state;
	outb(0x21, 0xfb);
	outb(0xa1, 0x5a);
	assert_int_equal(inb(0x21), 0xfb);
	assert_int_equal(inb(0xa1), 0x5a);
	init();
	outb(0x21, 0xff);
	pulse(1);
	assert_int_equal(pending(0), -1);
	fix->v[0].irq_hint = 0;
	outb(0x21, 0);
	assert_int_equal(fix->v[0].irq_hint, 1);
	assert_int_equal(ack(0), 0x21);
}

static void priorities(void **state)
{
	(void)state;
	init();
	pulse(4);
	pulse(1);
	assert_int_equal(pending(0), 0x21);
	assert_int_equal(pending(1), -1); /* its LVT is masked */
	assert_int_equal(ack(0), 0x21);
	outb(0x20, 0x0b);
	assert_int_equal(inb(0x20), 2); /* ISR */
	outb(0x20, 0x0a);
	assert_int_equal(inb(0x20), 0x10); /* IRR */
	assert_int_equal(pending(0), -1);
	pulse(0);
	assert_int_equal(ack(0), 0x20); /* higher priority nests */
	outb(0x20, 0x20);
	assert_int_equal(pending(0), -1);
	fix->v[0].irq_hint = 0;
	outb(0x20, 0x61); /* specific EOI of 1 */
	assert_int_equal(fix->v[0].irq_hint, 1);
	assert_int_equal(ack(0), 0x24);
	outb(0x20, 0x20);
	assert_int_equal(pending(0), -1);
}

static void cascade(void **state)
{
	(void)state;
	init();
	pulse(12);
	assert_int_equal(pending(0), 0x2c);
	assert_int_equal(ack(0), 0x2c);
	outb(0x20, 0x0b);
	assert_int_equal(inb(0x20), 4);
	outb(0xa0, 0x0b);
	assert_int_equal(inb(0xa0), 0x10);
	pulse(5);
	assert_int_equal(pending(0), -1); /* below the slave's input */
	outb(0xa0, 0x20);
	outb(0x20, 0x20);
	assert_int_equal(ack(0), 0x25);
}

static void rotation(void **state)
{
	(void)state;
	init();
	pulse(3);
	assert_int_equal(ack(0), 0x23);
	outb(0x20, 0xa0); /* rotate on non-specific EOI: 3 is now lowest */
	pulse(3);
	pulse(4);
	assert_int_equal(ack(0), 0x24);
	outb(0x20, 0x20);
	assert_int_equal(ack(0), 0x23);
	outb(0x20, 0x20);
	outb(0x20, 0xc0 | 5); /* set priority: 6 is highest */
	pulse(1);
	pulse(6);
	assert_int_equal(ack(0), 0x26);
}

static void level_and_auto_eoi(void **state)
{
	(void)state;
	init();
	outb(0x4d0, 0xff);
	assert_int_equal(inb(0x4d0), 0xf8);
	outb(0x4d1, 0xff);
	assert_int_equal(inb(0x4d1), 0xde);
	irqchip_set_line(fix->chip, 5, 1);
	assert_int_equal(ack(0), 0x25);
	outb(0x20, 0x20);
	assert_int_equal(ack(0), 0x25); /* still asserted */
	irqchip_set_line(fix->chip, 5, 0);
	outb(0x20, 0x20);
	assert_int_equal(pending(0), -1);
	outb(0x20, 0x11);
	outb(0x21, 0x40);
	outb(0x21, 4);
	outb(0x21, 3); /* automatic EOI */
	pulse(1);
	assert_int_equal(ack(0), 0x41);
	outb(0x20, 0x0b);
	assert_int_equal(inb(0x20), 0);
}

static void poll_and_special_mask(void **state)
{
	(void)state;
	init();
	pulse(3);
	outb(0x20, 0x0c);
	assert_int_equal(inb(0x20), 0x83);
	outb(0x20, 0x0c);
	assert_int_equal(inb(0x20), 0); /* in service: nothing more */
	pulse(6);
	assert_int_equal(pending(0), -1);
	outb(0x20, 0x68);
	outb(0x21, 8); /* special mask: a masked line in service blocks nobody */
	assert_int_equal(ack(0), 0x26);
}

static void ways_to_the_cpu(void **state)
{
	(void)state;
	init();
	apic_wr(0x350, 0x10700);
	pulse(1);
	assert_int_equal(pending(0), -1);
	/* IOAPIC pin 0 as ExtINT to CPU 2 */
	on_cpu(2);
	apic_wr(0xf0, 0x1ff);
	ioapic_wr(0x11, 2u << 24);
	ioapic_wr(0x10, 0x700);
	assert_int_equal(pending(2), 0x21);
	assert_int_equal(pending(0), -1);
	ioapic_wr(0x10, 0x10700);
	assert_int_equal(pending(2), -1);
	/* a disabled local APIC leaves LINT0 as INTR */
	on_cpu(0);
	assert_int_equal(msr_wr(0x1b, 0xfee00100), 0);
	assert_int_equal(ack(0), 0x21);
	outb(0x20, 0x20);
	/* LINT0 in fixed mode: the INTR edge becomes a local interrupt */
	assert_int_equal(msr_wr(0x1b, 0xfee00900), 0);
	apic_wr(0xf0, 0x1ff);
	apic_wr(0x350, 0x55);
	pulse(1);
	assert_int_equal(ack(0), 0x55);
}

static void spurious(void **state)
{
	(void)state;
	init();
	irqchip_set_line(fix->chip, 5, 1);
	outb(0x4d0, 0x20);
	assert_int_equal(pending(0), 0x25);
	irqchip_set_line(fix->chip, 5, 0); /* withdrawn before INTA */
	assert_int_equal(pending(0), -1);
	outb(0x20, 0x0c);
	assert_int_equal(inb(0x20), 0);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, fix_setup, fix_teardown)
	const struct CMUnitTest tests[] = {
		T(masks),	    T(priorities),	   T(cascade),
		T(rotation),	    T(level_and_auto_eoi), T(poll_and_special_mask),
		T(ways_to_the_cpu), T(spurious),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
