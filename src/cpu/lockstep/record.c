/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Input and output: done once, by the reference vCPU, and played back to the translator's, whose accesses must be
 * the same ones in the same order.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cpu/lockstep/lockstep_priv.h"

#define MAX_EVENTS (1u << 16)

static struct lockstep *of_dbt(struct vcpu *v)
{
	return container_of(v, struct lockstep, dbt);
}

/* ---- recording ---- */

static uint64_t record(struct lockstep *ls, enum ls_event_kind kind, uint64_t addr, uint64_t val,
		       unsigned size, int ret)
{
	struct ls_record *r = &ls->rec;

	r->ev[r->n++] = (struct ls_event){ (uint8_t)kind, (uint8_t)size, (int8_t)ret, addr, val };
	/* A repeated IN or OUT can go on for ever: let it stop between two elements. */
	if (r->n == MAX_EVENTS - 8)
		atomic_store(&ls->ref->kick_pending, 1);
	if (r->n == MAX_EVENTS)
		r->n--;
	return val;
}

static uint32_t ref_pio_read(void *opaque, uint16_t port, unsigned size)
{
	struct lockstep *ls = opaque;

	return (uint32_t)record(ls, LS_PIO_READ, port, ls->io->pio_read(ls->io->opaque, port, size),
				size, 0);
}

static void ref_pio_write(void *opaque, uint16_t port, uint32_t val, unsigned size)
{
	struct lockstep *ls = opaque;

	ls->io->pio_write(ls->io->opaque, port, val, size);
	record(ls, LS_PIO_WRITE, port, val, size, 0);
}

static int ref_irq_pending(void *opaque, struct vcpu *v)
{
	struct lockstep *ls = opaque;
	int vec = ls->io->irq_pending(ls->io->opaque, v);

	record(ls, LS_IRQ_PENDING, 0, (uint64_t)(int64_t)vec, 0, 0);
	return vec;
}

static int ref_irq_ack(void *opaque, struct vcpu *v)
{
	struct lockstep *ls = opaque;
	int vec = ls->io->irq_ack(ls->io->opaque, v);

	record(ls, LS_IRQ_ACK, 0, (uint64_t)(int64_t)vec, 0, 0);
	return vec;
}

static int ref_rdmsr(void *opaque, struct vcpu *v, uint32_t msr, uint64_t *val)
{
	struct lockstep *ls = opaque;
	int ret = ls->io->apic_rdmsr(ls->io->opaque, v, msr, val);

	record(ls, LS_RDMSR, msr, ret ? 0 : *val, 8, ret);
	return ret;
}

static int ref_wrmsr(void *opaque, struct vcpu *v, uint32_t msr, uint64_t val)
{
	struct lockstep *ls = opaque;
	int ret = ls->io->apic_wrmsr(ls->io->opaque, v, msr, val);

	record(ls, LS_WRMSR, msr, val, 8, ret);
	return ret;
}

static uint64_t ref_get_tpr(void *opaque, struct vcpu *v)
{
	struct lockstep *ls = opaque;

	return record(ls, LS_GET_TPR, 0, ls->io->get_tpr(ls->io->opaque, v), 8, 0);
}

static void ref_set_tpr(void *opaque, struct vcpu *v, uint64_t cr8)
{
	struct lockstep *ls = opaque;

	ls->io->set_tpr(ls->io->opaque, v, cr8);
	record(ls, LS_SET_TPR, 0, cr8, 8, 0);
}

static uint64_t ref_mmio_read(struct vcpu *v, gpa_t a, unsigned size)
{
	return record(v->engine_priv, LS_MMIO_READ, a, mem_load(v->mem, a, size), size, 0);
}

static void ref_mmio_write(struct vcpu *v, gpa_t a, uint64_t val, unsigned size)
{
	mem_store(v->mem, a, val, size);
	record(v->engine_priv, LS_MMIO_WRITE, a, val, size, 0);
}

/* The same sequence in every run, so that what was found can be found again. */
static uint64_t ref_random(struct vcpu *v)
{
	uint64_t x = (v->insn_count + 1) * 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return record(v->engine_priv, LS_RANDOM, 0, x ^ x >> 31, 8, 0);
}

/* ---- playing back ---- */

static bool is_write(enum ls_event_kind kind)
{
	return kind == LS_PIO_WRITE || kind == LS_MMIO_WRITE || kind == LS_WRMSR ||
	       kind == LS_SET_TPR;
}

/* The event dbt asks for; where it is not the one that was recorded, something harmless, noted. */
static struct ls_event play(struct lockstep *ls, enum ls_event_kind kind, uint64_t addr,
			    uint64_t val, unsigned size)
{
	struct ls_record *r = &ls->rec;
	struct ls_event want = { (uint8_t)kind, (uint8_t)size, 0, addr, val },
			*e = &r->ev[r->played];

	if (r->played == r->n || e->kind != kind || e->addr != addr || e->size != size ||
	    (is_write(kind) && e->val != val)) {
		if (!r->mismatch)
			r->wrong = want;
		r->mismatch = true;
		want.val = UINT64_MAX;
		return want;
	}
	if (++r->played == r->n && r->stop_at_end)
		atomic_store(&ls->dbt.kick_pending, 1);
	return *e;
}

static uint32_t dbt_pio_read(void *opaque, uint16_t port, unsigned size)
{
	return (uint32_t)play(opaque, LS_PIO_READ, port, 0, size).val;
}

static void dbt_pio_write(void *opaque, uint16_t port, uint32_t val, unsigned size)
{
	play(opaque, LS_PIO_WRITE, port, val, size);
}

static int dbt_irq_pending(void *opaque, struct vcpu *v)
{
	struct lockstep *ls = opaque;

	(void)v;
	/* The translator's own look, of which ref knows nothing: interrupts are given to it at boundaries. */
	if (ls->rec.played == ls->rec.n)
		return -1;
	return (int)play(ls, LS_IRQ_PENDING, 0, 0, 0).val;
}

static int dbt_irq_ack(void *opaque, struct vcpu *v)
{
	(void)v;
	return (int)play(opaque, LS_IRQ_ACK, 0, 0, 0).val;
}

static int dbt_rdmsr(void *opaque, struct vcpu *v, uint32_t msr, uint64_t *val)
{
	struct ls_event e = play(opaque, LS_RDMSR, msr, 0, 8);

	(void)v;
	*val = e.val;
	return e.ret;
}

static int dbt_wrmsr(void *opaque, struct vcpu *v, uint32_t msr, uint64_t val)
{
	(void)v;
	return play(opaque, LS_WRMSR, msr, val, 8).ret;
}

static uint64_t dbt_get_tpr(void *opaque, struct vcpu *v)
{
	(void)v;
	return play(opaque, LS_GET_TPR, 0, 0, 8).val;
}

static void dbt_set_tpr(void *opaque, struct vcpu *v, uint64_t cr8)
{
	(void)v;
	play(opaque, LS_SET_TPR, 0, cr8, 8);
}

static uint64_t dbt_mmio_read(struct vcpu *v, gpa_t a, unsigned size)
{
	return play(of_dbt(v), LS_MMIO_READ, a, 0, size).val;
}

static void dbt_mmio_write(struct vcpu *v, gpa_t a, uint64_t val, unsigned size)
{
	play(of_dbt(v), LS_MMIO_WRITE, a, val, size);
}

static uint64_t dbt_random(struct vcpu *v)
{
	return play(of_dbt(v), LS_RANDOM, 0, 0, 8).val;
}

/* ---- memory ---- */

static void ref_written(struct vcpu *v, gpa_t a, unsigned len)
{
	struct lockstep *ls = v->engine_priv;

	ls_ram_written(&ls->ram, a, len);
}

static void ref_marked(struct vcpu *v, gpa_t a, unsigned size)
{
	struct lockstep *ls = v->engine_priv;

	ls_ram_marked(&ls->ram, a, size);
}

static void dbt_marked(struct vcpu *v, gpa_t a, unsigned size)
{
	ls_ram_marked(&of_dbt(v)->ram, a, size);
}

/* ---- set-up ---- */

void ls_record_open(struct lockstep *ls)
{
	struct vcpu *ref = ls->ref, *dbt = &ls->dbt;

	ls->rec.cap = MAX_EVENTS;
	ls->io = ref->io;
	ls->io_ref = (struct vcpu_io){ ls,	    ref_pio_read, ref_pio_write, ref_irq_pending,
				       ref_irq_ack, ref_rdmsr,	  ref_wrmsr,	 ref_get_tpr,
				       ref_set_tpr };
	ls->io_dbt = (struct vcpu_io){ ls,	    dbt_pio_read, dbt_pio_write, dbt_irq_pending,
				       dbt_irq_ack, dbt_rdmsr,	  dbt_wrmsr,	 dbt_get_tpr,
				       dbt_set_tpr };
	ref->io = &ls->io_ref;
	dbt->io = &ls->io_dbt;
	ref->hooks = (struct vcpu_hooks){ .ram_written = ref_written,
					  .entry_marked = ref_marked,
					  .mmio_read = ref_mmio_read,
					  .mmio_write = ref_mmio_write,
					  .random = ref_random };
	/* the others are the translator's own */
	dbt->hooks.entry_marked = dbt_marked;
	dbt->hooks.mmio_read = dbt_mmio_read;
	dbt->hooks.mmio_write = dbt_mmio_write;
	dbt->hooks.random = dbt_random;
}

void ls_record_close(struct lockstep *ls)
{
	if (ls->io)
		ls->ref->io = ls->io;
	ls->ref->hooks = (struct vcpu_hooks){ 0 };
	free(ls->rec.ev);
	ls->rec.ev = NULL;
}

const char *ls_event_text(char *buf, size_t n, const struct ls_event *e)
{
	static const char *const name[] = {
		"port read",	  "port write",	     "MMIO read",     "MMIO write",
		"interrupt look", "interrupt taken", "rdmsr",	      "wrmsr",
		"TPR read",	  "TPR write",	     "random number",
	};

	snprintf(buf, n, "%s %#llx size %u value %#llx", name[e->kind], (unsigned long long)e->addr,
		 e->size, (unsigned long long)e->val);
	return buf;
}
