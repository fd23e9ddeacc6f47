/* SPDX-License-Identifier: Apache-2.0 */
/* Small programs in lockstep: no difference where there is none, and every planted one is found. */
#include "interp_fixture.h"

#include <signal.h>

#include "base/log.h"
#include "cpu/dbt/dbt.h"
#include "cpu/lockstep/lockstep.h"

#define MMIO_BASE 0x2000000u

struct ls_fx {
	struct fx *f;
	unsigned pio_reads, pio_writes, mmio_reads, mmio_writes;
	uint64_t last;
	struct mem_region mmio;
	struct x86_state *state;
	bool open;
};

static uint32_t pio_read(void *opaque, uint16_t port, unsigned size)
{
	struct ls_fx *t = container_of(opaque, struct ls_fx, f);

	(void)size;
	return port + ++t->pio_reads;
}

static void pio_write(void *opaque, uint16_t port, uint32_t val, unsigned size)
{
	struct ls_fx *t = container_of(opaque, struct ls_fx, f);

	(void)port;
	(void)size;
	t->pio_writes++;
	t->last = val;
}

static int irq_pending(void *opaque, struct vcpu *v)
{
	return fx_irq_pending(container_of(opaque, struct ls_fx, f)->f, v);
}

static int irq_ack(void *opaque, struct vcpu *v)
{
	return fx_irq_ack(container_of(opaque, struct ls_fx, f)->f, v);
}

static uint64_t mmio_read(void *opaque, uint64_t off, unsigned size)
{
	struct ls_fx *t = opaque;

	(void)size;
	return off + ++t->mmio_reads;
}

static void mmio_write(void *opaque, uint64_t off, uint64_t val, unsigned size)
{
	struct ls_fx *t = opaque;

	(void)off;
	(void)size;
	t->mmio_writes++;
	t->last = val;
}

static const struct mem_io_ops mmio_ops = { mmio_read, mmio_write };

static struct ls_fx *ls_new(unsigned cpl)
{
	struct ls_fx *t = calloc(1, sizeof(*t));

	t->f = fx_long(cpl);
	t->f->s->cr4 |= X86_CR4_OSXSAVE;
	t->f->s->xcr0 = 7;
	/* a second GiB of addresses, so that MMIO has one */
	for (unsigned i = 0; i < 2; i++)
		fx_put64(t->f, FX_PD + (16 + i) * 8, (MMIO_BASE + i * 2 * MiB) | 0x87);
	interp_close(&t->f->v);
	t->f->io = (struct vcpu_io){ .opaque = &t->f,
				     .pio_read = pio_read,
				     .pio_write = pio_write,
				     .irq_pending = irq_pending,
				     .irq_ack = irq_ack };
	t->mmio = (struct mem_region){ .name = "device",
				       .base = MMIO_BASE,
				       .size = 4096,
				       .fd = -1,
				       .ops = &mmio_ops,
				       .opaque = t };
	assert_int_equal(mem_region_add(t->f->mem, &t->mmio), 0);
	t->f->v.engine = &engine_lockstep;
	t->f->v.thread = pthread_self();
	lockstep_options = (struct lockstep_options){ .check_every = 1000 };
	return t;
}

static void ls_free(struct ls_fx *t)
{
	if (t->open)
		engine_lockstep.vcpu_close(&t->f->v);
	lockstep_time_end();
	mem_region_remove(t->f->mem, &t->mmio);
	mem_map_free(t->f->mem);
	free(t->f->s);
	free(t->f);
	free(t);
}

static void ls_open(struct ls_fx *t, const uint8_t *code, size_t n)
{
	struct err e = { 0 };

	assert_int_equal(mem_copy_in(t->f->mem, FX_CODE, code, n), 0);
	assert_int_equal(engine_lockstep.vm_open(&t->f->v.vm, t->f->mem, &e), 0);
	if (engine_lockstep.vcpu_open(t->f->v.vm, &t->f->v, &e))
		fail_msg("%s", e.msg);
	t->open = true;
}

/* The translator installs its handlers once; cmocka puts its own in their place for each test. */
static void keep_handlers(void)
{
	static const int sig[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE };
	static struct sigaction own[ARRAY_SIZE(sig)];
	static bool known;

	for (unsigned i = 0; i < ARRAY_SIZE(sig); i++)
		sigaction(sig[i], known ? &own[i] : NULL, known ? NULL : &own[i]);
	known = true;
}

static enum cpu_exit_reason ls_run(struct ls_fx *t)
{
	static bool first = true;
	struct cpu_exit x = { 0 };

	if (!first)
		keep_handlers();
	assert_int_equal(engine_lockstep.run(&t->f->v, &x), 0);
	if (first)
		keep_handlers();
	first = false;
	return x.reason;
}

#define LS_OPEN(t, name) ls_open(t, fx_##name, (size_t)(fx_##name##_end - fx_##name))

/* ---- programs that must not differ ---- */

FX_PROGRAM(mixed, 64,
	   ".intel_syntax noprefix\n"
	   "mov ecx, 2000\n"
	   "xor eax, eax\n"
	   "mov rdi, 0x20000\n"
	   "fninit\n"
	   "1: add rax, rcx\n"
	   "imul r9, rax, 17\n"
	   "adc r10, r9\n"
	   "rol r15, 3\n"
	   "xor r15, r10\n"
	   "push r15\n"
	   "call 2f\n"
	   "pop r11\n"
	   "mov [rdi + rcx * 8], r11\n"
	   "lock xadd [rdi], r9\n"
	   "movq xmm3, r11\n"
	   "pshufb xmm3, xmm5\n"
	   "paddq xmm5, xmm3\n"
	   "movdqu [rdi + rcx * 8 + 5], xmm5\n"
	   "fild qword ptr [rdi]\n"
	   "fsqrt\n"
	   "fstp qword ptr [rdi + 16]\n"
	   "dec ecx\n"
	   "jnz 1b\n"
	   "jmp 3f\n"
	   "2: lea rbx, [rsp + rcx * 2]\n"
	   "bt [rdi], ebx\n"
	   "setc bl\n"
	   "movzx r8d, bl\n"
	   "cmovs rdx, r8\n"
	   "ret\n"
	   "3: mov rsi, rdi\n"
	   "lea rdi, [rdi + 0x800]\n"
	   "mov ecx, 3000\n"
	   "cld\n"
	   "rep movsb\n"
	   "mov ecx, 600\n"
	   "rep stosq\n"
	   "std\n"
	   "mov ecx, 50\n"
	   "rep stosd\n"
	   "cld\n"
	   "pushfq\n"
	   "pop r12\n"
	   "hlt\n"
	   ".att_syntax\n");

static void test_mixed(void **state)
{
	struct ls_fx *t = ls_new(0);

	(void)state;
	LS_OPEN(t, mixed);
	assert_int_equal(ls_run(t), CPU_EXIT_HLT);
	assert_int_equal(lockstep_result.differences, 0);
	assert_true(lockstep_result.blocks > 4000);
	assert_true(lockstep_result.insns > 40000);
	assert_true(lockstep_result.alone < 100);
	assert_true(lockstep_result.checks > 10);
	ls_free(t);
}

/* Exceptions: the handlers halt, so patch those of #DE, #PF, #UD to step over two bytes and return. */
FX_PROGRAM(faults, 64,
	   ".intel_syntax noprefix\n"
	   "mov ebp, 100\n"
	   "1: xor ebx, ebx\n"
	   "mov eax, 5\n"
	   "mov edx, 0\n"
	   "add r13, rax\n"
	   "div ebx\n"
	   "mov rsi, 0x1000000\n"
	   "add r13, rsi\n"
	   "mov al, [rsi]\n"
	   "ud2\n"
	   "mov rsi, 0xe01000\n"
	   "add r14, 1\n"
	   "mov [rsi], eax\n"
	   "dec ebp\n"
	   "jnz 1b\n"
	   "hlt\n"
	   ".att_syntax\n");
FX_PROGRAM(skip_two, 64, "add $2, (%rsp)\niretq");
FX_PROGRAM(skip_two_error, 64, "add $8, %rsp\nincl %r12d\nadd $2, (%rsp)\niretq");

static void test_faults(void **state)
{
	struct ls_fx *t = ls_new(0);

	(void)state;
	for (unsigned vec = 0; vec <= 6; vec += 6)
		memcpy(t->f->ram + FX_HANDLERS + vec * 16, fx_skip_two,
		       (size_t)(fx_skip_two_end - fx_skip_two));
	memcpy(t->f->ram + FX_HANDLERS + 14 * 16, fx_skip_two_error,
	       (size_t)(fx_skip_two_error_end - fx_skip_two_error));
	LS_OPEN(t, faults);
	assert_int_equal(ls_run(t), CPU_EXIT_HLT);
	assert_int_equal(lockstep_result.differences, 0);
	assert_int_equal(t->f->v.s->gpr[X86_R12], 200);
	assert_int_equal(t->f->v.s->gpr[X86_RBP], 0);
	ls_free(t);
}

/* A loop that changes an instruction ahead of itself, in its own block. */
FX_PROGRAM(smc, 64,
	   ".intel_syntax noprefix\n"
	   "mov ecx, 300\n"
	   "1: mov [rip + 2f + 1], ecx\n"
	   "2: mov eax, 0x11111111\n"
	   "add rbx, rax\n"
	   "loop 1b\n"
	   "hlt\n"
	   ".att_syntax\n");

static void test_smc(void **state)
{
	struct ls_fx *t = ls_new(0);

	(void)state;
	LS_OPEN(t, smc);
	assert_int_equal(ls_run(t), CPU_EXIT_HLT);
	assert_int_equal(lockstep_result.differences, 0);
	assert_int_equal(t->f->v.s->gpr[X86_RBX], 300 * 301 / 2);
	ls_free(t);
}

FX_PROGRAM(devices, 64,
	   ".intel_syntax noprefix\n"
	   "mov ecx, 50\n"
	   "mov rdi, 0x2000000\n"
	   "1: in al, 0x60\n"
	   "add r8, rax\n"
	   "mov eax, [rdi + 8]\n"
	   "add r8, rax\n"
	   "out 0x61, al\n"
	   "mov [rdi + rcx], cl\n"
	   "rdtsc\n"
	   "add r9, rax\n"
	   "rdrand r10\n"
	   "add r9, r10\n"
	   "dec ecx\n"
	   "jnz 1b\n"
	   "mov rdi, 0x20000\n"
	   "mov edx, 0x70\n"
	   "mov ecx, 20\n"
	   "rep insb\n"
	   "mov rsi, 0x20000\n"
	   "mov ecx, 20\n"
	   "rep outsb\n"
	   "mov r11, 0x2000000\n"
	   "lock xadd [r11], rcx\n"
	   "hlt\n"
	   ".att_syntax\n");

/* Each access happens once, and time and chance are the same in every run. */
static void test_devices(void **state)
{
	uint64_t r9 = 0;

	(void)state;
	for (unsigned run = 0; run < 2; run++) {
		struct ls_fx *t = ls_new(0);

		LS_OPEN(t, devices);
		assert_int_equal(ls_run(t), CPU_EXIT_HLT);
		assert_int_equal(lockstep_result.differences, 0);
		assert_int_equal(t->pio_reads, 70);
		assert_int_equal(t->pio_writes, 70);
		assert_true(t->mmio_reads >= 51);
		assert_int_equal(t->mmio_reads, t->mmio_writes);
		if (run)
			assert_int_equal(t->f->v.s->gpr[X86_R9], r9);
		r9 = t->f->v.s->gpr[X86_R9];
		assert_int_not_equal(r9, 0);
		ls_free(t);
	}
}

FX_PROGRAM(wait, 64, "sti\nnop\n1: add $1, %rbx\ncmp $0, %r12\nje 1b\ncli\nhlt");
FX_PROGRAM(count_irq, 64, "inc %r12\nout %al, $0x80\niretq");

static void test_interrupt(void **state)
{
	struct ls_fx *t = ls_new(0);

	(void)state;
	memcpy(t->f->ram + FX_HANDLERS + 0x40 * 16, fx_count_irq,
	       (size_t)(fx_count_irq_end - fx_count_irq));
	LS_OPEN(t, wait);
	t->f->irq = 0x40;
	atomic_store(&t->f->v.irq_hint, 1);
	assert_int_equal(ls_run(t), CPU_EXIT_HLT);
	assert_int_equal(lockstep_result.differences, 0);
	assert_int_equal(t->f->v.s->gpr[X86_R12], 1);
	assert_int_equal(t->f->taken, 1);
	assert_int_equal(t->pio_writes, 1);
	ls_free(t);
}

FX_PROGRAM(endless, 64, "1: add $1, %rax\nmov %rax, 0x20000\njmp 1b");

static void test_limit(void **state)
{
	struct ls_fx *t = ls_new(3);

	(void)state;
	lockstep_options.limit = 5000;
	LS_OPEN(t, endless);
	assert_int_equal(ls_run(t), CPU_EXIT_END);
	assert_int_equal(lockstep_result.differences, 0);
	assert_in_range(lockstep_result.insns, 5000, 5050);
	ls_free(t);
}

/* ---- differences that must be found ---- */

static void test_planted(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= 8; n++) {
		struct ls_fx *t = ls_new(0);

		lockstep_options.plant = n;
		LS_OPEN(t, mixed);
		assert_int_equal(ls_run(t), CPU_EXIT_ERROR);
		assert_int_equal(lockstep_result.differences, 1);
		assert_int_equal(dbt_planted_bug, 0);
		ls_free(t);
	}
}

/* Bytes in RAM that no instruction accounts for are found, a device's are not. */
static void test_stray_write(void **state)
{
	(void)state;
	for (unsigned device = 0; device < 2; device++) {
		struct ls_fx *t = ls_new(0);
		const uint8_t byte = 0x77;

		lockstep_options.limit = 5000;
		LS_OPEN(t, endless);
		if (device)
			assert_int_equal(mem_copy_in(t->f->mem, 0x7ff123, &byte, 1), 0);
		else
			t->f->ram[0x7ff123] = byte;
		assert_int_equal(ls_run(t), device ? CPU_EXIT_END : CPU_EXIT_ERROR);
		assert_int_equal(lockstep_result.differences, !device);
		ls_free(t);
	}
}

/* A register that one side changed. */
FX_PROGRAM(one_sided, 64, "1: mov $1, %eax\nout %al, $0x10\njmp 1b");

static void corrupt(void *opaque, uint16_t port, uint32_t val, unsigned size)
{
	struct ls_fx *t = container_of(opaque, struct ls_fx, f);

	(void)port;
	(void)val;
	(void)size;
	t->f->v.s->gpr[X86_RBX] ^= 4;
}

static void test_register(void **state)
{
	struct ls_fx *t = ls_new(0);

	(void)state;
	t->f->io.pio_write = corrupt;
	LS_OPEN(t, one_sided);
	assert_int_equal(ls_run(t), CPU_EXIT_ERROR);
	assert_int_equal(lockstep_result.differences, 1);
	ls_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mixed),	  cmocka_unit_test(test_faults),
		cmocka_unit_test(test_smc),	  cmocka_unit_test(test_devices),
		cmocka_unit_test(test_interrupt), cmocka_unit_test(test_limit),
		cmocka_unit_test(test_planted),	  cmocka_unit_test(test_stray_write),
		cmocka_unit_test(test_register),
	};

	if (engine_lockstep.probe(&(struct err){ 0 })) {
		print_message("the translator cannot run here\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
