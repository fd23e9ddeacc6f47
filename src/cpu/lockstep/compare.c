/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two states side by side: every register, flag, segment, MSR and the x87, SSE and AVX state; and the
 * report about what differs.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cpu/dbt/dbt.h"
#include "cpu/lockstep/lockstep_priv.h"

#define FIELD(f)                                                                                   \
	{                                                                                          \
#f, offsetof(struct x86_state, f), sizeof(((struct x86_state *)0)->f)              \
	}

/* Everything in front of the XSAVE image, without the padding; in order. */
static const struct field {
	const char *name;
	size_t off, size;
} fields[] = {
	FIELD(gpr[X86_RAX]),
	FIELD(gpr[X86_RCX]),
	FIELD(gpr[X86_RDX]),
	FIELD(gpr[X86_RBX]),
	FIELD(gpr[X86_RSP]),
	FIELD(gpr[X86_RBP]),
	FIELD(gpr[X86_RSI]),
	FIELD(gpr[X86_RDI]),
	FIELD(gpr[X86_R8]),
	FIELD(gpr[X86_R9]),
	FIELD(gpr[X86_R10]),
	FIELD(gpr[X86_R11]),
	FIELD(gpr[X86_R12]),
	FIELD(gpr[X86_R13]),
	FIELD(gpr[X86_R14]),
	FIELD(gpr[X86_R15]),
	FIELD(rip),
	FIELD(rflags),
	FIELD(seg[X86_ES]),
	FIELD(seg[X86_CS]),
	FIELD(seg[X86_SS]),
	FIELD(seg[X86_DS]),
	FIELD(seg[X86_FS]),
	FIELD(seg[X86_GS]),
	FIELD(ldtr),
	FIELD(tr),
	FIELD(gdtr.base),
	FIELD(gdtr.limit),
	FIELD(idtr.base),
	FIELD(idtr.limit),
	FIELD(cr0),
	FIELD(cr2),
	FIELD(cr3),
	FIELD(cr4),
	FIELD(efer),
	FIELD(xcr0),
	FIELD(dr[0]),
	FIELD(dr[1]),
	FIELD(dr[2]),
	FIELD(dr[3]),
	FIELD(dr[6]),
	FIELD(dr[7]),
	FIELD(star),
	FIELD(lstar),
	FIELD(cstar),
	FIELD(sfmask),
	FIELD(kernel_gs_base),
	FIELD(sysenter_cs),
	FIELD(sysenter_esp),
	FIELD(sysenter_eip),
	FIELD(pat),
	FIELD(tsc_aux),
	FIELD(apic_base),
	FIELD(misc_enable),
	FIELD(spec_ctrl),
	FIELD(xss),
	FIELD(tsc_offset),
	FIELD(tsc_adjust),
	FIELD(mtrr),
	FIELD(cpl),
	FIELD(int_shadow),
	FIELD(nmi_pending),
	FIELD(nmi_blocked),
	FIELD(mp_state),
	FIELD(sipi_vector),
};

static const void *at(const struct x86_state *s, size_t off)
{
	return (const char *)s + off;
}

static bool range_same(const struct x86_state *a, const struct x86_state *b, size_t from, size_t to)
{
	return !memcmp(at(a, from), at(b, from), to - from);
}

static bool integer_same(const struct x86_state *a, const struct x86_state *b)
{
	return range_same(a, b, 0, offsetof(struct x86_state, gdtr)) &&
	       a->gdtr.base == b->gdtr.base && a->gdtr.limit == b->gdtr.limit &&
	       a->idtr.base == b->idtr.base && a->idtr.limit == b->idtr.limit &&
	       range_same(a, b, offsetof(struct x86_state, cr0),
			  offsetof(struct x86_state, sipi_vector) + 1);
}

/* ---- x87, SSE, AVX ---- */

enum {
	XS_HEAD = 16, /* with FOP and FIP */
	XS_FDP = 16,
	XS_MXCSR = 24,
	XS_ST = 32,
	XS_XMM = 160,
	XS_BV = 512,
	XS_YMMH = 576,
	XS_END = 832
};

static const struct part {
	const char *name;
	unsigned bit, off, size, count, stride;
} parts[] = {
	{ "FIP/FOP/FTW/FSW/FCW", 0, 0, XS_HEAD, 1, 0 },
	{ "ST", 0, XS_ST, 10, 8, 16 },
	{ "XMM", 1, XS_XMM, 16, 16, 16 },
	{ "YMM high half", 2, XS_YMMH, 16, 16, 16 },
};

static void part_value(const struct x86_state *s, const struct part *p, unsigned k, uint8_t out[16])
{
	memset(out, 0, 16);
	if (s->xsave[XS_BV] & (1u << p->bit))
		memcpy(out, s->xsave + p->off + k * p->stride, p->size);
	else if (p->off == 0)
		memcpy(out, "\x7f\x03", 2);
}

static bool part_same(const struct x86_state *a, const struct x86_state *b, const struct part *p)
{
	uint8_t x[16], y[16];

	for (unsigned k = 0; k < p->count; k++) {
		part_value(a, p, k, x);
		part_value(b, p, k, y);
		if (memcmp(x, y, 16) != 0)
			return false;
	}
	return true;
}

static bool vector_same(const struct x86_state *a, const struct x86_state *b)
{
	if (memcmp(a->xsave + XS_MXCSR, b->xsave + XS_MXCSR, 4) != 0)
		return false;
	if ((a->xsave[XS_BV] & 7) == 7 && (b->xsave[XS_BV] & 7) == 7 &&
	    !memcmp(a->xsave, b->xsave, XS_HEAD) &&
	    range_same(a, b, offsetof(struct x86_state, xsave) + XS_ST,
		       offsetof(struct x86_state, xsave) + XS_BV) &&
	    range_same(a, b, offsetof(struct x86_state, xsave) + XS_YMMH,
		       offsetof(struct x86_state, xsave) + XS_END))
		return true;
	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
		if (!part_same(a, b, &parts[i]))
			return false;
	return true;
}

/* The translator knows where the last x87 operand was only while its address registers stay as they were. */
static void even_out_fdp(const struct x86_state *a, struct x86_state *b)
{
	memcpy(b->xsave + XS_FDP, a->xsave + XS_FDP, 8);
}

bool ls_state_same(struct lockstep *ls)
{
	struct x86_state *a = ls->ref->s, *b = ls->dbt.s;

	/* STI with IF already set shadows nothing; the translator does not look. */
	if (unlikely(b->int_shadow != a->int_shadow) && b->int_shadow)
		b->int_shadow = a->int_shadow;
	/* these the local APIC writes, which knows of one vCPU only */
	b->apic_base = a->apic_base;
	b->nmi_pending = a->nmi_pending;
	even_out_fdp(a, b);
	return integer_same(a, b) && vector_same(a, b);
}

/* ---- report ---- */

static void hex(char *out, size_t n, const uint8_t *p, size_t size)
{
	size_t k = 0;

	out[0] = 0;
	for (size_t i = size; i-- > 0 && k + 3 < n;)
		k += (size_t)snprintf(out + k, n - k, "%02x", p[i]);
}

static void say_field(const char *name, const uint8_t *a, const uint8_t *b, size_t size)
{
	char x[80], y[80];

	hex(x, sizeof(x), a, size);
	hex(y, sizeof(y), b, size);
	log_err("lockstep:   %-14s interp %s  dbt %s", name, x, y);
}

static void say_state(const struct x86_state *a, const struct x86_state *b)
{
	char name[32];
	uint8_t x[16], y[16];

	for (unsigned i = 0; i < ARRAY_SIZE(fields); i++)
		if (memcmp(at(a, fields[i].off), at(b, fields[i].off), fields[i].size) != 0)
			say_field(fields[i].name, at(a, fields[i].off), at(b, fields[i].off),
				  fields[i].size);
	if (memcmp(a->xsave + XS_MXCSR, b->xsave + XS_MXCSR, 4) != 0)
		say_field("MXCSR", a->xsave + XS_MXCSR, b->xsave + XS_MXCSR, 4);
	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
		for (unsigned k = 0; k < parts[i].count; k++) {
			part_value(a, &parts[i], k, x);
			part_value(b, &parts[i], k, y);
			snprintf(name, sizeof(name), "%s %u", parts[i].name, k);
			if (memcmp(x, y, 16) != 0)
				say_field(name, x, y, 16);
		}
}

bool ls_decode(struct lockstep *ls, gva_t rip, struct x86_insn *i)
{
	const struct x86_state *s = ls->ref->s;
	enum x86_mode mode = x86_code64(s)			? X86_MODE_64
			     : s->seg[X86_CS].attr & X86_SEG_DB ? X86_MODE_32
								: X86_MODE_16;
	uint8_t buf[15];
	uint32_t pf;
	unsigned n = interp_fetch(ls->ref, mode == X86_MODE_64 ? rip : s->seg[X86_CS].base + rip,
				  buf, sizeof(buf), &pf);

	return n != 0 && x86_decode(i, mode, buf, n) > 0;
}

static void say_code(struct lockstep *ls)
{
	gva_t va = ls->rip;
	char text[96];
	struct x86_insn i;

	for (unsigned n = 0; n < MAX(ls->count, 1u) && ls_decode(ls, va, &i); n++, va += i.len)
		log_err("lockstep:   %#lx: %s", va,
			x86_disasm(text, sizeof(text), (enum x86_mode)i.mode, i.bytes, i.len, va));
}

static void say_before(const struct lockstep *ls)
{
	static const char *const name[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp",
					      "rsi", "rdi", "r8",  "r9",  "r10", "r11",
					      "r12", "r13", "r14", "r15" };

	for (unsigned i = 0; i < 16; i += 4)
		log_err("lockstep:   %3s %016lx %3s %016lx %3s %016lx %3s %016lx", name[i],
			ls->gpr[i], name[i + 1], ls->gpr[i + 1], name[i + 2], ls->gpr[i + 2],
			name[i + 3], ls->gpr[i + 3]);
	log_err("lockstep:   rip %016lx flags %lx", ls->rip, ls->rflags);
}

void ls_report(struct lockstep *ls, const char *why, const struct ls_byte *diff, unsigned n)
{
	log_err("lockstep: %s, after %lu instructions, in the %s at %#lx", why,
		ls->ref->insn_count - ls->first_insn, ls->single ? "instruction" : "block",
		ls->rip);
	log_err("lockstep: state in front of it:");
	say_before(ls);
	log_err("lockstep: guest code (%u instructions):", ls->count);
	say_code(ls);
	log_err("lockstep: what differs after it:");
	say_state(ls->ref->s, ls->dbt.s);
	for (unsigned i = 0; i < n; i++)
		log_err("lockstep:   byte at guest-physical %#lx: interp %02x dbt %02x",
			diff[i].gpa, diff[i].ref, diff[i].dbt);
	if (!ls->single) {
		log_err("lockstep: the translation:");
		dbt_dump_last(&ls->dbt);
	}
}
