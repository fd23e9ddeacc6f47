/* SPDX-License-Identifier: Apache-2.0 */
/* Finds "Kernel panic - not syncing" in what a guest prints. One user at a time (the console's lock). */
#ifndef R3_VMM_PANIC_H
#define R3_VMM_PANIC_H

#include "base/base.h"

struct panic_scan {
	unsigned matched; /* characters of the words seen so far */
	unsigned len;	  /* of text */
	bool found;	  /* the words were seen; text is filling */
	bool complete;	  /* text is the whole line */
	char text[120];	  /* what followed them */
};

/* True once, when a panic's line is complete. */
bool panic_scan(struct panic_scan *p, const uint8_t *buf, size_t n);

#endif
