/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_uring back end. `lock` guards both rings: any thread submits, whoever runs the loop (or
 * drains) reaps. Completions are announced through the aio's eventfd.
 */
#include "block/blk_priv.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

enum { ENTRIES = 256, BATCH = 64 };

struct uring {
	pthread_mutex_t lock;
	struct io_uring ring;
};

static int uring_open(struct aio *a)
{
	struct uring *u = calloc(1, sizeof(*u));
	int r;

	if (u == NULL)
		return -ENOMEM;
	r = io_uring_queue_init(ENTRIES, &u->ring, IORING_SETUP_CLAMP);
	if (r < 0)
		goto out_free;
	r = io_uring_register_eventfd(&u->ring, a->eventfd);
	if (r < 0)
		goto out_ring;
	pthread_mutex_init(&u->lock, NULL);
	a->priv = u;
	return 0;
out_ring:
	io_uring_queue_exit(&u->ring);
out_free:
	free(u);
	return r;
}

static void prepare(const struct aio *a, struct io_uring_sqe *s, struct blk_req *r, int mode)
{
	switch (r->op) {
	case BLK_READ: io_uring_prep_readv(s, a->fd, r->iov, (unsigned)r->iovcnt, r->offset); break;
	case BLK_WRITE:
		io_uring_prep_writev2(s, a->fd, r->iov, (unsigned)r->iovcnt, r->offset,
				      r->durable ? RWF_DSYNC : 0);
		break;
	case BLK_FLUSH: io_uring_prep_fsync(s, a->fd, IORING_FSYNC_DATASYNC); break;
	case BLK_DISCARD:
	case BLK_WRITE_ZEROES:
		io_uring_prep_fallocate(s, a->fd, mode, (off_t)r->offset, (off_t)r->len);
		break;
	}
	io_uring_sqe_set_data(s, r);
}

static bool uring_submit(struct aio *a, struct blk_req *r)
{
	const bool falloc = r->op == BLK_DISCARD || r->op == BLK_WRITE_ZEROES;
	const int mode = falloc ? aio_falloc_mode(a, r) : 0;
	struct uring *u = a->priv;
	struct io_uring_sqe *s;

	if (mode < 0)
		return false;

	pthread_mutex_lock(&u->lock);
	s = io_uring_get_sqe(&u->ring);
	if (s == NULL) {
		io_uring_submit(&u->ring);
		s = io_uring_get_sqe(&u->ring);
	}
	if (s != NULL)
		prepare(a, s, r, mode);
	pthread_mutex_unlock(&u->lock);
	return s != NULL;
}

static void uring_commit(struct aio *a)
{
	struct uring *u = a->priv;

	pthread_mutex_lock(&u->lock);
	if (io_uring_sq_ready(&u->ring) > 0)
		io_uring_submit(&u->ring);
	pthread_mutex_unlock(&u->lock);
}

static unsigned take(struct uring *u, struct blk_req **req, int *res)
{
	struct io_uring_cqe *c[BATCH];
	unsigned n;

	pthread_mutex_lock(&u->lock);
	if (io_uring_sq_ready(&u->ring) > 0) /* what an earlier commit had to leave */
		io_uring_submit(&u->ring);
	n = io_uring_peek_batch_cqe(&u->ring, c, BATCH);
	for (unsigned i = 0; i < n; i++) {
		req[i] = io_uring_cqe_get_data(c[i]);
		res[i] = c[i]->res;
	}
	io_uring_cq_advance(&u->ring, n);
	pthread_mutex_unlock(&u->lock);
	return n;
}

static void uring_reap(struct aio *a)
{
	struct blk_req *req[BATCH];
	int res[BATCH];
	unsigned n;

	while ((n = take(a->priv, req, res)) > 0) {
		for (unsigned i = 0; i < n; i++)
			aio_finish(a, req[i], res[i]);
	}
}

static void uring_close(struct aio *a)
{
	struct uring *u = a->priv;

	io_uring_queue_exit(&u->ring);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

const struct aio_ops aio_uring_ops = {
	.name = "io_uring",
	.open = uring_open,
	.submit = uring_submit,
	.commit = uring_commit,
	.reap = uring_reap,
	.close = uring_close,
};
