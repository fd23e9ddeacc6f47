/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command-line options from a table: one row is the parser and the --help line of one option. Long
 * options, `--name value` or `--name=value`. No threads.
 */
#ifndef R3_CLI_OPTS_H
#define R3_CLI_OPTS_H

#include <stdio.h>

#include "base/err.h"
#include "config/config.h"

#define OPT_LIST_MAX 8
struct opt_list {
	const char *item[OPT_LIST_MAX];
	unsigned n;
};

struct opt;
typedef int (*opt_setter)(void *member, const char *value, const struct opt *o, struct err *e);

struct opt {
	const char *name; /* without dashes; NULL ends the table */
	const char *
		arg; /* what --help calls the value; NULL: a flag; "[=N]": only after an equals sign, else NULL is set */
	const char *help; /* lines separated by \n */
	opt_setter set;
	size_t offset; /* of the member in the caller's struct */
	int64_t min, max;
	const char *const *names;    /* opt_enum */
	const struct cfg_class *cls; /* a key=value option: its keys are shown by --help */
};

/* Setters; the member's type is in brackets. */
int opt_flag(void *member, const char *value, const struct opt *o, struct err *e); /* bool */
int opt_string(void *member, const char *value, const struct opt *o,
	       struct err *e); /* const char * */
int opt_size(void *member, const char *value, const struct opt *o, struct err *e); /* uint64_t */
int opt_int(void *member, const char *value, const struct opt *o, struct err *e);  /* int64_t */
int opt_enum(void *member, const char *value, const struct opt *o, struct err *e); /* int */
int opt_list(void *member, const char *value, const struct opt *o,
	     struct err *e); /* struct opt_list */

/*
 * Reads argv[0 … argc) into *dst. Words that are no options are kept in words (at most max, their number
 * in *nwords); more of them are an error. Every message names the option and the mend.
 */
int opts_parse(const struct opt *table, void *dst, int argc, char **argv, const char **words,
	       unsigned max, unsigned *nwords, struct err *e) MUST_CHECK;
void opts_help(const struct opt *table, FILE *f);

#endif
