/* SPDX-License-Identifier: Apache-2.0 */
/* Builds the guest's memory map from the board's layout. */
#include "fw/e820.h"

static unsigned add(struct fw_e820_entry *table, unsigned n, uint64_t from, uint64_t to,
		    enum fw_e820_type type)
{
	if (from >= to || n >= FW_E820_MAX)
		return n;
	table[n] = (struct fw_e820_entry){ .addr = from, .size = to - from, .type = type };
	return n + 1;
}

unsigned fw_e820_build(struct fw_e820_entry table[FW_E820_MAX], const struct fw_layout *l)
{
	unsigned n = 0;

	n = add(table, n, 0, FW_EBDA_ADDR, FW_E820_RAM);
	n = add(table, n, FW_EBDA_ADDR, 0xa0000, FW_E820_RESERVED);
	n = add(table, n, FW_ACPI_ADDR, FW_HIGH_MEM, FW_E820_RESERVED);
	n = add(table, n, FW_HIGH_MEM, l->ram_low, FW_E820_RAM);
	n = add(table, n, l->ecam_base, l->ecam_base + l->ecam_size, FW_E820_RESERVED);
	n = add(table, n, 4 * GiB, 4 * GiB + l->ram_high, FW_E820_RAM);
	return n;
}
