/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table's own invariants, fields of decoded instructions that Zydis does not state, effective
 * addresses, reset values.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "x86/insn.h"

static const char *const row_ids[] = {
#define I(enc, ops, id, feat, flags, attr) #id,
#define N(enc, ops, id, feat, flags, attr, name) #id,
#include "x86/insn.def"
#undef I
#undef N
};

static const char *const ids[] = {
#define X86_ID(name) #name,
#include "x86/insn_ids.def"
#undef X86_ID
};

static int decode(struct x86_insn *in, enum x86_mode mode, const char *bytes, unsigned n)
{
	uint8_t b[15] = { 0 };

	memcpy(b, bytes, n);
	return x86_decode(in, mode, b, 15);
}
#define D(in, mode, s) decode(in, mode, s, sizeof(s) - 1)

/* insn_ids.def lists exactly the ids of insn.def, in the order in which they first appear. */
static void test_ids_match_rows(void **state)
{
	unsigned next = 0;

	(void)state;
	assert_int_equal(ARRAY_SIZE(row_ids), x86_row_count());
	assert_int_equal(ARRAY_SIZE(ids), X86_ID_COUNT - 1);
	for (unsigned i = 0; i < ARRAY_SIZE(row_ids); i++) {
		bool known = false;

		for (unsigned k = 0; k < next && !known; k++)
			known = !strcmp(ids[k], row_ids[i]);
		if (!known) {
			assert_true(next < ARRAY_SIZE(ids));
			assert_string_equal(ids[next], row_ids[i]);
			next++;
		}
	}
	assert_int_equal(next, ARRAY_SIZE(ids));
}

static void test_rows_are_sane(void **state)
{
	(void)state;
	for (unsigned i = 0; i < x86_row_count(); i++) {
		const struct x86_row *r = x86_row_at(i);

		assert_true(r->id > X86_ID_INVALID && r->id < X86_ID_COUNT);
		assert_true(r->name[0] >= 'a' && r->name[0] <= 'z');
		assert_int_equal(r->fl_undef & ~r->fl_write, 0);
		assert_true(r->feature < X86_FEAT_COUNT);
		assert_false((r->attr & IA_NO64) && (r->attr & IA_ONLY64));
		assert_false((r->attr & IA_COND) && !(r->attr & IA_BRANCH));
	}
	assert_null(x86_row_at(x86_row_count()));
}

static void test_fields(void **state)
{
	struct x86_insn in;

	(void)state;
	assert_int_equal(D(&in, X86_MODE_64, "\xf3\x48\xab"), 3); /* rep stosq */
	assert_int_equal(in.rep, REP_REPE);
	assert_false(in.rep_mandatory);
	assert_int_equal(in.opsize, 8);
	assert_int_equal(in.op[in.nop - 1].reg, X86_RCX);
	assert_int_equal(D(&in, X86_MODE_64, "\xf3\x0f\x10\x00"), 4); /* movss */
	assert_true(in.rep_mandatory);
	assert_int_equal(D(&in, X86_MODE_64, "\x00\xe1"), 2); /* add cl, ah */
	assert_true(in.op[1].high8);
	assert_int_equal(in.op[1].reg, X86_RAX);
	assert_int_equal(in.opsize, 1);
	assert_int_equal(D(&in, X86_MODE_64, "\x40\x00\xe1"), 3); /* add cl, spl */
	assert_false(in.op[1].high8);
	assert_int_equal(in.op[1].reg, X86_RSP);
	assert_int_equal(D(&in, X86_MODE_64, "\xc8\x34\x12\x05"), 4); /* enter 0x1234, 5 */
	assert_int_equal(in.imm, 0x1234);
	assert_int_equal(in.imm2, 5);
	assert_int_equal(in.len_imm, 3);
	assert_int_equal(in.opsize, 8);
	assert_int_equal(D(&in, X86_MODE_32, "\xea\x78\x56\x34\x12\x10\x00"), 7);
	assert_int_equal(in.imm, 0x12345678);
	assert_int_equal(in.imm2, 0x10);
	assert_int_equal(D(&in, X86_MODE_64, "\x64\x2e\x8b\x00"), 4); /* the CS override is void */
	assert_int_equal(in.seg, X86_FS);
	assert_int_equal(D(&in, X86_MODE_64, "\x48\x66\x01\xc0"), 4); /* REX before 66 is void */
	assert_int_equal(in.opsize, 2);
	assert_int_equal(D(&in, X86_MODE_64, "\xd1\xe0"), 2); /* shl eax, 1 */
	assert_int_equal(in.imm, 1);
	assert_int_equal(in.op[1].kind, OPK_IMM);
	assert_int_equal(D(&in, X86_MODE_64, "\x6a\xff"), 2); /* push -1 */
	assert_int_equal(in.imm, UINT64_MAX);
	assert_int_equal(D(&in, X86_MODE_64, "\xc4\xe3\x71\x4a\xc2\x30"),
			 6); /* vblendvps, is4 = 3 */
	assert_int_equal(in.op[3].enc, ENC_IS4);
	assert_int_equal(in.op[3].reg, 3);
}

static void test_refusals(void **state)
{
	struct x86_insn in;
	uint8_t many[15];

	(void)state;
	memset(many, 0x66, sizeof many);
	assert_int_equal(x86_decode(&in, X86_MODE_64, many, 15), -E2BIG);
	assert_int_equal(x86_decode(&in, X86_MODE_64, many, 14), -EAGAIN);
	assert_int_equal(x86_decode(&in, X86_MODE_64, many, 0), -EAGAIN);
	assert_int_equal(D(&in, X86_MODE_64, "\xf0\x01\xc0"), -EILSEQ); /* lock add eax, eax */
	assert_int_equal(D(&in, X86_MODE_64, "\xf0\x03\x00"), -EILSEQ); /* lock add eax, [rax] */
	assert_int_equal(D(&in, X86_MODE_64, "\xf0\x01\x00"), 3);
	assert_int_equal(D(&in, X86_MODE_64, "\x66\xc5\xf8\x58\xc0"), -EILSEQ);
	assert_int_equal(D(&in, X86_MODE_64, "\x48\xc5\xf8\x58\xc0"), -EILSEQ);
	assert_int_equal(D(&in, X86_MODE_64, "\xc5\xf0\x28\xc0"),
			 -EILSEQ); /* vvvv unused yet given */
	assert_int_equal(D(&in, X86_MODE_64, "\x06"), -EILSEQ);
	assert_int_equal(D(&in, X86_MODE_64, "\x0f\x20\xc8"), -EILSEQ); /* mov eax, cr1 */
	assert_int_equal(D(&in, X86_MODE_64, "\x8e\xc8"), -EILSEQ);	/* mov cs, eax */
	/* gather with equal registers, and without SIB */
	assert_int_equal(D(&in, X86_MODE_64, "\xc4\xe2\x69\x90\x04\x0f"), 6);
	assert_int_equal(D(&in, X86_MODE_64, "\xc4\xe2\x69\x90\x04\x07"), -EILSEQ);
	assert_int_equal(D(&in, X86_MODE_64, "\xc4\xe2\x69\x90\x07"), -EILSEQ);
}

static uint64_t ea(enum x86_mode mode, const char *s, unsigned n, const uint64_t *gpr)
{
	struct x86_insn in;
	int r = decode(&in, mode, s, n);

	assert_true(r > 0 && in.has_mem);
	return x86_ea(&in, gpr, 0x400000 + (unsigned)r);
}
#define EA(mode, s) ea(mode, s, sizeof(s) - 1, g)

static void test_effective_addresses(void **state)
{
	uint64_t g[16];

	(void)state;
	for (unsigned i = 0; i < 16; i++)
		g[i] = 0x1000100010000ull * (i + 1) + i;
	assert_int_equal(EA(X86_MODE_64, "\x8b\x04\x8b"), g[3] + 4 * g[1]);
	assert_int_equal(EA(X86_MODE_64, "\x8b\x05\xf0\xff\xff\xff"), 0x400006 - 16);
	assert_int_equal(EA(X86_MODE_64, "\x67\x8b\x04\x8b"), (uint32_t)(g[3] + 4 * g[1]));
	assert_int_equal(EA(X86_MODE_64, "\x43\x8b\x44\xe5\x10"), g[13] + 8 * g[12] + 16);
	assert_int_equal(EA(X86_MODE_64, "\xa1\x88\x77\x66\x55\x44\x33\x22\x11"),
			 0x1122334455667788);
	assert_int_equal(EA(X86_MODE_64, "\x67\xa1\x88\x77\x66\xf5"), 0xf5667788);
	assert_int_equal(EA(X86_MODE_16, "\x8b\x42\xff"), (uint16_t)(g[5] + g[6] - 1));
	assert_int_equal(EA(X86_MODE_16, "\x8b\x06\x34\xf2"), 0xf234);
	assert_int_equal(EA(X86_MODE_64, "\xd7"), g[3] + (g[0] & 0xff));
	g[0] = 0xfff0;
	assert_int_equal(EA(X86_MODE_32, "\x67\x8b\x47\x7f"), (uint16_t)(g[3] + 0x7f));
}

static void test_reset_state(void **state)
{
	static struct x86_state s;

	(void)state;
	memset(&s, 0xaa, sizeof s);
	x86_state_reset(&s);
	assert_int_equal(s.rip, 0xfff0);
	assert_int_equal(s.seg[X86_CS].base, 0xffff0000);
	assert_int_equal(s.cr0, 0x60000010);
	assert_int_equal(s.rflags, 2);
	assert_int_equal(s.dr[6], 0xffff0ff0);
	s.tsc_aux = 7;
	s.xsave[100] = 9;
	s.cr0 = X86_CR0_PG | X86_CR0_PE;
	x86_state_init_ipi(&s);
	assert_int_equal(s.cr0, X86_CR0_ET);
	assert_int_equal(s.tsc_aux, 7);
	assert_int_equal(s.xsave[100], 9);
	assert_int_equal(s.mp_state, X86_MP_WAIT_SIPI);
}

static void test_disassembly(void **state)
{
	char buf[64];

	(void)state;
	x86_disasm(buf, sizeof buf, X86_MODE_64, (const uint8_t *)"\x48\x89\xd8", 3, 0);
	assert_string_equal(buf, "mov rax, rbx");
	x86_disasm(buf, sizeof buf, X86_MODE_64, (const uint8_t *)"\x06", 1, 0);
	assert_string_equal(buf, "(bad)");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ids_match_rows),
		cmocka_unit_test(test_rows_are_sane),
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_effective_addresses),
		cmocka_unit_test(test_reset_state),
		cmocka_unit_test(test_disassembly),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
