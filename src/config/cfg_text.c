/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single values from text: bool, integer, size, name of a list; the nearest name for a typing
 * error. Each message says what is allowed. No threads, no locks.
 */
#include "config/config.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

int cfg_text_bool(const char *s, bool *out, struct err *e)
{
	static const char *const yes[] = { "on", "yes", "true", "1" };
	static const char *const no[] = { "off", "no", "false", "0" };

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		if (strcasecmp(s, yes[i]) == 0 || strcasecmp(s, no[i]) == 0) {
			*out = strcasecmp(s, yes[i]) == 0;
			return 0;
		}
	}
	return err_set(e, -EINVAL, "'%.64s' is neither on nor off", s);
}

/* The number at s; *rest is what follows. -EINVAL: no number; -ERANGE: beyond 64 bits. */
static int scan_u64(const char *s, uint64_t *v, const char **rest)
{
	const bool hex = s[0] == '0' && (s[1] == 'x' || s[1] == 'X');
	char *end;

	if (!isdigit((unsigned char)s[0]) || (hex && !isxdigit((unsigned char)s[2])))
		return -EINVAL;
	errno = 0;
	*v = strtoull(s, &end, hex ? 16 : 10);
	*rest = end;
	return errno == 0 ? 0 : -ERANGE;
}

static int int_range(const char *s, int64_t min, int64_t max, struct err *e)
{
	return err_set(e, -ERANGE, "'%.64s' is out of range, allowed: %" PRId64 " to %" PRId64, s,
		       min, max);
}

int cfg_text_int(const char *s, int64_t min, int64_t max, int64_t *out, struct err *e)
{
	const bool neg = s[0] == '-';
	const char *rest;
	uint64_t u;
	int64_t v;
	int r = scan_u64(s + neg, &u, &rest);

	if (r == -EINVAL || *rest != '\0')
		return err_set(e, -EINVAL, "'%.64s' is not a whole number", s);
	if (r < 0 || u > (uint64_t)INT64_MAX)
		return int_range(s, min, max, e);
	v = neg ? -(int64_t)u : (int64_t)u;
	if (v < min || v > max)
		return int_range(s, min, max, e);
	*out = v;
	return 0;
}

/* The power of two that a suffix stands for, -1 if it is none. */
static int suffix_shift(const char *s)
{
	static const char letters[] = "KMGT";
	const char *p;

	if (s[0] == '\0')
		return 0;
	p = strchr(letters, toupper((unsigned char)s[0]));
	if (p == NULL)
		return -1;
	if (s[1] != '\0' && strcasecmp(s + 1, "B") != 0 && strcasecmp(s + 1, "iB") != 0)
		return -1;
	return 10 * (int)(p - letters + 1);
}

static int size_range(const char *s, uint64_t min, uint64_t max, struct err *e)
{
	char lo[32], hi[32];

	cfg_size_text(min, lo, sizeof(lo));
	cfg_size_text(max, hi, sizeof(hi));
	if (max == UINT64_MAX)
		return err_set(e, -ERANGE, "'%.64s' is out of range, allowed: at least %s", s, lo);
	return err_set(e, -ERANGE, "'%.64s' is out of range, allowed: %s to %s", s, lo, hi);
}

int cfg_text_size(const char *s, uint64_t min, uint64_t max, uint64_t *out, struct err *e)
{
	const char *rest;
	uint64_t v;
	int r = scan_u64(s, &v, &rest);
	int shift = r == -EINVAL ? -1 : suffix_shift(rest);

	if (shift < 0)
		return err_set(e, -EINVAL, "'%.64s' is not a size such as 512M or 2G", s);
	if (r < 0 || v > (UINT64_MAX >> shift))
		return size_range(s, min, max, e);
	v <<= shift;
	if (v < min || v > max)
		return size_range(s, min, max, e);
	*out = v;
	return 0;
}

void cfg_size_text(uint64_t v, char *buf, size_t n)
{
	static const char letters[] = "KMGT";
	int i = -1;

	while (v != 0 && v % 1024 == 0 && i < 3) {
		v /= 1024;
		i++;
	}
	if (i < 0)
		snprintf(buf, n, "%" PRIu64, v);
	else
		snprintf(buf, n, "%" PRIu64 "%c", v, letters[i]);
}

static void names_join(const char *const *names, char *buf, size_t room)
{
	size_t n = 0;

	buf[0] = '\0';
	for (size_t i = 0; names[i] != NULL && n < room; i++) {
		int w = snprintf(buf + n, room - n, "%s%s", i > 0 ? ", " : "", names[i]);

		n += w > 0 ? (size_t)w : 0;
	}
}

int cfg_text_enum(const char *s, const char *const *names, int *out, struct err *e)
{
	char all[160];

	for (int i = 0; names[i] != NULL; i++) {
		if (strcmp(s, names[i]) == 0) {
			*out = i;
			return 0;
		}
	}
	names_join(names, all, sizeof(all));
	return err_set(e, -EINVAL, "'%.64s' is unknown, allowed: %s", s, all);
}

enum { NEAR_MAX = 32 };

/* Edit distance with neighbours' exchange counted as one; words longer than NEAR_MAX are endlessly far. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[3][NEAR_MAX + 1];
	const size_t la = strlen(a), lb = strlen(b);

	if (la > NEAR_MAX || lb > NEAR_MAX)
		return UINT_MAX;
	for (unsigned j = 0; j <= lb; j++)
		row[0][j] = j;
	for (unsigned i = 1; i <= la; i++) {
		unsigned *cur = row[i % 3], *up = row[(i + 2) % 3], *up2 = row[(i + 1) % 3];

		cur[0] = i;
		for (unsigned j = 1; j <= lb; j++) {
			unsigned best = up[j - 1] + (a[i - 1] != b[j - 1]);

			best = MIN(best, MIN(up[j], cur[j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				best = MIN(best, up2[j - 2] + 1);
			cur[j] = best;
		}
	}
	return row[la % 3][lb];
}

const char *cfg_nearest(const char *s, const char *const *names)
{
	const char *best = NULL;
	unsigned least = (unsigned)MAX((strlen(s) + 2) / 3, (size_t)1) + 1;

	for (size_t i = 0; names[i] != NULL; i++) {
		unsigned d = distance(s, names[i]);

		if (d < least) {
			least = d;
			best = names[i];
		}
	}
	return best;
}
