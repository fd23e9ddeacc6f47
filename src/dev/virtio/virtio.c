/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device core: status, features, reset, interrupts (virtio 1.2, 2.1, 2.2, 2.4, 3.1).
 * Threads and locks: virtio.h.
 */
#include "dev/virtio/virtio.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>

enum { ISR_QUEUE = 1, ISR_CONFIG = 2, NO_VECTOR = 0xffff };

static uint8_t status_get(const struct virtio_dev *v)
{
	return __atomic_load_n(&v->status, __ATOMIC_ACQUIRE);
}

bool virtio_live(const struct virtio_dev *v)
{
	const uint8_t s = status_get(v);
	const uint8_t need = VIRTIO_ST_DRIVER_OK | VIRTIO_ST_FEATURES_OK;

	return (s & need) == need && !(s & (VIRTIO_ST_NEEDS_RESET | VIRTIO_ST_FAILED)) &&
	       !__atomic_load_n(&v->resetting, __ATOMIC_RELAXED) && !v->paused &&
	       pci_fn_master(&v->fn);
}

static void registers_clear(struct virtio_dev *v)
{
	for (unsigned i = 0; i < v->queues; i++)
		vq_reset(&v->q[i]);
	v->accepted = 0;
	v->device_select = v->driver_select = 0;
	v->queue_select = 0;
	v->config_vector = NO_VECTOR;
	virtio_isr_take(v);
	__atomic_store_n(&v->resetting, false, __ATOMIC_RELAXED);
	__atomic_store_n(&v->status, 0, __ATOMIC_RELEASE);
}

/* The status reads back as 0 only when nothing the old driver asked for is under way (2.4.1). */
static void reset_begin(struct virtio_dev *v)
{
	if (v->resetting)
		return;
	__atomic_store_n(&v->resetting, true, __ATOMIC_RELAXED);
	if (v->ops->stopping == NULL || v->ops->stopping(v))
		registers_clear(v);
}

void virtio_idle(struct virtio_dev *v)
{
	if (v->resetting)
		registers_clear(v);
}

/* Nothing beyond the offer, and no legacy driver: we are not for it (2.2.2, 6.1). */
static bool features_good(const struct virtio_dev *v)
{
	return !(v->accepted & ~v->features) && (v->accepted & VIRTIO_FT_VERSION_1);
}

/* What the driver queued before it was ready has had no effect until now. */
static void started(struct virtio_dev *v)
{
	if (v->ops->started != NULL)
		v->ops->started(v);
	for (unsigned i = 0; i < v->queues; i++)
		virtio_notified(v, i);
}

void virtio_status_write(struct virtio_dev *v, uint8_t val)
{
	const uint8_t old = status_get(v);
	uint8_t set = val & (uint8_t)~old;

	if (val == 0) {
		if (old != 0)
			reset_begin(v);
		return;
	}
	if (v->resetting)
		return;
	if ((set & VIRTIO_ST_FEATURES_OK) && !features_good(v))
		set &= (uint8_t)~VIRTIO_ST_FEATURES_OK;
	set &= (uint8_t)~VIRTIO_ST_NEEDS_RESET;
	__atomic_or_fetch(&v->status, set, __ATOMIC_SEQ_CST);
	if (set & VIRTIO_ST_DRIVER_OK)
		started(v);
}

void virtio_features_write(struct virtio_dev *v, uint32_t val)
{
	if (v->driver_select > 1 || (status_get(v) & VIRTIO_ST_FEATURES_OK))
		return;
	if (v->driver_select == 0)
		v->accepted = (v->accepted & ~0xffffffffull) | val;
	else
		v->accepted = (v->accepted & 0xffffffffull) | (uint64_t)val << 32;
}

void virtio_queue_enable(struct virtio_dev *v, unsigned q)
{
	struct vq *vq = &v->q[q];

	if (vq->st.enabled || v->resetting)
		return;
	vq->event_idx = virtio_has(v, VIRTIO_FT_EVENT_IDX);
	vq->indirect = virtio_has(v, VIRTIO_FT_INDIRECT);
	if (vq_enable(vq) < 0)
		virtio_broken(v, q, "bad ring addresses or size");
}

void virtio_notified(struct virtio_dev *v, unsigned q)
{
	if (q < v->queues && v->q[q].st.enabled && virtio_live(v))
		v->ops->notify(v, q);
}

static void raise_irq(struct virtio_dev *v, uint8_t cause, uint16_t vector)
{
	if (pci_msix_enabled(&v->fn)) {
		pci_msix_notify(&v->fn, vector); /* NO_VECTOR is out of range and so ignored */
		return;
	}
	pthread_mutex_lock(&v->isr_lock);
	v->isr |= cause;
	pci_intx_set(&v->fn, true);
	pthread_mutex_unlock(&v->isr_lock);
}

uint8_t virtio_isr_take(struct virtio_dev *v)
{
	uint8_t isr;

	pthread_mutex_lock(&v->isr_lock);
	isr = v->isr;
	v->isr = 0;
	pci_intx_set(&v->fn, false);
	pthread_mutex_unlock(&v->isr_lock);
	return isr;
}

void virtio_irq(struct virtio_dev *v, unsigned q)
{
	if (vq_wants_irq(&v->q[q]))
		raise_irq(v, ISR_QUEUE, v->q[q].st.vector);
}

void virtio_config_changed(struct virtio_dev *v)
{
	v->generation++;
	if (status_get(v) & VIRTIO_ST_DRIVER_OK)
		raise_irq(v, ISR_CONFIG, v->config_vector);
}

void virtio_broken(struct virtio_dev *v, unsigned q, const char *why)
{
	const uint8_t old = __atomic_fetch_or(&v->status, VIRTIO_ST_NEEDS_RESET, __ATOMIC_SEQ_CST);

	if (old & VIRTIO_ST_NEEDS_RESET)
		return;
	log_guest("%s: queue %u: %s; the device waits for a reset", v->name, q, why);
	if (old & VIRTIO_ST_DRIVER_OK)
		raise_irq(v, ISR_CONFIG, v->config_vector);
}

int virtio_init(struct virtio_dev *v, struct bus *bus, struct pci_bus *pci, int slot,
		const struct virtio_desc *d, const struct virtio_ops *ops, struct err *e)
{
	BUG_ON(d->queues > VIRTIO_QUEUES_MAX || d->config_len > VIRTIO_CONFIG_MAX);
	v->bus = bus;
	v->ops = ops;
	v->name = d->name;
	v->queues = d->queues;
	v->config_len = d->config_len;
	v->features = d->features | VIRTIO_FT_INDIRECT | VIRTIO_FT_EVENT_IDX | VIRTIO_FT_VERSION_1;
	pthread_mutex_init(&v->lock, NULL);
	pthread_mutex_init(&v->isr_lock, NULL);
	v->config_vector = NO_VECTOR;
	for (unsigned i = 0; i < v->queues; i++) {
		v->q[i].mem = bus->mem;
		v->q[i].st.max = d->queue_size;
		vq_reset(&v->q[i]);
	}
	return virtio_pci_init(v, pci, slot, d, e);
}

/* Stops the device for good or for a reset, whatever the driver thinks of it. */
static void stop(struct virtio_dev *v)
{
	pthread_mutex_lock(&v->lock);
	reset_begin(v);
	pthread_mutex_unlock(&v->lock);
	if (v->ops->drain != NULL)
		v->ops->drain(v);
	pthread_mutex_lock(&v->lock);
	registers_clear(v);
	v->generation = 0;
	pthread_mutex_unlock(&v->lock);
}

void virtio_fini(struct virtio_dev *v)
{
	stop(v);
	pci_fn_detach(&v->fn);
	pthread_mutex_destroy(&v->isr_lock);
	pthread_mutex_destroy(&v->lock);
}

void virtio_dev_reset(struct virtio_dev *v)
{
	stop(v);
	pci_fn_reset(&v->fn);
}

void virtio_dev_pause(struct virtio_dev *v)
{
	pthread_mutex_lock(&v->lock);
	v->paused = true;
	pthread_mutex_unlock(&v->lock);
	if (v->ops->drain != NULL)
		v->ops->drain(v);
}

void virtio_dev_resume(struct virtio_dev *v)
{
	pthread_mutex_lock(&v->lock);
	v->paused = false;
	for (unsigned i = 0; i < v->queues; i++)
		virtio_notified(v, i);
	pthread_mutex_unlock(&v->lock);
}
