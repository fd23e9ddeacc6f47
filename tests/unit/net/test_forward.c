/* SPDX-License-Identifier: Apache-2.0 */
/* Port forwards and MAC addresses as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "net/slirp.h"

#include <arpa/inet.h>

static void test_good(void **state)
{
	struct net_forward f;
	struct err e;

	(void)state;
	assert_int_equal(net_forward_parse("tcp:2222:22", &f, &e), 0);
	assert_false(f.udp);
	assert_int_equal(f.host_port, 2222);
	assert_int_equal(f.guest_port, 22);
	assert_int_equal(f.host_addr.s_addr, htonl(INADDR_LOOPBACK));
	assert_int_equal(f.guest_addr.s_addr, 0);
	assert_int_equal(net_forward_parse("udp:0.0.0.0:53:10.0.2.20:5353", &f, &e), 0);
	assert_true(f.udp);
	assert_int_equal(f.host_addr.s_addr, 0);
	assert_int_equal(f.guest_addr.s_addr, inet_addr("10.0.2.20"));
	assert_int_equal(f.guest_port, 5353);
	assert_int_equal(net_forward_parse("tcp:80:10.0.2.9:8080", &f, &e), 0);
	assert_int_equal(f.host_port, 80);
	assert_int_equal(f.guest_addr.s_addr, inet_addr("10.0.2.9"));
}

static void test_bad(void **state)
{
	static const char *const bad[] = {
		"",
		"tcp",
		"tcp:22",
		"tcp:22:",
		"tcp::22",
		"icmp:1:2",
		"tcp:0:22",
		"tcp:65536:22",
		"tcp:22:70000",
		"tcp:-1:22",
		"tcp: 1:22",
		"tcp:1.2.3:22:22",
		"tcp:1:2:3",
		"tcp:1:1.2.3.4",
		"tcp:1.2.3.4:1:2.3.4.5:6:7",
		"tcp:22x:22",
		"tcp:1.2.3.4:5.6.7.8:9",
		"tcp:00000000000000000000000000000000000000000000000000000000000000000022:22",
	};
	struct net_forward f;
	struct err e;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		e.msg[0] = '\0';
		assert_true(net_forward_parse(bad[i], &f, &e) < 0);
		assert_true(e.msg[0] != '\0');
	}
}

static void test_mac(void **state)
{
	static const char *const bad[] = { "",
					   "52:54:00:12:34",
					   "52:54:00:12:34:5",
					   "52-54-00-12-34-56",
					   "53:54:00:12:34:56",
					   "52:54:00:12:34:567",
					   "00:00:00:00:00:00",
					   "52:54:00:12:34:5g" };
	uint8_t mac[NET_MAC_LEN];
	struct err e;

	(void)state;
	assert_int_equal(net_mac_parse("52:54:00:aB:34:ff", mac, &e), 0);
	assert_memory_equal(mac, "\x52\x54\x00\xab\x34\xff", 6);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_true(net_mac_parse(bad[i], mac, &e) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_mac),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
