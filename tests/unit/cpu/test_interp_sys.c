/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system half of interp: mode switches, descriptors, far transfers, exceptions with their error
 * codes, system calls, control registers, TLB, MSRs, ports.
 */
#include "interp_fixture.h"

#define FX_TSS_IST1 0x24
#define USER 0x40000u /* code of CPL 3 in the same identity map */
#define USER_STACK 0x50000u

/* ---- exceptions in long mode ---- */

static void at_vector(const struct fx *f, int vec)
{
	assert_int_equal(fx_vector(f), vec);
}

FX_PROGRAM(gp_sel, 64, "mov $0x1233, %eax; mov %eax, %ds; hlt");
FX_PROGRAM(ss_np, 64, "mov $0x18, %eax; mov %eax, %ss; hlt");
FX_PROGRAM(gp_canon, 64, "mov $0x8000000000000000, %rax; mov (%rax), %rbx; hlt");
FX_PROGRAM(ss_canon, 64, "mov $0x8000000000000000, %rbp; mov (%rbp), %rbx; hlt");
FX_PROGRAM(ud, 64, "ud2");
FX_PROGRAM(bp, 64, "int3");

static void test_exceptions(void **state)
{
	struct fx *f = fx_long(0);

	(void)state;
	FX_RUN(f, gp_sel);
	at_vector(f, X86_EX_GP);
	assert_int_equal(fx_frame(f, 0), 0x1230);
	assert_int_equal(fx_frame(f, 1), FX_CODE + 5);
	assert_int_equal(fx_frame(f, 2), FX_CS64);
	assert_true(fx_frame(f, 3) & X86_FL_RF);
	assert_int_equal(fx_frame(f, 4), FX_STACK);
	f->s->rip = FX_CODE;
	FX_RUN(f, ss_np); /* 0x18 is an empty descriptor */
	at_vector(f, X86_EX_GP);
	assert_int_equal(fx_frame(f, 0), 0x18);
	f->s->rip = FX_CODE;
	FX_RUN(f, gp_canon);
	at_vector(f, X86_EX_GP);
	assert_int_equal(fx_frame(f, 0), 0);
	f->s->rip = FX_CODE;
	FX_RUN(f, ss_canon);
	at_vector(f, X86_EX_SS);
	f->s->rip = FX_CODE;
	FX_RUN(f, ud);
	at_vector(f, X86_EX_UD);
	assert_int_equal(fx_frame(f, 0), FX_CODE);
	f->s->rip = FX_CODE;
	FX_RUN(f, bp);
	at_vector(f, X86_EX_BP);
	assert_int_equal(fx_frame(f, 0), FX_CODE + 1);
	assert_false(fx_frame(f, 2) & X86_FL_RF);
	fx_free(f);
}

FX_PROGRAM(load_rdi, 64, "mov (%rdi), %rax; hlt");
FX_PROGRAM(store_rdi, 64, "mov %rax, (%rdi); hlt");
FX_PROGRAM(jmp_rdi, 64, "jmp *%rdi");

static void fault_at(struct fx *f, const uint8_t *code, size_t n, gva_t va, gva_t cr2, uint32_t err)
{
	f->s->rip = FX_CODE;
	f->s->gpr[X86_RDI] = va;
	fx_run(f, code, n);
	at_vector(f, X86_EX_PF);
	assert_int_equal(f->s->cr2, cr2);
	assert_int_equal(fx_frame(f, 0), err);
}
#define FAULT_AT(f, name, va, cr2, err)                                                            \
	fault_at(f, fx_##name, (size_t)(fx_##name##_end - fx_##name), va, cr2, err)

/* FX_FINE: page 1 absent, 2 read-only, 3 supervisor, 4 no-execute, 5 with a reserved bit. */
static void fine_pages(struct fx *f)
{
	fx_put64(f, FX_PT + 2 * 8, (FX_FINE + 2 * 4096) | 5);
	fx_put64(f, FX_PT + 3 * 8, (FX_FINE + 3 * 4096) | 3);
	fx_put64(f, FX_PT + 4 * 8, (FX_FINE + 4 * 4096) | 7 | 1ull << 63);
	fx_put64(f, FX_PT + 5 * 8, (FX_FINE + 5 * 4096) | 7 | 1ull << 50);
	interp_tlb_flush(&f->v, true);
}

static void test_page_faults(void **state)
{
	struct fx *f = fx_long(0);

	(void)state;
	fine_pages(f);
	FAULT_AT(f, load_rdi, FX_FINE + 0x1008, FX_FINE + 0x1008, 0);
	FAULT_AT(f, load_rdi, FX_FINE + 0xffc, FX_FINE + 0x1000, 0);
	FAULT_AT(f, store_rdi, FX_FINE + 0x2010, FX_FINE + 0x2010, X86_PF_P | X86_PF_W);
	FAULT_AT(f, jmp_rdi, FX_FINE + 0x4010, FX_FINE + 0x4010, X86_PF_P | X86_PF_I);
	FAULT_AT(f, load_rdi, FX_FINE + 0x5010, FX_FINE + 0x5010, X86_PF_P | X86_PF_RSVD);
	/* nothing of a store over two pages is done when the second refuses */
	f->s->gpr[X86_RAX] = ~0ull;
	fx_put64(f, FX_FINE + 0xff8, 0);
	FAULT_AT(f, store_rdi, FX_FINE + 0xffc, FX_FINE + 0x1000, X86_PF_W);
	assert_int_equal(fx_get64(f, FX_FINE + 0xff8), 0);
	fx_free(f);
}

static void test_page_faults_user(void **state)
{
	struct fx *f = fx_long(3);

	(void)state;
	fine_pages(f);
	f->s->rip = FX_CODE;
	f->s->gpr[X86_RDI] = FX_FINE + 0x3010;
	FX_RUN(f, load_rdi);
	at_vector(f, X86_EX_PF);
	assert_int_equal(fx_frame(f, 0), X86_PF_P | X86_PF_U);
	assert_int_equal(f->s->cpl, 0);
	assert_int_equal(fx_frame(f, 2), FX_CS64_3);
	assert_int_equal(fx_frame(f, 4), FX_STACK);
	assert_int_equal(fx_frame(f, 5), FX_SS3);
	assert_int_equal(f->s->gpr[X86_RSP], FX_KSTACK - 48);
	assert_int_equal(f->s->seg[X86_SS].sel, 0);
	fx_free(f);
}

/* ---- nested faults ---- */

static void test_double_fault(void **state)
{
	struct fx *f = fx_long(0);

	(void)state;
	fx_put64(f, FX_IDT + X86_EX_GP * 16, 0); /* #GP's gate is no gate */
	fx_put64(f, FX_IDT + X86_EX_DF * 16, fx_get64(f, FX_IDT + 8 * 16) | 1ull << 32); /* IST 1 */
	fx_put64(f, FX_TSS + FX_TSS_IST1, 0x60007);
	FX_RUN(f, gp_canon);
	at_vector(f, X86_EX_DF);
	assert_int_equal(f->s->gpr[X86_RSP], 0x60000 - 48);
	assert_int_equal(fx_frame(f, 0), 0);
	/* a fault in a benign exception's delivery is just that fault */
	fx_put64(f, FX_IDT + X86_EX_UD * 16, 0x6e0000080000ull); /* not present */
	f->s->rip = FX_CODE;
	f->s->gpr[X86_RSP] = FX_STACK;
	FX_RUN(f, ud);
	at_vector(f, X86_EX_NP);
	assert_int_equal(fx_frame(f, 0), X86_EX_UD << 3 | 3); /* IDT, EXT */
	fx_free(f);
}

FX_PROGRAM(push, 64, "push %rax; hlt");

static void test_triple_fault(void **state)
{
	struct fx *f = fx_long(0);

	(void)state;
	assert_int_equal(mem_copy_in(f->mem, FX_CODE, fx_push, 2), 0);
	f->s->gpr[X86_RSP] =
		FX_FINE + 0x2000; /* page 1 is absent: #PF, again on its stack, #DF too */
	assert_false(fx_go(f));
	fx_free(f);
}

/* ---- privilege changes ---- */

FX_PROGRAM(to_user, 64,
	   "pushq $0x23; pushq $0x50000; pushq $0x3202; pushq $0x2b; pushq $0x40000; iretq");
FX_PROGRAM(user_int, 64, "mov $7, %eax; int $0x80; ud2");

static void test_iret_int(void **state)
{
	struct fx *f = fx_long(0);

	(void)state;
	memcpy(f->ram + USER, fx_user_int, (size_t)(fx_user_int_end - fx_user_int));
	FX_RUN(f, to_user);
	at_vector(f, 0x80);
	assert_int_equal(f->s->gpr[X86_RAX], 7);
	assert_int_equal(fx_frame(f, 0), USER + 7);
	assert_int_equal(fx_frame(f, 1), FX_CS64_3);
	assert_int_equal(fx_frame(f, 2), 0x3202);
	assert_int_equal(fx_frame(f, 3), USER_STACK);
	assert_false(f->s->rflags & X86_FL_IF);
	fx_free(f);
}

FX_PROGRAM(user_int_dpl, 64, "int $0x81");

static void test_int_dpl(void **state)
{
	struct fx *f = fx_long(3);

	(void)state;
	fx_put64(f, FX_IDT + 0x81 * 16, fx_get64(f, FX_IDT + 0x81 * 16) & ~(3ull << 45));
	FX_RUN(f, user_int_dpl);
	at_vector(f, X86_EX_GP);
	assert_int_equal(fx_frame(f, 0), 0x81 << 3 | 2);
	assert_int_equal(fx_frame(f, 1), FX_CODE);
	fx_free(f);
}

FX_PROGRAM(user_syscall, 64, "mov $0x3d7, %edi; syscall; mov %r11, %rbx; hlt");
FX_PROGRAM(kernel_sysret, 64, "mov %rcx, %rsi; mov %r11, %rdx; or $1, %r11; sysretq");

static void test_syscall(void **state)
{
	struct fx *f = fx_long(3);
	struct x86_state *s = f->s;

	(void)state;
	s->star = (uint64_t)FX_CS64 << 32 | (uint64_t)(FX_SS3 - 8) << 48;
	s->lstar = USER;
	s->sfmask = X86_FL_IF | X86_FL_DF;
	s->rflags |= X86_FL_IF | X86_FL_DF;
	memcpy(f->ram + USER, fx_kernel_sysret, (size_t)(fx_kernel_sysret_end - fx_kernel_sysret));
	FX_RUN(f, user_syscall); /* HLT in user mode ends it */
	at_vector(f, X86_EX_GP);
	assert_int_equal(s->gpr[X86_RSI], FX_CODE + 7);
	assert_int_equal(s->gpr[X86_RDX], 0x602);
	assert_int_equal(s->gpr[X86_RBX], 0x603);
	assert_int_equal(fx_frame(f, 1), FX_CODE + 10);
	assert_int_equal(fx_frame(f, 2), FX_CS64_3);
	assert_int_equal(fx_frame(f, 3) & 0xfff, 0x603);
	assert_int_equal(fx_frame(f, 5), FX_SS3);
	fx_free(f);
}

static void test_sysret_canonical(void **state)
{
	struct fx *f = fx_long(0);

	(void)state;
	f->s->star = (uint64_t)FX_CS64 << 32 | (uint64_t)(FX_SS3 - 8) << 48;
	f->s->gpr[X86_RCX] = 0x800000000000ull;
	FX_RUN(f, kernel_sysret);
	at_vector(f, X86_EX_GP);
	assert_int_equal(fx_frame(f, 2), FX_CS64); /* still the kernel's */
	fx_free(f);
}

/* ---- from real mode to long mode and back ---- */

FX_PROGRAM(boot16, 16,
	   "cli; xor %ax, %ax; mov %ax, %ds\n"
	   "data32 lgdt %ds:0x700\n"
	   "mov %cr0, %eax; or $1, %eax; mov %eax, %cr0\n"
	   "ljmpl $0x30, $0x10100\n");
FX_PROGRAM(boot32, 32,
	   "mov $0x10, %eax; mov %eax, %ds; mov %eax, %ss; mov $0x30000, %esp\n"
	   "mov %cr4, %eax; or $0x20, %eax; mov %eax, %cr4\n"
	   "mov $0x1000, %eax; mov %eax, %cr3\n"
	   "mov $0xc0000080, %ecx; rdmsr; or $0x901, %eax; wrmsr\n"
	   "mov %cr0, %eax; or $0x80010000, %eax; mov %eax, %cr0\n"
	   "rdmsr; mov %eax, %esi\n"
	   "ljmp $8, $0x10200\n");
FX_PROGRAM(boot64, 64,
	   "mov $0x123456789abcdef0, %rbx; lea 1(%rbx), %r15\n"
	   "pushq $0x30; pushq $0x10300; lretq\n");
FX_PROGRAM(compat, 32,
	   "mov %cr0, %eax; and $0x7fffffff, %eax; mov %eax, %cr0\n"
	   "rdmsr; mov %eax, %edi; hlt\n");

static void test_mode_switches(void **state)
{
	struct fx *f = fx_real();
	const uint16_t limit = 9 * 8 - 1;

	(void)state;
	fx_tables(f);
	memcpy(f->ram + 0x700, &limit, 2);
	fx_put64(f, 0x702, FX_GDT);
	memcpy(f->ram + 0x10100, fx_boot32, (size_t)(fx_boot32_end - fx_boot32));
	memcpy(f->ram + 0x10200, fx_boot64, (size_t)(fx_boot64_end - fx_boot64));
	memcpy(f->ram + 0x10300, fx_compat, (size_t)(fx_compat_end - fx_compat));
	FX_RUN(f, boot16);
	assert_int_equal(f->s->gpr[X86_R15], 0x123456789abcdef1ull);
	assert_int_equal(f->s->gpr[X86_RSI], 0xd01);
	assert_int_equal(f->s->gpr[X86_RDI], 0x901);
	assert_int_equal(f->s->cr0 >> 31, 0);
	assert_int_equal(f->s->seg[X86_CS].sel, 0x30);
	fx_free(f);
}

/* ---- 32-bit protected mode: call gate with parameters ---- */

#define GDT32 0x4800u
#define TSS32 0x7800u

static struct fx *fx_protected(void)
{
	static const uint64_t gdt[] = {
		0,
		0x00cf9b000000ffff,
		0x00cf93000000ffff,
		0x00cffb000000ffff,
		0x00cff3000000ffff,
		0x0000890078000067, /* 0x28: TSS */
		0x0000ec0200082000 |
			4ull << 48, /* 0x30: call gate, DPL 3, two parameters → 8:0x42000 */
		0x0040f3000000ffff | 0x1000ull
					     << 16, /* 0x38: user data, base 0x1000, limit 64 KiB */
	};
	struct fx *f = fx_new();
	struct x86_state *s = f->s;

	memcpy(f->ram + GDT32, gdt, sizeof(gdt));
	memset(f->ram + FX_HANDLERS, 0xf4, 4096);
	for (unsigned i = 0; i < 256; i++)
		fx_put64(f, FX_IDT + i * 8, (FX_HANDLERS + i * 16) | 8 << 16 | 0xee00ull << 32);
	fx_put64(f, TSS32 + 4, FX_KSTACK | 0x10ull << 32);
	s->cr0 = X86_CR0_PE | X86_CR0_ET;
	s->gdtr = (struct x86_dtable){ .base = GDT32, .limit = sizeof(gdt) - 1 };
	s->idtr = (struct x86_dtable){ .base = FX_IDT, .limit = 256 * 8 - 1 };
	s->tr = (struct x86_seg){ .sel = 0x28, .attr = 0x8b, .limit = 0x67, .base = TSS32 };
	s->cpl = 3;
	for (unsigned i = 0; i < X86_SEG_COUNT; i++)
		s->seg[i] = (struct x86_seg){ .sel = 0x23, .attr = 0xc0f3, .limit = ~0u };
	s->seg[X86_CS] = (struct x86_seg){ .sel = 0x1b, .attr = 0xc0fb, .limit = ~0u };
	s->rip = FX_CODE;
	s->gpr[X86_RSP] = FX_STACK;
	interp_tlb_flush(&f->v, true);
	return f;
}

FX_PROGRAM(call_gate, 32, "push $0x11; push $0x22; lcall $0x33, $0; mov %esp, %edi; int $0x80");
FX_PROGRAM(gate_target, 32,
	   "mov %esp, %esi; mov 8(%esp), %ebx; mov 12(%esp), %ecx; mov %cs, %edx; lret $8");

static void test_call_gate(void **state)
{
	struct fx *f = fx_protected();
	struct x86_state *s = f->s;

	(void)state;
	memcpy(f->ram + 0x42000, fx_gate_target, (size_t)(fx_gate_target_end - fx_gate_target));
	FX_RUN(f, call_gate);
	at_vector(f, 0x80);
	assert_int_equal(s->gpr[X86_RBX], 0x22);
	assert_int_equal(s->gpr[X86_RCX], 0x11);
	assert_int_equal(s->gpr[X86_RDX], 8);
	assert_int_equal(s->gpr[X86_RSI], FX_KSTACK - 24);
	assert_int_equal(s->gpr[X86_RDI], FX_STACK);
	assert_int_equal(s->seg[X86_CS].sel, 8);
	fx_free(f);
}

FX_PROGRAM(limit32, 32,
	   "mov $0x3b, %eax; mov %eax, %fs; mov %fs:0xfffc, %ebx; mov %fs:0xfffd, %ebx; hlt");
FX_PROGRAM(null32, 32, "xor %eax, %eax; mov %eax, %es; mov %es:(%eax), %ebx; hlt");
FX_PROGRAM(codewrite, 32, "mov %eax, %cs:0x20000; hlt");

static void test_segments_32(void **state)
{
	struct fx *f = fx_protected();
	uint32_t frame[2];

	(void)state;
	f->ram[0x10ffc] = 0x5a;
	FX_RUN(f, limit32);
	at_vector(f, X86_EX_GP);
	memcpy(frame, f->ram + f->s->gpr[X86_RSP], 8);
	assert_int_equal(frame[0], 0);
	assert_int_equal(frame[1], FX_CODE + 5 + 2 + 7);
	fx_free(f);
	f = fx_protected();
	FX_RUN(f, null32);
	at_vector(f, X86_EX_GP);
	assert_int_equal(f->s->seg[X86_ES].attr, 0);
	fx_free(f);
	f = fx_protected();
	FX_RUN(f, codewrite);
	at_vector(f, X86_EX_GP);
	fx_free(f);
}

/* Virtual-8086: entered by IRET, left by an interrupt with the data segments on the stack. */
FX_PROGRAM(to_vm86, 32,
	   "push $0x1234; push $0x2345; push $0x3456; push $0x4000; push $0x5000; push $0x100\n"
	   "push $0x23202; push $0x4000; push $0; iret");
FX_PROGRAM(in_vm86, 16, "mov %ds, %ax; mov %cs, %bx; int $0x80");

static void test_vm86(void **state)
{
	struct fx *f = fx_protected();
	struct x86_state *s = f->s;
	uint32_t frame[9];

	(void)state;
	s->cpl = 0;
	s->seg[X86_CS] = (struct x86_seg){ .sel = 8, .attr = 0xc09b, .limit = ~0u };
	s->seg[X86_SS] = (struct x86_seg){ .sel = 0x10, .attr = 0xc093, .limit = ~0u };
	memcpy(f->ram + 0x40000, fx_in_vm86, (size_t)(fx_in_vm86_end - fx_in_vm86));
	FX_RUN(f, to_vm86);
	at_vector(f, 0x80);
	assert_int_equal(s->gpr[X86_RAX] & 0xffff, 0x3456);
	assert_int_equal(s->gpr[X86_RBX] & 0xffff, 0x4000);
	assert_false(s->rflags & X86_FL_VM);
	assert_int_equal(s->seg[X86_DS].attr, 0);
	memcpy(frame, f->ram + s->gpr[X86_RSP], sizeof(frame));
	assert_int_equal(frame[1], 0x4000);
	assert_int_equal(frame[2] & 0x23000, 0x23000);
	assert_int_equal(frame[3], 0x100);
	assert_int_equal(frame[5], 0x4000);
	assert_int_equal(frame[6], 0x3456);
	assert_int_equal(frame[8], 0x1234);
	fx_free(f);
}

/* ---- descriptors asked about ---- */

FX_PROGRAM(lar_lsl, 64,
	   "mov $0x08, %eax; lar %eax, %ebx; setz %bl; lsl %eax, %ecx\n"
	   "mov $0x2b, %eax; lar %eax, %esi\n"
	   "mov $0x18, %eax; mov $-1, %edi; lar %eax, %edi; setnz %r8b\n"
	   "mov $0x10, %eax; verw %ax; setz %r9b; mov $8, %eax; verw %ax; setz %r10b; hlt");

static void test_lar_lsl(void **state)
{
	struct fx *f = fx_long(0);
	struct x86_state *s = f->s;

	(void)state;
	FX_RUN(f, lar_lsl);
	assert_int_equal(s->gpr[X86_RBX] & 0xf0ff00, 0xa09b00);
	assert_int_equal(s->gpr[X86_RBX] & 0xff, 1);
	assert_int_equal(s->gpr[X86_RCX], 0xffffffff);
	assert_int_equal(s->gpr[X86_RSI] & 0xf0ff00, 0xa0fb00);
	assert_int_equal(s->gpr[X86_RDI], 0xffffffff);
	assert_int_equal(s->gpr[X86_R8] & 0xff, 1);
	assert_int_equal(s->gpr[X86_R9] & 0xff, 1);
	assert_int_equal(s->gpr[X86_R10] & 0xff, 0);
	fx_free(f);
}

FX_PROGRAM(ltr, 64, "mov $0x38, %eax; ltr %ax; str %ebx; sldt %ecx; mov $0x38, %eax; ltr %ax; hlt");

static void test_ltr_busy(void **state)
{
	struct fx *f = fx_long(0);

	(void)state;
	f->s->ldtr.sel = 0x77;
	FX_RUN(f, ltr);
	at_vector(f, X86_EX_GP); /* busy the second time */
	assert_int_equal(fx_frame(f, 0), 0x38);
	assert_int_equal(f->s->gpr[X86_RBX], 0x38);
	assert_int_equal(f->s->gpr[X86_RCX], 0x77);
	assert_int_equal(f->s->tr.base, FX_TSS);
	assert_int_equal(f->ram[FX_GDT + 0x38 + 5] & 0xf, 0xb);
	fx_free(f);
}

FX_PROGRAM(sgdt, 64, "sgdt (%rdi); hlt");

static void test_umip(void **state)
{
	struct fx *f = fx_long(0);
	uint64_t base;

	(void)state;
	f->s->gpr[X86_RDI] = FX_DATA;
	f->s->cr4 |= X86_CR4_UMIP;
	FX_RUN(f, sgdt);
	memcpy(&base, f->ram + FX_DATA + 2, 8);
	assert_int_equal(base, FX_GDT);
	fx_free(f);
	f = fx_long(3);
	f->s->gpr[X86_RDI] = FX_DATA;
	f->s->cr4 |= X86_CR4_UMIP;
	FX_RUN(f, sgdt);
	at_vector(f, X86_EX_GP);
	assert_int_equal(f->ram[FX_DATA], 0);
	fx_free(f);
}

/* ---- control registers ---- */

FX_PROGRAM(mov_cr0, 64, "mov %rax, %cr0; hlt");
FX_PROGRAM(mov_cr3, 64, "mov %rax, %cr3; hlt");
FX_PROGRAM(mov_cr4, 64, "mov %rax, %cr4; hlt");
FX_PROGRAM(wrmsr, 64, "mov %rax, %rdx; shr $32, %rdx; wrmsr; hlt");
FX_PROGRAM(rdmsr, 64, "rdmsr; hlt");

static void set_reg(struct fx *f, const uint8_t *code, size_t n, uint64_t val, bool ok)
{
	f->s->rip = FX_CODE;
	f->s->gpr[X86_RSP] = FX_STACK;
	f->s->gpr[X86_RAX] = val;
	fx_run(f, code, n);
	if (ok)
		assert_int_equal(f->s->rip, FX_CODE + n);
	else
		at_vector(f, X86_EX_GP);
}
#define SET(f, name, val, ok) set_reg(f, fx_##name, (size_t)(fx_##name##_end - fx_##name), val, ok)

static void test_cr_checks(void **state)
{
	struct fx *f = fx_long(0);
	const uint64_t cr0 = f->s->cr0, cr4 = f->s->cr4;

	(void)state;
	SET(f, mov_cr0, cr0 & ~X86_CR0_PG, false); /* from 64-bit code */
	SET(f, mov_cr0, cr0 & ~X86_CR0_PE, false);
	SET(f, mov_cr0, cr0 | X86_CR0_NW, false);
	SET(f, mov_cr0, cr0 | 1ull << 32, false);
	assert_int_equal(f->s->cr0, cr0);
	SET(f, mov_cr0, cr0 | X86_CR0_TS, true);
	SET(f, mov_cr4, cr4 & ~X86_CR4_PAE, false);
	SET(f, mov_cr4, cr4 | 1u << 12, false); /* LA57 */
	SET(f, mov_cr4, cr4 | X86_CR4_UMIP | X86_CR4_PCIDE, true);
	SET(f, mov_cr3, FX_PML4 | 1ull << 63 | 5, true);
	assert_int_equal(f->s->cr3, FX_PML4 | 5);
	SET(f, mov_cr3, FX_PML4 | 1ull << 52, false);
	SET(f, mov_cr4, cr4, true);
	SET(f, mov_cr4, cr4 | X86_CR4_PCIDE, false); /* CR3[11:0] is not 0 */
	SET(f, mov_cr3, FX_PML4 | 1ull << 63, false);
	fx_free(f);
}

static void test_msrs(void **state)
{
	struct fx *f = fx_long(0);
	struct x86_state *s = f->s;

	(void)state;
	s->gpr[X86_RCX] = 0xc0000100u;
	SET(f, wrmsr, 0xffff880000001000ull, true);
	assert_int_equal(s->seg[X86_FS].base, 0xffff880000001000ull);
	SET(f, wrmsr, 0x8000000000000000ull, false);
	s->gpr[X86_RCX] = 0xc0000080u;
	SET(f, wrmsr, X86_EFER_LME | X86_EFER_SCE, true);
	assert_true(s->efer & X86_EFER_LMA);
	assert_false(s->efer & X86_EFER_NXE);
	SET(f, wrmsr, X86_EFER_SCE, false); /* LME with paging on */
	SET(f, wrmsr, X86_EFER_LME | 1u << 12, false);
	s->gpr[X86_RCX] = 0x277;
	SET(f, wrmsr, 0x0007040600070406ull, true);
	SET(f, wrmsr, 2, false);
	s->gpr[X86_RCX] = 0x10;
	SET(f, wrmsr, 0, true);
	SET(f, rdmsr, 0, true);
	assert_true((s->gpr[X86_RAX] | s->gpr[X86_RDX] << 32) < f->cpuid.tsc_hz * 10);
	assert_int_equal(s->tsc_offset, s->tsc_adjust);
	s->gpr[X86_RCX] = 0xfe;
	SET(f, rdmsr, 0, true);
	assert_int_equal(s->gpr[X86_RAX], 0x508);
	s->gpr[X86_RCX] = 0x12345;
	SET(f, rdmsr, 0, false);
	SET(f, wrmsr, 0, false);
	fx_free(f);
}

static void test_kvmclock(void **state)
{
	struct fx *f = fx_long(0);
	uint32_t mul;
	uint64_t ns;
	int8_t shift;

	(void)state;
	f->s->gpr[X86_RCX] = 0x4b564d01;
	SET(f, wrmsr, FX_DATA | 1, true);
	memcpy(&mul, f->ram + FX_DATA + 24, 4);
	shift = (int8_t)f->ram[FX_DATA + 28];
	assert_int_equal(f->ram[FX_DATA + 29], 1);
	assert_true(mul >= 0x80000000u); /* full precision */
	ns = f->cpuid.tsc_hz;		 /* one second of TSC */
	ns = shift < 0 ? ns >> -shift : ns << shift;
	ns = (uint64_t)(((unsigned __int128)ns * mul) >> 32);
	assert_true(ns > 999999990 && ns <= 1000000000);
	SET(f, wrmsr, 1ull << 36 | 1, false); /* not RAM */
	f->s->gpr[X86_RCX] = 0x4b564d00;
	SET(f, wrmsr, FX_DATA + 0x100, true);
	assert_true(fx_get64(f, FX_DATA + 0x104) != 0);
	fx_free(f);
}

/* ---- TLB ---- */

FX_PROGRAM(load_again, 64, "mov (%rdi), %rax; hlt");
FX_PROGRAM(invlpg, 64, "invlpg (%rdi); mov (%rdi), %rax; hlt");
FX_PROGRAM(reload_cr3, 64, "mov %rdx, %cr3; mov (%rdi), %rax; hlt");
FX_PROGRAM(invpcid, 64, "invpcid (%rsi), %rbx; mov (%rdi), %rax; hlt");

static uint64_t run_for_rax(struct fx *f, const uint8_t *code, size_t n)
{
	f->s->rip = FX_CODE;
	fx_run(f, code, n);
	assert_int_equal(f->s->rip, FX_CODE + n);
	return f->s->gpr[X86_RAX];
}
#define RAX(f, name) run_for_rax(f, fx_##name, (size_t)(fx_##name##_end - fx_##name))

/* Page 8 of FX_FINE maps frame 8 or 9. */
static void remap(struct fx *f, unsigned frame, uint64_t flags)
{
	fx_put64(f, FX_PT + 8 * 8, (FX_FINE + frame * 4096) | flags);
}

static void test_tlb(void **state)
{
	struct fx *f = fx_long(0);
	struct x86_state *s = f->s;

	(void)state;
	fx_put64(f, FX_FINE + 8 * 4096, 8);
	fx_put64(f, FX_FINE + 9 * 4096, 9);
	s->gpr[X86_RDI] = FX_FINE + 8 * 4096;
	assert_int_equal(RAX(f, load_again), 8);
	remap(f, 9, 7);
	assert_int_equal(RAX(f, load_again), 8); /* cached: the guest has not said a word */
	assert_int_equal(RAX(f, invlpg), 9);
	remap(f, 8, 7);
	s->gpr[X86_RDX] = FX_PML4;
	assert_int_equal(RAX(f, reload_cr3), 8);
	/* global pages survive that */
	s->cr4 |= X86_CR4_PGE;
	interp_tlb_flush(&f->v, true);
	remap(f, 8, 0x107);
	assert_int_equal(RAX(f, load_again), 8);
	remap(f, 9, 0x107);
	assert_int_equal(RAX(f, reload_cr3), 8);
	assert_int_equal(RAX(f, invlpg), 9);
	fx_free(f);
}

static void test_pcid(void **state)
{
	struct fx *f = fx_long(0);
	struct x86_state *s = f->s;

	(void)state;
	s->cr4 |= X86_CR4_PCIDE;
	interp_tlb_flush(&f->v, true);
	fx_put64(f, FX_FINE + 8 * 4096, 8);
	fx_put64(f, FX_FINE + 9 * 4096, 9);
	s->gpr[X86_RDI] = FX_FINE + 8 * 4096;
	s->gpr[X86_RDX] = FX_PML4 | 1;
	assert_int_equal(RAX(f, reload_cr3), 8);
	remap(f, 9, 7);
	s->gpr[X86_RDX] = FX_PML4 | 2 | 1ull << 63;
	assert_int_equal(RAX(f, reload_cr3), 9); /* another PCID */
	s->gpr[X86_RDX] = FX_PML4 | 2 | 1ull << 63;
	remap(f, 8, 7);
	assert_int_equal(RAX(f, reload_cr3), 9); /* kept */
	s->gpr[X86_RBX] = 1;
	s->gpr[X86_RSI] = FX_DATA;
	fx_put64(f, FX_DATA, 2);
	assert_int_equal(RAX(f, invpcid), 8);
	remap(f, 9, 7);
	s->gpr[X86_RDX] = FX_PML4 | 2;
	assert_int_equal(RAX(f, reload_cr3), 9); /* no keep bit */
	s->gpr[X86_RBX] = 9;
	f->s->rip = FX_CODE;
	FX_RUN(f, invpcid);
	at_vector(f, X86_EX_GP);
	fx_free(f);
}

FX_PROGRAM(smap, 64, "stac; mov (%rdi), %rax; clac; mov (%rdi), %rbx; hlt");

static void test_smap(void **state)
{
	struct fx *f = fx_long(0);
	struct x86_state *s = f->s;

	(void)state;
	/* code and stack of the kernel become supervisor pages: all of it is in the first 2 MiB */
	fx_put64(f, FX_PD, 0x83);
	s->cr4 |= X86_CR4_SMAP | X86_CR4_SMEP;
	interp_tlb_flush(&f->v, true);
	fx_put64(f, FX_FINE + 8 * 4096, 8);
	s->gpr[X86_RDI] = FX_FINE + 8 * 4096;
	FX_RUN(f, smap);
	at_vector(f, X86_EX_PF);
	assert_int_equal(s->gpr[X86_RAX], 8);
	assert_int_equal(fx_frame(f, 0), X86_PF_P);
	assert_int_equal(fx_frame(f, 1), FX_CODE + 9);
	fx_free(f);
}

/* ---- ports ---- */

static uint32_t last_port, last_val, last_size, reads;

static uint32_t pio_read(void *opaque, uint16_t port, unsigned size)
{
	(void)opaque;
	last_port = port;
	last_size = size;
	return 0x11223300u + reads++;
}

static void pio_write(void *opaque, uint16_t port, uint32_t val, unsigned size)
{
	(void)opaque;
	last_port = port;
	last_val = val;
	last_size = size;
}

FX_PROGRAM(ports, 64,
	   "mov $0x3f8, %edx; mov $0x41, %eax; out %al, %dx; in $0x60, %al; mov %al, %bl\n"
	   "mov $0xcf8, %edx; in %dx, %eax; mov %eax, %ebp; mov $3, %ecx; cld; rep insb; hlt");
FX_PROGRAM(out_user, 64, "mov $0x3f8, %edx; out %al, %dx; mov $0x3f9, %edx; out %ax, %dx; hlt");

static void test_ports(void **state)
{
	struct fx *f = fx_long(0);
	struct x86_state *s = f->s;

	(void)state;
	f->io.pio_read = pio_read;
	f->io.pio_write = pio_write;
	reads = 0;
	s->gpr[X86_RDI] = FX_DATA;
	FX_RUN(f, ports);
	assert_int_equal(last_val & 0xff, 0x41);
	assert_int_equal(s->gpr[X86_RBX] & 0xff, 0);
	assert_int_equal(s->gpr[X86_RBP], 0x11223301);
	assert_memory_equal(f->ram + FX_DATA, "\x02\x03\x04", 3);
	assert_int_equal(last_size, 1);
	assert_int_equal(s->gpr[X86_RDI], FX_DATA + 3);
	assert_int_equal(s->gpr[X86_RCX], 0);
	fx_free(f);
}

static void test_io_bitmap(void **state)
{
	struct fx *f = fx_long(3);
	const uint16_t base = 0x68;

	(void)state;
	f->io.pio_read = pio_read;
	f->io.pio_write = pio_write;
	FX_RUN(f, out_user); /* no bitmap within the limit */
	at_vector(f, X86_EX_GP);
	assert_int_equal(fx_frame(f, 1), FX_CODE + 5);
	fx_free(f);
	f = fx_long(3);
	f->io.pio_write = pio_write;
	f->s->tr.limit = 0x68 + 0x90;
	memcpy(f->ram + FX_TSS + 0x66, &base, 2);
	f->ram[FX_TSS + 0x68 + 0x3fa / 8] = 1 << (0x3fa & 7);
	last_port = 0;
	FX_RUN(f, out_user); /* the word at 0x3f9 touches 0x3fa */
	at_vector(f, X86_EX_GP);
	assert_int_equal(fx_frame(f, 1), FX_CODE + 5 + 1 + 5);
	assert_int_equal(last_port, 0x3f8);
	fx_free(f);
}

/* ---- MMIO ---- */

static uint64_t mmio_log[8];
static unsigned mmio_n;

static uint64_t mmio_read(void *opaque, uint64_t off, unsigned size)
{
	(void)opaque;
	mmio_log[mmio_n++ % 8] = off << 8 | size;
	return 0x8877665544332211ull >> (off % 8 * 8);
}

static void mmio_write(void *opaque, uint64_t off, uint64_t val, unsigned size)
{
	(void)opaque;
	(void)val;
	mmio_log[mmio_n++ % 8] = off << 8 | size | 0x80;
}

FX_PROGRAM(mmio, 64, "mov (%rdi), %eax; mov 2(%rdi), %ebx; mov %rax, 8(%rdi); hlt");

static void test_mmio(void **state)
{
	static const struct mem_io_ops ops = { .read = mmio_read, .write = mmio_write };
	struct mem_region r = {
		.name = "dev", .base = 0xfe000000, .size = 4096, .ops = &ops, .fd = -1
	};
	struct fx *f = fx_long(0);

	(void)state;
	assert_int_equal(mem_region_add(f->mem, &r), 0);
	fx_put64(f, FX_PT + 8 * 8, 0xfe000000 | 3);
	f->s->gpr[X86_RDI] = FX_FINE + 8 * 4096;
	mmio_n = 0;
	FX_RUN(f, mmio);
	assert_int_equal(f->s->gpr[X86_RAX], 0x44332211);
	assert_int_equal(f->s->gpr[X86_RBX], 0x66554433);
	assert_int_equal(mmio_n, 4); /* the misaligned one in two pieces */
	assert_int_equal(mmio_log[0], 4);
	assert_int_equal(mmio_log[1], 2 << 8 | 2);
	assert_int_equal(mmio_log[2], 4 << 8 | 2);
	assert_int_equal(mmio_log[3], 8 << 8 | 0x88);
	mem_region_remove(f->mem, &r);
	fx_free(f);
}

/* ---- flags ---- */

FX_PROGRAM(popf_user, 64, "pushq $0x3fd7; popfq; pushfq; pop %rbx; hlt");

static void test_popf_user(void **state)
{
	struct fx *f = fx_long(3);

	(void)state;
	FX_RUN(f, popf_user);
	/* neither IF nor IOPL; TF traps after the next instruction */
	assert_int_equal(fx_vector(f), X86_EX_DB);
	assert_int_equal(f->s->gpr[X86_RBX], 0);
	assert_int_equal(fx_frame(f, 2) & 0x3200, 0);
	assert_int_equal(fx_frame(f, 2) & 0xcd5, 0xcd5);
	assert_true(f->s->dr[6] & 1u << 14);
	fx_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exceptions),
		cmocka_unit_test(test_page_faults),
		cmocka_unit_test(test_page_faults_user),
		cmocka_unit_test(test_double_fault),
		cmocka_unit_test(test_triple_fault),
		cmocka_unit_test(test_iret_int),
		cmocka_unit_test(test_int_dpl),
		cmocka_unit_test(test_syscall),
		cmocka_unit_test(test_sysret_canonical),
		cmocka_unit_test(test_mode_switches),
		cmocka_unit_test(test_call_gate),
		cmocka_unit_test(test_segments_32),
		cmocka_unit_test(test_vm86),
		cmocka_unit_test(test_lar_lsl),
		cmocka_unit_test(test_ltr_busy),
		cmocka_unit_test(test_umip),
		cmocka_unit_test(test_cr_checks),
		cmocka_unit_test(test_msrs),
		cmocka_unit_test(test_kvmclock),
		cmocka_unit_test(test_tlb),
		cmocka_unit_test(test_pcid),
		cmocka_unit_test(test_smap),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_io_bitmap),
		cmocka_unit_test(test_mmio),
		cmocka_unit_test(test_popf_user),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
