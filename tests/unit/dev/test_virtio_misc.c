/* SPDX-License-Identifier: Apache-2.0 */
/* Console and entropy device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "dev/virtio/virtio_console.h"
#include "dev/virtio/virtio_rng.h"
#include "drv.h"

#include <string.h>

static struct drv_machine m;
static struct drv con, rng;
static struct dev *con_dev;
static char out[256];
static size_t out_len;

static void output(void *opaque, const void *buf, size_t n)
{
	(void)opaque;
	assert_true(n <= sizeof(out) - out_len);
	memcpy(out + out_len, buf, n);
	out_len += n;
}

static int setup(void **state)
{
	struct virtio_console_cfg cc = { .slot = -1, .cols = 80, .rows = 25, .output = output };
	struct virtio_rng_cfg rc = { .slot = -1 };
	struct err e;

	(void)state;
	drv_machine_init(&m);
	cc.pci = rc.pci = m.pci;
	con_dev = dev_create(&m.devs, m.bus, &virtio_console_class, "console0", &cc, &e);
	assert_non_null(con_dev);
	assert_non_null(dev_create(&m.devs, m.bus, &virtio_rng_class, "rng0", &rc, &e));
	drv_probe(&con, &m, 1);
	drv_probe(&rng, &m, 2);
	drv_start(&con, UINT64_MAX, 2, true);
	out_len = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	drv_machine_fini(&m);
	return 0;
}

static void test_console_output(void **state)
{
	const struct drv_seg s[] = { { DRV_DATA, 5, false }, { DRV_DATA + 100, 7, false } };
	uint32_t id, len;

	(void)state;
	memcpy(drv_mem(&m, DRV_DATA, 5), "Hello", 5);
	memcpy(drv_mem(&m, DRV_DATA + 100, 7), ", world", 7);
	drv_add(&con.ring[1], s, 2);
	drv_kick(&con, 1);
	assert_true(drv_used(&con.ring[1], &id, &len));
	assert_int_equal(out_len, 12);
	assert_memory_equal(out, "Hello, world", 12);
	mem_store(m.mem, con.device + 8, '!', 4); /* emergency write */
	assert_int_equal(out[12], '!');
}

static void test_console_input(void **state)
{
	const struct drv_seg s[] = { { DRV_DATA, 4, true }, { DRV_DATA + 100, 4, true } };
	static uint8_t big[20000];
	uint32_t id, len;

	(void)state;
	assert_int_equal(virtio_console_input(con_dev, "typed early", 11), 11);
	drv_add(&con.ring[0], s, 2);
	drv_kick(&con, 0);
	assert_true(drv_used(&con.ring[0], &id, &len));
	assert_int_equal(len, 8);
	assert_memory_equal(drv_mem(&m, DRV_DATA, 4), "type", 4);
	assert_memory_equal(drv_mem(&m, DRV_DATA + 100, 4), "d ea", 4);
	drv_add(&con.ring[0], s, 2);
	drv_kick(&con, 0);
	assert_true(drv_used(&con.ring[0], &id, &len));
	assert_int_equal(len, 3);
	drv_add(&con.ring[0], s, 1);
	drv_kick(&con, 0);
	assert_false(drv_used(&con.ring[0], &id, &len));
	virtio_console_input(con_dev, "x", 1);
	assert_true(drv_used(&con.ring[0], &id, &len));
	assert_int_equal(len, 1);
	assert_int_equal(virtio_console_input(con_dev, big, sizeof(big)), 16384); /* bounded */
}

static void test_console_size(void **state)
{
	(void)state;
	assert_int_equal(mem_load(m.mem, con.device, 4), 80 | 25 << 16);
	virtio_console_resize(con_dev, 132, 50);
	assert_int_equal(mem_load(m.mem, con.device, 4), 132 | 50 << 16);
	assert_int_equal(m.msi_count[0], 1);
}

static void test_rng(void **state)
{
	const struct drv_seg s[] = { { DRV_DATA, 64, true } };
	const struct drv_seg big[] = { { DRV_DATA, 1 << 20, true } };
	const struct drv_seg wrong[] = { { DRV_DATA, 64, false } };
	uint8_t zero[64] = { 0 }, first[64];
	uint32_t id, len;

	(void)state;
	drv_start(&rng, UINT64_MAX, 1, true);
	drv_add(&rng.ring[0], s, 1);
	drv_kick(&rng, 0);
	assert_true(drv_used(&rng.ring[0], &id, &len));
	assert_int_equal(len, 64);
	memcpy(first, drv_mem(&m, DRV_DATA, 64), 64);
	assert_memory_not_equal(first, zero, 64);
	drv_add(&rng.ring[0], s, 1);
	drv_kick(&rng, 0);
	assert_true(drv_used(&rng.ring[0], &id, &len));
	assert_memory_not_equal(first, drv_mem(&m, DRV_DATA, 64), 64);
	drv_add(&rng.ring[0], big, 1);
	drv_kick(&rng, 0);
	assert_true(drv_used(&rng.ring[0], &id, &len));
	assert_in_range(len, 64, 65536);
	drv_add(&rng.ring[0], wrong, 1);
	drv_kick(&rng, 0);
	assert_true(drv_status(&rng) & VIRTIO_ST_NEEDS_RESET);
}

/* What was queued before DRIVER_OK is served then; without bus mastering nothing is. */
static void test_when_live(void **state)
{
	const struct drv_seg s[] = { { DRV_DATA, 64, true } };
	uint32_t id, len;

	(void)state;
	drv_start(&rng, UINT64_MAX, 1, true);
	drv_cfg_write(&m, 2, PCI_CFG_COMMAND, PCI_CMD_MEM, 2);
	drv_add(&rng.ring[0], s, 1);
	drv_kick(&rng, 0);
	assert_false(drv_used(&rng.ring[0], &id, &len));
	drv_cfg_write(&m, 2, PCI_CFG_COMMAND, PCI_CMD_MEM | PCI_CMD_MASTER, 2);
	drv_kick(&rng, 0);
	assert_true(drv_used(&rng.ring[0], &id, &len));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_console_output), T(test_console_input), T(test_console_size), T(test_rng),
		T(test_when_live),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
