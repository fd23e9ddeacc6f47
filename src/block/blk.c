/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The format-independent half of a disk: choosing the format, checking every request once.
 * No lock: everything here is constant after blk_open.
 */
#include "block/blk_priv.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

const struct blk_format *const blk_formats[] = { &blk_raw, NULL };

static const struct blk_format *format_find(const char *name)
{
	if (name == NULL)
		return &blk_raw;
	for (unsigned i = 0; blk_formats[i] != NULL; i++) {
		if (strcmp(blk_formats[i]->name, name) == 0)
			return blk_formats[i];
	}
	return NULL;
}

static int check_size(const struct blk *b, struct err *e)
{
	const uint64_t least = MAX(b->cfg.min_size, (uint64_t)BLK_SECTOR);
	const char *path = b->cfg.path;

	if (b->size < least)
		return err_set(
			e, -EINVAL,
			"disk %s: %llu bytes are too few (at least %llu); enlarge it: truncate -s 1G %s",
			path, (unsigned long long)b->size, (unsigned long long)least, path);
	if (b->size % BLK_SECTOR != 0)
		return err_set(
			e, -EINVAL,
			"disk %s: its size, %llu bytes, is no multiple of 512; truncate -s %%512 %s mends it",
			path, (unsigned long long)b->size, path);
	return 0;
}

struct blk *blk_open(const struct blk_cfg *cfg, struct loop *l, struct err *e)
{
	struct blk *b = calloc(1, sizeof(*b));

	if (b == NULL || (b->cfg.path = strdup(cfg->path)) == NULL) {
		free(b);
		err_set(e, -ENOMEM, "disk %s: out of memory", cfg->path);
		return NULL;
	}
	b->cfg.readonly = cfg->readonly;
	b->cfg.aio = cfg->aio;
	b->cfg.min_size = cfg->min_size;
	b->loop = l;
	b->phys_block = 4096;
	b->format = format_find(cfg->format);
	if (b->format == NULL) {
		err_set(e, -EINVAL, "disk %s: unknown format '%s'; ring3 knows raw", cfg->path,
			cfg->format);
		goto out_free;
	}
	if (b->format->open(b, e) < 0)
		goto out_free;
	if (check_size(b, e) < 0)
		goto out_close;
	return b;
out_close:
	b->format->close(b);
out_free:
	free((char *)b->cfg.path);
	free(b);
	return NULL;
}

void blk_close(struct blk *b)
{
	if (b == NULL)
		return;
	b->format->drain(b);
	b->format->close(b);
	free((char *)b->cfg.path);
	free(b);
}

uint64_t blk_size(const struct blk *b)
{
	return b->size;
}

bool blk_readonly(const struct blk *b)
{
	return b->cfg.readonly;
}

static int check(const struct blk *b, const struct blk_req *r)
{
	if (r->op == BLK_FLUSH)
		return 0;
	if (r->op != BLK_READ && b->cfg.readonly)
		return -EROFS;
	if (r->offset % BLK_SECTOR != 0 || r->len % BLK_SECTOR != 0)
		return -EINVAL;
	if (r->offset > b->size || r->len > b->size - r->offset)
		return -EINVAL;
	if ((r->op == BLK_READ || r->op == BLK_WRITE) && (r->iovcnt < 0 || r->iovcnt > IOV_MAX))
		return -EINVAL;
	return 0;
}

int blk_submit(struct blk *b, struct blk_req *r)
{
	r->result = check(b, r);
	if (r->result < 0)
		return 1;
	if (r->op != BLK_FLUSH && r->len == 0)
		return 1;
	if (r->op == BLK_FLUSH && b->cfg.readonly)
		return 1;
	return b->format->submit(b, r);
}

void blk_commit(struct blk *b)
{
	b->format->commit(b);
}

void blk_drain(struct blk *b)
{
	b->format->drain(b);
}

int blk_flush_sync(struct blk *b)
{
	return b->cfg.readonly ? 0 : b->format->flush_sync(b);
}

const char *blk_aio_name(const struct blk *b)
{
	return b->format->aio_name(b);
}
