/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device lifecycle. The list is kept youngest first, so that reset and destroy run in the reverse
 * order of creation. Called by the machine's thread only.
 */
#include "bus/bus.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static void dev_free(struct dev *d)
{
	free(d->priv);
	free(d);
}

struct dev *dev_create(struct dev_list *l, struct bus *b, const struct dev_class *cls,
		       const char *name, const void *cfg, struct err *e)
{
	struct dev *d = calloc(1, sizeof(*d));
	struct err own = { 0, "" };
	int r;

	if (d != NULL)
		d->priv = calloc(1, MAX(cls->priv_size, (size_t)1));
	if (d == NULL || d->priv == NULL) {
		free(d);
		err_set(e, -ENOMEM, "%s: out of memory", name);
		return NULL;
	}
	d->cls = cls;
	d->bus = b;
	snprintf(d->name, sizeof(d->name), "%s", name);
	r = cls->create != NULL ? cls->create(d, cfg, &own) : 0;
	if (r < 0) {
		if (own.code == 0)
			err_set(&own, r, "%s: cannot be created (error %d)", name, -r);
		err_set(e, own.code, "%s", own.msg);
		dev_free(d);
		return NULL;
	}
	d->next = l->first;
	l->first = d;
	return d;
}

void dev_destroy(struct dev_list *l, struct dev *d)
{
	for (struct dev **p = &l->first; *p != NULL; p = &(*p)->next) {
		if (*p != d)
			continue;
		*p = d->next;
		if (d->cls->destroy != NULL)
			d->cls->destroy(d);
		dev_free(d);
		return;
	}
}

void dev_reset_all(struct dev_list *l)
{
	for (struct dev *d = l->first; d != NULL; d = d->next) {
		if (d->cls->reset != NULL)
			d->cls->reset(d);
	}
}

void dev_pause_all(struct dev_list *l)
{
	for (struct dev *d = l->first; d != NULL; d = d->next) {
		if (d->cls->pause != NULL)
			d->cls->pause(d);
	}
}

void dev_resume_all(struct dev_list *l)
{
	for (struct dev *d = l->first; d != NULL; d = d->next) {
		if (d->cls->resume != NULL)
			d->cls->resume(d);
	}
}

void dev_destroy_all(struct dev_list *l)
{
	while (l->first != NULL)
		dev_destroy(l, l->first);
}
