/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio block device (virtio 1.2, 5.2): read, write, flush, discard, write-zeroes, device id;
 * many segments, several queues, read-only disks.
 *
 * Threads: requests are taken off and submitted on the vCPU thread that notifies, under v.lock;
 * the disk's completions come on the loop's thread and take v.lock. A request that the disk
 * finishes at once is answered within the notification.
 */
#include "dev/virtio/virtio_blk.h"

#include "dev/virtio/virtio.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	QUEUE_SIZE = VQ_SIZE_MAX,
	SEGS = VQ_SEGS_MAX - 2, /* beside header and status */
	SEG_MAX_BYTES = 1 << 20,
	REQ_MAX_BYTES = SEGS * SEG_MAX_BYTES,
	RANGE_MAX_SECTORS = 1 << 22, /* of one discard or write-zeroes */
	PHYS_EXP = 3,		     /* 4 KiB physical blocks */
	HDR = sizeof(struct virtio_blk_outhdr),
};

struct vblk;
struct vblk_req {
	struct vblk *dev;
	unsigned q;
	struct vq_chain chain;
	struct blk_req io;
	uint8_t *status;
	struct vblk_req *next; /* while free */
};

struct vblk {
	struct virtio_dev v;
	struct blk *disk;
	char serial[VIRTIO_BLK_ID_BYTES];
	unsigned inflight; /* at the disk, over all queues */
	struct vblk_req *all, *free[VIRTIO_BLK_QUEUES_MAX];
};

static uint8_t status_of(int result)
{
	if (result == 0)
		return VIRTIO_BLK_S_OK;
	return result == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

/* Answers a request; lock held. The caller interrupts. */
static void finish(struct vblk_req *r, uint8_t status)
{
	struct vblk *d = r->dev;

	*r->status = status;
	/* On failure the data part is undefined but may have been written: tell all of it. */
	vq_push(&d->v.q[r->q], &r->chain, (uint32_t)r->chain.in_len);
	r->next = d->free[r->q];
	d->free[r->q] = r;
}

static void io_done(struct blk_req *io)
{
	struct vblk_req *r = io->opaque;
	struct vblk *d = r->dev;
	const unsigned q = r->q;

	pthread_mutex_lock(&d->v.lock);
	finish(r, status_of(io->result));
	virtio_irq(&d->v, q);
	if (--d->inflight == 0)
		virtio_idle(&d->v);
	pthread_mutex_unlock(&d->v.lock);
}

/* Hands r->io to the disk; lock held. */
static void submit(struct vblk_req *r)
{
	struct vblk *d = r->dev;

	r->io.done = io_done;
	r->io.opaque = r;
	if (blk_submit(d->disk, &r->io) == 1)
		finish(r, status_of(r->io.result));
	else
		d->inflight++;
}

static void transfer(struct vblk_req *r, enum blk_op op, uint64_t sector)
{
	struct vblk *d = r->dev;
	const bool read = op == BLK_READ;
	const uint64_t len = read ? r->chain.in_len - 1 : r->chain.out_len - HDR;

	if (len > REQ_MAX_BYTES || sector > UINT64_MAX / BLK_SECTOR) {
		finish(r, VIRTIO_BLK_S_IOERR);
		return;
	}
	r->io = (struct blk_req){
		.op = op,
		.durable = !virtio_has(&d->v, BIT(VIRTIO_BLK_F_FLUSH)), /* 5.2.6.2: write-through */
		.offset = sector * BLK_SECTOR,
		.len = len,
		.iov = read ? vq_in(&r->chain) : vq_out(&r->chain),
		.iovcnt = (int)(read ? r->chain.n_in : r->chain.n_out),
	};
	submit(r);
}

/* Discard and write-zeroes carry one range (max_…_seg is 1). */
static void range(struct vblk_req *r, enum blk_op op)
{
	struct virtio_blk_discard_write_zeroes z;

	if (vq_read(&r->chain, 0, &z, sizeof(z)) != sizeof(z) ||
	    r->chain.out_len != HDR + sizeof(z) || z.num_sectors > RANGE_MAX_SECTORS ||
	    z.sector > UINT64_MAX / BLK_SECTOR) {
		finish(r, VIRTIO_BLK_S_IOERR);
		return;
	}
	if (z.flags & ~(op == BLK_DISCARD ? 0u : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP)) {
		finish(r, VIRTIO_BLK_S_UNSUPP); /* 5.2.6.2 */
		return;
	}
	r->io = (struct blk_req){
		.op = op,
		.may_unmap = z.flags != 0,
		.offset = z.sector * BLK_SECTOR,
		.len = (uint64_t)z.num_sectors * BLK_SECTOR,
	};
	submit(r);
}

static void get_id(struct vblk_req *r)
{
	const struct vblk *d = r->dev;

	vq_write(&r->chain, 0, d->serial, sizeof(d->serial));
	finish(r, VIRTIO_BLK_S_OK);
}

static void dispatch(struct vblk_req *r, const struct virtio_blk_outhdr *h)
{
	switch (h->type) {
	case VIRTIO_BLK_T_IN: transfer(r, BLK_READ, h->sector); break;
	case VIRTIO_BLK_T_OUT: transfer(r, BLK_WRITE, h->sector); break;
	case VIRTIO_BLK_T_FLUSH:
		r->io = (struct blk_req){ .op = BLK_FLUSH };
		submit(r);
		break;
	case VIRTIO_BLK_T_GET_ID: get_id(r); break;
	case VIRTIO_BLK_T_DISCARD: range(r, BLK_DISCARD); break;
	case VIRTIO_BLK_T_WRITE_ZEROES: range(r, BLK_WRITE_ZEROES); break;
	default: finish(r, VIRTIO_BLK_S_UNSUPP); break;
	}
}

/* Where the status byte goes: the last byte of the last writable segment. */
static uint8_t *status_byte(struct vq_chain *c)
{
	const struct iovec *last = &vq_in(c)[c->n_in - 1];

	return (uint8_t *)last->iov_base + last->iov_len - 1;
}

/* One request: 1 taken, 0 none, -EBADMSG. */
static int take_one(struct vblk *d, unsigned q)
{
	struct vblk_req *r = d->free[q]; /* as many as the queue is long: vq_pop bounds us */
	struct virtio_blk_outhdr h;
	int got = vq_pop(&d->v.q[q], &r->chain);

	if (got <= 0)
		return got;
	if (r->chain.in_len == 0 || vq_read(&r->chain, 0, &h, HDR) != HDR)
		return -EBADMSG;
	d->free[q] = r->next;
	r->status = status_byte(&r->chain);
	vq_skip_out(&r->chain, HDR);
	vq_trim_in(&r->chain, 1);
	dispatch(r, &h);
	return 1;
}

static void vblk_notify(struct virtio_dev *v, unsigned q)
{
	struct vblk *d = container_of(v, struct vblk, v);
	bool any = false;
	int got;

	do {
		while ((got = take_one(d, q)) == 1)
			any = true;
	} while (got == 0 && vq_rearm(&v->q[q]));
	blk_commit(d->disk);
	if (got < 0)
		virtio_broken(v, q, "malformed request");
	else if (any)
		virtio_irq(v, q);
}

static bool vblk_stopping(struct virtio_dev *v)
{
	return container_of(v, struct vblk, v)->inflight == 0;
}

static void vblk_drain(struct virtio_dev *v)
{
	blk_drain(container_of(v, struct vblk, v)->disk);
}

static const struct virtio_ops vblk_ops = {
	.notify = vblk_notify,
	.stopping = vblk_stopping,
	.drain = vblk_drain,
};

static void config_fill(struct vblk *d)
{
	const uint64_t sectors = blk_size(d->disk) / BLK_SECTOR;
	struct virtio_blk_config c = {
		.capacity = sectors,
		.size_max = SEG_MAX_BYTES,
		.seg_max = SEGS,
		.blk_size = BLK_SECTOR,
		.physical_block_exp = PHYS_EXP,
		.min_io_size = 1 << PHYS_EXP,
		.num_queues = (uint16_t)d->v.queues,
		.max_discard_sectors = RANGE_MAX_SECTORS,
		.max_discard_seg = 1,
		.discard_sector_alignment = 1 << PHYS_EXP,
		.max_write_zeroes_sectors = RANGE_MAX_SECTORS,
		.max_write_zeroes_seg = 1,
		.write_zeroes_may_unmap = 1,
	};

	c.geometry.heads = 16;
	c.geometry.sectors = 63;
	c.geometry.cylinders = (uint16_t)MIN(sectors / (16 * 63), (uint64_t)UINT16_MAX);
	memcpy(d->v.config, &c, MIN(sizeof(c), (size_t)d->v.config_len));
}

static int requests_alloc(struct vblk *d)
{
	const size_t n = (size_t)d->v.queues * QUEUE_SIZE;

	d->all = calloc(n, sizeof(*d->all));
	if (d->all == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct vblk_req *r = &d->all[i];

		r->dev = d;
		r->q = (unsigned)(i / QUEUE_SIZE);
		r->next = d->free[r->q];
		d->free[r->q] = r;
	}
	return 0;
}

static int vblk_create(struct dev *dev, const void *cfg, struct err *e)
{
	const struct virtio_blk_cfg *c = cfg;
	struct vblk *d = dev->priv;
	const unsigned queues = MIN(MAX(c->queues, 1u), (unsigned)VIRTIO_BLK_QUEUES_MAX);
	struct virtio_desc desc = {
		.name = dev->name,
		.id = VIRTIO_ID_BLK_DEV,
		.class_code = 0x018000,
		.features = BIT(VIRTIO_BLK_F_SIZE_MAX) | BIT(VIRTIO_BLK_F_SEG_MAX) |
			    BIT(VIRTIO_BLK_F_GEOMETRY) | BIT(VIRTIO_BLK_F_BLK_SIZE) |
			    BIT(VIRTIO_BLK_F_TOPOLOGY) | BIT(VIRTIO_BLK_F_FLUSH),
		.queues = queues,
		.queue_size = QUEUE_SIZE,
		.config_len = offsetof(struct virtio_blk_config, unused1) + 3,
	};
	int r;

	desc.features |= blk_readonly(c->disk)
				 ? BIT(VIRTIO_BLK_F_RO)
				 : BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES);
	if (queues > 1)
		desc.features |= BIT(VIRTIO_BLK_F_MQ);
	d->disk = c->disk;
	if (c->serial != NULL)
		memcpy(d->serial, c->serial, MIN(strlen(c->serial), sizeof(d->serial)));
	r = virtio_init(&d->v, dev->bus, c->pci, c->slot, &desc, &vblk_ops, e);
	if (r < 0)
		return r;
	config_fill(d);
	r = requests_alloc(d);
	if (r < 0) {
		virtio_fini(&d->v);
		return err_set(e, r, "%s: out of memory", dev->name);
	}
	return 0;
}

static void vblk_reset(struct dev *dev)
{
	virtio_dev_reset(&((struct vblk *)dev->priv)->v);
}

static void vblk_pause(struct dev *dev)
{
	virtio_dev_pause(&((struct vblk *)dev->priv)->v);
}

static void vblk_resume(struct dev *dev)
{
	virtio_dev_resume(&((struct vblk *)dev->priv)->v);
}

static void vblk_destroy(struct dev *dev)
{
	struct vblk *d = dev->priv;

	virtio_fini(&d->v);
	free(d->all);
}

static const struct snap_field vblk_fields[] = { VIRTIO_SNAP_FIELDS(struct vblk, v), SNAP_END };

const struct dev_class virtio_blk_class = {
	.name = "virtio-blk",
	.priv_size = sizeof(struct vblk),
	.create = vblk_create,
	.reset = vblk_reset,
	.pause = vblk_pause,
	.resume = vblk_resume,
	.destroy = vblk_destroy,
	.fields = vblk_fields,
};
