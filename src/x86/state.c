/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RESET and INIT values of a logical processor (SDM vol. 3, table 10-1). Any thread.
 */
#include "x86/state.h"

#include <string.h>

#define SEG_ATTR_DATA 0x93u /* present, data, read/write, accessed */
#define SEG_ATTR_CODE 0x9bu
#define SEG_ATTR_LDT 0x82u
#define SEG_ATTR_TSS 0x8bu
#define RESET_CPU_SIGNATURE 0x00000600u
#define RESET_PAT 0x0007040600070406ull
#define APIC_BASE_DEFAULT 0xfee00000ull
#define APIC_BASE_ENABLE BIT(11)

static void put32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, sizeof v);
}

static void put16(uint8_t *p, uint16_t v)
{
	memcpy(p, &v, sizeof v);
}

/* What RESET and INIT have in common. */
static void init_common(struct x86_state *s)
{
	memset(s->gpr, 0, sizeof s->gpr);
	s->gpr[X86_RDX] = RESET_CPU_SIGNATURE;
	s->rip = 0xfff0;
	s->rflags = X86_FL_R1;
	for (unsigned i = 0; i < X86_SEG_COUNT; i++)
		s->seg[i] = (struct x86_seg){ .attr = SEG_ATTR_DATA, .limit = 0xffff };
	s->seg[X86_CS] = (struct x86_seg){
		.sel = 0xf000, .attr = SEG_ATTR_CODE, .limit = 0xffff, .base = 0xffff0000
	};
	s->ldtr = (struct x86_seg){ .attr = SEG_ATTR_LDT, .limit = 0xffff };
	s->tr = (struct x86_seg){ .attr = SEG_ATTR_TSS, .limit = 0xffff };
	s->gdtr = s->idtr = (struct x86_dtable){ .limit = 0xffff };
	s->cr2 = s->cr3 = s->cr4 = s->efer = 0;
	memset(s->dr, 0, sizeof s->dr);
	s->dr[6] = 0xffff0ff0;
	s->dr[7] = 0x400;
	s->cpl = 0;
	s->int_shadow = s->nmi_pending = s->nmi_blocked = 0;
	s->mp_state = X86_MP_RUNNABLE;
	s->sipi_vector = 0;
}

static void reset_fpu(struct x86_state *s)
{
	memset(s->xsave, 0, sizeof s->xsave);
	put16(s->xsave, 0x0040);      /* FCW after RESET */
	s->xsave[4] = 0xff;	      /* abridged tag word: RESET leaves zeros tagged as such */
	put32(s->xsave + 24, 0x1f80); /* MXCSR */
	put32(s->xsave + 28, 0xffff); /* MXCSR_MASK */
	s->xsave[512] = X86_XCR0_X87 | X86_XCR0_SSE;
	s->xcr0 = X86_XCR0_X87;
}

void x86_state_reset(struct x86_state *s)
{
	memset(s, 0, sizeof *s);
	init_common(s);
	reset_fpu(s);
	s->cr0 = X86_CR0_CD | X86_CR0_NW | X86_CR0_ET;
	s->pat = RESET_PAT;
	s->apic_base = APIC_BASE_DEFAULT | APIC_BASE_ENABLE;
	s->misc_enable = BIT(0); /* fast strings */
}

void x86_state_init_ipi(struct x86_state *s)
{
	uint64_t cr0 = (s->cr0 & (X86_CR0_CD | X86_CR0_NW)) | X86_CR0_ET;

	init_common(s);
	s->cr0 = cr0;
	s->mp_state = X86_MP_WAIT_SIPI;
}
