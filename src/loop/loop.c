/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epoll for descriptors, an eventfd for wake-ups from other threads, a binary heap for timers.
 * Everything belongs to the thread that runs the loop, except `posted`, which `lock` guards, and
 * the eventfd and `stop`, which any thread may touch.
 */
#include "loop/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { MAX_EVENTS = 64, FIRST_TIMERS = 32 };

struct loop {
	int epfd, wakefd;
	bool stop;
	struct epoll_event ev[MAX_EVENTS]; /* the batch being handled */
	int ev_count;
	struct loop_timer **heap; /* heap[1..timers], smallest deadline at 1 */
	size_t timers, heap_room;
	pthread_mutex_t lock;
	struct loop_work *posted, **posted_tail;
	pthread_mutex_t gate;
	atomic_uint gate_wanted;
};

static int loop_open_fds(struct loop *l)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = NULL }; /* NULL: the wake-up */

	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	l->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->epfd < 0 || l->wakefd < 0)
		return -errno;
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, l->wakefd, &ev) < 0)
		return -errno;
	return 0;
}

struct loop *loop_new(struct err *e)
{
	struct loop *l = calloc(1, sizeof(*l));
	int r;

	if (l == NULL) {
		err_set(e, -ENOMEM, "event loop: out of memory");
		return NULL;
	}
	l->epfd = -1;
	l->wakefd = -1;
	l->posted_tail = &l->posted;
	pthread_mutex_init(&l->lock, NULL);
	pthread_mutex_init(&l->gate, NULL);
	l->heap_room = FIRST_TIMERS;
	l->heap = calloc(l->heap_room + 1, sizeof(struct loop_timer *));
	r = l->heap != NULL ? loop_open_fds(l) : -ENOMEM;
	if (r < 0) {
		err_set(e, r, "event loop: %s", strerror(-r));
		loop_free(l);
		return NULL;
	}
	return l;
}

void loop_free(struct loop *l)
{
	if (l == NULL)
		return;
	if (l->epfd >= 0)
		close(l->epfd);
	if (l->wakefd >= 0)
		close(l->wakefd);
	pthread_mutex_destroy(&l->lock);
	pthread_mutex_destroy(&l->gate);
	free(l->heap);
	free(l);
}

static int epoll_do(struct loop *l, int op, struct loop_fd *f)
{
	struct epoll_event ev = { .events = f->events, .data.ptr = f };

	return epoll_ctl(l->epfd, op, f->fd, &ev) < 0 ? -errno : 0;
}

int loop_fd_add(struct loop *l, struct loop_fd *f)
{
	int r = epoll_do(l, EPOLL_CTL_ADD, f);

	f->active = r == 0;
	return r;
}

int loop_fd_mod(struct loop *l, struct loop_fd *f, uint32_t events)
{
	if (!f->active)
		return -ENOENT;
	f->events = events;
	return epoll_do(l, EPOLL_CTL_MOD, f);
}

void loop_fd_del(struct loop *l, struct loop_fd *f)
{
	if (!f->active)
		return;
	f->active = false;
	epoll_ctl(l->epfd, EPOLL_CTL_DEL, f->fd, NULL);
	/* The caller may free *f at once: forget it in the batch being handled. */
	for (int i = 0; i < l->ev_count; i++) {
		if (l->ev[i].data.ptr == f)
			l->ev[i].events = 0;
	}
}

static void heap_put(struct loop *l, size_t i, struct loop_timer *t)
{
	l->heap[i] = t;
	t->heap_index = i;
}

static void heap_up(struct loop *l, size_t i, struct loop_timer *t)
{
	while (i > 1 && l->heap[i / 2]->deadline_ns > t->deadline_ns) {
		heap_put(l, i, l->heap[i / 2]);
		i /= 2;
	}
	heap_put(l, i, t);
}

static void heap_down(struct loop *l, size_t i, struct loop_timer *t)
{
	for (size_t c = 2 * i; c <= l->timers; c = 2 * i) {
		if (c < l->timers && l->heap[c + 1]->deadline_ns < l->heap[c]->deadline_ns)
			c++;
		if (l->heap[c]->deadline_ns >= t->deadline_ns)
			break;
		heap_put(l, i, l->heap[c]);
		i = c;
	}
	heap_put(l, i, t);
}

void loop_timer_cancel(struct loop *l, struct loop_timer *t)
{
	const size_t i = t->heap_index;
	struct loop_timer *last;

	if (i == 0)
		return;
	t->heap_index = 0;
	last = l->heap[l->timers--];
	if (last == t)
		return;
	if (i > 1 && l->heap[i / 2]->deadline_ns > last->deadline_ns)
		heap_up(l, i, last);
	else
		heap_down(l, i, last);
}

static void heap_grow(struct loop *l)
{
	struct loop_timer **h;

	if (l->timers < l->heap_room)
		return;
	h = realloc(l->heap, (2 * l->heap_room + 1) * sizeof(struct loop_timer *));
	BUG_ON(h ==
	       NULL); /* the number of timers is set by the machine's devices, not by the guest */
	l->heap = h;
	l->heap_room *= 2;
}

void loop_timer_set(struct loop *l, struct loop_timer *t, int64_t deadline_ns)
{
	loop_timer_cancel(l, t);
	heap_grow(l);
	t->deadline_ns = deadline_ns;
	heap_up(l, ++l->timers, t);
}

void loop_wake(struct loop *l)
{
	const uint64_t one = 1;

	/* A full counter means that a wake-up is pending anyway. */
	while (write(l->wakefd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void loop_post(struct loop *l, struct loop_work *w)
{
	bool fresh;

	pthread_mutex_lock(&l->lock);
	fresh = !w->queued;
	if (fresh) {
		w->queued = true;
		w->next = NULL;
		*l->posted_tail = w;
		l->posted_tail = &w->next;
	}
	pthread_mutex_unlock(&l->lock);
	if (fresh)
		loop_wake(l);
}

static struct loop_work *posted_pop(struct loop *l)
{
	struct loop_work *w;

	pthread_mutex_lock(&l->lock);
	w = l->posted;
	if (w != NULL) {
		l->posted = w->next;
		if (l->posted == NULL)
			l->posted_tail = &l->posted;
		w->queued = false;
	}
	pthread_mutex_unlock(&l->lock);
	return w;
}

/* Runs what is queued now; what those items post themselves waits for the next round. */
static int run_posted(struct loop *l)
{
	struct loop_work *w;
	unsigned n = 0, most = 0;

	pthread_mutex_lock(&l->lock);
	for (w = l->posted; w != NULL; w = w->next)
		most++;
	pthread_mutex_unlock(&l->lock);
	while (n < most && (w = posted_pop(l)) != NULL) {
		w->run(w);
		n++;
	}
	return (int)n;
}

static int run_timers(struct loop *l)
{
	int64_t now;
	int n = 0;

	if (l->timers == 0)
		return 0;
	now = clock_monotonic_ns();
	while (l->timers > 0 && l->heap[1]->deadline_ns <= now) {
		struct loop_timer *t = l->heap[1];

		loop_timer_cancel(l, t);
		t->fire(t);
		n++;
	}
	return n;
}

static int run_fds(struct loop *l, int count)
{
	uint64_t drain;
	int n = 0;

	l->ev_count = count;
	for (int i = 0; i < count; i++) {
		struct loop_fd *f = l->ev[i].data.ptr;

		if (f == NULL) {
			while (read(l->wakefd, &drain, sizeof(drain)) < 0 && errno == EINTR)
				;
			continue;
		}
		if (l->ev[i].events == 0)
			continue;
		f->ready(f, l->ev[i].events);
		n++;
	}
	l->ev_count = 0;
	return n;
}

static int64_t wait_ns(const struct loop *l, int64_t timeout_ns)
{
	int64_t left;

	/* In virtual time whoever moves the clock runs the timers. */
	if (timeout_ns == 0 || clock_is_virtual() || l->timers == 0)
		return timeout_ns;
	left = MAX(l->heap[1]->deadline_ns - clock_monotonic_ns(), (int64_t)0);
	return timeout_ns < 0 ? left : MIN(left, timeout_ns);
}

static int poll_events(struct loop *l, int64_t ns)
{
	struct timespec ts = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
	int n = epoll_pwait2(l->epfd, l->ev, MAX_EVENTS, ns < 0 ? NULL : &ts, NULL);

	if (n < 0 && errno == ENOSYS) { /* before Linux 5.11: milliseconds, rounded up */
		int64_t ms = ns < 0 ? -1 : MIN((ns + 999999) / 1000000, (int64_t)INT32_MAX);

		n = epoll_wait(l->epfd, l->ev, MAX_EVENTS, (int)ms);
	}
	return MAX(n, 0); /* EINTR: nothing is ready, the caller comes again */
}

bool loop_gate_try_close(struct loop *l)
{
	return pthread_mutex_trylock(&l->gate) == 0;
}

void loop_gate_open(struct loop *l)
{
	pthread_mutex_unlock(&l->gate);
}

bool loop_gate_wanted(const struct loop *l)
{
	return atomic_load_explicit(&l->gate_wanted, memory_order_relaxed) != 0;
}

int loop_timers_run(struct loop *l)
{
	return run_timers(l);
}

int64_t loop_timers_next(const struct loop *l)
{
	return l->timers > 0 ? l->heap[1]->deadline_ns : INT64_MAX;
}

int loop_once(struct loop *l, int64_t timeout_ns)
{
	int ready = poll_events(l, wait_ns(l, timeout_ns)), n;

	atomic_fetch_add(&l->gate_wanted, 1);
	pthread_mutex_lock(&l->gate);
	atomic_fetch_sub(&l->gate_wanted, 1);
	n = run_fds(l, ready);
	n += run_timers(l);
	n += run_posted(l);
	pthread_mutex_unlock(&l->gate);
	return n;
}

void loop_run(struct loop *l)
{
	while (!__atomic_load_n(&l->stop, __ATOMIC_ACQUIRE))
		loop_once(l, -1);
	__atomic_store_n(&l->stop, false, __ATOMIC_RELAXED);
}

void loop_stop(struct loop *l)
{
	__atomic_store_n(&l->stop, true, __ATOMIC_RELEASE);
	loop_wake(l);
}
