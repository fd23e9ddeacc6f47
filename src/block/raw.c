/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The raw format: byte n of the disk is byte n of the file, holes read as zeroes. Discard punches
 * holes, so that sparse stays sparse. Threads as in blk.h.
 */
#include "block/blk_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct raw {
	int fd;
	struct aio aio;
};

static int raw_probe(const uint8_t *head, size_t n)
{
	(void)head;
	(void)n;
	return 1; /* anything can be raw */
}

static int raw_open(struct blk *b, struct err *e)
{
	struct raw *r = calloc(1, sizeof(*r));
	int code;

	if (r == NULL)
		return err_set(e, -ENOMEM, "disk %s: out of memory", b->cfg.path);
	r->fd = blk_file_open(b->cfg.path, b->cfg.readonly, &b->size, e);
	if (r->fd < 0) {
		code = r->fd;
		goto out_free;
	}
	code = aio_open(&r->aio, r->fd, b->loop, b->cfg.aio, e);
	if (code < 0)
		goto out_close;
	b->priv = r;
	return 0;
out_close:
	close(r->fd);
out_free:
	free(r);
	return code;
}

static int raw_submit(struct blk *b, struct blk_req *q)
{
	struct raw *r = b->priv;

	return aio_submit(&r->aio, q);
}

static void raw_commit(struct blk *b)
{
	struct raw *r = b->priv;

	aio_commit(&r->aio);
}

static void raw_drain(struct blk *b)
{
	struct raw *r = b->priv;

	aio_drain(&r->aio);
}

static void raw_close(struct blk *b)
{
	struct raw *r = b->priv;

	aio_close(&r->aio);
	close(r->fd);
	free(r);
	b->priv = NULL;
}

static int raw_flush_sync(struct blk *b)
{
	const struct blk_req q = { .op = BLK_FLUSH };
	struct raw *r = b->priv;

	return aio_perform(&r->aio, &q, 0);
}

static const char *raw_aio_name(const struct blk *b)
{
	const struct raw *r = b->priv;

	return r->aio.ops->name;
}

const struct blk_format blk_raw = {
	.name = "raw",
	.probe = raw_probe,
	.open = raw_open,
	.submit = raw_submit,
	.commit = raw_commit,
	.drain = raw_drain,
	.flush_sync = raw_flush_sync,
	.aio_name = raw_aio_name,
	.close = raw_close,
};
