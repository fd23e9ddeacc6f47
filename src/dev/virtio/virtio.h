/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every virtio device shares: feature negotiation, status, reset, queues (virtio 1.2, 2 and
 * 3), carried by PCI (4.1). A device fills a struct virtio_desc and a struct virtio_ops.
 *
 * Threads: v->lock guards the device. Notifications arrive on vCPU threads and are worked off
 * right there, under the lock; completions come on the loop's thread and take it. `status` and
 * `isr` are atomic, so that virtio_broken and virtio_irq may also be called under a device's
 * second lock (net's receive side) instead.
 */
#ifndef R3_DEV_VIRTIO_VIRTIO_H
#define R3_DEV_VIRTIO_VIRTIO_H

#include "dev/pci/pci.h"
#include "dev/virtio/vq.h"

enum { VIRTIO_QUEUES_MAX = 8, VIRTIO_CONFIG_MAX = 128 };

enum {
	VIRTIO_ID_NET_DEV = 1,
	VIRTIO_ID_BLK_DEV = 2,
	VIRTIO_ID_CONSOLE_DEV = 3,
	VIRTIO_ID_RNG_DEV = 4,
};

/* Device status bits (2.1) */
enum {
	VIRTIO_ST_ACKNOWLEDGE = 1,
	VIRTIO_ST_DRIVER = 2,
	VIRTIO_ST_DRIVER_OK = 4,
	VIRTIO_ST_FEATURES_OK = 8,
	VIRTIO_ST_NEEDS_RESET = 64,
	VIRTIO_ST_FAILED = 128,
};

/* Feature bits every device here offers (6) */
#define VIRTIO_FT_INDIRECT BIT(28)
#define VIRTIO_FT_EVENT_IDX BIT(29)
#define VIRTIO_FT_VERSION_1 BIT(32)

struct virtio_dev;

/* Called with v->lock held, except drain. Those marked may be NULL. */
struct virtio_ops {
	/* The driver has put something into queue q, or the device was resumed. */
	void (*notify)(struct virtio_dev *v, unsigned q);
	void (*started)(struct virtio_dev *v); /* DRIVER_OK was set; NULL */
	/*
	 * The driver resets. From now on the queues are out of bounds; false: requests are still
	 * in flight, the device calls virtio_idle after the last one. NULL: true.
	 */
	bool (*stopping)(struct virtio_dev *v);
	/* Without lock: returns when nothing is in flight. NULL */
	void (*drain)(struct virtio_dev *v);
	/* The driver wrote v->config at [off, off+size). NULL: it cannot. */
	void (*config_written)(struct virtio_dev *v, unsigned off, unsigned size);
};

struct virtio_desc {
	const char *name;
	uint16_t id;
	uint32_t class_code;
	uint64_t features; /* beside the common ones */
	unsigned queues;
	uint16_t queue_size;
	unsigned config_len;
};

struct virtio_dev {
	struct pci_fn fn;
	struct bus *bus;
	const struct virtio_ops *ops;
	const char *name;
	pthread_mutex_t lock, isr_lock;
	unsigned queues, config_len;
	uint64_t features; /* offered */
	struct vq q[VIRTIO_QUEUES_MAX];
	uint8_t config[VIRTIO_CONFIG_MAX];
	uint8_t pci_cap; /* offset of the PCI configuration access capability */

	/* The state a snapshot keeps, with config and q[].st */
	uint64_t accepted; /* features */
	uint32_t device_select, driver_select;
	uint16_t queue_select, config_vector;
	uint8_t status, isr, generation;
	bool resetting; /* the driver waits for status to read 0 */
	bool paused;
};

/* The rows of a device's snap_field table that are common; `m` is its struct virtio_dev member. */
#define VIRTIO_SNAP_FIELDS(type, m)                                                                \
	SNAP_FIELD(type, m.fn.cfg), SNAP_FIELD(type, m.fn.msix), SNAP_FIELD(type, m.config),       \
		SNAP_FIELD(type, m.accepted), SNAP_FIELD(type, m.device_select),                   \
		SNAP_FIELD(type, m.driver_select), SNAP_FIELD(type, m.queue_select),               \
		SNAP_FIELD(type, m.config_vector), SNAP_FIELD(type, m.status),                     \
		SNAP_FIELD(type, m.isr), SNAP_FIELD(type, m.generation),                           \
		SNAP_FIELD(type, m.q[0].st), SNAP_FIELD(type, m.q[1].st),                          \
		SNAP_FIELD(type, m.q[2].st), SNAP_FIELD(type, m.q[3].st),                          \
		SNAP_FIELD(type, m.q[4].st), SNAP_FIELD(type, m.q[5].st),                          \
		SNAP_FIELD(type, m.q[6].st), SNAP_FIELD(type, m.q[7].st)

/* Creation and end, for a device's dev_class. v->config is filled by the caller afterwards. */
int virtio_init(struct virtio_dev *v, struct bus *bus, struct pci_bus *pci, int slot,
		const struct virtio_desc *d, const struct virtio_ops *ops,
		struct err *e) MUST_CHECK;
void virtio_fini(struct virtio_dev *v); /* drains */
/* The machine's reset, pause and resume; no vCPU runs. */
void virtio_dev_reset(struct virtio_dev *v);
void virtio_dev_pause(struct virtio_dev *v);
void virtio_dev_resume(struct virtio_dev *v);

/* May the device work on its queues? */
bool virtio_live(const struct virtio_dev *v);
static inline bool virtio_has(const struct virtio_dev *v, uint64_t feature)
{
	return (v->accepted & feature) != 0;
}

/* After vq_push: interrupts the driver when it wants that. Under the queue's lock. */
void virtio_irq(struct virtio_dev *v, unsigned q);
/* The configuration changed: new generation, interrupt. Lock held. */
void virtio_config_changed(struct virtio_dev *v);
/* The driver has broken the rules: the device stops and asks to be reset (2.1.2). */
void virtio_broken(struct virtio_dev *v, unsigned q, const char *why);
/* See stopping; lock held. */
void virtio_idle(struct virtio_dev *v);

/* The transport's side (virtio_pci.c calls the core). Lock held. */
void virtio_status_write(struct virtio_dev *v, uint8_t val);
void virtio_features_write(struct virtio_dev *v, uint32_t val);
void virtio_queue_enable(struct virtio_dev *v, unsigned q);
void virtio_notified(struct virtio_dev *v, unsigned q);
uint8_t virtio_isr_take(struct virtio_dev *v);
/* Builds the PCI function. */
int virtio_pci_init(struct virtio_dev *v, struct pci_bus *pci, int slot,
		    const struct virtio_desc *d, struct err *e) MUST_CHECK;

#endif
