/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The user's terminal in raw mode, and its restoration on every way out: return, exit, fatal signals.
 * One terminal a process; the loop's thread, except the fatal-signal handlers.
 */
#ifndef R3_CLI_TERM_H
#define R3_CLI_TERM_H

#include "base/err.h"

/* Before any engine is opened: fatal signals restore the terminal, then end the process as they would. */
void term_guard(void);
/* Raw mode for fd if it is a terminal; false when it is none. */
bool term_raw(int fd);
/* Back to what it was; may be called at any time, also from a signal handler. */
void term_restore(void);
bool term_is_raw(void);

#endif
