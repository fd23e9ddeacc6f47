/* SPDX-License-Identifier: Apache-2.0 */
/* The panic line is found in any pieces, once, and nothing else is taken for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "vmm/panic.h"

static const char output[] =
	"[    1.0] KKernel panKernel panic - not syncing: VFS: no root\r\nmore\r\n";

static void test_pieces(void **state)
{
	size_t n = sizeof(output) - 1;

	(void)state;
	for (size_t piece = 1; piece <= n; piece++) {
		struct panic_scan p = { 0 };
		unsigned hits = 0;

		for (size_t i = 0; i < n; i += piece)
			hits += panic_scan(&p, (const uint8_t *)output + i, MIN(piece, n - i));
		assert_int_equal(hits, 1);
		assert_string_equal(p.text, "VFS: no root");
	}
}

static void test_bounded(void **state)
{
	struct panic_scan p = { 0 };
	uint8_t x[400];

	(void)state;
	memset(x, 0xff, sizeof(x));
	assert_false(panic_scan(&p, (const uint8_t *)"Kernel panic - not syncing: ", 28));
	assert_false(panic_scan(&p, x, sizeof(x)));
	assert_true(panic_scan(&p, (const uint8_t *)"\n", 1));
	assert_int_equal(strlen(p.text), sizeof(p.text) - 1);
	assert_int_equal(p.text[5], '?');
}

static void test_other(void **state)
{
	static const char other[] = "Kernel panic - not synced: x\nkernel panic - not syncing: y\n";
	struct panic_scan p = { 0 };

	(void)state;
	assert_false(panic_scan(&p, (const uint8_t *)other, sizeof(other) - 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_bounded),
		cmocka_unit_test(test_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
