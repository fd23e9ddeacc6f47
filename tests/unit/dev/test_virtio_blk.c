/* SPDX-License-Identifier: Apache-2.0 */
/* The block device end to end: a driver in guest memory, PCI, rings, a file; both kinds of I/O. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "dev/virtio/virtio_blk.h"
#include "drv.h"

#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_pci.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DISK = 8 << 20, HDR = DRV_DATA, STATUS = DRV_DATA + 0x100, BUF = DRV_DATA + 0x1000 };

struct rig {
	struct drv_machine m;
	struct loop *loop;
	struct blk *disk;
	struct dev *dev;
	struct drv d;
	char path[64];
	int fd; /* our own look at the file */
};
static struct rig t;

static void rig_open(enum blk_aio aio, bool readonly)
{
	struct virtio_blk_cfg cfg = { .slot = 3, .serial = "a serial number longer than twenty" };
	struct blk_cfg bc = { .path = t.path, .aio = aio, .readonly = readonly };
	struct err e = { 0, "" };

	memset(&t, 0, sizeof(t));
	snprintf(t.path, sizeof(t.path), "/tmp/r3-vblk-XXXXXX");
	t.fd = mkstemp(t.path);
	assert_true(t.fd >= 0);
	assert_int_equal(ftruncate(t.fd, DISK), 0);
	drv_machine_init(&t.m);
	t.loop = loop_new(&e);
	assert_non_null(t.loop);
	t.disk = blk_open(&bc, t.loop, &e);
	if (t.disk == NULL)
		fail_msg("%s", e.msg);
	cfg.pci = t.m.pci;
	cfg.disk = t.disk;
	t.dev = dev_create(&t.m.devs, t.m.bus, &virtio_blk_class, "disk0", &cfg, &e);
	if (t.dev == NULL)
		fail_msg("%s", e.msg);
	drv_probe(&t.d, &t.m, 3);
}

static void rig_close(void)
{
	drv_machine_fini(&t.m);
	blk_close(t.disk);
	loop_free(t.loop);
	close(t.fd);
	unlink(t.path);
}

#define ALL_FEATURES UINT64_MAX

static int setup_uring(void **state)
{
	(void)state;
	rig_open(BLK_AIO_AUTO, false);
	drv_start(&t.d, ALL_FEATURES, 1, true);
	return 0;
}

static int setup_threads(void **state)
{
	(void)state;
	rig_open(BLK_AIO_THREADS, false);
	drv_start(&t.d, ALL_FEATURES, 1, true);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rig_close();
	return 0;
}

/* Waits for one answer: its length. */
static uint32_t answer(void)
{
	uint32_t id = 0, len = 0;

	for (int i = 0; i < 500; i++) {
		if (drv_used(&t.d.ring[0], &id, &len))
			return len;
		loop_once(t.loop, 10000000);
	}
	fail_msg("no answer");
	return 0;
}

static void header(uint32_t type, uint64_t sector)
{
	mem_store(t.m.mem, HDR, type, 4);
	mem_store(t.m.mem, HDR + 4, 0, 4);
	mem_store(t.m.mem, HDR + 8, sector, 8);
	mem_store(t.m.mem, STATUS, 0xee, 1);
}

/* One request with n data segments of len bytes each from BUF on; the status byte. */
static uint8_t request(uint32_t type, uint64_t sector, unsigned n, uint32_t len, bool in)
{
	struct drv_seg s[16] = { { HDR, 16, false } };
	uint32_t got;

	header(type, sector);
	for (unsigned i = 0; i < n; i++)
		s[1 + i] = (struct drv_seg){ BUF + (gpa_t)i * len, len, in };
	s[1 + n] = (struct drv_seg){ STATUS, 1, true };
	drv_add(&t.d.ring[0], s, n + 2);
	drv_kick(&t.d, 0);
	got = answer();
	assert_int_equal(got, in ? n * len + 1 : 1);
	return *drv_mem(&t.m, STATUS, 1);
}

static void test_identity(void **state)
{
	struct virtio_blk_config c;

	(void)state;
	for (unsigned i = 0; i < 60; i++)
		((uint8_t *)&c)[i] = (uint8_t)mem_load(t.m.mem, t.d.device + i, 1);
	assert_int_equal(c.capacity, DISK / 512);
	assert_int_equal(c.seg_max, 254);
	assert_int_equal(c.blk_size, 512);
	assert_int_equal(c.max_discard_seg, 1);
	assert_int_equal(c.write_zeroes_may_unmap, 1);
	assert_int_equal(mem_load(t.m.mem, t.d.device, 8), DISK / 512);
	memset(drv_mem(&t.m, BUF, 32), 0x55, 32);
	assert_int_equal(request(VIRTIO_BLK_T_GET_ID, 0, 1, 20, true), VIRTIO_BLK_S_OK);
	assert_memory_equal(drv_mem(&t.m, BUF, 20), "a serial number long", 20);
	assert_int_equal(request(77, 0, 0, 0, true), VIRTIO_BLK_S_UNSUPP);
}

static void test_write_read(void **state)
{
	uint8_t *buf = drv_mem(&t.m, BUF, 8 * 4096), *want = malloc(8 * 4096),
		*file = malloc(8 * 4096);

	(void)state;
	for (unsigned i = 0; i < 8 * 4096; i++)
		want[i] = buf[i] = (uint8_t)(i * 7 + i / 256);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 100, 8, 4096, false), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, 0, true), VIRTIO_BLK_S_OK);
	assert_int_equal(pread(t.fd, file, 8 * 4096, 100 * 512), 8 * 4096);
	assert_memory_equal(file, want, 8 * 4096);
	memset(buf, 0, 8 * 4096);
	t.m.dma_bytes = 0;
	assert_int_equal(request(VIRTIO_BLK_T_IN, 100, 8, 4096, true), VIRTIO_BLK_S_OK);
	assert_memory_equal(buf, want, 8 * 4096);
	assert_true(t.m.dma_bytes >= 8 * 4096 + 1); /* translated code there must be told */
	assert_true(t.m.msi_count[1] >= 3);
	free(want);
	free(file);
}

/* Header and status split over odd segments: the device may not count on the framing (2.7.4). */
static void test_any_layout(void **state)
{
	const struct drv_seg s[] = { { HDR, 7, false },
				     { HDR + 7, 9 + 0, false },
				     { BUF, 500, false },
				     { BUF + 500, 12, false },
				     { STATUS, 1, true } };
	const struct drv_seg in[] = { { HDR, 16, false },
				      { BUF + 0x2000, 100, true },
				      { BUF + 0x3000, 413, true } };

	(void)state;
	header(VIRTIO_BLK_T_OUT, 1);
	memset(drv_mem(&t.m, BUF, 512), 0xab, 512);
	drv_add(&t.d.ring[0], s, 5);
	drv_kick(&t.d, 0);
	assert_int_equal(answer(), 1);
	assert_int_equal(*drv_mem(&t.m, STATUS, 1), 0);
	header(VIRTIO_BLK_T_IN, 1);
	mem_store(t.m.mem, BUF + 0x3000 + 412, 0xee, 1);
	drv_add(&t.d.ring[0], in, 3);
	drv_kick(&t.d, 0);
	assert_int_equal(answer(), 513);
	assert_int_equal(*drv_mem(&t.m, BUF + 0x3000 + 412, 1), 0); /* the status */
	assert_int_equal(*drv_mem(&t.m, BUF + 0x3000 + 411, 1), 0xab);
	assert_int_equal(*drv_mem(&t.m, BUF + 0x2000, 1), 0xab);
}

static void test_bounds(void **state)
{
	(void)state;
	assert_int_equal(request(VIRTIO_BLK_T_IN, DISK / 512 - 1, 1, 512, true), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_IN, DISK / 512, 1, 512, true), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, DISK / 512 - 1, 1, 1024, false),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, UINT64_MAX, 1, 512, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, UINT64_MAX / 512, 1, 512, false),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 0, 1, 511, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, 0, 0, true), VIRTIO_BLK_S_OK); /* of nothing */
	assert_int_equal(drv_status(&t.d), 15);
}

static void range_put(uint64_t sector, uint32_t n, uint32_t flags)
{
	mem_store(t.m.mem, BUF, sector, 8);
	mem_store(t.m.mem, BUF + 8, n, 4);
	mem_store(t.m.mem, BUF + 12, flags, 4);
}

static blkcnt_t blocks(void)
{
	struct stat st;

	assert_int_equal(fstat(t.fd, &st), 0);
	assert_int_equal(st.st_size, DISK);
	return st.st_blocks;
}

static void test_discard_and_zeroes(void **state)
{
	static uint8_t full[1 << 20], got[4096];
	blkcnt_t before;

	(void)state;
	memset(full, 0x77, sizeof(full));
	assert_int_equal(pwrite(t.fd, full, sizeof(full), 0), sizeof(full));
	assert_int_equal(fsync(t.fd), 0);
	before = blocks();
	range_put(0, 1024, 0);
	assert_int_equal(request(VIRTIO_BLK_T_DISCARD, 0, 1, 16, false), VIRTIO_BLK_S_OK);
	assert_true(blocks() <= before - 1000); /* the space is given back */
	assert_int_equal(pread(t.fd, got, 4096, 0), 4096);
	assert_int_equal(got[0] | got[4095], 0);
	assert_int_equal(pread(t.fd, got, 1, 1024 * 512), 1);
	assert_int_equal(got[0], 0x77);
	range_put(1024, 8, 0);
	assert_int_equal(request(VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 16, false), VIRTIO_BLK_S_OK);
	assert_int_equal(pread(t.fd, got, 4096, 1024 * 512), 4096);
	assert_int_equal(got[0] | got[4095], 0);
	range_put(1032, 8, 1);
	assert_int_equal(request(VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 16, false), VIRTIO_BLK_S_OK);
	assert_int_equal(pread(t.fd, got, 4096, 1032 * 512), 4096);
	assert_int_equal(got[0] | got[4095], 0);
	/* wrong ones */
	range_put(0, 8, 1);
	assert_int_equal(request(VIRTIO_BLK_T_DISCARD, 0, 1, 16, false), VIRTIO_BLK_S_UNSUPP);
	range_put(DISK / 512, 8, 0);
	assert_int_equal(request(VIRTIO_BLK_T_DISCARD, 0, 1, 16, false), VIRTIO_BLK_S_IOERR);
	range_put(UINT64_MAX - 3, 8, 0);
	assert_int_equal(request(VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 16, false), VIRTIO_BLK_S_IOERR);
	range_put(0, 8, 0);
	assert_int_equal(request(VIRTIO_BLK_T_DISCARD, 0, 1, 15, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_DISCARD, 0, 2, 16, false), VIRTIO_BLK_S_IOERR);
}

/* The file shrinks under the machine: an error for the guest, never old data. */
static void test_host_error(void **state)
{
	(void)state;
	assert_int_equal(ftruncate(t.fd, 4096), 0);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 1000, 1, 4096, true), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 4, 1, 4096, true), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 4, 1, 2048, true), VIRTIO_BLK_S_OK);
}

static void broken_by(const struct drv_seg *s, unsigned n)
{
	const unsigned config_irqs = t.m.msi_count[0];

	header(VIRTIO_BLK_T_OUT, 0);
	drv_add(&t.d.ring[0], s, n);
	drv_kick(&t.d, 0);
	assert_int_equal(drv_status(&t.d), 15 | VIRTIO_ST_NEEDS_RESET);
	assert_int_equal(t.m.msi_count[0], config_irqs + 1);
	drv_kick(&t.d, 0); /* deaf until it is reset */
	drv_start(&t.d, ALL_FEATURES, 1, true);
	assert_int_equal(drv_status(&t.d), 15);
}

static void test_hostile(void **state)
{
	const struct drv_seg no_status[] = { { HDR, 16, false } };
	const struct drv_seg short_hdr[] = { { HDR, 15, false }, { STATUS, 1, true } };
	const struct drv_seg outside[] = { { HDR, 16, false },
					   { DRV_RAM, 512, false },
					   { STATUS, 1, true } };
	const struct drv_seg wrong_order[] = { { STATUS, 1, true }, { HDR, 16, false } };

	(void)state;
	broken_by(no_status, 1);
	broken_by(short_hdr, 2);
	broken_by(outside, 3);
	broken_by(wrong_order, 2);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, 1, 512, true), VIRTIO_BLK_S_OK);
}

/* A reset while requests are under way: the status reads 0 only when they are done. */
static void test_reset_in_flight(void **state)
{
	const gpa_t status = t.d.common + VIRTIO_PCI_COMMON_STATUS;
	struct drv_seg s[] = { { HDR, 16, false }, { BUF, 4096, false }, { STATUS, 1, true } };
	bool was_pending = false;
	int i;

	(void)state;
	for (unsigned round = 0; round < 50; round++) {
		header(VIRTIO_BLK_T_OUT, 0);
		for (i = 0; i < 5; i++)
			drv_add(&t.d.ring[0], s, 3);
		drv_kick(&t.d, 0);
		mem_store(t.m.mem, status, 0, 1);
		for (i = 0; i < 500 && drv_status(&t.d) != 0; i++) {
			was_pending = true;
			loop_once(t.loop, 10000000);
		}
		assert_int_equal(drv_status(&t.d), 0);
		drv_start(&t.d, ALL_FEATURES, 1, true);
	}
	assert_true(was_pending);
	dev_reset_all(&t.m.devs);
	drv_cfg_write(&t.m, 3, PCI_CFG_COMMAND, PCI_CMD_MEM, 2);
	assert_int_equal(drv_status(&t.d), 0);
}

static void test_pause(void **state)
{
	const struct drv_seg s[] = { { HDR, 16, false }, { BUF, 512, true }, { STATUS, 1, true } };
	uint32_t id, len;

	(void)state;
	dev_pause_all(&t.m.devs);
	header(VIRTIO_BLK_T_IN, 0);
	drv_add(&t.d.ring[0], s, 3);
	drv_kick(&t.d, 0);
	loop_once(t.loop, 0);
	assert_false(drv_used(&t.d.ring[0], &id, &len));
	dev_resume_all(&t.m.devs);
	assert_int_equal(answer(), 513);
}

static void test_readonly(void **state)
{
	(void)state;
	rig_open(BLK_AIO_AUTO, true);
	drv_start(&t.d, ALL_FEATURES, 1, true);
	assert_true(drv_features(&t.d) & BIT(VIRTIO_BLK_F_RO));
	assert_false(drv_features(&t.d) & BIT(VIRTIO_BLK_F_DISCARD));
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, 1, 512, true), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 0, 1, 512, false), VIRTIO_BLK_S_IOERR);
	range_put(0, 8, 0);
	assert_int_equal(request(VIRTIO_BLK_T_DISCARD, 0, 1, 16, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, 0, true), VIRTIO_BLK_S_OK);
	rig_close();
}

/* Without MSI-X: the line, held until the ISR is read. Also without FLUSH: write-through. */
static void test_intx(void **state)
{
	const unsigned gsi = pci_intx_gsi(3, 0);

	(void)state;
	rig_open(BLK_AIO_AUTO, false);
	drv_start(&t.d, ALL_FEATURES & ~BIT(VIRTIO_BLK_F_FLUSH), 1, false);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 0, 1, 512, false), VIRTIO_BLK_S_OK);
	assert_int_equal(t.m.gsi_level[gsi], 1);
	assert_int_equal(mem_load(t.m.mem, t.d.isr, 1), 1);
	assert_int_equal(t.m.gsi_level[gsi], 0);
	assert_int_equal(mem_load(t.m.mem, t.d.isr, 1), 0);
	rig_close();
}

static void test_negotiation(void **state)
{
	const gpa_t c = t.d.common;

	(void)state;
	mem_store(t.m.mem, c + VIRTIO_PCI_COMMON_STATUS, 0, 1);
	mem_store(t.m.mem, c + VIRTIO_PCI_COMMON_STATUS, 3, 1);
	/* no VERSION_1 */
	mem_store(t.m.mem, c + VIRTIO_PCI_COMMON_STATUS, 11, 1);
	assert_int_equal(drv_status(&t.d), 3);
	/* something that was not offered */
	mem_store(t.m.mem, c + VIRTIO_PCI_COMMON_GFSELECT, 1, 4);
	mem_store(t.m.mem, c + VIRTIO_PCI_COMMON_GF, 0x80000001, 4);
	mem_store(t.m.mem, c + VIRTIO_PCI_COMMON_STATUS, 11, 1);
	assert_int_equal(drv_status(&t.d), 3);
	mem_store(t.m.mem, c + VIRTIO_PCI_COMMON_GF, 1, 4);
	mem_store(t.m.mem, c + VIRTIO_PCI_COMMON_STATUS, 11, 1);
	assert_int_equal(drv_status(&t.d), 11);
	/* too late */
	mem_store(t.m.mem, c + VIRTIO_PCI_COMMON_GF, 0xff, 4);
	assert_int_equal(mem_load(t.m.mem, c + VIRTIO_PCI_COMMON_GF, 4), 1);
	/* a vector there is none of */
	mem_store(t.m.mem, c + VIRTIO_PCI_COMMON_MSIX, 7, 2);
	assert_int_equal(mem_load(t.m.mem, c + VIRTIO_PCI_COMMON_MSIX, 2), 0xffff);
	/* a ring outside RAM */
	mem_store(t.m.mem, c + VIRTIO_PCI_COMMON_Q_DESCHI, 0x1000, 4);
	mem_store(t.m.mem, c + VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	assert_int_equal(mem_load(t.m.mem, c + VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	assert_int_equal(drv_status(&t.d), 11 | VIRTIO_ST_NEEDS_RESET);
	/* a queue there is none of */
	mem_store(t.m.mem, c + VIRTIO_PCI_COMMON_Q_SELECT, 9, 2);
	assert_int_equal(mem_load(t.m.mem, c + VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
	mem_store(t.m.mem, c + VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	drv_kick(&t.d, 900);
}

/* The window in configuration space reaches the BAR while memory decoding is off. */
static void test_cfg_window(void **state)
{
	unsigned c = drv_cfg_read(&t.m, 3, PCI_CFG_CAPS, 1);

	(void)state;
	while (drv_cfg_read(&t.m, 3, c, 1) != PCI_CAP_VENDOR ||
	       drv_cfg_read(&t.m, 3, c + 3, 1) != VIRTIO_PCI_CAP_PCI_CFG)
		c = drv_cfg_read(&t.m, 3, c + 1, 1);
	drv_cfg_write(&t.m, 3, PCI_CFG_COMMAND, 0, 2);
	drv_cfg_write(&t.m, 3, c + 8, VIRTIO_PCI_COMMON_STATUS, 4);
	drv_cfg_write(&t.m, 3, c + 12, 1, 4);
	assert_int_equal(drv_cfg_read(&t.m, 3, c + 16, 1), 15);
	drv_cfg_write(&t.m, 3, c + 16, 0, 1);
	assert_int_equal(drv_cfg_read(&t.m, 3, c + 16, 1), 0);
	drv_cfg_write(&t.m, 3, c + 8, 0x7fffffff, 4);
	drv_cfg_write(&t.m, 3, c + 12, 4, 4);
	drv_cfg_read(&t.m, 3, c + 16, 4);
	drv_cfg_write(&t.m, 3, c + 16, 1, 4);
}

#define U(f) cmocka_unit_test_setup_teardown(f, setup_uring, teardown)
#define H(f) cmocka_unit_test_setup_teardown(f, setup_threads, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		U(test_identity),
		U(test_write_read),
		U(test_any_layout),
		U(test_bounds),
		U(test_discard_and_zeroes),
		U(test_host_error),
		U(test_hostile),
		U(test_reset_in_flight),
		U(test_pause),
		U(test_negotiation),
		U(test_cfg_window),
		H(test_write_read),
		H(test_discard_and_zeroes),
		H(test_host_error),
		H(test_reset_in_flight),
		H(test_pause),
		cmocka_unit_test(test_readonly),
		cmocka_unit_test(test_intx),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
