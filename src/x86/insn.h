/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One decoded instruction and the decoder. The instruction table (insn.def) is the single source:
 * decoder, flag liveness, handler names and test generation all come from its rows.
 */
#ifndef R3_X86_INSN_H
#define R3_X86_INSN_H

#include "base/base.h"
#include "x86/state.h"

/*
 * One id per operation, not per encoding: ADD covers 00..05, 80/0, 81/0, 83/0. SSE and VEX forms
 * have different ids (ADDPS, VADDPS). Generated from the rows of insn.def.
 */
enum x86_id {
	X86_ID_INVALID,
#define X86_ID(name) X86_ID_##name,
#include "x86/insn_ids.def"
#undef X86_ID
	X86_ID_COUNT
};

enum x86_opkind {
	OPK_NONE,
	OPK_GPR, /* general register; high8 set for AH CH DH BH (reg is then 0..3) */
	OPK_MEM, /* memory through ModRM, moffs, or string/stack-free implicit address (see mem) */
	OPK_XMM, /* vector register; size 16 or 32 (YMM), or less for scalars */
	OPK_MMX,
	OPK_ST, /* x87 stack register, reg = i of ST(i) */
	OPK_SEG,
	OPK_CR,
	OPK_DR,
	OPK_IMM, /* value in insn.imm (second immediate: insn.imm2) */
	OPK_REL, /* branch displacement in insn.imm, already sign-extended */
	OPK_FAR, /* ptr16:16/32: offset in imm, selector in imm2 */
};

/* Where an explicit register operand sits in the encoding: generated code repatches it there. */
enum x86_openc {
	ENC_NONE,
	ENC_REG /* ModRM.reg */,
	ENC_RM,
	ENC_VVVV,
	ENC_OPCODE /* low 3 bits */,
	ENC_IMM,
	ENC_IS4 /* imm8[7:4] */,
	ENC_IMPLICIT
};

#define OPA_R 1u
#define OPA_W 2u
#define OPA_RW 3u

struct x86_operand {
	uint8_t kind; /* enum x86_opkind */
	uint8_t reg;  /* register number 0..15, for the register kinds */
	uint8_t size; /* bytes touched; for OPK_MEM the access size (0: size varies, e.g. XSAVE; or none: LEA, NOP, PREFETCH, INVLPG) */
	uint8_t access; /* OPA_* */
	uint8_t enc;	/* enum x86_openc */
	bool high8;
};

/* Attributes of a row (bit set in insn.attr). */
#define IA_PRIV BIT(0) /* #GP unless CPL 0 (or the row's own rule: IN/OUT/CLI/STI by IOPL) */
#define IA_SENSITIVE                                                                               \
	BIT(1) /* reads or writes machine state without trapping in user mode: POPF SGDT SIDT SLDT STR SMSW LAR LSL VERR VERW CPUID RDTSC RDPID PUSHF XGETBV … */
#define IA_BRANCH BIT(2) /* may change RIP otherwise than by falling through */
#define IA_COND BIT(3)	 /* conditional branch */
#define IA_CALL BIT(4)
#define IA_RET BIT(5)
#define IA_INDIRECT BIT(6) /* near indirect jump or call */
#define IA_FAR BIT(7)	   /* far transfer, INT n, IRET, SYSCALL, SYSRET, SYSENTER, SYSEXIT */
#define IA_STACK BIT(8)	 /* implicit stack access (push, pop, call, ret, enter, leave, pushf…) */
#define IA_STRING BIT(9) /* MOVS CMPS STOS LODS SCAS INS OUTS: memory through rSI/rDI, not ModRM */
#define IA_LOCKABLE BIT(10) /* LOCK legal when the destination is memory */
#define IA_X87 BIT(11)	    /* #NM by CR0.TS/EM, needs MF check */
#define IA_MMX BIT(12)
#define IA_SSE BIT(13) /* legacy-SSE encoding: CR0.EM, CR4.OSFXSR, CR0.TS */
#define IA_VEX                                                                                     \
	BIT(14) /* VEX encoding: XCR0[2:1], CR4.OSXSAVE, CR0.TS (not the GPR-only VEX ones) */
#define IA_ALIGN                                                                                   \
	BIT(15) /* memory operand must be naturally aligned, else #GP (MOVAPS, legacy SSE m128 arithmetic…) */
#define IA_XM BIT(16)	  /* may raise #XM */
#define IA_NO64 BIT(17)	  /* #UD in 64-bit mode */
#define IA_ONLY64 BIT(18) /* #UD outside 64-bit mode */
#define IA_DEF64 BIT(19) /* operand size defaults to 64 in 64-bit mode (push, pop, near branch…) */
#define IA_FORCE64                                                                                 \
	BIT(20) /* operand size is 64 whatever the prefixes (near branches on Intel, mov cr) */
#define IA_VSIB BIT(21) /* gather: memory operand has a vector index */
#define IA_PAIR                                                                                    \
	BIT(22) /* gathers its state from several places or needs host fix-ups: XSAVE family, FXSAVE, FNSTENV, FNSAVE, FRSTOR, FLDENV… */
#define IA_SERIAL BIT(23)     /* serialising */
#define IA_FLAGS_COND BIT(24) /* flags written only sometimes (shift by CL, rep cmps) */
#define IA_UNDEF_RES BIT(25)  /* result undefined for some inputs (BSF/BSR of 0 …) */
#define IA_MEMHINT                                                                                 \
	BIT(26) /* memory operand is never accessed: LEA, multi-byte NOP, PREFETCHx, INVLPG, CLFLUSH-likes excepted */

/* CPUID gates named in the table's column. */
enum x86_feature {
	X86_FEAT_NONE,
#define X86_FEAT(name, leaf, subleaf, reg, bit) X86_FEAT_##name,
#include "x86/features.def"
#undef X86_FEAT
	X86_FEAT_COUNT
};

/* One row of the table as the decoder gives it to others. */
struct x86_row {
	uint16_t id;			      /* enum x86_id */
	const char *name;		      /* lower case, Intel syntax mnemonic */
	const char *operands;		      /* SDM letters, "Ev,Gv" */
	uint8_t feature;		      /* enum x86_feature; 0: baseline x86-64 */
	uint32_t attr;			      /* IA_* */
	uint32_t fl_read, fl_write, fl_undef; /* masks of X86_FL_*; undef is a subset of write */
};

/* Number of rows and the row by index (for tests and coverage). */
unsigned x86_row_count(void);
const struct x86_row *x86_row_at(unsigned index);

enum x86_rep { REP_NONE, REP_REPE = 1 /* F3 */, REP_REPNE = 2 /* F2 */ };

struct x86_insn {
	const struct x86_row *row;
	uint16_t id; /* == row->id */
	uint16_t row_index;
	uint32_t attr;	   /* == row->attr */
	uint8_t bytes[15]; /* the encoding itself */
	uint8_t len;

	/* effective sizes in bytes */
	uint8_t opsize;	  /* 2, 4, 8 (1 for byte forms of the operation) */
	uint8_t addrsize; /* 2, 4, 8 */
	uint8_t mode;	  /* enum x86_mode it was decoded in */

	/* prefixes */
	uint8_t seg;	   /* segment of the memory operand, X86_ES..X86_GS, default applied */
	bool seg_override; /* an override prefix was present and counts (in 64-bit mode only FS/GS do) */
	bool lock;
	uint8_t rep;	    /* enum x86_rep as seen, also when it is a mandatory prefix */
	bool rep_mandatory; /* F2/F3 is part of the opcode, not a repeat */
	bool osz, asz;	    /* 66 / 67 present */
	uint8_t rex;	    /* REX byte or 0 */
	uint8_t vex;	    /* 0 none, 2 or 3: length of the VEX prefix */
	uint8_t vex_l, vex_w, vex_vvvv; /* L, W, vvvv (already inverted) */
	uint8_t map;			/* 0: one byte, 1: 0F, 2: 0F38, 3: 0F3A */
	uint8_t opcode;			/* last opcode byte */

	/* offsets inside bytes[]; 0xff where absent */
	uint8_t off_opcode, off_modrm, off_disp, off_imm;
	uint8_t len_disp, len_imm; /* imm covers both immediates */

	bool has_modrm;
	uint8_t modrm;
	uint8_t mod; /* 0..3 */
	uint8_t reg; /* ModRM.reg with REX.R/VEX.R */
	uint8_t rm;  /* ModRM.rm with REX.B when mod == 3 */

	/* Memory operand. base/index: register number, or 0xff. RIP-relative: rip_rel set, base 0xff. */
	bool has_mem;
	bool rip_rel;
	bool moffs;		    /* A0..A3: address in disp */
	uint8_t base, index, scale; /* scale: 0..3 as a shift */
	int64_t disp;

	uint64_t imm; /* first immediate, sign- or zero-extended as the operand says; REL sign-extended */
	uint64_t imm2; /* second: ENTER, far pointers' selector, EXTRQ… */

	uint8_t nop; /* number of operands */
	struct x86_operand
		op[6]; /* explicit ones first in Intel order, then implicit (ENC_IMPLICIT) */
};

enum x86_mode { X86_MODE_16, X86_MODE_32, X86_MODE_64 };

/*
 * Decodes one instruction.
 * mode: default sizes of the code segment (64 only for CS.L in long mode).
 * buf, n: available bytes, n ≤ 15.
 * Returns the length, or
 *   -EAGAIN   the instruction continues beyond n (n < 15): fetch more, or #PF on the next page
 *   -EILSEQ   #UD
 *   -E2BIG    more than 15 bytes: #GP(0)
 * CPUID gates are not applied here: the engines check row->feature against the guest's CPUID.
 * VEX/EVEX in real or virtual-8086 mode is the caller's #UD. A LOCK where it is illegal is -EILSEQ.
 */
int x86_decode(struct x86_insn *insn, enum x86_mode mode, const uint8_t *buf,
	       unsigned n) MUST_CHECK;

/*
 * Offset part of the effective address of the memory operand (segment base not added), truncated
 * to the address size. next_rip: address of the following instruction, for RIP-relative forms.
 * Not for string instructions or VSIB.
 */
uint64_t x86_ea(const struct x86_insn *insn, const uint64_t gpr[16], uint64_t next_rip);

/* Intel-syntax text by Zydis into buf; returns buf. */
const char *x86_disasm(char *buf, size_t n, enum x86_mode mode, const uint8_t *bytes, unsigned len,
		       uint64_t rip);

#endif
