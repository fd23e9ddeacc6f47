/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Native thunks: tiny host functions that execute one guest vector or x87 instruction with the guest's
 * own encoding, so that results, flags and corner cases are the host's (SDM vol. 2, chapter 2 for the
 * encodings). Inner to the interpreter's vector unit; one unit per vCPU, used by its thread only.
 *
 * A thunk's memory operand is the unit's buffer, its general register (if any) is RAX, and vector and
 * x87 state come from and go back to an XSAVE image in standard format. Code memory is a memfd mapped
 * twice: written through one address, executed at the other.
 */
#ifndef R3_CPU_INTERP_THUNK_H
#define R3_CPU_INTERP_THUNK_H

#include "cpu/interp/interp_priv.h"

/* Offsets in the XSAVE image. */
#define XS_FCW 0
#define XS_FSW 2
#define XS_FTW 4
#define XS_FOP 6
#define XS_FIP 8
#define XS_FDP 16
#define XS_MXCSR 24
#define XS_MXCSR_MASK 28
#define XS_ST 32
#define XS_XMM 160
#define XS_LEGACY 416 /* bytes that FXSAVE defines */
#define XS_BV 512
#define XS_XCOMP 520
#define XS_YMMH 576
#define XS_END 832

#define MXCSR_FLAGS 0x3fu
#define MXCSR_MASKS 0x1f80u
#define MXCSR_DEFAULT 0x1f80u
#define FSW_ES 0x80u

/* What a thunk's surroundings must do (struct thunk_plan.flags). */
#define TP_VEX BIT(0) /* whole YMM registers */
#define TP_FX BIT(1)  /* x87 or MMX: the whole legacy region is loaded and saved */
#define TP_XM BIT(2)  /* reads MXCSR, may raise #XM */
#define TP_GPR_R BIT(3)
#define TP_GPR_W BIT(4)
#define TP_STRCMP BIT(5) /* PCMPxSTRx: RAX and RDX in, RCX out */
#define TP_FLAGS BIT(6)	 /* arithmetic flags in and out */
#define TP_NOWAIT BIT(7) /* x87: does not look at pending exceptions */
#define TP_PTRS BIT(8)	 /* x87: updates FOP, FIP, FDP */
#define TP_ENV BIT(9)	 /* FNSTENV, FNSAVE, FLDENV, FRSTOR: image holds FIP and FDP */

#define THUNK_NO_OP 0xffu

/* Everything a thunk's code depends on: the key of the cache. */
struct thunk_plan {
	uint8_t insn[15]; /* rewritten encoding */
	uint8_t len;
	uint16_t flags;
	uint16_t vec_load, vec_store; /* registers by number */
	uint8_t mem_op, gpr_op;	      /* index into x86_insn.op, or THUNK_NO_OP */
	uint8_t mem_size, mem_access; /* OPA_* */
	uint8_t pad[4];
};

typedef void (*thunk_fn)(void *buf, void *xsave);
typedef int (*thunk_special)(struct vcpu *v, const struct x86_insn *i);

struct thunk {
	thunk_fn code;
	thunk_special special; /* executed in C instead of code */
	struct thunk_plan plan;
	struct thunk *next; /* hash chain */
};

/* Scratch memory; generated code reaches the scalars at small negative offsets from buf. */
struct thunk_block {
	uint64_t rax, rdx, rcx, flags;
	uint32_t mxcsr_in, mxcsr_out, mxcsr_host, pad;
	uint8_t fill[16];
	uint8_t buf[128] __attribute__((aligned(64)));
};

#define THUNK_L1 2048
#define THUNK_MAX 8192
#define THUNK_BUCKETS 4096

struct thunk_l1 {
	uint64_t k0, k1;
	const struct thunk *t;
};

struct vec_unit {
	struct thunk_block blk;
	bool avx;	     /* the host has it */
	bool sha_unaligned;  /* the host's legacy SHA instructions do not ask for alignment (AMD) */
	bool ptrs_only_es;   /* the host's XSAVE gives zero FOP/FIP/FDP unless FSW.ES is set */
	uint64_t xmask;	     /* components of the image: x87, SSE, and AVX where the host has it */
	uint32_t mxcsr_mask; /* the host's MXCSR_MASK */
	thunk_fn fx_roundtrip; /* loads and saves the legacy region: brings it to the host's form */
	uint8_t *rw, *rx;      /* two views of the code memory */
	unsigned used, used_fixed;
	unsigned count;
	struct thunk_l1 l1[THUNK_L1];
	struct thunk *bucket[THUNK_BUCKETS];
	struct thunk pool[THUNK_MAX];
};

static inline struct vec_unit *vec_unit_of(struct vcpu *v)
{
	return interp_of(v)->vec;
}

static inline uint32_t xs_get32(const struct x86_state *s, unsigned off)
{
	uint32_t r;
	__builtin_memcpy(&r, s->xsave + off, 4);
	return r;
}
static inline void xs_set32(struct x86_state *s, unsigned off, uint32_t val)
{
	__builtin_memcpy(s->xsave + off, &val, 4);
}
static inline uint16_t xs_get16(const struct x86_state *s, unsigned off)
{
	uint16_t r;
	__builtin_memcpy(&r, s->xsave + off, 2);
	return r;
}
static inline void xs_set16(struct x86_state *s, unsigned off, uint16_t val)
{
	__builtin_memcpy(s->xsave + off, &val, 2);
}
static inline uint64_t xs_get64(const struct x86_state *s, unsigned off)
{
	uint64_t r;
	__builtin_memcpy(&r, s->xsave + off, 8);
	return r;
}
static inline void xs_set64(struct x86_state *s, unsigned off, uint64_t val)
{
	__builtin_memcpy(s->xsave + off, &val, 8);
}

/* 0 or -errno (memory, or executable memory is denied). */
int thunk_open(struct vec_unit *u) MUST_CHECK;
void thunk_close(struct vec_unit *u);
/* The thunk of an instruction, from the cache or built; NULL when it cannot be expressed (#UD). */
const struct thunk *thunk_get(struct vec_unit *u, const struct x86_insn *i);

/* ---- shared by the vector unit's files ---- */

/* C handler of an instruction that is not executed natively, or NULL (exec_vec_mem.c). */
const struct thunk *vec_special(const struct x86_insn *i);

/* Every component of the image holds its value, and XSTATE_BV says so. */
void vec_materialise(struct vcpu *v);
/* CR0, CR4, XCR0 conditions of the instruction's class: #UD, #NM. */
int vec_gate(struct vcpu *v, const struct x86_insn *i) MUST_CHECK;
/* Operands between the guest and the scratch block; *lin is the memory operand's address. */
int vec_operand_in(struct vcpu *v, const struct x86_insn *i, const struct thunk_plan *p,
		   gva_t *lin) MUST_CHECK;
void vec_operand_out(struct vcpu *v, const struct x86_insn *i, const struct thunk_plan *p);
int vec_write_mem(struct vcpu *v, gva_t lin, const void *buf, unsigned size) MUST_CHECK;
/* Raises the fault that a store would, writing nothing. */
int vec_probe_store(struct vcpu *v, gva_t lin, unsigned size) MUST_CHECK;
/* Operands, thunk, numeric exceptions, result: everything but x87. */
int vec_exec_native(struct vcpu *v, const struct x86_insn *i, const struct thunk *t) MUST_CHECK;

int vec_zero(struct vcpu *v, const struct x86_insn *i);	    /* VZEROUPPER, VZEROALL */
int vec_gather(struct vcpu *v, const struct x86_insn *i);   /* VSIB */
int vec_maskload(struct vcpu *v, const struct x86_insn *i); /* VMASKMOVPx, VPMASKMOVx from memory */
int vec_maskstore(struct vcpu *v, const struct x86_insn *i);
int vec_maskmov(struct vcpu *v, const struct x86_insn *i); /* MASKMOVQ, MASKMOVDQU, VMASKMOVDQU */

/* x87 and MMX: pending exceptions, pointers. */
int x87_exec(struct vcpu *v, const struct x86_insn *i, const struct thunk *t) MUST_CHECK;
/* Raises #MF when an unmasked exception is pending. */
int x87_check_pending(struct vcpu *v) MUST_CHECK;
int x87_fwait(struct vcpu *v, const struct x86_insn *i);
/* Brings a freshly loaded legacy region to the form the host's own save would give. */
void x87_normalise(struct vcpu *v);
/* Puts MMX state in place as any MMX instruction does: TOP 0, all tags valid. */
void x87_enter_mmx(struct x86_state *s);

int xsave_fxsave(struct vcpu *v, const struct x86_insn *i);
int xsave_fxrstor(struct vcpu *v, const struct x86_insn *i);
int xsave_xsave(struct vcpu *v, const struct x86_insn *i);  /* also XSAVEOPT */
int xsave_xsavec(struct vcpu *v, const struct x86_insn *i); /* also XSAVES */
int xsave_xrstor(struct vcpu *v, const struct x86_insn *i);
int xsave_xrstors(struct vcpu *v, const struct x86_insn *i);
int xsave_ldmxcsr(struct vcpu *v, const struct x86_insn *i);
int xsave_stmxcsr(struct vcpu *v, const struct x86_insn *i);

#endif
