/* SPDX-License-Identifier: Apache-2.0 */
/* Cases from a seed: instruction, registers that make its memory operand land in the window, data. */
#include "case.h"

#include <string.h>

#include "gen.h"

/* ---- values ---- */

static uint64_t interesting(uint64_t *s)
{
	uint64_t r = gen_random(s);

	switch (gen_random(s) % 12) {
	case 0: return 0;
	case 1: return 1;
	case 2: return ~0ull;
	case 3: return r & 0xff;
	case 4: return (uint64_t)(int64_t)(int8_t)r;
	case 5: return BIT(r & 63);
	case 6: return BIT(r & 63) - 1;
	case 7: return (uint32_t)r;
	case 8: return (uint64_t)(int64_t)(int32_t)r;
	case 9: return DATA_VA + (r % DATA_SIZE);
	default: return r;
	}
}

static uint64_t fp64_bits(uint64_t *s)
{
	uint64_t r = gen_random(s), sign = r & BIT(63), frac = r & (BIT(52) - 1);

	switch (gen_random(s) % 10) {
	case 0: return sign;
	case 1: return sign | 0x7ff0000000000000ull;
	case 2: return sign | 0x7ff8000000000000ull | frac >> 1;
	case 3: return sign | 0x7ff0000000000001ull | frac >> 2;
	case 4: return sign | frac;
	case 5: return sign | (1023 + (r >> 52 & 63) - 32) << 52 | (frac & ~(BIT(44) - 1));
	case 6: return sign | 0x3ff0000000000000ull;
	default: return sign | (1023 + (r >> 53 & 127) - 64) << 52 | frac;
	}
}

static uint32_t fp32_bits(uint64_t *s)
{
	uint64_t r = gen_random(s);
	uint32_t sign = (uint32_t)r & 0x80000000u, frac = (uint32_t)(r >> 32) & 0x7fffff;

	switch (gen_random(s) % 10) {
	case 0: return sign;
	case 1: return sign | 0x7f800000u;
	case 2: return sign | 0x7fc00000u | frac >> 1;
	case 3: return sign | 0x7f800001u | frac >> 2;
	case 4: return sign | frac;
	case 5: return sign | (127 + ((uint32_t)r & 31) - 16) << 23;
	default: return sign | (127 + ((uint32_t)r & 63) - 32) << 23 | frac;
	}
}

static uint64_t data64(uint64_t *s)
{
	switch (gen_random(s) % 5) {
	case 0: return fp64_bits(s);
	case 1: return (uint64_t)fp32_bits(s) << 32 | fp32_bits(s);
	case 2: return interesting(s);
	default: return gen_random(s);
	}
}

static void fill(uint8_t *p, unsigned n, uint64_t *s)
{
	for (unsigned i = 0; i < n; i += 8) {
		uint64_t v = data64(s);

		memcpy(p + i, &v, 8);
	}
}

void batch_fill_base(struct batch *b, uint64_t seed)
{
	fill(b->base, sizeof b->base, &seed);
}

/* ---- x87 and SSE state ---- */

static void fill_st(uint8_t *p, uint64_t *s)
{
	uint64_t m = gen_random(s), r = gen_random(s);
	uint16_t e = (uint16_t)(r & 0x8000);

	switch (gen_random(s) % 10) {
	case 0: m = 0; break;
	case 1:
		m = BIT(63);
		e |= 0x7fff;
		break;
	case 2:
		m |= 3ull << 62;
		e |= 0x7fff;
		break;
	case 3:
		m = (m >> 2) | BIT(63) | 1;
		e |= 0x7fff;
		break;
	case 4: m >>= 1; break;
	case 5: e |= (uint16_t)(r >> 16 & 0x7fff); break; /* may be unsupported */
	case 6: e = 0xffff; break;			  /* as MMX leaves it */
	case 7:
		m = BIT(63);
		e = (uint16_t)(e | (16383 + (r >> 16 & 15)));
		break;
	default:
		m |= BIT(63);
		e = (uint16_t)(e | (16383 - 40 + (r >> 16) % 80));
		break;
	}
	memcpy(p, &m, 8);
	memcpy(p + 8, &e, 2);
}

static void make_fpu(struct regs *r, uint64_t *s)
{
	uint64_t v = gen_random(s);
	uint16_t fcw = 0x37f, fsw = (uint16_t)(v & 0x7f00u & ~0x8000u);
	uint32_t mxcsr = 0x1f80, mask = 0xffff;
	uint8_t ftw = (uint8_t)(v >> 16);

	memset(r->fx, 0, sizeof r->fx);
	if (gen_chance(s, 50))
		fcw = (uint16_t)(0x7f | (v >> 24 & 0xc00) |
				 ((v >> 36 & 3) == 1 ? 0x300u : (v >> 28 & 0x300)));
	if (gen_chance(s, 6))
		fcw = (uint16_t)(fcw & ~(v >> 40 & 0x3f));
	if (gen_chance(s, 10))
		fsw = (uint16_t)(fsw | (v >> 48 & 0x7f));
	if (fsw & ~fcw & 0x3f)
		fsw |= 0x8080;
	if (gen_chance(s, 40))
		ftw = 0xff;
	else if (gen_chance(s, 20))
		ftw = 0;
	if (gen_chance(s, 50))
		mxcsr |= (uint32_t)(gen_random(s) & 0xe07f);
	if (gen_chance(s, 6))
		mxcsr &= ~(uint32_t)(gen_random(s) & 0x1f80);
	memcpy(r->fx, &fcw, 2);
	memcpy(r->fx + 2, &fsw, 2);
	r->fx[4] = ftw;
	memcpy(r->fx + 24, &mxcsr, 4);
	memcpy(r->fx + 28, &mask, 4);
	for (unsigned i = 0; i < 8; i++)
		fill_st(r->fx + 32 + 16 * i, s);
	fill(r->fx + 160, 256, s);
	fill(r->ymmh, 256, s);
}

/* ---- registers for the memory operand ---- */

/* Where the memory operand shall be. */
static uint64_t pick_target(const struct x86_insn *in, uint64_t *s)
{
	unsigned size = 64, align = in->attr & IA_ALIGN ? 31 : 7;
	uint64_t r = gen_random(s);

	for (unsigned i = 0; i < in->nop; i++)
		if (in->op[i].kind == OPK_MEM && in->op[i].size)
			size = in->op[i].size;
	if (in->id == X86_ID_FXSAVE || in->id == X86_ID_FXRSTOR) {
		size = 512;
		align = 15;
	}
	switch (gen_random(s) % 32) {
	case 0: return DATA_END - (r % (2 * size));		  /* near or over the end */
	case 1: return DATA_VA - size + (r % (2 * size));	  /* near or before the start */
	case 2: return DATA_VA + DATA_RW_SIZE - (r % (2 * size)); /* from writable into read-only */
	case 3: return DATA_VA + DATA_RW_SIZE + r % (PAGE - size); /* read-only */
	case 4: /* mostly not canonical; misaligned as well it would be either fault */
		return in->attr & IA_ALIGN ? r & ~(uint64_t)align : r;
	case 5: return DATA_VA + PAGE - (r % size); /* crosses a page inside */
	case 6:
	case 7: return DATA_VA + r % (DATA_RW_SIZE - size); /* unaligned */
	default: return (DATA_VA + r % (DATA_RW_SIZE - size - 32)) & ~(uint64_t)align;
	}
}

/* Chooses base and index so that the effective address becomes t, as far as the form allows it. */
static void aim(struct test_case *c, const struct x86_insn *in, uint64_t t, uint64_t *s)
{
	uint64_t *g = c->in.gpr, rest = t - (uint64_t)in->disp;

	if (in->seg_override && (in->seg == X86_FS || in->seg == X86_GS))
		rest -= in->seg == X86_FS ? c->in.fs_base : c->in.gs_base;
	if (in->attr & IA_VSIB) {
		if (in->base != 0xff)
			g[in->base] = rest;
		for (unsigned i = 0; i < 8; i++) { /* small indices of either width */
			uint32_t v = (uint32_t)(gen_random(s) & 63);
			uint8_t *xmm = i < 4 ? c->in.fx + 160 + 16 * in->index + 4 * i
					     : c->in.ymmh + 16 * in->index + 4 * (i - 4);

			if (i & 1 && (in->id == X86_ID_VPGATHERQD || in->id == X86_ID_VPGATHERQQ ||
				      in->id == X86_ID_VGATHERQPS || in->id == X86_ID_VGATHERQPD))
				v = 0;
			memcpy(xmm, &v, 4);
		}
		return;
	}
	if (in->id == X86_ID_XLAT)
		rest -= g[X86_RAX] & 0xff;
	if (in->base != 0xff && in->base == in->index) {
		g[in->base] = rest / (1 + (1ull << in->scale));
		return;
	}
	if (in->index != 0xff) {
		if (gen_chance(s, 70))
			g[in->index] &= 0xff;
		rest -= g[in->index] << in->scale;
	}
	if (in->base != 0xff)
		g[in->base] = rest;
	else if (in->index != 0xff)
		g[in->index] = (rest + (g[in->index] << in->scale)) >> in->scale;
}

/* RIP-relative and absolute forms have their address in the code. */
static void aim_code(struct test_case *c, struct x86_insn *in, unsigned at, uint64_t t)
{
	uint64_t d = t, size = in->len_disp;

	if (in->rip_rel)
		d = t - (CODE_VA + c->code_off + at + in->len);
	if (in->seg_override && (in->seg == X86_FS || in->seg == X86_GS))
		d -= in->seg == X86_FS ? c->in.fs_base : c->in.gs_base;
	memcpy(c->code + at + in->off_disp, &d, size);
	in->disp = size == 8 ? (int64_t)d : (int64_t)(int32_t)d;
}

static uint64_t code_pointer(const struct test_case *c, uint64_t *s)
{
	uint64_t off;

	do
		off = gen_random(s) % (CODE_PAGES * PAGE);
	while (off + 16 > c->code_off && off < c->code_off + (uint64_t)CASE_CODE_MAX);
	return CODE_VA + off;
}

/* Puts bytes into the window where the instruction will read them. */
static void overlay(struct test_case *c, uint64_t va, const void *p, unsigned n)
{
	if (va < DATA_VA || va + n > DATA_VA + DATA_RW_SIZE || n > OVERLAY_MAX)
		return;
	c->has_overlay = true;
	c->overlay_off = (uint16_t)(va - DATA_VA);
	c->overlay_len = (uint16_t)n;
	memcpy(c->overlay, p, n);
}

static void set_rel(struct test_case *c, const struct x86_insn *in, unsigned at, uint64_t *s)
{
	uint64_t target = code_pointer(c, s), next = CODE_VA + c->code_off + at + in->len;
	int64_t d = (int64_t)(target - next);

	if (in->len_imm == 1) /* near, but not into the case's own code */
		d = gen_chance(s, 50) ? CASE_CODE_MAX + (int)(gen_random(s) & 31)
				      : -CASE_CODE_MAX - (int)(gen_random(s) & 31);
	else if (gen_chance(s, 5))
		d = (int32_t)gen_random(s);
	memcpy(c->code + at + in->off_imm, &d, in->len_imm);
}

static bool reads_code_pointer(const struct x86_insn *in)
{
	return (in->attr & IA_INDIRECT) != 0;
}

/* What one instruction needs beyond random registers. */
static void prepare(struct test_case *c, struct x86_insn *in, unsigned at, uint64_t *s)
{
	uint64_t t = pick_target(in, s), *g = c->in.gpr, p;

	if (in->has_mem &&
	    (in->rip_rel || in->moffs || (in->base == 0xff && in->index == 0xff && !in->rip_rel)))
		aim_code(c, in, at, t);
	else if (in->has_mem && gen_chance(s, 97))
		aim(c, in, t, s);
	if (in->attr & IA_STRING) {
		if (gen_chance(s, 95))
			g[X86_RSI] = t - (in->seg_override ? (in->seg == X86_FS ? c->in.fs_base
										: c->in.gs_base)
							   : 0);
		if (gen_chance(s, 95))
			g[X86_RDI] = pick_target(in, s);
		g[X86_RCX] = gen_chance(s, 90) ? gen_random(s) & 63 : gen_random(s);
	}
	if (in->attr & IA_STACK)
		g[X86_RSP] = gen_chance(s, 90)
				     ? DATA_VA + 64 + (gen_random(s) % (DATA_RW_SIZE - 128) & ~7ull)
				     : pick_target(in, s);
	if ((in->id == X86_ID_ENTER || in->id == X86_ID_LEAVE) && gen_chance(s, 90))
		g[X86_RBP] = DATA_VA + PAGE + (gen_random(s) & 0xff8);
	if (in->id == X86_ID_ENTER && gen_chance(s, 60))
		c->code[at + in->off_imm + 1] = (uint8_t)(gen_random(s) & 0x0f);
	if (in->nop && in->op[0].kind == OPK_REL)
		set_rel(c, in, at, s);
	p = code_pointer(c, s);
	if ((in->attr & IA_RET) && !(in->attr & IA_FAR) && gen_chance(s, 90))
		overlay(c, g[X86_RSP], &p, 8);
	if (reads_code_pointer(in) && gen_chance(s, 90)) {
		if (in->op[0].kind == OPK_GPR)
			g[in->op[0].reg] = p;
		else
			overlay(c, t, &p, 8);
	}
	if (in->has_mem && in->nop > 1 && in->op[1].kind == OPK_GPR &&
	    (in->id == X86_ID_BT || in->id == X86_ID_BTS || in->id == X86_ID_BTR ||
	     in->id == X86_ID_BTC) &&
	    in->op[1].reg != in->base && in->op[1].reg != in->index && gen_chance(s, 85))
		g[in->op[1].reg] = (uint64_t)((int64_t)(gen_random(s) & 8191) - 4096);
	if ((in->id == X86_ID_LDMXCSR || in->id == X86_ID_VLDMXCSR) && gen_chance(s, 85)) {
		p = gen_random(s) & 0xffff;
		overlay(c, t, &p, 4);
	}
	if (in->id == X86_ID_FXRSTOR) {
		uint8_t img[512];

		fill(img, sizeof img, s);
		if (gen_chance(s, 90))
			memcpy(img, c->in.fx, 32);
		overlay(c, t, img, sizeof img);
	}
}

static void make_registers(struct test_case *c, uint64_t *s)
{
	struct regs *r = &c->in;

	for (unsigned i = 0; i < 16; i++)
		r->gpr[i] = interesting(s);
	r->rflags = X86_FL_R1 | X86_FL_IF | (gen_random(s) & X86_FL_ARITH) |
		    (gen_chance(s, 10) ? X86_FL_DF : 0);
	r->fs_base = DATA_VA + 0x800;
	r->gs_base = gen_chance(s, 50) ? DATA_VA + PAGE + 0x10 : 0x10;
	make_fpu(r, s);
}

static unsigned pick_offset(uint64_t *s, unsigned len)
{
	switch (gen_random(s) % 32) {
	case 0: return PAGE - (unsigned)(gen_random(s) % (len + 1)); /* over the page boundary */
	case 1:
		return CODE_PAGES * PAGE -
		       (unsigned)(gen_random(s) % (len + 1)); /* up to the end, or over it */
	default: return 128 + (unsigned)(gen_random(s) % (PAGE - 256));
	}
}

void case_make(struct test_case *c, const struct case_plan *p, uint64_t index)
{
	uint64_t s = p->seed * 0x2545f4914f6cdd1dull + index * 0xd1342543de82ef95ull;
	unsigned want = 1 + (p->max_insns > 1 ? (unsigned)(gen_random(&s) % p->max_insns) : 0);
	struct x86_insn in[CASE_INSNS_MAX];
	unsigned at[CASE_INSNS_MAX];

	s = gen_random(&s) ^ index; /* neighbours share nothing */
	c->index = index;
	c->ninsn = c->code_len = 0;
	c->has_overlay = false;
	c->overlay_len = 0;
	for (unsigned tries = 0; c->ninsn < want && tries < 100; tries++) {
		const struct x86_row *row;
		unsigned k = p->rows[gen_random(&s) % p->nrows], n = c->ninsn;
		uint8_t b[15];
		int len;

		row = x86_row_at(k);
		len = gen_encode(row, &s, b);
		if (len == 0 || x86_decode(&in[n], X86_MODE_64, b, 15) != len ||
		    gen_unpredictable(&in[n]))
			continue;
		/* compare.c says why: the image shows the last x87 instruction before */
		if (want > 1 && (in[n].id == X86_ID_FNSTENV || in[n].id == X86_ID_FNSAVE))
			continue;
		/* in front of others: nothing that leaves the sequence, nor AC (#AC) and TF */
		if (n + 1 < want &&
		    ((in[n].attr & (IA_BRANCH | IA_PRIV)) || in[n].id == X86_ID_POPF))
			continue;
		at[n] = c->code_len;
		memcpy(c->code + at[n], b, (size_t)len);
		c->code_len = (uint8_t)(c->code_len + len);
		c->row[n] = (uint16_t)k;
		c->ninsn++;
	}
	make_registers(c, &s);
	c->code_off = (uint16_t)pick_offset(&s, c->code_len);
	if (c->code_off + c->code_len > CODE_PAGES * PAGE && c->ninsn == 0)
		c->code_off = 128;
	for (unsigned n = c->ninsn; n-- > 0;)
		prepare(c, &in[n], at[n], &s);
	c->in.rip = CODE_VA + c->code_off;
}

/* ---- the data window ---- */

void window_apply(uint8_t *window, const struct test_case *c)
{
	if (c->has_overlay)
		memcpy(window + c->overlay_off, c->overlay, c->overlay_len);
}

void window_collect(struct outcome *o, uint8_t *window, const uint8_t *base,
		    const struct test_case *c)
{
	uint64_t h = 0;

	o->nchanged = 0;
	for (unsigned off = 0; off < DATA_RW_SIZE; off += 64) {
		if (!memcmp(window + off, base + off, 64))
			continue;
		for (unsigned k = off; k < off + 64; k += 8) {
			uint64_t v, b;

			memcpy(&v, window + k, 8);
			memcpy(&b, base + k, 8);
			if (v == b)
				continue;
			h = (h ^ v ^ k) * 0x9e3779b97f4a7c15ull;
			h ^= h >> 29;
			if (o->nchanged < CHANGED_MAX) {
				o->changed[o->nchanged].off = k;
				o->changed[o->nchanged].val = v;
			}
			o->nchanged++;
		}
		memcpy(window + off, base + off, 64);
	}
	(void)c;
	o->hash = h;
}

void regs_normalise(struct regs *r, uint64_t bv)
{
	static const uint16_t fcw = 0x37f;

	if (!(bv & X86_XCR0_X87)) {
		memset(r->fx, 0, 24);
		memcpy(r->fx, &fcw, 2);
		memset(r->fx + 32, 0, 128);
	}
	if (!(bv & X86_XCR0_SSE))
		memset(r->fx + 160, 0, 256);
	if (!(bv & X86_XCR0_AVX))
		memset(r->ymmh, 0, sizeof r->ymmh);
	if (!(r->fx[2] & 0x80)) { /* FOP, FIP, FDP: some processors save them only with FSW.ES */
		memset(r->fx + 6, 0, 18);
	}
	memset(r->fx + 28, 0, 4); /* MXCSR_MASK */
	r->fx[5] = 0;
	for (unsigned i = 0; i < 8; i++)
		memset(r->fx + 32 + 16 * i + 10, 0, 6);
	memset(r->fx + 416, 0, 96);
}
