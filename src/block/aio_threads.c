/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Thread-pool back end, for hosts that deny io_uring. `lock` guards the two lists; requests go
 * from `todo` through a worker to `finished`, where the loop's thread picks them up.
 */
#include "block/blk_priv.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum { WORKERS = 4 };

struct list {
	struct blk_req *first, **tail;
};

struct pool {
	struct aio *aio;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct list todo, finished;
	bool stop;
	unsigned workers;
	pthread_t worker[WORKERS];
};

static void list_init(struct list *l)
{
	l->first = NULL;
	l->tail = &l->first;
}

static void list_put(struct list *l, struct blk_req *r)
{
	r->next = NULL;
	*l->tail = r;
	l->tail = &r->next;
}

static struct blk_req *list_take(struct list *l)
{
	struct blk_req *r = l->first;

	if (r == NULL)
		return NULL;
	l->first = r->next;
	if (l->first == NULL)
		l->tail = &l->first;
	return r;
}

static void announce(int fd)
{
	const uint64_t one = 1;

	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void *worker_main(void *opaque)
{
	struct pool *p = opaque;
	struct blk_req *r;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		while ((r = list_take(&p->todo)) == NULL && !p->stop)
			pthread_cond_wait(&p->more, &p->lock);
		if (r == NULL)
			break;
		pthread_mutex_unlock(&p->lock);
		r->result = aio_perform(p->aio, r, 0);
		pthread_mutex_lock(&p->lock);
		list_put(&p->finished, r);
		announce(p->aio->eventfd);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static void pool_stop(struct pool *p)
{
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->more);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->workers; i++)
		pthread_join(p->worker[i], NULL);
	pthread_cond_destroy(&p->more);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* Workers take no signals: those are for the threads that run guests. */
static int workers_start(struct pool *p)
{
	sigset_t all, old;
	int r = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (p->workers < WORKERS && r == 0) {
		r = pthread_create(&p->worker[p->workers], NULL, worker_main, p);
		if (r == 0)
			p->workers++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return p->workers > 0 ? 0 : -r;
}

static int threads_open(struct aio *a)
{
	struct pool *p = calloc(1, sizeof(*p));
	int r;

	if (p == NULL)
		return -ENOMEM;
	p->aio = a;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->more, NULL);
	list_init(&p->todo);
	list_init(&p->finished);
	r = workers_start(p);
	if (r < 0) {
		pool_stop(p);
		return r;
	}
	a->priv = p;
	return 0;
}

static bool threads_submit(struct aio *a, struct blk_req *r)
{
	struct pool *p = a->priv;

	pthread_mutex_lock(&p->lock);
	list_put(&p->todo, r);
	pthread_cond_signal(&p->more);
	pthread_mutex_unlock(&p->lock);
	return true;
}

static void threads_commit(struct aio *a)
{
	(void)a;
}

/* The worker has done it all; what is left for aio_finish is to call done. */
static int64_t as_kernel_result(const struct blk_req *r)
{
	if (r->result < 0)
		return r->result;
	return r->op == BLK_READ || r->op == BLK_WRITE ? (int64_t)r->len : 0;
}

static void threads_reap(struct aio *a)
{
	struct pool *p = a->priv;
	struct blk_req *r;

	for (;;) {
		pthread_mutex_lock(&p->lock);
		r = list_take(&p->finished);
		pthread_mutex_unlock(&p->lock);
		if (r == NULL)
			return;
		aio_finish(a, r, as_kernel_result(r));
	}
}

static void threads_close(struct aio *a)
{
	pool_stop(a->priv);
}

const struct aio_ops aio_threads_ops = {
	.name = "threads",
	.open = threads_open,
	.submit = threads_submit,
	.commit = threads_commit,
	.reap = threads_reap,
	.close = threads_close,
};
