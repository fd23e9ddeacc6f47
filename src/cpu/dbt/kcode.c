/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Supervisor code pages. Blocks of CPL 0 are chained across pages by plain jumps, which stay right while
 * each page maps to the frame it was translated from. The pages are therefore recorded, and looked up anew when
 * the guest invalidates: unchanged ones keep their translations, the others lose them.
 */
#include "cpu/dbt/dbt_priv.h"

static uint32_t *bucket(struct dbt *d, gva_t va)
{
	return &d->kcode_hash[(va >> 12) % DBT_KCODE_HASH];
}

void dbt_kcode_add(struct dbt *d, gva_t va, uint64_t ram_page, bool global)
{
	uint32_t *head = bucket(d, va);

	va &= ~4095ull;
	for (uint32_t n = *head; n; n = d->kcode[n].next)
		if (d->kcode[n].va == va && d->kcode[n].ram_page == ram_page)
			return;
	d->kcode[d->nkcode] = (struct dbt_kcode){ va, ram_page, global, *head };
	*head = d->nkcode++;
}

/* Supervisor blocks of that page at that address. */
static void drop_page(struct dbt *d, const struct dbt_kcode *k)
{
	struct dbt_block *b = d->page_blocks[k->ram_page], *next;

	for (; b; b = next) {
		bool first = b->ram_off >> 12 == k->ram_page;

		next = first ? b->page_next : b->page2_next;
		if (!(b->mode & DBT_MODE_USER) &&
		    (b->va & ~4095ull) == (first ? k->va : k->va - 4096))
			dbt_block_invalidate(d, b);
	}
}

static void revalidate(struct dbt *d, struct dbt_kcode *k)
{
	uint8_t cpl = d->t->st.cpl;
	uint64_t off;

	d->t->st.cpl = 0;
	off = dbt_fetch_off(d, k->va, X86_ACC_PROBE, &k->global);
	d->t->st.cpl = cpl;
	if (off == UINT64_MAX || off >> 12 != k->ram_page)
		drop_page(d, k);
}

void dbt_kcode_revalidate_page(struct dbt *d, gva_t va)
{
	va &= ~4095ull;
	for (uint32_t n = *bucket(d, va); n; n = d->kcode[n].next)
		if (d->kcode[n].va == va)
			revalidate(d, &d->kcode[n]);
}

void dbt_kcode_revalidate_all(struct dbt *d, bool nonglobal_only)
{
	for (uint32_t n = 1; n < d->nkcode; n++)
		if (!nonglobal_only || !d->kcode[n].global)
			revalidate(d, &d->kcode[n]);
}
