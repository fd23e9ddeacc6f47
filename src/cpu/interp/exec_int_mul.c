/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Multiplication, division and decimal adjustment. SDM vol. 2. Division errors are found by
 * comparing, never by a host fault. The vCPU's own thread.
 */
#include "cpu/interp/alu.h"
#include "cpu/interp/exec_int.h"

#define HANDLER(name) int int_exec_##name(struct vcpu *v, const struct x86_insn *i)

/* ---- multiplication ---- */

/* lo:hi = lo * src by the host's one-operand form. */
#define MUL_SIZE(insn, type, suf, areg)                                                            \
	static void insn##_##suf(uint64_t *lo, uint64_t *hi, uint64_t src, uint64_t *fl)           \
	{                                                                                          \
		type l = (type)*lo, h = 0, b = (type)src;                                          \
		uint64_t ax = alu_ax(*fl);                                                         \
                                                                                                   \
		__asm__("addb $0x7f, %%al\n\tsahf\n\tmov %[l], %%" areg "\n\t" #insn               \
			" %[s]\n\tmov %%" areg ", %[l]\n\tlahf\n\tseto %%al"                       \
			: [l] "+&r"(l), "=&d"(h), "+&a"(ax)                                        \
			: [s] "r"(b)                                                               \
			: "cc");                                                                   \
		*lo = l;                                                                           \
		*hi = h;                                                                           \
		*fl = alu_merge(*fl, (uint16_t)ax, X86_FL_ARITH);                                  \
	}
MUL_SIZE(mul, uint16_t, 2, "ax")
MUL_SIZE(mul, uint32_t, 4, "eax")
MUL_SIZE(mul, uint64_t, 8, "rax")
MUL_SIZE(imul, uint16_t, 2, "ax")
MUL_SIZE(imul, uint32_t, 4, "eax")
MUL_SIZE(imul, uint64_t, 8, "rax")

/* Byte form: the product is AX itself. */
#define MUL_BYTE(insn)                                                                             \
	static uint16_t insn##_1(uint8_t a, uint8_t b, uint64_t *fl)                               \
	{                                                                                          \
		uint16_t ax = alu_ax(*fl), r = a;                                                  \
                                                                                                   \
		__asm__("addb $0x7f, %%al\n\tsahf\n\tmovb %b[r], %%al\n\t" #insn                   \
			" %[s]\n\tmovw %%ax, %[r]\n\tlahf\n\tseto %%al"                            \
			: [r] "+&Q"(r), "+&a"(ax)                                                  \
			: [s] "q"(b)                                                               \
			: "cc");                                                                   \
		*fl = alu_merge(*fl, ax, X86_FL_ARITH);                                            \
		return r;                                                                          \
	}
MUL_BYTE(mul)
MUL_BYTE(imul)

static void mul_done(struct x86_state *s, unsigned size, uint64_t lo, uint64_t hi)
{
	interp_set_gpr(s, X86_RAX, false, size, lo);
	interp_set_gpr(s, X86_RDX, false, size, hi);
}

#define MUL_HANDLER(name, insn)                                                                    \
	static int name(struct vcpu *v, const struct x86_insn *i)                                  \
	{                                                                                          \
		struct x86_state *s = v->s;                                                        \
		unsigned size = i->op[0].size;                                                     \
		uint64_t b, lo = s->gpr[X86_RAX], hi = 0;                                          \
                                                                                                   \
		if (int_read(v, i, 0, &b))                                                         \
			return -1;                                                                 \
		if (size == 1) {                                                                   \
			lo = insn##_1((uint8_t)lo, (uint8_t)b, &s->rflags);                        \
			interp_set_gpr(s, X86_RAX, false, 2, lo);                                  \
			return 0;                                                                  \
		}                                                                                  \
		if (size == 2)                                                                     \
			insn##_2(&lo, &hi, b, &s->rflags);                                         \
		else if (size == 4)                                                                \
			insn##_4(&lo, &hi, b, &s->rflags);                                         \
		else                                                                               \
			insn##_8(&lo, &hi, b, &s->rflags);                                         \
		mul_done(s, size, lo, hi);                                                         \
		return 0;                                                                          \
	}
MUL_HANDLER(mul_wide, mul)
MUL_HANDLER(imul_wide, imul)

HANDLER(mul)
{
	return mul_wide(v, i);
}

HANDLER(imul)
{
	struct x86_state *s = v->s;
	unsigned size = i->op[0].size;
	uint64_t a, b;

	if (i->map == 0 && (i->opcode & 0xfe) == 0xf6)
		return imul_wide(v, i);
	if (int_read(v, i, 1, &b))
		return -1;
	a = i->map == 0 ? i->imm : s->gpr[i->op[0].reg];
	if (size == 2)
		a = alu_imul2(a, b, &s->rflags);
	else if (size == 4)
		a = alu_imul4(a, b, &s->rflags);
	else
		a = alu_imul8(a, b, &s->rflags);
	interp_set_gpr(s, i->op[0].reg, false, size, a);
	return 0;
}

HANDLER(mulx)
{
	struct x86_state *s = v->s;
	unsigned __int128 p;
	uint64_t b;

	if (int_read(v, i, 2, &b))
		return -1;
	if (i->op[0].size == 4) {
		uint64_t q = (uint64_t)(uint32_t)b * (uint32_t)s->gpr[X86_RDX];

		s->gpr[i->op[1].reg] = (uint32_t)q;
		s->gpr[i->op[0].reg] = q >> 32; /* the high half wins when both are one register */
		return 0;
	}
	p = (unsigned __int128)b * s->gpr[X86_RDX];
	s->gpr[i->op[1].reg] = (uint64_t)p;
	s->gpr[i->op[0].reg] = (uint64_t)(p >> 64);
	return 0;
}

/* ---- division ---- */

static int divide_error(struct vcpu *v)
{
	return interp_fault(v, X86_EX_DE, false, 0);
}

/* The host's own division of hi:lo by b, known not to fault; flags as it leaves them. */
#define DIV_SIZE(insn, type, suf, areg)                                                            \
	static void insn##_##suf(uint64_t *lo, uint64_t *hi, uint64_t src, uint64_t *fl)           \
	{                                                                                          \
		type l = (type)*lo, h = (type)*hi, b = (type)src;                                  \
		uint64_t ax = alu_ax(*fl);                                                         \
                                                                                                   \
		__asm__("addb $0x7f, %%al\n\tsahf\n\tmov %[l], %%" areg "\n\t" #insn               \
			" %[s]\n\tmov %%" areg ", %[l]\n\tlahf\n\tseto %%al"                       \
			: [l] "+&r"(l), "+&d"(h), "+&a"(ax)                                        \
			: [s] "r"(b)                                                               \
			: "cc");                                                                   \
		*lo = l;                                                                           \
		*hi = h;                                                                           \
		*fl = alu_merge(*fl, (uint16_t)ax, X86_FL_ARITH);                                  \
	}
DIV_SIZE(div, uint16_t, 2, "ax")
DIV_SIZE(div, uint32_t, 4, "eax")
DIV_SIZE(div, uint64_t, 8, "rax")
DIV_SIZE(idiv, uint16_t, 2, "ax")
DIV_SIZE(idiv, uint32_t, 4, "eax")
DIV_SIZE(idiv, uint64_t, 8, "rax")

/* AX by a byte: quotient in AL, remainder in AH. The result is AX. */
#define DIV_BYTE(insn)                                                                             \
	static uint16_t insn##_1(uint16_t a, uint8_t b, uint64_t *fl)                              \
	{                                                                                          \
		uint16_t ax = alu_ax(*fl);                                                         \
                                                                                                   \
		__asm__("addb $0x7f, %%al\n\tsahf\n\tmovw %[r], %%ax\n\t" #insn                    \
			" %[s]\n\tmovw %%ax, %[r]\n\tlahf\n\tseto %%al"                            \
			: [r] "+&r"(a), "+&a"(ax)                                                  \
			: [s] "q"(b)                                                               \
			: "cc");                                                                   \
		*fl = alu_merge(*fl, ax, X86_FL_ARITH);                                            \
		return a;                                                                          \
	}
DIV_BYTE(div)
DIV_BYTE(idiv)

/* Does hi:lo / b (signed, `size` bytes each) not fit? b is not zero. */
static bool idiv_overflows(uint64_t lo, uint64_t hi, uint64_t b, unsigned size)
{
	unsigned bits = size * 8, shift = 64 - bits;
	int64_t d = (int64_t)(b << shift) >> shift;
	__int128 n = (__int128)(((unsigned __int128)hi << 64) | lo), q;

	if (size < 8)
		n = (int64_t)((hi << bits | lo) << (64 - 2 * bits)) >> (64 - 2 * bits);
	if (size == 8 && (int64_t)hi == (int64_t)lo >> 63)
		return d == -1 && (int64_t)lo == INT64_MIN;
	if (size == 8 && d == -1) /* the quotient is -n, and n has more than 64 bits */
		return n != (__int128)INT64_MAX + 1;
	q = n / d;
	return q < -((__int128)1 << (bits - 1)) || q >= ((__int128)1 << (bits - 1));
}

static int div_byte(struct vcpu *v, uint8_t b, bool sign)
{
	struct x86_state *s = v->s;
	uint16_t a = (uint16_t)s->gpr[X86_RAX];

	if (!b || (sign ? idiv_overflows(a & 0xff, a >> 8, b, 1) : (a >> 8) >= b))
		return divide_error(v);
	a = sign ? idiv_1(a, b, &s->rflags) : div_1(a, b, &s->rflags);
	interp_set_gpr(s, X86_RAX, false, 2, a);
	return 0;
}

HANDLER(div)
{
	struct x86_state *s = v->s;
	unsigned size = i->op[0].size;
	uint64_t b, lo = s->gpr[X86_RAX] & int_mask(size), hi = s->gpr[X86_RDX] & int_mask(size);

	if (int_read(v, i, 0, &b))
		return -1;
	if (size == 1)
		return div_byte(v, (uint8_t)b, false);
	if (hi >= b)
		return divide_error(v);
	if (size == 2)
		div_2(&lo, &hi, b, &s->rflags);
	else if (size == 4)
		div_4(&lo, &hi, b, &s->rflags);
	else
		div_8(&lo, &hi, b, &s->rflags);
	mul_done(s, size, lo, hi);
	return 0;
}

HANDLER(idiv)
{
	struct x86_state *s = v->s;
	unsigned size = i->op[0].size;
	uint64_t b, lo = s->gpr[X86_RAX] & int_mask(size), hi = s->gpr[X86_RDX] & int_mask(size);

	if (int_read(v, i, 0, &b))
		return -1;
	if (size == 1)
		return div_byte(v, (uint8_t)b, true);
	if (!b || idiv_overflows(lo, hi, b, size))
		return divide_error(v);
	if (size == 2)
		idiv_2(&lo, &hi, b, &s->rflags);
	else if (size == 4)
		idiv_4(&lo, &hi, b, &s->rflags);
	else
		idiv_8(&lo, &hi, b, &s->rflags);
	mul_done(s, size, lo, hi);
	return 0;
}

/* ---- decimal adjustment (SDM vol. 2, pseudo-code of each) ---- */

/* SF, ZF and PF of a byte. */
static uint64_t szp(uint8_t a)
{
	return (a & 0x80 ? X86_FL_SF : 0) | (a ? 0 : X86_FL_ZF) |
	       (__builtin_parity(a) ? 0 : X86_FL_PF);
}

static void set_ax(struct x86_state *s, unsigned ax)
{
	interp_set_gpr(s, X86_RAX, false, 2, ax);
}

static void set_flags(struct x86_state *s, uint64_t fl)
{
	s->rflags = (s->rflags & ~X86_FL_ARITH) | fl;
}

/* AAA and AAS: step is 0x106 or -0x106 (AL by 6, AH by 1, carried through AX). */
static int ascii_adjust(struct x86_state *s, unsigned step)
{
	unsigned ax = s->gpr[X86_RAX] & 0xffff;
	uint64_t fl = 0;

	if ((ax & 15) > 9 || (s->rflags & X86_FL_AF)) {
		ax += step;
		fl = X86_FL_AF | X86_FL_CF;
	}
	ax &= 0xff0f;
	set_ax(s, ax);
	set_flags(s, fl | szp((uint8_t)ax));
	return 0;
}

HANDLER(aaa)
{
	(void)i;
	return ascii_adjust(v->s, 0x106);
}

HANDLER(aas)
{
	(void)i;
	return ascii_adjust(v->s, 0u - 0x106);
}

HANDLER(aam)
{
	unsigned al = v->s->gpr[X86_RAX] & 0xff, base = (uint8_t)i->imm;

	if (!base)
		return divide_error(v);
	set_ax(v->s, (al / base) << 8 | al % base);
	set_flags(v->s, szp((uint8_t)(al % base)));
	return 0;
}

HANDLER(aad)
{
	unsigned ax = v->s->gpr[X86_RAX] & 0xffff;
	uint8_t al = (uint8_t)((ax & 0xff) + (ax >> 8) * (uint8_t)i->imm);

	set_ax(v->s, al);
	set_flags(v->s, szp(al));
	return 0;
}

/* DAA (sign +1) and DAS (sign -1). */
static int decimal_adjust(struct x86_state *s, int sign)
{
	uint8_t old = (uint8_t)s->gpr[X86_RAX], al = old;
	bool cf = s->rflags & X86_FL_CF;
	uint64_t fl = 0;

	if ((al & 15) > 9 || (s->rflags & X86_FL_AF)) {
		if (cf || (sign < 0 && old < 6) || (sign > 0 && old > 0xf9))
			fl |= X86_FL_CF;
		al = (uint8_t)(al + sign * 6);
		fl |= X86_FL_AF;
	}
	if (old > 0x99 || cf) {
		al = (uint8_t)(al + sign * 0x60);
		fl |= X86_FL_CF;
	} else if (sign > 0) {
		fl &= ~X86_FL_CF;
	}
	interp_set_gpr(s, X86_RAX, false, 1, al);
	set_flags(s, fl | szp(al));
	return 0;
}

HANDLER(daa)
{
	(void)i;
	return decimal_adjust(v->s, 1);
}

HANDLER(das)
{
	(void)i;
	return decimal_adjust(v->s, -1);
}
