/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Integer instructions: moves, two-operand arithmetic, flags, and the table of all integer rows.
 * SDM vol. 2. The vCPU's own thread.
 */
#include "cpu/interp/alu.h"
#include "cpu/interp/exec_int.h"

#define HANDLER(name) static int exec_##name(struct vcpu *v, const struct x86_insn *i)

/* ---- arithmetic ---- */

#define BINARY(name, fn, write)                                                                    \
	HANDLER(name)                                                                              \
	{                                                                                          \
		switch (i->op[0].size) {                                                           \
		case 1: return int_binary(v, i, 1, alu_##fn##1, write);                            \
		case 2: return int_binary(v, i, 2, alu_##fn##2, write);                            \
		case 4: return int_binary(v, i, 4, alu_##fn##4, write);                            \
		default: return int_binary(v, i, 8, alu_##fn##8, write);                           \
		}                                                                                  \
	}
BINARY(add, add, true)
BINARY(or, or, true)
BINARY(adc, adc, true)
BINARY(sbb, sbb, true)
BINARY(and, and, true)
BINARY(sub, sub, true)
BINARY(xor, xor, true)
BINARY(cmp, cmp, false)
BINARY(test, test, false)
BINARY(inc, inc, true)
BINARY(dec, dec, true)
BINARY(neg, neg, true)

HANDLER(not )
{
	return int_binary(v, i, i->op[0].size, alu_not, true);
}

/* ---- moves ---- */

/* MOV, MOVZX, MOVNTI: sources are zero-extended, immediates come extended. */
HANDLER(mov)
{
	uint64_t val;

	if (int_read(v, i, 1, &val))
		return -1;
	return int_write(v, i, 0, val);
}

HANDLER(movsx)
{
	unsigned shift = 64 - i->op[1].size * 8u;
	uint64_t val;

	if (int_read(v, i, 1, &val))
		return -1;
	return int_write(v, i, 0, (uint64_t)((int64_t)(val << shift) >> shift));
}

HANDLER(movbe)
{
	unsigned size = i->op[1].size;
	uint64_t val;

	if (int_read(v, i, 1, &val))
		return -1;
	return int_write(v, i, 0, __builtin_bswap64(val) >> (64 - size * 8));
}

HANDLER(lea)
{
	interp_set_gpr(v->s, i->op[0].reg, false, i->op[0].size,
		       x86_ea(i, v->s->gpr, interp_of(v)->next_rip));
	return 0;
}

HANDLER(cmovcc)
{
	uint64_t val;

	if (int_read(v, i, 1, &val))
		return -1;
	if (!alu_cond(v->s->rflags, i->opcode & 15))
		val = v->s->gpr[i->op[0].reg]; /* a 32-bit destination is zero-extended all the same */
	interp_set_gpr(v->s, i->op[0].reg, false, i->op[0].size, val);
	return 0;
}

HANDLER(setcc)
{
	return int_write(v, i, 0, alu_cond(v->s->rflags, i->opcode & 15));
}

HANDLER(cbw)
{
	struct x86_state *s = v->s;
	unsigned size = i->opsize, shift = 64 - size * 4;

	interp_set_gpr(s, X86_RAX, false, size,
		       (uint64_t)((int64_t)(s->gpr[X86_RAX] << shift) >> shift));
	return 0;
}

HANDLER(cwd)
{
	struct x86_state *s = v->s;
	unsigned size = i->opsize;
	bool neg = (s->gpr[X86_RAX] >> (size * 8 - 1)) & 1;

	interp_set_gpr(s, X86_RDX, false, size, neg ? ~0ull : 0);
	return 0;
}

HANDLER(bswap)
{
	struct x86_state *s = v->s;
	uint64_t val = s->gpr[i->op[0].reg];

	if (i->op[0].size == 8)
		val = __builtin_bswap64(val);
	else if (i->op[0].size == 4)
		val = __builtin_bswap32((uint32_t)val);
	else
		val = 0; /* undefined; what processors do */
	interp_set_gpr(s, i->op[0].reg, false, i->op[0].size, val);
	return 0;
}

HANDLER(xlat)
{
	struct x86_state *s = v->s;
	uint64_t off = s->gpr[X86_RBX] + (s->gpr[X86_RAX] & 0xff), val;
	gva_t lin;

	if (interp_linear(v, i->seg, off & int_mask(i->addrsize), 1, X86_ACC_R, &lin) ||
	    interp_load(v, lin, 1, &val))
		return -1;
	interp_set_gpr(s, X86_RAX, false, 1, val);
	return 0;
}

/* ---- flags ---- */

#define SAHF_BITS (X86_FL_SF | X86_FL_ZF | X86_FL_AF | X86_FL_PF | X86_FL_CF)

HANDLER(lahf)
{
	(void)i;
	interp_set_gpr(v->s, X86_RAX, true, 1, (v->s->rflags & SAHF_BITS) | X86_FL_R1);
	return 0;
}

HANDLER(sahf)
{
	(void)i;
	v->s->rflags = (v->s->rflags & ~SAHF_BITS) | ((v->s->gpr[X86_RAX] >> 8) & SAHF_BITS);
	return 0;
}

#define SET_FLAG(name, expr)                                                                       \
	HANDLER(name)                                                                              \
	{                                                                                          \
		(void)i;                                                                           \
		v->s->rflags = v->s->rflags expr;                                                  \
		return 0;                                                                          \
	}
SET_FLAG(clc, &~X86_FL_CF)
SET_FLAG(stc, | X86_FL_CF)
SET_FLAG(cmc, ^X86_FL_CF)
SET_FLAG(cld, &~X86_FL_DF)
SET_FLAG(std, | X86_FL_DF)

HANDLER(salc)
{
	(void)i;
	interp_set_gpr(v->s, X86_RAX, false, 1, v->s->rflags & X86_FL_CF ? 0xff : 0);
	return 0;
}

/* ---- odds and ends ---- */

HANDLER(nop)
{
	(void)v;
	(void)i;
	return 0;
}

HANDLER(ud)
{
	(void)i;
	return interp_ud(v);
}

HANDLER(mfence)
{
	(void)v;
	(void)i;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return 0;
}

/* Caches are the host's; only the address is checked, as a load's would be. */
HANDLER(clflush)
{
	uint8_t byte;
	gva_t lin;

	if (interp_operand(v, i, 1, X86_ACC_R, &lin))
		return -1;
	return interp_lin_read(v, lin, &byte, 1, X86_ACC_R);
}

HANDLER(bound)
{
	unsigned size = i->opsize, shift = 64 - size * 8;
	int64_t index = (int64_t)(v->s->gpr[i->op[0].reg] << shift) >> shift;
	uint64_t lo, hi;
	gva_t lin;

	if (interp_operand(v, i, size * 2, X86_ACC_R, &lin) || interp_load(v, lin, size, &lo) ||
	    interp_load(v, (uint32_t)(lin + size), size, &hi))
		return -1;
	if (index < (int64_t)(lo << shift) >> shift || index > (int64_t)(hi << shift) >> shift)
		return interp_fault(v, X86_EX_BR, false, 0);
	return 0;
}

static int random_done(struct vcpu *v, const struct x86_insn *i, uint64_t val, bool ok)
{
	interp_set_gpr(v->s, i->op[0].reg, false, i->op[0].size, ok ? val : 0);
	v->s->rflags = (v->s->rflags & ~X86_FL_ARITH) | (ok ? X86_FL_CF : 0);
	return 0;
}

HANDLER(rdrand)
{
	uint64_t val;
	bool ok;

	if (unlikely(v->hooks.random != NULL))
		return random_done(v, i, v->hooks.random(v), true);
	__asm__ volatile("rdrand %0" : "=r"(val), "=@ccc"(ok));
	return random_done(v, i, val, ok);
}

HANDLER(rdseed)
{
	uint64_t val;
	bool ok;

	if (unlikely(v->hooks.random != NULL))
		return random_done(v, i, v->hooks.random(v), true);
	__asm__ volatile("rdseed %0" : "=r"(val), "=@ccc"(ok));
	return random_done(v, i, val, ok);
}

#define ROW(id, fn) { X86_ID_##id, exec_##fn },
#define ROWX(id, fn) { X86_ID_##id, int_exec_##fn },

const struct interp_row interp_int_rows[] = {
	ROW(ADD, add) ROW(OR, or) ROW(ADC, adc) ROW(SBB, sbb) ROW(AND, and) ROW(SUB, sub) ROW(
		XOR, xor) ROW(CMP, cmp) ROW(TEST, test) ROW(INC, inc) ROW(DEC, dec) ROW(NEG, neg)
		ROW(NOT, not ) ROW(MOV, mov) ROW(MOVZX, mov) ROW(MOVNTI, mov) ROW(MOVSX, movsx) ROW(
			MOVSXD, movsx) ROW(MOVBE, movbe) ROW(LEA, lea) ROW(CMOVCC, cmovcc)
			ROW(SETCC, setcc) ROW(CBW, cbw) ROW(CWD, cwd) ROW(BSWAP, bswap) ROW(
				XLAT, xlat) ROW(LAHF, lahf) ROW(SAHF, sahf) ROW(CLC, clc) ROW(STC,
											      stc)
				ROW(CMC, cmc) ROW(CLD, cld) ROW(STD, std) ROW(SALC, salc) ROW(
					NOP, nop) ROW(PAUSE, nop) ROW(PREFETCH, nop)
					ROW(PREFETCHW, nop) ROW(PREFETCHWT1, nop) ROW(
						PREFETCHNTA, nop) ROW(PREFETCHT0, nop)
						ROW(PREFETCHT1, nop) ROW(PREFETCHT2, nop) ROW(
							LFENCE, nop) ROW(MFENCE, mfence)
							ROW(SFENCE, nop) ROW(CLFLUSH, clflush) ROW(
								CLFLUSHOPT, clflush) ROW(CLWB,
											 clflush)
								ROW(UD0, ud) ROW(UD1, ud) ROW(
									UD2, ud) ROW(BOUND, bound)
									ROW(RDRAND, rdrand)
										ROW(RDSEED, rdseed)
	/* exec_int_bits.c */
	ROWX(ROL, rol) ROWX(ROR, ror) ROWX(RCL, rcl) ROWX(RCR, rcr) ROWX(SHL, shl) ROWX(SHR, shr)
		ROWX(SAR, sar) ROWX(SHLD, shld) ROWX(SHRD, shrd) ROWX(BT, bt) ROWX(BTS, bts) ROWX(
			BTR, btr) ROWX(BTC, btc) ROWX(BSF, bsf) ROWX(BSR, bsr) ROWX(TZCNT, tzcnt)
			ROWX(LZCNT, lzcnt) ROWX(POPCNT, popcnt) ROWX(ANDN, andn) ROWX(BEXTR, bextr)
				ROWX(BZHI, bzhi) ROWX(PEXT, pext) ROWX(PDEP, pdep) ROWX(SHLX, shlx)
					ROWX(SHRX, shrx) ROWX(SARX, sarx) ROWX(RORX, rorx)
						ROWX(BLSR, blsr) ROWX(BLSMSK, blsmsk)
							ROWX(BLSI, blsi) ROWX(CRC32, crc32)
								ROWX(ADCX, adcx) ROWX(ADOX, adox)
	/* exec_int_mul.c */
	ROWX(MUL, mul) ROWX(IMUL, imul) ROWX(DIV, div) ROWX(IDIV, idiv) ROWX(MULX, mulx)
		ROWX(AAA, aaa) ROWX(AAS, aas) ROWX(AAM, aam) ROWX(AAD, aad) ROWX(DAA, daa)
			ROWX(DAS, das)
	/* exec_int_atomic.c */
	ROWX(XCHG, xchg) ROWX(XADD, xadd) ROWX(CMPXCHG, cmpxchg) ROWX(CMPXCHG8B, cmpxchg8b)
		ROWX(CMPXCHG16B, cmpxchg16b)
	/* exec_flow.c */
	ROWX(JMP, jmp) ROWX(JCC, jcc) ROWX(JCXZ, jcxz) ROWX(LOOP, loop) ROWX(LOOPE, loop)
		ROWX(LOOPNE, loop) ROWX(CALL, call) ROWX(RET, ret) ROWX(PUSH, push) ROWX(POP, pop)
			ROWX(PUSHA, pusha) ROWX(POPA, popa) ROWX(ENTER, enter)
				ROWX(LEAVE, leave){ X86_ID_INVALID, NULL },
};
