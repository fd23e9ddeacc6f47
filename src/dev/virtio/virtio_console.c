/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio console (virtio 1.2, 5.3): queue 0 to the guest, queue 1 from it, window size in the
 * configuration, emergency write. Input waits in a ring of bounded size until the guest gives
 * buffers. All of it under v.lock.
 */
#include "dev/virtio/virtio_console.h"

#include "dev/virtio/virtio.h"

#include <linux/virtio_console.h>
#include <string.h>

enum { RXQ = 0, TXQ = 1, QUEUES = 2, QUEUE_SIZE = 64, RING = 16384 };

struct vcon {
	struct virtio_dev v;
	void (*output)(void *opaque, const void *buf, size_t n);
	void *opaque;
	struct vq_chain chain;
	uint8_t ring[RING];  /* input not yet taken by the guest */
	uint32_t head, tail; /* counts of bytes put in and taken out */
};

/* The contiguous bytes at the ring's tail */
static size_t ring_chunk(const struct vcon *d)
{
	const size_t all = d->head - d->tail;

	return MIN(all, (size_t)RING - d->tail % RING);
}

/* Moves input into the buffers the guest gave. */
static void rx_run(struct vcon *d)
{
	struct vq *q = &d->v.q[RXQ];
	bool any = false;

	while (d->head != d->tail) {
		size_t n = 0, m;
		int got = vq_pop(q, &d->chain);

		if (got == 0 && vq_rearm(q))
			continue;
		if (got < 0 || (got == 1 && d->chain.in_len == 0)) {
			virtio_broken(&d->v, RXQ, "malformed receive buffer");
			return;
		}
		if (got == 0)
			break;
		while ((m = vq_write(&d->chain, n, d->ring + d->tail % RING, ring_chunk(d))) > 0) {
			d->tail += (uint32_t)m;
			n += m;
		}
		vq_push(q, &d->chain, (uint32_t)n);
		any = true;
	}
	if (any)
		virtio_irq(&d->v, RXQ);
}

static void tx_run(struct vcon *d)
{
	struct vq *q = &d->v.q[TXQ];
	bool any = false;
	int got;

	do {
		while ((got = vq_pop(q, &d->chain)) == 1) {
			for (unsigned i = 0; i < d->chain.n_out; i++)
				d->output(d->opaque, d->chain.iov[i].iov_base,
					  d->chain.iov[i].iov_len);
			vq_push(q, &d->chain, 0);
			any = true;
		}
	} while (got == 0 && vq_rearm(q));
	if (got < 0)
		virtio_broken(&d->v, TXQ, "malformed output");
	else if (any)
		virtio_irq(&d->v, TXQ);
}

static void vcon_notify(struct virtio_dev *v, unsigned q)
{
	struct vcon *d = container_of(v, struct vcon, v);

	if (q == RXQ)
		rx_run(d);
	else
		tx_run(d);
}

/* Input for the old driver is not for the new one. */
static bool vcon_stopping(struct virtio_dev *v)
{
	struct vcon *d = container_of(v, struct vcon, v);

	d->tail = d->head;
	return true;
}

static void vcon_config_written(struct virtio_dev *v, unsigned off, unsigned size)
{
	struct vcon *d = container_of(v, struct vcon, v);
	struct virtio_console_config *c = (struct virtio_console_config *)(void *)v->config;

	(void)size;
	if (off == offsetof(struct virtio_console_config, emerg_wr)) {
		uint8_t ch = (uint8_t)c->emerg_wr;

		d->output(d->opaque, &ch, 1);
	}
	c->emerg_wr = 0;
}

static const struct virtio_ops vcon_ops = {
	.notify = vcon_notify,
	.stopping = vcon_stopping,
	.config_written = vcon_config_written,
};

size_t virtio_console_input(struct dev *dev, const void *buf, size_t n)
{
	struct vcon *d = dev->priv;
	size_t i;

	pthread_mutex_lock(&d->v.lock);
	for (i = 0; i < n && d->head - d->tail < RING; i++)
		d->ring[d->head++ % RING] = ((const uint8_t *)buf)[i];
	if (virtio_live(&d->v))
		rx_run(d);
	pthread_mutex_unlock(&d->v.lock);
	return i;
}

static void size_put(struct vcon *d, uint16_t cols, uint16_t rows)
{
	struct virtio_console_config *c = (struct virtio_console_config *)(void *)d->v.config;

	c->cols = cols;
	c->rows = rows;
	c->max_nr_ports = 1;
}

void virtio_console_resize(struct dev *dev, uint16_t cols, uint16_t rows)
{
	struct vcon *d = dev->priv;

	pthread_mutex_lock(&d->v.lock);
	size_put(d, cols, rows);
	virtio_config_changed(&d->v);
	pthread_mutex_unlock(&d->v.lock);
}

static int vcon_create(struct dev *dev, const void *cfg, struct err *e)
{
	static const struct virtio_desc proto = {
		.id = VIRTIO_ID_CONSOLE_DEV,
		.class_code = 0x078000,
		.features = BIT(VIRTIO_CONSOLE_F_SIZE) | BIT(VIRTIO_CONSOLE_F_EMERG_WRITE),
		.queues = QUEUES,
		.queue_size = QUEUE_SIZE,
		.config_len = sizeof(struct virtio_console_config),
	};
	const struct virtio_console_cfg *c = cfg;
	struct virtio_desc desc = proto;
	struct vcon *d = dev->priv;

	desc.name = dev->name;
	d->output = c->output;
	d->opaque = c->opaque;
	size_put(d, c->cols, c->rows);
	return virtio_init(&d->v, dev->bus, c->pci, c->slot, &desc, &vcon_ops, e);
}

static void vcon_reset(struct dev *dev)
{
	virtio_dev_reset(&((struct vcon *)dev->priv)->v);
}

static void vcon_pause(struct dev *dev)
{
	virtio_dev_pause(&((struct vcon *)dev->priv)->v);
}

static void vcon_resume(struct dev *dev)
{
	virtio_dev_resume(&((struct vcon *)dev->priv)->v);
}

static void vcon_destroy(struct dev *dev)
{
	virtio_fini(&((struct vcon *)dev->priv)->v);
}

static const struct snap_field vcon_fields[] = {
	VIRTIO_SNAP_FIELDS(struct vcon, v),
	SNAP_FIELD(struct vcon, ring),
	SNAP_FIELD(struct vcon, head),
	SNAP_FIELD(struct vcon, tail),
	SNAP_END,
};

const struct dev_class virtio_console_class = {
	.name = "virtio-console",
	.priv_size = sizeof(struct vcon),
	.create = vcon_create,
	.reset = vcon_reset,
	.pause = vcon_pause,
	.resume = vcon_resume,
	.destroy = vcon_destroy,
	.fields = vcon_fields,
};
