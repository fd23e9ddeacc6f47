/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decoded-instruction cache: filling, finding, invalidation (SDM vol. 3, 8.1.3: self- and
 * cross-modifying code). See icache.h for the shape.
 *
 * Stores find out through one flag byte per guest page, shared by the vCPUs of a memory map. A vCPU
 * sets its bit before it reads bytes to decode; a store is looked at after it was made. With several
 * vCPUs a process-wide barrier between the two makes that order hold without a fence per store.
 */
#include "cpu/interp/icache.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IC_BYTES_MAX (64 * MiB)
#define IC_HOLE (4 * GiB) /* RAM may lie this much higher than its size says */
#define IC_RUN_MAX 24u	  /* instructions decoded ahead */

/* What the vCPUs of one memory map share. */
struct ic_share {
	struct mem_map *mem;
	unsigned refs;
	pthread_mutex_t lock;
	struct interp_icache *first;
	unsigned bits_used;
	uint64_t pages;
	uint8_t *flag; /* by guest-physical page */
	struct mem_listener listener;
	struct ic_share *next;
};

static pthread_mutex_t share_lock = PTHREAD_MUTEX_INITIALIZER;
static struct ic_share *shares;
static const uint8_t no_flag;

/* ---- sharing ---- */

static void inbox_post(struct interp_icache *ic, gpa_t page)
{
	if (ic->inbox_n && ic->inbox[ic->inbox_n - 1] == page)
		return;
	if (ic->inbox_n == IC_INBOX)
		ic->inbox_all = true;
	else
		ic->inbox[ic->inbox_n++] = page;
	atomic_store(&ic->inbox_set, 1);
}

static void dma_written(struct mem_listener *l, gpa_t a, uint64_t len)
{
	struct ic_share *sh = container_of(l, struct ic_share, listener);
	uint64_t first = a >> 12, end = (a + len + 4095) >> 12;

	if (end > sh->pages || end < first)
		end = sh->pages;
	for (uint64_t p = first; p < end; p++) {
		unsigned flag = __atomic_load_n(&sh->flag[p], __ATOMIC_SEQ_CST);

		if (likely(!flag))
			continue;
		pthread_mutex_lock(&sh->lock);
		for (struct interp_icache *ic = sh->first; ic; ic = ic->next)
			if (flag & ic->bit)
				inbox_post(ic, p << 12);
		pthread_mutex_unlock(&sh->lock);
	}
}

static struct ic_share *share_new(struct mem_map *mem)
{
	struct ic_share *sh = calloc(1, sizeof(*sh));

	if (!sh)
		return NULL;
	sh->pages = (mem_ram_size(mem) + IC_HOLE) >> 12;
	sh->flag = calloc(sh->pages, 1);
	if (!sh->flag) {
		free(sh);
		return NULL;
	}
	sh->mem = mem;
	pthread_mutex_init(&sh->lock, NULL);
	sh->listener.dma_written = dma_written;
	mem_listener_add(mem, &sh->listener);
	sh->next = shares;
	shares = sh;
	return sh;
}

static struct ic_share *share_get(struct interp_icache *ic, struct mem_map *mem)
{
	struct ic_share *sh;

	pthread_mutex_lock(&share_lock);
	for (sh = shares; sh && sh->mem != mem; sh = sh->next)
		;
	if (!sh)
		sh = share_new(mem);
	if (sh) {
		sh->refs++;
		pthread_mutex_lock(&sh->lock);
		ic->next = sh->first;
		sh->first = ic;
		ic->bit_shared = sh->bits_used >= 7;
		ic->bit = 1u << (ic->bit_shared ? 7 : sh->bits_used++);
		pthread_mutex_unlock(&sh->lock);
	}
	pthread_mutex_unlock(&share_lock);
	return sh;
}

static void share_put(struct interp_icache *ic)
{
	struct ic_share *sh = ic->share, **at;

	pthread_mutex_lock(&share_lock);
	pthread_mutex_lock(&sh->lock);
	for (struct interp_icache **p = &sh->first; *p; p = &(*p)->next)
		if (*p == ic) {
			*p = ic->next;
			break;
		}
	pthread_mutex_unlock(&sh->lock);
	if (--sh->refs == 0) {
		for (at = &shares; *at != sh; at = &(*at)->next)
			;
		*at = sh->next;
		mem_listener_remove(sh->mem, &sh->listener);
		pthread_mutex_destroy(&sh->lock);
		free(sh->flag);
		free(sh);
	}
	pthread_mutex_unlock(&share_lock);
}

const uint8_t *interp_code_flag(struct vcpu *v, gpa_t gpa)
{
	const struct ic_share *sh = interp_of(v)->icache->share;

	return (gpa >> 12) < sh->pages ? &sh->flag[gpa >> 12] : &no_flag;
}

/* ---- pages ---- */

static unsigned page_hash(gpa_t gpa, enum x86_mode mode)
{
	return (unsigned)((gpa >> 12) * 3 + (unsigned)mode) % IC_HASH;
}

static void page_free(struct interp_icache *ic, struct ic_page *p)
{
	for (unsigned i = 0; i < ARRAY_SIZE(p->chunk) && p->chunk[i]; i++) {
		ic->bytes -= sizeof(struct ic_chunk);
		free(p->chunk[i]);
	}
	ic->bytes -= sizeof(*p);
	free(p);
}

static void maps_clear(struct interp_icache *ic)
{
	for (unsigned i = 0; i < IC_MAPS; i++)
		ic->map[i].tag = ~0ull;
	ic->gen = 0;
}

/* Usually only takes a new number; the tags have room for so many. */
static void maps_drop(struct interp_icache *ic)
{
	ic->gen += IC_TAG_GEN;
	if (ic->gen > IC_TAG_GEN_MAX)
		maps_clear(ic);
}

static void page_retire(struct interp_icache *ic, struct ic_page *p)
{
	for (unsigned i = 0; i < IC_MAPS; i++)
		if (ic->map[i].page == p)
			ic->map[i].tag = ~0ull;
	p->hash_next = ic->stale;
	ic->stale = p;
	ic->changed = true;
}

/* Drops the decoded instructions of a page that touch the lines in `lines`. */
static void page_drop(struct interp_icache *ic, gpa_t gpa, uint64_t lines)
{
	bool left = false;

	for (unsigned m = 0; m < 3; m++) {
		struct ic_page **at = &ic->hash[page_hash(gpa, (enum x86_mode)m)], *p;

		while ((p = *at)) {
			if (p->gpa != gpa || p->mode != (enum x86_mode)m) {
				at = &p->hash_next;
			} else if (!(p->lines & lines) && lines != ~0ull) {
				left = true;
				at = &p->hash_next;
			} else {
				*at = p->hash_next;
				page_retire(ic, p);
			}
		}
	}
	if (!left && !ic->bit_shared && (gpa >> 12) < ic->share->pages)
		__atomic_and_fetch(&ic->share->flag[gpa >> 12], (uint8_t)~ic->bit,
				   __ATOMIC_SEQ_CST);
}

static void cache_drop_all(struct interp_icache *ic)
{
	for (unsigned h = 0; h < IC_HASH; h++)
		while (ic->hash[h])
			page_drop(ic, ic->hash[h]->gpa, ~0ull);
	maps_drop(ic);
	ic->changed = true;
}

static void flag_set(struct interp_icache *ic, gpa_t gpa)
{
	uint8_t *flag = &ic->share->flag[gpa >> 12];

	if (*flag & ic->bit)
		return;
	__atomic_or_fetch(flag, (uint8_t)ic->bit, __ATOMIC_SEQ_CST);
	if (ic->share->first->next)
		syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

/* The page of code at gpa, made if need be. NULL: no memory, or out of what the flags cover. */
static struct ic_page *page_get(struct interp_icache *ic, gpa_t gpa, const uint8_t *host,
				enum x86_mode mode)
{
	struct ic_page **head = &ic->hash[page_hash(gpa, mode)], *p;

	if ((gpa >> 12) >= ic->share->pages)
		return NULL;
	for (p = *head; p; p = p->hash_next)
		if (p->gpa == gpa && p->mode == mode)
			return p;
	p = malloc(sizeof(*p));
	if (!p)
		return NULL;
	memset(p, 0, sizeof(*p));
	ic->bytes += sizeof(*p);
	p->gpa = gpa;
	p->host = host;
	p->mode = mode;
	p->hash_next = *head;
	*head = p;
	flag_set(ic, gpa);
	return p;
}

/* ---- decoding ---- */

static struct ic_entry *entry_new(struct interp_icache *ic, struct ic_page *p)
{
	unsigned c = p->used / IC_CHUNK;

	if (!p->chunk[c]) {
		p->chunk[c] = malloc(sizeof(struct ic_chunk));
		if (!p->chunk[c])
			return NULL;
		ic->bytes += sizeof(struct ic_chunk);
	}
	return &p->chunk[c]->e[p->used % IC_CHUNK];
}

static void lines_mark(struct ic_page *p, unsigned off, unsigned len)
{
	p->lines |= BIT(off >> 6) | BIT((off + len - 1) >> 6);
}

/* Decodes straight on from off while instructions lie wholly in the page; returns the first or NULL. */
static struct ic_entry *page_decode(struct vcpu *v, struct ic_page *p, unsigned off)
{
	struct interp_icache *ic = interp_of(v)->icache;
	struct ic_entry *first = NULL, *prev = NULL;

	for (unsigned n = 0; n < IC_RUN_MAX && off < 4096 && !p->at[off]; n++) {
		struct ic_entry *e = entry_new(ic, p);
		int len;

		if (!e)
			break;
		len = x86_decode(&e->insn, p->mode, p->host + off, MIN(15u, 4096u - off));
		if (len <= 0)
			break;
		interp_bind(v, e);
		e->last = 1;
		lines_mark(p, off, (unsigned)len);
		if (prev && p->used % IC_CHUNK)
			prev->last = 0;
		p->at[off] = (uint16_t)++p->used;
		if (!first)
			first = e;
		prev = e;
		off += (unsigned)len;
		if ((e->insn.attr & (IA_BRANCH | IA_COND)) == IA_BRANCH)
			break;
	}
	return first;
}

/* Bytes the code segment still allows at rip, up to 15. */
static unsigned limit_room(const struct x86_state *s, enum x86_mode mode)
{
	uint64_t left;

	if (mode == X86_MODE_64)
		return 15;
	if (s->rip > s->seg[X86_CS].limit)
		return 0;
	left = s->seg[X86_CS].limit - s->rip;
	return left >= 15 ? 15 : (unsigned)left + 1;
}

/* Decodes without the page cache: straddling instructions, odd places, and every fault. */
static struct ic_entry *decode_alone(struct vcpu *v, gva_t lin, enum x86_mode mode)
{
	struct interp_icache *ic = interp_of(v)->icache;
	struct ic_cross *c = &ic->cross[(lin >> 12) % IC_CROSS];
	unsigned room = limit_room(v->s, mode), n;
	uint32_t pf = 0;
	uint8_t buf[15];
	int len;

	if (!room) {
		interp_gp0(v);
		return NULL;
	}
	n = interp_fetch(v, lin, buf, room, &pf);
	if (!n) {
		interp_fault_pf(v, lin, pf);
		return NULL;
	}
	if (c->rip == lin && c->e.insn.len && c->e.insn.mode == mode && c->e.insn.len <= n &&
	    !memcmp(c->e.insn.bytes, buf, c->e.insn.len))
		return &c->e;
	c->rip = lin;
	c->e.insn.len = 0;
	len = x86_decode(&c->e.insn, mode, buf, n);
	if (len > 0) {
		c->e.last = 1;
		interp_bind(v, &c->e);
		return &c->e;
	}
	c->e.insn.len = 0;
	if (len == -EAGAIN && n < room) {
		gva_t next = mode == X86_MODE_64 ? lin + n : (uint32_t)(lin + n);

		if (!interp_fetch(v, next, buf, 1, &pf)) {
			interp_fault_pf(v, next, pf);
			return NULL;
		}
	}
	if (len == -EILSEQ)
		interp_ud(v);
	else
		interp_gp0(v);
	return NULL;
}

static bool entry_current(const struct ic_page *p, unsigned off, const struct ic_entry *e)
{
	return !memcmp(e->insn.bytes, p->host + off, e->insn.len);
}

struct ic_entry *icache_get_slow(struct vcpu *v, gva_t lin, enum x86_mode mode)
{
	struct interp_icache *ic = interp_of(v)->icache;
	struct ic_map *m = &ic->map[(lin >> 12) % IC_MAPS];
	uint64_t tag = ic_tag(ic, v->s, lin, mode);
	unsigned off = lin & 0xfff;
	struct ic_entry *e = NULL;
	struct x86_xlat xl;
	uint32_t pf;

	if (limit_room(v->s, mode) < 15)
		return decode_alone(v, lin, mode);
	if (ic->bytes > IC_BYTES_MAX) {
		cache_drop_all(ic);
		icache_sync(v);
	}
	if (m->tag != tag) {
		unsigned acc = X86_ACC_X | (v->s->cpl == 3 ? X86_ACC_USER : 0);
		const uint8_t *host;

		if (mode == X86_MODE_64 && !x86_canonical(lin)) {
			interp_gp0(v);
			return NULL;
		}
		host = interp_resolve(v, lin, acc, &xl, &pf);
		if (!host)
			return decode_alone(v, lin, mode);
		m->page = page_get(ic, xl.gpa & ~0xfffull, host - off, mode);
		m->tag = m->page ? tag : ~0ull;
		if (!m->page)
			return decode_alone(v, lin, mode);
	}
	if (m->page->at[off])
		e = ic_page_entry(m->page, m->page->at[off]);
	if (e && ic->verify && !entry_current(m->page, off, e)) {
		page_drop(ic, m->page->gpa, ~0ull);
		return icache_get_slow(v, lin, mode);
	}
	if (!e)
		e = page_decode(v, m->page, off);
	return e ? e : decode_alone(v, lin, mode);
}

/* ---- upkeep ---- */

void icache_sync(struct vcpu *v)
{
	struct interp_icache *ic = interp_of(v)->icache;

	if (unlikely(atomic_load_explicit(&ic->inbox_set, memory_order_relaxed))) {
		struct ic_share *sh = ic->share;
		gpa_t page[IC_INBOX];
		unsigned n;
		bool all;

		pthread_mutex_lock(&sh->lock);
		atomic_store(&ic->inbox_set, 0);
		n = ic->inbox_n;
		all = ic->inbox_all;
		memcpy(page, ic->inbox, n * sizeof(page[0]));
		ic->inbox_n = 0;
		ic->inbox_all = false;
		pthread_mutex_unlock(&sh->lock);
		if (all)
			cache_drop_all(ic);
		for (unsigned i = 0; i < n; i++)
			page_drop(ic, page[i], ~0ull);
	}
	while (ic->stale) {
		struct ic_page *p = ic->stale;

		ic->stale = p->hash_next;
		page_free(ic, p);
	}
	ic->changed = false;
}

void interp_icache_flush(struct vcpu *v)
{
	maps_drop(interp_of(v)->icache);
	interp_of(v)->icache->changed = true;
}

void interp_icache_flush_page(struct vcpu *v, gva_t va)
{
	struct interp_icache *ic = interp_of(v)->icache;

	ic->map[(va >> 12) % IC_MAPS].tag = ~0ull;
	ic->changed = true;
}

void interp_code_invalidate(struct vcpu *v, gpa_t gpa, uint64_t len)
{
	struct interp_icache *ic = interp_of(v)->icache;
	struct ic_share *sh = ic->share;

	while (len) {
		unsigned off = gpa & 0xfff;
		uint64_t n = MIN(len, 4096u - off);
		unsigned last = (unsigned)(off + n - 1) >> 6, flag;
		uint64_t lines = (~0ull << (off >> 6)) & (~0ull >> (63 - last));

		if ((gpa >> 12) >= sh->pages)
			return;
		flag = __atomic_load_n(&sh->flag[gpa >> 12], __ATOMIC_RELAXED);
		if (flag & ic->bit)
			page_drop(ic, gpa & ~0xfffull, lines);
		if ((flag & ~ic->bit) || (flag && ic->bit_shared)) {
			pthread_mutex_lock(&sh->lock);
			for (struct interp_icache *o = sh->first; o; o = o->next)
				if (o != ic && (flag & o->bit))
					inbox_post(o, gpa & ~0xfffull);
			pthread_mutex_unlock(&sh->lock);
		}
		gpa += n;
		len -= n;
	}
}

int icache_open(struct vcpu *v)
{
	struct interp_icache *ic = calloc(1, sizeof(*ic));

	if (!ic)
		return -ENOMEM;
	maps_clear(ic);
	for (unsigned i = 0; i < IC_CROSS; i++)
		ic->cross[i].rip = ~0ull;
	ic->share = share_get(ic, v->mem);
	if (!ic->share) {
		free(ic);
		return -ENOMEM;
	}
	syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
	interp_of(v)->icache = ic;
	return 0;
}

void icache_close(struct vcpu *v)
{
	struct interp_icache *ic = interp_of(v)->icache;

	if (!ic)
		return;
	cache_drop_all(ic);
	icache_sync(v);
	share_put(ic);
	free(ic);
	interp_of(v)->icache = NULL;
}
