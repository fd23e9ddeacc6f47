/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instructions on segment registers and descriptor tables (SDM vol. 2; UMIP: vol. 3, 2.5).
 * Owner thread only.
 */
#include <string.h>

#include "cpu/interp/sys_priv.h"

/* ---- operands ---- */

int sys_get(struct vcpu *v, const struct x86_insn *i, unsigned n, unsigned size, uint64_t *val)
{
	const struct x86_operand *o = &i->op[n];
	gva_t lin;

	if (o->kind == OPK_IMM) {
		*val = i->imm;
		return 0;
	}
	if (o->kind != OPK_MEM) {
		*val = interp_get_gpr(v->s, o->reg, o->high8, size);
		return 0;
	}
	if (interp_operand(v, i, size, X86_ACC_R, &lin) < 0)
		return -1;
	return interp_load(v, lin, size, val);
}

int sys_set(struct vcpu *v, const struct x86_insn *i, unsigned n, unsigned size, uint64_t val)
{
	const struct x86_operand *o = &i->op[n];
	gva_t lin;

	if (o->kind != OPK_MEM) {
		interp_set_gpr(v->s, o->reg, o->high8, size, val);
		return 0;
	}
	if (interp_operand(v, i, size, X86_ACC_W, &lin) < 0)
		return -1;
	return interp_store(v, lin, size, val);
}

/* Register destinations take the operand size, memory always two bytes. */
static int set_selector(struct vcpu *v, const struct x86_insn *i, uint16_t val)
{
	return sys_set(v, i, 0, i->op[0].kind == OPK_MEM ? 2 : i->opsize, val);
}

static int umip(struct vcpu *v)
{
	if (v->s->cpl != 0 && (v->s->cr4 & X86_CR4_UMIP))
		return interp_gp0(v);
	return 0;
}

static int need_protected(struct vcpu *v)
{
	return sys_protected(v->s) ? 0 : interp_ud(v);
}

static void set_zf(struct x86_state *s, bool zf)
{
	s->rflags = (s->rflags & ~X86_FL_ZF) | (zf ? X86_FL_ZF : 0);
}

/* ---- GDTR, IDTR ---- */

static int store_table(struct vcpu *v, const struct x86_insn *i, const struct x86_dtable *t)
{
	const unsigned n = i->mode == X86_MODE_64 ? 10 : 6;
	uint8_t buf[10];
	gva_t lin;

	if (umip(v) < 0 || interp_operand(v, i, n, X86_ACC_W, &lin) < 0)
		return -1;
	memcpy(buf, &t->limit, 2);
	memcpy(buf + 2, &t->base, 8);
	return interp_lin_write(v, lin, buf, n, X86_ACC_W);
}

static int load_table(struct vcpu *v, const struct x86_insn *i, struct x86_dtable *t)
{
	const unsigned n = i->mode == X86_MODE_64 ? 10 : 6;
	uint8_t buf[10] = { 0 };
	uint64_t base;
	gva_t lin;

	if (v->s->cpl != 0)
		return interp_gp0(v);
	if (interp_operand(v, i, n, X86_ACC_R, &lin) < 0 ||
	    interp_lin_read(v, lin, buf, n, X86_ACC_R) < 0)
		return -1;
	memcpy(&base, buf + 2, 8);
	if (n == 10 && !x86_canonical(base))
		return interp_gp0(v);
	if (n == 6 && i->opsize == 2)
		base &= 0xffffff;
	memcpy(&t->limit, buf, 2);
	t->base = base;
	return 0;
}

SYS_HANDLER(exec_sgdt)
{
	return store_table(v, i, &v->s->gdtr);
}

SYS_HANDLER(exec_sidt)
{
	return store_table(v, i, &v->s->idtr);
}

SYS_HANDLER(exec_lgdt)
{
	return load_table(v, i, &v->s->gdtr);
}

SYS_HANDLER(exec_lidt)
{
	return load_table(v, i, &v->s->idtr);
}

/* ---- LDTR, TR ---- */

SYS_HANDLER(exec_sldt)
{
	if (need_protected(v) < 0 || umip(v) < 0)
		return -1;
	return set_selector(v, i, v->s->ldtr.sel);
}

SYS_HANDLER(exec_str)
{
	if (need_protected(v) < 0 || umip(v) < 0)
		return -1;
	return set_selector(v, i, v->s->tr.sel);
}

/* A system descriptor of the GDT, whole: 16 bytes in long mode. */
static int system_segment(struct vcpu *v, uint16_t sel, unsigned types, struct sys_desc *d,
			  struct x86_seg *out)
{
	uint64_t high = 0;

	if (sel & 4)
		return sys_fault_sel(v, X86_EX_GP, sel);
	if (sys_desc_need(v, sel, X86_EX_GP, d) < 0)
		return -1;
	if (desc_s(d) || !(types & (1u << desc_type(d))))
		return sys_fault_sel(v, X86_EX_GP, sel);
	if (!desc_p(d))
		return sys_fault_sel(v, X86_EX_NP, sel);
	sys_desc_cache(d, sel, out);
	if (!x86_long_mode(v->s))
		return 0;
	if ((sel | 7u) + 8u > v->s->gdtr.limit)
		return sys_fault_sel(v, X86_EX_GP, sel);
	if (sys_desc_high(v, d, &high) < 0)
		return -1;
	out->base |= high << 32;
	if (!x86_canonical(out->base) || ((high >> 40) & 0x1f) != 0)
		return sys_fault_sel(v, X86_EX_GP, sel);
	return 0;
}

SYS_HANDLER(exec_lldt)
{
	struct x86_seg seg;
	struct sys_desc d;
	uint64_t sel;

	if (need_protected(v) < 0)
		return -1;
	if (v->s->cpl != 0)
		return interp_gp0(v);
	if (sys_get(v, i, 0, 2, &sel) < 0)
		return -1;
	if ((sel & 0xfffc) == 0) {
		v->s->ldtr = (struct x86_seg){ .sel = (uint16_t)sel };
		return 0;
	}
	if (system_segment(v, (uint16_t)sel, 1u << 2, &d, &seg) < 0)
		return -1;
	v->s->ldtr = seg;
	return 0;
}

SYS_HANDLER(exec_ltr)
{
	struct x86_seg seg;
	struct sys_desc d;
	uint64_t sel;
	uint8_t byte;

	if (need_protected(v) < 0)
		return -1;
	if (v->s->cpl != 0)
		return interp_gp0(v);
	if (sys_get(v, i, 0, 2, &sel) < 0)
		return -1;
	if ((sel & 0xfffc) == 0)
		return interp_gp0(v);
	if (system_segment(v, (uint16_t)sel, x86_long_mode(v->s) ? 1u << 9 : 1u << 9 | 1u << 1, &d,
			   &seg) < 0)
		return -1;
	seg.attr |= 2; /* busy */
	byte = (uint8_t)((d.raw >> 40) | 2);
	if (interp_lin_write(v, d.at + 5, &byte, 1, X86_ACC_W | X86_ACC_IMPLICIT) < 0)
		return -1;
	v->s->tr = seg;
	return 0;
}

/* ---- questions about selectors ---- */

/* Types LAR and LSL answer for, besides code and data. */
static bool system_type_ok(const struct x86_state *s, unsigned type, bool lsl)
{
	unsigned ok = 1u << 2 | 1u << 9 | 1u << 11;

	if (!x86_long_mode(s))
		ok |= 1u << 1 | 1u << 3 | (lsl ? 0 : 1u << 4 | 1u << 5);
	if (!lsl)
		ok |= 1u << 12;
	return ok & (1u << type);
}

/* 1: the selector may be looked at; 0: not; -1: fault. */
static int selector_visible(struct vcpu *v, uint16_t sel, bool lsl, struct sys_desc *d)
{
	int r;

	if ((sel & 0xfffc) == 0)
		return 0;
	r = sys_desc_read(v, sel, d);
	if (r != 0)
		return r < 0 ? -1 : 0;
	if (!desc_s(d) && !system_type_ok(v->s, desc_type(d), lsl))
		return 0;
	if (desc_is_code(d) && desc_conforming(d))
		return 1;
	return desc_dpl(d) >= v->s->cpl && desc_dpl(d) >= (sel & 3u);
}

static int lar_lsl(struct vcpu *v, const struct x86_insn *i, bool lsl)
{
	struct sys_desc d;
	struct x86_seg seg;
	uint64_t sel;
	int r;

	if (need_protected(v) < 0 || sys_get(v, i, 1, 2, &sel) < 0)
		return -1;
	r = selector_visible(v, (uint16_t)sel, lsl, &d);
	if (r < 0)
		return -1;
	set_zf(v->s, r == 1);
	if (r == 0)
		return 0;
	sys_desc_cache(&d, (uint16_t)sel, &seg);
	return sys_set(v, i, 0, i->opsize, lsl ? seg.limit : (d.raw >> 32) & 0x00ffff00);
}

SYS_HANDLER(exec_lar)
{
	return lar_lsl(v, i, false);
}

SYS_HANDLER(exec_lsl)
{
	return lar_lsl(v, i, true);
}

static int verify(struct vcpu *v, const struct x86_insn *i, bool write)
{
	struct sys_desc d;
	uint64_t sel;
	bool ok;
	int r;

	if (need_protected(v) < 0 || sys_get(v, i, 0, 2, &sel) < 0)
		return -1;
	r = selector_visible(v, (uint16_t)sel, false, &d);
	if (r < 0)
		return -1;
	ok = r == 1 && desc_s(&d);
	if (ok && write)
		ok = (desc_type(&d) & 10) == 2;
	else if (ok)
		ok = (desc_type(&d) & 10) != 8;
	set_zf(v->s, ok);
	return 0;
}

SYS_HANDLER(exec_verr)
{
	return verify(v, i, false);
}

SYS_HANDLER(exec_verw)
{
	return verify(v, i, true);
}

SYS_HANDLER(exec_arpl)
{
	uint64_t dst, src;

	if (need_protected(v) < 0 || sys_get(v, i, 0, 2, &dst) < 0 || sys_get(v, i, 1, 2, &src) < 0)
		return -1;
	if ((dst & 3) < (src & 3)) {
		if (sys_set(v, i, 0, 2, (dst & ~3ull) | (src & 3)) < 0)
			return -1;
		set_zf(v->s, true);
	} else {
		set_zf(v->s, false);
	}
	return 0;
}

/* ---- segment registers ---- */

SYS_HANDLER(exec_mov_seg)
{
	const bool load = i->op[0].kind == OPK_SEG;
	const unsigned seg = i->op[load ? 0 : 1].reg;
	uint64_t sel;

	if (seg >= X86_SEG_COUNT || (load && seg == X86_CS))
		return interp_ud(v);
	if (!load)
		return set_selector(v, i, v->s->seg[seg].sel);
	if (sys_get(v, i, 1, 2, &sel) < 0 || interp_load_seg(v, seg, (uint16_t)sel) < 0)
		return -1;
	if (seg == X86_SS)
		interp_of(v)->shadow_next = true;
	return 0;
}

SYS_HANDLER(exec_push_seg)
{
	return interp_push(v, i->opsize, v->s->seg[i->op[0].reg].sel);
}

SYS_HANDLER(exec_pop_seg)
{
	const uint64_t rsp = v->s->gpr[X86_RSP];
	const unsigned seg = i->op[0].reg;
	uint64_t sel;

	if (interp_pop(v, i->opsize, &sel) < 0)
		return -1;
	if (interp_load_seg(v, seg, (uint16_t)sel) < 0) {
		v->s->gpr[X86_RSP] = rsp;
		return -1;
	}
	if (seg == X86_SS)
		interp_of(v)->shadow_next = true;
	return 0;
}

/* LDS LES LSS LFS LGS */
SYS_HANDLER(exec_load_far_ptr)
{
	static const struct {
		uint16_t id;
		uint8_t seg;
	} which[] = { { X86_ID_LES, X86_ES },
		      { X86_ID_LDS, X86_DS },
		      { X86_ID_LSS, X86_SS },
		      { X86_ID_LFS, X86_FS },
		      { X86_ID_LGS, X86_GS } };
	uint64_t off = 0;
	unsigned seg = X86_ES;
	uint16_t sel;
	uint8_t buf[10];
	gva_t lin;

	for (unsigned n = 0; n < ARRAY_SIZE(which); n++) {
		if (which[n].id == i->id)
			seg = which[n].seg;
	}
	if (interp_operand(v, i, i->opsize + 2u, X86_ACC_R, &lin) < 0 ||
	    interp_lin_read(v, lin, buf, i->opsize + 2u, X86_ACC_R) < 0)
		return -1;
	memcpy(&off, buf, i->opsize);
	memcpy(&sel, buf + i->opsize, 2);
	if (interp_load_seg(v, seg, sel) < 0)
		return -1;
	interp_set_gpr(v->s, i->op[0].reg, false, i->opsize, off);
	return 0;
}
