/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPU states at a kernel's entry: Linux's 64-bit entry (Documentation/arch/x86/boot.rst, "64-bit boot
 * protocol") and PVH's 32-bit one (Xen: docs/misc/pvh.pandoc).
 */
#include "fw/boot_priv.h"

#define SEL_CODE 0x10
#define SEL_DATA 0x18
#define SEL_TSS 0x20

#define ATTR_CODE64 0xa09b /* G, L, present, code, accessed */
#define ATTR_CODE32 0xc09b
#define ATTR_DATA 0xc093
#define ATTR_TSS 0x008b

#define PTE_TABLE 0x63ull /* present, writable, accessed, dirty */
#define PTE_2M 0xe3ull

static struct x86_seg flat(uint16_t sel, uint16_t attr)
{
	return (struct x86_seg){ .sel = sel, .attr = attr, .limit = 0xffffffff };
}

static uint64_t descriptor(uint16_t attr)
{
	return 0xffffull | (uint64_t)attr << 40 | 0xfull << 48;
}

static int put_gdt(struct mem_map *m, struct x86_state *s, uint16_t code)
{
	const uint64_t gdt[5] = {
		0, 0, descriptor(code), descriptor(ATTR_DATA), (uint64_t)ATTR_TSS << 40 | 0x67,
	};

	s->gdtr = (struct x86_dtable){ .base = FW_GDT_ADDR, .limit = sizeof(gdt) - 1 };
	s->idtr = (struct x86_dtable){ 0 };
	s->seg[X86_CS] = flat(SEL_CODE, code);
	for (unsigned i = 0; i < X86_SEG_COUNT; i++)
		if (i != X86_CS)
			s->seg[i] = flat(SEL_DATA, ATTR_DATA);
	s->tr = (struct x86_seg){ .sel = SEL_TSS, .attr = ATTR_TSS, .limit = 0x67 };
	s->ldtr = (struct x86_seg){ 0 };
	s->cpl = 0;
	s->rflags = X86_FL_R1;
	s->mp_state = X86_MP_RUNNABLE;
	return mem_copy_in(m, FW_GDT_ADDR, gdt, sizeof(gdt));
}

static int put_page_tables(struct mem_map *m)
{
	uint64_t table[512] = { FW_PAGE_TABLE_ADDR + 0x1000 + PTE_TABLE };
	int r;

	r = mem_copy_in(m, FW_PAGE_TABLE_ADDR, table, sizeof(table));
	for (unsigned i = 0; i < 4; i++)
		table[i] = FW_PAGE_TABLE_ADDR + 0x2000 + 0x1000 * i + PTE_TABLE;
	if (!r)
		r = mem_copy_in(m, FW_PAGE_TABLE_ADDR + 0x1000, table, sizeof(table));
	for (unsigned i = 0; i < 4 && !r; i++) {
		for (unsigned j = 0; j < 512; j++)
			table[j] = (uint64_t)i * GiB + j * 2 * MiB + PTE_2M;
		r = mem_copy_in(m, FW_PAGE_TABLE_ADDR + 0x2000 + 0x1000 * i, table, sizeof(table));
	}
	return r;
}

int fw_entry_long(struct mem_map *m, struct x86_state *s, gpa_t entry, uint64_t rsi)
{
	int r;

	s->rip = entry;
	s->gpr[X86_RSI] = rsi;
	s->gpr[X86_RSP] = FW_STACK_TOP;
	s->cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE | X86_CR0_PG;
	s->cr3 = FW_PAGE_TABLE_ADDR;
	s->cr4 = X86_CR4_PAE;
	s->efer = X86_EFER_LME | X86_EFER_LMA;
	r = put_gdt(m, s, ATTR_CODE64);
	return r ? r : put_page_tables(m);
}

int fw_entry_protected(struct mem_map *m, struct x86_state *s, gpa_t entry, uint32_t ebx)
{
	s->rip = entry;
	s->gpr[X86_RBX] = ebx;
	s->gpr[X86_RSP] = FW_STACK_TOP;
	s->cr0 = X86_CR0_PE | X86_CR0_ET;
	s->cr3 = 0;
	s->cr4 = 0;
	s->efer = 0;
	return put_gdt(m, s, ATTR_CODE32);
}
