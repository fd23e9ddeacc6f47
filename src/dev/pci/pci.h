/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI: one bus, functions with a type-0 header, BARs, INTx and MSI-X (PCI Local Bus 3.0; PCI
 * Express base specification, chapter 7, for the enhanced configuration mechanism).
 *
 * Locks, in the order in which they may be taken:
 *	bus->lock      configuration space of every function
 *	(the device's own lock)
 *	fn->irq_lock   MSI-X table, INTx state
 *	bus->intx_lock sharing of interrupt lines
 * BAR accesses take none of them: the address a BAR decodes is one atomic word. A device's
 * bar_read and bar_write are called without any lock held.
 */
#ifndef R3_DEV_PCI_PCI_H
#define R3_DEV_PCI_PCI_H

#include "bus/bus.h"

#include <pthread.h>

enum {
	PCI_SLOTS = 32,
	PCI_BARS = 6,
	PCI_CFG_SIZE = 256,
	PCI_MSIX_MAX = 32,
	PCI_INTX_GSI = 16, /* the first of PCI_INTX_GSIS */
	PCI_INTX_GSIS = 8,
};

#define PCI_UNMAPPED UINT64_MAX

/* Offsets and bits of the type-0 header */
enum {
	PCI_CFG_VENDOR = 0x00,
	PCI_CFG_DEVICE = 0x02,
	PCI_CFG_COMMAND = 0x04,
	PCI_CFG_STATUS = 0x06,
	PCI_CFG_REVISION = 0x08,
	PCI_CFG_CLASS = 0x09,
	PCI_CFG_BAR0 = 0x10,
	PCI_CFG_SUBVENDOR = 0x2c,
	PCI_CFG_SUBSYSTEM = 0x2e,
	PCI_CFG_CAPS = 0x34,
	PCI_CFG_INT_LINE = 0x3c,
	PCI_CFG_INT_PIN = 0x3d,
	PCI_CFG_FIRST_CAP = 0x40,

	PCI_CMD_IO = 1,
	PCI_CMD_MEM = 2,
	PCI_CMD_MASTER = 4,
	PCI_CMD_INTX_OFF = 0x400,
	PCI_STATUS_INTX = 8,
	PCI_STATUS_CAPS = 0x10,

	PCI_CAP_VENDOR = 0x09,
	PCI_CAP_MSIX = 0x11,
};

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEM32, PCI_BAR_MEM64 };

struct pci_fn;
struct pci_bar {
	struct pci_fn *fn;
	uint8_t index;
	enum pci_bar_kind kind;
	uint64_t size;	 /* a power of two */
	uint64_t home;	 /* where the machine put it, restored by a reset */
	uint64_t mapped; /* atomic: where it decodes now, or PCI_UNMAPPED */
};

struct pci_msix_entry {
	uint64_t addr;
	uint32_t data, ctrl;
};
struct pci_msix {
	unsigned n; /* vectors; 0: none */
	uint8_t bar, cap;
	uint32_t table_off, pba_off; /* in the BAR */
	bool enabled, masked;	     /* the capability's bits */
	uint32_t pending;	     /* one bit per vector */
	struct pci_msix_entry entry[PCI_MSIX_MAX];
};

struct pci_fn_ops {
	/* off + size lies within the BAR; size is 1, 2, 4 or 8. Any vCPU thread. */
	uint64_t (*bar_read)(struct pci_fn *f, unsigned bar, uint64_t off, unsigned size);
	void (*bar_write)(struct pci_fn *f, unsigned bar, uint64_t off, uint64_t val,
			  unsigned size);
	/* May be NULL: before a configuration read, after a write (bus->lock held). */
	void (*cfg_reading)(struct pci_fn *f, unsigned off, unsigned size);
	void (*cfg_written)(struct pci_fn *f, unsigned off, unsigned size);
};

struct pci_bus;
struct pci_fn {
	const char *name;
	struct pci_bus *bus;
	const struct pci_fn_ops *ops;
	uint8_t slot;
	uint8_t cfg[PCI_CFG_SIZE], wmask[PCI_CFG_SIZE];
	uint8_t cap_next, cap_last; /* where the next capability goes; the last one's offset */
	struct pci_bar bar[PCI_BARS];
	pthread_mutex_t irq_lock;
	struct pci_msix msix;
	bool intx_wanted, intx_driven; /* what the device asks; what the line gets from us */
	bool master;		       /* atomic copy of the command register's bit */
};

struct pci_id {
	uint16_t vendor, device, subvendor, subsystem;
	uint32_t class_code; /* 24 bits: class, subclass, interface */
	uint8_t revision;
	bool intx; /* uses INTA */
};

/* Building a function: init, then BARs and capabilities, then attach. Before the vCPUs run. */
void pci_fn_init(struct pci_fn *f, const char *name, const struct pci_id *id,
		 const struct pci_fn_ops *ops);
void pci_fn_bar(struct pci_fn *f, unsigned index, enum pci_bar_kind kind, uint64_t size);
/* A capability of len bytes (header included): its offset, or -ENOSPC. */
int pci_fn_cap(struct pci_fn *f, uint8_t id, unsigned len) MUST_CHECK;
/* n vectors, table and pending bits at offsets of an existing BAR. */
int pci_fn_msix(struct pci_fn *f, unsigned n, unsigned bar, uint32_t table_off,
		uint32_t pba_off) MUST_CHECK;
/* slot < 0: the first free one. Gives every BAR its address. */
int pci_fn_attach(struct pci_fn *f, struct pci_bus *bus, int slot, struct err *e) MUST_CHECK;
void pci_fn_detach(struct pci_fn *f);
void pci_fn_reset(struct pci_fn *f);

/* Interrupts; any thread. notify: 0 ≤ vector < n, others are ignored. */
bool pci_msix_enabled(const struct pci_fn *f);
void pci_msix_notify(struct pci_fn *f, unsigned vector);
void pci_intx_set(struct pci_fn *f, bool level);
static inline bool pci_fn_master(const struct pci_fn *f)
{
	return __atomic_load_n(&f->master, __ATOMIC_RELAXED);
}

/* The GSI of a slot's interrupt pin (0 = INTA … 3 = INTD): what the ACPI _PRT must say. */
static inline unsigned pci_intx_gsi(unsigned slot, unsigned pin)
{
	return PCI_INTX_GSI + (slot + pin) % PCI_INTX_GSIS;
}

/* Configuration accesses as a vCPU makes them; size 1, 2 or 4, not crossing a dword. */
uint32_t pci_cfg_read(struct pci_bus *bus, unsigned slot, unsigned func, unsigned off,
		      unsigned size);
void pci_cfg_write(struct pci_bus *bus, unsigned slot, unsigned func, unsigned off, uint32_t val,
		   unsigned size);

/* What the machine says about the host bridge. All addresses are guest-physical. */
struct pci_host_cfg {
	gpa_t ecam_base; /* 1 MiB for the one bus; 0: none */
	gpa_t mem_base;	 /* window below 4 GiB */
	uint64_t mem_size;
	gpa_t mem64_base; /* window above RAM; size 0: none */
	uint64_t mem64_size;
	uint16_t io_base, io_size; /* port window; size 0: none */
	/* A guest wrote "reset" to port 0xcf9. May be NULL. */
	void (*reset_request)(void *opaque);
	void *opaque;
};
extern const struct dev_class pci_host_class; /* cfg: struct pci_host_cfg */
struct pci_bus *pci_host_bus(struct dev *d);

#endif
