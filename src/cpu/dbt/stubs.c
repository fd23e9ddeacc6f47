/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fixed pieces of generated code: entering and leaving it, and the jumps all blocks share.
 *
 * Entering tests `kick` after the last point at which C could have seen it; a signal that arrives later, while
 * the stub still runs, is recognised by its program counter and sent to enter_abort (fault.c). Leaving saves
 * every guest register; nothing it does depends on C state other than c_rsp.
 */
#include "cpu/dbt/dbt_priv.h"

#include <errno.h>
#include <string.h>

static const struct {
	uint8_t host, guest;
} in_place[] = {
	{ H_RAX, X86_RAX }, { H_RDX, X86_RDX }, { H_RBX, X86_RBX }, { H_RBP, X86_RBP },
	{ H_RSI, X86_RSI }, { H_RDI, X86_RDI }, { H_R8, X86_R8 },   { H_R12, X86_R12 },
	{ H_R13, X86_R13 }, { H_R14, X86_R14 }, { H_R15, X86_RSP }, { H_RCX, X86_RCX },
};

static const uint8_t callee_saved[] = { H_RBX, H_RBP, H_R12, H_R13, H_R14, H_R15 };

static void push(struct emit *e, unsigned r)
{
	if (r >= 8)
		emit_u8(e, 0x41);
	emit_u8(e, 0x50 | (r & 7));
}

static void pop(struct emit *e, unsigned r)
{
	if (r >= 8)
		emit_u8(e, 0x41);
	emit_u8(e, 0x58 | (r & 7));
}

/* XSAVEOPT (0F AE /6) or XRSTOR (0F AE /5) of x87, SSE and AVX state; eax, ecx, edx are lost. */
static void xstate(struct emit *e, unsigned ext)
{
	emit_mov_imm(e, H_RAX, 7);
	emit_mov_imm(e, H_RDX, 0);
	emit_load(e, H_RCX, TLS(self));
	emit_op_mem(e, true, 1, 0xae, ext, HM(H_RCX, (int32_t)offsetof(struct dbt_tls, st.xsave)));
}

static uint8_t *set_reason(struct emit *e, enum dbt_exit reason)
{
	uint8_t *start = e->p;

	emit_op_mem(e, false, 0, 0xc7, 0, TLS(exit_reason));
	emit_u32(e, reason);
	return start;
}

/* Back to C: host floating-point defaults, callee-saved registers, RET. */
static void epilogue(struct emit *e)
{
	uint8_t *rel;

	emit_op_mem(e, false, 1, 0xae, 2, TLS(default_mxcsr));	 /* LDMXCSR */
	emit_bytes(e, (const uint8_t[]){ 0xc5, 0xf8, 0x77 }, 3); /* VZEROUPPER */
	/* TEST byte xsave[XSTATE_BV], 1; JZ: x87 is in its initial state */
	emit_op_mem(e, false, 0, 0xf6, 0, TLS(st.xsave[512]));
	emit_u8(e, 1);
	rel = emit_jcc_fwd(e, 4);
	emit_bytes(e, (const uint8_t[]){ 0xdb, 0xe3 }, 2); /* FNINIT */
	if (!e->overflow)
		emit_patch32(rel, e->p);
	for (unsigned i = ARRAY_SIZE(callee_saved); i-- > 0;)
		pop(e, callee_saved[i]);
	emit_u8(e, 0xc3);
}

static void emit_enter(struct dbt *d, struct emit *e)
{
	uint8_t *rel;

	d->enter = dbt_rx(&d->fc, e->p);
	for (unsigned i = 0; i < ARRAY_SIZE(callee_saved); i++)
		push(e, callee_saved[i]);
	d->enter_from = dbt_rx(&d->fc, e->p);
	emit_store(e, TLS(c_rsp), H_RSP);
	xstate(e, 5);
	emit_op_mem(e, false, 0, 0x83, 7, TLS(kick)); /* CMP dword kick, 0 */
	emit_u8(e, 0);
	rel = emit_jcc_fwd(e, 5);
	emit_op_mem(e, false, 0, 0xff, 6, TLS(flags)); /* PUSH, POPFQ */
	emit_u8(e, 0x9d);
	emit_load(e, H_RSP, TLS(ret_rsp));
	for (unsigned i = 0; i < ARRAY_SIZE(in_place); i++)
		emit_load(e, in_place[i].host, TLS_GPR(in_place[i].guest));
	emit_jmp_mem(e, TLS(enter_pc));
	d->enter_to = dbt_rx(&d->fc, e->p);
	if (!e->overflow)
		emit_patch32(rel, e->p);
	d->enter_abort = dbt_rx(&d->fc, e->p);
	emit_load(e, H_RSP, TLS(c_rsp));
	set_reason(e, DBT_EXIT_ABORT);
	epilogue(e);
}

static void emit_leave(struct dbt *d, struct emit *e)
{
	d->stub_leave = e->p;
	for (unsigned i = 0; i < ARRAY_SIZE(in_place); i++)
		emit_store(e, TLS_GPR(in_place[i].guest), in_place[i].host);
	emit_store(e, TLS(ret_rsp), H_RSP);
	emit_load(e, H_RSP, TLS(c_rsp));
	emit_u8(e, 0x9c); /* PUSHFQ */
	emit_op_mem(e, false, 0, 0x8f, 0, TLS(flags));
	d->leave_saved = e->p;
	xstate(e, 6);
	epilogue(e);
}

/* On the C stack, registers saved: drops the block's return address and leaves. */
static void leave_from_helper(struct dbt *d, struct emit *e, enum dbt_exit reason)
{
	emit_load(e, H_RAX, TLS(ret_rsp));
	emit_lea(e, H_RAX, HM(H_RAX, 8));
	emit_store(e, TLS(ret_rsp), H_RAX);
	emit_load(e, H_RSP, TLS(c_rsp));
	set_reason(e, reason);
	emit_jmp(e, d->leave_saved);
}

/*
 * Called by a block for a repeated string instruction: registers to memory, the C helper, registers back, return to the
 * block. When the helper could not finish, or a kick came meanwhile, leaves instead, without the block's return.
 */
static void emit_rep(struct dbt *d, struct emit *e)
{
	uint8_t *slow, *kicked;

	d->stub_rep = e->p;
	for (unsigned i = 0; i < ARRAY_SIZE(in_place); i++)
		emit_store(e, TLS_GPR(in_place[i].guest), in_place[i].host);
	emit_store(e, TLS(st.rip), S0);
	emit_mov_rr32(e, H_RDI, S1);
	emit_store(e, TLS(ret_rsp), H_RSP);
	emit_load(e, H_RSP, TLS(c_rsp));
	emit_u8(e, 0x9c); /* PUSHFQ */
	emit_op_mem(e, false, 0, 0x8f, 0, TLS(flags));
	emit_lea(e, H_RSP, HM(H_RSP, -8)); /* 16-byte alignment */
	emit_mov_imm(e, H_RAX, (uint64_t)dbt_helper_rep);
	emit_bytes(e, (const uint8_t[]){ 0xff, 0xd0 }, 2); /* CALL RAX */
	emit_bytes(e, (const uint8_t[]){ 0x85, 0xc0 }, 2); /* TEST EAX, EAX */
	slow = emit_jcc_fwd(e, 5);
	emit_op_mem(e, false, 0, 0x83, 7, TLS(kick));
	emit_u8(e, 0);
	kicked = emit_jcc_fwd(e, 5);
	d->rep_from = dbt_rx(&d->fc, e->p);
	emit_op_mem(e, false, 0, 0xff, 6, TLS(flags));
	emit_u8(e, 0x9d); /* POPFQ */
	emit_load(e, H_RSP, TLS(ret_rsp));
	for (unsigned i = 0; i < ARRAY_SIZE(in_place); i++)
		emit_load(e, in_place[i].host, TLS_GPR(in_place[i].guest));
	emit_u8(e, 0xc3);
	d->rep_to = dbt_rx(&d->fc, e->p);
	if (e->overflow)
		return;
	emit_patch32(slow, e->p);
	/* 1: interp is to go on; 2: kicked */
	emit_bytes(e, (const uint8_t[]){ 0x83, 0xf8, 1 }, 3); /* CMP EAX, 1 */
	slow = emit_jcc_fwd(e, 4);
	emit_patch32(kicked, e->p);
	leave_from_helper(d, e, DBT_EXIT_KICK);
	emit_patch32(slow, e->p);
	leave_from_helper(d, e, DBT_EXIT_REP);
}

/* S0 is the guest address to go on at. */
static uint8_t *exit_at_s0(struct dbt *d, struct emit *e, enum dbt_exit reason)
{
	uint8_t *start = e->p;

	emit_store(e, TLS(st.rip), S0);
	set_reason(e, reason);
	emit_jmp(e, d->stub_leave);
	return start;
}

static void hash_s0(struct emit *e, uint32_t mode)
{
	emit_rorx(e, S1, S0, 13);
	emit_lea(e, S1, HMX(S1, S0));
	emit_pext_mem(e, S1, S1, TLS(mask_hash));
	emit_load(e, S2, mode & DBT_MODE_USER ? TLS(jc_user) : TLS(jc_kernel));
}

void dbt_emit_jump_s0(struct emit *e, uint32_t mode)
{
	hash_s0(e, mode);
	emit_jmp_mem(e, (struct host_mem){ .base = S2, .index = S1, .scale = 3 });
}

void dbt_emit_call_s0(struct emit *e, uint32_t mode)
{
	hash_s0(e, mode);
	emit_call_mem(e, (struct host_mem){ .base = S2, .index = S1, .scale = 3 });
}

void dbt_emit_check_s0(struct emit *e, gva_t va, const uint8_t *miss)
{
	uint8_t *rel;

	emit_mov_rr(e, S1, H_RCX);
	emit_mov_imm(e, H_RCX, 0 - va);
	emit_lea(e, H_RCX, HMX(H_RCX, S0));
	rel = emit_jrcxz_fwd(e);
	emit_mov_rr(e, H_RCX, S1);
	emit_jmp(e, miss);
	if (!e->overflow)
		emit_patch8(e, rel, e->p);
	emit_mov_rr(e, H_RCX, S1);
}

/*
 * The return stack of `mode` starts with the address of a stub that a return without a partner reaches: it
 * puts the pointer back to the top and looks the target up.
 */
static void emit_underflow(struct dbt *d, struct emit *e, unsigned which)
{
	uint8_t *start = e->p;

	emit_mov_imm(e, H_RSP, (uint64_t)d->ret_top[which]);
	dbt_emit_jump_s0(e, which ? DBT_MODE_USER : 0);
	*(uint64_t *)d->ret_top[which] = (uint64_t)dbt_rx(&d->fc, start);
}

int dbt_stubs_emit(struct dbt *d)
{
	struct emit e = { d->fc.next, d->fc.next, d->fc.rw + d->fc.size, false };

	emit_enter(d, &e);
	emit_leave(d, &e);
	emit_rep(d, &e);
	d->stub_miss = exit_at_s0(d, &e, DBT_EXIT_LOOKUP);
	d->stub_jc_miss = dbt_rx(&d->fc, d->stub_miss);
	d->stub_step = exit_at_s0(d, &e, DBT_EXIT_STEP);
	d->stub_irq = exit_at_s0(d, &e, DBT_EXIT_IRQ);
	d->stub_link = set_reason(&e, DBT_EXIT_LINK);
	emit_store32(&e, TLS(exit_arg), S0);
	emit_jmp(&e, d->stub_leave);
	d->stub_cell = set_reason(&e, DBT_EXIT_CELL);
	emit_store32(&e, TLS(exit_arg), S0);
	emit_jmp(&e, d->stub_leave);
	for (unsigned i = 0; i < 2; i++) {
		d->stub_jump[i] = e.p;
		dbt_emit_jump_s0(&e, i ? DBT_MODE_USER : 0);
		emit_underflow(d, &e, i);
	}
	if (e.overflow)
		return -ENOSPC;
	d->fc.next = d->fc.after_stubs = e.p;
	return 0;
}
