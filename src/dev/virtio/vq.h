/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The split virtqueue (virtio 1.2, 2.7), device side. This is the one place where what a driver
 * puts into a ring is checked: every address goes through mem_ptr, chains are bounded and cannot
 * loop, descriptors are read once. Whatever is wrong yields -EBADMSG, upon which the device calls
 * virtio_broken().
 *
 * Threads: a queue belongs to the lock its device says it belongs to; no locks here.
 */
#ifndef R3_DEV_VIRTIO_VQ_H
#define R3_DEV_VIRTIO_VQ_H

#include "mem/mem.h"

#include <sys/uio.h>

enum {
	VQ_SIZE_MAX = 256,
	VQ_SEGS_MAX = 256,    /* in one chain */
	VQ_LEN_MAX = 1 << 30, /* bytes of one chain, each direction */
};

/* The plain part: what a snapshot keeps */
struct vq_state {
	gpa_t desc, avail, used;
	uint16_t size;	 /* as the driver set it */
	uint16_t max;	 /* as the device offers it */
	uint16_t vector; /* MSI-X */
	uint16_t next_avail, next_used;
	uint16_t signalled; /* used index of the last interrupt decision */
	bool signalled_valid;
	bool enabled;
	uint16_t inflight;
};

struct vq {
	struct vq_state st;
	struct mem_map *mem;
	bool event_idx, indirect;     /* negotiated */
	uint8_t *desc, *avail, *used; /* host addresses; NULL while not enabled */
};

struct vq_chain {
	uint16_t head;
	unsigned n_out, n_in;	  /* segments the device reads, then those it writes */
	uint64_t out_len, in_len; /* bytes */
	/* First the n_out, then the n_in. Devices may consume these; the rest is the queue's own. */
	struct iovec iov[VQ_SEGS_MAX];
	gpa_t gpa[VQ_SEGS_MAX];
	uint32_t len[VQ_SEGS_MAX];
};

/* Begins or ends work on the ring st describes. -EBADMSG: bad size, alignment or addresses. */
int vq_enable(struct vq *q) MUST_CHECK;
void vq_reset(struct vq *q);

/* 1: a chain; 0: none there; -EBADMSG. */
int vq_pop(struct vq *q, struct vq_chain *c) MUST_CHECK;
/* Gives the last n popped chains back, unused. */
void vq_unpop(struct vq *q, unsigned n);
/*
 * Returns a chain of whose writable part the device filled `written` bytes (tells the memory map),
 * and shows it to the driver. vq_fill and vq_publish do the same for several at a time.
 */
void vq_push(struct vq *q, const struct vq_chain *c, uint32_t written);
void vq_fill(struct vq *q, const struct vq_chain *c, uint32_t written, unsigned nth);
void vq_publish(struct vq *q, unsigned n);

/* After vq_pop said 0: asks for a notification, true when a chain has come meanwhile. */
bool vq_rearm(struct vq *q);
/* After pushing: does the driver want an interrupt? */
bool vq_wants_irq(struct vq *q);

/*
 * Bytes of a chain's readable (writable) part from off on, copied from (to) it; the number copied,
 * less than n only at its end. They see the segments as they now stand.
 */
size_t vq_read(const struct vq_chain *c, uint64_t off, void *buf, size_t n);
size_t vq_write(const struct vq_chain *c, uint64_t off, const void *buf, size_t n);
/* Drops n bytes from the front of the readable part; drops n from the end of the writable part. */
void vq_skip_out(struct vq_chain *c, uint64_t n);
void vq_trim_in(struct vq_chain *c, uint64_t n);
/* The two halves as they now stand; trimmed segments may be empty. */
static inline struct iovec *vq_out(struct vq_chain *c)
{
	return c->iov;
}
static inline struct iovec *vq_in(struct vq_chain *c)
{
	return c->iov + c->n_out;
}

#endif
