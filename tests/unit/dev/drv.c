/* SPDX-License-Identifier: Apache-2.0 */
/* The driver half of virtio for tests; see drv.h. Aborts on what a test did not mean to test. */
#include "drv.h"

#include <linux/virtio_pci.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(x)                                                                                    \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static void on_line(void *opaque, unsigned gsi, int level)
{
	struct drv_machine *m = opaque;

	MUST(gsi < ARRAY_SIZE(m->gsi_level));
	if (level && !m->gsi_level[gsi])
		m->gsi_rises[gsi]++;
	m->gsi_level[gsi] = level;
}

static void on_msi(void *opaque, uint64_t addr, uint32_t data)
{
	struct drv_machine *m = opaque;

	if (addr == DRV_MSI && data < ARRAY_SIZE(m->msi_count))
		__atomic_add_fetch(&m->msi_count[data], 1, __ATOMIC_SEQ_CST);
	else
		m->msi_odd++;
}

static void on_dma(struct mem_listener *l, gpa_t a, uint64_t len)
{
	(void)a;
	container_of(l, struct drv_machine, listener)->dma_bytes += len;
}

static void on_reset(void *opaque)
{
	((struct drv_machine *)opaque)->reset_asked = true;
}

void drv_machine_init(struct drv_machine *m)
{
	const struct pci_host_cfg cfg = {
		.ecam_base = DRV_ECAM,
		.mem_base = DRV_MMIO,
		.mem_size = DRV_MMIO_SIZE,
		.mem64_base = DRV_MMIO64,
		.mem64_size = 1ull << 32,
		.io_base = 0xc000,
		.io_size = 0x1000,
		.reset_request = on_reset,
		.opaque = m,
	};
	struct err e = { 0 };

	memset(m, 0, sizeof(*m));
	m->mem = mem_map_new();
	MUST(m->mem != NULL && mem_ram_create(m->mem, DRV_RAM, &e) == 0);
	MUST(mem_add_ram(m->mem, "ram", 0, 0, DRV_RAM) == 0);
	m->listener.dma_written = on_dma;
	mem_listener_add(m->mem, &m->listener);
	m->bus = bus_new(m->mem);
	m->bus->irq = (struct irq_ops){ on_line, on_msi, m };
	m->host = dev_create(&m->devs, m->bus, &pci_host_class, "pci-host", &cfg, &e);
	MUST(m->host != NULL);
	m->pci = pci_host_bus(m->host);
}

void drv_machine_fini(struct drv_machine *m)
{
	dev_destroy_all(&m->devs);
	mem_listener_remove(m->mem, &m->listener);
	bus_free(m->bus);
	mem_map_free(m->mem);
}

uint8_t *drv_mem(struct drv_machine *m, gpa_t a, uint64_t len)
{
	uint8_t *p = mem_ptr(m->mem, a, len, true);

	MUST(p != NULL);
	return p;
}

void drv_ring_init(struct drv_ring *r, struct drv_machine *m, unsigned n, unsigned size)
{
	memset(r, 0, sizeof(*r));
	r->m = m;
	r->size = size;
	r->desc = DRV_RINGS + n * DRV_RING_STEP;
	r->avail = r->desc + 0x1000;
	r->used = r->desc + 0x2000;
	memset(drv_mem(m, r->desc, DRV_RING_STEP), 0, DRV_RING_STEP);
}

void drv_desc(struct drv_ring *r, gpa_t table, unsigned i, gpa_t addr, uint32_t len, uint16_t flags,
	      uint16_t next)
{
	const gpa_t at = table + 16 * i;

	mem_store(r->m->mem, at, addr, 8);
	mem_store(r->m->mem, at + 8, len, 4);
	mem_store(r->m->mem, at + 12, flags, 2);
	mem_store(r->m->mem, at + 14, next, 2);
}

void drv_avail(struct drv_ring *r, uint16_t head)
{
	mem_store(r->m->mem, r->avail + 4 + 2 * (r->next_avail % r->size), head, 2);
	r->next_avail++;
	mem_store(r->m->mem, r->avail + 2, r->next_avail, 2);
}

uint16_t drv_add(struct drv_ring *r, const struct drv_seg *s, unsigned n)
{
	const uint16_t head = (uint16_t)(r->next_desc % r->size);

	for (unsigned i = 0; i < n; i++) {
		uint16_t at = (uint16_t)(r->next_desc++ % r->size);
		uint16_t flags = (uint16_t)((i + 1 < n ? 1 : 0) | (s[i].write ? 2 : 0));

		drv_desc(r, r->desc, at, s[i].addr, s[i].len, flags,
			 (uint16_t)((at + 1u) % r->size));
	}
	drv_avail(r, head);
	return head;
}

uint16_t drv_add_indirect(struct drv_ring *r, gpa_t table, const struct drv_seg *s, unsigned n)
{
	const uint16_t head = (uint16_t)(r->next_desc++ % r->size);

	for (unsigned i = 0; i < n; i++)
		drv_desc(r, table, i, s[i].addr, s[i].len,
			 (uint16_t)((i + 1 < n ? 1 : 0) | (s[i].write ? 2 : 0)), (uint16_t)(i + 1));
	drv_desc(r, r->desc, head, table, 16 * n, 4, 0);
	drv_avail(r, head);
	return head;
}

bool drv_used(struct drv_ring *r, uint32_t *id, uint32_t *len)
{
	const gpa_t at = r->used + 4 + 8 * (r->seen_used % r->size);

	if ((uint16_t)mem_load(r->m->mem, r->used + 2, 2) == r->seen_used)
		return false;
	*id = (uint32_t)mem_load(r->m->mem, at, 4);
	*len = (uint32_t)mem_load(r->m->mem, at + 4, 4);
	r->seen_used++;
	mem_store(r->m->mem, r->avail + 4 + 2 * r->size, r->seen_used, 2); /* used_event */
	return true;
}

static gpa_t cfg_addr(unsigned slot, unsigned off)
{
	return DRV_ECAM + ((gpa_t)slot << 15) + off;
}

uint32_t drv_cfg_read(struct drv_machine *m, unsigned slot, unsigned off, unsigned size)
{
	return (uint32_t)mem_load(m->mem, cfg_addr(slot, off), size);
}

void drv_cfg_write(struct drv_machine *m, unsigned slot, unsigned off, uint32_t v, unsigned size)
{
	mem_store(m->mem, cfg_addr(slot, off), v, size);
}

static void part_note(struct drv *d, unsigned cap, gpa_t base)
{
	const gpa_t at = base + drv_cfg_read(d->m, d->slot, cap + VIRTIO_PCI_CAP_OFFSET, 4);

	switch (drv_cfg_read(d->m, d->slot, cap + VIRTIO_PCI_CAP_CFG_TYPE, 1)) {
	case VIRTIO_PCI_CAP_COMMON_CFG: d->common = at; break;
	case VIRTIO_PCI_CAP_NOTIFY_CFG:
		d->notify = at;
		d->notify_step = drv_cfg_read(d->m, d->slot, cap + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);
		break;
	case VIRTIO_PCI_CAP_ISR_CFG: d->isr = at; break;
	case VIRTIO_PCI_CAP_DEVICE_CFG: d->device = at; break;
	default: break;
	}
}

void drv_probe(struct drv *d, struct drv_machine *m, unsigned slot)
{
	gpa_t base;

	memset(d, 0, sizeof(*d));
	d->m = m;
	d->slot = slot;
	MUST(drv_cfg_read(m, slot, 0, 2) == 0x1af4);
	drv_cfg_write(m, slot, PCI_CFG_COMMAND, PCI_CMD_MEM | PCI_CMD_MASTER, 2);
	base = drv_cfg_read(m, slot, PCI_CFG_BAR0, 4) & ~15u;
	for (unsigned c = drv_cfg_read(m, slot, PCI_CFG_CAPS, 1); c != 0;
	     c = drv_cfg_read(m, slot, c + 1, 1)) {
		if (drv_cfg_read(m, slot, c, 1) == PCI_CAP_VENDOR)
			part_note(d, c, base);
	}
	MUST(d->common != 0 && d->isr != 0 && d->notify != 0);
}

uint64_t drv_features(struct drv *d)
{
	uint64_t f;

	mem_store(d->m->mem, d->common + VIRTIO_PCI_COMMON_DFSELECT, 0, 4);
	f = mem_load(d->m->mem, d->common + VIRTIO_PCI_COMMON_DF, 4);
	mem_store(d->m->mem, d->common + VIRTIO_PCI_COMMON_DFSELECT, 1, 4);
	return f | mem_load(d->m->mem, d->common + VIRTIO_PCI_COMMON_DF, 4) << 32;
}

static void msix_on(struct drv *d, unsigned vectors)
{
	unsigned c = drv_cfg_read(d->m, d->slot, PCI_CFG_CAPS, 1);
	gpa_t table;

	while (c != 0 && drv_cfg_read(d->m, d->slot, c, 1) != PCI_CAP_MSIX)
		c = drv_cfg_read(d->m, d->slot, c + 1, 1);
	MUST(c != 0);
	table = (drv_cfg_read(d->m, d->slot, PCI_CFG_BAR0, 4) & ~15u) +
		(drv_cfg_read(d->m, d->slot, c + 4, 4) & ~7u);
	for (unsigned i = 0; i < vectors; i++) {
		mem_store(d->m->mem, table + 16 * i, DRV_MSI, 8);
		mem_store(d->m->mem, table + 16 * i + 8, i, 4);
		mem_store(d->m->mem, table + 16 * i + 12, 0, 4);
	}
	drv_cfg_write(d->m, d->slot, c + 2, 0x8000, 2);
}

static void queue_start(struct drv *d, unsigned q, bool msix)
{
	struct drv_ring *r = &d->ring[q];
	struct mem_map *mem = d->m->mem;
	unsigned max;

	mem_store(mem, d->common + VIRTIO_PCI_COMMON_Q_SELECT, q, 2);
	max = (unsigned)mem_load(mem, d->common + VIRTIO_PCI_COMMON_Q_SIZE, 2);
	drv_ring_init(r, d->m, q, MIN(max, (unsigned)DRV_QSIZE));
	mem_store(mem, d->common + VIRTIO_PCI_COMMON_Q_SIZE, r->size, 2);
	if (msix)
		mem_store(mem, d->common + VIRTIO_PCI_COMMON_Q_MSIX, q + 1, 2);
	mem_store(mem, d->common + VIRTIO_PCI_COMMON_Q_DESCLO, r->desc, 4);
	mem_store(mem, d->common + VIRTIO_PCI_COMMON_Q_DESCHI, 0, 4);
	mem_store(mem, d->common + VIRTIO_PCI_COMMON_Q_AVAILLO, r->avail, 4);
	mem_store(mem, d->common + VIRTIO_PCI_COMMON_Q_AVAILHI, 0, 4);
	mem_store(mem, d->common + VIRTIO_PCI_COMMON_Q_USEDLO, r->used, 4);
	mem_store(mem, d->common + VIRTIO_PCI_COMMON_Q_USEDHI, 0, 4);
	mem_store(mem, d->common + VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
}

void drv_start(struct drv *d, uint64_t want, unsigned queues, bool msix)
{
	const uint64_t f = drv_features(d) & (want | VIRTIO_FT_VERSION_1);
	struct mem_map *mem = d->m->mem;
	const gpa_t status = d->common + VIRTIO_PCI_COMMON_STATUS;

	mem_store(mem, status, 0, 1);
	MUST(drv_status(d) == 0);
	mem_store(mem, status, 3, 1);
	mem_store(mem, d->common + VIRTIO_PCI_COMMON_GFSELECT, 0, 4);
	mem_store(mem, d->common + VIRTIO_PCI_COMMON_GF, f & 0xffffffff, 4);
	mem_store(mem, d->common + VIRTIO_PCI_COMMON_GFSELECT, 1, 4);
	mem_store(mem, d->common + VIRTIO_PCI_COMMON_GF, f >> 32, 4);
	mem_store(mem, status, 11, 1);
	MUST(drv_status(d) == 11);
	if (msix) {
		msix_on(d, queues + 1);
		mem_store(mem, d->common + VIRTIO_PCI_COMMON_MSIX, 0, 2);
	}
	for (unsigned q = 0; q < queues; q++)
		queue_start(d, q, msix);
	mem_store(mem, status, 15, 1);
}

uint8_t drv_status(struct drv *d)
{
	return (uint8_t)mem_load(d->m->mem, d->common + VIRTIO_PCI_COMMON_STATUS, 1);
}

void drv_kick(struct drv *d, unsigned q)
{
	mem_store(d->m->mem, d->notify + d->notify_step * q, q, 2);
}
