/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host encoder: appends x86-64 machine code to a buffer.
 *
 * The buffer is the writable alias of code memory; because the executable alias has the same layout,
 * relative displacements are computed from the writable addresses. Running out of space is recorded,
 * not acted upon: the caller looks at e->overflow once at the end.
 *
 * Everything named glue leaves the arithmetic flags alone (SDM vol. 2: LEA, MOV, PEXT, PDEP, RORX, NOT,
 * JRCXZ modify no flags).
 */
#ifndef R3_CPU_DBT_EMIT_H
#define R3_CPU_DBT_EMIT_H

#include "x86/insn.h"

enum host_reg {
	H_RAX,
	H_RCX,
	H_RDX,
	H_RBX,
	H_RSP,
	H_RBP,
	H_RSI,
	H_RDI,
	H_R8,
	H_R9,
	H_R10,
	H_R11,
	H_R12,
	H_R13,
	H_R14,
	H_R15,
	H_NONE = 0xff
};

struct emit {
	uint8_t *start, *p, *end;
	bool overflow;
};

/* A host memory operand: [base + index << scale + disp], or seg:[...]. */
struct host_mem {
	uint8_t seg;		    /* 0, 0x64 (FS) or 0x65 (GS) */
	uint8_t base, index, scale; /* H_NONE where absent */
	int32_t disp;
};
#define HM(b, d) ((struct host_mem){ .base = (uint8_t)(b), .index = H_NONE, .disp = (d) })
#define HMX(b, i) ((struct host_mem){ .base = (uint8_t)(b), .index = (uint8_t)(i) })
#define HFS(d) ((struct host_mem){ .seg = 0x64, .base = H_NONE, .index = H_NONE, .disp = (d) })

void emit_u8(struct emit *e, unsigned v);
void emit_u32(struct emit *e, uint32_t v);
void emit_u64(struct emit *e, uint64_t v);
void emit_bytes(struct emit *e, const uint8_t *b, unsigned n);

/* ModRM (+SIB+disp) for a memory operand; prefixes are the caller's. */
void emit_modrm_mem(struct emit *e, unsigned reg, struct host_mem m);

/* One-byte-opcode instruction `op` r64/r32, m (w: 64-bit). map: 0, 1 (0F). */
void emit_op_mem(struct emit *e, bool w, unsigned map, unsigned op, unsigned reg,
		 struct host_mem m);
void emit_op_reg(struct emit *e, bool w, unsigned map, unsigned op, unsigned reg, unsigned rm);

void emit_mov_rr(struct emit *e, unsigned dst, unsigned src);	  /* 64-bit */
void emit_mov_rr32(struct emit *e, unsigned dst, unsigned src);	  /* zero-extends */
void emit_load(struct emit *e, unsigned dst, struct host_mem m);  /* 64-bit */
void emit_store(struct emit *e, struct host_mem m, unsigned src); /* 64-bit */
void emit_load32(struct emit *e, unsigned dst, struct host_mem m);
void emit_store32(struct emit *e, struct host_mem m, unsigned src);
void emit_load8(struct emit *e, unsigned dst, struct host_mem m); /* MOVZX r32, m8 */
void emit_store_imm8(struct emit *e, struct host_mem m, unsigned v);
void emit_store_imm32(struct emit *e, struct host_mem m, int32_t v); /* sign-extended to 64 bits */
void emit_mov_imm(struct emit *e, unsigned dst, uint64_t v);	     /* shortest MOV */
void emit_lea(struct emit *e, unsigned dst, struct host_mem m);	     /* 64-bit */
void emit_lea32(struct emit *e, unsigned dst, struct host_mem m);
void emit_pext_mem(struct emit *e, unsigned dst, unsigned src, struct host_mem mask);
void emit_pdep_mem(struct emit *e, unsigned dst, unsigned src, struct host_mem mask);
void emit_rorx(struct emit *e, unsigned dst, unsigned src, unsigned n);

/* Relative control transfers to an address in the same (writable) code memory. */
void emit_jmp(struct emit *e, const uint8_t *target);
void emit_call(struct emit *e, const uint8_t *target);
void emit_jcc(struct emit *e, unsigned cc, const uint8_t *target);
/* The same with a displacement to be patched; returns its address. */
uint8_t *emit_jmp_fwd(struct emit *e);
uint8_t *emit_call_fwd(struct emit *e);
uint8_t *emit_jcc_fwd(struct emit *e, unsigned cc);
uint8_t *emit_jrcxz_fwd(struct emit *e); /* rel8 */
void emit_patch32(uint8_t *rel, const uint8_t *target);
void emit_patch8(struct emit *e, uint8_t *rel, const uint8_t *target);
void emit_jmp_mem(struct emit *e, struct host_mem m);
void emit_call_mem(struct emit *e, struct host_mem m);

/* How emit_guest rewrites an instruction's operands. */
struct emit_subst {
	uint8_t reg; /* ModRM.reg field or opcode register */
	uint8_t rm;  /* ModRM.rm when it is a register */
	uint8_t vvvv;
	bool mem; /* ModRM is memory: m */
	struct host_mem m;
};
/*
 * Emits guest instruction i with its own opcode, prefixes that matter and immediates, and with operands
 * replaced. Segment and address-size prefixes are dropped: m already is the host address.
 */
void emit_guest(struct emit *e, const struct x86_insn *i, const struct emit_subst *s);

#endif
