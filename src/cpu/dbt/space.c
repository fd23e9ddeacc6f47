/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tagged address spaces: what CR3 loads and TLB invalidations do to the tables and to the jump caches.
 * A table is kept per CR3 (frame and PCID), so a switch changes a base and drops nothing; a load that
 * flushes empties the table of the space it loads, which is all that the architecture lets software see.
 */
#include "base/stats.h"
#include "cpu/dbt/dbt_priv.h"

#define CHUNKS_KEPT 32 /* 2 MiB of table, 1 GiB of addresses */

static uint64_t space_key(const struct x86_state *s)
{
	uint64_t key = s->cr3 & 0x000ffffffffff000ull;

	return s->cr4 & X86_CR4_PCIDE ? key | (s->cr3 & 0xfff) : key;
}

static void space_empty(struct dbt *d, struct dbt_space *s)
{
	dbt_half_clear(&d->mmu, &s->half);
	dbt_jc_clear(s->jc, d->stub_jc_miss);
	dbt_cells_clear(d, s);
}

static struct dbt_space *space_find(struct dbt *d, uint64_t key)
{
	struct dbt_space *victim = &d->mmu.space[0];

	for (unsigned i = 0; i < DBT_SPACES; i++) {
		struct dbt_space *s = &d->mmu.space[i];

		if (s->key == key)
			return s;
		if (s->stamp < victim->stamp)
			victim = s;
	}
	space_empty(d, victim);
	/* Another program's addresses: what the last ones needed would only pile up. */
	if (victim->half.nchunk > CHUNKS_KEPT)
		dbt_mmu_recycle(&d->mmu, &victim->half);
	victim->key = key;
	return victim;
}

static void flush_supervisor(struct dbt *d, bool global)
{
	struct dbt_mmu *m = &d->mmu;

	dbt_half_clear(m, &m->sup_low);
	if (global)
		dbt_half_clear(m, &m->kernel);
	else
		dbt_half_clear_nonglobal(m, &m->kernel);
	dbt_kcode_revalidate_all(d, !global);
}

/* A load that flushes does so for all that bears its PCID, whatever table it came from. */
static void pcid_empty(struct dbt *d, uint64_t key)
{
	for (unsigned i = 0; i < DBT_SPACES; i++) {
		struct dbt_space *s = &d->mmu.space[i];

		if (s->key == key || ((d->t->st.cr4 & X86_CR4_PCIDE) && s->key != UINT64_MAX &&
				      ((s->key ^ key) & 0xfff) == 0))
			space_empty(d, s);
	}
}

void dbt_space_load(struct dbt *d, bool keep)
{
	struct dbt_mmu *m = &d->mmu;
	struct dbt_space *old = m->cur;

	m->cur = space_find(d, space_key(&d->t->st));
	m->cur->stamp = ++m->stamp;
	if (!keep)
		pcid_empty(d, m->cur->key);
	if (m->cur != old || !keep) {
		dbt_ret_reset(d, true);
		dbt_half_clear(m, &m->sup_low);
		dbt_half_clear_nonglobal(m, &m->kernel);
		dbt_kcode_revalidate_all(d, true);
	}
	if (keep)
		stat_inc(DBT_CR3_KEPT);
	else
		stat_inc(DBT_CR3_FLUSH);
	dbt_mmu_select(d);
}

void dbt_flush(struct dbt *d, bool global)
{
	struct dbt_mmu *m = &d->mmu;

	if (global) {
		stat_inc(DBT_GLOBAL_FLUSH);
		for (unsigned i = 0; i < DBT_SPACES; i++)
			if (m->space[i].key != UINT64_MAX)
				space_empty(d, &m->space[i]);
	} else {
		space_empty(d, m->cur);
	}
	flush_supervisor(d, global);
	dbt_ret_reset(d, true);
}

/* INVLPG drops the whole translation that covers va, also when it is a large page. */
static void flush_code_page(struct dbt *d, gva_t va)
{
	if (!(va >> 47 ? d->mmu.kernel.large : d->mmu.sup_low.large)) {
		dbt_kcode_revalidate_page(d, va);
		return;
	}
	gva_t p = va & ~(2 * MiB - 1);

	for (unsigned n = 0; n < 512; n++, p += 4096)
		dbt_kcode_revalidate_page(d, p);
}

void dbt_flush_page(struct dbt *d, gva_t va)
{
	struct dbt_mmu *m = &d->mmu;

	stat_inc(DBT_INVLPG);
	if (!x86_canonical(va))
		return;
	if (va >> 47) {
		dbt_half_clear_page(m, &m->kernel, va);
	} else {
		dbt_half_clear_page(m, &m->sup_low, va);
		dbt_half_clear_page(m, &m->cur->half, va);
		dbt_jc_clear(m->cur->jc, d->stub_jc_miss);
		dbt_cells_clear(d, m->cur);
		dbt_ret_reset(d, true);
	}
	flush_code_page(d, va);
}

void dbt_flush_pcid(struct dbt *d, unsigned type, uint64_t pcid, gva_t va)
{
	struct dbt_mmu *m = &d->mmu;

	for (unsigned i = 0; i < DBT_SPACES; i++) {
		struct dbt_space *s = &m->space[i];

		if (s->key == UINT64_MAX || (type < 2 && (s->key & 0xfff) != pcid))
			continue;
		if (type == 0 && va >> 47 == 0)
			dbt_half_clear_page(m, &s->half, va);
		else if (type != 0)
			dbt_half_clear(m, &s->half);
		dbt_jc_clear(s->jc, d->stub_jc_miss);
		dbt_cells_clear(d, s);
	}
	dbt_ret_reset(d, true);
	if (type == 0)
		dbt_half_clear_page(m, va >> 47 ? &m->kernel : &m->sup_low, va);
	if (type == 0)
		flush_code_page(d, va);
	else
		flush_supervisor(d, type == 2);
}
