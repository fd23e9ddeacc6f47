/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio block device (virtio 1.2, 5.2) over a struct blk. */
#ifndef R3_DEV_VIRTIO_VIRTIO_BLK_H
#define R3_DEV_VIRTIO_VIRTIO_BLK_H

#include "block/blk.h"
#include "dev/pci/pci.h"

enum { VIRTIO_BLK_QUEUES_MAX = 4 };

struct virtio_blk_cfg {
	struct pci_bus *pci;
	int slot;	    /* -1: any */
	struct blk *disk;   /* stays the caller's; closed after the device is destroyed */
	const char *serial; /* at most 20 characters are shown; NULL: none */
	unsigned queues;    /* 0: one */
};
extern const struct dev_class virtio_blk_class;

#endif
