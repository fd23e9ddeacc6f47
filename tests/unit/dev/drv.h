/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small machine and the driver half of virtio for tests: RAM, bus, PCI host bridge, recorded
 * interrupts; rings in guest memory; everything a driver does through configuration space and BARs.
 */
#ifndef R3_TESTS_DRV_H
#define R3_TESTS_DRV_H

#include "dev/pci/pci.h"
#include "dev/virtio/virtio.h"

enum {
	DRV_RAM = 16 << 20,
	DRV_QSIZE = 16,
	DRV_ECAM = 0x10000000,
	DRV_MMIO = 0x20000000,
	DRV_MMIO_SIZE = 0x10000000,
	/* guest memory: rings for queue n at DRV_RINGS + n * 0x4000, tests use from DRV_DATA on */
	DRV_RINGS = 0x10000,
	DRV_RING_STEP = 0x4000,
	DRV_DATA = 0x100000,
	DRV_MSI = 0xfee00000u,
};
#define DRV_MMIO64 0x1000000000ull

struct drv_machine {
	struct mem_map *mem;
	struct bus *bus;
	struct dev_list devs;
	struct dev *host;
	struct pci_bus *pci;
	unsigned msi_count[8]; /* by data value */
	unsigned msi_odd;      /* to other addresses */
	int gsi_level[32];
	unsigned gsi_rises[32];
	uint64_t dma_bytes; /* told to memory listeners */
	struct mem_listener listener;
	bool reset_asked;
};
void drv_machine_init(struct drv_machine *m);
void drv_machine_fini(struct drv_machine *m);

/* One ring as the driver sees it */
struct drv_ring {
	struct drv_machine *m;
	gpa_t desc, avail, used;
	unsigned size;
	uint16_t next_desc, next_avail, seen_used;
};
struct drv_seg {
	gpa_t addr;
	uint32_t len;
	bool write;
};
void drv_ring_init(struct drv_ring *r, struct drv_machine *m, unsigned n, unsigned size);
void drv_desc(struct drv_ring *r, gpa_t table, unsigned i, gpa_t addr, uint32_t len, uint16_t flags,
	      uint16_t next);
void drv_avail(struct drv_ring *r, uint16_t head); /* puts a head into the ring */
uint16_t drv_add(struct drv_ring *r, const struct drv_seg *s, unsigned n);
uint16_t drv_add_indirect(struct drv_ring *r, gpa_t table, const struct drv_seg *s, unsigned n);
/* true: one more used element; its id and length */
bool drv_used(struct drv_ring *r, uint32_t *id, uint32_t *len);

/* A virtio function as its driver sees it */
struct drv {
	struct drv_machine *m;
	unsigned slot;
	gpa_t common, isr, device, notify;
	uint32_t notify_step;
	struct drv_ring ring[4];
};
uint32_t drv_cfg_read(struct drv_machine *m, unsigned slot, unsigned off, unsigned size);
void drv_cfg_write(struct drv_machine *m, unsigned slot, unsigned off, uint32_t v, unsigned size);
void drv_probe(struct drv *d, struct drv_machine *m, unsigned slot);
uint64_t drv_features(struct drv *d);
/* Reset, negotiate `want`, set up `queues` rings, MSI-X vector q + 1 for queue q, DRIVER_OK. */
void drv_start(struct drv *d, uint64_t want, unsigned queues, bool msix);
uint8_t drv_status(struct drv *d);
void drv_kick(struct drv *d, unsigned q);

uint8_t *drv_mem(struct drv_machine *m, gpa_t a, uint64_t len);

#endif
