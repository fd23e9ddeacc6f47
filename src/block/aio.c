/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asynchronous I/O on a host file, the part all back ends share: choosing one, reads that are
 * answered from the page cache at once, short transfers, fall-backs where the file system cannot
 * punch or zero. Threads as in blk.h.
 */
#include "block/blk_priv.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { INLINE_READ_MAX = 128 * 1024, ZERO_CHUNK = 64 * 1024, DRAIN_POLL_MS = 20 };

static void event_clear(int fd)
{
	uint64_t n;

	while (read(fd, &n, sizeof(n)) < 0 && errno == EINTR)
		;
}

static void aio_ready(struct loop_fd *f, uint32_t events)
{
	struct aio *a = f->opaque;

	(void)events;
	event_clear(a->eventfd);
	a->ops->reap(a);
}

static int backend_open(struct aio *a, enum blk_aio kind)
{
	int r;

	if (kind != BLK_AIO_THREADS) {
		a->ops = &aio_uring_ops;
		r = a->ops->open(a);
		if (r == 0 || kind == BLK_AIO_URING)
			return r;
		log_debug("io_uring: %s; using threads", strerror(-r));
	}
	a->ops = &aio_threads_ops;
	return a->ops->open(a);
}

int aio_open(struct aio *a, int fd, struct loop *l, enum blk_aio kind, struct err *e)
{
	int r;

	memset(a, 0, sizeof(*a));
	a->fd = fd;
	a->loop = l;
	a->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (a->eventfd < 0)
		return err_set(e, -errno, "disk: eventfd: %s", strerror(errno));
	r = backend_open(a, kind);
	if (r < 0) {
		err_set(e, r, "disk: asynchronous I/O: %s", strerror(-r));
		goto out_event;
	}
	a->lfd = (struct loop_fd){
		.fd = a->eventfd, .events = POLLIN, .ready = aio_ready, .opaque = a
	};
	r = loop_fd_add(l, &a->lfd);
	if (r < 0) {
		err_set(e, r, "disk: event loop: %s", strerror(-r));
		goto out_backend;
	}
	return 0;
out_backend:
	a->ops->close(a);
out_event:
	close(a->eventfd);
	return r;
}

void aio_close(struct aio *a)
{
	aio_drain(a);
	loop_fd_del(a->loop, &a->lfd);
	a->ops->close(a);
	close(a->eventfd);
}

/* A read that the page cache can answer costs no hand-off. */
static bool read_inline(const struct aio *a, struct blk_req *r)
{
	ssize_t n;

	if (r->op != BLK_READ || r->len > INLINE_READ_MAX)
		return false;
	n = preadv2(a->fd, r->iov, r->iovcnt, (off_t)r->offset, RWF_NOWAIT);
	if (n < 0 || (uint64_t)n != r->len)
		return false;
	r->result = 0;
	return true;
}

int aio_submit(struct aio *a, struct blk_req *r)
{
	if (read_inline(a, r))
		return 1;
	__atomic_add_fetch(&a->inflight, 1, __ATOMIC_SEQ_CST);
	if (a->ops->submit(a, r))
		return 0;
	r->result = aio_perform(a, r, 0);
	__atomic_sub_fetch(&a->inflight, 1, __ATOMIC_SEQ_CST);
	return 1;
}

void aio_commit(struct aio *a)
{
	a->ops->commit(a);
}

void aio_drain(struct aio *a)
{
	struct pollfd p = { .fd = a->eventfd, .events = POLLIN };

	a->ops->commit(a);
	while (__atomic_load_n(&a->inflight, __ATOMIC_SEQ_CST) > 0) {
		a->ops->reap(a);
		if (__atomic_load_n(&a->inflight, __ATOMIC_SEQ_CST) == 0)
			break;
		if (poll(&p, 1, DRAIN_POLL_MS) > 0)
			event_clear(a->eventfd);
		a->ops->commit(a);
	}
}

/* One transfer of what is left after `skip` bytes, through at most 64 segments. */
static ssize_t transfer(int fd, const struct blk_req *r, uint64_t skip)
{
	const off_t at = (off_t)(r->offset + skip);
	struct iovec part[64];
	int n = 0;

	for (int i = 0; i < r->iovcnt && n < (int)ARRAY_SIZE(part); i++) {
		if (skip >= r->iov[i].iov_len) {
			skip -= r->iov[i].iov_len;
			continue;
		}
		part[n].iov_base = (uint8_t *)r->iov[i].iov_base + skip;
		part[n].iov_len = r->iov[i].iov_len - skip;
		skip = 0;
		n++;
	}
	if (r->op == BLK_READ)
		return preadv(fd, part, n, at);
	return pwritev2(fd, part, n, at, r->durable ? RWF_DSYNC : 0);
}

static int transfer_all(int fd, const struct blk_req *r, uint64_t already)
{
	while (already < r->len) {
		ssize_t n = transfer(fd, r, already);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO; /* the file has shrunk under us, or the device is full */
		already += (uint64_t)n;
	}
	return 0;
}

static int write_zero_bytes(int fd, uint64_t at, uint64_t len)
{
	static const uint8_t zero[ZERO_CHUNK];

	while (len > 0) {
		ssize_t n = pwrite(fd, zero, MIN(len, (uint64_t)ZERO_CHUNK), (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

int aio_falloc_mode(const struct aio *a, const struct blk_req *r)
{
	const bool unmap = r->op == BLK_DISCARD || r->may_unmap;

	if (!unmap && !__atomic_load_n(&a->no_zero_range, __ATOMIC_RELAXED))
		return FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
	if (!__atomic_load_n(&a->no_punch, __ATOMIC_RELAXED))
		return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	return -1;
}

static int deallocate(struct aio *a, const struct blk_req *r)
{
	for (;;) {
		int mode = aio_falloc_mode(a, r);

		if (mode < 0) /* a discard is advice, zeroes are a promise */
			return r->op == BLK_DISCARD ? 0
						    : write_zero_bytes(a->fd, r->offset, r->len);
		if (fallocate(a->fd, mode, (off_t)r->offset, (off_t)r->len) == 0)
			return 0;
		if (errno == EINTR)
			continue;
		if (errno != EOPNOTSUPP && errno != ENODEV && errno != ENOSYS)
			return -errno;
		if (mode & FALLOC_FL_ZERO_RANGE)
			__atomic_store_n(&a->no_zero_range, true, __ATOMIC_RELAXED);
		else
			__atomic_store_n(&a->no_punch, true, __ATOMIC_RELAXED);
	}
}

int aio_perform(struct aio *a, const struct blk_req *r, uint64_t already)
{
	switch (r->op) {
	case BLK_READ:
	case BLK_WRITE: return transfer_all(a->fd, r, already);
	case BLK_FLUSH: return fdatasync(a->fd) < 0 ? -errno : 0;
	case BLK_DISCARD:
	case BLK_WRITE_ZEROES: return deallocate(a, r);
	}
	return -EINVAL;
}

static int settle(struct aio *a, const struct blk_req *r, int64_t res)
{
	if (res == -EINTR || res == -EAGAIN || res == -ECANCELED)
		return aio_perform(a, r, 0);
	if (r->op == BLK_READ || r->op == BLK_WRITE) {
		if (res < 0)
			return (int)res;
		return (uint64_t)res == r->len ? 0 : aio_perform(a, r, (uint64_t)res);
	}
	if (res == -EOPNOTSUPP || res == -ENODEV || res == -ENOSYS)
		return aio_perform(a, r, 0);
	return res < 0 ? (int)res : 0;
}

void aio_finish(struct aio *a, struct blk_req *r, int64_t res)
{
	r->result = settle(a, r, res);
	if (r->result < 0)
		log_guest("disk: %s of %llu bytes at %llu failed: %s",
			  r->op == BLK_READ    ? "read"
			  : r->op == BLK_WRITE ? "write"
					       : "request",
			  (unsigned long long)r->len, (unsigned long long)r->offset,
			  strerror(-r->result));
	r->done(r);
	__atomic_sub_fetch(&a->inflight, 1, __ATOMIC_SEQ_CST);
}
