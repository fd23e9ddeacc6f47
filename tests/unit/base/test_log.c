/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines as they reach stderr: level, threshold, raw terminal, length limit, rate limit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int kept_stderr, capture_fd;

static void capture_begin(void)
{
	capture_fd = memfd_create("log", MFD_CLOEXEC);
	assert_true(capture_fd >= 0);
	kept_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	assert_true(kept_stderr >= 0);
	assert_true(dup2(capture_fd, STDERR_FILENO) >= 0);
}

static size_t capture_end(char *buf, size_t room)
{
	ssize_t n;

	assert_true(dup2(kept_stderr, STDERR_FILENO) >= 0);
	close(kept_stderr);
	n = pread(capture_fd, buf, room - 1, 0);
	close(capture_fd);
	assert_true(n >= 0);
	buf[n] = '\0';
	return (size_t)n;
}

static unsigned lines(const char *s)
{
	unsigned n = 0;

	for (; *s != '\0'; s++)
		n += *s == '\n';
	return n;
}

static void threshold_and_format(void **state)
{
	char buf[512];

	(void)state;
	capture_begin();
	log_warn("disk %d", 3);
	log_debug("not shown");
	capture_end(buf, sizeof(buf));
	assert_string_equal(buf, "ring3: warning: disk 3\n");
}

static void raw_terminal_gets_cr(void **state)
{
	char buf[512];

	(void)state;
	log_raw_terminal = true;
	capture_begin();
	log_err("gone");
	capture_end(buf, sizeof(buf));
	log_raw_terminal = false;
	assert_string_equal(buf, "ring3: error: gone\r\n");
}

static void long_line_is_one_line(void **state)
{
	char big[4000], buf[8000];
	size_t n;

	(void)state;
	memset(big, 'y', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	log_raw_terminal = true;
	capture_begin();
	log_info("%s", big);
	n = capture_end(buf, sizeof(buf));
	log_raw_terminal = false;
	assert_true(n <= 1024);
	assert_int_equal(lines(buf), 1);
	assert_string_equal(buf + n - 3, "y\r\n");
}

static void guest_lines_are_limited(void **state)
{
	char buf[8000];

	(void)state;
	capture_begin();
	for (int i = 0; i < 1000; i++)
		log_guest("bad descriptor %d", i);
	capture_end(buf, sizeof(buf));
	/* ten a second; the loop may straddle one second's end */
	assert_in_range(lines(buf), 10, 21);
	assert_non_null(strstr(buf, "bad descriptor 9\n"));
}

static void limit_opens_again(void **state)
{
	struct log_rate r = { 0, 0, 0 };
	char buf[4000];

	(void)state;
	capture_begin();
	for (int i = 0; i < 15; i++)
		log_write_limited(&r, "x");
	r.window_start_ns -= 2000000000; /* as if two seconds had gone */
	log_write_limited(&r, "again");
	capture_end(buf, sizeof(buf));
	assert_int_equal(lines(buf), 12);
	assert_non_null(strstr(buf, "5 more"));
	assert_non_null(strstr(buf, "again"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threshold_and_format),	 cmocka_unit_test(raw_terminal_gets_cr),
		cmocka_unit_test(long_line_is_one_line), cmocka_unit_test(guest_lines_are_limited),
		cmocka_unit_test(limit_opens_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
