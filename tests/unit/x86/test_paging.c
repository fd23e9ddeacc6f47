/* SPDX-License-Identifier: Apache-2.0 */
/* The page walk in all three modes: addresses, rights, error codes, accessed and dirty bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "x86/paging.h"

#define P 1ull
#define W 2ull
#define U 4ull
#define A 0x20ull
#define D 0x40ull
#define PS 0x80ull
#define G 0x100ull
#define NX (1ull << 63)

#define ROOT 0x1000u
#define L3 0x2000u
#define L2 0x3000u
#define L1 0x4000u
#define VA 0x40201123ull /* indexes 0, 1, 1, 1 */

static uint8_t ram[0x10000];
static unsigned spoil; /* cmpxchg calls to fail */

static uint64_t mem_read(void *opaque, gpa_t a, unsigned size, bool *ok)
{
	uint64_t v = 0;

	(void)opaque;
	if (a + size > sizeof(ram)) {
		*ok = false;
		return size == 8 ? ~0ull : 0xffffffffull;
	}
	*ok = true;
	memcpy(&v, ram + a, size);
	return v;
}

static bool mem_cmpxchg(void *opaque, gpa_t a, unsigned size, uint64_t old_val, uint64_t new_val)
{
	uint64_t v = 0;

	(void)opaque;
	memcpy(&v, ram + a, size);
	if (spoil != 0 || v != old_val) {
		spoil -= spoil != 0;
		return false;
	}
	memcpy(ram + a, &new_val, size);
	return true;
}

static const struct x86_walk_mem walk_mem = { .read = mem_read, .cmpxchg = mem_cmpxchg };
static struct x86_state s;

static void put(gpa_t a, uint64_t v)
{
	memcpy(ram + a, &v, 8);
}

static void put4(gpa_t a, uint32_t v)
{
	memcpy(ram + a, &v, 4);
}

static uint64_t get(gpa_t a)
{
	uint64_t v;

	memcpy(&v, ram + a, 8);
	return v;
}

static uint32_t get4(gpa_t a)
{
	uint32_t v;

	memcpy(&v, ram + a, 4);
	return v;
}

/* Four levels, VA → 0x5123, all rights. */
static int setup_long(void **state)
{
	(void)state;
	memset(ram, 0, sizeof(ram));
	memset(&s, 0, sizeof(s));
	spoil = 0;
	s.cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_WP;
	s.cr4 = X86_CR4_PAE | X86_CR4_PGE;
	s.efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
	s.cr3 = ROOT;
	put(ROOT, L3 | P | W | U);
	put(L3 + 8, L2 | P | W | U);
	put(L2 + 8, L1 | P | W | U);
	put(L1 + 8, 0x5000 | P | W | U);
	return 0;
}

static struct x86_xlat x;
static uint32_t err;

static int walk(gva_t va, unsigned acc)
{
	err = 0xdead;
	return x86_translate(&s, &walk_mem, va, acc, &x, &err);
}

static void expect_fault(unsigned acc, uint32_t code)
{
	assert_int_equal(walk(VA, acc), -EFAULT);
	assert_int_equal(err, code);
}

static void test_identity(void **state)
{
	(void)state;
	s.cr0 &= ~X86_CR0_PG;
	assert_int_equal(walk(0x12345678, X86_ACC_W), 0);
	assert_int_equal(x.gpa, 0x12345678);
	assert_int_equal(x.page_size, 4096);
}

static void test_four_levels(void **state)
{
	(void)state;
	assert_int_equal(walk(VA, X86_ACC_R), 0);
	assert_int_equal(x.gpa, 0x5123);
	assert_int_equal(x.page_size, 4096);
	assert_true(x.user && x.writable && !x.nx && !x.dirty && !x.global);
	assert_int_equal(get(ROOT), L3 | P | W | U | A);
	assert_int_equal(get(L3 + 8), L2 | P | W | U | A);
	assert_int_equal(get(L2 + 8), L1 | P | W | U | A);
	assert_int_equal(get(L1 + 8), 0x5000 | P | W | U | A);
	assert_int_equal(walk(VA, X86_ACC_W), 0);
	assert_true(x.dirty);
	assert_int_equal(get(L1 + 8), 0x5000 | P | W | U | A | D);
	assert_int_equal(get(L2 + 8), L1 | P | W | U | A);
}

static void test_probe(void **state)
{
	(void)state;
	assert_int_equal(walk(VA, X86_ACC_W | X86_ACC_PROBE), 0);
	assert_int_equal(get(L1 + 8), 0x5000 | P | W | U);
}

static void test_large_pages(void **state)
{
	(void)state;
	put(L2 + 8, 0x600000 | P | W | U | PS | G);
	assert_int_equal(walk(VA, X86_ACC_W), 0);
	assert_int_equal(x.gpa, 0x601123);
	assert_int_equal(x.page_size, 2 * MiB);
	assert_true(x.global && x.dirty);
	put(L3 + 8, 0xc0000000 | P | W | U | PS);
	assert_int_equal(walk(VA, X86_ACC_R), 0);
	assert_int_equal(x.gpa, 0xc0201123);
	assert_int_equal(x.page_size, 1 * GiB);
	assert_false(x.global);
}

static void test_not_present(void **state)
{
	static const gpa_t at[] = { ROOT, L3 + 8, L2 + 8, L1 + 8 };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
		setup_long(NULL);
		put(at[i], get(at[i]) & ~P);
		expect_fault(X86_ACC_R, 0);
		expect_fault(X86_ACC_W | X86_ACC_USER, X86_PF_W | X86_PF_U);
		expect_fault(X86_ACC_X, X86_PF_I);
		s.efer &= ~X86_EFER_NXE;
		expect_fault(X86_ACC_X, 0);
		s.cr4 |= X86_CR4_SMEP;
		expect_fault(X86_ACC_X, X86_PF_I);
	}
}

static void test_rights(void **state)
{
	(void)state;
	put(L2 + 8, L1 | P | U); /* read-only on the way */
	expect_fault(X86_ACC_W, X86_PF_P | X86_PF_W);
	expect_fault(X86_ACC_W | X86_ACC_USER, X86_PF_P | X86_PF_W | X86_PF_U);
	assert_int_equal(get(L1 + 8), 0x5000 | P | W | U); /* no mark of a refused access */
	s.cr0 &= ~X86_CR0_WP;
	assert_int_equal(walk(VA, X86_ACC_W), 0);
	expect_fault(X86_ACC_W | X86_ACC_USER, X86_PF_P | X86_PF_W | X86_PF_U);
	put(L2 + 8, L1 | P | W); /* supervisor */
	expect_fault(X86_ACC_USER, X86_PF_P | X86_PF_U);
	assert_int_equal(walk(VA, X86_ACC_W), 0);
	put(L3 + 8, L2 | P | W | U | NX);
	expect_fault(X86_ACC_X, X86_PF_P | X86_PF_I);
	assert_int_equal(walk(VA, X86_ACC_R), 0);
	assert_true(x.nx);
}

static void test_smep_smap(void **state)
{
	(void)state;
	s.cr4 |= X86_CR4_SMEP | X86_CR4_SMAP;
	expect_fault(X86_ACC_X, X86_PF_P | X86_PF_I);
	assert_int_equal(walk(VA, X86_ACC_X | X86_ACC_USER), 0);
	expect_fault(X86_ACC_R, X86_PF_P);
	expect_fault(X86_ACC_W, X86_PF_P | X86_PF_W);
	s.rflags |= X86_FL_AC;
	assert_int_equal(walk(VA, X86_ACC_R), 0);
	expect_fault(X86_ACC_R | X86_ACC_IMPLICIT, X86_PF_P);
	assert_int_equal(walk(VA, X86_ACC_R | X86_ACC_USER), 0);
}

static void test_reserved(void **state)
{
	const uint64_t high = 1ull << x86_phys_bits();

	(void)state;
	put(L1 + 8, 0x5000 | P | W | U | high);
	expect_fault(X86_ACC_W | X86_ACC_USER, X86_PF_P | X86_PF_W | X86_PF_U | X86_PF_RSVD);
	put(L1 + 8, 0x5000 | W | U | high); /* not present: nothing is reserved */
	expect_fault(X86_ACC_R, 0);
	put(L1 + 8, 0x5000 | P | W | U | 1ull << 52); /* ignored bit */
	assert_int_equal(walk(VA, X86_ACC_R), 0);
	put(L2 + 8, 0x602000 | P | W | U | PS);
	expect_fault(X86_ACC_R, X86_PF_P | X86_PF_RSVD);
	setup_long(NULL);
	put(L3 + 8, 0xc0200000 | P | PS);
	expect_fault(X86_ACC_R, X86_PF_P | X86_PF_RSVD);
	put(ROOT, L3 | P | PS);
	expect_fault(X86_ACC_R, X86_PF_P | X86_PF_RSVD);
	setup_long(NULL);
	s.efer &= ~X86_EFER_NXE;
	put(L1 + 8, 0x5000 | P | NX);
	expect_fault(X86_ACC_R, X86_PF_P | X86_PF_RSVD);
}

static void test_pcid_and_retry(void **state)
{
	(void)state;
	s.cr4 |= X86_CR4_PCIDE;
	s.cr3 = ROOT | 0x123;
	spoil = 3;
	assert_int_equal(walk(VA, X86_ACC_R), 0);
	assert_int_equal(x.gpa, 0x5123);
	assert_int_equal(spoil, 0);
}

static void setup_32(void)
{
	setup_long(NULL);
	memset(ram, 0, sizeof(ram));
	s.efer = 0;
	s.cr4 = X86_CR4_PSE | X86_CR4_PGE;
	put4(ROOT + (VA >> 22) * 4, L1 | P | W | U);
	put4(L1 + ((VA >> 12) & 1023) * 4, 0x7000 | P | W | U);
}

static void test_32bit(void **state)
{
	(void)state;
	setup_32();
	assert_int_equal(walk(VA, X86_ACC_W), 0);
	assert_int_equal(x.gpa, 0x7123);
	assert_int_equal(get4(L1 + ((VA >> 12) & 1023) * 4), 0x7000 | P | W | U | A | D);
	assert_int_equal(get4(ROOT + (VA >> 22) * 4), L1 | P | W | U | A);
	put4(ROOT + (VA >> 22) * 4, 0x00c00000 | P | W | PS);
	assert_int_equal(walk(VA, X86_ACC_R), 0);
	assert_int_equal(x.gpa, 0xc00000 + (VA & 0x3fffff));
	assert_int_equal(x.page_size, 4 * MiB);
	expect_fault(X86_ACC_USER, X86_PF_P | X86_PF_U);
	put4(ROOT + (VA >> 22) * 4, 0x00c00000 | P | PS | 3u << 13); /* PSE-36 */
	assert_int_equal(walk(VA, X86_ACC_R), 0);
	assert_int_equal(x.gpa, (3ull << 32) + 0xc00000 + (VA & 0x3fffff));
	put4(ROOT + (VA >> 22) * 4, 0x00c00000 | P | PS | 1u << 21);
	expect_fault(X86_ACC_R, X86_PF_P | X86_PF_RSVD);
	s.cr4 &= ~X86_CR4_PSE; /* PS is ignored: a table again */
	put4(ROOT + (VA >> 22) * 4, L1 | P | W | U | PS);
	assert_int_equal(walk(VA, X86_ACC_R), 0);
	assert_int_equal(x.gpa, 0x7123);
}

static void test_pae(void **state)
{
	(void)state;
	setup_long(NULL);
	s.efer = X86_EFER_NXE;
	s.cr3 = L3 | 0x20; /* 32-byte aligned */
	memset(ram + L3, 0, 4096);
	put(L3 + 0x20 + 8, L2 | P);
	assert_int_equal(walk(VA, X86_ACC_W | X86_ACC_USER), 0);
	assert_int_equal(x.gpa, 0x5123);
	assert_int_equal(get(L3 + 0x28), L2 | P); /* PDPTEs carry no accessed bit */
	put(L3 + 0x28, L2 | P | W);
	expect_fault(X86_ACC_R, X86_PF_P | X86_PF_RSVD);
	put(L3 + 0x28, L2 | P);
	put(L1 + 8, 0x5000 | P | 1ull << 52); /* reserved outside long mode */
	expect_fault(X86_ACC_R, X86_PF_P | X86_PF_RSVD);
	put(L2 + 8, 0x600000 | P | PS | NX);
	expect_fault(X86_ACC_X, X86_PF_P | X86_PF_I);
	assert_int_equal(walk(VA, X86_ACC_R), 0);
	assert_int_equal(x.gpa, 0x601123);
}

#define T(f) cmocka_unit_test_setup(f, setup_long)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_identity),	T(test_four_levels), T(test_probe),	T(test_large_pages),
		T(test_not_present),	T(test_rights),	     T(test_smep_smap), T(test_reserved),
		T(test_pcid_and_retry), T(test_32bit),	     T(test_pae),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
