/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host bridge: configuration mechanism #1 (PCI 3.0, 3.2.2.3.2) at ports 0xcf8 and 0xcfc, the
 * reset register at 0xcf9, the enhanced mechanism in memory, and the bridge's own function in slot
 * 0, which carries the ids of Intel's Q35 so that firmware and kernels trust the memory mechanism.
 * bus->lock guards the address register too.
 */
#include "dev/pci/pci_priv.h"

#include <errno.h>
#include <string.h>

enum {
	PORT_ADDRESS = 0xcf8,
	PORT_DATA = 0xcfc,
	ADDRESS_ENABLE = 31,
	RESET_OFFSET = 1, /* port 0xcf9 */
	RESET_DO = 4,
	ECAM_BUS_SIZE = 1 << 20,
	BRIDGE_PCIEXBAR = 0x60,
};

static uint32_t address_get(struct pci_bus *b)
{
	uint32_t a;

	pthread_mutex_lock(&b->lock);
	a = b->address;
	pthread_mutex_unlock(&b->lock);
	return a;
}

/* Only dword accesses reach the address register; bytes are other ports of the chip. */
static uint32_t addr_read(void *opaque, uint16_t off, unsigned size)
{
	struct pci_bus *b = opaque;

	if (off == 0 && size == 4)
		return address_get(b);
	return off == RESET_OFFSET && size == 1 ? 0 : UINT32_MAX;
}

static void addr_write(void *opaque, uint16_t off, uint32_t val, unsigned size)
{
	struct pci_bus *b = opaque;

	if (off == 0 && size == 4) {
		pthread_mutex_lock(&b->lock);
		b->address = val & ~0x7f000003u;
		pthread_mutex_unlock(&b->lock);
	} else if (off == RESET_OFFSET && size == 1 && (val & RESET_DO) &&
		   b->cfg.reset_request != NULL) {
		b->cfg.reset_request(b->cfg.opaque);
	}
}

static bool address_split(uint32_t a, unsigned *slot, unsigned *func, unsigned *reg)
{
	*slot = (a >> 11) & 31;
	*func = (a >> 8) & 7;
	*reg = a & 0xfc;
	return (a & BIT(ADDRESS_ENABLE)) && ((a >> 16) & 0xff) == 0; /* the one bus is bus 0 */
}

static uint32_t data_read(void *opaque, uint16_t off, unsigned size)
{
	unsigned slot, func, reg;
	struct pci_bus *b = opaque;

	if (!address_split(address_get(b), &slot, &func, &reg))
		return UINT32_MAX;
	return pci_cfg_read(b, slot, func, reg + off, size);
}

static void data_write(void *opaque, uint16_t off, uint32_t val, unsigned size)
{
	unsigned slot, func, reg;
	struct pci_bus *b = opaque;

	if (address_split(address_get(b), &slot, &func, &reg))
		pci_cfg_write(b, slot, func, reg + off, val, size);
}

static uint64_t ecam_read(void *opaque, uint64_t off, unsigned size)
{
	struct pci_bus *b = opaque;

	if (size > 4)
		return UINT64_MAX;
	return pci_cfg_read(b, (unsigned)(off >> 15) & 31, (unsigned)(off >> 12) & 7,
			    (unsigned)off & 0xfff, size);
}

static void ecam_write(void *opaque, uint64_t off, uint64_t val, unsigned size)
{
	struct pci_bus *b = opaque;

	if (size <= 4)
		pci_cfg_write(b, (unsigned)(off >> 15) & 31, (unsigned)(off >> 12) & 7,
			      (unsigned)off & 0xfff, (uint32_t)val, size);
}

static const struct pio_ops addr_ops = { addr_read, addr_write };
static const struct pio_ops data_ops = { data_read, data_write };
static const struct mem_io_ops ecam_ops = { ecam_read, ecam_write };

static int ecam_add(struct pci_bus *b, struct err *e)
{
	int r;

	if (b->cfg.ecam_base == 0)
		return 0;
	b->ecam = (struct mem_region){ .name = "pci-ecam",
				       .base = b->cfg.ecam_base,
				       .size = ECAM_BUS_SIZE,
				       .fd = -1,
				       .ops = &ecam_ops,
				       .opaque = b };
	r = mem_region_add(b->bus->mem, &b->ecam);
	return r < 0 ? err_set(e, r, "PCI ECAM at %#llx overlaps something",
			       (unsigned long long)b->cfg.ecam_base)
		     : 0;
}

static int ports_add(struct pci_bus *b, struct err *e)
{
	int r;

	b->addr_ports = (struct pio_range){ .name = "pci-address",
					    .base = PORT_ADDRESS,
					    .count = 4,
					    .ops = &addr_ops,
					    .opaque = b };
	b->data_ports = (struct pio_range){
		.name = "pci-data", .base = PORT_DATA, .count = 4, .ops = &data_ops, .opaque = b
	};
	r = bus_pio_add(b->bus, &b->addr_ports);
	if (r == 0) {
		r = bus_pio_add(b->bus, &b->data_ports);
		if (r < 0)
			bus_pio_remove(b->bus, &b->addr_ports);
	}
	return r < 0 ? err_set(e, r, "PCI: ports 0xcf8-0xcff are taken") : 0;
}

static int bridge_add(struct pci_bus *b, struct err *e)
{
	static const struct pci_id id = { .vendor = 0x8086,
					  .device = 0x29c0,
					  .class_code = 0x060000,
					  .subvendor = 0x8086,
					  .subsystem = 0x29c0 };

	pci_fn_init(&b->bridge, "pci-host", &id, NULL);
	if (b->cfg.ecam_base != 0) { /* base, 64 buses' worth or less, enabled */
		pci_put32(b->bridge.cfg + BRIDGE_PCIEXBAR, (uint32_t)b->cfg.ecam_base | 1);
		pci_put32(b->bridge.cfg + BRIDGE_PCIEXBAR + 4, (uint32_t)(b->cfg.ecam_base >> 32));
	}
	return pci_fn_attach(&b->bridge, b, 0, e);
}

static int host_create(struct dev *d, const void *cfg, struct err *e)
{
	struct pci_bus *b = d->priv;
	int r;

	b->bus = d->bus;
	b->cfg = *(const struct pci_host_cfg *)cfg;
	pthread_mutex_init(&b->lock, NULL);
	pthread_mutex_init(&b->intx_lock, NULL);
	r = pci_windows_add(b, e);
	if (r < 0)
		return r;
	r = ports_add(b, e);
	if (r < 0)
		goto out_windows;
	r = ecam_add(b, e);
	if (r < 0)
		goto out_ports;
	r = bridge_add(b, e);
	if (r < 0)
		goto out_ecam;
	return 0;
out_ecam:
	if (b->cfg.ecam_base != 0)
		mem_region_remove(d->bus->mem, &b->ecam);
out_ports:
	bus_pio_remove(d->bus, &b->addr_ports);
	bus_pio_remove(d->bus, &b->data_ports);
out_windows:
	pci_windows_remove(b);
	return r;
}

static void host_reset(struct dev *d)
{
	struct pci_bus *b = d->priv;

	pthread_mutex_lock(&b->lock);
	b->address = 0;
	pthread_mutex_unlock(&b->lock);
	pci_fn_reset(&b->bridge);
}

static void host_destroy(struct dev *d)
{
	struct pci_bus *b = d->priv;

	pci_fn_detach(&b->bridge);
	if (b->cfg.ecam_base != 0)
		mem_region_remove(d->bus->mem, &b->ecam);
	bus_pio_remove(d->bus, &b->addr_ports);
	bus_pio_remove(d->bus, &b->data_ports);
	pci_windows_remove(b);
	pthread_mutex_destroy(&b->intx_lock);
	pthread_mutex_destroy(&b->lock);
}

struct pci_bus *pci_host_bus(struct dev *d)
{
	return d->priv;
}

static const struct snap_field host_fields[] = {
	SNAP_FIELD(struct pci_bus, address),
	SNAP_FIELD(struct pci_bus, bridge.cfg),
	SNAP_END,
};

const struct dev_class pci_host_class = {
	.name = "pci-host",
	.priv_size = sizeof(struct pci_bus),
	.create = host_create,
	.reset = host_reset,
	.destroy = host_destroy,
	.fields = host_fields,
};
