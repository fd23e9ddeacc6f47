/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The second RAM. The translator works on it; devices write into the machine's, and what they wrote is
 * copied when they say so. Every byte the interpreter writes is compared at the end of the step, and all of
 * RAM now and then, which finds what the translator wrote and should not have.
 *
 * Accessed and dirty bits are set when an engine's own TLB misses, which is not at the same time: such marks are
 * left out of the comparison and given to the other side at the end of the step.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cpu/lockstep/lockstep_priv.h"

#define MAX_RANGES (1u << 16)
#define MARK_BITS 0x60ull /* accessed, dirty */

static uint64_t offset_of(const struct ls_ram *m, gpa_t a, uint64_t *left)
{
	for (unsigned i = 0; i < m->nparts; i++)
		if (a - m->part[i].base < m->part[i].size) {
			*left = m->part[i].size - (a - m->part[i].base);
			return m->part[i].off + (a - m->part[i].base);
		}
	return UINT64_MAX;
}

static gpa_t gpa_of(const struct ls_ram *m, uint64_t off)
{
	for (unsigned i = 0; i < m->nparts; i++)
		if (off - m->part[i].off < m->part[i].size)
			return m->part[i].base + (off - m->part[i].off);
	return off;
}

/* ---- what changes ---- */

void ls_ram_step_begin(struct ls_ram *m)
{
	m->written.n = 0;
	m->written.all = false;
	m->nmarks = 0;
}

void ls_ram_written(struct ls_ram *m, gpa_t a, uint64_t len)
{
	struct ls_ranges *w = &m->written;
	struct ls_range *last = w->n ? &w->r[w->n - 1] : NULL;

	if (last && a == last->gpa + last->len) {
		last->len += len;
	} else if (last && a + len == last->gpa) {
		last->gpa = a;
		last->len += len;
	} else if (w->n < w->cap) {
		w->r[w->n++] = (struct ls_range){ a, len };
	} else {
		w->all = true;
	}
}

static uint64_t entry_load(const uint8_t *p, unsigned size)
{
	uint64_t val = 0;

	memcpy(&val, p, size);
	return val;
}

/* The same entry but for the marks: both get the marks of both. */
static void even_out(struct ls_ram *m, const struct ls_mark *k)
{
	uint64_t left, off = offset_of(m, k->gpa, &left), a, b;

	if (off == UINT64_MAX || left < k->size)
		return;
	a = entry_load(m->ref_host + off, k->size);
	b = entry_load(m->dbt_host + off, k->size);
	if (a == b || ((a ^ b) & ~MARK_BITS))
		return;
	a |= b;
	memcpy(m->ref_host + off, &a, k->size);
	memcpy(m->dbt_host + off, &a, k->size);
}

static void marks_flush(struct ls_ram *m)
{
	for (unsigned i = 0; i < m->nmarks; i++)
		even_out(m, &m->mark[i]);
	m->nmarks = 0;
}

/* Also from the translator's fault handler. */
void ls_ram_marked(struct ls_ram *m, gpa_t a, unsigned size)
{
	if (m->nmarks == LS_MARKS)
		marks_flush(m);
	m->mark[m->nmarks++] = (struct ls_mark){ a, size };
}

/* A device wrote into the machine's RAM; the gate is closed to everybody else. */
static void dma_written(struct mem_listener *l, gpa_t a, uint64_t len)
{
	struct ls_ram *m = container_of(l, struct ls_ram, listener);

	while (len) {
		uint64_t left, off = offset_of(m, a, &left), n = MIN(len, left);

		if (off == UINT64_MAX)
			return;
		memcpy(m->dbt_host + off, m->ref_host + off, n);
		mem_dma_written(m->dbt, a, n);
		a += n;
		len -= n;
	}
}

/* ---- comparing ---- */

static unsigned compare(const struct ls_ram *m, uint64_t off, uint64_t len, struct ls_byte *diff,
			unsigned n, unsigned max)
{
	const uint8_t *a = m->ref_host + off, *b = m->dbt_host + off;

	for (uint64_t i = 0; i < len && n < max;) {
		uint64_t step = MIN(len - i, (uint64_t)(64 * KiB));

		if (!memcmp(a + i, b + i, step)) {
			i += step;
			continue;
		}
		for (uint64_t end = i + step; i < end && n < max; i++)
			if (a[i] != b[i])
				diff[n++] = (struct ls_byte){ gpa_of(m, off + i), a[i], b[i] };
	}
	return n;
}

/* What is allocated in fd; the other side's part is compared with it, holes read as zero. */
static unsigned compare_allocated(const struct ls_ram *m, int fd, struct ls_byte *diff, unsigned n,
				  unsigned max)
{
	off_t size = (off_t)mem_ram_size(m->ref), from = 0, to;

	while (n < max && from < size) {
		from = lseek(fd, from, SEEK_DATA);
		if (from < 0)
			break;
		to = lseek(fd, from, SEEK_HOLE);
		if (to < 0)
			to = size;
		n = compare(m, (uint64_t)from, (uint64_t)(to - from), diff, n, max);
		from = to;
	}
	return n;
}

unsigned ls_ram_compare(const struct ls_ram *m, struct ls_byte *diff, unsigned max)
{
	unsigned n = compare_allocated(m, mem_ram_fd(m->ref), diff, 0, max);

	return n ? n : compare_allocated(m, mem_ram_fd(m->dbt), diff, 0, max);
}

unsigned ls_ram_step_end(struct ls_ram *m, struct ls_byte *diff, unsigned max)
{
	unsigned n = 0;

	marks_flush(m);
	if (m->written.all)
		return ls_ram_compare(m, diff, max);
	for (unsigned i = 0; i < m->written.n && n < max; i++) {
		struct ls_range r = m->written.r[i];

		while (r.len && n < max) {
			uint64_t left, off = offset_of(m, r.gpa, &left);

			if (off == UINT64_MAX)
				break;
			left = MIN(left, r.len);
			n = compare(m, off, left, diff, n, max);
			r.gpa += left;
			r.len -= left;
		}
	}
	return n;
}

/* ---- making the second RAM ---- */

static void region_added(struct mem_listener *l, const struct mem_region *r)
{
	struct ls_ram *m = container_of(l, struct ls_ram, listener);

	if (r->host && r->fd >= 0 && !r->ro) {
		if (m->nparts == ARRAY_SIZE(m->part) ||
		    mem_add_ram(m->dbt, r->name, r->base, r->fd_offset, r->size))
			m->failed = true;
		else
			m->part[m->nparts++] =
				(struct ls_ram_part){ r->base, r->fd_offset, r->size };
	} else if (r->host) {
		if (m->nroms == ARRAY_SIZE(m->rom)) {
			m->failed = true;
			return;
		}
		m->rom[m->nroms] = *r;
		if (mem_region_add(m->dbt, &m->rom[m->nroms]))
			m->failed = true;
		else
			m->nroms++;
	}
}

static void region_removed(struct mem_listener *l, const struct mem_region *r)
{
	(void)l;
	(void)r;
}

static void copy_all(struct ls_ram *m)
{
	int fd = mem_ram_fd(m->ref);
	off_t size = (off_t)mem_ram_size(m->ref), from = 0, to;

	while (from < size && (from = lseek(fd, from, SEEK_DATA)) >= 0) {
		to = lseek(fd, from, SEEK_HOLE);
		if (to < 0)
			to = size;
		memcpy(m->dbt_host + from, m->ref_host + from, (size_t)(to - from));
		from = to;
	}
}

int ls_ram_open(struct ls_ram *m, struct mem_map *ref, struct err *e)
{
	int r;

	*m = (struct ls_ram){ .ref = ref, .dbt = mem_map_new() };
	m->written.cap = MAX_RANGES;
	m->written.r = malloc(MAX_RANGES * sizeof(*m->written.r));
	if (!m->dbt || !m->written.r)
		return err_set(e, -ENOMEM, "lockstep: no memory");
	r = mem_ram_create(m->dbt, mem_ram_size(ref), e);
	if (r)
		return r;
	m->ref_host = mem_ram_host(ref);
	m->dbt_host = mem_ram_host(m->dbt);
	m->listener = (struct mem_listener){ .added = region_added,
					     .removed = region_removed,
					     .dma_written = dma_written };
	mem_listener_add(ref, &m->listener);
	if (m->failed || m->nparts == 0)
		return err_set(e, -ENOTSUP,
			       "lockstep: this memory map has more regions than foreseen");
	copy_all(m);
	return 0;
}

void ls_ram_close(struct ls_ram *m)
{
	if (m->listener.added)
		mem_listener_remove(m->ref, &m->listener);
	for (unsigned i = 0; i < m->nroms; i++)
		mem_region_remove(m->dbt, &m->rom[i]);
	if (m->dbt)
		mem_map_free(m->dbt);
	free(m->written.r);
}
