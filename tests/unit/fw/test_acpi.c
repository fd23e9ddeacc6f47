/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI tables: links, checksums, contents; the DSDT as iasl reads it, where iasl is installed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fw/acpi.h"
#include "fw/aml.h"
#include "fw/e820.h"

static const struct fw_layout layout = {
	.ram_low = 1 * GiB,
	.ram_high = 3 * GiB,
	.cpus = 4,
	.ecam_base = 0xb0000000,
	.ecam_size = 256 * MiB,
	.pci32_base = 0xc0000000,
	.pci32_end = 0xfec00000,
	.pci64_base = 1ull << 36,
	.pci64_end = 1ull << 37,
	.pci_gsi = 16,
	.pci_gsis = 8,
	.ioapic_base = 0xfec00000,
	.lapic_base = 0xfee00000,
	.pm_base = 0x600,
	.sci_gsi = 9,
	.pm_timer32 = true,
	.com1 = true,
};

static uint8_t buf[FW_ACPI_SIZE];

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s = (uint8_t)(s + *p++);
	return s;
}

static uint64_t get(const uint8_t *p, unsigned off, unsigned n)
{
	uint64_t v = 0;

	memcpy(&v, p + off, n);
	return v;
}

static const uint8_t *at(uint64_t gpa)
{
	assert_in_range(gpa, FW_ACPI_ADDR, FW_ACPI_ADDR + FW_ACPI_SIZE - 36);
	return buf + (gpa - FW_ACPI_ADDR);
}

static void build(void)
{
	memset(buf, 0xee, sizeof(buf));
	assert_true(fw_acpi_build(buf, sizeof(buf), FW_ACPI_ADDR, &layout) > 0);
}

static const uint8_t *find(const char *sig)
{
	const uint8_t *xsdt = at(get(buf, 24, 8));

	assert_memory_equal(xsdt, "XSDT", 4);
	for (unsigned off = 36; off < get(xsdt, 4, 4); off += 8)
		if (!memcmp(at(get(xsdt, off, 8)), sig, 4))
			return at(get(xsdt, off, 8));
	fail_msg("no %s", sig);
	return NULL;
}

static void test_checksums(void **state)
{
	const uint8_t *xsdt, *fadt, *dsdt;

	(void)state;
	build();
	assert_memory_equal(buf, "RSD PTR ", 8);
	assert_int_equal(sum(buf, 20), 0);
	assert_int_equal(sum(buf, 36), 0);
	xsdt = at(get(buf, 24, 8));
	assert_int_equal(sum(xsdt, get(xsdt, 4, 4)), 0);
	for (unsigned off = 36; off < get(xsdt, 4, 4); off += 8) {
		const uint8_t *t = at(get(xsdt, off, 8));

		assert_int_equal(sum(t, get(t, 4, 4)), 0);
	}
	fadt = find("FACP");
	dsdt = at(get(fadt, 140, 8));
	assert_memory_equal(dsdt, "DSDT", 4);
	assert_int_equal(sum(dsdt, get(dsdt, 4, 4)), 0);
	assert_int_equal(get(fadt, 40, 4), get(fadt, 140, 8));
}

static void test_fadt(void **state)
{
	const uint8_t *f;

	(void)state;
	build();
	f = find("FACP");
	assert_int_equal(get(f, 4, 4), 276);
	assert_int_equal(get(f, 46, 2), 9);	/* SCI */
	assert_int_equal(get(f, 56, 4), 0x600); /* PM1a event */
	assert_int_equal(get(f, 64, 4), 0x604); /* PM1a control */
	assert_int_equal(get(f, 76, 4), 0x608); /* timer */
	assert_int_equal(get(f, 109, 2), 5);	/* legacy devices, no VGA, no i8042 */
	assert_int_equal(get(f, 116, 1), 1);	/* reset register: I/O … */
	assert_int_equal(get(f, 120, 8), 0xcf9);
	assert_int_equal(get(f, 128, 1), 6);
	assert_true(get(f, 112, 4) & BIT(10));	/* … usable */
	assert_false(get(f, 112, 4) & BIT(4));	/* fixed power button */
	assert_false(get(f, 112, 4) & BIT(20)); /* not hardware-reduced */
	assert_memory_equal(at(get(f, 36, 4)), "FACS", 4);
	assert_int_equal(get(f, 36, 4) % 64, 0);
}

static void test_madt(void **state)
{
	const uint8_t *m;
	unsigned lapics = 0, ioapics = 0, overrides = 0, nmis = 0;

	(void)state;
	build();
	m = find("APIC");
	assert_int_equal(get(m, 36, 4), 0xfee00000);
	for (unsigned off = 44; off < get(m, 4, 4); off += m[off + 1]) {
		assert_true(m[off + 1] >= 2);
		if (m[off] == 0)
			assert_int_equal(m[off + 3], lapics++);
		ioapics += m[off] == 1;
		nmis += m[off] == 4;
		if (m[off] == 2)
			overrides |= m[off + 3] == 0 && get(m, off + 4, 4) == 2	    ? 1
				     : m[off + 3] == 9 && get(m, off + 8, 2) == 0xd ? 2
										    : 0x80u;
	}
	assert_int_equal(lapics, 4);
	assert_int_equal(ioapics, 1);
	assert_int_equal(overrides, 3);
	assert_int_equal(nmis, 1);
}

static void test_mcfg(void **state)
{
	const uint8_t *m;

	(void)state;
	build();
	m = find("MCFG");
	assert_int_equal(get(m, 44, 8), 0xb0000000);
	assert_int_equal(m[54], 0);
	assert_int_equal(m[55], 255);
}

static void test_too_small(void **state)
{
	static uint8_t small[700];

	(void)state;
	for (size_t n = 0; n < sizeof(small); n += 50)
		assert_true(fw_acpi_build(small, n, FW_ACPI_ADDR, &layout) < 0);
}

/* Every form of a package length, at its borders. */
static void test_pkglength(void **state)
{
	static const unsigned sizes[] = { 0, 50, 56, 57, 58, 59, 60, 4080, 4087, 4088, 4089, 70000 };
	static uint8_t b[80000];
	struct aml a;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		unsigned lead, total;

		aml_init(&a, b, sizeof(b));
		aml_scope(&a, "\\_SB_");
		for (unsigned j = 0; j < sizes[i]; j++)
			aml_int(&a, 0);
		aml_end(&a);
		assert_false(a.overflow);
		lead = b[1] >> 6;
		total = lead ? b[1] & 0xf : b[1] & 0x3f;
		for (unsigned j = 0; j < lead; j++)
			total |= (unsigned)b[2 + j] << (4 + 8 * j);
		assert_int_equal(total, a.len - 1);
		assert_int_equal(a.len, 1 + 1 + lead + 5 + sizes[i]);
	}
}

static void test_eisaid(void **state)
{
	uint8_t b[8];
	struct aml a;

	(void)state;
	aml_init(&a, b, sizeof(b));
	aml_eisaid(&a, "PNP0A03");
	assert_memory_equal(b, "\x0c\x41\xd0\x0a\x03", 5);
}

/* iasl decompiles what we built; its text must show what we meant. */
static void test_iasl(void **state)
{
	static const char *const want[] = { "Name (\\_S5, Package (0x04)",
					    "PNP0A08",
					    "PNP0501",
					    "Device (MBRD)",
					    "_PRT",
					    "0xFEBFFFFF",
					    NULL };
	static char text[262144];
	char dir[] = "/tmp/ring3-acpi-XXXXXX", cmd[512], path[128];
	const uint8_t *dsdt;
	FILE *f;
	size_t n;

	(void)state;
	if (system("command -v iasl >/dev/null 2>&1") != 0)
		skip();
	build();
	dsdt = at(get(find("FACP"), 140, 8));
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/dsdt.aml", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(dsdt, get(dsdt, 4, 4), 1, f), 1);
	fclose(f);
	snprintf(cmd, sizeof(cmd),
		 "cd %s && iasl -d dsdt.aml >log 2>&1 && iasl dsdt.dsl >log2 2>&1", dir);
	assert_int_equal(system(cmd), 0);
	snprintf(path, sizeof(path), "%s/dsdt.dsl", dir);
	f = fopen(path, "r");
	assert_non_null(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = 0;
	fclose(f);
	for (unsigned i = 0; want[i]; i++)
		if (!strstr(text, want[i]))
			fail_msg("iasl does not show %s", want[i]);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	assert_int_equal(system(cmd), 0);
}

static void test_e820(void **state)
{
	struct fw_e820_entry t[FW_E820_MAX];
	unsigned n = fw_e820_build(t, &layout);
	uint64_t ram = 0;

	(void)state;
	for (unsigned i = 0; i < n; i++) {
		if (i)
			assert_true(t[i - 1].addr + t[i - 1].size <= t[i].addr);
		assert_true(t[i].size > 0);
		if (t[i].type == FW_E820_RAM)
			ram += t[i].size;
	}
	assert_int_equal(ram, 4 * GiB - (FW_HIGH_MEM - FW_EBDA_ADDR));
	assert_int_equal(t[n - 1].addr, 4 * GiB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_checksums), cmocka_unit_test(test_fadt),
		cmocka_unit_test(test_madt),	  cmocka_unit_test(test_mcfg),
		cmocka_unit_test(test_too_small), cmocka_unit_test(test_pkglength),
		cmocka_unit_test(test_eisaid),	  cmocka_unit_test(test_iasl),
		cmocka_unit_test(test_e820),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
