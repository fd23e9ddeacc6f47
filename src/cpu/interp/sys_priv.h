/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the system half of the interpreter shares among its own files: descriptors, privilege
 * helpers, and the handlers that exec_sys.c lists for the others.
 */
#ifndef R3_CPU_INTERP_SYS_PRIV_H
#define R3_CPU_INTERP_SYS_PRIV_H

#include "cpu/interp/interp_priv.h"

/* ---- modes ---- */
static inline bool sys_vm86(const struct x86_state *s)
{
	return s->rflags & X86_FL_VM;
}
static inline bool sys_real(const struct x86_state *s)
{
	return !(s->cr0 & X86_CR0_PE);
}
/* Segment registers are loaded through descriptor tables. */
static inline bool sys_protected(const struct x86_state *s)
{
	return (s->cr0 & X86_CR0_PE) && !(s->rflags & X86_FL_VM);
}
static inline unsigned sys_iopl(const struct x86_state *s)
{
	return (unsigned)(s->rflags >> 12) & 3;
}
bool sys_is_amd(const struct vcpu *v);

/* ---- TLB (mem.c) ---- */
/* Forgets the non-global translations of one PCID. */
void interp_tlb_drop_pcid(struct vcpu *v, unsigned pcid);
/* One page of one PCID (INVPCID type 0); global translations stay. */
void interp_tlb_drop_pcid_page(struct vcpu *v, unsigned pcid, gva_t va);

/* ---- descriptors (segment.c) ---- */
struct sys_desc {
	uint64_t raw; /* the first eight bytes */
	gva_t at;     /* where they are */
};
static inline unsigned desc_type(const struct sys_desc *d)
{
	return (unsigned)(d->raw >> 40) & 15;
}
static inline bool desc_s(const struct sys_desc *d)
{
	return d->raw & BIT(44);
}
static inline unsigned desc_dpl(const struct sys_desc *d)
{
	return (unsigned)(d->raw >> 45) & 3;
}
static inline bool desc_p(const struct sys_desc *d)
{
	return d->raw & BIT(47);
}
static inline bool desc_is_code(const struct sys_desc *d)
{
	return desc_s(d) && (desc_type(d) & 8);
}
static inline bool desc_conforming(const struct sys_desc *d)
{
	return desc_type(d) & 4;
}
static inline bool desc_l(const struct sys_desc *d)
{
	return d->raw & BIT(53);
}
static inline bool desc_db(const struct sys_desc *d)
{
	return d->raw & BIT(54);
}
/* #GP, #NP, #SS or #TS naming a selector. */
static inline int sys_fault_sel(struct vcpu *v, unsigned vec, uint16_t sel)
{
	return interp_fault(v, vec, true, sel & 0xfffcu);
}
/* Reads the descriptor of sel: 0; 1 when it is beyond its table (nothing recorded); -1 on a fault. */
int sys_desc_read(struct vcpu *v, uint16_t sel, struct sys_desc *d) MUST_CHECK;
/* The same, recording #vec(sel) when it is beyond the table. */
int sys_desc_need(struct vcpu *v, uint16_t sel, unsigned vec, struct sys_desc *d) MUST_CHECK;
/* Sets the accessed bit in memory and in d. */
int sys_desc_mark(struct vcpu *v, struct sys_desc *d) MUST_CHECK;
void sys_desc_cache(const struct sys_desc *d, uint16_t sel, struct x86_seg *out);
/* Upper half of a 16-byte system descriptor. */
int sys_desc_high(struct vcpu *v, const struct sys_desc *d, uint64_t *high) MUST_CHECK;
/* Checks and reads SS for privilege cpl; faults of the kind vec (#GP or #TS; #SS when absent). */
int sys_stack_desc(struct vcpu *v, uint16_t sel, unsigned cpl, unsigned vec,
		   struct x86_seg *out) MUST_CHECK;
/* A null SS for 64-bit mode at cpl. */
void sys_null_ss(struct x86_seg *out, unsigned cpl);
/* After a return to outer privilege: data segments the new CPL may not use become null. */
void sys_drop_inner_segs(struct x86_state *s);
/* Real-address or virtual-8086 load. */
void sys_load_real(struct x86_state *s, unsigned seg, uint16_t sel);
/* Limit and presence check of [off, off+size) in a segment outside 64-bit mode. */
bool sys_seg_holds(const struct x86_seg *sg, uint64_t off, unsigned size);
/* SS:RSP or IST stack of the TSS for an inner privilege level. */
int sys_tss_stack64(struct vcpu *v, unsigned offset, uint64_t *rsp) MUST_CHECK;
int sys_tss_stack32(struct vcpu *v, unsigned cpl, uint16_t *ss, uint32_t *esp) MUST_CHECK;
/* Writes `count` slots of `size` bytes below sp of stack segment ss with the privilege cpl; *sp moves. slot[0] is pushed first. */
int sys_push_frame(struct vcpu *v, const struct x86_seg *ss, bool wide, unsigned cpl, uint64_t *sp,
		   unsigned size, const uint64_t *slot, unsigned count) MUST_CHECK;
/* Width mask of the stack pointer. */
static inline uint64_t sys_sp_mask(const struct x86_seg *ss, bool wide)
{
	return wide ? ~0ull : ss->attr & X86_SEG_DB ? 0xffffffffull : 0xffffull;
}
static inline void sys_set_sp(struct x86_state *s, uint64_t mask, uint64_t sp)
{
	s->gpr[X86_RSP] = mask == 0xffffull ? (s->gpr[X86_RSP] & ~mask) | (sp & mask) : sp & mask;
}

/* ---- control registers (system.c) ---- */
/* EFER with its checks; used by the MSR and nothing else. */
int sys_write_efer(struct vcpu *v, uint64_t val) MUST_CHECK;
/* One bit of the guest's CPUID. reg: 0..3 = EAX EBX ECX EDX. */
bool sys_cpuid_bit(const struct vcpu *v, uint32_t leaf, uint32_t subleaf, unsigned reg,
		   unsigned bit);
/* Translations of the kind CR0, CR4 and EFER govern are all stale. */
void sys_flush_all(struct vcpu *v);
uint64_t sys_tsc(const struct vcpu *v);
/* IRET's image of RFLAGS: as POPF, and RF. */
void sys_iret_flags(struct vcpu *v, unsigned size, uint64_t val);

/* ---- handlers ---- */
#define SYS_HANDLER(name) int name(struct vcpu *v, const struct x86_insn *i)

SYS_HANDLER(exec_jmpf);
SYS_HANDLER(exec_callf);
SYS_HANDLER(exec_retf);
SYS_HANDLER(exec_iret);
SYS_HANDLER(exec_int);
SYS_HANDLER(exec_int3);
SYS_HANDLER(exec_into);
SYS_HANDLER(exec_int1);
SYS_HANDLER(exec_syscall);
SYS_HANDLER(exec_sysret);
SYS_HANDLER(exec_sysenter);
SYS_HANDLER(exec_sysexit);
SYS_HANDLER(exec_in);
SYS_HANDLER(exec_out);
SYS_HANDLER(exec_ins);
SYS_HANDLER(exec_outs);
SYS_HANDLER(exec_sgdt);
SYS_HANDLER(exec_sidt);
SYS_HANDLER(exec_lgdt);
SYS_HANDLER(exec_lidt);
SYS_HANDLER(exec_sldt);
SYS_HANDLER(exec_str);
SYS_HANDLER(exec_lldt);
SYS_HANDLER(exec_ltr);
SYS_HANDLER(exec_verr);
SYS_HANDLER(exec_verw);
SYS_HANDLER(exec_lar);
SYS_HANDLER(exec_lsl);
SYS_HANDLER(exec_arpl);
SYS_HANDLER(exec_mov_seg);
SYS_HANDLER(exec_push_seg);
SYS_HANDLER(exec_pop_seg);
SYS_HANDLER(exec_load_far_ptr);

/* Reads or writes explicit operand n (register or memory). */
int sys_get(struct vcpu *v, const struct x86_insn *i, unsigned n, unsigned size,
	    uint64_t *val) MUST_CHECK;
int sys_set(struct vcpu *v, const struct x86_insn *i, unsigned n, unsigned size,
	    uint64_t val) MUST_CHECK;

#endif
