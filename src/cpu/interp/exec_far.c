/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Far transfers: JMP, CALL, RET through code segments and call gates, IRET, INT n (SDM vol. 2 and
 * vol. 3, 5.8, 6.14). Task switches are refused with #GP. Owner thread only.
 */
#include <string.h>

#include "base/log.h"
#include "cpu/interp/sys_priv.h"

/* ---- targets ---- */

static bool target_is_64(const struct x86_state *s, const struct sys_desc *d)
{
	return x86_long_mode(s) && desc_l(d);
}

/* The offset must lie in the new segment. */
static int check_offset(struct vcpu *v, const struct sys_desc *d, uint64_t off)
{
	struct x86_seg seg;

	if (target_is_64(v->s, d))
		return x86_canonical(off) ? 0 : interp_gp0(v);
	sys_desc_cache(d, 0, &seg);
	return off <= seg.limit ? 0 : interp_gp0(v);
}

static int check_cs_form(struct vcpu *v, const struct sys_desc *d, uint16_t sel)
{
	if (!desc_p(d))
		return sys_fault_sel(v, X86_EX_NP, sel);
	if (target_is_64(v->s, d) && desc_db(d))
		return sys_fault_sel(v, X86_EX_GP, sel);
	return 0;
}

static void set_cs(struct x86_state *s, const struct sys_desc *d, uint16_t sel, unsigned cpl)
{
	sys_desc_cache(d, (uint16_t)((sel & ~3u) | cpl), &s->seg[X86_CS]);
	s->cpl = (uint8_t)cpl;
}

/* Code segment named directly by JMP or CALL: same privilege. */
static int check_direct(struct vcpu *v, const struct sys_desc *d, uint16_t sel)
{
	const unsigned cpl = v->s->cpl, dpl = desc_dpl(d);

	if (desc_conforming(d) ? dpl > cpl : (sel & 3u) > cpl || dpl != cpl)
		return sys_fault_sel(v, X86_EX_GP, sel);
	return check_cs_form(v, d, sel);
}

/* Far pointer operand: ptr16:n, or memory. */
static int far_pointer(struct vcpu *v, const struct x86_insn *i, uint16_t *sel, uint64_t *off)
{
	uint8_t buf[10];
	gva_t lin;

	if (i->op[0].kind != OPK_MEM) {
		*off = i->imm;
		*sel = (uint16_t)i->imm2;
		return 0;
	}
	if (interp_operand(v, i, i->opsize + 2u, X86_ACC_R, &lin) < 0 ||
	    interp_lin_read(v, lin, buf, i->opsize + 2u, X86_ACC_R) < 0)
		return -1;
	*off = 0;
	memcpy(off, buf, i->opsize);
	memcpy(sel, buf + i->opsize, 2);
	return 0;
}

/* ---- call gates ---- */

struct call_gate {
	uint16_t sel;
	uint64_t off;
	unsigned params, size; /* size: of what is pushed */
	struct sys_desc code;
};

static int gate_open(struct vcpu *v, uint16_t gate_sel, const struct sys_desc *d,
		     struct call_gate *g)
{
	const bool lm = x86_long_mode(v->s);
	const unsigned type = desc_type(d);
	uint64_t high = 0;

	if (type != 0xc && (lm || type != 4)) {
		if (!lm)
			log_guest("interp: task switch through selector %#x refused", gate_sel);
		return sys_fault_sel(v, X86_EX_GP, gate_sel);
	}
	if (desc_dpl(d) < v->s->cpl || desc_dpl(d) < (gate_sel & 3u))
		return sys_fault_sel(v, X86_EX_GP, gate_sel);
	if (!desc_p(d))
		return sys_fault_sel(v, X86_EX_NP, gate_sel);
	if (lm && sys_desc_high(v, d, &high) < 0)
		return -1;
	if (lm && ((high >> 40) & 0x1f) != 0)
		return sys_fault_sel(v, X86_EX_GP, gate_sel);
	g->sel = (uint16_t)(d->raw >> 16);
	g->off = (d->raw & 0xffff) | ((d->raw >> 32) & 0xffff0000u) | high << 32;
	g->params = lm ? 0 : (unsigned)(d->raw >> 32) & 31;
	g->size = lm ? 8 : type == 4 ? 2 : 4;
	if (g->size == 2)
		g->off &= 0xffff;
	if ((g->sel & 0xfffc) == 0)
		return interp_gp0(v);
	if (sys_desc_need(v, g->sel, X86_EX_GP, &g->code) < 0)
		return -1;
	if (!desc_is_code(&g->code) || desc_dpl(&g->code) > v->s->cpl ||
	    (lm && (!desc_l(&g->code) || desc_db(&g->code))))
		return sys_fault_sel(v, X86_EX_GP, g->sel);
	return check_cs_form(v, &g->code, g->sel);
}

static int gate_jump(struct vcpu *v, uint16_t gate_sel, const struct sys_desc *d)
{
	struct call_gate g;

	if (gate_open(v, gate_sel, d, &g) < 0)
		return -1;
	if (!desc_conforming(&g.code) && desc_dpl(&g.code) != v->s->cpl)
		return sys_fault_sel(v, X86_EX_GP, g.sel);
	if (check_offset(v, &g.code, g.off) < 0 || sys_desc_mark(v, &g.code) < 0)
		return -1;
	set_cs(v->s, &g.code, g.sel, v->s->cpl);
	interp_of(v)->next_rip = g.off;
	return 0;
}

/* Parameters on the old stack, first pushed first. */
static int gate_params(struct vcpu *v, const struct call_gate *g, uint64_t *slot)
{
	const struct x86_state *s = v->s;
	const uint64_t mask = sys_sp_mask(&s->seg[X86_SS], false);

	for (unsigned k = 0; k < g->params; k++) {
		const uint64_t sp = s->gpr[X86_RSP] + (g->params - 1 - k) * g->size;
		gva_t lin;

		if (interp_linear(v, X86_SS, sp & mask, g->size, X86_ACC_R, &lin) < 0 ||
		    interp_load(v, lin, g->size, &slot[k]) < 0)
			return -1;
	}
	return 0;
}

/* CALL through a gate to inner privilege: a stack of the TSS. */
static int gate_call_inner(struct vcpu *v, struct call_gate *g)
{
	struct x86_state *s = v->s;
	const bool lm = x86_long_mode(s);
	const unsigned cpl = desc_dpl(&g->code);
	uint64_t slot[2 + 31 + 2] = { s->seg[X86_SS].sel, s->gpr[X86_RSP] }, sp;
	unsigned n = 2;
	struct x86_seg ss;
	uint32_t esp;
	uint16_t sel;

	if (lm) {
		sys_null_ss(&ss, cpl);
		if (sys_tss_stack64(v, 4 + 8 * cpl, &sp) < 0)
			return -1;
	} else {
		if (sys_tss_stack32(v, cpl, &sel, &esp) < 0 ||
		    sys_stack_desc(v, sel, cpl, X86_EX_TS, &ss) < 0 ||
		    gate_params(v, g, slot + 2) < 0)
			return -1;
		sp = esp;
		n += g->params;
	}
	slot[n++] = s->seg[X86_CS].sel;
	slot[n++] = interp_of(v)->next_rip;
	if (check_offset(v, &g->code, g->off) < 0 ||
	    sys_push_frame(v, &ss, lm, cpl, &sp, g->size, slot, n) < 0 ||
	    sys_desc_mark(v, &g->code) < 0)
		return -1;
	s->seg[X86_SS] = ss;
	sys_set_sp(s, sys_sp_mask(&ss, lm), sp);
	set_cs(s, &g->code, g->sel, cpl);
	interp_of(v)->next_rip = g->off;
	return 0;
}

/* Pushes CS and the return address, then enters d. */
static int call_same(struct vcpu *v, struct sys_desc *d, uint16_t sel, uint64_t off, unsigned size)
{
	struct x86_state *s = v->s;
	const uint64_t slot[2] = { s->seg[X86_CS].sel, interp_of(v)->next_rip };
	const bool wide = x86_code64(s);
	uint64_t sp = s->gpr[X86_RSP];

	if (check_offset(v, d, off) < 0 ||
	    sys_push_frame(v, &s->seg[X86_SS], wide, s->cpl, &sp, size, slot, 2) < 0 ||
	    sys_desc_mark(v, d) < 0)
		return -1;
	sys_set_sp(s, sys_sp_mask(&s->seg[X86_SS], wide), sp);
	set_cs(s, d, sel, s->cpl);
	interp_of(v)->next_rip = off;
	return 0;
}

static int gate_call(struct vcpu *v, uint16_t gate_sel, const struct sys_desc *d)
{
	struct call_gate g;

	if (gate_open(v, gate_sel, d, &g) < 0)
		return -1;
	if (!desc_conforming(&g.code) && desc_dpl(&g.code) < v->s->cpl)
		return gate_call_inner(v, &g);
	return call_same(v, &g.code, g.sel, g.off, g.size);
}

/* ---- JMP, CALL ---- */

static int jump_real(struct vcpu *v, uint16_t sel, uint64_t off)
{
	if (off > v->s->seg[X86_CS].limit)
		return interp_gp0(v);
	sys_load_real(v->s, X86_CS, sel);
	interp_of(v)->next_rip = off;
	return 0;
}

SYS_HANDLER(exec_jmpf)
{
	struct sys_desc d;
	uint16_t sel;
	uint64_t off;

	if (far_pointer(v, i, &sel, &off) < 0)
		return -1;
	if (!sys_protected(v->s))
		return jump_real(v, sel, off);
	if ((sel & 0xfffc) == 0)
		return interp_gp0(v);
	if (sys_desc_need(v, sel, X86_EX_GP, &d) < 0)
		return -1;
	if (!desc_s(&d))
		return gate_jump(v, sel, &d);
	if (!desc_is_code(&d))
		return sys_fault_sel(v, X86_EX_GP, sel);
	if (check_direct(v, &d, sel) < 0 || check_offset(v, &d, off) < 0 ||
	    sys_desc_mark(v, &d) < 0)
		return -1;
	set_cs(v->s, &d, sel, v->s->cpl);
	interp_of(v)->next_rip = off;
	return 0;
}

static int call_real(struct vcpu *v, const struct x86_insn *i, uint16_t sel, uint64_t off)
{
	struct x86_state *s = v->s;
	const uint64_t slot[2] = { s->seg[X86_CS].sel, interp_of(v)->next_rip };
	uint64_t sp = s->gpr[X86_RSP];

	if (off > s->seg[X86_CS].limit)
		return interp_gp0(v);
	if (sys_push_frame(v, &s->seg[X86_SS], false, s->cpl, &sp, i->opsize, slot, 2) < 0)
		return -1;
	sys_set_sp(s, sys_sp_mask(&s->seg[X86_SS], false), sp);
	return jump_real(v, sel, off);
}

SYS_HANDLER(exec_callf)
{
	struct sys_desc d;
	uint16_t sel;
	uint64_t off;

	if (far_pointer(v, i, &sel, &off) < 0)
		return -1;
	if (!sys_protected(v->s))
		return call_real(v, i, sel, off);
	if ((sel & 0xfffc) == 0)
		return interp_gp0(v);
	if (sys_desc_need(v, sel, X86_EX_GP, &d) < 0)
		return -1;
	if (!desc_s(&d))
		return gate_call(v, sel, &d);
	if (!desc_is_code(&d))
		return sys_fault_sel(v, X86_EX_GP, sel);
	if (check_direct(v, &d, sel) < 0)
		return -1;
	return call_same(v, &d, sel, off, i->opsize);
}

/* ---- returns ---- */

/* Reads `count` slots upwards from SS:SP without popping. */
static int stack_peek(struct vcpu *v, unsigned size, unsigned first, unsigned count, uint64_t *out)
{
	const struct x86_state *s = v->s;
	const uint64_t mask = sys_sp_mask(&s->seg[X86_SS], x86_code64(s));

	for (unsigned k = 0; k < count; k++) {
		const uint64_t sp = s->gpr[X86_RSP] + (uint64_t)(first + k) * size;
		gva_t lin;

		if (interp_linear(v, X86_SS, sp & mask, size, X86_ACC_R, &lin) < 0 ||
		    interp_load(v, lin, size, &out[k]) < 0)
			return -1;
	}
	return 0;
}

/* The code segment a return goes to; its privilege is the selector's RPL. */
static int return_cs(struct vcpu *v, uint16_t sel, struct sys_desc *d)
{
	const unsigned rpl = sel & 3;

	if ((sel & 0xfffc) == 0)
		return interp_gp0(v);
	if (sys_desc_need(v, sel, X86_EX_GP, d) < 0)
		return -1;
	if (!desc_is_code(d) || rpl < v->s->cpl ||
	    (desc_conforming(d) ? desc_dpl(d) > rpl : desc_dpl(d) != rpl))
		return sys_fault_sel(v, X86_EX_GP, sel);
	return check_cs_form(v, d, sel);
}

/* SS for a return to privilege cpl; null is allowed into 64-bit mode below CPL 3. */
static int return_ss(struct vcpu *v, uint16_t sel, unsigned cpl, bool to64, struct x86_seg *ss)
{
	if ((sel & 0xfffc) == 0 && to64 && cpl != 3) {
		if ((sel & 3u) != cpl)
			return interp_gp0(v);
		sys_null_ss(ss, cpl);
		return 0;
	}
	return sys_stack_desc(v, sel, cpl, X86_EX_GP, ss);
}

static int retf_real(struct vcpu *v, const struct x86_insn *i, uint64_t release)
{
	struct x86_state *s = v->s;
	uint64_t slot[2];

	if (stack_peek(v, i->opsize, 0, 2, slot) < 0)
		return -1;
	if (slot[0] > s->seg[X86_CS].limit)
		return interp_gp0(v);
	sys_set_sp(s, sys_sp_mask(&s->seg[X86_SS], false),
		   s->gpr[X86_RSP] + 2u * i->opsize + release);
	sys_load_real(s, X86_CS, (uint16_t)slot[1]);
	interp_of(v)->next_rip = slot[0];
	return 0;
}

/* RETF to outer privilege: SS:SP follow the released parameters. */
static int retf_outer(struct vcpu *v, const struct x86_insn *i, struct sys_desc *d, uint64_t rip,
		      uint16_t sel, uint64_t release)
{
	struct x86_state *s = v->s;
	const bool to64 = target_is_64(s, d);
	struct x86_seg ss;
	uint64_t slot[2];
	const uint64_t rsp = s->gpr[X86_RSP];
	int r;

	s->gpr[X86_RSP] = rsp + 2u * i->opsize + release;
	r = stack_peek(v, i->opsize, 0, 2, slot);
	s->gpr[X86_RSP] = rsp;
	if (r < 0 || return_ss(v, (uint16_t)slot[1], sel & 3, to64, &ss) < 0 ||
	    check_offset(v, d, rip) < 0 || sys_desc_mark(v, d) < 0)
		return -1;
	set_cs(s, d, sel, sel & 3);
	s->seg[X86_SS] = ss;
	sys_set_sp(s, sys_sp_mask(&ss, to64), slot[0] + release);
	sys_drop_inner_segs(s);
	interp_of(v)->next_rip = rip;
	return 0;
}

SYS_HANDLER(exec_retf)
{
	const uint64_t release = i->opcode == 0xca ? i->imm & 0xffff : 0;
	struct x86_state *s = v->s;
	uint64_t slot[2];
	struct sys_desc d;
	uint16_t sel;

	if (!sys_protected(s))
		return retf_real(v, i, release);
	if (stack_peek(v, i->opsize, 0, 2, slot) < 0)
		return -1;
	sel = (uint16_t)slot[1];
	if (return_cs(v, sel, &d) < 0)
		return -1;
	if ((sel & 3) > s->cpl)
		return retf_outer(v, i, &d, slot[0], sel, release);
	if (check_offset(v, &d, slot[0]) < 0 || sys_desc_mark(v, &d) < 0)
		return -1;
	sys_set_sp(s, sys_sp_mask(&s->seg[X86_SS], x86_code64(s)),
		   s->gpr[X86_RSP] + 2u * i->opsize + release);
	set_cs(s, &d, sel, s->cpl);
	interp_of(v)->next_rip = slot[0];
	return 0;
}

/* ---- IRET ---- */

static int iret_real(struct vcpu *v, const struct x86_insn *i)
{
	struct x86_state *s = v->s;
	uint64_t slot[3];

	if (sys_vm86(s) && sys_iopl(s) != 3)
		return interp_gp0(v);
	if (stack_peek(v, i->opsize, 0, 3, slot) < 0)
		return -1;
	if (slot[0] > s->seg[X86_CS].limit)
		return interp_gp0(v);
	sys_set_sp(s, sys_sp_mask(&s->seg[X86_SS], false), s->gpr[X86_RSP] + 3u * i->opsize);
	sys_load_real(s, X86_CS, (uint16_t)slot[1]);
	sys_iret_flags(v, i->opsize, slot[2]);
	s->nmi_blocked = 0;
	interp_of(v)->next_rip = slot[0];
	return 0;
}

/* From CPL 0 into virtual-8086 mode: nine slots. */
static int iret_to_vm86(struct vcpu *v)
{
	static const uint8_t order[] = { X86_ES, X86_DS, X86_FS, X86_GS };
	struct x86_state *s = v->s;
	uint64_t slot[9];

	if (stack_peek(v, 4, 0, 9, slot) < 0)
		return -1;
	s->rflags = (slot[2] & (X86_FL_ARITH | X86_FL_TF | X86_FL_IF | X86_FL_DF | X86_FL_IOPL |
				X86_FL_NT | X86_FL_RF | X86_FL_AC | X86_FL_ID)) |
		    X86_FL_VM | X86_FL_R1;
	s->cpl = 3;
	sys_load_real(s, X86_CS, (uint16_t)slot[1]);
	sys_load_real(s, X86_SS, (uint16_t)slot[4]);
	for (unsigned k = 0; k < ARRAY_SIZE(order); k++)
		sys_load_real(s, order[k], (uint16_t)slot[5 + k]);
	s->gpr[X86_RSP] = (uint32_t)slot[3];
	s->nmi_blocked = 0;
	interp_of(v)->next_rip = slot[0] & 0xffff;
	return 0;
}

/* To outer privilege, or any return in 64-bit mode: SS:SP come from the frame. */
static int iret_stack(struct vcpu *v, const struct x86_insn *i, struct sys_desc *d,
		      const uint64_t *slot)
{
	struct x86_state *s = v->s;
	const uint16_t sel = (uint16_t)slot[1];
	const bool to64 = target_is_64(s, d), outer = (sel & 3) > s->cpl;
	struct x86_seg ss;
	uint64_t sp[2];

	if (stack_peek(v, i->opsize, 3, 2, sp) < 0 ||
	    return_ss(v, (uint16_t)sp[1], sel & 3, to64, &ss) < 0 ||
	    check_offset(v, d, slot[0]) < 0 || sys_desc_mark(v, d) < 0)
		return -1;
	sys_iret_flags(v, i->opsize, slot[2]);
	set_cs(s, d, sel, sel & 3);
	s->seg[X86_SS] = ss;
	sys_set_sp(s, sys_sp_mask(&ss, to64), sp[0]);
	if (outer)
		sys_drop_inner_segs(s);
	return 0;
}

SYS_HANDLER(exec_iret)
{
	struct x86_state *s = v->s;
	struct sys_desc d;
	uint64_t slot[3];

	if (!sys_protected(s))
		return iret_real(v, i);
	if (s->rflags & X86_FL_NT) {
		if (!x86_long_mode(s))
			log_guest("interp: IRET with NT set (task return) refused");
		return interp_gp0(v);
	}
	if (stack_peek(v, i->opsize, 0, 3, slot) < 0)
		return -1;
	if (!x86_long_mode(s) && s->cpl == 0 && i->opsize == 4 && (slot[2] & X86_FL_VM))
		return iret_to_vm86(v);
	if (return_cs(v, (uint16_t)slot[1], &d) < 0)
		return -1;
	if (x86_code64(s) || (slot[1] & 3) > s->cpl) {
		if (iret_stack(v, i, &d, slot) < 0)
			return -1;
	} else {
		if (check_offset(v, &d, slot[0]) < 0 || sys_desc_mark(v, &d) < 0)
			return -1;
		sys_set_sp(s, sys_sp_mask(&s->seg[X86_SS], false),
			   s->gpr[X86_RSP] + 3u * i->opsize);
		sys_iret_flags(v, i->opsize, slot[2]);
		set_cs(s, &d, (uint16_t)slot[1], s->cpl);
	}
	s->nmi_blocked = 0;
	interp_of(v)->next_rip = slot[0];
	return 0;
}

/* ---- software interrupts ---- */

/* A shutdown on the way is noticed by the run loop. */
static int soft_int(struct vcpu *v, unsigned vec)
{
	(void)interp_deliver(v, vec, true, false, 0);
	return 0;
}

SYS_HANDLER(exec_int)
{
	if (sys_vm86(v->s) && sys_iopl(v->s) != 3)
		return interp_gp0(v);
	return soft_int(v, (unsigned)(i->imm & 0xff));
}

SYS_HANDLER(exec_int3)
{
	(void)i;
	return soft_int(v, X86_EX_BP);
}

SYS_HANDLER(exec_into)
{
	(void)i;
	return v->s->rflags & X86_FL_OF ? soft_int(v, X86_EX_OF) : 0;
}

/* ICEBP: a trap that no descriptor's DPL stops. */
SYS_HANDLER(exec_int1)
{
	(void)i;
	v->s->rip = interp_of(v)->next_rip;
	(void)interp_deliver(v, X86_EX_DB, false, false, 0);
	return 0;
}
