/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI host bridge and its windows. */
#include "dev/pci/pci.h"

#include "machine/machine_priv.h"

static void on_reset(void *opaque)
{
	struct machine *m = opaque;

	m->host.reset(m->host.opaque);
}

int machine_pci_create(struct machine *m, struct err *e)
{
	const struct fw_layout *l = &m->layout;
	const struct pci_host_cfg cfg = {
		.ecam_base = l->ecam_base,
		.mem_base = l->pci32_base,
		.mem_size = l->pci32_end - l->pci32_base,
		.mem64_base = l->pci64_base,
		.mem64_size = l->pci64_end - l->pci64_base,
		.io_base = MACHINE_PCI_IO_BASE,
		.io_size = MACHINE_PCI_IO_SIZE,
		.reset_request = on_reset,
		.opaque = m,
	};
	struct dev *d = dev_create(&m->devs, m->bus, &pci_host_class, "pci", &cfg, e);

	if (!d)
		return e->code;
	m->pci = pci_host_bus(d);
	return 0;
}
