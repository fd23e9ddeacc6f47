/* SPDX-License-Identifier: Apache-2.0 */
/* Two outcomes of one case: what differs, less what the table calls undefined. */
#include <stdio.h>
#include <string.h>

#include "case.h"
#include "gen.h"

static const char *const reg_name[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					"r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15" };

struct cmp {
	unsigned n;
	bool print;
	bool sequence; /* more than one instruction */
};

static void differ(struct cmp *c, const char *what, unsigned i, uint64_t bare, uint64_t eng)
{
	c->n++;
	if (c->print)
		printf("    %s%.0u: bare %016llx engine %016llx\n", what, i,
		       (unsigned long long)bare, (unsigned long long)eng);
}

static uint64_t undefined_flags(const struct test_case *c)
{
	uint64_t m = 0;

	/* a later instruction may define what an earlier one left undefined: fold in order */
	for (unsigned i = 0; i < c->ninsn; i++) {
		const struct x86_row *r = x86_row_at(c->row[i]);

		if (!(r->attr & IA_FLAGS_COND))
			m &= ~(uint64_t)r->fl_write;
		m |= r->fl_undef;
	}
	return m;
}

static uint64_t word(const uint8_t *p, unsigned n)
{
	uint64_t v = 0;

	memcpy(&v, p, n);
	return v;
}

/* After #XM: flags beside the one that trapped, which processors set or not. */
static uint64_t open_mxcsr(const struct test_case *t, const struct outcome *bare,
			   const struct outcome *eng)
{
	uint64_t m = 0;

	if (bare->vector != X86_EX_XM || eng->vector != X86_EX_XM)
		return 0;
	for (unsigned i = 0; i < t->ninsn; i++) {
		uint16_t id = x86_row_at(t->row[i])->id;

		m |= 0x20; /* PE beside an unmasked underflow or overflow */
		if (id == X86_ID_DPPS || id == X86_ID_DPPD || id == X86_ID_VDPPS ||
		    id == X86_ID_VDPPD)
			m |= 0x3f; /* order of the products and sums */
	}
	return m;
}

static void compare_fpu(struct cmp *c, const struct regs *a, const struct regs *b,
			uint64_t mxcsr_open)
{
	static const struct {
		const char *name;
		uint8_t off, size;
	} field[] = { { "fcw", 0, 2 }, { "fsw", 2, 2 },	 { "ftw", 4, 1 },   { "fop", 6, 2 },
		      { "fip", 8, 8 }, { "fdp", 16, 8 }, { "mxcsr", 24, 4 } };

	if (!memcmp(a->fx, b->fx, sizeof a->fx) && !memcmp(a->ymmh, b->ymmh, sizeof a->ymmh))
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(field); i++) {
		/*
		 * Where the last x87 instruction was is lost whenever an operating system saves and restores the
		 * state of a processor whose XSAVE stores it only beside a pending exception; engines do that too.
		 */
		bool pointer = field[i].off >= 6 && field[i].off <= 16;

		if (c->sequence && pointer)
			continue;
		uint64_t x = word(a->fx + field[i].off, field[i].size),
			 y = word(b->fx + field[i].off, field[i].size);

		if (field[i].size == 8) /* pointers: processors keep 48 bits and some of the rest */
			x &= BIT(48) - 1, y &= BIT(48) - 1;
		if (field[i].off == 24)
			x &= ~mxcsr_open, y &= ~mxcsr_open;
		if (x != y)
			differ(c, field[i].name, 0, x, y);
	}
	for (unsigned i = 0; i < 8; i++)
		if (memcmp(a->fx + 32 + 16 * i, b->fx + 32 + 16 * i, 10)) {
			differ(c, "st exponent ", i, word(a->fx + 40 + 16 * i, 2),
			       word(b->fx + 40 + 16 * i, 2));
			differ(c, "st mantissa ", i, word(a->fx + 32 + 16 * i, 8),
			       word(b->fx + 32 + 16 * i, 8));
		}
	for (unsigned i = 0; i < 32; i++)
		if (memcmp(a->fx + 160 + 8 * i, b->fx + 160 + 8 * i, 8))
			differ(c, i & 1 ? "xmm high half " : "xmm low half ", i / 2,
			       word(a->fx + 160 + 8 * i, 8), word(b->fx + 160 + 8 * i, 8));
	for (unsigned i = 0; i < 32; i++)
		if (memcmp(a->ymmh + 8 * i, b->ymmh + 8 * i, 8))
			differ(c, i & 1 ? "ymm bits 255:192 " : "ymm bits 191:128 ", i / 2,
			       word(a->ymmh + 8 * i, 8), word(b->ymmh + 8 * i, 8));
}

static void compare_window(struct cmp *c, const struct outcome *a, const struct outcome *b)
{
	if (a->nchanged == b->nchanged && a->hash == b->hash)
		return;
	for (unsigned i = 0; i < MIN(MIN(a->nchanged, b->nchanged), CHANGED_MAX); i++)
		if (a->changed[i].off != b->changed[i].off ||
		    a->changed[i].val != b->changed[i].val) {
			if (c->print)
				printf("    memory: first difference at %llx / %llx\n",
				       (unsigned long long)(DATA_VA + a->changed[i].off),
				       (unsigned long long)(DATA_VA + b->changed[i].off));
			differ(c, "memory", 0, a->changed[i].val, b->changed[i].val);
			return;
		}
	differ(c, "number of changed words", 0, a->nchanged, b->nchanged);
}

/* What the architecture leaves open about faults, and processors do differently; NULL: nothing. */
static const char *open_question(const struct test_case *t, const struct outcome *bare,
				 const struct outcome *eng)
{
	bool both_fault = bare->vector != X86_EX_BP && eng->vector != X86_EX_BP;
	bool same_page = bare->vector == eng->vector && (bare->cr2 ^ eng->cr2) < PAGE;

	for (unsigned i = 0; i < t->ninsn; i++) {
		const struct x86_row *r = x86_row_at(t->row[i]);
		bool masked_store = r->id == X86_ID_MASKMOVQ || r->id == X86_ID_MASKMOVDQU ||
				    r->id == X86_ID_VMASKMOVDQU;

		if (masked_store && (bare->vector == X86_EX_PF || bare->vector == X86_EX_GP))
			return "a byte store under mask may fault for bytes it does not write, in any order";
		if ((r->attr & IA_ALIGN) && bare->vector == X86_EX_GP && eng->vector == X86_EX_SS)
			return "misaligned and not canonical at once, through SS";
		if ((r->id == X86_ID_UD0 || r->id == X86_ID_UD1) && both_fault)
			return "how much of UD0 and UD1 is fetched";
		if (r->id == X86_ID_CMPS && both_fault && bare->vector >= X86_EX_SS &&
		    eng->vector >= X86_EX_SS)
			return "which operand of CMPS is read first";
		if (bare->vector == X86_EX_PF && eng->vector == X86_EX_PF && (r->attr & IA_PAIR))
			return "in which order an area of many words is accessed";
		if ((r->attr & IA_CALL) && bare->vector == X86_EX_PF && eng->vector == X86_EX_GP)
			return "a target that is not canonical and a push that faults";
		if (same_page && (r->id == X86_ID_VMASKMOVPS || r->id == X86_ID_VMASKMOVPD ||
				  r->id == X86_ID_VPMASKMOVD || r->id == X86_ID_VPMASKMOVQ))
			return "in which order the parts of the operand are accessed";
	}
	return NULL;
}

unsigned outcome_compare(const struct test_case *t, const struct outcome *bare,
			 const struct outcome *eng, const struct compare_rules *rules, bool print)
{
	struct cmp c = { .print = print };
	bool open = (bare->vector != eng->vector || bare->cr2 != eng->cr2) &&
		    open_question(t, bare, eng);
	uint64_t fl = ~0ull, ebare = bare->error, eeng = eng->error;

	if (open)
		return 0;
	if (bare->vector != eng->vector) {
		differ(&c, "vector", 0, bare->vector, eng->vector);
		if (print && eng->msg[0])
			printf("    %s\n", eng->msg);
	}
	/* Linux reports kernel-half addresses as present whatever they are */
	if (bare->vector == X86_EX_PF && bare->cr2 >= BIT(47) - PAGE)
		ebare &= ~X86_PF_P, eeng &= ~X86_PF_P;
	if (ebare != eeng)
		differ(&c, "error code", 0, ebare, eeng);
	if (bare->cr2 != eng->cr2)
		differ(&c, "cr2", 0, bare->cr2, eng->cr2);
	for (unsigned i = 0; i < 16; i++)
		if (bare->out.gpr[i] != eng->out.gpr[i])
			differ(&c, reg_name[i], 0, bare->out.gpr[i], eng->out.gpr[i]);
	if (bare->out.rip != eng->out.rip)
		differ(&c, "rip", 0, bare->out.rip, eng->out.rip);
	if (!rules->strict)
		fl &= ~undefined_flags(t);
	if ((bare->out.rflags ^ eng->out.rflags) & fl)
		differ(&c, "rflags", 0, bare->out.rflags & fl, eng->out.rflags & fl);
	if (bare->out.fs_base != eng->out.fs_base)
		differ(&c, "fs base", 0, bare->out.fs_base, eng->out.fs_base);
	if (bare->out.gs_base != eng->out.gs_base)
		differ(&c, "gs base", 0, bare->out.gs_base, eng->out.gs_base);
	c.sequence = t->ninsn > 1;
	compare_fpu(&c, &bare->out, &eng->out, open_mxcsr(t, bare, eng));
	compare_window(&c, bare, eng);
	return c.n;
}

void case_print(const struct test_case *c, bool all)
{
	char text[128];
	unsigned at = 0;

	while (at < c->code_len) {
		struct x86_insn in;
		int len = x86_decode(&in, X86_MODE_64, c->code + at,
				     (unsigned)MIN(15, CASE_CODE_MAX - at));

		if (len <= 0)
			break;
		printf("  %llx:", (unsigned long long)(CODE_VA + c->code_off + at));
		for (int i = 0; i < len; i++)
			printf(" %02x", c->code[at + (unsigned)i]);
		printf("   %s\n", x86_disasm(text, sizeof text, X86_MODE_64, c->code + at,
					     (unsigned)len, CODE_VA + c->code_off + at));
		at += (unsigned)len;
	}
	if (!all)
		return;
	for (unsigned i = 0; i < 16; i++)
		printf("    %-3s %016llx%s", reg_name[i], (unsigned long long)c->in.gpr[i],
		       i % 4 == 3 ? "\n" : "");
	printf("    rflags %llx fcw %llx fsw %llx ftw %x mxcsr %llx fs %llx gs %llx\n",
	       (unsigned long long)c->in.rflags, (unsigned long long)word(c->in.fx, 2),
	       (unsigned long long)word(c->in.fx + 2, 2), c->in.fx[4],
	       (unsigned long long)word(c->in.fx + 24, 4), (unsigned long long)c->in.fs_base,
	       (unsigned long long)c->in.gs_base);
}
