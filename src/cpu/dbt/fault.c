/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host signals that hit generated code: from a host program counter to a precise guest state.
 *
 * A block's side table tells, for each guest instruction, the stretch of host code during which nothing of it has been
 * committed yet. A fault there is the guest instruction's; a kick there stops in front of it. A kick anywhere
 * else single-steps the host to the next such place. All handlers run on an alternate stack, because the host
 * stack pointer is the guest's return stack.
 */
#include "cpu/dbt/dbt_priv.h"

#include "base/log.h"
#include "base/stats.h"
#include "cpu/kick.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <ucontext.h>

#define HOST_TF 0x100

static const struct {
	uint8_t guest, greg;
} in_place[] = {
	{ X86_RAX, REG_RAX }, { X86_RCX, REG_RCX }, { X86_RDX, REG_RDX }, { X86_RBX, REG_RBX },
	{ X86_RSP, REG_R15 }, { X86_RBP, REG_RBP }, { X86_RSI, REG_RSI }, { X86_RDI, REG_RDI },
	{ X86_R8, REG_R8 },   { X86_R12, REG_R12 }, { X86_R13, REG_R13 }, { X86_R14, REG_R14 },
};

static struct dbt_insn_map *find_row(struct dbt *d, const struct dbt_block *b, const uint8_t *pc)
{
	uint64_t off = (uint64_t)(pc - dbt_rx(&d->fc, b->host));
	uint32_t lo = b->map, hi = b->map + b->ninsn;

	while (hi - lo > 1) {
		uint32_t mid = (lo + hi) / 2;

		if (d->map[mid].host_off <= off)
			lo = mid;
		else
			hi = mid;
	}
	return off <= d->map[lo].commit && off >= d->map[lo].host_off ? &d->map[lo] : NULL;
}

/* The stretch of uncommitted host code that pc lies in; *b its block. */
static struct dbt_insn_map *locate(struct dbt *d, const uint8_t *pc, struct dbt_block **b)
{
	*b = dbt_block_by_host(d, pc);
	return *b ? find_row(d, *b, pc) : NULL;
}

static void apply_fix(struct dbt *d, const struct dbt_block *b, const struct dbt_insn_map *m,
		      greg_t *r)
{
	uint64_t off = (uint64_t)r[REG_RIP] - (uint64_t)dbt_rx(&d->fc, b->host);

	if (m->fix == DBT_FIX_RDI_S1 && off >= m->fix_off)
		r[REG_RDI] = r[REG_R10];
	/* Between PUSHFQ and POP the return stack holds the flags. */
	if (m->fix == DBT_FIX_PUSHED && off == m->fix_off)
		r[REG_RSP] += 8;
}

static void leave_at(struct dbt *d, greg_t *r, gva_t rip, enum dbt_exit reason)
{
	d->t->st.rip = rip;
	d->t->exit_reason = reason;
	r[REG_RIP] = (greg_t)dbt_rx(&d->fc, d->stub_leave);
	r[REG_EFL] &= ~HOST_TF;
}

/* ---- kicks ---- */

static bool in_range(const greg_t *r, const uint8_t *from, const uint8_t *to)
{
	return (uint64_t)r[REG_RIP] >= (uint64_t)from && (uint64_t)r[REG_RIP] < (uint64_t)to;
}

static bool in_code(const struct dbt *d, const greg_t *r)
{
	return d && in_range(r, d->fc.rx, d->fc.rx + d->fc.size);
}

/* Stops at an instruction boundary, now or by single-stepping there. */
static void stop_soon(struct dbt *d, greg_t *r)
{
	struct dbt_block *b;
	struct dbt_insn_map *m;

	if (in_range(r, d->enter_from, d->enter_to)) {
		r[REG_RIP] = (greg_t)d->enter_abort;
		r[REG_EFL] &= ~HOST_TF;
		return;
	}
	/* The other stubs lead out by themselves, except the jump through the cache and the way back from rep. */
	if (in_range(r, d->fc.rx, dbt_rx(&d->fc, d->stub_jump[0])) &&
	    !in_range(r, d->rep_from, d->rep_to)) {
		r[REG_EFL] &= ~HOST_TF;
		return;
	}
	m = locate(d, (const uint8_t *)r[REG_RIP], &b);
	if (m && !(m->flags & DBT_MAP_SHADOW)) {
		apply_fix(d, b, m, r);
		leave_at(d, r, b->va + m->guest_off, DBT_EXIT_KICK);
		return;
	}
	if (*(const uint8_t *)r[REG_RIP] == 0x9d) /* POPFQ would end the stepping */
		*(uint64_t *)r[REG_RSP] |= HOST_TF;
	r[REG_EFL] |= HOST_TF;
}

static void on_kick(int sig, siginfo_t *si, void *ctx)
{
	greg_t *r = ((ucontext_t *)ctx)->uc_mcontext.gregs;
	struct dbt *d = dbt_tls.d;

	(void)sig;
	(void)si;
	if (vcpu_self)
		atomic_store(&vcpu_self->irq_hint, 1);
	dbt_tls.kick = 1;
	if (in_code(d, r)) {
		stat_inc(DBT_KICKS);
		stop_soon(d, r);
	}
}

/* ---- faults ---- */

struct access {
	gva_t va;
	unsigned size;
	bool write;
};

static void add_access(struct access *a, unsigned *n, gva_t va, unsigned size, bool write)
{
	a[(*n)++] = (struct access){ va, size, write };
}

static uint64_t bit_offset(const struct x86_insn *i, const uint64_t *gpr)
{
	int64_t bits = (int64_t)gpr[i->op[1].reg];

	if (i->opsize == 4)
		bits = (int32_t)bits;
	return (uint64_t)((bits >> (i->opsize == 8 ? 6 : 5)) * i->opsize);
}

/* What instruction i touches in memory, as the translator emits it. */
static unsigned accesses(struct dbt *d, const struct x86_insn *i, gva_t rip, struct access a[3])
{
	const struct x86_state *s = &d->t->st;
	unsigned n = 0;

	for (unsigned k = 0; k < i->nop; k++) {
		const struct x86_operand *o = &i->op[k];
		gva_t va;

		if (o->kind != OPK_MEM || (i->attr & IA_MEMHINT))
			continue;
		va = x86_ea(i, s->gpr, rip + i->len);
		if (i->seg == X86_FS || i->seg == X86_GS)
			va += s->seg[i->seg].base;
		if ((i->id == X86_ID_BT || i->id == X86_ID_BTS || i->id == X86_ID_BTR ||
		     i->id == X86_ID_BTC) &&
		    i->op[1].kind == OPK_GPR)
			va += bit_offset(i, s->gpr);
		add_access(a, &n, va, o->size, (o->access & OPA_W) != 0);
		break;
	}
	if (i->id == X86_ID_MOVS || i->id == X86_ID_LODS || i->id == X86_ID_CMPS)
		add_access(a, &n, s->gpr[X86_RSI], i->opsize, false);
	if (i->id == X86_ID_MOVS || i->id == X86_ID_STOS)
		add_access(a, &n, s->gpr[X86_RDI], i->opsize, true);
	if (i->id == X86_ID_SCAS || i->id == X86_ID_CMPS)
		add_access(a, &n, s->gpr[X86_RDI], i->opsize, false);
	if (i->id == X86_ID_PUSH || i->id == X86_ID_PUSHF || (i->attr & IA_CALL))
		add_access(a, &n, s->gpr[X86_RSP] - 8, 8, true);
	else if (i->id == X86_ID_POP || i->id == X86_ID_POPF || (i->attr & IA_RET))
		add_access(a, &n, s->gpr[X86_RSP], 8, false);
	else if (i->id == X86_ID_LEAVE)
		add_access(a, &n, s->gpr[X86_RBP], 8, false);
	return n;
}

static bool fill_accesses(struct dbt *d, const struct dbt_block *b, gva_t rip)
{
	uint8_t buf[15];
	struct access a[3];
	struct x86_insn i;
	unsigned n;

	dbt_block_code(d, b, (unsigned)(rip - b->va), buf);
	if (x86_decode(&i, X86_MODE_64, buf, 15) < 0)
		return false;
	n = accesses(d, &i, rip, a);
	for (unsigned k = 0; k < n; k++)
		if (a[k].size == 0 || (a[k].va & 4095) + a[k].size > 4096 ||
		    !dbt_mmu_fill(d, a[k].va, a[k].write))
			return false;
	return n > 0;
}

/* The guest state in front of the faulting instruction, as the walk and interp want to see it. */
static void save_state(struct dbt *d, const greg_t *r)
{
	struct dbt_tls *t = d->t;

	for (unsigned n = 0; n < ARRAY_SIZE(in_place); n++)
		t->st.gpr[in_place[n].guest] = (uint64_t)r[in_place[n].greg];
	t->st.rflags = ((uint64_t)r[REG_EFL] & DBT_HOST_FLAGS) | t->sysflags | t->vif;
}

static bool return_stack_overflow(struct dbt *d, uint64_t addr, greg_t *r)
{
	for (unsigned i = 0; i < 2; i++)
		if (addr >= (uint64_t)d->ret_stack[i] - 4096 && addr < (uint64_t)d->ret_stack[i]) {
			r[REG_RSP] = (greg_t)d->ret_top[i];
			return true;
		}
	return false;
}

/* The same fault right after a fill: the fill was not what it wanted. */
static bool refault(struct dbt *d, uint64_t pc, uint64_t addr)
{
	bool again = d->refault_pc == pc && d->refault_addr == addr;

	d->refault_pc = again ? 0 : pc;
	d->refault_addr = addr;
	return again;
}

NORETURN static void lost(struct dbt *d, int sig, const siginfo_t *si, const greg_t *r)
{
	const struct dbt_block *b = dbt_block_by_host(d, (const uint8_t *)r[REG_RIP]);

	log_err("dbt: signal %d code %d address %p at host %#llx (code offset %#llx, block %#lx)",
		sig, si->si_code, si->si_addr, r[REG_RIP], r[REG_RIP] - (greg_t)d->fc.rx,
		b ? b->va : 0);
	abort();
}

static struct sigaction before[NSIG];

/* Not from generated code: it happens again under the handler that was there before ours. */
static void foreign(int sig, const siginfo_t *si)
{
	sigaction(sig, &before[sig], NULL);
	if (si->si_code <= 0) /* sent by a process: does not happen by itself */
		raise(sig);
}

/* The access is not aligned, or crosses pages: what is learned of the instruction may ask for another translation. */
static void note_misfit(struct dbt *d, struct dbt_block *b, const struct dbt_insn_map *m)
{
	bool was_aligned = m->flags & DBT_MAP_ALIGNED;

	if (was_aligned)
		stat_inc(DBT_UNALIGNED);
	else
		stat_inc(DBT_CROSS);
	if (dbt_site_misfit(d, b->ram_off + m->guest_off, was_aligned))
		d->misfit = b;
}

static bool is_memory_fault(int sig, const siginfo_t *si)
{
	return sig == SIGSEGV && si->si_code != SI_KERNEL;
}

static void on_fault(int sig, siginfo_t *si, void *ctx)
{
	greg_t *r = ((ucontext_t *)ctx)->uc_mcontext.gregs;
	struct dbt *d = dbt_tls.d;
	uint64_t addr = (uint64_t)si->si_addr;
	struct dbt_block *b;
	struct dbt_insn_map *m;
	gva_t rip;

	if (!in_code(d, r)) {
		foreign(sig, si); /* a bug of ours: let it be seen */
		return;
	}
	if (is_memory_fault(sig, si) &&
	    (dbt_mmu_table_fault(d, addr) || return_stack_overflow(d, addr, r)))
		return;
	m = locate(d, (const uint8_t *)r[REG_RIP], &b);
	if (!m)
		lost(d, sig, si, r);
	stat_inc(DBT_FAULTS);
	rip = b->va + m->guest_off;
	uint64_t pc = (uint64_t)r[REG_RIP];

	apply_fix(d, b, m, r);
	save_state(d, r);
	if (is_memory_fault(sig, si) && !refault(d, pc, addr) && fill_accesses(d, b, rip)) {
		r[REG_RIP] = (greg_t)dbt_rx(&d->fc, b->host + m->host_off);
		return;
	}
	if (addr - (uint64_t)d->mmu.window - BIT(DBT_MISFIT_SHIFT) <
	    DBT_WINDOW_BYTES - BIT(DBT_MISFIT_SHIFT))
		note_misfit(d, b, m);
	leave_at(d, r, rip, DBT_EXIT_FAULT);
}

static void on_trap(int sig, siginfo_t *si, void *ctx)
{
	greg_t *r = ((ucontext_t *)ctx)->uc_mcontext.gregs;
	struct dbt *d = dbt_tls.d;

	if (!in_code(d, r)) {
		if (r[REG_EFL] & HOST_TF)
			r[REG_EFL] &= ~HOST_TF;
		else
			foreign(sig, si);
		return;
	}
	stop_soon(d, r);
}

/* ---- set-up ---- */

static pthread_once_t handlers_once = PTHREAD_ONCE_INIT;

static void install(int sig, void (*fn)(int, siginfo_t *, void *))
{
	struct sigaction sa = { .sa_sigaction = fn, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	/* A kick must not interrupt a fault handler half-way through a fill. */
	sigemptyset(&sa.sa_mask);
	sigaddset(&sa.sa_mask, CPU_KICK_SIGNAL);
	sigaction(sig, &sa, &before[sig]);
}

static void install_handlers(void)
{
	install(SIGSEGV, on_fault);
	install(SIGBUS, on_fault);
	install(SIGILL, on_fault);
	install(SIGFPE, on_fault);
	install(SIGTRAP, on_trap);
	install(CPU_KICK_SIGNAL, on_kick);
}

static const int handled[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, CPU_KICK_SIGNAL };

int dbt_fault_attach(struct dbt *d)
{
	stack_t ss = { 0 };
	sigset_t set;

	d->altstack_size = 128 * KiB + 2 * getauxval(AT_MINSIGSTKSZ);
	d->altstack = mmap(NULL, d->altstack_size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (d->altstack == MAP_FAILED)
		return -ENOMEM;
	ss.ss_sp = d->altstack;
	ss.ss_size = d->altstack_size;
	if (sigaltstack(&ss, NULL))
		return -errno;
	pthread_once(&handlers_once, install_handlers);
	sigemptyset(&set);
	for (unsigned i = 0; i < ARRAY_SIZE(handled); i++)
		sigaddset(&set, handled[i]);
	return -pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

void dbt_fault_detach(struct dbt *d)
{
	stack_t ss = { .ss_flags = SS_DISABLE };

	if (!d->altstack)
		return;
	sigaltstack(&ss, NULL);
	munmap(d->altstack, d->altstack_size);
	d->altstack = NULL;
}
