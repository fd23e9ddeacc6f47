/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cases on the bare host. A child process maps code and data at the cases' addresses; one signal handler
 * does all: it puts a case's registers into the signal frame, sigreturn loads them, the case's code runs
 * and traps (INT3 at the regular end), and the next frame holds the outcome. The child shares the batch
 * with its parent; a byte each way over a socket pair starts a batch and ends it.
 */
#include "case.h"

#include <errno.h>
#include <immintrin.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define YMMH_OFFSET 576 /* standard format; CPUID 0DH.2 says so on every processor */
#define XSTATE_BV_OFFSET 512
#define SW_BYTES_OFFSET 464
#define ALTSTACK_SIZE (64 * KiB)
#define FP_BYTES_MAX 16384

struct bare {
	pid_t pid;
	int fd;
};

static const int reg_of[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
				REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
				REG_R12, REG_R13, REG_R14, REG_R15 };

/* The child's; the handler runs on one thread. */
static struct batch *batch;
static uint8_t *code, *code_rw, *data;
static uint64_t libc_fs;
static unsigned current;
static bool running;
static gregset_t home_regs;
static uint8_t home_fp[FP_BYTES_MAX];

static uint32_t fp_bytes(const uint8_t *fp)
{
	uint32_t n;

	memcpy(&n, fp + SW_BYTES_OFFSET + 4, 4); /* extended_size: with the trailing magic */
	return n > FP_BYTES_MAX ? FP_BYTES_MAX : n < 832 ? 512 : n;
}

static void load_case(ucontext_t *uc)
{
	const struct test_case *c = &batch->c[current];
	uint8_t *fp = (uint8_t *)uc->uc_mcontext.fpregs;
	uint64_t bv = X86_XCR0_X87 | X86_XCR0_SSE | X86_XCR0_AVX;

	for (unsigned i = 0; i < 16; i++)
		uc->uc_mcontext.gregs[reg_of[i]] = (greg_t)c->in.gpr[i];
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)c->in.rip;
	uc->uc_mcontext.gregs[REG_EFL] = (greg_t)c->in.rflags;
	memcpy(fp, c->in.fx, 28);
	memcpy(fp + 32, c->in.fx + 32, 384);
	memcpy(fp + XSTATE_BV_OFFSET, &bv, 8);
	memcpy(fp + YMMH_OFFSET, c->in.ymmh, sizeof c->in.ymmh);
	memcpy(code_rw + c->code_off, c->code, MIN(c->code_len, CODE_PAGES * PAGE - c->code_off));
	window_apply(data, c);
}

static void store_case(const ucontext_t *uc, int sig, uint64_t fs, uint64_t gs)
{
	const struct test_case *c = &batch->c[current];
	struct outcome *o = &batch->bare[current];
	const uint8_t *fp = (const uint8_t *)uc->uc_mcontext.fpregs;
	uint64_t bv;

	for (unsigned i = 0; i < 16; i++)
		o->out.gpr[i] = (uint64_t)uc->uc_mcontext.gregs[reg_of[i]];
	o->out.rip = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
	o->out.rflags = (uint64_t)uc->uc_mcontext.gregs[REG_EFL];
	o->out.fs_base = fs;
	o->out.gs_base = gs;
	o->vector = sig == SIGALRM ? VEC_TIMEOUT : (uint8_t)uc->uc_mcontext.gregs[REG_TRAPNO];
	o->error = (uint32_t)uc->uc_mcontext.gregs[REG_ERR];
	o->cr2 = o->vector == X86_EX_PF ? (uint64_t)uc->uc_mcontext.gregs[REG_CR2] : 0;
	memcpy(o->out.fx, fp, 512);
	memcpy(o->out.ymmh, fp + YMMH_OFFSET, sizeof o->out.ymmh);
	memcpy(&bv, fp + XSTATE_BV_OFFSET, 8);
	regs_normalise(&o->out, bv);
	window_collect(o, data, batch->base, c);
	memset(code_rw + c->code_off, 0xcc, MIN(c->code_len, CODE_PAGES * PAGE - c->code_off));
}

__attribute__((no_stack_protector, target("fsgsbase"))) static void handler(int sig, siginfo_t *si,
									    void *ctx)
{
	ucontext_t *uc = ctx;
	uint64_t fs = _readfsbase_u64(), gs = _readgsbase_u64(), next_fs = libc_fs;
	uint8_t *fp = (uint8_t *)uc->uc_mcontext.fpregs;

	__builtin_ia32_writeeflags_u64(
		X86_FL_R1 | X86_FL_IF); /* neither AC for us nor NT and ID for the next case */
	_writefsbase_u64(libc_fs);
	(void)si;
	if (!running) {
		if (sig != SIGUSR2)
			_exit(3);
		memcpy(home_regs, uc->uc_mcontext.gregs, sizeof home_regs);
		memcpy(home_fp, fp, fp_bytes(fp));
		running = true;
		current = 0;
	} else {
		if (sig == SIGALRM &&
		    (uint64_t)uc->uc_mcontext.gregs[REG_RIP] - CODE_VA >= CODE_PAGES * PAGE)
			_exit(4);
		store_case(uc, sig, fs, gs);
		current++;
	}
	if (current < batch->n) {
		const struct test_case *c = &batch->c[current];

		load_case(uc);
		next_fs = c->in.fs_base;
		_writegsbase_u64(c->in.gs_base);
	} else {
		running = false;
		memcpy(uc->uc_mcontext.gregs, home_regs, sizeof home_regs);
		memcpy(fp, home_fp, fp_bytes(home_fp));
	}
	_writefsbase_u64(next_fs);
}

static void install_handlers(void)
{
	static const int sigs[] = { SIGUSR2, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGALRM };
	stack_t ss = { .ss_size = ALTSTACK_SIZE };
	struct sigaction sa = { .sa_flags = SA_SIGINFO | SA_ONSTACK };

	ss.ss_sp = mmap(NULL, ALTSTACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);
	if (ss.ss_sp == MAP_FAILED || sigaltstack(&ss, NULL))
		_exit(5);
	sa.sa_sigaction = handler;
	sigfillset(&sa.sa_mask);
	for (unsigned i = 0; i < ARRAY_SIZE(sigs); i++)
		if (sigaction(sigs[i], &sa, NULL))
			_exit(5);
}

static void map_windows(void)
{
	int fd = memfd_create("insn-code", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, CODE_PAGES * PAGE))
		_exit(5);
	code_rw = mmap(NULL, CODE_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	code = mmap((void *)CODE_VA, CODE_PAGES * PAGE, PROT_READ | PROT_EXEC,
		    MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
	data = mmap((void *)DATA_VA, DATA_SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1, 0);
	if (code_rw == MAP_FAILED || code == MAP_FAILED || data == MAP_FAILED)
		_exit(5);
	close(fd);
	memset(code_rw, 0xcc, CODE_PAGES * PAGE);
}

static void one_batch(void)
{
	struct itimerval slow = { .it_interval = { .tv_sec = 2 }, .it_value = { .tv_sec = 2 } },
			 off = { 0 };
	uint8_t *ro = data + DATA_RW_SIZE;

	mprotect(ro, DATA_RO_PAGES * PAGE, PROT_READ | PROT_WRITE);
	memcpy(data, batch->base, DATA_SIZE);
	mprotect(ro, DATA_RO_PAGES * PAGE, PROT_READ);
	setitimer(ITIMER_REAL, &slow, NULL);
	if (batch->n)
		raise(SIGUSR2);
	setitimer(ITIMER_REAL, &off, NULL);
}

__attribute__((target("fsgsbase"))) static void child(int fd)
{
	char b;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	libc_fs = _readfsbase_u64();
	map_windows();
	install_handlers();
	while (read(fd, &b, 1) == 1) {
		one_batch();
		if (write(fd, &b, 1) != 1)
			break;
	}
	_exit(0);
}

struct bare *bare_start(struct batch *b)
{
	struct bare *x = calloc(1, sizeof *x);
	int sv[2];

	if (!x || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
		exit(2);
	batch = b;
	fflush(NULL);
	x->pid = fork();
	if (x->pid == 0) {
		close(sv[0]);
		child(sv[1]);
	}
	close(sv[1]);
	x->fd = sv[0];
	return x;
}

int bare_run(struct bare *x)
{
	char b = 1;
	int status;

	if (write(x->fd, &b, 1) == 1 && read(x->fd, &b, 1) == 1)
		return 0;
	if (waitpid(x->pid, &status, 0) == x->pid)
		printf("child on the bare host: wait status %x\n", (unsigned)status);
	x->pid = -1;
	return -EPIPE;
}

void bare_stop(struct bare *x)
{
	close(x->fd);
	if (x->pid > 0)
		waitpid(x->pid, NULL, 0);
	free(x);
}
