/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio network device (virtio 1.2, 5.1): mergeable receive buffers, link status, MTU. No
 * offloads: frames cross the switch as they are on the wire.
 *
 * Threads: sending happens on the vCPU thread that notifies, under v.lock, straight into the
 * switch. Frames come in on whatever thread sends them, possibly one that holds this very v.lock
 * (an uplink that answers at once); so the receive queue has a lock of its own, `rx_lock`, taken
 * after v.lock and never while sending. What finds no buffer waits in a backlog of bounded size.
 */
#include "dev/virtio/virtio_net.h"

#include "dev/virtio/virtio.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>

enum {
	RXQ = 0,
	TXQ = 1,
	QUEUES = 2,
	QUEUE_SIZE = VQ_SIZE_MAX,
	HDR = sizeof(struct virtio_net_hdr_v1),
	MERGE_MAX = 32, /* buffers for one frame: 64 KiB in pieces of 2 KiB */
	BACKLOG_BYTES = 4 << 20,
};

struct frame {
	struct frame *next;
	size_t len; /* header included */
	uint8_t data[];
};

struct vnet {
	struct virtio_dev v;
	struct net_port port;
	size_t frame_max;
	struct vq_chain tx;

	pthread_mutex_t rx_lock; /* guards all below, and v.q[RXQ] while rx_open */
	bool rx_open;
	struct frame *backlog, **backlog_tail;
	size_t backlog_bytes;
	struct vq_chain rx[MERGE_MAX];
	uint8_t scratch[HDR + NET_FRAME_MAX];
};

/* Takes buffers for len bytes: their number, 0: too few there, -EBADMSG. rx_lock held. */
static int rx_take(struct vnet *d, size_t len)
{
	const unsigned most = virtio_has(&d->v, BIT(VIRTIO_NET_F_MRG_RXBUF)) ? MERGE_MAX : 1;
	struct vq *q = &d->v.q[RXQ];
	uint64_t room = 0;
	unsigned n = 0;

	while (room < len) {
		int got = n < most ? vq_pop(q, &d->rx[n]) : -EBADMSG;

		if (got == 0 && vq_rearm(q))
			continue;
		if (got <= 0) {
			vq_unpop(q, n);
			return got;
		}
		room += d->rx[n].in_len;
		n++;
		if (d->rx[n - 1].in_len < HDR)
			return -EBADMSG;
	}
	return (int)n;
}

/* Puts one frame, header space in front, into the guest: 0, -ENOBUFS, -EBADMSG. rx_lock held. */
static int rx_put(struct vnet *d, uint8_t *data, size_t len)
{
	struct virtio_net_hdr_v1 h = { 0 };
	struct vq *q = &d->v.q[RXQ];
	int n = rx_take(d, len);
	size_t done = 0;

	if (n <= 0)
		return n < 0 ? n : -ENOBUFS;
	h.num_buffers = (uint16_t)n;
	memcpy(data, &h, HDR);
	for (unsigned i = 0; i < (unsigned)n; i++) {
		size_t m = vq_write(&d->rx[i], 0, data + done, len - done);

		vq_fill(q, &d->rx[i], (uint32_t)m, i);
		done += m;
	}
	vq_publish(q, (unsigned)n);
	return 0;
}

static void backlog_drop(struct vnet *d)
{
	while (d->backlog != NULL) {
		struct frame *f = d->backlog;

		d->backlog = f->next;
		free(f);
	}
	d->backlog_tail = &d->backlog;
	d->backlog_bytes = 0;
}

static void rx_failed(struct vnet *d)
{
	d->rx_open = false;
	backlog_drop(d);
	virtio_broken(&d->v, RXQ, "malformed receive buffer");
}

/* Delivers what waits as far as there are buffers. rx_lock held. */
static void backlog_run(struct vnet *d)
{
	bool any = false;
	int r = 0;

	while (d->backlog != NULL) {
		struct frame *f = d->backlog;

		r = rx_put(d, f->data, f->len);
		if (r < 0)
			break;
		any = true;
		d->backlog = f->next;
		d->backlog_bytes -= f->len;
		if (d->backlog == NULL)
			d->backlog_tail = &d->backlog;
		free(f);
	}
	if (r == -EBADMSG)
		rx_failed(d);
	else if (any)
		virtio_irq(&d->v, RXQ);
}

static int backlog_add(struct vnet *d, const uint8_t *data, size_t len)
{
	struct frame *f;

	if (d->backlog_bytes + len > BACKLOG_BYTES)
		return -ENOBUFS;
	f = malloc(sizeof(*f) + len);
	if (f == NULL)
		return -ENOMEM;
	f->next = NULL;
	f->len = len;
	memcpy(f->data, data, len);
	*d->backlog_tail = f;
	d->backlog_tail = &f->next;
	d->backlog_bytes += len;
	return 0;
}

/* Straight into the guest when it has buffers and nothing waits before us. rx_lock held. */
static int rx_frame(struct vnet *d, const struct iovec *iov, int n, size_t len)
{
	int r = -ENOBUFS;

	memset(d->scratch, 0, HDR);
	net_iov_copy(iov, n, d->scratch + HDR, len - HDR);
	if (d->backlog == NULL && virtio_live(&d->v))
		r = rx_put(d, d->scratch, len);
	if (r == 0)
		virtio_irq(&d->v, RXQ);
	else if (r == -ENOBUFS)
		r = backlog_add(d, d->scratch, len);
	else
		rx_failed(d);
	return r;
}

/* The switch has a frame for us. Any thread. */
static int vnet_deliver(void *opaque, const struct iovec *iov, int n)
{
	const size_t len = HDR + net_iov_len(iov, n);
	struct vnet *d = opaque;
	int r = -ENETDOWN;

	if (len > HDR + d->frame_max)
		return -EMSGSIZE;
	pthread_mutex_lock(&d->rx_lock);
	if (d->rx_open)
		r = rx_frame(d, iov, n, len);
	pthread_mutex_unlock(&d->rx_lock);
	return r;
}

static void rx_refilled(struct vnet *d)
{
	pthread_mutex_lock(&d->rx_lock);
	if (d->rx_open)
		backlog_run(d);
	pthread_mutex_unlock(&d->rx_lock);
}

/* Sends one chain: 0, or -EBADMSG. */
static int tx_one(struct vnet *d, struct vq_chain *c)
{
	struct iovec iov[NET_IOV_MAX];
	int n = 0;

	if (c->out_len < HDR + NET_HDR_LEN || c->n_in != 0)
		return -EBADMSG;
	if (c->out_len > HDR + NET_FRAME_MAX)
		return 0; /* dropped */
	vq_skip_out(c, HDR);
	for (unsigned i = 0; i < c->n_out; i++) {
		if (c->iov[i].iov_len == 0)
			continue;
		if (n == NET_IOV_MAX)
			return 0;
		iov[n++] = c->iov[i];
	}
	net_port_send(&d->port, iov, n);
	return 0;
}

static void tx_run(struct vnet *d)
{
	struct vq *q = &d->v.q[TXQ];
	bool any = false;
	int got;

	do {
		while ((got = vq_pop(q, &d->tx)) == 1) {
			got = tx_one(d, &d->tx);
			if (got < 0)
				break;
			vq_push(q, &d->tx, 0);
			any = true;
		}
	} while (got == 0 && vq_rearm(q));
	if (got < 0)
		virtio_broken(&d->v, TXQ, "malformed frame");
	else if (any)
		virtio_irq(&d->v, TXQ);
}

static void vnet_notify(struct virtio_dev *v, unsigned q)
{
	struct vnet *d = container_of(v, struct vnet, v);

	if (q == RXQ)
		rx_refilled(d);
	else
		tx_run(d);
}

static void vnet_started(struct virtio_dev *v)
{
	struct vnet *d = container_of(v, struct vnet, v);

	pthread_mutex_lock(&d->rx_lock);
	d->rx_open = v->q[RXQ].st.enabled;
	pthread_mutex_unlock(&d->rx_lock);
}

static bool vnet_stopping(struct virtio_dev *v)
{
	struct vnet *d = container_of(v, struct vnet, v);

	pthread_mutex_lock(&d->rx_lock);
	d->rx_open = false;
	backlog_drop(d);
	pthread_mutex_unlock(&d->rx_lock);
	return true;
}

/* Waits for a frame that is just being delivered. */
static void vnet_drain(struct virtio_dev *v)
{
	struct vnet *d = container_of(v, struct vnet, v);

	pthread_mutex_lock(&d->rx_lock);
	pthread_mutex_unlock(&d->rx_lock);
}

static const struct virtio_ops vnet_ops = {
	.notify = vnet_notify,
	.started = vnet_started,
	.stopping = vnet_stopping,
	.drain = vnet_drain,
};

static const struct net_port_ops port_ops = { .deliver = vnet_deliver };

void virtio_net_link(struct dev *dev, bool up)
{
	struct vnet *d = dev->priv;
	struct virtio_net_config *c = (struct virtio_net_config *)(void *)d->v.config;

	pthread_mutex_lock(&d->v.lock);
	c->status = up ? VIRTIO_NET_S_LINK_UP : 0;
	virtio_config_changed(&d->v);
	pthread_mutex_unlock(&d->v.lock);
}

const struct net_port *virtio_net_port(const struct dev *dev)
{
	return &((const struct vnet *)dev->priv)->port;
}

static void config_fill(struct vnet *d, const struct virtio_net_cfg *cfg)
{
	static const uint8_t none[NET_MAC_LEN],
		ours[NET_MAC_LEN] = { 0x52, 0x54, 0, 0x72, 0x33, 0 };
	struct virtio_net_config c = { .status = VIRTIO_NET_S_LINK_UP };

	memcpy(c.mac, cfg->mac, NET_MAC_LEN);
	if (memcmp(c.mac, none, NET_MAC_LEN) == 0) {
		memcpy(c.mac, ours, NET_MAC_LEN);
		c.mac[NET_MAC_LEN - 1] = d->v.fn.slot;
	}
	c.mtu = (uint16_t)cfg->mtu;
	memcpy(d->v.config, &c, d->v.config_len);
}

static int vnet_create(struct dev *dev, const void *cfg, struct err *e)
{
	const struct virtio_net_cfg *c = cfg;
	struct vnet *d = dev->priv;
	struct virtio_desc desc = {
		.name = dev->name,
		.id = VIRTIO_ID_NET_DEV,
		.class_code = 0x020000,
		.features = BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) |
			    BIT(VIRTIO_NET_F_MRG_RXBUF),
		.queues = QUEUES,
		.queue_size = QUEUE_SIZE,
		.config_len = offsetof(struct virtio_net_config, mtu) + sizeof(uint16_t),
	};
	int r;

	if (c->mtu != 0)
		desc.features |= BIT(VIRTIO_NET_F_MTU);
	d->frame_max = (c->mtu != 0 ? c->mtu : NET_MTU_DEFAULT) + NET_HDR_LEN + 4;
	d->backlog_tail = &d->backlog;
	pthread_mutex_init(&d->rx_lock, NULL);
	r = virtio_init(&d->v, dev->bus, c->pci, c->slot, &desc, &vnet_ops, e);
	if (r < 0)
		return r;
	config_fill(d, c);
	d->port = (struct net_port){ .name = dev->name, .ops = &port_ops, .opaque = d };
	r = net_port_add(c->net, &d->port, e);
	if (r < 0)
		virtio_fini(&d->v);
	return r;
}

static void vnet_reset(struct dev *dev)
{
	virtio_dev_reset(&((struct vnet *)dev->priv)->v);
}

static void vnet_pause(struct dev *dev)
{
	virtio_dev_pause(&((struct vnet *)dev->priv)->v);
}

static void vnet_resume(struct dev *dev)
{
	virtio_dev_resume(&((struct vnet *)dev->priv)->v);
}

static void vnet_destroy(struct dev *dev)
{
	struct vnet *d = dev->priv;

	net_port_remove(&d->port);
	virtio_fini(&d->v);
	pthread_mutex_destroy(&d->rx_lock);
}

static const struct snap_field vnet_fields[] = {
	VIRTIO_SNAP_FIELDS(struct vnet, v),
	SNAP_FIELD(struct vnet, rx_open),
	SNAP_END,
};

const struct dev_class virtio_net_class = {
	.name = "virtio-net",
	.priv_size = sizeof(struct vnet),
	.create = vnet_create,
	.reset = vnet_reset,
	.pause = vnet_pause,
	.resume = vnet_resume,
	.destroy = vnet_destroy,
	.fields = vnet_fields,
};
