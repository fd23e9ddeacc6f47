/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the interpreter: what its files promise each other.
 *
 * A handler executes one decoded instruction. It returns 0 when the instruction retired, -1 when it
 * raised a fault through interp_fault() having changed nothing architectural that a restart would not
 * repeat. It reads s->rip as the address of the instruction itself and branches by writing it->next_rip.
 */
#ifndef R3_CPU_INTERP_PRIV_H
#define R3_CPU_INTERP_PRIV_H

#include "cpu/interp/interp.h"
#include "x86/cpuid.h"

struct interp_fault_info {
	uint8_t vec;
	bool pending, has_error;
	uint32_t error;
	gva_t cr2; /* for #PF */
};

struct interp_tlb;    /* mem.c */
struct interp_icache; /* icache.c: decoded instructions by physical page */

struct interp {
	uint64_t next_rip; /* where execution goes on when the handler returns 0 */
	struct interp_fault_info fault;
	bool shadow_next; /* the handler executed STI (IF was 0) or MOV/POP SS: block the next boundary */
	bool halted; /* the handler executed HLT */
	bool interrupted; /* a repeat string instruction stopped between iterations; next_rip is its own */
	bool shutdown;
	struct interp_tlb *tlb;
	struct interp_icache *icache;
	void *vec;				  /* vector unit's private data (native thunks) */
	uint64_t kvm_system_time, kvm_wall_clock; /* kvmclock MSRs (msr.c) */
};

static inline struct interp *interp_of(struct vcpu *v)
{
	return v->interp;
}

/* Records a fault to be delivered; returns -1 for `return interp_fault(...)`. */
int interp_fault(struct vcpu *v, unsigned vec, bool has_error, uint32_t error);
static inline int interp_gp0(struct vcpu *v)
{
	return interp_fault(v, X86_EX_GP, true, 0);
}
static inline int interp_ud(struct vcpu *v)
{
	return interp_fault(v, X86_EX_UD, false, 0);
}
int interp_fault_pf(struct vcpu *v, gva_t va, uint32_t error);

/* ---- memory (mem.c, segment.c) ---- */

/*
 * Segment check: offset `off` of `size` bytes in segment seg for acc (X86_ACC_R/W) → linear address.
 * Limits, types, canonical form; #GP or #SS. In 64-bit mode only FS/GS bases count.
 */
int interp_linear(struct vcpu *v, unsigned seg, uint64_t off, unsigned size, unsigned acc,
		  gva_t *lin) MUST_CHECK;
/* Address of the instruction's memory operand, checked for its first `size` bytes. */
int interp_operand(struct vcpu *v, const struct x86_insn *i, unsigned size, unsigned acc,
		   gva_t *lin) MUST_CHECK;

/* Access at a linear address, any size up to 4096, page crossing handled (both pages are checked before the
 * first byte is written). User privilege is taken from CPL unless acc has X86_ACC_IMPLICIT. MMIO goes to the map. */
int interp_lin_read(struct vcpu *v, gva_t lin, void *buf, unsigned n, unsigned acc) MUST_CHECK;
int interp_lin_write(struct vcpu *v, gva_t lin, const void *buf, unsigned n,
		     unsigned acc) MUST_CHECK;
/* Fast forms for 1, 2, 4, 8 bytes (inline TLB hit inside). */
int interp_load(struct vcpu *v, gva_t lin, unsigned size, uint64_t *val) MUST_CHECK;
int interp_store(struct vcpu *v, gva_t lin, unsigned size, uint64_t val) MUST_CHECK;
/*
 * Host pointer to n bytes at lin for direct (atomic) access when they lie in one RAM page and the access is
 * allowed; NULL without a fault recorded when it must go the slow way (MMIO, crossing, ROM); NULL with
 * it->fault.pending when it faults. For X86_ACC_W the page counts as written (dirty, code invalidated).
 */
void *interp_direct(struct vcpu *v, gva_t lin, unsigned n, unsigned acc);

/* Stack: size 2, 4, 8; SP width by SS.B / 64-bit mode. push/pop change rSP only on success. */
int interp_push(struct vcpu *v, unsigned size, uint64_t val) MUST_CHECK;
int interp_pop(struct vcpu *v, unsigned size, uint64_t *val) MUST_CHECK;

/* The TLB: interp_open and interp_close call these (v->interp, v->mem and v->s are set). */
int interp_mem_open(struct vcpu *v) MUST_CHECK;
void interp_mem_close(struct vcpu *v);
/* After a CR3 load: keep is bit 63 with PCIDE. */
void interp_tlb_cr3(struct vcpu *v, bool keep);

/* ---- decoded-instruction cache (icache.c): what mem.c must tell it ---- */

/*
 * The byte that says whether decoded instructions of the page at gpa are cached by some vCPU (bit 0).
 * The store paths look at it after (or before) writing RAM and call interp_code_invalidate() when it is
 * set; its address is stable for the VM's life, so a TLB entry may keep it. Always valid, never NULL.
 */
const uint8_t *interp_code_flag(struct vcpu *v, gpa_t gpa);
/* Fetch translations are stale: interp_tlb_flush, _flush_page and _cr3 call these. Cheap. */
void interp_icache_flush(struct vcpu *v);
void interp_icache_flush_page(struct vcpu *v, gva_t va);

/* ---- registers (inline: hot) ---- */
static inline uint64_t interp_get_gpr(const struct x86_state *s, unsigned reg, bool high8,
				      unsigned size)
{
	uint64_t r = s->gpr[reg];
	if (high8)
		return (r >> 8) & 0xff;
	return size == 8 ? r : r & ((1ull << (size * 8)) - 1);
}
static inline void interp_set_gpr(struct x86_state *s, unsigned reg, bool high8, unsigned size,
				  uint64_t val)
{
	if (high8)
		s->gpr[reg] = (s->gpr[reg] & ~0xff00ull) | ((val & 0xff) << 8);
	else if (size == 8)
		s->gpr[reg] = val;
	else if (size == 4)
		s->gpr[reg] = (uint32_t)val;
	else if (size == 2)
		s->gpr[reg] = (s->gpr[reg] & ~0xffffull) | (val & 0xffff);
	else
		s->gpr[reg] = (s->gpr[reg] & ~0xffull) | (val & 0xff);
}

/* ---- handlers ---- */
typedef int (*interp_handler)(struct vcpu *v, const struct x86_insn *i);
struct interp_row {
	uint16_t id; /* enum x86_id */
	interp_handler fn;
};
/* Each ends with { X86_ID_INVALID, NULL }. */
extern const struct interp_row
	interp_int_rows[]; /* exec_int*.c: arithmetic, moves, bits, near control flow */
extern const struct interp_row interp_string_rows[]; /* exec_string.c */
extern const struct interp_row
	interp_sys_rows[]; /* exec_sys*.c: system, segments, far transfers, I/O */
extern const struct interp_row
	interp_vec_rows[]; /* exec_vec.c, exec_x87.c: x87, MMX, SSE, AVX, XSAVE family */

/* Vector unit set-up (exec_vec.c). */
int interp_vec_open(struct vcpu *v) MUST_CHECK;
void interp_vec_close(struct vcpu *v);
/*
 * Executes any instruction with IA_X87, IA_MMX, IA_SSE, IA_VEX or IA_PAIR; #UD for others. interp_vec_rows[] names
 * it for every id, so the other tables' rows are added after and override it.
 */
int interp_vec_exec(struct vcpu *v, const struct x86_insn *i);
/* XINUSE & (x87 | SSE | AVX), for XGETBV(1). */
uint64_t interp_xinuse(struct vcpu *v);

/* ---- system (system.c, segment.c, deliver.c) ---- */

/* Loads a data segment register or SS by selector with all checks (#GP/#NP/#SS); real mode included. */
int interp_load_seg(struct vcpu *v, unsigned seg, uint16_t sel) MUST_CHECK;
/* Control registers, with every check and side effect (TLB hooks). -1 with a fault recorded. */
int interp_write_cr(struct vcpu *v, unsigned cr, uint64_t val) MUST_CHECK;
int interp_rdmsr(struct vcpu *v, uint32_t msr, uint64_t *val) MUST_CHECK;
int interp_wrmsr(struct vcpu *v, uint32_t msr, uint64_t val) MUST_CHECK;
/* Loads RFLAGS as POPF/IRET at the current CPL and IOPL would, for operand size 2, 4 or 8. */
void interp_load_flags(struct vcpu *v, unsigned size, uint64_t val);
/*
 * Delivers event `vec` through the IDT/IVT. soft: INT n / INT3 / INTO (DPL check; saved RIP is it->next_rip), otherwise
 * saved RIP is s->rip. On success s->rip (and it->next_rip) is the handler's. Nested faults become #DF, then shutdown.
 */
int interp_deliver(struct vcpu *v, unsigned vec, bool soft, bool has_error, uint32_t error);
/* Current decoding mode from CS and EFER. */
static inline enum x86_mode interp_mode(const struct x86_state *s)
{
	if (x86_code64(s))
		return X86_MODE_64;
	return s->seg[X86_CS].attr & X86_SEG_DB ? X86_MODE_32 : X86_MODE_16;
}

#endif
