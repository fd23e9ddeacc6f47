/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segmentation: limit and type checks of every access, descriptors, loads of data segments and the
 * stack. Owner thread only. SDM vol. 3, chapters 3 and 5.
 */
#include <string.h>

#include "cpu/interp/sys_priv.h"

/* ---- checks ---- */

bool sys_seg_holds(const struct x86_seg *sg, uint64_t off, unsigned size)
{
	const uint64_t last = off + size - 1;

	if ((sg->attr & 0x1c) == 0x14) /* expand-down data */
		return off > sg->limit &&
		       last <= (sg->attr & X86_SEG_DB ? 0xffffffffull : 0xffffull);
	/* with a limit of 4 GiB processors let an access wrap */
	return last <= sg->limit || sg->limit == UINT32_MAX;
}

static bool seg_allows(const struct x86_seg *sg, unsigned acc)
{
	const unsigned type = X86_SEG_TYPE(sg->attr);

	if (!(sg->attr & X86_SEG_P))
		return false;
	if ((acc & 3) == X86_ACC_W)
		return (type & 10) == 2;
	return (type & 10) != 8; /* not execute-only code */
}

static int seg_fault(struct vcpu *v, unsigned seg)
{
	return interp_fault(v, seg == X86_SS ? X86_EX_SS : X86_EX_GP, true, 0);
}

int interp_linear(struct vcpu *v, unsigned seg, uint64_t off, unsigned size, unsigned acc,
		  gva_t *lin)
{
	const struct x86_state *s = v->s;
	const struct x86_seg *sg = &s->seg[seg];

	if (likely(x86_code64(s))) {
		const uint64_t a = seg >= X86_FS ? sg->base + off : off;

		*lin = a;
		if (likely(x86_canonical(a) && (size <= 1 || x86_canonical(a + size - 1))))
			return 0;
		return seg_fault(v, seg);
	}
	if (sys_protected(s) && !seg_allows(sg, acc))
		return seg_fault(v, seg);
	if (!sys_seg_holds(sg, off, size != 0 ? size : 1))
		return seg_fault(v, seg);
	*lin = (uint32_t)(sg->base + off);
	return 0;
}

int interp_operand(struct vcpu *v, const struct x86_insn *i, unsigned size, unsigned acc,
		   gva_t *lin)
{
	return interp_linear(v, i->seg, x86_ea(i, v->s->gpr, v->s->rip + i->len), size, acc, lin);
}

/* ---- stack ---- */

static uint64_t stack_mask(const struct x86_state *s)
{
	return sys_sp_mask(&s->seg[X86_SS], x86_code64(s));
}

int interp_push(struct vcpu *v, unsigned size, uint64_t val)
{
	struct x86_state *s = v->s;
	const uint64_t mask = stack_mask(s);
	const uint64_t sp = (s->gpr[X86_RSP] - size) & mask;
	gva_t lin;

	if (interp_linear(v, X86_SS, sp, size, X86_ACC_W, &lin) < 0 ||
	    interp_store(v, lin, size, val) < 0)
		return -1;
	sys_set_sp(s, mask, sp);
	return 0;
}

int interp_pop(struct vcpu *v, unsigned size, uint64_t *val)
{
	struct x86_state *s = v->s;
	const uint64_t mask = stack_mask(s);
	gva_t lin;

	if (interp_linear(v, X86_SS, s->gpr[X86_RSP] & mask, size, X86_ACC_R, &lin) < 0 ||
	    interp_load(v, lin, size, val) < 0)
		return -1;
	sys_set_sp(s, mask, s->gpr[X86_RSP] + size);
	return 0;
}

/* The frame's slots as bytes, lowest address first: the last pushed. */
static unsigned frame_bytes(uint8_t *buf, unsigned size, const uint64_t *slot, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		memcpy(buf + i * size, &slot[count - 1 - i], size);
	return count * size;
}

int sys_push_frame(struct vcpu *v, const struct x86_seg *ss, bool wide, unsigned cpl, uint64_t *sp,
		   unsigned size, const uint64_t *slot, unsigned count)
{
	struct x86_state *s = v->s;
	const uint64_t mask = sys_sp_mask(ss, wide);
	const uint8_t old_cpl = s->cpl;
	uint8_t buf[48 * 8];
	const unsigned n = frame_bytes(buf, size, slot, count);
	const uint64_t low = (*sp - n) & mask;
	gva_t lin = low;
	int r;

	if (wide) {
		if (!x86_canonical(low) || !x86_canonical(low + n - 1))
			return interp_fault(v, X86_EX_SS, true, 0);
	} else {
		if (!sys_seg_holds(ss, low, n))
			return interp_fault(v, X86_EX_SS, true,
					    ss->sel == s->seg[X86_SS].sel ? 0 : ss->sel & 0xfffcu);
		lin = (uint32_t)(ss->base + low);
	}
	s->cpl = (uint8_t)cpl;
	r = interp_lin_write(v, lin, buf, n, X86_ACC_W);
	s->cpl = old_cpl;
	if (r == 0)
		*sp = low;
	return r;
}

/* ---- descriptors ---- */

int sys_desc_read(struct vcpu *v, uint16_t sel, struct sys_desc *d)
{
	const struct x86_state *s = v->s;
	uint64_t base = s->gdtr.base;
	uint32_t limit = s->gdtr.limit;

	if (sel & 4) {
		if (!(s->ldtr.attr & X86_SEG_P))
			return 1;
		base = s->ldtr.base;
		limit = s->ldtr.limit;
	}
	if ((sel | 7u) > limit)
		return 1;
	d->at = base + (sel & 0xfff8u);
	if (!x86_long_mode(s))
		d->at = (uint32_t)d->at;
	return interp_lin_read(v, d->at, &d->raw, 8, X86_ACC_R | X86_ACC_IMPLICIT);
}

int sys_desc_need(struct vcpu *v, uint16_t sel, unsigned vec, struct sys_desc *d)
{
	const int r = sys_desc_read(v, sel, d);

	return r == 1 ? sys_fault_sel(v, vec, sel) : r;
}

int sys_desc_mark(struct vcpu *v, struct sys_desc *d)
{
	uint8_t byte;

	if (d->raw & BIT(40))
		return 0;
	d->raw |= BIT(40);
	byte = (uint8_t)(d->raw >> 40);
	return interp_lin_write(v, d->at + 5, &byte, 1, X86_ACC_W | X86_ACC_IMPLICIT);
}

void sys_desc_cache(const struct sys_desc *d, uint16_t sel, struct x86_seg *out)
{
	const uint64_t r = d->raw;
	uint32_t limit = (uint32_t)((r & 0xffff) | ((r >> 32) & 0xf0000));

	if (r & BIT(55))
		limit = limit << 12 | 0xfff;
	out->sel = sel;
	out->attr = (uint16_t)((r >> 40) & 0xf0ff);
	out->limit = limit;
	out->base = ((r >> 16) & 0xffffff) | (r >> 56) << 24;
}

int sys_desc_high(struct vcpu *v, const struct sys_desc *d, uint64_t *high)
{
	return interp_lin_read(v, d->at + 8, high, 8, X86_ACC_R | X86_ACC_IMPLICIT);
}

/* ---- loads ---- */

void sys_null_ss(struct x86_seg *out, unsigned cpl)
{
	*out = (struct x86_seg){ .sel = (uint16_t)cpl, .attr = (uint16_t)(cpl << 5) };
}

void sys_load_real(struct x86_state *s, unsigned seg, uint16_t sel)
{
	struct x86_seg *sg = &s->seg[seg];

	sg->sel = sel;
	sg->base = (uint64_t)sel << 4;
	if (sys_vm86(s)) {
		sg->attr = 0xf3;
		sg->limit = 0xffff;
	} else if (!(sg->attr & X86_SEG_P) || !(sg->attr & X86_SEG_S)) {
		/* limits and sizes loaded in protected mode stay ("big real mode"); a null one does not */
		sg->attr = 0x93;
		sg->limit = 0xffff;
	}
}

int sys_stack_desc(struct vcpu *v, uint16_t sel, unsigned cpl, unsigned vec, struct x86_seg *out)
{
	struct sys_desc d;

	if ((sel & 0xfffc) == 0)
		return interp_fault(v, vec, true, 0);
	if (sys_desc_need(v, sel, vec, &d) < 0)
		return -1;
	if ((sel & 3) != cpl || !desc_s(&d) || (desc_type(&d) & 10) != 2 || desc_dpl(&d) != cpl)
		return sys_fault_sel(v, vec, sel);
	if (!desc_p(&d))
		return sys_fault_sel(v, X86_EX_SS, sel);
	if (sys_desc_mark(v, &d) < 0)
		return -1;
	sys_desc_cache(&d, sel, out);
	return 0;
}

static int load_ss(struct vcpu *v, uint16_t sel)
{
	struct x86_state *s = v->s;

	if ((sel & 0xfffc) == 0) {
		if (!x86_code64(s) || s->cpl == 3 || (sel & 3) != s->cpl)
			return interp_gp0(v);
		sys_null_ss(&s->seg[X86_SS], s->cpl);
		return 0;
	}
	return sys_stack_desc(v, sel, s->cpl, X86_EX_GP, &s->seg[X86_SS]);
}

int interp_load_seg(struct vcpu *v, unsigned seg, uint16_t sel)
{
	struct x86_state *s = v->s;
	struct sys_desc d;

	if (!sys_protected(s)) {
		sys_load_real(s, seg, sel);
		return 0;
	}
	if (seg == X86_SS)
		return load_ss(v, sel);
	if ((sel & 0xfffc) == 0) {
		s->seg[seg] = (struct x86_seg){ .sel = sel };
		return 0;
	}
	if (sys_desc_need(v, sel, X86_EX_GP, &d) < 0)
		return -1;
	if (!desc_s(&d) || (desc_type(&d) & 10) == 8)
		return sys_fault_sel(v, X86_EX_GP, sel);
	if ((desc_type(&d) & 12) != 12 && (desc_dpl(&d) < (sel & 3u) || desc_dpl(&d) < s->cpl))
		return sys_fault_sel(v, X86_EX_GP, sel);
	if (!desc_p(&d))
		return sys_fault_sel(v, X86_EX_NP, sel);
	if (sys_desc_mark(v, &d) < 0)
		return -1;
	sys_desc_cache(&d, sel, &s->seg[seg]);
	return 0;
}

void sys_drop_inner_segs(struct x86_state *s)
{
	static const uint8_t data[] = { X86_ES, X86_DS, X86_FS, X86_GS };

	for (unsigned i = 0; i < ARRAY_SIZE(data); i++) {
		struct x86_seg *sg = &s->seg[data[i]];

		if (!(sg->attr & X86_SEG_P))
			continue;
		if ((sg->attr & 0x1c) != 0x1c && X86_SEG_DPL(sg->attr) < s->cpl)
			*sg = (struct x86_seg){ .sel = 0 };
	}
}

/* ---- task state segment ---- */

int sys_tss_stack64(struct vcpu *v, unsigned offset, uint64_t *rsp)
{
	const struct x86_seg *tr = &v->s->tr;

	if (!(tr->attr & X86_SEG_P) || offset + 7 > tr->limit)
		return sys_fault_sel(v, X86_EX_TS, tr->sel);
	return interp_lin_read(v, tr->base + offset, rsp, 8, X86_ACC_R | X86_ACC_IMPLICIT);
}

int sys_tss_stack32(struct vcpu *v, unsigned cpl, uint16_t *ss, uint32_t *esp)
{
	const struct x86_seg *tr = &v->s->tr;
	const bool wide = X86_SEG_TYPE(tr->attr) & 8;
	const unsigned off = wide ? 4 + 8 * cpl : 2 + 4 * cpl;
	const unsigned n = wide ? 6 : 4;
	uint8_t buf[8] = { 0 };

	if (!(tr->attr & X86_SEG_P) || off + n - 1 > tr->limit)
		return sys_fault_sel(v, X86_EX_TS, tr->sel);
	if (interp_lin_read(v, (uint32_t)(tr->base + off), buf, n, X86_ACC_R | X86_ACC_IMPLICIT) <
	    0)
		return -1;
	*esp = 0;
	memcpy(esp, buf, wide ? 4 : 2);
	memcpy(ss, buf + (wide ? 4 : 2), 2);
	return 0;
}
