/* SPDX-License-Identifier: Apache-2.0 */
/* The terminal's modes come back on return, on exit and after a fatal signal (on a pseudo-terminal). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "cli/term.h"

static int open_pty(int *master)
{
	*master = posix_openpt(O_RDWR | O_NOCTTY);
	assert_true(*master >= 0);
	assert_int_equal(grantpt(*master), 0);
	assert_int_equal(unlockpt(*master), 0);
	return open(ptsname(*master), O_RDWR | O_NOCTTY);
}

static bool is_raw(int fd)
{
	struct termios t;

	assert_int_equal(tcgetattr(fd, &t), 0);
	return !(t.c_lflag & (ICANON | ECHO | ISIG));
}

static void end_child(int how)
{
	switch (how) {
	case 0: term_restore(); _exit(0);
	case 1: exit(0);
	default: raise(how); _exit(9);
	}
}

static void test_ways_out(void **state)
{
	static const int ways[] = { 0, 1, SIGSEGV, SIGABRT, SIGBUS };
	int master, fd = open_pty(&master), status, pipe_fd[2];
	char c;

	(void)state;
	assert_true(fd >= 0);
	for (unsigned i = 0; i < ARRAY_SIZE(ways); i++) {
		pid_t pid;

		assert_false(is_raw(fd));
		assert_int_equal(pipe(pipe_fd), 0);
		pid = fork();
		if (pid == 0) {
			signal(SIGSEGV, SIG_DFL);
			signal(SIGBUS, SIG_DFL);
			signal(SIGABRT, SIG_DFL);
			term_guard();
			if (!term_raw(fd) || write(pipe_fd[1], is_raw(fd) ? "r" : "n", 1) != 1)
				_exit(8);
			end_child(ways[i]);
		}
		assert_int_equal(read(pipe_fd[0], &c, 1), 1);
		assert_int_equal(c, 'r');
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (ways[i] > 1)
			assert_int_equal(WTERMSIG(status), ways[i]);
		else
			assert_int_equal(WEXITSTATUS(status), 0);
		assert_false(is_raw(fd));
		close(pipe_fd[0]);
		close(pipe_fd[1]);
	}
	close(fd);
	close(master);
}

static void test_no_terminal(void **state)
{
	int fd = open("/dev/null", O_RDWR);

	(void)state;
	assert_false(term_raw(fd));
	term_restore();
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_ways_out),
					    cmocka_unit_test(test_no_terminal) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
