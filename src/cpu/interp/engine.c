/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter as an engine of its own. run() on the vCPU's thread, kick() from any.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/engine.h"
#include "cpu/interp/interp.h"
#include "cpu/kick.h"

#define SLICE (1u << 20) /* instructions between unconditional looks at what waits */

static int engine_probe(struct err *why)
{
	(void)why;
	return 0;
}

/* It may be the local APIC's timer, which sets no flag of its own: have a look. */
static void on_kick(int sig)
{
	(void)sig;
	if (vcpu_self)
		atomic_store(&vcpu_self->irq_hint, 1);
}

static int install_handler(void)
{
	struct sigaction old, sa;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = on_kick;
	sa.sa_flags = SA_ONSTACK;
	sigemptyset(&sa.sa_mask);
	if (sigaction(CPU_KICK_SIGNAL, NULL, &old))
		return -errno;
	if (!(old.sa_flags & SA_SIGINFO) && old.sa_handler == SIG_DFL &&
	    sigaction(CPU_KICK_SIGNAL, &sa, NULL))
		return -errno;
	return 0;
}

static int engine_vm_open(void **vm, struct mem_map *mem, struct err *e)
{
	int rc = install_handler();

	*vm = mem;
	if (rc)
		return err_set(e, rc, "interp: cannot install the signal handler: %s",
			       strerror(-rc));
	return 0;
}

static void engine_vm_close(void *vm)
{
	(void)vm;
}

static int engine_vcpu_open(void *vm, struct vcpu *v, struct err *e)
{
	int rc;

	v->vm = vm;
	v->engine = &engine_interp;
	rc = interp_open(v);
	if (rc)
		return err_set(e, rc, "interp: no memory for the caches of vCPU %u", v->index);
	return 0;
}

static void engine_vcpu_close(struct vcpu *v)
{
	interp_close(v);
}

static void shutdown_exit(const struct vcpu *v, struct cpu_exit *x)
{
	static const char what[] = "the guest shut its CPU down (triple fault)";

	(void)v;
	x->reason = CPU_EXIT_SHUTDOWN;
	memcpy(x->msg, what, sizeof(what));
}

static int engine_run(struct vcpu *v, struct cpu_exit *x)
{
	x->msg[0] = 0;
	for (;;) {
		if (atomic_exchange(&v->kick_pending, 0)) {
			x->reason = CPU_EXIT_KICKED;
			return 0;
		}
		if (atomic_load(&v->irq_hint) || v->s->mp_state != X86_MP_RUNNABLE)
			interp_deliver_pending(v);
		if (v->s->mp_state != X86_MP_RUNNABLE) {
			x->reason = CPU_EXIT_HLT;
			return 0;
		}
		if (interp_run(v, SLICE) == INTERP_SHUTDOWN) {
			shutdown_exit(v, x);
			return 0;
		}
	}
}

static void engine_kick(struct vcpu *v)
{
	if (v != vcpu_self && v->thread)
		(void)pthread_kill(v->thread, CPU_KICK_SIGNAL);
}

static int engine_get_state(struct vcpu *v, struct x86_state *s)
{
	memcpy(s, v->s, sizeof(*s));
	return 0;
}

static int engine_set_state(struct vcpu *v, const struct x86_state *s)
{
	memcpy(v->s, s, sizeof(*s));
	interp_tlb_flush(v, true);
	return 0;
}

const struct cpu_engine engine_interp = {
	.name = "interp",
	.probe = engine_probe,
	.vm_open = engine_vm_open,
	.vm_close = engine_vm_close,
	.vcpu_open = engine_vcpu_open,
	.vcpu_close = engine_vcpu_close,
	.run = engine_run,
	.kick = engine_kick,
	.get_state = engine_get_state,
	.set_state = engine_set_state,
};
