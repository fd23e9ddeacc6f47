/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CPU in a box: one vCPU in long mode with a little RAM, page tables, descriptor tables and an interrupt
 * gate for every vector that leads to a HLT of its own. Programs run until they halt, under any engine, and
 * two boxes can be compared whole.
 *
 * One box with the translator per thread at a time. Only `irq` and the kicks are for other threads.
 */
#ifndef R3_TESTS_BOX_H
#define R3_TESTS_BOX_H

#include <stdatomic.h>
#include <stdio.h>

#include "cpu/engine.h"
#include "cpu/interp/interp.h"
#include "mem/mem.h"
#include "x86/cpuid.h"

#define BOX_RAM (8 * MiB)
#define BOX_KERNEL 0xffffffff80000000ul /* maps the first BOX_KERNEL_PAGES of RAM */
#define BOX_KERNEL_PAGES 64u
#define BOX_PML4 0x1000u
#define BOX_GDT 0x2000u
#define BOX_IDT 0x3000u
#define BOX_TSS 0x4000u
#define BOX_STOPS 0x5000u    /* 256 stops of 16 bytes */
#define BOX_STACK 0x9000u    /* top of the stack that interrupts from user mode get */
#define BOX_COUNT 0xa000u    /* box_ticks: interrupts counted here */
#define BOX_CODE 0x10000u    /* 16 pages; as user code at BOX_CODE_VA */
#define BOX_DATA 0x20000u    /* 16 pages; as user data at BOX_DATA_VA */
#define BOX_TABLES 0x100000u /* page tables, handed out from here */
#define BOX_TABLES_END 0x200000u
#define BOX_PAGES 0x200000u /* free for tests, up to BOX_RAM */
#define BOX_CODE_VA 0x400000ul
#define BOX_DATA_VA 0x500000ul
#define BOX_PAGES_MAPPED 16u /* pages of code and of data that are mapped; nothing around them */

#define BOX_CS0 0x10
#define BOX_SS0 0x18
#define BOX_SS3 0x2b
#define BOX_CS3 0x33

#define BOX_P 1ul
#define BOX_W 2ul
#define BOX_U 4ul
#define BOX_A 0x20ul
#define BOX_D 0x40ul
#define BOX_G 0x100ul
#define BOX_NX BIT(63)

struct box {
	const struct cpu_engine *engine;
	struct mem_map *mem;
	uint8_t *ram;
	struct x86_cpuid cpuid;
	struct x86_state *initial;
	struct vcpu_io io;
	struct vcpu v;
	gpa_t next_table;
	struct cpu_exit exit;
	atomic_int irq;	     /* vector waiting, or -1 */
	unsigned long taken; /* interrupts acknowledged */
};

/* Assembles text between box_NAME and box_NAME_end, from the start of a page. */
#define BOX_PROGRAM(name, text)                                                                    \
	extern const uint8_t box_##name[], box_##name##_end[];                                     \
	__asm__(".pushsection .rodata\n.balign 4096\n.globl box_" #name ", box_" #name             \
		"_end\n.intel_syntax noprefix\nbox_" #name ":\n" text "\nbox_" #name               \
		"_end:\n.att_syntax prefix\n.popsection\n")
#define BOX_SIZE(name) ((size_t)(box_##name##_end - box_##name))
#define BOX_LOAD(b, name) box_code(b, BOX_CODE, box_##name, BOX_SIZE(name))

/* NULL when the engine cannot run here. */
struct box *box_new(const struct cpu_engine *e);
void box_free(struct box *b);
/* User mode (cpl 3) or kernel mode at BOX_CODE_VA, stack at the end of the data, all else zero. */
void box_reset(struct box *b, unsigned cpl);
static inline struct x86_state *box_state(struct box *b)
{
	return b->v.s;
}

void box_map_in(struct box *b, gpa_t pml4, uint64_t va, gpa_t pa, uint64_t flags);
static inline void box_map(struct box *b, uint64_t va, gpa_t pa, uint64_t flags)
{
	box_map_in(b, BOX_PML4, va, pa, flags);
}
/* A 2 MiB page. */
void box_map_large(struct box *b, uint64_t va, gpa_t pa, uint64_t flags);
/* Where the entry that maps va lies; 0: a level above is not present. */
gpa_t box_entry(const struct box *b, gpa_t pml4, uint64_t va);
/* A new top-level table with the kernel half of the first. */
gpa_t box_new_space(struct box *b);

void box_put64(struct box *b, gpa_t a, uint64_t v);
uint64_t box_get64(const struct box *b, gpa_t a);
/* Writes code as a device would. */
void box_code(struct box *b, gpa_t a, const void *code, size_t n);
/* The gate of a vector leads to va instead of its stop; dpl: who may call it by INT. */
void box_gate(struct box *b, unsigned vector, uint64_t va, unsigned dpl);

/* Runs until HLT or shutdown; the exception or INT vector whose stop was reached, -1 for any other HLT, -2: shutdown,
 * -3: host-side failure or no end. */
int box_run(struct box *b);
/* The frame of the exception just delivered: slot 0 is the error code when there is one, then RIP CS RFLAGS RSP SS. */
uint64_t box_frame(const struct box *b, unsigned slot);

struct box_compare {
	uint64_t flags_ignored; /* of RFLAGS, also in a frame on the kernel stack when a stop was reached */
	gpa_t skip_from, skip_to; /* RAM not looked at */
	bool registers_only;	  /* and, of RAM, the interrupt stacks' page */
};
/* Prints to out how b differs from a; the number of differences. */
unsigned box_differs(const struct box *a, const struct box *b, const struct box_compare *c,
		     FILE *out);

#endif
