/* SPDX-License-Identifier: Apache-2.0 */
/* Every encoding the host encoder makes, with all registers and operand shapes, read back by Zydis. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <Zydis/Zydis.h>
#include <string.h>

#include "base/base.h"
#include "cpu/dbt/emit.h"

static ZydisDecoder decoder;
static uint8_t buf[64];
static struct emit em;
static ZydisDecodedInstruction insn;
static ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
static uint64_t seed = 42;

static uint64_t rnd(void)
{
	seed = seed * 6364136223846793005ul + 1442695040888963407ul;
	return seed >> 20;
}

static void begin(void)
{
	memset(buf, 0xcc, sizeof(buf));
	em = (struct emit){ buf, buf, buf + sizeof(buf), false };
}

/* Decodes what was emitted: exactly one instruction of this name. */
static void one(ZydisMnemonic m)
{
	assert_false(em.overflow);
	assert_true(ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, buf, sizeof(buf), &insn, op)));
	assert_int_equal(insn.length, em.p - em.start);
	assert_int_equal(insn.mnemonic, m);
}

static void is_reg(unsigned n, unsigned reg, unsigned bits)
{
	assert_int_equal(op[n].type, ZYDIS_OPERAND_TYPE_REGISTER);
	assert_int_equal(ZydisRegisterGetId(op[n].reg.value), reg);
	assert_int_equal(ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, op[n].reg.value), bits);
}

static ZydisRegister reg64(unsigned r)
{
	return r == H_NONE ? ZYDIS_REGISTER_NONE : (ZydisRegister)(ZYDIS_REGISTER_RAX + r);
}

static void is_mem(unsigned n, struct host_mem m)
{
	assert_int_equal(op[n].type, ZYDIS_OPERAND_TYPE_MEMORY);
	assert_int_equal(op[n].mem.base, reg64(m.base));
	assert_int_equal(op[n].mem.index, reg64(m.index));
	if (m.index != H_NONE)
		assert_int_equal(op[n].mem.scale, 1 << m.scale);
	assert_int_equal(op[n].mem.disp.has_displacement ? op[n].mem.disp.value : 0, m.disp);
	if (m.seg)
		assert_int_equal(op[n].mem.segment,
				 m.seg == 0x64 ? ZYDIS_REGISTER_FS : ZYDIS_REGISTER_GS);
	else
		assert_true(op[n].mem.segment == ZYDIS_REGISTER_DS ||
			    op[n].mem.segment == ZYDIS_REGISTER_SS);
}

static struct host_mem some_mem(void)
{
	static const int32_t disps[] = { 0, 0, 1, -1, 127, 128, -128, -129, INT32_MAX, INT32_MIN };
	struct host_mem m = { .base = (uint8_t)(rnd() % 16),
			      .index = H_NONE,
			      .disp = disps[rnd() % ARRAY_SIZE(disps)] };

	if (rnd() % 3 == 0)
		m.base = H_NONE;
	if (rnd() % 2) {
		m.index = (uint8_t)(rnd() % 16);
		m.scale = (uint8_t)(rnd() % 4);
		if (m.index == H_RSP)
			m.index = H_NONE;
	}
	if (rnd() % 3 == 0)
		m.seg = rnd() % 2 ? 0x64 : 0x65;
	return m;
}

static void memory_forms(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		unsigned r = (unsigned)(rnd() % 16), s = (unsigned)(rnd() % 16);
		struct host_mem m = some_mem();

		begin(), emit_load(&em, r, m), one(ZYDIS_MNEMONIC_MOV), is_reg(0, r, 64),
			is_mem(1, m);
		begin(), emit_store(&em, m, r), one(ZYDIS_MNEMONIC_MOV), is_mem(0, m),
			is_reg(1, r, 64);
		begin(), emit_load32(&em, r, m), one(ZYDIS_MNEMONIC_MOV), is_reg(0, r, 32),
			is_mem(1, m);
		begin(), emit_store32(&em, m, r), one(ZYDIS_MNEMONIC_MOV), is_mem(0, m),
			is_reg(1, r, 32);
		begin(), emit_load8(&em, r, m), one(ZYDIS_MNEMONIC_MOVZX), is_reg(0, r, 32),
			is_mem(1, m);
		assert_int_equal(op[1].size, 8);
		begin(), emit_store_imm8(&em, m, 0x85), one(ZYDIS_MNEMONIC_MOV), is_mem(0, m);
		assert_int_equal(op[0].size, 8);
		assert_int_equal(op[1].imm.value.u & 0xff, 0x85);
		begin(), emit_store_imm32(&em, m, -77), one(ZYDIS_MNEMONIC_MOV), is_mem(0, m);
		assert_int_equal(op[0].size, 64);
		assert_int_equal(op[1].imm.value.s, -77);
		begin(), emit_lea32(&em, r, m);
		one(ZYDIS_MNEMONIC_LEA), is_reg(0, r, 32);
		begin(), emit_pext_mem(&em, r, s, m), one(ZYDIS_MNEMONIC_PEXT), is_reg(0, r, 64),
			is_reg(1, s, 64), is_mem(2, m);
		begin(), emit_pdep_mem(&em, r, s, m), one(ZYDIS_MNEMONIC_PDEP), is_reg(0, r, 64),
			is_reg(1, s, 64), is_mem(2, m);
		begin(), emit_jmp_mem(&em, m), one(ZYDIS_MNEMONIC_JMP), is_mem(0, m);
		begin(), emit_call_mem(&em, m), one(ZYDIS_MNEMONIC_CALL), is_mem(0, m);
	}
}

static void register_forms(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 256; i++) {
		unsigned r = i & 15, s = i >> 4;

		begin(), emit_mov_rr32(&em, r, s), one(ZYDIS_MNEMONIC_MOV), is_reg(0, r, 32),
			is_reg(1, s, 32);
		begin(), emit_rorx(&em, r, s, i & 63), one(ZYDIS_MNEMONIC_RORX), is_reg(0, r, 64),
			is_reg(1, s, 64);
		assert_int_equal(op[2].imm.value.u, i & 63);
		begin(), emit_mov_rr(&em, r, s);
		if (r == s) {
			assert_ptr_equal(em.p, em.start);
			continue;
		}
		one(ZYDIS_MNEMONIC_MOV), is_reg(0, r, 64), is_reg(1, s, 64);
		begin(), emit_lea(&em, r, HM(s, 0)), one(ZYDIS_MNEMONIC_MOV), is_reg(0, r, 64),
			is_reg(1, s, 64);
		begin(), emit_lea(&em, r, HM(s, -8)), one(ZYDIS_MNEMONIC_LEA), is_reg(0, r, 64),
			is_mem(1, HM(s, -8));
	}
}

static void immediates(void **state)
{
	static const uint64_t v[] = { 0,
				      1,
				      0x7fffffff,
				      0x80000000,
				      0xffffffff,
				      0x100000000,
				      0xffffffff80000000,
				      0xffffffff7fffffff,
				      UINT64_MAX,
				      0x123456789abcdef0 };

	(void)state;
	for (unsigned r = 0; r < 16; r++)
		for (unsigned i = 0; i < ARRAY_SIZE(v); i++) {
			uint64_t got;

			begin(), emit_mov_imm(&em, r, v[i]), one(ZYDIS_MNEMONIC_MOV);
			assert_int_equal(ZydisRegisterGetId(op[0].reg.value), r);
			got = op[1].imm.is_signed ? (uint64_t)op[1].imm.value.s : op[1].imm.value.u;
			if (op[0].size == 32)
				got = (uint32_t)got;
			assert_int_equal(got, v[i]);
		}
}

static ZydisMnemonic insn_jcc(unsigned cc)
{
	static const ZydisMnemonic m[16] = {
		ZYDIS_MNEMONIC_JO, ZYDIS_MNEMONIC_JNO, ZYDIS_MNEMONIC_JB,  ZYDIS_MNEMONIC_JNB,
		ZYDIS_MNEMONIC_JZ, ZYDIS_MNEMONIC_JNZ, ZYDIS_MNEMONIC_JBE, ZYDIS_MNEMONIC_JNBE,
		ZYDIS_MNEMONIC_JS, ZYDIS_MNEMONIC_JNS, ZYDIS_MNEMONIC_JP,  ZYDIS_MNEMONIC_JNP,
		ZYDIS_MNEMONIC_JL, ZYDIS_MNEMONIC_JNL, ZYDIS_MNEMONIC_JLE, ZYDIS_MNEMONIC_JNLE
	};

	return m[cc];
}

static void jumps(void **state)
{
	static const int at[] = { 0, 5, 60, -1000, 1 << 20, -(1 << 30) };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
		const uint8_t *target = buf + at[i];

		begin(), emit_jmp(&em, target), one(ZYDIS_MNEMONIC_JMP);
		assert_ptr_equal(em.p + op[0].imm.value.s, target);
		begin(), emit_call(&em, target), one(ZYDIS_MNEMONIC_CALL);
		assert_ptr_equal(em.p + op[0].imm.value.s, target);
		for (unsigned cc = 0; cc < 16; cc++) {
			begin(), emit_jcc(&em, cc, target), one(insn_jcc(cc));
			assert_ptr_equal(em.p + op[0].imm.value.s, target);
		}
	}
}

/* A full buffer is remembered and nothing is written past it. */
static void overflow(void **state)
{
	(void)state;
	for (unsigned room = 0; room < 10; room++) {
		begin();
		em.end = em.start + room;
		emit_mov_imm(&em, H_R15, UINT64_MAX / 3);
		emit_jmp(&em, buf);
		assert_true(em.overflow);
		for (unsigned i = room; i < sizeof(buf); i++)
			assert_int_equal(buf[i], 0xcc);
	}
}

/* Guest instructions with their operands replaced: Zydis must see the same operation on the new ones. */
static void substitution(void **state)
{
	static const struct {
		uint8_t code[12], len;
	} cases[] = {
		{ { 0x48, 0x01, 0x0a }, 3 },		    /* add [rdx], rcx */
		{ { 0x66, 0x01, 0x0a }, 3 },		    /* add [rdx], cx */
		{ { 0xf0, 0x0f, 0xc1, 0x0a }, 4 },	    /* lock xadd [rdx], ecx */
		{ { 0x00, 0x2a }, 2 },			    /* add [rdx], ch */
		{ { 0x40, 0x00, 0x2a }, 3 },		    /* add [rdx], bpl */
		{ { 0x81, 0x0a, 1, 2, 3, 4 }, 6 },	    /* or dword [rdx], imm */
		{ { 0xf3, 0x0f, 0xb8, 0x0a }, 4 },	    /* popcnt ecx, [rdx] */
		{ { 0x66, 0x0f, 0x3a, 0x0f, 0x0a, 5 }, 6 }, /* palignr xmm1, [rdx], 5 */
		{ { 0xf2, 0x0f, 0x38, 0xf1, 0x0a }, 5 },    /* crc32 ecx, [rdx] */
		{ { 0xc5, 0xf5, 0xfe, 0x0a }, 4 },	    /* vpaddd ymm1, ymm1, [rdx] */
		{ { 0xc4, 0xe2, 0xe8, 0xf2, 0x0a }, 5 },    /* andn rcx, rdx, [rdx] */
		{ { 0xc4, 0xe3, 0x75, 0x4a, 0x0a, 0x30 },
		  6 },					 /* vblendvps ymm1, ymm1, [rdx], ymm3 */
		{ { 0xd9, 0x42, 8 }, 3 },		 /* fld dword [rdx+8] */
		{ { 0x64, 0x67, 0x48, 0x8b, 0x0a }, 5 }, /* mov rcx, fs:[edx]: prefixes go */
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases) * 200; i++) {
		struct emit_subst s = { .mem = true, .m = some_mem() };
		struct x86_insn g;
		ZydisDecodedInstruction was;
		ZydisDecodedOperand wop[ZYDIS_MAX_OPERAND_COUNT];
		const uint8_t *code = cases[i % ARRAY_SIZE(cases)].code;

		assert_int_equal(x86_decode(&g, X86_MODE_64, code, 12),
				 cases[i % ARRAY_SIZE(cases)].len);
		assert_true(ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, code, 12, &was, wop)));
		s.m.seg = 0;
		s.reg = g.reg;
		s.vvvv = g.vex_vvvv;
		/* AH to BH bear no REX: only low registers beside them */
		if (i % ARRAY_SIZE(cases) == 3) {
			s.m.base = s.m.base == H_NONE ? H_NONE : s.m.base & 7;
			s.m.index = s.m.index == H_NONE || (s.m.index & 7) == 4 ? H_NONE
										: s.m.index & 7;
		}
		begin(), emit_guest(&em, &g, &s), one(was.mnemonic);
		for (unsigned k = 0; k < was.operand_count_visible; k++) {
			assert_int_equal(op[k].type, wop[k].type);
			assert_int_equal(op[k].size, wop[k].size);
			if (op[k].type == ZYDIS_OPERAND_TYPE_MEMORY)
				is_mem(k, s.m);
			else if (op[k].type == ZYDIS_OPERAND_TYPE_REGISTER)
				assert_int_equal(op[k].reg.value, wop[k].reg.value);
			else
				assert_int_equal(op[k].imm.value.u, wop[k].imm.value.u);
		}
		assert_int_equal(insn.attributes & ZYDIS_ATTRIB_HAS_LOCK,
				 was.attributes & ZYDIS_ATTRIB_HAS_LOCK);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_forms), cmocka_unit_test(register_forms),
		cmocka_unit_test(immediates),	cmocka_unit_test(jumps),
		cmocka_unit_test(overflow),	cmocka_unit_test(substitution),
	};

	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
