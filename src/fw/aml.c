/* SPDX-License-Identifier: Apache-2.0 */
/* The AML builder: encodings of ACPI 6.4, 20.2 and of resource descriptors, 6.4. */
#include "fw/aml.h"

#include <string.h>

enum {
	OP_ZERO = 0x00,
	OP_ONE = 0x01,
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	OP_DUAL_NAME = 0x2e,
	OP_MULTI_NAME = 0x2f,
	OP_EXT = 0x5b,
	OP_ARG0 = 0x68,
	OP_EXT_DEVICE = 0x82,
	OP_RETURN = 0xa4,
};

void aml_init(struct aml *a, void *buf, size_t cap)
{
	*a = (struct aml){ .buf = buf, .cap = cap };
}

static void put(struct aml *a, const void *p, size_t n)
{
	if (n > a->cap - a->len) {
		a->overflow = true;
		return;
	}
	memcpy(a->buf + a->len, p, n);
	a->len += n;
}

/* The low n bytes of v, little endian. */
static void put_le(struct aml *a, uint64_t v, size_t n)
{
	uint8_t b[8];

	for (size_t i = 0; i < n; i++)
		b[i] = (uint8_t)(v >> (8 * i));
	put(a, b, n);
}

static void put8(struct aml *a, unsigned v)
{
	put_le(a, v, 1);
}

static void insert(struct aml *a, size_t at, const void *p, size_t n)
{
	if (n > a->cap - a->len) {
		a->overflow = true;
		return;
	}
	memmove(a->buf + at + n, a->buf + at, a->len - at);
	memcpy(a->buf + at, p, n);
	a->len += n;
}

static void open_object(struct aml *a)
{
	if (a->depth == AML_DEPTH) {
		a->overflow = true;
		return;
	}
	a->mark[a->depth++] = a->len;
}

static void put_path(struct aml *a, const char *name)
{
	const char *s;
	unsigned segs = 1;

	if (*name == '\\')
		put8(a, (uint8_t)*name++);
	for (s = name; *s; s++)
		segs += *s == '.';
	if (segs == 2)
		put8(a, OP_DUAL_NAME);
	if (segs > 2) {
		put8(a, OP_MULTI_NAME);
		put8(a, segs);
	}
	for (s = name; *s; s++)
		if (*s != '.')
			put8(a, (uint8_t)*s);
}

void aml_scope(struct aml *a, const char *name)
{
	put8(a, OP_SCOPE);
	open_object(a);
	put_path(a, name);
}

void aml_device(struct aml *a, const char *name)
{
	put8(a, OP_EXT);
	put8(a, OP_EXT_DEVICE);
	open_object(a);
	put_path(a, name);
}

void aml_method(struct aml *a, const char *name, unsigned args)
{
	put8(a, OP_METHOD);
	open_object(a);
	put_path(a, name);
	put8(a, args & 7);
}

void aml_package(struct aml *a, unsigned elements)
{
	put8(a, OP_PACKAGE);
	open_object(a);
	put8(a, elements);
}

/* PkgLength (20.2.4) counts its own bytes: try the shortest form that holds the sum. */
void aml_end(struct aml *a)
{
	uint8_t b[4];
	size_t at, body, n = 1, total;

	if (a->depth == 0 || a->overflow) {
		a->overflow = true;
		return;
	}
	at = a->mark[--a->depth];
	body = a->len - at;
	while (n < 4 && body + n >= (n == 1 ? 0x40u : 1u << (4 + 8 * (n - 1))))
		n++;
	total = body + n;
	if (n == 1) {
		b[0] = (uint8_t)total;
	} else {
		b[0] = (uint8_t)(((n - 1) << 6) | (total & 0xf));
		for (size_t i = 1; i < n; i++)
			b[i] = (uint8_t)(total >> (4 + 8 * (i - 1)));
	}
	insert(a, at, b, n);
}

void aml_name(struct aml *a, const char *name)
{
	put8(a, OP_NAME);
	put_path(a, name);
}

void aml_int(struct aml *a, uint64_t v)
{
	if (v <= 1) {
		put8(a, v ? OP_ONE : OP_ZERO);
	} else if (v <= 0xff) {
		put8(a, OP_BYTE);
		put_le(a, v, 1);
	} else if (v <= 0xffff) {
		put8(a, OP_WORD);
		put_le(a, v, 2);
	} else if (v <= 0xffffffff) {
		put8(a, OP_DWORD);
		put_le(a, v, 4);
	} else {
		put8(a, OP_QWORD);
		put_le(a, v, 8);
	}
}

void aml_string(struct aml *a, const char *s)
{
	put8(a, OP_STRING);
	put(a, s, strlen(s) + 1);
}

static unsigned hex_digit(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'A' + 10);
}

/* Three letters of five bits, four hexadecimal digits, big endian (ACPI 6.4, 19.6.36). */
void aml_eisaid(struct aml *a, const char *id)
{
	uint32_t v = 0;

	for (int i = 0; i < 3; i++)
		v = (v << 5) | ((uint32_t)(id[i] - '@') & 0x1f);
	for (int i = 3; i < 7; i++)
		v = (v << 4) | hex_digit(id[i]);
	put8(a, OP_DWORD);
	put_le(a, __builtin_bswap32(v), 4);
}

void aml_return_arg(struct aml *a, unsigned arg)
{
	put8(a, OP_RETURN);
	put8(a, OP_ARG0 + arg);
}

void aml_res_begin(struct aml *a)
{
	put8(a, OP_BUFFER);
	open_object(a);
}

void aml_res_end(struct aml *a)
{
	struct aml size;
	uint8_t b[16];

	put_le(a, 0x0079, 2); /* end tag, checksum not computed */
	if (a->depth == 0 || a->overflow) {
		a->overflow = true;
		return;
	}
	aml_init(&size, b, sizeof(b));
	aml_int(&size, a->len - a->mark[a->depth - 1]);
	insert(a, a->mark[a->depth - 1], b, size.len);
	aml_end(a);
}

void aml_res_io(struct aml *a, uint16_t base, uint8_t count)
{
	put8(a, 0x47);
	put8(a, 1); /* decodes 16 bits */
	put_le(a, base, 2);
	put_le(a, base, 2);
	put8(a, 1);
	put8(a, count);
}

/* Without the flags byte: edge, active high, not shared. */
void aml_res_irq(struct aml *a, unsigned irq)
{
	put8(a, 0x22);
	put_le(a, 1u << irq, 2);
}

void aml_res_mem32(struct aml *a, uint32_t base, uint32_t size)
{
	put8(a, 0x86);
	put_le(a, 9, 2);
	put8(a, 1); /* writable */
	put_le(a, base, 4);
	put_le(a, size, 4);
}

/* Address space descriptors (6.4.3.5): kind, type flags, then five numbers of `width` bytes. */
static void put_window(struct aml *a, size_t width, unsigned kind, unsigned flags, uint64_t first,
		       uint64_t last)
{
	put8(a, width == 2 ? 0x88 : width == 4 ? 0x87 : 0x8a);
	put_le(a, 3 + 5 * width, 2);
	put8(a, kind);
	put8(a, 0x0c); /* producer, minimum and maximum fixed */
	put8(a, flags);
	put_le(a, 0, width); /* granularity */
	put_le(a, first, width);
	put_le(a, last, width);
	put_le(a, 0, width); /* translation */
	put_le(a, last - first + 1, width);
}

void aml_res_bus(struct aml *a, uint16_t first, uint16_t last)
{
	put_window(a, 2, 2, 0, first, last);
}

void aml_res_io_window(struct aml *a, uint16_t first, uint16_t last)
{
	put_window(a, 2, 1, 3, first, last); /* the entire range */
}

void aml_res_mem32_window(struct aml *a, uint32_t first, uint32_t last)
{
	put_window(a, 4, 0, 1, first, last); /* read-write, not cacheable */
}

void aml_res_mem64_window(struct aml *a, uint64_t first, uint64_t last)
{
	put_window(a, 8, 0, 1, first, last);
}
