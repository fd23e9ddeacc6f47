/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks: an asynchronous block interface over image formats.
 *
 * Threads: blk_submit and blk_commit may be called from any thread, from several at once.
 * Completions (`done`) run on the thread that runs the disk's loop, or inside blk_drain on the
 * thread that called it; no lock of the block layer is held then. blk_open and blk_close are for
 * the loop's thread, or for any thread while the loop does not run.
 */
#ifndef R3_BLOCK_BLK_H
#define R3_BLOCK_BLK_H

#include "base/base.h"
#include "base/err.h"
#include "loop/loop.h"

#include <sys/uio.h>

enum { BLK_SECTOR = 512 };

enum blk_op { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_WRITE_ZEROES };

struct blk_req {
	enum blk_op op;
	bool durable;	   /* WRITE: on stable storage when done */
	bool may_unmap;	   /* WRITE_ZEROES: the space may be given back */
	uint64_t offset;   /* bytes, a multiple of BLK_SECTOR, as is len */
	uint64_t len;	   /* READ, WRITE: what iov adds up to */
	struct iovec *iov; /* READ, WRITE: at most IOV_MAX; left alone by the block layer */
	int iovcnt;
	void (*done)(struct blk_req *r);
	void *opaque;
	int result;	      /* 0 or -errno */
	struct blk_req *next; /* private to the block layer */
};

enum blk_aio { BLK_AIO_AUTO, BLK_AIO_URING, BLK_AIO_THREADS };

struct blk_cfg {
	const char *path;
	const char *format; /* NULL: raw */
	bool readonly;
	enum blk_aio aio;  /* AUTO: io_uring, or threads where it is denied */
	uint64_t min_size; /* bytes; a smaller image is refused; 0: one sector */
};

struct blk;

/* One image format. Its functions: as the blk_* functions below. */
struct blk_format {
	const char *name;
	int (*probe)(const uint8_t *head, size_t n); /* 0: certainly not … 100: certainly */
	int (*open)(struct blk *b, struct err *e);
	int (*submit)(struct blk *b, struct blk_req *r);
	void (*commit)(struct blk *b);
	void (*drain)(struct blk *b);
	int (*flush_sync)(struct blk *b);
	const char *(*aio_name)(const struct blk *b);
	void (*close)(struct blk *b);
};
extern const struct blk_format *const blk_formats[]; /* NULL-ended */

/* What formats see of a disk. */
struct blk {
	const struct blk_format *format;
	void *priv; /* the format's */
	struct loop *loop;
	struct blk_cfg cfg;  /* cfg.path is the disk's own copy */
	uint64_t size;	     /* bytes, set by format->open */
	uint64_t phys_block; /* the host's natural unit, bytes */
};

struct blk *blk_open(const struct blk_cfg *cfg, struct loop *l, struct err *e) MUST_CHECK;
void blk_close(struct blk *b); /* drains, flushes, unlocks; NULL is allowed */

uint64_t blk_size(const struct blk *b);
bool blk_readonly(const struct blk *b);
/* "io_uring" or "threads", for doctor and logs */
const char *blk_aio_name(const struct blk *b);

/*
 * Hands a request over. 1: finished at once, r->result is set and done will not be called.
 * 0: under way or queued until blk_commit; done will be called.
 */
int blk_submit(struct blk *b, struct blk_req *r) MUST_CHECK;
/* Starts everything submitted so far; call it after a batch. */
void blk_commit(struct blk *b);
/* Returns when nothing is in flight. The caller holds no lock that a done callback takes. */
void blk_drain(struct blk *b);
/* fdatasync now, in the caller's thread: for the last flush at shutdown. 0 or -errno. */
int blk_flush_sync(struct blk *b) MUST_CHECK;

#endif
