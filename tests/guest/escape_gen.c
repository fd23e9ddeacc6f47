/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random accesses: every addressing form, with addresses chosen where translation could go wrong: page edges, wrong upper
 * bits, the edges of the canonical halves, host addresses, and guest addresses that a table entry's displacement would
 * carry to a host address. Encodings: SDM vol. 2.
 */
#include "escape.h"

#include <string.h>

enum {
	F_LOCK = 1,
	F_W = 2 /* REX.W at random */,
	F_IMM1 = 4,
	F_IMM4 = 8,
	F_VSIB = 16,
	F_VEX = 32,
	F_L = 64 /* VEX.L at random */,
	F_VVVV = 128,
	F_L1 = 256,
	F_FLAGS = 512 /* leaves flags undefined */,
	F_NOOSZ = 1024
};

/* prefix: 0, 66, F2 or F3 (VEX: pp 0, 1, 3, 2); ext: ModRM.reg, or -1: any */
static const struct form {
	const char *name;
	uint8_t prefix, map, opcode;
	int8_t ext;
	uint16_t what;
} forms[] = {
	{ "mov", 0, 0, 0x88, -1, F_W },
	{ "mov", 0, 0, 0x89, -1, F_W },
	{ "mov", 0, 0, 0x8a, -1, F_W },
	{ "mov", 0, 0, 0x8b, -1, F_W },
	{ "mov", 0x66, 0, 0x8b, -1, 0 },
	{ "mov", 0x66, 0, 0x89, -1, 0 },
	{ "mov", 0, 0, 0xc6, 0, F_IMM1 },
	{ "mov", 0, 0, 0xc7, 0, F_IMM4 | F_W },
	{ "alu", 0, 0, 0x00, -1, F_W | F_LOCK },
	{ "alu", 0, 0, 0x01, -1, F_W | F_LOCK },
	{ "alu", 0, 0, 0x02, -1, F_W },
	{ "alu", 0, 0, 0x03, -1, F_W },
	{ "alu", 0, 0, 0x13, -1, F_W },
	{ "alu", 0, 0, 0x19, -1, F_W | F_LOCK },
	{ "alu", 0, 0, 0x38, -1, F_W },
	{ "alu", 0, 0, 0x39, -1, F_W },
	{ "alu", 0, 0, 0x3b, -1, F_W },
	{ "alu", 0, 0, 0x80, -1, F_IMM1 | F_LOCK },
	{ "alu", 0, 0, 0x81, -1, F_IMM4 | F_W | F_LOCK },
	{ "alu", 0, 0, 0x83, -1, F_IMM1 | F_W | F_LOCK },
	{ "alu", 0, 0, 0x85, -1, F_W },
	{ "alu", 0, 0, 0xf6, 2, F_LOCK },
	{ "alu", 0, 0, 0xf7, 3, F_W | F_LOCK },
	{ "alu", 0, 0, 0xff, 1, F_W | F_LOCK },
	{ "alu", 0, 0, 0xd1, -1, F_W },
	{ "mul", 0, 0, 0xf7, 4, F_W | F_FLAGS },
	{ "mul", 0, 1, 0xaf, -1, F_W | F_FLAGS },
	{ "div", 0, 0, 0xf7, 6, F_W | F_FLAGS },
	{ "div", 0, 0, 0xf6, 7, F_FLAGS },
	{ "xchg", 0, 0, 0x86, -1, F_LOCK },
	{ "xchg", 0, 0, 0x87, -1, F_W | F_LOCK },
	{ "xadd", 0, 1, 0xc1, -1, F_W | F_LOCK },
	{ "cmpxchg", 0, 1, 0xb1, -1, F_W | F_LOCK },
	{ "cmpxchg", 0, 1, 0xb0, -1, F_LOCK },
	{ "cmpxchg16b", 0, 1, 0xc7, 1, F_W | F_LOCK },
	{ "bts", 0, 1, 0xab, -1, F_W | F_LOCK | F_FLAGS },
	{ "bts", 0, 1, 0xb3, -1, F_W | F_LOCK | F_FLAGS },
	{ "bts", 0, 1, 0xbb, -1, F_W | F_FLAGS },
	{ "bts", 0, 1, 0xa3, -1, F_W | F_FLAGS },
	{ "bts", 0x66, 1, 0xab, -1, F_FLAGS },
	{ "bts", 0, 1, 0xba, 5, F_W | F_IMM1 | F_LOCK | F_FLAGS },
	{ "movzx", 0, 1, 0xb6, -1, F_W },
	{ "movzx", 0, 1, 0xb7, -1, F_W },
	{ "movzx", 0, 1, 0xbe, -1, F_W },
	{ "movzx", 0, 0, 0x63, -1, F_W },
	{ "movbe", 0, 2, 0xf0, -1, F_W },
	{ "movbe", 0, 2, 0xf1, -1, F_W },
	{ "movnti", 0, 1, 0xc3, -1, F_W },
	{ "cmov", 0, 1, 0x42, -1, F_W },
	{ "cmov", 0, 1, 0x4f, -1, F_W },
	{ "setcc", 0, 1, 0x93, 0, 0 },
	{ "crc32", 0xf2, 2, 0xf1, -1, F_W },
	{ "push", 0, 0, 0xff, 6, 0 },
	{ "pop", 0, 0, 0x8f, 0, 0 },
	{ "call", 0, 0, 0xff, 2, 0 },
	{ "jmp", 0, 0, 0xff, 4, 0 },
	{ "call far", 0, 0, 0xff, 3, F_W },
	{ "invlpg", 0, 1, 0x01, 7, 0 },
	{ "sgdt", 0, 1, 0x01, 0, 0 },
	{ "lidt", 0, 1, 0x01, 3, 0 },
	{ "clflush", 0, 1, 0xae, 7, 0 },
	{ "prefetch", 0, 1, 0x18, 1, 0 },
	{ "sse", 0, 1, 0x10, -1, 0 },
	{ "sse", 0, 1, 0x11, -1, 0 },
	{ "sse", 0xf3, 1, 0x10, -1, 0 },
	{ "sse", 0xf2, 1, 0x11, -1, 0 },
	{ "sse", 0, 1, 0x28, -1, 0 },
	{ "sse", 0, 1, 0x29, -1, 0 },
	{ "sse", 0x66, 1, 0x6f, -1, 0 },
	{ "sse", 0xf3, 1, 0x6f, -1, 0 },
	{ "sse", 0xf3, 1, 0x7f, -1, 0 },
	{ "sse", 0x66, 1, 0xd6, -1, 0 },
	{ "sse", 0xf3, 1, 0x7e, -1, 0 },
	{ "sse", 0, 1, 0x12, -1, 0 },
	{ "sse", 0, 1, 0x17, -1, 0 },
	{ "sse", 0x66, 1, 0xfe, -1, 0 },
	{ "sse", 0, 1, 0x58, -1, 0 },
	{ "sse", 0xf2, 1, 0x59, -1, 0 },
	{ "sse", 0, 1, 0x2b, -1, 0 },
	{ "sse", 0x66, 1, 0xe7, -1, 0 },
	{ "sse", 0x66, 2, 0x00, -1, 0 },
	{ "sse", 0x66, 2, 0x2a, -1, 0 },
	{ "sse", 0x66, 3, 0x0f, -1, F_IMM1 },
	{ "sse", 0x66, 3, 0x14, -1, F_IMM1 },
	{ "sse", 0x66, 3, 0x16, -1, F_IMM1 | F_W },
	{ "sse", 0x66, 3, 0x22, -1, F_IMM1 | F_W },
	{ "sse", 0x66, 1, 0x6e, -1, F_W },
	{ "sse", 0x66, 1, 0x7e, -1, F_W },
	{ "mmx", 0, 1, 0x6f, -1, 0 },
	{ "mmx", 0, 1, 0x7f, -1, 0 },
	{ "mmx", 0, 1, 0xfd, -1, 0 },
	{ "avx", 0, 1, 0x10, -1, F_VEX | F_L },
	{ "avx", 0, 1, 0x11, -1, F_VEX | F_L },
	{ "avx", 0x66, 1, 0x6f, -1, F_VEX | F_L },
	{ "avx", 0xf3, 1, 0x7f, -1, F_VEX | F_L },
	{ "avx", 0x66, 1, 0xfe, -1, F_VEX | F_L | F_VVVV },
	{ "avx", 0, 1, 0x58, -1, F_VEX | F_L | F_VVVV },
	{ "avx", 0x66, 2, 0x18, -1, F_VEX | F_L },
	{ "avx", 0x66, 2, 0x1a, -1, F_VEX | F_L1 },
	{ "avx", 0x66, 2, 0x58, -1, F_VEX | F_L },
	{ "avx", 0x66, 3, 0x18, -1, F_VEX | F_L1 | F_VVVV | F_IMM1 },
	{ "avx", 0x66, 3, 0x19, -1, F_VEX | F_L1 | F_IMM1 },
	{ "avx mask", 0x66, 2, 0x2c, -1, F_VEX | F_L | F_VVVV },
	{ "avx mask", 0x66, 2, 0x2f, -1, F_VEX | F_L | F_VVVV },
	{ "avx mask", 0x66, 2, 0x8c, -1, F_VEX | F_L | F_VVVV | F_W },
	{ "avx mask", 0x66, 2, 0x8e, -1, F_VEX | F_L | F_VVVV | F_W },
	{ "gather", 0x66, 2, 0x90, -1, F_VEX | F_L | F_VVVV | F_W | F_VSIB },
	{ "gather", 0x66, 2, 0x93, -1, F_VEX | F_L | F_VVVV | F_W | F_VSIB },
	{ "bmi", 0, 2, 0xf7, -1, F_VEX | F_VVVV | F_W | F_FLAGS },
	{ "bmi", 0xf2, 2, 0xf6, -1, F_VEX | F_VVVV | F_W },
	{ "bmi", 0xf3, 2, 0xf5, -1, F_VEX | F_VVVV | F_W },
	{ "bmi", 0, 2, 0xf2, -1, F_VEX | F_VVVV | F_W | F_FLAGS },
	{ "x87", 0, 0, 0xd8, 0, 0 },
	{ "x87", 0, 0, 0xd9, 0, 0 },
	{ "x87", 0, 0, 0xdd, 3, 0 },
	{ "x87", 0, 0, 0xdf, 5, 0 },
	{ "x87", 0, 0, 0xdf, 7, 0 },
	{ "x87", 0, 0, 0xdb, 5, 0 },
	{ "x87", 0, 0, 0xdb, 7, 0 },
	{ "x87", 0, 0, 0xd9, 7, 0 },
	{ "x87 state", 0, 0, 0xd9, 6, 0 },
	{ "x87 state", 0, 0, 0xdd, 6, 0 },
	{ "x87 state", 0, 0, 0xd9, 4, 0 },
	{ "x87 state", 0, 0, 0xdd, 4, 0 },
	{ "fxsave", 0, 1, 0xae, 0, F_W },
	{ "fxrstor", 0, 1, 0xae, 1, F_W },
	{ "mxcsr", 0, 1, 0xae, 2, 0 },
	{ "mxcsr", 0, 1, 0xae, 3, 0 },
	{ "xsave", 0, 1, 0xae, 4, F_W },
	{ "xrstor", 0, 1, 0xae, 5, F_W },
};

const char *esc_form(unsigned n)
{
	static const char *const more[] = { "moffs",	     "string", "rep string", "push pop",
					    "leave",	     "enter",  "ret",	     "jmp register",
					    "call register", "pushf",  "xlat",	     "maskmov",
					    "call",	     NULL };
	unsigned k = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(forms); i++) {
		if (i && forms[i].name == forms[i - 1].name)
			continue;
		if (k++ == n)
			return forms[i].name;
	}
	return n - k < ARRAY_SIZE(more) ? more[n - k] : NULL;
}

uint64_t esc_random(struct esc_random *r)
{
	r->x ^= r->x << 13, r->x ^= r->x >> 7, r->x ^= r->x << 17;
	return r->x * 0x2545f4914f6cdd1dull;
}

static unsigned below(struct esc_random *r, unsigned n)
{
	return (unsigned)((esc_random(r) >> 32) * n >> 32);
}

static uint64_t page_like(struct esc_random *r)
{
	static const uint64_t base[] = { ESC_HIGH,
					 ESC_LOW_PAGE,
					 ESC_TOP_USER,
					 ESC_TOP,
					 BOX_KERNEL + BOX_CODE,
					 0x0000800000000000,
					 0xffff800000000000,
					 BOX_CODE_VA,
					 BOX_KERNEL };

	if (below(r, 4))
		return BOX_DATA_VA + below(r, BOX_PAGES_MAPPED + 1) * 4096ul;
	return base[below(r, ARRAY_SIZE(base))] + below(r, 5) * 4096ul - 4096 * below(r, 2);
}

static uint64_t near_edge(struct esc_random *r)
{
	switch (below(r, 4)) {
	case 0: return below(r, 4096);
	case 1: return 4096 - 1 - below(r, 40);
	case 2: return below(r, 256) * 16;
	default: return (uint64_t)0 - below(r, 40);
	}
}

/* Mapped, with something wrong above. */
static uint64_t wrong_upper(struct esc_random *r, uint64_t a)
{
	switch (below(r, 5)) {
	case 0: return a + (esc_random(r) << 48);
	case 1: return a ^ BIT(47);
	case 2: return a ^ (1ull << (40 + below(r, 24)));
	case 3: return a | 0xffff000000000000;
	default: return a & 0x0000ffffffffffff;
	}
}

static uint64_t host_target(struct esc_random *r)
{
	return r->nhost ? r->host[below(r, r->nhost)] + below(r, 128) - 64 : esc_random(r) >> 17;
}

static uint64_t interesting(struct esc_random *r)
{
	uint64_t a = page_like(r) + near_edge(r);

	switch (below(r, 10)) {
	case 0: return esc_random(r);
	case 1: return wrong_upper(r, a);
	case 2: return host_target(r);
	case 3: /* what an entry would carry to the target, were the index not taken from the address */
		return host_target(r) - (r->ndelta ? r->delta[below(r, r->ndelta)] : 0) +
		       (below(r, 2) ? BIT(47) : 0);
	case 4: return esc_random(r) >> below(r, 64);
	default: return a;
	}
}

/* ModRM with a memory operand; the address is given to its registers. */
static uint8_t *modrm_mem(struct esc_case *c, struct esc_random *r, uint8_t *p, unsigned reg,
			  uint8_t *x, uint8_t *b, bool vsib)
{
	uint64_t target = interesting(r);
	int32_t disp = (int32_t)(below(r, 2) ? below(r, 256) - 128 : (uint32_t)esc_random(r));
	unsigned mod = below(r, 3), rm = below(r, 16), index, scale, base;

	*x = *b = 0;
	if (!vsib && below(r, 12) == 0) { /* RIP-relative, or an absolute 32-bit address */
		bool sib = below(r, 2);

		*p++ = (uint8_t)((reg & 7) << 3 | (sib ? 4 : 5));
		if (sib)
			*p++ = 0x25;
		disp = sib ? (int32_t)target : (int32_t)(target - BOX_CODE_VA - c->off);
		memcpy(p, &disp, 4);
		return p + 4;
	}
	if (mod == 0)
		disp = 0;
	else if (mod == 1)
		disp = (int8_t)disp;
	if (mod == 0 && (rm & 7) == 5)
		rm = X86_RSI;
	if (!vsib && (rm & 7) != 4) {
		*p++ = (uint8_t)(mod << 6 | (reg & 7) << 3 | (rm & 7));
		*b = rm >= 8;
		c->gpr[rm] = target - (uint64_t)(int64_t)disp;
	} else {
		base = below(r, 16);
		index = below(r, 16);
		scale = below(r, 4);
		if (mod == 0 && (base & 7) == 5)
			base = X86_RSI;
		*p++ = (uint8_t)(mod << 6 | (reg & 7) << 3 | 4);
		*p++ = (uint8_t)(scale << 6 | (index & 7) << 3 | (base & 7));
		*b = base >= 8;
		*x = index >= 8 ? 2 : 0;
		if (index != 4 && index != base && !vsib && below(r, 2)) {
			c->gpr[base] = interesting(r);
			c->gpr[index] = (uint64_t)((int64_t)(target - c->gpr[base] -
							     (uint64_t)(int64_t)disp) >>
						   scale);
		} else {
			if (index != 4 && !vsib && index != base)
				c->gpr[index] = below(r, 2) ? below(r, 64) : interesting(r);
			c->gpr[base] =
				target - (uint64_t)(int64_t)disp -
				(index == 4 || vsib || index == base ? 0 : c->gpr[index] << scale);
		}
	}
	if (mod == 1)
		*p++ = (uint8_t)disp;
	else if (mod == 2)
		memcpy(p, &disp, 4), p += 4;
	return p;
}

static uint8_t *prefixes(struct esc_random *r, uint8_t *p)
{
	if (below(r, 6) == 0)
		*p++ = below(r, 2) ? 0x64 : 0x65;
	if (below(r, 14) == 0)
		*p++ = 0x67;
	return p;
}

static void finish(struct esc_case *c, uint8_t *p)
{
	*p++ = 0xcc;
	c->len = (unsigned)(p - c->code);
}

static void table_form(struct esc_case *c, struct esc_random *r)
{
	const struct form *f = &forms[below(r, ARRAY_SIZE(forms))];
	unsigned reg = f->ext >= 0 ? (unsigned)f->ext : below(r, 16);
	bool w = (f->what & F_W) && below(r, 2);
	uint8_t tail[16], x, b, *p = prefixes(r, c->code);
	uint64_t imm = esc_random(r);
	unsigned n = (unsigned)(modrm_mem(c, r, tail, reg, &x, &b, f->what & F_VSIB) - tail);

	c->form = f->name;
	if (f->what & F_FLAGS)
		c->flags_ignored = X86_FL_ARITH;
	if (f->what & F_VEX) {
		unsigned pp = f->prefix == 0x66	  ? 1
			      : f->prefix == 0xf3 ? 2
			      : f->prefix == 0xf2 ? 3
						  : 0;
		unsigned v = f->what & F_VVVV ? below(r, 16) : 0,
			 l = f->what & F_L1 || (f->what & F_L && below(r, 2));

		*p++ = 0xc4;
		*p++ = (uint8_t)(f->map | (reg < 8 ? 0x80 : 0) | (x ? 0 : 0x40) | (b ? 0 : 0x20));
		*p++ = (uint8_t)((w ? 0x80 : 0) | (~v & 15) << 3 | l << 2 | pp);
	} else {
		uint8_t rex = (uint8_t)((w ? 8 : 0) | (reg >= 8 ? 4 : 0) | x | b);

		if (f->what & F_LOCK && below(r, 3) == 0)
			*p++ = 0xf0;
		if (f->prefix)
			*p++ = f->prefix;
		if (rex || below(r, 3) == 0)
			*p++ = 0x40 | rex;
		if (f->map)
			*p++ = 0x0f;
		if (f->map >= 2)
			*p++ = f->map == 2 ? 0x38 : 0x3a;
	}
	*p++ = f->opcode;
	memcpy(p, tail, n);
	p += n;
	n = f->what & F_IMM4 ? 4 : f->what & F_IMM1 ? 1 : 0;
	memcpy(p, &imm, n);
	finish(c, p + n);
}

static void moffs(struct esc_case *c, struct esc_random *r)
{
	uint8_t *p = prefixes(r, c->code);
	uint64_t a = interesting(r);
	unsigned n = memchr(c->code, 0x67, (size_t)(p - c->code)) ? 4 : 8;

	c->form = "moffs";
	if (below(r, 2))
		*p++ = 0x48;
	*p++ = (uint8_t)(0xa0 + below(r, 4));
	memcpy(p, &a, n);
	finish(c, p + n);
}

static void string(struct esc_case *c, struct esc_random *r)
{
	static const uint8_t ops[] = { 0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf };
	uint8_t *p = prefixes(r, c->code);
	bool rep = below(r, 2);

	c->form = rep ? "rep string" : "string";
	if (rep)
		*p++ = below(r, 2) ? 0xf3 : 0xf2;
	if (below(r, 3) == 0)
		*p++ = below(r, 2) ? 0x66 : 0x48;
	*p++ = ops[below(r, ARRAY_SIZE(ops))];
	c->gpr[X86_RSI] = interesting(r);
	c->gpr[X86_RDI] = interesting(r);
	c->gpr[X86_RCX] = below(r, 4) ? below(r, 300) : below(r, 70000);
	if (below(r, 4) == 0)
		c->rflags |= X86_FL_DF;
	finish(c, p);
}

static void stack(struct esc_case *c, struct esc_random *r)
{
	uint8_t *p = c->code;
	unsigned reg = below(r, 16);

	c->gpr[X86_RSP] = interesting(r);
	switch (below(r, 9)) {
	case 0:
		c->form = "push pop";
		if (reg >= 8)
			*p++ = 0x41;
		*p++ = (uint8_t)((below(r, 2) ? 0x50 : 0x58) | (reg & 7));
		break;
	case 1:
		c->form = "leave";
		*p++ = 0xc9;
		c->gpr[X86_RBP] = interesting(r);
		break;
	case 2:
		c->form = "enter";
		memcpy(p, (const uint8_t[]){ 0xc8, 16, 0, (uint8_t)below(r, 4) }, 4);
		p += 4;
		break;
	case 3:
		c->form = "ret";
		*p++ = below(r, 2) ? 0xc3 : 0xc2;
		*p++ = (uint8_t)esc_random(r);
		*p++ = 0;
		break;
	case 4:
		c->form = "jmp register";
		c->gpr[reg] = interesting(r);
		if (reg >= 8)
			*p++ = 0x41;
		*p++ = 0xff;
		*p++ = (uint8_t)(0xe0 | (reg & 7));
		break;
	case 5:
		c->form = "call register";
		if (reg != X86_RSP)
			c->gpr[reg] = interesting(r);
		if (reg >= 8)
			*p++ = 0x41;
		*p++ = 0xff;
		*p++ = (uint8_t)(0xd0 | (reg & 7));
		break;
	case 6:
		c->form = "pushf";
		*p++ = below(r, 2) ? 0x9c : 0x9d;
		break;
	case 7:
		c->form = "call";
		*p++ = 0xe8;
		memset(p, 0, 4);
		p += 4;
		break;
	default:
		c->form = below(r, 2) ? "xlat" : "maskmov";
		c->gpr[X86_RBX] = interesting(r);
		c->gpr[X86_RDI] = interesting(r);
		if (c->form[0] == 'x')
			*p++ = 0xd7;
		else
			memcpy(p, (const uint8_t[]){ 0x66, 0x0f, 0xf7, 0xc1 }, 4), p += 4;
		break;
	}
	finish(c, p);
}

void esc_case_make(struct esc_case *c, struct esc_random *r)
{
	memset(c, 0, sizeof(*c));
	c->cpl = below(r, 2) ? 3 : 0;
	/* anywhere in the page, its very end included */
	c->off = below(r, 8) ? below(r, 200) * 16 : 4096 - below(r, 20);
	c->rflags = X86_FL_R1 | (esc_random(r) & X86_FL_ARITH);
	c->flags_ignored = X86_FL_AF; /* undefined after logic */
	for (unsigned i = 0; i < 16; i++)
		c->gpr[i] = below(r, 3) ? esc_random(r) : interesting(r);
	c->gpr[X86_RSP] = BOX_DATA_VA + 0x2000 + below(r, 256) * 16;
	c->fs_base = below(r, 3) ? 0 : (uint64_t)((int64_t)(interesting(r) << 16) >> 16);
	c->gs_base = below(r, 3) ? 0 : (uint64_t)((int64_t)(interesting(r) << 16) >> 16);
	switch (below(r, 8)) {
	case 0: stack(c, r); break;
	case 1:
		if (below(r, 2))
			string(c, r);
		else
			moffs(c, r);
		break;
	default: table_form(c, r); break;
	}
}
