/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio console (virtio 1.2, 5.3): one port, with the terminal's size. */
#ifndef R3_DEV_VIRTIO_VIRTIO_CONSOLE_H
#define R3_DEV_VIRTIO_VIRTIO_CONSOLE_H

#include "dev/pci/pci.h"

struct virtio_console_cfg {
	struct pci_bus *pci;
	int slot; /* -1: any */
	uint16_t cols, rows;
	/* What the guest prints; on vCPU threads, the device's lock held. */
	void (*output)(void *opaque, const void *buf, size_t n);
	void *opaque;
};
extern const struct dev_class virtio_console_class;

/* Any thread. What was typed: the number of bytes taken, less than n when the guest does not read. */
size_t virtio_console_input(struct dev *d, const void *buf, size_t n);
void virtio_console_resize(struct dev *d, uint16_t cols, uint16_t rows);

#endif
