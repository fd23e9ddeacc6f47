/* SPDX-License-Identifier: Apache-2.0 */
/* Disks over files: opening, refusing, locking, I/O through both back ends, errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "block/blk.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIZE = 4 << 20 };

static char path[64];
static int fd;
static struct loop *loop;
static struct err e;
static unsigned done_count;

static int setup(void **state)
{
	(void)state;
	snprintf(path, sizeof(path), "/tmp/r3-blk-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	loop = loop_new(&e);
	assert_non_null(loop);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	loop_free(loop);
	close(fd);
	unlink(path);
	return 0;
}

static struct blk *open_as(enum blk_aio aio, bool ro)
{
	const struct blk_cfg c = { .path = path, .aio = aio, .readonly = ro };

	e.msg[0] = '\0';
	return blk_open(&c, loop, &e);
}

static void on_done(struct blk_req *r)
{
	(void)r;
	done_count++;
}

/* One request to its end: its result. */
static int run(struct blk *b, struct blk_req *r)
{
	r->done = on_done;
	done_count = 0;
	if (blk_submit(b, r) == 1)
		return r->result;
	blk_commit(b);
	for (int i = 0; i < 500 && done_count == 0; i++)
		loop_once(loop, 10000000);
	assert_int_equal(done_count, 1);
	return r->result;
}

static int rw(struct blk *b, enum blk_op op, uint64_t off, void *buf, size_t len)
{
	struct iovec iov = { buf, len };
	struct blk_req r = { .op = op, .offset = off, .len = len, .iov = &iov, .iovcnt = 1 };

	return run(b, &r);
}

static void exercise(enum blk_aio aio)
{
	static uint8_t w[300000 / 512 * 512], r[sizeof(w)];
	struct blk *b = open_as(aio, false);
	struct blk_req q = { .op = BLK_FLUSH };

	if (b == NULL)
		fail_msg("%s", e.msg);
	assert_int_equal(blk_size(b), SIZE);
	for (size_t i = 0; i < sizeof(w); i++)
		w[i] = (uint8_t)(i ^ i >> 8);
	assert_int_equal(rw(b, BLK_WRITE, 512, w, sizeof(w)), 0);
	assert_int_equal(run(b, &q), 0);
	assert_int_equal(rw(b, BLK_READ, 512, r, sizeof(r)), 0);
	assert_memory_equal(r, w, sizeof(w));
	assert_int_equal(rw(b, BLK_READ, SIZE - 512, r, 512), 0);
	assert_int_equal(rw(b, BLK_READ, SIZE, r, 512), -EINVAL);
	assert_int_equal(rw(b, BLK_READ, SIZE - 512, r, 1024), -EINVAL);
	assert_int_equal(rw(b, BLK_WRITE, UINT64_MAX - 511, w, 512), -EINVAL);
	assert_int_equal(rw(b, BLK_WRITE, 1, w, 512), -EINVAL);
	assert_int_equal(rw(b, BLK_WRITE, 0, w, 100), -EINVAL);
	q = (struct blk_req){ .op = BLK_WRITE_ZEROES, .offset = 512, .len = 1024 };
	assert_int_equal(run(b, &q), 0);
	assert_int_equal(rw(b, BLK_READ, 512, r, 2048), 0);
	assert_int_equal(r[5], 0);
	assert_int_equal(r[1023], 0);
	assert_memory_equal(r + 1024, w + 1024, 1024);
	q = (struct blk_req){ .op = BLK_WRITE, .durable = true, .len = 0 };
	assert_int_equal(run(b, &q), 0);
	assert_int_equal(blk_flush_sync(b), 0);
	blk_close(b);
}

static void test_io_auto(void **state)
{
	(void)state;
	exercise(BLK_AIO_AUTO);
}

static void test_io_threads(void **state)
{
	(void)state;
	exercise(BLK_AIO_THREADS);
}

/* Many at once, some of them still under way when the disk is closed. */
static void many(enum blk_aio aio)
{
	enum { N = 600 };
	static struct blk_req r[N];
	static struct iovec iov[N];
	static uint8_t buf[N][512];
	struct blk *b = open_as(aio, false);
	unsigned at_once = 0;

	assert_non_null(b);
	done_count = 0;
	for (unsigned i = 0; i < N; i++) {
		memset(buf[i], (int)i, 512);
		iov[i] = (struct iovec){ buf[i], 512 };
		r[i] = (struct blk_req){ .op = i % 50 == 49 ? BLK_FLUSH : BLK_WRITE,
					 .offset = i * 512ull,
					 .len = 512,
					 .iov = &iov[i],
					 .iovcnt = 1,
					 .done = on_done };
		at_once += (unsigned)blk_submit(b, &r[i]);
	}
	blk_commit(b);
	blk_close(b);
	assert_int_equal(done_count + at_once, N);
	for (unsigned i = 0; i < N; i++) {
		uint8_t c = 0;

		assert_int_equal(r[i].result, 0);
		assert_int_equal(pread(fd, &c, 1, i * 512 + 511), 1);
		assert_int_equal(c, i % 50 == 49 ? 0 : (uint8_t)i);
	}
}

static void test_many_auto(void **state)
{
	(void)state;
	many(BLK_AIO_AUTO);
}

static void test_many_threads(void **state)
{
	(void)state;
	many(BLK_AIO_THREADS);
}

static void test_discard_keeps_sparse(void **state)
{
	static uint8_t w[1 << 20];
	struct blk_req q = { .op = BLK_DISCARD, .offset = 0, .len = SIZE };
	struct blk *b = open_as(BLK_AIO_AUTO, false);
	struct stat st;

	(void)state;
	memset(w, 1, sizeof(w));
	assert_int_equal(rw(b, BLK_WRITE, 0, w, sizeof(w)), 0);
	assert_int_equal(blk_flush_sync(b), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_blocks >= 2048);
	assert_int_equal(run(b, &q), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, SIZE);
	assert_true(st.st_blocks < 64);
	blk_close(b);
}

static void test_lock(void **state)
{
	struct blk *b = open_as(BLK_AIO_AUTO, false), *c;

	(void)state;
	assert_non_null(b);
	assert_null(open_as(BLK_AIO_AUTO, false));
	assert_int_equal(e.code, -EBUSY);
	assert_non_null(strstr(e.msg, "locked by another ring3"));
	assert_null(open_as(BLK_AIO_AUTO, true));
	blk_close(b);
	b = open_as(BLK_AIO_AUTO, true);
	assert_non_null(b);
	c = open_as(BLK_AIO_AUTO, true); /* readers share */
	assert_non_null(c);
	assert_null(open_as(BLK_AIO_AUTO, false));
	blk_close(b);
	blk_close(c);
	b = open_as(BLK_AIO_AUTO, false);
	assert_non_null(b);
	blk_close(b);
}

static void refused(const char *p, const char *what, bool ro)
{
	const struct blk_cfg c = { .path = p, .readonly = ro };

	e.msg[0] = '\0';
	assert_null(blk_open(&c, loop, &e));
	if (strstr(e.msg, what) == NULL || strstr(e.msg, p) == NULL)
		fail_msg("'%s' lacks '%s' or the path", e.msg, what);
}

static void test_refusals(void **state)
{
	struct blk_cfg c = { .path = path, .format = "qed" };

	(void)state;
	refused("/nonexistent/disk.img", "No such file", false);
	refused("/tmp", "Is a directory", false);
	refused("/tmp", "neither a file nor a block device", true);
	refused("/dev/null", "neither a file nor a block device", false);
	assert_int_equal(ftruncate(fd, 0), 0);
	refused(path, "too few", false);
	assert_int_equal(ftruncate(fd, 511), 0);
	refused(path, "too few", false);
	assert_int_equal(ftruncate(fd, 1000), 0);
	refused(path, "no multiple of 512", false);
	assert_null(blk_open(&c, loop, &e));
	assert_non_null(strstr(e.msg, "unknown format 'qed'"));
	c.format = NULL;
	c.min_size = 1 << 20;
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_null(blk_open(&c, loop, &e));
	assert_non_null(strstr(e.msg, "too few"));
	if (geteuid() != 0) {
		assert_int_equal(chmod(path, 0444), 0);
		refused(path, "readonly=on", false);
	}
}

static void test_readonly(void **state)
{
	struct blk *b = open_as(BLK_AIO_AUTO, true);
	struct blk_req q = { .op = BLK_DISCARD, .len = 4096 };
	uint8_t buf[512];

	(void)state;
	assert_non_null(b);
	assert_int_equal(rw(b, BLK_READ, 0, buf, 512), 0);
	assert_int_equal(rw(b, BLK_WRITE, 0, buf, 512), -EROFS);
	assert_int_equal(run(b, &q), -EROFS);
	q.op = BLK_FLUSH;
	assert_int_equal(run(b, &q), 0);
	blk_close(b);
}

/* A host that refuses to write (here a file size limit): the guest hears of it. */
static void write_fails(enum blk_aio aio)
{
	static uint8_t w[8192];
	struct rlimit old, low = { .rlim_cur = 1 << 20 };
	struct blk *b = open_as(aio, false);

	assert_non_null(b);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	low.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	assert_int_equal(rw(b, BLK_WRITE, 2 << 20, w, sizeof(w)), -EFBIG);
	assert_int_equal(rw(b, BLK_WRITE, (1 << 20) - 4096, w, sizeof(w)),
			 -EFBIG); /* half of it fits */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(rw(b, BLK_WRITE, 2 << 20, w, sizeof(w)), 0);
	blk_close(b);
}

static void test_write_fails(void **state)
{
	(void)state;
	write_fails(BLK_AIO_AUTO);
	write_fails(BLK_AIO_THREADS);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_io_auto),
		T(test_io_threads),
		T(test_many_auto),
		T(test_many_threads),
		T(test_discard_keeps_sparse),
		T(test_lock),
		T(test_refusals),
		T(test_readonly),
		T(test_write_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
