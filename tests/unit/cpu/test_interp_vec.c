/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter's vector unit against the bare host: random encodings with random state run once
 * natively (the original bytes, the whole state loaded) and once through interp_vec_exec; registers,
 * flags, XSAVE image, memory and faults must agree. Then directed cases that the host cannot show.
 * Usage: test_interp_vec [cases [seed]].
 */
#include <cpuid.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

#include <cmocka.h>

#include "cpu/interp/thunk.h"

/* ---- the interpreter around the unit: flat memory at host addresses ---- */

#define MEM_SIZE 8192u
static uint8_t *mem; /* followed by an inaccessible page */

int interp_fault(struct vcpu *v, unsigned vec, bool has_error, uint32_t error)
{
	struct interp *it = interp_of(v);
	it->fault = (struct interp_fault_info){ (uint8_t)vec, true, has_error, error, 0 };
	return -1;
}

static bool outside(gva_t lin, unsigned n)
{
	return lin < (uintptr_t)mem || lin + n > (uintptr_t)mem + MEM_SIZE || lin + n < lin;
}

static int access_fault(struct vcpu *v)
{
	return interp_fault(v, X86_EX_PF, true, 0);
}

int interp_linear(struct vcpu *v, unsigned seg, uint64_t off, unsigned size, unsigned acc,
		  gva_t *lin)
{
	(void)size;
	(void)acc;
	*lin = off + (seg == X86_FS || seg == X86_GS ? v->s->seg[seg].base : 0);
	return x86_canonical(*lin) ? 0 : interp_gp0(v);
}

int interp_operand(struct vcpu *v, const struct x86_insn *i, unsigned size, unsigned acc,
		   gva_t *lin)
{
	return interp_linear(v, i->seg, x86_ea(i, v->s->gpr, v->s->rip + i->len), size, acc, lin);
}

int interp_lin_read(struct vcpu *v, gva_t lin, void *buf, unsigned n, unsigned acc)
{
	(void)acc;
	if (outside(lin, n))
		return access_fault(v);
	memcpy(buf, (void *)lin, n);
	return 0;
}

int interp_lin_write(struct vcpu *v, gva_t lin, const void *buf, unsigned n, unsigned acc)
{
	(void)acc;
	if (outside(lin, n))
		return access_fault(v);
	memcpy((void *)lin, buf, n);
	return 0;
}

void *interp_direct(struct vcpu *v, gva_t lin, unsigned n, unsigned acc)
{
	(void)acc;
	if (!outside(lin, n))
		return (void *)lin;
	access_fault(v);
	return NULL;
}

int interp_load(struct vcpu *v, gva_t lin, unsigned size, uint64_t *val)
{
	*val = 0;
	return interp_lin_read(v, lin, val, size, 0);
}

int interp_store(struct vcpu *v, gva_t lin, unsigned size, uint64_t val)
{
	return interp_lin_write(v, lin, &val, size, 0);
}

/* ---- the bare host ---- */

struct native {
	uint64_t gpr[16], flags, host_rsp, tmp;
	uint8_t pad[40];
	uint8_t xsave[4096] __attribute__((aligned(64)));
};
#define N_FLAGS 128
#define N_RSP 136
#define N_TMP 144
#define N_XSAVE 192

static struct native *nat;
static uint8_t *code;
static volatile int nat_trap;
static uint8_t *nat_epilogue;

static void on_signal(int sig, siginfo_t *si, void *opaque)
{
	ucontext_t *uc = opaque;
	(void)sig;
	(void)si;
	nat_trap = (int)uc->uc_mcontext.gregs[REG_TRAPNO];
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)nat_epilogue;
}

static uint8_t *cput(uint8_t *p, const void *b, size_t n)
{
	memcpy(p, b, n);
	return p + n;
}
#define C(...)                                                                                     \
	p = cput(p, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static uint8_t *put_disp(uint8_t *p, uint32_t d)
{
	return cput(p, &d, 4);
}

static uint8_t *mov_gpr(uint8_t *p, bool load, unsigned base, unsigned r)
{
	C((uint8_t)(0x48 | (r >= 8 ? 4 : 0)), load ? 0x8b : 0x89,
	  (uint8_t)(0x80 | (r & 7) << 3 | base));
	return put_disp(p, 8 * r);
}

static uint8_t *prologue(uint8_t *p)
{
	C(0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57);
	C(0x48, 0x89, 0xa7);
	p = put_disp(p, N_RSP);
	C(0xb8, 7, 0, 0, 0, 0x31, 0xd2, 0x48, 0x0f, 0xae, 0xaf); /* xrstor64 */
	p = put_disp(p, N_XSAVE);
	C(0xff, 0xb7);
	p = put_disp(p, N_FLAGS);
	C(0x9d);
	for (unsigned r = 0; r < 16; r++)
		if (r != X86_RDI)
			p = mov_gpr(p, true, X86_RDI, r);
	return mov_gpr(p, true, X86_RDI, X86_RDI);
}

static uint8_t *epilogue(uint8_t *p)
{
	uint64_t tmp = (uintptr_t)nat + N_TMP, base = (uintptr_t)nat;
	C(0x48, 0xa3);
	p = cput(p, &tmp, 8);
	C(0x48, 0xb8);
	p = cput(p, &base, 8);
	for (unsigned r = 1; r < 16; r++)
		p = mov_gpr(p, false, X86_RAX, r);
	C(0x48, 0x8b, 0xa0);
	p = put_disp(p, N_RSP);
	C(0x9c, 0x8f, 0x80);
	p = put_disp(p, N_FLAGS);
	C(0x48, 0x89, 0xc7, 0xb8, 7, 0, 0, 0, 0x31, 0xd2, 0x48, 0x0f, 0xae, 0xa7); /* xsave64 */
	p = put_disp(p, N_XSAVE);
	C(0xdb, 0xe3, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3);
	return p;
}

static uint8_t *native_insn_at; /* where the instruction will stand */

static void native_place(const uint8_t *insn, unsigned len)
{
	uint8_t *p = cput(native_insn_at, insn, len);
	nat_epilogue = p;
	epilogue(p);
	__builtin___clear_cache((char *)code, (char *)code + 4096);
}

/* Returns the trap number or -1. */
static int native_run(void)
{
	static const uint32_t mxcsr = 0x1f80;
	union {
		uint8_t *p;
		void (*fn)(struct native *);
	} entry = { code };
	nat_trap = -1;
	entry.fn(nat);
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	if (__builtin_cpu_supports("avx"))
		__asm__ volatile("vzeroupper");
	nat->gpr[0] = nat->tmp;
	return nat_trap;
}

/* In the test itself: cmocka puts its own handlers there before each. */
static void catch_signals(void)
{
	static uint8_t altstack[65536];
	stack_t ss = { .ss_sp = altstack, .ss_size = sizeof(altstack) };
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	sigaltstack(&ss, NULL);
	const int sigs[] = { SIGFPE, SIGSEGV, SIGILL, SIGBUS };
	for (unsigned k = 0; k < ARRAY_SIZE(sigs); k++)
		sigaction(sigs[k], &sa, NULL);
}

static int set_up(void **state)
{
	(void)state;
	mem = mmap(NULL, MEM_SIZE + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1,
		   0);
	code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0);
	nat = aligned_alloc(64, sizeof(*nat));
	if (mem == MAP_FAILED || code == MAP_FAILED || !nat)
		return -1;
	memset(nat, 0, sizeof(*nat));
	mem += 4096;
	if (mprotect(mem, MEM_SIZE, PROT_READ | PROT_WRITE))
		return -1;
	native_insn_at = prologue(code);
	return 0;
}

/* ---- random cases ---- */

static uint64_t rng;
static uint64_t rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng * 0x2545f4914f6cdd1dull;
}
static unsigned below(unsigned n)
{
	return (unsigned)((rnd() >> 33) % n);
}

static struct vcpu vcpu;
static struct interp interp;
static struct x86_state *st;

static void open_unit(void)
{
	if (!st)
		st = aligned_alloc(64, ALIGN_UP(sizeof(*st), 64u));
	assert_non_null(st);
	memset(st, 0, sizeof(*st));
	memset(&interp, 0, sizeof(interp));
	vcpu.s = st;
	vcpu.interp = &interp;
	assert_int_equal(interp_vec_open(&vcpu), 0);
	st->cr0 = X86_CR0_PE | X86_CR0_NE | X86_CR0_ET | X86_CR0_MP | X86_CR0_PG;
	st->cr4 = X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE;
	st->efer = X86_EFER_LMA | X86_EFER_LME;
	st->xcr0 = 7;
	st->cpl = 3;
	st->seg[X86_CS].attr = X86_SEG_L;
	st->rflags = X86_FL_R1;
	xs_set32(st, XS_MXCSR, MXCSR_DEFAULT);
	vec_materialise(&vcpu);
}

static uint32_t nat_mm; /* MXCSR.MM where the host has it */
static const uint32_t floats[] = { 0,	       0x80000000, 0x3f800000, 0xbf800000, 0x7f800000,
				   0xff800000, 0x7fc00000, 0x7f800001, 1,	   0x80000001,
				   0x7fffff,   0x00800000, 0x7f7fffff, 0x40490fdb, 0x4f000000,
				   0xcf000000, 0x3f000000 };
static const uint64_t doubles[] = { 0,
				    0x8000000000000000,
				    0x3ff0000000000000,
				    0xbff0000000000000,
				    0x7ff0000000000000,
				    0xfff0000000000000,
				    0x7ff8000000000000,
				    0x7ff0000000000001,
				    1,
				    0x800fffffffffffff,
				    0x0010000000000000,
				    0x7fefffffffffffff,
				    0x41e0000000000000,
				    0x43e0000000000000,
				    0x3810000000000000,
				    0x36a0000000000000,
				    0x3fe0000000000000 };

static void random_data(uint8_t *p, unsigned n)
{
	unsigned how = below(4);
	for (unsigned k = 0; k + 8 <= n; k += 8) {
		uint64_t val = rnd();
		if (how == 1)
			val = floats[below(ARRAY_SIZE(floats))] |
			      (uint64_t)floats[below(ARRAY_SIZE(floats))] << 32;
		else if (how == 2)
			val = doubles[below(ARRAY_SIZE(doubles))];
		memcpy(p + k, &val, 8);
	}
}

static void random_st(uint8_t *p)
{
	static const uint16_t exps[] = { 0,	 0,	 1,	 0x3fff, 0x7fff, 0x7ffe,
					 0x403e, 0x3c00, 0x4400, 0x3f80, 0x3000 };
	static const uint64_t mants[] = { 0, 1ull << 63,       3ull << 62, ~0ull,
					  1, (1ull << 63) | 1, 1ull << 62 };
	uint16_t e = (uint16_t)(exps[below(ARRAY_SIZE(exps))] | below(2) << 15);
	uint64_t m = below(2) ? mants[below(ARRAY_SIZE(mants))] : rnd() | (uint64_t)below(2) << 63;
	if (below(3) == 0)
		e = (uint16_t)(0x3fff + below(70) - 4 + (below(2) << 15)), m |= 1ull << 63;
	memset(p, 0, 16);
	memcpy(p, &m, 8);
	memcpy(p + 8, &e, 2);
}

static void random_xsave(uint8_t *x)
{
	unsigned fcw = 0x37f, fsw = 0, mxcsr = 0x1f80;
	memset(x, 0, 832);
	if (below(2))
		fcw = 0x40 | below(0x40) | below(16) << 8;
	if (below(2))
		fsw = (below(0x80) & (fcw | 0x40)) | (below(2) ? below(0x80) << 8 : 0);
	if (below(2))
		mxcsr = below(0x10000) | (below(8) ? 0 : nat_mm);
	uint16_t w[3] = { (uint16_t)fcw, (uint16_t)fsw, (uint16_t)(below(3) ? 0xff : below(256)) };
	memcpy(x, w, 6);
	if (!below(4))
		x[4] = 0;
	memcpy(x + 24, &mxcsr, 4);
	for (unsigned k = 0; k < 8; k++)
		random_st(x + 32 + 16 * k);
	random_data(x + 160, 256);
	random_data(x + 576, 256);
	x[512] = 7;
}

/* A random encoding; the memory operand is [rbx/r11 + disp8] or has a vector index. */
static unsigned random_insn(uint8_t *b, bool x87)
{
	unsigned n = 0;
	static const uint8_t pfx[] = { 0, 0x66, 0xf3, 0xf2 };
	uint8_t modrm = (uint8_t)rnd();
	if (modrm < 0xc0)
		modrm = (uint8_t)((modrm & 0x38) | 0x43);
	if (x87) {
		b[n++] = (uint8_t)(0xd8 + below(8));
		b[n++] = modrm;
		b[n++] = (uint8_t)below(64);
		return 15;
	}
	unsigned map = 1 + below(3);
	static const uint8_t rare[] = { 0x71, 0x72, 0x73, 0xae };
	uint8_t op = below(16) ? (uint8_t)rnd() : rare[below(4)];
	if (map == 1 && (op == 0x38 || op == 0x3a))
		op = 0x10; /* not an opcode but a map */
	if (below(2)) {
		b[n++] = 0xc4;
		b[n++] = (uint8_t)((below(8) << 5 | 0x40) | map);
		b[n++] = (uint8_t)rnd();
		if (below(3) == 0)
			b[n - 1] |= 0x78;
	} else {
		uint8_t p = pfx[below(4)];
		if (p)
			b[n++] = p;
		if (below(2))
			b[n++] = (uint8_t)(0x40 | (below(16) & 0xd));
		b[n++] = 0x0f;
		if (map == 2)
			b[n++] = 0x38;
		if (map == 3)
			b[n++] = 0x3a;
	}
	bool vsib = b[0] == 0xc4 && map == 2 && op >= 0x90 && op <= 0x93;
	b[n++] = op;
	if (vsib) {
		b[n++] = (uint8_t)((modrm & 0x38) | 0x44);
		b[n++] = (uint8_t)((rnd() & 0xf8) | 3);
	} else {
		b[n++] = modrm;
	}
	b[n++] = (uint8_t)below(64);
	b[n++] = (uint8_t)rnd();
	return 15;
}

static unsigned hits[4096];

static void dump_insn(const struct x86_insn *i, const char *what)
{
	char text[128];
	fprintf(stderr, "%s: %s  [", what,
		x86_disasm(text, sizeof(text), i->mode, i->bytes, i->len, 0));
	for (unsigned k = 0; k < i->len; k++)
		fprintf(stderr, "%02x ", i->bytes[k]);
	fprintf(stderr, "]\n");
}

static bool differ(const struct x86_insn *i, const char *what, uint64_t a, uint64_t b)
{
	if (a == b)
		return false;
	dump_insn(i, what);
	fprintf(stderr, "   interp %016llx host %016llx\n", (unsigned long long)a,
		(unsigned long long)b);
	return true;
}

/* x87 pointers may differ where the host keeps what the image cannot hold: FDP of register forms. */
static void canonical_pointers(uint8_t *x)
{
	memset(x + XS_FDP, 0, 8);
}

static bool compare(const struct x86_insn *i, int trap, const uint8_t *mem_interp, int ret)
{
	bool bad = false;
	uint64_t fl_mask = X86_FL_ARITH;
	int vec = ret ? interp.fault.vec : -1;
	if ((trap == X86_EX_GP || trap == X86_EX_PF) && (vec == X86_EX_GP || vec == X86_EX_PF))
		trap = vec; /* outside memory the flat model only knows one kind */
	bad |= differ(i, "trap", (uint64_t)(int64_t)vec, (uint64_t)(int64_t)trap);
	for (unsigned r = 0; r < 16; r++)
		bad |= differ(i, "gpr", st->gpr[r], nat->gpr[r]);
	bad |= differ(i, "flags", st->rflags & fl_mask, nat->flags & fl_mask);
	if (!i->has_mem || !(i->attr & IA_X87)) {
		canonical_pointers(st->xsave);
		canonical_pointers(nat->xsave);
	}
	if (trap == X86_EX_XM) {
		/* beside an unmasked overflow or underflow the precision flag may differ; DPPS takes steps */
		bool dpps = i->map == 3 && (i->opcode & 0xfe) == 0x40;
		unsigned vary = (xs_get32(st, XS_MXCSR) & 0xc00) != 0xc00 ? 0x20 : 0;
		st->xsave[XS_MXCSR] |= (uint8_t)(dpps ? 0x3f : vary);
		nat->xsave[XS_MXCSR] |= (uint8_t)(dpps ? 0x3f : vary);
	}
	memcpy(st->xsave + XS_MXCSR_MASK, nat->xsave + XS_MXCSR_MASK, 4);
	uint64_t bv = xs_get64(st, XS_BV);
	for (unsigned off = 0; off < XS_END; off += 8) {
		uint64_t a, b;
		memcpy(&a, st->xsave + off, 8);
		memcpy(&b, nat->xsave + off, 8);
		if (off >= XS_LEGACY && off < XS_YMMH)
			continue;
		char what[32];
		snprintf(what, sizeof(what), "xsave+%u", off);
		bad |= differ(i, what, a, b);
	}
	bad |= differ(i, "bv", bv, 7);
	if (memcmp(mem, mem_interp, MEM_SIZE)) {
		dump_insn(i, "memory");
		for (unsigned k = 0; k < MEM_SIZE; k += 8)
			if (memcmp(mem + k, mem_interp + k, 8)) {
				uint64_t a, b;
				memcpy(&a, mem_interp + k, 8);
				memcpy(&b, mem + k, 8);
				fprintf(stderr, "   +%u", k);
				differ(i, "", a, b);
			}
		bad = true;
	}
	return bad;
}

static bool host_has(unsigned feature)
{
	static const struct {
		uint32_t leaf, subleaf;
		uint8_t reg, bit;
	} f[] = {
		{ 0, 0, 0, 0 },
#define X86_FEAT(name, leaf, subleaf, reg, bit) { leaf, subleaf, reg, bit },
#include "x86/features.def"
#undef X86_FEAT
	};
	uint32_t r[4] = { 0 };
	if (feature == X86_FEAT_NONE)
		return true;
	__cpuid_count(f[feature].leaf, f[feature].subleaf, r[0], r[1], r[2], r[3]);
	return r[f[feature].reg] >> f[feature].bit & 1;
}

static bool wanted(const struct x86_insn *i)
{
	static int8_t known[X86_FEAT_COUNT]; /* CPUID traps here: ask once */
	int8_t *k = &known[i->row->feature];
	if (!*k)
		*k = host_has(i->row->feature) ? 1 : -1;
	if (!(i->attr & (IA_X87 | IA_MMX | IA_SSE | IA_VEX)) || *k < 0)
		return false;
	if (i->map == 1 && i->opcode == 0xae && i->has_mem && (i->modrm >> 3 & 7) < 2)
		return false; /* FXSAVE: directed cases */
	/* FNSTENV and FNSAVE store host selectors: directed cases */
	return !(i->attr & IA_PAIR);
}

/*
 * UNPCKLPx, and shifts and unpacks when MXCSR.MM lets them be misaligned: AMD reads only the half of
 * memory that they use; MASKMOVx: whether a clear mask may fault is left open. It shows at a page's end.
 */
static bool vague_at_page_end(const struct x86_insn *i)
{
	if (nat_mm && !i->vex && (i->attr & IA_ALIGN))
		return true;
	return i->map == 1 && ((i->opcode & 0xfe) == 0x14 || i->opcode == 0xf7);
}

static void small_indices(uint8_t *x, unsigned reg, bool wide)
{
	for (unsigned h = 0; h < 2; h++) {
		uint8_t *p = x + (h ? XS_YMMH : XS_XMM) + 16 * reg;
		for (unsigned k = 0; k < 16; k += wide ? 8 : 4) {
			int64_t val = (int64_t)below(600) - 200;
			memcpy(p + k, &val, wide ? 8 : 4);
		}
	}
}

static void random_state(const struct x86_insn *i)
{
	for (unsigned r = 0; r < 16; r++)
		nat->gpr[r] = rnd();
	if (below(4) == 0)
		nat->gpr[0] = below(20), nat->gpr[2] = below(20);
	nat->flags = (rnd() & X86_FL_ARITH) | X86_FL_R1;
	random_xsave(nat->xsave);
	uint64_t at = (uintptr_t)mem + 512 + (below(4) ? below(20) * 64 : below(4000));
	if (below(16) == 0 && !vague_at_page_end(i))
		at = (uintptr_t)mem + MEM_SIZE - below(40);
	if (i->map == 1 && i->opcode == 0xf7)
		nat->gpr[X86_RDI] = at;
	if (i->has_mem && i->base != 0xff && (below(4) || (i->attr & IA_ALIGN)))
		nat->gpr[i->base] = at - (uint64_t)(i->attr & IA_VSIB ? 0 : i->disp);
	else if (i->has_mem && i->base != 0xff)
		nat->gpr[i->base] = at;
	if (i->attr & IA_VSIB)
		small_indices(nat->xsave, i->index & 15, i->opcode & 1);
	if ((i->row->id == X86_ID_LDMXCSR || i->row->id == X86_ID_VLDMXCSR) && below(2))
		memset(mem, 0, MEM_SIZE);
}

static bool one_case(bool x87)
{
	uint8_t bytes[16] = { 0 };
	static uint8_t before[MEM_SIZE], after[MEM_SIZE];
	struct x86_insn i;
	unsigned n = random_insn(bytes, x87);
	int len = x86_decode(&i, X86_MODE_64, bytes, n);
	if (len <= 0 || !wanted(&i))
		return false;
	hits[i.row_index]++;
	random_data(mem, MEM_SIZE);
	random_state(&i);
	memcpy(before, mem, MEM_SIZE);
	memcpy(st->gpr, nat->gpr, sizeof(st->gpr));
	st->rflags = nat->flags;
	memcpy(st->xsave, nat->xsave, 832);
	native_place(bytes, (unsigned)len);
	st->rip = (uintptr_t)native_insn_at;
	memset(&interp.fault, 0, sizeof(interp.fault));
	int ret = interp_vec_exec(&vcpu, &i);
	memcpy(after, mem, MEM_SIZE);
	memcpy(mem, before, MEM_SIZE);
	if (getenv("VEC_TRACE"))
		dump_insn(&i, "run");
	int trap = native_run();
	if (compare(&i, trap, after, ret))
		fail_msg("case differs");
	return true;
}

static unsigned cases = 200000;
static uint64_t seed = 1;

static void coverage(void)
{
	unsigned rows = 0, hit = 0;
	for (unsigned k = 0; k < x86_row_count() && k < ARRAY_SIZE(hits); k++) {
		const struct x86_row *r = x86_row_at(k);
		if (!(r->attr & (IA_X87 | IA_MMX | IA_SSE | IA_VEX)) || (r->attr & IA_PAIR))
			continue;
		rows++;
		hit += hits[k] != 0;
		if (!hits[k] && getenv("VEC_TRACE"))
			fprintf(stderr, "never hit: %s %s\n", r->name, r->operands);
	}
	printf("rows hit: %u of %u\n", hit, rows);
	if (cases >= 100000)
		assert_true(hit > rows * 8 / 10);
}

static void test_against_host(void **state)
{
	(void)state;
	open_unit();
	catch_signals();
	nat_mm = vec_unit_of(&vcpu)->mxcsr_mask & (1u << 17);
	rng = seed * 0x9e3779b97f4a7c15ull | 1;
	unsigned done = 0;
	for (unsigned k = 0; k < cases * 20 && done < cases; k++)
		done += one_case(below(5) == 0);
	printf("cases: %u, seed %llu, thunks %u\n", done, (unsigned long long)seed,
	       vec_unit_of(&vcpu)->count);
	assert_true(done > cases / 2);
	coverage();
	interp_vec_close(&vcpu);
}

/* ---- directed ---- */

static int exec_mode(enum x86_mode mode, const uint8_t *bytes, unsigned n)
{
	struct x86_insn i;
	uint8_t b[15] = { 0 };
	memcpy(b, bytes, n);
	assert_int_equal(x86_decode(&i, mode, b, 15), (int)n);
	memset(&interp.fault, 0, sizeof(interp.fault));
	int ret = interp_vec_exec(&vcpu, &i);
	st->rip += n;
	return ret;
}
#define EXEC(mode, ...)                                                                            \
	exec_mode(mode, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))
#define EXEC64(...) EXEC(X86_MODE_64, __VA_ARGS__)

static uint64_t mem64(unsigned off)
{
	uint64_t r;
	memcpy(&r, mem + off, 8);
	return r;
}
static uint32_t mem32(unsigned off)
{
	return (uint32_t)mem64(off);
}

static void test_xsave(void **state)
{
	(void)state;
	open_unit();
	random_xsave(st->xsave);
	rng = 77;
	xs_set16(st, XS_FCW, 0x37f);
	xs_set32(st, XS_MXCSR, 0x1fa0);
	memset(mem, 0xee, MEM_SIZE);
	memset(mem + 512, 0, 64);
	st->gpr[X86_RBX] = (uintptr_t)mem;
	st->gpr[X86_RAX] = 7;
	st->gpr[X86_RDX] = 0;
	uint8_t want[XS_END];
	assert_int_equal(EXEC64(0xdb, 0xe2), 0); /* fnclex: brings the image to the host's form */
	memcpy(want, st->xsave, sizeof(want));
	assert_int_equal(EXEC64(0x48, 0x0f, 0xae, 0x23), 0); /* xsave64 [rbx] */
	assert_memory_equal(mem, want, XS_MXCSR_MASK);
	assert_memory_equal(mem + XS_ST, want + XS_ST, XS_LEGACY - XS_ST);
	assert_memory_equal(mem + XS_YMMH, want + XS_YMMH, 256);
	assert_int_equal(mem64(512), 7);
	assert_int_equal(mem[XS_LEGACY], 0xee);

	/* upper halves zero: AVX leaves XSTATE_BV; XRSTOR then gives zeros whatever the area holds */
	assert_int_equal(EXEC64(0xc5, 0xf8, 0x77), 0);
	assert_int_equal(interp_xinuse(&vcpu), 3);
	assert_int_equal(EXEC64(0x48, 0x0f, 0xae, 0x33), 0); /* xsaveopt64 [rbx] */
	assert_int_equal(mem64(512), 3);
	assert_memory_equal(mem + XS_YMMH, want + XS_YMMH, 256);
	memset(st->xsave + XS_YMMH, 0x55, 256);
	assert_int_equal(EXEC64(0x48, 0x0f, 0xae, 0x2b), 0); /* xrstor64 [rbx] */
	assert_int_equal(xs_get64(st, XS_YMMH), 0);
	assert_memory_equal(st->xsave, want, XS_MXCSR);
	assert_memory_equal(st->xsave + XS_ST, want + XS_ST, XS_LEGACY - XS_ST);

	/* compacted */
	memset(st->xsave + XS_YMMH, 0x44, 256);
	assert_int_equal(EXEC64(0x48, 0x0f, 0xc7, 0x23), 0); /* xsavec64 */
	assert_true(mem64(520) == (BIT(63) | 7) && mem64(512) == 7);
	memset(st->xsave + XS_YMMH, 0, 256);
	assert_int_equal(EXEC64(0x48, 0x0f, 0xae, 0x2b), 0);
	assert_int_equal(st->xsave[XS_YMMH + 255], 0x44);

	/* faults: reserved header bits, XSTATE_BV beyond XCR0, misalignment, MXCSR, no OSXSAVE */
	mem[520 + 8] = 1;
	assert_int_equal(EXEC64(0x48, 0x0f, 0xae, 0x2b), -1);
	assert_int_equal(interp.fault.vec, X86_EX_GP);
	mem[520 + 8] = 0;
	mem[513] = 1;
	assert_int_equal(EXEC64(0x48, 0x0f, 0xae, 0x2b), -1);
	mem[513] = 0;
	assert_int_equal(EXEC64(0x48, 0x0f, 0xae, 0x2b), 0);
	mem[XS_MXCSR + 3] = 0x80;
	assert_int_equal(EXEC64(0x48, 0x0f, 0xae, 0x2b), -1);
	mem[XS_MXCSR + 3] = 0;
	st->gpr[X86_RBX] += 16;
	assert_int_equal(EXEC64(0x48, 0x0f, 0xae, 0x23), -1);
	assert_int_equal(interp.fault.vec, X86_EX_GP);
	st->cr4 &= ~X86_CR4_OSXSAVE;
	assert_int_equal(EXEC64(0x48, 0x0f, 0xae, 0x23), -1);
	assert_int_equal(interp.fault.vec, X86_EX_UD);
	interp_vec_close(&vcpu);
}

static void test_fxsave(void **state)
{
	(void)state;
	open_unit();
	rng = 99;
	random_xsave(st->xsave);
	xs_set16(st, XS_FCW, 0x37f);
	xs_set16(st, XS_FSW, 0);
	xs_set32(st, XS_MXCSR, 0x1f80);
	assert_int_equal(EXEC64(0xd9, 0xd0), 0); /* fnop */
	uint8_t want[512];
	memcpy(want, st->xsave, 512);
	memset(mem, 0xee, MEM_SIZE);
	st->gpr[X86_RBX] = (uintptr_t)mem;
	assert_int_equal(EXEC64(0x0f, 0xae, 0x03), 0);
	assert_memory_equal(mem + XS_ST, want + XS_ST, XS_LEGACY - XS_ST);
	assert_int_equal(mem[XS_LEGACY], 0xee);
	assert_int_equal(mem32(XS_MXCSR_MASK), vec_unit_of(&vcpu)->mxcsr_mask);
	memset(st->xsave + XS_ST, 0, XS_LEGACY - XS_ST);
	assert_int_equal(EXEC64(0x0f, 0xae, 0x0b), 0);
	assert_memory_equal(st->xsave + XS_ST, want + XS_ST, XS_LEGACY - XS_ST);
	/* outside 64-bit mode XMM8 and above are neither saved nor loaded */
	memset(mem, 0xee, MEM_SIZE);
	assert_int_equal(EXEC(X86_MODE_32, 0x0f, 0xae, 0x03), 0);
	assert_int_equal(mem[XS_XMM + 128], 0xee);
	mem[XS_MXCSR + 3] = 0x80;
	assert_int_equal(EXEC64(0x0f, 0xae, 0x0b), -1);
	assert_int_equal(interp.fault.vec, X86_EX_GP);
	st->gpr[X86_RBX] += 8;
	assert_int_equal(EXEC64(0x0f, 0xae, 0x03), -1);
	assert_int_equal(interp.fault.vec, X86_EX_GP);
	interp_vec_close(&vcpu);
}

static void test_x87_exceptions(void **state)
{
	(void)state;
	open_unit();
	st->gpr[X86_RBX] = (uintptr_t)mem;
	st->seg[X86_CS].sel = 0x33;
	st->seg[X86_DS].sel = 0x2b;
	memset(mem, 0, MEM_SIZE);
	mem[0] = 0x7b, mem[1] = 0x03; /* zero-divide unmasked */
	assert_int_equal(EXEC64(0xdb, 0xe3), 0);
	assert_int_equal(EXEC64(0xd9, 0x2b), 0); /* fldcw */
	assert_int_equal(EXEC64(0xd9, 0xe8), 0); /* fld1 */
	st->rip = 0x123456789000;
	assert_int_equal(EXEC64(0xdc, 0x73, 0x10), 0); /* fdiv qword [rbx+16]: zero */
	assert_int_equal(EXEC64(0xd9, 0xe8), -1);
	assert_int_equal(interp.fault.vec, X86_EX_MF);
	assert_int_equal(EXEC64(0x9b), -1);
	assert_int_equal(interp.fault.vec, X86_EX_MF);
	assert_int_equal(EXEC64(0x0f, 0x6f, 0xc1), -1); /* movq mm0, mm1 waits too */
	assert_int_equal(EXEC64(0xdf, 0xe0), 0);	/* fnstsw ax does not */
	assert_int_equal(st->gpr[X86_RAX] & 0x8084, 0x8084);
	assert_int_equal(EXEC64(0xd9, 0x73, 0x40), 0); /* fnstenv [rbx+64] */
	assert_int_equal(mem32(64 + 12), 0x56789000);
	assert_int_equal(mem32(64 + 16), 0x33 | (0x473u << 16));
	assert_int_equal(mem32(64 + 20), (uint32_t)((uintptr_t)mem + 16));
	assert_int_equal(mem32(64 + 24) & 0xffff, 0x2b);
	assert_int_equal(EXEC64(0xdb, 0xe2), 0); /* fnclex */
	assert_int_equal(EXEC64(0xd9, 0xe8), 0);
	st->cr0 |= X86_CR0_TS;
	assert_int_equal(EXEC64(0xd9, 0xe8), -1);
	assert_int_equal(interp.fault.vec, X86_EX_NM);
	assert_int_equal(EXEC64(0x0f, 0x28, 0xc1), -1);
	assert_int_equal(interp.fault.vec, X86_EX_NM);
	interp_vec_close(&vcpu);
}

static void test_fnsave(void **state)
{
	(void)state;
	open_unit();
	st->gpr[X86_RBX] = (uintptr_t)mem;
	memset(mem, 0xee, MEM_SIZE);
	EXEC64(0xdb, 0xe3);
	EXEC64(0xd9, 0xe8); /* fld1 */
	EXEC64(0xd9, 0xeb); /* fldpi */
	uint8_t want[128];
	memcpy(want, st->xsave + XS_ST, 128);
	assert_int_equal(EXEC64(0xdd, 0x33), 0); /* fnsave */
	assert_int_equal(mem32(0) & 0xffff, 0x37f);
	assert_int_equal(mem32(8) & 0xffff, 0x0fff);
	assert_int_equal(mem[108], 0xee);
	assert_int_equal(st->xsave[XS_FTW], 0);
	assert_int_equal(EXEC64(0xdd, 0x23), 0); /* frstor */
	assert_memory_equal(st->xsave + XS_ST, want, 32);
	assert_int_equal(st->xsave[XS_FTW], 0xc0);
	/* 16-bit format: 14 bytes of environment, by the code segment's size */
	memset(mem, 0xee, MEM_SIZE);
	st->gpr[X86_RBX] = (uintptr_t)mem;
	assert_int_equal(EXEC(X86_MODE_32, 0x66, 0xd9, 0x33), 0);
	assert_int_equal(mem[14], 0xee);
	assert_int_not_equal(mem[13], 0xee);
	interp_vec_close(&vcpu);
}

static void test_modes(void **state)
{
	(void)state;
	open_unit();
	st->gpr[X86_RBX] = 0x1122334455667788;
	/* vmovd with W=1 outside 64-bit mode is still 32 bits wide */
	assert_int_equal(EXEC(X86_MODE_32, 0xc4, 0xe1, 0xf9, 0x6e, 0xc3), 0);
	assert_int_equal(xs_get64(st, XS_XMM), 0x55667788);
	/* vzeroall leaves registers 8 and above alone there */
	memset(st->xsave + XS_XMM, 0x11, 256);
	memset(st->xsave + XS_YMMH, 0x22, 256);
	assert_int_equal(EXEC(X86_MODE_32, 0xc5, 0xfc, 0x77), 0);
	assert_int_equal(st->xsave[XS_XMM + 127], 0);
	assert_int_equal(st->xsave[XS_XMM + 128], 0x11);
	assert_int_equal(st->xsave[XS_YMMH + 128], 0x22);
	/* gates */
	st->xcr0 = 3;
	assert_int_equal(EXEC64(0xc5, 0xf8, 0x28, 0xc1), -1);
	assert_int_equal(interp.fault.vec, X86_EX_UD);
	st->cr4 &= ~X86_CR4_OSFXSR;
	assert_int_equal(EXEC64(0x0f, 0x28, 0xc1), -1);
	assert_int_equal(interp.fault.vec, X86_EX_UD);
	assert_int_equal(EXEC64(0x0f, 0x6f, 0xc1), 0); /* MMX does not ask for it */
	/* without OSXMMEXCPT an unmasked exception is #UD */
	st->cr4 |= X86_CR4_OSFXSR;
	st->cr4 &= ~X86_CR4_OSXMMEXCPT;
	xs_set32(st, XS_MXCSR, 0x1f80 & ~0x200u);
	memset(st->xsave + XS_XMM, 0, 256);
	xs_set32(st, XS_XMM, 0x3f800000);
	assert_int_equal(EXEC64(0xf3, 0x0f, 0x5e, 0xc1), -1); /* divss xmm0, xmm1 */
	assert_int_equal(interp.fault.vec, X86_EX_UD);
	assert_int_equal(xs_get32(st, XS_MXCSR) & 0x3f, 4);
	interp_vec_close(&vcpu);
}

/* More encodings than the cache holds: it must start over, not overflow. */
static void test_cache_flush(void **state)
{
	(void)state;
	open_unit();
	memset(st->xsave + XS_XMM, 0x5a, 256);
	for (unsigned n = 0; n < 3 * 256 * 64; n++) {
		uint8_t b[] = { 0x66, 0x0f, 0x70, (uint8_t)(0xc0 | n % 64),
				(uint8_t)(n / 64) }; /* pshufd */
		assert_int_equal(exec_mode(X86_MODE_64, b, sizeof(b)), 0);
		assert_int_equal(st->xsave[XS_XMM + 16 * (n / 8 % 8)], 0x5a);
	}
	assert_true(vec_unit_of(&vcpu)->count <= THUNK_MAX);
	interp_vec_close(&vcpu);
}

static void speed(const char *name, const uint8_t *bytes, unsigned n)
{
	struct timespec a, b;
	struct x86_insn i;
	uint8_t buf[15] = { 0 };
	memcpy(buf, bytes, n);
	assert_true(x86_decode(&i, X86_MODE_64, buf, 15) > 0);
	st->gpr[X86_RBX] = (uintptr_t)mem;
	xs_set16(st, XS_FSW, 0);
	xs_set16(st, XS_FCW, 0x37f);
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (unsigned k = 0; k < 200000; k++)
		(void)!interp_vec_exec(&vcpu, &i);
	clock_gettime(CLOCK_MONOTONIC, &b);
	double ns = (double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec);
	printf("%-24s %.1f M/s\n", name, 200000 * 1e3 / ns);
}
#define SPEED(name, ...)                                                                           \
	speed(name, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static void test_speed(void **state)
{
	(void)state;
	open_unit();
	SPEED("movups xmm0,[rbx]", 0x0f, 0x10, 0x03);
	SPEED("movups [rbx],xmm0", 0x0f, 0x11, 0x03);
	SPEED("paddb xmm0,xmm1", 0x66, 0x0f, 0xfc, 0xc1);
	SPEED("addps xmm0,xmm1", 0x0f, 0x58, 0xc1);
	SPEED("vpaddb ymm0,ymm1,ymm2", 0xc5, 0xf5, 0xfc, 0xc2);
	SPEED("movq rax,xmm0", 0x66, 0x48, 0x0f, 0x7e, 0xc0);
	SPEED("fadd st0,st0", 0xd8, 0xc0);
	SPEED("movq mm0,mm1", 0x0f, 0x6f, 0xc1);
	interp_vec_close(&vcpu);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_host), cmocka_unit_test(test_xsave),
		cmocka_unit_test(test_fxsave),	     cmocka_unit_test(test_x87_exceptions),
		cmocka_unit_test(test_fnsave),	     cmocka_unit_test(test_modes),
		cmocka_unit_test(test_cache_flush),  cmocka_unit_test(test_speed),
	};
	if (argc > 1)
		cases = (unsigned)strtoul(argv[1], NULL, 0);
	if (argc > 2)
		seed = strtoull(argv[2], NULL, 0);
	return cmocka_run_group_tests(tests, set_up, NULL);
}
