/* SPDX-License-Identifier: Apache-2.0 */
/* The virtqueue against a correct driver and against every kind of wrong one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "drv.h"

#include <errno.h>
#include <string.h>

enum { N = DRV_QSIZE, WRITE = 2, NEXT = 1, INDIRECT = 4 };

static struct drv_machine m;
static struct drv_ring r;
static struct vq q;
static struct vq_chain c;

static int setup(void **state)
{
	(void)state;
	drv_machine_init(&m);
	drv_ring_init(&r, &m, 0, N);
	memset(&q, 0, sizeof(q));
	q.mem = m.mem;
	q.st.max = VQ_SIZE_MAX;
	vq_reset(&q);
	q.st.size = N;
	q.st.desc = r.desc;
	q.st.avail = r.avail;
	q.st.used = r.used;
	q.indirect = true;
	assert_int_equal(vq_enable(&q), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	drv_machine_fini(&m);
	return 0;
}

static const struct drv_seg plain[] = { { DRV_DATA, 16, false },
					{ DRV_DATA + 0x1000, 100, true },
					{ DRV_DATA + 0x2000, 28, true } };

static void check_plain(void)
{
	uint8_t buf[16];

	assert_int_equal(vq_pop(&q, &c), 1);
	assert_int_equal(c.n_out, 1);
	assert_int_equal(c.n_in, 2);
	assert_int_equal(c.out_len, 16);
	assert_int_equal(c.in_len, 128);
	assert_int_equal(vq_read(&c, 0, buf, sizeof(buf)), 16);
	assert_memory_equal(buf, "sixteen bytes OK", 16);
	assert_int_equal(vq_write(&c, 96, "ABCDEFGH", 8), 8);
	assert_memory_equal(drv_mem(&m, DRV_DATA + 0x1000 + 96, 4), "ABCD", 4);
	assert_memory_equal(drv_mem(&m, DRV_DATA + 0x2000, 4), "EFGH", 4);
	assert_int_equal(vq_write(&c, 120, "0123456789", 10), 8); /* the chain's end */
}

static void test_roundtrip(void **state)
{
	uint32_t id, len;

	(void)state;
	memcpy(drv_mem(&m, DRV_DATA, 16), "sixteen bytes OK", 16);
	assert_int_equal(vq_pop(&q, &c), 0);
	for (unsigned i = 0; i < 70000; i++) { /* indices wrap at 65536 */
		uint16_t head = drv_add(&r, plain, 3);

		if (i < 3)
			check_plain();
		else
			assert_int_equal(vq_pop(&q, &c), 1);
		assert_int_equal(vq_pop(&q, &c), 0);
		m.dma_bytes = 0;
		vq_push(&q, &c, 104);
		assert_int_equal(m.dma_bytes, 104 + 8 + 2);
		assert_true(drv_used(&r, &id, &len));
		assert_int_equal(id, head);
		assert_int_equal(len, 104);
		assert_false(drv_used(&r, &id, &len));
	}
}

static void test_indirect(void **state)
{
	struct drv_seg many[40]; /* longer than the ring */

	(void)state;
	memcpy(drv_mem(&m, DRV_DATA, 16), "sixteen bytes OK", 16);
	drv_add_indirect(&r, DRV_DATA + 0x8002, plain, 3);
	check_plain();
	vq_push(&q, &c, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = (struct drv_seg){ DRV_DATA + 64 * i, 64, true };
	drv_add_indirect(&r, DRV_DATA + 0x8000, many, ARRAY_SIZE(many));
	assert_int_equal(vq_pop(&q, &c), 1);
	assert_int_equal(c.n_in, 40);
	vq_push(&q, &c, 0);
	/* direct descriptors, then an indirect one (2.7.5.3.2) */
	drv_desc(&r, r.desc, 0, DRV_DATA, 16, NEXT, 1);
	drv_desc(&r, r.desc, 1, DRV_DATA + 0x8000, 16 * 40, INDIRECT, 0);
	drv_avail(&r, 0);
	assert_int_equal(vq_pop(&q, &c), 1);
	assert_int_equal(c.n_out, 1);
	assert_int_equal(c.n_in, 40);
}

static void test_event_idx(void **state)
{
	const gpa_t used_event = r.avail + 4 + 2 * N, avail_event = r.used + 4 + 8 * N;

	(void)state;
	q.event_idx = true;
	assert_false(vq_rearm(&q));
	assert_int_equal(mem_load(m.mem, avail_event, 2), 0);
	mem_store(m.mem, used_event, 2, 2); /* interrupt when index 2 was used, i.e. the third */
	for (unsigned i = 0; i < 6; i++) {
		drv_add(&r, plain, 3);
		assert_true(vq_rearm(&q));
		assert_int_equal(vq_pop(&q, &c), 1);
		vq_push(&q, &c, 0);
		/* the first decision is always yes: nothing is known of the past */
		assert_int_equal(vq_wants_irq(&q), i == 0 || i == 2);
		assert_false(vq_rearm(&q));
		assert_int_equal(mem_load(m.mem, avail_event, 2), i + 1);
	}
}

static void test_no_interrupt_flag(void **state)
{
	(void)state;
	assert_true(vq_wants_irq(&q));
	mem_store(m.mem, r.avail, 1, 2);
	assert_false(vq_wants_irq(&q));
}

static void test_unpop_and_fill(void **state)
{
	static struct vq_chain two[2];
	uint32_t id, len;

	(void)state;
	drv_add(&r, &plain[1], 1);
	drv_add(&r, &plain[2], 1);
	assert_int_equal(vq_pop(&q, &two[0]), 1);
	assert_int_equal(vq_pop(&q, &two[1]), 1);
	vq_unpop(&q, 2);
	assert_int_equal(q.st.inflight, 0);
	assert_int_equal(vq_pop(&q, &two[0]), 1);
	assert_int_equal(two[0].in_len, 100);
	assert_int_equal(vq_pop(&q, &two[1]), 1);
	vq_fill(&q, &two[0], 100, 0);
	vq_fill(&q, &two[1], 7, 1);
	assert_false(drv_used(&r, &id, &len));
	vq_publish(&q, 2);
	assert_true(drv_used(&r, &id, &len));
	assert_int_equal(len, 100);
	assert_true(drv_used(&r, &id, &len));
	assert_int_equal(len, 7);
}

static void test_consume(void **state)
{
	uint8_t buf[8];
	const struct drv_seg s[] = {
		{ DRV_DATA, 10, false },
		{ DRV_DATA + 100, 10, false },
		{ DRV_DATA + 200, 4, true },
		{ DRV_DATA + 300, 1, true },
	};

	(void)state;
	memcpy(drv_mem(&m, DRV_DATA, 10), "0123456789", 10);
	memcpy(drv_mem(&m, DRV_DATA + 100, 10), "abcdefghij", 10);
	drv_add(&r, s, 4);
	assert_int_equal(vq_pop(&q, &c), 1);
	vq_skip_out(&c, 12);
	assert_int_equal(vq_read(&c, 0, buf, 8), 8);
	assert_memory_equal(buf, "cdefghij", 8);
	vq_trim_in(&c, 2);
	assert_int_equal(vq_in(&c)[0].iov_len, 3);
	assert_int_equal(vq_in(&c)[1].iov_len, 0);
	assert_int_equal(vq_write(&c, 0, "xxxxx", 5), 3);
}

/* --- the wrong drivers --- */

static void expect_bad(void)
{
	assert_int_equal(vq_pop(&q, &c), -EBADMSG);
}

static void test_loop(void **state)
{
	(void)state;
	drv_desc(&r, r.desc, 0, DRV_DATA, 16, NEXT, 1);
	drv_desc(&r, r.desc, 1, DRV_DATA, 16, NEXT, 0);
	drv_avail(&r, 0);
	expect_bad();
}

static void test_self_loop(void **state)
{
	(void)state;
	drv_desc(&r, r.desc, 3, DRV_DATA, 16, NEXT, 3);
	drv_avail(&r, 3);
	expect_bad();
}

static void test_indirect_loop(void **state)
{
	(void)state;
	drv_desc(&r, DRV_DATA, 0, DRV_DATA + 64, 16, NEXT | WRITE, 1);
	drv_desc(&r, DRV_DATA, 1, DRV_DATA + 64, 16, NEXT | WRITE, 0);
	drv_desc(&r, r.desc, 0, DRV_DATA, 32, INDIRECT, 0);
	drv_avail(&r, 0);
	expect_bad();
}

/* A table that names itself, and a huge one that would take long if segments were not bounded */
static void test_indirect_nested_and_huge(void **state)
{
	(void)state;
	drv_desc(&r, DRV_DATA, 0, DRV_DATA, 16, INDIRECT, 0);
	drv_desc(&r, r.desc, 0, DRV_DATA, 16, INDIRECT, 0);
	drv_avail(&r, 0);
	expect_bad();
	for (unsigned i = 0; i < 65535; i++)
		drv_desc(&r, DRV_DATA, i, DRV_DATA, 1, NEXT | WRITE, (uint16_t)(i + 1));
	drv_desc(&r, r.desc, 0, DRV_DATA, 16 * 65535, INDIRECT, 0);
	expect_bad();
	drv_desc(&r, r.desc, 0, DRV_DATA, 16 * 65536, INDIRECT, 0);
	expect_bad();
}

static void test_indirect_shapes(void **state)
{
	static const struct {
		gpa_t a;
		uint32_t len;
		uint16_t flags;
	} bad[] = {
		{ DRV_DATA, 0, INDIRECT },     { DRV_DATA, 15, INDIRECT },
		{ DRV_DATA, 24, INDIRECT },    { DRV_DATA, 16, INDIRECT | NEXT },
		{ DRV_RAM - 8, 16, INDIRECT }, { UINT64_MAX - 7, 16, INDIRECT },
		{ DRV_MMIO, 16, INDIRECT },
	};

	(void)state;
	drv_desc(&r, DRV_DATA, 0, DRV_DATA + 64, 16, 0, 0);
	drv_avail(&r, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		drv_desc(&r, r.desc, 0, bad[i].a, bad[i].len, bad[i].flags, 1);
		expect_bad();
	}
	drv_desc(&r, r.desc, 0, DRV_DATA, 16, INDIRECT, 0);
	q.indirect = false; /* not negotiated */
	expect_bad();
	q.indirect = true;
	assert_int_equal(vq_pop(&q, &c), 1); /* the same one, now good: the above was the reason */
}

static void test_addresses(void **state)
{
	static const struct {
		gpa_t a;
		uint32_t len;
	} bad[] = {
		{ DRV_RAM - 1, 2 },    { DRV_RAM, 1 },	{ UINT64_MAX, 1 },
		{ UINT64_MAX - 3, 8 }, { DRV_DATA, 0 }, { DRV_DATA, UINT32_MAX },
		{ DRV_MMIO, 4 },       { DRV_ECAM, 4 }, { 1ull << 63, 4096 },
	};

	(void)state;
	drv_avail(&r, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		drv_desc(&r, r.desc, 0, bad[i].a, bad[i].len, 0, 0);
		expect_bad();
		drv_desc(&r, r.desc, 0, bad[i].a, bad[i].len, WRITE, 0);
		expect_bad();
	}
	drv_desc(&r, r.desc, 0, DRV_RAM - 1, 1, WRITE, 0);
	assert_int_equal(vq_pop(&q, &c), 1);
}

/* Many segments of the same memory may not add up without bound. */
static void test_sum_bounded(void **state)
{
	struct drv_seg s[100];

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(s); i++)
		s[i] = (struct drv_seg){ 0x200000, 13 << 20, false };
	drv_add_indirect(&r, DRV_DATA, s, 70);
	assert_int_equal(vq_pop(&q, &c), 1);
	drv_add_indirect(&r, DRV_DATA, s, 100);
	expect_bad();
}

static void test_order(void **state)
{
	const struct drv_seg s[] = { { DRV_DATA, 4, true }, { DRV_DATA, 4, false } };

	(void)state;
	drv_add(&r, s, 2);
	expect_bad();
}

static void test_heads_and_nexts(void **state)
{
	static const uint16_t bad[] = { N, N + 1, 0x7fff, 0xffff };

	(void)state;
	drv_desc(&r, r.desc, 0, DRV_DATA, 16, NEXT, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		mem_store(m.mem, r.avail + 4, bad[i], 2);
		mem_store(m.mem, r.avail + 2, 1, 2);
		expect_bad();
		mem_store(m.mem, r.avail + 4, 0, 2);
		mem_store(m.mem, r.desc + 14, bad[i], 2);
		expect_bad();
	}
}

static void test_avail_jumps(void **state)
{
	static const uint16_t bad[] = { N + 1, 0x8000, 0xffff };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		mem_store(m.mem, r.avail + 2, bad[i], 2);
		expect_bad();
	}
}

/* The same head again and again, never waiting for the device */
static void test_more_in_flight_than_ring(void **state)
{
	(void)state;
	drv_desc(&r, r.desc, 0, DRV_DATA, 16, 0, 0);
	for (unsigned i = 0; i < N; i++) {
		drv_avail(&r, 0);
		assert_int_equal(vq_pop(&q, &c), 1);
	}
	drv_avail(&r, 0);
	expect_bad();
	vq_push(&q, &c, 0);
	assert_int_equal(vq_pop(&q, &c), 1);
}

static void test_enable_refuses(void **state)
{
	const struct vq_state good = q.st;
	static const uint16_t sizes[] = { 0, 3, 15, 512, 0x8000, 0xffff };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		q.st = good;
		q.st.size = sizes[i];
		assert_int_equal(vq_enable(&q), -EBADMSG);
	}
	for (unsigned i = 0; i < 6; i++) {
		q.st = good;
		q.st.enabled = false;
		q.st.desc += i == 0 ? 8 : i == 1 ? DRV_RAM : 0;
		q.st.avail += i == 2 ? 1 : i == 3 ? 1ull << 40 : 0;
		q.st.used += i == 4 ? 2 : i == 5 ? DRV_RAM - 0x20000ull : 0;
		if (i == 5)
			q.st.used = DRV_RAM - 8;
		assert_int_equal(vq_enable(&q), -EBADMSG);
		assert_false(q.st.enabled);
	}
	q.st = good;
	assert_int_equal(vq_enable(&q), 0);
}

static void test_disabled_queue_is_inert(void **state)
{
	(void)state;
	drv_add(&r, plain, 3);
	vq_reset(&q);
	assert_int_equal(vq_pop(&q, &c), 0);
	assert_false(vq_rearm(&q));
	assert_false(vq_wants_irq(&q));
	vq_push(&q, &c, 4);
	assert_int_equal(mem_load(m.mem, r.used + 2, 2), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_roundtrip),
		T(test_indirect),
		T(test_event_idx),
		T(test_no_interrupt_flag),
		T(test_unpop_and_fill),
		T(test_consume),
		T(test_loop),
		T(test_self_loop),
		T(test_indirect_loop),
		T(test_indirect_nested_and_huge),
		T(test_indirect_shapes),
		T(test_addresses),
		T(test_sum_bounded),
		T(test_order),
		T(test_heads_and_nexts),
		T(test_avail_jumps),
		T(test_more_in_flight_than_ring),
		T(test_enable_refuses),
		T(test_disabled_queue_is_inert),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
