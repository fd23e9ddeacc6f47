/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest registers, effective addresses and the translation of an access. All of it leaves the guest's flags
 * alone, so it needs no liveness analysis and a fault at any point finds them as the guest left them.
 */
#include "cpu/dbt/xlate.h"

unsigned xl_read(struct xlate *x, unsigned g, unsigned scratch)
{
	unsigned h = xl_home(g);

	if (h != H_NONE)
		return h;
	emit_load(&x->e, scratch, TLS_GPR(g));
	return scratch;
}

void xl_get(struct xlate *x, unsigned dst, unsigned g)
{
	unsigned h = xl_home(g);

	if (h == H_NONE)
		emit_load(&x->e, dst, TLS_GPR(g));
	else
		emit_mov_rr(&x->e, dst, h);
}

void xl_put(struct xlate *x, unsigned g, unsigned src)
{
	unsigned h = xl_home(g);

	if (h == H_NONE)
		emit_store(&x->e, TLS_GPR(g), src);
	else
		emit_mov_rr(&x->e, h, src);
}

static int32_t seg_base_offset(unsigned seg)
{
	return (int32_t)(offsetof(struct dbt_tls, st.seg) + seg * sizeof(struct x86_seg) +
			 offsetof(struct x86_seg, base));
}

/* S0 := base + index << scale + disp, 64 or 32 bits wide. */
static void offset_part(struct xlate *x)
{
	const struct x86_insn *i = &x->i;
	struct host_mem m = {
		.base = H_NONE, .index = H_NONE, .scale = i->scale, .disp = (int32_t)i->disp
	};

	if (i->rip_rel || i->moffs || (i->base == 0xff && i->index == 0xff)) {
		uint64_t a = (uint64_t)i->disp + (i->rip_rel ? x->next : 0);

		emit_mov_imm(&x->e, S0, i->addrsize == 4 ? (uint32_t)a : a);
		return;
	}
	if (i->base != 0xff)
		m.base = (uint8_t)xl_read(x, i->base, S0);
	if (i->index != 0xff)
		m.index = (uint8_t)xl_read(x, i->index, S1);
	if (i->addrsize == 4)
		emit_lea32(&x->e, S0, m);
	else
		emit_lea(&x->e, S0, m);
}

void xl_address(struct xlate *x)
{
	x->base = S0;
	offset_part(x);
	if (x->i.seg == X86_FS || x->i.seg == X86_GS) {
		emit_load(&x->e, S1, HFS(dbt_fs_offset + seg_base_offset(x->i.seg)));
		emit_lea(&x->e, S0, HMX(S0, S1));
	}
}

/* S2 := 1 when the last of `size` bytes at ea is in the next page, else 0, deposited by `mask`. */
static void crossing(struct xlate *x, unsigned size, unsigned ea, struct host_mem mask)
{
	struct emit *e = &x->e;

	emit_pext_mem(e, S2, ea, TLS(mask_offset));
	emit_lea(e, S2, HM(S2, (int32_t)size - 1));
	emit_rorx(e, S2, S2, 12);
	emit_pdep_mem(e, S2, S2, mask);
}

/*
 * Leaves for interp when the access crosses; a branch that looks at no flags: a jump to one of two places eight bytes
 * apart. S1 and S2 are lost.
 */
static void test_crossing(struct xlate *x, unsigned size, unsigned ea)
{
	static const uint8_t lea_s1_rip[] = { 0x4c, 0x8d, 0x15, 7, 0, 0, 0 };
	static const uint8_t jmp_s1[] = { 0x41, 0xff, 0xe2 };
	static const uint8_t over[8] = { 0xeb, 11, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90 };
	struct emit *e = &x->e;

	crossing(x, size, ea, TLS(mask_one));
	emit_bytes(e, lea_s1_rip, sizeof(lea_s1_rip)); /* S1 := address of `over` */
	emit_lea(e, S1, (struct host_mem){ .base = S1, .index = S2, .scale = 3 });
	emit_bytes(e, jmp_s1, sizeof(jmp_s1));
	emit_bytes(e, over, sizeof(over));
	xl_pend(x, emit_jmp_fwd(e), x->va, XL_PEND_STEP);
}

/*
 * S2 := misfit << 40 for an access of `size` bytes at ea. Most accesses are aligned: then their low address bits, which
 * one PDEP moves into place, are zero. Instructions that proved otherwise look whether the last byte is in the next page.
 */
static void misfit(struct xlate *x, unsigned size, unsigned ea)
{
	if ((size & (size - 1)) == 0 && size <= 32 && x->fit == DBT_FIT_ALIGNED) {
		emit_pdep_mem(&x->e, S2, ea, TLS(mask_misfit[__builtin_ctz(size)]));
		x->m->flags |= DBT_MAP_ALIGNED;
	} else {
		crossing(x, size, ea, TLS(mask_misfit[0]));
	}
}

/* x->base holds the address; sum: the register that takes the misfit, S0 (being x->base) or S1. */
static void translate(struct xlate *x, unsigned size, unsigned sum)
{
	struct emit *e = &x->e;
	bool stack = x->stack_aligned, known = size == 1 || (stack && x->rsp_aligned);
	bool add = !known && x->fit != DBT_FIT_TESTED;

	x->stack_aligned = false;
	if (!known && !add)
		test_crossing(x, size, x->base);
	emit_pext_mem(e, S1, x->base, TLS(mask_page));
	if (add)
		misfit(x, size, x->base);
	emit_load(e, S1, (struct host_mem){ .seg = 0x65, .base = H_NONE, .index = S1, .scale = 3 });
	if (add)
		emit_lea(e, sum, HMX(sum, S2));
	if (add && stack && size == 8 && x->fit == DBT_FIT_ALIGNED)
		x->rsp_aligned = true;
}

void xl_translate(struct xlate *x, unsigned size)
{
	x->base = S0;
	translate(x, size, S0);
}

/* [rsp + disp] whose distance from RSP keeps the alignment that `size` asks for; 8 bytes at a multiple of 8 also show RSP's. */
static bool follows_rsp(const struct x86_insn *i, unsigned size)
{
	return i->base == X86_RSP && i->index == 0xff && i->addrsize == 8 && i->seg != X86_FS &&
	       i->seg != X86_GS && size <= 8 && (size & (size - 1)) == 0 &&
	       i->disp % (int64_t)size == 0;
}

void xl_operand(struct xlate *x, unsigned size)
{
	const struct x86_insn *i = &x->i;

	x->stack_aligned = follows_rsp(i, size);

	if (i->addrsize != 8 || i->base == 0xff || i->index != 0xff || i->disp != 0 || i->rip_rel ||
	    i->seg == X86_FS || i->seg == X86_GS || xl_home(i->base) == H_NONE) {
		xl_address(x);
		xl_translate(x, size);
		return;
	}
	x->base = xl_home(i->base);
	translate(x, size, S1);
}

void xl_commit(struct xlate *x)
{
	x->m->commit = (uint16_t)(x->e.p - x->b->host);
}
