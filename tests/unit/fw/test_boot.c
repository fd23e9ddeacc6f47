/* SPDX-License-Identifier: Apache-2.0 */
/* Boot loaders on made-up kernels: zero page, placement, entry state, and every kind of wrong file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fw/boot.h"
#include "fw/e820.h"

#define RAM (64 * MiB)

static const struct fw_layout layout = {
	.ram_low = RAM,
	.cpus = 1,
	.ecam_base = 0xb0000000,
	.ecam_size = 256 * MiB,
};

static char kernel[64], initrd[64];
static struct mem_map *mem;

static void set(uint8_t *p, unsigned off, unsigned n, uint64_t v)
{
	memcpy(p + off, &v, n);
}

static void put_file(const char *path, const void *p, size_t n)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	if (n)
		assert_int_equal(fwrite(p, n, 1, f), 1);
	fclose(f);
}

#define BZ_SIZE (1024 + 4096)
static void make_bzimage(uint8_t p[BZ_SIZE])
{
	memset(p, 0, BZ_SIZE);
	p[0x1f1] = 1; /* 1024 bytes of set-up code */
	set(p, 0x1f4, 4, 4096 / 16);
	set(p, 0x1fe, 2, 0xaa55);
	p[0x201] = 0x66;
	memcpy(p + 0x202, "HdrS", 4);
	set(p, 0x206, 2, 0x20f);
	p[0x211] = 1;
	set(p, 0x22c, 4, 0x7fffffff);
	set(p, 0x230, 4, 2 * MiB);
	p[0x234] = 1;
	set(p, 0x236, 2, 1);
	set(p, 0x238, 4, 2047);
	set(p, 0x258, 8, 16 * MiB);
	set(p, 0x260, 4, 8 * MiB);
	memset(p + 1024, 0x5a, 4096);
}

struct pvh_file {
	Elf64_Ehdr h;
	Elf64_Phdr ph[2];
	struct {
		uint32_t namesz, descsz, type;
		char name[4];
		uint32_t desc;
	} note;
	uint8_t code[256];
};

static void make_pvh(struct pvh_file *f)
{
	memset(f, 0, sizeof(*f));
	memcpy(f->h.e_ident, ELFMAG, 4);
	f->h.e_ident[EI_CLASS] = ELFCLASS64;
	f->h.e_machine = EM_X86_64;
	f->h.e_phoff = offsetof(struct pvh_file, ph);
	f->h.e_phentsize = sizeof(Elf64_Phdr);
	f->h.e_phnum = 2;
	f->ph[0] = (Elf64_Phdr){ .p_type = PT_LOAD,
				 .p_offset = offsetof(struct pvh_file, code),
				 .p_paddr = 16 * MiB,
				 .p_filesz = 256,
				 .p_memsz = 8192 };
	f->ph[1] = (Elf64_Phdr){ .p_type = PT_NOTE,
				 .p_offset = offsetof(struct pvh_file, note),
				 .p_filesz = sizeof(f->note) };
	f->note.namesz = 4;
	f->note.descsz = 4;
	f->note.type = 18;
	memcpy(f->note.name, "Xen", 4);
	f->note.desc = 16 * MiB + 0x40;
	memset(f->code, 0xa5, sizeof(f->code));
}

static int try_boot(struct x86_state *s, const char *cmdline, bool with_initrd, struct err *e)
{
	struct fw_boot_cfg c = { kernel, with_initrd ? initrd : NULL, cmdline };
	struct fw_boot *b;
	int r;

	memset(s, 0, sizeof(*s));
	memset(e, 0, sizeof(*e));
	r = fw_boot_open(&b, &c, e);
	if (r)
		return r;
	r = fw_boot_load(b, mem, &layout, s, e);
	fw_boot_close(b);
	return r;
}

static uint64_t guest(gpa_t a, unsigned n)
{
	uint64_t v = 0;

	assert_int_equal(mem_copy_out(mem, &v, a, n), 0);
	return v;
}

static void test_bzimage(void **state)
{
	uint8_t p[BZ_SIZE], data[5000];
	struct x86_state s;
	struct err e;
	char text[32];
	gpa_t rd;

	(void)state;
	make_bzimage(p);
	put_file(kernel, p, sizeof(p));
	memset(data, 0x77, sizeof(data));
	put_file(initrd, data, sizeof(data));
	assert_int_equal(try_boot(&s, "console=ttyS0 x", true, &e), 0);

	assert_int_equal(s.rip, 16 * MiB + 0x200);
	assert_int_equal(s.gpr[X86_RSI], FW_ZERO_PAGE_ADDR);
	assert_true(x86_code64(&s));
	assert_true(s.cr0 & X86_CR0_PG);
	assert_int_equal(s.seg[X86_CS].sel, 0x10);
	assert_int_equal(s.seg[X86_DS].sel, 0x18);
	assert_int_equal(s.rflags, 2);
	assert_int_equal(guest(16 * MiB, 8), 0x5a5a5a5a5a5a5a5a);

	/* zero page */
	assert_int_equal(guest(FW_ZERO_PAGE_ADDR + 0x210, 1), 0xff);
	assert_int_equal(guest(FW_ZERO_PAGE_ADDR + 0x202, 4), 0x53726448);
	assert_int_equal(guest(FW_ZERO_PAGE_ADDR + 0x258, 8), 16 * MiB);
	assert_int_equal(guest(FW_ZERO_PAGE_ADDR + 0x70, 8), FW_ACPI_ADDR);
	assert_true(guest(FW_ZERO_PAGE_ADDR + 0x1e8, 1) >= 4);
	assert_int_equal(guest(FW_ZERO_PAGE_ADDR + 0x21c, 4), sizeof(data));
	rd = guest(FW_ZERO_PAGE_ADDR + 0x218, 4);
	assert_int_equal(rd % 4096, 0);
	assert_true(rd >= 24 * MiB && rd + sizeof(data) <= RAM);
	assert_int_equal(guest(rd + sizeof(data) - 8, 8), 0x7777777777777777);
	assert_int_equal(guest(rd + sizeof(data), 1), 0);
	assert_int_equal(mem_copy_out(mem, text, guest(FW_ZERO_PAGE_ADDR + 0x228, 4), 16), 0);
	assert_string_equal(text, "console=ttyS0 x");
}

/* The identity map, walked by hand: the first, a middle and the last 2 MiB below 4 GiB. */
static void test_page_tables(void **state)
{
	static const uint64_t va[] = { 0, 16 * MiB + 0x200, 0xfee00000, 4 * GiB - 1 };
	uint8_t p[BZ_SIZE];
	struct x86_state s;
	struct err e;

	(void)state;
	make_bzimage(p);
	put_file(kernel, p, sizeof(p));
	assert_int_equal(try_boot(&s, "", false, &e), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(va); i++) {
		uint64_t e4 = guest(s.cr3, 8), e3, e2;

		assert_true(e4 & 1);
		e3 = guest((e4 & ~0xfffull) + (va[i] >> 30) * 8, 8);
		assert_true(e3 & 1);
		e2 = guest((e3 & ~0xfffull) + ((va[i] >> 21) & 511) * 8, 8);
		assert_int_equal(e2 & 0x83, 0x83);
		assert_int_equal((e2 & ~0x1fffffull) + (va[i] & 0x1fffff), va[i]);
	}
}

static void test_pvh(void **state)
{
	struct pvh_file f;
	struct x86_state s;
	struct err e;
	gpa_t map, mod;

	(void)state;
	make_pvh(&f);
	put_file(kernel, &f, sizeof(f));
	put_file(initrd, "hello", 5);
	assert_int_equal(try_boot(&s, "abc", true, &e), 0);
	assert_int_equal(s.rip, 16 * MiB + 0x40);
	assert_int_equal(s.cr0 & (X86_CR0_PE | X86_CR0_PG), X86_CR0_PE);
	assert_false(x86_long_mode(&s));
	assert_true(s.seg[X86_CS].attr & X86_SEG_DB);
	assert_int_equal(guest(s.gpr[X86_RBX], 4), 0x336ec578);
	assert_int_equal(guest(s.gpr[X86_RBX] + 12, 4), 1);
	mod = guest(s.gpr[X86_RBX] + 16, 8);
	assert_int_equal(guest(guest(mod, 8), 5), 0x6f6c6c6568);
	assert_int_equal(guest(mod + 8, 8), 5);
	assert_int_equal(guest(guest(s.gpr[X86_RBX] + 24, 8), 4), 0x636261);
	map = guest(s.gpr[X86_RBX] + 40, 8);
	assert_int_equal(guest(map + 8, 8), FW_EBDA_ADDR);
	assert_int_equal(guest(16 * MiB + 255, 1), 0xa5);
	assert_int_equal(guest(16 * MiB + 256, 1), 0);
}

static void expect(const char *part)
{
	struct x86_state s;
	struct err e;

	assert_true(try_boot(&s, "", false, &e) < 0);
	if (!strstr(e.msg, part))
		fail_msg("\"%s\" lacks \"%s\"", e.msg, part);
	if (!strstr(e.msg, kernel) || strchr(e.msg, '\n'))
		fail_msg("\"%s\" is not one line naming the file", e.msg);
}

static void test_wrong_files(void **state)
{
	static const struct {
		const char *head, *part;
		unsigned n, off;
	} bad[] = {
		{ "\x1f\x8b", "gzip", 2, 0 },	{ "ARM\x64", "arm64", 4, 56 },
		{ "070701", "--initrd", 6, 0 }, { "QFI\xfb", "--disk", 4, 0 },
		{ "MZ", "PE", 2, 0 },		{ "\x01\x02\x03", "no known kind", 3, 0 },
	};
	uint8_t p[4096];

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		memset(p, 0, sizeof(p));
		memcpy(p + bad[i].off, bad[i].head, bad[i].n);
		put_file(kernel, p, sizeof(p));
		expect(bad[i].part);
	}
	put_file(kernel, "hello world\n", 12);
	expect("text file");
	put_file(kernel, "", 0);
	expect("empty");
	unlink(kernel);
	expect("No such file");
	assert_int_equal(symlink("/tmp", kernel), 0);
	expect("directory");
	unlink(kernel);
}

static void test_damaged_bzimage(void **state)
{
	uint8_t p[BZ_SIZE];

	(void)state;
	make_bzimage(p);
	put_file(kernel, p, sizeof(p) - 100);
	expect("truncated");
	put_file(kernel, p, 0x240);
	expect("truncated");
	set(p, 0x236, 2, 0);
	put_file(kernel, p, sizeof(p));
	expect("32-bit");
	make_bzimage(p);
	set(p, 0x230, 4, 3);
	put_file(kernel, p, sizeof(p));
	expect("damaged");
	make_bzimage(p);
	set(p, 0x260, 4, 100 * MiB);
	put_file(kernel, p, sizeof(p));
	expect("--memory");
}

static void test_damaged_pvh(void **state)
{
	struct pvh_file f;

	(void)state;
	make_pvh(&f);
	f.note.type = 17;
	put_file(kernel, &f, sizeof(f));
	expect("PVH");
	make_pvh(&f);
	put_file(kernel, &f, offsetof(struct pvh_file, code) + 255);
	expect("truncated");
	f.h.e_machine = EM_AARCH64;
	put_file(kernel, &f, sizeof(f));
	expect("another machine");
	make_pvh(&f);
	f.ph[0].p_memsz = 100;
	put_file(kernel, &f, sizeof(f));
	expect("damaged");
	make_pvh(&f);
	f.ph[0].p_memsz = UINT64_MAX;
	put_file(kernel, &f, sizeof(f));
	expect("--memory");
	make_pvh(&f);
	f.ph[0].p_paddr = 0;
	put_file(kernel, &f, sizeof(f));
	expect("damaged");
	make_pvh(&f);
	f.note.namesz = 0xffffffff;
	put_file(kernel, &f, sizeof(f));
	expect("PVH");
}

static void test_limits(void **state)
{
	uint8_t p[BZ_SIZE];
	char line[2049];
	struct x86_state s;
	struct err e;

	(void)state;
	make_bzimage(p);
	put_file(kernel, p, sizeof(p));
	memset(line, 'x', sizeof(line));
	line[2047] = 0;
	assert_int_equal(try_boot(&s, line, false, &e), 0);
	line[2047] = 'x';
	line[2048] = 0;
	assert_true(try_boot(&s, line, false, &e) < 0);
	assert_non_null(strstr(e.msg, "2047"));
	put_file(initrd, "x", 1);
	assert_int_equal(truncate(initrd, 50 * (long)MiB), 0);
	assert_true(try_boot(&s, "", true, &e) < 0);
	assert_non_null(strstr(e.msg, initrd));
	assert_non_null(strstr(e.msg, "--memory"));
}

static int setup(void **state)
{
	struct err e;

	(void)state;
	snprintf(kernel, sizeof(kernel), "/tmp/ring3-fw-kernel-%d", getpid());
	snprintf(initrd, sizeof(initrd), "/tmp/ring3-fw-initrd-%d", getpid());
	unlink(kernel);
	mem = mem_map_new();
	return mem && !mem_ram_create(mem, RAM, &e) && !mem_add_ram(mem, "ram", 0, 0, RAM) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	unlink(kernel);
	unlink(initrd);
	mem_map_free(mem);
	return 0;
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_bzimage),	CASE(test_page_tables),	    CASE(test_pvh),
		CASE(test_wrong_files), CASE(test_damaged_bzimage), CASE(test_damaged_pvh),
		CASE(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
