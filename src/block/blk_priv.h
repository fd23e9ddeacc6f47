/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the block folder: host files (opening, locking) and asynchronous I/O on them, for
 * formats to build upon.
 */
#ifndef R3_BLOCK_BLK_PRIV_H
#define R3_BLOCK_BLK_PRIV_H

#include "block/blk.h"

#include <pthread.h>

extern const struct blk_format blk_raw;

/* Opens an image and takes the lock that keeps a second ring3 away. fd or -errno with *e. */
int blk_file_open(const char *path, bool readonly, uint64_t *size, struct err *e) MUST_CHECK;

/*
 * Asynchronous I/O on one host file. Offsets are the file's; the contract of submit, commit, drain
 * and of the threads is the one in blk.h.
 */
struct aio;
struct aio_ops {
	const char *name;
	int (*open)(struct aio *a);
	/* false: cannot take it, the caller does it synchronously */
	bool (*submit)(struct aio *a, struct blk_req *r);
	void (*commit)(struct aio *a);
	/* Takes finished requests off, calls aio_finish for each; any thread. */
	void (*reap)(struct aio *a);
	void (*close)(struct aio *a);
};
struct aio {
	int fd, eventfd; /* eventfd: something has finished */
	const struct aio_ops *ops;
	void *priv;
	struct loop *loop;
	struct loop_fd lfd;
	unsigned inflight;	      /* atomic */
	bool no_zero_range, no_punch; /* found out: the host file system cannot */
};
extern const struct aio_ops aio_uring_ops, aio_threads_ops;

int aio_open(struct aio *a, int fd, struct loop *l, enum blk_aio kind, struct err *e) MUST_CHECK;
void aio_close(struct aio *a);
int aio_submit(struct aio *a, struct blk_req *r) MUST_CHECK;
void aio_commit(struct aio *a);
void aio_drain(struct aio *a);

/* For the back ends. Does a whole request, or what is left after `already` bytes, synchronously. */
int aio_perform(struct aio *a, const struct blk_req *r, uint64_t already);
/* fallocate mode of a DISCARD or WRITE_ZEROES; -1 when it must be done by aio_perform. */
int aio_falloc_mode(const struct aio *a, const struct blk_req *r);
/* Ends a request with what the kernel said (bytes or -errno): repairs short transfers, calls done. */
void aio_finish(struct aio *a, struct blk_req *r, int64_t res);

#endif
