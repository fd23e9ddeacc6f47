/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter's core: dispatch, the run loop, what happens between instructions (single-step
 * traps, interrupt shadow, pending events). SDM vol. 3, 6.8, 6.9, 17.3. The vCPU's own thread.
 */
#include <errno.h>
#include <stdlib.h>

#include "cpu/engine.h"
#include "cpu/interp/icache.h"

#define DR6_BS BIT(14)

/* ---- dispatch ---- */

static interp_handler handlers[X86_ID_COUNT];
static pthread_once_t handlers_once = PTHREAD_ONCE_INIT;

static int exec_ud(struct vcpu *v, const struct x86_insn *i)
{
	(void)i;
	return interp_ud(v);
}

static void handlers_add(const struct interp_row *row)
{
	for (; row->fn; row++)
		handlers[row->id] = row->fn;
}

static void handlers_build(void)
{
	for (unsigned i = 0; i < X86_ID_COUNT; i++)
		handlers[i] = exec_ud;
	handlers_add(interp_vec_rows);
	handlers_add(interp_sys_rows);
	handlers_add(interp_string_rows);
	handlers_add(interp_int_rows);
}

/* ---- checks that stand before some handlers ---- */

/* IOPL-sensitive rows judge for themselves. */
static bool priv_own_rule(unsigned id)
{
	switch (id) {
	case X86_ID_IN:
	case X86_ID_OUT:
	case X86_ID_INS:
	case X86_ID_OUTS:
	case X86_ID_CLI:
	case X86_ID_STI: return true;
	default: return false;
	}
}

#define GATED (IA_X87 | IA_MMX | IA_SSE | IA_VEX)

/* #UD and #NM by CR0, CR4 and XCR0 (SDM vol. 3, tables 2-2 and 13-x). 0 or -1. */
static int gate_fpu(struct vcpu *v, const struct x86_insn *i)
{
	const struct x86_state *s = v->s;
	uint64_t cr0 = s->cr0;
	bool nm = cr0 & X86_CR0_TS;

	if (i->id == X86_ID_FWAIT) {
		nm = nm && (cr0 & X86_CR0_MP);
	} else if (i->attr & IA_X87) {
		nm = nm || (cr0 & X86_CR0_EM);
	} else if (i->attr & IA_VEX) {
		if (!(s->cr4 & X86_CR4_OSXSAVE) || (s->xcr0 & 6) != 6)
			return interp_ud(v);
	} else if (cr0 & X86_CR0_EM) {
		return interp_ud(v);
	} else if ((i->attr & IA_SSE) && !(s->cr4 & X86_CR4_OSFXSR)) {
		return interp_ud(v);
	}
	return nm ? interp_fault(v, X86_EX_NM, false, 0) : 0;
}

static int exec_gated(struct vcpu *v, const struct x86_insn *i)
{
	const struct x86_state *s = v->s;

	if (i->vex && (!(s->cr0 & X86_CR0_PE) || (s->rflags & X86_FL_VM)))
		return interp_ud(v);
	if ((i->attr & GATED) && gate_fpu(v, i))
		return -1;
	if ((i->attr & IA_PRIV) && s->cpl != 0 && !priv_own_rule(i->id))
		return interp_gp0(v);
	return container_of(i, struct ic_entry, insn)->real(v, i);
}

static bool allowed(const struct vcpu *v, const struct x86_insn *i)
{
	if (i->mode == X86_MODE_64 ? i->attr & IA_NO64 : i->attr & IA_ONLY64)
		return false;
	return !v->cpuid || x86_has(v->cpuid, (enum x86_feature)i->row->feature);
}

/* LZCNT and TZCNT are BSR and BSF where they do not exist; LAHF is gated in 64-bit mode only. */
static interp_handler without_feature(const struct x86_insn *i)
{
	switch (i->id) {
	case X86_ID_LZCNT: return handlers[X86_ID_BSR];
	case X86_ID_TZCNT: return handlers[X86_ID_BSF];
	case X86_ID_LAHF:
	case X86_ID_SAHF: return i->mode == X86_MODE_64 ? exec_ud : handlers[i->id];
	default: return exec_ud;
	}
}

/* Handlers outside the integer tables may change anything: modes, pages, flags, halting. */
static bool is_special(const struct x86_insn *i, interp_handler fn)
{
	if (i->attr & (IA_FAR | IA_PRIV | IA_SERIAL | IA_SENSITIVE | IA_STRING))
		return true;
	for (const struct interp_row *r = interp_sys_rows; r->fn; r++)
		if (r->fn == fn)
			return true;
	return false;
}

void interp_bind(struct vcpu *v, struct ic_entry *e)
{
	const struct x86_insn *i = &e->insn;
	interp_handler fast;

	e->real = handlers[i->id];
	e->fn = e->real;
	e->special = is_special(i, e->real);
	if (!allowed(v, i)) {
		e->fn = e->real = without_feature(i);
		return;
	}
	if ((i->attr & (GATED | IA_PRIV)) || (i->vex && i->mode != X86_MODE_64)) {
		e->fn = exec_gated;
		return;
	}
	fast = interp_int_fast(i);
	if (fast)
		e->fn = e->real = fast;
}

/* ---- faults ---- */

int interp_fault(struct vcpu *v, unsigned vec, bool has_error, uint32_t error)
{
	struct interp *it = interp_of(v);

	it->fault.vec = (uint8_t)vec;
	it->fault.pending = true;
	it->fault.has_error = has_error;
	it->fault.error = error;
	return -1;
}

int interp_fault_pf(struct vcpu *v, gva_t va, uint32_t error)
{
	interp_of(v)->fault.cr2 = va;
	return interp_fault(v, X86_EX_PF, true, error);
}

static enum interp_result take_shutdown(struct interp *it)
{
	it->shutdown = false;
	return INTERP_SHUTDOWN;
}

/* Delivers; afterwards s->rip is the handler's. */
static enum interp_result deliver(struct vcpu *v, unsigned vec, bool has_error, uint32_t error)
{
	struct interp *it = interp_of(v);

	it->fault.pending = false;
	v->s->int_shadow = 0;
	(void)interp_deliver(v, vec, false, has_error, error);
	it->fault.pending = false;
	return it->shutdown ? take_shutdown(it) : INTERP_OK;
}

static enum interp_result deliver_fault(struct vcpu *v)
{
	struct interp_fault_info f = interp_of(v)->fault;

	if (f.vec == X86_EX_PF)
		v->s->cr2 = f.cr2;
	return deliver(v, f.vec, f.has_error, f.error);
}

enum interp_result interp_raise(struct vcpu *v, unsigned vec, bool has_error, uint32_t error)
{
	interp_of(v)->next_rip = v->s->rip;
	return deliver(v, vec, has_error, error);
}

enum interp_result interp_raise_pf(struct vcpu *v, gva_t va, uint32_t error)
{
	v->s->cr2 = va;
	return interp_raise(v, X86_EX_PF, true, error);
}

/* ---- execution ---- */

static inline gva_t code_linear(const struct x86_state *s, enum x86_mode mode)
{
	return mode == X86_MODE_64 ? s->rip : (uint32_t)(s->seg[X86_CS].base + s->rip);
}

static inline struct ic_entry *find(struct vcpu *v, struct interp_icache *ic, enum x86_mode mode)
{
	gva_t lin = code_linear(v->s, mode);
	const struct ic_map *m = &ic->map[(lin >> 12) % IC_MAPS];
	unsigned nr;

	if (unlikely(m->tag != ic_tag(ic, v->s, lin, mode)) || ic->verify)
		return icache_get_slow(v, lin, mode);
	nr = m->page->at[lin & 0xfff];
	if (unlikely(!nr))
		return icache_get_slow(v, lin, mode);
	return ic_page_entry(m->page, nr);
}

/* Outside flat code every instruction is looked up by itself, where the limit is checked. */
static inline bool code_flat(const struct x86_state *s, enum x86_mode mode)
{
	return mode == X86_MODE_64 || s->seg[X86_CS].limit == ~0u;
}

static inline bool limit_near(const struct x86_state *s, enum x86_mode mode)
{
	const struct x86_seg *cs = &s->seg[X86_CS];

	return mode != X86_MODE_64 && (s->rip > cs->limit || cs->limit - s->rip < 14);
}

/* Instructions after whose TF trap is decided by themselves, not by TF as it was before them. */
static bool clears_trap(const struct x86_insn *i, const struct x86_state *s)
{
	return (i->attr & IA_FAR) && i->id != X86_ID_IRET && !(s->rflags & X86_FL_TF);
}

/* One instruction with everything that may stand around it. */
static enum interp_result step_careful(struct vcpu *v)
{
	struct interp *it = interp_of(v);
	struct x86_state *s = v->s;
	enum x86_mode mode = interp_mode(s);
	bool tf = s->rflags & X86_FL_TF, inhibit;
	struct ic_entry *e;

	if (unlikely(it->shutdown))
		return take_shutdown(it);
	icache_sync(v);
	if (limit_near(s, mode))
		e = icache_get_slow(v, code_linear(s, mode), mode);
	else
		e = find(v, it->icache, mode);
	if (!e)
		return deliver_fault(v);
	s->rflags &= ~X86_FL_RF;
	it->next_rip = s->rip + e->insn.len;
	if (mode != X86_MODE_64)
		it->next_rip = (uint32_t)it->next_rip;
	if (e->fn(v, &e->insn))
		return deliver_fault(v);
	s->rip = it->next_rip;
	if (!it->interrupted)
		v->insn_count++;
	inhibit = it->shadow_next && e->insn.id != X86_ID_STI;
	s->int_shadow = it->shadow_next;
	it->shadow_next = false;
	if (it->shutdown)
		return take_shutdown(it);
	if (tf && !inhibit && !clears_trap(&e->insn, s)) {
		it->interrupted = false;
		s->dr[6] |= DR6_BS;
		return deliver(v, X86_EX_DB, false, 0);
	}
	if (it->halted) {
		it->halted = false;
		s->mp_state = X86_MP_HALTED;
		return INTERP_HLT;
	}
	if (it->interrupted) {
		it->interrupted = false;
		return INTERP_STOP;
	}
	return INTERP_OK;
}

enum interp_result interp_step(struct vcpu *v)
{
	return step_careful(v);
}

static inline bool careful(const struct x86_state *s)
{
	return (s->rflags & (X86_FL_TF | X86_FL_RF)) || s->int_shadow;
}

static inline bool event_waits(const struct vcpu *v)
{
	const struct x86_state *s = v->s;

	if (atomic_load_explicit(&v->kick_pending, memory_order_relaxed))
		return true;
	if (likely(!atomic_load_explicit(&v->irq_hint, memory_order_relaxed)) || s->int_shadow)
		return false;
	return (s->rflags & X86_FL_IF) || (s->nmi_pending && !s->nmi_blocked) ||
	       atomic_load_explicit(&v->init_pending, memory_order_relaxed) ||
	       atomic_load_explicit(&v->sipi_pending, memory_order_relaxed);
}

/* What a special instruction left behind. True: leave interp_run with *r. */
static bool after_special(struct vcpu *v, struct interp *it, enum interp_result *r)
{
	v->s->int_shadow = it->shadow_next;
	it->shadow_next = false;
	if (unlikely(it->shutdown)) {
		*r = take_shutdown(it);
		return true;
	}
	if (unlikely(it->halted)) {
		it->halted = false;
		v->s->mp_state = X86_MP_HALTED;
		*r = INTERP_HLT;
		return true;
	}
	if (unlikely(it->interrupted)) {
		it->interrupted = false;
		v->insn_count--;
		*r = INTERP_STOP;
		return true;
	}
	return false;
}

/*
 * Walks straight-line code from e. Returns true when interp_run must end with *r. At most *left
 * instructions; *left is counted down.
 */
static inline bool run_line(struct vcpu *v, struct ic_entry *e, uint64_t rip_mask, bool flat,
			    uint64_t *left, enum interp_result *r)
{
	struct interp *it = interp_of(v);
	const struct interp_icache *ic = it->icache;
	struct x86_state *s = v->s;
	uint64_t rip = s->rip, next, n = *left;

	for (;;) {
		next = (rip + e->insn.len) & rip_mask;
		it->next_rip = next;
		if (unlikely(e->fn(v, &e->insn))) {
			v->insn_count += *left - n;
			*left = n;
			*r = deliver_fault(v);
			return *r != INTERP_OK;
		}
		rip = it->next_rip;
		s->rip = rip;
		n--;
		if (unlikely(rip != next || e->last || e->special || ic->changed || n == 0 ||
			     !flat))
			break;
		e++;
	}
	v->insn_count += *left - n;
	*left = n;
	return e->special && after_special(v, it, r);
}

enum interp_result interp_run(struct vcpu *v, uint64_t n)
{
	struct interp_icache *ic = interp_of(v)->icache;
	enum interp_result r = INTERP_OK;
	struct x86_state *s = v->s;

	if (unlikely(interp_of(v)->shutdown))
		return take_shutdown(interp_of(v));
	while (n && !event_waits(v)) {
		enum x86_mode mode = interp_mode(s);
		struct ic_entry *e;

		if (unlikely(careful(s) || limit_near(s, mode))) {
			r = step_careful(v);
			n--;
			if (r != INTERP_OK)
				return r;
			continue;
		}
		if (unlikely(ic->changed ||
			     atomic_load_explicit(&ic->inbox_set, memory_order_relaxed)))
			icache_sync(v);
		e = find(v, ic, mode);
		if (unlikely(!e)) {
			r = deliver_fault(v);
			n--;
			if (r != INTERP_OK)
				return r;
			continue;
		}
		if (run_line(v, e, mode == X86_MODE_64 ? ~0ull : 0xffffffffull, code_flat(s, mode),
			     &n, &r))
			return r;
	}
	return r;
}

/* ---- pending events ---- */

static bool take_init(struct vcpu *v)
{
	struct x86_state *s = v->s;

	if (!atomic_exchange(&v->init_pending, 0))
		return false;
	x86_state_init_ipi(s);
	interp_tlb_flush(v, true);
	if (v->hooks.tlb_flush)
		v->hooks.tlb_flush(v, true);
	return true;
}

static bool take_sipi(struct vcpu *v)
{
	struct x86_state *s = v->s;
	unsigned sipi = atomic_exchange(&v->sipi_pending, 0);

	if (!sipi || s->mp_state != X86_MP_WAIT_SIPI)
		return false;
	s->sipi_vector = (uint8_t)sipi;
	s->seg[X86_CS].sel = (uint16_t)((sipi & 0xff) << 8);
	s->seg[X86_CS].base = (uint64_t)(sipi & 0xff) << 12;
	s->rip = 0;
	s->mp_state = X86_MP_RUNNABLE;
	return true;
}

/* Delivers to a CPU that may be halted; a shutdown is kept for the next interp_run or _step. */
static void wake_and_deliver(struct vcpu *v, unsigned vec)
{
	v->s->mp_state = X86_MP_RUNNABLE;
	interp_of(v)->next_rip = v->s->rip;
	if (deliver(v, vec, false, 0) == INTERP_SHUTDOWN)
		interp_of(v)->shutdown = true;
}

static bool take_nmi(struct vcpu *v)
{
	struct x86_state *s = v->s;

	if (!s->nmi_pending || s->nmi_blocked || s->int_shadow)
		return false;
	s->nmi_pending = 0;
	wake_and_deliver(v, X86_EX_NMI);
	s->nmi_blocked = 1;
	/* an interrupt may wait behind it that the handler's IRET lets in */
	atomic_store(&v->irq_hint, 1);
	return true;
}

static bool take_irq(struct vcpu *v)
{
	struct x86_state *s = v->s;
	int vec;

	if (!v->io || !v->io->irq_pending || v->io->irq_pending(v->io->opaque, v) < 0)
		return false;
	if (!(s->rflags & X86_FL_IF) || s->int_shadow) {
		/* look again later; a halted CPU without IF waits for something else */
		if (s->mp_state == X86_MP_RUNNABLE)
			atomic_store(&v->irq_hint, 1);
		return false;
	}
	vec = v->io->irq_ack(v->io->opaque, v);
	if (vec < 0)
		return false;
	atomic_store(&v->irq_hint, 1); /* there may be more */
	wake_and_deliver(v, (unsigned)vec);
	return true;
}

bool interp_deliver_pending(struct vcpu *v)
{
	bool was_halted = v->s->mp_state == X86_MP_HALTED, done;

	atomic_store(&v->irq_hint, 0);
	done = take_init(v);
	done = take_sipi(v) || done;
	if (v->s->mp_state == X86_MP_WAIT_SIPI)
		return done;
	done = done || take_nmi(v) || take_irq(v);
	if (done && was_halted)
		atomic_store(&v->irq_hint, 1);
	return done;
}

/* ---- life ---- */

int interp_open(struct vcpu *v)
{
	struct interp *it = calloc(1, sizeof(*it));
	int err;

	if (!it)
		return -ENOMEM;
	pthread_once(&handlers_once, handlers_build);
	v->interp = it;
	err = icache_open(v);
	if (!err)
		err = interp_mem_open(v);
	if (!err)
		err = interp_vec_open(v);
	if (err) {
		interp_close(v);
		return err;
	}
	it->icache->verify = v->engine && v->engine != &engine_interp;
	return 0;
}

void interp_close(struct vcpu *v)
{
	struct interp *it = v->interp;

	if (!it)
		return;
	interp_vec_close(v);
	interp_mem_close(v);
	icache_close(v);
	free(it);
	v->interp = NULL;
}
