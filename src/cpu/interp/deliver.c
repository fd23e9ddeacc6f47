/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events: from a vector to the first instruction of its handler, in real mode, protected mode and
 * long mode, with nested faults up to shutdown. Owner thread only. SDM vol. 3, chapter 6, 20.1.
 *
 * An attempt either succeeds or leaves the state as it was with a fault recorded; the loop in
 * deliver() then decides what that makes of the event (SDM table 6-5).
 */
#include "base/log.h"
#include "base/stats.h"
#include "cpu/interp/sys_priv.h"

enum event_kind { EVENT_EXTERNAL, EVENT_SOFT, EVENT_EXCEPTION };

struct event {
	unsigned vec;
	enum event_kind kind;
	bool has_error;
	uint32_t error;
	uint64_t rip; /* what the handler returns to */
};

/* ---- common pieces ---- */

/* Error codes for the gate itself: vector, IDT bit. */
static int gate_fault(struct vcpu *v, unsigned vec, const struct event *ev)
{
	return interp_fault(v, vec, true, ev->vec << 3 | 2);
}

static uint64_t saved_flags(const struct x86_state *s, const struct event *ev)
{
	if (ev->kind == EVENT_EXCEPTION && ev->vec != X86_EX_DB && ev->vec != X86_EX_DF)
		return s->rflags | X86_FL_RF;
	return s->rflags;
}

static void enter_flags(struct x86_state *s, bool interrupt_gate)
{
	s->rflags &= ~(X86_FL_TF | X86_FL_NT | X86_FL_RF | X86_FL_VM);
	if (interrupt_gate)
		s->rflags &= ~X86_FL_IF;
}

static void enter_code(struct vcpu *v, uint64_t rip)
{
	v->s->rip = rip;
	interp_of(v)->next_rip = rip;
}

struct gate {
	unsigned type, dpl, ist;
	bool present;
	uint16_t sel;
	uint64_t off;
};

static void gate_unpack(struct gate *g, uint64_t lo)
{
	g->sel = (uint16_t)(lo >> 16);
	g->off = (lo & 0xffff) | ((lo >> 32) & 0xffff0000u);
	g->type = (unsigned)(lo >> 40) & 0x1f;
	g->dpl = (unsigned)(lo >> 45) & 3;
	g->present = lo & BIT(47);
	g->ist = (unsigned)(lo >> 32) & 7;
}

/* Reads the gate of an event and checks what all modes check; type is left to the caller. */
static int gate_read(struct vcpu *v, const struct event *ev, struct gate *g)
{
	const struct x86_state *s = v->s;
	const bool lm = x86_long_mode(s);
	const unsigned size = lm ? 16 : 8;
	uint64_t raw[2] = { 0, 0 };
	const uint64_t at = s->idtr.base + ev->vec * size;

	if (ev->vec * size + size - 1 > s->idtr.limit)
		return gate_fault(v, X86_EX_GP, ev);
	if (interp_lin_read(v, lm ? at : (uint32_t)at, raw, size, X86_ACC_R | X86_ACC_IMPLICIT) < 0)
		return -1;
	gate_unpack(g, raw[0]);
	if (lm)
		g->off |= raw[1] << 32;
	if ((g->type & 0x1e) == 0xe || (!lm && (g->type & 0x1e) == 6)) {
		if (ev->kind == EVENT_SOFT && g->dpl < s->cpl)
			return gate_fault(v, X86_EX_GP, ev);
		return g->present ? 0 : gate_fault(v, X86_EX_NP, ev);
	}
	if (!lm && g->type == 5)
		log_guest("interp: task gate for vector %u refused", ev->vec);
	return gate_fault(v, X86_EX_GP, ev);
}

/* The handler's code segment. */
static int gate_code(struct vcpu *v, const struct gate *g, struct sys_desc *d)
{
	if ((g->sel & 0xfffc) == 0)
		return interp_gp0(v);
	if (sys_desc_need(v, g->sel, X86_EX_GP, d) < 0)
		return -1;
	if (!desc_is_code(d) || desc_dpl(d) > v->s->cpl)
		return sys_fault_sel(v, X86_EX_GP, g->sel);
	if (!desc_p(d))
		return sys_fault_sel(v, X86_EX_NP, g->sel);
	return 0;
}

static void enter_cs(struct x86_state *s, const struct sys_desc *d, uint16_t sel, unsigned cpl)
{
	sys_desc_cache(d, (uint16_t)((sel & ~3u) | cpl), &s->seg[X86_CS]);
	s->cpl = (uint8_t)cpl;
}

/* ---- long mode ---- */

/* The stack an event of long mode starts on. */
static int stack64(struct vcpu *v, const struct gate *g, unsigned cpl, uint64_t *rsp)
{
	*rsp = v->s->gpr[X86_RSP];
	if (g->ist != 0) {
		if (sys_tss_stack64(v, 0x1c + 8 * g->ist, rsp) < 0)
			return -1;
	} else if (cpl != v->s->cpl) {
		if (sys_tss_stack64(v, 4 + 8 * cpl, rsp) < 0)
			return -1;
	}
	*rsp &= ~15ull;
	return 0;
}

static int deliver_long(struct vcpu *v, const struct event *ev)
{
	struct x86_state *s = v->s;
	const uint8_t old_cpl = s->cpl;
	struct sys_desc cs;
	struct gate g;
	uint64_t rsp, slot[6];
	unsigned cpl;

	if (gate_read(v, ev, &g) < 0 || gate_code(v, &g, &cs) < 0)
		return -1;
	if (!desc_l(&cs) || desc_db(&cs))
		return sys_fault_sel(v, X86_EX_GP, g.sel);
	cpl = desc_conforming(&cs) ? old_cpl : desc_dpl(&cs);
	if (stack64(v, &g, cpl, &rsp) < 0)
		return -1;
	if (!x86_canonical(g.off))
		return interp_gp0(v);
	slot[0] = s->seg[X86_SS].sel;
	slot[1] = s->gpr[X86_RSP];
	slot[2] = saved_flags(s, ev);
	slot[3] = s->seg[X86_CS].sel;
	slot[4] = ev->rip;
	slot[5] = ev->error;
	if (sys_push_frame(v, &s->seg[X86_SS], true, cpl, &rsp, 8, slot, ev->has_error ? 6 : 5) <
		    0 ||
	    sys_desc_mark(v, &cs) < 0)
		return -1;
	s->gpr[X86_RSP] = rsp;
	if (cpl != old_cpl)
		sys_null_ss(&s->seg[X86_SS], cpl);
	enter_cs(s, &cs, g.sel, cpl);
	enter_flags(s, !(g.type & 1));
	enter_code(v, g.off);
	return 0;
}

/* ---- protected mode ---- */

/* Leaving virtual-8086 mode: data segments are saved and become null. */
static unsigned push_vm86(struct x86_state *s, uint64_t *slot)
{
	static const uint8_t order[] = { X86_GS, X86_FS, X86_DS, X86_ES };

	for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
		slot[i] = s->seg[order[i]].sel;
	return ARRAY_SIZE(order);
}

static void clear_data_segs(struct x86_state *s)
{
	s->seg[X86_ES] = s->seg[X86_DS] = (struct x86_seg){ .sel = 0 };
	s->seg[X86_FS] = s->seg[X86_GS] = (struct x86_seg){ .sel = 0 };
}

/* Picks the new stack; *sp and *ss are those the frame goes to. */
static int stack32(struct vcpu *v, unsigned cpl, struct x86_seg *ss, uint64_t *sp)
{
	struct x86_state *s = v->s;
	uint16_t sel;
	uint32_t esp;

	*ss = s->seg[X86_SS];
	*sp = s->gpr[X86_RSP];
	if (cpl == s->cpl)
		return 0;
	if (sys_tss_stack32(v, cpl, &sel, &esp) < 0 ||
	    sys_stack_desc(v, sel, cpl, X86_EX_TS, ss) < 0)
		return -1;
	*sp = esp;
	return 0;
}

static int deliver_protected(struct vcpu *v, const struct event *ev)
{
	struct x86_state *s = v->s;
	const bool vm86 = sys_vm86(s);
	struct sys_desc cs;
	struct x86_seg ss;
	struct gate g;
	uint64_t sp, slot[10];
	unsigned cpl, n = 0, size;

	if (gate_read(v, ev, &g) < 0 || gate_code(v, &g, &cs) < 0)
		return -1;
	size = g.type & 8 ? 4 : 2;
	cpl = desc_conforming(&cs) ? s->cpl : desc_dpl(&cs);
	if (vm86 && cpl != 0)
		return sys_fault_sel(v, X86_EX_GP, g.sel);
	if (stack32(v, cpl, &ss, &sp) < 0)
		return -1;
	if (size == 2)
		g.off &= 0xffff;
	if (!sys_seg_holds(
		    &(struct x86_seg){
			    .limit = (uint32_t)(cs.raw & BIT(55)
							? ((cs.raw & 0xffff) |
							   ((cs.raw >> 32) &
							    0xf0000)) << 12 |
								  0xfff
							: (cs.raw & 0xffff) |
								  ((cs.raw >> 32) & 0xf0000)) },
		    g.off, 1))
		return interp_gp0(v);
	if (vm86)
		n = push_vm86(s, slot);
	if (cpl != s->cpl) {
		slot[n++] = s->seg[X86_SS].sel;
		slot[n++] = s->gpr[X86_RSP];
	}
	slot[n++] = saved_flags(s, ev);
	slot[n++] = s->seg[X86_CS].sel;
	slot[n++] = ev->rip;
	if (ev->has_error)
		slot[n++] = ev->error;
	if (sys_push_frame(v, &ss, false, cpl, &sp, size, slot, n) < 0 || sys_desc_mark(v, &cs) < 0)
		return -1;
	s->seg[X86_SS] = ss;
	sys_set_sp(s, sys_sp_mask(&ss, false), sp);
	if (vm86)
		clear_data_segs(s);
	enter_flags(s, !(g.type & 1));
	enter_cs(s, &cs, g.sel, cpl);
	enter_code(v, g.off);
	return 0;
}

/* ---- real mode ---- */

static int deliver_real(struct vcpu *v, const struct event *ev)
{
	struct x86_state *s = v->s;
	uint64_t sp = s->gpr[X86_RSP];
	const uint64_t slot[3] = { s->rflags & 0xffff, s->seg[X86_CS].sel, ev->rip };
	uint32_t vector = 0;

	if (ev->vec * 4 + 3 > s->idtr.limit)
		return gate_fault(v, X86_EX_GP, ev);
	if (interp_lin_read(v, (uint32_t)(s->idtr.base + ev->vec * 4), &vector, 4,
			    X86_ACC_R | X86_ACC_IMPLICIT) < 0 ||
	    sys_push_frame(v, &s->seg[X86_SS], false, 0, &sp, 2, slot, 3) < 0)
		return -1;
	sys_set_sp(s, sys_sp_mask(&s->seg[X86_SS], false), sp);
	s->rflags &= ~(X86_FL_IF | X86_FL_TF | X86_FL_AC | X86_FL_RF);
	sys_load_real(s, X86_CS, (uint16_t)(vector >> 16));
	enter_code(v, vector & 0xffff);
	return 0;
}

/* ---- escalation ---- */

static bool contributory(unsigned vec)
{
	return vec == X86_EX_DE || (vec >= X86_EX_TS && vec <= X86_EX_GP);
}

/* What the event becomes when its delivery faulted; false: shutdown. */
static bool escalate(struct vcpu *v, struct event *ev)
{
	struct interp_fault_info f = interp_of(v)->fault;
	const bool exception = ev->kind == EVENT_EXCEPTION;

	if (exception && ev->vec == X86_EX_DF)
		return false;
	if (f.vec == X86_EX_PF)
		v->s->cr2 = f.cr2;
	else if (f.has_error && ev->kind != EVENT_SOFT && f.vec != X86_EX_AC)
		f.error |= 1; /* EXT */
	if (exception && ((contributory(ev->vec) && contributory(f.vec)) ||
			  (ev->vec == X86_EX_PF && (contributory(f.vec) || f.vec == X86_EX_PF))))
		f = (struct interp_fault_info){ .vec = X86_EX_DF, .has_error = true };
	*ev = (struct event){ .vec = f.vec,
			      .kind = EVENT_EXCEPTION,
			      .has_error = f.has_error,
			      .error = f.error,
			      .rip = v->s->rip };
	return true;
}

static int deliver_once(struct vcpu *v, const struct event *ev)
{
	if (likely(x86_long_mode(v->s)))
		return deliver_long(v, ev);
	return sys_real(v->s) ? deliver_real(v, ev) : deliver_protected(v, ev);
}

static void count(const struct event *ev)
{
	if (ev->kind == EVENT_EXCEPTION)
		stat_inc(CPU_EXCEPTIONS);
	else if (ev->kind == EVENT_EXTERNAL)
		stat_inc(CPU_INTERRUPTS);
}

static int deliver(struct vcpu *v, struct event ev)
{
	struct interp *it = interp_of(v);

	for (;;) {
		count(&ev);
		it->fault.pending = false;
		if (deliver_once(v, &ev) == 0) {
			v->s->int_shadow = 0;
			if (ev.kind == EVENT_EXCEPTION && ev.vec == X86_EX_DB)
				v->s->dr[7] &= ~BIT(13); /* GD */
			it->fault.pending = false;
			return 0;
		}
		if (!escalate(v, &ev)) {
			it->fault.pending = false;
			it->shutdown = true;
			return -1;
		}
	}
}

int interp_deliver(struct vcpu *v, unsigned vec, bool soft, bool has_error, uint32_t error)
{
	struct event ev = { .vec = vec,
			    .kind = EVENT_EXTERNAL,
			    .has_error = has_error,
			    .error = error,
			    .rip = v->s->rip };

	if (soft) {
		ev.kind = EVENT_SOFT;
		ev.rip = interp_of(v)->next_rip;
	} else if (vec < 32 && vec != X86_EX_NMI) {
		ev.kind = EVENT_EXCEPTION;
	}
	return deliver(v, ev);
}
