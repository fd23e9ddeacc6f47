/* SPDX-License-Identifier: Apache-2.0 */
/* Learning, flooding, bounds, counters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "net/net.h"

#include <errno.h>
#include <string.h>

enum { PORTS = 4 };

struct end {
	struct net_port port;
	unsigned got;
	uint8_t last[64];
	int answer;
};

static struct net_switch *sw;
static struct end p[PORTS];

static int take(void *opaque, const struct iovec *iov, int n)
{
	struct end *e = opaque;

	e->got++;
	net_iov_copy(iov, n, e->last, sizeof(e->last));
	return e->answer;
}

static const struct net_port_ops ops = { .deliver = take };

static int setup(void **state)
{
	struct err e;

	(void)state;
	sw = net_switch_new();
	assert_non_null(sw);
	memset(p, 0, sizeof(p));
	for (unsigned i = 0; i < PORTS; i++) {
		p[i].port = (struct net_port){ .name = "p", .ops = &ops, .opaque = &p[i] };
		assert_int_equal(net_port_add(sw, &p[i].port, &e), 0);
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (unsigned i = 0; i < PORTS; i++)
		net_port_remove(&p[i].port);
	net_switch_free(sw);
	return 0;
}

/* A frame from port `from` to address `dst`, in two pieces; address n is 02:00:00:00:00:n. */
static void send(unsigned from, uint8_t dst, uint8_t src)
{
	uint8_t f[60] = { 2, 0, 0, 0, 0, dst, 2, 0, 0, 0, 0, src, 8, 0, 0x42 };
	struct iovec iov[2] = { { f, 5 }, { f + 5, sizeof(f) - 5 } };

	if (dst == 0xff)
		memset(f, 0xff, 6);
	net_port_send(&p[from].port, iov, 2);
}

static unsigned total(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < PORTS; i++)
		n += p[i].got;
	return n;
}

static void test_learning(void **state)
{
	(void)state;
	send(0, 11, 10); /* nobody knows 11: to all others */
	assert_int_equal(p[0].got, 0);
	assert_int_equal(total(), 3);
	assert_int_equal(p[2].last[14], 0x42);
	send(1, 10, 11); /* 10 is known */
	assert_int_equal(total(), 4);
	assert_int_equal(p[0].got, 1);
	send(0, 11, 10);
	assert_int_equal(p[1].got, 2);
	assert_int_equal(total(), 5);
	send(0, 0xff, 10); /* broadcast always floods */
	assert_int_equal(total(), 8);
	send(2, 0xff, 10); /* 10 moves */
	send(1, 10, 11);
	assert_int_equal(p[2].got, 3); /* flood, broadcast, and the one to its new place */
	send(2, 10, 10);	       /* to itself: nowhere */
	assert_int_equal(total(), 12);
}

static void test_bounds_and_counters(void **state)
{
	static uint8_t big[NET_FRAME_MAX + 1];
	struct iovec iov = { big, 13 };

	(void)state;
	net_port_send(&p[0].port, &iov, 1);
	iov.iov_len = sizeof(big);
	net_port_send(&p[0].port, &iov, 1);
	assert_int_equal(total(), 0);
	assert_int_equal(p[0].port.sent.dropped, 2);
	iov.iov_len = NET_FRAME_MAX;
	p[3].answer = -ENOBUFS;
	net_port_send(&p[0].port, &iov, 1);
	assert_int_equal(p[0].port.sent.frames, 1);
	assert_int_equal(p[0].port.sent.bytes, NET_FRAME_MAX);
	assert_int_equal(p[1].port.taken.frames, 1);
	assert_int_equal(p[3].port.taken.frames, 0);
	assert_int_equal(p[3].port.taken.dropped, 1);
}

/* More addresses than the table holds: still delivered, by flooding at worst. */
static void test_address_flood(void **state)
{
	uint8_t f[60] = { 2, 0, 0, 0, 0, 11, 2 };
	struct iovec iov = { f, sizeof(f) };

	(void)state;
	for (unsigned i = 0; i < 100000; i++) {
		memcpy(f + 8, &i, 4);
		net_port_send(&p[0].port, &iov, 1);
	}
	assert_int_equal(p[1].got, 100000);
	send(1, 0xff, 11);
	p[1].got = p[2].got = 0;
	send(0, 11, 10);
	assert_int_equal(p[1].got, 1);
	assert_int_equal(p[2].got, 0);
}

static void test_removal_forgets(void **state)
{
	(void)state;
	send(1, 0xff, 11);
	net_port_remove(&p[1].port);
	p[1].got = p[2].got = 0;
	send(0, 11, 10);
	assert_int_equal(p[1].got, 0);
	assert_int_equal(p[2].got, 1);
	send(1, 10, 11); /* no longer plugged in */
	assert_int_equal(p[1].port.sent.dropped, 1);
}

static void test_one_uplink(void **state)
{
	struct net_port a = { .name = "a", .ops = &ops, .opaque = &p[0], .uplink = true };
	struct net_port b = a;
	struct err e;

	(void)state;
	assert_int_equal(net_port_add(sw, &a, &e), 0);
	assert_int_equal(net_port_add(sw, &b, &e), -EBUSY);
	net_port_remove(&a);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_learning),	 T(test_bounds_and_counters), T(test_address_flood),
		T(test_removal_forgets), T(test_one_uplink),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
