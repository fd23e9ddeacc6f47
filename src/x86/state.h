/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The architectural state of one x86-64 logical processor, as software sees it (SDM vol. 3).
 * Every engine reads and writes exactly this; nothing in it names a host address.
 */
#ifndef R3_X86_STATE_H
#define R3_X86_STATE_H

#include "base/base.h"

typedef uint64_t gva_t; /* guest linear address */
typedef uint64_t gpa_t; /* guest-physical address */

/* General registers in encoding order. */
enum {
	X86_RAX,
	X86_RCX,
	X86_RDX,
	X86_RBX,
	X86_RSP,
	X86_RBP,
	X86_RSI,
	X86_RDI,
	X86_R8,
	X86_R9,
	X86_R10,
	X86_R11,
	X86_R12,
	X86_R13,
	X86_R14,
	X86_R15
};
/* Segment registers in encoding order. */
enum { X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS, X86_SEG_COUNT };

/* RFLAGS */
#define X86_FL_CF BIT(0)
#define X86_FL_R1 BIT(1) /* always one */
#define X86_FL_PF BIT(2)
#define X86_FL_AF BIT(4)
#define X86_FL_ZF BIT(6)
#define X86_FL_SF BIT(7)
#define X86_FL_TF BIT(8)
#define X86_FL_IF BIT(9)
#define X86_FL_DF BIT(10)
#define X86_FL_OF BIT(11)
#define X86_FL_IOPL (3ull << 12)
#define X86_FL_NT BIT(14)
#define X86_FL_RF BIT(16)
#define X86_FL_VM BIT(17)
#define X86_FL_AC BIT(18)
#define X86_FL_VIF BIT(19)
#define X86_FL_VIP BIT(20)
#define X86_FL_ID BIT(21)
#define X86_FL_ARITH (X86_FL_CF | X86_FL_PF | X86_FL_AF | X86_FL_ZF | X86_FL_SF | X86_FL_OF)

#define X86_CR0_PE BIT(0)
#define X86_CR0_MP BIT(1)
#define X86_CR0_EM BIT(2)
#define X86_CR0_TS BIT(3)
#define X86_CR0_ET BIT(4)
#define X86_CR0_NE BIT(5)
#define X86_CR0_WP BIT(16)
#define X86_CR0_AM BIT(18)
#define X86_CR0_NW BIT(29)
#define X86_CR0_CD BIT(30)
#define X86_CR0_PG BIT(31)

#define X86_CR4_VME BIT(0)
#define X86_CR4_PVI BIT(1)
#define X86_CR4_TSD BIT(2)
#define X86_CR4_DE BIT(3)
#define X86_CR4_PSE BIT(4)
#define X86_CR4_PAE BIT(5)
#define X86_CR4_MCE BIT(6)
#define X86_CR4_PGE BIT(7)
#define X86_CR4_PCE BIT(8)
#define X86_CR4_OSFXSR BIT(9)
#define X86_CR4_OSXMMEXCPT BIT(10)
#define X86_CR4_UMIP BIT(11)
#define X86_CR4_FSGSBASE BIT(16)
#define X86_CR4_PCIDE BIT(17)
#define X86_CR4_OSXSAVE BIT(18)
#define X86_CR4_SMEP BIT(20)
#define X86_CR4_SMAP BIT(21)

#define X86_EFER_SCE BIT(0)
#define X86_EFER_LME BIT(8)
#define X86_EFER_LMA BIT(10)
#define X86_EFER_NXE BIT(11)

#define X86_XCR0_X87 BIT(0)
#define X86_XCR0_SSE BIT(1)
#define X86_XCR0_AVX BIT(2)

/* Exception vectors (SDM vol. 3, table 6-1). */
enum {
	X86_EX_DE = 0,
	X86_EX_DB = 1,
	X86_EX_NMI = 2,
	X86_EX_BP = 3,
	X86_EX_OF = 4,
	X86_EX_BR = 5,
	X86_EX_UD = 6,
	X86_EX_NM = 7,
	X86_EX_DF = 8,
	X86_EX_TS = 10,
	X86_EX_NP = 11,
	X86_EX_SS = 12,
	X86_EX_GP = 13,
	X86_EX_PF = 14,
	X86_EX_MF = 16,
	X86_EX_AC = 17,
	X86_EX_MC = 18,
	X86_EX_XM = 19
};

/* Page-fault error code bits. */
#define X86_PF_P BIT(0)
#define X86_PF_W BIT(1)
#define X86_PF_U BIT(2)
#define X86_PF_RSVD BIT(3)
#define X86_PF_I BIT(4)

/*
 * Cached (hidden) part of a segment register. attr has the layout of descriptor bits 40..55:
 * type 0-3, S 4, DPL 5-6, P 7, AVL 12, L 13, D/B 14, G 15. limit is in bytes, already scaled.
 * A null selector loaded in protected mode leaves attr.P = 0 ("unusable").
 */
struct x86_seg {
	uint16_t sel;
	uint16_t attr;
	uint32_t limit;
	uint64_t base;
};
#define X86_SEG_TYPE(a) ((a)&15u)
#define X86_SEG_S BIT(4)
#define X86_SEG_DPL(a) (((a) >> 5) & 3u)
#define X86_SEG_P BIT(7)
#define X86_SEG_L BIT(13)
#define X86_SEG_DB BIT(14)
#define X86_SEG_G BIT(15)

struct x86_dtable {
	uint64_t base;
	uint16_t limit;
};

enum x86_mp_state { X86_MP_RUNNABLE, X86_MP_HALTED, X86_MP_WAIT_SIPI };

/* Largest XSAVE area (standard format) any supported host has for the components we show. */
#define X86_XSAVE_MAX 4096

struct x86_state {
	/* Ordered by heat: generated code reaches the first part with 8-bit displacements. */
	uint64_t gpr[16];
	uint64_t rip;
	uint64_t rflags; /* bit 1 always set, reserved bits clear */
	struct x86_seg seg[X86_SEG_COUNT];
	struct x86_seg ldtr, tr;
	struct x86_dtable gdtr, idtr;

	uint64_t cr0, cr2, cr3, cr4;
	uint64_t efer;
	uint64_t xcr0;
	uint64_t dr[8]; /* 4 and 5 unused */

	uint64_t star, lstar, cstar, sfmask;
	uint64_t kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t pat, tsc_aux, apic_base, misc_enable, spec_ctrl, xss;
	uint64_t tsc_offset; /* guest TSC = host TSC + offset */
	uint64_t tsc_adjust;
	struct {
		uint64_t def_type, fix[11], phys_base[8], phys_mask[8];
	} mtrr;

	/* What inhibits or awaits delivery. */
	uint8_t cpl;	    /* 0..3, kept equal to SS.DPL by whoever loads SS or CS */
	uint8_t int_shadow; /* 1: the previous instruction was STI or MOV SS; blocks one boundary */
	uint8_t nmi_pending;
	uint8_t nmi_blocked; /* until IRET */
	uint8_t mp_state;    /* enum x86_mp_state */
	uint8_t sipi_vector;

	/*
	 * x87, SSE, AVX in the host's standard (non-compacted) XSAVE layout, legacy region first:
	 * FCW at 0, FSW 2, abridged FTW 4, FOP 6, FIP 8, FDP 16, MXCSR 24, ST0.. at 32 (16 bytes
	 * each), XMM0.. at 160 (16 bytes each), XSTATE_BV at 512, YMM_Hi128 at 576 (16 bytes each).
	 */
	uint8_t xsave[X86_XSAVE_MAX] __attribute__((aligned(64)));
};

/* RESET/INIT values of SDM vol. 3, table 10-1; init keeps x87/SSE state, CR0.CD/NW, TSC and MSRs. */
void x86_state_reset(struct x86_state *s);
void x86_state_init_ipi(struct x86_state *s);

static inline bool x86_long_mode(const struct x86_state *s)
{
	return s->efer & X86_EFER_LMA;
}
/* 64-bit code segment in long mode */
static inline bool x86_code64(const struct x86_state *s)
{
	return x86_long_mode(s) && (s->seg[X86_CS].attr & X86_SEG_L);
}
static inline bool x86_canonical(uint64_t a)
{
	return (uint64_t)((int64_t)(a << 16) >> 16) == a;
}

#endif
