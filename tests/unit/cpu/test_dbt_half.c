/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arithmetic that keeps translated code inside guest RAM (cpu/dbt/half.c), on a model of what generated code computes:
 *     host = ea + entry[ea<47:12>] + misfit << 40
 * for random addresses of every kind, sizes and offsets, with entries present and absent.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "cpu/dbt/dbt_priv.h"

#define RAM (64 * MiB)

static uint64_t seed = 88172645463325252ul;

static uint64_t rnd(void)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return seed * 0x2545f4914f6cdd1dul;
}

struct model {
	struct dbt_mmu m;
	struct dbt_half half[2];
	uint8_t *mem;
};

static struct model *model_new(void)
{
	struct model *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	/* addresses only: nothing is mapped there */
	t->m.window = (uint8_t *)DBT_WINDOW_BASE;
	t->m.ram_rw = t->m.window + 2 * MiB;
	t->m.ram_ro = t->m.window + DBT_ALIAS_BYTES;
	t->m.guard = t->m.window + 2 * DBT_ALIAS_BYTES - 2 * MiB;
	t->mem = mmap(NULL, 2 * DBT_HALF_BYTES, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(t->mem != MAP_FAILED);
	for (unsigned i = 0; i < 2; i++)
		dbt_half_init(&t->m, &t->half[i], t->mem + i * DBT_HALF_BYTES, i);
	return t;
}

static void model_free(struct model *t)
{
	dbt_half_free(&t->half[0]);
	dbt_half_free(&t->half[1]);
	munmap(t->mem, 2 * DBT_HALF_BYTES);
	free(t);
}

static struct dbt_half *half_of(struct model *t, uint64_t index)
{
	return &t->half[index >= DBT_HALF_ENTRIES];
}

/* Where generated code would go; misfit: 0 when the access stays in its page. */
static uint64_t host_address(struct model *t, uint64_t ea, unsigned misfit)
{
	uint64_t index = ea << 16 >> 28;
	struct dbt_half *h = half_of(t, index);

	return ea + h->entry[index - h->first_index] + ((uint64_t)misfit << DBT_MISFIT_SHIFT);
}

static bool never_mapped(const struct model *t, uint64_t a)
{
	uint64_t free_from = (uint64_t)t->m.window + 2 * DBT_ALIAS_BYTES;

	return (a >= free_from && a < DBT_WINDOW_BASE + DBT_WINDOW_BYTES) || a >= BIT(47);
}

static bool in_guard(const struct model *t, uint64_t a)
{
	return a - (uint64_t)t->m.guard < 4096;
}

/* An index at random, more often at the edges of the halves and of chunks. */
static uint64_t some_index(void)
{
	uint64_t edge[] = { 0, DBT_HALF_ENTRIES, 2 * DBT_HALF_ENTRIES - 1, DBT_HALF_ENTRIES - 1,
			    DBT_CHUNK_BYTES / 8 };

	return (rnd() & 3 ? rnd() : edge[rnd() % ARRAY_SIZE(edge)] + rnd() % 3 - 1) &
	       (2 * DBT_HALF_ENTRIES - 1);
}

static void check_access(struct model *t, uint64_t ea, const uint8_t *host)
{
	unsigned off = ea & 4095, size = 1 + (unsigned)(rnd() % 64);
	bool crosses = off + size > 4096;
	uint64_t a = host_address(t, ea, crosses ? 1 + (unsigned)(rnd() % 31) : 0);

	if (crosses || !x86_canonical(ea)) {
		assert_true(never_mapped(t, a));
		assert_true(never_mapped(t, a + size - 1));
	} else if (host) {
		assert_int_equal(a, (uint64_t)host + off);
	} else {
		assert_true(in_guard(t, a) && in_guard(t, a + size - 1));
	}
}

/* The same low 48 bits with each of many upper ones. */
static void check_index(struct model *t, uint64_t index, const uint8_t *host)
{
	uint64_t low = index << 12;

	for (unsigned i = 0; i < 24; i++) {
		uint64_t ea = low + (i & 1 ? 4095 - rnd() % 64 : rnd() % 4096),
			 canon = (uint64_t)((int64_t)(ea << 16) >> 16);

		check_access(t, canon, host);
		check_access(t, ea | rnd() << 48, host);
		check_access(t, canon ^ 1ul << (48 + rnd() % 16), host);
	}
}

static void addresses(void **state)
{
	struct model *t = model_new();

	(void)state;
	for (unsigned i = 0; i < 700; i++) { /* a half takes only so many chunks */
		uint64_t index = some_index();
		struct dbt_half *h = half_of(t, index);
		uint8_t *host =
			(rnd() & 1 ? t->m.ram_rw : t->m.ram_ro) + (rnd() % (RAM >> 12) << 12);

		dbt_half_ready(&t->m, h, index);
		assert_true(dbt_half_is_ready(h, index));
		if (dbt_half_get(h, index) == t->m.guard)
			check_index(t, index, NULL);
		dbt_half_set(&t->m, h, index, host);
		assert_ptr_equal(dbt_half_get(h, index), host);
		check_index(t, index, host);
		if (i & 1) {
			dbt_half_set(&t->m, h, index, NULL);
			check_index(t, index, NULL);
		}
	}
	model_free(t);
}

/* Whatever is dropped is absent again, by page, by large page, and all together. */
static void dropping(void **state)
{
	struct model *t = model_new();
	uint64_t index[400];

	(void)state;
	for (unsigned round = 0; round < 6; round++) {
		struct dbt_half *h;

		for (unsigned i = 0; i < ARRAY_SIZE(index); i++) {
			index[i] = i < 300 ? 0x12345000 + rnd() % 8192
					   : DBT_HALF_ENTRIES + 0x777000 + rnd() % 8192;
			h = half_of(t, index[i]);
			dbt_half_ready(&t->m, h, index[i]);
			dbt_half_set(&t->m, h, index[i], t->m.ram_rw + i * 4096);
		}
		t->half[0].large = (uint8_t)(round % 3);
		dbt_half_clear_page(&t->m, &t->half[0], index[7] << 12);
		check_index(t, index[7], NULL);
		if (round % 3 == 1)
			for (unsigned i = 0; i < 300; i++)
				if (index[i] >> 9 == index[7] >> 9)
					check_index(t, index[i], NULL);
		dbt_half_clear(&t->m, &t->half[0]);
		for (unsigned i = 0; i < 300; i++)
			check_index(t, index[i], NULL);
		assert_ptr_not_equal(dbt_half_get(&t->half[1], index[399]), t->m.guard);
	}
	model_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(addresses),
					    cmocka_unit_test(dropping) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
