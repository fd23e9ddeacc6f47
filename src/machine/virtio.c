/* SPDX-License-Identifier: Apache-2.0 */
/* virtio devices and what stands behind them: disk images, switches with their uplinks, the console. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "dev/virtio/virtio_blk.h"
#include "dev/virtio/virtio_console.h"
#include "dev/virtio/virtio_net.h"
#include "dev/virtio/virtio_rng.h"
#include "machine/machine_priv.h"
#include "net/slirp.h"

struct machine_virtio {
	struct blk *disk[MACHINE_DEVS_MAX];
	struct net_switch *sw[MACHINE_DEVS_MAX];
	struct net_slirp *slirp[MACHINE_DEVS_MAX];
	struct dev *console;
};

static int create_disk(struct machine *m, unsigned i, struct err *e)
{
	struct machine_disk_opts o;
	struct virtio_blk_cfg dev = { .pci = m->pci, .slot = -1 };
	struct blk_cfg cfg = { 0 };
	char name[16];
	int r = cfg_parse(&machine_disk_class, m->cfg.disk[i], &o, e);

	if (r)
		return r;
	cfg.path = o.path;
	cfg.readonly = o.readonly;
	cfg.aio = (enum blk_aio)o.aio;
	m->virtio->disk[i] = blk_open(&cfg, m->loop, e);
	if (!m->virtio->disk[i])
		return e->code;
	snprintf(name, sizeof(name), "disk%u", i);
	dev.disk = m->virtio->disk[i];
	dev.serial = o.serial[0] ? o.serial : name;
	return dev_create(&m->devs, m->bus, &virtio_blk_class, name, &dev, e) ? 0 : e->code;
}

static int open_slirp(struct machine *m, unsigned i, const struct machine_net_opts *o,
		      struct err *e)
{
	struct net_forward fwd[NET_FORWARDS_MAX];
	struct net_slirp_cfg cfg = {
		.name = "user",
		.restricted = o->restricted,
		.mtu = (unsigned)o->mtu,
		.hostname = o->hostname[0] ? o->hostname : NULL,
		.forward = fwd,
	};

	for (unsigned k = 0; k < o->forward.n && k < NET_FORWARDS_MAX; k++) {
		if (net_forward_parse(o->forward.item[k], &fwd[k], e) < 0)
			return err_prefix(e, "--net: forward");
		cfg.forwards++;
	}
	m->virtio->slirp[i] = net_slirp_open(&cfg, m->virtio->sw[i], m->loop, e);
	return m->virtio->slirp[i] ? 0 : e->code;
}

static int create_net(struct machine *m, unsigned i, struct err *e)
{
	struct machine_net_opts o;
	struct virtio_net_cfg dev = { .pci = m->pci, .slot = -1 };
	char name[16];
	int r = cfg_parse(&machine_net_class, m->cfg.net[i], &o, e);

	if (r || o.kind == MACHINE_NET_NONE)
		return r;
	if (o.mac[0] && net_mac_parse(o.mac, dev.mac, e) < 0)
		return err_prefix(e, "--net: mac");
	m->virtio->sw[i] = net_switch_new();
	if (!m->virtio->sw[i])
		return err_set(e, -ENOMEM, "no memory");
	r = open_slirp(m, i, &o, e);
	if (r)
		return r;
	snprintf(name, sizeof(name), "net%u", i);
	dev.net = m->virtio->sw[i];
	dev.mtu = (unsigned)o.mtu;
	return dev_create(&m->devs, m->bus, &virtio_net_class, name, &dev, e) ? 0 : e->code;
}

static void on_output(void *opaque, const void *buf, size_t n)
{
	struct machine *m = opaque;

	m->host.console_out(m->host.opaque, MACHINE_VIRTIO_CONSOLE, buf, n);
}

static int create_console(struct machine *m, struct err *e)
{
	const struct virtio_console_cfg cfg = {
		.pci = m->pci,
		.slot = -1,
		.cols = 80,
		.rows = 24,
		.output = on_output,
		.opaque = m,
	};

	if (!m->cfg.virtio_console)
		return 0;
	m->virtio->console =
		dev_create(&m->devs, m->bus, &virtio_console_class, "console", &cfg, e);
	return m->virtio->console ? 0 : e->code;
}

static int create_rng(struct machine *m, struct err *e)
{
	const struct virtio_rng_cfg cfg = { .pci = m->pci, .slot = -1 };

	return dev_create(&m->devs, m->bus, &virtio_rng_class, "rng", &cfg, e) ? 0 : e->code;
}

int machine_virtio_create(struct machine *m, struct err *e)
{
	int r = 0;

	m->virtio = calloc(1, sizeof(*m->virtio));
	if (!m->virtio)
		return err_set(e, -ENOMEM, "no memory");
	for (unsigned i = 0; i < m->cfg.disks && !r; i++)
		r = create_disk(m, i, e);
	for (unsigned i = 0; i < m->cfg.nets && !r; i++)
		r = create_net(m, i, e);
	if (!r)
		r = create_console(m, e);
	return r ? r : create_rng(m, e);
}

void machine_virtio_destroy(struct machine *m)
{
	struct machine_virtio *v = m->virtio;

	if (!v)
		return;
	for (unsigned i = 0; i < MACHINE_DEVS_MAX; i++) {
		net_slirp_close(v->slirp[i]);
		if (v->sw[i])
			net_switch_free(v->sw[i]);
		blk_close(v->disk[i]);
	}
	free(v);
	m->virtio = NULL;
}

void machine_virtio_flush(struct machine *m)
{
	int r;

	for (unsigned i = 0; i < m->cfg.disks; i++) {
		blk_drain(m->virtio->disk[i]);
		if (blk_readonly(m->virtio->disk[i]))
			continue;
		r = blk_flush_sync(m->virtio->disk[i]);
		if (r < 0)
			log_err("--disk %s: cannot be made durable: %s", m->cfg.disk[i],
				strerror(-r));
	}
}

size_t machine_virtio_console_in(struct machine *m, const uint8_t *buf, size_t n)
{
	return m->virtio->console ? virtio_console_input(m->virtio->console, buf, n) : n;
}
