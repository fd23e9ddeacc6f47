/* SPDX-License-Identifier: Apache-2.0 */
/* Random encodings. A candidate is put together from the row's bits, then the decoder judges it. */
#include "gen.h"

#include <string.h>

#include "x86/decode_priv.h"

uint64_t gen_random(uint64_t *seed)
{
	uint64_t z = (*seed += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static const struct {
	uint16_t id;
	const char *reason;
} excluded[] = {
#define NONDET "not deterministic"
	{ X86_ID_RDTSC, NONDET },
	{ X86_ID_RDTSCP, NONDET },
	{ X86_ID_RDPMC, NONDET },
	{ X86_ID_RDRAND, NONDET },
	{ X86_ID_RDSEED, NONDET },
	{ X86_ID_RDPID, NONDET },
#undef NONDET
#define CONTRACT "the guest is told something else than the host"
	{ X86_ID_CPUID, CONTRACT },
	{ X86_ID_XGETBV, CONTRACT },
	{ X86_ID_SMSW, CONTRACT },
	{ X86_ID_SGDT, CONTRACT },
	{ X86_ID_SIDT, CONTRACT },
	{ X86_ID_SLDT, CONTRACT },
	{ X86_ID_STR, CONTRACT },
	{ X86_ID_VMCALL, CONTRACT },
	{ X86_ID_VMMCALL, CONTRACT },
	{ X86_ID_SERIALIZE, CONTRACT },
#undef CONTRACT
#define XSTATE "component sets and the init optimisation differ; hand-written cases"
	{ X86_ID_XSAVE, XSTATE },
	{ X86_ID_XRSTOR, XSTATE },
	{ X86_ID_XSAVEOPT, XSTATE },
	{ X86_ID_XSAVEC, XSTATE },
#undef XSTATE
#define TABLES "depends on descriptor tables; hand-written cases"
	{ X86_ID_LAR, TABLES },
	{ X86_ID_LSL, TABLES },
	{ X86_ID_VERR, TABLES },
	{ X86_ID_VERW, TABLES },
	{ X86_ID_RETF, TABLES },
	{ X86_ID_IRET, TABLES },
	{ X86_ID_CALLF, TABLES },
	{ X86_ID_JMPF, TABLES },
	{ X86_ID_POP_SEG, TABLES },
	{ X86_ID_LSS, TABLES },
	{ X86_ID_LFS, TABLES },
	{ X86_ID_LGS, TABLES },
#undef TABLES
	{ X86_ID_INT1, "under a hypervisor the saved RIP is not reliably the next instruction's" },
	{ X86_ID_SYSCALL, "enters the host's kernel" },
	{ X86_ID_SYSENTER, "enters the host's kernel" },
};

const char *gen_excluded(const struct x86_row *row)
{
	if (row->attr & IA_NO64)
		return "not in 64-bit mode";
	for (unsigned i = 0; i < ARRAY_SIZE(excluded); i++)
		if (excluded[i].id == row->id)
			return excluded[i].reason;
	return NULL;
}

const char *gen_unpredictable(const struct x86_insn *in)
{
	if ((in->attr & IA_BRANCH) && (in->attr & IA_FORCE64) && in->osz)
		return "66 on a near branch: vendors differ, we follow Intel";
	if (in->id == X86_ID_INT &&
	    (in->imm == 0x80 || in->imm == 3 || in->imm == 4 || in->imm == 0x20))
		return "a gate the host's kernel opens to user mode";
	if (in->id == X86_ID_MOV_SEG && in->op[0].kind == OPK_SEG)
		return "depends on descriptor tables; hand-written cases";
	if (in->id == X86_ID_MOVSXD && in->opsize == 2)
		return "66 on MOVSXD: vendors differ in the size of the source";
	if ((in->id == X86_ID_LOOPE || in->id == X86_ID_LOOPNE) && in->rep)
		return "F2 and F3 change the condition of LOOPcc on some processors";
	if (in->map == 1 && in->opcode == 0x0d && in->mod == 3)
		return "0F 0D with a register: NOP or #UD, vendors differ";
	if (in->id == X86_ID_BSWAP && in->opsize == 2)
		return "undefined result";
	return NULL;
}

struct enc {
	uint8_t b[32];
	unsigned n;
};

static void put(struct enc *e, unsigned byte)
{
	e->b[e->n++] = (uint8_t)byte;
}

/* Legacy prefixes; the mandatory one comes last among them. */
static void put_prefixes(struct enc *e, const struct x86_row *row, const struct dec_row *r,
			 uint64_t *seed)
{
	static const uint8_t mandatory[] = { 0, 0x66, 0xf3, 0xf2 };
	bool vex = r->space > 3,
	     any_prefix = !(r->mask & DK_PFX) || (r->mask & DK_PFX) == 2u << DK_PFX_SHIFT;

	if (gen_chance(seed, 10))
		put(e, gen_chance(seed, 50) ? 0x64 : 0x65);
	if (gen_chance(seed, 8))
		put(e, 0x67);
	if (gen_chance(seed, 2))
		put(e, 0x2e);
	if (vex)
		return;
	if (any_prefix && gen_chance(seed, 25))
		put(e, 0x66);
	if ((row->attr & IA_STRING) && gen_chance(seed, 60))
		put(e, gen_chance(seed, 50) ? 0xf3 : 0xf2);
	else if (!(r->mask & DK_PFX) && gen_chance(seed, 2))
		put(e, gen_chance(seed, 50) ? 0xf3 : 0xf2);
	if ((row->attr & IA_LOCKABLE) && gen_chance(seed, 15))
		put(e, 0xf0);
	if (r->pfx)
		put(e, mandatory[r->pfx]);
}

static void put_opcode(struct enc *e, const struct dec_row *r, uint64_t *seed)
{
	unsigned rex = gen_chance(seed, 60) ? 0x40 | (unsigned)(gen_random(seed) & 15) : 0;
	unsigned vvvv = r->vvvv ? (unsigned)(gen_random(seed) & 15) : 0;
	unsigned w = r->mask & DK_W ? (r->val & DK_W ? 8 : 0) : rex & 8;

	if (r->space > 3) {
		unsigned map = r->space - 3, l = r->mask & DK_L ? (r->val & DK_L) != 0
								: (unsigned)(gen_random(seed) & 1);
		unsigned last = (15 - vvvv) << 3 | l << 2 | r->pfx;

		if (map == 1 && !w && gen_chance(seed, 70)) {
			put(e, 0xc5);
			put(e, (rex & 4 ? 0 : 0x80) | last);
		} else {
			put(e, 0xc4);
			put(e, (~rex & 7) << 5 | map);
			put(e, (w ? 0x80u : 0) | last);
		}
	} else {
		if (rex || w)
			put(e, 0x40 | (rex & 7) | w);
		if (r->space)
			put(e, 0x0f);
		if (r->space > 1)
			put(e, r->space == 2 ? 0x38 : 0x3a);
	}
	put(e, r->opcode + (r->span > 1 ? (unsigned)(gen_random(seed) & 7) : 0));
}

static void put_modrm(struct enc *e, const struct x86_row *row, const struct dec_row *r,
		      uint64_t *seed)
{
	unsigned m = (unsigned)(gen_random(seed) & 255);

	if (!(r->mask & DK_REG) && gen_chance(seed, 30))
		m |= 0xc0;
	if (r->mask & DK_REG)
		m = r->val & DK_REG ? m | 0xc0 : (m & 0xc0) == 0xc0 ? m & 0x7f : m;
	if (row->attr & IA_VSIB)
		m = (m & 0xf8) | 4;
	m = (m & ~(unsigned)(r->mask & DK_MODRM)) | (r->val & DK_MODRM);
	put(e, m);
}

int gen_encode(const struct x86_row *row, uint64_t *seed, uint8_t out[15])
{
	unsigned index;

	for (index = 0; x86_row_at(index) != row; index++)
		;
	for (unsigned attempt = 0; attempt < 200; attempt++) {
		const struct dec_row *r = &dec_rows[index];
		struct enc e = { .n = 0 };
		struct x86_insn in;
		int len;

		put_prefixes(&e, row, r, seed);
		put_opcode(&e, r, seed);
		if (r->modrm)
			put_modrm(&e, row, r, seed);
		while (e.n < sizeof e.b)
			put(&e, (unsigned)(gen_random(seed) & 255));
		len = x86_decode(&in, X86_MODE_64, e.b, 15);
		if (len > 0 && in.row == row) {
			memcpy(out, e.b, 15);
			return len;
		}
	}
	return 0;
}

unsigned gen_form(const struct x86_insn *in)
{
	unsigned mem, size = in->opsize == 8 ? 3 : in->opsize == 4 ? 2 : in->opsize == 2 ? 1 : 0;
	unsigned other = in->lock ? 1 : in->rep && !in->rep_mandatory ? 1 : 0;

	if (!in->has_mem)
		mem = 0;
	else if (in->rip_rel)
		mem = 1;
	else if (in->base == 0xff && in->index == 0xff)
		mem = 2;
	else if (in->addrsize == 4)
		mem = 3;
	else
		mem = in->index == 0xff ? 4 : 5;
	if (in->seg_override && mem)
		mem = 6;
	return mem << 3 | size << 1 | other;
}
