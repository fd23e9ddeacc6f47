/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest-physical memory map: RAM, ROM and MMIO regions.
 * The map changes only while every vCPU is stopped or before they start; reading it needs no lock.
 * Guest RAM is one sealed memfd, so that the translator can map it more than once.
 */
#ifndef R3_MEM_MEM_H
#define R3_MEM_MEM_H

#include "base/base.h"
#include "base/err.h"

typedef uint64_t gpa_t; /* the same typedef as x86/state.h; C11 lets both stand */

struct mem_io_ops {
	/* size 1, 2, 4 or 8, never crossing the region's end; off is region-relative */
	uint64_t (*read)(void *opaque, uint64_t off, unsigned size);
	void (*write)(void *opaque, uint64_t off, uint64_t val, unsigned size);
};

struct mem_region {
	const char *name;
	gpa_t base;
	uint64_t size;
	uint8_t *host; /* RAM or ROM: host address of its first byte; NULL: MMIO */
	int fd;	       /* RAM: memfd and offset of the first byte in it; -1 otherwise */
	uint64_t fd_offset;
	bool ro;		      /* guest writes are dropped (ROM) */
	const struct mem_io_ops *ops; /* MMIO */
	void *opaque;
	struct mem_region *next; /* private to the map */
};

struct mem_listener {
	void (*added)(struct mem_listener *l, const struct mem_region *r);
	void (*removed)(struct mem_listener *l, const struct mem_region *r);
	/* A device (not a vCPU) wrote guest RAM: translated code there is stale. May be NULL. Any thread. */
	void (*dma_written)(struct mem_listener *l, gpa_t a, uint64_t len);
	struct mem_listener *next;
};

struct mem_map;

struct mem_map *mem_map_new(void);
void mem_map_free(struct mem_map *m);

/*
 * Allocates `size` bytes of guest RAM (a multiple of 4 KiB) as one memfd, populated on demand, and
 * maps it read-write once. Errors: -ENOMEM with the mend. mem_ram_* describe it.
 */
int mem_ram_create(struct mem_map *m, uint64_t size, struct err *e) MUST_CHECK;
int mem_ram_fd(const struct mem_map *m);
uint8_t *mem_ram_host(const struct mem_map *m);
uint64_t mem_ram_size(const struct mem_map *m);
/* Adds a RAM region at base backed by [offset, offset+size) of the RAM memfd. */
int mem_add_ram(struct mem_map *m, const char *name, gpa_t base, uint64_t offset,
		uint64_t size) MUST_CHECK;

/* Adds or removes a region (the caller keeps *r alive). -EEXIST when it overlaps another. */
int mem_region_add(struct mem_map *m, struct mem_region *r) MUST_CHECK;
void mem_region_remove(struct mem_map *m, struct mem_region *r);
/* A new listener hears "added" at once for every region there is. */
void mem_listener_add(struct mem_map *m, struct mem_listener *l);
void mem_listener_remove(struct mem_map *m, struct mem_listener *l);

/* The region that holds a, or NULL. Fast: last hit cached by the caller's thread. */
const struct mem_region *mem_find(const struct mem_map *m, gpa_t a);
/*
 * Host address of [a, a+len) when it lies wholly in one RAM region (writable RAM only if `write`);
 * otherwise NULL. The one check every device makes on a guest address.
 */
uint8_t *mem_ptr(const struct mem_map *m, gpa_t a, uint64_t len, bool write);

/* Physical access as a vCPU makes it: RAM or MMIO; nothing there reads as all ones, writes vanish. */
uint64_t mem_load(struct mem_map *m, gpa_t a, unsigned size);
void mem_store(struct mem_map *m, gpa_t a, uint64_t val, unsigned size);

/* Bulk copy in or out of RAM only (boot loaders, DMA of odd structures). -EFAULT outside RAM. */
int mem_copy_in(struct mem_map *m, gpa_t a, const void *src, uint64_t len) MUST_CHECK;
int mem_copy_out(struct mem_map *m, void *dst, gpa_t a, uint64_t len) MUST_CHECK;

/* Devices call this after having written guest RAM through mem_ptr (mem_copy_in does it itself). */
void mem_dma_written(struct mem_map *m, gpa_t a, uint64_t len);

#endif
