/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shifts, rotates, bit tests and scans, BMI, CRC32, ADX. SDM vol. 2. The vCPU's own thread.
 */
#include "cpu/interp/alu.h"
#include "cpu/interp/exec_int.h"

#define HANDLER(name) int int_exec_##name(struct vcpu *v, const struct x86_insn *i)

/* ---- shifts ---- */

static inline __attribute__((always_inline)) int shift(struct vcpu *v, const struct x86_insn *i,
						       unsigned size, int_op op)
{
	const struct x86_operand *d = &i->op[0];
	uint64_t c = i->op[1].kind == OPK_IMM ? i->imm : v->s->gpr[X86_RCX], a;
	gva_t lin;

	c &= size == 8 ? 63 : 31;
	if (d->kind == OPK_GPR) {
		a = interp_get_gpr(v->s, d->reg, d->high8, size);
		if (c)
			a = op(a, c, &v->s->rflags);
		if (c || size == 4) /* count 0 still zero-extends */
			interp_set_gpr(v->s, d->reg, d->high8, size, a);
		return 0;
	}
	if (interp_operand(v, i, size, X86_ACC_W, &lin))
		return -1;
	if (!c) /* the access is made, nothing changes */
		return interp_lin_read(v, lin, &a, size, X86_ACC_W);
	return int_rmw(v, lin, size, false, op, c, &a);
}

#define SHIFT(name)                                                                                \
	HANDLER(name)                                                                              \
	{                                                                                          \
		switch (i->op[0].size) {                                                           \
		case 1: return shift(v, i, 1, alu_##name##1);                                      \
		case 2: return shift(v, i, 2, alu_##name##2);                                      \
		case 4: return shift(v, i, 4, alu_##name##4);                                      \
		default: return shift(v, i, 8, alu_##name##8);                                     \
		}                                                                                  \
	}
SHIFT(rol)
SHIFT(ror)
SHIFT(rcl)
SHIFT(rcr)
SHIFT(shl)
SHIFT(shr)
SHIFT(sar)

typedef uint64_t (*dshift_op)(uint64_t a, uint64_t b, uint8_t c, uint64_t *fl);

static inline __attribute__((always_inline)) int dshift(struct vcpu *v, const struct x86_insn *i,
							unsigned size, dshift_op op)
{
	const struct x86_operand *d = &i->op[0];
	uint64_t c = i->op[2].kind == OPK_IMM ? i->imm : v->s->gpr[X86_RCX], a = 0, fl;
	uint64_t b = interp_get_gpr(v->s, i->op[1].reg, false, size);
	gva_t lin;

	c &= size == 8 ? 63 : 31;
	if (d->kind == OPK_GPR) {
		a = interp_get_gpr(v->s, d->reg, false, size);
		if (c)
			a = op(a, b, (uint8_t)c, &v->s->rflags);
		interp_set_gpr(v->s, d->reg, false, size, a);
		return 0;
	}
	if (interp_operand(v, i, size, X86_ACC_W, &lin) ||
	    interp_lin_read(v, lin, &a, size, X86_ACC_W))
		return -1;
	if (!c)
		return 0;
	fl = v->s->rflags;
	a = op(a, b, (uint8_t)c, &fl);
	if (interp_lin_write(v, lin, &a, size, X86_ACC_W))
		return -1;
	v->s->rflags = fl;
	return 0;
}

#define DSHIFT(name)                                                                               \
	HANDLER(name)                                                                              \
	{                                                                                          \
		switch (i->op[0].size) {                                                           \
		case 2: return dshift(v, i, 2, alu_##name##2);                                     \
		case 4: return dshift(v, i, 4, alu_##name##4);                                     \
		default: return dshift(v, i, 8, alu_##name##8);                                    \
		}                                                                                  \
	}
DSHIFT(shld)
DSHIFT(shrd)

/* ---- bit tests ---- */

/* Linear address of the operand-sized unit that holds bit `off` of the bit string at the operand. */
static int bit_unit(struct vcpu *v, const struct x86_insn *i, unsigned size, uint64_t off,
		    unsigned acc, gva_t *lin)
{
	unsigned shift = 64 - size * 8, log2 = size == 8 ? 6 : size == 4 ? 5 : 4;
	int64_t unit;
	uint64_t ea;

	if (i->op[1].kind == OPK_IMM)
		return interp_operand(v, i, size, acc, lin);
	unit = ((int64_t)(off << shift) >> shift) >> log2;
	ea = x86_ea(i, v->s->gpr, interp_of(v)->next_rip) + (uint64_t)unit * size;
	return interp_linear(v, i->seg, ea & int_mask(i->addrsize), size, acc, lin);
}

static inline __attribute__((always_inline)) int bit_op(struct vcpu *v, const struct x86_insn *i,
							unsigned size, int_op op, bool write)
{
	const struct x86_operand *d = &i->op[0];
	uint64_t off = i->op[1].kind == OPK_IMM ? i->imm : v->s->gpr[i->op[1].reg], a;
	gva_t lin;

	if (d->kind == OPK_GPR) {
		a = op(v->s->gpr[d->reg], off & (size * 8 - 1), &v->s->rflags);
		if (write)
			interp_set_gpr(v->s, d->reg, false, size, a);
		return 0;
	}
	if (bit_unit(v, i, size, off, write ? X86_ACC_W : X86_ACC_R, &lin))
		return -1;
	off &= size * 8 - 1;
	if (write)
		return int_rmw(v, lin, size, i->lock, op, off, &a);
	if (interp_load(v, lin, size, &a))
		return -1;
	op(a, off, &v->s->rflags);
	return 0;
}

#define BITOP(name, write)                                                                         \
	HANDLER(name)                                                                              \
	{                                                                                          \
		switch (i->op[0].size) {                                                           \
		case 2: return bit_op(v, i, 2, alu_##name##2, write);                              \
		case 4: return bit_op(v, i, 4, alu_##name##4, write);                              \
		default: return bit_op(v, i, 8, alu_##name##8, write);                             \
		}                                                                                  \
	}
BITOP(bt, false)
BITOP(bts, true)
BITOP(btr, true)
BITOP(btc, true)

/* ---- scans and counts ---- */

#define SCAN(name)                                                                                 \
	HANDLER(name)                                                                              \
	{                                                                                          \
		uint64_t *d = &v->s->gpr[i->op[0].reg], b;                                         \
                                                                                                   \
		if (int_read(v, i, 1, &b))                                                         \
			return -1;                                                                 \
		if (i->op[0].size == 2)                                                            \
			b = alu_##name##2(*d, b, &v->s->rflags);                                   \
		else if (i->op[0].size == 4)                                                       \
			b = alu_##name##4(*d, b, &v->s->rflags);                                   \
		else                                                                               \
			b = alu_##name##8(*d, b, &v->s->rflags);                                   \
		interp_set_gpr(v->s, i->op[0].reg, false, i->op[0].size, b);                       \
		return 0;                                                                          \
	}
SCAN(tzcnt)
SCAN(lzcnt)
SCAN(popcnt)

/* BSF and BSR of 0 leave the destination as it was, upper half included, as processors do. */
#define SCAN0(name)                                                                                \
	HANDLER(name)                                                                              \
	{                                                                                          \
		uint64_t *d = &v->s->gpr[i->op[0].reg], b, r;                                      \
                                                                                                   \
		if (int_read(v, i, 1, &b))                                                         \
			return -1;                                                                 \
		if (i->op[0].size == 2)                                                            \
			r = alu_##name##2(*d, b, &v->s->rflags);                                   \
		else if (i->op[0].size == 4)                                                       \
			r = alu_##name##4(*d, b, &v->s->rflags);                                   \
		else                                                                               \
			r = alu_##name##8(*d, b, &v->s->rflags);                                   \
		if (b)                                                                             \
			interp_set_gpr(v->s, i->op[0].reg, false, i->op[0].size, r);               \
		return 0;                                                                          \
	}
SCAN0(bsf)
SCAN0(bsr)

/* ---- VEX ---- */

#define VEX3(name)                                                                                 \
	HANDLER(name)                                                                              \
	{                                                                                          \
		uint64_t a, b;                                                                     \
                                                                                                   \
		if (int_read(v, i, 1, &a) || int_read(v, i, 2, &b))                                \
			return -1;                                                                 \
		v->s->gpr[i->op[0].reg] = i->op[0].size == 8 ? alu_##name##8(a, b, &v->s->rflags)  \
							     : alu_##name##4(a, b, &v->s->rflags); \
		return 0;                                                                          \
	}
VEX3(andn)
VEX3(bextr)
VEX3(bzhi)
VEX3(pext)
VEX3(pdep)
VEX3(shlx)
VEX3(shrx)
VEX3(sarx)

#define VEX2(name)                                                                                 \
	HANDLER(name)                                                                              \
	{                                                                                          \
		uint64_t b;                                                                        \
                                                                                                   \
		if (int_read(v, i, 1, &b))                                                         \
			return -1;                                                                 \
		v->s->gpr[i->op[0].reg] = i->op[0].size == 8 ? alu_##name##8(0, b, &v->s->rflags)  \
							     : alu_##name##4(0, b, &v->s->rflags); \
		return 0;                                                                          \
	}
VEX2(blsr)
VEX2(blsmsk)
VEX2(blsi)

HANDLER(rorx)
{
	unsigned bits = i->op[0].size * 8u, c = (unsigned)i->imm & (bits - 1);
	uint64_t a;

	if (int_read(v, i, 1, &a))
		return -1;
	if (c)
		a = a >> c | a << (bits - c);
	interp_set_gpr(v->s, i->op[0].reg, false, i->op[0].size, a);
	return 0;
}

#define ADX(name)                                                                                  \
	HANDLER(name)                                                                              \
	{                                                                                          \
		uint64_t *d = &v->s->gpr[i->op[0].reg], b;                                         \
                                                                                                   \
		if (int_read(v, i, 1, &b))                                                         \
			return -1;                                                                 \
		*d = i->op[0].size == 8 ? alu_##name##8(*d, b, &v->s->rflags)                      \
					: alu_##name##4(*d, b, &v->s->rflags);                     \
		return 0;                                                                          \
	}
ADX(adcx)
ADX(adox)

HANDLER(crc32)
{
	uint64_t b, crc = v->s->gpr[i->op[0].reg];
	uint32_t crc32 = (uint32_t)crc;

	if (int_read(v, i, 1, &b))
		return -1;
	switch (i->op[1].size) {
	case 1: __asm__("crc32b %b1, %0" : "+r"(crc32) : "q"(b)); break;
	case 2: __asm__("crc32w %w1, %0" : "+r"(crc32) : "r"(b)); break;
	case 4: __asm__("crc32l %k1, %0" : "+r"(crc32) : "r"(b)); break;
	default: __asm__("crc32q %1, %0" : "+r"(crc) : "r"(b)); crc32 = (uint32_t)crc;
	}
	v->s->gpr[i->op[0].reg] = crc32;
	return 0;
}
