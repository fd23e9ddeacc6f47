/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU under interp with 16 MiB of RAM, an identity map, a GDT and an IDT whose handlers halt:
 * small programs run until HLT, and the handler they ended in tells the exception.
 */
#ifndef R3_TESTS_CPU_INTERP_FIXTURE_H
#define R3_TESTS_CPU_INTERP_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/engine.h"
#include "cpu/interp/interp.h"
#include "x86/cpuid.h"

#define FX_RAM (16 * MiB)
#define FX_PML4 0x1000u
#define FX_PDPT 0x2000u
#define FX_PD 0x3000u
#define FX_GDT 0x4000u
#define FX_IDT 0x5000u
#define FX_HANDLERS 0x6000u
#define FX_TSS 0x7000u
#define FX_KSTACK 0x9000u
#define FX_PT 0xa000u /* of the last 2 MiB: FX_FINE */
#define FX_CODE 0x10000u
#define FX_DATA 0x20000u
#define FX_STACK 0x30000u
#define FX_FINE 0xe00000u
#define FX_UNMAPPED 0x1000000u

#define FX_CS64 0x08
#define FX_SS0 0x10
#define FX_SS3 0x23
#define FX_CS64_3 0x2b
#define FX_CS32 0x30

/* Assembles `text` for `bits` (16, 32, 64) between fx_<name> and fx_<name>_end. */
#define FX_PROGRAM(name, bits, text)                                                               \
	extern const uint8_t fx_##name[], fx_##name##_end[];                                       \
	__asm__(".pushsection .rodata\n.code" #bits "\n.globl fx_" #name ", fx_" #name             \
		"_end\nfx_" #name ":\n" text "\nfx_" #name "_end:\n.code64\n.popsection\n")
#define FX_RUN(f, name) fx_run(f, fx_##name, (size_t)(fx_##name##_end - fx_##name))

struct fx {
	struct mem_map *mem;
	uint8_t *ram;
	struct vcpu v;
	struct x86_state *s;
	struct x86_cpuid cpuid;
	struct vcpu_io io;
	int irq;	/* vector waiting, or -1 */
	unsigned taken; /* interrupts acknowledged */
};

static inline void fx_put64(struct fx *f, gpa_t a, uint64_t val)
{
	memcpy(f->ram + a, &val, 8);
}

static inline uint64_t fx_get64(const struct fx *f, gpa_t a)
{
	uint64_t val;

	memcpy(&val, f->ram + a, 8);
	return val;
}

static inline int fx_irq_pending(void *opaque, struct vcpu *v)
{
	(void)v;
	return ((struct fx *)opaque)->irq;
}

static inline int fx_irq_ack(void *opaque, struct vcpu *v)
{
	struct fx *f = opaque;
	int vec = f->irq;

	(void)v;
	f->irq = -1;
	f->taken += vec >= 0;
	return vec;
}

static inline struct fx *fx_new(void)
{
	struct x86_cpuid_options o = { .vcpus = 1, .invtsc = true, .hypervisor = true };
	struct fx *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->mem = mem_map_new();
	assert_int_equal(mem_ram_create(f->mem, FX_RAM, NULL), 0);
	assert_int_equal(mem_add_ram(f->mem, "ram", 0, 0, FX_RAM), 0);
	f->ram = mem_ptr(f->mem, 0, FX_RAM, true);
	assert_non_null(f->ram);
	f->s = aligned_alloc(64, ALIGN_UP(sizeof(*f->s), 64));
	assert_non_null(f->s);
	x86_state_reset(f->s);
	x86_cpuid_build(&f->cpuid, &o);
	f->irq = -1;
	f->io = (struct vcpu_io){ .opaque = f,
				  .irq_pending = fx_irq_pending,
				  .irq_ack = fx_irq_ack };
	f->v.s = f->s;
	f->v.mem = f->mem;
	f->v.io = &f->io;
	f->v.cpuid = &f->cpuid;
	f->v.engine = &engine_interp;
	assert_int_equal(interp_open(&f->v), 0);
	return f;
}

static inline void fx_free(struct fx *f)
{
	interp_close(&f->v);
	mem_map_free(f->mem);
	free(f->s);
	free(f);
}

static inline void fx_tables(struct fx *f)
{
	static const uint64_t gdt[] = { 0,
					0x00af9b000000ffff,
					0x00cf93000000ffff,
					0,
					0x00cff3000000ffff,
					0x00affb000000ffff,
					0x00cf9b000000ffff,
					0x0000890070000067ull,
					0 };

	fx_put64(f, FX_PML4, FX_PDPT | 7);
	fx_put64(f, FX_PDPT, FX_PD | 7);
	for (unsigned i = 0; i < 7; i++)
		fx_put64(f, FX_PD + i * 8, i * 2 * MiB | 0x87);
	fx_put64(f, FX_PD + 7 * 8, FX_PT | 7);
	for (unsigned i = 0; i < 512; i++)
		fx_put64(f, FX_PT + i * 8, i == 1 ? 0 : (FX_FINE + i * 4096) | 7);
	memcpy(f->ram + FX_GDT, gdt, sizeof(gdt));
	for (unsigned i = 0; i < 256; i++) {
		uint64_t h = FX_HANDLERS + i * 16;

		fx_put64(f, FX_IDT + i * 16, (h & 0xffff) | FX_CS64 << 16 | 0xee00ull << 32);
		fx_put64(f, FX_IDT + i * 16 + 8, 0);
	}
	memset(f->ram + FX_HANDLERS, 0xf4, 4096);
	fx_put64(f, FX_TSS + 4, FX_KSTACK);
}

/* Long mode at CPL 0 or 3, code at FX_CODE. */
static inline struct fx *fx_long(unsigned cpl)
{
	struct fx *f = fx_new();
	struct x86_state *s = f->s;

	fx_tables(f);
	s->cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_WP | X86_CR0_NE | X86_CR0_ET;
	s->cr4 = X86_CR4_PAE | X86_CR4_OSFXSR;
	s->cr3 = FX_PML4;
	s->efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE | X86_EFER_SCE;
	s->gdtr = (struct x86_dtable){ .base = FX_GDT, .limit = 9 * 8 - 1 };
	s->idtr = (struct x86_dtable){ .base = FX_IDT, .limit = 256 * 16 - 1 };
	s->tr = (struct x86_seg){ .sel = 0x38, .attr = 0x8b, .limit = 0x67, .base = FX_TSS };
	s->cpl = (uint8_t)cpl;
	for (unsigned i = 0; i < X86_SEG_COUNT; i++)
		s->seg[i] = (struct x86_seg){ .sel = cpl ? FX_SS3 : FX_SS0,
					      .attr = (uint16_t)(0xc093 | cpl << 5),
					      .limit = ~0u };
	s->seg[X86_CS] = (struct x86_seg){ .sel = cpl ? FX_CS64_3 : FX_CS64,
					   .attr = (uint16_t)(0xa09b | cpl << 5),
					   .limit = ~0u };
	s->rip = FX_CODE;
	s->gpr[X86_RSP] = FX_STACK;
	interp_tlb_flush(&f->v, true);
	return f;
}

/* Real mode, CS base 0x10000. */
static inline struct fx *fx_real(void)
{
	struct fx *f = fx_new();
	struct x86_state *s = f->s;

	s->seg[X86_CS].sel = FX_CODE >> 4;
	s->seg[X86_CS].base = FX_CODE;
	s->seg[X86_DS].sel = s->seg[X86_ES].sel = FX_DATA >> 4;
	s->seg[X86_DS].base = s->seg[X86_ES].base = FX_DATA;
	s->rip = 0;
	s->gpr[X86_RSP] = 0x8000;
	for (unsigned i = 0; i < 256; i++) {
		uint32_t vec = (FX_HANDLERS + i * 16) & 0xffff;

		memcpy(f->ram + i * 4, &vec, 4);
	}
	memset(f->ram + FX_HANDLERS, 0xf4, 4096);
	return f;
}

/* Runs what is at CS:RIP until HLT (at most 10 million instructions); true if it halted. */
static inline bool fx_go(struct fx *f)
{
	for (unsigned i = 0; i < 1000; i++) {
		enum interp_result r = interp_run(&f->v, 10000);

		if (r == INTERP_HLT) {
			f->s->mp_state = X86_MP_RUNNABLE;
			return true;
		}
		if (r == INTERP_SHUTDOWN)
			return false;
		if (atomic_load(&f->v.irq_hint))
			interp_deliver_pending(&f->v);
	}
	return false;
}

static inline void fx_run(struct fx *f, const uint8_t *code, size_t n)
{
	assert_int_equal(mem_copy_in(f->mem, f->s->seg[X86_CS].base + f->s->rip, code, n), 0);
	assert_true(fx_go(f));
}

/* The exception in whose handler the program halted, or -1. */
static inline int fx_vector(const struct fx *f)
{
	uint64_t at = f->s->rip - 1 - FX_HANDLERS;

	return at < 4096 && at % 16 == 0 ? (int)(at / 16) : -1;
}

/* Frame of the exception just delivered in long mode: 0 error code (if any), then RIP CS RFLAGS … */
static inline uint64_t fx_frame(const struct fx *f, unsigned slot)
{
	return fx_get64(f, f->s->gpr[X86_RSP] + slot * 8);
}

#endif
