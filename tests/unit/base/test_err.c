/* SPDX-License-Identifier: Apache-2.0 */
/* struct err: code, message, prefix, and that long texts are cut, not overrun. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"

#include <string.h>

static void set_gives_code_and_text(void **state)
{
	struct err e = { 0, "" };

	(void)state;
	assert_int_equal(err_set(&e, -5, "disk %s: %d", "a.img", 7), -5);
	assert_int_equal(e.code, -5);
	assert_string_equal(e.msg, "disk a.img: 7");
}

static void set_takes_null(void **state)
{
	(void)state;
	assert_int_equal(err_set(NULL, -22, "x"), -22);
	assert_int_equal(err_prefix(NULL, "x"), 0);
}

static void prefix_keeps_code_and_message(void **state)
{
	struct err e;

	(void)state;
	err_set(&e, -2, "no such file");
	assert_int_equal(err_prefix(&e, "--disk %d", 1), -2);
	assert_string_equal(e.msg, "--disk 1: no such file");
}

static void long_texts_are_cut(void **state)
{
	struct {
		struct err e;
		char guard[8];
	} s;
	char big[600];

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	memset(s.guard, 0x5a, sizeof(s.guard));
	err_set(&s.e, -1, "%s", big);
	assert_int_equal(strlen(s.e.msg), sizeof(s.e.msg) - 1);
	err_prefix(&s.e, "head");
	assert_memory_equal(s.e.msg, "head: xxx", 9);
	assert_int_equal(strlen(s.e.msg), sizeof(s.e.msg) - 1);
	err_prefix(&s.e, "%s", big);
	assert_true(strlen(s.e.msg) < sizeof(s.e.msg));
	for (size_t i = 0; i < sizeof(s.guard); i++)
		assert_int_equal(s.guard[i], 0x5a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(set_gives_code_and_text),
		cmocka_unit_test(set_takes_null),
		cmocka_unit_test(prefix_keeps_code_and_message),
		cmocka_unit_test(long_texts_are_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
