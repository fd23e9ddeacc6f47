/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linear memory as the interpreter reaches it: a software TLB in front of the page walk.
 *
 * One direct-mapped table per view (user; supervisor; supervisor with EFLAGS.AC, which differs under
 * SMAP). An entry is good while its generation is that of the current PCID, or of global pages:
 * flushes only take a new number. All on the vCPU's own thread, but for the memory map's listener,
 * which runs while vCPUs are stopped. SDM vol. 3, 4.6 and 4.10.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/stats.h"
#include "cpu/interp/sys_priv.h"

enum { TLB_SIZE = 1024, PCID_COUNT = 4096 };
enum view { VIEW_SUP, VIEW_SUP_AC, VIEW_USER, VIEW_COUNT };

#define PAGE_MASK 0xfffull
/* Rights already proven for the entry; HOST_W: writable RAM behind it. */
#define PERM(acc) (1u << ((acc)&3u))

struct tlb_entry {
	uint64_t page;	     /* linear address of the page */
	uint8_t *host;	     /* its first byte in the host, or NULL: through the memory map */
	gpa_t gpa;	     /* its first byte in guest-physical space */
	const uint8_t *code; /* non-zero: decoded instructions of the page are cached */
	uint32_t gen;
	uint32_t perm;
};

struct interp_tlb {
	struct tlb_entry e[VIEW_COUNT][TLB_SIZE];
	uint32_t gen;	     /* of the current PCID's pages */
	uint32_t global_gen; /* of global pages */
	uint32_t floor;	     /* numbers below it are dead */
	uint32_t next;
	uint32_t pcid_gen[PCID_COUNT];
	/* Where large pages were seen, by address half: INVLPG in there flushes everything. */
	gva_t large_lo[2], large_hi[2];
	struct x86_walk_mem walk;
	struct mem_listener listener;
	struct vcpu *v;
};

static uint64_t walk_read(void *opaque, gpa_t a, unsigned size, bool *ok)
{
	const struct vcpu *v = opaque;
	const uint8_t *p = mem_ptr(v->mem, a, size, false);

	if (unlikely(p == NULL)) {
		*ok = false;
		return size == 8 ? UINT64_MAX : UINT32_MAX;
	}
	*ok = true;
	if (size == 8)
		return __atomic_load_n((const uint64_t *)(const void *)p, __ATOMIC_RELAXED);
	return __atomic_load_n((const uint32_t *)(const void *)p, __ATOMIC_RELAXED);
}

static bool walk_cmpxchg(void *opaque, gpa_t a, unsigned size, uint64_t old_val, uint64_t new_val)
{
	struct vcpu *v = opaque;
	uint8_t *p = mem_ptr(v->mem, a, size, true);
	uint32_t old32 = (uint32_t)old_val;

	if (p == NULL)
		return true; /* tables in ROM: the mark is lost */
	if (unlikely(v->hooks.entry_marked != NULL))
		v->hooks.entry_marked(v, a, size);
	if (size == 8)
		return __atomic_compare_exchange_n((uint64_t *)(void *)p, &old_val, new_val, false,
						   __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	return __atomic_compare_exchange_n((uint32_t *)(void *)p, &old32, (uint32_t)new_val, false,
					   __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

/* ---- generations ---- */

static unsigned current_pcid(const struct x86_state *s)
{
	return s->cr4 & X86_CR4_PCIDE ? (unsigned)(s->cr3 & 0xfff) : 0;
}

static void forget_large(struct interp_tlb *t)
{
	for (unsigned i = 0; i < 2; i++) {
		t->large_lo[i] = UINT64_MAX;
		t->large_hi[i] = 0;
	}
}

/* Starts over when the numbers run out. */
static uint32_t new_gen(struct interp_tlb *t)
{
	if (unlikely(t->next == UINT32_MAX)) {
		memset(t->e, 0, sizeof(t->e));
		memset(t->pcid_gen, 0, sizeof(t->pcid_gen));
		t->next = 1;
		t->floor = 1;
		t->global_gen = 1;
	}
	return ++t->next;
}

/* The instruction cache follows translations too; while a vCPU opens there is none yet. */
static void fetch_stale(struct vcpu *v)
{
	if (interp_of(v)->icache != NULL)
		interp_icache_flush(v);
}

static void flush_all(struct interp_tlb *t)
{
	const unsigned pcid = current_pcid(t->v->s);

	t->floor = new_gen(t);
	t->global_gen = t->floor;
	t->gen = t->pcid_gen[pcid] = new_gen(t);
	forget_large(t);
	fetch_stale(t->v);
}

void interp_tlb_cr3(struct vcpu *v, bool keep)
{
	struct interp_tlb *t = interp_of(v)->tlb;
	const unsigned pcid = current_pcid(v->s);

	if (!keep || t->pcid_gen[pcid] < t->floor || t->pcid_gen[pcid] == 0)
		t->pcid_gen[pcid] = new_gen(t);
	t->gen = t->pcid_gen[pcid];
	fetch_stale(v);
}

void interp_tlb_flush(struct vcpu *v, bool global)
{
	if (global)
		flush_all(interp_of(v)->tlb);
	else
		interp_tlb_cr3(v, false);
}

void interp_tlb_flush_page(struct vcpu *v, gva_t va)
{
	struct interp_tlb *t = interp_of(v)->tlb;
	const unsigned half = (unsigned)(va >> 63);

	if (va >= t->large_lo[half] && va <= t->large_hi[half]) {
		flush_all(t);
		return;
	}
	for (unsigned i = 0; i < VIEW_COUNT; i++)
		t->e[i][(va >> 12) % TLB_SIZE].gen = 0;
	interp_icache_flush_page(v, va);
}

void interp_tlb_drop_pcid(struct vcpu *v, unsigned pcid)
{
	struct interp_tlb *t = interp_of(v)->tlb;

	if (pcid == current_pcid(v->s))
		interp_tlb_cr3(v, false);
	else
		t->pcid_gen[pcid % PCID_COUNT] = 0;
}

/* An entry has no PCID of its own: another one is dropped whole. */
void interp_tlb_drop_pcid_page(struct vcpu *v, unsigned pcid, gva_t va)
{
	if (pcid == current_pcid(v->s))
		interp_tlb_flush_page(v, va);
	else
		interp_tlb_drop_pcid(v, pcid);
}

static void map_changed(struct mem_listener *l, const struct mem_region *r)
{
	struct interp_tlb *t = container_of(l, struct interp_tlb, listener);

	if (r->host != NULL)
		flush_all(t);
}

int interp_mem_open(struct vcpu *v)
{
	struct interp_tlb *t = aligned_alloc(64, ALIGN_UP(sizeof(*t), 64));

	if (t == NULL)
		return -ENOMEM;
	memset(t, 0, sizeof(*t));
	t->v = v;
	t->next = 1;
	t->walk = (struct x86_walk_mem){ .opaque = v, .read = walk_read, .cmpxchg = walk_cmpxchg };
	t->listener = (struct mem_listener){ .added = map_changed, .removed = map_changed };
	interp_of(v)->tlb = t;
	flush_all(t);
	mem_listener_add(v->mem, &t->listener);
	return 0;
}

void interp_mem_close(struct vcpu *v)
{
	struct interp_tlb *t = interp_of(v)->tlb;

	if (t == NULL)
		return;
	mem_listener_remove(v->mem, &t->listener);
	free(t);
	interp_of(v)->tlb = NULL;
}

/* ---- look-up ---- */

static inline enum view view_of(const struct x86_state *s, unsigned acc)
{
	if (acc & X86_ACC_IMPLICIT)
		return VIEW_SUP;
	if (s->cpl == 3)
		return VIEW_USER;
	return s->rflags & X86_FL_AC ? VIEW_SUP_AC : VIEW_SUP;
}

static inline struct tlb_entry *slot(struct interp_tlb *t, enum view w, gva_t lin)
{
	return &t->e[w][(lin >> 12) % TLB_SIZE];
}

static inline bool hit(const struct interp_tlb *t, const struct tlb_entry *e, gva_t lin,
		       unsigned acc)
{
	return e->page == (lin & ~PAGE_MASK) && (e->perm & PERM(acc)) &&
	       (e->gen == t->gen || e->gen == t->global_gen);
}

static void note_large(struct interp_tlb *t, gva_t va, uint64_t size)
{
	const unsigned half = (unsigned)(va >> 63);

	t->large_lo[half] = MIN(t->large_lo[half], ALIGN_DOWN(va, size));
	t->large_hi[half] = MAX(t->large_hi[half], ALIGN_DOWN(va, size) + (size - 1));
}

/* The host page behind gpa, or NULL. *ro: a write must not go there directly. */
static uint8_t *host_page(const struct vcpu *v, gpa_t page, bool *ro)
{
	const struct mem_region *r = mem_find(v->mem, page);

	*ro = true;
	if (r == NULL || r->host == NULL || r->size - (page - r->base) < 4096)
		return NULL;
	*ro = r->ro;
	return r->host + (page - r->base);
}

/* Rights an entry may carry beyond those just walked for: a dirty, writable page takes writes. */
static unsigned more_rights(const struct x86_state *s, const struct x86_xlat *xl, unsigned acc,
			    enum view w)
{
	unsigned perm = PERM(acc);

	if ((acc & 3) == X86_ACC_X)
		return perm;
	if (xl->dirty && (xl->writable || (w != VIEW_USER && !(s->cr0 & X86_CR0_WP))))
		perm |= PERM(X86_ACC_W);
	return perm | PERM(X86_ACC_R);
}

static struct tlb_entry *fill(struct vcpu *v, gva_t lin, unsigned acc, enum view w,
			      struct x86_xlat *xl, uint32_t *pf_error)
{
	struct interp_tlb *t = interp_of(v)->tlb;
	struct tlb_entry *e = slot(t, w, lin);
	struct tlb_entry n;
	bool ro;

	if (w == VIEW_USER)
		acc |= X86_ACC_USER;
	*pf_error = 0;
	if (x86_translate(v->s, &t->walk, lin, acc, xl, pf_error) < 0)
		return NULL;
	n.page = lin & ~PAGE_MASK;
	n.gpa = xl->gpa & ~PAGE_MASK;
	n.host = host_page(v, n.gpa, &ro);
	n.code = interp_code_flag(v, n.gpa);
	n.gen = xl->global ? t->global_gen : t->gen;
	n.perm = more_rights(v->s, xl, acc, w);
	if (n.host != NULL && ro) {
		n.perm &= ~PERM(
			X86_ACC_W); /* ROM: reads are direct, writes take the walk each time */
		if (acc & X86_ACC_W)
			n.host = NULL;
	}
	if (e->page == n.page && e->gen == n.gen && e->gpa == n.gpa && e->host == n.host)
		n.perm |= e->perm;
	if (xl->page_size > 4096)
		note_large(t, lin, xl->page_size);
	*e = n;
	return e;
}

/* The entry for an access, or NULL with a page fault recorded. */
static inline struct tlb_entry *entry_for(struct vcpu *v, gva_t lin, unsigned acc)
{
	struct interp_tlb *t = interp_of(v)->tlb;
	const enum view w = view_of(v->s, acc);
	struct tlb_entry *e = slot(t, w, lin);
	struct x86_xlat xl;
	uint32_t err;

	if (likely(hit(t, e, lin, acc)))
		return e;
	e = fill(v, lin, acc, w, &xl, &err);
	if (e == NULL)
		(void)interp_fault_pf(v, lin, err);
	return e;
}

/* RAM at page offset off was written: translated and decoded code there is stale. */
static inline void note_write(struct vcpu *v, const struct tlb_entry *e, unsigned off, unsigned n)
{
	if (unlikely(v->hooks.ram_written != NULL))
		v->hooks.ram_written(v, e->gpa + off, n);
	if (unlikely(__atomic_load_n(e->code, __ATOMIC_RELAXED) != 0))
		interp_code_invalidate(v, e->gpa + off, n);
}

uint8_t *interp_resolve(struct vcpu *v, gva_t va, unsigned acc, struct x86_xlat *xl,
			uint32_t *pf_error)
{
	const enum view w = acc & X86_ACC_USER ? VIEW_USER : view_of(v->s, acc);
	struct interp_tlb *t = interp_of(v)->tlb;
	bool ro;
	uint8_t *p;

	if (acc & X86_ACC_PROBE) {
		if (w == VIEW_USER)
			acc |= X86_ACC_USER;
		*pf_error = 0;
		if (x86_translate(v->s, &t->walk, va, acc, xl, pf_error) < 0)
			return NULL;
		p = host_page(v, xl->gpa & ~PAGE_MASK, &ro);
	} else {
		if (fill(v, va, acc, w, xl, pf_error) == NULL)
			return NULL;
		p = host_page(v, xl->gpa & ~PAGE_MASK, &ro);
	}
	if (p == NULL || ((acc & X86_ACC_W) && ro))
		return NULL;
	return p + (va & PAGE_MASK);
}

unsigned interp_fetch(struct vcpu *v, gva_t va, uint8_t *buf, unsigned n, uint32_t *pf_error)
{
	struct interp_tlb *t = interp_of(v)->tlb;
	const enum view w = v->s->cpl == 3 ? VIEW_USER : VIEW_SUP;
	unsigned done = 0;

	*pf_error = 0;
	while (done < n) {
		const gva_t a = x86_long_mode(v->s) ? va + done : (uint32_t)(va + done);
		const unsigned len = MIN(n - done, (unsigned)(4096 - (a & PAGE_MASK)));
		struct tlb_entry *e = slot(t, w, a);
		struct x86_xlat xl;
		uint32_t err;

		if (!hit(t, e, a, X86_ACC_X)) {
			e = fill(v, a, X86_ACC_X, w, &xl, &err);
			if (e == NULL) {
				*pf_error = err;
				return done;
			}
		}
		if (e->host != NULL)
			memcpy(buf + done, e->host + (a & PAGE_MASK), len);
		for (unsigned i = 0; e->host == NULL && i < len; i++)
			buf[done + i] = (uint8_t)mem_load(v->mem, e->gpa + (a & PAGE_MASK) + i, 1);
		done += len;
	}
	return done;
}

/* ---- access ---- */

/* The largest power of two that a is aligned to and n holds, at most 8. */
static unsigned piece(gpa_t a, unsigned n)
{
	unsigned size = 8;

	while (size > n || (a & (size - 1)) != 0)
		size /= 2;
	return size;
}

static uint64_t mmio_read(struct vcpu *v, gpa_t a, unsigned size)
{
	stat_inc(EXIT_MMIO);
	if (unlikely(v->hooks.mmio_read != NULL))
		return v->hooks.mmio_read(v, a, size);
	return mem_load(v->mem, a, size);
}

static void mmio_write(struct vcpu *v, gpa_t a, uint64_t val, unsigned size)
{
	stat_inc(EXIT_MMIO);
	if (unlikely(v->hooks.mmio_write != NULL))
		v->hooks.mmio_write(v, a, val, size);
	else
		mem_store(v->mem, a, val, size);
}

static void page_read(struct vcpu *v, const struct tlb_entry *e, unsigned off, uint8_t *buf,
		      unsigned n)
{
	if (likely(e->host != NULL)) {
		memcpy(buf, e->host + off, n);
		return;
	}
	for (unsigned i = 0; i < n;) {
		const unsigned size = piece(e->gpa + off + i, n - i);
		const uint64_t val = mmio_read(v, e->gpa + off + i, size);

		memcpy(buf + i, &val, size);
		i += size;
	}
}

static void page_write(struct vcpu *v, const struct tlb_entry *e, unsigned off, const uint8_t *buf,
		       unsigned n)
{
	if (likely(e->host != NULL)) {
		memcpy(e->host + off, buf, n);
		note_write(v, e, off, n);
		return;
	}
	for (unsigned i = 0; i < n;) {
		const unsigned size = piece(e->gpa + off + i, n - i);
		uint64_t val = 0;

		memcpy(&val, buf + i, size);
		mmio_write(v, e->gpa + off + i, val, size);
		i += size;
	}
}

static gva_t next_page(const struct x86_state *s, gva_t lin)
{
	const gva_t a = (lin | PAGE_MASK) + 1;

	return x86_long_mode(s) ? a : (uint32_t)a;
}

int interp_lin_read(struct vcpu *v, gva_t lin, void *buf, unsigned n, unsigned acc)
{
	const unsigned off = (unsigned)(lin & PAGE_MASK);
	const unsigned first = MIN(n, 4096 - off);
	struct tlb_entry *e = entry_for(v, lin, acc), a;

	if (unlikely(e == NULL))
		return -1;
	if (likely(first == n)) {
		page_read(v, e, off, buf, n);
		return 0;
	}
	a = *e;
	e = entry_for(v, next_page(v->s, lin), acc);
	if (e == NULL)
		return -1;
	page_read(v, &a, off, buf, first);
	page_read(v, e, 0, (uint8_t *)buf + first, n - first);
	return 0;
}

int interp_lin_write(struct vcpu *v, gva_t lin, const void *buf, unsigned n, unsigned acc)
{
	const unsigned off = (unsigned)(lin & PAGE_MASK);
	const unsigned first = MIN(n, 4096 - off);
	struct tlb_entry *e = entry_for(v, lin, acc | X86_ACC_W), a, b;

	if (unlikely(e == NULL))
		return -1;
	a = *e; /* MMIO handlers and hooks may change the table */
	if (likely(first == n)) {
		page_write(v, &a, off, buf, n);
		return 0;
	}
	e = entry_for(v, next_page(v->s, lin), acc | X86_ACC_W);
	if (e == NULL)
		return -1;
	b = *e;
	page_write(v, &a, off, buf, first);
	page_write(v, &b, 0, (const uint8_t *)buf + first, n - first);
	return 0;
}

/* CR0.AM with EFLAGS.AC at CPL 3: #AC(0) for what is not naturally aligned. */
static bool misaligned(const struct x86_state *s, gva_t lin, unsigned size)
{
	return (lin & (size - 1)) != 0 && s->cpl == 3 && (s->rflags & X86_FL_AC) &&
	       (s->cr0 & X86_CR0_AM);
}

static int load_slow(struct vcpu *v, gva_t lin, unsigned size, uint64_t *val)
{
	if (misaligned(v->s, lin, size))
		return interp_fault(v, X86_EX_AC, true, 0);
	*val = 0;
	return interp_lin_read(v, lin, val, size, X86_ACC_R);
}

int interp_load(struct vcpu *v, gva_t lin, unsigned size, uint64_t *val)
{
	struct interp_tlb *t = interp_of(v)->tlb;
	const struct tlb_entry *e = slot(t, view_of(v->s, 0), lin);
	const void *p;

	if (unlikely((lin & (size - 1)) != 0 || !hit(t, e, lin, X86_ACC_R) || e->host == NULL))
		return load_slow(v, lin, size, val);
	p = e->host + (lin & PAGE_MASK);
	switch (size) {
	case 1: *val = __atomic_load_n((const uint8_t *)p, __ATOMIC_RELAXED); break;
	case 2: *val = __atomic_load_n((const uint16_t *)p, __ATOMIC_RELAXED); break;
	case 4: *val = __atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED); break;
	default: *val = __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED);
	}
	return 0;
}

static int store_slow(struct vcpu *v, gva_t lin, unsigned size, uint64_t val)
{
	if (misaligned(v->s, lin, size))
		return interp_fault(v, X86_EX_AC, true, 0);
	return interp_lin_write(v, lin, &val, size, X86_ACC_W);
}

int interp_store(struct vcpu *v, gva_t lin, unsigned size, uint64_t val)
{
	struct interp_tlb *t = interp_of(v)->tlb;
	const struct tlb_entry *e = slot(t, view_of(v->s, 0), lin);
	void *p;

	if ((lin & (size - 1)) == 0 && !hit(t, e, lin, X86_ACC_W)) {
		if (entry_for(v, lin, X86_ACC_W) == NULL)
			return -1;
	}
	if (unlikely((lin & (size - 1)) != 0 || e->host == NULL))
		return store_slow(v, lin, size, val);
	p = e->host + (lin & PAGE_MASK);
	switch (size) {
	case 1: __atomic_store_n((uint8_t *)p, (uint8_t)val, __ATOMIC_RELEASE); break;
	case 2: __atomic_store_n((uint16_t *)p, (uint16_t)val, __ATOMIC_RELEASE); break;
	case 4: __atomic_store_n((uint32_t *)p, (uint32_t)val, __ATOMIC_RELEASE); break;
	default: __atomic_store_n((uint64_t *)p, val, __ATOMIC_RELEASE);
	}
	note_write(v, e, (unsigned)(lin & PAGE_MASK), size);
	return 0;
}

void *interp_direct(struct vcpu *v, gva_t lin, unsigned n, unsigned acc)
{
	struct tlb_entry *e;

	if ((lin & PAGE_MASK) + n > 4096)
		return NULL;
	if (n <= 8 && n != 0 && (n & (n - 1)) == 0 && misaligned(v->s, lin, n)) {
		(void)interp_fault(v, X86_EX_AC, true, 0);
		return NULL;
	}
	e = entry_for(v, lin, acc);
	if (e == NULL || e->host == NULL)
		return NULL;
	if (acc & X86_ACC_W)
		note_write(v, e, (unsigned)(lin & PAGE_MASK), n);
	return e->host + (lin & PAGE_MASK);
}
