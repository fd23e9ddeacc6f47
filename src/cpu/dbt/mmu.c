/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Address translation for generated code: the shadow MMU (DESIGN §4.2, flat table).
 *
 * The tables are a TLB: an entry is filled when an access misses (a host fault) and dropped when the guest
 * invalidates. Accessed and dirty bits are set at fill; a page that is not dirty yet, not writable, or that
 * holds translated code is entered through the read-only alias of RAM, so that one table serves reads and
 * writes and a write to such a page faults.
 */
#include "base/log.h"
#include "base/stats.h"
#include "cpu/dbt/dbt_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GUARD_BYTES (2 * MiB)

uint64_t dbt_ram_off(struct dbt *d, gpa_t a)
{
	const struct mem_region *r = mem_find(d->v->mem, a);

	if (!r || !r->host || r->fd < 0 || r->ro)
		return UINT64_MAX;
	return r->fd_offset + (a - r->base);
}

static void region_added(struct mem_listener *l, const struct mem_region *r)
{
	struct dbt *d = container_of(l, struct dbt, listener);

	if (r->host && r->fd >= 0 && !r->ro && d->nram < ARRAY_SIZE(d->ram))
		d->ram[d->nram++] = (struct dbt_ram){ r->base, r->fd_offset, r->size };
}

static void region_removed(struct mem_listener *l, const struct mem_region *r)
{
	struct dbt *d = container_of(l, struct dbt, listener);

	for (unsigned i = 0; i < d->nram; i++)
		if (r->host && d->ram[i].base == r->base)
			d->ram[i] = d->ram[--d->nram];
}

gpa_t dbt_ram_gpa(struct dbt *d, uint64_t off)
{
	for (unsigned i = 0; i < d->nram; i++)
		if (off - d->ram[i].off < d->ram[i].size)
			return d->ram[i].base + (off - d->ram[i].off);
	return UINT64_MAX;
}

/* ---- page-table access for x86_translate ---- */

static uint64_t walk_read(void *opaque, gpa_t a, unsigned size, bool *ok)
{
	struct dbt *d = opaque;
	uint8_t *p = mem_ptr(d->v->mem, a, size, false);
	uint64_t v = 0;

	*ok = p != NULL;
	if (!p)
		return UINT64_MAX;
	memcpy(&v, p, size);
	return v;
}

static bool walk_cmpxchg(void *opaque, gpa_t a, unsigned size, uint64_t old_val, uint64_t new_val)
{
	struct dbt *d = opaque;
	uint8_t *p = mem_ptr(d->v->mem, a, size, true);
	uint32_t old32 = (uint32_t)old_val;

	if (!p)
		return true;
	if (d->v->hooks.entry_marked)
		d->v->hooks.entry_marked(d->v, a, size);
	if (size == 4)
		return __atomic_compare_exchange_n((uint32_t *)p, &old32, (uint32_t)new_val, false,
						   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	return __atomic_compare_exchange_n((uint64_t *)p, &old_val, new_val, false,
					   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

const struct x86_walk_mem dbt_walk_ops = { .read = walk_read, .cmpxchg = walk_cmpxchg };

/* ---- set-up ---- */

static uint8_t *reserve(uint64_t size)
{
	uint8_t *p =
		mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static uint8_t *map_ram(struct dbt *d, uint8_t *at, int prot)
{
	uint8_t *p =
		mmap(at, d->mmu.ram_size, prot, MAP_SHARED | MAP_FIXED, mem_ram_fd(d->v->mem), 0);

	return p == MAP_FAILED ? NULL : p;
}

static bool window_open(struct dbt *d)
{
	struct dbt_mmu *m = &d->mmu;
	uint8_t *w = mmap((void *)DBT_WINDOW_BASE, DBT_WINDOW_BYTES, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	if (w == MAP_FAILED)
		return false;
	m->window = w;
	m->ram_rw = map_ram(d, w + GUARD_BYTES, PROT_READ | PROT_WRITE);
	m->ram_ro = map_ram(d, w + DBT_ALIAS_BYTES, PROT_READ);
	m->guard = w + 2 * DBT_ALIAS_BYTES - GUARD_BYTES;
	return m->ram_rw && m->ram_ro;
}

static bool show_half(struct dbt_mmu *m, uint8_t *at, const struct dbt_half *h)
{
	off_t off = (off_t)((uint8_t *)h->entry - m->alias);

	return mmap(at, DBT_HALF_BYTES, PROT_NONE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, m->fd,
		    off) != MAP_FAILED;
}

static bool table_open(struct dbt_mmu *m, struct dbt_table *t, struct dbt_half *lower,
		       struct dbt_half *upper)
{
	t->base = reserve(DBT_CELL_BYTES + 2 * DBT_HALF_BYTES);
	t->lower = lower;
	t->upper = upper;
	if (!t->base)
		return false;
	t->base += DBT_CELL_BYTES;
	return (!lower || show_half(m, t->base, lower)) &&
	       (!upper || show_half(m, t->base + DBT_HALF_BYTES, upper));
}

static void table_close(struct dbt_table *t)
{
	if (t->base)
		munmap(t->base - DBT_CELL_BYTES, DBT_CELL_BYTES + 2 * DBT_HALF_BYTES);
}

static bool cells_open(struct dbt_space *s)
{
	s->cell = (uint64_t *)(s->user.base - DBT_CELL_BYTES);
	s->cell_used = malloc(DBT_MAX_CELLS * sizeof(*s->cell_used));
	return s->cell_used && !mprotect(s->cell, DBT_CELL_BYTES, PROT_READ | PROT_WRITE);
}

static bool tables_open(struct dbt *d)
{
	struct dbt_mmu *m = &d->mmu;
	uint64_t size = (2 + DBT_SPACES) * DBT_HALF_BYTES;

	m->fd = memfd_create("ring3-tables", MFD_CLOEXEC);
	if (m->fd < 0 || ftruncate(m->fd, (off_t)size))
		return false;
	m->alias = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, m->fd, 0);
	if (m->alias == MAP_FAILED)
		return false;
	dbt_half_init(m, &m->kernel, m->alias, true);
	dbt_half_init(m, &m->sup_low, m->alias + DBT_HALF_BYTES, false);
	if (!table_open(m, &m->sup, &m->sup_low, &m->kernel))
		return false;
	for (unsigned i = 0; i < DBT_SPACES; i++) {
		struct dbt_space *s = &m->space[i];

		s->key = UINT64_MAX;
		dbt_half_init(m, &s->half, m->alias + (2 + i) * DBT_HALF_BYTES, false);
		s->jc = calloc(1, sizeof(*s->jc));
		if (!s->jc || !table_open(m, &s->user, &s->half, NULL) ||
		    !table_open(m, &s->sup_ac, &s->half, &m->kernel) || !cells_open(s))
			return false;
	}
	return true;
}

int dbt_mmu_open(struct dbt *d, struct err *e)
{
	struct dbt_mmu *m = &d->mmu;

	d->listener = (struct mem_listener){ .added = region_added,
					     .removed = region_removed,
					     .dma_written = dbt_smc_dma };
	mem_listener_add(d->v->mem, &d->listener);
	m->ram_size = mem_ram_size(d->v->mem);
	d->ram_pages = m->ram_size >> 12;
	if (m->ram_size > DBT_ALIAS_BYTES - 2 * GUARD_BYTES)
		return err_set(e, -E2BIG,
			       "engine dbt runs guests of less than 512 GiB; lower --memory");
	m->rmap_cap = 1u << 20;
	m->rmap = malloc(m->rmap_cap * sizeof(*m->rmap));
	m->rmap_head = calloc(d->ram_pages, sizeof(*m->rmap_head));
	m->rmap_next = 1;
	if (!m->rmap || !m->rmap_head || !window_open(d) || !tables_open(d))
		return err_set(
			e, -ENOMEM,
			"cannot reserve address space for translation tables; raise ulimit -v");
	return 0;
}

void dbt_mmu_close(struct dbt *d)
{
	struct dbt_mmu *m = &d->mmu;

	mem_listener_remove(d->v->mem, &d->listener);
	for (unsigned i = 0; i < DBT_SPACES; i++) {
		struct dbt_space *s = &m->space[i];

		table_close(&s->user);
		table_close(&s->sup_ac);
		free(s->cell_used);
		dbt_half_free(&s->half);
		free(s->jc);
	}
	table_close(&m->sup);
	dbt_half_free(&m->kernel);
	dbt_half_free(&m->sup_low);
	if (m->alias)
		munmap(m->alias, (2 + DBT_SPACES) * DBT_HALF_BYTES);
	close(m->fd);
	if (m->window)
		munmap(m->window, DBT_WINDOW_BYTES);
	free(m->rmap);
	free(m->rmap_head);
}

/* ---- which table ---- */

static struct dbt_table *current_table(struct dbt *d)
{
	struct dbt_tls *t = d->t;

	if (t->st.cpl == 3)
		return &d->mmu.cur->user;
	if ((t->st.cr4 & X86_CR4_SMAP) && (t->sysflags & X86_FL_AC))
		return &d->mmu.cur->sup_ac;
	return &d->mmu.sup;
}

void dbt_mmu_select(struct dbt *d)
{
	d->t->gs_sup = (uint64_t)d->mmu.sup.base;
	d->t->gs_sup_ac = (uint64_t)d->mmu.cur->sup_ac.base;
	d->t->gs_user = (uint64_t)d->mmu.cur->user.base;
	d->t->jc_user = d->mmu.cur->jc;
	__asm__ volatile("wrgsbase %0" : : "r"(current_table(d)->base));
}

static void hide_half(struct dbt_mmu *m, struct dbt_table *t, const struct dbt_half *h)
{
	if (t->lower == h)
		BUG_ON(!show_half(m, t->base, h));
	if (t->upper == h)
		BUG_ON(!show_half(m, t->base + DBT_HALF_BYTES, h));
}

void dbt_mmu_recycle(struct dbt_mmu *m, struct dbt_half *h)
{
	/* First the views: no table may show memory that has lost its entries. */
	hide_half(m, &m->sup, h);
	for (unsigned i = 0; i < DBT_SPACES; i++) {
		hide_half(m, &m->space[i].user, h);
		hide_half(m, &m->space[i].sup_ac, h);
	}
	dbt_half_drop(h);
}

static bool table_chunk(struct dbt *d, struct dbt_table *t, uint64_t addr)
{
	uint64_t off = addr - (uint64_t)t->base;
	struct dbt_half *h = off < DBT_HALF_BYTES ? t->lower : t->upper;

	if (!t->base || off >= 2 * DBT_HALF_BYTES || !h)
		return false;
	if (!dbt_half_is_ready(h, off / 8) && h->nchunk == h->cap_chunk)
		dbt_mmu_recycle(&d->mmu, h);
	/* First the entries, then the view: a table must never show memory that is not initialised. */
	dbt_half_ready(&d->mmu, h, off / 8);
	return mprotect(t->base + ALIGN_DOWN(off, DBT_CHUNK_BYTES), DBT_CHUNK_BYTES,
			PROT_READ | PROT_WRITE) == 0;
}

bool dbt_mmu_table_fault(struct dbt *d, uint64_t addr)
{
	if (table_chunk(d, &d->mmu.sup, addr))
		return true;
	for (unsigned i = 0; i < DBT_SPACES; i++)
		if (table_chunk(d, &d->mmu.space[i].user, addr) ||
		    table_chunk(d, &d->mmu.space[i].sup_ac, addr))
			return true;
	return false;
}

/* ---- reverse map ---- */

static void rmap_add(struct dbt *d, uint64_t ram_page, struct dbt_half *h, uint64_t index)
{
	struct dbt_mmu *m = &d->mmu;
	uint64_t *entry = &h->entry[index - h->first_index];

	for (uint32_t n = m->rmap_head[ram_page]; n; n = m->rmap[n].next)
		if (m->rmap[n].entry == entry)
			return;
	if (m->rmap_next == m->rmap_cap) {
		dbt_flush(d, true);
		memset(m->rmap_head, 0, d->ram_pages * sizeof(*m->rmap_head));
		m->rmap_next = 1;
	}
	m->rmap[m->rmap_next] = (struct dbt_rmap){ entry, index, m->rmap_head[ram_page] };
	m->rmap_head[ram_page] = m->rmap_next++;
}

void dbt_mmu_protect(struct dbt *d, uint64_t ram_page)
{
	struct dbt_mmu *m = &d->mmu;
	uint8_t *rw = m->ram_rw + (ram_page << 12), *ro = m->ram_ro + (ram_page << 12);

	for (uint32_t n = m->rmap_head[ram_page]; n; n = m->rmap[n].next) {
		struct dbt_rmap *r = &m->rmap[n];

		if (*r->entry == dbt_entry_value(r->index, rw))
			*r->entry = dbt_entry_value(r->index, ro);
	}
	m->rmap_head[ram_page] = 0;
}

/* ---- fill ---- */

static void enter_page(struct dbt *d, struct dbt_half *h, uint64_t index, uint64_t ram_off, bool rw)
{
	uint64_t page = ram_off >> 12;

	rw = rw && !atomic_load_explicit(&d->page_code[page], memory_order_relaxed);
	if (rw)
		rmap_add(d, page, h, index);
	dbt_half_set(&d->mmu, h, index, (rw ? d->mmu.ram_rw : d->mmu.ram_ro) + (page << 12));
	stat_inc(DBT_FILLS);
}

/* May a page with these rights stand in this half? (Each half serves more than one view.) */
static bool half_takes(struct dbt *d, const struct dbt_half *h, const struct x86_xlat *x)
{
	if (h == &d->mmu.sup_low)
		return true;
	if (h == &d->mmu.kernel)
		return !x->user || !(d->t->st.cr4 & X86_CR4_SMAP);
	return x->user;
}

static void note_nonglobal(struct dbt_half *h, uint64_t index)
{
	if (h->nng == ARRAY_SIZE(h->ng))
		h->nonglobal = true;
	else
		h->ng[h->nng++] = index;
}

static void note_page_kind(struct dbt_half *h, uint64_t index, const struct x86_xlat *x)
{
	if (x->page_size > 4 * MiB)
		h->large = 2;
	else if (x->page_size > 4096 && h->large == 0)
		h->large = 1;
	if (!x->global)
		note_nonglobal(h, index);
}

/* The rest of the same 2 MiB page costs no walk. */
static void fill_large(struct dbt *d, struct dbt_half *h, uint64_t index, const struct x86_xlat *x)
{
	uint64_t first = index & ~63ull;
	gpa_t base = x->gpa - (x->gpa & 4095) - (index - first) * 4096;

	for (uint64_t i = 0; i < 64; i++) {
		uint64_t off = dbt_ram_off(d, base + i * 4096);

		if (first + i != index && off != UINT64_MAX &&
		    dbt_half_get(h, first + i) == d->mmu.guard) {
			enter_page(d, h, first + i, off, x->writable && x->dirty);
			if (!x->global)
				note_nonglobal(h, first + i);
		}
	}
}

static uint64_t table_entry(struct dbt *d, gpa_t table, unsigned i)
{
	bool ok;

	return walk_read(d, (table & 0x000ffffffffff000ull) + i * 8, 8, &ok) & (ok ? ~0ull : 0);
}

/* Neighbours that the guest has used already (A=1) and whose rights fit: 4-level paging, 4 KiB pages. */
static void fill_small(struct dbt *d, struct dbt_half *h, gva_t va)
{
	uint64_t e[3], all = 6, index = dbt_index(va), first = index & ~15ull;
	gpa_t table = d->t->st.cr3;

	for (unsigned l = 0; l < 3; l++) {
		e[l] = table_entry(d, table, (va >> (39 - 9 * l)) & 511);
		if (!(e[l] & 1) || (e[l] & 0x80))
			return;
		all &= e[l];
		table = e[l];
	}
	for (uint64_t i = first; i < first + 16; i++) {
		uint64_t pte = table_entry(d, table, i & 511), off;
		struct x86_xlat x = { .user = all & pte & 4, .global = pte & 0x100 };

		if (i == index || (pte & 0x21) != 0x21 || !half_takes(d, h, &x) ||
		    dbt_half_get(h, i) != d->mmu.guard)
			continue;
		if (h == &d->mmu.sup_low && x.user && (d->t->st.cr4 & X86_CR4_SMAP))
			continue;
		off = dbt_ram_off(d, pte & 0x000ffffffffff000ull);
		if (off == UINT64_MAX)
			continue;
		enter_page(d, h, i, off, (all & pte & 2) && (pte & 0x40));
		note_page_kind(h, i, &(struct x86_xlat){ .page_size = 4096, .global = x.global });
	}
}

/* A helper's miss comes without a fault on the table itself; generated code faults on its own view later. */
static bool half_ready(struct dbt *d, struct dbt_half *h, uint64_t index)
{
	if (!dbt_half_is_ready(h, index) && h->nchunk == h->cap_chunk)
		dbt_mmu_recycle(&d->mmu, h);
	if (!dbt_half_is_ready(h, index))
		dbt_half_ready(&d->mmu, h, index);
	return dbt_half_is_ready(h, index);
}

bool dbt_mmu_fill(struct dbt *d, gva_t va, bool write)
{
	struct x86_state *s = &d->t->st;
	struct dbt_table *t = current_table(d);
	struct dbt_half *h = va >> 47 ? t->upper : t->lower;
	struct x86_walk_mem wm = dbt_walk_ops;
	struct x86_xlat x;
	uint64_t off, index = dbt_index(va);
	uint32_t pf;
	unsigned acc = (write ? X86_ACC_W : X86_ACC_R) | (s->cpl == 3 ? X86_ACC_USER : 0);

	wm.opaque = d;
	if (!h || !x86_canonical(va) || !half_ready(d, h, index) ||
	    x86_translate(s, &wm, va, acc, &x, &pf))
		return false;
	off = dbt_ram_off(d, x.gpa);
	if (off == UINT64_MAX || !half_takes(d, h, &x))
		return false;
	if (write && (!x.writable || atomic_load(&d->page_code[off >> 12])))
		return false;
	enter_page(d, h, index, off, x.writable && x.dirty);
	note_page_kind(h, index, &x);
	if (x.page_size > 4096)
		fill_large(d, h, index, &x);
	else if (x86_long_mode(s))
		fill_small(d, h, va);
	return true;
}
