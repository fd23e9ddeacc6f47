/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The instruction table: turns the strings of insn.def into what the decoder compares and fills in,
 * once, at first use. Afterwards everything here is constant; any thread may read it.
 * A row that cannot be parsed is a bug of the table and ends the process at the first decode.
 */
#include "x86/decode_priv.h"

#include <ctype.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Short names the rows use in their attribute column. */
enum {
	PRIV = (int)IA_PRIV,
	SENSITIVE = (int)IA_SENSITIVE,
	BRANCH = (int)IA_BRANCH,
	COND = (int)IA_COND,
	CALL = (int)IA_CALL,
	RET = (int)IA_RET,
	INDIRECT = (int)IA_INDIRECT,
	FAR = (int)IA_FAR,
	STACK = (int)IA_STACK,
	STRING = (int)IA_STRING,
	LOCKABLE = (int)IA_LOCKABLE,
	X87 = (int)IA_X87,
	MMX = (int)IA_MMX,
	SSE = (int)IA_SSE,
	VEX = (int)IA_VEX,
	ALIGN = (int)IA_ALIGN,
	XM = (int)IA_XM,
	NO64 = (int)IA_NO64,
	ONLY64 = (int)IA_ONLY64,
	DEF64 = (int)IA_DEF64,
	FORCE64 = (int)IA_FORCE64,
	VSIB = (int)IA_VSIB,
	PAIR = (int)IA_PAIR,
	SERIAL = (int)IA_SERIAL,
	FLAGS_COND = (int)IA_FLAGS_COND,
	UNDEF_RES = (int)IA_UNDEF_RES,
	MEMHINT = (int)IA_MEMHINT,
};

#define N(e, o, i, f, fl, a, n)                                                                    \
	{ .enc = e,                                                                                \
	  .ops = o,                                                                                \
	  .flags = fl,                                                                             \
	  .name = n,                                                                               \
	  .attr = (uint32_t)(a),                                                                   \
	  .id = X86_ID_##i,                                                                        \
	  .feat = X86_FEAT_##f },
#define I(e, o, i, f, fl, a) N(e, o, i, f, fl, a, #i)
static const struct {
	const char *enc, *ops, *flags, *name;
	uint32_t attr;
	uint16_t id;
	uint8_t feat;
} src[] = {
#include "x86/insn.def"
};
#undef I
#undef N

#define ROWS ARRAY_SIZE(src)
#define NAME_MAX_LEN 20

struct dec_row dec_rows[ROWS];
struct x86_row dec_public[ROWS];
struct dec_cand dec_cands[ROWS * 8];
struct dec_slot dec_slots[DEC_SPACES][256];
bool dec_ready;
static char names[ROWS][NAME_MAX_LEN];

/* Takes the next token up to one of `seps` from *s into buf; false at the end. */
static bool next_token(const char **s, const char *seps, char *buf, size_t n)
{
	*s += strspn(*s, seps);
	size_t len = strcspn(*s, seps);

	if (len == 0)
		return false;
	BUG_ON(len >= n);
	memcpy(buf, *s, len);
	buf[len] = '\0';
	*s += len;
	return true;
}

static int prefix_class(const char *t)
{
	static const char *const name[] = { "NP", "66", "F3", "F2" };

	for (int i = 0; i < 4; i++)
		if (!strcmp(t, name[i]))
			return i;
	return -1;
}

static int map_number(const char *t)
{
	static const char *const name[] = { "", "0F", "0F38", "0F3A" };

	for (int i = 1; i < 4; i++)
		if (!strcmp(t, name[i]))
			return i;
	return -1;
}

static void want(struct dec_row *r, unsigned mask, unsigned val)
{
	r->mask = (uint16_t)(r->mask | mask);
	r->val = (uint16_t)(r->val | val);
}

static void want_prefix(struct dec_row *r, int cls)
{
	r->pfx = (uint8_t)cls;
	want(r, DK_PFX, (unsigned)cls << DK_PFX_SHIFT);
}

/* "VEX.128.66.0F38.W0": returns the map. */
static int parse_vex(struct dec_row *r, const char *t)
{
	char part[8];
	int map = 0;

	t += 3;
	while (next_token(&t, ".", part, sizeof part)) {
		int m = map_number(part), p = prefix_class(part);

		if (m > 0)
			map = m;
		else if (p >= 0)
			want_prefix(r, p);
		else if (!strcmp(part, "128"))
			want(r, DK_L, 0);
		else if (!strcmp(part, "256"))
			want(r, DK_L, DK_L);
		else if (!strcmp(part, "W0"))
			want(r, DK_W, 0);
		else if (!strcmp(part, "W1"))
			want(r, DK_W, DK_W);
		else
			BUG_ON(true); /* VEX part of a row */
	}
	return map;
}

/* "/r", "/3", "/3:m", "=D8" */
static void parse_modrm(struct dec_row *r, const char *t)
{
	r->modrm = true;
	if (t[0] == '=') {
		want(r, DK_MODRM | DK_REG, (unsigned)strtoul(t + 1, NULL, 16) | DK_REG);
		return;
	}
	if (t[1] != 'r')
		want(r, 7u << 3, (unsigned)(t[1] - '0') << 3);
	if (t[2] != ':')
		return;
	r->mod_ignored = t[3] == 'R';
	r->mem_only = t[3] == 'm';
	if (!r->mod_ignored)
		want(r, DK_REG, t[3] == 'r' ? DK_REG : 0);
}

/* Conditions before or after the opcode that are no part of it; false if t is none. */
static bool parse_condition(struct dec_row *r, const char *t, bool have_opcode)
{
	if (!strcmp(t, "NF"))
		want(r, 2u << DK_PFX_SHIFT, 0);
	else if (!strcmp(t, "W1"))
		want(r, DK_W, DK_W);
	else if (!strcmp(t, "O1"))
		r->byte_form = true;
	else if (have_opcode && !strcmp(t, "B0"))
		want(r, DK_B, 0);
	else if (have_opcode && (t[0] == '/' || t[0] == '='))
		parse_modrm(r, t);
	else
		return false;
	return true;
}

static void parse_encoding(struct dec_row *r, const char *s)
{
	char t[24];
	int map = 0;
	bool vex = false, have_opcode = false;

	r->span = 1;
	while (next_token(&s, " ", t, sizeof t)) {
		if (parse_condition(r, t, have_opcode))
			continue;
		BUG_ON(have_opcode);
		if (!strncmp(t, "VEX", 3)) {
			vex = true;
			map = parse_vex(r, t);
		} else if (map == 0 && prefix_class(t) >= 0) {
			want_prefix(r, prefix_class(t));
		} else if (map == 0 && map_number(t) > 0) {
			map = map_number(t);
		} else {
			r->opcode = (uint8_t)strtoul(t, NULL, 16);
			r->span = t[2] == '+' ? 8 : 1;
			have_opcode = true;
		}
	}
	BUG_ON(!have_opcode);
	r->space = (uint8_t)DEC_SPACE(vex, (unsigned)map);
}

/* Operands that are one fixed register or address. */
static const struct {
	const char name[5];
	char letter;
	uint8_t kind, reg, type;
	bool high8;
} fixed[] = {
	{ "AL", '.', OPK_GPR, X86_RAX, DT_B, false },
	{ "CL", '.', OPK_GPR, X86_RCX, DT_B, false },
	{ "AH", '.', OPK_GPR, X86_RAX, DT_B, true },
	{ "AX", '.', OPK_GPR, X86_RAX, DT_W, false },
	{ "DX", '.', OPK_GPR, X86_RDX, DT_W, false },
	{ "EAX", '.', OPK_GPR, X86_RAX, DT_D, false },
	{ "ECX", '.', OPK_GPR, X86_RCX, DT_D, false },
	{ "EDX", '.', OPK_GPR, X86_RDX, DT_D, false },
	{ "EBX", '.', OPK_GPR, X86_RBX, DT_D, false },
	{ "RAX", '.', OPK_GPR, X86_RAX, DT_Q, false },
	{ "RCX", '.', OPK_GPR, X86_RCX, DT_Q, false },
	{ "RDX", '.', OPK_GPR, X86_RDX, DT_Q, false },
	{ "RBX", '.', OPK_GPR, X86_RBX, DT_Q, false },
	{ "R11", '.', OPK_GPR, X86_R11, DT_Q, false },
	{ "rAX", '.', OPK_GPR, X86_RAX, DT_V, false },
	{ "rDX", '.', OPK_GPR, X86_RDX, DT_V, false },
	{ "rBP", '.', OPK_GPR, X86_RBP, DT_V, false },
	{ "zAX", '.', OPK_GPR, X86_RAX, DT_Z, false },
	{ "yAX", '.', OPK_GPR, X86_RAX, DT_Y, false },
	{ "yCX", '.', OPK_GPR, X86_RCX, DT_Y, false },
	{ "yDX", '.', OPK_GPR, X86_RDX, DT_Y, false },
	{ "aAX", '.', OPK_GPR, X86_RAX, DT_ASIZE, false },
	{ "aCX", '.', OPK_GPR, X86_RCX, DT_ASIZE, false },
	{ "aSI", '.', OPK_GPR, X86_RSI, DT_ASIZE, false },
	{ "aDI", '.', OPK_GPR, X86_RDI, DT_ASIZE, false },
	{ "ES", '.', OPK_SEG, X86_ES, DT_W, false },
	{ "CS", '.', OPK_SEG, X86_CS, DT_W, false },
	{ "SS", '.', OPK_SEG, X86_SS, DT_W, false },
	{ "DS", '.', OPK_SEG, X86_DS, DT_W, false },
	{ "FS", '.', OPK_SEG, X86_FS, DT_W, false },
	{ "GS", '.', OPK_SEG, X86_GS, DT_W, false },
	{ "ST0", '.', OPK_ST, 0, DT_T, false },
	{ "ST1", '.', OPK_ST, 1, DT_T, false },
	{ "XMM0", '.', OPK_XMM, 0, DT_DQ, false },
	{ "STi", 'i', OPK_ST, 0, DT_T, false },
	{ "1", '1', OPK_IMM, 0, DT_B, false },
	{ "mBXb", 'm', OPK_MEM, X86_RBX, DT_B, false },
	{ "mDIq", 'm', OPK_MEM, X86_RDI, DT_Q, false },
	{ "mDI2", 'm', OPK_MEM, X86_RDI, DT_DQ, false },
};

static const struct {
	const char name[4];
	uint8_t type;
} types[] = {
	{ "", DT_0 },	 { "0", DT_0 },	  { "b", DT_B },   { "bs", DT_BS },   { "w", DT_W },
	{ "d", DT_D },	 { "ss", DT_D },  { "q", DT_Q },   { "sd", DT_Q },    { "dq", DT_DQ },
	{ "x", DT_X },	 { "ps", DT_X },  { "pd", DT_X },  { "h", DT_H },     { "f", DT_F },
	{ "e", DT_E },	 { "v", DT_V },	  { "z", DT_Z },   { "y", DT_Y },     { "g", DT_G },
	{ "t", DT_T },	 { "p", DT_P },	  { "a", DT_A },   { "s", DT_S },     { "vw", DT_VW },
	{ "db", DT_DB }, { "dw", DT_DW }, { "n", DT_ENV }, { "N", DT_FSAVE },
};

static struct dec_opnd parse_operand(const char *t)
{
	struct dec_opnd o = { .access = OPA_R };

	if (*t == '=' || *t == '+')
		o.access = *t++ == '=' ? OPA_W : OPA_RW;
	for (unsigned i = 0; i < ARRAY_SIZE(fixed); i++)
		if (!strcmp(fixed[i].name, t)) {
			o.letter = fixed[i].letter;
			o.kind = fixed[i].kind;
			o.reg = fixed[i].reg;
			o.type = fixed[i].type;
			o.high8 = fixed[i].high8;
			return o;
		}
	o.letter = t[0];
	BUG_ON(!strchr("ABCDEGHIJLMNOPQRSUVWZ", t[0]));
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++)
		if (!strcmp(types[i].name, t + 1)) {
			o.type = types[i].type;
			return o;
		}
	BUG_ON(true); /* operand of a row */
	return o;
}

static void parse_operands(struct dec_row *r, const char *s)
{
	const char *whole = s;
	char t[8];

	while (next_token(&s, ",|", t, sizeof t)) {
		struct dec_opnd o = parse_operand(t);
		bool first = r->nop == 0 && whole[0] != '|';

		BUG_ON(r->nop == DEC_MAX_OPS);
		r->vvvv |= o.letter == 'H' || o.letter == 'B';
		if (first && o.type == DT_B && (o.letter == '.' || strchr("EGZ", o.letter)))
			r->byte_form = true;
		r->op[r->nop++] = o;
	}
}

static void parse_flags(struct x86_row *p, const char *s)
{
	uint32_t *to = &p->fl_read;

	for (; *s; s++) {
		static const char letter[] = "CPAZSTIDOLNRMK";
		static const uint64_t bit[] = { X86_FL_CF, X86_FL_PF,	X86_FL_AF, X86_FL_ZF,
						X86_FL_SF, X86_FL_TF,	X86_FL_IF, X86_FL_DF,
						X86_FL_OF, X86_FL_IOPL, X86_FL_NT, X86_FL_RF,
						X86_FL_VM, X86_FL_AC };
		const char *at = strchr(letter, *s);

		if (*s == '>')
			to = &p->fl_write;
		else if (*s == '?')
			to = &p->fl_undef;
		else if (*s == '*')
			*to |= 0x3f7fd5;
		else if (at)
			*to |= (uint32_t)bit[at - letter];
		else
			BUG_ON(true); /* flag letter of a row */
	}
	BUG_ON(p->fl_undef & ~p->fl_write);
}

static void build_row(unsigned i)
{
	struct x86_row *p = &dec_public[i];

	BUG_ON(strlen(src[i].name) >= NAME_MAX_LEN);
	for (unsigned k = 0; src[i].name[k]; k++)
		names[i][k] = (char)tolower(src[i].name[k]);
	p->id = src[i].id;
	p->name = names[i];
	p->operands = src[i].ops;
	p->feature = src[i].feat;
	p->attr = src[i].attr;
	parse_flags(p, src[i].flags);
	parse_encoding(&dec_rows[i], src[i].enc);
	parse_operands(&dec_rows[i], src[i].ops);
	if (p->attr & IA_NO64)
		want(&dec_rows[i], DK_MODE64, 0);
	if (p->attr & IA_ONLY64)
		want(&dec_rows[i], DK_MODE64, DK_MODE64);
}

/* Candidates of one opcode lie together, in the order of the rows. */
static void build_index(void)
{
	unsigned n = 0;

	for (unsigned s = 0; s < DEC_SPACES; s++)
		for (unsigned op = 0; op < 256; op++) {
			struct dec_slot *slot = &dec_slots[s][op];

			slot->first = (uint16_t)n;
			for (unsigned i = 0; i < ROWS; i++) {
				const struct dec_row *r = &dec_rows[i];

				if (r->space != s || op - r->opcode >= r->span)
					continue;
				BUG_ON(n == ARRAY_SIZE(dec_cands));
				dec_cands[n++] = (struct dec_cand){ r->mask, r->val, (uint16_t)i };
				slot->count++;
				slot->modrm |= r->modrm;
			}
		}
}

static void build(void)
{
	for (unsigned i = 0; i < ROWS; i++)
		build_row(i);
	build_index();
	__atomic_store_n(&dec_ready, true, __ATOMIC_RELEASE);
}

void dec_init_slow(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, build);
}

unsigned x86_row_count(void)
{
	return ROWS;
}

const struct x86_row *x86_row_at(unsigned index)
{
	dec_init();
	return index < ROWS ? &dec_public[index] : NULL;
}
