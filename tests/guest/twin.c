/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs beside another virtual machine. With sum=ROUNDS: prints a running checksum. With id=N: executes
 * privileged and sensitive-but-unprivileged instructions with values of its own (a hash of the id and
 * the round) until a byte comes on the serial line, and checks that it reads its own back every time.
 * SDM vol. 3, chapters 2, 3, 5, 6, 11, 18. Freestanding; general registers only, so that vector
 * registers hold what a round has put there.
 */
#include "guest.h"
#include "twin_sum.h"

#define SEL_TSS_A 0x30
#define SEL_TSS_B 0x40
#define SEL_LDT_A 0x50
#define SEL_LDT_B 0x60
#define SEL_LIMITED 0x70 /* read-only data, its limit is the round's */
#define SEL_EXECUTE 0x78 /* code that cannot be read */
#define SEL_WRITABLE 0x80
#define GDT_ENTRIES 17
#define VECTOR_TIMER 0x50
#define VECTOR_USER_DONE 0x41
#define GDTS 4

#define FL_TF 0x100ull
#define FL_IF 0x200ull
#define FL_DF 0x400ull
#define FL_IOPL 0x3000ull
#define FL_NT 0x4000ull
#define FL_AC 0x40000ull
#define FL_ID 0x200000ull

#define X2APIC(reg) (0x800u + (reg))

struct gate {
	uint16_t low, sel, attr, mid;
	uint32_t high, zero;
};

struct tss {
	uint32_t reserved;
	uint32_t rsp0[2];
	uint32_t rest[23];
} __attribute__((packed));

struct table_pointer {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

static uint64_t gdt[GDTS][64] __attribute__((aligned(64)));
static struct gate idt[2][96] __attribute__((aligned(64)));
static struct tss tss[2];
static uint64_t private_page[2][512] __attribute__((aligned(4096)));
static uint64_t private_tables[2][3][512] __attribute__((aligned(4096)));
static uint64_t percpu[2];

static uint64_t id, round_no, value, checks, failures, ticks;
static bool has_avx, has_umip;

/* An exception that is expected: where to go on, what came. */
static uint64_t trap_resume;
static struct guest_frame trap;
static uint64_t trap_steps; /* single-step traps */

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static void check(const char *what, uint64_t got, uint64_t want)
{
	checks++;
	if (got == want)
		return;
	if (failures++ >= 10)
		return;
	guest_put("FAIL ");
	guest_put(what);
	guest_put(" got ");
	guest_put_hex(got);
	guest_put(" want ");
	guest_put_hex(want);
	guest_put(" round ");
	guest_put_dec(round_no);
	guest_put("\n");
}

/* ---- traps ---- */

static void unexpected(const struct guest_frame *f)
{
	guest_put("FAIL unexpected vector ");
	guest_put_dec(f->vector);
	guest_put(" error ");
	guest_put_hex(f->error);
	guest_put(" rip ");
	guest_put_hex(f->rip);
	guest_put(" round ");
	guest_put_dec(round_no);
	guest_put("\n");
	guest_off();
}

void guest_trap(struct guest_frame *f)
{
	if (f->vector == VECTOR_TIMER) {
		ticks++;
		wrmsr(X2APIC(0x0b), 0);
	} else if (f->vector == 1 && (f->rflags & FL_TF)) {
		trap = *f;
		trap_steps++;
		f->rflags &= ~FL_TF;
	} else if (trap_resume) {
		trap = *f;
		f->rip = trap_resume;
		trap_resume = 0;
	} else {
		unexpected(f);
	}
}

/* Executes an instruction that must fault; the vector, or ~0 when it did not. */
#define TRAP_OF(insn, ...)                                                                         \
	({                                                                                         \
		trap.vector = ~0ull;                                                               \
		__asm__ volatile("leaq 9f(%%rip), %%rax; movq %%rax, %0; " insn "\n9:"             \
				 : "+m"(trap_resume)                                               \
				 : __VA_ARGS__                                                     \
				 : "rax", "rcx", "rdx", "memory", "cc");                           \
		trap_resume = 0;                                                                   \
		trap.vector;                                                                       \
	})

/* ---- descriptor tables ---- */

static void put_system(uint64_t *e, uint64_t base, uint64_t limit, uint64_t type)
{
	e[0] = (limit & 0xffff) | (base & 0xffffff) << 16 | (0x80 | type) << 40 |
	       (limit >> 16 & 15) << 48 | (base >> 24 & 0xff) << 56;
	e[1] = base >> 32;
}

static void fill_gdt(uint64_t *g)
{
	g[1] = 0x00af9b000000ffff;
	g[2] = 0x00cf93000000ffff;
	g[4] = 0x00cff3000000ffff;
	g[5] = 0x00affb000000ffff;
	put_system(g + SEL_TSS_A / 8, (uintptr_t)&tss[0], sizeof(tss[0]) - 1, 9);
	put_system(g + SEL_TSS_B / 8, (uintptr_t)&tss[1], sizeof(tss[1]) - 1, 9);
	put_system(g + SEL_LDT_A / 8, (uintptr_t)percpu, 15, 2);
	put_system(g + SEL_LDT_B / 8, (uintptr_t)percpu, 7, 2);
	g[SEL_LIMITED / 8] = 0x0000f10000000000;
	g[SEL_EXECUTE / 8] = 0x00cff9000000ffff;
	g[SEL_WRITABLE / 8] = 0x00cff3000000ffff;
}

static void put_gate(struct gate *g, uintptr_t to, unsigned dpl)
{
	*g = (struct gate){ .low = (uint16_t)to,
			    .sel = 8,
			    .attr = (uint16_t)(0x8e00 | dpl << 13),
			    .mid = (uint16_t)(to >> 16),
			    .high = (uint32_t)(to >> 32) };
}

static void load_gdt(unsigned which, uint16_t limit)
{
	const struct table_pointer p = { limit, (uintptr_t)gdt[which] };

	__asm__ volatile("lgdt %0" : : "m"(p) : "memory");
}

static void load_idt(unsigned which, uint16_t limit)
{
	const struct table_pointer p = { limit, (uintptr_t)idt[which] };

	__asm__ volatile("lidt %0" : : "m"(p) : "memory");
}

static void set_up_tables(void)
{
	for (unsigned i = 0; i < GDTS; i++)
		fill_gdt(gdt[i]);
	for (unsigned i = 0; i < 2; i++) {
		for (unsigned v = 0; v < 96; v++)
			put_gate(&idt[i][v], (uintptr_t)guest_entries + 16ull * v, 0);
		put_gate(&idt[i][VECTOR_USER_DONE], (uintptr_t)guest_user_done, 3);
		tss[i].rsp0[0] = (uint32_t)(uintptr_t)guest_trap_stack_top;
		/* no I/O permission bitmap: its offset lies behind the limit */
		tss[i].rest[22] = (uint32_t)sizeof(tss[i]) << 16;
	}
	load_gdt(0, sizeof(gdt[0]) - 1);
	load_idt(0, sizeof(idt[0]) - 1);
	__asm__ volatile("ltr %w0" : : "r"(SEL_TSS_A));
}

/* One page at 512 GiB with another frame in each of the two address spaces. */
static void set_up_paging(void)
{
	for (unsigned i = 0; i < 2; i++) {
		uint64_t *root = i ? pml4_other : pml4;

		root[1] = (uintptr_t)private_tables[i][0] | 7;
		private_tables[i][0][0] = (uintptr_t)private_tables[i][1] | 7;
		private_tables[i][1][0] = (uintptr_t)private_tables[i][2] | 7;
		private_tables[i][2][0] = (uintptr_t)private_page[i] | 7;
	}
}

/* ---- the groups ---- */

static void test_tables(void)
{
	const unsigned g = value % GDTS, i = value >> 8 & 1;
	const uint16_t glimit = (uint16_t)(GDT_ENTRIES * 8 - 1 + (value >> 16) % 256);
	const uint16_t ilimit = (uint16_t)(0x52 * 16 - 1 + (value >> 24) % 128);
	const uint16_t tr = value >> 32 & 1 ? SEL_TSS_A : SEL_TSS_B;
	const uint16_t ldt = value >> 33 & 1 ? SEL_LDT_A : SEL_LDT_B;
	struct table_pointer p;
	uint64_t sel = 0;

	load_gdt(g, glimit);
	load_idt(i, ilimit);
	gdt[g][tr / 8] &= ~(2ull << 40); /* not busy */
	__asm__ volatile("ltr %w0" : : "r"(tr) : "memory");
	__asm__ volatile("lldt %w0" : : "r"(ldt) : "memory");
	__asm__ volatile("sgdt %0" : "=m"(p));
	check("sgdt base", p.base, (uintptr_t)gdt[g]);
	check("sgdt limit", p.limit, glimit);
	__asm__ volatile("sidt %0" : "=m"(p));
	check("sidt base", p.base, (uintptr_t)idt[i]);
	check("sidt limit", p.limit, ilimit);
	__asm__ volatile("str %w0" : "+r"(sel));
	check("str", sel & 0xffff, tr);
	__asm__ volatile("sldt %w0" : "+r"(sel));
	check("sldt", sel & 0xffff, ldt);
	check("busy TSS", gdt[g][tr / 8] >> 40 & 0xf, 11);
}

static void test_segments(void)
{
	const unsigned g = value % GDTS;
	const uint64_t limit = value >> 12 & 0xfffff;
	uint64_t out = 0;
	uint8_t zf;

	gdt[g][SEL_LIMITED / 8] = 0x0000f10000000000 | (limit & 0xffff) | (limit >> 16) << 48;
	__asm__ volatile("lsl %w2, %k0; sete %1"
			 : "+r"(out), "=q"(zf)
			 : "r"(SEL_LIMITED)
			 : "cc", "memory");
	check("lsl", out << 1 | zf, limit << 1 | 1);
	__asm__ volatile("lar %w2, %k0; sete %1"
			 : "+r"(out), "=q"(zf)
			 : "r"(SEL_LIMITED)
			 : "cc", "memory");
	check("lar", (out & 0xf0ff00) << 1 | zf, 0x00f100 << 1 | 1);
	__asm__ volatile("lar %w2, %k0; sete %1"
			 : "+r"(out), "=q"(zf)
			 : "r"(0x1ff8)
			 : "cc", "memory");
	check("lar beyond the table", zf, 0);
	__asm__ volatile("verr %w1; sete %0" : "=q"(zf) : "r"(SEL_EXECUTE) : "cc");
	check("verr, execute only", zf, 0);
	__asm__ volatile("verr %w1; sete %0" : "=q"(zf) : "r"(SEL_LIMITED) : "cc");
	check("verr, read only", zf, 1);
	__asm__ volatile("verw %w1; sete %0" : "=q"(zf) : "r"(SEL_LIMITED) : "cc");
	check("verw, read only", zf, 0);
	__asm__ volatile("verw %w1; sete %0" : "=q"(zf) : "r"(SEL_WRITABLE) : "cc");
	check("verw, writable", zf, 1);
}

static uint64_t read_cr0(void)
{
	uint64_t v;

	__asm__ volatile("movq %%cr0, %0" : "=r"(v));
	return v;
}

static void write_cr0(uint64_t v)
{
	__asm__ volatile("movq %0, %%cr0" : : "r"(v) : "memory");
}

static uint64_t read_cr4(void)
{
	uint64_t v;

	__asm__ volatile("movq %%cr4, %0" : "=r"(v));
	return v;
}

static void write_cr4(uint64_t v)
{
	__asm__ volatile("movq %0, %%cr4" : : "r"(v) : "memory");
}

static void test_cr0(void)
{
	const uint64_t was = read_cr0();
	const uint64_t want = (was & ~0x5000aull) | (value & 0x5000a) | 2; /* AM, WP, TS, MP */
	uint64_t got = 0, vector;

	write_cr0(want);
	check("cr0", read_cr0(), want);
	__asm__ volatile("smsw %0" : "=r"(got));
	check("smsw", got & 0xffff, want & 0xffff);
	__asm__ volatile("lmsw %w0" : : "r"(0x3b) : "memory"); /* sets TS */
	vector = TRAP_OF("movups %%xmm0, %%xmm0", "m"(*(char *)0));
	check("vector code with TS", vector, 7);
	vector = TRAP_OF("fld1", "m"(*(char *)0));
	check("x87 code with TS", vector, 7);
	__asm__ volatile("clts");
	check("clts", read_cr0(), want & ~8ull);
	write_cr0(was);
}

static void test_cr4(void)
{
	const uint64_t was = read_cr4();
	const uint64_t want =
		(was & ~0x100ull & ~8ull & ~4ull) | (value & 0x10c); /* PCE, DE, TSD */
	uint32_t a = 1, b, c = 0, d;
	uint64_t got;

	write_cr4(want);
	check("cr4", read_cr4(), want);
	write_cr4(value & 1 ? want : want & ~0x40000ull);
	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	check("cpuid OSXSAVE", c >> 27 & 1, value & 1);
	check("cpuid APIC id", b >> 24, 0);
	write_cr4(was);
	__asm__ volatile("movq %0, %%cr2" : : "r"(value));
	__asm__ volatile("movq %%cr2, %0" : "=r"(got));
	check("cr2", got, value);
	__asm__ volatile("movq %0, %%cr8" : : "r"(value & 15));
	__asm__ volatile("movq %%cr8, %0" : "=r"(got));
	check("cr8", got, value & 15);
	__asm__ volatile("movq %0, %%cr8" : : "r"(0ull));
}

static void test_cr3(void)
{
	volatile uint64_t *const page = (volatile uint64_t *)(1ull << 39);
	uint64_t got;

	for (unsigned i = 0; i < 2; i++) {
		private_page[i][value % 512] = mix(value + i);
		__asm__ volatile("movq %0, %%cr3" : : "r"(i ? pml4_other : pml4) : "memory");
		__asm__ volatile("movq %%cr3, %0" : "=r"(got));
		check("cr3", got, (uintptr_t)(i ? pml4_other : pml4));
		check("page of this address space", page[value % 512], mix(value + i));
		page[(value + 1) % 512] = value ^ i;
		check("store in this address space", private_page[i][(value + 1) % 512], value ^ i);
	}
	__asm__ volatile("movq %0, %%cr3" : : "r"(pml4) : "memory");
	/* the other frame, told by invlpg */
	private_tables[0][2][0] = (uintptr_t)private_page[1] | 7;
	__asm__ volatile("invlpg %0" : : "m"(*page) : "memory");
	check("page after invlpg", page[value % 512], mix(value + 1));
	private_tables[0][2][0] = (uintptr_t)private_page[0] | 7;
	__asm__ volatile("invlpg %0" : : "m"(*page) : "memory");
	check("page after invlpg back", page[value % 512], mix(value));
}

static void test_debug(void)
{
	uint64_t d[4], d7;
	const uint64_t want7 = 0x400 | ((value & 0xffff0000) & ~(value << 1 & 0xaaaa0000));

	__asm__ volatile(
		"movq %0, %%dr0; movq %1, %%dr1; movq %2, %%dr2; movq %3, %%dr3; movq %4, %%dr7"
		:
		: "r"(value), "r"(~value), "r"(value << 1), "r"(value >> 1), "r"(want7));
	__asm__ volatile(
		"movq %%dr0, %0; movq %%dr1, %1; movq %%dr2, %2; movq %%dr3, %3; movq %%dr7, %4"
		: "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]), "=r"(d7));
	check("dr0", d[0], value);
	check("dr1", d[1], ~value);
	check("dr2", d[2], value << 1);
	check("dr3", d[3], value >> 1);
	check("dr7", d7, want7);
}

static void test_msr(void)
{
	static const uint32_t msrs[] = { 0xc0000100, 0xc0000101, 0xc0000102, 0xc0000081,
					 0xc0000082, 0xc0000083, 0xc0000084, 0x174,
					 0x175,	     0x176,	 0xc0000103 };
	uint64_t want[11], got;

	for (unsigned i = 0; i < 11; i++) {
		want[i] = mix(value + i) & 0x00007fffffffffff;
		if (i == 6 || i == 7 || i == 10)
			want[i] &= 0xffffffff;
		wrmsr(msrs[i], want[i]);
	}
	for (unsigned i = 0; i < 11; i++)
		check("msr", rdmsr(msrs[i]), want[i]);
	__asm__ volatile("swapgs" : : : "memory");
	check("swapgs", rdmsr(0xc0000101), want[2]);
	__asm__ volatile("rdtscp; movl %%ecx, %%eax" : "=a"(got) : : "rcx", "rdx");
	check("rdtscp", got, want[10]);
	wrmsr(0xc0000100, (uintptr_t)percpu);
	percpu[1] = value;
	__asm__ volatile("movq %%fs:8, %0" : "=r"(got));
	check("fs base", got, value);
	wrmsr(0xc0000080, 0xd01 ^ (value & 1));
	check("efer", rdmsr(0xc0000080), 0xd01 ^ (value & 1));
	wrmsr(0xc0000080, 0xd01);
	check("unknown msr", TRAP_OF("movl $0x3fffffff, %%ecx; rdmsr", "m"(*(char *)0)), 13);
}

static void test_xcr0(void)
{
	const uint32_t want = has_avx && (value & 2) ? 7 : 3;
	uint32_t a, b, c, d;

	__asm__ volatile("xsetbv" : : "c"(0), "a"(want), "d"(0));
	__asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	check("xgetbv", a, want);
	a = 0xd;
	c = 0;
	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	check("cpuid XSAVE size", b, want == 7 ? 832 : 576);
}

static void test_ports(void)
{
	outb(0x3ff, (uint8_t)value);
	outl(0xcf8, 0x80000000 | (value & 0xfffffc));
	outb(0x21, (uint8_t)(value >> 8));
	outb(0xa1, (uint8_t)(value >> 16));
	outb(0x70, 0x50 + (value >> 24 & 15));
	outb(0x71, (uint8_t)(value >> 32));
	check("UART scratch", inb(0x3ff), value & 0xff);
	check("PCI address", inl(0xcf8), 0x80000000 | (value & 0xfffffc));
	check("PIC mask 1", inb(0x21), value >> 8 & 0xff);
	check("PIC mask 2", inb(0xa1), value >> 16 & 0xff);
	check("CMOS", inb(0x71), value >> 32 & 0xff);
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
}

static uint64_t flags(void)
{
	uint64_t f;

	__asm__ volatile("pushfq; popq %0" : "=r"(f));
	return f;
}

static void test_flags(void)
{
	const uint64_t change = FL_DF | FL_IOPL | FL_NT | FL_AC | FL_ID | 0x8d5;
	const uint64_t want = 2 | (value & change);
	uint64_t f;

	__asm__ volatile("pushq %1; popfq; pushfq; popq %0; pushq $2; popfq"
			 : "=&r"(f)
			 : "r"(want)
			 : "cc", "memory");
	check("popf", f, want);
	__asm__ volatile("sti; nop; pushfq; cli; popq %0" : "=r"(f) : : "memory");
	check("sti", f & FL_IF, FL_IF);
	check("cli", flags() & FL_IF, 0);
	trap_steps = 0;
	__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; nop; leaq .(%%rip), %0"
			 : "=r"(f)
			 :
			 : "cc", "memory");
	check("single step", trap_steps, 1);
	check("single step's place", trap.rip, f);
}

static void arm_timer(uint32_t count)
{
	wrmsr(X2APIC(0x38), count);
}

static bool timer_is_pending(void)
{
	return rdmsr(X2APIC(0x22)) >> (VECTOR_TIMER - 64) & 1;
}

static void test_timer(void)
{
	uint64_t want = ticks + 1;

	arm_timer(20000 + (uint32_t)(value & 0xffff));
	while (ticks != want)
		__asm__ volatile("sti; hlt; cli" : : : "memory");
	check("hlt", ticks, want);
	arm_timer(1000);
	while (!timer_is_pending())
		;
	__asm__ volatile("sti; cli" : : : "memory");
	check("the shadow of sti", ticks, want);
	__asm__ volatile("movq %0, %%cr8; sti; nop; nop; cli" : : "r"(6ull) : "memory");
	check("cr8 holds it back", ticks, want);
	__asm__ volatile("sti; movq %0, %%cr8; nop; cli" : : "r"(0ull) : "memory");
	check("an interrupt of its own", ticks, want + 1);
}

static void test_tsc(void)
{
	const uint64_t base = value >> 8;
	uint64_t t1, t2;

	wrmsr(0x10, base);
	t1 = rdtsc();
	t2 = rdtsc();
	check("rdtsc after wrmsr", t1 - base < 1ull << 36, 1);
	check("rdtsc rises", t2 >= t1, 1);
}

/* ---- user mode ---- */

static uint64_t user_tables(uint64_t which)
{
	struct table_pointer p;
	uint64_t v = 0;

	switch (which) {
	case 0: __asm__ volatile("sgdt %0" : "=m"(p)); return p.base;
	case 1: __asm__ volatile("sidt %0" : "=m"(p)); return p.base;
	case 2: __asm__ volatile("sldt %w0" : "+r"(v)); return v;
	case 3: __asm__ volatile("str %w0" : "+r"(v)); return v;
	default: __asm__ volatile("smsw %0" : "=r"(v)); return v & 0xffff;
	}
}

static uint64_t user_popf(uint64_t want)
{
	uint64_t f;

	__asm__ volatile("pushq %1; popfq; pushfq; popq %0; pushq $2; popfq"
			 : "=&r"(f)
			 : "r"(want)
			 : "cc", "memory");
	return f;
}

static uint64_t user_iopl(uint64_t arg)
{
	uint64_t f;

	(void)arg;
	__asm__ volatile("cli; pushfq; popq %0" : "=r"(f) : : "memory");
	return f | (uint64_t)inb(0x3ff) << 32;
}

static uint64_t user_refused(uint64_t which)
{
	switch (which) {
	case 0: return TRAP_OF("cli", "m"(*(char *)0));
	case 1: return TRAP_OF("hlt", "m"(*(char *)0));
	case 2: return TRAP_OF("movl $0x3ff, %%edx; inb %%dx, %%al", "m"(*(char *)0));
	case 3: return TRAP_OF("movq %%cr0, %%rax", "m"(*(char *)0));
	case 4: return TRAP_OF("movl $0x10, %%ecx; rdmsr", "m"(*(char *)0));
	case 5: return TRAP_OF("lgdt (%%rsp)", "m"(*(char *)0));
	case 6: return TRAP_OF("movq %%dr7, %%rax", "m"(*(char *)0));
	case 7: return TRAP_OF("invd", "m"(*(char *)0));
	default: return TRAP_OF("swapgs", "m"(*(char *)0));
	}
}

static uint64_t user_umip(uint64_t which)
{
	uint8_t buf[16];

	switch (which) {
	case 0: return TRAP_OF("sgdt %1", "m"(buf));
	case 1: return TRAP_OF("sidt %1", "m"(buf));
	case 2: return TRAP_OF("sldt %%eax", "m"(buf));
	case 3: return TRAP_OF("str %%eax", "m"(buf));
	default: return TRAP_OF("smsw %%eax", "m"(buf));
	}
}

static uint64_t user_syscall(uint64_t arg)
{
	uint64_t v;

	(void)arg;
	__asm__ volatile("syscall" : "=a"(v) : : "rcx", "r11", "memory");
	return v;
}

static uint64_t user_bases(uint64_t arg)
{
	uint64_t v;

	__asm__ volatile("wrfsbase %1; rdfsbase %0" : "=r"(v) : "r"(arg));
	return v;
}

static void test_user(void)
{
	struct table_pointer g, i;
	const uint64_t want = (value & (FL_DF | FL_NT | FL_AC | FL_ID | 0x8d5)) | 2;
	uint64_t tr = 0, ldt = 0;

	__asm__ volatile("sgdt %0; sidt %1; str %w2; sldt %w3"
			 : "=m"(g), "=m"(i), "+r"(tr), "+r"(ldt));
	check("user sgdt", guest_user(user_tables, 0, 2), g.base);
	check("user sidt", guest_user(user_tables, 1, 2), i.base);
	check("user sldt", guest_user(user_tables, 2, 2), ldt);
	check("user str", guest_user(user_tables, 3, 2), tr);
	check("user smsw", guest_user(user_tables, 4, 2), read_cr0() & 0xffff);
	check("user popf", guest_user(user_popf, want | FL_IOPL, 2 | FL_IF), want | FL_IF);
	outb(0x3ff, (uint8_t)value);
	check("user with IOPL 3", guest_user(user_iopl, 0, 2 | FL_IF | FL_IOPL) & ~0x8d5ull,
	      2 | FL_IOPL | (value & 0xff) << 32);
	for (unsigned n = 0; n < 9; n++)
		check("refused to user code", guest_user(user_refused, n, 2), 13);
	percpu[0] = mix(value);
	wrmsr(0xc0000102, (uintptr_t)percpu);
	wrmsr(0xc0000081, 0x18ull << 48 | 8ull << 32);
	wrmsr(0xc0000082, (uintptr_t)guest_syscall);
	wrmsr(0xc0000084, 0x47700);
	check("syscall", guest_user(user_syscall, 0, 2), mix(value));
	write_cr4(read_cr4() | 0x10000);
	check("wrfsbase", guest_user(user_bases, value >> 17, 2), value >> 17);
	check("fs base from wrfsbase", rdmsr(0xc0000100), value >> 17);
	if (!has_umip)
		return;
	write_cr4(read_cr4() | 0x800);
	for (unsigned n = 0; n < 5; n++)
		check("UMIP", guest_user(user_umip, n, 2), 13);
	write_cr4(read_cr4() & ~0x800ull);
}

/* ---- what a round keeps in the vector unit ---- */

static void put_vectors(void)
{
	const uint32_t mxcsr = 0x1f80 | (uint32_t)(value & 3) << 13;
	const uint16_t fcw = (uint16_t)(0x37f | (value >> 2 & 3) << 10);

	__asm__ volatile(
		"movq %0, %%xmm0; movq %1, %%xmm7; movq %2, %%xmm15; ldmxcsr %3; fninit; fldcw %4; fildll %5"
		:
		: "r"(value), "r"(~value), "r"(mix(value)), "m"(mxcsr), "m"(fcw), "m"(value));
}

static void check_vectors(void)
{
	uint64_t a, b, c, l;
	uint32_t mxcsr;
	uint16_t fcw;

	__asm__ volatile(
		"movq %%xmm0, %0; movq %%xmm7, %1; movq %%xmm15, %2; stmxcsr %3; fnstcw %4; fistpll %5"
		: "=r"(a), "=r"(b), "=r"(c), "=m"(mxcsr), "=m"(fcw), "=m"(l));
	check("xmm0", a, value);
	check("xmm7", b, ~value);
	check("xmm15", c, mix(value));
	check("mxcsr", mxcsr, 0x1f80 | (value & 3) << 13);
	check("fcw", fcw, 0x37f | (value >> 2 & 3) << 10);
	check("st0", l, value);
}

static void set_up(void)
{
	uint32_t a = 1, b, c = 0, d;

	set_up_tables();
	set_up_paging();
	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	has_avx = c >> 28 & 1;
	a = 7;
	c = 0;
	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	has_umip = c >> 2 & 1;
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	wrmsr(0x1b, rdmsr(0x1b) | 0xc00);
	wrmsr(X2APIC(0x0f), 0x1ff);
	wrmsr(X2APIC(0x3e), 0x0b);
	wrmsr(X2APIC(0x32), VECTOR_TIMER);
}

static void one_round(void)
{
	value = mix(mix(id) + round_no);
	put_vectors();
	test_tables();
	test_segments();
	test_cr4();
	test_cr3();
	test_debug();
	test_msr();
	test_xcr0();
	test_ports();
	test_flags();
	test_timer();
	test_tsc();
	test_user();
	check_vectors();
	test_cr0();
	round_no++;
}

void test_main(void)
{
	const uint64_t sum = guest_option("sum", 0), rounds = guest_option("rounds", 0);

	if (sum) {
		guest_put("running\nsum ");
		guest_put_hex(twin_sum(sum));
		guest_put("\n");
		return;
	}
	id = guest_option("id", 1);
	set_up();
	one_round();
	guest_put("running\n");
	while (rounds ? round_no < rounds : !guest_input())
		one_round();
	guest_put("id ");
	guest_put_dec(id);
	guest_put(" rounds ");
	guest_put_dec(round_no);
	guest_put(" checks ");
	guest_put_dec(checks);
	guest_put(" failures ");
	guest_put_dec(failures);
	guest_put("\n");
}
