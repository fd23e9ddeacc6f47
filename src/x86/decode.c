/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The instruction decoder (SDM vol. 2, chapter 2): prefixes, opcode, row of the table, ModRM,
 * immediates, operands. Pure functions of their arguments; any thread.
 */
#include "x86/decode_priv.h"

#include <errno.h>
#include <string.h>

struct dec {
	struct x86_insn *in;
	const uint8_t *buf;
	unsigned n, pos;
	enum x86_mode mode;
	uint8_t rexb;	  /* W R X B in bits 3..0, from REX or VEX */
	uint8_t last_rep; /* 0, F2 or F3: the last one counts */
	uint8_t seg;	  /* override or 0xff */
	uint8_t raw_vvvv; /* inverted, before the mode cut it */
	const struct dec_row *row;
};

enum { BIT_B = 1, BIT_X = 2, BIT_R = 4, BIT_W = 8 };

/* Makes sure that k more bytes are there. */
static inline int need(const struct dec *d, unsigned k)
{
	if (likely(d->pos + k <= d->n))
		return 0;
	return d->n >= 15 || d->pos + k > 15 ? -E2BIG : -EAGAIN;
}

static inline uint64_t load(const uint8_t *p, unsigned size)
{
	uint64_t v = 0;

	memcpy(&v, p, size);
	return v;
}

static inline int64_t sign_extend(uint64_t v, unsigned size)
{
	unsigned sh = 64 - size * 8;

	return size == 0 ? 0 : (int64_t)(v << sh) >> sh;
}

/* True if b is a prefix (recorded), false if it starts the opcode. */
static bool take_prefix(struct dec *d, uint8_t b)
{
	struct x86_insn *in = d->in;

	if (d->mode == X86_MODE_64 && (b & 0xf0) == 0x40) {
		in->rex = b;
		return true;
	}
	switch (b) {
	case 0x66: in->osz = true; break;
	case 0x67: in->asz = true; break;
	case 0xf0: in->lock = true; break;
	case 0xf2:
	case 0xf3: d->last_rep = b; break;
	case 0x26:
	case 0x2e:
	case 0x36:
	case 0x3e:
		if (d->mode != X86_MODE_64)
			d->seg = (b >> 3) & 3;
		break;
	case 0x64:
	case 0x65: d->seg = (uint8_t)(X86_FS + (b & 1)); break;
	default: return false;
	}
	in->rex = 0; /* only directly before the opcode does it count */
	return true;
}

static int prefixes(struct dec *d)
{
	int r;

	while ((r = need(d, 1)) == 0 && take_prefix(d, d->buf[d->pos]))
		d->pos++;
	d->rexb = d->in->rex & 15;
	d->in->rep = d->last_rep == 0 ? REP_NONE : d->last_rep == 0xf3 ? REP_REPE : REP_REPNE;
	return r;
}

/* C4 and C5 are VEX in 64-bit mode, and elsewhere if what would be ModRM has mod == 3. */
static int vex_prefix(struct dec *d, unsigned len)
{
	struct x86_insn *in = d->in;
	uint8_t p1 = d->buf[d->pos + 1], last = d->buf[d->pos + len - 1];

	if (in->osz || d->last_rep || in->lock || in->rex)
		return -EILSEQ;
	in->vex = (uint8_t)len;
	in->vex_vvvv = d->raw_vvvv = (uint8_t)((~last >> 3) & 15);
	in->vex_l = (last >> 2) & 1;
	in->map = 1;
	d->rexb = p1 & 0x80 ? 0 : BIT_R;
	if (len == 3) {
		in->map = p1 & 31;
		in->vex_w = last >> 7;
		d->rexb = (uint8_t)(((~p1 >> 5) & 7) | (in->vex_w ? BIT_W : 0));
	}
	if (d->mode != X86_MODE_64) {
		d->rexb &= BIT_W;
		in->vex_vvvv &= 7;
	}
	d->pos += len;
	return in->map >= 1 && in->map <= 3 ? 0 : -EILSEQ;
}

/* Finds prefix class, map and opcode byte. */
static int opcode(struct dec *d, unsigned *pfx)
{
	struct x86_insn *in = d->in;
	uint8_t b = d->buf[d->pos];
	int r;

	*pfx = d->last_rep == 0xf3 ? 2 : d->last_rep == 0xf2 ? 3 : in->osz ? 1 : 0;
	if ((b & 0xfe) == 0xc4 && (r = need(d, 2)) != 0)
		return r;
	if ((b & 0xfe) == 0xc4 && (d->mode == X86_MODE_64 || d->buf[d->pos + 1] >= 0xc0)) {
		unsigned len = b == 0xc5 ? 2 : 3;
		static const uint8_t cls[] = { 0, 1, 2, 3 };

		if ((r = need(d, len)) != 0 || (r = vex_prefix(d, len)) != 0)
			return r;
		*pfx = cls[d->buf[d->pos - 1] & 3];
	} else if (b == 0x0f) {
		d->pos++;
		if ((r = need(d, 1)) != 0)
			return r;
		in->map = 1;
		b = d->buf[d->pos];
		if (b == 0x38 || b == 0x3a) {
			in->map = b == 0x38 ? 2 : 3;
			d->pos++;
		}
	}
	if ((r = need(d, 1)) != 0)
		return r;
	in->off_opcode = (uint8_t)d->pos;
	in->opcode = d->buf[d->pos++];
	return 0;
}

/* Selects the row; needs the ModRM byte, which stays unread. */
static int find_row(struct dec *d, unsigned pfx)
{
	struct x86_insn *in = d->in;
	const struct dec_slot *slot = &dec_slots[DEC_SPACE(in->vex, in->map)][in->opcode];
	unsigned key = pfx << DK_PFX_SHIFT;
	int r;

	if (slot->count == 0)
		return -EILSEQ;
	if (slot->modrm) {
		if ((r = need(d, 1)) != 0)
			return r;
		in->has_modrm = true;
		in->off_modrm = (uint8_t)d->pos;
		in->modrm = d->buf[d->pos];
		in->mod = in->modrm >> 6;
		key |= in->modrm | (in->mod == 3 ? DK_REG : 0);
	}
	key |= (in->vex_l ? DK_L : 0) | (d->rexb & BIT_W ? DK_W : 0) |
	       (d->mode == X86_MODE_64 ? DK_MODE64 : 0) | (d->rexb & BIT_B ? DK_B : 0);
	for (unsigned i = slot->first, end = i + slot->count; i < end; i++) {
		const struct dec_cand *c = &dec_cands[i];

		if ((key & c->mask) != c->val)
			continue;
		d->row = &dec_rows[c->row];
		in->row = &dec_public[c->row];
		in->row_index = c->row;
		in->id = in->row->id;
		in->attr = in->row->attr;
		return 0;
	}
	return -EILSEQ;
}

static void sizes(struct dec *d)
{
	struct x86_insn *in = d->in;
	bool osz = in->osz && d->row->pfx != 1;

	if (d->mode == X86_MODE_64) {
		in->addrsize = in->asz ? 4 : 8;
		if ((in->attr & IA_FORCE64) || (d->rexb & BIT_W))
			in->opsize = 8;
		else if (osz)
			in->opsize = 2;
		else
			in->opsize = in->attr & IA_DEF64 ? 8 : 4;
	} else {
		bool def32 = d->mode == X86_MODE_32;

		in->addrsize = def32 != in->asz ? 4 : 2;
		in->opsize = def32 != osz ? 4 : 2;
	}
}

static int displacement(struct dec *d, unsigned size)
{
	struct x86_insn *in = d->in;
	int r = need(d, size);

	if (r != 0)
		return r;
	in->off_disp = (uint8_t)d->pos;
	in->len_disp = (uint8_t)size;
	in->disp = sign_extend(load(d->buf + d->pos, size), size);
	d->pos += size;
	return 0;
}

static int modrm16(struct dec *d)
{
	static const uint8_t base[] = { X86_RBX, X86_RBX, X86_RBP, X86_RBP,
					X86_RSI, X86_RDI, X86_RBP, X86_RBX };
	static const uint8_t index[] = {
		X86_RSI, X86_RDI, X86_RSI, X86_RDI, 0xff, 0xff, 0xff, 0xff
	};
	struct x86_insn *in = d->in;
	unsigned rm = in->modrm & 7;

	if (in->mod == 0 && rm == 6)
		return displacement(d, 2);
	in->base = base[rm];
	in->index = index[rm];
	return in->mod == 0 ? 0 : displacement(d, in->mod);
}

static int modrm32(struct dec *d)
{
	struct x86_insn *in = d->in;
	unsigned rm = in->modrm & 7, size = in->mod == 1 ? 1 : in->mod == 2 ? 4 : 0;

	if (rm == 4) {
		int r = need(d, 1);
		uint8_t sib;

		if (r != 0)
			return r;
		sib = d->buf[d->pos++];
		in->scale = sib >> 6;
		in->index = (uint8_t)(((sib >> 3) & 7) | (d->rexb & BIT_X ? 8 : 0));
		if (in->index == 4 && !(in->attr & IA_VSIB))
			in->index = 0xff;
		rm = sib & 7;
		if (in->index == 0xff)
			in->scale = 0;
	}
	if (rm == 5 && in->mod == 0) {
		size = 4;
		in->rip_rel = (in->modrm & 7) == 5 && d->mode == X86_MODE_64;
	} else {
		in->base = (uint8_t)(rm | (d->rexb & BIT_B ? 8 : 0));
	}
	return size == 0 ? 0 : displacement(d, size);
}

static int modrm(struct dec *d)
{
	struct x86_insn *in = d->in;

	d->pos++;
	in->reg = (uint8_t)(((in->modrm >> 3) & 7) | (d->rexb & BIT_R ? 8 : 0));
	if (in->mod == 3 || d->row->mod_ignored) {
		in->rm = (uint8_t)((in->modrm & 7) | (d->rexb & BIT_B ? 8 : 0));
		return 0;
	}
	in->has_mem = true;
	if (in->attr & IA_VSIB && (in->addrsize == 2 || (in->modrm & 7) != 4))
		return -EILSEQ;
	return in->addrsize == 2 ? modrm16(d) : modrm32(d);
}

static uint8_t size_of(const struct dec *d, uint8_t type, bool is_mem)
{
	const struct x86_insn *in = d->in;
	bool m64 = d->mode == X86_MODE_64;
	unsigned vec = in->vex_l ? 32 : 16;
	bool w64 = m64 && ((d->rexb & BIT_W) || (in->attr & IA_FORCE64));

	switch (type) {
	case DT_B:
	case DT_BS: return 1;
	case DT_W: return 2;
	case DT_D: return 4;
	case DT_Q: return 8;
	case DT_DQ: return 16;
	case DT_T: return 10;
	case DT_X: return (uint8_t)vec;
	case DT_H: return (uint8_t)(vec / 2);
	case DT_F: return (uint8_t)(vec / 4);
	case DT_E: return (uint8_t)(vec / 8);
	case DT_V: return in->opsize;
	case DT_Z: return (uint8_t)MIN(in->opsize, 4);
	case DT_Y: return w64 ? 8 : 4;
	case DT_G: return m64 ? 8 : 4;
	case DT_P: return (uint8_t)(in->opsize + 2);
	case DT_A: return (uint8_t)(in->opsize * 2);
	case DT_S: return m64 ? 10 : 6;
	case DT_VW: return is_mem ? 2 : in->opsize;
	case DT_DB: return is_mem ? 1 : 4;
	case DT_DW: return is_mem ? 2 : 4;
	case DT_ENV: return in->opsize == 2 ? 14 : 28;
	case DT_FSAVE: return in->opsize == 2 ? 94 : 108;
	case DT_ASIZE: return in->addrsize;
	default: return 0;
	}
}

/* Reads the bytes of an immediate and gives its value. */
static int immediate(struct dec *d, unsigned size, uint64_t *v)
{
	struct x86_insn *in = d->in;
	int r = need(d, size);

	if (r != 0)
		return r;
	if (in->off_imm == 0xff)
		in->off_imm = (uint8_t)d->pos;
	in->len_imm = (uint8_t)(in->len_imm + size);
	*v = load(d->buf + d->pos, size);
	d->pos += size;
	return 0;
}

static void set_gpr(const struct dec *d, struct x86_operand *o, unsigned reg, uint8_t enc)
{
	o->kind = OPK_GPR;
	o->enc = enc;
	o->reg = (uint8_t)reg;
	if (o->size == 1 && reg >= 4 && reg < 8 && !d->in->rex && !d->in->vex) {
		o->high8 = true;
		o->reg = (uint8_t)(reg - 4);
	}
}

static void set_reg(struct x86_operand *o, enum x86_opkind kind, unsigned reg, uint8_t enc)
{
	o->kind = (uint8_t)kind;
	o->reg = (uint8_t)reg;
	o->enc = enc;
}

static int immediate_operand(struct dec *d, const struct dec_opnd *t, struct x86_operand *o,
			     bool second)
{
	struct x86_insn *in = d->in;
	uint64_t v;
	int r;

	if (t->letter == 'A') { /* offset, then selector */
		o->kind = OPK_FAR;
		if ((r = immediate(d, in->opsize, &in->imm)) != 0)
			return r;
		return immediate(d, 2, &in->imm2);
	}
	o->kind = t->letter == 'J' ? OPK_REL : OPK_IMM;
	o->enc = ENC_IMM;
	if ((r = immediate(d, o->size, &v)) != 0)
		return r;
	if (t->letter == 'J' || t->type == DT_BS || t->type == DT_Z)
		v = (uint64_t)sign_extend(v, o->size);
	*(second ? &in->imm2 : &in->imm) = v;
	return 0;
}

/* Operand in the register field of ModRM, vvvv, opcode or is4. */
static int reg_operand(struct dec *d, const struct dec_opnd *t, struct x86_operand *o)
{
	struct x86_insn *in = d->in;

	switch (t->letter) {
	case 'G': set_gpr(d, o, in->reg, ENC_REG); return 0;
	case 'B': set_gpr(d, o, in->vex_vvvv, ENC_VVVV); return 0;
	case 'Z':
		set_gpr(d, o, (in->opcode & 7u) | (d->rexb & BIT_B ? 8u : 0u), ENC_OPCODE);
		return 0;
	case 'V': set_reg(o, OPK_XMM, in->reg, ENC_REG); return 0;
	case 'H': set_reg(o, OPK_XMM, in->vex_vvvv, ENC_VVVV); return 0;
	case 'P': set_reg(o, OPK_MMX, in->reg & 7u, ENC_REG); return 0;
	case 'S':
		set_reg(o, OPK_SEG, in->reg & 7u, ENC_REG);
		return o->reg > X86_GS || (o->reg == X86_CS && o->access == OPA_W) ? -EILSEQ : 0;
	case 'C':
		set_reg(o, OPK_CR, in->reg, ENC_REG);
		return in->reg == 1 || (in->reg > 4 && in->reg != 8) ? -EILSEQ : 0;
	case 'D': set_reg(o, OPK_DR, in->reg, ENC_REG); return in->reg > 7 ? -EILSEQ : 0;
	default: return -EILSEQ;
	}
}

/* Operand in ModRM.rm: memory, or a register of the kind the letter says. */
static void rm_operand(struct dec *d, const struct dec_opnd *t, struct x86_operand *o)
{
	struct x86_insn *in = d->in;

	if (in->has_mem) {
		o->kind = OPK_MEM;
		o->enc = ENC_RM;
		if (o->size == 0 || (in->attr & IA_MEMHINT)) {
			o->access = o->size == 0 && !(in->attr & IA_MEMHINT) ? o->access : 0;
			o->size = 0;
		}
		return;
	}
	switch (t->letter) {
	case 'W':
	case 'U': set_reg(o, OPK_XMM, in->rm, ENC_RM); break;
	case 'Q':
	case 'N': set_reg(o, OPK_MMX, in->rm & 7u, ENC_RM); break;
	default: set_gpr(d, o, in->rm, ENC_RM); break;
	}
}

static void fixed_operand(struct dec *d, const struct dec_opnd *t, struct x86_operand *o)
{
	struct x86_insn *in = d->in;

	set_reg(o, (enum x86_opkind)t->kind, t->reg, ENC_IMPLICIT);
	o->high8 = t->high8;
	if (t->letter == 'i')
		set_reg(o, OPK_ST, in->modrm & 7u, ENC_RM);
	if (t->letter == '1')
		in->imm = 1;
	if (t->letter == 'm') {
		in->has_mem = true;
		in->base = t->reg;
	}
}

static int moffs_operand(struct dec *d, struct x86_operand *o)
{
	struct x86_insn *in = d->in;
	int r = displacement(d, in->addrsize);

	if (in->addrsize < 8)
		in->disp = (int64_t)((uint64_t)in->disp & (BIT(in->addrsize * 8) - 1));
	in->moffs = in->has_mem = true;
	o->kind = OPK_MEM;
	o->enc = ENC_IMM;
	return r;
}

static int operands(struct dec *d)
{
	struct x86_insn *in = d->in;
	bool have_imm = false;
	int r = 0;

	for (unsigned i = 0; i < d->row->nop && r == 0; i++) {
		const struct dec_opnd *t = &d->row->op[i];
		struct x86_operand *o = &in->op[i];

		o->access = t->access;
		o->size = size_of(d, t->type, in->has_mem);
		switch (t->letter) {
		case '.':
		case 'i':
		case 'm':
		case '1': fixed_operand(d, t, o); break;
		case 'E':
		case 'M':
		case 'Q':
		case 'W':
		case 'R':
		case 'U':
		case 'N': rm_operand(d, t, o); break;
		case 'O': r = moffs_operand(d, o); break;
		case 'L':
			r = need(d, 1);
			if (r == 0)
				set_reg(o, OPK_XMM,
					d->buf[d->pos] >> 4 & (d->mode == X86_MODE_64 ? 15u : 7u),
					ENC_IS4);
			if (r == 0)
				r = immediate(d, 1, &in->imm);
			break;
		case 'I':
		case 'J':
		case 'A':
			r = immediate_operand(d, t, o, have_imm);
			have_imm = true;
			break;
		default: r = reg_operand(d, t, o); break;
		}
	}
	in->nop = d->row->nop;
	return r;
}

/* What cannot be said in a row. */
static int check(const struct dec *d)
{
	const struct x86_insn *in = d->in;
	const struct x86_operand *o = in->op;

	if (in->lock && !((in->attr & IA_LOCKABLE) && o[0].kind == OPK_MEM))
		return -EILSEQ;
	if (in->vex && !d->row->vvvv && d->raw_vvvv != 0)
		return -EILSEQ;
	if ((in->attr & IA_VSIB) &&
	    (o[0].reg == in->index || o[2].reg == in->index || o[0].reg == o[2].reg))
		return -EILSEQ;
	return 0;
}

static bool is_port_io(uint16_t id)
{
	return id == X86_ID_IN || id == X86_ID_OUT || id == X86_ID_INS || id == X86_ID_OUTS;
}

static void finish(struct dec *d)
{
	struct x86_insn *in = d->in;
	uint8_t def = X86_DS;

	if (in->has_mem && (in->base == X86_RSP || in->base == X86_RBP))
		def = X86_SS;
	in->seg_override = d->seg != 0xff;
	in->seg = in->seg_override ? d->seg : def;
	in->rep_mandatory = !in->vex && d->row->pfx >= 2;
	if (d->row->byte_form)
		in->opsize = 1;
	else if (is_port_io(in->id))
		in->opsize = (uint8_t)MIN(in->opsize, 4);
	if ((in->attr & IA_STRING) && in->rep) {
		in->op[in->nop++] = (struct x86_operand){ .kind = OPK_GPR,
							  .reg = X86_RCX,
							  .size = in->addrsize,
							  .access = OPA_RW,
							  .enc = ENC_IMPLICIT };
	}
	in->len = (uint8_t)d->pos;
	memcpy(in->bytes, d->buf, d->pos);
}

int x86_decode(struct x86_insn *insn, enum x86_mode mode, const uint8_t *buf, unsigned n)
{
	struct dec d = { .in = insn, .buf = buf, .n = MIN(n, 15u), .mode = mode, .seg = 0xff };
	unsigned pfx;
	int r;

	dec_init();
	memset(insn, 0, sizeof *insn);
	insn->mode = (uint8_t)mode;
	insn->off_opcode = insn->off_modrm = insn->off_disp = insn->off_imm = 0xff;
	insn->base = insn->index = 0xff;
	if ((r = prefixes(&d)) != 0 || (r = opcode(&d, &pfx)) != 0 || (r = find_row(&d, pfx)) != 0)
		return r;
	sizes(&d);
	if (insn->has_modrm && (r = modrm(&d)) != 0)
		return r;
	if ((r = operands(&d)) != 0 || (r = check(&d)) != 0)
		return r;
	finish(&d);
	return insn->len;
}
