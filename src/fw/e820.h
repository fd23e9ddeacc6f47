/* SPDX-License-Identifier: Apache-2.0 */
/* The memory map handed to the guest (ACPI 6.4, 15: "System Address Map Interfaces"). No threads. */
#ifndef R3_FW_E820_H
#define R3_FW_E820_H

#include "fw/layout.h"

enum fw_e820_type { FW_E820_RAM = 1, FW_E820_RESERVED = 2, FW_E820_ACPI = 3 };

struct fw_e820_entry {
	uint64_t addr, size;
	uint32_t type;
} __attribute__((packed));

#define FW_E820_MAX 16

/* Fills the table in ascending, non-overlapping order; returns the number of entries. */
unsigned fw_e820_build(struct fw_e820_entry table[FW_E820_MAX], const struct fw_layout *l);

#endif
