/* SPDX-License-Identifier: Apache-2.0 */
/* Matches the panic line byte by byte, so that it may come in any pieces. */
#include "vmm/panic.h"

static const char words[] = "Kernel panic - not syncing: ";

/* The first letter occurs nowhere else in the words, so a mismatch restarts at most there. */
static void match(struct panic_scan *p, uint8_t c)
{
	if (c != (uint8_t)words[p->matched])
		p->matched = 0;
	if (c == (uint8_t)words[p->matched])
		p->matched++;
	p->found = words[p->matched] == '\0';
}

static void collect(struct panic_scan *p, uint8_t c)
{
	if (c == '\r' || c == '\n')
		p->complete = true;
	else if (p->len < sizeof(p->text) - 1)
		p->text[p->len++] = c >= ' ' && c <= '~' ? (char)c : '?';
}

bool panic_scan(struct panic_scan *p, const uint8_t *buf, size_t n)
{
	if (p->complete)
		return false;
	for (size_t i = 0; i < n && !p->complete; i++) {
		if (p->found)
			collect(p, buf[i]);
		else
			match(p, buf[i]);
	}
	return p->complete;
}
