/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Self-modifying code. A RAM page that holds translated or decoded code is reachable by generated code
 * only through the read-only alias, over all its addresses; a write faults, interp performs it, and
 * what was made of the page is dropped. Devices' writes are queued by their thread and handled at the next
 * boundary, before any interrupt is delivered.
 */
#include "base/stats.h"
#include "cpu/dbt/dbt_priv.h"

void dbt_smc_mark(struct dbt *d, uint64_t ram_page, unsigned bit)
{
	if (!atomic_fetch_or(&d->page_code[ram_page], (uint8_t)bit))
		dbt_mmu_protect(d, ram_page);
}

void dbt_smc_written(struct dbt *d, uint64_t ram_page)
{
	if (!atomic_load_explicit(&d->page_code[ram_page], memory_order_relaxed))
		return;
	stat_inc(DBT_SMC);
	while (d->page_blocks[ram_page])
		dbt_block_invalidate(d, d->page_blocks[ram_page]);
	interp_code_invalidate(d->v, dbt_ram_gpa(d, ram_page << 12), 4096);
	atomic_store(&d->page_code[ram_page], 0);
	if (d->step_page == ram_page)
		d->step_page = UINT64_MAX;
}

void dbt_smc_dma(struct mem_listener *l, gpa_t a, uint64_t len)
{
	struct dbt *d = container_of(l, struct dbt, listener);
	uint64_t first = dbt_ram_off(d, a), last;

	if (first == UINT64_MAX || len == 0)
		return;
	last = MIN(first + len - 1, d->mmu.ram_size - 1) >> 12;
	for (uint64_t p = first >> 12; p <= last; p++) {
		if (!atomic_load(&d->page_code[p]))
			continue;
		pthread_mutex_lock(&d->dma_lock);
		if (d->ndma < ARRAY_SIZE(d->dma_page))
			d->dma_page[d->ndma++] = p;
		else
			d->dma_all = true;
		pthread_mutex_unlock(&d->dma_lock);
		atomic_store(&d->dma_flag, 1);
		vcpu_irq_hint(d->v);
	}
}

void dbt_smc_drain(struct dbt *d)
{
	if (!atomic_exchange(&d->dma_flag, 0))
		return;
	pthread_mutex_lock(&d->dma_lock);
	for (unsigned i = 0; i < d->ndma; i++)
		dbt_smc_written(d, d->dma_page[i]);
	if (d->dma_all)
		for (uint64_t p = 0; p < d->ram_pages; p++)
			dbt_smc_written(d, p);
	d->ndma = 0;
	d->dma_all = false;
	pthread_mutex_unlock(&d->dma_lock);
}
