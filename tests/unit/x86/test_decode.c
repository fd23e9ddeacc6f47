/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decoder against Zydis: random and structured byte strings in all three modes, and the code
 * of the C library. Compared: validity, length, mnemonic, operands (registers, memory, sizes,
 * access), effective sizes, flags, immediates. Differences are listed once for each kind and
 * mnemonic. R3_TEST_SECONDS bounds the random part, R3_TEST_SEED sets its seed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <Zydis/Zydis.h>

#include "x86/insn.h"

struct zyd {
	ZydisDecodedInstruction in;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	bool ok;
};

static ZydisDecoder zdec[3];
static unsigned long n_cases, n_valid, n_excluded, n_diffs;
static struct {
	char key[96];
	unsigned long count;
} seen[512];
static unsigned n_seen;

static uint64_t rng_state;

static uint64_t rng(void)
{
	uint64_t z = (rng_state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* Counts a difference and prints the first of its kind. */
static void diff(const char *kind, enum x86_mode mode, const uint8_t *b, const struct zyd *z,
		 const struct x86_insn *in, const char *detail)
{
	char key[96], text[128];
	static const unsigned bits[] = { 16, 32, 64 };

	snprintf(key, sizeof key, "%s/%s", kind,
		 z->ok	   ? ZydisMnemonicGetString(z->in.mnemonic)
		 : in->row ? in->row->name
			   : "-");
	n_diffs++;
	for (unsigned i = 0; i < n_seen; i++)
		if (!strcmp(seen[i].key, key)) {
			seen[i].count++;
			return;
		}
	if (n_seen < ARRAY_SIZE(seen)) {
		memcpy(seen[n_seen].key, key, sizeof key);
		seen[n_seen++].count = 1;
	}
	printf("DIFF %s (%u-bit):", key, bits[mode]);
	for (unsigned i = 0; i < (z->ok ? z->in.length : 15u); i++)
		printf(" %02x", b[i]);
	printf("  %s  %s\n", x86_disasm(text, sizeof text, mode, b, 15, 0x1000), detail);
}

/* Instruction sets the table leaves out on purpose: #UD for us. */
static bool excluded(const struct zyd *z)
{
	switch (z->in.encoding) {
	case ZYDIS_INSTRUCTION_ENCODING_3DNOW:
	case ZYDIS_INSTRUCTION_ENCODING_XOP:
	case ZYDIS_INSTRUCTION_ENCODING_EVEX:
	case ZYDIS_INSTRUCTION_ENCODING_MVEX: return true;
	default: break;
	}
	switch (z->in.meta.isa_ext) {
	case ZYDIS_ISA_EXT_AMD3DNOW:
	case ZYDIS_ISA_EXT_AMD_INVLPGB:
	case ZYDIS_ISA_EXT_AMX_BF16:
	case ZYDIS_ISA_EXT_AMX_INT8:
	case ZYDIS_ISA_EXT_AMX_TILE:
	case ZYDIS_ISA_EXT_AVX512VEX:
	case ZYDIS_ISA_EXT_AVX_VNNI:
	case ZYDIS_ISA_EXT_CET:
	case ZYDIS_ISA_EXT_CLZERO:
	case ZYDIS_ISA_EXT_ENQCMD:
	case ZYDIS_ISA_EXT_FMA4:
	case ZYDIS_ISA_EXT_HRESET:
	case ZYDIS_ISA_EXT_KEYLOCKER:
	case ZYDIS_ISA_EXT_KEYLOCKER_WIDE:
	case ZYDIS_ISA_EXT_KNC:
	case ZYDIS_ISA_EXT_KNCE:
	case ZYDIS_ISA_EXT_KNCV:
	case ZYDIS_ISA_EXT_MCOMMIT:
	case ZYDIS_ISA_EXT_MONITORX:
	case ZYDIS_ISA_EXT_MOVDIR:
	case ZYDIS_ISA_EXT_PADLOCK:
	case ZYDIS_ISA_EXT_PCONFIG:
	case ZYDIS_ISA_EXT_PKU:
	case ZYDIS_ISA_EXT_PT:
	case ZYDIS_ISA_EXT_RDPRU:
	case ZYDIS_ISA_EXT_RTM:
	case ZYDIS_ISA_EXT_SGX:
	case ZYDIS_ISA_EXT_SGX_ENCLV:
	case ZYDIS_ISA_EXT_SMX:
	case ZYDIS_ISA_EXT_SNP:
	case ZYDIS_ISA_EXT_SSE4A:
	case ZYDIS_ISA_EXT_TBM:
	case ZYDIS_ISA_EXT_TDX:
	case ZYDIS_ISA_EXT_TSX_LDTRK:
	case ZYDIS_ISA_EXT_UINTR:
	case ZYDIS_ISA_EXT_VMFUNC:
	case ZYDIS_ISA_EXT_WAITPKG: return true;
	case ZYDIS_ISA_EXT_XOP: return true;
	case ZYDIS_ISA_EXT_SVM: return z->in.mnemonic != ZYDIS_MNEMONIC_VMMCALL;
	case ZYDIS_ISA_EXT_VTX: return z->in.mnemonic != ZYDIS_MNEMONIC_VMCALL;
	default: return false;
	}
}

/* Class and number of a Zydis register in our terms; false for what we do not name. */
static bool map_reg(ZydisRegister r, struct x86_operand *o)
{
	static const struct {
		ZydisRegister first, last;
		uint8_t kind, size;
	} range[] = {
		{ ZYDIS_REGISTER_AX, ZYDIS_REGISTER_R15W, OPK_GPR, 2 },
		{ ZYDIS_REGISTER_EAX, ZYDIS_REGISTER_R15D, OPK_GPR, 4 },
		{ ZYDIS_REGISTER_RAX, ZYDIS_REGISTER_R15, OPK_GPR, 8 },
		{ ZYDIS_REGISTER_ST0, ZYDIS_REGISTER_ST7, OPK_ST, 10 },
		{ ZYDIS_REGISTER_MM0, ZYDIS_REGISTER_MM7, OPK_MMX, 8 },
		{ ZYDIS_REGISTER_XMM0, ZYDIS_REGISTER_XMM15, OPK_XMM, 16 },
		{ ZYDIS_REGISTER_YMM0, ZYDIS_REGISTER_YMM15, OPK_XMM, 32 },
		{ ZYDIS_REGISTER_ES, ZYDIS_REGISTER_GS, OPK_SEG, 2 },
		{ ZYDIS_REGISTER_CR0, ZYDIS_REGISTER_CR15, OPK_CR, 0 },
		{ ZYDIS_REGISTER_DR0, ZYDIS_REGISTER_DR15, OPK_DR, 0 },
	};

	memset(o, 0, sizeof *o);
	if (r >= ZYDIS_REGISTER_AL && r <= ZYDIS_REGISTER_R15B) {
		unsigned i = (unsigned)(r - ZYDIS_REGISTER_AL);

		o->kind = OPK_GPR;
		o->size = 1;
		o->high8 = i >= 4 && i < 8;
		o->reg = (uint8_t)(i < 4 ? i : i - 4);
		return true;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(range); i++)
		if (r >= range[i].first && r <= range[i].last) {
			o->kind = range[i].kind;
			o->size = range[i].size;
			o->reg = (uint8_t)(r - range[i].first);
			return true;
		}
	return false;
}

static uint8_t map_access(ZydisOperandActions a)
{
	uint8_t r = 0;

	/* a conditional write keeps the old value otherwise */
	if (a & (ZYDIS_OPERAND_ACTION_MASK_READ | ZYDIS_OPERAND_ACTION_CONDWRITE))
		r |= OPA_R;
	if (a & ZYDIS_OPERAND_ACTION_MASK_WRITE)
		r |= OPA_W;
	return r;
}

static uint8_t gpr_number(ZydisRegister r)
{
	struct x86_operand o;

	if (r == ZYDIS_REGISTER_NONE || r == ZYDIS_REGISTER_RIP || r == ZYDIS_REGISTER_EIP)
		return 0xff;
	return map_reg(r, &o) ? o.reg : 0xfe;
}

/* Mnemonics: ours has no size suffixes and no aliases. */
static bool same_name(const char *ours, const char *theirs)
{
	static const char *const alias[][2] = {
		{ "cbw", "cwde" },     { "cbw", "cdqe" },     { "cwd", "cdq" },
		{ "cwd", "cqo" },      { "iret", "iretd" },   { "iret", "iretq" },
		{ "pushf", "pushfd" }, { "pushf", "pushfq" }, { "popf", "popfd" },
		{ "popf", "popfq" },   { "pusha", "pushad" }, { "popa", "popad" },
		{ "jcxz", "jecxz" },   { "jcxz", "jrcxz" },   { "retf", "ret" },
		{ "fcom", "fcom2" },   { "fstp", "fstpnce" }, { "wbnoinvd", "wbinvd" },
		{ "endbr64", "nop" },  { "endbr32", "nop" },
	};
	static const char *const str[] = { "movs", "cmps", "stos", "lods", "scas", "ins", "outs" };
	size_t n = strlen(ours);

	if (!strcmp(ours, theirs))
		return true;
	for (unsigned i = 0; i < ARRAY_SIZE(alias); i++)
		if (!strcmp(ours, alias[i][0]) && !strcmp(theirs, alias[i][1]))
			return true;
	for (unsigned i = 0; i < ARRAY_SIZE(str); i++)
		if (!strcmp(ours, str[i]) && !strncmp(theirs, ours, n) && strlen(theirs) == n + 1)
			return true;
	/* fxsave64, xsave64, sysret: the operand size says it */
	if (!strncmp(ours, theirs, n) && !strcmp(theirs + n, "64"))
		return true;
	return false;
}

/* Sizes where we follow the processors and they do not. */
static bool odd_size(const struct x86_insn *in)
{
	switch (in->id) {
	case X86_ID_CLFLUSH: /* checked as a one-byte read */
	case X86_ID_CLFLUSHOPT:
	case X86_ID_CLWB:
	case X86_ID_LAR: /* only 16 bits of the source count */
	case X86_ID_LSL:
	case X86_ID_MOVSXD: return true;
	default: return false;
	}
}

static bool same_reg_size(const struct x86_insn *in, const struct x86_operand *o,
			  const struct x86_operand *zr)
{
	if (zr->kind != OPK_GPR || zr->size == o->size || odd_size(in))
		return true;
	/* MOVMSKPS and the like zero the upper half anyway */
	return (in->attr & (IA_SSE | IA_MMX | IA_VEX)) && o->size >= 4 && zr->size >= 4;
}

static bool same_access(const struct x86_insn *in, const struct x86_operand *o, uint8_t theirs)
{
	/* a scalar result leaves the rest of the register: they call it a write */
	if (o->kind == OPK_XMM && o->size < 16 && o->access == OPA_RW && theirs == OPA_W)
		return true;
	if (in->id == X86_ID_BSF || in->id == X86_ID_BSR)
		return true;
	return o->access == theirs;
}

static void compare_mem(const struct x86_insn *in, const struct x86_operand *o,
			const ZydisDecodedOperand *zo, const struct zyd *z, enum x86_mode mode,
			const uint8_t *b)
{
	char d[96];
	uint8_t base = gpr_number(zo->mem.base), index = gpr_number(zo->mem.index);
	unsigned scale = index == 0xff ? 0 : (unsigned)__builtin_ctz(zo->mem.scale | 256u);
	struct x86_operand seg;

	/* no base with mod 0 and SIB.base 5, also with REX.B and a 32-bit address: theirs is wrong */
	if (base == 13 && in->base == 0xff && in->asz && in->mod == 0)
		return;
	if (base != in->base || index != in->index || scale != in->scale) {
		snprintf(d, sizeof d, "base %x/%x index %x/%x scale %u/%u", in->base, base,
			 in->index, index, in->scale, scale);
		diff("address", mode, b, z, in, d);
	}
	if (((uint64_t)zo->mem.disp.value ^ (uint64_t)in->disp) << (64 - in->addrsize * 8))
		diff("displacement", mode, b, z, in, "");
	if (map_reg(zo->mem.segment, &seg) && seg.reg != in->seg &&
	    zo->mem.type != ZYDIS_MEMOP_TYPE_AGEN) {
		snprintf(d, sizeof d, "ours %u theirs %u", in->seg, seg.reg);
		diff("segment", mode, b, z, in, d);
	}
	if (o->size != 0 && o->size * 8 != zo->size && !odd_size(in)) {
		snprintf(d, sizeof d, "ours %u theirs %u", o->size * 8, zo->size);
		diff("memory size", mode, b, z, in, d);
	}
	if (o->size != 0 && o->access != map_access(zo->actions)) {
		snprintf(d, sizeof d, "ours %u theirs %u", o->access, map_access(zo->actions));
		diff("memory access", mode, b, z, in, d);
	}
}

static void compare_imm(const struct x86_insn *in, const ZydisDecodedOperand *zo, bool second,
			const struct zyd *z, enum x86_mode mode, const uint8_t *b)
{
	uint64_t ours = second ? in->imm2 : in->imm;
	char d[64];

	/* they sign-extend immediates as wide as the operation; we do not */
	if (ours == zo->imm.value.u || (ours ^ zo->imm.value.u) << (64 - in->opsize * 8) == 0)
		return;
	snprintf(d, sizeof d, "ours %llx theirs %llx", (unsigned long long)ours,
		 (unsigned long long)zo->imm.value.u);
	diff("immediate", mode, b, z, in, d);
}

static void compare_operands(const struct x86_insn *in, const struct zyd *z, enum x86_mode mode,
			     const uint8_t *b)
{
	bool had_imm = false;
	char d[96];

	for (unsigned i = 0; i < z->in.operand_count_visible; i++) {
		const ZydisDecodedOperand *zo = &z->op[i];
		const struct x86_operand *o = &in->op[i];
		struct x86_operand zr;

		if (i >= in->nop) {
			diff("operand count", mode, b, z, in, "");
			return;
		}
		switch (zo->type) {
		case ZYDIS_OPERAND_TYPE_MEMORY:
			if (o->kind != OPK_MEM)
				diff("operand kind", mode, b, z, in, "memory");
			else
				compare_mem(in, o, zo, z, mode, b);
			break;
		case ZYDIS_OPERAND_TYPE_IMMEDIATE:
			if (o->kind != OPK_IMM && o->kind != OPK_REL)
				diff("operand kind", mode, b, z, in, "immediate");
			else
				compare_imm(in, zo, had_imm, z, mode, b);
			had_imm = true;
			break;
		case ZYDIS_OPERAND_TYPE_POINTER:
			if (o->kind != OPK_FAR || in->imm != zo->ptr.offset ||
			    in->imm2 != zo->ptr.segment)
				diff("far pointer", mode, b, z, in, "");
			break;
		case ZYDIS_OPERAND_TYPE_REGISTER:
			if (!map_reg(zo->reg.value, &zr))
				break;
			if (zr.kind != o->kind || zr.reg != o->reg || zr.high8 != o->high8 ||
			    !same_reg_size(in, o, &zr)) {
				snprintf(d, sizeof d, "op %u ours k%u r%u s%u theirs k%u r%u s%u",
					 i, o->kind, o->reg, o->size, zr.kind, zr.reg, zr.size);
				diff("register", mode, b, z, in, d);
			} else if (!same_access(in, o, map_access(zo->actions))) {
				snprintf(d, sizeof d, "op %u ours %u theirs %u", i, o->access,
					 map_access(zo->actions));
				diff("register access", mode, b, z, in, d);
			}
			break;
		default: break;
		}
	}
}

/* Registers the instruction uses without naming them. */
static void compare_hidden(const struct x86_insn *in, const struct zyd *z, enum x86_mode mode,
			   const uint8_t *b)
{
	char d[96];

	for (unsigned i = z->in.operand_count_visible; i < z->in.operand_count; i++) {
		const ZydisDecodedOperand *zo = &z->op[i];
		struct x86_operand zr;
		uint8_t acc = 0, theirs = 0;

		if (zo->type != ZYDIS_OPERAND_TYPE_REGISTER || !map_reg(zo->reg.value, &zr))
			continue;
		if ((zr.kind != OPK_GPR && zr.kind != OPK_XMM) ||
		    (zr.kind == OPK_GPR && zr.reg == X86_RSP))
			continue;
		for (unsigned k = 0; k < in->nop; k++)
			if (in->op[k].kind == zr.kind && in->op[k].reg == zr.reg)
				acc |= in->op[k].access;
		for (unsigned k = 0; k < z->in.operand_count; k++) {
			struct x86_operand other;

			if (z->op[k].type == ZYDIS_OPERAND_TYPE_REGISTER &&
			    map_reg(z->op[k].reg.value, &other) && other.kind == zr.kind &&
			    other.reg == zr.reg)
				theirs |= map_access(z->op[k].actions);
		}
		if (acc != theirs) {
			snprintf(d, sizeof d, "k%u r%u ours %u theirs %u", zr.kind, zr.reg, acc,
				 theirs);
			diff("hidden", mode, b, z, in, d);
		}
	}
}

static void compare_flags(const struct x86_insn *in, const struct zyd *z, enum x86_mode mode,
			  const uint8_t *b)
{
	const ZydisAccessedFlags *f = z->in.cpu_flags;
	char d[128];
	uint32_t all = (uint32_t)(X86_FL_ARITH | X86_FL_DF);

	/* INT and the like save all of RFLAGS; repeats read ZF only after writing it */
	if (in->attr & (IA_FAR | IA_STRING))
		return;
	switch (in->id) {
	case X86_ID_MOV_CR: /* undefined on paper, untouched by every processor */
	case X86_ID_VMCALL:
	case X86_ID_BEXTR:  /* SDM: CF and OF are cleared */
	case X86_ID_VPTEST: /* SDM: all but CF and ZF are cleared */
	case X86_ID_VTESTPS:
	case X86_ID_VTESTPD: return;
	case X86_ID_SBB: all &= ~(uint32_t)X86_FL_AF; break; /* they call it undefined */
	default: break;
	}
	if (in->opcode == 0xd0 || in->opcode == 0xd1)
		all &= ~(uint32_t)X86_FL_OF; /* shifts by one define OF */
	uint32_t tested = (uint32_t)f->tested & all, undef = (uint32_t)f->undefined & all,
		 wr = (uint32_t)(f->modified | f->set_0 | f->set_1 | f->undefined) & all;

	if (tested != (in->row->fl_read & all) || wr != (in->row->fl_write & all) ||
	    undef != (in->row->fl_undef & all)) {
		snprintf(d, sizeof d, "ours r%x w%x u%x theirs r%x w%x u%x", in->row->fl_read & all,
			 in->row->fl_write & all, in->row->fl_undef & all, tested, wr, undef);
		diff("flags", mode, b, z, in, d);
	}
}

/* #UD instead of #GP(0) outside CPL 0. */
static bool ud_not_gp(uint16_t id)
{
	return id == X86_ID_CLAC || id == X86_ID_STAC || id == X86_ID_RSM;
}

static void compare_attrs(const struct x86_insn *in, const struct zyd *z, enum x86_mode mode,
			  const uint8_t *b)
{
	bool priv = (z->in.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) != 0;
	bool lockable = (z->in.attributes & ZYDIS_ATTRIB_ACCEPTS_LOCK) != 0;

	if (priv && !(in->attr & IA_PRIV) && !ud_not_gp(in->id))
		diff("privileged", mode, b, z, in, "");
	if (in->has_mem && lockable != ((in->attr & IA_LOCKABLE) != 0))
		diff("lockable", mode, b, z, in, "");
	if (in->lock != ((z->in.attributes & ZYDIS_ATTRIB_HAS_LOCK) != 0))
		diff("lock", mode, b, z, in, "");
	if (in->addrsize * 8 != z->in.address_width)
		diff("address size", mode, b, z, in, "");
	if ((strpbrk(in->row->operands, "vz") || (in->attr & (IA_STACK | IA_STRING))) &&
	    in->id != X86_ID_NOP && in->id != X86_ID_INS && in->id != X86_ID_OUTS &&
	    in->opsize * 8 != z->in.operand_width) {
		char d[64];

		snprintf(d, sizeof d, "ours %u theirs %u", in->opsize * 8, z->in.operand_width);
		diff("operand size", mode, b, z, in, d);
	}
	if (in->vex != (z->in.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ? z->in.raw.vex.size : 0))
		diff("vex", mode, b, z, in, "");
	if ((in->off_modrm == 0xff) != !(z->in.attributes & ZYDIS_ATTRIB_HAS_MODRM) ||
	    (in->has_modrm && in->off_modrm != z->in.raw.modrm.offset))
		diff("modrm offset", mode, b, z, in, "");
	if (in->len_disp * 8 != z->in.raw.disp.size ||
	    (in->len_disp && in->off_disp != z->in.raw.disp.offset))
		diff("disp offset", mode, b, z, in, "");
	if (in->len_imm * 8 != z->in.raw.imm[0].size + z->in.raw.imm[1].size ||
	    (in->len_imm && in->off_imm != z->in.raw.imm[0].offset))
		diff("imm offset", mode, b, z, in, "");
}

/* Every shorter prefix of a valid instruction must ask for more. */
static void check_truncated(const struct x86_insn *in, const struct zyd *z, enum x86_mode mode,
			    const uint8_t *b)
{
	struct x86_insn t;

	for (unsigned n = 0; n < in->len; n++) {
		uint8_t part[15] = { 0 };

		memcpy(part, b, n);
		if (x86_decode(&t, mode, part, n) != -EAGAIN)
			diff("truncated", mode, b, z, in, "");
	}
}

/* One byte string of 15; returns the length by which to step. */
static unsigned compare(enum x86_mode mode, const uint8_t *b)
{
	struct x86_insn in;
	struct zyd z;
	int r = x86_decode(&in, mode, b, 15);

	n_cases++;
	z.ok = ZYAN_SUCCESS(ZydisDecoderDecodeFull(&zdec[mode], b, 15, &z.in, z.op));
	if (!z.ok || r < 0) {
		if (z.ok && !excluded(&z))
			diff("missing", mode, b, &z, &in, "");
		else if (r >= 0)
			diff("extra", mode, b, &z, &in, "");
		n_excluded += z.ok;
		return z.ok ? z.in.length : 1;
	}
	n_valid++;
	if (excluded(&z)) {
		n_excluded++;
		return z.in.length;
	}
	if (in.len != z.in.length || r != in.len)
		diff("length", mode, b, &z, &in, "");
	else if (z.in.mnemonic == ZYDIS_MNEMONIC_PAUSE && in.id == X86_ID_XCHG)
		; /* F3 with REX.B: the processors exchange r8 */
	else if (!same_name(in.row->name, ZydisMnemonicGetString(z.in.mnemonic)))
		diff("mnemonic", mode, b, &z, &in, in.row->name);
	else {
		if (in.id == X86_ID_NOP && in.mod == 3)
			; /* they differ among themselves in which registers a NOP names */
		else if (!(in.attr & IA_X87))
			compare_operands(&in, &z, mode, b);
		else
			for (unsigned i = 0; i < z.in.operand_count; i++)
				if (z.op[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
					compare_mem(&in, &in.op[0], &z.op[i], &z, mode, b);
		if (!(in.attr & IA_STRING) && in.id != X86_ID_XLAT && in.id != X86_ID_PUSHA &&
		    in.id != X86_ID_POPA)
			compare_hidden(&in, &z, mode, b);
		compare_flags(&in, &z, mode, b);
		compare_attrs(&in, &z, mode, b);
		if ((n_valid & 15) == 0)
			check_truncated(&in, &z, mode, b);
	}
	return z.in.length;
}

/* Prefixes, map and opcode chosen so that most strings are instructions. */
static void make_bytes(uint8_t *b)
{
	static const uint8_t pfx[] = { 0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e,
				       0x64, 0x65, 0x36, 0x3e, 0x26 };
	uint64_t r = rng();
	unsigned n = 0, shape = r & 15;

	for (unsigned i = 0; i < 15; i += 8) {
		uint64_t v = rng();

		memcpy(b + i, &v, MIN(8u, 15 - i));
	}
	if (shape == 0)
		return;
	for (r >>= 4; (r & 3) == 0 && n < 6; r >>= 6)
		b[n++] = pfx[((r >> 2) & 15) % ARRAY_SIZE(pfx)];
	if (r & 8)
		b[n++] = (uint8_t)(0x40 | ((r >> 12) & 15));
	r = rng();
	if (shape <= 4) { /* VEX */
		if (r & 1) {
			b[n++] = 0xc5;
		} else {
			b[n++] = 0xc4;
			b[n] = (uint8_t)((b[n] & 0xe0) | (1 + (r >> 8) % 3));
			n++;
		}
		if (r & 6)
			b[n - (r & 1 ? 0 : 1)] |= 0xc0;
		if (r & 8)
			b[n] |= 0x78;
	} else if (shape <= 10) {
		b[n++] = 0x0f;
		if (shape >= 9)
			b[n++] = r & 1 ? 0x38 : 0x3a;
	}
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void summary(const char *what)
{
	for (unsigned i = 0; i < n_seen; i++)
		printf("  %8lu  %s\n", seen[i].count, seen[i].key);
	printf("%s: %lu strings, %lu instructions, %lu in excluded sets, %lu differences of %u kinds\n",
	       what, n_cases, n_valid, n_excluded, n_diffs, n_seen);
	assert_int_equal(n_diffs, 0);
	n_cases = n_valid = n_excluded = 0;
}

static void test_random_against_zydis(void **state)
{
	const char *secs = getenv("R3_TEST_SECONDS"), *seed = getenv("R3_TEST_SEED");
	double limit = now() + (secs ? atof(secs) : 8);
	uint8_t b[16] = { 0 };

	(void)state;
	rng_state = seed ? strtoull(seed, NULL, 0) : 1;
	printf("seed %llu\n", (unsigned long long)rng_state);
	while (now() < limit)
		for (unsigned i = 0; i < 3000; i++) {
			make_bytes(b);
			compare((enum x86_mode)(i % 3), b);
		}
	summary("random");
}

/* Every opcode of every map and prefix class with every ModRM byte, in each mode. */
static void test_exhaustive_opcodes(void **state)
{
	static const uint8_t pfx[] = { 0, 0x66, 0xf3, 0xf2 };

	(void)state;
	for (unsigned k = 0; k < 4u * 4 * 256 * 256 * 3; k++) {
		unsigned modrm = k & 255, op = (k >> 8) & 255, p = (k >> 16) & 3,
			 map = (k >> 18) & 3, n = 0;
		uint8_t b[16] = { 0 };

		if (pfx[p])
			b[n++] = pfx[p];
		if (map)
			b[n++] = 0x0f;
		if (map > 1)
			b[n++] = map == 2 ? 0x38 : 0x3a;
		b[n++] = (uint8_t)op;
		b[n] = (uint8_t)modrm;
		compare((enum x86_mode)(k >> 20), b);
	}
	for (unsigned k = 0; k < 3u * 4 * 256 * 256 * 4; k++) {
		unsigned modrm = k & 255, op = (k >> 8) & 255, p = (k >> 16) & 3,
			 lw = (k >> 18) & 3, map = (k >> 20) % 3;
		uint8_t b[16] = { 0xc4,
				  (uint8_t)(0xe1 + map),
				  (uint8_t)((lw & 1) << 7 | 0x78 | (lw & 2) << 1 | p),
				  (uint8_t)op,
				  (uint8_t)modrm,
				  0x60 };

		compare(X86_MODE_64, b);
		b[2] = (uint8_t)(b[2] & ~0x38);
		compare(modrm & 1 ? X86_MODE_32 : X86_MODE_64, b);
	}
	summary("exhaustive");
}

/* The executable sections of an ELF file, instruction after instruction. */
static void walk_text(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	const uint8_t *p;
	const Elf64_Ehdr *eh;

	if (fd < 0)
		return;
	assert_int_equal(fstat(fd, &st), 0);
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	assert_ptr_not_equal(p, MAP_FAILED);
	eh = (const void *)p;
	for (unsigned i = 0; i < eh->e_phnum; i++) {
		const Elf64_Phdr *ph = (const void *)(p + eh->e_phoff + i * eh->e_phentsize);

		if (ph->p_type != PT_LOAD || !(ph->p_flags & PF_X))
			continue;
		for (uint64_t o = ph->p_offset; o + 15 <= ph->p_offset + ph->p_filesz;)
			o += compare(X86_MODE_64, p + o);
	}
	munmap((void *)(uintptr_t)p, (size_t)st.st_size);
}

static void test_real_code(void **state)
{
	(void)state;
	walk_text("/lib/x86_64-linux-gnu/libc.so.6");
	walk_text("/bin/busybox");
	walk_text("/lib/x86_64-linux-gnu/libm.so.6");
	assert_true(n_valid > 100000);
	summary("real code");
}

static void test_speed(void **state)
{
	static const uint8_t code[][15] = {
		{ 0x48, 0x8b, 0x44, 0x24, 0x10 }, { 0x0f, 0x84, 1, 2, 3, 4 },
		{ 0x48, 0x83, 0xc0, 0x10 },	  { 0x55 },
		{ 0xc5, 0xfd, 0x6f, 0x07 },	  { 0x66, 0x0f, 0xef, 0xc0 },
	};
	struct x86_insn in;
	double t = now();

	(void)state;
	for (unsigned i = 0; i < 600000; i++)
		assert_true(x86_decode(&in, X86_MODE_64, code[i % 6], 15) > 0);
	t = (now() - t) / 600000 * 1e9;
	printf("%.0f ns an instruction\n", t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_against_zydis),
		cmocka_unit_test(test_exhaustive_opcodes),
		cmocka_unit_test(test_real_code),
		cmocka_unit_test(test_speed),
	};

	setvbuf(stdout, NULL, _IOLBF, 0);
	ZydisDecoderInit(&zdec[X86_MODE_16], ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
	ZydisDecoderInit(&zdec[X86_MODE_32], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
	ZydisDecoderInit(&zdec[X86_MODE_64], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (unsigned i = 0; i < 3; i++) {
		ZydisDecoderEnableMode(&zdec[i], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
		ZydisDecoderEnableMode(&zdec[i], ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
		ZydisDecoderEnableMode(&zdec[i], ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
		ZydisDecoderEnableMode(&zdec[i], ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_TRUE);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
