/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio network device (virtio 1.2, 5.1): a port of a switch. */
#ifndef R3_DEV_VIRTIO_VIRTIO_NET_H
#define R3_DEV_VIRTIO_VIRTIO_NET_H

#include "dev/pci/pci.h"
#include "net/net.h"

struct virtio_net_cfg {
	struct pci_bus *pci;
	int slot; /* -1: any */
	struct net_switch *net;
	uint8_t mac[NET_MAC_LEN]; /* all zero: one made from the slot */
	unsigned mtu;		  /* 0: 1500, and the guest is not told */
};
extern const struct dev_class virtio_net_class;

/* Plugs the cable in or out. Any thread. */
void virtio_net_link(struct dev *d, bool up);
const struct net_port *virtio_net_port(const struct dev *d);

#endif
