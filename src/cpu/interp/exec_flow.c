/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Near control flow and the stack. SDM vol. 2. The vCPU's own thread.
 */
#include "cpu/interp/alu.h"
#include "cpu/interp/exec_int.h"

#define HANDLER(name) int int_exec_##name(struct vcpu *v, const struct x86_insn *i)

/* ---- branches ---- */

/* Truncates and checks a near target; on success execution goes on there. */
static int branch_to(struct vcpu *v, const struct x86_insn *i, uint64_t target)
{
	target &= int_mask(i->opsize);
	if (i->mode == X86_MODE_64 ? !x86_canonical(target) : target > v->s->seg[X86_CS].limit)
		return interp_gp0(v);
	interp_of(v)->next_rip = target;
	return 0;
}

static int branch_rel(struct vcpu *v, const struct x86_insn *i)
{
	return branch_to(v, i, interp_of(v)->next_rip + i->imm);
}

HANDLER(jmp)
{
	uint64_t target;

	if (i->op[0].kind == OPK_REL)
		return branch_rel(v, i);
	if (int_read(v, i, 0, &target))
		return -1;
	return branch_to(v, i, target);
}

HANDLER(jcc)
{
	return alu_cond(v->s->rflags, i->opcode & 15) ? branch_rel(v, i) : 0;
}

HANDLER(jcxz)
{
	return v->s->gpr[X86_RCX] & int_mask(i->addrsize) ? 0 : branch_rel(v, i);
}

/* LOOP, LOOPE, LOOPNE: the counter changes only when the branch does not fault. */
HANDLER(loop)
{
	struct x86_state *s = v->s;
	uint64_t c = (s->gpr[X86_RCX] - 1) & int_mask(i->addrsize);
	bool zf = s->rflags & X86_FL_ZF, taken = c != 0;

	if (i->id != X86_ID_LOOP)
		taken = taken && zf == (i->id == X86_ID_LOOPE);
	if (taken && branch_rel(v, i))
		return -1;
	interp_set_gpr(s, X86_RCX, false, i->addrsize, c);
	return 0;
}

HANDLER(call)
{
	struct interp *it = interp_of(v);
	uint64_t back = it->next_rip, target;

	if (i->op[0].kind == OPK_REL)
		target = back + i->imm;
	else if (int_read(v, i, 0, &target))
		return -1;
	if (branch_to(v, i, target))
		return -1;
	return interp_push(v, i->opsize, back);
}

static unsigned stack_size(const struct vcpu *v, const struct x86_insn *i)
{
	if (i->mode == X86_MODE_64)
		return 8;
	return v->s->seg[X86_SS].attr & X86_SEG_DB ? 4 : 2;
}

HANDLER(ret)
{
	struct x86_state *s = v->s;
	uint64_t target, sp = s->gpr[X86_RSP];

	if (interp_pop(v, i->opsize, &target))
		return -1;
	if (branch_to(v, i, target)) {
		s->gpr[X86_RSP] = sp;
		return -1;
	}
	if (i->opcode == 0xc2)
		interp_set_gpr(s, X86_RSP, false, stack_size(v, i), s->gpr[X86_RSP] + i->imm);
	return 0;
}

/* ---- the stack ---- */

HANDLER(push)
{
	uint64_t val;

	if (int_read(v, i, 0, &val))
		return -1;
	return interp_push(v, i->opsize, val);
}

HANDLER(pop)
{
	struct x86_state *s = v->s;
	uint64_t val, sp = s->gpr[X86_RSP];

	if (interp_pop(v, i->opsize, &val))
		return -1;
	/* a memory operand's address is computed with rSP already moved */
	if (int_write(v, i, 0, val)) {
		s->gpr[X86_RSP] = sp;
		return -1;
	}
	return 0;
}

HANDLER(pusha)
{
	struct x86_state *s = v->s;
	uint64_t sp = s->gpr[X86_RSP];

	for (unsigned r = 0; r < 8; r++) {
		if (interp_push(v, i->opsize, r == X86_RSP ? sp : s->gpr[r])) {
			s->gpr[X86_RSP] = sp;
			return -1;
		}
	}
	return 0;
}

HANDLER(popa)
{
	struct x86_state *s = v->s;
	uint64_t sp = s->gpr[X86_RSP], val[8];

	for (unsigned r = 8; r-- > 0;) {
		if (interp_pop(v, i->opsize, &val[r])) {
			s->gpr[X86_RSP] = sp;
			return -1;
		}
	}
	for (unsigned r = 0; r < 8; r++)
		if (r != X86_RSP)
			interp_set_gpr(s, r, false, i->opsize, val[r]);
	return 0;
}

/* Copies the outer frame pointers of a nested ENTER. */
static int enter_display(struct vcpu *v, const struct x86_insn *i, unsigned level)
{
	unsigned stack = stack_size(v, i);
	uint64_t bp = v->s->gpr[X86_RBP], val;
	gva_t lin;

	while (--level) {
		bp = (bp - i->opsize) & int_mask(stack);
		if (interp_linear(v, X86_SS, bp, i->opsize, X86_ACC_R, &lin) ||
		    interp_load(v, lin, i->opsize, &val) || interp_push(v, i->opsize, val))
			return -1;
	}
	return 0;
}

HANDLER(enter)
{
	struct x86_state *s = v->s;
	unsigned stack = stack_size(v, i), level = (unsigned)i->imm2 & 31;
	uint64_t sp = s->gpr[X86_RSP], frame, end;
	gva_t lin;

	if (interp_push(v, i->opsize, s->gpr[X86_RBP]))
		return -1;
	frame = s->gpr[X86_RSP];
	if (level && (enter_display(v, i, level) || interp_push(v, i->opsize, frame)))
		goto fault;
	end = (s->gpr[X86_RSP] - i->imm) & int_mask(stack);
	/* the new top must be writable: probed by rewriting nothing */
	if (interp_linear(v, X86_SS, end, i->opsize, X86_ACC_W, &lin) ||
	    (!interp_direct(v, lin, 1, X86_ACC_W) && interp_of(v)->fault.pending))
		goto fault;
	interp_set_gpr(s, X86_RBP, false, i->opsize, frame);
	interp_set_gpr(s, X86_RSP, false, stack, end);
	return 0;
fault:
	s->gpr[X86_RSP] = sp;
	return -1;
}

HANDLER(leave)
{
	struct x86_state *s = v->s;
	unsigned stack = stack_size(v, i);
	uint64_t bp = s->gpr[X86_RBP] & int_mask(stack), val;
	gva_t lin;

	if (interp_linear(v, X86_SS, bp, i->opsize, X86_ACC_R, &lin) ||
	    interp_load(v, lin, i->opsize, &val))
		return -1;
	interp_set_gpr(s, X86_RSP, false, stack, bp + i->opsize);
	interp_set_gpr(s, X86_RBP, false, i->opsize, val);
	return 0;
}
