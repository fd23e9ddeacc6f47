/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Levelled logging to stderr (never stdout: that may be the guest's console). Thread-safe.
 * log_guest() is for what a guest causes: limited to 10 lines a second for each call site.
 */
#ifndef R3_BASE_LOG_H
#define R3_BASE_LOG_H

#include "base/base.h"

enum log_level { LOG_ERR, LOG_WARN, LOG_INFO, LOG_DEBUG };

extern enum log_level log_threshold;
/* When true, lines end in \r\n (the terminal is raw). */
extern bool log_raw_terminal;

struct log_rate {
	int64_t window_start_ns;
	unsigned count, suppressed;
};

void log_write(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);
void log_write_limited(struct log_rate *r, const char *fmt, ...) PRINTF_LIKE(2, 3);

#define log_err(...) log_write(LOG_ERR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
	do {                                                                                       \
		if (unlikely(log_threshold >= LOG_DEBUG))                                          \
			log_write(LOG_DEBUG, __VA_ARGS__);                                         \
	} while (0)
#define log_guest(...)                                                                             \
	do {                                                                                       \
		static struct log_rate rate_;                                                      \
		log_write_limited(&rate_, __VA_ARGS__);                                            \
	} while (0)

#endif
