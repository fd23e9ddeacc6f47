/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the benchmark rows and prints one line each: `row <nanoseconds per operation> <name>`. The same static program
 * runs on the host and in guests; time is CLOCK_MONOTONIC of wherever it runs.
 *
 *   rows [--busybox PATH] [--only TEXT] [--ms N]
 */
#include "rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* More operations until they take long enough; the first round warms up. */
static double measure(const struct row *r, double enough)
{
	uint64_t n = 1;
	double took;

	if (r->setup)
		r->setup();
	for (;;) {
		double start = now();

		r->run(n);
		took = now() - start;
		if (took >= enough)
			return took / (double)n;
		n = took < enough / 20 ? n * 8 : (uint64_t)((double)n * enough / took * 1.2) + 1;
	}
}

static void run_rows(const struct row *r, const char *only, double enough)
{
	for (; r->name; r++) {
		if ((only && !strstr(r->name, only)) || (r->usable && !r->usable()))
			continue;
		printf("row %.2f %s\n", measure(r, enough), r->name);
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	const char *only = NULL;
	double enough = 40e6;

	row_self = argv[0];
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--exit"))
			return 0;
		if (i + 1 == argc)
			break;
		if (!strcmp(argv[i], "--busybox"))
			row_busybox = argv[++i];
		else if (!strcmp(argv[i], "--only"))
			only = argv[++i];
		else if (!strcmp(argv[i], "--ms"))
			enough = atof(argv[++i]) * 1e6;
	}
	run_rows(rows_cpu, only, enough);
	run_rows(rows_kernel, only, enough);
	printf("rows done\n");
	return 0;
}
