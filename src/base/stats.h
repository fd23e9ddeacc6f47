/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Event counters. Each row of stats.def is one counter; adding a row is all it takes to have it
 * counted, printed by --stats and exported. Counters are per thread and summed when read.
 */
#ifndef R3_BASE_STATS_H
#define R3_BASE_STATS_H

#include "base/base.h"

enum stat_id {
#define STAT(id, name, help) STAT_##id,
#include "base/stats.def"
#undef STAT
	STAT_COUNT
};

struct stat_block {
	uint64_t v[STAT_COUNT];
	struct stat_block *next;
};
extern __thread struct stat_block stat_self;

#define stat_inc(id) (stat_self.v[STAT_##id]++)
#define stat_add(id, n) (stat_self.v[STAT_##id] += (uint64_t)(n))

/* Every thread that counts calls this once before, so that its counters are found; idempotent. */
void stat_thread_register(void);
/* Folds the thread's counters into the total; to be called before the thread ends. */
void stat_thread_unregister(void);
uint64_t stat_sum(enum stat_id id);
const char *stat_name(enum stat_id id);
const char *stat_help(enum stat_id id);

#endif
