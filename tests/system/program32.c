/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 32-bit Linux program without a library: both ways into the kernel, arithmetic on x87 and SSE2, a
 * TLS segment, fork, signals from faults, segment registers. Prints the same on every x86 kernel.
 */
typedef unsigned int u32;
typedef unsigned long long u64;

static u32 fast_entry; /* AT_SYSINFO: the vDSO's sysenter or syscall */

static long call_int80(u32 nr, u32 a, u32 b, u32 c, u32 d)
{
	long r;

	__asm__ volatile("int $0x80"
			 : "=a"(r)
			 : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d)
			 : "memory");
	return r;
}

static long call_fast(u32 nr, u32 a, u32 b, u32 c, u32 d)
{
	long r;

	__asm__ volatile("call *%6"
			 : "=a"(r)
			 : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "m"(fast_entry)
			 : "memory");
	return r;
}

enum {
	SYS_EXIT = 1,
	SYS_FORK = 2,
	SYS_WRITE = 4,
	SYS_WAITPID = 7,
	SYS_GETPID = 20,
	SYS_KILL = 37,
	SYS_SIGACTION = 174,
	SYS_SET_THREAD_AREA = 243
};
enum { SIGILL = 4, SIGFPE = 8, SIGUSR1 = 10, SIGSEGV = 11 };

static void put(const char *s)
{
	u32 n = 0;

	while (s[n])
		n++;
	call_int80(SYS_WRITE, 1, (u32)s, n, 0);
}

static void put_result(const char *name, u32 v)
{
	char hex[10];

	for (int i = 0; i < 8; i++)
		hex[i] = "0123456789abcdef"[v >> (28 - 4 * i) & 15];
	hex[8] = '\n';
	hex[9] = 0;
	put(name);
	put(hex);
}

static u32 arithmetic(void)
{
	u32 x = 1;
	long double l = 0;
	double d = 0;

	for (u32 i = 0; i < 20000000; i++) {
		x = x * 1664525u + 1013904223u;
		l += (long double)(x >> 20);
		d = d * 0.5 + (double)(int)(x >> 8);
	}
	return x ^ (u32)(unsigned long)(l / 4096) ^ (u32)d;
}

static u32 wide(void)
{
	u64 a = 0x0123456789abcdefull, sum = 0;
	u32 low;

	for (u32 i = 1; i < 200000; i++) {
		a = a * 6364136223846793005ull + i;
		sum += (a << (i & 63)) ^ (a >> (i & 31)) ^ (u64)((u32)a % i);
		low = (u32)sum;
		__asm__ volatile("bswapl %0; bsrl %1, %%ecx; addl %%ecx, %0; adcl $0, %0"
				 : "+r"(low)
				 : "r"((u32)a | 1)
				 : "ecx", "cc");
		sum = (sum & ~0xffffffffull) | low;
	}
	return (u32)(sum ^ sum >> 32);
}

/* String instructions, BCD, segment overrides: what 64-bit code does not have. */
static u32 old_ways(void)
{
	static char from[300], to[300];
	u32 r = 0, n = 299, x;
	void *s, *d;

	for (int i = 0; i < 300; i++)
		from[i] = (char)(i * 7);
	for (int round = 0; round < 2000; round++) {
		s = from, d = to, n = 299;
		__asm__ volatile("pushl %%es; pushl %%ds; popl %%es; rep movsb; popl %%es"
				 : "+S"(s), "+D"(d), "+c"(n)
				 :
				 : "memory");
		__asm__ volatile("movb %1, %%al; addb $0x19, %%al; daa; movzbl %%al, %0"
				 : "=r"(x)
				 : "m"(from[round % 300])
				 : "eax", "cc");
		r = r * 31 + x + (u32)(unsigned char)to[round % 299];
		__asm__ volatile("pushal; popal; pushfl; popl %0; aam $7; aad $3"
				 : "=r"(x)
				 :
				 : "eax", "cc");
		__asm__ volatile("testl %%eax, %%eax; lahf; shrl $8, %%eax; movzbl %%al, %0"
				 : "=r"(x)
				 :
				 : "eax");
		r += x & 1;
	}
	return r;
}

static u32 handled;

static void handler(int signal)
{
	handled = handled * 100 + (u32)signal;
}

/* struct sigcontext: its eip stands fifteenth; saved ebp, return, signal lie before it. */
static void fault_handler(int signal)
{
	volatile u32 *context = (volatile u32 *)__builtin_frame_address(0) + 3;

	handler(signal);
	context[14] += 2; /* both faulting instructions are two bytes long */
}

static void on(int signal, void (*f)(int))
{
	/* handler, flags (SA_NODEFER), restorer, mask: the kernel's own return from the vDSO */
	u32 action[5] = { (u32)f, 0x40000000, 0, 0, 0 };

	call_int80(SYS_SIGACTION, (u32)signal, (u32)action, 0, 8);
}

static u32 signals(void)
{
	on(SIGUSR1, handler);
	on(SIGFPE, fault_handler);
	on(SIGSEGV, fault_handler);
	on(SIGILL, fault_handler);
	call_int80(SYS_KILL, (u32)call_fast(SYS_GETPID, 0, 0, 0, 0), SIGUSR1, 0, 0);
	__asm__ volatile("xorl %%ecx, %%ecx; divl %%ecx" : : : "eax", "ecx", "edx", "cc");
	__asm__ volatile("xorl %%ecx, %%ecx; movl (%%ecx), %%eax" : : : "eax", "ecx", "cc");
	__asm__ volatile("ud2");
	return handled;
}

static u32 thread_area(void)
{
	static u32 block[4] = { 0x11111111, 0x22222222, 0x33333333, 0x44444444 };
	u32 desc[4] = { (u32)-1, (u32)block, 0xfffff, 0x51 }; /* 32-bit, pages, usable */
	u32 v;

	if (call_int80(SYS_SET_THREAD_AREA, (u32)desc, 0, 0, 0))
		return 0;
	__asm__ volatile("movw %w1, %%gs; movl %%gs:8, %0; addl %%gs:4, %0"
			 : "=r"(v)
			 : "r"(desc[0] * 8 + 3));
	call_fast(SYS_GETPID, 0, 0, 0, 0);
	__asm__ volatile("addl %%gs:0, %0" : "+r"(v));
	return v;
}

static u32 children(void)
{
	u32 sum = 0;
	int status;

	for (u32 i = 1; i <= 20; i++) {
		long pid = call_fast(SYS_FORK, 0, 0, 0, 0);

		if (pid == 0)
			call_fast(SYS_EXIT, i, 0, 0, 0);
		call_int80(SYS_WAITPID, (u32)pid, (u32)&status, 0, 0);
		sum = sum * 3 + (u32)(status >> 8);
	}
	return sum;
}

__attribute__((used)) void program(u32 *stack)
{
	u32 *p = stack + stack[0] + 2;
	u32 i, same = 0;

	while (*p++) /* the environment */
		;
	for (; p[0]; p += 2)
		if (p[0] == 32)
			fast_entry = p[1];
	put_result("arithmetic ", arithmetic());
	put_result("wide ", wide());
	put_result("old ways ", old_ways());
	for (i = 0; i < 10000; i++)
		same += call_fast(SYS_GETPID, 0, 0, 0, 0) == call_int80(SYS_GETPID, 0, 0, 0, 0);
	put_result("entries ", same);
	put_result("signals ", signals());
	put_result("thread area ", thread_area());
	put_result("children ", children());
	put("done\n");
	call_fast(SYS_EXIT, 0, 0, 0, 0);
}

__asm__(".globl _start\n_start: movl %esp, %eax; andl $-16, %esp; subl $12, %esp; pushl %eax; call program\n");
