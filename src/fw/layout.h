/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What firmware code must know of the board: where RAM ends, where PCI lies, how many CPUs there are.
 * The machine fills it; ACPI, e820 and the boot loaders read it. Also the few fixed addresses in the
 * first MiB that the loaders use. No threads.
 */
#ifndef R3_FW_LAYOUT_H
#define R3_FW_LAYOUT_H

#include "base/base.h"
#include "mem/mem.h"

struct fw_layout {
	uint64_t ram_low;  /* bytes of RAM from address 0 */
	uint64_t ram_high; /* bytes of RAM from 4 GiB; 0: none */
	unsigned cpus;	   /* APIC ids 0 … cpus - 1 */
	gpa_t ecam_base;   /* PCI configuration space, 1 MiB a bus */
	uint64_t ecam_size;
	gpa_t pci32_base, pci32_end; /* BAR windows, end exclusive */
	gpa_t pci64_base, pci64_end;
	unsigned pci_gsi, pci_gsis; /* pin p of slot s is wired to pci_gsi + (s + p) % pci_gsis */
	gpa_t ioapic_base, lapic_base;
	unsigned ioapic_id;
	uint16_t pm_base; /* PM1a event +0, control +4, timer +8 */
	unsigned sci_gsi;
	bool pm_timer32;
	bool i8042; /* a PS/2 controller with a keyboard is there */
	bool com1;
};

/* Fixed places in low memory. */
#define FW_GDT_ADDR 0x500ull
#define FW_PVH_INFO_ADDR 0x6000ull
#define FW_ZERO_PAGE_ADDR 0x7000ull
#define FW_STACK_TOP 0x8ff0ull
#define FW_PAGE_TABLE_ADDR 0x9000ull /* PML4, PDPT, four PDs */
#define FW_CMDLINE_ADDR 0x20000ull
#define FW_CMDLINE_MAX 0x10000ull
#define FW_EBDA_ADDR 0x9fc00ull
#define FW_ACPI_ADDR 0xe0000ull
#define FW_ACPI_SIZE 0x10000ull
#define FW_SMBIOS_ADDR 0xf0000ull
#define FW_SMBIOS_SIZE 0x10000ull
#define FW_HIGH_MEM 0x100000ull

#endif
