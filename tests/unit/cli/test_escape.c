/* SPDX-License-Identifier: Apache-2.0 */
/* Ctrl-A sequences, and that everything else passes unchanged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/escape.h"

static void test_plain(void **state)
{
	struct escape s = { 0 };
	uint8_t out;

	(void)state;
	for (unsigned c = 0; c < 256; c++) {
		if (c == ESCAPE_KEY)
			continue;
		assert_int_equal(escape_feed(&s, (uint8_t)c, &out), ESCAPE_BYTE);
		assert_int_equal(out, c);
	}
}

static void test_keys(void **state)
{
	static const struct {
		char key;
		enum escape_action want;
	} keys[] = { { 'x', ESCAPE_QUIT }, { 'c', ESCAPE_MONITOR }, { 'h', ESCAPE_HELP },
		     { 'a', ESCAPE_BYTE }, { 1, ESCAPE_BYTE },	    { 'z', ESCAPE_NONE } };
	struct escape s = { 0 };
	uint8_t out = 0;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++) {
		assert_int_equal(escape_feed(&s, ESCAPE_KEY, &out), ESCAPE_NONE);
		assert_int_equal(escape_feed(&s, (uint8_t)keys[i].key, &out), keys[i].want);
		if (keys[i].want == ESCAPE_BYTE)
			assert_int_equal(out, ESCAPE_KEY);
		assert_int_equal(escape_feed(&s, 'x', &out), ESCAPE_BYTE);
		assert_int_equal(out, 'x');
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_plain),
					    cmocka_unit_test(test_keys) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
