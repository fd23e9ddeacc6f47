/* SPDX-License-Identifier: Apache-2.0 */
/* Host encoder. See emit.h; encodings: SDM vol. 2, chapter 2. */
#include "cpu/dbt/emit.h"

#include <string.h>

#include "base/base.h"

void emit_u8(struct emit *e, unsigned v)
{
	if (unlikely(e->p >= e->end)) {
		e->overflow = true;
		return;
	}
	*e->p++ = (uint8_t)v;
}

void emit_bytes(struct emit *e, const uint8_t *b, unsigned n)
{
	if (unlikely((size_t)(e->end - e->p) < n)) {
		e->overflow = true;
		return;
	}
	memcpy(e->p, b, n);
	e->p += n;
}

void emit_u32(struct emit *e, uint32_t v)
{
	emit_bytes(e, (const uint8_t *)&v, 4);
}

void emit_u64(struct emit *e, uint64_t v)
{
	emit_bytes(e, (const uint8_t *)&v, 8);
}

static void sib_no_base(struct emit *e, unsigned reg, struct host_mem m)
{
	unsigned index = m.index == H_NONE ? 4 : m.index & 7u;

	emit_u8(e, (reg & 7u) << 3 | 4);
	emit_u8(e, (unsigned)m.scale << 6 | index << 3 | 5);
	emit_u32(e, (uint32_t)m.disp);
}

void emit_modrm_mem(struct emit *e, unsigned reg, struct host_mem m)
{
	unsigned mod, base = m.base & 7u;
	bool sib = m.index != H_NONE || base == 4;

	if (m.base == H_NONE) {
		sib_no_base(e, reg, m);
		return;
	}
	if (m.disp == 0 && base != 5)
		mod = 0;
	else
		mod = m.disp == (int8_t)m.disp ? 1 : 2;
	emit_u8(e, mod << 6 | (reg & 7u) << 3 | (sib ? 4 : base));
	if (sib)
		emit_u8(e, (unsigned)m.scale << 6 | (m.index == H_NONE ? 4 : m.index & 7u) << 3 |
				   base);
	if (mod == 1)
		emit_u8(e, (uint8_t)m.disp);
	else if (mod == 2)
		emit_u32(e, (uint32_t)m.disp);
}

static unsigned rex_x(struct host_mem m)
{
	return m.index != H_NONE && m.index >= 8 ? 2u : 0;
}

static unsigned rex_b(struct host_mem m)
{
	return m.base != H_NONE && m.base >= 8 ? 1u : 0;
}

static void rex(struct emit *e, bool w, unsigned reg, unsigned xb)
{
	unsigned r = (w ? 8u : 0) | (reg >= 8 ? 4u : 0) | xb;

	if (r)
		emit_u8(e, 0x40 | r);
}

void emit_op_mem(struct emit *e, bool w, unsigned map, unsigned op, unsigned reg, struct host_mem m)
{
	if (m.seg)
		emit_u8(e, m.seg);
	rex(e, w, reg, rex_x(m) | rex_b(m));
	if (map)
		emit_u8(e, 0x0f);
	emit_u8(e, op);
	emit_modrm_mem(e, reg, m);
}

void emit_op_reg(struct emit *e, bool w, unsigned map, unsigned op, unsigned reg, unsigned rm)
{
	rex(e, w, reg, rm >= 8 ? 1u : 0);
	if (map)
		emit_u8(e, 0x0f);
	emit_u8(e, op);
	emit_u8(e, 0xc0 | (reg & 7u) << 3 | (rm & 7u));
}

void emit_mov_rr(struct emit *e, unsigned dst, unsigned src)
{
	if (dst != src)
		emit_op_reg(e, true, 0, 0x8b, dst, src);
}

void emit_mov_rr32(struct emit *e, unsigned dst, unsigned src)
{
	emit_op_reg(e, false, 0, 0x8b, dst, src);
}

void emit_load(struct emit *e, unsigned dst, struct host_mem m)
{
	emit_op_mem(e, true, 0, 0x8b, dst, m);
}

void emit_store(struct emit *e, struct host_mem m, unsigned src)
{
	emit_op_mem(e, true, 0, 0x89, src, m);
}

void emit_load32(struct emit *e, unsigned dst, struct host_mem m)
{
	emit_op_mem(e, false, 0, 0x8b, dst, m);
}

void emit_store32(struct emit *e, struct host_mem m, unsigned src)
{
	emit_op_mem(e, false, 0, 0x89, src, m);
}

void emit_load8(struct emit *e, unsigned dst, struct host_mem m)
{
	emit_op_mem(e, false, 1, 0xb6, dst, m);
}

void emit_store_imm8(struct emit *e, struct host_mem m, unsigned v)
{
	emit_op_mem(e, false, 0, 0xc6, 0, m);
	emit_u8(e, v);
}

void emit_store_imm32(struct emit *e, struct host_mem m, int32_t v)
{
	emit_op_mem(e, true, 0, 0xc7, 0, m);
	emit_u32(e, (uint32_t)v);
}

void emit_mov_imm(struct emit *e, unsigned dst, uint64_t v)
{
	if (v == (uint32_t)v) {
		rex(e, false, 0, dst >= 8 ? 1u : 0);
		emit_u8(e, 0xb8 | (dst & 7u));
		emit_u32(e, (uint32_t)v);
	} else if ((int64_t)v == (int32_t)v) {
		emit_op_reg(e, true, 0, 0xc7, 0, dst);
		emit_u32(e, (uint32_t)v);
	} else {
		rex(e, true, 0, dst >= 8 ? 1u : 0);
		emit_u8(e, 0xb8 | (dst & 7u));
		emit_u64(e, v);
	}
}

void emit_lea(struct emit *e, unsigned dst, struct host_mem m)
{
	if (m.base != H_NONE && m.index == H_NONE && m.disp == 0)
		emit_mov_rr(e, dst, m.base);
	else
		emit_op_mem(e, true, 0, 0x8d, dst, m);
}

void emit_lea32(struct emit *e, unsigned dst, struct host_mem m)
{
	emit_op_mem(e, false, 0, 0x8d, dst, m);
}

/* VEX.LZ.pp.0F38.W1 op dst, src(vvvv), mem */
static void vex_0f38_mem(struct emit *e, unsigned pp, unsigned op, unsigned dst, unsigned src,
			 struct host_mem m)
{
	unsigned b1 = 2;

	if (m.seg)
		emit_u8(e, m.seg);
	b1 |= dst < 8 ? 0x80u : 0;
	b1 |= rex_x(m) ? 0 : 0x40u;
	b1 |= rex_b(m) ? 0 : 0x20u;
	emit_u8(e, 0xc4);
	emit_u8(e, b1);
	emit_u8(e, 0x80 | (~src & 15u) << 3 | pp);
	emit_u8(e, op);
	emit_modrm_mem(e, dst, m);
}

void emit_pext_mem(struct emit *e, unsigned dst, unsigned src, struct host_mem mask)
{
	vex_0f38_mem(e, 2, 0xf5, dst, src, mask);
}

void emit_pdep_mem(struct emit *e, unsigned dst, unsigned src, struct host_mem mask)
{
	vex_0f38_mem(e, 3, 0xf5, dst, src, mask);
}

void emit_rorx(struct emit *e, unsigned dst, unsigned src, unsigned n)
{
	emit_u8(e, 0xc4);
	emit_u8(e, 3u | (dst < 8 ? 0x80u : 0) | 0x40u | (src < 8 ? 0x20u : 0));
	emit_u8(e, 0xfb);
	emit_u8(e, 0xf0);
	emit_u8(e, 0xc0 | (dst & 7u) << 3 | (src & 7u));
	emit_u8(e, n);
}

uint8_t *emit_jmp_fwd(struct emit *e)
{
	emit_u8(e, 0xe9);
	emit_u32(e, 0);
	return e->p - 4;
}

uint8_t *emit_call_fwd(struct emit *e)
{
	emit_u8(e, 0xe8);
	emit_u32(e, 0);
	return e->p - 4;
}

uint8_t *emit_jcc_fwd(struct emit *e, unsigned cc)
{
	emit_u8(e, 0x0f);
	emit_u8(e, 0x80 | cc);
	emit_u32(e, 0);
	return e->p - 4;
}

uint8_t *emit_jrcxz_fwd(struct emit *e)
{
	emit_u8(e, 0xe3);
	emit_u8(e, 0);
	return e->p - 1;
}

void emit_patch32(uint8_t *rel, const uint8_t *target)
{
	int32_t d = (int32_t)(target - (rel + 4));

	memcpy(rel, &d, 4);
}

void emit_patch8(struct emit *e, uint8_t *rel, const uint8_t *target)
{
	if (!e->overflow)
		*rel = (uint8_t)(int8_t)(target - (rel + 1));
}

void emit_jmp(struct emit *e, const uint8_t *target)
{
	uint8_t *rel = emit_jmp_fwd(e);

	if (!e->overflow)
		emit_patch32(rel, target);
}

void emit_call(struct emit *e, const uint8_t *target)
{
	uint8_t *rel = emit_call_fwd(e);

	if (!e->overflow)
		emit_patch32(rel, target);
}

void emit_jcc(struct emit *e, unsigned cc, const uint8_t *target)
{
	uint8_t *rel = emit_jcc_fwd(e, cc);

	if (!e->overflow)
		emit_patch32(rel, target);
}

void emit_jmp_mem(struct emit *e, struct host_mem m)
{
	emit_op_mem(e, false, 0, 0xff, 4, m);
}

void emit_call_mem(struct emit *e, struct host_mem m)
{
	emit_op_mem(e, false, 0, 0xff, 2, m);
}

static void guest_vex(struct emit *e, const struct x86_insn *i, const struct emit_subst *s,
		      unsigned reg)
{
	unsigned pp = i->bytes[i->off_opcode - 1] & 3u;
	unsigned x = s->mem ? rex_x(s->m) : 0;
	unsigned b = s->mem ? rex_b(s->m) : (s->rm >= 8 ? 1u : 0);

	emit_u8(e, 0xc4);
	emit_u8(e, i->map | (reg < 8 ? 0x80u : 0) | (x ? 0 : 0x40u) | (b ? 0 : 0x20u));
	emit_u8(e, (i->vex_w ? 0x80u : 0) | (~(unsigned)s->vvvv & 15u) << 3 | (i->vex_l ? 4u : 0) |
			   pp);
	emit_u8(e, i->opcode);
}

static void guest_legacy(struct emit *e, const struct x86_insn *i, const struct emit_subst *s,
			 unsigned reg)
{
	unsigned r = i->rex & 8u;

	if (i->osz)
		emit_u8(e, 0x66);
	if (i->rep && i->rep_mandatory)
		emit_u8(e, i->rep == REP_REPE ? 0xf3 : 0xf2);
	if (i->lock)
		emit_u8(e, 0xf0);
	if (i->has_modrm) {
		r |= reg >= 8 ? 4u : 0;
		r |= s->mem ? rex_x(s->m) | rex_b(s->m) : (s->rm >= 8 ? 1u : 0);
	} else {
		r |= reg >= 8 ? 1u : 0;
	}
	/* A REX prefix, even an empty one, is what makes 4..7 mean SPL BPL SIL DIL. */
	if (r || i->rex)
		emit_u8(e, 0x40 | r);
	if (i->map)
		emit_u8(e, 0x0f);
	if (i->map == 2)
		emit_u8(e, 0x38);
	if (i->map == 3)
		emit_u8(e, 0x3a);
}

void emit_guest(struct emit *e, const struct x86_insn *i, const struct emit_subst *s)
{
	if (i->vex)
		guest_vex(e, i, s, s->reg);
	else
		guest_legacy(e, i, s, s->reg);
	if (!i->vex)
		emit_u8(e, i->has_modrm ? i->opcode : (i->opcode & ~7u) | (s->reg & 7u));
	if (i->has_modrm) {
		if (s->mem)
			emit_modrm_mem(e, s->reg, s->m);
		else
			emit_u8(e, 0xc0 | (s->reg & 7u) << 3 | (s->rm & 7u));
	}
	if (i->len_imm)
		emit_bytes(e, i->bytes + i->off_imm, i->len_imm);
}
