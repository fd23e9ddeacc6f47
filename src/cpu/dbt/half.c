/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flat translation tables: storage of one half of an address space.
 *
 * Generated code computes, for an access at ea,
 *     host = ea + table[ea<47:12>] + misfit << 40
 * An entry is host_page - page_base, modulo 2^64, with host_page in the window (mmu.c): 2^45 bytes of address space, of
 * which the lowest 2^40 hold the aliases of guest RAM and the guard pages that absent entries point at, and the rest is
 * never mapped. misfit is below 32 and zero when the access cannot cross its page: ea modulo the size, or whether the
 * last byte lies in the next page. So, whatever ea is:
 *   - upper bits right: host lies in the window; with misfit != 0 in the part that is never mapped;
 *   - upper bits wrong (ea not canonical): they survive into the sum, which the window leaves below 2^47, and make it
 *     not canonical.
 * Nothing outside the window can be reached, and of the window only what an entry names.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/stats.h"
#include "cpu/dbt/dbt_priv.h"

#define CHUNK_ENTRIES (DBT_CHUNK_BYTES / 8)
#define MAX_CHUNKS 1024u /* a table's mappings stay far below vm.max_map_count */

static uint64_t page_base(uint64_t index)
{
	return (uint64_t)((int64_t)(index << 28) >> 16);
}

uint64_t dbt_entry_value(uint64_t index, const uint8_t *host)
{
	return (uint64_t)host - page_base(index);
}

void dbt_half_init(struct dbt_mmu *m, struct dbt_half *h, uint8_t *entries, bool upper)
{
	(void)m;
	memset(h, 0, sizeof(*h));
	h->entry = (uint64_t *)entries;
	h->first_index = upper ? DBT_HALF_ENTRIES : 0;
	h->chunk_ready = mmap(NULL, DBT_HALF_BYTES / DBT_CHUNK_BYTES / 8, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	BUG_ON(h->chunk_ready == MAP_FAILED);
	h->cap_chunk = MAX_CHUNKS;
	h->chunk = calloc(h->cap_chunk, sizeof(*h->chunk));
	h->cap_log = 4096;
	h->log = malloc(h->cap_log * sizeof(*h->log));
	BUG_ON(!h->chunk || !h->log);
}

void dbt_half_free(struct dbt_half *h)
{
	if (!h->chunk_ready)
		return;
	munmap(h->chunk_ready, DBT_HALF_BYTES / DBT_CHUNK_BYTES / 8);
	free(h->chunk);
	free(h->log);
	memset(h, 0, sizeof(*h));
}

static uint64_t chunk_of(const struct dbt_half *h, uint64_t index)
{
	return (index - h->first_index) / CHUNK_ENTRIES;
}

bool dbt_half_is_ready(const struct dbt_half *h, uint64_t index)
{
	uint64_t c = chunk_of(h, index);

	return h->chunk_ready[c / 8] & 1u << (c & 7);
}

void dbt_half_ready(struct dbt_mmu *m, struct dbt_half *h, uint64_t index)
{
	uint64_t c = chunk_of(h, index), first = c * CHUNK_ENTRIES;
	uint64_t value = dbt_entry_value(h->first_index + first, m->guard);

	if (dbt_half_is_ready(h, index))
		return;
	for (uint64_t i = 0; i < CHUNK_ENTRIES; i++, value -= 4096)
		h->entry[first + i] = value;
	h->chunk_ready[c / 8] |= (uint8_t)(1u << (c & 7));
	h->chunk[h->nchunk++] = (uint32_t)c;
	stat_inc(DBT_CHUNKS);
}

uint8_t *dbt_half_get(const struct dbt_half *h, uint64_t index)
{
	return (uint8_t *)(h->entry[index - h->first_index] + page_base(index));
}

static void log_index(struct dbt_half *h, uint64_t index)
{
	if (h->nlog == h->cap_log) {
		h->cap_log *= 2;
		h->log = realloc(h->log, h->cap_log * sizeof(*h->log));
		BUG_ON(!h->log);
	}
	h->log[h->nlog++] = index;
}

void dbt_half_set(struct dbt_mmu *m, struct dbt_half *h, uint64_t index, uint8_t *host)
{
	uint8_t *old = dbt_half_get(h, index);

	if (host && old == m->guard)
		log_index(h, index);
	h->entry[index - h->first_index] = dbt_entry_value(index, host ? host : m->guard);
}

void dbt_half_drop(struct dbt_half *h)
{
	for (uint32_t i = 0; i < h->nchunk; i++) {
		uint64_t *first = h->entry + (uint64_t)h->chunk[i] * CHUNK_ENTRIES;

		BUG_ON(madvise(first, DBT_CHUNK_BYTES, MADV_REMOVE));
		h->chunk_ready[h->chunk[i] / 8] &= (uint8_t) ~(1u << (h->chunk[i] & 7));
	}
	h->nchunk = h->nlog = h->nng = 0;
	h->large = 0;
	h->nonglobal = false;
}

void dbt_half_clear(struct dbt_mmu *m, struct dbt_half *h)
{
	for (uint32_t i = 0; i < h->nlog; i++)
		h->entry[h->log[i] - h->first_index] = dbt_entry_value(h->log[i], m->guard);
	h->nlog = 0;
	h->large = 0;
	h->nonglobal = false;
	h->nng = 0;
}

void dbt_half_clear_nonglobal(struct dbt_mmu *m, struct dbt_half *h)
{
	if (h->nonglobal) {
		dbt_half_clear(m, h);
		return;
	}
	for (uint32_t i = 0; i < h->nng; i++)
		h->entry[h->ng[i] - h->first_index] = dbt_entry_value(h->ng[i], m->guard);
	h->nng = 0;
}

static void clear_range(struct dbt_mmu *m, struct dbt_half *h, uint64_t index, uint64_t n)
{
	if (!dbt_half_is_ready(h, index))
		return;
	for (uint64_t i = index; i < index + n; i++)
		h->entry[i - h->first_index] = dbt_entry_value(i, m->guard);
}

void dbt_half_clear_page(struct dbt_mmu *m, struct dbt_half *h, gva_t va)
{
	uint64_t index = dbt_index(va);

	if (h->large == 2)
		dbt_half_clear(m, h);
	else if (h->large == 1)
		clear_range(m, h, index & ~511ull, 512);
	else
		clear_range(m, h, index, 1);
}
