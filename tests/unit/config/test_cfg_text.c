/* SPDX-License-Identifier: Apache-2.0 */
/* Single values from text: limits to the last bit, suffixes, what messages say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config/config.h"

#include <errno.h>
#include <string.h>

static void bools(void **state)
{
	struct err e;
	bool b = false;

	(void)state;
	assert_int_equal(cfg_text_bool("on", &b, &e), 0);
	assert_true(b);
	assert_int_equal(cfg_text_bool("No", &b, &e), 0);
	assert_false(b);
	assert_int_equal(cfg_text_bool("maybe", &b, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "'maybe'"));
	assert_int_equal(cfg_text_bool("", &b, &e), -EINVAL);
}

static void ints(void **state)
{
	struct err e;
	int64_t v = 0;

	(void)state;
	assert_int_equal(cfg_text_int("-17", -20, 0, &v, &e), 0);
	assert_int_equal(v, -17);
	assert_int_equal(cfg_text_int("0x1F", 0, 255, &v, &e), 0);
	assert_int_equal(v, 31);
	assert_int_equal(cfg_text_int("9223372036854775807", 0, INT64_MAX, &v, &e), 0);
	assert_true(v == INT64_MAX);
	assert_int_equal(cfg_text_int("010", 0, 255, &v, &e), 0);
	assert_int_equal(v, 10); /* not octal */
	assert_int_equal(cfg_text_int("256", 0, 255, &v, &e), -ERANGE);
	assert_non_null(strstr(e.msg, "0 to 255"));
	assert_int_equal(cfg_text_int("99999999999999999999", 0, 255, &v, &e), -ERANGE);
	assert_int_equal(v, 10); /* failures leave it alone */
}

static void int_rubbish(void **state)
{
	static const char *const bad[] = { "", "-", "12x", " 1", "1 ", "+1", "0x", "--1", "1.5" };
	int64_t v;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(cfg_text_int(bad[i], -100, 100, &v, NULL), -EINVAL);
}

static void sizes(void **state)
{
	struct err e;
	uint64_t v = 0;

	(void)state;
	assert_int_equal(cfg_text_size("512", 0, UINT64_MAX, &v, &e), 0);
	assert_true(v == 512);
	assert_int_equal(cfg_text_size("4k", 0, UINT64_MAX, &v, &e), 0);
	assert_true(v == 4096);
	assert_int_equal(cfg_text_size("2GiB", 0, UINT64_MAX, &v, &e), 0);
	assert_true(v == 2 * GiB);
	assert_int_equal(cfg_text_size("3TB", 0, UINT64_MAX, &v, &e), 0);
	assert_true(v == 3072 * GiB);
	assert_int_equal(cfg_text_size("16777215T", 0, UINT64_MAX, &v, &e), 0);
	assert_int_equal(cfg_text_size("16777216T", 0, UINT64_MAX, &v, &e), -ERANGE);
	assert_int_equal(cfg_text_size("1M", 2 * MiB, GiB, &v, &e), -ERANGE);
	assert_non_null(strstr(e.msg, "2M to 1G"));
}

static void size_rubbish(void **state)
{
	static const char *const bad[] = { "", "M", "-1", "1X", "1MM", "1 M", "1.5G", "0x" };
	uint64_t v;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(cfg_text_size(bad[i], 0, UINT64_MAX, &v, NULL), -EINVAL);
}

static void size_text(void **state)
{
	char b[32];

	(void)state;
	cfg_size_text(512 * MiB, b, sizeof(b));
	assert_string_equal(b, "512M");
	cfg_size_text(1025, b, sizeof(b));
	assert_string_equal(b, "1025");
	cfg_size_text(0, b, sizeof(b));
	assert_string_equal(b, "0");
	cfg_size_text(4096 * 1024 * GiB, b, sizeof(b));
	assert_string_equal(b, "4096T");
}

static const char *const engines[] = { "auto", "interp", "dbt", "kvm", NULL };

static void enums(void **state)
{
	struct err e;
	int v = -1;

	(void)state;
	assert_int_equal(cfg_text_enum("dbt", engines, &v, &e), 0);
	assert_int_equal(v, 2);
	assert_int_equal(cfg_text_enum("DBT", engines, &v, &e), -EINVAL);
	assert_string_equal(e.msg, "'DBT' is unknown, allowed: auto, interp, dbt, kvm");
}

static void nearest(void **state)
{
	char longword[100];

	(void)state;
	assert_string_equal(cfg_nearest("intrep", engines), "interp");
	assert_string_equal(cfg_nearest("kmv", engines), "kvm");
	assert_string_equal(cfg_nearest("interpr", engines), "interp");
	assert_null(cfg_nearest("xyzzyx", engines));
	memset(longword, 'a', sizeof(longword) - 1);
	longword[sizeof(longword) - 1] = '\0';
	assert_true(cfg_nearest(longword, engines) == NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bools),	cmocka_unit_test(ints),
		cmocka_unit_test(int_rubbish),	cmocka_unit_test(sizes),
		cmocka_unit_test(size_rubbish), cmocka_unit_test(size_text),
		cmocka_unit_test(enums),	cmocka_unit_test(nearest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
