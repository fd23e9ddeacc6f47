/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A function's configuration space: type-0 header, BARs, capability list (PCI 3.0, chapter 6).
 * Which bits software may change is a mask beside the registers, so that BAR sizing needs no code
 * of its own. Everything here runs under bus->lock once the function is attached.
 */
#include "dev/pci/pci_priv.h"

#include <errno.h>
#include <string.h>

void pci_fn_init(struct pci_fn *f, const char *name, const struct pci_id *id,
		 const struct pci_fn_ops *ops)
{
	memset(f, 0, sizeof(*f));
	f->name = name;
	f->ops = ops;
	f->cap_next = PCI_CFG_FIRST_CAP;
	pthread_mutex_init(&f->irq_lock, NULL);
	pci_put16(f->cfg + PCI_CFG_VENDOR, id->vendor);
	pci_put16(f->cfg + PCI_CFG_DEVICE, id->device);
	pci_put16(f->cfg + PCI_CFG_SUBVENDOR, id->subvendor);
	pci_put16(f->cfg + PCI_CFG_SUBSYSTEM, id->subsystem);
	pci_put32(f->cfg + PCI_CFG_REVISION, id->revision | id->class_code << 8);
	f->cfg[PCI_CFG_INT_PIN] = id->intx ? 1 : 0;
	pci_put16(f->wmask + PCI_CFG_COMMAND,
		  PCI_CMD_IO | PCI_CMD_MEM | PCI_CMD_MASTER | PCI_CMD_INTX_OFF | 0x140);
	f->wmask[PCI_CFG_INT_LINE] = 0xff;
	f->wmask[0x0c] = 0xff; /* cache line size: kept for software, without effect */
}

static uint8_t *bar_reg(struct pci_fn *f, unsigned index)
{
	return f->cfg + PCI_CFG_BAR0 + 4 * index;
}

/* The bits below the address that tell what kind of BAR it is */
static uint32_t bar_flags(enum pci_bar_kind kind)
{
	switch (kind) {
	case PCI_BAR_IO: return 1;
	case PCI_BAR_MEM64: return 4;
	default: return 0;
	}
}

void pci_fn_bar(struct pci_fn *f, unsigned index, enum pci_bar_kind kind, uint64_t size)
{
	struct pci_bar *b = &f->bar[index];
	const uint64_t mask = ~(size - 1);
	uint8_t *w = f->wmask + PCI_CFG_BAR0 + 4 * index;

	BUG_ON(index >= PCI_BARS || (size & (size - 1)) != 0 || size < 16);
	BUG_ON(kind == PCI_BAR_MEM64 && index + 1 >= PCI_BARS);
	*b = (struct pci_bar){
		.fn = f, .index = (uint8_t)index, .kind = kind, .size = size, .mapped = PCI_UNMAPPED
	};
	pci_put32(bar_reg(f, index), bar_flags(kind));
	pci_put32(w, (uint32_t)mask);
	if (kind == PCI_BAR_MEM64)
		pci_put32(w + 4, (uint32_t)(mask >> 32));
}

int pci_fn_cap(struct pci_fn *f, uint8_t id, unsigned len)
{
	const uint8_t at = f->cap_next;

	if (len < 2 || len > (unsigned)PCI_CFG_SIZE - at)
		return -ENOSPC;
	f->cfg[at] = id;
	f->cfg[f->cap_last != 0 ? f->cap_last + 1 : PCI_CFG_CAPS] = at;
	f->cap_last = at;
	/* A list that fills the space to its end leaves no room, which 0xfc with len > 4 tells. */
	f->cap_next = (uint8_t)MIN(ALIGN_UP(at + len, 4u), 0xfcu);
	f->cfg[PCI_CFG_STATUS] |= PCI_STATUS_CAPS;
	return at;
}

static uint64_t bar_address(struct pci_fn *f, const struct pci_bar *b)
{
	const uint32_t low = pci_get32(bar_reg(f, b->index));

	if (b->kind == PCI_BAR_IO)
		return low & ~3u;
	if (b->kind == PCI_BAR_MEM64)
		return (low & ~15u) | (uint64_t)pci_get32(bar_reg(f, b->index + 1u)) << 32;
	return low & ~15u;
}

/* Brings what the BARs decode in line with the registers. */
static void bars_update(struct pci_fn *f)
{
	const uint16_t cmd = pci_get16(f->cfg + PCI_CFG_COMMAND);

	for (unsigned i = 0; i < PCI_BARS; i++) {
		struct pci_bar *b = &f->bar[i];
		const bool on = cmd & (b->kind == PCI_BAR_IO ? PCI_CMD_IO : PCI_CMD_MEM);

		if (b->kind != PCI_BAR_NONE)
			__atomic_store_n(&b->mapped, on ? bar_address(f, b) : PCI_UNMAPPED,
					 __ATOMIC_RELEASE);
	}
}

static void bar_put(struct pci_fn *f, const struct pci_bar *b, uint64_t a)
{
	pci_put32(bar_reg(f, b->index), (uint32_t)a | bar_flags(b->kind));
	if (b->kind == PCI_BAR_MEM64)
		pci_put32(bar_reg(f, b->index + 1u), (uint32_t)(a >> 32));
}

static void command_update(struct pci_fn *f)
{
	const uint16_t cmd = pci_get16(f->cfg + PCI_CFG_COMMAND);

	__atomic_store_n(&f->master, (cmd & PCI_CMD_MASTER) != 0, __ATOMIC_RELEASE);
	bars_update(f);
	pthread_mutex_lock(&f->irq_lock);
	pci_intx_update(f);
	pthread_mutex_unlock(&f->irq_lock);
}

static int slot_choose(const struct pci_bus *bus, int slot)
{
	if (slot >= PCI_SLOTS || (slot >= 0 && bus->fn[slot] != NULL))
		return -EEXIST;
	for (int i = 0; slot < 0 && i < PCI_SLOTS; i++) {
		if (bus->fn[i] == NULL)
			slot = i;
	}
	return slot >= 0 ? slot : -ENOSPC;
}

int pci_fn_attach(struct pci_fn *f, struct pci_bus *bus, int slot, struct err *e)
{
	int s = slot_choose(bus, slot);

	if (s < 0)
		return err_set(e, s, "%s: no PCI slot free (asked for %d)", f->name, slot);
	for (unsigned i = 0; i < PCI_BARS; i++) {
		int r = f->bar[i].kind != PCI_BAR_NONE ? pci_window_place(bus, &f->bar[i]) : 0;

		if (r < 0)
			return err_set(e, r, "%s: no address space left for BAR %u", f->name, i);
	}
	f->bus = bus;
	f->slot = (uint8_t)s;
	for (unsigned i = 0; i < PCI_BARS; i++) {
		if (f->bar[i].kind != PCI_BAR_NONE)
			pci_bar_register(bus, &f->bar[i]);
	}
	pthread_mutex_lock(&bus->lock);
	bus->fn[s] = f;
	pthread_mutex_unlock(&bus->lock);
	pci_fn_reset(f);
	return 0;
}

void pci_fn_detach(struct pci_fn *f)
{
	if (f->bus == NULL)
		return;
	pci_fn_reset(f);
	pthread_mutex_lock(&f->bus->lock);
	f->bus->fn[f->slot] = NULL;
	pthread_mutex_unlock(&f->bus->lock);
	for (unsigned i = 0; i < PCI_BARS; i++) {
		if (f->bar[i].kind != PCI_BAR_NONE)
			pci_bar_unregister(f->bus, &f->bar[i]);
	}
	f->bus = NULL;
	pthread_mutex_destroy(&f->irq_lock);
}

void pci_fn_reset(struct pci_fn *f)
{
	pthread_mutex_lock(&f->bus->lock);
	for (unsigned i = 0; i < PCI_CFG_SIZE; i++) {
		if (i < PCI_CFG_BAR0 || i >= PCI_CFG_BAR0 + 4 * PCI_BARS)
			f->cfg[i] = (uint8_t)(f->cfg[i] & ~f->wmask[i]);
	}
	for (unsigned i = 0; i < PCI_BARS; i++) {
		if (f->bar[i].kind != PCI_BAR_NONE)
			bar_put(f, &f->bar[i], f->bar[i].home);
	}
	if (f->cfg[PCI_CFG_INT_PIN] != 0)
		f->cfg[PCI_CFG_INT_LINE] = (uint8_t)pci_intx_gsi(f->slot, 0);
	pthread_mutex_lock(&f->irq_lock);
	f->intx_wanted = false;
	pci_msix_reset(f);
	pthread_mutex_unlock(&f->irq_lock);
	command_update(f);
	pthread_mutex_unlock(&f->bus->lock);
}

static bool cfg_valid(const struct pci_bus *bus, unsigned slot, unsigned func, unsigned off,
		      unsigned size)
{
	return slot < PCI_SLOTS && func == 0 && bus->fn[slot] != NULL && off + size <= 4096 &&
	       (off & 3) + size <= 4;
}

static uint32_t fn_cfg_read(struct pci_fn *f, unsigned off, unsigned size)
{
	uint32_t v = 0;

	if (off >= PCI_CFG_SIZE) /* no extended capabilities */
		return 0;
	if (f->ops != NULL && f->ops->cfg_reading != NULL)
		f->ops->cfg_reading(f, off, size);
	for (unsigned i = 0; i < size; i++)
		v |= (uint32_t)f->cfg[off + i] << (8 * i);
	if (off <= PCI_CFG_STATUS && off + size > PCI_CFG_STATUS &&
	    __atomic_load_n(&f->intx_wanted, __ATOMIC_RELAXED))
		v |= (uint32_t)PCI_STATUS_INTX << (8 * (PCI_CFG_STATUS - off));
	return v;
}

static bool touches(unsigned off, unsigned size, unsigned first, unsigned len)
{
	return off < first + len && off + size > first;
}

static void fn_cfg_write(struct pci_fn *f, unsigned off, uint32_t val, unsigned size)
{
	if (off >= PCI_CFG_SIZE)
		return;
	for (unsigned i = 0; i < size; i++) {
		const uint8_t w = f->wmask[off + i], new = (uint8_t)(val >> (8 * i));

		f->cfg[off + i] = (uint8_t)((f->cfg[off + i] & ~w) | (new &w));
	}
	if (touches(off, size, PCI_CFG_COMMAND, 2))
		command_update(f);
	if (touches(off, size, PCI_CFG_BAR0, 4 * PCI_BARS))
		bars_update(f);
	if (f->msix.n != 0 && touches(off, size, f->msix.cap + 2u, 2))
		pci_msix_cfg_written(f);
	if (f->ops != NULL && f->ops->cfg_written != NULL)
		f->ops->cfg_written(f, off, size);
}

uint32_t pci_cfg_read(struct pci_bus *bus, unsigned slot, unsigned func, unsigned off,
		      unsigned size)
{
	uint32_t v = size >= 4 ? UINT32_MAX : (1u << (8 * size)) - 1;

	pthread_mutex_lock(&bus->lock);
	if (cfg_valid(bus, slot, func, off, size))
		v = fn_cfg_read(bus->fn[slot], off, size);
	pthread_mutex_unlock(&bus->lock);
	return v;
}

void pci_cfg_write(struct pci_bus *bus, unsigned slot, unsigned func, unsigned off, uint32_t val,
		   unsigned size)
{
	pthread_mutex_lock(&bus->lock);
	if (cfg_valid(bus, slot, func, off, size))
		fn_cfg_write(bus->fn[slot], off, val, size);
	pthread_mutex_unlock(&bus->lock);
}
