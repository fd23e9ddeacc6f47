/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the PCI folder: the bus itself and what its files say to each other. */
#ifndef R3_DEV_PCI_PCI_PRIV_H
#define R3_DEV_PCI_PCI_PRIV_H

#include "dev/pci/pci.h"

/* A range of addresses the bus owns; accesses in it are dispatched by what the BARs decode. */
struct pci_window {
	struct pci_bus *bus;
	uint64_t base, size, next_free;
	struct mem_region region;
	struct pio_range ports;
};

struct pci_bus {
	struct bus *bus;
	struct pci_host_cfg cfg;
	pthread_mutex_t lock, intx_lock;
	struct pci_fn *fn[PCI_SLOTS];
	struct pci_bar *bar[PCI_SLOTS * PCI_BARS]; /* of attached functions */
	unsigned bars;
	unsigned intx_count[PCI_INTX_GSIS]; /* functions driving each line */
	struct pci_window mem, mem64, io;
	uint32_t address; /* the register at port 0xcf8 */
	struct pci_fn bridge;
	struct pio_range addr_ports, data_ports;
	struct mem_region ecam;
};

int pci_windows_add(struct pci_bus *b, struct err *e) MUST_CHECK;
void pci_windows_remove(struct pci_bus *b);
/* Chooses a BAR's address. */
int pci_window_place(struct pci_bus *b, struct pci_bar *bar) MUST_CHECK;
void pci_bar_register(struct pci_bus *b, struct pci_bar *bar);
void pci_bar_unregister(struct pci_bus *b, struct pci_bar *bar);

/* MSI-X halves of BAR and configuration accesses */
bool pci_msix_bar_read(struct pci_fn *f, unsigned bar, uint64_t off, unsigned size, uint64_t *val);
bool pci_msix_bar_write(struct pci_fn *f, unsigned bar, uint64_t off, uint64_t val, unsigned size);
void pci_msix_cfg_written(struct pci_fn *f);
void pci_msix_reset(struct pci_fn *f);
/* Drives the line according to what is wanted and allowed; irq_lock held. */
void pci_intx_update(struct pci_fn *f);

static inline uint16_t pci_get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t pci_get32(const uint8_t *p)
{
	return pci_get16(p) | (uint32_t)pci_get16(p + 2) << 16;
}

static inline void pci_put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static inline void pci_put32(uint8_t *p, uint32_t v)
{
	pci_put16(p, (uint16_t)v);
	pci_put16(p + 2, (uint16_t)(v >> 16));
}

#endif
