/* SPDX-License-Identifier: Apache-2.0 */
/* A box under interp and its twin under the translator, driven together. */
#ifndef R3_TESTS_CPU_DBT_FIXTURE_H
#define R3_TESTS_CPU_DBT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "../../guest/box.h"
#include "base/stats.h"
#include "cpu/dbt/dbt_priv.h"

struct pair {
	struct box *interp, *dbt;
	struct box_compare rules; /* of the next pair_run */
};

#define PAIR_LOAD(p, name) pair_load(p, box_##name, BOX_SIZE(name))
#define PAIR_SET(p, field, value)                                                                  \
	do {                                                                                       \
		box_state((p)->interp)->field = (value);                                           \
		box_state((p)->dbt)->field = (value);                                              \
	} while (0)
#define PAIR_DO(p, call, ...)                                                                      \
	do {                                                                                       \
		call((p)->interp, ##__VA_ARGS__);                                                  \
		call((p)->dbt, ##__VA_ARGS__);                                                     \
	} while (0)

static struct pair *open_pair; /* a test that failed has left it */

static inline void pair_free(struct pair *p)
{
	open_pair = NULL;
	box_free(p->dbt);
	box_free(p->interp);
	free(p);
}

static inline struct pair *pair_new(void)
{
	struct pair *p = calloc(1, sizeof(*p));
	struct err why;

	assert_non_null(p);
	if (engine_dbt.probe(&why))
		skip(); /* a host without what the translator needs */
	if (open_pair)
		pair_free(open_pair);
	p->interp = box_new(&engine_interp);
	p->dbt = box_new(&engine_dbt);
	assert_non_null(p->interp);
	assert_non_null(p->dbt);
	open_pair = p;
	return p;
}

static inline void pair_reset(struct pair *p, unsigned cpl)
{
	PAIR_DO(p, box_reset, cpl);
	p->rules = (struct box_compare){ 0 };
}

static inline void pair_load(struct pair *p, const uint8_t *code, size_t n)
{
	PAIR_DO(p, box_code, BOX_CODE, code, n);
}

static inline void pair_irq(struct pair *p, int vector)
{
	atomic_store(&p->interp->irq, vector);
	atomic_store(&p->dbt->irq, vector);
	atomic_store(&p->interp->v.irq_hint, vector >= 0);
	atomic_store(&p->dbt->v.irq_hint, vector >= 0);
}

/*
 * cmocka puts handlers of its own in place for each test; the translator installs its once a process. After the first
 * run they are remembered, and put back for all later ones.
 */
static inline void keep_handlers(bool before)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE };
	static struct sigaction kept[ARRAY_SIZE(signals)];
	static bool known;

	for (unsigned i = 0; i < ARRAY_SIZE(signals); i++)
		if (before && known)
			sigaction(signals[i], &kept[i], NULL);
		else if (!before && !known)
			sigaction(signals[i], NULL, &kept[i]);
	known |= !before;
}

static inline int dbt_box_run(struct box *b)
{
	int r;

	keep_handlers(true);
	r = box_run(b);
	keep_handlers(false);
	return r;
}

/* Runs both and compares; what box_run said. */
static inline int pair_run(struct pair *p)
{
	struct x86_state in = *box_state(p->dbt);
	int a = box_run(p->interp), b = dbt_box_run(p->dbt);
	unsigned n;

	if (a != b)
		fprintf(stderr, "interp ended with %d, dbt with %d (%s)\n", a, b, p->dbt->exit.msg);
	n = box_differs(p->interp, p->dbt, &p->rules, stderr);
	if (n || a != b) {
		for (unsigned i = 0; i < 16; i++)
			fprintf(stderr, "  was gpr%u %#llx\n", i, (unsigned long long)in.gpr[i]);
		fail_msg("dbt differs from interp in %u places", n);
	}
	return a;
}

#endif
