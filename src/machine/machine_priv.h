/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the board: one create function per device family, in the order of machine_devs[]. */
#ifndef R3_MACHINE_PRIV_H
#define R3_MACHINE_PRIV_H

#include "machine/machine.h"

#define MACHINE_LOW_RAM_END 0xb0000000ull
#define MACHINE_ECAM_BASE 0xb0000000ull
#define MACHINE_ECAM_SIZE (1 * MiB)
#define MACHINE_PCI32_BASE 0xc0000000ull
#define MACHINE_PCI32_END 0xfec00000ull
#define MACHINE_PCI64_SIZE (64 * GiB)
#define MACHINE_IOAPIC_BASE 0xfec00000ull
#define MACHINE_LAPIC_BASE 0xfee00000ull
#define MACHINE_PM_BASE 0x600
#define MACHINE_SCI_GSI 9
#define MACHINE_PCI_IO_BASE 0xc000
#define MACHINE_PCI_IO_SIZE 0x4000

struct machine_dev {
	const char *name;
	int (*create)(struct machine *m, struct err *e);
	void (*destroy)(struct machine *m); /* what dev_destroy_all does not; may be NULL */
};
extern const struct machine_dev machine_devs[]; /* NULL-named end */

/* What --disk and --net say (options.c). */
struct machine_disk_opts {
	char path[4096];
	char serial[21];
	bool readonly;
	int aio; /* enum blk_aio */
};

enum machine_net_kind { MACHINE_NET_USER, MACHINE_NET_NONE };
struct machine_net_opts {
	int kind;
	struct cfg_list forward;
	char mac[18], hostname[64];
	int64_t mtu;
	bool restricted;
};

/* layout.c: fills m->layout from the configuration and adds the RAM regions. */
int machine_layout(struct machine *m, struct err *e) MUST_CHECK;

/* legacy.c */
int machine_legacy_create(struct machine *m, struct err *e) MUST_CHECK;
void machine_legacy_destroy(struct machine *m);
void machine_legacy_power_button(struct machine *m);
size_t machine_legacy_serial_in(struct machine *m, const uint8_t *buf, size_t n);
/* pci.c */
int machine_pci_create(struct machine *m, struct err *e) MUST_CHECK;
/* virtio.c */
int machine_virtio_create(struct machine *m, struct err *e) MUST_CHECK;
void machine_virtio_destroy(struct machine *m);
void machine_virtio_flush(struct machine *m);
size_t machine_virtio_console_in(struct machine *m, const uint8_t *buf, size_t n);

#endif
