/* SPDX-License-Identifier: Apache-2.0 */
/* The option table: both spellings, every kind of value, and what is said about mistakes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "cli/opts.h"

struct out {
	bool loud, help;
	const char *name;
	uint64_t size;
	int64_t count;
	int kind;
	struct opt_list list;
};

static const char *const kinds[] = { "red", "green", NULL };

#define ROW(n, a, s, m)                                                                            \
	.name = n, .arg = a, .help = "text", .set = s, .offset = offsetof(struct out, m)
static const struct opt table[] = {
	{ ROW("loud", NULL, opt_flag, loud) },
	{ ROW("help", NULL, opt_flag, help) },
	{ ROW("name", "WORD", opt_string, name) },
	{ ROW("size", "SIZE", opt_size, size), .min = 4096 },
	{ ROW("count", "N", opt_int, count), .min = 1, .max = 8 },
	{ ROW("kind", "KIND", opt_enum, kind), .names = kinds },
	{ ROW("item", "TEXT", opt_list, list) },
	{ .name = NULL },
};

static struct out o;
static struct err e;
static const char *words[2];
static unsigned nwords;

static int parse(const char *a, const char *b, const char *c, const char *d)
{
	char *argv[] = { (char *)a, (char *)b, (char *)c, (char *)d };
	int argc = 0;

	while (argc < 4 && argv[argc])
		argc++;
	memset(&o, 0, sizeof(o));
	memset(&e, 0, sizeof(e));
	return opts_parse(table, &o, argc, argv, words, 2, &nwords, &e);
}

static void test_values(void **state)
{
	(void)state;
	assert_int_equal(parse("--name", "x", "--size=2M", "--loud"), 0);
	assert_string_equal(o.name, "x");
	assert_int_equal(o.size, 2 * MiB);
	assert_true(o.loud);
	assert_int_equal(parse("--count=3", "--kind", "green", NULL), 0);
	assert_int_equal(o.count, 3);
	assert_int_equal(o.kind, 1);
	assert_int_equal(parse("--item=a=b,c", "--item", "--odd", NULL), 0);
	assert_int_equal(o.list.n, 2);
	assert_string_equal(o.list.item[0], "a=b,c");
	assert_string_equal(o.list.item[1], "--odd");
	assert_int_equal(parse("--name=", NULL, NULL, NULL), 0);
	assert_string_equal(o.name, "");
}

static void test_words(void **state)
{
	(void)state;
	assert_int_equal(parse("one", "--", "--two", NULL), 0);
	assert_int_equal(nwords, 2);
	assert_string_equal(words[1], "--two");
	assert_true(parse("a", "b", "c", NULL) < 0);
	assert_non_null(strstr(e.msg, "'c'"));
	assert_int_equal(parse("-h", NULL, NULL, NULL), 0);
	assert_true(o.help);
}

static void expect(const char *part)
{
	if (!strstr(e.msg, part))
		fail_msg("\"%s\" lacks \"%s\"", e.msg, part);
}

static void test_mistakes(void **state)
{
	(void)state;
	assert_true(parse("--nmae", "x", NULL, NULL) < 0);
	expect("did you mean --name");
	assert_true(parse("--zzzzzzzz=1", NULL, NULL, NULL) < 0);
	expect("unknown option --zzzzzzzz");
	assert_true(parse("--loud=1", NULL, NULL, NULL) < 0);
	expect("takes no value");
	assert_true(parse("--name", NULL, NULL, NULL) < 0);
	expect("wants a value");
	assert_true(parse("--size", "12", NULL, NULL) < 0);
	expect("--size");
	assert_true(parse("--size", "lots", NULL, NULL) < 0);
	expect("lots");
	assert_true(parse("--count=9", NULL, NULL, NULL) < 0);
	expect("1 to 8");
	assert_true(parse("--kind=blue", NULL, NULL, NULL) < 0);
	expect("red, green");
	assert_true(parse("-x", NULL, NULL, NULL) < 0);
	expect("-x");
}

static void test_list_limit(void **state)
{
	char *argv[OPT_LIST_MAX + 1];

	(void)state;
	for (unsigned i = 0; i <= OPT_LIST_MAX; i++)
		argv[i] = (char *)"--item=x";
	memset(&o, 0, sizeof(o));
	assert_int_equal(opts_parse(table, &o, OPT_LIST_MAX, argv, words, 2, &nwords, &e), 0);
	memset(&o, 0, sizeof(o));
	assert_true(opts_parse(table, &o, OPT_LIST_MAX + 1, argv, words, 2, &nwords, &e) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_list_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
