/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lockstep's run loop. A step runs one translated block on the second RAM, then as many instructions in interp on
 * the machine's RAM, and compares. What the translator declines both do in interp, the reference first, as
 * only such instructions reach devices or clocks. Interrupts, device callbacks, DMA and the passing of
 * time come between steps.
 */
#include "cpu/lockstep/lockstep.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "cpu/dbt/dbt.h"
#include "cpu/irqchip/irqchip.h"
#include "cpu/lockstep/lockstep_priv.h"

#define MAX_DIFF 32u
#define IDLE_WAIT_NS 200000 /* devices get so much real time before a halted guest's time jumps */

struct lockstep_options lockstep_options = { .check_every = 1u << 20 };
struct lockstep_result lockstep_result;

/* ---- one step ---- */

/* Kicks must not stop an instruction half-way on one side only. */
static void put_off_events(struct lockstep *ls)
{
	struct vcpu *v = ls->ref;

	if (unlikely(atomic_load_explicit(&v->kick_pending, memory_order_relaxed)))
		ls->kicked |= atomic_exchange(&v->kick_pending, 0) != 0;
	if (unlikely(atomic_load_explicit(&v->irq_hint, memory_order_relaxed)))
		ls->hinted |= atomic_exchange(&v->irq_hint, 0) != 0;
}

static void differs(struct lockstep *ls, const char *why, const struct ls_byte *diff, unsigned n)
{
	lockstep_result.differences++;
	ls->ended = true;
	ls_report(ls, why, diff, n);
}

static void compare(struct lockstep *ls)
{
	struct ls_byte diff[MAX_DIFF];
	unsigned n = ls_ram_step_end(&ls->ram, diff, MAX_DIFF);
	bool same = ls_state_same(ls);

	if (likely(same && n == 0))
		return;
	differs(ls,
		same ? "memory differs"
		: n  ? "registers and memory differ"
		     : "registers differ",
		diff, n);
}

static void begin(struct lockstep *ls)
{
	const struct x86_state *s = ls->ref->s;

	memcpy(ls->gpr, s->gpr, sizeof(ls->gpr));
	ls->rip = s->rip;
	ls->rflags = s->rflags;
	ls_ram_step_begin(&ls->ram);
	ls_record_begin(&ls->rec);
}

static void check_record(struct lockstep *ls)
{
	struct ls_record *r = &ls->rec;
	char a[96], b[96];

	if (likely(!r->mismatch && r->played == r->n))
		return;
	log_err("lockstep: interp: %s",
		r->played < r->n ? ls_event_text(a, sizeof(a), &r->ev[r->played]) : "nothing more");
	log_err("lockstep: dbt: %s",
		r->mismatch ? ls_event_text(b, sizeof(b), &r->wrong) : "nothing more");
	differs(ls, "input or output differs", NULL, 0);
}

/* One instruction in interp on the machine's RAM, to its end, unless it does too much input or output. */
static enum interp_result step_ref(struct lockstep *ls)
{
	enum interp_result r;

	do {
		put_off_events(ls);
		r = interp_step(ls->ref);
	} while (r == INTERP_STOP && ls->rec.n == 0);
	return r;
}

static enum interp_result step_dbt(struct lockstep *ls)
{
	int r;

	do {
		r = dbt_step_one(&ls->dbt);
	} while (r == INTERP_STOP && !atomic_load(&ls->dbt.kick_pending));
	vcpu_self = ls->ref;
	atomic_store(&ls->dbt.kick_pending, 0);
	atomic_store(&ls->dbt.irq_hint, 0);
	return (enum interp_result)r;
}

static enum interp_result step_both(struct lockstep *ls)
{
	enum interp_result a, b;

	ls->count = 1;
	ls->single = true;
	ls_time_update(ls);
	a = step_ref(ls);
	ls->rec.stop_at_end = a == INTERP_STOP;
	b = step_dbt(ls);
	lockstep_result.alone++;
	compare(ls);
	if (!ls->ended && a != b)
		differs(ls, "one of the two halted, or shut down", NULL, 0);
	if (!ls->ended)
		check_record(ls);
	return a;
}

/* Exactly k instructions; more or fewer when they fault, which the comparison will show. */
static void run_ref(struct lockstep *ls, unsigned k)
{
	struct vcpu *v = ls->ref;
	uint64_t target = v->insn_count + k, before;

	do {
		put_off_events(ls);
		before = v->insn_count;
		if (interp_run(v, target - before) == INTERP_SHUTDOWN)
			return;
	} while (v->insn_count < target &&
		 (v->insn_count != before || atomic_load(&v->kick_pending) ||
		  atomic_load(&v->irq_hint)));
}

static bool at_repeat(struct lockstep *ls)
{
	struct x86_insn i;

	return ls_decode(ls, ls->dbt.s->rip, &i) && (i.attr & IA_STRING) && i.rep != REP_NONE;
}

static enum interp_result step(struct lockstep *ls)
{
	unsigned k;

	begin(ls);
	atomic_store_explicit(&ls->dbt.irq_hint, 0, memory_order_relaxed);
	k = dbt_run_one_block(&ls->dbt);
	vcpu_self = ls->ref;
	if (k == 0 && memcmp(ls->gpr, ls->dbt.s->gpr, sizeof(ls->gpr)) == 0)
		return step_both(ls);
	ls->count = k;
	ls->single = false;
	lockstep_result.blocks++;
	run_ref(ls, k);
	/* The translator may have stopped inside a repeat: let both finish it. */
	if (unlikely(ls->ref->s->rip == ls->dbt.s->rip && !ls_state_same(ls) && at_repeat(ls))) {
		ls->count++;
		step_dbt(ls);
		step_ref(ls);
	}
	compare(ls);
	return INTERP_OK;
}

/* ---- between steps ---- */

static void check_all_memory(struct lockstep *ls)
{
	struct ls_byte diff[MAX_DIFF];
	const struct timespec wait = { .tv_nsec = 50000000 };
	unsigned n = ls_ram_compare(&ls->ram, diff, MAX_DIFF);

	/* A disk may be writing into a buffer that is not the guest's yet: wait until it says so. */
	for (unsigned tries = 0; n && lockstep_options.loop && ls->gate && tries < 40; tries++) {
		loop_gate_open(lockstep_options.loop);
		nanosleep(&wait, NULL);
		while (!(ls->gate = loop_gate_try_close(lockstep_options.loop)) &&
		       !atomic_load(&ls->ref->kick_pending))
			sched_yield();
		n = ls_ram_compare(&ls->ram, diff, MAX_DIFF);
	}
	lockstep_result.checks++;
	ls->next_check = ls->ref->insn_count + lockstep_options.check_every;
	if (n && (ls->gate || !lockstep_options.loop))
		differs(ls,
			"memory nobody should have written differs (since the last look at all of it)",
			diff, n);
}

static void deliver(struct lockstep *ls)
{
	struct vcpu *a = ls->ref, *b = &ls->dbt;

	begin(ls);
	ls->count = 0;
	ls->single = true;
	ls_time_update(ls);
	ls->hinted = false;
	b->s->nmi_pending = a->s->nmi_pending;
	atomic_store(&b->init_pending, atomic_load(&a->init_pending));
	atomic_store(&b->sipi_pending, atomic_load(&a->sipi_pending));
	interp_deliver_pending(a);
	interp_deliver_pending(b);
	atomic_store(&b->irq_hint, 0);
	compare(ls);
	if (!ls->ended)
		check_record(ls);
}

static bool take_gate(struct lockstep *ls)
{
	struct loop *l = lockstep_options.loop;

	while (l && !ls->gate) {
		ls->gate = loop_gate_try_close(l);
		if (!ls->gate && atomic_load(&ls->ref->kick_pending))
			return false;
		if (!ls->gate)
			sched_yield();
	}
	return true;
}

static void leave_gate(struct lockstep *ls)
{
	if (ls->gate)
		loop_gate_open(lockstep_options.loop);
	ls->gate = false;
}

/* Lets the loop's thread have its turn; false: kicked meanwhile, the gate is not ours. */
static bool give_way(struct lockstep *ls)
{
	leave_gate(ls);
	while (loop_gate_wanted(lockstep_options.loop) && !atomic_load(&ls->ref->kick_pending))
		sched_yield();
	return take_gate(ls);
}

static int64_t next_timer(const struct lockstep *ls)
{
	int64_t at = ls->ref->lapic ? irqchip_timer_deadline(ls->ref) : INT64_MAX;

	if (lockstep_options.loop)
		at = MIN(at, loop_timers_next(lockstep_options.loop));
	return at;
}

static void run_timers(struct lockstep *ls)
{
	ls_time_update(ls);
	if (lockstep_options.loop)
		loop_timers_run(lockstep_options.loop);
	ls->hinted = true;
}

/* The guest halted: devices get a little time, then the clock jumps to what comes next. False: nothing does. */
static bool idle(struct lockstep *ls)
{
	int64_t next = next_timer(ls), left = next - ls_time_now(ls);
	const struct timespec wait = { .tv_nsec = MIN(left, (int64_t)IDLE_WAIT_NS) };

	if (next == INT64_MAX)
		return false;
	if (left > 0) {
		leave_gate(ls);
		nanosleep(&wait, NULL);
		if (!take_gate(ls) || atomic_load(&ls->ref->irq_hint))
			return true;
		ls_time_skip(ls, next);
	}
	run_timers(ls);
	return true;
}

/* ---- the loop ---- */

static void end(struct lockstep *ls, struct cpu_exit *x)
{
	const struct lockstep_result *r = &lockstep_result;

	if (r->differences) {
		x->reason = CPU_EXIT_ERROR;
		snprintf(x->msg, sizeof(x->msg),
			 "lockstep: interp and dbt differ after %lu instructions",
			 ls->ref->insn_count - ls->first_insn);
	} else {
		x->reason = CPU_EXIT_END;
		snprintf(x->msg, sizeof(x->msg),
			 "lockstep: %lu instructions, %lu blocks, 0 differences", r->insns,
			 r->blocks);
	}
}

/* What comes before a step. True: run() must return with *x. */
static bool boundary(struct lockstep *ls, struct cpu_exit *x)
{
	struct vcpu *v = ls->ref;

	if (lockstep_options.loop && (!ls->gate || loop_gate_wanted(lockstep_options.loop)))
		(void)give_way(ls);
	if (ls->kicked || atomic_load_explicit(&v->kick_pending, memory_order_relaxed)) {
		atomic_store(&v->kick_pending, 0);
		ls->kicked = false;
		x->reason = CPU_EXIT_KICKED;
		return true;
	}
	if (unlikely(ls_time_now(ls) >= next_timer(ls)))
		run_timers(ls);
	put_off_events(ls);
	if (ls->hinted || v->s->mp_state != X86_MP_RUNNABLE)
		deliver(ls);
	if (!ls->ended && v->insn_count >= ls->next_check)
		check_all_memory(ls);
	lockstep_result.insns = v->insn_count - ls->first_insn;
	if (!ls->ended && lockstep_options.limit &&
	    lockstep_result.insns >= lockstep_options.limit) {
		check_all_memory(ls);
		ls->ended = true;
	}
	if (ls->ended)
		end(ls, x);
	return ls->ended;
}

static int lockstep_run(struct vcpu *v, struct cpu_exit *x)
{
	struct lockstep *ls = v->engine_priv;

	vcpu_self = v;
	x->msg[0] = 0;
	while (!boundary(ls, x)) {
		if (v->s->mp_state == X86_MP_RUNNABLE) {
			if (step(ls) == INTERP_SHUTDOWN) {
				x->reason = CPU_EXIT_SHUTDOWN;
				snprintf(x->msg, sizeof(x->msg), "triple fault at %#lx", v->s->rip);
				break;
			}
		} else if (!atomic_load(&v->irq_hint) && !idle(ls)) {
			x->reason = CPU_EXIT_HLT;
			break;
		}
	}
	leave_gate(ls);
	return 0;
}

/* ---- opening and closing ---- */

static void lockstep_close(struct vcpu *v)
{
	struct lockstep *ls = v->engine_priv;
	const struct lockstep_result *r = &lockstep_result;

	if (!ls)
		return;
	if (r->differences == 0 && r->insns)
		log_info(
			"lockstep: %lu instructions, %lu blocks, 0 differences (%lu instructions the translator leaves to interp, %lu looks at all memory)",
			r->insns, r->blocks, r->alone, r->checks);
	if (ls->dbt.engine_priv)
		engine_dbt.vcpu_close(&ls->dbt);
	ls_record_close(ls);
	interp_close(v);
	ls_ram_close(&ls->ram);
	free(ls->dbt_state);
	v->engine_priv = NULL;
	free(ls);
}

/* The translator's vCPU: the same as the caller's, on the other RAM. */
static int open_dbt(struct lockstep *ls, struct err *e)
{
	struct vcpu *v = ls->ref, *d = &ls->dbt;

	ls->dbt_state = aligned_alloc(64, ALIGN_UP(sizeof(*ls->dbt_state), 64));
	if (!ls->dbt_state)
		return err_set(e, -ENOMEM, "lockstep: no memory");
	*ls->dbt_state = *v->s;
	d->s = ls->dbt_state;
	d->index = v->index;
	d->apic_id = v->apic_id;
	d->mem = ls->ram.dbt;
	d->cpuid = v->cpuid;
	d->engine = &engine_dbt;
	d->thread = v->thread;
	d->lapic = v->lapic;
	dbt_options.no_chain = true;
	dbt_options.lockstep = true;
	dbt_planted_bug = lockstep_options.plant;
	return engine_dbt.vcpu_open(NULL, d, e);
}

/* Nobody writes code behind the reference interpreter's back: let it run at full speed, as it does by itself. */
static int open_ref(struct vcpu *v, struct err *e)
{
	const struct cpu_engine *was = v->engine;
	int r;

	v->engine = &engine_interp;
	r = interp_open(v);
	v->engine = was;
	return r ? err_set(e, r, "lockstep: no memory for the interpreter") : 0;
}

static int lockstep_open(void *vm, struct vcpu *v, struct err *e)
{
	struct lockstep *ls;
	int r;

	(void)vm;
	if (v->index > 0)
		return err_set(e, -ENOTSUP, "lockstep runs one CPU: use --cpus 1");
	ls = calloc(1, sizeof(*ls));
	if (!ls)
		return err_set(e, -ENOMEM, "lockstep: no memory");
	if (!clock_is_virtual())
		lockstep_time_start(lockstep_options.loop);
	v->engine_priv = ls;
	ls->ref = v;
	ls->rec.ev = calloc(1u << 16, sizeof(*ls->rec.ev));
	lockstep_result = (struct lockstep_result){ 0 };
	r = ls->rec.ev ? 0 : err_set(e, -ENOMEM, "lockstep: no memory");
	if (!r)
		r = open_ref(v, e);
	if (!r)
		r = ls_ram_open(&ls->ram, v->mem, e);
	if (!r)
		r = open_dbt(ls, e);
	if (r) {
		lockstep_close(v);
		return r;
	}
	ls_record_open(ls);
	ls->first_insn = v->insn_count;
	ls->next_check = v->insn_count + lockstep_options.check_every;
	return 0;
}

static int lockstep_probe(struct err *why)
{
	return engine_dbt.probe(why);
}

static int lockstep_vm_open(void **vm, struct mem_map *mem, struct err *e)
{
	return engine_interp.vm_open(vm, mem, e);
}

static void lockstep_vm_close(void *vm)
{
	engine_interp.vm_close(vm);
}

static void lockstep_kick(struct vcpu *v)
{
	engine_interp.kick(v);
}

static int lockstep_get_state(struct vcpu *v, struct x86_state *s)
{
	*s = *v->s;
	return 0;
}

static int lockstep_set_state(struct vcpu *v, const struct x86_state *s)
{
	struct lockstep *ls = v->engine_priv;
	int r = engine_dbt.set_state(&ls->dbt, s);

	*v->s = *s;
	interp_tlb_flush(v, true);
	return r;
}

const struct cpu_engine engine_lockstep = {
	.name = "lockstep",
	.probe = lockstep_probe,
	.vm_open = lockstep_vm_open,
	.vm_close = lockstep_vm_close,
	.vcpu_open = lockstep_open,
	.vcpu_close = lockstep_close,
	.run = lockstep_run,
	.kick = lockstep_kick,
	.get_state = lockstep_get_state,
	.set_state = lockstep_set_state,
};
