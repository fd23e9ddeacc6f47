/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registry of the threads' counter blocks. Only the owner writes its block, without a lock; readers
 * sum whole words, which cannot tear. `lock` guards the list and the total of ended threads.
 */
#include "base/stats.h"

#include <pthread.h>

__thread struct stat_block stat_self;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct stat_block *blocks;
static uint64_t ended[STAT_COUNT];

static const char *const names[STAT_COUNT] = {
#define STAT(id, name, help) [STAT_##id] = name,
#include "base/stats.def"
#undef STAT
};

static const char *const helps[STAT_COUNT] = {
#define STAT(id, name, help) [STAT_##id] = help,
#include "base/stats.def"
#undef STAT
};

static struct stat_block **find_self(void)
{
	struct stat_block **p = &blocks;

	while (*p != NULL && *p != &stat_self)
		p = &(*p)->next;
	return p;
}

void stat_thread_register(void)
{
	struct stat_block **p;

	pthread_mutex_lock(&lock);
	p = find_self();
	if (*p == NULL) {
		stat_self.next = NULL;
		*p = &stat_self;
	}
	pthread_mutex_unlock(&lock);
}

void stat_thread_unregister(void)
{
	struct stat_block **p;

	pthread_mutex_lock(&lock);
	p = find_self();
	if (*p != NULL) {
		*p = stat_self.next;
		for (unsigned i = 0; i < STAT_COUNT; i++) {
			ended[i] += stat_self.v[i];
			stat_self.v[i] = 0;
		}
	}
	pthread_mutex_unlock(&lock);
}

uint64_t stat_sum(enum stat_id id)
{
	uint64_t sum;

	pthread_mutex_lock(&lock);
	sum = ended[id];
	for (const struct stat_block *b = blocks; b != NULL; b = b->next)
		sum += __atomic_load_n(&b->v[id], __ATOMIC_RELAXED);
	pthread_mutex_unlock(&lock);
	return sum;
}

const char *stat_name(enum stat_id id)
{
	return names[id];
}

const char *stat_help(enum stat_id id)
{
	return helps[id];
}
