/* SPDX-License-Identifier: Apache-2.0 */
/* struct err: messages are cut to the buffer, never overflow it. No threads, no locks. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	if (e == NULL)
		return code;
	e->code = code;
	va_start(ap, fmt);
	vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	return code;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
	char head[sizeof(e->msg)];
	size_t n, old;
	va_list ap;

	if (e == NULL)
		return 0;
	va_start(ap, fmt);
	vsnprintf(head, sizeof(head) - 2, fmt, ap);
	va_end(ap);
	strcat(head, ": ");
	n = strlen(head);
	old = MIN(strnlen(e->msg, sizeof(e->msg)), sizeof(e->msg) - 1 - n);
	memmove(e->msg + n, e->msg, old);
	memcpy(e->msg, head, n);
	e->msg[n + old] = '\0';
	return e->code;
}
