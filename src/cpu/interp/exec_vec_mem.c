/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vector instructions that access memory element by element, where only the elements whose mask bit is
 * set may fault: gathers, masked moves (SDM vol. 2). Also the list of what is executed in C rather
 * than by a native thunk. Owned by the vCPU's thread.
 */
#include "cpu/interp/thunk.h"

#include <string.h>

/* ---- registers ---- */

static void get_ymm(const struct x86_state *s, unsigned r, uint8_t out[32])
{
	memcpy(out, s->xsave + XS_XMM + 16 * r, 16);
	memcpy(out + 16, s->xsave + XS_YMMH + 16 * r, 16);
}

static void set_ymm(struct x86_state *s, unsigned r, const uint8_t in[32])
{
	memcpy(s->xsave + XS_XMM + 16 * r, in, 16);
	memcpy(s->xsave + XS_YMMH + 16 * r, in + 16, 16);
}

static int enter(struct vcpu *v, const struct x86_insn *i)
{
	if (vec_gate(v, i))
		return -1;
	vec_materialise(v);
	return 0;
}

int vec_zero(struct vcpu *v, const struct x86_insn *i)
{
	unsigned n = i->mode == X86_MODE_64 ? 16 : 8;
	if (enter(v, i))
		return -1;
	memset(v->s->xsave + XS_YMMH, 0, 16 * n);
	if (i->vex_l)
		memset(v->s->xsave + XS_XMM, 0, 16 * n);
	return 0;
}

/* ---- masked moves ---- */

static uint64_t truncate_addr(const struct x86_insn *i, uint64_t off)
{
	if (i->addrsize == 8)
		return off;
	return i->addrsize == 4 ? (uint32_t)off : (uint16_t)off;
}

static bool mask_bit(const uint8_t *mask, unsigned size, unsigned k)
{
	return mask[size * k + size - 1] & 0x80;
}

/* Offset of the memory operand's first byte. */
static uint64_t mem_offset(struct vcpu *v, const struct x86_insn *i)
{
	return x86_ea(i, v->s->gpr, v->s->rip + i->len);
}

static int element_linear(struct vcpu *v, const struct x86_insn *i, uint64_t off, unsigned size,
			  unsigned acc, gva_t *lin)
{
	return interp_linear(v, i->seg, truncate_addr(i, off), size, acc, lin);
}

static unsigned mask_size(const struct x86_insn *i)
{
	if (i->opcode >= 0x8c)
		return i->vex_w ? 8 : 4;
	return i->opcode & 1 ? 8 : 4; /* VMASKMOVPD, VMASKMOVPS */
}

int vec_maskload(struct vcpu *v, const struct x86_insn *i)
{
	unsigned size = mask_size(i), n = (i->vex_l ? 32 : 16) / size;
	uint8_t mask[32], out[32] = { 0 };
	gva_t lin;
	if (enter(v, i))
		return -1;
	get_ymm(v->s, i->vex_vvvv & 15, mask);
	uint64_t off = mem_offset(v, i);
	for (unsigned k = 0; k < n; k++) {
		uint64_t val;
		if (!mask_bit(mask, size, k))
			continue;
		if (element_linear(v, i, off + size * k, size, X86_ACC_R, &lin) ||
		    interp_load(v, lin, size, &val))
			return -1;
		memcpy(out + size * k, &val, size);
	}
	set_ymm(v->s, i->reg & 15, out);
	return 0;
}

/* Faults that the stores would meet, before the first byte is written. */
static int probe_masked(struct vcpu *v, const struct x86_insn *i, uint64_t off, const uint8_t *mask,
			unsigned size, unsigned n)
{
	uint64_t page = 1; /* no page's address */
	gva_t lin;
	for (unsigned k = 0; k < n; k++) {
		if (!mask_bit(mask, size, k))
			continue;
		if (element_linear(v, i, off + size * k, size, X86_ACC_W, &lin))
			return -1;
		for (unsigned b = 0; b < size; b += size - 1) {
			if (((lin + b) & ~0xfffull) != page)
				(void)!interp_direct(v, lin + b, 1, X86_ACC_W);
			if (interp_of(v)->fault.pending)
				return -1;
			page = (lin + b) & ~0xfffull;
			if (size == 1)
				break;
		}
	}
	return 0;
}

/* Stores the elements of data whose mask bit is set. */
static int store_masked(struct vcpu *v, const struct x86_insn *i, uint64_t off, const uint8_t *data,
			const uint8_t *mask, unsigned size, unsigned n)
{
	gva_t lin;
	if (probe_masked(v, i, off, mask, size, n))
		return -1;
	for (unsigned k = 0; k < n; k++) {
		uint64_t val = 0;
		if (!mask_bit(mask, size, k))
			continue;
		memcpy(&val, data + size * k, size);
		if (element_linear(v, i, off + size * k, size, X86_ACC_W, &lin) ||
		    interp_store(v, lin, size, val))
			return -1;
	}
	return 0;
}

int vec_maskstore(struct vcpu *v, const struct x86_insn *i)
{
	unsigned size = mask_size(i), n = (i->vex_l ? 32 : 16) / size;
	uint8_t mask[32], data[32];
	if (enter(v, i))
		return -1;
	get_ymm(v->s, i->vex_vvvv & 15, mask);
	get_ymm(v->s, i->reg & 15, data);
	return store_masked(v, i, mem_offset(v, i), data, mask, size, n);
}

static int maskmovq(struct vcpu *v, const struct x86_insn *i, uint64_t off)
{
	uint8_t data[8], mask[8];
	if (x87_check_pending(v))
		return -1;
	x87_enter_mmx(v->s); /* stays in place when the store faults */
	memcpy(data, v->s->xsave + XS_ST + 16 * (i->reg & 7), 8);
	memcpy(mask, v->s->xsave + XS_ST + 16 * (i->rm & 7), 8);
	return store_masked(v, i, off, data, mask, 1, 8);
}

int vec_maskmov(struct vcpu *v, const struct x86_insn *i)
{
	uint8_t data[32], mask[32];
	if (enter(v, i))
		return -1;
	uint64_t off = v->s->gpr[X86_RDI];
	if (!i->vex && !i->osz)
		return maskmovq(v, i, off);
	get_ymm(v->s, i->reg & 15, data);
	get_ymm(v->s, i->rm & 15, mask);
	return store_masked(v, i, off, data, mask, 1, 16);
}

/* ---- gathers ---- */

struct gather {
	unsigned esize, isize; /* element and index, bytes */
	unsigned n;	       /* elements */
	unsigned dst, msk, idx;
	uint64_t base;
};

static void gather_decode(struct vcpu *v, const struct x86_insn *i, struct gather *g)
{
	unsigned vl = i->vex_l ? 32 : 16;
	g->esize = i->vex_w ? 8 : 4;
	g->isize = i->opcode & 1 ? 8 : 4;
	g->n = vl / MAX(g->esize, g->isize);
	g->dst = i->reg & 15;
	g->msk = i->vex_vvvv & 15;
	g->idx = i->index & 15;
	g->base = (i->base == 0xff ? 0 : v->s->gpr[i->base & 15]) + (uint64_t)i->disp;
}

static uint64_t gather_index(const uint8_t *idx, unsigned size, unsigned k)
{
	if (size == 8) {
		uint64_t r;
		memcpy(&r, idx + 8 * k, 8);
		return r;
	}
	int32_t r;
	memcpy(&r, idx + 4 * k, 4);
	return (uint64_t)(int64_t)r;
}

/* Elements in order; each one done clears its mask element, so a fault restarts where it stopped. */
static int gather_elements(struct vcpu *v, const struct x86_insn *i, const struct gather *g,
			   uint8_t *dst, uint8_t *mask, const uint8_t *idx)
{
	for (unsigned k = 0; k < g->n; k++) {
		uint64_t off = g->base + (gather_index(idx, g->isize, k) << i->scale);
		uint64_t val;
		gva_t lin;
		if (mask_bit(mask, g->esize, k)) {
			if (element_linear(v, i, off, g->esize, X86_ACC_R, &lin) ||
			    interp_load(v, lin, g->esize, &val))
				return -1;
			memcpy(dst + g->esize * k, &val, g->esize);
		}
		memset(mask + g->esize * k, 0, g->esize);
	}
	return 0;
}

int vec_gather(struct vcpu *v, const struct x86_insn *i)
{
	uint8_t dst[32], mask[32], idx[32];
	struct gather g;
	if (enter(v, i))
		return -1;
	gather_decode(v, i, &g);
	if (g.dst == g.msk || g.dst == g.idx || g.msk == g.idx)
		return interp_ud(v);
	get_ymm(v->s, g.dst, dst);
	get_ymm(v->s, g.msk, mask);
	get_ymm(v->s, g.idx, idx);
	unsigned used = g.n * g.esize;
	int ret = gather_elements(v, i, &g, dst, mask, idx);
	if (!ret) { /* a fault leaves what was not reached as it was */
		memset(mask, 0, sizeof(mask));
		memset(dst + used, 0, sizeof(dst) - used);
	}
	set_ymm(v->s, g.dst, dst);
	set_ymm(v->s, g.msk, mask);
	return ret;
}

/* ---- what is executed in C ---- */

#define SPECIAL(fn)                                                                                \
	static const struct thunk t = { .special = (fn) };                                         \
	return &t

static const struct thunk *special_map0(const struct x86_insn *i)
{
	if (i->opcode != 0x9b)
		return NULL;
	SPECIAL(x87_fwait);
}

static const struct thunk *special_ae(const struct x86_insn *i)
{
	switch ((i->modrm >> 3) & 7) {
	case 0: {
		SPECIAL(xsave_fxsave);
	}
	case 1: {
		SPECIAL(xsave_fxrstor);
	}
	case 2: {
		SPECIAL(xsave_ldmxcsr);
	}
	case 3: {
		SPECIAL(xsave_stmxcsr);
	}
	case 4:
	case 6: {
		SPECIAL(xsave_xsave);
	}
	case 5: {
		SPECIAL(xsave_xrstor);
	}
	default: return NULL;
	}
}

static const struct thunk *special_c7(const struct x86_insn *i)
{
	switch ((i->modrm >> 3) & 7) {
	case 3: {
		SPECIAL(xsave_xrstors);
	}
	case 4:
	case 5: {
		SPECIAL(xsave_xsavec);
	}
	default: return NULL;
	}
}

static const struct thunk *special_map1(const struct x86_insn *i)
{
	if (i->opcode == 0xae && i->has_mem)
		return special_ae(i);
	if (i->opcode == 0xc7 && i->has_mem)
		return special_c7(i);
	if (i->opcode == 0xf7) {
		SPECIAL(vec_maskmov);
	}
	if (i->opcode == 0x77 && i->vex) {
		SPECIAL(vec_zero);
	}
	return NULL;
}

static const struct thunk *special_map2(const struct x86_insn *i)
{
	if (!i->vex)
		return NULL;
	switch (i->opcode) {
	case 0x2c:
	case 0x2d:
	case 0x8c: {
		SPECIAL(vec_maskload);
	}
	case 0x2e:
	case 0x2f:
	case 0x8e: {
		SPECIAL(vec_maskstore);
	}
	case 0x90:
	case 0x91:
	case 0x92:
	case 0x93: {
		SPECIAL(vec_gather);
	}
	default: return NULL;
	}
}

const struct thunk *vec_special(const struct x86_insn *i)
{
	switch (i->map) {
	case 0: return special_map0(i);
	case 1: return special_map1(i);
	case 2: return special_map2(i);
	default: return NULL;
	}
}
