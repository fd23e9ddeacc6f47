/* SPDX-License-Identifier: Apache-2.0 */
/* What freestanding guests share: entry, serial line, command line, traps, user mode, power-off. */
#ifndef R3_TESTS_GUEST_H
#define R3_TESTS_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As start.S pushes it. */
struct guest_frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
	uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

/* start.S */
extern uint8_t guest_entries[];
extern uint64_t pml4[512], pml4_other[512];
extern uint8_t guest_trap_stack_top[];
void guest_user_done(void);
void guest_syscall(void);
uint64_t guest_user(uint64_t (*f)(uint64_t), uint64_t arg, uint64_t rflags);
void guest_trap(struct guest_frame *f);

/* guest.c */
void guest_main(uint32_t start_info);
void guest_put(const char *text);
void guest_put_hex(uint64_t v);
void guest_put_dec(uint64_t v);
bool guest_input(void);				       /* a byte has come on the serial line */
uint64_t guest_option(const char *name, uint64_t def); /* name=decimal of the command line */
_Noreturn void guest_off(void);

/* The test program. */
void test_main(void);

static inline void outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline void outw(uint16_t port, uint16_t v)
{
	__asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port));
}

static inline void outl(uint16_t port, uint32_t v)
{
	__asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port));
}

static inline uint32_t inl(uint16_t port)
{
	uint32_t v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return (uint64_t)hi << 32 | lo;
}

static inline void wrmsr(uint32_t msr, uint64_t v)
{
	__asm__ volatile("wrmsr"
			 :
			 : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32))
			 : "memory");
}

static inline uint64_t rdtsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}

#endif
