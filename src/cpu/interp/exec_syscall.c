/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT (SDM vol. 2). Where the vendors differ, the vendor the guest
 * was told decides which of them exist outside 64-bit mode. Owner thread only.
 */
#include "cpu/interp/sys_priv.h"

/* Flat segments as these instructions load them, without looking at a table. */
static void flat_code(struct x86_state *s, uint16_t sel, unsigned cpl, bool code64)
{
	s->seg[X86_CS] = (struct x86_seg){ .sel = sel,
					   .limit = UINT32_MAX,
					   .attr = (uint16_t)(0x809b | (cpl << 5) |
							      (code64 ? X86_SEG_L : X86_SEG_DB)) };
	s->cpl = (uint8_t)cpl;
}

static void flat_stack(struct x86_state *s, uint16_t sel, unsigned cpl)
{
	s->seg[X86_SS] = (struct x86_seg){ .sel = sel,
					   .limit = UINT32_MAX,
					   .attr = (uint16_t)(0xc093 | (cpl << 5)) };
}

static bool syscall_exists(const struct vcpu *v)
{
	const struct x86_state *s = v->s;

	if (!(s->efer & X86_EFER_SCE) || !sys_protected(s))
		return false;
	return x86_code64(s) || sys_is_amd(v);
}

SYS_HANDLER(exec_syscall)
{
	struct x86_state *s = v->s;
	const uint16_t cs = (s->star >> 32) & 0xfffc;
	struct interp *it = interp_of(v);
	const bool code64 = x86_code64(s);

	(void)i;
	if (!syscall_exists(v))
		return interp_ud(v);
	s->gpr[X86_RCX] = it->next_rip;
	if (x86_long_mode(s)) {
		s->gpr[X86_R11] = s->rflags & ~X86_FL_RF;
		it->next_rip = code64 ? s->lstar : s->cstar;
		s->rflags &= ~(s->sfmask | X86_FL_RF);
		s->rflags |= X86_FL_R1;
	} else {
		it->next_rip = (uint32_t)s->star;
		s->rflags &= ~(X86_FL_IF | X86_FL_VM | X86_FL_RF);
	}
	flat_code(s, cs, 0, x86_long_mode(s));
	flat_stack(s, (uint16_t)(cs + 8), 0);
	return 0;
}

SYS_HANDLER(exec_sysret)
{
	struct x86_state *s = v->s;
	const uint16_t base = (uint16_t)(s->star >> 48);
	const bool to64 = i->opsize == 8;

	if (!syscall_exists(v))
		return interp_ud(v);
	if (s->cpl != 0)
		return interp_gp0(v);
	if (to64 && !x86_canonical(s->gpr[X86_RCX]))
		return interp_gp0(v);
	if (x86_long_mode(s))
		s->rflags = (s->gpr[X86_R11] & 0x3c7fd7) | X86_FL_R1;
	else
		s->rflags |= X86_FL_IF;
	interp_of(v)->next_rip = to64 ? s->gpr[X86_RCX] : (uint32_t)s->gpr[X86_RCX];
	flat_code(s, (uint16_t)((base + (to64 ? 16u : 0u)) | 3u), 3, to64);
	flat_stack(s, (uint16_t)((base + 8u) | 3u), 3);
	return 0;
}

static int sysenter_check(struct vcpu *v)
{
	const struct x86_state *s = v->s;

	if (x86_long_mode(s) && sys_is_amd(v))
		return interp_ud(v);
	if (sys_real(s) || (s->sysenter_cs & 0xfffc) == 0)
		return interp_gp0(v);
	return 0;
}

SYS_HANDLER(exec_sysenter)
{
	struct x86_state *s = v->s;
	const bool lm = x86_long_mode(s);
	const uint16_t cs = s->sysenter_cs & 0xfffc;

	(void)i;
	if (sysenter_check(v) < 0)
		return -1;
	s->rflags &= ~(X86_FL_VM | X86_FL_IF | X86_FL_RF);
	flat_code(s, cs, 0, lm);
	flat_stack(s, (uint16_t)(cs + 8), 0);
	s->gpr[X86_RSP] = lm ? s->sysenter_esp : (uint32_t)s->sysenter_esp;
	interp_of(v)->next_rip = lm ? s->sysenter_eip : (uint32_t)s->sysenter_eip;
	return 0;
}

SYS_HANDLER(exec_sysexit)
{
	struct x86_state *s = v->s;
	const bool to64 = i->opsize == 8;
	const uint16_t cs = (uint16_t)(s->sysenter_cs & 0xfffc);
	const uint64_t rip = s->gpr[X86_RDX], rsp = s->gpr[X86_RCX];

	if (sysenter_check(v) < 0)
		return -1;
	if (s->cpl != 0 || (to64 && (!x86_canonical(rip) || !x86_canonical(rsp))))
		return interp_gp0(v);
	flat_code(s, (uint16_t)((cs + (to64 ? 32u : 16u)) | 3u), 3, to64);
	flat_stack(s, (uint16_t)((cs + (to64 ? 40u : 24u)) | 3u), 3);
	s->gpr[X86_RSP] = to64 ? rsp : (uint32_t)rsp;
	interp_of(v)->next_rip = to64 ? rip : (uint32_t)rip;
	return 0;
}
