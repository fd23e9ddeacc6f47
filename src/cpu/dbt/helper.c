/* SPDX-License-Identifier: Apache-2.0 */
/*
 * C that generated code calls while the guest's vector state is live in the host registers. Compiled for general
 * registers only; calls nothing outside this file.
 */
#include "cpu/dbt/dbt_priv.h"

#define CHUNK_ENTRIES (DBT_CHUNK_BYTES / 8)

static struct dbt_half *half_for(struct dbt_tls *t, gva_t va)
{
	struct dbt_mmu *m = &t->d->mmu;

	if (va >> 47) {
		if (va >> 47 != 0x1ffff || t->st.cpl == 3)
			return NULL;
		return &m->kernel;
	}
	if (t->st.cpl == 3 || ((t->st.cr4 & X86_CR4_SMAP) && (t->sysflags & X86_FL_AC)))
		return &m->cur->half;
	return &m->sup_low;
}

/* Host address of va by the flat table, for reading or writing; NULL: not there, or not that way. */
static uint8_t *flat(struct dbt_tls *t, gva_t va, bool write)
{
	struct dbt_mmu *m = &t->d->mmu;
	struct dbt_half *h = half_for(t, va);
	uint64_t index = dbt_index(va), c;
	uint8_t *host;

	if (!h)
		return NULL;
	c = (index - h->first_index) / CHUNK_ENTRIES;
	if (!(h->chunk_ready[c / 8] & 1u << (c & 7)))
		return NULL;
	host = (uint8_t *)(h->entry[index - h->first_index] +
			   (uint64_t)((int64_t)(index << 28) >> 16));
	if ((uint64_t)(host - m->ram_rw) >= m->ram_size &&
	    (write || (uint64_t)(host - m->ram_ro) >= m->ram_size))
		return NULL;
	return host + (va & 4095);
}

static void fill_bytes(uint8_t *to, uint64_t value, unsigned size, uint64_t n)
{
	if (size == 1)
		__asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(value) : "memory");
	else if (size == 2)
		__asm__ volatile("rep stosw" : "+D"(to), "+c"(n) : "a"(value) : "memory");
	else if (size == 4)
		__asm__ volatile("rep stosl" : "+D"(to), "+c"(n) : "a"(value) : "memory");
	else
		__asm__ volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(value) : "memory");
}

/* Element by element where source and destination overlap closely, as the guest would see it done. */
static void copy_bytes(uint8_t *to, const uint8_t *from, unsigned size, uint64_t n)
{
	if (size == 1)
		__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	else if (size == 2)
		__asm__ volatile("rep movsw" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	else if (size == 4)
		__asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	else
		__asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static uint64_t elements_to_page_end(gva_t va, unsigned size)
{
	return (4096 - (va & 4095)) / size;
}

unsigned dbt_helper_rep(uint32_t what)
{
	struct dbt_tls *t = &dbt_tls;
	uint64_t *gpr = t->st.gpr;
	unsigned size = (what >> 8) & 0xff;

	while (gpr[X86_RCX]) {
		uint64_t n = MIN(gpr[X86_RCX], elements_to_page_end(gpr[X86_RDI], size));
		uint8_t *to = flat(t, gpr[X86_RDI], true), *from = NULL;

		if (!(what & DBT_REP_STOS)) {
			n = MIN(n, elements_to_page_end(gpr[X86_RSI], size));
			from = flat(t, gpr[X86_RSI], false);
		}
		/* An element that crosses pages, and whatever the table does not hold, is interp's. */
		if (n == 0 || !to || (!from && !(what & DBT_REP_STOS)))
			return 1;
		if (from) {
			copy_bytes(to, from, size, n);
			gpr[X86_RSI] += n * size;
		} else {
			fill_bytes(to, gpr[X86_RAX], size, n);
		}
		gpr[X86_RDI] += n * size;
		gpr[X86_RCX] -= n;
		if (t->kick && gpr[X86_RCX])
			return 2;
	}
	t->st.rip += what & 0xff;
	return 0;
}
