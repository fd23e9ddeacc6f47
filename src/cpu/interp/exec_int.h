/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the integer handlers share: reading operands, read-modify-write of memory, handler names.
 */
#ifndef R3_CPU_INTERP_EXEC_INT_H
#define R3_CPU_INTERP_EXEC_INT_H

#include "cpu/interp/interp_priv.h"

static inline uint64_t int_mask(unsigned size)
{
	return size == 8 ? ~0ull : (1ull << (size * 8)) - 1;
}

/* Memory operand of `size` bytes, loaded. */
static inline int int_load_mem(struct vcpu *v, const struct x86_insn *i, unsigned size,
			       uint64_t *val)
{
	gva_t lin;

	if (interp_operand(v, i, size, X86_ACC_R, &lin))
		return -1;
	return interp_load(v, lin, size, val);
}

/* Operand k's value, zero-extended from its size (immediates: as the decoder extended them). */
static inline int int_read(struct vcpu *v, const struct x86_insn *i, unsigned k, uint64_t *val)
{
	const struct x86_operand *o = &i->op[k];

	switch (o->kind) {
	case OPK_GPR: *val = interp_get_gpr(v->s, o->reg, o->high8, o->size); return 0;
	case OPK_MEM: return int_load_mem(v, i, o->size, val);
	default: *val = i->imm; return 0;
	}
}

/* Writes operand k (not one that was read before: those go through int_rmw). */
static inline int int_write(struct vcpu *v, const struct x86_insn *i, unsigned k, uint64_t val)
{
	const struct x86_operand *o = &i->op[k];
	gva_t lin;

	if (o->kind == OPK_GPR) {
		interp_set_gpr(v->s, o->reg, o->high8, o->size, val);
		return 0;
	}
	if (interp_operand(v, i, o->size, X86_ACC_W, &lin))
		return -1;
	return interp_store(v, lin, o->size, val);
}

/* Plain access through a host pointer, as one access of its size. */
static inline uint64_t int_host_load(const void *p, unsigned size)
{
	switch (size) {
	case 1: return __atomic_load_n((const uint8_t *)p, __ATOMIC_RELAXED);
	case 2: return __atomic_load_n((const uint16_t *)p, __ATOMIC_RELAXED);
	case 4: return __atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED);
	default: return __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED);
	}
}
static inline void int_host_store(void *p, unsigned size, uint64_t val)
{
	switch (size) {
	case 1: __atomic_store_n((uint8_t *)p, (uint8_t)val, __ATOMIC_RELAXED); break;
	case 2: __atomic_store_n((uint16_t *)p, (uint16_t)val, __ATOMIC_RELAXED); break;
	case 4: __atomic_store_n((uint32_t *)p, (uint32_t)val, __ATOMIC_RELAXED); break;
	default: __atomic_store_n((uint64_t *)p, val, __ATOMIC_RELAXED);
	}
}
/* LOCK CMPXCHG: true when *p was old_val. */
static inline bool int_host_cas(void *p, unsigned size, uint64_t old_val, uint64_t new_val)
{
	uint8_t o1 = (uint8_t)old_val;
	uint16_t o2 = (uint16_t)old_val;
	uint32_t o4 = (uint32_t)old_val;

	switch (size) {
	case 1:
		return __atomic_compare_exchange_n((uint8_t *)p, &o1, (uint8_t)new_val, false,
						   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	case 2:
		return __atomic_compare_exchange_n((uint16_t *)p, &o2, (uint16_t)new_val, false,
						   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	case 4:
		return __atomic_compare_exchange_n((uint32_t *)p, &o4, (uint32_t)new_val, false,
						   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	default:
		return __atomic_compare_exchange_n((uint64_t *)p, &old_val, new_val, false,
						   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	}
}

/* An operation on (destination, source, flags). */
typedef uint64_t (*int_op)(uint64_t a, uint64_t b, uint64_t *fl);

/*
 * Read-modify-write of `size` bytes at lin: atomically when `lock` and the bytes are plain RAM in one
 * page. The old value goes to *old_val. Flags are committed on success only. Inlined with a constant op.
 */
static inline __attribute__((always_inline)) int int_rmw(struct vcpu *v, gva_t lin, unsigned size,
							 bool lock, int_op op, uint64_t b,
							 uint64_t *old_val)
{
	uint64_t fl = v->s->rflags, a = 0, r;
	void *p = interp_direct(v, lin, size, X86_ACC_W);

	if (likely(p)) {
		for (;;) {
			a = int_host_load(p, size);
			r = op(a, b, &fl);
			if (!lock) {
				int_host_store(p, size, r);
				break;
			}
			if (int_host_cas(p, size, a, r))
				break;
			fl = v->s->rflags;
		}
	} else {
		if (interp_of(v)->fault.pending)
			return -1;
		if (interp_lin_read(v, lin, &a, size, X86_ACC_W))
			return -1;
		r = op(a, b, &fl);
		if (interp_lin_write(v, lin, &r, size, X86_ACC_W))
			return -1;
	}
	v->s->rflags = fl;
	*old_val = a;
	return 0;
}

/* The two-operand shape "dest op= source" with a register or memory destination. */
static inline __attribute__((always_inline)) int int_binary(struct vcpu *v,
							    const struct x86_insn *i, unsigned size,
							    int_op op, bool write)
{
	const struct x86_operand *d = &i->op[0];
	uint64_t a, b = 0, fl;
	gva_t lin;

	if (i->nop > 1 && int_read(v, i, 1, &b))
		return -1;
	if (d->kind == OPK_GPR) {
		fl = v->s->rflags;
		a = interp_get_gpr(v->s, d->reg, d->high8, size);
		a = op(a, b, &fl);
		if (write)
			interp_set_gpr(v->s, d->reg, d->high8, size, a);
		v->s->rflags = fl;
		return 0;
	}
	if (write) {
		if (interp_operand(v, i, size, X86_ACC_W, &lin))
			return -1;
		return int_rmw(v, lin, size, i->lock, op, b, &a);
	}
	if (int_load_mem(v, i, size, &a))
		return -1;
	op(a, b, &v->s->rflags);
	return 0;
}

/* Handlers outside exec_int.c. */
#define INT_HANDLER(name) int int_exec_##name(struct vcpu *v, const struct x86_insn *i);
/* exec_int_bits.c */
INT_HANDLER(rol)
INT_HANDLER(ror)
INT_HANDLER(rcl)
INT_HANDLER(rcr)
INT_HANDLER(shl)
INT_HANDLER(shr)
INT_HANDLER(sar)
INT_HANDLER(shld)
INT_HANDLER(shrd)
INT_HANDLER(bt)
INT_HANDLER(bts)
INT_HANDLER(btr)
INT_HANDLER(btc)
INT_HANDLER(bsf)
INT_HANDLER(bsr)
INT_HANDLER(tzcnt)
INT_HANDLER(lzcnt)
INT_HANDLER(popcnt)
INT_HANDLER(andn)
INT_HANDLER(bextr)
INT_HANDLER(bzhi)
INT_HANDLER(pext)
INT_HANDLER(pdep)
INT_HANDLER(shlx)
INT_HANDLER(shrx)
INT_HANDLER(sarx)
INT_HANDLER(rorx)
INT_HANDLER(blsr)
INT_HANDLER(blsmsk)
INT_HANDLER(blsi)
INT_HANDLER(crc32)
INT_HANDLER(adcx)
INT_HANDLER(adox)
/* exec_int_mul.c */
INT_HANDLER(mul)
INT_HANDLER(imul)
INT_HANDLER(div)
INT_HANDLER(idiv)
INT_HANDLER(mulx)
INT_HANDLER(aaa)
INT_HANDLER(aas)
INT_HANDLER(aam)
INT_HANDLER(aad)
INT_HANDLER(daa)
INT_HANDLER(das)
/* exec_int_atomic.c */
INT_HANDLER(xchg)
INT_HANDLER(xadd)
INT_HANDLER(cmpxchg)
INT_HANDLER(cmpxchg8b)
INT_HANDLER(cmpxchg16b)
/* exec_flow.c */
INT_HANDLER(jmp)
INT_HANDLER(jcc)
INT_HANDLER(jcxz)
INT_HANDLER(loop)
INT_HANDLER(call)
INT_HANDLER(ret)
INT_HANDLER(push)
INT_HANDLER(pop) INT_HANDLER(pusha) INT_HANDLER(popa) INT_HANDLER(enter) INT_HANDLER(leave)
#undef INT_HANDLER

#endif
