/* SPDX-License-Identifier: Apache-2.0 */
/* The DSDT: what cannot be found by probing. Power-off state, PCI root, its interrupts, old devices. */
#include <errno.h>

#include "fw/acpi.h"
#include "fw/aml.h"

static void put_s5(struct aml *a)
{
	aml_name(a, "\\_S5_");
	aml_package(a, 4);
	aml_int(a, 5); /* SLP_TYP for PM1a */
	aml_int(a, 5);
	aml_int(a, 0);
	aml_int(a, 0);
	aml_end(a);
}

/* INTA…INTD of slots 0…31, wired round-robin to a few GSIs. */
static void put_prt(struct aml *a, const struct fw_layout *l)
{
	aml_name(a, "_PRT");
	aml_package(a, 128);
	for (unsigned slot = 0; slot < 32; slot++)
		for (unsigned pin = 0; pin < 4; pin++) {
			aml_package(a, 4);
			aml_int(a, (uint64_t)slot << 16 | 0xffff);
			aml_int(a, pin);
			aml_int(a, 0);
			aml_int(a, l->pci_gsi + (slot + pin) % l->pci_gsis);
			aml_end(a);
		}
	aml_end(a);
}

static void put_pci_crs(struct aml *a, const struct fw_layout *l)
{
	aml_name(a, "_CRS");
	aml_res_begin(a);
	aml_res_bus(a, 0, (uint16_t)(l->ecam_size / MiB - 1));
	aml_res_io(a, 0xcf8, 8);
	aml_res_io_window(a, 0, 0xcf7);
	aml_res_io_window(a, 0xd00, 0xffff);
	aml_res_mem32_window(a, (uint32_t)l->pci32_base, (uint32_t)(l->pci32_end - 1));
	if (l->pci64_end > l->pci64_base)
		aml_res_mem64_window(a, l->pci64_base, l->pci64_end - 1);
	aml_res_end(a);
}

static void put_pci(struct aml *a, const struct fw_layout *l)
{
	aml_device(a, "PCI0");
	aml_name(a, "_HID");
	aml_eisaid(a, "PNP0A08");
	aml_name(a, "_CID");
	aml_eisaid(a, "PNP0A03");
	aml_name(a, "_SEG");
	aml_int(a, 0);
	aml_name(a, "_BBN");
	aml_int(a, 0);
	aml_name(a, "_UID");
	aml_int(a, 0);
	put_pci_crs(a, l);
	put_prt(a, l);
	aml_method(a, "_OSC", 4); /* grants what is asked for */
	aml_return_arg(a, 3);
	aml_end(a);
	aml_end(a);
}

/* A device with one port range and one ISA interrupt. */
static void put_isa(struct aml *a, const char *name, const char *id, uint16_t port, uint8_t count,
		    unsigned irq)
{
	aml_device(a, name);
	aml_name(a, "_HID");
	aml_eisaid(a, id);
	aml_name(a, "_STA");
	aml_int(a, 0xf);
	aml_name(a, "_CRS");
	aml_res_begin(a);
	aml_res_io(a, port, count);
	aml_res_irq(a, irq);
	aml_res_end(a);
	aml_end(a);
}

static void put_keyboard(struct aml *a)
{
	aml_device(a, "KBD_");
	aml_name(a, "_HID");
	aml_eisaid(a, "PNP0303");
	aml_name(a, "_STA");
	aml_int(a, 0xf);
	aml_name(a, "_CRS");
	aml_res_begin(a);
	aml_res_io(a, 0x60, 1);
	aml_res_io(a, 0x64, 1);
	aml_res_irq(a, 1);
	aml_res_end(a);
	aml_end(a);
}

/* Claims what belongs to no driver, so that nothing else is put there. */
static void put_board(struct aml *a, const struct fw_layout *l)
{
	aml_device(a, "MBRD");
	aml_name(a, "_HID");
	aml_eisaid(a, "PNP0C02");
	aml_name(a, "_UID");
	aml_int(a, 0);
	aml_name(a, "_CRS");
	aml_res_begin(a);
	aml_res_mem32(a, (uint32_t)l->ecam_base, (uint32_t)l->ecam_size);
	aml_res_io(a, l->pm_base, 0x10);
	aml_res_end(a);
	aml_end(a);
}

int64_t fw_dsdt_build(uint8_t *buf, size_t cap, const struct fw_layout *l)
{
	struct aml a;

	aml_init(&a, buf, cap);
	put_s5(&a);
	aml_scope(&a, "\\_SB_");
	put_board(&a, l);
	put_pci(&a, l);
	aml_end(&a);
	aml_scope(&a, "\\_SB_.PCI0");
	put_isa(&a, "RTC_", "PNP0B00", 0x70, 2, 8);
	if (l->com1)
		put_isa(&a, "COM1", "PNP0501", 0x3f8, 8, 4);
	if (l->i8042)
		put_keyboard(&a);
	aml_end(&a);
	return a.overflow ? -ENOSPC : (int64_t)a.len;
}
