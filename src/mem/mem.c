/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory map: a sorted list for building, a sorted array for look-up. The map changes only
 * while no vCPU runs, so look-ups take no lock; each thread remembers its last hit, and `gen` tells
 * it when that memory is stale.
 */
#include "mem/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_REGIONS = 256 };

struct mem_map {
	struct mem_region *region[MAX_REGIONS]; /* by base */
	unsigned count;
	uint64_t gen; /* unique among all maps and all their changes */
	struct mem_listener *listeners;
	struct mem_region *owned; /* made by mem_add_ram */
	int fd;
	uint8_t *host;
	uint64_t size;
};

static uint64_t next_gen;

static __thread struct {
	uint64_t gen;
	const struct mem_region *r;
} last_hit;

static void changed(struct mem_map *m)
{
	m->gen = __atomic_add_fetch(&next_gen, 1, __ATOMIC_RELAXED);
}

struct mem_map *mem_map_new(void)
{
	struct mem_map *m = calloc(1, sizeof(*m));

	if (m == NULL)
		return NULL;
	m->fd = -1;
	changed(m);
	return m;
}

void mem_map_free(struct mem_map *m)
{
	if (m == NULL)
		return;
	while (m->owned != NULL) {
		struct mem_region *r = m->owned;

		m->owned = r->next;
		free(r);
	}
	if (m->host != NULL)
		munmap(m->host, m->size);
	if (m->fd >= 0)
		close(m->fd);
	free(m);
}

static int ram_map(struct mem_map *m, int fd, uint64_t size, struct err *e)
{
	const int seals = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
	void *p;

	if (ftruncate(fd, (off_t)size) < 0 || fcntl(fd, F_ADD_SEALS, seals) < 0)
		return err_set(
			e, -errno,
			"memory: cannot size %llu MiB of guest RAM: %s; use a smaller --memory",
			(unsigned long long)(size / MiB), strerror(errno));
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (p == MAP_FAILED)
		return err_set(
			e, -ENOMEM,
			"memory: cannot map %llu MiB of guest RAM: %s; use a smaller --memory",
			(unsigned long long)(size / MiB), strerror(errno));
	m->fd = fd;
	m->host = p;
	m->size = size;
	return 0;
}

int mem_ram_create(struct mem_map *m, uint64_t size, struct err *e)
{
	int fd, r;

	if (m->fd >= 0)
		return err_set(e, -EEXIST, "memory: guest RAM exists already");
	if (size == 0 || size % (4 * KiB) != 0 || size > (1ull << 46))
		return err_set(e, -EINVAL,
			       "memory: %llu bytes: must be a multiple of 4 KiB, at most 64 TiB",
			       (unsigned long long)size);
	fd = memfd_create("ring3-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return err_set(e, -errno, "memory: memfd_create: %s", strerror(errno));
	r = ram_map(m, fd, size, e);
	if (r < 0)
		close(fd);
	return r;
}

int mem_ram_fd(const struct mem_map *m)
{
	return m->fd;
}

uint8_t *mem_ram_host(const struct mem_map *m)
{
	return m->host;
}

uint64_t mem_ram_size(const struct mem_map *m)
{
	return m->size;
}

/* Index of the first region whose end lies beyond a. */
static unsigned region_index(const struct mem_map *m, gpa_t a)
{
	unsigned lo = 0, hi = m->count;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;
		const struct mem_region *r = m->region[mid];

		if (r->base + (r->size - 1) < a)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int mem_region_add(struct mem_map *m, struct mem_region *r)
{
	unsigned i;

	if (r->size == 0 || r->base + (r->size - 1) < r->base)
		return -EINVAL;
	if (m->count == MAX_REGIONS)
		return -ENOSPC;
	i = region_index(m, r->base);
	if (i < m->count && m->region[i]->base <= r->base + (r->size - 1))
		return -EEXIST;
	memmove(&m->region[i + 1], &m->region[i], (m->count - i) * sizeof(m->region[0]));
	m->region[i] = r;
	m->count++;
	changed(m);
	for (struct mem_listener *l = m->listeners; l != NULL; l = l->next) {
		if (l->added != NULL)
			l->added(l, r);
	}
	return 0;
}

void mem_region_remove(struct mem_map *m, struct mem_region *r)
{
	unsigned i = 0;

	while (i < m->count && m->region[i] != r)
		i++;
	if (i == m->count)
		return;
	m->count--;
	memmove(&m->region[i], &m->region[i + 1], (m->count - i) * sizeof(m->region[0]));
	changed(m);
	for (struct mem_listener *l = m->listeners; l != NULL; l = l->next) {
		if (l->removed != NULL)
			l->removed(l, r);
	}
}

int mem_add_ram(struct mem_map *m, const char *name, gpa_t base, uint64_t offset, uint64_t size)
{
	struct mem_region *r;
	int err;

	if (m->fd < 0 || offset > m->size || size > m->size - offset)
		return -EINVAL;
	r = calloc(1, sizeof(*r));
	if (r == NULL)
		return -ENOMEM;
	*r = (struct mem_region){ .name = name,
				  .base = base,
				  .size = size,
				  .host = m->host + offset,
				  .fd = m->fd,
				  .fd_offset = offset };
	err = mem_region_add(m, r);
	if (err < 0) {
		free(r);
		return err;
	}
	r->next = m->owned;
	m->owned = r;
	return 0;
}

void mem_listener_add(struct mem_map *m, struct mem_listener *l)
{
	l->next = m->listeners;
	m->listeners = l;
	for (unsigned i = 0; i < m->count && l->added != NULL; i++)
		l->added(l, m->region[i]);
}

void mem_listener_remove(struct mem_map *m, struct mem_listener *l)
{
	for (struct mem_listener **p = &m->listeners; *p != NULL; p = &(*p)->next) {
		if (*p == l) {
			*p = l->next;
			return;
		}
	}
}

const struct mem_region *mem_find(const struct mem_map *m, gpa_t a)
{
	const struct mem_region *r = last_hit.r;
	unsigned i;

	if (last_hit.gen == m->gen && a - r->base < r->size)
		return r;
	i = region_index(m, a);
	if (i == m->count || m->region[i]->base > a)
		return NULL;
	r = m->region[i];
	last_hit.gen = m->gen;
	last_hit.r = r;
	return r;
}

uint8_t *mem_ptr(const struct mem_map *m, gpa_t a, uint64_t len, bool write)
{
	const struct mem_region *r = mem_find(m, a);
	uint64_t off;

	if (r == NULL || r->host == NULL || (write && r->ro))
		return NULL;
	off = a - r->base;
	if (len > r->size - off)
		return NULL;
	return r->host + off;
}

static uint64_t ones(unsigned size)
{
	return size >= 8 ? UINT64_MAX : (1ull << (8 * size)) - 1;
}

typedef uint16_t u16_any __attribute__((aligned(1), may_alias));
typedef uint32_t u32_any __attribute__((aligned(1), may_alias));
typedef uint64_t u64_any __attribute__((aligned(1), may_alias));

/* RAM is read and written in one access of its size, as other vCPUs and devices look on. */
static uint64_t host_load(const uint8_t *p, unsigned size)
{
	uint64_t v = 0;

	switch (size) {
	case 1: return *(const volatile uint8_t *)p;
	case 2: return *(const volatile u16_any *)p;
	case 4: return *(const volatile u32_any *)p;
	case 8: return *(const volatile u64_any *)p;
	default: memcpy(&v, p, MIN(size, 8u)); return v;
	}
}

static void host_store(uint8_t *p, uint64_t val, unsigned size)
{
	switch (size) {
	case 1: *(volatile uint8_t *)p = (uint8_t)val; return;
	case 2: *(volatile u16_any *)p = (uint16_t)val; return;
	case 4: *(volatile u32_any *)p = (uint32_t)val; return;
	case 8: *(volatile u64_any *)p = val; return;
	default: memcpy(p, &val, MIN(size, 8u));
	}
}

/* An access over the edge of a region goes byte by byte. */
static uint64_t load_split(struct mem_map *m, gpa_t a, unsigned size)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < size; i++)
		v |= mem_load(m, a + i, 1) << (8 * i);
	return v;
}

uint64_t mem_load(struct mem_map *m, gpa_t a, unsigned size)
{
	const struct mem_region *r = mem_find(m, a);

	if (r == NULL)
		return size == 1 ? 0xff : load_split(m, a, size);
	if (size > r->size - (a - r->base))
		return load_split(m, a, size);
	if (r->host != NULL)
		return host_load(r->host + (a - r->base), size);
	if (r->ops == NULL || r->ops->read == NULL)
		return ones(size);
	return r->ops->read(r->opaque, a - r->base, size) & ones(size);
}

static void store_split(struct mem_map *m, gpa_t a, uint64_t val, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		mem_store(m, a + i, (val >> (8 * i)) & 0xff, 1);
}

void mem_store(struct mem_map *m, gpa_t a, uint64_t val, unsigned size)
{
	const struct mem_region *r = mem_find(m, a);

	if (r == NULL) {
		if (size > 1)
			store_split(m, a, val, size);
		return;
	}
	if (size > r->size - (a - r->base)) {
		store_split(m, a, val, size);
		return;
	}
	if (r->host != NULL) {
		if (!r->ro)
			host_store(r->host + (a - r->base), val, size);
		return;
	}
	if (r->ops != NULL && r->ops->write != NULL)
		r->ops->write(r->opaque, a - r->base, val & ones(size), size);
}

/* How much of [a, a+len) lies in the RAM region at a; its host address in *p. */
static uint64_t ram_chunk(const struct mem_map *m, gpa_t a, uint64_t len, bool write, uint8_t **p)
{
	const struct mem_region *r = mem_find(m, a);

	*p = NULL;
	if (r == NULL || r->host == NULL || (write && r->ro))
		return 0;
	*p = r->host + (a - r->base);
	return MIN(len, r->size - (a - r->base));
}

static bool all_ram(const struct mem_map *m, gpa_t a, uint64_t len, bool write)
{
	uint8_t *p;

	if (a + len < a)
		return false;
	while (len > 0) {
		uint64_t n = ram_chunk(m, a, len, write, &p);

		if (n == 0)
			return false;
		a += n;
		len -= n;
	}
	return true;
}

int mem_copy_in(struct mem_map *m, gpa_t a, const void *src, uint64_t len)
{
	const uint8_t *s = src;
	const gpa_t start = a;
	const uint64_t total = len;
	uint8_t *p;

	if (!all_ram(m, a, len, true))
		return -EFAULT;
	while (len > 0) {
		uint64_t n = ram_chunk(m, a, len, true, &p);

		memcpy(p, s, n);
		a += n;
		s += n;
		len -= n;
	}
	mem_dma_written(m, start, total);
	return 0;
}

int mem_copy_out(struct mem_map *m, void *dst, gpa_t a, uint64_t len)
{
	uint8_t *d = dst, *p;

	if (!all_ram(m, a, len, false))
		return -EFAULT;
	while (len > 0) {
		uint64_t n = ram_chunk(m, a, len, false, &p);

		memcpy(d, p, n);
		a += n;
		d += n;
		len -= n;
	}
	return 0;
}

void mem_dma_written(struct mem_map *m, gpa_t a, uint64_t len)
{
	for (struct mem_listener *l = m->listeners; l != NULL; l = l->next) {
		if (l->dma_written != NULL)
			l->dma_written(l, a, len);
	}
}
