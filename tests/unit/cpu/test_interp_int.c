/* SPDX-License-Identifier: Apache-2.0 */
/* Small programs under interp: integer instructions, control flow, strings, faults, events. */
#include "interp_fixture.h"

#include "cpu/interp/interp_priv.h"

static void check_vector(const struct fx *f, int vec, uint64_t rip)
{
	bool has_error = vec == 8 || (vec >= 10 && vec <= 14) || vec == 17;

	assert_int_equal(fx_vector(f), vec);
	assert_int_equal(fx_frame(f, has_error), rip);
}

FX_PROGRAM(sum, 64, "mov $1000, %ecx; xor %eax, %eax; 1: add %rcx, %rax; dec %ecx; jnz 1b; hlt");

static void test_sum(void **state)
{
	struct fx *f = fx_long(0);

	(void)state;
	FX_RUN(f, sum);
	assert_int_equal(f->s->gpr[X86_RAX], 500500);
	assert_int_equal(f->v.insn_count, 2 + 3000 + 1);
	assert_int_equal(f->s->rip, FX_CODE + (unsigned)(fx_sum_end - fx_sum));
	fx_free(f);
}

/* bubble sort of n dwords at rdi */
FX_PROGRAM(sort, 64,
	   "mov $0x20000, %edi; mov $64, %esi\n"
	   "1: xor %ebx, %ebx; mov $1, %ecx\n"
	   "2: mov -4(%rdi,%rcx,4), %eax; mov (%rdi,%rcx,4), %edx; cmp %edx, %eax; jle 3f\n"
	   "mov %edx, -4(%rdi,%rcx,4); mov %eax, (%rdi,%rcx,4); inc %ebx\n"
	   "3: inc %rcx; cmp %esi, %ecx; jb 2b; test %ebx, %ebx; jnz 1b; hlt");

static void test_sort(void **state)
{
	struct fx *f = fx_long(0);
	int32_t a[64];

	(void)state;
	for (unsigned i = 0; i < 64; i++)
		a[i] = (int32_t)(i * 2654435761u);
	memcpy(f->ram + FX_DATA, a, sizeof(a));
	FX_RUN(f, sort);
	memcpy(a, f->ram + FX_DATA, sizeof(a));
	for (unsigned i = 1; i < 64; i++)
		assert_true(a[i - 1] <= a[i]);
	fx_free(f);
}

FX_PROGRAM(arith, 64,
	   "mov $-1, %rax; add $1, %rax; mov $0, %ebx; adc $5, %rbx\n"	/* rbx 6 */
	   "mov $0x80, %cl; shl $1, %cl; setc %r8b; movzx %r8b, %r8d\n" /* r8 1 */
	   "mov $0x12345678, %eax; bswap %eax; mov %eax, %r9d\n"
	   "mov $-7, %rax; cqo; mov $2, %esi; idiv %rsi; mov %rax, %r10; mov %rdx, %r11\n"
	   "mov $0x1234, %eax; mov $0x56, %ah; mov %eax, %r12d\n"
	   "mov $-1, %r13; mov $3, %r13w; mov $-1, %r14; mov $3, %r14d\n"
	   "mov $0xf0, %eax; bsf %eax, %edx; lzcnt %eax, %ebp; imul $-3, %rdx, %r15\n"
	   "mov $5, %eax; xor %ecx, %ecx; cmp $5, %eax; cmovne %ecx, %edi; hlt");

static void test_arith(void **state)
{
	struct fx *f = fx_long(0);
	const uint64_t *r = f->s->gpr;

	(void)state;
	f->s->gpr[X86_RDI] = ~0ull;
	FX_RUN(f, arith);
	assert_int_equal(r[X86_RBX], 6);
	assert_int_equal(r[X86_R8], 1);
	assert_int_equal(r[X86_R9], 0x78563412);
	assert_int_equal((int64_t)r[X86_R10], -3);
	assert_int_equal((int64_t)r[X86_R11], -1);
	assert_int_equal(r[X86_R12], 0x5634);
	assert_int_equal(r[X86_R13], 0xffffffffffff0003);
	assert_int_equal(r[X86_R14], 3);
	assert_int_equal(r[X86_RBP], 24);
	assert_int_equal((int64_t)r[X86_R15], -12);
	assert_int_equal(r[X86_RDI], 0xffffffff);
	fx_free(f);
}

FX_PROGRAM(div0, 64, "mov $1, %eax; xor %edx, %edx; xor %ecx, %ecx; divl %ecx; hlt");
FX_PROGRAM(idiv_min, 64,
	   "mov $1, %eax; shl $63, %rax; mov $-1, %rcx; mov $-1, %rdx; idiv %rcx; hlt");
FX_PROGRAM(div_wide, 64, "mov $5, %edx; mov $5, %ecx; div %rcx; hlt");

static void test_divide(void **state)
{
	struct fx *f = fx_long(0);

	(void)state;
	FX_RUN(f, div0);
	check_vector(f, X86_EX_DE, FX_CODE + 9);
	f->s->rip = FX_CODE;
	FX_RUN(f, idiv_min);
	assert_int_equal(fx_vector(f), X86_EX_DE);
	f->s->rip = FX_CODE;
	FX_RUN(f, div_wide);
	assert_int_equal(fx_vector(f), X86_EX_DE);
	fx_free(f);
}

FX_PROGRAM(bits, 64,
	   "mov $0x20000, %edi; mov $100, %eax; bts %rax, (%rdi); mov $-1, %rcx; bts %rcx, (%rdi)\n"
	   "lock btsl $3, 16(%rdi); setc %bl; lock btrl $3, 16(%rdi); setc %bh; hlt");

static void test_bits(void **state)
{
	struct fx *f = fx_long(0);

	(void)state;
	FX_RUN(f, bits);
	assert_int_equal(fx_get64(f, FX_DATA + 8), 1ull << 36);
	assert_int_equal(fx_get64(f, FX_DATA - 8), 1ull << 63);
	assert_int_equal(fx_get64(f, FX_DATA + 16), 0);
	assert_int_equal(f->s->gpr[X86_RBX], 0x100);
	fx_free(f);
}

FX_PROGRAM(atomics, 64,
	   "mov $0x20000, %edi; movl $5, (%rdi); mov $3, %eax; lock xadd %eax, (%rdi)\n"
	   "mov $8, %eax; mov $9, %ecx; lock cmpxchg %ecx, (%rdi); setz %bl\n"
	   "mov $1, %eax; lock cmpxchg %ecx, (%rdi); setz %bh; mov %eax, %r8d\n"
	   "mov $77, %edx; xchg %edx, (%rdi); mov %edx, %r9d\n"
	   "lock incl (%rdi); lock negl 4(%rdi); lock subq $1, 4094(%rdi)\n"
	   "xor %eax, %eax; xor %edx, %edx; mov $0x11, %ebx; mov $0x22, %ecx\n"
	   "lock cmpxchg16b 32(%rdi); setz %r10b; movzx %r10b, %r10d; hlt");

static void test_atomics(void **state)
{
	struct fx *f = fx_long(0);

	(void)state;
	FX_RUN(f, atomics);
	assert_int_equal(f->s->gpr[X86_R8], 9);
	assert_int_equal(f->s->gpr[X86_R9], 9);
	assert_int_equal(fx_get64(f, FX_DATA), 78);
	assert_int_equal(fx_get64(f, FX_DATA + 4094), ~0ull); /* straddles two pages */
	assert_int_equal(f->s->gpr[X86_R10], 1);
	assert_int_equal(fx_get64(f, FX_DATA + 32), 0x11);
	assert_int_equal(fx_get64(f, FX_DATA + 40), 0x22);
	fx_free(f);
}

FX_PROGRAM(stack, 64,
	   "mov %rsp, %rbx; push %rsp; pop %rax; sub %rbx, %rax\n" /* rax 0 */
	   "push $0x1234; popq -8(%rsp); mov -8(%rsp), %rcx\n" /* stored one slot below the top */
	   "pushw $7; popw %dx; push $9; pop %rsp; mov %rsp, %rsi; mov %rbx, %rsp\n"
	   "call 1f; jmp 2f; 1: mov $5, %edi; ret\n"
	   "2: enter $16, $0; lea 16(%rsp), %r8; sub %rbp, %r8; leave; sub %rsp, %rbx; hlt");

static void test_stack(void **state)
{
	struct fx *f = fx_long(0);
	const uint64_t *r = f->s->gpr;

	(void)state;
	FX_RUN(f, stack);
	assert_int_equal(r[X86_RAX], 0);
	assert_int_equal(r[X86_RCX], 0x1234);
	assert_int_equal(r[X86_RDX] & 0xffff, 7);
	assert_int_equal(r[X86_RSI], 9);
	assert_int_equal(r[X86_RDI], 5);
	assert_int_equal(r[X86_R8], 0);
	assert_int_equal(r[X86_RBX], 0);
	assert_int_equal(r[X86_RSP], FX_STACK);
	fx_free(f);
}

FX_PROGRAM(strings, 64,
	   "cld; mov $0x20ff0, %edi; mov $0xab, %al; mov $64, %ecx; rep stosb\n"
	   "mov $0x20ff1, %esi; movb $0x11, (%rsi); lea 1(%rsi), %rdi; mov $32, %ecx; rep movsb\n"
	   "mov $0x20ff0, %edi; mov $0x22, %al; mov $100, %ecx; repne scasb; mov %ecx, %r8d\n"
	   "mov $0x20ff1, %esi; mov $0x20ff2, %edi; mov $100, %ecx; repe cmpsb; mov %ecx, %r9d\n"
	   "std; mov $0x21800, %edi; mov $0x21804, %esi; mov $2, %ecx; rep movsl; mov %rdi, %r10\n"
	   "cld; xor %ecx, %ecx; mov $-1, %rdi; rep stosb; hlt");

static void test_strings(void **state)
{
	struct fx *f = fx_long(0);

	(void)state;
	FX_RUN(f, strings);
	assert_int_equal(f->ram[0x20ff0], 0xab);
	for (unsigned i = 0x20ff1; i < 0x20ff1 + 33; i++)
		assert_int_equal(f->ram[i], 0x11); /* the overlap repeats the first byte */
	assert_int_equal(f->ram[0x21012], 0xab);
	assert_int_equal(f->s->gpr[X86_R8], 0);
	assert_int_equal(f->s->gpr[X86_R9], 100 - 33);
	assert_int_equal(f->s->gpr[X86_R10], 0x217f8);
	assert_int_equal(f->s->gpr[X86_RDI], ~0ull);
	fx_free(f);
}

FX_PROGRAM(rep_fault, 64,
	   "mov $0x20000, %esi; mov $0xe00fe0, %edi; mov $100, %ecx; rep movsl; hlt");

static void test_rep_fault(void **state)
{
	struct fx *f = fx_long(0);

	(void)state;
	memset(f->ram + FX_DATA, 0x5a, 400);
	FX_RUN(f, rep_fault);
	check_vector(f, X86_EX_PF, FX_CODE + 15);
	assert_int_equal(f->s->cr2, FX_FINE + 0x1000);
	assert_int_equal(fx_frame(f, 0), X86_PF_W);
	assert_int_equal(f->s->gpr[X86_RCX], 92);
	assert_int_equal(f->s->gpr[X86_RSI], FX_DATA + 32);
	assert_int_equal(f->s->gpr[X86_RDI], FX_FINE + 0x1000);
	assert_int_equal(f->ram[FX_FINE + 0xfff], 0x5a);
	fx_free(f);
}

static void test_data_faults(void **state)
{
	static const uint8_t rmw[] = { 0x83, 0x00, 0x01, 0xf4 }; /* addl $1, (%rax) */
	struct fx *f = fx_long(3);

	(void)state;
	f->s->gpr[X86_RAX] = FX_UNMAPPED;
	fx_run(f, rmw, sizeof(rmw));
	check_vector(f, X86_EX_PF, FX_CODE);
	assert_int_equal(fx_frame(f, 0), X86_PF_W | X86_PF_U);
	assert_int_equal(f->s->cr2, FX_UNMAPPED);
	fx_free(f);

	f = fx_long(0);
	f->s->gpr[X86_RAX] = 0x800000000000;
	fx_run(f, rmw, sizeof(rmw));
	check_vector(f, X86_EX_GP, FX_CODE);
	fx_free(f);
}

/* mov $0x11223344, %eax with its last bytes in the page that is absent */
static void test_fetch_straddle(void **state)
{
	static const uint8_t insn[] = { 0xb8, 0x44, 0x33, 0x22, 0x11, 0xf4 };
	struct fx *f = fx_long(0);

	(void)state;
	memcpy(f->ram + FX_FINE + 0x1000 - 3, insn, 3);
	f->s->rip = FX_FINE + 0x1000 - 3;
	assert_true(fx_go(f));
	check_vector(f, X86_EX_PF, FX_FINE + 0x1000 - 3);
	assert_int_equal(f->s->cr2, FX_FINE + 0x1000);
	assert_int_equal(fx_frame(f, 0), X86_PF_I);

	memcpy(f->ram + FX_FINE + 0x3000 - 3, insn, sizeof(insn));
	f->s->rip = FX_FINE + 0x3000 - 3;
	assert_true(fx_go(f));
	assert_int_equal(f->s->gpr[X86_RAX], 0x11223344);
	/* changed behind the page border: seen at once */
	f->ram[FX_FINE + 0x3000 + 1] = 0x99;
	f->s->rip = FX_FINE + 0x3000 - 3;
	assert_true(fx_go(f));
	assert_int_equal(f->s->gpr[X86_RAX], 0x99223344);
	fx_free(f);
}

static void test_too_long(void **state)
{
	static const uint8_t pre[] = { 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
				       0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90 };
	struct fx *f = fx_long(0);

	(void)state;
	fx_run(f, pre, sizeof(pre));
	check_vector(f, X86_EX_GP, FX_CODE);
	fx_free(f);
}

/* the store changes the immediate of the instruction right behind it */
FX_PROGRAM(smc, 64, "movb $42, 1f+1(%rip); 1: mov $1, %eax; hlt");
FX_PROGRAM(smc_loop, 64,
	   "xor %ebx, %ebx; mov $200, %ecx; 1: mov %cl, 2f+1(%rip); 2: mov $0, %eax\n"
	   "add %eax, %ebx; dec %ecx; jnz 1b; hlt");

static void test_smc(void **state)
{
	struct fx *f = fx_long(0);

	(void)state;
	FX_RUN(f, smc);
	assert_int_equal(f->s->gpr[X86_RAX], 42);
	f->s->rip = FX_CODE;
	FX_RUN(f, smc_loop);
	assert_int_equal(f->s->gpr[X86_RBX], 20100);
	fx_free(f);
}

static void test_dma_invalidates(void **state)
{
	static const uint8_t one[] = { 0xb8, 1, 0, 0, 0, 0xf4 }, two[] = { 0xb8, 2, 0, 0, 0, 0xf4 };
	struct fx *f = fx_long(0);

	(void)state;
	fx_run(f, one, sizeof(one));
	assert_int_equal(f->s->gpr[X86_RAX], 1);
	f->s->rip = FX_CODE;
	fx_run(f, two, sizeof(two));
	assert_int_equal(f->s->gpr[X86_RAX], 2);
	fx_free(f);
}

FX_PROGRAM(trap, 64, "nop; nop; hlt");

static void test_single_step(void **state)
{
	struct fx *f = fx_long(0);

	(void)state;
	f->s->rflags |= X86_FL_TF;
	FX_RUN(f, trap);
	check_vector(f, X86_EX_DB, FX_CODE + 1);
	assert_true(f->s->dr[6] & BIT(14));
	fx_free(f);
}

FX_PROGRAM(sti, 64, "sti; inc %eax; inc %eax; hlt");

static void test_sti_shadow(void **state)
{
	struct fx *f = fx_long(0);

	(void)state;
	f->irq = 0x40;
	atomic_store(&f->v.irq_hint, 1);
	FX_RUN(f, sti);
	assert_int_equal(fx_vector(f), 0x40);
	assert_int_equal(f->taken, 1);
	assert_int_equal(f->s->gpr[X86_RAX], 1); /* exactly the one in the shadow */
	assert_int_equal(fx_frame(f, 0), FX_CODE + 3);
	fx_free(f);
}

FX_PROGRAM(long_rep, 64, "mov $0x200000, %edi; mov $0x100000, %ecx; rep stosb; hlt");

static void test_rep_interrupted(void **state)
{
	struct fx *f = fx_long(0);

	(void)state;
	f->s->rflags |= X86_FL_IF;
	assert_int_equal(mem_copy_in(f->mem, FX_CODE, fx_long_rep, 13), 0);
	assert_int_equal(interp_run(&f->v, 2), INTERP_OK);
	atomic_store(&f->v.kick_pending, 1);
	assert_int_equal(interp_step(&f->v), INTERP_STOP);
	assert_int_equal(f->s->rip, FX_CODE + 10);
	assert_true(f->s->gpr[X86_RCX] > 0 && f->s->gpr[X86_RCX] < 0x100000);
	assert_int_equal(f->s->gpr[X86_RCX] + f->s->gpr[X86_RDI], 0x300000);
	assert_int_equal(f->v.insn_count, 2);
	atomic_store(&f->v.kick_pending, 0);
	assert_int_equal(interp_step(&f->v), INTERP_OK);
	assert_int_equal(f->s->gpr[X86_RDI], 0x300000);
	fx_free(f);
}

static void test_privilege(void **state)
{
	static const uint8_t cli[] = { 0xfa, 0xf4 }, vex[] = { 0xc5, 0xf8, 0x77, 0xf4 };
	struct fx *f = fx_long(3);

	(void)state;
	fx_run(f, cli, sizeof(cli));
	check_vector(f, X86_EX_GP, FX_CODE);
	fx_free(f);
	f = fx_long(3);
	fx_run(f, cli + 1, 1);
	check_vector(f, X86_EX_GP, FX_CODE);
	fx_free(f);
	f = fx_long(0); /* vzeroupper without OSXSAVE */
	fx_run(f, vex, sizeof(vex));
	check_vector(f, X86_EX_UD, FX_CODE);
	fx_free(f);
}

static void test_fpu_gates(void **state)
{
	static const uint8_t fld1[] = { 0xd9, 0xe8, 0xf4 }, xorps[] = { 0x0f, 0x57, 0xc0, 0xf4 };
	struct fx *f = fx_long(0);

	(void)state;
	f->s->cr0 |= X86_CR0_TS;
	fx_run(f, fld1, sizeof(fld1));
	check_vector(f, X86_EX_NM, FX_CODE);
	f->s->rip = FX_CODE;
	fx_run(f, xorps, sizeof(xorps));
	check_vector(f, X86_EX_NM, FX_CODE);
	f->s->cr4 &= ~X86_CR4_OSFXSR;
	f->s->rip = FX_CODE;
	fx_run(f, xorps, sizeof(xorps));
	check_vector(f, X86_EX_UD, FX_CODE);
	fx_free(f);
}

FX_PROGRAM(real16, 16,
	   "mov $10, %cx; xor %ax, %ax; 1: add %cx, %ax; loop 1b; mov %ax, (0x10)\n"
	   "push %ax; pop %bx; mov $0x99, %al; add $0x01, %al; daa; mov %al, %dl\n"
	   "mov $7, %al; mov $3, %bl; mul %bl; aam; mov %ax, %si; pusha; popa; hlt");

static void test_real_mode(void **state)
{
	struct fx *f = fx_real();

	(void)state;
	FX_RUN(f, real16);
	assert_int_equal(f->ram[FX_DATA + 0x10], 55);
	assert_int_equal(f->s->gpr[X86_RBX] & 0xff00, 0);
	assert_int_equal(f->s->gpr[X86_RDX] & 0xff, 0x00); /* 99 + 1 in decimal */
	assert_int_equal(f->s->gpr[X86_RSI] & 0xffff, 0x0201);
	assert_int_equal(f->s->gpr[X86_RSP], 0x8000);
	fx_free(f);
}

/* sequential execution past the segment's end is #GP, and the vector table is used */
static void test_real_limit(void **state)
{
	struct fx *f = fx_real();

	(void)state;
	f->ram[FX_CODE + 0xffff] = 0x90;
	f->s->rip = 0xffff;
	assert_true(fx_go(f));
	assert_int_equal(fx_vector(f), X86_EX_GP);
	fx_free(f);
}

static void test_step_equals_run(void **state)
{
	struct fx *a = fx_long(0), *b = fx_long(0);
	unsigned n = 0;

	(void)state;
	FX_RUN(a, sum);
	assert_int_equal(mem_copy_in(b->mem, FX_CODE, fx_sum, (uint64_t)(fx_sum_end - fx_sum)), 0);
	while (interp_step(&b->v) == INTERP_OK && n++ < 10000)
		;
	assert_memory_equal(a->s->gpr, b->s->gpr, sizeof(a->s->gpr));
	assert_int_equal(a->s->rflags, b->s->rflags);
	assert_int_equal(a->v.insn_count, b->v.insn_count);
	fx_free(a);
	fx_free(b);
}

static bool has_row(const struct interp_row *r, unsigned id)
{
	for (; r->fn; r++)
		if (r->id == id)
			return true;
	return false;
}

/* What no processor that we show has, or what is #UD for everybody. */
static bool no_handler_needed(unsigned id)
{
	switch (id) {
	case X86_ID_INVALID:
	case X86_ID_RSM: return true;
	default: return false;
	}
}

static void test_every_id_has_a_handler(void **state)
{
	unsigned missing = 0;

	(void)state;
	for (unsigned id = 1; id < X86_ID_COUNT; id++) {
		if (no_handler_needed(id) || has_row(interp_int_rows, id) ||
		    has_row(interp_string_rows, id) || has_row(interp_sys_rows, id) ||
		    has_row(interp_vec_rows, id))
			continue;
		for (unsigned r = 0; r < x86_row_count(); r++)
			if (x86_row_at(r)->id == id) {
				print_message("no handler: %s\n", x86_row_at(r)->name);
				break;
			}
		missing++;
	}
	assert_int_equal(missing, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sum),
		cmocka_unit_test(test_sort),
		cmocka_unit_test(test_arith),
		cmocka_unit_test(test_divide),
		cmocka_unit_test(test_bits),
		cmocka_unit_test(test_atomics),
		cmocka_unit_test(test_stack),
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_rep_fault),
		cmocka_unit_test(test_data_faults),
		cmocka_unit_test(test_fetch_straddle),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_smc),
		cmocka_unit_test(test_dma_invalidates),
		cmocka_unit_test(test_single_step),
		cmocka_unit_test(test_sti_shadow),
		cmocka_unit_test(test_rep_interrupted),
		cmocka_unit_test(test_privilege),
		cmocka_unit_test(test_fpu_gates),
		cmocka_unit_test(test_real_mode),
		cmocka_unit_test(test_real_limit),
		cmocka_unit_test(test_step_equals_run),
		cmocka_unit_test(test_every_id_has_a_handler),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
