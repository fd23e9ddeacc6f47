/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The translator's run loop: enters generated code, and does what it came out for. Everything that is not hot
 * happens here in C, between instructions, with the whole guest state in memory.
 */
#include "base/log.h"
#include "base/stats.h"
#include "cpu/dbt/dbt_priv.h"
#include "cpu/engine.h"
#include "cpu/kick.h"

#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

__thread struct dbt_tls dbt_tls __attribute__((aligned(64), tls_model("initial-exec")));
int32_t dbt_fs_offset;

/* ---- state in and out of generated code ---- */

#define SYSFLAGS_DROPPED (DBT_HOST_FLAGS | X86_FL_IF | X86_FL_RF)

static void split_flags(struct dbt_tls *t)
{
	t->flags = (t->st.rflags & DBT_HOST_FLAGS) | X86_FL_R1;
	t->sysflags = (t->st.rflags & ~(uint64_t)SYSFLAGS_DROPPED) | X86_FL_R1;
	t->vif = (uint32_t)(t->st.rflags & X86_FL_IF);
}

static void merge_flags(struct dbt_tls *t)
{
	t->st.rflags = (t->flags & DBT_HOST_FLAGS) | t->sysflags | t->vif;
}

void dbt_ret_reset(struct dbt *d, bool user)
{
	if (user)
		d->ret_user_saved = (uint64_t)d->ret_top[1];
	if (d->user_ring == user)
		d->t->ret_rsp = (uint64_t)d->ret_top[user];
}

/* The kernel starts with an empty return stack at every entry; the user's is kept meanwhile. */
static void select_return_stack(struct dbt *d)
{
	bool user = d->t->st.cpl == 3;

	if (user == d->user_ring)
		return;
	if (d->user_ring)
		d->ret_user_saved = d->t->ret_rsp;
	d->t->ret_rsp = user ? d->ret_user_saved : (uint64_t)d->ret_top[0];
	d->user_ring = user;
}

uint32_t dbt_mode(const struct dbt *d)
{
	const struct x86_state *s = &d->t->st;
	uint32_t mode = s->cpl == 3 ? DBT_MODE_USER : 0;

	if (s->cr0 & (X86_CR0_TS | X86_CR0_EM) || !(s->cr4 & X86_CR4_OSFXSR))
		mode |= DBT_MODE_NOFPU;
	if (!(s->cr4 & X86_CR4_OSXSAVE) || (s->xcr0 & 6) != 6)
		mode |= DBT_MODE_NOAVX;
	if (s->cr4 & X86_CR4_SMAP)
		mode |= DBT_MODE_SMAP;
	if (s->cr4 & X86_CR4_TSD)
		mode |= DBT_MODE_TSD;
	return mode;
}

/* Can the current state run translated at all? Else interp executes the next instruction. */
static bool translatable(const struct dbt *d)
{
	const struct x86_state *s = &d->t->st;

	return x86_code64(s) && (s->cr0 & X86_CR0_PG) && (s->cpl == 0 || s->cpl == 3) &&
	       !(s->rflags & (X86_FL_TF | X86_FL_DF)) && !s->int_shadow && !(s->dr[7] & 0xff) &&
	       !((s->cr0 & X86_CR0_AM) && (s->rflags & X86_FL_AC) && s->cpl == 3);
}

/* The guest instruction whose translation contains host address pc: its address, and *i; 0 when there is none. */
static gva_t insn_at_host(struct dbt *d, uint64_t pc, struct x86_insn *i)
{
	struct dbt_block *b = dbt_block_by_host(d, (const uint8_t *)pc);
	uint8_t code[15];
	uint32_t n;

	if (!b || b->ninsn == 0)
		return 0;
	for (n = b->map; n + 1 < b->map + b->ninsn; n++)
		if ((uint64_t)dbt_rx(&d->fc, b->host) + d->map[n + 1].host_off > pc)
			break;
	dbt_block_code(d, b, d->map[n].guest_off, code);
	return x86_decode(i, X86_MODE_64, code, 15) < 0 ? 0 : b->va + d->map[n].guest_off;
}

/*
 * The x87 remembers where its last instruction was, which would show the guest host addresses. They are turned into the
 * guest's own: exactly for FIP and FOP, and for FDP as long as the registers that made the address are unchanged.
 */
static void translate_x87_pointers(struct dbt *d)
{
	uint8_t *image = d->t->st.xsave;
	uint64_t fip, fdp = 0;
	uint16_t fop = 0;
	struct x86_insn i;

	memcpy(&fip, image + 8, 8);
	if (fip == 0)
		return;
	if (fip - (uint64_t)d->fc.rx < d->fc.size) {
		fip = insn_at_host(d, fip, &i);
		fop = (uint16_t)(fip && (i.attr & IA_X87) ? (i.opcode & 7) << 8 | i.modrm : 0);
		if (fip && i.has_mem)
			fdp = x86_ea(&i, d->t->st.gpr,
				     fip + i.len); /* an offset: no segment base */
		memcpy(image + 6, &fop, 2);
		memcpy(image + 8, &fip, 8);
		memcpy(image + 16, &fdp, 8);
	}
}

static void enter(struct dbt *d, struct dbt_block *b)
{
	struct dbt_tls *t = d->t;

	split_flags(t);
	select_return_stack(d);
	dbt_mmu_select(d);
	t->enter_pc = (uint64_t)dbt_rx(&d->fc, b->host);
	stat_inc(DBT_ENTER);
	((void (*)(void))d->enter)();
	if (t->exit_reason == DBT_EXIT_ABORT)
		return;
	merge_flags(t);
	stat_add(DBT_RETIRED, t->retired);
	t->retired = 0;
	if (t->st.xsave[512] & 1)
		translate_x87_pointers(d);
}

/* ---- interp's share ---- */

/* Interp caches decoded instructions: the page it executes from must fault on writes like translated ones. */
static void allow_decoding(struct dbt *d, gva_t rip)
{
	bool global;
	uint64_t off;

	if (!x86_code64(&d->t->st))
		rip += d->t->st.seg[X86_CS].base;
	if ((rip & ~4095ull) == d->step_va && d->step_page != UINT64_MAX &&
	    (rip & 4095) <= 4096 - 15)
		return;
	for (unsigned n = 0; n < 2; n++, rip = (rip | 4095) + 1) {
		off = dbt_fetch_off(d, rip, X86_ACC_PROBE, &global);
		if (off != UINT64_MAX)
			dbt_smc_mark(d, off >> 12, DBT_CODE_DECODED);
		if (n == 0) {
			d->step_page = off == UINT64_MAX ? UINT64_MAX : off >> 12;
			d->step_va = rip & ~4095ull;
		}
		if ((rip & 4095) <= 4096 - 15)
			break;
	}
}

static enum interp_result step(struct dbt *d)
{
	stat_inc(DBT_STEP);
	allow_decoding(d, d->t->st.rip);
	return interp_step(d->v);
}

static void hook_flush(struct vcpu *v, bool global)
{
	struct dbt *d = v->engine_priv;

	d->step_page = UINT64_MAX;
	dbt_flush(d, global);
}

static void hook_flush_page(struct vcpu *v, gva_t va)
{
	struct dbt *d = v->engine_priv;

	d->step_page = UINT64_MAX;
	dbt_flush_page(d, va);
}

static void hook_flush_pcid(struct vcpu *v, unsigned type, uint64_t pcid, gva_t va)
{
	struct dbt *d = v->engine_priv;

	d->step_page = UINT64_MAX;
	dbt_flush_pcid(d, type, pcid, va);
}

static void hook_cr3(struct vcpu *v, uint64_t old_cr3, bool keep)
{
	struct dbt *d = v->engine_priv;

	(void)old_cr3;
	d->step_page = UINT64_MAX;
	dbt_space_load(d, keep);
}

static void hook_written(struct vcpu *v, gpa_t gpa, unsigned len)
{
	struct dbt *d = v->engine_priv;
	uint64_t off = dbt_ram_off(d, gpa);

	if (off == UINT64_MAX)
		return;
	dbt_smc_written(d, off >> 12);
	if (len && (off + len - 1) >> 12 != off >> 12)
		dbt_smc_written(d, (off + len - 1) >> 12);
}

/* ---- the loop ---- */

static void deliver(struct dbt *d)
{
	struct vcpu *v = d->v;

	if (atomic_load(&v->irq_hint) || d->t->irq_wait || d->t->st.mp_state != X86_MP_RUNNABLE) {
		interp_deliver_pending(v);
		d->t->irq_wait = v->io->irq_pending(v->io->opaque, v) >= 0;
	}
}

/* An interrupt may have come between the exit and the lookup: is b still what the link leads to? */
static bool link_leads_to(const struct dbt *d, uint32_t n, const struct dbt_block *b)
{
	const struct dbt_link *l = &d->link[n];

	return l->target == b->va && l->from->mode == b->mode &&
	       (!(b->mode & DBT_MODE_USER) || l->from->ram_off >> 12 == b->ram_off >> 12);
}

/*
 * An indirect branch went to an address that is not canonical: the instruction itself faults, so what it did to the
 * stack is taken back; interp then executes it again and raises #GP.
 */
static void undo_branch(struct dbt *d)
{
	struct dbt_tls *t = d->t;
	const struct dbt_insn_map *m = &d->map[t->branch_row];
	uint64_t pc = 0;
	struct x86_insn i;

	for (uint32_t n = 1; n < d->nblock; n++)
		if (t->branch_row - d->block[n].map < d->block[n].ninsn)
			pc = (uint64_t)dbt_rx(&d->fc, d->block[n].host) + m->host_off;
	pc = pc ? insn_at_host(d, pc, &i) : 0;
	if (!pc)
		return;
	t->st.rip = pc;
	if (i.attr & IA_RET)
		t->st.gpr[X86_RSP] -= 8 + (i.nop ? i.imm & 0xffff : 0);
	if (i.attr & IA_CALL) {
		struct x86_xlat xl;
		uint32_t pf;
		unsigned acc = X86_ACC_W | (t->st.cpl == 3 ? X86_ACC_USER : 0);
		uint8_t *p = interp_resolve(d->v, t->st.gpr[X86_RSP], acc, &xl, &pf);

		if (p)
			memcpy(p, &t->overwritten, 8);
		t->st.gpr[X86_RSP] += 8;
	}
}

/* Jump caches, cells and return stacks know addresses only: they start anew when the mode has changed. */
static uint32_t settle_mode(struct dbt *d)
{
	uint32_t mode = dbt_mode(d);
	bool user = mode & DBT_MODE_USER;

	if (mode == d->mode[user])
		return mode;
	d->mode[user] = mode;
	dbt_ret_reset(d, user);
	if (!user) {
		dbt_jc_clear(d->jc_kernel, d->stub_jc_miss);
		return mode;
	}
	for (unsigned i = 0; i < DBT_SPACES; i++) {
		dbt_jc_clear(d->mmu.space[i].jc, d->stub_jc_miss);
		dbt_cells_clear(d, &d->mmu.space[i]);
	}
	return mode;
}

static struct dbt_block *next_block(struct dbt *d)
{
	struct dbt_tls *t = d->t;
	uint32_t link = t->exit_arg;
	uint64_t flushes = d->flushes;
	enum dbt_exit reason = t->exit_reason;
	struct dbt_block *b;

	t->exit_reason = DBT_EXIT_NONE;
	if (reason == DBT_EXIT_LOOKUP && !x86_canonical(t->st.rip)) {
		undo_branch(d);
		return NULL;
	}
	b = dbt_lookup(d, t->st.rip, settle_mode(d));
	if (!b || dbt_options.no_chain)
		return b;
	if (reason == DBT_EXIT_LINK && flushes == d->flushes && link_leads_to(d, link, b))
		dbt_link_to(d, link, b);
	else if (reason == DBT_EXIT_LOOKUP)
		dbt_jc_set(d, b);
	else if (reason == DBT_EXIT_CELL && flushes == d->flushes &&
		 d->cell_target[link] == b->va && (b->mode & DBT_MODE_USER))
		dbt_cell_set(d, link, b);
	return b;
}

static bool fill_for_rep(struct dbt *d)
{
	const uint64_t *gpr = d->t->st.gpr;
	uint8_t op[15];
	uint32_t pf;
	struct x86_insn i;
	unsigned n = interp_fetch(d->v, d->t->st.rip, op, sizeof(op), &pf);

	if (n == 0 || x86_decode(&i, X86_MODE_64, op, n) < 0 ||
	    i.opsize > 4096 - (gpr[X86_RDI] & 4095))
		return false;
	if (i.id == X86_ID_MOVS &&
	    (i.opsize > 4096 - (gpr[X86_RSI] & 4095) || !dbt_mmu_fill(d, gpr[X86_RSI], false)))
		return false;
	return dbt_mmu_fill(d, gpr[X86_RDI], true);
}

/* Runs translated code until it leaves for a reason interp must see to. */
static enum interp_result run_translated(struct dbt *d)
{
	struct dbt_tls *t = d->t;
	struct dbt_block *b = next_block(d);

	if (!b)
		return step(d);
	enter(d, b);
	switch (t->exit_reason) {
	case DBT_EXIT_LINK: t->st.rip = d->link[t->exit_arg].target; return INTERP_OK;
	case DBT_EXIT_CELL: t->st.rip = d->cell_target[t->exit_arg]; return INTERP_OK;
	case DBT_EXIT_REP: return fill_for_rep(d) ? INTERP_OK : step(d);
	case DBT_EXIT_FAULT:
		if (d->misfit)
			dbt_block_invalidate(d, d->misfit);
		d->misfit = NULL;
		return step(d);
	case DBT_EXIT_STEP: return step(d);
	default: return INTERP_OK;
	}
}

/* Takes the vCPU's state into this thread's block, where generated code reaches it. */
static int bind_thread(struct dbt *d)
{
	struct dbt_tls *t = &dbt_tls;
	int ret;

	if (d->t == t && t->d == d)
		return 0;
	t->st = *d->v->s;
	t->default_mxcsr = 0x1f80;
	t->mask_page = 0x0000fffffffff000ull;
	t->mask_misfit[0] = BIT(DBT_MISFIT_SHIFT);
	for (unsigned n = 1; n < ARRAY_SIZE(t->mask_misfit); n++)
		t->mask_misfit[n] = (BIT(n) - 1) << DBT_MISFIT_SHIFT;
	t->mask_one = 1;
	t->mask_offset = 4095;
	t->mask_hash = DBT_JC_SIZE - 1;
	t->mask_flags = DBT_HOST_FLAGS;
	t->mask_63 = 63;
	t->mask_31 = 31;
	t->self = (uint64_t)t;
	t->d = d;
	t->jc_kernel = d->jc_kernel;
	d->v->s = &t->st;
	d->t = t;
	vcpu_self = d->v;
	stat_thread_register();
	ret = dbt_fault_attach(d);
	if (ret)
		return ret;
	d->user_ring = false;
	dbt_ret_reset(d, true);
	dbt_ret_reset(d, false);
	dbt_space_load(d, true);
	return 0;
}

/*
 * Without chaining a block is straight-line code, so where it left tells how far it came: past the whole block, or in
 * front of the instruction at RIP.
 */
static unsigned retired_in(const struct dbt *d, const struct dbt_block *b, enum dbt_exit reason)
{
	gva_t rip = d->t->st.rip;

	if (reason == DBT_EXIT_LINK || reason == DBT_EXIT_CELL || reason == DBT_EXIT_LOOKUP)
		return b->ninsn;
	for (unsigned n = 0; n < b->ninsn; n++)
		if (b->va + d->map[b->map + n].guest_off == rip)
			return n;
	return reason == DBT_EXIT_ABORT ? 0 : b->ninsn;
}

unsigned dbt_run_one_block(struct vcpu *v)
{
	struct dbt *d = v->engine_priv;
	struct dbt_block *b;
	enum dbt_exit reason;
	unsigned n = 0;

	BUG_ON(!dbt_options.no_chain);
	if (bind_thread(d))
		return 0;
	d->t->kick = 0;
	dbt_smc_drain(d);
	if (!translatable(d))
		return 0;
	do {
		b = dbt_lookup(d, d->t->st.rip, dbt_mode(d));
		if (!b)
			return n;
		d->last = b;
		enter(d, b);
		reason = d->t->exit_reason;
		if (reason == DBT_EXIT_LINK)
			d->t->st.rip = d->link[d->t->exit_arg].target;
		else if (reason == DBT_EXIT_CELL)
			d->t->st.rip = d->cell_target[d->t->exit_arg];
		n += retired_in(d, b, reason);
	} while (reason == DBT_EXIT_REP && fill_for_rep(d));
	return n;
}

int dbt_step_one(struct vcpu *v)
{
	struct dbt *d = v->engine_priv;

	if (bind_thread(d))
		return INTERP_SHUTDOWN;
	dbt_smc_drain(d);
	return (int)step(d);
}

void dbt_dump_last(struct vcpu *v)
{
	struct dbt *d = v->engine_priv;

	if (d->last)
		dbt_block_dump(d, d->last, true, true);
}

static bool stop_reason(struct dbt *d, enum interp_result r, struct cpu_exit *x)
{
	struct vcpu *v = d->v;

	if (r == INTERP_SHUTDOWN) {
		x->reason = CPU_EXIT_SHUTDOWN;
		snprintf(x->msg, sizeof(x->msg), "triple fault at %#lx", d->t->st.rip);
		return true;
	}
	if (d->t->st.mp_state != X86_MP_RUNNABLE && !atomic_load(&v->irq_hint)) {
		stat_inc(EXIT_HLT);
		x->reason = CPU_EXIT_HLT;
		return true;
	}
	return false;
}

static int dbt_run(struct vcpu *v, struct cpu_exit *x)
{
	struct dbt *d = v->engine_priv;
	enum interp_result r = INTERP_OK;
	int ret = bind_thread(d);

	if (ret) {
		x->reason = CPU_EXIT_ERROR;
		snprintf(x->msg, sizeof(x->msg), "dbt: cannot set up signal handling: %s",
			 strerror(-ret));
		return 0;
	}
	for (;;) {
		d->t->kick = 0;
		if (atomic_exchange(&v->kick_pending, 0)) {
			x->reason = CPU_EXIT_KICKED;
			return 0;
		}
		dbt_smc_drain(d);
		deliver(d);
		if (stop_reason(d, r, x))
			return 0;
		r = translatable(d) ? run_translated(d) : step(d);
	}
}

/* ---- opening and closing ---- */

static void *pool(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static bool return_stacks(struct dbt *d)
{
	for (unsigned i = 0; i < 2; i++) {
		uint8_t *p = pool(DBT_RET_STACK + 4096);

		if (!p || mprotect(p, 4096, PROT_NONE))
			return false;
		d->ret_stack[i] = p + 4096;
		d->ret_top[i] = p + 4096 + DBT_RET_STACK - 64;
	}
	return true;
}

static bool pools(struct dbt *d)
{
	d->block = pool(DBT_MAX_BLOCKS * sizeof(*d->block));
	d->link = pool(DBT_MAX_LINKS * sizeof(*d->link));
	d->map = pool(DBT_MAX_MAPS * sizeof(*d->map));
	d->ret_site = pool(DBT_MAX_RET_SITES * sizeof(*d->ret_site));
	d->kcode = pool(DBT_MAX_KCODE * sizeof(*d->kcode));
	d->cell_target = pool(DBT_MAX_CELLS * sizeof(*d->cell_target));
	d->site = pool(DBT_SITES * sizeof(*d->site));
	d->hash = pool(DBT_HASH_SIZE * sizeof(*d->hash));
	d->page_code = pool(d->ram_pages);
	d->page_blocks = pool(d->ram_pages * sizeof(*d->page_blocks));
	d->jc_kernel = pool(sizeof(*d->jc_kernel));
	d->nblock = d->nlink = d->nkcode = 1;
	return d->block && d->link && d->map && d->ret_site && d->kcode && d->cell_target &&
	       d->site && d->hash && d->page_code && d->page_blocks && d->jc_kernel &&
	       return_stacks(d);
}

static void unpool(void *p, size_t bytes)
{
	if (p)
		munmap(p, bytes);
}

static void dbt_close(struct vcpu *v)
{
	struct dbt *d = v->engine_priv;

	if (!d)
		return;
	if (dbt_tls.d == d) {
		*d->initial = dbt_tls.st;
		v->s = d->initial;
		dbt_tls.d = NULL;
	}
	dbt_fault_detach(d);
	dbt_mmu_close(d);
	dbt_fcache_close(&d->fc);
	unpool(d->block, DBT_MAX_BLOCKS * sizeof(*d->block));
	unpool(d->link, DBT_MAX_LINKS * sizeof(*d->link));
	unpool(d->map, DBT_MAX_MAPS * sizeof(*d->map));
	unpool(d->ret_site, DBT_MAX_RET_SITES * sizeof(*d->ret_site));
	unpool(d->kcode, DBT_MAX_KCODE * sizeof(*d->kcode));
	unpool(d->cell_target, DBT_MAX_CELLS * sizeof(*d->cell_target));
	unpool(d->site, DBT_SITES * sizeof(*d->site));
	unpool(d->hash, DBT_HASH_SIZE * sizeof(*d->hash));
	unpool((void *)d->page_code, d->ram_pages);
	unpool(d->page_blocks, d->ram_pages * sizeof(*d->page_blocks));
	unpool(d->jc_kernel, sizeof(*d->jc_kernel));
	for (unsigned i = 0; i < 2; i++)
		unpool(d->ret_stack[i] ? d->ret_stack[i] - 4096 : NULL, DBT_RET_STACK + 4096);
	interp_close(v);
	pthread_mutex_destroy(&d->dma_lock);
	memset(&v->hooks, 0, sizeof(v->hooks));
	v->engine_priv = NULL;
	free(d);
}

static int dbt_open(void *vm, struct vcpu *v, struct err *e)
{
	struct dbt *d = calloc(1, sizeof(*d));
	int ret;

	(void)vm;
	if (!d)
		return err_set(e, -ENOMEM, "out of memory for the translator");
	if (v->index > 0) {
		free(d);
		return err_set(e, -ENOTSUP,
			       "engine dbt runs one CPU in this version; use --cpus 1");
	}
	v->engine_priv = d;
	d->v = v;
	d->initial = v->s;
	d->step_page = UINT64_MAX;
	pthread_mutex_init(&d->dma_lock, NULL);
	dbt_fs_offset = (int32_t)((intptr_t)&dbt_tls - (intptr_t)__builtin_thread_pointer());
	ret = interp_open(v);
	if (!ret)
		ret = dbt_fcache_open(&d->fc, dbt_options.cache_size);
	if (!ret)
		ret = dbt_mmu_open(d, e);
	if (!ret && !pools(d))
		ret = -ENOMEM;
	if (!ret)
		ret = dbt_stubs_emit(d);
	if (ret) {
		dbt_close(v);
		return e && e->code ? ret
				    : err_set(e, ret, "cannot set up the translator: %s",
					      strerror(-ret));
	}
	for (unsigned i = 0; i < DBT_SPACES; i++)
		dbt_jc_init(d->mmu.space[i].jc, d->stub_jc_miss);
	dbt_jc_init(d->jc_kernel, d->stub_jc_miss);
	v->hooks = (struct vcpu_hooks){ .tlb_flush = hook_flush,
					.tlb_flush_page = hook_flush_page,
					.tlb_flush_pcid = hook_flush_pcid,
					.cr3_load = hook_cr3,
					.ram_written = hook_written };
	return 0;
}

static int dbt_probe(struct err *why)
{
	unsigned a, b, c, dx;

	if (!(getauxval(AT_HWCAP2) & 2))
		return err_set(
			why, -ENOTSUP,
			"the host kernel or CPU lacks FSGSBASE (Linux 5.9 or newer on Ivy Bridge, Zen 2 or newer)");
	if (!__get_cpuid_count(7, 0, &a, &b, &c, &dx) || !(b & bit_BMI2) || !(b & bit_AVX2))
		return err_set(why, -ENOTSUP,
			       "the host CPU lacks BMI2 or AVX2 (Haswell, Zen or newer have them)");
	if (!__get_cpuid_count(13, 1, &a, &b, &c, &dx) || !(a & 1))
		return err_set(why, -ENOTSUP, "the host CPU lacks XSAVEOPT");
	return 0;
}

static int dbt_vm_open(void **vm, struct mem_map *mem, struct err *e)
{
	(void)e;
	*vm = mem;
	return 0;
}

static void dbt_vm_close(void *vm)
{
	(void)vm;
}

static void dbt_kick(struct vcpu *v)
{
	if (v->thread && v != vcpu_self)
		pthread_kill(v->thread, CPU_KICK_SIGNAL);
}

static int dbt_get_state(struct vcpu *v, struct x86_state *s)
{
	*s = *v->s;
	return 0;
}

static int dbt_set_state(struct vcpu *v, const struct x86_state *s)
{
	struct dbt *d = v->engine_priv;

	*v->s = *s;
	interp_tlb_flush(v, true);
	if (d->t) {
		dbt_cache_flush(d);
		dbt_flush(d, true);
		dbt_space_load(d, false);
	}
	return 0;
}

const struct cpu_engine engine_dbt = {
	.name = "dbt",
	.max_vcpus = 1,
	.probe = dbt_probe,
	.vm_open = dbt_vm_open,
	.vm_close = dbt_vm_close,
	.vcpu_open = dbt_open,
	.vcpu_close = dbt_close,
	.run = dbt_run,
	.kick = dbt_kick,
	.get_state = dbt_get_state,
	.set_state = dbt_set_state,
};
