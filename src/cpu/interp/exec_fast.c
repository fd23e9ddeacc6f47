/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handlers for the most frequent forms in 64-bit mode: 32- and 64-bit register and memory operands
 * without FS, GS or address-size override, near branches, pushes and pops. They do exactly what the
 * general handlers do; interp_int_fast() picks them when an instruction is decoded.
 */
#include "cpu/interp/alu.h"
#include "cpu/interp/exec_int.h"
#include "cpu/interp/icache.h"

#define HANDLER(name) static int fast_##name(struct vcpu *v, const struct x86_insn *i)

/* ---- memory ---- */

/* Linear address of a flat memory operand; non-canonical ones go the general way, which faults. */
static inline int flat_operand(struct vcpu *v, const struct x86_insn *i, unsigned size,
			       unsigned acc, gva_t *lin)
{
	const uint64_t *gpr = v->s->gpr;
	uint64_t a = (uint64_t)i->disp;

	if (i->base != 0xff)
		a += gpr[i->base];
	else if (i->rip_rel)
		a += v->s->rip + i->len;
	if (i->index != 0xff)
		a += gpr[i->index] << i->scale;
	*lin = a;
	if (likely(x86_canonical(a) && x86_canonical(a + size - 1)))
		return 0;
	return interp_operand(v, i, size, acc, lin);
}

static inline int flat_load(struct vcpu *v, const struct x86_insn *i, unsigned size, uint64_t *val)
{
	gva_t lin;

	if (unlikely(flat_operand(v, i, size, X86_ACC_R, &lin)))
		return -1;
	return interp_load(v, lin, size, val);
}

/* ---- arithmetic ---- */

#define ARITH(nm, size, type, write)                                                               \
	HANDLER(nm##size##_rr)                                                                     \
	{                                                                                          \
		struct x86_state *s = v->s;                                                        \
		uint64_t r =                                                                       \
			alu_##nm##size(s->gpr[i->op[0].reg], s->gpr[i->op[1].reg], &s->rflags);    \
		if (write)                                                                         \
			s->gpr[i->op[0].reg] = (type)r;                                            \
		return 0;                                                                          \
	}                                                                                          \
	HANDLER(nm##size##_ri)                                                                     \
	{                                                                                          \
		struct x86_state *s = v->s;                                                        \
		uint64_t r = alu_##nm##size(s->gpr[i->op[0].reg], i->imm, &s->rflags);             \
		if (write)                                                                         \
			s->gpr[i->op[0].reg] = (type)r;                                            \
		return 0;                                                                          \
	}                                                                                          \
	HANDLER(nm##size##_rm)                                                                     \
	{                                                                                          \
		struct x86_state *s = v->s;                                                        \
		uint64_t b, r;                                                                     \
                                                                                                   \
		if (unlikely(flat_load(v, i, size, &b)))                                           \
			return -1;                                                                 \
		r = alu_##nm##size(s->gpr[i->op[0].reg], b, &s->rflags);                           \
		if (write)                                                                         \
			s->gpr[i->op[0].reg] = (type)r;                                            \
		return 0;                                                                          \
	}
#define ARITH2(nm, write) ARITH(nm, 4, uint32_t, write) ARITH(nm, 8, uint64_t, write)
ARITH2(add, true)
ARITH2(or, true)
ARITH2(adc, true)
ARITH2(sbb, true)
ARITH2(and, true)
ARITH2(sub, true)
ARITH2(xor, true)
ARITH2(cmp, false)
ARITH2(test, false)

/* CMP and TEST of memory with a register or an immediate. */
#define COMPARE(nm, size)                                                                          \
	HANDLER(nm##size##_mr)                                                                     \
	{                                                                                          \
		uint64_t a;                                                                        \
                                                                                                   \
		if (unlikely(flat_load(v, i, size, &a)))                                           \
			return -1;                                                                 \
		alu_##nm##size(a, v->s->gpr[i->op[1].reg], &v->s->rflags);                         \
		return 0;                                                                          \
	}                                                                                          \
	HANDLER(nm##size##_mi)                                                                     \
	{                                                                                          \
		uint64_t a;                                                                        \
                                                                                                   \
		if (unlikely(flat_load(v, i, size, &a)))                                           \
			return -1;                                                                 \
		alu_##nm##size(a, i->imm, &v->s->rflags);                                          \
		return 0;                                                                          \
	}
COMPARE(cmp, 4)
COMPARE(cmp, 8)
COMPARE(test, 4)
COMPARE(test, 8)

#define SHIFT(nm, size, type)                                                                      \
	HANDLER(nm##size##_ri)                                                                     \
	{                                                                                          \
		uint64_t *d = &v->s->gpr[i->op[0].reg];                                            \
                                                                                                   \
		*d = (type)alu_##nm##size(*d, i->imm, &v->s->rflags);                              \
		return 0;                                                                          \
	}
SHIFT(shl, 4, uint32_t)
SHIFT(shl, 8, uint64_t)
SHIFT(shr, 4, uint32_t)
SHIFT(shr, 8, uint64_t)
SHIFT(sar, 4, uint32_t)
SHIFT(sar, 8, uint64_t)

#define UNARY(nm, size, type)                                                                      \
	HANDLER(nm##size##_r)                                                                      \
	{                                                                                          \
		uint64_t *d = &v->s->gpr[i->op[0].reg];                                            \
                                                                                                   \
		*d = (type)alu_##nm##size(*d, 0, &v->s->rflags);                                   \
		return 0;                                                                          \
	}
UNARY(inc, 4, uint32_t)
UNARY(inc, 8, uint64_t)
UNARY(dec, 4, uint32_t)
UNARY(dec, 8, uint64_t)

/* ---- moves ---- */

HANDLER(mov4_rr)
{
	v->s->gpr[i->op[0].reg] = (uint32_t)v->s->gpr[i->op[1].reg];
	return 0;
}

HANDLER(mov8_rr)
{
	v->s->gpr[i->op[0].reg] = v->s->gpr[i->op[1].reg];
	return 0;
}

HANDLER(mov4_ri)
{
	v->s->gpr[i->op[0].reg] = (uint32_t)i->imm;
	return 0;
}

HANDLER(mov8_ri)
{
	v->s->gpr[i->op[0].reg] = i->imm;
	return 0;
}

/* MOV of 4 and 8 bytes, MOVZX of 1 and 2 into at least 4: the register is written whole. */
#define LOAD(size)                                                                                 \
	HANDLER(load##size)                                                                        \
	{                                                                                          \
		uint64_t val;                                                                      \
                                                                                                   \
		if (unlikely(flat_load(v, i, size, &val)))                                         \
			return -1;                                                                 \
		v->s->gpr[i->op[0].reg] = val;                                                     \
		return 0;                                                                          \
	}
LOAD(1)
LOAD(2)
LOAD(4)
LOAD(8)

#define STORE(size)                                                                                \
	HANDLER(store##size##_r)                                                                   \
	{                                                                                          \
		gva_t lin;                                                                         \
                                                                                                   \
		if (unlikely(flat_operand(v, i, size, X86_ACC_W, &lin)))                           \
			return -1;                                                                 \
		return interp_store(v, lin, size, v->s->gpr[i->op[1].reg]);                        \
	}                                                                                          \
	HANDLER(store##size##_i)                                                                   \
	{                                                                                          \
		gva_t lin;                                                                         \
                                                                                                   \
		if (unlikely(flat_operand(v, i, size, X86_ACC_W, &lin)))                           \
			return -1;                                                                 \
		return interp_store(v, lin, size, i->imm);                                         \
	}
STORE(1)
STORE(2)
STORE(4)
STORE(8)

HANDLER(movzx1_rr)
{
	v->s->gpr[i->op[0].reg] = (uint8_t)v->s->gpr[i->op[1].reg];
	return 0;
}

HANDLER(movzx2_rr)
{
	v->s->gpr[i->op[0].reg] = (uint16_t)v->s->gpr[i->op[1].reg];
	return 0;
}

static inline uint64_t flat_ea(const struct vcpu *v, const struct x86_insn *i)
{
	const uint64_t *gpr = v->s->gpr;
	uint64_t a = (uint64_t)i->disp;

	if (i->base != 0xff)
		a += gpr[i->base];
	else if (i->rip_rel)
		a += v->s->rip + i->len;
	if (i->index != 0xff)
		a += gpr[i->index] << i->scale;
	return a;
}

HANDLER(lea4)
{
	v->s->gpr[i->op[0].reg] = (uint32_t)flat_ea(v, i);
	return 0;
}

HANDLER(lea8)
{
	v->s->gpr[i->op[0].reg] = flat_ea(v, i);
	return 0;
}

/* ---- control flow and the stack ---- */

static inline int flat_branch(struct vcpu *v, uint64_t target)
{
	if (unlikely(!x86_canonical(target)))
		return interp_gp0(v);
	interp_of(v)->next_rip = target;
	return 0;
}

#define JCC(cc)                                                                                    \
	HANDLER(jcc##cc)                                                                           \
	{                                                                                          \
		if (!alu_cond(v->s->rflags, cc))                                                   \
			return 0;                                                                  \
		return flat_branch(v, v->s->rip + i->len + i->imm);                                \
	}
JCC(0)
JCC(1)
JCC(2)
JCC(3)
JCC(4)
JCC(5)
JCC(6)
JCC(7)
JCC(8)
JCC(9)
JCC(10)
JCC(11)
JCC(12)
JCC(13)
JCC(14)
JCC(15)

HANDLER(jmp)
{
	return flat_branch(v, v->s->rip + i->len + i->imm);
}

static inline int flat_push(struct vcpu *v, uint64_t val)
{
	uint64_t sp = v->s->gpr[X86_RSP] - 8;

	if (unlikely(!x86_canonical(sp) || !x86_canonical(sp + 7)))
		return interp_push(v, 8, val);
	if (unlikely(interp_store(v, sp, 8, val)))
		return -1;
	v->s->gpr[X86_RSP] = sp;
	return 0;
}

static inline int flat_pop(struct vcpu *v, uint64_t *val)
{
	uint64_t sp = v->s->gpr[X86_RSP];

	if (unlikely(!x86_canonical(sp) || !x86_canonical(sp + 7)))
		return interp_pop(v, 8, val);
	if (unlikely(interp_load(v, sp, 8, val)))
		return -1;
	v->s->gpr[X86_RSP] = sp + 8;
	return 0;
}

HANDLER(call)
{
	uint64_t back = v->s->rip + i->len;

	return flat_branch(v, back + i->imm) || flat_push(v, back) ? -1 : 0;
}

HANDLER(ret)
{
	uint64_t sp = v->s->gpr[X86_RSP], target;

	(void)i;
	if (unlikely(flat_pop(v, &target)))
		return -1;
	if (unlikely(flat_branch(v, target))) {
		v->s->gpr[X86_RSP] = sp;
		return -1;
	}
	return 0;
}

HANDLER(push)
{
	return flat_push(v, v->s->gpr[i->op[0].reg]);
}

HANDLER(pop)
{
	uint64_t val;

	if (unlikely(flat_pop(v, &val)))
		return -1;
	v->s->gpr[i->op[0].reg] = val;
	return 0;
}

/* ---- choice ---- */

enum { FORM_RR, FORM_RI, FORM_RM, FORM_MR, FORM_MI, FORM_COUNT };

#define ARITH_ROW(nm)                                                                              \
	{                                                                                          \
		{ fast_##nm##4_rr, fast_##nm##4_ri, fast_##nm##4_rm, NULL, NULL },                 \
		{                                                                                  \
			fast_##nm##8_rr, fast_##nm##8_ri, fast_##nm##8_rm, NULL, NULL              \
		}                                                                                  \
	}
#define COMPARE_ROW(nm)                                                                            \
	{                                                                                          \
		{ fast_##nm##4_rr, fast_##nm##4_ri, fast_##nm##4_rm, fast_##nm##4_mr,              \
		  fast_##nm##4_mi },                                                               \
		{                                                                                  \
			fast_##nm##8_rr, fast_##nm##8_ri, fast_##nm##8_rm, fast_##nm##8_mr,        \
				fast_##nm##8_mi                                                    \
		}                                                                                  \
	}
#define SHIFT_ROW(nm)                                                                              \
	{                                                                                          \
		{ NULL, fast_##nm##4_ri, NULL, NULL, NULL },                                       \
		{                                                                                  \
			NULL, fast_##nm##8_ri, NULL, NULL, NULL                                    \
		}                                                                                  \
	}

/* By operand size (4, 8) and form. */
static const struct {
	uint16_t id;
	interp_handler fn[2][FORM_COUNT];
} two_operand[] = {
	{ X86_ID_ADD, ARITH_ROW(add) },
	{ X86_ID_OR, ARITH_ROW(or) },
	{ X86_ID_ADC, ARITH_ROW(adc) },
	{ X86_ID_SBB, ARITH_ROW(sbb) },
	{ X86_ID_AND, ARITH_ROW(and) },
	{ X86_ID_SUB, ARITH_ROW(sub) },
	{ X86_ID_XOR, ARITH_ROW(xor) },
	{ X86_ID_CMP, COMPARE_ROW(cmp) },
	{ X86_ID_TEST, COMPARE_ROW(test) },
	{ X86_ID_SHL, SHIFT_ROW(shl) },
	{ X86_ID_SHR, SHIFT_ROW(shr) },
	{ X86_ID_SAR, SHIFT_ROW(sar) },
	{ X86_ID_MOV,
	  { { fast_mov4_rr, fast_mov4_ri, fast_load4, fast_store4_r, fast_store4_i },
	    { fast_mov8_rr, fast_mov8_ri, fast_load8, fast_store8_r, fast_store8_i } } },
};

static const interp_handler jcc[16] = { fast_jcc0,  fast_jcc1,	fast_jcc2,  fast_jcc3,
					fast_jcc4,  fast_jcc5,	fast_jcc6,  fast_jcc7,
					fast_jcc8,  fast_jcc9,	fast_jcc10, fast_jcc11,
					fast_jcc12, fast_jcc13, fast_jcc14, fast_jcc15 };

static int form_of(const struct x86_insn *i)
{
	unsigned d = i->op[0].kind, b = i->op[1].kind;

	if (d == OPK_GPR)
		return b == OPK_GPR   ? FORM_RR
		       : b == OPK_IMM ? FORM_RI
		       : b == OPK_MEM ? FORM_RM
				      : -1;
	if (d == OPK_MEM)
		return b == OPK_GPR ? FORM_MR : b == OPK_IMM ? FORM_MI : -1;
	return -1;
}

static bool is_shift(unsigned id)
{
	return id == X86_ID_SHL || id == X86_ID_SHR || id == X86_ID_SAR;
}

static interp_handler pick_two(const struct x86_insn *i, int form)
{
	unsigned size = i->op[0].size;

	if (is_shift(i->id) && (form != FORM_RI || !(i->imm & (size == 8 ? 63 : 31))))
		return NULL;
	for (unsigned k = 0; k < ARRAY_SIZE(two_operand); k++)
		if (two_operand[k].id == i->id)
			return two_operand[k].fn[size == 8][form];
	return NULL;
}

static interp_handler pick_small(const struct x86_insn *i, int form)
{
	unsigned size = i->op[0].size, from = i->op[1].size;

	if (i->id == X86_ID_MOVZX && size >= 4 && !i->op[1].high8) {
		if (form == FORM_RM)
			return from == 1 ? fast_load1 : fast_load2;
		if (form == FORM_RR)
			return from == 1 ? fast_movzx1_rr : fast_movzx2_rr;
	}
	if (i->id != X86_ID_MOV || size > 2 || i->op[1].high8)
		return NULL;
	if (form == FORM_MR)
		return size == 1 ? fast_store1_r : fast_store2_r;
	if (form == FORM_MI)
		return size == 1 ? fast_store1_i : fast_store2_i;
	return NULL;
}

static interp_handler pick_one(const struct x86_insn *i)
{
	const struct x86_operand *o = &i->op[0];

	if (o->kind != OPK_GPR)
		return NULL;
	switch (i->id) {
	case X86_ID_PUSH: return i->opsize == 8 ? fast_push : NULL;
	case X86_ID_POP: return i->opsize == 8 ? fast_pop : NULL;
	case X86_ID_INC: return o->size == 8 ? fast_inc8_r : o->size == 4 ? fast_inc4_r : NULL;
	case X86_ID_DEC: return o->size == 8 ? fast_dec8_r : o->size == 4 ? fast_dec4_r : NULL;
	default: return NULL;
	}
}

static interp_handler pick_branch(const struct x86_insn *i)
{
	if (i->opsize != 8)
		return NULL;
	if (i->id == X86_ID_RET)
		return i->opcode == 0xc3 ? fast_ret : NULL;
	if (i->op[0].kind != OPK_REL)
		return NULL;
	switch (i->id) {
	case X86_ID_JCC: return jcc[i->opcode & 15];
	case X86_ID_JMP: return fast_jmp;
	case X86_ID_CALL: return fast_call;
	default: return NULL;
	}
}

interp_handler interp_int_fast(const struct x86_insn *i)
{
	unsigned size = i->op[0].size;
	int form;

	if (i->mode != X86_MODE_64 || i->lock || (i->attr & (IA_FAR | IA_STRING)))
		return NULL;
	if (i->has_mem && (i->addrsize != 8 || i->seg >= X86_FS))
		return NULL;
	if (i->attr & IA_BRANCH)
		return pick_branch(i);
	if (i->id == X86_ID_LEA)
		return size == 8 ? fast_lea8 : size == 4 ? fast_lea4 : NULL;
	if (i->nop == 1)
		return pick_one(i);
	form = form_of(i);
	if (i->nop != 2 || form < 0)
		return NULL;
	if ((size == 4 || size == 8) && i->op[1].size <= size && i->id != X86_ID_MOVZX)
		return pick_two(i, form);
	return pick_small(i, form);
}
