/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines are put together in a local buffer and leave in one write(2), so that lines of several
 * threads never mix. log_write_limited's counters are updated without a lock: a race costs at most
 * a line too many.
 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { RATE_LINES = 10 };
#define RATE_WINDOW_NS 1000000000ll

enum log_level log_threshold = LOG_INFO;
bool log_raw_terminal;

static const char *const level_names[] = { "error", "warning", "info", "debug" };

static void write_all(const char *p, size_t n)
{
	while (n > 0) {
		ssize_t w = write(STDERR_FILENO, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return;
		p += w;
		n -= (size_t)w;
	}
}

static void PRINTF_LIKE(2, 0) write_line(enum log_level level, const char *fmt, va_list ap)
{
	char line[1024];
	const size_t room = sizeof(line) - 3; /* "\r\n" and snprintf's NUL */
	int saved = errno;
	size_t n;
	int r;

	r = snprintf(line, room, "ring3: %s: ", level_names[level]);
	n = r > 0 ? (size_t)r : 0;
	r = vsnprintf(line + n, room - n, fmt, ap);
	if (r > 0)
		n += MIN((size_t)r, room - n - 1);
	if (log_raw_terminal)
		line[n++] = '\r';
	line[n++] = '\n';
	write_all(line, n);
	errno = saved;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	if (level > log_threshold)
		return;
	va_start(ap, fmt);
	write_line(level, fmt, ap);
	va_end(ap);
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void log_write_limited(struct log_rate *r, const char *fmt, ...)
{
	int64_t now = now_ns();
	va_list ap;

	if (log_threshold < LOG_WARN)
		return;
	if (r->window_start_ns == 0 || now - r->window_start_ns >= RATE_WINDOW_NS) {
		unsigned missed = r->suppressed;

		r->window_start_ns = now;
		r->count = 0;
		r->suppressed = 0;
		if (missed > 0)
			log_write(LOG_WARN, "(%u more like the next line were left out)", missed);
	}
	if (r->count >= RATE_LINES) {
		r->suppressed++;
		return;
	}
	r->count++;
	va_start(ap, fmt);
	write_line(LOG_WARN, fmt, ap);
	va_end(ap);
}
