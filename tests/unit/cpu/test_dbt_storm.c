/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kicks and interrupts at any moment leave no trace: programs run under a storm of both, sent by another thread as
 * fast as it can, and must end in the state that interp reaches undisturbed.
 */
#include "dbt_fixture.h"

#include <time.h>

#define VECTOR 0x40

/* Interrupts are counted at BOX_COUNT; flags and registers go back as they were. */
BOX_PROGRAM(tick, "inc qword ptr [0xffffffff8000a000]\n iretq\n");

/* All classes of translated instructions in a loop; rsi, rdi: memory; ecx: rounds. */
BOX_PROGRAM(
	classes,
	"mov r15d, ecx\n xor eax, eax\n mov r9, rsi\n"
	"1: add rax, [rsi]\n mov [rdi+8], rax\n lock xadd [rdi+16], eax\n mov ah, [rsi+3]\n add [rdi+24], ah\n xchg [rdi+32], bh\n"
	"push rax\n push r9\n pop r10\n pop rdx\n pushfq\n add edx, eax\n popfq\n adc r10, rdx\n sbb r11, [r9+8]\n"
	"call 5f\n lea rbx, [rip+5f]\n call rbx\n push rbp\n mov rbp, rsp\n sub rsp, 40\n mov [rsp+8], r11\n leave\n"
	"mov r12, rsi\n mov r13, rdi\n lea rdi, [r13+256]\n mov ecx, 33\n cld\n rep stosq\n lea rsi, [r12+64]\n mov ecx, 100\n rep movsb\n"
	"movsd\n stosw\n lodsq\n scasb\n cmpsw\n mov rsi, r12\n mov rdi, r13\n"
	"and eax, 0x7ff\n bts [rdi], eax\n cvtsi2sd xmm0, rax\n addsd xmm1, xmm0\n movdqu [rdi+600], xmm1\n vpaddd ymm2, ymm2, [rdi+256]\n vmovdqu [rdi+640], ymm2\n"
	"fild qword ptr [rdi+8]\n fadd qword ptr [rsi+16]\n fstp qword ptr [rdi+700]\n mov r14, [rsi+4092]\n mov [rdi+4093], r14\n"
	"cmp rax, r14\n jb 3f\n xor rax, r14\n3: setp al\n mov ecx, 3\n4: ror rax, 7\n imul r8, rax, 77\n loop 4b\n"
	"shld rax, r8, 5\n mul r8\n bswap r10\n crc32 rax, r10\n popcnt r11, r8\n cmovc r9, r9\n"
	"dec r15d\n jnz 1b\n int 0x80\n"
	"5: xor r10d, eax\n jrcxz 6f\n inc r11\n6: ret\n");
/* The kernel's: flags, windows, tables, and a HLT that an interrupt ends only if there is one. */
BOX_PROGRAM(
	kernel_classes,
	"mov r15d, ecx\n mov rbp, rsi\n"
	"1: cli\n add rax, [rbp]\n sti\n add rax, 3\n cli\n pushfq\n pop rdx\n and edx, 0x200\n add rax, rdx\n push 0x202\n popfq\n add rax, 5\n"
	"stac\n add rax, [rdi]\n mov [rdi], rax\n clac\n swapgs\n swapgs\n mov rcx, cr2\n mov rcx, cr3\n mov cr3, rcx\n invlpg [rbp]\n"
	"pushfq\n cli\n add rbx, rax\n popfq\n mov ecx, ss\n mov ss, ecx\n add rax, 1\n sti\n push rax\n pop r9\n call 2f\n"
	"mov r8, rsp\n push 0x18\n push r8\n pushfq\n push 0x10\n lea r8, [rip+3f]\n push r8\n iretq\n ud2\n"
	"3: dec r15d\n jnz 1b\n cli\n int 0x80\n2: add rbx, 1\n ret\n");
/* Code that changes under all of it. */
BOX_PROGRAM(
	patched,
	"mov r15d, ecx\n xor eax, eax\n lea rbx, [rip+2f]\n1: mov [rbx+1], r15d\n call rbx\n add rax, rdx\n dec r15d\n jnz 1b\n int 0x80\n"
	".skip 64-(.-box_patched)%64, 0x90\n2: mov edx, 0\n ret\n");

struct storm {
	struct box *b;
	atomic_bool stop;
	bool interrupts;
	unsigned long sent;
};

static void *storm_main(void *opaque)
{
	struct storm *s = opaque;
	uint32_t x = 1;

	while (!atomic_load(&s->stop)) {
		if (s->interrupts && atomic_load(&s->b->irq) < 0)
			atomic_store(&s->b->irq, VECTOR);
		if (x & 0x100)
			vcpu_irq_hint(&s->b->v);
		else
			vcpu_kick(&s->b->v);
		s->sent++;
		x = x * 1664525 + 1013904223;
		for (unsigned i = x >> 22; i-- > 0;)
			__builtin_ia32_pause();
	}
	return NULL;
}

static int run_in_storm(struct box *b, bool interrupts, struct storm *s)
{
	pthread_t t;
	int r;

	*s = (struct storm){ .b = b, .interrupts = interrupts };
	assert_int_equal(pthread_create(&t, NULL, storm_main, s), 0);
	r = dbt_box_run(b);
	atomic_store(&s->stop, true);
	pthread_join(t, NULL);
	atomic_store(&b->irq, -1);
	return r;
}

static void fill_data(struct pair *p)
{
	uint64_t x = 88172645463325252ull;

	for (unsigned i = 0; i < 65536; i += 8) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		PAIR_DO(p, box_put64, BOX_DATA + i, x);
	}
}

static void storm_once(struct pair *p, const uint8_t *code, size_t n, unsigned cpl, unsigned rounds,
		       bool interrupts, unsigned long *kicks)
{
	struct box_compare rules = { .skip_from = BOX_STACK - 4096,
				     .skip_to = BOX_COUNT + 4096,
				     .flags_ignored = X86_FL_ARITH };
	struct storm s;

	fill_data(p);
	pair_reset(p, cpl);
	PAIR_DO(p, box_code, BOX_CODE, code, n);
	PAIR_DO(p, box_code, BOX_CODE + 15 * 4096, box_tick, BOX_SIZE(tick));
	PAIR_DO(p, box_gate, VECTOR, BOX_KERNEL + BOX_CODE + 15 * 4096, 0);
	PAIR_SET(p, gpr[X86_RSI], BOX_DATA_VA + 100);
	PAIR_SET(p, gpr[X86_RDI], BOX_DATA_VA + 3 * 4096);
	PAIR_SET(p, gpr[X86_RCX], rounds);
	PAIR_SET(p, rflags, X86_FL_R1 | (interrupts ? X86_FL_IF : 0));
	if (cpl == 0) /* what lies below RSP is the interrupts' */
		PAIR_SET(p, gpr[X86_RSP], BOX_KERNEL + BOX_STACK);
	PAIR_DO(p, box_put64, BOX_COUNT, 0);
	PAIR_DO(p, box_map, BOX_KERNEL + BOX_COUNT, BOX_COUNT,
		BOX_P | BOX_W | BOX_G | BOX_A | BOX_D);
	PAIR_DO(p, box_map, BOX_KERNEL + BOX_STACK - 4096, BOX_STACK - 4096,
		BOX_P | BOX_W | BOX_G | BOX_A | BOX_D);
	assert_int_equal(box_run(p->interp), 0x80);
	p->dbt->taken = 0;
	assert_int_equal(run_in_storm(p->dbt, interrupts, &s), 0x80);
	assert_int_equal(box_differs(p->interp, p->dbt, &rules, stderr), 0);
	assert_int_equal(box_get64(p->dbt, BOX_COUNT), p->dbt->taken);
	*kicks += s.sent;
}

/* A busy host may leave the storm little time: again until there was enough of it. */
static void storm(struct pair *p, const uint8_t *code, size_t n, unsigned cpl, unsigned rounds,
		  bool interrupts)
{
	unsigned long kicks = 0, taken = 0;

	for (unsigned i = 0; i < 40 && (kicks < 3000 || (interrupts && taken < 300)); i++) {
		storm_once(p, code, n, cpl, rounds, interrupts, &kicks);
		taken += p->dbt->taken;
	}
	print_message("  %lu kicks, %lu interrupts\n", kicks, taken);
	assert_true(kicks > 100 && (!interrupts || taken > 20));
}

static void user_storm(void **state)
{
	struct pair *p = pair_new();

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		storm(p, box_classes, BOX_SIZE(classes), 3, 40000, i);
		storm(p, box_patched, BOX_SIZE(patched), 3, 4000, i);
	}
	pair_free(p);
}

/* In kernel mode interrupts push below RSP, so only programs that keep nothing there are fit for them. */
static void kernel_storm(void **state)
{
	struct pair *p = pair_new();

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		storm(p, box_kernel_classes, BOX_SIZE(kernel_classes), 0, 4000, i);
		storm(p, box_classes, BOX_SIZE(classes), 0, 20000, i);
	}
	pair_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(user_storm),
					    cmocka_unit_test(kernel_storm) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
