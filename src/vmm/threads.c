/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vCPU threads: each opens its engine vCPU, runs it, sleeps while the guest halts, and stands still
 * or ends when the phase says so. All signals are blocked here except the kick. phase, parked and
 * started change under vmm->lock.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/log.h"
#include "base/stats.h"
#include "cpu/irqchip/irqchip.h"
#include "cpu/kick.h"
#include "vmm/vmm_priv.h"

static bool must_look(struct vmm_cpu *c)
{
	struct vcpu *v = &c->v;

	return atomic_load(&v->irq_hint) || atomic_load(&v->kick_pending) ||
	       atomic_load(&v->init_pending) || atomic_load(&v->sipi_pending) ||
	       atomic_load(&c->vmm->phase) != VMM_RUN;
}

/*
 * The guest executed HLT. The kick is blocked while the flags are looked at and let through only by
 * the sleep itself, so that none is lost.
 */
static void sleep_halted(struct vmm_cpu *c)
{
	sigset_t kick, awake;
	int64_t deadline, left;
	struct timespec ts;

	stat_inc(EXIT_HLT);
	sigemptyset(&kick);
	sigaddset(&kick, CPU_KICK_SIGNAL);
	pthread_sigmask(SIG_BLOCK, &kick, &awake);
	while (!must_look(c)) {
		deadline = irqchip_timer_deadline(&c->v);
		left = deadline == INT64_MAX ? INT64_MAX : deadline - clock_monotonic_ns();
		if (left <= 0) {
			atomic_store(&c->v.irq_hint, 1);
			break;
		}
		ts.tv_sec = left / 1000000000;
		ts.tv_nsec = left % 1000000000;
		ppoll(NULL, 0, deadline == INT64_MAX ? NULL : &ts, &awake);
	}
	pthread_sigmask(SIG_SETMASK, &awake, NULL);
}

/* False: the thread is to end. Stands still here while the VM is paused. */
static bool may_run(struct vmm_cpu *c)
{
	struct vmm *m = c->vmm;
	bool run;

	if (likely(atomic_load(&m->phase) == VMM_RUN))
		return true;
	pthread_mutex_lock(&m->lock);
	c->parked = true;
	pthread_cond_broadcast(&m->changed);
	while (atomic_load(&m->phase) == VMM_PAUSE)
		pthread_cond_wait(&m->changed, &m->lock);
	c->parked = false;
	run = atomic_load(&m->phase) == VMM_RUN;
	pthread_mutex_unlock(&m->lock);
	return run;
}

static void handle_exit(struct vmm_cpu *c, const struct cpu_exit *x)
{
	struct vmm *m = c->vmm;

	switch (x->reason) {
	case CPU_EXIT_HLT: sleep_halted(c); break;
	case CPU_EXIT_KICKED: atomic_store(&c->v.kick_pending, 0); break;
	case CPU_EXIT_SHUTDOWN:
		log_warn("vCPU %u: triple fault%s", c->v.index,
			 m->cfg.no_reboot ? "" : ": resetting the guest");
		vmm_set_phase(m, VMM_STOP);
		if (m->cfg.no_reboot)
			vmm_quit(m, VMM_END_CRASH);
		else
			vmm_reset(m);
		break;
	case CPU_EXIT_END:
		vmm_set_phase(m, VMM_STOP);
		vmm_quit(m, VMM_END_OFF);
		break;
	case CPU_EXIT_ERROR: vmm_fail(m, "vCPU %u: %s", c->v.index, x->msg); break;
	}
}

static int open_cpu(struct vmm_cpu *c)
{
	struct vmm *m = c->vmm;
	int r;

	c->v.thread = pthread_self();
	c->v.s = c->state;
	r = m->engine->vcpu_open(m->engine_vm, &c->v, &c->err);
	if (r)
		return r;
	r = lapic_thread_attach(&c->v, CPU_KICK_SIGNAL);
	if (r) {
		m->engine->vcpu_close(&c->v);
		return err_set(&c->err, r, "vCPU %u: no timer: %s", c->v.index, strerror(-r));
	}
	return 0;
}

static void report_started(struct vmm_cpu *c)
{
	pthread_mutex_lock(&c->vmm->lock);
	c->started = true;
	pthread_cond_broadcast(&c->vmm->changed);
	pthread_mutex_unlock(&c->vmm->lock);
}

static void run_cpu(struct vmm_cpu *c)
{
	struct cpu_exit x;
	int r;

	while (may_run(c)) {
		memset(&x, 0, sizeof(x));
		r = c->vmm->engine->run(&c->v, &x);
		if (r < 0) {
			vmm_fail(c->vmm, "vCPU %u: %s", c->v.index,
				 x.msg[0] ? x.msg : strerror(-r));
			break;
		}
		handle_exit(c, &x);
	}
}

static void *cpu_thread(void *arg)
{
	struct vmm_cpu *c = arg;
	sigset_t kick;
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", c->v.index);
	prctl(PR_SET_NAME, name);
	prctl(PR_SET_TIMERSLACK, 1);
	vcpu_self = &c->v;
	stat_thread_register();
	c->err.code = 0;
	if (!open_cpu(c)) {
		sigemptyset(&kick);
		sigaddset(&kick, CPU_KICK_SIGNAL);
		pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
		report_started(c);
		run_cpu(c);
		pthread_sigmask(SIG_BLOCK, &kick, NULL);
		lapic_thread_detach(&c->v);
		c->vmm->engine->get_state(&c->v, c->state);
		c->vmm->engine->vcpu_close(&c->v);
		c->v.s = c->state;
	} else {
		report_started(c);
	}
	pthread_mutex_lock(&c->vmm->lock);
	c->parked = true;
	pthread_cond_broadcast(&c->vmm->changed);
	pthread_mutex_unlock(&c->vmm->lock);
	stat_thread_unregister();
	vcpu_self = NULL;
	return NULL;
}

static int start_one(struct vmm *v, struct vmm_cpu *c, struct err *e)
{
	sigset_t all, old;
	int r;

	c->started = c->parked = false;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	r = pthread_create(&c->v.thread, NULL, cpu_thread, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r) {
		c->v.thread = 0;
		return err_set(e, -r, "cannot start vCPU %u: %s", c->v.index, strerror(r));
	}
	pthread_mutex_lock(&v->lock);
	while (!c->started)
		pthread_cond_wait(&v->changed, &v->lock);
	pthread_mutex_unlock(&v->lock);
	if (c->err.code)
		return err_set(e, c->err.code, "%s", c->err.msg);
	return 0;
}

static void on_early_kick(int sig)
{
	(void)sig;
	if (vcpu_self)
		atomic_store(&vcpu_self->irq_hint, 1);
}

/* A kick may come before the engine has its own handler: it must not end the process. */
static void guard_kick(void)
{
	struct sigaction sa = { .sa_handler = on_early_kick, .sa_flags = SA_ONSTACK }, old;

	sigemptyset(&sa.sa_mask);
	if (!sigaction(CPU_KICK_SIGNAL, NULL, &old) && !(old.sa_flags & SA_SIGINFO) &&
	    old.sa_handler == SIG_DFL)
		sigaction(CPU_KICK_SIGNAL, &sa, NULL);
}

/* The threads open their vCPUs while the VM is paused; all go together. */
int vmm_cpus_start(struct vmm *v, struct err *e)
{
	int r = 0;

	guard_kick();
	vmm_set_phase(v, VMM_PAUSE);
	for (unsigned i = 0; i < v->ncpus && !r; i++)
		r = start_one(v, &v->cpu[i], e);
	if (r)
		vmm_cpus_stop(v);
	else
		vmm_set_phase(v, VMM_RUN);
	return r;
}

void vmm_set_phase(struct vmm *v, enum vmm_phase phase)
{
	pthread_mutex_lock(&v->lock);
	atomic_store(&v->phase, phase);
	pthread_cond_broadcast(&v->changed);
	pthread_mutex_unlock(&v->lock);
}

void vmm_cpus_kick(struct vmm *v)
{
	for (unsigned i = 0; i < v->ncpus; i++)
		if (v->cpu[i].v.thread)
			vcpu_kick(&v->cpu[i].v);
}

/* A vCPU may be inside a device that waits for something: kick again now and then. */
void vmm_cpus_wait_parked(struct vmm *v)
{
	struct timespec until;
	bool all;

	for (;;) {
		vmm_cpus_kick(v);
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += 50000000;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		pthread_mutex_lock(&v->lock);
		do {
			all = true;
			for (unsigned i = 0; i < v->ncpus; i++)
				all = all && (v->cpu[i].parked || !v->cpu[i].v.thread);
		} while (!all && !pthread_cond_timedwait(&v->changed, &v->lock, &until));
		pthread_mutex_unlock(&v->lock);
		if (all)
			return;
	}
}

void vmm_cpus_stop(struct vmm *v)
{
	vmm_set_phase(v, VMM_STOP);
	vmm_cpus_wait_parked(v);
	for (unsigned i = 0; i < v->ncpus; i++) {
		if (v->cpu[i].v.thread)
			pthread_join(v->cpu[i].v.thread, NULL);
		v->cpu[i].v.thread = 0;
	}
}
