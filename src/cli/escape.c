/* SPDX-License-Identifier: Apache-2.0 */
/* Two states: plain, and after Ctrl-A. */
#include "cli/escape.h"

enum escape_action escape_feed(struct escape *s, uint8_t c, uint8_t *out)
{
	if (!s->armed) {
		s->armed = c == ESCAPE_KEY;
		*out = c;
		return s->armed ? ESCAPE_NONE : ESCAPE_BYTE;
	}
	s->armed = false;
	switch (c) {
	case 'x': return ESCAPE_QUIT;
	case 'c': return ESCAPE_MONITOR;
	case 'h':
	case '?': return ESCAPE_HELP;
	case 'a':
	case ESCAPE_KEY: *out = ESCAPE_KEY; return ESCAPE_BYTE;
	default: return ESCAPE_NONE;
	}
}
