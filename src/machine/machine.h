/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The board: what there is, at which address, wired to which interrupt. Only wiring lives here; behaviour
 * is in dev/, addresses are in layout.c. Created, reset and destroyed by the loop's thread while no
 * vCPU runs.
 *
 *	0x00000000  RAM up to 0xb0000000 (the first MiB holds firmware tables)
 *	0xb0000000  PCI configuration space (ECAM)
 *	0xc0000000  PCI memory window, up to the IOAPIC at 0xfec00000; local APICs at 0xfee00000
 *	4 GiB       the rest of RAM, then the 64-bit PCI window
 */
#ifndef R3_MACHINE_MACHINE_H
#define R3_MACHINE_MACHINE_H

#include "base/err.h"
#include "bus/bus.h"
#include "config/config.h"
#include "cpu/irqchip/irqchip.h"
#include "fw/boot.h"
#include "loop/loop.h"
#include "x86/cpuid.h"

enum machine_console { MACHINE_SERIAL, MACHINE_VIRTIO_CONSOLE, MACHINE_CONSOLES };

#define MACHINE_DEVS_MAX 8 /* disks, and network devices */
#define MACHINE_CPUS_MAX 64
#define MACHINE_MEM_MIN (16 * MiB)

struct machine_cfg {
	uint64_t memory;
	unsigned cpus;
	struct fw_boot_cfg boot;
	const char *disk[MACHINE_DEVS_MAX]; /* texts of machine_disk_class */
	const char *net[MACHINE_DEVS_MAX];  /* texts of machine_net_class */
	unsigned disks, nets;
	bool virtio_console;
	bool invtsc;
};

/* What the machine asks of its owner; any thread. */
struct machine_host {
	void (*power_off)(void *opaque);
	void (*reset)(void *opaque);
	void (*console_out)(void *opaque, enum machine_console which, const uint8_t *buf, size_t n);
	void (*console_room)(void *opaque); /* the guest has read some input */
	void *opaque;
};

struct machine_legacy;
struct machine_virtio;

struct machine {
	struct machine_cfg cfg;
	struct machine_host host;
	struct loop *loop;
	struct mem_map *mem;
	struct bus *bus;
	struct irqchip *irqchip;
	struct x86_cpuid cpuid;
	struct fw_layout layout;
	struct fw_boot *boot;
	struct dev_list devs;
	struct machine_legacy *legacy; /* legacy.c */
	struct pci_bus *pci;	       /* pci.c */
	struct machine_virtio *virtio; /* virtio.c */
};

/* The keys of --disk and --net. */
extern const struct cfg_class machine_disk_class, machine_net_class;

struct machine *machine_create(const struct machine_cfg *cfg, struct loop *loop,
			       const struct machine_host *host, struct err *e) MUST_CHECK;
void machine_destroy(struct machine *m);

/* Every device and the interrupt controllers to their reset state. vCPU states must be reset before. */
void machine_reset(struct machine *m);
/* Empties RAM, writes the firmware tables, loads the kernel; *bsp becomes the first vCPU's state. */
int machine_load(struct machine *m, struct x86_state *bsp, struct err *e) MUST_CHECK;
/* No vCPU will run again: finishes what is in flight and makes the disks durable. */
void machine_shutdown(struct machine *m);

void machine_power_button(struct machine *m);
/* Bytes taken. */
size_t machine_console_in(struct machine *m, enum machine_console which, const uint8_t *buf,
			  size_t n);

#endif
