/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The key=value parser and its --help, both from one table. No threads, no locks.
 */
#include "config/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_KEYS = 64, MAX_VALUE = 4096, MAX_KEY = 64 };

static const struct cfg_field *field_find(const struct cfg_class *c, const char *key)
{
	for (const struct cfg_field *f = c->fields; f->type != CFG_T_END; f++) {
		if (strcmp(f->key, key) == 0)
			return f;
	}
	return NULL;
}

static const struct cfg_field *field_first(const struct cfg_class *c)
{
	for (const struct cfg_field *f = c->fields; f->type != CFG_T_END; f++) {
		if (f->flags & CFG_FIRST)
			return f;
	}
	return NULL;
}

static int unknown_key(const struct cfg_class *c, const char *key, struct err *e)
{
	const char *keys[MAX_KEYS + 1], *near;
	char all[160];
	size_t n = 0, len = 0;

	all[0] = '\0';
	for (const struct cfg_field *f = c->fields; f->type != CFG_T_END && n < MAX_KEYS; f++) {
		int w = snprintf(all + len, sizeof(all) - len, "%s%s", n > 0 ? ", " : "", f->key);

		keys[n++] = f->key;
		len = MIN(len + (w > 0 ? (size_t)w : 0), sizeof(all) - 1);
	}
	keys[n] = NULL;
	near = cfg_nearest(key, keys);
	if (near != NULL)
		return err_set(e, -EINVAL, "%s: unknown key '%.64s'; did you mean '%s'?", c->name,
			       key, near);
	return err_set(e, -EINVAL, "%s: unknown key '%.64s'; allowed: %s", c->name, key, all);
}

static int set_string(const struct cfg_field *f, char *member, const char *value, struct err *e)
{
	const size_t len = strlen(value);
	const size_t most = f->max > 0 ? MIN((size_t)f->max, f->size - 1u) : f->size - 1u;

	if (len > most)
		return err_set(e, -ERANGE, "%zu characters are too many, allowed: %zu", len, most);
	if (len < (size_t)f->min)
		return err_set(e, -ERANGE, "%zu characters are too few, needed: %lld", len,
			       (long long)f->min);
	memcpy(member, value, len + 1);
	return 0;
}

static int set_list(char *member, const char *value, struct err *e)
{
	struct cfg_list *l = (struct cfg_list *)(void *)member;

	if (l->n == CFG_LIST_MAX)
		return err_set(e, -ERANGE, "given more than %d times", CFG_LIST_MAX);
	if (strlen(value) >= CFG_LIST_TEXT)
		return err_set(e, -ERANGE, "longer than %d characters", CFG_LIST_TEXT - 1);
	strcpy(l->item[l->n++], value);
	return 0;
}

static int set_int(const struct cfg_field *f, int64_t *out, const char *value, struct err *e)
{
	const bool any = f->min == 0 && f->max == 0;

	return cfg_text_int(value, any ? INT64_MIN : f->min, any ? INT64_MAX : f->max, out, e);
}

static int set_size(const struct cfg_field *f, uint64_t *out, const char *value, struct err *e)
{
	const uint64_t most = f->max > 0 ? (uint64_t)f->max : UINT64_MAX;

	return cfg_text_size(value, (uint64_t)f->min, most, out, e);
}

static int set_value(const struct cfg_field *f, void *out, const char *value, struct err *e)
{
	char *member = (char *)out + f->offset;

	switch (f->type) {
	case CFG_T_STRING: return set_string(f, member, value, e);
	case CFG_T_BOOL: return cfg_text_bool(value, (bool *)member, e);
	case CFG_T_INT: return set_int(f, (int64_t *)(void *)member, value, e);
	case CFG_T_SIZE: return set_size(f, (uint64_t *)(void *)member, value, e);
	case CFG_T_ENUM: return cfg_text_enum(value, f->names, (int *)(void *)member, e);
	case CFG_T_LIST: return set_list(member, value, e);
	case CFG_T_END: break;
	}
	return err_set(e, -EINVAL, "has no type");
}

static int field_set(const struct cfg_class *c, const struct cfg_field *f, void *out,
		     const char *value, struct err *e)
{
	struct err own = { 0, "" };
	int r = f->check != NULL ? f->check(value, &own) : 0;

	if (r == 0)
		r = set_value(f, out, value, &own);
	if (r < 0)
		return err_set(e, r, "%s: %s: %.180s", c->name, f->key,
			       own.msg[0] != '\0' ? own.msg : "value not allowed");
	return 0;
}

int cfg_defaults(const struct cfg_class *c, void *out, struct err *e)
{
	memset(out, 0, c->size);
	for (const struct cfg_field *f = c->fields; f->type != CFG_T_END; f++) {
		struct err own = { 0, "" };

		if (f->def == NULL)
			continue;
		if (set_value(f, out, f->def, &own) < 0)
			return err_set(e, -EINVAL, "%s: default of %s: %.180s", c->name, f->key,
				       own.msg);
	}
	return 0;
}

int cfg_set(const struct cfg_class *c, void *out, const char *key, const char *value, struct err *e)
{
	const struct cfg_field *f = field_find(c, key);

	if (f == NULL)
		return unknown_key(c, key, e);
	return field_set(c, f, out, value, e);
}

/* Copies the next word into buf, `,,` being a comma; *p ends behind the word's own comma. -1: too long. */
static int next_word(const char **p, char *buf, size_t room)
{
	const char *s = *p;
	size_t n = 0;

	for (; *s != '\0'; s++) {
		if (*s == ',' && *++s != ',')
			break;
		if (n + 1 >= room)
			return -1;
		buf[n++] = *s;
	}
	buf[n] = '\0';
	*p = s;
	return (int)n;
}

/* Finds the row a word is for and where its value begins (NULL: a bare bool key). */
static const struct cfg_field *word_field(const struct cfg_class *c, char *word, bool first,
					  const char **value)
{
	const struct cfg_field *f = first ? field_first(c) : NULL;
	char *eq = strchr(word, '=');

	*value = word;
	if (eq == NULL) {
		const struct cfg_field *named = field_find(c, word);

		if (named != NULL && named->type == CFG_T_BOOL) {
			*value = "on";
			return named;
		}
		return f;
	}
	*eq = '\0';
	*value = eq + 1;
	if (field_find(c, word) != NULL)
		return field_find(c, word);
	/* A path with a '=' in it may stand first: it is a value unless its key looks like one. */
	if (f != NULL && strpbrk(word, "/.") != NULL) {
		*eq = '=';
		*value = word;
		return f;
	}
	return NULL;
}

struct parse {
	const struct cfg_class *c;
	void *out;
	uint64_t seen; /* bit per row */
};

static int parse_word(struct parse *p, char *word, bool first, struct err *e)
{
	const struct cfg_class *c = p->c;
	const char *value;
	const struct cfg_field *f = word_field(c, word, first, &value);
	uint64_t bit;

	if (f == NULL) {
		if (value == word && field_find(c, word) != NULL)
			return err_set(e, -EINVAL, "%s: %s: needs a value: %s=…", c->name, word,
				       word);
		return unknown_key(c, word, e);
	}
	bit = BIT((unsigned)(f - c->fields) % MAX_KEYS);
	if ((p->seen & bit) && f->type != CFG_T_LIST)
		return err_set(e, -EINVAL, "%s: %s: given twice", c->name, f->key);
	if (*value == '\0' && (f->flags & CFG_REQUIRED))
		return err_set(e, -EINVAL, "%s: %s: needs a value: %s=…", c->name, f->key, f->key);
	p->seen |= bit;
	return field_set(c, f, p->out, value, e);
}

static int check_required(const struct parse *p, struct err *e)
{
	const struct cfg_class *c = p->c;

	for (unsigned i = 0; c->fields[i].type != CFG_T_END; i++) {
		if ((c->fields[i].flags & CFG_REQUIRED) && !(p->seen & BIT(i % MAX_KEYS)))
			return err_set(e, -EINVAL, "%s: %s is missing: add %s=…", c->name,
				       c->fields[i].key, c->fields[i].key);
	}
	return 0;
}

int cfg_parse(const struct cfg_class *c, const char *text, void *out, struct err *e)
{
	struct parse p = { c, out, 0 };
	char word[MAX_KEY + MAX_VALUE];
	bool first = true;
	int r = cfg_defaults(c, out, e);

	if (r < 0)
		return r;
	while (*text != '\0') {
		int n = next_word(&text, word, sizeof(word));

		if (n < 0)
			return err_set(e, -EINVAL, "%s: longer than %d characters", c->name,
				       MAX_VALUE);
		if (n == 0)
			return err_set(e, -EINVAL,
				       "%s: empty word (a comma too many? a literal comma is ,,)",
				       c->name);
		r = parse_word(&p, word, first, e);
		if (r < 0)
			return r;
		first = false;
	}
	return check_required(&p, e);
}

static void value_text(const struct cfg_field *f, char *buf, size_t n)
{
	char lo[32], hi[32];
	size_t len = 0;

	snprintf(buf, n, "%s", f->type == CFG_T_BOOL ? "on|off" : "TEXT");
	if (f->type == CFG_T_SIZE)
		snprintf(buf, n, "SIZE");
	if (f->type == CFG_T_INT)
		snprintf(buf, n, "N");
	if (f->type == CFG_T_INT && (f->min != 0 || f->max != 0))
		snprintf(buf, n, "%lld..%lld", (long long)f->min, (long long)f->max);
	if (f->type == CFG_T_SIZE && f->max != 0) {
		cfg_size_text((uint64_t)f->min, lo, sizeof(lo));
		cfg_size_text((uint64_t)f->max, hi, sizeof(hi));
		snprintf(buf, n, "%s..%s", lo, hi);
	}
	for (size_t i = 0; f->type == CFG_T_ENUM && f->names[i] != NULL && len < n; i++) {
		int w = snprintf(buf + len, n - len, "%s%s", i > 0 ? "|" : "", f->names[i]);

		len += w > 0 ? (size_t)w : 0;
	}
}

void cfg_help(const struct cfg_class *c, void *file, int indent)
{
	FILE *out = file;

	for (const struct cfg_field *f = c->fields; f->type != CFG_T_END; f++) {
		char value[128], left[200];

		value_text(f, value, sizeof(value));
		snprintf(left, sizeof(left), "%s=%s", f->key, value);
		fprintf(out, "%*s%-28s %s", indent, "", left, f->help);
		if (f->flags & CFG_REQUIRED)
			fprintf(out, " (needed)");
		if (f->type == CFG_T_LIST)
			fprintf(out, " (may be repeated)");
		if (f->def != NULL && f->def[0] != '\0')
			fprintf(out, " [%s]", f->def);
		fputc('\n', out);
	}
}
