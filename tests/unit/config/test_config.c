/* SPDX-License-Identifier: Apache-2.0 */
/* The table-driven parser: every type, defaults, the first word, messages, help. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct disk {
	char path[32];
	char id[8];
	bool ro;
	int cache;
	int64_t queues;
	uint64_t size;
	struct cfg_list forward;
};

static int no_bang(const char *value, struct err *e)
{
	return strchr(value, '!') != NULL ? err_set(e, -EINVAL, "'%s' has a '!' in it", value) : 0;
}

static const char *const caches[] = { "none", "writeback", NULL };
static const struct cfg_field fields[] = {
	CFG_STRING(struct disk, path, "path", NULL, "image file", CFG_REQUIRED | CFG_FIRST),
	CFG_ROW(struct disk, id, "serial", CFG_T_STRING, 2, 4, "none", "name", NULL, 0),
	CFG_BOOL(struct disk, ro, "readonly", "off", "refuse writes", 0),
	CFG_ENUM(struct disk, cache, "cache", caches, "writeback", "host page cache", 0),
	CFG_INT(struct disk, queues, "queues", 1, 16, "1", "queues", 0),
	CFG_SIZE(struct disk, size, "size", 4096, 1ll << 40, "1G", "size", 0),
	{ .key = "forward",
	  .type = CFG_T_LIST,
	  .offset = offsetof(struct disk, forward),
	  .size = sizeof(struct cfg_list),
	  .help = "port",
	  .check = no_bang },
	CFG_END,
};
static const struct cfg_class disk_class = { "--disk", sizeof(struct disk), fields };

static struct disk d;
static struct err e;

static int parse(const char *text)
{
	memset(&d, 0x55, sizeof(d));
	memset(&e, 0, sizeof(e));
	return cfg_parse(&disk_class, text, &d, &e);
}

static void refused(const char *text, const char *message)
{
	assert_int_not_equal(parse(text), 0);
	assert_string_equal(e.msg, message);
}

static void defaults_and_all_types(void **state)
{
	(void)state;
	assert_int_equal(parse("path=a.img"), 0);
	assert_string_equal(d.path, "a.img");
	assert_string_equal(d.id, "none");
	assert_false(d.ro);
	assert_int_equal(d.cache, 1);
	assert_int_equal(d.queues, 1);
	assert_true(d.size == GiB);
	assert_int_equal(d.forward.n, 0);
	assert_int_equal(parse("path=b,readonly=on,cache=none,queues=16,size=8k,serial=xy,"
			       "forward=tcp:1:2,forward=udp:3:4"),
			 0);
	assert_true(d.ro);
	assert_int_equal(d.cache, 0);
	assert_int_equal(d.queues, 16);
	assert_true(d.size == 8192);
	assert_int_equal(d.forward.n, 2);
	assert_string_equal(d.forward.item[1], "udp:3:4");
}

static void first_word_and_commas(void **state)
{
	(void)state;
	assert_int_equal(parse("a.img,readonly"), 0);
	assert_string_equal(d.path, "a.img");
	assert_true(d.ro);
	assert_int_equal(parse("a,,b.img,queues=2"), 0);
	assert_string_equal(d.path, "a,b.img");
	assert_int_equal(d.queues, 2);
	assert_int_equal(parse("path=x=y"), 0);
	assert_string_equal(d.path, "x=y");
	assert_int_equal(parse("/tmp/x=y,queues=3"), 0);
	assert_string_equal(d.path, "/tmp/x=y");
	assert_int_equal(parse("readonly,path=z"), 0);
	assert_true(d.ro);
}

static void messages_name_key_and_mend(void **state)
{
	(void)state;
	refused("", "--disk: path is missing: add path=…");
	refused("path=a,cahce=none", "--disk: unknown key 'cahce'; did you mean 'cache'?");
	refused("path=a,zzzzz=1", "--disk: unknown key 'zzzzz'; allowed: path, serial, readonly, "
				  "cache, queues, size, forward");
	refused("path=a,cache=fast", "--disk: cache: 'fast' is unknown, allowed: none, writeback");
	refused("path=a,queues=17", "--disk: queues: '17' is out of range, allowed: 1 to 16");
	refused("path=a,size=1", "--disk: size: '1' is out of range, allowed: 4K to 1T");
	refused("path=a,path=b", "--disk: path: given twice");
	refused("path=a,queues", "--disk: queues: needs a value: queues=…");
	refused("path=a,,,b,,c", "--disk: unknown key 'b,c'; allowed: path, serial, readonly, "
				 "cache, queues, size, forward");
	refused("path=a,serial=x", "--disk: serial: 1 characters are too few, needed: 2");
	refused("path=a,serial=xxxxx", "--disk: serial: 5 characters are too many, allowed: 4");
	refused("path=a,forward=!", "--disk: forward: '!' has a '!' in it");
	refused(",path=a", "--disk: empty word (a comma too many? a literal comma is ,,)");
}

static void long_text_is_refused(void **state)
{
	char *big = malloc(9001);

	(void)state;
	assert_non_null(big);
	memset(big, 'a', 9000);
	big[9000] = '\0';
	assert_int_equal(parse(big), -EINVAL);
	big[31] = '\0';
	assert_int_equal(parse(big), 0);
	big[31] = 'a';
	big[32] = '\0';
	assert_int_equal(parse(big), -ERANGE); /* char path[32] */
	free(big);
}

static void list_is_bounded(void **state)
{
	char text[1024] = "path=a";

	(void)state;
	for (int i = 0; i < CFG_LIST_MAX; i++)
		strcat(text, ",forward=x");
	assert_int_equal(parse(text), 0);
	assert_int_equal(d.forward.n, CFG_LIST_MAX);
	strcat(text, ",forward=x");
	assert_int_equal(parse(text), -ERANGE);
	assert_string_equal(e.msg, "--disk: forward: given more than 16 times");
}

static void set_changes_one_key(void **state)
{
	(void)state;
	assert_int_equal(parse("a"), 0);
	assert_int_equal(cfg_set(&disk_class, &d, "queues", "4", &e), 0);
	assert_int_equal(d.queues, 4);
	assert_string_equal(d.path, "a");
	assert_int_equal(cfg_set(&disk_class, &d, "queue", "4", &e), -EINVAL);
	assert_string_equal(e.msg, "--disk: unknown key 'queue'; did you mean 'queues'?");
}

static void wrong_default_is_found(void **state)
{
	static const struct cfg_field bad[] = {
		CFG_INT(struct disk, queues, "queues", 1, 16, "17", "queues", 0),
		CFG_END,
	};
	const struct cfg_class c = { "--bad", sizeof(struct disk), bad };

	(void)state;
	assert_int_equal(cfg_defaults(&c, &d, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "default of queues"));
}

static void help_shows_every_row(void **state)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	(void)state;
	assert_non_null(f);
	cfg_help(&disk_class, f, 2);
	fclose(f);
	assert_non_null(strstr(text, "  path=TEXT "));
	assert_non_null(strstr(text, "image file (needed)\n"));
	assert_non_null(strstr(text, "  cache=none|writeback "));
	assert_non_null(strstr(text, "host page cache [writeback]\n"));
	assert_non_null(strstr(text, "  queues=1..16 "));
	assert_non_null(strstr(text, "  size=4K..1T "));
	assert_non_null(strstr(text, "port (may be repeated)\n"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_and_all_types),
		cmocka_unit_test(first_word_and_commas),
		cmocka_unit_test(messages_name_key_and_mend),
		cmocka_unit_test(long_text_is_refused),
		cmocka_unit_test(list_is_bounded),
		cmocka_unit_test(set_changes_one_key),
		cmocka_unit_test(wrong_default_is_found),
		cmocka_unit_test(help_shows_every_row),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
