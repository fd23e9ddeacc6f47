/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A child process runs cases under the translator; its parent steps it through generated code one host instruction
 * at a time and, before each, computes what memory it is about to touch. Allowed: the two aliases of guest RAM, the
 * vCPU block, the translation tables, the jump caches, the return stacks and the C stack; and, since they
 * fault by construction, the guard pages, the empty part of the window and anything that is no user address of
 * the host. Everything else is an escape, whether or not something happens to be mapped there.
 *
 * The child marks its entry into generated code with a breakpoint. Signals are let through; their return is
 * recognised by rt_sigreturn.
 */
#include "escape.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpu/dbt/dbt_priv.h"

#define MAX_RANGES 64u

struct shared {
	struct esc_range {
		uint64_t from, to;
		bool writable;
	} range[MAX_RANGES];
	unsigned nrange;
	uint64_t rx, rx_end, rw, enter;
	struct esc_case current;
	atomic_uint done;
};

/* ---- the child ---- */

static void allow(struct shared *s, const void *from, uint64_t size, bool writable)
{
	BUG_ON(s->nrange == MAX_RANGES);
	s->range[s->nrange++] =
		(struct esc_range){ (uint64_t)from, (uint64_t)from + size, writable };
}

/* What is said to fault does: this process has the range mapped with these rights and no others. */
static void mapped_as(const void *from, uint64_t size, const char *want)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned long long a, b;
	char line[512], rights[8];

	BUG_ON(!f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%llx-%llx %4s", &a, &b, rights) == 3 &&
		    a < (uint64_t)from + size && b > (uint64_t)from && strcmp(rights, want)) {
			fprintf(stderr, "escape: should be %s: %s", want, line);
			_exit(3);
		}
	fclose(f);
}

static void describe(struct shared *s, const struct box *b)
{
	struct dbt *d = b->v.engine_priv;
	struct dbt_mmu *m = &d->mmu;

	allow(s, m->ram_rw, m->ram_size, true);
	mapped_as(m->ram_ro, m->ram_size, "r--s");
	allow(s, m->ram_ro, m->ram_size, true); /* a write faults */
	mapped_as(m->guard, 2 * 4096, "---p");
	allow(s, m->guard, 2 * 4096, true);
	/* where an access that does not fit its page goes */
	mapped_as(m->window + 2 * DBT_ALIAS_BYTES, DBT_WINDOW_BYTES - 2 * DBT_ALIAS_BYTES, "---p");
	allow(s, m->window + 2 * DBT_ALIAS_BYTES, DBT_WINDOW_BYTES - 2 * DBT_ALIAS_BYTES, true);
	allow(s, d->t, sizeof(*d->t), true);
	allow(s, m->sup.base, 2 * DBT_HALF_BYTES, false);
	allow(s, d->jc_kernel, sizeof(*d->jc_kernel), false);
	for (unsigned i = 0; i < DBT_SPACES; i++) {
		allow(s, m->space[i].user.base - DBT_CELL_BYTES,
		      2 * DBT_HALF_BYTES + DBT_CELL_BYTES, false);
		allow(s, m->space[i].sup_ac.base, 2 * DBT_HALF_BYTES, false);
		allow(s, m->space[i].jc, sizeof(*m->space[i].jc), false);
	}
	for (unsigned i = 0; i < 2; i++)
		allow(s, d->ret_stack[i] - 4096, DBT_RET_STACK + 4096, true);
	/* this thread's C stack, from well below here */
	allow(s, (const uint8_t *)__builtin_frame_address(0) - 256 * KiB, 512 * KiB, true);
	s->rx = (uint64_t)d->fc.rx;
	s->rx_end = s->rx + d->fc.size;
	s->rw = (uint64_t)d->fc.rw;
	s->enter = (uint64_t)d->enter;
}

/* An absent page whose entry is zero: generated code would use the guest's address as it is. */
static void plant_entry(struct box *b)
{
	struct dbt_mmu *m = &((struct dbt *)b->v.engine_priv)->mmu;

	for (unsigned i = 0; i < DBT_SPACES; i++) {
		struct dbt_half *h = &m->space[i].half;
		uint64_t index = dbt_index(BOX_DATA_VA + 14 * 4096);

		if (dbt_half_is_ready(h, index))
			h->entry[index - h->first_index] = 0;
	}
}

NORETURN static void child(struct shared *s, uint64_t seed, unsigned cases, bool plant)
{
	struct box *b = box_new(&engine_dbt);
	struct esc_random r = { .x = seed * 77 | 1 };
	struct dbt *d;

	if (!b)
		_exit(2);
	esc_box(b);
	esc_case_make(&s->current, &r);
	esc_run(b, &s->current); /* binds the engine to the thread */
	d = b->v.engine_priv;
	describe(s, b);
	for (unsigned i = 0; i < s->nrange; i++)
		r.host[r.nhost++ % ARRAY_SIZE(r.host)] = s->range[i].from;
	r.nhost = ARRAY_SIZE(r.host);
	r.delta[r.ndelta++] = dbt_entry_value(dbt_index(BOX_DATA_VA), d->mmu.ram_rw + BOX_DATA);
	r.delta[r.ndelta++] = dbt_entry_value(dbt_index(BOX_DATA_VA) + 14, d->mmu.guard);
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		_exit(2);
	d->fc.rw[d->enter - d->fc.rx] = 0xcc;
	raise(SIGSTOP);
	for (unsigned i = 0; i < cases; i++) {
		esc_case_make(&s->current, &r);
		if (plant)
			plant_entry(b);
		esc_run(b, &s->current);
		atomic_store(&s->done, i + 1);
	}
	mapped_as(d->mmu.guard, 2 * 4096, "---p");
	mapped_as(d->mmu.window + 2 * DBT_ALIAS_BYTES, DBT_WINDOW_BYTES - 2 * DBT_ALIAS_BYTES,
		  "---p");
	_exit(0);
}

/* ---- the tracer ---- */

struct tracer {
	struct shared *s;
	pid_t pid;
	int mem;	 /* of the child */
	bool in_handler; /* a signal's handler runs: come back after rt_sigreturn */
	unsigned long steps, accesses, bad;
};

static bool in_code(const struct tracer *t, uint64_t a)
{
	return a >= t->s->rx && a < t->s->rx_end;
}

static bool allowed(const struct shared *s, uint64_t a, unsigned size, bool write)
{
	if (a >= BIT(47) || a + size - 1 >= BIT(47)) /* not a user address: faults */
		return a >= BIT(47);
	for (unsigned i = 0; i < s->nrange; i++)
		if (a >= s->range[i].from && a + size <= s->range[i].to &&
		    (!write || s->range[i].writable))
			return true;
	return false;
}

static void to_gpr(const struct user_regs_struct *u, uint64_t g[16])
{
	const unsigned long long v[] = { u->rax, u->rcx, u->rdx, u->rbx, u->rsp, u->rbp,
					 u->rsi, u->rdi, u->r8,	 u->r9,	 u->r10, u->r11,
					 u->r12, u->r13, u->r14, u->r15 };

	for (unsigned i = 0; i < 16; i++)
		g[i] = v[i];
}

static void check(struct tracer *t, const struct user_regs_struct *u, const struct x86_insn *i,
		  uint64_t a, unsigned size, bool write)
{
	char text[96];

	t->accesses++;
	if (allowed(t->s, a, size, write))
		return;
	if (t->bad++ < 5)
		fprintf(stderr,
			"escape: %s of %u bytes at %#llx by code offset %#llx: %s; guest %s\n",
			write ? "write" : "read", size, (unsigned long long)a,
			(unsigned long long)(u->rip - t->s->rx),
			x86_disasm(text, sizeof(text), X86_MODE_64, i->bytes, i->len, u->rip),
			t->s->current.form);
}

/* Done here: a single step over POPFQ would make our trap flag the child's own. */
static void popf(struct tracer *t, struct user_regs_struct *u, const struct x86_insn *i)
{
	uint64_t flags;

	if (pread(t->mem, &flags, 8, (off_t)u->rsp) != 8)
		t->bad++;
	u->eflags = (flags & (X86_FL_ARITH | X86_FL_ID)) | X86_FL_R1 | X86_FL_IF;
	u->rsp += 8;
	u->rip += i->len;
	ptrace(PTRACE_SETREGS, t->pid, NULL, u);
}

static void look(struct tracer *t, struct user_regs_struct *u)
{
	uint8_t code[15];
	uint64_t g[16];
	struct x86_insn i;

	t->steps++;
	if (pread(t->mem, code, sizeof(code), (off_t)u->rip) != sizeof(code) ||
	    x86_decode(&i, X86_MODE_64, code, 15) < 0)
		return;
	to_gpr(u, g);
	if (i.attr & IA_STRING || i.attr & IA_VSIB) {
		fprintf(stderr,
			"escape: the tracer does not know what %s in generated code touches\n",
			i.row->name);
		t->bad++;
		return;
	}
	for (unsigned k = 0; k < i.nop; k++)
		if (i.op[k].kind == OPK_MEM && !(i.attr & IA_MEMHINT) && i.has_mem) {
			uint64_t a = x86_ea(&i, g, u->rip + i.len);

			if (i.seg == X86_FS)
				a += u->fs_base;
			else if (i.seg == X86_GS)
				a += u->gs_base;
			check(t, u, &i, a, i.op[k].size ? i.op[k].size : 832,
			      i.op[k].access & OPA_W);
			break;
		}
	if (i.id == X86_ID_PUSH || i.id == X86_ID_PUSHF || (i.attr & IA_CALL))
		check(t, u, &i, u->rsp - 8, 8, true);
	else if (i.id == X86_ID_POP || i.id == X86_ID_POPF || (i.attr & IA_RET))
		check(t, u, &i, u->rsp, 8, false);
	if (i.id == X86_ID_POPF) {
		popf(t, u, &i);
		look(t, u);
	}
}

static bool get(const struct tracer *t, struct user_regs_struct *u)
{
	return ptrace(PTRACE_GETREGS, t->pid, NULL, u) == 0;
}

/* The breakpoint replaced PUSH RBX. */
static void enter(struct tracer *t, struct user_regs_struct *u)
{
	uint64_t rbx = u->rbx;

	u->rsp -= 8;
	if (pwrite(t->mem, &rbx, 8, (off_t)u->rsp) != 8)
		t->bad++;
	ptrace(PTRACE_SETREGS, t->pid, NULL, u);
}

/* Generated code called a helper in C: runs it, and stops where it returns to. */
static bool over_helper(struct tracer *t, struct user_regs_struct *u)
{
	uint64_t back;
	uint8_t old, trap = 0xcc;
	off_t at;
	int status;

	if (pread(t->mem, &back, 8, (off_t)u->rsp) != 8 || !in_code(t, back))
		return false;
	at = (off_t)(back - t->s->rx + t->s->rw);
	if (pread(t->mem, &old, 1, at) != 1 || pwrite(t->mem, &trap, 1, at) != 1)
		return false;
	ptrace(PTRACE_CONT, t->pid, NULL, 0L);
	if (waitpid(t->pid, &status, 0) != t->pid || !WIFSTOPPED(status) || !get(t, u))
		return false;
	if (pwrite(t->mem, &old, 1, at) != 1 || u->rip != back + 1)
		return false;
	u->rip = back;
	return ptrace(PTRACE_SETREGS, t->pid, NULL, u) == 0;
}

/* What to do next after a stop; the request for ptrace. */
static int after_stop(struct tracer *t, int sig, struct user_regs_struct *u)
{
	if (sig == (SIGTRAP | 0x80)) { /* a system call's entry or exit, while a handler runs */
		if (!in_code(t, u->rip))
			return PTRACE_SYSCALL;
		t->in_handler = false;
	} else if (sig == SIGTRAP && u->rip == t->s->enter + 1) {
		enter(t, u);
	} else if (sig != SIGTRAP) {
		t->in_handler = true;
		return PTRACE_SYSCALL;
	}
	if (t->in_handler)
		return PTRACE_SYSCALL;
	if (!in_code(t, u->rip) && !over_helper(t, u))
		return PTRACE_CONT; /* back in C: until the next entry */
	look(t, u);
	return PTRACE_SINGLESTEP;
}

static void trace(struct tracer *t)
{
	struct user_regs_struct u;
	int status, request = PTRACE_CONT;
	long deliver = 0;

	for (;;) {
		if (ptrace((enum __ptrace_request)request, t->pid, NULL, deliver) ||
		    waitpid(t->pid, &status, 0) != t->pid || !WIFSTOPPED(status))
			break;
		if (!get(t, &u))
			break;
		request = after_stop(t, WSTOPSIG(status), &u);
		deliver = WSTOPSIG(status) == SIGTRAP || WSTOPSIG(status) == (SIGTRAP | 0x80)
				  ? 0
				  : WSTOPSIG(status);
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		fprintf(stderr, "escape: the traced run ended badly (status %#x)\n", status);
		t->bad++;
	}
}

long esc_trace(uint64_t seed, unsigned cases, bool plant)
{
	struct shared *s =
		mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct tracer t = { .s = s };
	char path[64];
	int status;

	if (s == MAP_FAILED)
		return -1;
	t.pid = fork();
	if (t.pid == 0)
		child(s, seed, cases, plant);
	if (t.pid < 0 || waitpid(t.pid, &status, 0) != t.pid || !WIFSTOPPED(status))
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)t.pid);
	t.mem = open(path, O_RDWR | O_CLOEXEC);
	if (t.mem < 0 || ptrace(PTRACE_SETOPTIONS, t.pid, NULL,
				(long)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL))) {
		kill(t.pid, SIGKILL);
		waitpid(t.pid, &status, 0);
		return -1;
	}
	trace(&t);
	printf("escape: %u cases traced, %lu host instructions, %lu accesses, %lu outside\n",
	       atomic_load(&s->done), t.steps, t.accesses, t.bad);
	if (!plant && (atomic_load(&s->done) != cases || t.accesses < cases))
		t.bad++;
	close(t.mem);
	munmap(s, sizeof(*s));
	return (long)t.bad;
}
