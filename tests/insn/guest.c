/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cases on an engine: a guest in 64-bit user mode with the bare host's addresses. Every interrupt gate
 * leads to a HLT of its own in the kernel half, so that the exit tells the vector and the frame on the
 * kernel stack the rest. Main thread only.
 */
#include "case.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/engine.h"
#include "cpu/interp/interp.h"
#include "mem/mem.h"
#include "x86/cpuid.h"

#define RAM_SIZE (16 * MiB)
#define KERNEL_VA 0xffffffff80000000ull
/* Physical layout; the kernel's pages appear at KERNEL_VA + address. */
#define PML4_PA 0x1000u
#define PDPT_LOW_PA 0x2000u
#define PD_LOW_PA 0x3000u
#define PDPT_HIGH_PA 0x4000u
#define PD_HIGH_PA 0x5000u
#define PT_HIGH_PA 0x6000u
#define PT_LOW_PA 0x8000u /* 8 tables: the low 16 MiB */
#define GDT_PA 0x10000u
#define IDT_PA 0x11000u
#define TSS_PA 0x12000u
#define STOPS_PA 0x13000u /* 256 stops of 16 bytes */
#define STACK_PA 0x15000u
#define STACK_TOP (KERNEL_VA + STACK_PA + PAGE)
#define KERNEL_PAGES 32u

/* Linux's selectors, so that what user code can see of them is the same. */
#define KERNEL_CS 0x10
#define USER_CS 0x33
#define USER_SS 0x2b
#define TSS_SEL 0x40

#define PTE_P 1ull
#define PTE_W 2ull
#define PTE_U 4ull
#define PTE_NX BIT(63)

struct guest {
	const struct cpu_engine *engine;
	struct mem_map *mem;
	uint8_t *ram;
	struct x86_cpuid cpuid;
	struct x86_state live, init, now;
	struct vcpu v;
};

/* ---- what a vCPU asks of the board: nothing here ---- */

static uint32_t no_pio_read(void *o, uint16_t port, unsigned size)
{
	(void)o, (void)port, (void)size;
	return ~0u;
}
static void no_pio_write(void *o, uint16_t port, uint32_t val, unsigned size)
{
	(void)o, (void)port, (void)val, (void)size;
}
static int no_irq(void *o, struct vcpu *v)
{
	(void)o, (void)v;
	return -1;
}
static int no_rdmsr(void *o, struct vcpu *v, uint32_t msr, uint64_t *val)
{
	(void)o, (void)v, (void)msr, (void)val;
	return -1;
}
static int no_wrmsr(void *o, struct vcpu *v, uint32_t msr, uint64_t val)
{
	(void)o, (void)v, (void)msr, (void)val;
	return -1;
}
static uint64_t zero_tpr(void *o, struct vcpu *v)
{
	(void)o, (void)v;
	return 0;
}
static void drop_tpr(void *o, struct vcpu *v, uint64_t val)
{
	(void)o, (void)v, (void)val;
}

static const struct vcpu_io no_io = {
	.pio_read = no_pio_read,
	.pio_write = no_pio_write,
	.irq_pending = no_irq,
	.irq_ack = no_irq,
	.apic_rdmsr = no_rdmsr,
	.apic_wrmsr = no_wrmsr,
	.get_tpr = zero_tpr,
	.set_tpr = drop_tpr,
};

/* ---- memory ---- */

static void put64(struct guest *g, uint32_t pa, uint64_t v)
{
	memcpy(g->ram + pa, &v, sizeof v);
}

static void map_low(struct guest *g, uint64_t va, uint64_t flags)
{
	put64(g, (uint32_t)(PT_LOW_PA + (va >> 12) * 8), va | flags);
}

static void build_tables(struct guest *g)
{
	put64(g, PML4_PA, PDPT_LOW_PA | PTE_P | PTE_W | PTE_U);
	put64(g, PML4_PA + 511 * 8, PDPT_HIGH_PA | PTE_P | PTE_W);
	put64(g, PDPT_LOW_PA, PD_LOW_PA | PTE_P | PTE_W | PTE_U);
	put64(g, PDPT_HIGH_PA + 510 * 8, PD_HIGH_PA | PTE_P | PTE_W);
	put64(g, PD_HIGH_PA, PT_HIGH_PA | PTE_P | PTE_W);
	for (uint32_t i = 0; i < 8; i++)
		put64(g, PD_LOW_PA + i * 8, (PT_LOW_PA + i * PAGE) | PTE_P | PTE_W | PTE_U);
	for (uint32_t i = 0; i < KERNEL_PAGES; i++)
		put64(g, PT_HIGH_PA + i * 8, i * PAGE | PTE_P | PTE_W);
	for (uint32_t i = 0; i < CODE_PAGES; i++)
		map_low(g, CODE_VA + i * PAGE, PTE_P | PTE_U);
	for (uint32_t i = 0; i < DATA_RW_PAGES; i++)
		map_low(g, DATA_VA + i * PAGE, PTE_P | PTE_W | PTE_U | PTE_NX);
	for (uint32_t i = 0; i < DATA_RO_PAGES; i++)
		map_low(g, DATA_VA + DATA_RW_SIZE + i * PAGE, PTE_P | PTE_U | PTE_NX);
}

static void build_descriptors(struct guest *g)
{
	uint64_t tss = KERNEL_VA + TSS_PA;

	put64(g, GDT_PA + KERNEL_CS, 0x00af9b000000ffffull);
	put64(g, GDT_PA + 0x18, 0x00cf93000000ffffull);
	put64(g, GDT_PA + (USER_SS & ~7u), 0x00cff3000000ffffull);
	put64(g, GDT_PA + (USER_CS & ~7u), 0x00affb000000ffffull);
	put64(g, GDT_PA + TSS_SEL,
	      0x67ull | (tss & 0xffffff) << 16 | 0x8bull << 40 | (tss >> 24 & 0xff) << 56);
	put64(g, GDT_PA + TSS_SEL + 8, tss >> 32);
	put64(g, TSS_PA + 4, STACK_TOP);
	put64(g, TSS_PA + 0x60, 0xffffull << 48); /* no I/O bitmap */
	for (uint32_t vec = 0; vec < 256; vec++) {
		uint64_t stop = KERNEL_VA + STOPS_PA + vec * 16;
		uint64_t dpl = vec == X86_EX_BP || vec == X86_EX_OF ? 3 : 0;

		put64(g, IDT_PA + vec * 16,
		      (stop & 0xffff) | KERNEL_CS << 16 | (0x8e00ull | dpl << 13) << 32 |
			      (stop >> 16 & 0xffff) << 48);
		put64(g, IDT_PA + vec * 16 + 8, stop >> 32);
		g->ram[STOPS_PA + vec * 16] = 0xf4; /* HLT */
	}
	memset(g->ram + CODE_VA, 0xcc, CODE_PAGES * PAGE);
}

static void build_state(struct x86_state *s)
{
	struct x86_seg null = { 0 };

	x86_state_reset(s);
	s->cr0 = X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_AM |
		 X86_CR0_PG;
	s->cr4 = X86_CR4_PAE | X86_CR4_MCE | X86_CR4_PGE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT |
		 X86_CR4_FSGSBASE | X86_CR4_OSXSAVE;
	s->cr3 = PML4_PA;
	s->efer = X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
	s->xcr0 = X86_XCR0_X87 | X86_XCR0_SSE | X86_XCR0_AVX;
	s->gdtr = (struct x86_dtable){ KERNEL_VA + GDT_PA, 0x7f };
	s->idtr = (struct x86_dtable){ KERNEL_VA + IDT_PA, 0xfff };
	s->tr = (struct x86_seg){
		.sel = TSS_SEL, .attr = 0x8b, .limit = 0x67, .base = KERNEL_VA + TSS_PA
	};
	s->ldtr = null;
	for (unsigned i = 0; i < X86_SEG_COUNT; i++)
		s->seg[i] = null;
	s->seg[X86_CS] = (struct x86_seg){ .sel = USER_CS, .attr = 0xa0fb, .limit = 0xffffffff };
	s->seg[X86_SS] = (struct x86_seg){ .sel = USER_SS, .attr = 0xc0f3, .limit = 0xffffffff };
	s->cpl = 3;
}

struct guest *guest_start(const struct cpu_engine *e, struct err *err)
{
	struct guest *g = aligned_alloc(64, ALIGN_UP(sizeof *g, 64));
	struct x86_cpuid_options opt = { .vcpus = 1, .invtsc = true, .hypervisor = true };
	void *vm;

	if (!g)
		return NULL;
	memset(g, 0, sizeof *g);
	g->engine = e;
	g->mem = mem_map_new();
	if (e->probe(err) || mem_ram_create(g->mem, RAM_SIZE, err) ||
	    mem_add_ram(g->mem, "ram", 0, 0, RAM_SIZE))
		return NULL;
	g->ram = mem_ram_host(g->mem);
	x86_cpuid_build(&g->cpuid, &opt);
	build_tables(g);
	build_descriptors(g);
	build_state(&g->init);
	g->live = g->init;
	g->v = (struct vcpu){
		.s = &g->live, .mem = g->mem, .io = &no_io, .cpuid = &g->cpuid, .engine = e
	};
	g->v.thread = pthread_self();
	vcpu_self = &g->v;
	if (e->vm_open(&vm, g->mem, err) || e->vcpu_open(vm, &g->v, err))
		return NULL;
	g->v.vm = vm;
	return g;
}

void guest_stop(struct guest *g)
{
	g->engine->vcpu_close(&g->v);
	g->engine->vm_close(g->v.vm);
	mem_map_free(g->mem);
	free(g);
}

void guest_set_base(struct guest *g, const uint8_t *base)
{
	memcpy(g->ram + DATA_VA, base, DATA_SIZE);
	mem_dma_written(g->mem, DATA_VA, DATA_SIZE);
}

static void load_case(struct guest *g, const struct test_case *c)
{
	struct x86_state *s = &g->init;
	unsigned n = MIN(c->code_len, CODE_PAGES * PAGE - c->code_off);
	uint64_t bv = X86_XCR0_X87 | X86_XCR0_SSE | X86_XCR0_AVX;

	memcpy(s->gpr, c->in.gpr, sizeof s->gpr);
	s->rip = c->in.rip;
	s->rflags = c->in.rflags;
	s->seg[X86_FS].base = c->in.fs_base;
	s->seg[X86_GS].base = c->in.gs_base;
	memcpy(s->xsave, c->in.fx, sizeof c->in.fx);
	memcpy(s->xsave + 512, &bv, 8);
	memcpy(s->xsave + 576, c->in.ymmh, sizeof c->in.ymmh);
	memcpy(g->ram + CODE_VA + c->code_off, c->code, n);
	if (n)
		mem_dma_written(g->mem, CODE_VA + c->code_off, n);
	window_apply(g->ram + DATA_VA, c);
}

static uint64_t frame(const struct guest *g, uint64_t sp, unsigned slot)
{
	uint64_t v;

	memcpy(&v, g->ram + (sp - KERNEL_VA) + slot * 8, 8);
	return v;
}

static void read_frame(struct guest *g, struct outcome *o)
{
	const struct x86_state *s = &g->now;
	uint64_t sp = s->gpr[X86_RSP], stop = s->rip - 1 - (KERNEL_VA + STOPS_PA);
	unsigned has_error = sp == STACK_TOP - 48;

	if (stop >= 4096 || stop % 16 || (sp != STACK_TOP - 40 && !has_error)) {
		o->vector = VEC_BROKEN;
		snprintf(o->msg, sizeof o->msg, "halted at rip %llx, rsp %llx",
			 (unsigned long long)s->rip, (unsigned long long)sp);
		return;
	}
	o->vector = (uint8_t)(stop / 16);
	o->error = has_error ? (uint32_t)frame(g, sp, 0) : 0;
	o->out.rip = frame(g, sp, has_error);
	o->out.rflags = frame(g, sp, has_error + 2);
	o->out.gpr[X86_RSP] = frame(g, sp, has_error + 3);
}

void guest_run(struct guest *g, const struct test_case *c, const uint8_t *base, struct outcome *o)
{
	struct cpu_exit x = { .reason = CPU_EXIT_ERROR };
	unsigned n = MIN(c->code_len, CODE_PAGES * PAGE - c->code_off);
	uint64_t bv;

	load_case(g, c);
	o->msg[0] = '\0';
	o->vector = VEC_BROKEN;
	if (g->engine->set_state(&g->v, &g->init) || g->engine->run(&g->v, &x) ||
	    g->engine->get_state(&g->v, &g->now) || x.reason != CPU_EXIT_HLT) {
		snprintf(o->msg, sizeof o->msg, "exit reason %d: %.60s", (int)x.reason, x.msg);
	} else {
		memcpy(o->out.gpr, g->now.gpr, sizeof o->out.gpr);
		o->error = 0;
		read_frame(g, o);
	}
	o->cr2 = o->vector == X86_EX_PF ? g->now.cr2 : 0;
	o->out.fs_base = g->now.seg[X86_FS].base;
	o->out.gs_base = g->now.seg[X86_GS].base;
	memcpy(o->out.fx, g->now.xsave, sizeof o->out.fx);
	memcpy(o->out.ymmh, g->now.xsave + 576, sizeof o->out.ymmh);
	memcpy(&bv, g->now.xsave + 512, 8);
	regs_normalise(&o->out, bv);
	window_collect(o, g->ram + DATA_VA, base, c);
	memset(g->ram + CODE_VA + c->code_off, 0xcc, n);
	if (n)
		mem_dma_written(g->mem, CODE_VA + c->code_off, n);
}
