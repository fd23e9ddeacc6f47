/* SPDX-License-Identifier: Apache-2.0 */
/* Event loop: descriptors, deletion inside a callback, timers in order, posts from other threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loop/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

static int setup(void **state)
{
	*state = loop_new(NULL);
	return *state == NULL;
}

static int teardown(void **state)
{
	loop_free(*state);
	return 0;
}

struct watch {
	struct loop_fd f;
	struct loop *l;
	struct watch *victim;
	int calls;
};

static void on_ready(struct loop_fd *f, uint32_t events)
{
	struct watch *w = container_of(f, struct watch, f);

	assert_true(events & EPOLLIN);
	w->calls++;
	if (w->victim != NULL)
		loop_fd_del(w->l, &w->victim->f);
}

static void fd_is_reported_while_readable(void **state)
{
	struct loop *l = *state;
	struct watch w = { .l = l };
	int p[2];
	char c;

	assert_int_equal(pipe(p), 0);
	w.f = (struct loop_fd){ .fd = p[0], .events = EPOLLIN, .ready = on_ready };
	assert_int_equal(loop_fd_add(l, &w.f), 0);
	assert_int_equal(loop_once(l, 0), 0);
	assert_int_equal(write(p[1], "x", 1), 1);
	assert_int_equal(loop_once(l, -1), 1);
	assert_int_equal(loop_once(l, -1), 1); /* level-triggered */
	assert_int_equal(read(p[0], &c, 1), 1);
	assert_int_equal(loop_once(l, 0), 0);
	assert_int_equal(w.calls, 2);
	assert_int_equal(write(p[1], "x", 1), 1);
	assert_int_equal(loop_fd_mod(l, &w.f, 0), 0);
	assert_int_equal(loop_once(l, 0), 0);
	loop_fd_del(l, &w.f);
	assert_int_equal(loop_fd_mod(l, &w.f, EPOLLIN), -ENOENT);
	close(p[0]);
	close(p[1]);
}

/* Two descriptors are ready at once and each deletes the other: only one may be called. */
static void deleted_fd_is_not_called(void **state)
{
	struct loop *l = *state;
	struct watch a = { .l = l }, b = { .l = l };
	int p[2], q[2];

	assert_int_equal(pipe(p), 0);
	assert_int_equal(pipe(q), 0);
	a.f = (struct loop_fd){ .fd = p[0], .events = EPOLLIN, .ready = on_ready };
	b.f = (struct loop_fd){ .fd = q[0], .events = EPOLLIN, .ready = on_ready };
	a.victim = &b;
	b.victim = &a;
	assert_int_equal(loop_fd_add(l, &a.f), 0);
	assert_int_equal(loop_fd_add(l, &b.f), 0);
	assert_int_equal(write(p[1], "x", 1), 1);
	assert_int_equal(write(q[1], "x", 1), 1);
	assert_int_equal(loop_once(l, -1), 1);
	assert_int_equal(a.calls + b.calls, 1);
	close(p[0]);
	close(p[1]);
	close(q[0]);
	close(q[1]);
}

static void bad_fd_is_an_error(void **state)
{
	struct loop_fd f = { .fd = -1, .events = EPOLLIN, .ready = on_ready };

	assert_int_equal(loop_fd_add(*state, &f), -EBADF);
	assert_false(f.active);
}

enum { TIMERS = 200 };
static int64_t fired[TIMERS];
static unsigned fired_count;

static void on_fire(struct loop_timer *t)
{
	fired[fired_count++] = t->deadline_ns;
}

static void timers_fire_in_order(void **state)
{
	struct loop *l = *state;
	struct loop_timer t[TIMERS] = { 0 };
	const int64_t now = clock_monotonic_ns();
	unsigned left = 0;

	fired_count = 0;
	srandom(7);
	for (int i = 0; i < TIMERS; i++) {
		t[i].fire = on_fire;
		loop_timer_set(l, &t[i], now - 1 - random() % 1000000);
	}
	for (int i = 0; i < TIMERS; i += 3) /* moves some */
		loop_timer_set(l, &t[i], now - 1 - random() % 1000000);
	for (int i = 0; i < TIMERS; i++) { /* and drops some */
		if (i % 4 == 1)
			loop_timer_cancel(l, &t[i]);
		else
			left++;
	}
	loop_timer_cancel(l, &t[1]); /* idle already */
	assert_int_equal(loop_once(l, 0), left);
	assert_int_equal(fired_count, left);
	for (unsigned i = 1; i < left; i++)
		assert_true(fired[i - 1] <= fired[i]);
	assert_int_equal(loop_once(l, 0), 0);
}

static void timer_ends_the_wait(void **state)
{
	struct loop_timer t = { .fire = on_fire };
	const int64_t start = clock_monotonic_ns();
	int n = 0;

	fired_count = 0;
	loop_timer_set(*state, &t, start + 5000000);
	while (n == 0)
		n = loop_once(*state, -1);
	assert_true(clock_monotonic_ns() - start >= 5000000);
	assert_int_equal(n, 1);
}

static void rearm_fire(struct loop_timer *t)
{
	fired_count++;
	if (fired_count < 3)
		loop_timer_set(t->opaque, t, t->deadline_ns + 1);
}

static void timer_may_rearm_itself(void **state)
{
	struct loop_timer t = { .fire = rearm_fire, .opaque = *state };

	fired_count = 0;
	loop_timer_set(*state, &t, 1);
	while (fired_count < 3)
		loop_once(*state, -1);
	assert_int_equal(loop_once(*state, 0), 0);
}

static unsigned ran;

static void on_work(struct loop_work *w)
{
	(void)w;
	ran++;
}

static void *poster(void *arg)
{
	struct loop_work *w = arg;

	for (int i = 0; i < 1000; i++)
		loop_post(w->opaque, w);
	return NULL;
}

static void posts_from_threads_arrive(void **state)
{
	struct loop_work a = { .run = on_work, .opaque = *state }, b = a;
	pthread_t t[2];

	ran = 0;
	assert_int_equal(pthread_create(&t[0], NULL, poster, &a), 0);
	assert_int_equal(pthread_create(&t[1], NULL, poster, &b), 0);
	loop_once(*state, -1);
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	while (loop_once(*state, 0) > 0)
		;
	assert_in_range(ran, 2, 2000);
	assert_false(a.queued);
	assert_false(b.queued);
}

static void queued_work_runs_once(void **state)
{
	struct loop_work w = { .run = on_work };

	ran = 0;
	loop_post(*state, &w);
	loop_post(*state, &w);
	assert_int_equal(loop_once(*state, -1), 1);
	assert_int_equal(loop_once(*state, 0), 0);
	assert_int_equal(ran, 1);
}

static void post_again(struct loop_work *w)
{
	ran++;
	loop_post(w->opaque, w);
}

static void self_posting_work_does_not_starve(void **state)
{
	struct loop_work w = { .run = post_again, .opaque = *state };

	ran = 0;
	loop_post(*state, &w);
	assert_int_equal(loop_once(*state, -1), 1);
	assert_int_equal(loop_once(*state, -1), 1);
	assert_int_equal(ran, 2);
}

static void *stopper(void *arg)
{
	usleep(2000);
	loop_stop(arg);
	return NULL;
}

static void stop_and_wake(void **state)
{
	pthread_t t;

	loop_wake(*state);
	assert_int_equal(loop_once(*state, -1), 0); /* returns although nothing happened */
	assert_int_equal(pthread_create(&t, NULL, stopper, *state), 0);
	loop_run(*state);
	pthread_join(t, NULL);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(fd_is_reported_while_readable),
		T(deleted_fd_is_not_called),
		T(bad_fd_is_an_error),
		T(timers_fire_in_order),
		T(timer_ends_the_wait),
		T(timer_may_rearm_itself),
		T(posts_from_threads_arrive),
		T(queued_work_runs_once),
		T(self_posting_work_does_not_starve),
		T(stop_and_wake),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
