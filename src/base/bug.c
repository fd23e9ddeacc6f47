/* SPDX-License-Identifier: Apache-2.0 */
/* BUG_ON's end: says what broke and dumps core. Any thread. */
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>

void bug_at(const char *file, int line, const char *what)
{
	fprintf(stderr, "\r\nring3: internal error at %s:%d: %s\r\n", file, line, what);
	fflush(stderr);
	abort();
}
