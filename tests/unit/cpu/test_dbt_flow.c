/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paired calls and returns, chaining, self-modifying code and the code cache under stress. Most programs put their result
 * into registers and are compared with interp; where interp would take too long the result is known.
 */
#include "dbt_fixture.h"

/* ---- return stack ---- */

BOX_PROGRAM(recurse, /* rcx: depth */
	    "xor eax, eax\n call 1f\n int 0x80\n"
	    "1: add rax, rcx\n dec rcx\n jz 2f\n call 1b\n add rax, 1\n2: ret\n");
BOX_PROGRAM(recurse_indirect,
	    "xor eax, eax\n lea rbx, [rip+1f]\n call rbx\n int 0x80\n"
	    "1: push rcx\n dec rcx\n jz 2f\n call rbx\n2: pop rdx\n add rax, rdx\n ret\n");
static void deep_recursion(void **state)
{
	struct pair *p = pair_new();
	static const unsigned depth[] = { 1, 2, 1000, 8000, 8191, 8192, 8193, 30000, 100000 };

	(void)state;
	for (unsigned i = 0; i < 1024; i++) /* a stack of 4 MiB */
		PAIR_DO(p, box_map, 0x10000000 + i * 4096ul, BOX_PAGES + i * 4096ul,
			BOX_P | BOX_W | BOX_U);
	for (unsigned i = 0; i < ARRAY_SIZE(depth) * 4; i++) {
		uint64_t n = depth[i / 4];

		pair_reset(p, i & 1 ? 3 : 0);
		if (i & 2)
			PAIR_LOAD(p, recurse);
		else
			PAIR_LOAD(p, recurse_indirect);
		PAIR_SET(p, gpr[X86_RSP], 0x10400000);
		PAIR_SET(p, gpr[X86_RCX], n);
		assert_int_equal(pair_run(p), 0x80);
		assert_int_equal(box_state(p->dbt)->gpr[X86_RAX],
				 n * (n + 1) / 2 + (i & 2 ? n - 1 : 0));
	}
	pair_free(p);
}

/* Returns that nobody called, calls that never return, and two stacks switched between call and return. */
BOX_PROGRAM(unpaired,
	    "mov ecx, 20000\n xor eax, eax\n lea rbx, [rip+2f]\n"
	    "1: push rbx\n ret\n ud2\n2: inc eax\n dec ecx\n jnz 1b\n"		   /* underflow */
	    "mov ecx, 20000\n3: call 4f\n ud2\n4: add rsp, 8\n dec ecx\n jnz 3b\n" /* overflow */
	    "mov ecx, 5000\n5: call 6f\n add eax, 3\n dec ecx\n jnz 5b\n int 0x80\n"
	    "6: call 7f\n ud2\n7: add rsp, 8\n ret\n"); /* longjmp */
BOX_PROGRAM(
	coroutines, /* rsi, rdi: tops of two stacks */
	"mov r15d, 3000\n xor eax, eax\n lea rbx, [rip+2f]\n mov [rdi-8], rbx\n sub rdi, 8\n mov r9, rdi\n mov rsp, rsi\n"
	"1: call 8f\n add rax, 1\n call 9f\n dec r15\n jnz 1b\n int 0x80\n"
	"2: call 8f\n add rax, 100\n call 7f\n call 8f\n add rax, 7\n jmp 2b\n"
	"7: call 8f\n ret\n9: ret\n"
	"8: xchg rsp, r9\n ret\n");
static void unpaired(void **state)
{
	struct pair *p = pair_new();

	(void)state;
	pair_reset(p, 3);
	PAIR_LOAD(p, unpaired);
	assert_int_equal(pair_run(p), 0x80);
	pair_reset(p, 3);
	PAIR_LOAD(p, coroutines);
	PAIR_SET(p, gpr[X86_RSI], BOX_DATA_VA + 4096);
	PAIR_SET(p, gpr[X86_RDI], BOX_DATA_VA + 3 * 4096);
	assert_int_equal(pair_run(p), 0x80);
	pair_free(p);
}

/*
 * Two address spaces with different code at the same addresses, switched by the kernel between the call and the
 * return of user code: the return must run the other space's code. The kernel's gate switches CR3 and goes back.
 */
BOX_PROGRAM(
	space_a,
	"mov ecx, 1000\n1: call 2f\n add rax, 1\n dec ecx\n jnz 1b\n int 0x80\n .balign 64\n2: int 0x81\n ret\n");
BOX_PROGRAM(
	space_b,
	"mov ecx, 1000\n1: call 2f\n add rax, 5\n dec ecx\n jnz 1b\n int 0x80\n .balign 64\n2: int 0x81\n ret\n");
BOX_PROGRAM(switch_gate, "mov rdx, cr3\n xor rdx, r12\n or rdx, r13\n mov cr3, rdx\n iretq\n");
static void call_over_cr3(void **state)
{
	struct pair *p = pair_new();

	(void)state;
	for (unsigned kind = 0; kind < 3; kind++) {
		gpa_t b = box_new_space(p->interp);

		assert_int_equal(box_new_space(p->dbt), b);
		PAIR_DO(p, box_map_in, b, BOX_CODE_VA, BOX_CODE + 4096, BOX_P | BOX_U);
		for (unsigned i = 0; i < 16; i++)
			PAIR_DO(p, box_map_in, b, BOX_DATA_VA + i * 4096, BOX_DATA + i * 4096,
				BOX_P | BOX_W | BOX_U);
		PAIR_DO(p, box_gate, 0x81, BOX_KERNEL + BOX_CODE + 8192, 3);
		pair_reset(p, 3);
		PAIR_LOAD(p, space_a);
		PAIR_DO(p, box_code, BOX_CODE + 4096, box_space_b, BOX_SIZE(space_b));
		PAIR_DO(p, box_code, BOX_CODE + 8192, box_switch_gate, BOX_SIZE(switch_gate));
		PAIR_SET(p, gpr[X86_R12], BOX_PML4 ^ b ^ (kind ? 3 : 0));
		if (kind) {
			PAIR_SET(p, cr4, box_state(p->dbt)->cr4 | X86_CR4_PCIDE);
			PAIR_SET(p, cr3, BOX_PML4 | 1);
			PAIR_SET(p, gpr[X86_R13], kind == 2 ? BIT(63) : 0);
			p->interp->engine->set_state(&p->interp->v, box_state(p->interp));
			p->dbt->engine->set_state(&p->dbt->v, box_state(p->dbt));
		}
		assert_int_equal(pair_run(p), 0x80);
		assert_int_equal(box_state(p->dbt)->gpr[X86_RAX], 500 * 6);
	}
	pair_free(p);
}

/* ---- code that changes ---- */

BOX_PROGRAM(
	patch_self, /* patches the immediate of the next instructions, forty times over, in its own block */
	"mov ecx, 40\n xor eax, eax\n lea rbx, [rip+2f+1]\n"
	"1: mov [rbx], ecx\n nop\n2: mov edx, 0x11111111\n add eax, edx\n dec ecx\n jnz 1b\n int 0x80\n");
BOX_PROGRAM(
	patch_callee,
	"mov ecx, 300\n xor eax, eax\n lea rbx, [rip+3f+1]\n1: mov byte ptr [rbx], cl\n call 2f\n add rax, rdx\n dec ecx\n jnz 1b\n"
	"int 0x80\n .balign 4096\n2: nop\n3: mov edx, 0\n ret\n");
BOX_PROGRAM(
	patch_alias, /* rdi: another address of the code page */
	"mov ecx, 300\n xor eax, eax\n1: mov byte ptr [rdi+0x801], cl\n call 2f\n add rax, rdx\n dec ecx\n jnz 1b\n"
	"int 0x80\n .balign 2048\n2: mov edx, 0\n ret\n");
BOX_PROGRAM(
	patch_locked,
	"mov ecx, 100\n xor eax, eax\n lea rbx, [rip+2f+1]\n1: lock inc dword ptr [rbx]\n call 2f\n add rax, rdx\n dec ecx\n jnz 1b\n"
	"int 0x80\n .balign 64\n2: mov edx, 0\n ret\n");
BOX_PROGRAM(
	patch_rep,
	"mov ebp, 60\n xor ebx, ebx\n1: lea rdi, [rip+2f]\n mov al, 0x90\n mov ecx, 16\n rep stosb\n lea rdi, [rip+2f]\n mov ecx, ebp\n"
	"and ecx, 7\n mov al, 0x43\n stosb\n mov al, 0xc3\n mov byte ptr [rdi], 0xff\n inc rdi\n mov byte ptr [rdi], 0xc3\n"
	"call 2f\n dec ebp\n jnz 1b\n int 0x80\n .balign 64\n2: .skip 32, 0xcc\n");
BOX_PROGRAM(
	patch_push, /* the return address is pushed over code */
	"mov ecx, 50\n lea r8, [rip+3f+8]\n xor eax, eax\n1: mov rsp, r8\n call 2f\n add rax, 1\n dec ecx\n jnz 1b\n int 0x80\n"
	"2: pop rdx\n jmp rdx\n .balign 64\n3: .skip 64, 0x90\n");
BOX_PROGRAM(
	patch_vector,
	"mov ecx, 50\n xor eax, eax\n lea rbx, [rip+3f]\n movdqu xmm0, [rbx]\n mov edx, 0x100\n movd xmm1, edx\n"
	"1: movdqu [rbx], xmm0\n call rbx\n paddd xmm0, xmm1\n dec ecx\n jnz 1b\n int 0x80\n"
	".balign 64\n3: add eax, 0x12345600\n ret\n .skip 16, 0xcc\n");
/* The page after next is written by a store whose own instruction spans two pages. */
BOX_PROGRAM(
	patch_span,
	"mov ecx, 50\n xor eax, eax\n lea rbx, [rip+3f]\n jmp 1f\n .skip 4096-30-3, 0x90\n"
	"1: mov dword ptr [rbx+1], 0x01020304\n inc dword ptr [rbx+1]\n call rbx\n dec ecx\n jnz 1b\n int 0x80\n .balign 64\n"
	"3: add eax, 7\n ret\n");
static void patched_code(void **state)
{
	static const struct {
		const uint8_t *code, *end;
	} forms[] = { { box_patch_self, box_patch_self_end },
		      { box_patch_callee, box_patch_callee_end },
		      { box_patch_alias, box_patch_alias_end },
		      { box_patch_locked, box_patch_locked_end },
		      { box_patch_rep, box_patch_rep_end },
		      { box_patch_push, box_patch_push_end },
		      { box_patch_vector, box_patch_vector_end },
		      { box_patch_span, box_patch_span_end } };
	struct pair *p = pair_new();

	(void)state;
	PAIR_DO(p, box_map, 0x700000, BOX_CODE, BOX_P | BOX_W | BOX_U);
	for (unsigned i = 0; i < ARRAY_SIZE(forms) * 2; i++) {
		pair_reset(p, i & 1 ? 3 : 0);
		pair_load(p, forms[i / 2].code, (size_t)(forms[i / 2].end - forms[i / 2].code));
		PAIR_SET(p, gpr[X86_RDI], 0x700000);
		pair_run(p);
	}
	pair_free(p);
}

/* One RAM page at many addresses: code runs at each, and a write through any of them reaches all. */
BOX_PROGRAM(
	aliases, /* rsi: first alias, rcx: how many pages */
	"mov r15, rcx\n xor eax, eax\n mov r12, rsi\n1: mov rbx, rsi\n mov rbp, rcx\n2: call rbx\n add rbx, 4096\n dec rbp\n jnz 2b\n"
	"inc byte ptr [r12+2]\n add r12, 4096\n dec r15\n jnz 1b\n int 0x80\n");
static void many_aliases(void **state)
{
	static const uint8_t f[] = { 0x48, 0x05, 1, 0, 0, 0, 0xc3 }; /* add rax, 1; ret */
	struct pair *p = pair_new();

	(void)state;
	for (unsigned i = 0; i < 40; i++)
		PAIR_DO(p, box_map, 0x20000000 + i * 4096ul, BOX_PAGES, BOX_P | BOX_W | BOX_U);
	PAIR_DO(p, box_code, BOX_PAGES, f, sizeof(f));
	pair_reset(p, 3);
	PAIR_LOAD(p, aliases);
	PAIR_SET(p, gpr[X86_RSI], 0x20000000);
	PAIR_SET(p, gpr[X86_RCX], 40);
	assert_int_equal(pair_run(p), 0x80);
	assert_int_equal(box_state(p->dbt)->gpr[X86_RAX], 40 * (40 + 39 * 40 / 2));
	pair_free(p);
}

/* A device writes code while it runs: from the moment its flag is seen, the new code is. */
BOX_PROGRAM(
	dma_wait, /* rbx: flag, r8: what to wait for */
	"1: call 2f\n mov rcx, [rbx]\n cmp rcx, r8\n jne 1b\n call 2f\n int 0x80\n .balign 4096\n2: mov eax, 0\n ret\n");
struct device {
	struct box *b;
	unsigned round;
};
static void *device_main(void *opaque)
{
	struct device *d = opaque;
	struct timespec wait = { 0, 200000 };
	uint32_t value = d->round;

	nanosleep(&wait, NULL);
	box_code(d->b, BOX_CODE + 4096 + 1, &value, 4);
	atomic_thread_fence(memory_order_seq_cst);
	/* a driver would be told by an interrupt: the hint that comes with the DMA stands for it */
	nanosleep(&wait, NULL);
	box_put64(d->b, BOX_DATA, d->round);
	return NULL;
}
static void device_writes(void **state)
{
	struct pair *p = pair_new();

	(void)state;
	BOX_LOAD(p->dbt, dma_wait);
	for (unsigned i = 1; i < 200; i++) {
		struct device d = { p->dbt, i };
		pthread_t t;

		box_reset(p->dbt, 3);
		box_state(p->dbt)->gpr[X86_RBX] = BOX_DATA_VA;
		box_state(p->dbt)->gpr[X86_R8] = i;
		assert_int_equal(pthread_create(&t, NULL, device_main, &d), 0);
		assert_int_equal(dbt_box_run(p->dbt), 0x80);
		pthread_join(t, NULL);
		assert_int_equal(box_state(p->dbt)->gpr[X86_RAX], i);
	}
	pair_free(p);
}

/* ---- a code cache that is far too small ---- */

/* 3,000 functions of 64 bytes, called in a random order, over and over. */
#define FUNCTIONS 3000u
BOX_PROGRAM(
	call_many, /* rsi: base, r15: rounds */
	"xor eax, eax\n mov edi, 12345\n1: imul edi, edi, 1103515245\n add edi, 12345\n mov edx, edi\n shr edx, 8\n xor r9d, r9d\n"
	"mov ebx, edx\n shr rbx, 4\n imul rbx, rbx, 3000\n shr rbx, 20\n shl rbx, 6\n add rbx, rsi\n call rbx\n dec r15\n jnz 1b\n int 0x80\n");
static void write_functions(struct pair *p)
{
	uint8_t f[64];
	uint64_t base = 0x30000000;

	for (unsigned i = 0; i < FUNCTIONS * 64 / 4096 + 1; i++)
		PAIR_DO(p, box_map, base + i * 4096, BOX_PAGES + i * 4096, BOX_P | BOX_U | BOX_W);
	for (unsigned i = 0; i < FUNCTIONS; i++) {
		unsigned n = 0;
		int32_t to = (int32_t)((i * 7 + 1) % FUNCTIONS * 64) - (int32_t)(i * 64);

		memset(f, 0x90, sizeof(f));
		memcpy(f, (const uint8_t[]){ 0x05, (uint8_t)i, (uint8_t)(i >> 8), 0, 0 },
		       5); /* add eax, i */
		n = 5;
		memcpy(f + n, (const uint8_t[]){ 0xff, 0x44, 0x24, 0xc0 },
		       4); /* inc dword [rsp-64] */
		n += 4;
		if (i % 3 == 0) { /* goes on in another */
			to -= (int32_t)n + 5;
			f[n] = 0xe9;
			memcpy(f + n + 1, &to, 4);
		} else {
			f[n] = 0xc3;
		}
		PAIR_DO(p, box_code, BOX_PAGES + i * 64, f, sizeof(f));
	}
}
static void small_cache(void **state)
{
	struct pair *p;

	(void)state;
	for (unsigned kib = 128; kib <= 1024; kib *= 2) {
		dbt_options.cache_size = kib * KiB;
		p = pair_new();
		stat_thread_register();
		write_functions(p);
		for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
			uint64_t before = stat_sum(STAT_DBT_FLUSH_CACHE);

			pair_reset(p, cpl);
			PAIR_LOAD(p, call_many);
			PAIR_SET(p, gpr[X86_RSI], 0x30000000);
			PAIR_SET(p, gpr[X86_R15], 20000);
			assert_int_equal(pair_run(p), 0x80);
			if (kib <= 256)
				assert_true(stat_sum(STAT_DBT_FLUSH_CACHE) > before + 3);
		}
		pair_free(p);
	}
	dbt_options.cache_size = 64 * MiB;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(deep_recursion), cmocka_unit_test(unpaired),
		cmocka_unit_test(call_over_cr3),  cmocka_unit_test(patched_code),
		cmocka_unit_test(many_aliases),	  cmocka_unit_test(device_writes),
		cmocka_unit_test(small_cache),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
