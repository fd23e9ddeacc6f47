/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bus's address windows. Each is one region of the memory map (or one range of ports) for the
 * machine's whole life; inside, an access goes to the BAR that decodes its address just now. So a
 * guest may move BARs at any time without the memory map changing under running vCPUs.
 */
#include "dev/pci/pci_priv.h"

#include <errno.h>

static uint64_t ones(unsigned size)
{
	return size >= 8 ? UINT64_MAX : (1ull << (8 * size)) - 1;
}

/* The BAR that decodes all of [a, a+size), and a's offset in it. No lock: see pci.h. */
static struct pci_bar *decode(const struct pci_bus *b, bool io, uint64_t a, unsigned size,
			      uint64_t *off)
{
	for (unsigned i = 0; i < b->bars; i++) {
		struct pci_bar *bar = b->bar[i];
		const uint64_t base = __atomic_load_n(&bar->mapped, __ATOMIC_ACQUIRE);

		if (base == PCI_UNMAPPED || (bar->kind == PCI_BAR_IO) != io || a < base)
			continue;
		*off = a - base;
		if (*off < bar->size && size <= bar->size - *off)
			return bar;
	}
	return NULL;
}

static uint64_t window_load(const struct pci_bus *b, bool io, uint64_t a, unsigned size)
{
	uint64_t off, val;
	struct pci_bar *bar = decode(b, io, a, size, &off);

	if (bar == NULL)
		return ones(size);
	if (pci_msix_bar_read(bar->fn, bar->index, off, size, &val))
		return val;
	return bar->fn->ops->bar_read(bar->fn, bar->index, off, size);
}

static void window_store(const struct pci_bus *b, bool io, uint64_t a, uint64_t val, unsigned size)
{
	uint64_t off;
	struct pci_bar *bar = decode(b, io, a, size, &off);

	if (bar == NULL || pci_msix_bar_write(bar->fn, bar->index, off, val, size))
		return;
	bar->fn->ops->bar_write(bar->fn, bar->index, off, val, size);
}

static uint64_t mem_window_read(void *opaque, uint64_t off, unsigned size)
{
	const struct pci_window *w = opaque;

	return window_load(w->bus, false, w->base + off, size);
}

static void mem_window_write(void *opaque, uint64_t off, uint64_t val, unsigned size)
{
	const struct pci_window *w = opaque;

	window_store(w->bus, false, w->base + off, val, size);
}

static uint32_t io_window_read(void *opaque, uint16_t off, unsigned size)
{
	const struct pci_window *w = opaque;

	return (uint32_t)window_load(w->bus, true, w->base + off, size);
}

static void io_window_write(void *opaque, uint16_t off, uint32_t val, unsigned size)
{
	const struct pci_window *w = opaque;

	window_store(w->bus, true, w->base + off, val, size);
}

static const struct mem_io_ops mem_window_ops = { mem_window_read, mem_window_write };
static const struct pio_ops io_window_ops = { io_window_read, io_window_write };

static int mem_window_add(struct pci_bus *b, struct pci_window *w, const char *name, gpa_t base,
			  uint64_t size, struct err *e)
{
	int r;

	if (size == 0)
		return 0;
	w->bus = b;
	w->base = w->next_free = base;
	w->region = (struct mem_region){ .name = name,
					 .base = base,
					 .size = size,
					 .fd = -1,
					 .ops = &mem_window_ops,
					 .opaque = w };
	r = mem_region_add(b->bus->mem, &w->region);
	if (r < 0)
		return err_set(e, r, "PCI window at %#llx overlaps something",
			       (unsigned long long)base);
	w->size = size;
	return 0;
}

static int io_window_add(struct pci_bus *b, struct err *e)
{
	struct pci_window *w = &b->io;
	int r;

	if (b->cfg.io_size == 0)
		return 0;
	w->bus = b;
	w->base = w->next_free = b->cfg.io_base;
	w->ports = (struct pio_range){ .name = "pci-io",
				       .base = b->cfg.io_base,
				       .count = b->cfg.io_size,
				       .ops = &io_window_ops,
				       .opaque = w };
	r = bus_pio_add(b->bus, &w->ports);
	if (r < 0)
		return err_set(e, r, "PCI ports at %#x are taken", b->cfg.io_base);
	w->size = b->cfg.io_size;
	return 0;
}

int pci_windows_add(struct pci_bus *b, struct err *e)
{
	int r = mem_window_add(b, &b->mem, "pci-mem", b->cfg.mem_base, b->cfg.mem_size, e);

	if (r == 0)
		r = mem_window_add(b, &b->mem64, "pci-mem64", b->cfg.mem64_base, b->cfg.mem64_size,
				   e);
	if (r == 0)
		r = io_window_add(b, e);
	if (r < 0)
		pci_windows_remove(b);
	return r;
}

void pci_windows_remove(struct pci_bus *b)
{
	if (b->mem.size != 0)
		mem_region_remove(b->bus->mem, &b->mem.region);
	if (b->mem64.size != 0)
		mem_region_remove(b->bus->mem, &b->mem64.region);
	if (b->io.size != 0)
		bus_pio_remove(b->bus, &b->io.ports);
	b->mem.size = b->mem64.size = b->io.size = 0;
}

static int place_in(struct pci_window *w, struct pci_bar *bar)
{
	const uint64_t a = ALIGN_UP(w->next_free, bar->size);

	if (w->size == 0 || a < w->base || a - w->base > w->size ||
	    bar->size > w->size - (a - w->base))
		return -ENOSPC;
	bar->home = a;
	w->next_free = a + bar->size;
	return 0;
}

int pci_window_place(struct pci_bus *b, struct pci_bar *bar)
{
	int r;

	if (bar->kind == PCI_BAR_IO)
		return place_in(&b->io, bar);
	r = place_in(&b->mem, bar);
	if (r < 0 && bar->kind == PCI_BAR_MEM64)
		r = place_in(&b->mem64, bar);
	return r;
}

/* The list changes only before the vCPUs run and after they have ended. */
void pci_bar_register(struct pci_bus *b, struct pci_bar *bar)
{
	BUG_ON(b->bars == ARRAY_SIZE(b->bar));
	b->bar[b->bars++] = bar;
}

void pci_bar_unregister(struct pci_bus *b, struct pci_bar *bar)
{
	for (unsigned i = 0; i < b->bars; i++) {
		if (b->bar[i] == bar) {
			b->bar[i] = b->bar[--b->bars];
			return;
		}
	}
}
