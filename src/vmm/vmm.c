/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Creation, the loop's side of a running VM, reset and the end. Device callbacks come on vCPU threads
 * and only leave a note (want) that the loop's thread acts upon.
 */
#include "vmm/vmm.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/stats.h"
#include "cpu/dbt/dbt.h"
#include "cpu/lockstep/lockstep.h"
#include "vmm/vmm_priv.h"

/* NULL with *e when a named one cannot run here; why (160 bytes): why a better one was not taken. */
/* 0 when the engine can run so many CPUs here; otherwise *no says why not. */
static int usable(const struct cpu_engine *engine, unsigned cpus, struct err *no)
{
	if (engine->max_vcpus && cpus > engine->max_vcpus)
		return err_set(no, -ENOTSUP, "it runs %u CPU in this version, not %u",
			       engine->max_vcpus, cpus);
	return engine->probe(no);
}

static const struct cpu_engine *choose_engine(const char *name, unsigned cpus, char *why,
					      struct err *e)
{
	const struct cpu_engine *const *p;
	bool any = strcmp(name, "auto") == 0;
	char tried[128] = "";
	struct err no;

	for (p = cpu_engines; *p; p++) {
		if (!any && strcmp(name, (*p)->name) != 0)
			continue;
		no.msg[0] = 0;
		if (usable(*p, cpus, &no) == 0) {
			snprintf(why, 160, "%s", tried);
			return *p;
		}
		if (!any) {
			err_set(e, -ENOTSUP, "engine %s cannot run this: %s", name, no.msg);
			return NULL;
		}
		snprintf(tried, sizeof(tried), "%s cannot run this: %.80s", (*p)->name, no.msg);
	}
	if (any)
		err_set(e, -ENOTSUP, "no engine can run this: %s", tried);
	else
		err_set(e, -ENOTSUP, "there is no engine %s: use auto, dbt or interp", name);
	return NULL;
}

void vmm_want(struct vmm *v, unsigned want)
{
	atomic_fetch_or(&v->want, want);
	loop_post(v->loop, &v->work);
}

/* The first reason given stands, unless a worse one comes. */
void vmm_quit(struct vmm *v, enum vmm_end why)
{
	unsigned was = atomic_load(&v->end);

	while (was < (unsigned)why && !atomic_compare_exchange_weak(&v->end, &was, (unsigned)why))
		;
	vmm_want(v, VMM_WANT_END);
}

void vmm_reset(struct vmm *v)
{
	vmm_want(v, VMM_WANT_RESET);
}

void vmm_fail(struct vmm *v, const char *fmt, ...)
{
	char msg[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	pthread_mutex_lock(&v->lock);
	if (!v->err.code)
		err_set(&v->err, -EIO, "%s", msg);
	pthread_mutex_unlock(&v->lock);
	vmm_set_phase(v, VMM_STOP);
	vmm_quit(v, VMM_END_FAILURE);
}

/* ---- what devices say (any thread) ---- */

static void on_power_off(void *opaque)
{
	struct vmm *v = opaque;

	vmm_set_phase(v, VMM_STOP);
	vmm_cpus_kick(v);
	vmm_quit(v, VMM_END_OFF);
}

static void on_reset(void *opaque)
{
	struct vmm *v = opaque;

	vmm_set_phase(v, VMM_STOP);
	vmm_cpus_kick(v);
	vmm_reset(v);
}

static void on_console_out(void *opaque, enum machine_console which, const uint8_t *buf, size_t n)
{
	struct vmm *v = opaque;
	bool panic;

	pthread_mutex_lock(&v->lock);
	panic = panic_scan(&v->panic[which], buf, n);
	pthread_mutex_unlock(&v->lock);
	v->cfg.console_out(v->cfg.opaque, which, buf, n);
	if (panic)
		vmm_want(v, VMM_WANT_PANIC_NOTICE);
}

static void on_console_room(void *opaque)
{
	vmm_want(opaque, VMM_WANT_ROOM);
}

/* ---- what vCPUs ask (their own threads) ---- */

static uint32_t io_pio_read(void *opaque, uint16_t port, unsigned size)
{
	struct vmm *v = opaque;

	return bus_pio_read(v->machine->bus, port, size);
}

static void io_pio_write(void *opaque, uint16_t port, uint32_t val, unsigned size)
{
	struct vmm *v = opaque;

	bus_pio_write(v->machine->bus, port, val, size);
}

#define CHIP(opaque) (((struct vmm *)(opaque))->machine->irqchip)

static int io_irq_pending(void *opaque, struct vcpu *c)
{
	return irqchip_irq_pending(CHIP(opaque), c);
}

static int io_irq_ack(void *opaque, struct vcpu *c)
{
	return irqchip_irq_ack(CHIP(opaque), c);
}

static int io_rdmsr(void *opaque, struct vcpu *c, uint32_t msr, uint64_t *val)
{
	return irqchip_apic_rdmsr(CHIP(opaque), c, msr, val);
}

static int io_wrmsr(void *opaque, struct vcpu *c, uint32_t msr, uint64_t val)
{
	return irqchip_apic_wrmsr(CHIP(opaque), c, msr, val);
}

static uint64_t io_get_tpr(void *opaque, struct vcpu *c)
{
	return irqchip_get_tpr(CHIP(opaque), c);
}

static void io_set_tpr(void *opaque, struct vcpu *c, uint64_t cr8)
{
	irqchip_set_tpr(CHIP(opaque), c, cr8);
}

static void fill_io(struct vmm *v)
{
	v->io = (struct vcpu_io){
		.opaque = v,
		.pio_read = io_pio_read,
		.pio_write = io_pio_write,
		.irq_pending = io_irq_pending,
		.irq_ack = io_irq_ack,
		.apic_rdmsr = io_rdmsr,
		.apic_wrmsr = io_wrmsr,
		.get_tpr = io_get_tpr,
		.set_tpr = io_set_tpr,
	};
}

/* ---- starting over ---- */

/* Reset values for every vCPU: the first at the kernel's entry, the others waiting for it. */
static int load_states(struct vmm *v, struct err *e)
{
	const uint64_t now = clock_tsc(); /* the guest's TSC starts at 0 */

	for (unsigned i = 0; i < v->ncpus; i++) {
		struct vmm_cpu *c = &v->cpu[i];

		x86_state_reset(c->state);
		c->state->tsc_offset = -now;
		c->state->mp_state = i ? X86_MP_WAIT_SIPI : X86_MP_RUNNABLE;
		atomic_store(&c->v.kick_pending, 0);
		atomic_store(&c->v.irq_hint, 0);
		atomic_store(&c->v.init_pending, 0);
		atomic_store(&c->v.sipi_pending, 0);
	}
	machine_reset(v->machine);
	return machine_load(v->machine, v->cpu[0].state, e);
}

/* From a loaded machine to running vCPUs. */
static int power_on(struct vmm *v, struct err *e)
{
	int r = v->engine->vm_open(&v->engine_vm, v->machine->mem, e);

	if (r)
		return r;
	for (unsigned i = 0; i < v->ncpus; i++)
		v->cpu[i].v.vm = v->engine_vm;
	r = vmm_cpus_start(v, e);
	if (r) {
		v->engine->vm_close(v->engine_vm);
		v->engine_vm = NULL;
	}
	return r;
}

static void power_off(struct vmm *v)
{
	vmm_cpus_stop(v);
	if (v->engine_vm)
		v->engine->vm_close(v->engine_vm);
	v->engine_vm = NULL;
}

static void start_over(struct vmm *v)
{
	struct err e = { 0 };

	power_off(v);
	v->resets++;
	memset(v->panic, 0, sizeof(v->panic));
	if (load_states(v, &e) || power_on(v, &e))
		vmm_fail(v, "cannot reset the guest: %s", e.msg);
}

/* ---- the loop's thread ---- */

static void note_panic(struct vmm *v)
{
	char text[sizeof(v->panic[0].text)];

	text[0] = 0;
	pthread_mutex_lock(&v->lock);
	for (unsigned i = 0; i < MACHINE_CONSOLES; i++)
		if (v->panic[i].complete)
			memcpy(text, v->panic[i].text, sizeof(text));
	pthread_mutex_unlock(&v->lock);
	if (v->panicked)
		return;
	v->panicked = true;
	snprintf(v->crash, sizeof(v->crash), "guest kernel panic: %s", text);
	v->cfg.notice(v->cfg.opaque, v->crash);
}

/* A guest that resets because it panicked would only panic again. */
static void handle_reset(struct vmm *v)
{
	if (v->panicked)
		vmm_quit(v, VMM_END_CRASH);
	else if (v->cfg.no_reboot)
		vmm_quit(v, VMM_END_OFF);
	else
		start_over(v);
}

static void on_work(struct loop_work *w)
{
	struct vmm *v = w->opaque;
	unsigned want = atomic_exchange(&v->want, 0);

	if (want & VMM_WANT_PANIC_NOTICE)
		note_panic(v);
	if ((want & VMM_WANT_ROOM) && v->cfg.console_room)
		v->cfg.console_room(v->cfg.opaque);
	if ((want & VMM_WANT_RESET) && !(want & VMM_WANT_END) && !v->ended)
		handle_reset(v);
	if (want & VMM_WANT_END)
		v->ended = true;
	if (v->ended)
		loop_stop(v->loop);
}

int vmm_start(struct vmm *v, struct err *e)
{
	v->start_ns = clock_monotonic_ns();
	return power_on(v, e);
}

enum vmm_end vmm_run(struct vmm *v, struct err *e)
{
	unsigned end;

	if (!v->ended)
		loop_run(v->loop);
	power_off(v);
	machine_shutdown(v->machine);
	end = atomic_load(&v->end);
	if (v->err.code)
		*e = v->err;
	if (end == VMM_END_OFF && v->panicked)
		end = VMM_END_CRASH;
	return (enum vmm_end)end;
}

void vmm_power_button(struct vmm *v)
{
	machine_power_button(v->machine);
}

void vmm_pause(struct vmm *v)
{
	if (atomic_load(&v->phase) != VMM_RUN)
		return;
	vmm_set_phase(v, VMM_PAUSE);
	vmm_cpus_wait_parked(v);
}

void vmm_resume(struct vmm *v)
{
	if (vmm_paused(v))
		vmm_set_phase(v, VMM_RUN);
}

bool vmm_paused(const struct vmm *v)
{
	return atomic_load(&v->phase) == VMM_PAUSE;
}

bool vmm_stopping(const struct vmm *v)
{
	return atomic_load(&v->phase) == VMM_STOP;
}

size_t vmm_console_in(struct vmm *v, enum machine_console which, const uint8_t *buf, size_t n)
{
	return machine_console_in(v->machine, which, buf, n);
}

const char *vmm_crash_text(const struct vmm *v)
{
	return v->crash[0] ? v->crash : "guest triple fault";
}

const char *vmm_engine_why(const struct vmm *v)
{
	return v->why;
}

const char *vmm_engine_name(const struct vmm *v)
{
	return v->engine->name;
}

/* ---- creation ---- */

static int create_cpus(struct vmm *v, struct err *e)
{
	unsigned n = v->cfg.machine.cpus;

	v->cpu = calloc(n, sizeof(*v->cpu));
	if (!v->cpu)
		return err_set(e, -ENOMEM, "no memory for %u vCPUs", n);
	for (v->ncpus = 0; v->ncpus < n; v->ncpus++) {
		struct vmm_cpu *c = &v->cpu[v->ncpus];

		c->vmm = v;
		c->state = aligned_alloc(64, ALIGN_UP(sizeof(*c->state), 64));
		if (!c->state)
			return err_set(e, -ENOMEM, "no memory for %u vCPUs", n);
		c->v.s = c->state;
		c->v.index = c->v.apic_id = v->ncpus;
		c->v.mem = v->machine->mem;
		c->v.io = &v->io;
		c->v.cpuid = &v->machine->cpuid;
		c->v.engine = v->engine;
		if (irqchip_add_vcpu(v->machine->irqchip, &c->v) < 0) {
			free(c->state);
			return err_set(e, -ENOMEM, "no local APIC for vCPU %u", c->v.index);
		}
	}
	return 0;
}

static const struct machine_host *make_host(struct vmm *v, struct machine_host *h)
{
	*h = (struct machine_host){
		.power_off = on_power_off,
		.reset = on_reset,
		.console_out = on_console_out,
		.console_room = on_console_room,
		.opaque = v,
	};
	return h;
}

static void set_dbt_options(const struct vmm_cfg *cfg)
{
	dbt_options.cache_size = cfg->dbt_cache;
	dbt_options.count = cfg->dbt_count;
	dbt_options.no_chain |= cfg->dbt_no_chain;
	dbt_options.dump_guest = cfg->dbt_dump_guest;
	dbt_options.dump_host = cfg->dbt_dump_host;
}

struct vmm *vmm_create(const struct vmm_cfg *cfg, struct loop *loop, struct err *e)
{
	struct vmm *v = calloc(1, sizeof(*v));
	struct machine_host host;

	if (!v) {
		err_set(e, -ENOMEM, "no memory");
		return NULL;
	}
	v->cfg = *cfg;
	v->loop = loop;
	v->work = (struct loop_work){ .run = on_work, .opaque = v };
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->changed, NULL);
	atomic_store(&v->phase, VMM_PAUSE);
	fill_io(v);
	v->engine = choose_engine(cfg->engine, cfg->machine.cpus, v->why, e);
	if (!v->engine)
		goto out;
	set_dbt_options(cfg);
	if (v->engine == &engine_lockstep) {
		lockstep_options.limit = cfg->lockstep_limit;
		lockstep_options.plant = cfg->lockstep_plant;
		lockstep_time_start(loop);
	}
	v->machine = machine_create(&cfg->machine, loop, make_host(v, &host), e);
	if (!v->machine || create_cpus(v, e) || load_states(v, e))
		goto out;
	return v;
out:
	vmm_destroy(v);
	return NULL;
}

void vmm_destroy(struct vmm *v)
{
	if (!v)
		return;
	if (v->engine == &engine_lockstep)
		lockstep_time_end();
	if (v->machine)
		machine_destroy(v->machine);
	for (unsigned i = 0; i < v->ncpus; i++)
		free(v->cpu[i].state);
	free(v->cpu);
	pthread_cond_destroy(&v->changed);
	pthread_mutex_destroy(&v->lock);
	free(v);
}
