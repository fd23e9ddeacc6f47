/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio over PCI, modern only (virtio 1.2, 4.1). BAR 0 holds everything, a page for each part:
 * common configuration, ISR, device configuration, notifications, MSI-X.
 * v->lock is taken here for every access of a vCPU.
 */
#include "dev/virtio/virtio.h"

#include <errno.h>
#include <linux/virtio_pci.h>
#include <string.h>

enum {
	BAR = 0,
	BAR_SIZE = 0x8000,
	PART_SIZE = 0x1000,
	PART_COMMON = 0,
	PART_ISR = 1,
	PART_DEVICE = 2,
	PART_NOTIFY = 3,
	MSIX_TABLE = 0x4000,
	MSIX_PBA = 0x5000,
	NOTIFY_STEP = 4, /* bytes between two queues' notification addresses */
	VENDOR = 0x1af4,
	DEVICE_BASE = 0x1040,
	COMMON_LEN =
		0x3c, /* to queue_notify_data and queue_reset, which need features not offered */
	/* fields of struct virtio_pci_cap */
	CAP_BAR = VIRTIO_PCI_CAP_BAR,
	CAP_OFFSET = VIRTIO_PCI_CAP_OFFSET,
	CAP_LENGTH = VIRTIO_PCI_CAP_LENGTH,
	CAP_DATA = 16, /* struct virtio_pci_cfg_cap */
};

static uint32_t half(uint64_t v, bool high)
{
	return (uint32_t)(high ? v >> 32 : v);
}

static void half_set(uint64_t *v, bool high, uint32_t val)
{
	if (high)
		*v = (*v & 0xffffffffull) | (uint64_t)val << 32;
	else
		*v = (*v & ~0xffffffffull) | val;
}

static uint32_t queue_read(struct virtio_dev *v, unsigned off)
{
	const struct vq_state *s;

	if (v->queue_select >= v->queues)
		return 0;
	s = &v->q[v->queue_select].st;
	switch (off) {
	case VIRTIO_PCI_COMMON_Q_SIZE: return s->size;
	case VIRTIO_PCI_COMMON_Q_MSIX: return s->vector;
	case VIRTIO_PCI_COMMON_Q_ENABLE: return s->enabled;
	case VIRTIO_PCI_COMMON_Q_NOFF: return v->queue_select;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI: return half(s->desc, off & 4);
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI: return half(s->avail, off & 4);
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI: return half(s->used, off & 4);
	default: return 0;
	}
}

static uint32_t common_read(struct virtio_dev *v, unsigned off)
{
	switch (off) {
	case VIRTIO_PCI_COMMON_DFSELECT: return v->device_select;
	case VIRTIO_PCI_COMMON_DF:
		return v->device_select < 2 ? half(v->features, v->device_select) : 0;
	case VIRTIO_PCI_COMMON_GFSELECT: return v->driver_select;
	case VIRTIO_PCI_COMMON_GF:
		return v->driver_select < 2 ? half(v->accepted, v->driver_select) : 0;
	case VIRTIO_PCI_COMMON_MSIX: return v->config_vector;
	case VIRTIO_PCI_COMMON_NUMQ: return v->queues;
	case VIRTIO_PCI_COMMON_STATUS: return __atomic_load_n(&v->status, __ATOMIC_ACQUIRE);
	case VIRTIO_PCI_COMMON_CFGGENERATION: return v->generation;
	case VIRTIO_PCI_COMMON_Q_SELECT: return v->queue_select;
	default: return queue_read(v, off);
	}
}

/* A vector the device does not have reads back as none (4.1.5.1.2). */
static uint16_t vector_clamp(const struct virtio_dev *v, uint32_t val)
{
	return val < v->fn.msix.n ? (uint16_t)val : VIRTIO_MSI_NO_VECTOR;
}

static void queue_write(struct virtio_dev *v, unsigned off, uint32_t val)
{
	struct vq_state *s;

	if (v->queue_select >= v->queues)
		return;
	s = &v->q[v->queue_select].st;
	if (off == VIRTIO_PCI_COMMON_Q_MSIX) {
		s->vector = vector_clamp(v, val);
		return;
	}
	if (s->enabled)
		return;
	switch (off) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		s->size = (uint16_t)val; /* checked when the queue is enabled */
		break;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		if (val == 1)
			virtio_queue_enable(v, v->queue_select);
		break;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		half_set(&s->desc, off == VIRTIO_PCI_COMMON_Q_DESCHI, val);
		break;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		half_set(&s->avail, off == VIRTIO_PCI_COMMON_Q_AVAILHI, val);
		break;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		half_set(&s->used, off == VIRTIO_PCI_COMMON_Q_USEDHI, val);
		break;
	default: break;
	}
}

static void common_write(struct virtio_dev *v, unsigned off, uint32_t val)
{
	switch (off) {
	case VIRTIO_PCI_COMMON_DFSELECT: v->device_select = val; break;
	case VIRTIO_PCI_COMMON_GFSELECT: v->driver_select = val; break;
	case VIRTIO_PCI_COMMON_GF: virtio_features_write(v, val); break;
	case VIRTIO_PCI_COMMON_MSIX: v->config_vector = vector_clamp(v, val); break;
	case VIRTIO_PCI_COMMON_STATUS: virtio_status_write(v, (uint8_t)val); break;
	case VIRTIO_PCI_COMMON_Q_SELECT: v->queue_select = (uint16_t)val; break;
	default: queue_write(v, off, val); break;
	}
}

static uint64_t device_read(const struct virtio_dev *v, uint64_t off, unsigned size)
{
	uint64_t val = 0;

	for (unsigned i = 0; i < size && off + i < v->config_len; i++)
		val |= (uint64_t)v->config[off + i] << (8 * i);
	return val;
}

static void device_write(struct virtio_dev *v, uint64_t off, uint64_t val, unsigned size)
{
	if (v->ops->config_written == NULL || off >= v->config_len || size > v->config_len - off)
		return;
	for (unsigned i = 0; i < size; i++)
		v->config[off + i] = (uint8_t)(val >> (8 * i));
	v->ops->config_written(v, (unsigned)off, size);
}

/* 64-bit fields may be read and written as two halves only (4.1.3.1); a qword is done as such. */
static uint64_t common_load(struct virtio_dev *v, unsigned off, unsigned size)
{
	if (off >= COMMON_LEN)
		return 0;
	if (size == 8)
		return common_read(v, off) | (uint64_t)common_read(v, off + 4) << 32;
	return common_read(v, off);
}

static void common_store(struct virtio_dev *v, unsigned off, uint64_t val, unsigned size)
{
	if (off >= COMMON_LEN)
		return;
	common_write(v, off, (uint32_t)val);
	if (size == 8)
		common_write(v, off + 4, (uint32_t)(val >> 32));
}

static uint64_t bar_read(struct pci_fn *f, unsigned bar, uint64_t off, unsigned size)
{
	struct virtio_dev *v = container_of(f, struct virtio_dev, fn);
	const uint64_t in_part = off % PART_SIZE;
	uint64_t val = 0;

	(void)bar;
	pthread_mutex_lock(&v->lock);
	switch (off / PART_SIZE) {
	case PART_COMMON: val = common_load(v, (unsigned)in_part, size); break;
	case PART_ISR: val = in_part == 0 ? virtio_isr_take(v) : 0; break;
	case PART_DEVICE: val = device_read(v, in_part, size); break;
	default: break;
	}
	pthread_mutex_unlock(&v->lock);
	return val;
}

static void bar_write(struct pci_fn *f, unsigned bar, uint64_t off, uint64_t val, unsigned size)
{
	struct virtio_dev *v = container_of(f, struct virtio_dev, fn);
	const uint64_t in_part = off % PART_SIZE;

	(void)bar;
	pthread_mutex_lock(&v->lock);
	switch (off / PART_SIZE) {
	case PART_COMMON: common_store(v, (unsigned)in_part, val, size); break;
	case PART_DEVICE: device_write(v, in_part, val, size); break;
	case PART_NOTIFY:
		if (in_part % NOTIFY_STEP == 0)
			virtio_notified(v, (unsigned)(in_part / NOTIFY_STEP));
		break;
	default: break;
	}
	pthread_mutex_unlock(&v->lock);
}

/* The PCI configuration access capability (4.1.4.9): a window on the BAR in configuration space. */
static bool window_target(const struct virtio_dev *v, unsigned off, unsigned size, uint32_t *at,
			  uint32_t *len)
{
	const uint8_t *c = v->fn.cfg + v->pci_cap;
	const unsigned data = (unsigned)v->pci_cap + CAP_DATA;

	if (v->pci_cap == 0 || off >= data + 4 || off + size <= data)
		return false;
	memcpy(at, c + CAP_OFFSET, 4);
	memcpy(len, c + CAP_LENGTH, 4);
	if (c[CAP_BAR] != BAR || (*len != 1 && *len != 2 && *len != 4))
		return false;
	return *at % *len == 0 && *at < MSIX_TABLE && *len <= MSIX_TABLE - *at;
}

static void cfg_reading(struct pci_fn *f, unsigned off, unsigned size)
{
	struct virtio_dev *v = container_of(f, struct virtio_dev, fn);
	uint32_t at, len, val;

	if (!window_target(v, off, size, &at, &len))
		return;
	val = (uint32_t)bar_read(f, BAR, at, len);
	memcpy(f->cfg + v->pci_cap + CAP_DATA, &val, 4);
}

static void cfg_written(struct pci_fn *f, unsigned off, unsigned size)
{
	struct virtio_dev *v = container_of(f, struct virtio_dev, fn);
	uint32_t at, len, val;

	if (!window_target(v, off, size, &at, &len))
		return;
	memcpy(&val, f->cfg + v->pci_cap + CAP_DATA, 4);
	bar_write(f, BAR, at, len == 4 ? val : val & ((1u << (8 * len)) - 1), len);
}

static const struct pci_fn_ops fn_ops = {
	.bar_read = bar_read,
	.bar_write = bar_write,
	.cfg_reading = cfg_reading,
	.cfg_written = cfg_written,
};

static int cap_add(struct pci_fn *f, uint8_t type, unsigned part, uint32_t len, unsigned extra)
{
	const unsigned size = 16 + extra;
	const uint32_t offset = part * PART_SIZE;
	int at = pci_fn_cap(f, PCI_CAP_VENDOR, size);

	if (at < 0)
		return at;
	f->cfg[at + VIRTIO_PCI_CAP_LEN] = (uint8_t)size;
	f->cfg[at + VIRTIO_PCI_CAP_CFG_TYPE] = type;
	f->cfg[at + CAP_BAR] = BAR;
	memcpy(f->cfg + at + CAP_OFFSET, &offset, 4);
	memcpy(f->cfg + at + CAP_LENGTH, &len, 4);
	return at;
}

static int caps_add(struct virtio_dev *v)
{
	const uint32_t step = NOTIFY_STEP;
	struct pci_fn *f = &v->fn;
	int at, r;

	r = cap_add(f, VIRTIO_PCI_CAP_COMMON_CFG, PART_COMMON, COMMON_LEN, 0);
	if (r >= 0)
		r = cap_add(f, VIRTIO_PCI_CAP_ISR_CFG, PART_ISR, 1, 0);
	if (r >= 0 && v->config_len > 0)
		r = cap_add(f, VIRTIO_PCI_CAP_DEVICE_CFG, PART_DEVICE, v->config_len, 0);
	if (r < 0)
		return r;
	at = cap_add(f, VIRTIO_PCI_CAP_NOTIFY_CFG, PART_NOTIFY, NOTIFY_STEP * v->queues, 4);
	if (at < 0)
		return at;
	memcpy(f->cfg + at + VIRTIO_PCI_NOTIFY_CAP_MULT, &step, 4);
	at = cap_add(f, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, 4);
	if (at < 0)
		return at;
	v->pci_cap = (uint8_t)at;
	f->wmask[at + CAP_BAR] = 0xff;
	memset(f->wmask + at + CAP_OFFSET, 0xff, 4 + 4 + 4);
	return pci_fn_msix(f, v->queues + 1, BAR, MSIX_TABLE, MSIX_PBA);
}

int virtio_pci_init(struct virtio_dev *v, struct pci_bus *pci, int slot,
		    const struct virtio_desc *d, struct err *e)
{
	const struct pci_id id = {
		.vendor = VENDOR,
		.device = (uint16_t)(DEVICE_BASE + d->id),
		.subvendor = VENDOR,
		.subsystem = (uint16_t)(DEVICE_BASE + d->id),
		.class_code = d->class_code,
		.revision = 1,
		.intx = true,
	};
	int r;

	pci_fn_init(&v->fn, d->name, &id, &fn_ops);
	pci_fn_bar(&v->fn, BAR, PCI_BAR_MEM32, BAR_SIZE);
	r = caps_add(v);
	if (r < 0)
		return err_set(e, r, "%s: no room for PCI capabilities", d->name);
	return pci_fn_attach(&v->fn, pci, slot, e);
}
