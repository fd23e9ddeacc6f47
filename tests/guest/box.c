/* SPDX-License-Identifier: Apache-2.0 */
/* See box.h. Formats: SDM vol. 3, chapters 3 to 6. */
#include "box.h"

#include <stdlib.h>
#include <string.h>

#define TSS_SEL 0x40

/* ---- what the vCPU asks of the board ---- */

static uint32_t pio_read(void *o, uint16_t port, unsigned size)
{
	(void)o, (void)port, (void)size;
	return ~0u;
}
static void pio_write(void *o, uint16_t port, uint32_t val, unsigned size)
{
	(void)o, (void)port, (void)val, (void)size;
}
static int irq_pending(void *o, struct vcpu *v)
{
	(void)v;
	return atomic_load(&((struct box *)o)->irq);
}
static int irq_ack(void *o, struct vcpu *v)
{
	struct box *b = o;
	int vector = atomic_exchange(&b->irq, -1);

	(void)v;
	b->taken += vector >= 0;
	return vector;
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

/* ---- memory ---- */

void box_put64(struct box *b, gpa_t a, uint64_t v)
{
	memcpy(b->ram + a, &v, 8);
}

uint64_t box_get64(const struct box *b, gpa_t a)
{
	uint64_t v;

	memcpy(&v, b->ram + a, 8);
	return v;
}

void box_code(struct box *b, gpa_t a, const void *code, size_t n)
{
	memcpy(b->ram + a, code, n);
	mem_dma_written(b->mem, a, n);
}

static gpa_t table_new(struct box *b)
{
	gpa_t a = b->next_table;

	BUG_ON(a >= BOX_TABLES_END);
	b->next_table += 4096;
	memset(b->ram + a, 0, 4096);
	return a;
}

static gpa_t walk(struct box *b, gpa_t table, uint64_t va, unsigned last)
{
	for (unsigned level = 3; level > last; level--) {
		gpa_t at = table + ((va >> (12 + 9 * level)) & 511) * 8;
		uint64_t e = box_get64(b, at);

		if (!(e & BOX_P)) {
			e = table_new(b) | BOX_P | BOX_W | BOX_U;
			box_put64(b, at, e);
		}
		table = e & 0x000ffffffffff000ull;
	}
	return table + ((va >> (12 + 9 * last)) & 511) * 8;
}

void box_map_in(struct box *b, gpa_t pml4, uint64_t va, gpa_t pa, uint64_t flags)
{
	box_put64(b, walk(b, pml4, va, 0), pa | flags);
}

void box_map_large(struct box *b, uint64_t va, gpa_t pa, uint64_t flags)
{
	box_put64(b, walk(b, BOX_PML4, va, 1), pa | flags | 0x80);
}

gpa_t box_entry(const struct box *b, gpa_t pml4, uint64_t va)
{
	gpa_t table = pml4;

	for (unsigned level = 3; level > 0; level--) {
		uint64_t e = box_get64(b, table + ((va >> (12 + 9 * level)) & 511) * 8);

		if (!(e & BOX_P))
			return 0;
		table = e & 0x000ffffffffff000ull;
	}
	return table + ((va >> 12) & 511) * 8;
}

gpa_t box_new_space(struct box *b)
{
	gpa_t t = table_new(b);

	memcpy(b->ram + t + 2048, b->ram + BOX_PML4 + 2048, 2048);
	return t;
}

static void build_tables(struct box *b)
{
	b->next_table = BOX_TABLES;
	for (unsigned i = 0; i < BOX_KERNEL_PAGES; i++)
		box_map(b, BOX_KERNEL + i * 4096, i * 4096, BOX_P | BOX_W | BOX_G);
	for (unsigned i = 0; i < BOX_PAGES_MAPPED; i++) {
		box_map(b, BOX_CODE_VA + i * 4096, BOX_CODE + i * 4096, BOX_P | BOX_W | BOX_U);
		box_map(b, BOX_DATA_VA + i * 4096, BOX_DATA + i * 4096,
			BOX_P | BOX_W | BOX_U | BOX_NX);
	}
}

/* ---- descriptors ---- */

void box_gate(struct box *b, unsigned vector, uint64_t va, unsigned dpl)
{
	box_put64(b, BOX_IDT + vector * 16,
		  (va & 0xffff) | BOX_CS0 << 16 | (0x8e00ull | dpl << 13) << 32 |
			  (va >> 16 & 0xffff) << 48);
	box_put64(b, BOX_IDT + vector * 16 + 8, va >> 32);
}

static void build_descriptors(struct box *b)
{
	static const uint64_t gdt[] = { 0,
					0,
					0x00af9b000000ffff,
					0x00cf93000000ffff,
					0x00cffb000000ffff,
					0x00cff3000000ffff,
					0x00affb000000ffff };
	uint64_t tss = BOX_KERNEL + BOX_TSS;

	memcpy(b->ram + BOX_GDT, gdt, sizeof(gdt));
	box_put64(b, BOX_GDT + TSS_SEL,
		  0x67 | (tss & 0xffffff) << 16 | 0x8bull << 40 | (tss >> 24 & 0xff) << 56);
	box_put64(b, BOX_GDT + TSS_SEL + 8, tss >> 32);
	box_put64(b, BOX_TSS + 4, BOX_KERNEL + BOX_STACK);
	for (unsigned i = 0; i < 256; i++) {
		box_gate(b, i, BOX_KERNEL + BOX_STOPS + i * 16, 3);
		b->ram[BOX_STOPS + i * 16] = 0xf4;
	}
}

static struct x86_seg flat(uint16_t sel, uint16_t attr)
{
	return (struct x86_seg){ .sel = sel, .attr = attr, .limit = ~0u };
}

void box_reset(struct box *b, unsigned cpl)
{
	struct x86_state *s = b->initial;
	uint16_t dpl = (uint16_t)(cpl << 5);

	x86_state_reset(s);
	s->cr0 = X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_PG;
	s->cr3 = BOX_PML4;
	s->cr4 = X86_CR4_PAE | X86_CR4_PGE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT |
		 X86_CR4_FSGSBASE | X86_CR4_OSXSAVE;
	s->efer = X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
	s->xcr0 = X86_XCR0_X87 | X86_XCR0_SSE | X86_XCR0_AVX;
	s->gdtr = (struct x86_dtable){ BOX_KERNEL + BOX_GDT, 0x7f };
	s->idtr = (struct x86_dtable){ BOX_KERNEL + BOX_IDT, 0xfff };
	s->tr = (struct x86_seg){
		.sel = TSS_SEL, .attr = 0x8b, .limit = 0x67, .base = BOX_KERNEL + BOX_TSS
	};
	s->ldtr = (struct x86_seg){ 0 };
	for (unsigned i = 0; i < X86_SEG_COUNT; i++)
		s->seg[i] = flat(cpl ? BOX_SS3 : BOX_SS0, 0xc093 | dpl);
	s->seg[X86_CS] = flat(cpl ? BOX_CS3 : BOX_CS0, 0xa09b | dpl);
	s->cpl = (uint8_t)cpl;
	s->rflags = X86_FL_R1;
	s->rip = BOX_CODE_VA;
	memset(s->gpr, 0, sizeof(s->gpr));
	s->gpr[X86_RSP] = BOX_DATA_VA + BOX_PAGES_MAPPED * 4096;
	/* x87 and vector registers as after FNINIT, not as after a reset */
	memset(s->xsave, 0, sizeof(s->xsave));
	s->xsave[0] = 0x7f, s->xsave[1] = 3;
	s->xsave[24] = 0x80, s->xsave[25] = 0x1f;
	b->engine->set_state(&b->v, s);
}

/* ---- life ---- */

struct box *box_new(const struct cpu_engine *e)
{
	struct x86_cpuid_options o = { .vcpus = 1, .invtsc = true, .hypervisor = true };
	struct box *b = calloc(1, sizeof(*b));
	struct err err = { 0 };

	if (!b || e->probe(&err))
		return free(b), NULL;
	b->engine = e;
	b->mem = mem_map_new();
	b->v.s = aligned_alloc(64, ALIGN_UP(sizeof(*b->v.s), 64));
	b->initial = aligned_alloc(64, ALIGN_UP(sizeof(*b->initial), 64));
	if (!b->v.s || !b->initial || mem_ram_create(b->mem, BOX_RAM, &err) ||
	    mem_add_ram(b->mem, "ram", 0, 0, BOX_RAM))
		return NULL;
	b->ram = mem_ram_host(b->mem);
	x86_state_reset(b->v.s);
	x86_cpuid_build(&b->cpuid, &o);
	build_tables(b);
	build_descriptors(b);
	atomic_init(&b->irq, -1);
	b->io = (struct vcpu_io){ .opaque = b,
				  .pio_read = pio_read,
				  .pio_write = pio_write,
				  .irq_pending = irq_pending,
				  .irq_ack = irq_ack,
				  .apic_rdmsr = no_rdmsr,
				  .apic_wrmsr = no_wrmsr,
				  .get_tpr = zero_tpr,
				  .set_tpr = drop_tpr };
	b->v.mem = b->mem;
	b->v.io = &b->io;
	b->v.cpuid = &b->cpuid;
	b->v.engine = e;
	b->v.thread = pthread_self();
	if (e->vm_open(&b->v.vm, b->mem, &err) || e->vcpu_open(b->v.vm, &b->v, &err)) {
		fprintf(stderr, "box: %s\n", err.msg);
		return NULL;
	}
	box_reset(b, 0);
	return b;
}

void box_free(struct box *b)
{
	if (vcpu_self == &b->v)
		vcpu_self = NULL;
	b->engine->vcpu_close(&b->v);
	b->engine->vm_close(b->v.vm);
	mem_map_free(b->mem);
	free(b->v.s);
	free(b->initial);
	free(b);
}

/* ---- running ---- */

int box_run(struct box *b)
{
	struct x86_state *s;
	uint64_t at;

	vcpu_self = &b->v;
	do {
		if (b->engine->run(&b->v, &b->exit))
			return -3;
	} while (b->exit.reason == CPU_EXIT_KICKED);
	s = b->v.s;
	s->mp_state = X86_MP_RUNNABLE;
	if (b->exit.reason == CPU_EXIT_SHUTDOWN)
		return -2;
	if (b->exit.reason != CPU_EXIT_HLT)
		return -3;
	at = s->rip - 1 - (BOX_KERNEL + BOX_STOPS);
	return at < 4096 && at % 16 == 0 ? (int)(at / 16) : -1;
}

uint64_t box_frame(const struct box *b, unsigned slot)
{
	return box_get64(b, b->v.s->gpr[X86_RSP] - BOX_KERNEL + slot * 8);
}

/* ---- comparing ---- */

static unsigned differ(FILE *out, const char *what, unsigned n, uint64_t a, uint64_t b)
{
	if (a == b)
		return 0;
	fprintf(out, "  %s%u: %#llx, not %#llx\n", what, n, (unsigned long long)b,
		(unsigned long long)a);
	return 1;
}

/* Components in their initial state may stand in memory in any form. */
static void plain_xsave(const struct x86_state *s, uint8_t x[832])
{
	uint64_t bv;

	memcpy(x, s->xsave, 832);
	memcpy(&bv, x + 512, 8);
	if (!(bv & 1)) {
		memset(x, 0, 24);
		x[0] = 0x7f, x[1] = 3;
		memset(x + 32, 0, 128);
	}
	memset(x + 8, 0, 16); /* x87 instruction and data pointers */
	memset(x + 28, 0, 4); /* MXCSR mask */
	if (!(bv & 2))
		memset(x + 160, 0, 256);
	memset(x + 416, 0, 160);
	if (!(bv & 4))
		memset(x + 576, 0, 256);
}

static unsigned differ_vectors(FILE *out, const struct x86_state *a, const struct x86_state *b)
{
	uint8_t x[832], y[832];
	unsigned n = 0;

	plain_xsave(a, x);
	plain_xsave(b, y);
	for (unsigned i = 0; i < 832; i += 8) {
		uint64_t p, q;

		memcpy(&p, x + i, 8);
		memcpy(&q, y + i, 8);
		n += differ(out, "xsave+", i, p, q);
	}
	return n;
}

static unsigned differ_system(FILE *out, const struct x86_state *a, const struct x86_state *b)
{
	unsigned n = 0;

	for (unsigned i = 0; i < X86_SEG_COUNT; i++) {
		n += differ(out, "selector ", i, a->seg[i].sel, b->seg[i].sel);
		n += differ(out, "segment base ", i, a->seg[i].base, b->seg[i].base);
		n += differ(out, "segment attributes ", i, a->seg[i].attr, b->seg[i].attr);
	}
	n += differ(out, "cr", 0, a->cr0, b->cr0) + differ(out, "cr", 2, a->cr2, b->cr2);
	n += differ(out, "cr", 3, a->cr3, b->cr3) + differ(out, "cr", 4, a->cr4, b->cr4);
	n += differ(out, "cpl ", 0, a->cpl, b->cpl);
	n += differ(out, "int_shadow ", 0, a->int_shadow, b->int_shadow);
	return n + differ(out, "kernel gs base ", 0, a->kernel_gs_base, b->kernel_gs_base);
}

/* The frame's flags of both become equal in what does not count. */
static uint64_t masked(const struct box *b, const struct box_compare *c, gpa_t a, uint64_t v)
{
	uint64_t at = b->v.s->rip - 1 - (BOX_KERNEL + BOX_STOPS),
		 sp = b->v.s->gpr[X86_RSP] - BOX_KERNEL;

	if (a >= BOX_TABLES && a < BOX_TABLES_END)
		return v & ~BOX_A; /* a CPU may mark an entry accessed ahead of time */
	if (at < 4096 && (a == sp + 16 || a == sp + 24) && a < BOX_STACK)
		return v & ~c->flags_ignored;
	return v;
}

static unsigned differ_ram(const struct box *x, const struct box *y, const struct box_compare *c,
			   FILE *out)
{
	unsigned n = 0;

	for (gpa_t p = 0; p < BOX_RAM; p += 4096) {
		if (c->registers_only)
			p = BOX_STACK - 4096;
		if (!memcmp(x->ram + p, y->ram + p, 4096) ||
		    (p >= c->skip_from && p < c->skip_to)) {
			if (c->registers_only)
				break;
			continue;
		}
		for (gpa_t a = p; a < p + 4096; a += 8) {
			uint64_t v = masked(x, c, a, box_get64(x, a));
			uint64_t w = masked(y, c, a, box_get64(y, a));

			if (v != w && n++ < 8)
				fprintf(out, "  [%#llx]: %#llx, not %#llx\n", (unsigned long long)a,
					(unsigned long long)w, (unsigned long long)v);
		}
		if (c->registers_only)
			break;
	}
	return n;
}

unsigned box_differs(const struct box *x, const struct box *y, const struct box_compare *c,
		     FILE *out)
{
	static const struct box_compare all;
	const struct x86_state *a = x->v.s, *b = y->v.s;
	unsigned n = 0;

	c = c ? c : &all;
	for (unsigned i = 0; i < 16; i++)
		n += differ(out, "gpr", i, a->gpr[i], b->gpr[i]);
	n += differ(out, "rip", 0, a->rip, b->rip);
	n += differ(out, "rflags", 0, a->rflags & ~c->flags_ignored, b->rflags & ~c->flags_ignored);
	n += differ_system(out, a, b) + differ_vectors(out, a, b);
	return n + differ_ram(x, y, c, out);
}
