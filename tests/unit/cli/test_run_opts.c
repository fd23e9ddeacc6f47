/* SPDX-License-Identifier: Apache-2.0 */
/* Options of `ring3 run`: defaults, the kernel's command line, refused nonsense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "cli/run_opts.h"

static struct run_opts o;
static struct err e;

static int parse(const char *a, const char *b, const char *c, const char *d)
{
	char *argv[] = { (char *)a, (char *)b, (char *)c, (char *)d };
	int argc = 0;

	while (argc < 4 && argv[argc])
		argc++;
	memset(&e, 0, sizeof(e));
	return run_opts_parse(&o, argc, argv, &e);
}

static void test_defaults(void **state)
{
	struct vmm_cfg c;

	(void)state;
	assert_int_equal(parse("--kernel", "/k", NULL, NULL), 0);
	run_opts_vmm(&o, &c);
	assert_int_equal(c.machine.memory, GiB);
	assert_int_equal(c.machine.cpus, 1);
	assert_string_equal(c.engine, "auto");
	assert_string_equal(c.machine.boot.kernel, "/k");
	assert_null(c.machine.boot.initrd);
	assert_string_equal(c.machine.boot.cmdline, "console=ttyS0");
	assert_string_equal(o.sink[MACHINE_SERIAL], "stdio");
	assert_true(c.machine.invtsc);
	assert_false(c.machine.virtio_console);
}

static void test_cmdline(void **state)
{
	(void)state;
	assert_int_equal(parse("--kernel=/k", "--append", "quiet", NULL), 0);
	assert_string_equal(o.cmdline, "console=ttyS0 quiet");
	assert_int_equal(parse("--kernel=/k", "--append", "quiet console=tty1", NULL), 0);
	assert_string_equal(o.cmdline, "quiet console=tty1");
	assert_int_equal(parse("--kernel=/k", "--append", "netconsole=x", NULL), 0);
	assert_string_equal(o.cmdline, "console=ttyS0 netconsole=x");
	assert_int_equal(parse("--kernel=/k", "--console=virtio", NULL, NULL), 0);
	assert_string_equal(o.cmdline, "console=hvc0");
	assert_string_equal(o.sink[MACHINE_SERIAL], "null");
	assert_string_equal(o.sink[MACHINE_VIRTIO_CONSOLE], "stdio");
}

static void expect(const char *part)
{
	if (!strstr(e.msg, part))
		fail_msg("\"%s\" lacks \"%s\"", e.msg, part);
}

static void test_refused(void **state)
{
	(void)state;
	assert_true(parse("--kernel=/k", "--memory=0", NULL, NULL) < 0);
	expect("16M");
	assert_true(parse("--kernel=/k", "--memory=8191P", NULL, NULL) < 0);
	assert_true(parse("--kernel=/k", "--memory=1000T", NULL, NULL) < 0);
	expect("host");
	assert_true(parse("--kernel=/k", "--cpus=0", NULL, NULL) < 0);
	assert_true(parse("--kernel=/k", "--disk=read=1", NULL, NULL) < 0);
	expect("--disk");
	assert_true(parse("--kernel=/k", "--net=usr", NULL, NULL) < 0);
	expect("--net");
	assert_true(parse("--kernel=/k", "--console=virtio", "--serial=stdio", NULL) < 0);
	expect("--serial");
	assert_true(parse("stray", NULL, NULL, NULL) < 0);
	expect("stray");
}

static void test_no_default_guest(void **state)
{
	(void)state;
	setenv("XDG_CACHE_HOME", "/nonexistent", 1);
	assert_true(parse(NULL, NULL, NULL, NULL) < 0);
	expect("/nonexistent/ring3/vmlinuz-amd64");
	expect("--kernel");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_cmdline),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_no_default_guest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
