/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small programs under interp and under the translator: the whole state must come out the same, and what the
 * program is about must be what the manual says.
 */
#include "dbt_fixture.h"

/* ---- stack ---- */

BOX_PROGRAM(
	stack_forms,
	"mov rbx, rsp\n"
	"push rsp\n pop rax\n cmp rax, rbx\n jne 9f\n"
	"push 0x1234\n push -1\n push 0x7fffffff\n"
	"push rax\n push r9\n push r15\n push qword ptr [rsp+8]\n push qword ptr [rsp]\n"
	"pop r10\n pop r11\n pop qword ptr [rsp+16]\n pop r12\n"
	"mov r15, rsp\n mov rsp, r15\n"
	"pop rdi\n pop rsi\n pop rdx\n"
	"mov rbp, rsp\n sub rsp, 64\n push rbp\n mov rbp, rsp\n leave\n"
	"push rbx\n pop rsp\n" /* POP RSP takes the value popped */
	"mov [rsp-8], rsp\n lea rsp, [rsp-8]\n pop rcx\n cmp rcx, rbx\n jne 9f\n"
	".byte 0x66, 0x6a, 0x55\n add rsp, 2\n .byte 0x66, 0x6a, 7\n .byte 0x66, 0x58\n" /* 16-bit pushes and pop */
	"mov rsp, rbx\n mov eax, 1\n hlt\n int3\n"
	"9: ud2\n");
static void stack_forms(void **state)
{
	struct pair *p = pair_new();

	(void)state;
	for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
		pair_reset(p, cpl);
		PAIR_LOAD(p, stack_forms);
		assert_int_equal(pair_run(p), cpl ? X86_EX_GP : -1); /* HLT */
		assert_int_equal(box_state(p->dbt)->gpr[X86_RAX], 1);
	}
	pair_free(p);
}

/* ---- AH to BH with memory ---- */

BOX_PROGRAM(
	high8,
	"mov rdi, rsp\n sub rdi, 256\n mov rsi, rdi\n mov eax, 0x11223344\n mov ecx, 0x55667788\n"
	"mov [rdi], ah\n mov [rdi+1], ch\n add [rdi], ch\n add ah, [rdi+1]\n xchg [rdi+2], ah\n"
	"mov [rsi+rcx*1-0x55667788+3], ch\n mov [rsp-250], ch\n cmp ah, [rsp-250]\n setz bh\n mov [rdi+4], bh\n"
	"lock xadd [rdi+1], dh\n cmpxchg [rdi+2], ch\n movzx r8d, byte ptr [rdi]\n"
	"adc bh, [rdi+3]\n sbb [rdi+5], ah\n test [rdi], ah\n not byte ptr [rdi]\n mov dh, [rdi]\n"
	"mov ah, 7\n mov r9, rdi\n movzx ebx, ah\n movzx esp, ah\n"
	"lea rsp, [r9+256]\n int 0x80\n");
BOX_PROGRAM(high8_fault,
	    "mov eax, 0x1234\n mov rdi, 0x77\n mov rsi, 0x900000\n add [rsi+rdi], ah\n int3\n");
static void high8(void **state)
{
	struct pair *p = pair_new();

	(void)state;
	pair_reset(p, 3);
	PAIR_LOAD(p, high8);
	assert_int_equal(pair_run(p), 0x80);
	pair_reset(p, 3);
	PAIR_LOAD(p, high8_fault);
	assert_int_equal(pair_run(p), X86_EX_PF);
	assert_int_equal(box_state(p->dbt)->gpr[X86_RDI], 0x77); /* used as scratch meanwhile */
	assert_int_equal(box_state(p->dbt)->cr2, 0x900077);
	pair_free(p);
}

/* ---- accesses over a page boundary, and over the end of what is mapped ---- */

BOX_PROGRAM(
	crossing,
	/* rbx: address; every size, load, store, read-modify-write, locked */
	"mov rax, 0x1122334455667788\n"
	"mov [rbx+1], ax\n add [rbx], ax\n mov [rbx], eax\n add [rbx-1], eax\n mov [rbx-3], rax\n"
	"add [rbx-5], rax\n lock add [rbx-2], rax\n lock xadd [rbx-3], eax\n xchg [rbx-1], rax\n"
	"mov rdx, rax\n mov rax, [rbx-7]\n lock cmpxchg [rbx-7], rdx\n adc rdx, [rbx-6]\n"
	"movdqu xmm0, [rbx-9]\n paddb xmm0, xmm0\n movdqu [rbx-5], xmm0\n movq [rbx-1], xmm0\n"
	"vmovdqu ymm1, [rbx-20]\n vpaddd ymm1, ymm1, ymm1\n vmovdqu [rbx-11], ymm1\n"
	"fld tbyte ptr [rbx-5]\n fstp tbyte ptr [rbx-3]\n fild qword ptr [rbx-2]\n fistp qword ptr [rbx-6]\n"
	"bts dword ptr [rbx-2], 9\n push qword ptr [rbx-4]\n pop rcx\n movbe rsi, [rbx-1]\n"
	"movzx r9d, word ptr [rbx]\n movsxd r10, dword ptr [rbx-1]\n cmp qword ptr [rbx-2], -1\n"
	"mov rsp, rbx\n sub rsp, 4\n push rax\n push rcx\n pop r11\n pop r15\n call 1f\n1: pop r8\n"
	"mov rsp, rbx\n lea rsp, [rbx+5]\n push rsp\n int 0x80\n");
static void crossing(void **state)
{
	struct pair *p = pair_new();

	(void)state;
	for (int off = -34; off < 34; off++) {
		pair_reset(p, 3);
		PAIR_LOAD(p, crossing);
		PAIR_SET(p, gpr[X86_RBX], BOX_DATA_VA + 5 * 4096 + (uint64_t)(int64_t)off);
		assert_int_equal(pair_run(p), 0x80);
	}
	/* into the page behind the last: each access in turn is the one that faults */
	for (int off = -48; off < 9; off++) {
		pair_reset(p, 3);
		PAIR_LOAD(p, crossing);
		PAIR_SET(p, gpr[X86_RBX],
			 BOX_DATA_VA + BOX_PAGES_MAPPED * 4096 + (uint64_t)(int64_t)off);
		pair_run(p);
	}
	pair_free(p);
}

/* ---- bit strings ---- */

BOX_PROGRAM(
	bits,
	"bts [rbx], ecx\n setc al\n btr qword ptr [rbx], rdx\n setc ah\n btc [rbx], r9d\n bt qword ptr [rbx+8], r9\n"
	"setc dil\n lock bts qword ptr [rbx], rcx\n lock btc dword ptr [rbx], edx\n bts [rbx], cx\n"
	"bt [rbx+rsi*2], edx\n pushfq\n pop r8\n and r8d, 1\n int 0x80\n");
static void bit_strings(void **state)
{
	struct pair *p = pair_new();
	static const int64_t offs[] = { 0,	    1,		 31,	    32,	       63,
					64,	    -1,		 -32,	    -33,       -64,
					-65,	    1000,	 -1000,	    32768 * 3, -32768 * 3,
					0x7fffffff, -0x7fffffff, INT64_MIN, INT64_MAX };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(offs); i++)
		for (unsigned k = 0; k < ARRAY_SIZE(offs); k++) {
			pair_reset(p, 3);
			PAIR_LOAD(p, bits);
			PAIR_SET(p, gpr[X86_RBX], BOX_DATA_VA + 8 * 4096);
			PAIR_SET(p, gpr[X86_RCX], (uint64_t)offs[i]);
			PAIR_SET(p, gpr[X86_RDX], (uint64_t)offs[k]);
			PAIR_SET(p, gpr[X86_R9], (uint64_t)offs[(i + k) % ARRAY_SIZE(offs)]);
			p->rules.flags_ignored = X86_FL_ARITH & ~(X86_FL_CF | X86_FL_ZF);
			pair_run(p);
		}
	pair_free(p);
}

/* ---- interrupt flag ---- */

BOX_PROGRAM(
	flag_forms,
	"cli\n pushfq\n pop r13\n sti\n nop\n pushfq\n pop rbx\n cli\n"
	"push 0x202\n popfq\n pushfq\n pop rcx\n push 2\n popfq\n"
	"stc\n pushfq\n clc\n popfq\n setc dl\n push 0x200ad7\n popfq\n pushfq\n pop rsi\n" /* ID and all arithmetic flags */
	"push 0x40202\n popfq\n pushfq\n pop rdi\n push 2\n popfq\n" /* AC */
	"push 0x4002\n popfq\n pushfq\n pop r8\n push 2\n popfq\n"   /* NT */
	"push 0x3002\n popfq\n pushfq\n pop r9\n push 2\n popfq\n"   /* IOPL */
	"push 0x402\n popfq\n pushfq\n pop r10\n push 2\n popfq\n"   /* DF */
	"std\n pushfq\n cld\n pop r11\n lahf\n sahf\n cmc\n pushfw\n popfw\n"
	"push 0x10002\n popfq\n pushfq\n pop r12\n" /* RF never shows */
	"cli\n hlt\n");
BOX_PROGRAM(
	user_flags,
	"push 0x3e0cd5\n popfq\n pushfq\n pop rax\n push 2\n popfq\n pushfq\n pop rbx\n int 0x80\n");
static void flags(void **state)
{
	struct pair *p = pair_new();
	struct x86_state *s;

	(void)state;
	pair_reset(p, 0);
	PAIR_LOAD(p, flag_forms);
	assert_int_equal(pair_run(p), -1);
	s = box_state(p->dbt);
	assert_int_equal(s->gpr[X86_R13] & X86_FL_IF, 0);
	assert_int_equal(s->gpr[X86_RBX] & X86_FL_IF, X86_FL_IF);
	assert_int_equal(s->gpr[X86_RCX] & X86_FL_IF, X86_FL_IF);
	assert_int_equal(s->gpr[X86_RSI], 0x200ad7);
	assert_int_equal(s->gpr[X86_R9] & X86_FL_IOPL, X86_FL_IOPL);
	assert_int_equal(s->gpr[X86_R12] & X86_FL_RF, 0);
	pair_reset(p, 3);
	PAIR_LOAD(p, user_flags);
	assert_int_equal(pair_run(p), 0x80);
	assert_int_equal(box_state(p->dbt)->gpr[X86_RAX] & (X86_FL_IF | X86_FL_IOPL), 0);
	pair_free(p);
}

/* STI and MOV SS keep an interrupt off until the instruction after the next. */
BOX_PROGRAM(shadow_sti,
	    "xor eax, eax\n mov ebx, 1\n sti\n inc eax\n inc eax\n inc eax\n cli\n hlt\n");
BOX_PROGRAM(shadow_sti_cli, "xor eax, eax\n sti\n cli\n inc eax\n hlt\n");
BOX_PROGRAM(
	shadow_sti_ret,
	"lea rcx, [rip+1f]\n push rcx\n xor eax, eax\n sti\n ret\n1: inc eax\n inc eax\n cli\n hlt\n");
BOX_PROGRAM(shadow_sti_jmp,
	    "xor eax, eax\n sti\n jmp 1f\n.skip 5000, 0xcc\n1: inc eax\n inc eax\n cli\n hlt\n");
BOX_PROGRAM(
	shadow_ss,
	"xor eax, eax\n mov ecx, ss\n sti\n nop\n mov ss, ecx\n inc eax\n inc eax\n cli\n hlt\n");
BOX_PROGRAM(shadow_popf, "xor eax, eax\n push 0x202\n popfq\n inc eax\n inc eax\n cli\n hlt\n");
static void shadows(void **state)
{
	static const struct {
		const uint8_t *code;
		size_t n;
		int vector;
		unsigned rax;
	} cases[] = {
		{ box_shadow_sti, 20, 0x40, 1 },     { box_shadow_sti_cli, 20, -1, 1 },
		{ box_shadow_sti_ret, 40, 0x40, 0 }, { box_shadow_sti_jmp, 5040, 0x40, 0 },
		{ box_shadow_popf, 40, 0x40, 0 },
	};
	struct pair *p = pair_new();

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		pair_reset(p, 0);
		pair_load(p, cases[i].code, cases[i].n);
		pair_irq(p, 0x40);
		assert_int_equal(pair_run(p), cases[i].vector);
		assert_int_equal(box_state(p->dbt)->gpr[X86_RAX], cases[i].rax);
		pair_irq(p, -1);
	}
	pair_free(p);
}

/* ---- string instructions ---- */

BOX_PROGRAM(rep_movsb, "rep movsb\n int 0x80\n");
BOX_PROGRAM(rep_movsw, "rep movsw\n int 0x80\n");
BOX_PROGRAM(rep_movsd, "rep movsd\n int 0x80\n");
BOX_PROGRAM(rep_movsq, "rep movsq\n int 0x80\n");
BOX_PROGRAM(rep_stosb, "rep stosb\n int 0x80\n");
BOX_PROGRAM(rep_stosw, "rep stosw\n int 0x80\n");
BOX_PROGRAM(rep_stosd, "rep stosd\n int 0x80\n");
BOX_PROGRAM(rep_stosq, "rep stosq\n int 0x80\n");
BOX_PROGRAM(rep_lodsd, "rep lodsd\n int 0x80\n");
BOX_PROGRAM(rep_scasb, "repne scasb\n int 0x80\n");
BOX_PROGRAM(rep_cmpsw, "repe cmpsw\n int 0x80\n");
BOX_PROGRAM(down_movsb, "std\n rep movsb\n cld\n int 0x80\n");
BOX_PROGRAM(down_stosq, "std\n rep stosq\n cld\n int 0x80\n");
BOX_PROGRAM(rep_movs32, "addr32 rep movsb\n int 0x80\n");
BOX_PROGRAM(rep_stos_fs, ".byte 0xf3, 0x64, 0xa4\n int 0x80\n");
BOX_PROGRAM(
	single,
	"movsb\n movsw\n movsd\n movsq\n stosb\n stosw\n stosd\n stosq\n lodsb\n lodsw\n lodsd\n lodsq\n"
	"scasb\n scasq\n cmpsb\n cmpsd\n int 0x80\n");
#define STRING(n)                                                                                  \
	{                                                                                          \
		box_##n, box_##n##_end                                                             \
	}
static void strings(void **state)
{
	static const struct {
		const uint8_t *code, *end;
	} forms[] = { STRING(rep_movsb),  STRING(rep_movsw),  STRING(rep_movsd),
		      STRING(rep_movsq),  STRING(rep_stosb),  STRING(rep_stosw),
		      STRING(rep_stosd),  STRING(rep_stosq),  STRING(rep_lodsd),
		      STRING(rep_scasb),  STRING(rep_cmpsw),  STRING(down_movsb),
		      STRING(down_stosq), STRING(rep_movs32), STRING(rep_stos_fs),
		      STRING(single) };
	static const int from[] = { 0, 100, 4090, 4095, 4096, 8191, 61440, 65530 };
	static const int distance[] = { 0, 1, -1, 7, -7, 64, 4096, -4096, 5001, 40000 };
	static const unsigned count[] = { 0, 1, 2, 9, 4096, 5000 };
	struct pair *p = pair_new();

	(void)state;
	for (unsigned i = 0;
	     i < ARRAY_SIZE(forms) * ARRAY_SIZE(from) * ARRAY_SIZE(distance) * ARRAY_SIZE(count);
	     i++) {
		unsigned f = i % ARRAY_SIZE(forms), k = i / ARRAY_SIZE(forms);
		uint64_t a = BOX_DATA_VA + (uint64_t)from[k % ARRAY_SIZE(from)];

		if ((i * 2654435761u) >> 29) /* an eighth of them */
			continue;
		k /= ARRAY_SIZE(from);
		pair_reset(p, 3);
		pair_load(p, forms[f].code, (size_t)(forms[f].end - forms[f].code));
		PAIR_SET(p, gpr[X86_RSI], a);
		PAIR_SET(p, gpr[X86_RDI],
			 a + (uint64_t)(int64_t)distance[k % ARRAY_SIZE(distance)]);
		PAIR_SET(p, gpr[X86_RCX], count[k / ARRAY_SIZE(distance)]);
		PAIR_SET(p, gpr[X86_RAX], 0x0123456789abcd00 + i);
		pair_run(p);
	}
	pair_free(p);
}

/* ---- counting jumps, near jumps ---- */

BOX_PROGRAM(
	jumps,
	"mov ecx, 5\n xor eax, eax\n1: inc eax\n loop 1b\n"
	"mov ecx, 3\n2: inc eax\n cmp eax, 7\n loopne 2b\n mov ecx, 4\n3: inc eax\n test eax, 0x80000000\n loope 3b\n"
	"jrcxz 4f\n ud2\n4: mov rcx, 0x100000000\n jrcxz 5f\n addr32 jrcxz 6f\n5: ud2\n"
	"6: mov ecx, 2\n addr32 loop 7f\n ud2\n7: stc\n jc 8f\n ud2\n8: jnc 9f\n lea rdx, [rip+10f]\n jmp rdx\n9: ud2\n"
	"10: mov [rsp-8], rdx\n lea rdx, [rip+11f]\n mov [rsp-8], rdx\n jmp qword ptr [rsp-8]\n ud2\n"
	"11: lea r11, [rip+12f]\n call r11\n jmp 13f\n12: inc eax\n ret\n13: push 9\n call 14f\n jmp 15f\n14: ret 8\n"
	"15: mov r15, rsp\n int 0x80\n");
static void jumps(void **state)
{
	struct pair *p = pair_new();

	(void)state;
	pair_reset(p, 3);
	PAIR_LOAD(p, jumps);
	assert_int_equal(pair_run(p), 0x80);
	assert_int_equal(box_state(p->dbt)->gpr[X86_R15], BOX_DATA_VA + 65536);
	pair_free(p);
}

/* ---- where faults come from ---- */

BOX_PROGRAM(
	fault_positions,
	"mov rax, 1\n mov rbx, [rsi]\n add rax, 2\n mov [rdi], rax\n add rax, 4\n add [r9], rax\n push rax\n pop r15\n"
	"lea r10, [rax+rax]\n movups xmm0, [r11]\n imul r12, r10\n xchg [r13], r12\n div r14\n addps xmm0, [rbp]\n int 0x80\n");
static void faults_everywhere(void **state)
{
	static const unsigned regs[] = { X86_RSI, X86_RDI, X86_R9,  X86_R11,
					 X86_R13, X86_RSP, X86_RBP, X86_R14 };
	static const uint64_t bad[] = { 0,
					0x900000,
					0x0000800000000000,
					0xffff800000000000,
					0x8000000000000000,
					BOX_KERNEL,
					0x0000900000500000,
					0xffffffffffffffff };
	struct pair *p = pair_new();

	(void)state;
	for (unsigned i = 0; i <= ARRAY_SIZE(regs) * ARRAY_SIZE(bad); i++)
		for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
			pair_reset(p, cpl);
			PAIR_LOAD(p, fault_positions);
			for (unsigned r = 0; r < ARRAY_SIZE(regs); r++)
				PAIR_SET(p, gpr[regs[r]], BOX_DATA_VA + 256 * r + 256);
			PAIR_SET(p, gpr[X86_R14], 3);
			if (i < ARRAY_SIZE(regs) * ARRAY_SIZE(bad))
				PAIR_SET(p, gpr[regs[i % ARRAY_SIZE(regs)]],
					 bad[i / ARRAY_SIZE(regs)]);
			p->rules.flags_ignored = X86_FL_ARITH;
			pair_run(p);
		}
	pair_free(p);
}

/* Arithmetic faults are the guest's. */
BOX_PROGRAM(divide, "mov eax, 7\n xor edx, edx\n xor ecx, ecx\n div ecx\n int3\n");
BOX_PROGRAM(divide_big, "mov rdx, 5\n mov ecx, 5\n idiv rcx\n int3\n");
BOX_PROGRAM(
	simd_xm,
	"push 0x1f80-0x200\n ldmxcsr [rsp]\n mov eax, 1\n cvtsi2ss xmm0, eax\n xorps xmm1, xmm1\n"
	"divss xmm0, xmm1\n int3\n");
BOX_PROGRAM(x87_mf, "push 0x37b\n fldcw [rsp]\n fldz\n fld1\n fdiv st, st(1)\n fld1\n int3\n");
BOX_PROGRAM(misaligned, "mov rbx, rsp\n movaps xmm0, [rbx-24]\n int3\n");
BOX_PROGRAM(undefined, "nop\n .byte 0x0f, 0x0b\n");
static void arithmetic_faults(void **state)
{
	struct pair *p = pair_new();
	const struct {
		const uint8_t *code;
		int vector;
	} cases[] = { { box_divide, X86_EX_DE },     { box_divide_big, X86_EX_DE },
		      { box_simd_xm, X86_EX_XM },    { box_x87_mf, X86_EX_MF },
		      { box_misaligned, X86_EX_GP }, { box_undefined, X86_EX_UD } };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		pair_reset(p, 3);
		pair_load(p, cases[i].code, 48);
		p->rules.flags_ignored = X86_FL_ARITH;
		assert_int_equal(pair_run(p), cases[i].vector);
	}
	pair_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stack_forms),
		cmocka_unit_test(high8),
		cmocka_unit_test(crossing),
		cmocka_unit_test(bit_strings),
		cmocka_unit_test(flags),
		cmocka_unit_test(shadows),
		cmocka_unit_test(strings),
		cmocka_unit_test(jumps),
		cmocka_unit_test(faults_everywhere),
		cmocka_unit_test(arithmetic_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
