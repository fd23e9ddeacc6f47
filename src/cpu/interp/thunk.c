/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building and caching of native thunks: see thunk.h. Encodings: SDM vol. 2, chapter 2 and appendix B.
 * Owned by the vCPU's thread; no locks.
 */
#include "cpu/interp/thunk.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CODE_SIZE (1u << 20)
#define CODE_SLACK 768u /* more than any one thunk takes */

/* Field of the scratch block as generated code addresses it: RDI points at buf. */
#define BLK(field)                                                                                 \
	((uint8_t)(offsetof(struct thunk_block, field) - offsetof(struct thunk_block, buf)))

struct emit {
	uint8_t *p;
};

static void put8(struct emit *e, unsigned b)
{
	*e->p++ = (uint8_t)b;
}

static void put32(struct emit *e, uint32_t val)
{
	memcpy(e->p, &val, 4);
	e->p += 4;
}

static void put(struct emit *e, const void *bytes, size_t n)
{
	memcpy(e->p, bytes, n);
	e->p += n;
}

#define PUT(e, ...)                                                                                \
	put(e, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static uint8_t modrm(unsigned mod, unsigned reg, unsigned rm)
{
	return (uint8_t)(mod << 6 | (reg & 7) << 3 | (rm & 7));
}

/* ---- normalised encoding ---- */

static const struct x86_operand *operand_at(const struct x86_insn *i, unsigned enc)
{
	for (unsigned k = 0; k < i->nop; k++)
		if (i->op[k].enc == enc && i->op[k].kind != OPK_IMM && i->op[k].kind != OPK_MEM)
			return &i->op[k];
	return NULL;
}

/* Register number to encode for a ModRM field: vector registers stay, a general register is RAX. */
static unsigned field_reg(const struct x86_insn *i, unsigned enc, unsigned raw)
{
	const struct x86_operand *o = operand_at(i, enc);
	if (!o)
		return raw;
	if (o->kind == OPK_GPR)
		return X86_RAX;
	if (o->kind == OPK_XMM)
		return o->reg;
	return o->reg & 7;
}

/* W of these selects the size of a general register and is ignored outside 64-bit mode. */
static bool w_is_gpr_size(const struct x86_insn *i)
{
	if (i->map == 1)
		return i->opcode == 0x2a || i->opcode == 0x2c || i->opcode == 0x2d ||
		       i->opcode == 0x6e || i->opcode == 0x7e;
	return i->map == 3 && (i->opcode == 0x16 || i->opcode == 0x22);
}

/* Non-temporal stores become plain ones: the same bytes, without a slow trip of our buffer to memory. */
static uint8_t plain_opcode(const struct x86_insn *i)
{
	if (i->map != 1 || !i->has_mem || i->rep != REP_NONE)
		return i->opcode;
	if (i->opcode == 0x2b)
		return 0x29;
	return i->opcode == 0xe7 ? 0x7f : i->opcode;
}

static void encode_vex(struct emit *e, const struct x86_insn *i, unsigned reg, unsigned rm)
{
	unsigned pp = i->bytes[i->off_opcode - 1] & 3u;
	unsigned vvvv = i->mode == X86_MODE_64 ? i->vex_vvvv : i->vex_vvvv & 7u;
	unsigned w = i->mode != X86_MODE_64 && w_is_gpr_size(i) ? 0 : i->vex_w;
	put8(e, 0xc4);
	put8(e, (reg < 8 ? 0x80u : 0) | 0x40u | (rm < 8 ? 0x20u : 0) | i->map);
	put8(e, w << 7 | (~vvvv & 15u) << 3 | (unsigned)i->vex_l << 2 | pp);
}

static void encode_legacy(struct emit *e, const struct x86_insn *i, unsigned reg, unsigned rm)
{
	unsigned rex = (i->rex & 8u) | (reg >= 8 ? 4u : 0) | (rm >= 8 ? 1u : 0);
	for (unsigned k = 0; k < i->off_opcode; k++) {
		uint8_t b = i->bytes[k];
		if (b == 0x0f)
			break;
		if (b == 0x66 || b == 0xf2 || b == 0xf3)
			put8(e, b);
	}
	if (rex)
		put8(e, 0x40 | rex);
	put8(e, 0x0f);
	if (i->map == 2)
		put8(e, 0x38);
	if (i->map == 3)
		put8(e, 0x3a);
}

static bool is_x87(const struct x86_insn *i)
{
	return i->map == 0 && i->opcode >= 0xd8 && i->opcode <= 0xdf;
}

static void encode_imm(struct emit *e, const struct x86_insn *i)
{
	if (!i->len_imm)
		return;
	unsigned imm_len = MIN(i->len_imm, 2u);
	put(e, i->bytes + i->off_imm, imm_len);
	/* Bit 7 of a register immediate is ignored outside 64-bit mode. */
	if (i->mode != X86_MODE_64 && operand_at(i, ENC_IS4))
		e->p[-1] &= 0x7f;
}

static void encode_insn(struct thunk_plan *p, const struct x86_insn *i)
{
	struct emit e = { p->insn };
	bool mem = p->mem_op != THUNK_NO_OP;
	unsigned reg = field_reg(i, ENC_REG, (i->modrm >> 3) & 7u);
	unsigned rm = mem ? (unsigned)X86_RDI : field_reg(i, ENC_RM, i->modrm & 7u);

	if (is_x87(i)) {
		if ((p->flags & TP_ENV) && i->opsize == 2)
			put8(&e, 0x66);
	} else if (i->vex) {
		encode_vex(&e, i, reg, rm);
	} else {
		encode_legacy(&e, i, reg, rm);
	}
	put8(&e, plain_opcode(i));
	if (i->has_modrm)
		put8(&e, modrm(mem ? 0 : 3, reg, rm));
	encode_imm(&e, i);
	p->len = (uint8_t)(e.p - p->insn);
}

/* ---- plan ---- */

/* x87 control instructions and those that do not wait (SDM vol. 1, 8.1.8 and 8.6). */
static void plan_x87(struct thunk_plan *p, const struct x86_insn *i)
{
	unsigned reg = (i->modrm >> 3) & 7u;
	unsigned op = i->opcode;
	bool wide = i->opsize != 2;

	p->flags |= TP_FX | TP_PTRS;
	if (i->has_mem) {
		if (op == 0xd9 && (reg == 4 || reg == 6)) { /* FLDENV, FNSTENV */
			p->mem_size = wide ? 28 : 14;
			p->flags |= TP_ENV;
		} else if (op == 0xdd && (reg == 4 || reg == 6)) { /* FRSTOR, FNSAVE */
			p->mem_size = wide ? 108 : 94;
			p->flags |= TP_ENV;
		}
		if ((op == 0xd9 && reg >= 6) || (op == 0xdd && reg >= 6))
			p->flags |= TP_NOWAIT;
		if ((op == 0xd9 && reg >= 4) || (p->flags & (TP_ENV | TP_NOWAIT)))
			p->flags &= (uint16_t)~TP_PTRS;
		if (p->flags & TP_ENV)
			p->mem_access = reg == 4 ? OPA_R : OPA_W;
	} else if ((op == 0xdb && reg == 4) || (op == 0xdf && i->modrm == 0xe0)) {
		p->flags |= TP_NOWAIT; /* FNCLEX, FNINIT and the like; FNSTSW AX */
		p->flags &= (uint16_t)~TP_PTRS;
	}
}

/* Operands that the encoding implies without naming them. */
static void plan_implicit(struct thunk_plan *p, const struct x86_insn *i)
{
	bool p66 = i->vex ? (i->bytes[i->off_opcode - 1] & 3u) == 1 : i->osz;

	/* With a memory source these do not touch MMX state (SDM vol. 2, CVTPI2PD). */
	if ((i->id == X86_ID_CVTPI2PS || i->id == X86_ID_CVTPI2PD) && i->has_mem)
		p->flags |= TP_NOWAIT;
	if (i->map == 3 && i->opcode >= 0x60 && i->opcode <= 0x63 && p66) {
		p->flags |= TP_STRCMP | TP_FLAGS;
		if (!(i->opcode & 1)) {
			p->vec_load |= 1;
			p->vec_store |= 1;
		}
	}
	if (i->map == 2 && !i->vex)
		switch (i->opcode) {
		case 0x10:
		case 0x14:
		case 0x15:
		case 0xcb: /* blends by XMM0, SHA256RNDS2 */ p->vec_load |= 1;
		}
}

static int plan_operand(struct thunk_plan *p, const struct x86_insn *i, unsigned k)
{
	const struct x86_operand *o = &i->op[k];
	switch (o->kind) {
	case OPK_XMM:
		p->vec_load |= (uint16_t)(1u << (o->reg & 15));
		if (o->access & OPA_W)
			p->vec_store |= (uint16_t)(1u << (o->reg & 15));
		break;
	case OPK_MMX:
	case OPK_ST: p->flags |= TP_FX; break;
	case OPK_MEM:
		p->mem_op = (uint8_t)k;
		p->mem_size = o->size;
		p->mem_access = o->access;
		break;
	case OPK_GPR:
		if (p->flags & TP_STRCMP)
			break;
		if (o->high8 || (o->enc == ENC_IMPLICIT && o->reg != X86_RAX))
			return -EINVAL;
		p->gpr_op = (uint8_t)k;
		if (o->access & OPA_R)
			p->flags |= TP_GPR_R;
		if (o->access & OPA_W)
			p->flags |= TP_GPR_W;
		break;
	default: break;
	}
	return 0;
}

static int plan_make(struct thunk_plan *p, const struct x86_insn *i)
{
	memset(p, 0, sizeof(*p));
	p->mem_op = p->gpr_op = THUNK_NO_OP;
	if (i->map == 0 && !is_x87(i))
		return -EINVAL;
	if (i->vex)
		p->flags |= TP_VEX;
	if (i->attr & (IA_X87 | IA_MMX))
		p->flags |= TP_FX;
	if (i->attr & IA_XM)
		p->flags |= TP_XM;
	if (i->row->fl_read | i->row->fl_write)
		p->flags |= TP_FLAGS;
	plan_implicit(p, i);
	for (unsigned k = 0; k < i->nop; k++)
		if (plan_operand(p, i, k))
			return -EINVAL;
	if (is_x87(i))
		plan_x87(p, i);
	if (p->mem_op != THUNK_NO_OP &&
	    (!p->mem_size || p->mem_size > sizeof(((struct thunk_block *)0)->buf)))
		return -EINVAL;
	encode_insn(p, i);
	return 0;
}

/* ---- code ---- */

/* [RSI + disp32] forms that move one vector register between the image and the host. */
static void emit_xmm(struct emit *e, unsigned opcode, unsigned reg, bool vex)
{
	if (vex)
		PUT(e, 0xc5, (uint8_t)(reg < 8 ? 0xf8 : 0x78));
	else if (reg >= 8)
		PUT(e, 0x44, 0x0f);
	else
		put8(e, 0x0f);
	put8(e, opcode);
	put8(e, modrm(2, reg, X86_RSI));
	put32(e, XS_XMM + 16 * reg);
}

static void emit_ymmh(struct emit *e, bool load, unsigned reg)
{
	unsigned vvvv = load ? ~reg & 15u : 15u;
	PUT(e, 0xc4, (uint8_t)(reg < 8 ? 0xe3 : 0x63), (uint8_t)(vvvv << 3 | 5),
	    load ? 0x18 : 0x19);
	put8(e, modrm(2, reg, X86_RSI));
	put32(e, XS_YMMH + 16 * reg);
	put8(e, 1);
}

static void emit_vec(struct emit *e, unsigned mask, bool load, bool vex)
{
	for (unsigned r = 0; r < 16; r++) {
		if (!(mask & 1u << r))
			continue;
		emit_xmm(e, load ? 0x10 : 0x11, r, vex);
		if (vex)
			emit_ymmh(e, load, r);
	}
}

static void emit_in(struct emit *e, const struct thunk_plan *p)
{
	if (p->flags & TP_FX)
		PUT(e, 0x48, 0x0f, 0xae, 0x0e); /* fxrstor64 [rsi] */
	else if (p->flags & TP_XM)
		PUT(e, 0x0f, 0xae, 0x57, BLK(mxcsr_in)); /* ldmxcsr */
	if (!(p->flags & TP_FX))
		emit_vec(e, p->vec_load, true, p->flags & TP_VEX);
	if (p->flags & (TP_GPR_R | TP_GPR_W | TP_STRCMP))
		PUT(e, 0x48, 0x8b, 0x47, BLK(rax));
	if (p->flags & TP_STRCMP)
		PUT(e, 0x48, 0x8b, 0x57, BLK(rdx), 0x48, 0x8b, 0x4f, BLK(rcx));
	if (p->flags & TP_FLAGS)
		PUT(e, 0xff, 0x77, BLK(flags), 0x9d); /* push; popfq */
}

static void emit_out(struct emit *e, const struct thunk_plan *p)
{
	if (p->flags & TP_FLAGS)
		PUT(e, 0x9c, 0x8f, 0x47, BLK(flags)); /* pushfq; pop */
	if (p->flags & TP_GPR_W)
		PUT(e, 0x48, 0x89, 0x47, BLK(rax));
	if (p->flags & TP_STRCMP)
		PUT(e, 0x48, 0x89, 0x4f, BLK(rcx));
	if (p->flags & TP_FX) {
		/* fxsave64 [rsi]; fninit; ldmxcsr: neither of the first two waits */
		PUT(e, 0x48, 0x0f, 0xae, 0x06, 0xdb, 0xe3);
		PUT(e, 0x0f, 0xae, 0x57, BLK(mxcsr_host));
	} else {
		emit_vec(e, p->vec_store, false, p->flags & TP_VEX);
		if (p->flags & TP_XM)
			PUT(e, 0x0f, 0xae, 0x5f, BLK(mxcsr_out), 0x0f, 0xae, 0x57, BLK(mxcsr_host));
	}
	if (p->flags & TP_VEX)
		PUT(e, 0xc5, 0xf8, 0x77); /* vzeroupper */
	put8(e, 0xc3);
}

/* The bytes were written at another address than they are executed at: serialise (SDM vol. 3, 8.1.3). */
static void serialise(void)
{
	unsigned a, b, c, d;
	__cpuid(0, a, b, c, d);
	(void)(a + b + c + d);
}

static thunk_fn build(struct vec_unit *u, const struct thunk_plan *p)
{
	struct emit e = { u->rw + u->used };
	uintptr_t entry = (uintptr_t)u->rx + u->used;
	emit_in(&e, p);
	put(&e, p->insn, p->len);
	emit_out(&e, p);
	u->used = ALIGN_UP((unsigned)(e.p - u->rw), 16u);
	serialise();
	return (thunk_fn)entry;
}

/* ---- cache ---- */

static void flush(struct vec_unit *u)
{
	memset(u->l1, 0, sizeof(u->l1));
	memset(u->bucket, 0, sizeof(u->bucket));
	u->count = 0;
	u->used = u->used_fixed;
}

static unsigned plan_hash(const struct thunk_plan *p)
{
	uint64_t w[sizeof(*p) / 8], h = 0;
	memcpy(w, p, sizeof(w));
	for (unsigned k = 0; k < ARRAY_SIZE(w); k++)
		h = (h ^ w[k]) * 0x9e3779b97f4a7c15ull;
	return (unsigned)(h >> 40) % THUNK_BUCKETS;
}

static const struct thunk *thunk_of_plan(struct vec_unit *u, const struct thunk_plan *p)
{
	unsigned h = plan_hash(p);
	for (struct thunk *t = u->bucket[h]; t; t = t->next)
		if (!memcmp(&t->plan, p, sizeof(*p)))
			return t;
	if (u->count == THUNK_MAX || u->used + CODE_SLACK > CODE_SIZE)
		flush(u);
	struct thunk *t = &u->pool[u->count++];
	t->plan = *p;
	t->special = NULL;
	t->code = build(u, p);
	t->next = u->bucket[h];
	u->bucket[h] = t;
	return t;
}

static const struct thunk *thunk_slow(struct vec_unit *u, const struct x86_insn *i)
{
	const struct thunk *t = vec_special(i);
	struct thunk_plan p;
	if (!(i->attr & (IA_X87 | IA_MMX | IA_SSE | IA_VEX | IA_PAIR)))
		return NULL;
	if (t)
		return t;
	if (plan_make(&p, i) || ((p.flags & TP_VEX) && !u->avx))
		return NULL;
	return thunk_of_plan(u, &p);
}

const struct thunk *thunk_get(struct vec_unit *u, const struct x86_insn *i)
{
	uint64_t k[2] = { 0, 0 };
	memcpy(k, i->bytes, sizeof(i->bytes));
	if (i->len < 8) {
		k[0] &= (1ull << (8 * i->len)) - 1;
		k[1] = 0;
	} else {
		k[1] &= (1ull << (8 * (i->len - 8))) - 1;
	}
	k[1] |= (uint64_t)(i->len | (unsigned)i->mode << 4) << 56;
	uint64_t h = (k[0] ^ k[1] * 0x9e3779b97f4a7c15ull) * 0xd6e8feb86659fd93ull;
	struct thunk_l1 *l = &u->l1[(h >> 32) % THUNK_L1];
	if (likely(l->k0 == k[0] && l->k1 == k[1]))
		return l->t;
	const struct thunk *t = thunk_slow(u, i);
	if (t)
		*l = (struct thunk_l1){ k[0], k[1], t };
	return t;
}

/* ---- host properties, set-up ---- */

static void probe_host(struct vec_unit *u)
{
	static const uint16_t unmask_none = 0x37f;
	uint8_t img[512] __attribute__((aligned(64)));
	uint64_t fip;
	double one = 1.0;

	memset(img, 0, sizeof(img));
	__asm__ volatile("fninit; fldcw %2; fldl %1; fstpl %1; fxsave64 %0; fninit"
			 : "+m"(img), "+m"(one)
			 : "m"(unmask_none));
	memcpy(&fip, img + XS_FIP, 8);
	u->ptrs_only_es = fip == 0;
	memcpy(&u->mxcsr_mask, img + XS_MXCSR_MASK, 4);
	if (!u->mxcsr_mask)
		u->mxcsr_mask = 0xffbf;
	u->sha_unaligned = __builtin_cpu_is("amd");
	u->avx = __builtin_cpu_supports("avx");
	u->xmask = X86_XCR0_X87 | X86_XCR0_SSE | (u->avx ? X86_XCR0_AVX : 0);
}

static int map_code(struct vec_unit *u)
{
	int ret = 0;
	int fd = memfd_create("ring3-thunks", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, CODE_SIZE) < 0) {
		ret = -errno;
		goto out_fd;
	}
	u->rw = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	u->rx = mmap(NULL, CODE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	if (u->rw == MAP_FAILED || u->rx == MAP_FAILED)
		ret = -errno;
out_fd:
	close(fd);
	return ret;
}

int thunk_open(struct vec_unit *u)
{
	u->rw = u->rx = MAP_FAILED;
	probe_host(u);
	u->blk.mxcsr_host = MXCSR_DEFAULT;
	int ret = map_code(u);
	if (ret) {
		thunk_close(u);
		return ret;
	}
	struct thunk_plan empty = { .flags = TP_FX };
	u->fx_roundtrip = build(u, &empty);
	u->used_fixed = u->used;
	return 0;
}

void thunk_close(struct vec_unit *u)
{
	if (u->rw != MAP_FAILED)
		munmap(u->rw, CODE_SIZE);
	if (u->rx != MAP_FAILED)
		munmap(u->rx, CODE_SIZE);
	u->rw = u->rx = MAP_FAILED;
}
