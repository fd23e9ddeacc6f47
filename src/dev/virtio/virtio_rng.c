/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio entropy device (virtio 1.2, 5.4). A request is answered at once from getrandom, with
 * at most REQUEST_MAX bytes of what was asked for, so that no notification takes long. All of it
 * under v.lock.
 */
#include "dev/virtio/virtio_rng.h"

#include "dev/virtio/virtio.h"

#include <errno.h>
#include <sys/random.h>

enum { QUEUE_SIZE = 8, REQUEST_MAX = 4096 };

struct vrng {
	struct virtio_dev v;
	struct vq_chain chain;
	uint8_t buf[REQUEST_MAX];
};

static size_t random_fill(uint8_t *buf, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t m = getrandom(buf + done, n - done, 0);

		if (m < 0 && errno != EINTR)
			break;
		done += m > 0 ? (size_t)m : 0;
	}
	return done;
}

static int take_one(struct vrng *d, struct vq *q)
{
	int got = vq_pop(q, &d->chain);
	size_t n;

	if (got <= 0)
		return got;
	if (d->chain.in_len == 0)
		return -EBADMSG;
	n = random_fill(d->buf, (size_t)MIN(d->chain.in_len, (uint64_t)REQUEST_MAX));
	n = vq_write(&d->chain, 0, d->buf, n);
	vq_push(q, &d->chain, (uint32_t)n);
	return 1;
}

static void vrng_notify(struct virtio_dev *v, unsigned qi)
{
	struct vrng *d = container_of(v, struct vrng, v);
	struct vq *q = &v->q[qi];
	bool any = false;
	int got;

	do {
		while ((got = take_one(d, q)) == 1)
			any = true;
	} while (got == 0 && vq_rearm(q));
	if (got < 0)
		virtio_broken(v, qi, "malformed request");
	else if (any)
		virtio_irq(v, qi);
}

static const struct virtio_ops vrng_ops = { .notify = vrng_notify };

static int vrng_create(struct dev *dev, const void *cfg, struct err *e)
{
	const struct virtio_rng_cfg *c = cfg;
	struct vrng *d = dev->priv;
	const struct virtio_desc desc = {
		.name = dev->name,
		.id = VIRTIO_ID_RNG_DEV,
		.class_code = 0x00ff00,
		.queues = 1,
		.queue_size = QUEUE_SIZE,
	};

	return virtio_init(&d->v, dev->bus, c->pci, c->slot, &desc, &vrng_ops, e);
}

static void vrng_reset(struct dev *dev)
{
	virtio_dev_reset(&((struct vrng *)dev->priv)->v);
}

static void vrng_pause(struct dev *dev)
{
	virtio_dev_pause(&((struct vrng *)dev->priv)->v);
}

static void vrng_resume(struct dev *dev)
{
	virtio_dev_resume(&((struct vrng *)dev->priv)->v);
}

static void vrng_destroy(struct dev *dev)
{
	virtio_fini(&((struct vrng *)dev->priv)->v);
}

static const struct snap_field vrng_fields[] = { VIRTIO_SNAP_FIELDS(struct vrng, v), SNAP_END };

const struct dev_class virtio_rng_class = {
	.name = "virtio-rng",
	.priv_size = sizeof(struct vrng),
	.create = vrng_create,
	.reset = vrng_reset,
	.pause = vrng_pause,
	.resume = vrng_resume,
	.destroy = vrng_destroy,
	.fields = vrng_fields,
};
