/* SPDX-License-Identifier: Apache-2.0 */
/* Memory map: RAM, ROM, MMIO, holes, edges, overlap, listeners, sealing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mem/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct {
	uint64_t off, val;
	unsigned size, reads, writes;
} io;

static uint64_t io_read(void *opaque, uint64_t off, unsigned size)
{
	(void)opaque;
	io.off = off;
	io.size = size;
	io.reads++;
	return 0x1122334455667788ull;
}

static void io_write(void *opaque, uint64_t off, uint64_t val, unsigned size)
{
	(void)opaque;
	io.off = off;
	io.val = val;
	io.size = size;
	io.writes++;
}

static const struct mem_io_ops io_ops = { io_read, io_write };
static uint8_t rom_bytes[4096];
static struct mem_region rom, mmio;

enum { RAM0 = 0, RAM1 = 0x100000, MMIO = 0x200000, ROM = 0x300000 };

/* RAM at 0..64K and 1M..1M+64K from one memfd, MMIO at 2M, ROM at 3M. */
static int setup(void **state)
{
	struct mem_map *m = mem_map_new();

	memset(&io, 0, sizeof(io));
	memset(rom_bytes, 0xaa, sizeof(rom_bytes));
	mmio = (struct mem_region){
		.name = "mmio", .base = MMIO, .size = 0x1000, .fd = -1, .ops = &io_ops
	};
	rom = (struct mem_region){ .name = "rom",
				   .base = ROM,
				   .size = sizeof(rom_bytes),
				   .host = rom_bytes,
				   .fd = -1,
				   .ro = true };
	*state = m;
	return m == NULL || mem_ram_create(m, 128 * KiB, NULL) < 0 ||
	       mem_add_ram(m, "low", RAM0, 0, 64 * KiB) < 0 ||
	       mem_add_ram(m, "high", RAM1, 64 * KiB, 64 * KiB) < 0 ||
	       mem_region_add(m, &mmio) < 0 || mem_region_add(m, &rom) < 0;
}

static int teardown(void **state)
{
	mem_map_free(*state);
	return 0;
}

static void ram_loads_and_stores(void **state)
{
	struct mem_map *m = *state;

	mem_store(m, 0x1000, 0x8877665544332211ull, 8);
	assert_true(mem_load(m, 0x1000, 8) == 0x8877665544332211ull);
	assert_true(mem_load(m, 0x1001, 4) == 0x55443322);
	assert_true(mem_load(m, 0x1003, 2) == 0x5544);
	mem_store(m, 0x1001, 0xfff1, 1);
	assert_true(mem_load(m, 0x1000, 4) == 0x4433f111);
	mem_store(m, 0x1002, 0xbeef, 2);
	mem_store(m, 0x1004, 0x12345678, 4);
	assert_true(mem_load(m, 0x1000, 8) == 0x12345678beeff111ull);
	assert_ptr_equal(mem_ptr(m, RAM1, 1, true), mem_ram_host(m) + 64 * KiB);
}

static void holes_read_ones(void **state)
{
	struct mem_map *m = *state;

	assert_true(mem_load(m, 0x80000, 4) == 0xffffffff);
	assert_true(mem_load(m, 0x80000, 8) == UINT64_MAX);
	assert_true(mem_load(m, UINT64_MAX, 1) == 0xff);
	mem_store(m, 0x80000, 0, 8);
	/* over the edge: two bytes RAM, two bytes hole */
	mem_store(m, 0xfffe, 0x1234, 2);
	assert_true(mem_load(m, 0xfffe, 4) == 0xffff1234);
	mem_store(m, 0xfffe, 0xaabbccdd, 4);
	assert_true(mem_load(m, 0xfffe, 2) == 0xccdd);
}

static void rom_keeps_its_bytes(void **state)
{
	struct mem_map *m = *state;

	mem_store(m, ROM, 0, 8);
	assert_true(mem_load(m, ROM, 4) == 0xaaaaaaaa);
	assert_null(mem_ptr(m, ROM, 4, true));
	assert_ptr_equal(mem_ptr(m, ROM, 4096, false), rom_bytes);
	assert_int_equal(mem_copy_in(m, ROM, "x", 1), -EFAULT);
	assert_int_equal(rom_bytes[0], 0xaa);
}

static void mmio_is_dispatched(void **state)
{
	struct mem_map *m = *state;

	assert_true(mem_load(m, MMIO + 0x10, 2) == 0x7788);
	assert_int_equal(io.off, 0x10);
	assert_int_equal(io.size, 2);
	mem_store(m, MMIO + 0xffc, UINT64_MAX, 4);
	assert_int_equal(io.off, 0xffc);
	assert_true(io.val == 0xffffffff);
	/* over its end: split, never seen as one access that crosses */
	io.reads = 0;
	assert_true((mem_load(m, MMIO + 0xffe, 4) & 0xffff0000) == 0xffff0000);
	assert_int_equal(io.reads, 2);
	assert_int_equal(io.size, 1);
	assert_null(mem_ptr(m, MMIO, 1, false));
}

static void ptr_checks_every_bound(void **state)
{
	struct mem_map *m = *state;

	assert_non_null(mem_ptr(m, 0, 64 * KiB, true));
	assert_null(mem_ptr(m, 0, 64 * KiB + 1, true));
	assert_null(mem_ptr(m, 1, 64 * KiB, true));
	assert_null(mem_ptr(m, 0, UINT64_MAX, true));
	assert_null(mem_ptr(m, 0x8000, UINT64_MAX - 0x7fff, true));
	assert_null(mem_ptr(m, 64 * KiB, 0, true));
	assert_null(mem_ptr(m, UINT64_MAX, 1, false));
}

static void overlap_is_refused(void **state)
{
	struct mem_map *m = *state;
	struct mem_region r = { .name = "x", .base = 0xf000, .size = 0x2000, .fd = -1 };

	assert_int_equal(mem_region_add(m, &r), -EEXIST);
	r.base = 0x10000;
	assert_int_equal(mem_region_add(m, &r), 0);
	assert_ptr_equal(mem_find(m, 0x11fff), &r);
	mem_region_remove(m, &r);
	assert_null(mem_find(m, 0x11fff)); /* the remembered hit must be gone */
	r.base = UINT64_MAX - 0x1ffe;
	assert_int_equal(mem_region_add(m, &r), -EINVAL);
	r.base = UINT64_MAX - 0x1fff;
	assert_int_equal(mem_region_add(m, &r), 0);
	assert_ptr_equal(mem_find(m, UINT64_MAX), &r);
	r.size = 0;
	assert_int_equal(mem_region_add(m, &r), -EINVAL);
}

static void find_agrees_with_a_scan(void **state)
{
	static struct mem_region r[100];
	struct mem_map *m = *state;

	for (unsigned i = 0; i < 100; i++) {
		unsigned k = (i * 37) % 100; /* out of order */

		r[k] = (struct mem_region){ .name = "r",
					    .base = 0x1000000 + k * 0x3000ull,
					    .size = 0x1000 + (k % 3) * 0x1000ull,
					    .fd = -1 };
		assert_int_equal(mem_region_add(m, &r[k]), 0);
	}
	for (uint64_t a = 0x1000000; a < 0x1000000 + 100 * 0x3000; a += 0x7ff) {
		unsigned k = (unsigned)((a - 0x1000000) / 0x3000);
		bool in = a - r[k].base < r[k].size;

		assert_ptr_equal(mem_find(m, a), in ? &r[k] : NULL);
	}
}

struct ear {
	struct mem_listener l;
	unsigned added, removed;
	gpa_t dma_at;
	uint64_t dma_len;
};

static void ear_added(struct mem_listener *l, const struct mem_region *r)
{
	(void)r;
	container_of(l, struct ear, l)->added++;
}

static void ear_removed(struct mem_listener *l, const struct mem_region *r)
{
	(void)r;
	container_of(l, struct ear, l)->removed++;
}

static void ear_dma(struct mem_listener *l, gpa_t a, uint64_t len)
{
	struct ear *x = container_of(l, struct ear, l);

	x->dma_at = a;
	x->dma_len = len;
}

static void listeners_hear_all(void **state)
{
	struct ear x = { .l = { ear_added, ear_removed, ear_dma, NULL } };
	struct mem_map *m = *state;

	mem_listener_add(m, &x.l);
	assert_int_equal(x.added, 4);
	mem_region_remove(m, &mmio);
	assert_int_equal(x.removed, 1);
	mem_region_remove(m, &mmio);
	assert_int_equal(x.removed, 1);
	assert_int_equal(mem_region_add(m, &mmio), 0);
	assert_int_equal(x.added, 5);
	assert_int_equal(mem_copy_in(m, 0x123, "abc", 3), 0);
	assert_int_equal(x.dma_at, 0x123);
	assert_int_equal(x.dma_len, 3);
	mem_listener_remove(m, &x.l);
	mem_region_remove(m, &mmio);
	assert_int_equal(x.removed, 1);
}

static void copies_cross_regions_or_fail_whole(void **state)
{
	struct mem_map *m = *state;
	uint8_t buf[0x2000], back[0x2000];

	assert_int_equal(mem_add_ram(m, "next", 0x10000, 0, 64 * KiB), 0); /* an alias, adjacent */
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * 7);
	assert_int_equal(mem_copy_in(m, 0xf000, buf, sizeof(buf)), 0);
	assert_int_equal(mem_copy_out(m, back, 0xf000, sizeof(back)), 0);
	assert_memory_equal(buf, back, sizeof(buf));
	assert_true(mem_load(m, 0, 1) == buf[0x1000]); /* seen through the alias */
	mem_store(m, 0x1f000, 0x77, 1);
	assert_int_equal(mem_copy_in(m, 0x1f000, buf, 0x1001), -EFAULT);
	assert_true(mem_load(m, 0x1f000, 1) == 0x77); /* nothing half-written */
	assert_int_equal(mem_copy_out(m, back, UINT64_MAX - 1, 4), -EFAULT);
	assert_int_equal(mem_copy_out(m, back, MMIO, 4), -EFAULT);
	assert_int_equal(mem_copy_out(m, back, 0, UINT64_MAX), -EFAULT);
}

static void ram_is_sealed_and_checked(void **state)
{
	struct mem_map *m = *state, *n = mem_map_new();
	struct err e;

	assert_int_equal(ftruncate(mem_ram_fd(m), 4096), -1);
	assert_int_equal(ftruncate(mem_ram_fd(m), 1 << 20), -1);
	assert_int_equal(fcntl(mem_ram_fd(m), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(mem_ram_create(m, 4096, &e), -EEXIST);
	assert_non_null(n);
	assert_int_equal(mem_add_ram(n, "x", 0, 0, 4096), -EINVAL);
	assert_int_equal(mem_ram_create(n, 4095, &e), -EINVAL);
	assert_int_equal(mem_ram_create(n, 0, &e), -EINVAL);
	assert_int_equal(mem_ram_create(n, 1ull << 50, &e), -EINVAL);
	assert_int_equal(mem_add_ram(m, "x", 0x1000000, 64 * KiB, 65 * KiB), -EINVAL);
	assert_int_equal(mem_add_ram(m, "x", 0x1000000, UINT64_MAX, 1), -EINVAL);
	mem_map_free(n);
}

static void two_maps_do_not_mix(void **state)
{
	struct mem_map *m = *state, *n = mem_map_new();

	assert_non_null(n);
	assert_non_null(mem_find(m, 0x1000));
	assert_null(mem_find(n, 0x1000));
	assert_non_null(mem_find(m, 0x1000));
	mem_map_free(n);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(ram_loads_and_stores),
		T(holes_read_ones),
		T(rom_keeps_its_bytes),
		T(mmio_is_dispatched),
		T(ptr_checks_every_bound),
		T(overlap_is_refused),
		T(find_agrees_with_a_scan),
		T(listeners_hear_all),
		T(copies_cross_regions_or_fail_whole),
		T(ram_is_sealed_and_checked),
		T(two_maps_do_not_mix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
