/* SPDX-License-Identifier: Apache-2.0 */
/* The terminal's escape key: Ctrl-A, then a letter. Everything else goes to the guest. No threads. */
#ifndef R3_CLI_ESCAPE_H
#define R3_CLI_ESCAPE_H

#include "base/base.h"

enum escape_action { ESCAPE_NONE, ESCAPE_BYTE, ESCAPE_QUIT, ESCAPE_MONITOR, ESCAPE_HELP };

#define ESCAPE_KEY 0x01

struct escape {
	bool armed; /* Ctrl-A was typed */
};

/* ESCAPE_BYTE: c (a literal Ctrl-A for `Ctrl-A a`) is for the guest: *out. */
enum escape_action escape_feed(struct escape *s, uint8_t c, uint8_t *out);

#endif
