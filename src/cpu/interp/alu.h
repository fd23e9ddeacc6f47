/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Integer operations on host registers with the guest's arithmetic flags. Each is the very host
 * instruction, run with the guest's flags loaded where the result or an undefined flag may depend
 * on them, so that flags equal the host's, the undefined ones too. Hot: everything is inline.
 */
#ifndef R3_CPU_INTERP_ALU_H
#define R3_CPU_INTERP_ALU_H

#include "x86/state.h"

#define ALU_INLINE static inline __attribute__((always_inline))

/* AX as LAHF and SETO leave it: AH = SF ZF 0 AF 0 PF 1 CF, AL = OF. */
ALU_INLINE uint64_t alu_merge(uint64_t fl, uint16_t ax, uint64_t mask)
{
	uint64_t n = (uint64_t)(ax >> 8) | (uint64_t)(ax & 1) << 11;

	return (fl & ~mask) | (n & mask);
}
ALU_INLINE uint16_t alu_ax(uint64_t fl)
{
	return (uint16_t)((fl & 0xff) << 8 | ((fl >> 11) & 1));
}

#define ALU_SAVE "\n\tlahf\n\tseto %%al"
#define ALU_LOAD "addb $0x7f, %%al\n\tsahf\n\t"

/* a op b, flags all written */
#define ALU_BIN(name, insn, type, suf, con)                                                        \
	ALU_INLINE uint64_t alu_##name##suf(uint64_t x, uint64_t y, uint64_t *fl)                  \
	{                                                                                          \
		type a = (type)x, b = (type)y;                                                     \
		uint16_t ax;                                                                       \
		__asm__(insn " %[b], %[a]" ALU_SAVE                                                \
			: [a] "+" con(a), "=&a"(ax)                                                \
			: [b] con(b)                                                               \
			: "cc");                                                                   \
		*fl = alu_merge(*fl, ax, X86_FL_ARITH);                                            \
		return a;                                                                          \
	}
/* the same with CF in */
#define ALU_BINC(name, insn, type, suf, con)                                                       \
	ALU_INLINE uint64_t alu_##name##suf(uint64_t x, uint64_t y, uint64_t *fl)                  \
	{                                                                                          \
		type a = (type)x, b = (type)y;                                                     \
		uint16_t ax;                                                                       \
		__asm__("btl $0, %k[f]\n\t" insn " %[b], %[a]" ALU_SAVE                            \
			: [a] "+" con(a), "=&a"(ax)                                                \
			: [b] con(b), [f] "r"(*fl)                                                 \
			: "cc");                                                                   \
		*fl = alu_merge(*fl, ax, X86_FL_ARITH);                                            \
		return a;                                                                          \
	}
/* one operand; CF kept (INC, DEC) or written (NEG) */
#define ALU_UN(name, insn, type, suf, con, mask)                                                   \
	ALU_INLINE uint64_t alu_##name##suf(uint64_t x, uint64_t y, uint64_t *fl)                  \
	{                                                                                          \
		type a = (type)x;                                                                  \
		uint16_t ax;                                                                       \
		(void)y;                                                                           \
		__asm__(insn " %[a]" ALU_SAVE : [a] "+" con(a), "=&a"(ax) : : "cc");               \
		*fl = alu_merge(*fl, ax, mask);                                                    \
		return a;                                                                          \
	}
/* shift or rotate by a count that is not zero after masking; count 0 is the caller's */
#define ALU_SHIFT(name, insn, type, suf, con)                                                      \
	ALU_INLINE uint64_t alu_##name##suf(uint64_t x, uint64_t y, uint64_t *fl)                  \
	{                                                                                          \
		type a = (type)x;                                                                  \
		uint8_t c = (uint8_t)y;                                                            \
		uint16_t ax = alu_ax(*fl);                                                         \
		__asm__(ALU_LOAD insn " %%cl, %[a]" ALU_SAVE                                       \
			: [a] "+" con(a), "+&a"(ax)                                                \
			: "c"(c)                                                                   \
			: "cc");                                                                   \
		*fl = alu_merge(*fl, ax, X86_FL_ARITH);                                            \
		return a;                                                                          \
	}
/* a op b where flags go in whole: BSF, BSR, LZCNT, IMUL …; a is also an input */
#define ALU_FLIN(name, insn, type, suf)                                                            \
	ALU_INLINE uint64_t alu_##name##suf(uint64_t x, uint64_t y, uint64_t *fl)                  \
	{                                                                                          \
		type a = (type)x, b = (type)y;                                                     \
		uint16_t ax = alu_ax(*fl);                                                         \
		__asm__(ALU_LOAD insn " %[b], %[a]" ALU_SAVE                                       \
			: [a] "+&r"(a), "+&a"(ax)                                                  \
			: [b] "r"(b)                                                               \
			: "cc");                                                                   \
		*fl = alu_merge(*fl, ax, X86_FL_ARITH);                                            \
		return a;                                                                          \
	}

#define ALU_4(m, name, insn)                                                                       \
	m(name, insn "b", uint8_t, 1, "q") m(name, insn "w", uint16_t, 2, "r")                     \
		m(name, insn "l", uint32_t, 4, "r") m(name, insn "q", uint64_t, 8, "r")
#define ALU_4U(name, insn, mask)                                                                   \
	ALU_UN(name, insn "b", uint8_t, 1, "q", mask)                                              \
	ALU_UN(name, insn "w", uint16_t, 2, "r", mask)                                             \
	ALU_UN(name, insn "l", uint32_t, 4, "r", mask)                                             \
	ALU_UN(name, insn "q", uint64_t, 8, "r", mask)
#define ALU_3(m, name, insn)                                                                       \
	m(name, insn "w", uint16_t, 2) m(name, insn "l", uint32_t, 4) m(name, insn "q", uint64_t, 8)

ALU_4(ALU_BIN, add, "add")
ALU_4(ALU_BIN, or, "or")
ALU_4(ALU_BIN, and, "and")
ALU_4(ALU_BIN, sub, "sub")
ALU_4(ALU_BIN, xor, "xor")
ALU_4(ALU_BIN, cmp, "cmp")
ALU_4(ALU_BIN, test, "test")
ALU_4(ALU_BINC, adc, "adc")
ALU_4(ALU_BINC, sbb, "sbb")
ALU_4U(inc, "inc", X86_FL_ARITH & ~X86_FL_CF)
ALU_4U(dec, "dec", X86_FL_ARITH & ~X86_FL_CF)
ALU_4U(neg, "neg", X86_FL_ARITH)
ALU_4(ALU_SHIFT, rol, "rol")
ALU_4(ALU_SHIFT, ror, "ror")
ALU_4(ALU_SHIFT, rcl, "rcl")
ALU_4(ALU_SHIFT, rcr, "rcr")
ALU_4(ALU_SHIFT, shl, "shl")
ALU_4(ALU_SHIFT, shr, "shr")
ALU_4(ALU_SHIFT, sar, "sar")
ALU_3(ALU_FLIN, bsf, "bsf")
ALU_3(ALU_FLIN, bsr, "bsr")
ALU_3(ALU_FLIN, tzcnt, "tzcnt")
ALU_3(ALU_FLIN, lzcnt, "lzcnt")
ALU_3(ALU_FLIN, popcnt, "popcnt")
ALU_3(ALU_FLIN, imul, "imul")
ALU_3(ALU_FLIN, bt, "bt")
ALU_3(ALU_FLIN, bts, "bts")
ALU_3(ALU_FLIN, btr, "btr")
ALU_3(ALU_FLIN, btc, "btc")

ALU_INLINE uint64_t alu_not(uint64_t x, uint64_t y, uint64_t *fl)
{
	(void)y;
	(void)fl;
	return ~x;
}

/* Double shifts: count not zero after masking. */
#define ALU_DSHIFT(name, insn, type, suf)                                                          \
	ALU_INLINE uint64_t alu_##name##suf(uint64_t x, uint64_t y, uint8_t c, uint64_t *fl)       \
	{                                                                                          \
		type a = (type)x, b = (type)y;                                                     \
		uint16_t ax = alu_ax(*fl);                                                         \
		__asm__(ALU_LOAD insn " %%cl, %[b], %[a]" ALU_SAVE                                 \
			: [a] "+r"(a), "+&a"(ax)                                                   \
			: [b] "r"(b), "c"(c)                                                       \
			: "cc");                                                                   \
		*fl = alu_merge(*fl, ax, X86_FL_ARITH);                                            \
		return a;                                                                          \
	}
ALU_3(ALU_DSHIFT, shld, "shld")
ALU_3(ALU_DSHIFT, shrd, "shrd")

/* Three-operand VEX forms: r = op(a, b), flags in and out. */
#define ALU_VEX3(name, fmt, type, suf)                                                             \
	ALU_INLINE uint64_t alu_##name##suf(uint64_t x, uint64_t y, uint64_t *fl)                  \
	{                                                                                          \
		type a = (type)x, b = (type)y, r;                                                  \
		uint16_t ax = alu_ax(*fl);                                                         \
		__asm__(ALU_LOAD fmt ALU_SAVE                                                      \
			: [r] "=&r"(r), "+&a"(ax)                                                  \
			: [a] "r"(a), [b] "r"(b)                                                   \
			: "cc");                                                                   \
		*fl = alu_merge(*fl, ax, X86_FL_ARITH);                                            \
		return r;                                                                          \
	}
#define ALU_V(name, fmt) ALU_VEX3(name, fmt, uint32_t, 4) ALU_VEX3(name, fmt, uint64_t, 8)
ALU_V(andn, "andn %[b], %[a], %[r]")
ALU_V(bextr, "bextr %[b], %[a], %[r]")
ALU_V(bzhi, "bzhi %[b], %[a], %[r]")
ALU_V(pext, "pext %[b], %[a], %[r]")
ALU_V(pdep, "pdep %[b], %[a], %[r]")
ALU_V(shlx, "shlx %[b], %[a], %[r]")
ALU_V(shrx, "shrx %[b], %[a], %[r]")
ALU_V(sarx, "sarx %[b], %[a], %[r]")
ALU_V(blsr, "blsr %[b], %[r]")
ALU_V(blsmsk, "blsmsk %[b], %[r]")
ALU_V(blsi, "blsi %[b], %[r]")

/* ADCX and ADOX touch one flag each. */
ALU_INLINE uint64_t alu_adcx4(uint64_t x, uint64_t y, uint64_t *fl)
{
	uint64_t r = (x & 0xffffffff) + (y & 0xffffffff) + (*fl & X86_FL_CF);

	*fl = (*fl & ~X86_FL_CF) | (r >> 32);
	return (uint32_t)r;
}
ALU_INLINE uint64_t alu_adcx8(uint64_t x, uint64_t y, uint64_t *fl)
{
	unsigned __int128 r = (unsigned __int128)x + y + (*fl & X86_FL_CF);

	*fl = (*fl & ~X86_FL_CF) | (uint64_t)(r >> 64);
	return (uint64_t)r;
}
ALU_INLINE uint64_t alu_adox4(uint64_t x, uint64_t y, uint64_t *fl)
{
	uint64_t r = (x & 0xffffffff) + (y & 0xffffffff) + ((*fl >> 11) & 1);

	*fl = (*fl & ~X86_FL_OF) | (r >> 32) << 11;
	return (uint32_t)r;
}
ALU_INLINE uint64_t alu_adox8(uint64_t x, uint64_t y, uint64_t *fl)
{
	unsigned __int128 r = (unsigned __int128)x + y + ((*fl >> 11) & 1);

	*fl = (*fl & ~X86_FL_OF) | (uint64_t)(r >> 64) << 11;
	return (uint64_t)r;
}

/* Condition code cc of Jcc, SETcc, CMOVcc. */
ALU_INLINE bool alu_cond(uint64_t fl, unsigned cc)
{
	bool r;

	switch (cc >> 1) {
	case 0: r = fl & X86_FL_OF; break;
	case 1: r = fl & X86_FL_CF; break;
	case 2: r = fl & X86_FL_ZF; break;
	case 3: r = fl & (X86_FL_CF | X86_FL_ZF); break;
	case 4: r = fl & X86_FL_SF; break;
	case 5: r = fl & X86_FL_PF; break;
	case 6: r = ((fl >> 7) ^ (fl >> 11)) & 1; break;
	default: r = (((fl >> 7) ^ (fl >> 11)) & 1) || (fl & X86_FL_ZF);
	}
	return r != (cc & 1);
}

#endif
