/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Event loop: file descriptors (epoll, level-triggered), timers, posts from other threads.
 * A loop is run by one thread at a time; loop_post and loop_wake are the only calls other threads
 * may make. A vCPU that has nothing to do may run a device loop itself (DESIGN §5).
 */
#ifndef R3_LOOP_LOOP_H
#define R3_LOOP_LOOP_H

#include "base/base.h"
#include "base/err.h"
#include "loop/clock.h"

struct loop;

struct loop_fd {
	int fd;
	uint32_t events; /* EPOLLIN… asked for */
	void (*ready)(struct loop_fd *f, uint32_t events);
	void *opaque;
	bool active; /* private */
};

struct loop_timer {
	void (*fire)(struct loop_timer *t);
	void *opaque;
	int64_t deadline_ns; /* CLOCK_MONOTONIC */
	size_t heap_index;   /* private; 0: idle */
};

struct loop_work {
	void (*run)(struct loop_work *w);
	void *opaque;
	struct loop_work *next; /* private */
	bool queued;		/* private */
};

struct loop *loop_new(struct err *e) MUST_CHECK;
void loop_free(struct loop *l);

int loop_fd_add(struct loop *l, struct loop_fd *f) MUST_CHECK;
int loop_fd_mod(struct loop *l, struct loop_fd *f, uint32_t events) MUST_CHECK;
/* Safe from inside a callback, also for another fd whose event is pending: it will not be called. */
void loop_fd_del(struct loop *l, struct loop_fd *f);

void loop_timer_set(struct loop *l, struct loop_timer *t, int64_t deadline_ns); /* (re)arms */
void loop_timer_cancel(struct loop *l, struct loop_timer *t);

/* Any thread: have w->run called on the loop's thread. A work item already queued stays queued once. */
void loop_post(struct loop *l, struct loop_work *w);
/* Any thread: make a running loop_once return. */
void loop_wake(struct loop *l);

/*
 * Handles what is ready; waits at most timeout_ns for it (0: does not wait, -1: as long as it takes).
 * Returns the number of callbacks made.
 */
int loop_once(struct loop *l, int64_t timeout_ns);
/* Runs until loop_stop. */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);

/*
 * The gate makes another thread (lockstep's vCPU) take turns with the loop's callbacks. While it is closed callbacks
 * wait in front of it, and who closed it may run timers itself.
 */
bool loop_gate_try_close(struct loop *l);
void loop_gate_open(struct loop *l);
/* Does the loop's thread wait at the gate? Cheap. */
bool loop_gate_wanted(const struct loop *l);
/* Under a closed gate: runs the timers that are due; when the next one is (INT64_MAX: none). */
int loop_timers_run(struct loop *l);
int64_t loop_timers_next(const struct loop *l);

#endif
