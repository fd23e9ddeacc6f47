/* SPDX-License-Identifier: Apache-2.0 */
/* One benchmark row: run() does n operations; what they are worth is in rows_*.c. */
#ifndef R3_BENCH_ROWS_H
#define R3_BENCH_ROWS_H

#include <stdbool.h>
#include <stdint.h>

struct row {
	const char *name;
	void (*run)(uint64_t n);
	void (*setup)(void);  /* may be NULL; not timed */
	bool (*usable)(void); /* NULL: always */
};

extern const struct row rows_cpu[], rows_kernel[]; /* end with name NULL */
extern volatile uint64_t row_sink;		   /* results go here, so that no work is dropped */
extern const char *row_self, *row_busybox;	   /* paths for the rows that execute programs */

#endif
