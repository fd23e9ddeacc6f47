/* SPDX-License-Identifier: Apache-2.0 */
/* The network device between a driver in guest memory and a port of its switch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "dev/virtio/virtio_net.h"
#include "drv.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <string.h>

enum { RX = 0, TX = 1, HDR = 12, RXBUF = DRV_DATA, TXBUF = DRV_DATA + 0x80000, RXLEN = 1024 };

static struct drv_machine m;
static struct drv d;
static struct dev *dev;
static struct net_switch *sw;
static struct net_port peer;
static unsigned got;
static uint8_t last[2048];
static size_t last_len;
static bool echo; /* the peer answers within deliver, as an uplink does */

static int take(void *opaque, const struct iovec *iov, int n)
{
	(void)opaque;
	got++;
	last_len = net_iov_copy(iov, n, last, sizeof(last));
	if (echo) {
		const struct iovec back = { last, last_len };

		net_port_send(&peer, &back, 1);
	}
	return 0;
}

static const struct net_port_ops ops = { .deliver = take };

static int setup_with(uint64_t features, bool msix)
{
	struct virtio_net_cfg cfg = { .slot = 4, .mac = { 2, 0, 0, 0, 0, 9 } };
	struct err e;

	drv_machine_init(&m);
	sw = net_switch_new();
	peer = (struct net_port){ .name = "peer", .ops = &ops };
	assert_int_equal(net_port_add(sw, &peer, &e), 0);
	cfg.pci = m.pci;
	cfg.net = sw;
	dev = dev_create(&m.devs, m.bus, &virtio_net_class, "net0", &cfg, &e);
	assert_non_null(dev);
	drv_probe(&d, &m, 4);
	drv_start(&d, features, 2, msix);
	got = 0;
	echo = false;
	return 0;
}

static int setup(void **state)
{
	(void)state;
	return setup_with(UINT64_MAX, true);
}

static int setup_plain(void **state)
{
	(void)state;
	return setup_with(0, false);
}

static int teardown(void **state)
{
	(void)state;
	drv_machine_fini(&m);
	net_port_remove(&peer);
	net_switch_free(sw);
	return 0;
}

static void rx_fill(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct drv_seg s = { RXBUF + (gpa_t)(d.ring[RX].next_avail % 64) * RXLEN, RXLEN,
				     true };

		drv_add(&d.ring[RX], &s, 1);
	}
	drv_kick(&d, RX);
}

static void frame(uint8_t *f, size_t len, uint8_t mark)
{
	memset(f, mark, len);
	memset(f, 0xff, 6);
	memcpy(f + 6, "\x02\0\0\0\0\x01", 6);
}

static void peer_send(size_t len, uint8_t mark)
{
	uint8_t f[1600];
	struct iovec iov[2] = { { f, 10 }, { f + 10, len - 10 } };

	frame(f, len, mark);
	net_port_send(&peer, iov, 2);
}

static void guest_send(size_t len, uint8_t mark)
{
	const struct drv_seg s[] = { { TXBUF, HDR, false },
				     { TXBUF + HDR, 20, false },
				     { TXBUF + HDR + 20, (uint32_t)len - 20, false } };

	memset(drv_mem(&m, TXBUF, HDR), 0, HDR);
	frame(drv_mem(&m, TXBUF + HDR, len), len, mark);
	drv_add(&d.ring[TX], s, 3);
	drv_kick(&d, TX);
}

static void test_config(void **state)
{
	(void)state;
	assert_int_equal(mem_load(m.mem, d.device + 5, 1), 9);
	assert_int_equal(mem_load(m.mem, d.device + 6, 2), VIRTIO_NET_S_LINK_UP);
	virtio_net_link(dev, false);
	assert_int_equal(mem_load(m.mem, d.device + 6, 2), 0);
	assert_int_equal(m.msi_count[0], 1);
}

static void test_send(void **state)
{
	uint32_t id, len;

	(void)state;
	guest_send(100, 0x42);
	assert_int_equal(got, 1);
	assert_int_equal(last_len, 100);
	assert_int_equal(last[99], 0x42);
	assert_memory_equal(last, "\xff\xff\xff\xff\xff\xff\x02", 7);
	assert_true(drv_used(&d.ring[TX], &id, &len));
	assert_int_equal(len, 0);
	for (unsigned i = 0; i < 100; i++) {
		guest_send(1514, 0x43);
		assert_true(drv_used(&d.ring[TX], &id, &len));
	}
	assert_int_equal(got, 101);
}

static void test_receive(void **state)
{
	uint32_t id, len;

	(void)state;
	rx_fill(8);
	peer_send(60, 0x11);
	assert_true(drv_used(&d.ring[RX], &id, &len));
	assert_int_equal(len, HDR + 60);
	assert_int_equal(mem_load(m.mem, RXBUF + 10, 2), 1); /* num_buffers */
	assert_int_equal(*drv_mem(&m, RXBUF + HDR + 59, 1), 0x11);
	assert_int_equal(m.msi_count[1], 1);
	/* one frame over two buffers */
	peer_send(1500, 0x22);
	assert_true(drv_used(&d.ring[RX], &id, &len));
	assert_int_equal(len, RXLEN);
	assert_int_equal(mem_load(m.mem, RXBUF + RXLEN + 10, 2), 2);
	assert_true(drv_used(&d.ring[RX], &id, &len));
	assert_int_equal(len, HDR + 1500 - RXLEN);
	assert_int_equal(*drv_mem(&m, RXBUF + 2 * RXLEN + len - 1, 1), 0x22);
	peer_send(1600, 1); /* larger than the MTU */
	assert_false(drv_used(&d.ring[RX], &id, &len));
}

/* Without buffers frames wait, in order, and come when buffers do. */
static void test_backlog(void **state)
{
	uint32_t id, len;

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		peer_send(60 + i, (uint8_t)i);
	rx_fill(4);
	rx_fill(8);
	for (unsigned i = 0; i < 10; i++) {
		assert_true(drv_used(&d.ring[RX], &id, &len));
		assert_int_equal(len, HDR + 60 + i);
	}
	assert_false(drv_used(&d.ring[RX], &id, &len));
	for (unsigned i = 0; i < 10000; i++) /* a bounded number of them */
		peer_send(1500, 9);
	assert_true(virtio_net_port(dev)->taken.dropped > 5000);
	drv_start(&d, UINT64_MAX, 2, true); /* a new driver gets none of the old one's */
	rx_fill(4);
	assert_false(drv_used(&d.ring[RX], &id, &len));
}

/* A mergeable frame with too few buffers: none is lost, it comes whole later. */
static void test_too_few(void **state)
{
	uint32_t id, len;

	(void)state;
	rx_fill(1);
	peer_send(1500, 0x33);
	assert_false(drv_used(&d.ring[RX], &id, &len));
	rx_fill(1);
	assert_true(drv_used(&d.ring[RX], &id, &len));
	assert_true(drv_used(&d.ring[RX], &id, &len));
	assert_int_equal(len, HDR + 1500 - RXLEN);
}

static void test_answer_within_send(void **state)
{
	uint32_t id, len;

	(void)state;
	rx_fill(4);
	echo = true;
	guest_send(100, 0x44);
	assert_true(drv_used(&d.ring[RX], &id, &len));
	assert_int_equal(len, HDR + 100);
}

/* No mergeable buffers: a frame too large for one is the driver's fault. */
static void test_plain(void **state)
{
	uint32_t id, len;

	(void)state;
	rx_fill(2);
	peer_send(500, 1);
	assert_true(drv_used(&d.ring[RX], &id, &len));
	assert_int_equal(m.gsi_level[pci_intx_gsi(4, 0)], 1);
	peer_send(1500, 1);
	assert_true(drv_status(&d) & VIRTIO_ST_NEEDS_RESET);
}

static void test_hostile(void **state)
{
	const struct drv_seg tiny[] = { { TXBUF, HDR + 13, false } };
	const struct drv_seg writable[] = { { TXBUF, 100, false }, { TXBUF, 4, true } };
	const struct drv_seg no_room[] = { { RXBUF, HDR - 1, true } };
	const struct drv_seg many[] = { { TXBUF, 8, false } };
	struct drv_seg s[100];

	(void)state;
	drv_add(&d.ring[TX], tiny, 1);
	drv_kick(&d, TX);
	assert_true(drv_status(&d) & VIRTIO_ST_NEEDS_RESET);
	drv_start(&d, UINT64_MAX, 2, true);
	drv_add(&d.ring[TX], writable, 2);
	drv_kick(&d, TX);
	assert_true(drv_status(&d) & VIRTIO_ST_NEEDS_RESET);
	drv_start(&d, UINT64_MAX, 2, true);
	drv_add(&d.ring[RX], no_room, 1);
	peer_send(60, 1);
	assert_true(drv_status(&d) & VIRTIO_ST_NEEDS_RESET);
	drv_start(&d, UINT64_MAX, 2, true);
	got = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(s); i++)
		s[i] = many[0];
	drv_add_indirect(&d.ring[TX], DRV_DATA + 0x90000, s,
			 ARRAY_SIZE(s)); /* many pieces: dropped */
	drv_kick(&d, TX);
	assert_int_equal(got, 0);
	s[0] = (struct drv_seg){ 0, 200000, false };
	drv_add(&d.ring[TX], s, 1); /* huge: dropped */
	drv_kick(&d, TX);
	assert_int_equal(got, 0);
	assert_int_equal(drv_status(&d), 15);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_config),	 T(test_send),
		T(test_receive), T(test_backlog),
		T(test_too_few), T(test_answer_within_send),
		T(test_hostile), cmocka_unit_test_setup_teardown(test_plain, setup_plain, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
