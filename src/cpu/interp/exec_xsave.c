/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FXSAVE, FXRSTOR, the XSAVE family, LDMXCSR, STMXCSR (SDM vol. 1, chapter 13; vol. 2) on the state's
 * XSAVE image. Components: x87, SSE, AVX. As on AMD processors x87 and SSE always count as in use; AVX
 * does unless every upper half is zero. The modified optimisation is not done. Owned by the vCPU's
 * thread.
 */
#include "cpu/interp/thunk.h"

#include <string.h>

#define XS_ALL (X86_XCR0_X87 | X86_XCR0_SSE | X86_XCR0_AVX)
#define XCOMP_COMPACT BIT(63)

uint64_t interp_xinuse(struct vcpu *v)
{
	uint64_t any = 0;
	vec_materialise(v);
	for (unsigned k = 0; k < 32; k++)
		any |= xs_get64(v->s, XS_YMMH + 8 * k);
	return X86_XCR0_X87 | X86_XCR0_SSE | (any ? X86_XCR0_AVX : 0);
}

/* Bytes of 16 registers, or of the 8 that exist outside 64-bit mode. */
static unsigned vec_bytes(const struct x86_insn *i)
{
	return i->mode == X86_MODE_64 ? 256 : 128;
}

static bool rex_w(const struct x86_insn *i)
{
	return i->mode == X86_MODE_64 && (i->rex & 8);
}

/* ---- legacy region ---- */

/* Bytes 0..23 as the instruction's operand size shows them: without REX.W, 32-bit offsets and no selectors. */
static void x87_head_out(const struct vcpu *v, const struct x86_insn *i, uint8_t *head)
{
	memcpy(head, v->s->xsave, XS_MXCSR);
	head[5] = 0;
	if (!rex_w(i)) {
		memset(head + XS_FIP + 4, 0, 4);
		memset(head + XS_FDP + 4, 0, 4);
	}
}

static void x87_in(struct vcpu *v, const struct x86_insn *i, const uint8_t *img)
{
	uint8_t head[XS_MXCSR];
	memcpy(head, img, sizeof(head));
	if (!rex_w(i)) {
		memset(head + XS_FIP + 4, 0, 4);
		memset(head + XS_FDP + 4, 0, 4);
	}
	memcpy(v->s->xsave, head, sizeof(head));
	memcpy(v->s->xsave + XS_ST, img + XS_ST, XS_XMM - XS_ST);
}

static void x87_init(struct vcpu *v)
{
	memset(v->s->xsave, 0, XS_MXCSR);
	memset(v->s->xsave + XS_ST, 0, XS_XMM - XS_ST);
	xs_set16(v->s, XS_FCW, 0x37f);
}

static void mxcsr_out(struct vcpu *v, uint8_t *img)
{
	uint32_t mask = vec_unit_of(v)->mxcsr_mask;
	memcpy(img + XS_MXCSR, v->s->xsave + XS_MXCSR, 4);
	memcpy(img + XS_MXCSR_MASK, &mask, 4);
}

static uint32_t img32(const uint8_t *img, unsigned off)
{
	uint32_t r;
	memcpy(&r, img + off, 4);
	return r;
}

static uint64_t img64(const uint8_t *img, unsigned off)
{
	uint64_t r;
	memcpy(&r, img + off, 8);
	return r;
}

/* ---- FXSAVE, FXRSTOR ---- */

static int fx_enter(struct vcpu *v, const struct x86_insn *i, unsigned acc, gva_t *lin)
{
	if (v->s->cr0 & (X86_CR0_EM | X86_CR0_TS))
		return interp_fault(v, X86_EX_NM, false, 0);
	if (interp_operand(v, i, 512, acc, lin))
		return -1;
	if (*lin & 15)
		return interp_gp0(v);
	vec_materialise(v);
	return 0;
}

int xsave_fxsave(struct vcpu *v, const struct x86_insn *i)
{
	uint8_t img[512];
	gva_t lin;
	if (fx_enter(v, i, X86_ACC_W, &lin))
		return -1;
	memcpy(img, v->s->xsave, sizeof(img));
	x87_head_out(v, i, img);
	mxcsr_out(v, img);
	return interp_lin_write(v, lin, img, XS_XMM + vec_bytes(i), X86_ACC_W);
}

int xsave_fxrstor(struct vcpu *v, const struct x86_insn *i)
{
	uint8_t img[512];
	gva_t lin;
	if (fx_enter(v, i, X86_ACC_R, &lin) || interp_lin_read(v, lin, img, sizeof(img), X86_ACC_R))
		return -1;
	uint32_t mxcsr = img32(img, XS_MXCSR);
	if (mxcsr & ~vec_unit_of(v)->mxcsr_mask)
		return interp_gp0(v);
	x87_in(v, i, img);
	xs_set32(v->s, XS_MXCSR, mxcsr);
	memcpy(v->s->xsave + XS_XMM, img + XS_XMM, vec_bytes(i));
	x87_normalise(v);
	return 0;
}

/* ---- MXCSR ---- */

int xsave_ldmxcsr(struct vcpu *v, const struct x86_insn *i)
{
	uint64_t val;
	gva_t lin;
	if (vec_gate(v, i) || interp_operand(v, i, 4, X86_ACC_R, &lin) ||
	    interp_load(v, lin, 4, &val))
		return -1;
	if (val & ~vec_unit_of(v)->mxcsr_mask)
		return interp_gp0(v);
	xs_set32(v->s, XS_MXCSR, (uint32_t)val);
	return 0;
}

int xsave_stmxcsr(struct vcpu *v, const struct x86_insn *i)
{
	gva_t lin;
	if (vec_gate(v, i) || interp_operand(v, i, 4, X86_ACC_W, &lin))
		return -1;
	return interp_store(v, lin, 4, xs_get32(v->s, XS_MXCSR));
}

/* ---- XSAVE family ---- */

static uint64_t requested(const struct vcpu *v)
{
	uint64_t mask = (v->s->gpr[X86_RDX] << 32) | (uint32_t)v->s->gpr[X86_RAX];
	return mask & v->s->xcr0 & XS_ALL;
}

static int xs_enter(struct vcpu *v, const struct x86_insn *i, unsigned acc, gva_t *lin)
{
	if (!(v->s->cr4 & X86_CR4_OSXSAVE))
		return interp_ud(v);
	if (v->s->cr0 & X86_CR0_TS)
		return interp_fault(v, X86_EX_NM, false, 0);
	if ((i->attr & IA_PRIV) && v->s->cpl)
		return interp_gp0(v);
	if (interp_operand(v, i, XS_YMMH, acc, lin))
		return -1;
	if (*lin & 63)
		return interp_gp0(v);
	vec_materialise(v);
	return 0;
}

/* Writes the components of `parts`, and MXCSR beside them if asked. */
static int write_parts(struct vcpu *v, const struct x86_insn *i, gva_t lin, uint64_t parts,
		       bool mxcsr)
{
	uint8_t img[32];
	const uint8_t *x = v->s->xsave;
	if (parts & X86_XCR0_X87) {
		x87_head_out(v, i, img);
		if (interp_lin_write(v, lin, img, XS_MXCSR, X86_ACC_W) ||
		    interp_lin_write(v, lin + XS_ST, x + XS_ST, XS_XMM - XS_ST, X86_ACC_W))
			return -1;
	}
	if (mxcsr) {
		mxcsr_out(v, img);
		if (interp_lin_write(v, lin + XS_MXCSR, img + XS_MXCSR, 8, X86_ACC_W))
			return -1;
	}
	if ((parts & X86_XCR0_SSE) &&
	    interp_lin_write(v, lin + XS_XMM, x + XS_XMM, vec_bytes(i), X86_ACC_W))
		return -1;
	if ((parts & X86_XCR0_AVX) &&
	    interp_lin_write(v, lin + XS_YMMH, x + XS_YMMH, vec_bytes(i), X86_ACC_W))
		return -1;
	return 0;
}

int xsave_xsave(struct vcpu *v, const struct x86_insn *i)
{
	bool opt = ((i->modrm >> 3) & 7) == 6;
	uint64_t bv;
	gva_t lin;
	if (xs_enter(v, i, X86_ACC_W, &lin) || interp_load(v, lin + XS_BV, 8, &bv))
		return -1;
	uint64_t rfbm = requested(v), inuse = interp_xinuse(v);
	bool mxcsr = rfbm & (X86_XCR0_SSE | X86_XCR0_AVX);
	if (write_parts(v, i, lin, opt ? rfbm & inuse : rfbm, mxcsr))
		return -1;
	return interp_store(v, lin + XS_BV, 8, (bv & ~rfbm) | (inuse & rfbm));
}

int xsave_xsavec(struct vcpu *v, const struct x86_insn *i)
{
	gva_t lin;
	if (xs_enter(v, i, X86_ACC_W, &lin))
		return -1;
	uint64_t rfbm = requested(v), bv = rfbm & interp_xinuse(v);
	uint64_t head[2] = { bv, rfbm | XCOMP_COMPACT };
	if (write_parts(v, i, lin, bv, bv & X86_XCR0_SSE))
		return -1;
	return interp_lin_write(v, lin + XS_BV, head, sizeof(head), X86_ACC_W);
}

struct xrstor {
	uint8_t img[XS_END];
	uint64_t rfbm, bv;
	bool compact;
};

static int check_header(struct vcpu *v, struct xrstor *x, bool supervisor)
{
	const uint8_t *img = x->img;
	uint64_t xcomp = img64(img, XS_XCOMP), rest = 0;
	x->bv = img64(img, XS_BV);
	x->compact = xcomp & XCOMP_COMPACT;
	for (unsigned off = XS_XCOMP + 8; off < XS_YMMH; off += 8)
		if (x->compact || off < XS_XCOMP + 16)
			rest |= img64(img, off);
	if (!x->compact && (supervisor || xcomp))
		return interp_gp0(v);
	if (rest || (x->bv & ~v->s->xcr0))
		return interp_gp0(v);
	if (x->compact && (((xcomp & ~XCOMP_COMPACT) & ~v->s->xcr0) || (x->bv & ~xcomp)))
		return interp_gp0(v);
	return 0;
}

/* The MXCSR that the restore leaves; *have: false when it is left alone. */
static uint32_t new_mxcsr(const struct xrstor *x, bool *have)
{
	*have = x->rfbm & (X86_XCR0_SSE | (x->compact ? 0 : X86_XCR0_AVX));
	if (x->compact && !(x->bv & X86_XCR0_SSE))
		return MXCSR_DEFAULT;
	return img32(x->img, XS_MXCSR);
}

static void load_vec(struct x86_state *s, const struct xrstor *x, uint64_t part, unsigned off,
		     unsigned n)
{
	if (!(x->rfbm & part))
		return;
	if (x->bv & part)
		memcpy(s->xsave + off, x->img + off, n);
	else
		memset(s->xsave + off, 0, n);
}

static int restore(struct vcpu *v, const struct x86_insn *i, bool supervisor)
{
	struct xrstor x;
	bool have;
	gva_t lin;
	if (xs_enter(v, i, X86_ACC_R, &lin) || interp_lin_read(v, lin, x.img, XS_YMMH, X86_ACC_R))
		return -1;
	x.rfbm = requested(v);
	if (check_header(v, &x, supervisor))
		return -1;
	if ((x.rfbm & x.bv & X86_XCR0_AVX) &&
	    interp_lin_read(v, lin + XS_YMMH, x.img + XS_YMMH, vec_bytes(i), X86_ACC_R))
		return -1;
	uint32_t mxcsr = new_mxcsr(&x, &have);
	if (have && (mxcsr & ~vec_unit_of(v)->mxcsr_mask))
		return interp_gp0(v);
	if (have)
		xs_set32(v->s, XS_MXCSR, mxcsr);
	load_vec(v->s, &x, X86_XCR0_SSE, XS_XMM, vec_bytes(i));
	load_vec(v->s, &x, X86_XCR0_AVX, XS_YMMH, vec_bytes(i));
	if (x.rfbm & X86_XCR0_X87) {
		if (x.bv & X86_XCR0_X87)
			x87_in(v, i, x.img);
		else
			x87_init(v);
		x87_normalise(v);
	}
	return 0;
}

int xsave_xrstor(struct vcpu *v, const struct x86_insn *i)
{
	return restore(v, i, false);
}

int xsave_xrstors(struct vcpu *v, const struct x86_insn *i)
{
	return restore(v, i, true);
}
