/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio entropy device (virtio 1.2, 5.4), fed by the host's generator. */
#ifndef R3_DEV_VIRTIO_VIRTIO_RNG_H
#define R3_DEV_VIRTIO_VIRTIO_RNG_H

#include "dev/pci/pci.h"

struct virtio_rng_cfg {
	struct pci_bus *pci;
	int slot; /* -1: any */
};
extern const struct dev_class virtio_rng_class;

#endif
