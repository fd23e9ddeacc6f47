/* SPDX-License-Identifier: Apache-2.0 */
/* The address map, told to the memory map and, through struct fw_layout, to the firmware tables. */
#include <errno.h>

#include "dev/pci/pci.h"
#include "machine/machine_priv.h"

static int add_ram(struct machine *m, struct err *e)
{
	const struct fw_layout *l = &m->layout;
	int r = mem_ram_create(m->mem, m->cfg.memory, e);

	if (r)
		return r;
	r = mem_add_ram(m->mem, "ram-low", 0, 0, l->ram_low);
	if (!r && l->ram_high)
		r = mem_add_ram(m->mem, "ram-high", 4 * GiB, l->ram_low, l->ram_high);
	return r ? err_set(e, r, "cannot place the guest's RAM") : 0;
}

int machine_layout(struct machine *m, struct err *e)
{
	struct fw_layout *l = &m->layout;
	uint64_t top, limit = 1ull << m->cpuid.phys_bits;

	l->ram_low = MIN(m->cfg.memory, MACHINE_LOW_RAM_END);
	l->ram_high = m->cfg.memory - l->ram_low;
	l->cpus = m->cfg.cpus;
	l->ecam_base = MACHINE_ECAM_BASE;
	l->ecam_size = MACHINE_ECAM_SIZE;
	l->pci32_base = MACHINE_PCI32_BASE;
	l->pci32_end = MACHINE_PCI32_END;
	top = ALIGN_UP(4 * GiB + l->ram_high, GiB);
	if (top + MACHINE_PCI64_SIZE > limit)
		return err_set(e, -E2BIG,
			       "memory: %llu GiB is more than this CPU's %u address bits allow",
			       (unsigned long long)(m->cfg.memory / GiB), m->cpuid.phys_bits);
	l->pci64_base = top;
	l->pci64_end = top + MACHINE_PCI64_SIZE;
	l->pci_gsi = PCI_INTX_GSI;
	l->pci_gsis = PCI_INTX_GSIS;
	l->ioapic_base = MACHINE_IOAPIC_BASE;
	l->lapic_base = MACHINE_LAPIC_BASE;
	l->ioapic_id = 0;
	l->pm_base = MACHINE_PM_BASE;
	l->sci_gsi = MACHINE_SCI_GSI;
	l->pm_timer32 = true;
	l->com1 = true;
	return add_ram(m, e);
}
