/* SPDX-License-Identifier: Apache-2.0 */
/* Builds the SMBIOS 3 entry point and structures of types 0, 1 and 127. */
#include "fw/smbios.h"

#include <errno.h>
#include <string.h>

#define ENTRY_SIZE 24

struct out {
	uint8_t *buf;
	size_t len, cap;
	bool overflow;
};

/* One structure: formatted part (type and length filled here), then its strings. */
static void put(struct out *o, uint8_t *formatted, size_t n, const char *const *strings)
{
	size_t need = n + 1;

	for (const char *const *s = strings; *s; s++)
		need += strlen(*s) + 1;
	if (!*strings)
		need++;
	if (need > o->cap - o->len) {
		o->overflow = true;
		return;
	}
	formatted[1] = (uint8_t)n;
	memcpy(o->buf + o->len, formatted, n);
	memset(o->buf + o->len + n, 0, need - n);
	o->len += n;
	for (const char *const *s = strings; *s; s++) {
		memcpy(o->buf + o->len, *s, strlen(*s));
		o->len += strlen(*s) + 1;
	}
	o->len += *strings ? 1 : 2;
}

static void put_bios(struct out *o)
{
	static const char *const strings[] = { "ring3", R3_VERSION, "01/01/2025", NULL };
	uint8_t t[26] = { 0 };

	t[2] = 0;		 /* handle 0 */
	t[4] = 1;		 /* vendor */
	t[5] = 2;		 /* version */
	t[7] = 0xe0;		 /* segment 0xe000 */
	t[8] = 3;		 /* release date */
	t[10] = 1 << 3;		 /* characteristics: not given */
	t[19] = 1 << 4 | 1 << 2; /* virtual machine; targeted content distribution */
	t[20] = t[21] = t[22] = t[23] = 0xff;
	put(o, t, sizeof(t), strings);
}

static void put_system(struct out *o)
{
	static const char *const strings[] = { "ring3", "ring3 virtual machine", R3_VERSION, NULL };
	uint8_t t[27] = { 1 };

	t[2] = 1; /* handle 1 */
	t[4] = 1;
	t[5] = 2;
	t[6] = 3;
	t[24] = 6; /* wake-up: power switch */
	put(o, t, sizeof(t), strings);
}

static void put_end(struct out *o)
{
	static const char *const none[] = { NULL };
	uint8_t t[4] = { 127, 0, 2, 0 };

	put(o, t, sizeof(t), none);
}

static void fill_entry(uint8_t *p, uint64_t table, uint32_t size)
{
	uint8_t sum = 0;

	memset(p, 0, ENTRY_SIZE);
	memcpy(p, "_SM3_", 5);
	p[6] = ENTRY_SIZE;
	p[7] = 3;
	p[8] = 2;
	p[10] = 1;
	memcpy(p + 12, &size, 4);
	memcpy(p + 16, &table, 8);
	for (unsigned i = 0; i < ENTRY_SIZE; i++)
		sum = (uint8_t)(sum + p[i]);
	p[5] = (uint8_t)-sum;
}

int64_t fw_smbios_build(uint8_t *buf, size_t cap, gpa_t base)
{
	const size_t start = 32;
	struct out o = { .buf = buf, .cap = cap, .len = start };

	if (cap < start)
		return -ENOSPC;
	memset(buf, 0, start);
	put_bios(&o);
	put_system(&o);
	put_end(&o);
	if (o.overflow)
		return -ENOSPC;
	fill_entry(buf, base + start, (uint32_t)(o.len - start));
	return (int64_t)o.len;
}

int fw_smbios_install(struct mem_map *m, struct err *e)
{
	uint8_t buf[512];
	int64_t n = fw_smbios_build(buf, sizeof(buf), FW_SMBIOS_ADDR);

	if (n < 0 || mem_copy_in(m, FW_SMBIOS_ADDR, buf, (uint64_t)n) < 0)
		return err_set(e, -EFAULT, "cannot place the SMBIOS tables");
	return 0;
}
