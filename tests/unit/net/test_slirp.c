/* SPDX-License-Identifier: Apache-2.0 */
/* User networking against a host in a few lines: ARP, DHCP, UDP out and back, a forwarded port. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "net/slirp.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ETH = 14, IP = 20, UDP = 8 };

static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 15 };

static struct net_switch *sw;
static struct loop *loop;
static struct net_slirp *slirp;
static struct net_port us;
static uint8_t last[2048];
static size_t last_len;
static uint8_t gateway[6];

static int take(void *opaque, const struct iovec *iov, int n)
{
	uint8_t f[2048];
	size_t len = net_iov_copy(iov, n, f, sizeof(f));

	(void)opaque;
	if (len >= 42 && f[12] == 8 && f[13] == 6 && f[21] == 1)
		return 0; /* somebody asks for us: arp_answer has told already */
	memcpy(last, f, len);
	last_len = len;
	return 0;
}

static const struct net_port_ops ops = { .deliver = take };

static void frame_send(const uint8_t *f, size_t len)
{
	const struct iovec iov = { (void *)(uintptr_t)f, len };

	last_len = 0;
	net_port_send(&us, &iov, 1);
}

static bool wait_frame(void)
{
	for (int i = 0; i < 200 && last_len == 0; i++)
		loop_once(loop, 10000000);
	return last_len != 0;
}

static uint16_t ip_sum(const uint8_t *p, size_t n)
{
	uint32_t s = 0;

	for (size_t i = 0; i < n; i += 2)
		s += (uint32_t)(p[i] << 8 | p[i + 1]);
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

static void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* A UDP packet from us (10.0.2.15, or 0.0.0.0 when src is 0) */
static void send_udp(const char *src, const char *dst, uint16_t sport, uint16_t dport,
		     const void *data, size_t n)
{
	uint8_t f[1500] = { 0 };
	uint8_t *ip = f + ETH, *udp = ip + IP;

	memset(f, 0xff, 6);
	if (strcmp(dst, "255.255.255.255") != 0)
		memcpy(f, gateway, 6);
	memcpy(f + 6, mac, 6);
	put16(f + 12, 0x0800);
	ip[0] = 0x45;
	put16(ip + 2, (unsigned)(IP + UDP + n));
	ip[8] = 64;
	ip[9] = 17;
	inet_pton(AF_INET, src, ip + 12);
	inet_pton(AF_INET, dst, ip + 16);
	put16(ip + 10, ip_sum(ip, IP));
	put16(udp, sport);
	put16(udp + 2, dport);
	put16(udp + 4, (unsigned)(UDP + n));
	memcpy(udp + UDP, data, n);
	frame_send(f, ETH + IP + UDP + n);
}

/* Tells our address, and asks for the gateway's. */
static void arp_answer(void)
{
	uint8_t f[60] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0,  15, 8, 6,
			  0,	1,    8,    0,	  6,	4,    0, 1, 2, 0, 0,  0,  0, 15,
			  10,	0,    2,    15,	  0,	0,    0, 0, 0, 0, 10, 0,  2, 2 };

	frame_send(f, sizeof(f));
}

static int setup(void **state)
{
	struct err e = { 0, "" };
	struct net_forward fw = { 0 };
	const struct net_slirp_cfg cfg = { .name = "net0", .forward = &fw, .forwards = 1 };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0); /* finds a free port */
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	close(fd);
	fw = (struct net_forward){ .udp = true,
				   .host_addr = a.sin_addr,
				   .host_port = ntohs(a.sin_port),
				   .guest_port = 7 };
	*state = (void *)(uintptr_t)fw.host_port;
	loop = loop_new(&e);
	sw = net_switch_new();
	us = (struct net_port){ .name = "us", .ops = &ops };
	assert_int_equal(net_port_add(sw, &us, &e), 0);
	slirp = net_slirp_open(&cfg, sw, loop, &e);
	if (slirp == NULL)
		fail_msg("%s", e.msg);
	arp_answer();
	assert_true(last_len >= 42); /* answered at once, on this thread */
	assert_int_equal(last[21], 2);
	assert_memory_equal(last + 28, "\x0a\x00\x02\x02", 4);
	memcpy(gateway, last + 22, 6);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	net_slirp_close(slirp);
	net_port_remove(&us);
	net_switch_free(sw);
	loop_free(loop);
	return 0;
}

static void test_dhcp(void **state)
{
	static uint8_t d[300] = { 1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78 };
	const uint8_t *b = last + ETH + IP + UDP;

	(void)state;
	memcpy(d + 28, mac, 6);
	memcpy(d + 236, "\x63\x82\x53\x63\x35\x01\x01\xff", 8); /* DISCOVER */
	send_udp("0.0.0.0", "255.255.255.255", 68, 67, d, sizeof(d));
	assert_true(wait_frame());
	assert_int_equal(b[0], 2);
	assert_memory_equal(b + 4, "\x12\x34\x56\x78", 4);
	assert_memory_equal(b + 16, "\x0a\x00\x02\x0f", 4);		 /* yours: 10.0.2.15 */
	assert_memory_equal(b + 236, "\x63\x82\x53\x63\x35\x01\x02", 7); /* OFFER */
}

/* To a socket of the host and back; the host is 10.0.2.2 to the guest. */
static void test_udp(void **state)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) },
			   from;
	socklen_t len = sizeof(a);
	char buf[64];
	ssize_t n = -1;

	(void)state;
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	for (unsigned round = 0; round < 3; round++) {
		send_udp("10.0.2.15", "10.0.2.2", 1234, ntohs(a.sin_port), "hello", 5);
		for (int i = 0; i < 100 && n < 0; i++) {
			len = sizeof(from);
			n = recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len);
			if (n < 0)
				loop_once(loop, 10000000);
		}
		assert_int_equal(n, 5);
		assert_memory_equal(buf, "hello", 5);
		last_len = 0;
		assert_int_equal(sendto(fd, "world!", 6, 0, (struct sockaddr *)&from, len), 6);
		assert_true(wait_frame());
		assert_memory_equal(last + ETH + IP + UDP, "world!", 6);
		assert_memory_equal(last + ETH + IP, &(uint16_t){ a.sin_port }, 2);
		n = -1;
	}
	close(fd);
}

static void test_forward(void **state)
{
	const uint16_t port = (uint16_t)(uintptr_t)*state;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_port = htons(port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	last_len = 0;
	assert_int_equal(sendto(fd, "knock", 5, 0, (struct sockaddr *)&a, sizeof(a)), 5);
	assert_true(wait_frame());
	assert_memory_equal(last, mac, 6);
	assert_int_equal(last[ETH + IP + 2] << 8 | last[ETH + IP + 3], 7);
	assert_memory_equal(last + ETH + IP + UDP, "knock", 5);
	close(fd);
}

static void test_port_taken(void **state)
{
	struct net_forward fw = { .host_addr.s_addr = htonl(INADDR_LOOPBACK), .guest_port = 7 };
	const struct net_slirp_cfg cfg = { .name = "net1", .forward = &fw, .forwards = 1 };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct net_switch *other = net_switch_new();
	socklen_t len = sizeof(a);
	struct err e;

	(void)state;
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	fw.host_port = ntohs(a.sin_port);
	assert_null(net_slirp_open(&cfg, other, loop, &e));
	assert_non_null(strstr(e.msg, "cannot listen"));
	net_switch_free(other);
	close(fd);
}

/* Garbage from the guest: bounded, and the network lives on. */
static void test_garbage(void **state)
{
	static uint8_t f[2000];
	uint64_t seed = 99;

	for (unsigned i = 0; i < 20000; i++) {
		for (unsigned k = 0; k < 80; k++) {
			seed = seed * 6364136223846793005ull + 1442695040888963407ull;
			f[k] = (uint8_t)(seed >> 40);
		}
		memcpy(f, gateway, 6);
		memcpy(f + 6, mac, 6);
		put16(f + 12, i % 3 == 0 ? 0x0806 : 0x0800);
		if (i % 3 == 1)
			f[14] = 0x45;
		/* never to anywhere outside */
		memcpy(f + 30, "\x0a\x00\x02\x02", 4);
		f[23] = (uint8_t)(i % 2 ? 1 : 200);
		frame_send(f, 14 + (seed >> 50) % 1600);
	}
	test_dhcp(state);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_dhcp), T(test_udp), T(test_forward), T(test_port_taken), T(test_garbage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
