/* SPDX-License-Identifier: Apache-2.0 */
/* Counters: per thread, summed, kept after their thread's end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/stats.h"

#include <pthread.h>
#include <string.h>

static void *count_hlt(void *arg)
{
	stat_thread_register();
	stat_thread_register(); /* twice must not count twice */
	stat_inc(EXIT_HLT);
	stat_add(EXIT_HLT, *(int *)arg);
	stat_thread_unregister();
	return NULL;
}

static void ended_threads_are_summed(void **state)
{
	int n[3] = { 10, 20, 30 };
	pthread_t t[3];

	(void)state;
	stat_thread_register();
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&t[i], NULL, count_hlt, &n[i]), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	stat_inc(EXIT_HLT);
	assert_int_equal(stat_sum(STAT_EXIT_HLT), 10 + 20 + 30 + 3 + 1);
	stat_thread_unregister();
	assert_int_equal(stat_sum(STAT_EXIT_HLT), 64);
	stat_thread_unregister();
	assert_int_equal(stat_sum(STAT_EXIT_HLT), 64);
}

static void every_row_has_a_name(void **state)
{
	(void)state;
	for (unsigned i = 0; i < STAT_COUNT; i++) {
		assert_non_null(stat_name((enum stat_id)i));
		assert_true(strlen(stat_help((enum stat_id)i)) > 0);
		for (unsigned j = 0; j < i; j++)
			assert_string_not_equal(stat_name((enum stat_id)i),
						stat_name((enum stat_id)j));
	}
	assert_string_equal(stat_name(STAT_EXIT_HLT), "exit.hlt");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ended_threads_are_summed),
		cmocka_unit_test(every_row_has_a_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
