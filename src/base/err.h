/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors a person reads. Functions return 0 or -errno; those whose failure is shown to a user
 * also fill a struct err with one line that names the thing and the mend.
 */
#ifndef R3_BASE_ERR_H
#define R3_BASE_ERR_H

#include "base/base.h"

struct err {
	int code; /* -errno, 0 when unset */
	char msg[256];
};

/* Sets code and message (e may be NULL) and returns code, so that `return err_set(...)` reads well. */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Puts "prefix: " before the message already there; returns e->code. */
int err_prefix(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
