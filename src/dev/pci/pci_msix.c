/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts of a function: MSI-X (PCI 3.0, 6.8.2: table, pending bits, masking per vector and per
 * function) and the INTx line it shares with others. fn->irq_lock guards all of it.
 */
#include "dev/pci/pci_priv.h"

#include <errno.h>
#include <string.h>

enum { CTRL_ENABLE = 0x8000, CTRL_MASK = 0x4000, ENTRY_SIZE = 16, ENTRY_MASKED = 1, PBA_SIZE = 8 };

int pci_fn_msix(struct pci_fn *f, unsigned n, unsigned bar, uint32_t table_off, uint32_t pba_off)
{
	int at;

	if (n == 0 || n > PCI_MSIX_MAX)
		return -EINVAL;
	at = pci_fn_cap(f, PCI_CAP_MSIX, 12);
	if (at < 0)
		return at;
	pci_put16(f->cfg + at + 2, (uint16_t)(n - 1));
	pci_put16(f->wmask + at + 2, CTRL_ENABLE | CTRL_MASK);
	pci_put32(f->cfg + at + 4, table_off | bar);
	pci_put32(f->cfg + at + 8, pba_off | bar);
	f->msix.n = n;
	f->msix.bar = (uint8_t)bar;
	f->msix.cap = (uint8_t)at;
	f->msix.table_off = table_off;
	f->msix.pba_off = pba_off;
	return 0;
}

void pci_msix_reset(struct pci_fn *f)
{
	struct pci_msix *m = &f->msix;

	__atomic_store_n(&m->enabled, false, __ATOMIC_RELEASE);
	m->masked = false;
	m->pending = 0;
	memset(m->entry, 0, sizeof(m->entry));
	for (unsigned i = 0; i < m->n; i++)
		m->entry[i].ctrl = ENTRY_MASKED;
}

bool pci_msix_enabled(const struct pci_fn *f)
{
	return __atomic_load_n(&f->msix.enabled, __ATOMIC_ACQUIRE);
}

/* Sends or leaves pending; irq_lock held. */
static void deliver(struct pci_fn *f, unsigned v)
{
	struct pci_msix *m = &f->msix;
	const struct pci_msix_entry *e = &m->entry[v];

	if (m->masked || (e->ctrl & ENTRY_MASKED)) {
		m->pending |= 1u << v;
		return;
	}
	m->pending &= ~(1u << v);
	if (pci_fn_master(f)) /* a message is a write, and those need bus mastering */
		bus_msi(f->bus->bus, e->addr, e->data);
}

void pci_msix_notify(struct pci_fn *f, unsigned vector)
{
	if (vector >= f->msix.n)
		return;
	pthread_mutex_lock(&f->irq_lock);
	if (f->msix.enabled)
		deliver(f, vector);
	pthread_mutex_unlock(&f->irq_lock);
}

static void deliver_pending(struct pci_fn *f)
{
	for (unsigned v = 0; v < f->msix.n && f->msix.enabled; v++) {
		if (f->msix.pending & (1u << v))
			deliver(f, v);
	}
}

void pci_msix_cfg_written(struct pci_fn *f)
{
	const uint16_t ctrl = pci_get16(f->cfg + f->msix.cap + 2);

	pthread_mutex_lock(&f->irq_lock);
	__atomic_store_n(&f->msix.enabled, (ctrl & CTRL_ENABLE) != 0, __ATOMIC_RELEASE);
	f->msix.masked = (ctrl & CTRL_MASK) != 0;
	deliver_pending(f);
	pci_intx_update(f);
	pthread_mutex_unlock(&f->irq_lock);
}

static uint32_t table_load(const struct pci_msix *m, uint64_t off)
{
	const struct pci_msix_entry *e = &m->entry[off / ENTRY_SIZE];

	switch (off % ENTRY_SIZE) {
	case 0: return (uint32_t)e->addr;
	case 4: return (uint32_t)(e->addr >> 32);
	case 8: return e->data;
	default: return e->ctrl;
	}
}

static void table_store(struct pci_fn *f, uint64_t off, uint32_t val)
{
	const unsigned v = (unsigned)(off / ENTRY_SIZE);
	struct pci_msix_entry *e = &f->msix.entry[v];

	switch (off % ENTRY_SIZE) {
	case 0: e->addr = (e->addr & ~0xffffffffull) | (val & ~3u); break;
	case 4: e->addr = (e->addr & 0xffffffffull) | (uint64_t)val << 32; break;
	case 8: e->data = val; break;
	default:
		e->ctrl = val & ENTRY_MASKED;
		if (f->msix.enabled && (f->msix.pending & (1u << v)))
			deliver(f, v);
		break;
	}
}

static bool in_table(const struct pci_fn *f, unsigned bar, uint64_t off)
{
	return f->msix.n != 0 && bar == f->msix.bar && off >= f->msix.table_off &&
	       off - f->msix.table_off < (uint64_t)f->msix.n * ENTRY_SIZE;
}

static bool in_pba(const struct pci_fn *f, unsigned bar, uint64_t off)
{
	return f->msix.n != 0 && bar == f->msix.bar && off >= f->msix.pba_off &&
	       off - f->msix.pba_off < PBA_SIZE;
}

/* Only aligned dwords and qwords are defined (6.8.2); others read as zero and write nothing. */
bool pci_msix_bar_read(struct pci_fn *f, unsigned bar, uint64_t off, unsigned size, uint64_t *val)
{
	const bool aligned = (size == 4 || size == 8) && off % size == 0;
	const bool table = in_table(f, bar, off);

	if (!table && !in_pba(f, bar, off))
		return false;
	*val = 0;
	if (!aligned)
		return true;
	pthread_mutex_lock(&f->irq_lock);
	if (!table) {
		*val = off == f->msix.pba_off ? f->msix.pending : 0;
	} else {
		off -= f->msix.table_off;
		*val = table_load(&f->msix, off);
		if (size == 8)
			*val |= (uint64_t)table_load(&f->msix, off + 4) << 32;
	}
	pthread_mutex_unlock(&f->irq_lock);
	return true;
}

bool pci_msix_bar_write(struct pci_fn *f, unsigned bar, uint64_t off, uint64_t val, unsigned size)
{
	const bool aligned = (size == 4 || size == 8) && off % size == 0;

	if (!in_table(f, bar, off))
		return in_pba(f, bar, off);
	if (!aligned)
		return true;
	off -= f->msix.table_off;
	pthread_mutex_lock(&f->irq_lock);
	table_store(f, off, (uint32_t)val);
	if (size == 8)
		table_store(f, off + 4, (uint32_t)(val >> 32));
	pthread_mutex_unlock(&f->irq_lock);
	return true;
}

void pci_intx_update(struct pci_fn *f)
{
	const bool off =
		(pci_get16(f->cfg + PCI_CFG_COMMAND) & PCI_CMD_INTX_OFF) || f->msix.enabled;
	const bool drive = f->intx_wanted && !off && f->cfg[PCI_CFG_INT_PIN] != 0;
	const unsigned gsi = pci_intx_gsi(f->slot, 0), i = gsi - PCI_INTX_GSI;
	struct pci_bus *b = f->bus;

	if (drive == f->intx_driven)
		return;
	f->intx_driven = drive;
	pthread_mutex_lock(&b->intx_lock);
	if (drive ? b->intx_count[i]++ == 0 : --b->intx_count[i] == 0)
		bus_irq_set(b->bus, gsi, drive);
	pthread_mutex_unlock(&b->intx_lock);
}

void pci_intx_set(struct pci_fn *f, bool level)
{
	pthread_mutex_lock(&f->irq_lock);
	__atomic_store_n(&f->intx_wanted, level, __ATOMIC_RELAXED);
	pci_intx_update(f);
	pthread_mutex_unlock(&f->irq_lock);
}
