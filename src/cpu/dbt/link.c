/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chaining blocks by direct jumps, and taking the chains apart when a block becomes stale.
 * Every link starts at its exit stub, which brings its index to the run loop; linking patches one rel32.
 */
#include "base/stats.h"
#include "cpu/dbt/dbt_priv.h"

uint32_t dbt_link_new(struct dbt *d, struct dbt_block *from, gva_t target, uint8_t *rel,
		      uint8_t *stub)
{
	uint32_t n = d->nlink;

	d->link[n] = (struct dbt_link){
		.target = target, .rel = rel, .stub = stub, .from = from, .out_next = from->out_head
	};
	from->out_head = n;
	d->nlink++;
	return n;
}

void dbt_link_to(struct dbt *d, uint32_t n, struct dbt_block *to)
{
	struct dbt_link *l = &d->link[n];

	if (l->to || !l->from->valid || !to->valid)
		return;
	l->to = to;
	l->in_next = to->in_head;
	to->in_head = n;
	emit_patch32(l->rel, to->host);
	stat_inc(DBT_LINKS);
}

static void forget_incoming(struct dbt *d, struct dbt_block *b, uint32_t n)
{
	uint32_t *p = &b->in_head;

	while (*p && *p != n)
		p = &d->link[*p].in_next;
	if (*p)
		*p = d->link[n].in_next;
}

static void unlink_all(struct dbt *d, struct dbt_block *b)
{
	for (uint32_t n = b->in_head, next; n; n = next) {
		struct dbt_link *l = &d->link[n];

		next = l->in_next;
		l->to = NULL;
		l->in_next = 0;
		emit_patch32(l->rel, l->stub);
	}
	b->in_head = 0;
	for (uint32_t n = b->out_head; n; n = d->link[n].out_next)
		if (d->link[n].to)
			forget_incoming(d, d->link[n].to, n);
	b->out_head = 0;
}

/* Cells hold the block's very start: from there, too, the way leads to the run loop. */
static void divert_start(struct dbt *d, struct dbt_block *b)
{
	struct emit e = { b->host, b->host, b->host_end, false };

	emit_mov_imm(&e, S0, b->va);
	emit_jmp(&e, d->stub_miss);
	BUG_ON(e.overflow);
}

/* Whoever still holds an address into the block (jump cache, return stack) is sent to the run loop. */
static void divert(struct dbt *d, uint8_t *at)
{
	struct emit e = { at, at, at + 5, false };

	emit_jmp(&e, d->stub_miss);
}

void dbt_block_invalidate(struct dbt *d, struct dbt_block *b)
{
	if (!b->valid)
		return;
	b->valid = false;
	dbt_block_remove(d, b);
	unlink_all(d, b);
	if (b->mode & DBT_MODE_USER)
		divert_start(d, b);
	if (b->checked)
		divert(d, b->checked);
	for (uint32_t i = 0; i < b->nret; i++)
		divert(d, b->host + d->ret_site[b->ret_site + i]);
}
