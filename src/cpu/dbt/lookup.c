/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding translations: by guest code (hash of RAM offset, address and mode), by host address (for faults),
 * and the jump caches that generated code consults for indirect targets.
 *
 * A jump cache holds host addresses of checked entries, indexed by a few bits of the guest target. The entry
 * itself compares the whole target, so a wrong hit costs a lookup and never runs the wrong code.
 */
#include "base/stats.h"
#include "cpu/dbt/dbt_priv.h"

#include <string.h>

static unsigned hash_of(uint64_t ram_off, gva_t va, uint32_t mode)
{
	uint64_t h = (ram_off ^ (va >> 12) * 0x9e3779b97f4a7c15ull ^ mode) * 0xff51afd7ed558ccdull;

	return (unsigned)(h >> 40) & (DBT_HASH_SIZE - 1);
}

struct dbt_block *dbt_find(struct dbt *d, uint64_t ram_off, uint64_t ram_off2, gva_t va,
			   uint32_t mode)
{
	struct dbt_block *b = d->hash[hash_of(ram_off, va, mode)];

	while (b && !(b->ram_off == ram_off && b->va == va && b->mode == mode &&
		      (b->ram_off2 == UINT64_MAX || b->ram_off2 == ram_off2)))
		b = b->hash_next;
	return b;
}

static void page_insert(struct dbt *d, struct dbt_block *b, uint64_t ram_off,
			struct dbt_block **next)
{
	uint64_t page = ram_off >> 12;

	*next = d->page_blocks[page];
	d->page_blocks[page] = b;
	dbt_smc_mark(d, page, DBT_CODE_TRANSLATED);
}

void dbt_block_insert(struct dbt *d, struct dbt_block *b)
{
	struct dbt_block **slot = &d->hash[hash_of(b->ram_off, b->va, b->mode)];

	b->hash_next = *slot;
	*slot = b;
	b->valid = true;
	page_insert(d, b, b->ram_off, &b->page_next);
	if (b->ram_off2 != UINT64_MAX)
		page_insert(d, b, b->ram_off2, &b->page2_next);
}

static void page_remove(struct dbt *d, struct dbt_block *b, uint64_t page)
{
	struct dbt_block **p = &d->page_blocks[page];

	while (*p && *p != b)
		p = (*p)->ram_off >> 12 == page ? &(*p)->page_next : &(*p)->page2_next;
	if (*p)
		*p = b->ram_off >> 12 == page ? b->page_next : b->page2_next;
}

void dbt_block_remove(struct dbt *d, struct dbt_block *b)
{
	struct dbt_block **p = &d->hash[hash_of(b->ram_off, b->va, b->mode)];

	while (*p && *p != b)
		p = &(*p)->hash_next;
	if (*p)
		*p = b->hash_next;
	page_remove(d, b, b->ram_off >> 12);
	if (b->ram_off2 != UINT64_MAX)
		page_remove(d, b, b->ram_off2 >> 12);
}

void dbt_block_code(struct dbt *d, const struct dbt_block *b, unsigned off, uint8_t code[15])
{
	const uint8_t *ram = mem_ram_host(d->v->mem);
	unsigned left = 4096 - (((unsigned)b->va + off) & 4095);

	memset(code, 0, 15);
	memcpy(code, ram + b->ram_off + off, MIN(left, 15u));
	if (left < 15 && b->ram_off2 != UINT64_MAX)
		memcpy(code + left, ram + b->ram_off2, 15 - left);
}

struct dbt_block *dbt_block_by_host(struct dbt *d, const uint8_t *rx_pc)
{
	const uint8_t *pc = rx_pc - d->fc.rx + d->fc.rw;
	uint32_t lo = 1, hi = d->nblock;

	if (rx_pc < d->fc.rx || rx_pc >= d->fc.rx + d->fc.size)
		return NULL;
	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if (pc < d->block[mid].host)
			hi = mid;
		else if (pc >= d->block[mid].host_end)
			lo = mid + 1;
		else
			return &d->block[mid];
	}
	return NULL;
}

/* Hash tables without chains: a newcomer may push out an old one, which then proves itself again. */
static unsigned site_slot(uint64_t ram_off)
{
	return (unsigned)((ram_off * 0x9e3779b97f4a7c15ull) >> 48) & (DBT_SITES - 1);
}

enum dbt_fit dbt_site_fit(const struct dbt *d, uint64_t ram_off)
{
	const struct dbt_site *s = &d->site[site_slot(ram_off)];

	return s->tag == (uint32_t)(ram_off + 1) ? s->fit : DBT_FIT_ALIGNED;
}

#define CROSSINGS_TOLERATED 8

bool dbt_site_misfit(struct dbt *d, uint64_t ram_off, bool was_aligned)
{
	struct dbt_site *s = &d->site[site_slot(ram_off)];

	if (s->tag != (uint32_t)(ram_off + 1))
		*s = (struct dbt_site){ .tag = (uint32_t)(ram_off + 1), .fit = DBT_FIT_WITHIN };
	if (was_aligned)
		return true;
	if (s->fit == DBT_FIT_TESTED || ++s->crossings < CROSSINGS_TOLERATED)
		return false;
	s->fit = DBT_FIT_TESTED;
	return true;
}

void dbt_jc_init(struct dbt_jc *jc, uint8_t *miss_rx)
{
	for (unsigned i = 0; i < DBT_JC_SIZE; i++)
		jc->entry[i] = (uint64_t *)miss_rx;
	jc->nused = 0;
}

void dbt_jc_clear(struct dbt_jc *jc, uint8_t *miss_rx)
{
	if (jc->nused == ARRAY_SIZE(jc->used)) {
		dbt_jc_init(jc, miss_rx);
		return;
	}
	for (unsigned i = 0; i < jc->nused; i++)
		jc->entry[jc->used[i]] = (uint64_t *)miss_rx;
	jc->nused = 0;
}

/* Code that goes on at `hit` when S0 is b's address, and to `miss` when not. NULL: no room. */
static uint8_t *emit_checked(struct dbt *d, struct dbt_block *b, const uint8_t *hit,
			     const uint8_t *miss)
{
	struct emit e = { d->fc.next, d->fc.next, d->fc.cold, false };

	dbt_emit_check_s0(&e, b->va, miss);
	emit_jmp(&e, hit);
	if (e.overflow)
		return NULL;
	d->fc.next = e.p;
	return e.start;
}

#define MAX_CHAIN 3

/*
 * Targets that share a slot are chained: the newcomer's check falls through to what stood there. The chain's pieces
 * are private to this cache.
 */
void dbt_jc_set(struct dbt *d, struct dbt_block *b)
{
	struct dbt_jc *jc = b->mode & DBT_MODE_USER ? d->mmu.cur->jc : d->jc_kernel;
	unsigned index = DBT_JC_INDEX(b->va);
	uint8_t *old = (uint8_t *)jc->entry[index], *entry;

	if (!b->checked)
		b->checked = emit_checked(d, b, b->host, d->stub_miss);
	entry = b->checked;
	if (!entry)
		return;
	if (old == d->stub_jc_miss) {
		jc->chain[index] = 0;
		if (jc->nused < ARRAY_SIZE(jc->used))
			jc->used[jc->nused++] = (uint16_t)index;
	} else if (old != dbt_rx(&d->fc, entry) && jc->chain[index] < MAX_CHAIN) {
		/* Through b's own entry, which is diverted when b becomes stale. */
		entry = emit_checked(d, b, b->checked, old - d->fc.rx + d->fc.rw);
		jc->chain[index]++;
	} else {
		jc->chain[index] = 0;
	}
	if (entry)
		jc->entry[index] = (uint64_t *)dbt_rx(&d->fc, entry);
}

uint32_t dbt_cell_new(struct dbt *d, gva_t target)
{
	uint32_t n = d->ncell;

	if (n == DBT_MAX_CELLS)
		return n;
	d->cell_target[n] = target;
	for (unsigned i = 0; i < DBT_SPACES; i++)
		d->mmu.space[i].cell[n] = (uint64_t)dbt_rx(&d->fc, d->stub_cell);
	d->ncell++;
	return n;
}

void dbt_cell_set(struct dbt *d, uint32_t cell, struct dbt_block *b)
{
	struct dbt_space *s = d->mmu.cur;

	if (s->cell[cell] == (uint64_t)dbt_rx(&d->fc, d->stub_cell))
		s->cell_used[s->ncell_used++] = cell;
	s->cell[cell] = (uint64_t)dbt_rx(&d->fc, b->host);
}

void dbt_cells_clear(struct dbt *d, struct dbt_space *s)
{
	for (uint32_t i = 0; i < s->ncell_used; i++)
		s->cell[s->cell_used[i]] = (uint64_t)dbt_rx(&d->fc, d->stub_cell);
	s->ncell_used = 0;
}

uint64_t dbt_fetch_off(struct dbt *d, gva_t va, unsigned probe, bool *global)
{
	struct x86_walk_mem wm = dbt_walk_ops;
	struct x86_xlat x;
	uint32_t pf;
	unsigned acc = X86_ACC_X | probe | (d->t->st.cpl == 3 ? X86_ACC_USER : 0);

	wm.opaque = d;
	if (!x86_canonical(va) || x86_translate(&d->t->st, &wm, va, acc, &x, &pf))
		return UINT64_MAX;
	*global = x.global;
	return dbt_ram_off(d, x.gpa);
}

struct dbt_block *dbt_lookup(struct dbt *d, gva_t va, uint32_t mode)
{
	bool global;
	uint64_t off2 = UINT64_MAX, off = dbt_fetch_off(d, va, 0, &global);
	struct dbt_block *b;

	stat_inc(DBT_LOOKUPS);
	if (off == UINT64_MAX)
		return NULL;
	if ((va & 4095) > 4096 - 15)
		off2 = dbt_fetch_off(d, (va | 4095) + 1, 0, &global);
	b = dbt_find(d, off, off2, va, mode);
	return b ? b : dbt_translate(d, va, mode);
}
