/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration from text: `key=value,key=value` into a struct, driven by a table. One row of the
 * table is the parser, the --help line and the documentation of one key.
 *
 *	struct disk_cfg { char path[4096]; int cache; bool ro; };
 *	static const char *const caches[] = { "none", "writeback", NULL };
 *	static const struct cfg_field disk_fields[] = {
 *		CFG_STRING(struct disk_cfg, path, "path", NULL, "image file", CFG_REQUIRED | CFG_FIRST),
 *		CFG_ENUM(struct disk_cfg, cache, "cache", caches, "writeback", "host page cache"),
 *		CFG_BOOL(struct disk_cfg, ro, "readonly", "off", "refuse writes", 0),
 *		CFG_END };
 *	static const struct cfg_class disk_class = { "--disk", sizeof(struct disk_cfg), disk_fields };
 *
 * Text: a comma separates pairs; `,,` is a literal comma; a bare first word is the value of the row
 * marked CFG_FIRST; a bare later word is `key=on` for a bool key. No threads, no locks.
 */
#ifndef R3_CONFIG_CONFIG_H
#define R3_CONFIG_CONFIG_H

#include "base/base.h"
#include "base/err.h"

enum cfg_type {
	CFG_T_END,
	CFG_T_STRING, /* char[N]; min and max are the allowed lengths (max 0: N - 1) */
	CFG_T_BOOL,   /* bool: on off yes no true false 1 0 */
	CFG_T_INT,    /* int64_t, decimal or 0x… */
	CFG_T_SIZE,   /* uint64_t bytes, with K M G T suffixes (powers of 1024) */
	CFG_T_ENUM,   /* int: index in names[] */
	CFG_T_LIST,   /* struct cfg_list: the key may be repeated, each value is kept as text */
};

enum { CFG_REQUIRED = 1, CFG_FIRST = 2 };

enum { CFG_LIST_MAX = 16, CFG_LIST_TEXT = 256 };
struct cfg_list {
	unsigned n;
	char item[CFG_LIST_MAX][CFG_LIST_TEXT];
};

struct cfg_field {
	const char *key;
	enum cfg_type type;
	uint32_t offset, size; /* of the member */
	int64_t min, max;      /* INT, SIZE, STRING's length; both 0: unlimited */
	const char *def;       /* as text; NULL: zero, empty */
	const char *help;
	const char *const *names; /* ENUM: NULL-ended */
	unsigned flags;
	/*
	 * A check the table cannot express (LIST items: called per item). value is the text as given.
	 * Fills *e with what is allowed; cfg_parse puts "--disk: key" before it. May be NULL.
	 */
	int (*check)(const char *value, struct err *e);
};

#define CFG_ROW(st, m, k, t, lo, hi, d, h, nm, fl)                                                 \
	{                                                                                          \
		.key = (k), .type = (t), .offset = (uint32_t)offsetof(st, m),                      \
		.size = (uint32_t)sizeof(((st *)0)->m), .min = (lo), .max = (hi), .def = (d),      \
		.help = (h), .names = (nm), .flags = (fl)                                          \
	}
#define CFG_STRING(st, m, k, d, h, fl) CFG_ROW(st, m, k, CFG_T_STRING, 0, 0, d, h, NULL, fl)
#define CFG_BOOL(st, m, k, d, h, fl) CFG_ROW(st, m, k, CFG_T_BOOL, 0, 0, d, h, NULL, fl)
#define CFG_INT(st, m, k, lo, hi, d, h, fl) CFG_ROW(st, m, k, CFG_T_INT, lo, hi, d, h, NULL, fl)
#define CFG_SIZE(st, m, k, lo, hi, d, h, fl) CFG_ROW(st, m, k, CFG_T_SIZE, lo, hi, d, h, NULL, fl)
#define CFG_ENUM(st, m, k, nm, d, h, fl) CFG_ROW(st, m, k, CFG_T_ENUM, 0, 0, d, h, nm, fl)
#define CFG_LIST(st, m, k, h, fl) CFG_ROW(st, m, k, CFG_T_LIST, 0, 0, NULL, h, NULL, fl)
#define CFG_END                                                                                    \
	{                                                                                          \
		.key = NULL, .type = CFG_T_END                                                     \
	}

struct cfg_class {
	const char *name; /* what messages begin with: "--disk" */
	size_t size;	  /* of the struct filled */
	const struct cfg_field *fields;
};

/* Zeroes *out and puts every default in. -EINVAL (the table is wrong) with *e. */
int cfg_defaults(const struct cfg_class *c, void *out, struct err *e) MUST_CHECK;
/* Defaults, then text; *out is all or nothing only in that the caller must not use it on failure. */
int cfg_parse(const struct cfg_class *c, const char *text, void *out, struct err *e) MUST_CHECK;
/* One key of an already filled struct (a monitor's "set", an API's PATCH). */
int cfg_set(const struct cfg_class *c, void *out, const char *key, const char *value,
	    struct err *e) MUST_CHECK;
/* Prints the table, one line per key, indented by `indent` columns, as --help shows it. */
void cfg_help(const struct cfg_class *c, void *file /* FILE * */, int indent);

/* The single values, for options that are not key=value lists. 0 or -EINVAL / -ERANGE; *e says what is allowed. */
int cfg_text_bool(const char *s, bool *out, struct err *e) MUST_CHECK;
int cfg_text_int(const char *s, int64_t min, int64_t max, int64_t *out, struct err *e) MUST_CHECK;
int cfg_text_size(const char *s, uint64_t min, uint64_t max, uint64_t *out,
		  struct err *e) MUST_CHECK;
int cfg_text_enum(const char *s, const char *const *names, int *out, struct err *e) MUST_CHECK;
/* "512M" for 536870912; the exact number when no suffix fits. */
void cfg_size_text(uint64_t v, char *buf, size_t n);
/* The name in a NULL-ended list nearest to s (at most a third of its letters differ), or NULL. */
const char *cfg_nearest(const char *s, const char *const *names);

#endif
