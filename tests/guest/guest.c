/* SPDX-License-Identifier: Apache-2.0 */
/* The library of the freestanding guests. Board: COM1 at 0x3f8, ACPI PM1 control at 0x604, S5 is type 5. */
#include "guest.h"

#define COM1 0x3f8
#define PM1_CONTROL 0x604

static const char *cmdline = "";

/* What compilers call by themselves. */
void *memcpy(void *to, const void *from, size_t n);
void *memcpy(void *to, const void *from, size_t n)
{
	void *const start = to;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	return start;
}

void *memset(void *to, int byte, size_t n);
void *memset(void *to, int byte, size_t n)
{
	void *const start = to;

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(byte) : "memory");
	return start;
}

void guest_put(const char *text)
{
	for (; *text; text++) {
		while (!(inb(COM1 + 5) & 0x20))
			;
		outb(COM1, (uint8_t)*text);
	}
}

void guest_put_hex(uint64_t v)
{
	char buf[17];

	for (int i = 0; i < 16; i++)
		buf[i] = "0123456789abcdef"[v >> (60 - 4 * i) & 15];
	buf[16] = 0;
	guest_put(buf);
}

void guest_put_dec(uint64_t v)
{
	char buf[24];
	int at = 23;

	buf[at] = 0;
	do
		buf[--at] = (char)('0' + v % 10);
	while (v /= 10);
	guest_put(buf + at);
}

bool guest_input(void)
{
	if (!(inb(COM1 + 5) & 1))
		return false;
	inb(COM1);
	return true;
}

/* Where the word name= stands; its value, or NULL. */
static const char *find_option(const char *name)
{
	for (const char *p = cmdline; *p; p++) {
		const char *a = p, *b = name;

		if (p != cmdline && p[-1] != ' ')
			continue;
		while (*b && *a == *b)
			a++, b++;
		if (!*b && *a == '=')
			return a + 1;
	}
	return NULL;
}

uint64_t guest_option(const char *name, uint64_t def)
{
	const char *p = find_option(name);
	uint64_t v = 0;

	if (!p)
		return def;
	while (*p >= '0' && *p <= '9')
		v = v * 10 + (uint64_t)(*p++ - '0');
	return v;
}

void guest_off(void)
{
	outw(PM1_CONTROL, 5 << 10 | 0x2000);
	for (;;)
		__asm__ volatile("cli; hlt");
}

void guest_main(uint32_t start_info)
{
	/* struct hvm_start_info: the command line's address is its fourth quadword. */
	cmdline = (const char *)*(const uint64_t *)((uintptr_t)start_info + 24);
	test_main();
	guest_off();
}
