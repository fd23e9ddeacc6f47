/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paging as translated code sees it: rights, accessed and dirty bits, invalidation, address spaces. What the
 * architecture leaves open (whether a stale entry is still used) the programs do not depend on.
 */
#include "dbt_fixture.h"

#define VA 0x600000ul /* one page, mapped as each case wants */
#define VA_HIGH 0xffffffff80200000ul

static void map_both(struct pair *p, uint64_t va, gpa_t pa, uint64_t flags)
{
	PAIR_DO(p, box_map, va, pa, flags);
}

/* ---- rights ---- */

BOX_PROGRAM(
	rights, /* rbx: address; r12: bit 0 write, bit 1 call */
	"test r12d, 2\n jnz 2f\n test r12d, 1\n jnz 1f\n mov rax, [rbx]\n mov rcx, [rbx+8]\n int 0x80\n"
	"1: mov [rbx], rax\n inc qword ptr [rbx+16]\n int 0x80\n"
	"2: call rbx\n int 0x80\n");
static void one_right(struct pair *p, unsigned n)
{
	static const uint64_t pte[] = { 0,
					BOX_P,
					BOX_P | BOX_W,
					BOX_P | BOX_U,
					BOX_P | BOX_W | BOX_U,
					BOX_P | BOX_W | BOX_U | BOX_NX,
					BOX_P | BOX_W | BOX_NX,
					BOX_P | BOX_U | BOX_NX };
	static const uint64_t cr4[] = { 0, X86_CR4_SMAP, X86_CR4_SMEP,
					X86_CR4_SMAP | X86_CR4_SMEP };
	unsigned cpl = n & 1 ? 3 : 0, what = (n >> 1) % 3;
	uint64_t c4 = cr4[(n / 6) % 4];
	bool wp = (n / 24) & 1, ac = (n / 48) & 1;
	uint64_t va = (n / 96) & 1 ? VA_HIGH : VA, flags = pte[(n / 192) % ARRAY_SIZE(pte)];

	if ((c4 & X86_CR4_SMAP && cpl == 0) || (c4 & X86_CR4_SMEP && cpl == 0)) {
		/* the program itself must then lie on supervisor pages */
		for (unsigned i = 0; i < BOX_PAGES_MAPPED; i++)
			map_both(p, BOX_CODE_VA + i * 4096, BOX_CODE + i * 4096, BOX_P | BOX_W);
	} else {
		for (unsigned i = 0; i < BOX_PAGES_MAPPED; i++)
			map_both(p, BOX_CODE_VA + i * 4096, BOX_CODE + i * 4096,
				 BOX_P | BOX_W | BOX_U);
	}
	map_both(p, va, BOX_PAGES, flags);
	PAIR_DO(p, box_put64, BOX_PAGES, 0xc3c3c3c3c3c3c3c3);
	pair_reset(p, cpl);
	PAIR_LOAD(p, rights);
	PAIR_SET(p, gpr[X86_RBX], va);
	PAIR_SET(p, gpr[X86_R12], what);
	PAIR_SET(p, cr4, box_state(p->dbt)->cr4 | c4);
	if (!wp)
		PAIR_SET(p, cr0, box_state(p->dbt)->cr0 & ~X86_CR0_WP);
	if (ac)
		PAIR_SET(p, rflags, box_state(p->dbt)->rflags | X86_FL_AC);
	if (c4 & X86_CR4_SMAP && cpl == 0) {
		/* and its stack */
		PAIR_SET(p, gpr[X86_RSP], BOX_KERNEL + BOX_STACK);
	}
	pair_run(p);
}
static void rights(void **state)
{
	struct pair *p = pair_new();

	(void)state;
	for (unsigned n = 0; n < 192 * 8; n++)
		one_right(p, n);
	pair_free(p);
}

/*
 * With SMAP's window open the kernel uses what user mode may use; with CR0.WP clear it may also write read-only
 * pages there. User mode must not gain by that.
 */
BOX_PROGRAM(
	open_window,
	"mov rax, cr0\n and eax, ~0x10000\n mov cr0, rax\n stac\n mov [rbx], rax\n clac\n" /* kernel writes */
	"or eax, 0x10000\n mov cr0, rax\n"
	"mov rsp, 0xffffffff80009000\n push 0x2b\n lea rcx, [rip+0]\n push 0x50f000\n push 2\n push 0x33\n"
	"push 0x401000\n iretq\n");
BOX_PROGRAM(
	open_window_nowp, /* the same without going back to WP first */
	"mov rax, cr0\n and eax, ~0x10000\n mov cr0, rax\n stac\n mov [rbx], rax\n clac\n"
	"mov rsp, 0xffffffff80009000\n push 0x2b\n push 0x50f000\n push 2\n push 0x33\n push 0x401000\n iretq\n");
BOX_PROGRAM(user_write, "mov rax, [rbx]\n mov [rbx], rbx\n int 0x80\n");
static void window(void **state)
{
	struct pair *p = pair_new();

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		map_both(p, VA, BOX_PAGES, BOX_P | BOX_U | BOX_NX);
		map_both(p, BOX_CODE_VA, BOX_CODE, BOX_P | BOX_W);
		pair_reset(p, 0);
		if (i)
			PAIR_LOAD(p, open_window_nowp);
		else
			PAIR_LOAD(p, open_window);
		PAIR_DO(p, box_code, BOX_CODE + 4096, box_user_write, BOX_SIZE(user_write));
		PAIR_SET(p, cr4, box_state(p->dbt)->cr4 | X86_CR4_SMAP | X86_CR4_SMEP);
		PAIR_SET(p, gpr[X86_RBX], VA);
		assert_int_equal(pair_run(p), X86_EX_PF);
		assert_int_equal(box_frame(p->dbt, 0), X86_PF_P | X86_PF_W | X86_PF_U);
	}
	pair_free(p);
}

/* ---- accessed and dirty ---- */

BOX_PROGRAM(read_it, "mov rax, [rbx]\n mov rcx, [rbx+8]\n int 0x80\n");
BOX_PROGRAM(read_write, "mov rax, [rbx]\n mov [rbx], rax\n mov rax, [rbx+4096]\n int 0x80\n");
static void accessed_dirty(void **state)
{
	struct pair *p = pair_new();
	uint64_t e;

	(void)state;
	for (unsigned i = 0; i < 16; i++)
		map_both(p, VA + i * 4096, BOX_PAGES + i * 4096, BOX_P | BOX_U | BOX_W);
	pair_reset(p, 3);
	PAIR_LOAD(p, read_it);
	PAIR_SET(p, gpr[X86_RBX], VA + 4096);
	pair_run(p);
	e = box_get64(p->dbt, box_entry(p->dbt, BOX_PML4, VA + 4096));
	assert_int_equal(e & (BOX_A | BOX_D), BOX_A);
	assert_int_equal(box_get64(p->dbt, box_entry(p->dbt, BOX_PML4, VA)) & (BOX_A | BOX_D), 0);
	PAIR_LOAD(p, read_write);
	pair_reset(p, 3);
	PAIR_SET(p, gpr[X86_RBX], VA + 4096);
	pair_run(p);
	assert_int_equal(box_get64(p->dbt, box_entry(p->dbt, BOX_PML4, VA + 4096)) & BOX_D, BOX_D);
	assert_int_equal(
		box_get64(p->dbt, box_entry(p->dbt, BOX_PML4, VA + 8192)) & (BOX_A | BOX_D), BOX_A);
	/* The guest clears them and invalidates: they come again. */
	PAIR_DO(p, box_put64, box_entry(p->dbt, BOX_PML4, VA + 4096),
		(BOX_PAGES + 4096) | BOX_P | BOX_U | BOX_W);
	pair_reset(p, 3);
	PAIR_SET(p, gpr[X86_RBX], VA + 4096);
	pair_run(p);
	assert_int_equal(box_get64(p->dbt, box_entry(p->dbt, BOX_PML4, VA + 4096)) & BOX_D, BOX_D);
	pair_free(p);
}

/* ---- invalidation ---- */

/*
 * rbx: address, r12: where its page-table entry can be written, r13: new entry, r14: which way to invalidate.
 * Reads and writes before, changes the entry, invalidates, and does the same again.
 */
BOX_PROGRAM(
	invalidate,
	"mov rax, [rbx]\n add qword ptr [rbx], 1\n call rbp\n mov [r12], r13\n"
	"cmp r14d, 1\n jb 1f\n je 2f\n cmp r14d, 3\n jb 3f\n je 4f\n jmp 5f\n"
	"1: invlpg [rbx]\n jmp 9f\n"
	"2: mov rcx, cr3\n mov cr3, rcx\n jmp 9f\n"
	"3: mov rcx, cr4\n xor ecx, 0x80\n mov cr4, rcx\n xor ecx, 0x80\n mov cr4, rcx\n jmp 9f\n"
	"4: push rbx\n push 0\n mov ecx, 0\n invpcid rcx, [rsp]\n add rsp, 16\n jmp 9f\n"
	"5: push 0\n push 0\n mov ecx, 2\n invpcid rcx, [rsp]\n add rsp, 16\n"
	"9: mov rcx, [rbx]\n add qword ptr [rbx], 1\n call rbp\n mov rsi, [rbx]\n int 0x80\n");
/* A little function on the page itself, 64 bytes on: its result tells the page. */
static void page_code(struct pair *p, gpa_t page, unsigned n)
{
	uint8_t f[] = { 0x48, 0x81, 0xc7, 0, 0, 0, 0, 0xc3 }; /* add rdi, n; ret */

	f[3] = (uint8_t)n;
	PAIR_DO(p, box_code, page + 64, f, sizeof(f));
}
static void one_invalidation(struct pair *p, uint64_t va, uint64_t first, uint64_t second,
			     unsigned way)
{
	uint64_t at;

	map_both(p, va, BOX_PAGES, first);
	page_code(p, BOX_PAGES, 1);
	page_code(p, BOX_PAGES + 4096, 16);
	at = box_entry(p->dbt, BOX_PML4, va);
	map_both(p, VA + 0x1000, at & ~4095ul, BOX_P | BOX_W); /* the table itself */
	pair_reset(p, 0);
	PAIR_LOAD(p, invalidate);
	PAIR_SET(p, gpr[X86_RBX], va);
	PAIR_SET(p, gpr[X86_RBP], va + 64);
	PAIR_SET(p, gpr[X86_R12], VA + 0x1000 + (at & 4095));
	PAIR_SET(p, gpr[X86_R13], second);
	PAIR_SET(p, gpr[X86_R14], way);
	pair_run(p);
}
static void invalidation(void **state)
{
	static const uint64_t second[] = { (BOX_PAGES + 4096) | BOX_P | BOX_W, 0, BOX_PAGES | BOX_P,
					   (BOX_PAGES + 4096) | BOX_P | BOX_W | BOX_G,
					   BOX_PAGES | BOX_P | BOX_W | BOX_NX };
	struct pair *p = pair_new();

	(void)state;
	for (unsigned way = 0; way < 5; way++)
		for (unsigned i = 0; i < ARRAY_SIZE(second); i++) {
			one_invalidation(p, VA, BOX_P | BOX_W, second[i], way);
			one_invalidation(p, VA_HIGH, BOX_P | BOX_W, second[i], way);
			if (way != 1) /* a CR3 load may leave global entries */
				one_invalidation(p, VA_HIGH, BOX_P | BOX_W | BOX_G, second[i], way);
		}
	pair_free(p);
}

/* A large page, split by hand: the fragments of the old one must go with one INVLPG. */
BOX_PROGRAM(
	split,
	"mov rax, [rbx]\n mov rcx, [rbx+0x1ff000]\n mov rdx, [rbx+0x5000]\n mov [r12], r13\n invlpg [rbx+0x3000]\n"
	"mov rax, [rbx]\n mov rcx, [rbx+0x1ff000]\n mov rdx, [rbx+0x5000]\n mov [rbx+8], rdx\n int 0x80\n");
static void large_pages(void **state)
{
	struct pair *p = pair_new();

	(void)state;
	for (unsigned high = 0; high < 2; high++) {
		uint64_t va = high ? 0xffffffff80400000ul : 0x40000000ul;
		gpa_t at;

		PAIR_DO(p, box_map_large, va, 0x400000, BOX_P | BOX_W);
		for (unsigned i = 0; i < 512; i++)
			PAIR_DO(p, box_put64, 0x400000 + i * 4096, i);
		/* a table that maps the same range to other frames, backwards */
		map_both(p, 0x80000000ul, 0, BOX_P);
		at = box_entry(p->dbt, BOX_PML4, 0x80000000ul) & ~4095ul;
		for (unsigned i = 0; i < 512; i++)
			PAIR_DO(p, box_put64, at + i * 8,
				(0x400000 + (511 - i) * 4096ul) | BOX_P | BOX_W);
		{
			gpa_t pml4e =
				box_get64(p->dbt, BOX_PML4 + ((va >> 39) & 511) * 8) & ~4095ul;
			gpa_t pdpt = box_get64(p->dbt, pml4e + ((va >> 30) & 511) * 8) &
				     0xffffffffff000ul;
			gpa_t pde = pdpt + ((va >> 21) & 511) * 8;

			map_both(p, VA + 0x1000, pde & ~4095ul, BOX_P | BOX_W);
			pair_reset(p, 0);
			PAIR_SET(p, gpr[X86_R12], VA + 0x1000 + (pde & 4095));
		}
		PAIR_LOAD(p, split);
		PAIR_SET(p, gpr[X86_RBX], va);
		PAIR_SET(p, gpr[X86_R13], at | BOX_P | BOX_W);
		assert_int_equal(pair_run(p), 0x80);
		assert_int_equal(box_state(p->dbt)->gpr[X86_RAX], 511);
		assert_int_equal(box_state(p->dbt)->gpr[X86_RDX], 506);
	}
	pair_free(p);
}

/* ---- process-context identifiers ---- */

/*
 * r12, r13: two spaces. Same PCID for both: the load of the second flushes what the first has left, although the first
 * comes back without a flush.
 */
BOX_PROGRAM(
	same_pcid,
	"stac\n mov rcx, 0x8000000000000000\n mov rax, r12\n mov cr3, rax\n mov rsi, [rbx]\n" /* space A, flushing */
	"mov rax, [r14]\n mov [r15], r8\n"		 /* A's entry changes */
	"mov rax, r13\n mov cr3, rax\n mov rdi, [rbx]\n" /* space B, flushing PCID 1 */
	"mov rax, r12\n or rax, rcx\n mov cr3, rax\n mov rdx, [rbx]\n int 0x80\n");
/* Two PCIDs, each kept; then one is dropped by INVPCID. */
BOX_PROGRAM(
	two_pcids,
	"stac\n mov rcx, 0x8000000000000000\n mov cr3, r12\n mov rsi, [rbx]\n mov cr3, r13\n mov rdi, [rbx]\n"
	"mov rax, r12\n or rax, rcx\n mov cr3, rax\n mov rdx, [rbx]\n mov rax, r13\n or rax, rcx\n mov cr3, rax\n"
	"mov rbp, [rbx]\n mov [r15], r8\n" /* A's entry changes while B runs */
	"push 0\n push 1\n mov eax, 1\n invpcid rax, [rsp]\n"
	"mov rax, r12\n or rax, rcx\n mov cr3, rax\n mov r9, [rbx]\n int 0x80\n");
static void pcid_case(struct pair *p, const uint8_t *code, unsigned a, unsigned b, uint64_t smap)
{
	gpa_t sa = box_new_space(p->interp), sb = box_new_space(p->interp), at;

	assert_int_equal(box_new_space(p->dbt), sa);
	assert_int_equal(box_new_space(p->dbt), sb);
	PAIR_DO(p, box_map_in, sa, VA, BOX_PAGES, BOX_P | BOX_W | BOX_U);
	PAIR_DO(p, box_map_in, sb, VA, BOX_PAGES + 4096, BOX_P | BOX_W | BOX_U);
	at = box_entry(p->dbt, sa, VA);
	PAIR_DO(p, box_map, 0xffffffff80300000ul, at & ~4095ul, BOX_P | BOX_W | BOX_G);
	for (unsigned i = 0; i < 3; i++)
		PAIR_DO(p, box_put64, BOX_PAGES + i * 4096, 0x100 + i);
	pair_reset(p, 0);
	PAIR_DO(p, box_code, BOX_CODE, code, 200);
	PAIR_SET(p, rip, BOX_KERNEL + BOX_CODE);
	PAIR_SET(p, gpr[X86_RSP], BOX_KERNEL + BOX_STACK);
	PAIR_SET(p, cr4, box_state(p->dbt)->cr4 | X86_CR4_PCIDE | smap);
	PAIR_SET(p, gpr[X86_RBX], VA);
	PAIR_SET(p, gpr[X86_R12], sa | a);
	PAIR_SET(p, gpr[X86_R13], sb | b);
	PAIR_SET(p, gpr[X86_R15], 0xffffffff80300000ul + (at & 4095));
	PAIR_SET(p, gpr[X86_R14], 0xffffffff80300000ul + (at & 4095));
	PAIR_SET(p, gpr[X86_R8], (BOX_PAGES + 2 * 4096) | BOX_P | BOX_W | BOX_U);
}
static void pcids(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 2; n++) {
		struct pair *p = pair_new();

		pcid_case(p, box_two_pcids, 1, 2, n ? X86_CR4_SMAP : 0);
		assert_int_equal(pair_run(p), 0x80);
		assert_int_equal(box_state(p->dbt)->gpr[X86_RDX], 0x100);
		assert_int_equal(box_state(p->dbt)->gpr[X86_RBP], 0x101);
		assert_int_equal(box_state(p->dbt)->gpr[X86_R9], 0x102);
		/* Here hardware may go on with what the second space has left under the number they share. */
		pcid_case(p, box_same_pcid, 1, 1, n ? X86_CR4_SMAP : 0);
		assert_int_equal(dbt_box_run(p->dbt), 0x80);
		assert_int_equal(box_state(p->dbt)->gpr[X86_RDI], 0x101);
		assert_int_not_equal(box_state(p->dbt)->gpr[X86_RDX], 0x100);
		pair_free(p);
	}
}

/* More address spaces than the translator keeps, visited in turn with and without flushing. */
BOX_PROGRAM(
	many_spaces, /* rsi: table of CR3 values, rcx: visits */
	"1: mov rax, rcx\n and eax, 31\n mov rax, [rsi+rax*8]\n mov cr3, rax\n add rdx, [rbx]\n inc qword ptr [rbx]\n"
	"call rbp\n dec rcx\n jnz 1b\n int 0x80\n");
static void many_spaces(void **state)
{
	struct pair *p = pair_new();

	(void)state;
	for (unsigned i = 0; i < 32; i++) {
		gpa_t s = box_new_space(p->interp);
		uint8_t f[] = { 0x48, 0x81, 0xc7, 0, 0, 0, 0, 0xc3 };

		assert_int_equal(box_new_space(p->dbt), s);
		PAIR_DO(p, box_map_in, s, VA, BOX_PAGES + i * 4096, BOX_P | BOX_W);
		PAIR_DO(p, box_put64, BOX_PAGES + i * 4096, i * i);
		f[3] = (uint8_t)i;
		PAIR_DO(p, box_code, BOX_PAGES + i * 4096 + 64, f, sizeof(f));
		PAIR_DO(p, box_put64, BOX_DATA + i * 8, s | i | (i & 1 ? BIT(63) : 0));
	}
	pair_reset(p, 0);
	PAIR_LOAD(p, many_spaces);
	PAIR_SET(p, rip, BOX_KERNEL + BOX_CODE);
	PAIR_SET(p, gpr[X86_RSP], BOX_KERNEL + BOX_STACK);
	PAIR_SET(p, cr4, box_state(p->dbt)->cr4 | X86_CR4_PCIDE);
	PAIR_SET(p, gpr[X86_RSI], BOX_KERNEL + BOX_DATA);
	PAIR_SET(p, gpr[X86_RBX], VA);
	PAIR_SET(p, gpr[X86_RBP], VA + 64);
	PAIR_SET(p, gpr[X86_RCX], 400);
	assert_int_equal(pair_run(p), 0x80);
	pair_free(p);
}

/* ---- what blocks assumed about CR0 and CR4 ---- */

/* A function that sets CR0.TS returns into a block translated without it: the next FPU instruction must fault. */
BOX_PROGRAM(
	task_switched,
	"clts\n movd xmm0, eax\n call 1f\n paddd xmm0, xmm0\n call 1f\n paddd xmm0, xmm0\n call 2f\n paddd xmm0, xmm0\n"
	"int3\n1: ret\n2: mov rax, cr0\n or eax, 8\n mov cr0, rax\n ret\n");
BOX_PROGRAM(
	task_switched_jump, /* the same through an indirect jump that the cache knows */
	"clts\n lea rbx, [rip+1f]\n mov ecx, 3\n jmp rbx\n 1: paddd xmm0, xmm0\n dec ecx\n jz 2f\n jmp rbx\n"
	"2: mov rax, cr0\n or eax, 8\n mov cr0, rax\n jmp rbx\n");
BOX_PROGRAM(
	xcr0_avx,
	"lea rbx, [rip+1f]\n mov edi, 3\n jmp rbx\n 1: vpaddd ymm0, ymm0, ymm0\n dec edi\n jz 2f\n jmp rbx\n"
	"2: xor ecx, ecx\n xor edx, edx\n mov eax, 3\n xsetbv\n jmp rbx\n");
static void assumptions(void **state)
{
	struct pair *p = pair_new();

	(void)state;
	pair_reset(p, 0);
	PAIR_LOAD(p, task_switched);
	assert_int_equal(pair_run(p), X86_EX_NM);
	pair_reset(p, 0);
	PAIR_LOAD(p, task_switched_jump);
	assert_int_equal(pair_run(p), X86_EX_NM);
	pair_reset(p, 0);
	PAIR_LOAD(p, xcr0_avx);
	assert_int_equal(pair_run(p), X86_EX_UD);
	pair_free(p);
}

/* CR4.TSD set by the kernel between two stays in user mode. */
BOX_PROGRAM(
	tsd_user,
	"lea rbx, [rip+1f]\n mov ecx, 3\n jmp rbx\n 1: rdtsc\n xor eax, eax\n xor edx, edx\n dec ecx\n jz 2f\n jmp rbx\n"
	"2: inc edi\n cmp edi, 3\n ja 3f\n int 0x81\n mov ecx, 2\n jmp rbx\n3: int3\n");
BOX_PROGRAM(tsd_kernel, "mov rsi, cr4\n or esi, 4\n mov cr4, rsi\n iretq\n");
static void time_stamp_disable(void **state)
{
	struct pair *p = pair_new();

	(void)state;
	PAIR_DO(p, box_gate, 0x81, BOX_KERNEL + BOX_CODE + 8192, 3);
	pair_reset(p, 3);
	PAIR_LOAD(p, tsd_user);
	PAIR_DO(p, box_code, BOX_CODE + 8192, box_tsd_kernel, BOX_SIZE(tsd_kernel));
	assert_int_equal(pair_run(p), X86_EX_GP);
	pair_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rights),
		cmocka_unit_test(window),
		cmocka_unit_test(accessed_dirty),
		cmocka_unit_test(invalidation),
		cmocka_unit_test(large_pages),
		cmocka_unit_test(pcids),
		cmocka_unit_test(many_spaces),
		cmocka_unit_test(assumptions),
		cmocka_unit_test(time_stamp_disable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
