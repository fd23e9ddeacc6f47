/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page walk of all three paging modes (SDM vol. 3, 4.3-4.7). Stateless; any thread.
 *
 * Reserved bits are judged level by level on the way down, rights only once the leaf is known, and
 * accessed and dirty bits are set last: that is the order in which software can tell them apart.
 */
#include "x86/paging.h"

#include <cpuid.h>
#include <errno.h>

#define PTE_P BIT(0)
#define PTE_W BIT(1)
#define PTE_U BIT(2)
#define PTE_A BIT(5)
#define PTE_D BIT(6)
#define PTE_PS BIT(7)
#define PTE_G BIT(8)
#define PTE_NX BIT(63)

enum { MAX_PHYS_BITS = 40, MAX_LEVELS = 4, WALK_RETRIES = 64 };

unsigned x86_phys_bits(void)
{
	static unsigned cached;
	unsigned bits = __atomic_load_n(&cached, __ATOMIC_RELAXED);
	unsigned a, b, c, d;

	if (likely(bits != 0))
		return bits;
	bits = 36;
	if (__get_cpuid(0x80000008u, &a, &b, &c, &d))
		bits = a & 0xff;
	bits = MIN(bits, (unsigned)MAX_PHYS_BITS);
	__atomic_store_n(&cached, bits, __ATOMIC_RELAXED);
	return bits;
}

/* One walk under way: the mode's geometry, and the entries seen, root first. */
struct walk {
	const struct x86_state *s;
	const struct x86_walk_mem *m;
	unsigned acc;
	unsigned entry_size; /* 4 or 8 */
	unsigned count;
	gpa_t at[MAX_LEVELS];
	uint64_t entry[MAX_LEVELS];
	unsigned rights_from; /* first level that carries R/W, U/S and A: 1 in PAE mode */
	unsigned leaf_shift;
};

static bool is_pae(const struct x86_state *s)
{
	return s->cr4 & X86_CR4_PAE;
}

static uint32_t fault_bits(const struct walk *w, uint32_t why)
{
	const struct x86_state *s = w->s;
	uint32_t e = why;

	if (w->acc & X86_ACC_W)
		e |= X86_PF_W;
	if (w->acc & X86_ACC_USER)
		e |= X86_PF_U;
	if ((w->acc & X86_ACC_X) &&
	    ((s->cr4 & X86_CR4_SMEP) || (is_pae(s) && (s->efer & X86_EFER_NXE))))
		e |= X86_PF_I;
	return e;
}

/* Bits of an 8-byte entry that must be zero. level: 3 PML4E, 2 PDPTE, 1 PDE, 0 PTE. */
static uint64_t reserved8(const struct x86_state *s, unsigned level, uint64_t e)
{
	const bool lm = x86_long_mode(s);
	uint64_t r = (BIT(52) - 1) & ~(BIT(x86_phys_bits()) - 1);

	if (!(s->efer & X86_EFER_NXE))
		r |= PTE_NX;
	if (!lm)
		r |= 0x7ff0000000000000ull;
	if (level == 3)
		return r | PTE_PS;
	if (level == 2 && !lm) /* PDPTE of PAE: 1-2, 5-8 and 63 too */
		return r | 0x1e6ull | PTE_NX;
	if (level == 2 && (e & PTE_PS))
		return r | 0x3fffe000ull;
	if (level == 1 && (e & PTE_PS))
		return r | 0x1fe000ull;
	return r;
}

/* 4 MiB pages take address bits 39:32 from 20:13 (PSE-36). */
static uint64_t reserved4(const struct x86_state *s, unsigned level, uint64_t e)
{
	if (level == 1 && (e & PTE_PS) && (s->cr4 & X86_CR4_PSE))
		return (BIT(22) - 1) & ~(BIT(13 + x86_phys_bits() - 32) - 1);
	return 0;
}

static bool is_leaf(const struct walk *w, unsigned level, uint64_t e)
{
	if (level == 0)
		return true;
	if (!(e & PTE_PS))
		return false;
	if (w->entry_size == 4)
		return level == 1 && (w->s->cr4 & X86_CR4_PSE);
	return level == 1 || (level == 2 && x86_long_mode(w->s));
}

/* Reads entries down to the leaf. 0, or the error code's reason with *fault set. */
static bool descend(struct walk *w, gva_t va, uint32_t *pf_error)
{
	const unsigned bits = w->entry_size == 8 ? 9 : 10;
	const bool pae32 = w->entry_size == 8 && !x86_long_mode(w->s);
	unsigned level = w->entry_size == 4 ? 1 : pae32 ? 2 : 3;
	gpa_t table = w->s->cr3 & (pae32		? 0xffffffe0ull
				   : w->entry_size == 4 ? 0xfffff000ull
							: (BIT(x86_phys_bits()) - 1) & ~0xfffull);

	w->rights_from = pae32 ? 1 : 0;
	for (w->count = 0;; level--) {
		const unsigned shift = 12 + level * bits;
		const uint64_t index = (va >> shift) & (pae32 && level == 2 ? 3 : (1u << bits) - 1);
		const gpa_t at = table + index * w->entry_size;
		bool ok = true;
		const uint64_t e = w->m->read(w->m->opaque, at, w->entry_size, &ok);

		w->at[w->count] = at;
		w->entry[w->count++] = e;
		if (!(e & PTE_P)) {
			*pf_error = fault_bits(w, 0);
			return false;
		}
		if (e &
		    (w->entry_size == 8 ? reserved8(w->s, level, e) : reserved4(w->s, level, e))) {
			*pf_error = fault_bits(w, X86_PF_P | X86_PF_RSVD);
			return false;
		}
		if (is_leaf(w, level, e)) {
			w->leaf_shift = shift;
			return true;
		}
		table = e & 0x000ffffffffff000ull;
	}
}

static void fill_xlat(const struct walk *w, gva_t va, struct x86_xlat *x)
{
	const uint64_t leaf = w->entry[w->count - 1];
	const uint64_t page = BIT(w->leaf_shift);
	uint64_t both = ~0ull, any = 0, base;

	for (unsigned i = w->rights_from; i < w->count; i++) {
		both &= w->entry[i];
		any |= w->entry[i];
	}
	base = leaf & 0x000ffffffffff000ull & ~(page - 1);
	if (w->entry_size == 4 && w->leaf_shift == 22)
		base = (leaf & 0xffc00000ull) | ((leaf >> 13) & 0xff) << 32;
	x->gpa = base | (va & (page - 1));
	x->page_size = page;
	x->user = both & PTE_U;
	x->writable = both & PTE_W;
	x->nx = w->entry_size == 8 && (any & PTE_NX);
	x->dirty = leaf & PTE_D;
	x->global = (leaf & PTE_G) && (w->s->cr4 & X86_CR4_PGE);
}

static bool allowed(const struct walk *w, const struct x86_xlat *x)
{
	const struct x86_state *s = w->s;
	const bool user_access = w->acc & X86_ACC_USER;

	if (user_access && !x->user)
		return false;
	if (w->acc & X86_ACC_X) {
		if (x->nx)
			return false;
		return user_access || !x->user || !(s->cr4 & X86_CR4_SMEP);
	}
	if (!user_access && x->user && (s->cr4 & X86_CR4_SMAP) &&
	    ((w->acc & X86_ACC_IMPLICIT) || !(s->rflags & X86_FL_AC)))
		return false;
	if ((w->acc & X86_ACC_W) && !x->writable)
		return !user_access && !(s->cr0 & X86_CR0_WP);
	return true;
}

/* Sets A on the way and D in the leaf of a write. False: an entry changed meanwhile, walk again. */
static bool set_accessed(struct walk *w)
{
	for (unsigned i = w->rights_from; i < w->count; i++) {
		uint64_t want = w->entry[i] | PTE_A;

		if (i == w->count - 1 && (w->acc & X86_ACC_W))
			want |= PTE_D;
		if (want == w->entry[i])
			continue;
		if (!w->m->cmpxchg(w->m->opaque, w->at[i], w->entry_size, w->entry[i], want))
			return false;
		w->entry[i] = want;
	}
	return true;
}

static void identity(gva_t va, struct x86_xlat *out)
{
	*out = (struct x86_xlat){
		.gpa = va, .page_size = 4096, .user = true, .writable = true, .dirty = true
	};
}

int x86_translate(const struct x86_state *s, const struct x86_walk_mem *m, gva_t va, unsigned acc,
		  struct x86_xlat *out, uint32_t *pf_error)
{
	struct walk w = { .s = s, .m = m, .acc = acc, .entry_size = is_pae(s) ? 8 : 4 };

	if (!(s->cr0 & X86_CR0_PG)) {
		identity(va, out);
		return 0;
	}
	for (unsigned try = 0; try < WALK_RETRIES; try++) {
		if (!descend(&w, va, pf_error))
			return -EFAULT;
		fill_xlat(&w, va, out);
		if (!allowed(&w, out)) {
			*pf_error = fault_bits(&w, X86_PF_P);
			return -EFAULT;
		}
		if ((acc & X86_ACC_PROBE) || set_accessed(&w)) {
			out->dirty = w.entry[w.count - 1] & PTE_D;
			return 0;
		}
	}
	/* Another processor rewrites the entry faster than we can mark it: let the guest try again. */
	*pf_error = fault_bits(&w, 0);
	return -EFAULT;
}
