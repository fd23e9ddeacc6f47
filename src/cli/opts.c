/* SPDX-License-Identifier: Apache-2.0 */
/* The option parser and the option part of --help. */
#include "cli/opts.h"

#include <errno.h>
#include <string.h>

enum { OPTS_MAX = 64, HELP_COLUMN = 26 };

int opt_flag(void *member, const char *value, const struct opt *o, struct err *e)
{
	(void)value;
	(void)o;
	(void)e;
	*(bool *)member = true;
	return 0;
}

int opt_string(void *member, const char *value, const struct opt *o, struct err *e)
{
	(void)o;
	(void)e;
	*(const char **)member = value;
	return 0;
}

int opt_size(void *member, const char *value, const struct opt *o, struct err *e)
{
	return cfg_text_size(value, (uint64_t)o->min, o->max ? (uint64_t)o->max : UINT64_MAX,
			     member, e);
}

int opt_int(void *member, const char *value, const struct opt *o, struct err *e)
{
	return cfg_text_int(value, o->min, o->max, member, e);
}

int opt_enum(void *member, const char *value, const struct opt *o, struct err *e)
{
	return cfg_text_enum(value, o->names, member, e);
}

int opt_list(void *member, const char *value, const struct opt *o, struct err *e)
{
	struct opt_list *l = member;

	(void)o;
	if (l->n == OPT_LIST_MAX)
		return err_set(e, -E2BIG, "given more than %d times", OPT_LIST_MAX);
	l->item[l->n++] = value;
	return 0;
}

static const struct opt *find(const struct opt *table, const char *name, size_t n)
{
	for (const struct opt *o = table; o->name; o++)
		if (strlen(o->name) == n && !memcmp(o->name, name, n))
			return o;
	return NULL;
}

static int unknown(const struct opt *table, const char *name, size_t n, struct err *e)
{
	const char *names[OPTS_MAX + 1], *near;
	char word[64];
	unsigned count = 0;

	for (const struct opt *o = table; o->name && count < OPTS_MAX; o++)
		names[count++] = o->name;
	names[count] = NULL;
	snprintf(word, sizeof(word), "%.*s", (int)MIN(n, sizeof(word) - 1), name);
	near = cfg_nearest(word, names);
	if (near)
		return err_set(e, -EINVAL, "unknown option --%s: did you mean --%s?", word, near);
	return err_set(e, -EINVAL, "unknown option --%s: --help lists them", word);
}

/* One option at argv[i]; returns how many words it took, or -errno. */
static int take(const struct opt *table, void *dst, int left, char **argv, struct err *e)
{
	const char *name = argv[0] + 2, *eq = strchr(name, '='), *value = eq ? eq + 1 : NULL;
	size_t n = eq ? (size_t)(eq - name) : strlen(name);
	const struct opt *o = find(table, name, n);
	int used = 1;

	if (!o)
		return unknown(table, name, n, e);
	if (!o->arg && value)
		return err_set(e, -EINVAL, "--%s takes no value", o->name);
	if (o->arg && o->arg[0] != '[' && !value) {
		if (left < 2)
			return err_set(e, -EINVAL, "--%s wants a value: --%s %s", o->name, o->name,
				       o->arg);
		value = argv[1];
		used = 2;
	}
	if (o->set((char *)dst + o->offset, value, o, e) < 0)
		return err_prefix(e, "--%s", o->name);
	return used;
}

int opts_parse(const struct opt *table, void *dst, int argc, char **argv, const char **words,
	       unsigned max, unsigned *nwords, struct err *e)
{
	bool literal = false;
	int r;

	*nwords = 0;
	for (int i = 0; i < argc;) {
		if (literal || argv[i][0] != '-' || argv[i][1] == '\0') {
			if (*nwords == max)
				return err_set(e, -EINVAL, "unexpected word '%.100s'", argv[i]);
			words[(*nwords)++] = argv[i++];
		} else if (!strcmp(argv[i], "--")) {
			literal = true;
			i++;
		} else if (!strcmp(argv[i], "-h") && find(table, "help", 4)) {
			*(bool *)((char *)dst + find(table, "help", 4)->offset) = true;
			i++;
		} else if (argv[i][1] != '-') {
			return err_set(e, -EINVAL,
				       "unknown option %.60s: options are long, --help lists them",
				       argv[i]);
		} else {
			r = take(table, dst, argc - i, argv + i, e);
			if (r < 0)
				return r;
			i += r;
		}
	}
	return 0;
}

static void help_row(const struct opt *o, FILE *f)
{
	char left[64];
	const char *line = o->help, *end;
	size_t n;

	snprintf(left, sizeof(left), "--%s%s%s", o->name, o->arg && o->arg[0] != '[' ? " " : "",
		 o->arg ? o->arg : "");
	fprintf(f, "  %-*s", HELP_COLUMN, left);
	if (strlen(left) > HELP_COLUMN)
		fprintf(f, "\n  %-*s", HELP_COLUMN, "");
	for (;;) {
		end = strchr(line, '\n');
		n = end ? (size_t)(end - line) : strlen(line);
		fprintf(f, "%.*s\n", (int)n, line);
		if (!end)
			break;
		line = end + 1;
		fprintf(f, "  %-*s", HELP_COLUMN, "");
	}
	if (o->cls)
		cfg_help(o->cls, f, HELP_COLUMN + 4);
}

void opts_help(const struct opt *table, FILE *f)
{
	for (const struct opt *o = table; o->name; o++)
		if (o->help)
			help_row(o, f);
}
