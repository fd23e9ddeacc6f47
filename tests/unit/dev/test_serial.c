/* SPDX-License-Identifier: Apache-2.0 */
/* 16550A: register sequences of the data sheet and of Linux's driver. */
#include "legacy_fixture.h"

#include "dev/legacy/serial.h"

enum { P = 0x3f8 };

static void output(void *opaque, const uint8_t *buf, size_t n)
{
	struct fixture *f = opaque;

	assert_true(f->out_len + n <= sizeof(f->out));
	memcpy(f->out + f->out_len, buf, n);
	f->out_len += n;
}

static void start(void)
{
	const struct serial_cfg cfg = {
		.base = P,
		.irq = 4,
		.output = output,
		.room = fix_callback,
		.opaque = fix,
	};

	fix_start(&serial_class, &cfg);
}

static size_t feed(const char *s)
{
	return serial_receive(fix->dev, (const uint8_t *)s, strlen(s));
}

static void divisor_and_scratch(void **state)
{
	(void)state;
	start();
	outb(P + 7, 0xa5);
	assert_int_equal(inb(P + 7), 0xa5);
	outb(P + 3, 0x83);
	outb(P, 1);
	outb(P + 1, 0x12);
	assert_int_equal(inb(P), 1);
	assert_int_equal(inb(P + 1), 0x12);
	outb(P + 3, 3);
	assert_int_equal(inb(P + 1), 0); /* IER again */
	assert_int_equal(inb(P + 3), 3);
	outb(P + 1, 0xff);
	assert_int_equal(inb(P + 1), 0x0f);
	assert_int_equal(fix->out_len, 0);
}

static void fifo_detection(void **state)
{
	(void)state;
	start();
	assert_int_equal(inb(P + 2), 0x01);
	outb(P + 2, 1);
	assert_int_equal(inb(P + 2), 0xc1); /* 16550A */
	outb(P + 2, 0xc0);		    /* without bit 0 nothing else counts */
	assert_int_equal(inb(P + 2), 0x01);
}

static void transmit_polled(void **state)
{
	(void)state;
	start();
	assert_int_equal(inb(P + 5), 0x60);
	for (const char *s = "hello"; *s; s++)
		outb(P, (uint8_t)*s);
	assert_int_equal(inb(P + 5), 0x60);
	assert_int_equal(fix->out_len, 5);
	assert_memory_equal(fix->out, "hello", 5);
	assert_int_equal(fix->calls, 0); /* no interrupt enabled: the line is not touched */
}

static void thre_interrupt(void **state)
{
	(void)state;
	start();
	outb(P + 4, 8);
	outb(P + 1, 2);
	assert_int_equal(fix->line[4], 1); /* enabling it raises it: the register is empty */
	assert_int_equal(inb(P + 2), 0x02);
	assert_int_equal(fix->line[4], 0); /* reading IIR clears it */
	assert_int_equal(inb(P + 2), 0x01);
	outb(P, 'x');
	assert_int_equal(fix->rises[4], 2);
	outb(P + 1, 0);
	assert_int_equal(fix->line[4], 0);
	outb(P + 1, 2); /* Linux checks that it comes again */
	assert_int_equal(inb(P + 2), 0x02);
	outb(P + 1, 2); /* already enabled: nothing new */
	assert_int_equal(inb(P + 2), 0x01);
}

static void out2_gates_the_line(void **state)
{
	(void)state;
	start();
	outb(P + 1, 1);
	assert_int_equal(feed("a"), 1);
	assert_int_equal(inb(P + 2), 0x04);
	assert_int_equal(fix->line[4], 0);
	outb(P + 4, 8);
	assert_int_equal(fix->line[4], 1);
	outb(P + 4, 0);
	assert_int_equal(fix->line[4], 0);
}

static void receive_without_fifo(void **state)
{
	(void)state;
	start();
	assert_int_equal(feed("ab"), 1);
	assert_int_equal(inb(P + 5) & 1, 1);
	assert_int_equal(fix->called, 0);
	assert_int_equal(inb(P), 'a');
	assert_int_equal(inb(P + 5) & 1, 0);
	assert_int_equal(fix->called, 1); /* offer it again */
	assert_int_equal(feed("b"), 1);
	assert_int_equal(inb(P), 'b');
	assert_int_equal(fix->called, 1);
}

static void receive_fifo(void **state)
{
	(void)state;
	start();
	outb(P + 2, 0x81); /* trigger at 8 */
	outb(P + 4, 8);
	outb(P + 1, 1);
	assert_int_equal(feed("abc"), 3);
	assert_int_equal(inb(P + 2), 0xcc); /* character timeout */
	assert_int_equal(feed("defghijklmnopqrst"), 13);
	assert_int_equal(inb(P + 2), 0xc4);
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(fix->line[4], 1);
		assert_int_equal(inb(P + 5) & 1, 1);
		assert_int_equal(inb(P), 'a' + i);
	}
	assert_int_equal(fix->line[4], 0);
	assert_int_equal(fix->called, 1);
	assert_int_equal(inb(P), 0); /* empty */
	assert_int_equal(feed("xyz"), 3);
	outb(P + 2, 0x83);
	assert_int_equal(inb(P + 5) & 1, 0); /* cleared */
}

static void priorities(void **state)
{
	(void)state;
	start();
	outb(P + 2, 1);
	outb(P + 1, 0xf);
	serial_break(fix->dev);
	outb(P + 4, 0x10); /* loopback: every modem input drops */
	outb(P + 4, 8);
	assert_int_equal(inb(P + 2), 0xc6);
	assert_int_equal(inb(P + 5), 0x71); /* break, ready */
	assert_int_equal(inb(P + 5), 0x61); /* reading clears it */
	assert_int_equal(inb(P + 2), 0xc4);
	assert_int_equal(inb(P), 0);
	assert_int_equal(inb(P + 2), 0xc2);
	assert_int_equal(inb(P + 2), 0xc0);
	assert_int_equal(inb(P + 6), 0xbb); /* CTS, DSR, DCD came back */
	assert_int_equal(inb(P + 2), 0xc1);
	assert_int_equal(inb(P + 6), 0xb0);
}

static void loopback(void **state)
{
	(void)state;
	start();
	outb(P + 4, 0x1a); /* RTS and OUT2, as autoconfig does */
	assert_int_equal(inb(P + 6) & 0xf0, 0x90);
	outb(P + 4, 0x15); /* DTR, OUT1 */
	assert_int_equal(inb(P + 6) & 0xf0, 0x60);
	outb(P + 4, 0x10);
	assert_int_equal(inb(P + 6), 0x06); /* DSR changed, RI ended */
	outb(P, 'q');
	assert_int_equal(fix->out_len, 0);
	assert_int_equal(inb(P), 'q');
	outb(P, 'r');
	outb(P, 's'); /* no FIFO: overrun */
	assert_int_equal(inb(P + 5) & 3, 3);
	assert_int_equal(feed("z"), 0);
	outb(P + 4, 0);
	assert_int_equal(inb(P), 'r');
	assert_int_equal(fix->called, 1);
}

static void reset_drops_the_line(void **state)
{
	(void)state;
	start();
	outb(P + 4, 8);
	outb(P + 1, 2);
	assert_int_equal(fix->line[4], 1);
	dev_reset_all(&fix->devs);
	assert_int_equal(fix->line[4], 0);
	assert_int_equal(inb(P + 1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(divisor_and_scratch),	 T(fifo_detection),	 T(transmit_polled),
		T(thre_interrupt),	 T(out2_gates_the_line), T(receive_without_fifo),
		T(receive_fifo),	 T(priorities),		 T(loopback),
		T(reset_drops_the_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
