/* SPDX-License-Identifier: Apache-2.0 */
/* Terminal modes. tcsetattr is async-signal-safe, so the fatal-signal handler may restore too. */
#include "cli/term.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/log.h"

static struct termios saved;
static int term_fd = -1;
static volatile sig_atomic_t raw;

void term_restore(void)
{
	if (!raw)
		return;
	raw = 0;
	log_raw_terminal = false;
	tcsetattr(term_fd, TCSADRAIN, &saved);
}

bool term_is_raw(void)
{
	return raw;
}

bool term_raw(int fd)
{
	struct termios t;

	if (raw)
		return true;
	if (term_fd < 0) {
		if (!isatty(fd) || tcgetattr(fd, &saved) < 0)
			return false;
		term_fd = fd;
		atexit(term_restore);
	}
	t = saved;
	cfmakeraw(&t);
	t.c_cc[VMIN] = 1;
	t.c_cc[VTIME] = 0;
	raw = 1;
	log_raw_terminal = true;
	tcsetattr(term_fd, TCSADRAIN, &t);
	return true;
}

static void on_fatal(int sig)
{
	struct sigaction dfl;

	if (raw) {
		raw = 0;
		tcsetattr(term_fd, TCSANOW, &saved);
	}
	memset(&dfl, 0, sizeof(dfl));
	dfl.sa_handler = SIG_DFL;
	sigaction(sig, &dfl, NULL);
	raise(sig);
}

void term_guard(void)
{
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGILL,  SIGFPE,
				     SIGABRT, SIGSYS, SIGXCPU, SIGALRM };
	struct sigaction sa, old;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = on_fatal;
	sa.sa_flags = SA_ONSTACK;
	sigemptyset(&sa.sa_mask);
	for (unsigned i = 0; i < ARRAY_SIZE(fatal); i++)
		if (!sigaction(fatal[i], NULL, &old) && !(old.sa_flags & SA_SIGINFO) &&
		    old.sa_handler == SIG_DFL)
			sigaction(fatal[i], &sa, NULL);
}
