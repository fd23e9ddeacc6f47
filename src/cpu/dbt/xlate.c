/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds one block: decodes guest instructions from va on and emits host code for each, until a jump, a page end, or
 * an instruction that interp must execute. A block follows the fall-through side of conditional jumps and goes
 * on after calls, so hot straight paths are straight in the host as well.
 */
#include "cpu/dbt/xlate.h"

#include "base/log.h"
#include "base/stats.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MAX_INSNS 48u
/* Upper bound of host bytes for one guest instruction and its exits. */
#define INSN_ROOM 512u

struct dbt_options dbt_options = { .cache_size = 64 * MiB };
uint64_t dbt_planted_bug;

/* Instructions whose memory operand is implicit, or whose semantics go beyond their operands. */
static bool is_interp_only(const struct x86_insn *i)
{
	switch (i->id) {
	case X86_ID_XLAT:
	case X86_ID_MASKMOVQ:
	case X86_ID_MASKMOVDQU:
	case X86_ID_VMASKMOVDQU:
	case X86_ID_MOV_SEG:
	case X86_ID_PUSH_SEG:
	case X86_ID_POP_SEG:
	case X86_ID_LFS:
	case X86_ID_LGS:
	case X86_ID_LSS:
	case X86_ID_UD0:
	case X86_ID_UD1:
	case X86_ID_UD2:
	case X86_ID_RDFSBASE:
	case X86_ID_RDGSBASE:
	case X86_ID_WRFSBASE:
	case X86_ID_WRGSBASE:
	case X86_ID_RDPID:
	case X86_ID_VMCALL:
	case X86_ID_VMMCALL:
	case X86_ID_INT1:
	case X86_ID_INT3:
	case X86_ID_ENTER:
	case X86_ID_INVLPG:
	case X86_ID_MONITOR:
	case X86_ID_MWAIT:
	case X86_ID_XGETBV:
	case X86_ID_STD:
	case X86_ID_RSM: return true;
	default: return (i->attr & (IA_VSIB | IA_PAIR)) != 0;
	}
}

/* BT family with a register bit offset: the operand extends to both sides of the address. */
static bool is_bit_string(const struct x86_insn *i)
{
	return i->has_mem &&
	       (i->id == X86_ID_BT || i->id == X86_ID_BTS || i->id == X86_ID_BTR ||
		i->id == X86_ID_BTC) &&
	       i->op[1].kind == OPK_GPR;
}

static enum xlate_result bit_string(struct xlate *x)
{
	const struct x86_insn *i = &x->i;
	struct emit *e = &x->e;
	struct emit_subst s = { .mem = true, .reg = S2 };
	unsigned r;

	if (i->opsize < 4)
		return XLATE_STEP;
	xl_address(x);
	r = xl_read(x, i->op[1].reg, S1);
	if (i->opsize == 4) {
		emit_op_reg(e, true, 0, 0x63, S1, r); /* MOVSXD */
		r = S1;
	}
	emit_mov_imm(e, S2, i->opsize == 8 ? 6 : 5);
	/* SARX S1, r, S2 */
	emit_bytes(e,
		   (const uint8_t[]){ 0xc4, (uint8_t)(0x42 | (r < 8 ? 0x20 : 0)),
				      (uint8_t)(0x82 | (~S2 & 15) << 3), 0xf7,
				      (uint8_t)(0xc0 | (S1 & 7) << 3 | (r & 7)) },
		   5);
	emit_lea(e, S0,
		 (struct host_mem){ .base = S0, .index = S1, .scale = i->opsize == 8 ? 3 : 2 });
	xl_translate(x, i->opsize);
	s.m = XL_MEM;
	xl_get(x, S2, i->op[1].reg);
	emit_pext_mem(e, S2, S2, i->opsize == 8 ? TLS(mask_63) : TLS(mask_31));
	xl_commit(x);
	emit_guest(e, i, &s);
	return XLATE_NEXT;
}

/*
 * With --stats the retired instructions are counted by stretches without jumps: one addition each, whose amount is
 * known, and written, when the stretch ends.
 */
static void count_end(struct xlate *x)
{
	int32_t n = (int32_t)(x->b->ninsn - x->count_from);

	if (x->count_disp && !x->e.overflow)
		memcpy(x->count_disp, &n, 4);
	x->count_disp = NULL;
}

void xl_count_start(struct xlate *x)
{
	struct emit *e = &x->e;

	if (!dbt_options.count)
		return;
	count_end(x);
	emit_load(e, S1, TLS(retired));
	emit_op_mem(e, true, 0, 0x8d, S1, HM(S1, 0x7fffffff));
	x->count_disp = e->p - 4;
	x->count_from = x->b->ninsn;
	emit_store(e, TLS(retired), S1);
}

static bool unavailable(const struct xlate *x)
{
	uint32_t attr = x->i.attr;

	if (!x86_has(x->d->v->cpuid, x->i.row->feature))
		return true;
	if ((x->mode & DBT_MODE_NOFPU) && (attr & (IA_X87 | IA_MMX | IA_SSE | IA_VEX)))
		return true;
	return (x->mode & DBT_MODE_NOAVX) && (attr & IA_VEX);
}

static enum xlate_result translate_one(struct xlate *x)
{
	const struct x86_insn *i = &x->i;

	if (unavailable(x) || is_interp_only(i))
		return XLATE_STEP;
	if (i->id == X86_ID_PAUSE) {
		xl_commit(x);
		emit_bytes(&x->e, (const uint8_t[]){ 0xf3, 0x90 }, 2);
		return XLATE_NEXT;
	}
	/* STAC and CLAC raise #UD, not #GP, in user mode, hence are not privileged by attribute. */
	if ((i->attr & (IA_PRIV | IA_SENSITIVE | IA_FAR)) || i->id == X86_ID_STAC ||
	    i->id == X86_ID_CLAC)
		return xl_system(x);
	if (i->id == X86_ID_CLD) { /* clear already */
		xl_commit(x);
		return XLATE_NEXT;
	}
	if (i->attr & IA_BRANCH)
		return xl_flow(x);
	if (i->attr & IA_STRING)
		return xl_string(x);
	if (i->attr & IA_STACK)
		return xl_stack(x);
	return is_bit_string(i) ? bit_string(x) : xl_plain(x);
}

/*
 * What is left behind for good once a link is made, and what is hardly ever run, lies at the far end of code memory: hot
 * code stays dense.
 */
static uint8_t *emit_cold(struct xlate *x, uint64_t s0, const uint8_t *then)
{
	uint8_t *at = x->d->fc.cold -= DBT_COLD_BYTES;
	struct emit e = { at, at, at + DBT_COLD_BYTES, false };

	emit_mov_imm(&e, S0, s0);
	emit_jmp(&e, then);
	BUG_ON(e.overflow);
	return at;
}

/* A link's exit stub names the link, which needs the stub's address: it is always at the next cold place. */
static uint8_t *emit_link_stub(struct xlate *x, const struct xlate_pending *p)
{
	uint8_t *at = x->d->fc.cold - DBT_COLD_BYTES;

	return emit_cold(x, dbt_link_new(x->d, x->b, p->va, p->rel, at), x->d->stub_link);
}

/* Emits what the block's jumps out of line lead to. */
static void emit_pending(struct xlate *x)
{
	struct dbt *d = x->d;

	for (unsigned n = 0; n < x->npending && !x->e.overflow; n++) {
		struct xlate_pending *p = &x->pending[n];

		if (p->kind == XL_PEND_LINK && !xl_may_link(x, p->va)) {
			emit_patch32(p->rel, x->e.p);
			xl_across(x, p->va, false);
		} else if (p->kind == XL_PEND_LINK) {
			emit_patch32(p->rel, emit_link_stub(x, p));
		} else {
			emit_patch32(p->rel, emit_cold(x, p->va,
						       p->kind == XL_PEND_STEP ? d->stub_step
									       : d->stub_irq));
		}
	}
	/* Room for what divert_start() may have to put there. */
	while (x->e.p - x->b->host < DBT_COLD_BYTES)
		emit_u8(&x->e, 0xcc);
}

/*
 * Code bytes at x->va: a pointer into RAM, or, for an instruction that runs into the next page, a copy in buf. *n: how
 * many. Only the first instruction of a block may cross.
 */
static const uint8_t *code_bytes(struct xlate *x, uint8_t buf[15], unsigned *n)
{
	struct dbt_block *b = x->b;
	uint8_t *ram = mem_ram_host(x->d->v->mem);
	unsigned left = 4096 - (unsigned)(x->va & 4095);
	const uint8_t *p = ram + (b->ram_off & ~4095ull) + (x->va & 4095);

	*n = MIN(left, 15u);
	if (left >= 15 || b->ram_off2 == UINT64_MAX)
		return p;
	memcpy(buf, p, left);
	memcpy(buf + left, ram + b->ram_off2, 15 - left);
	*n = 15;
	return buf;
}

static void new_row(struct xlate *x)
{
	struct dbt_insn_map *m = &x->d->map[x->b->map + x->b->ninsn];

	*m = (struct dbt_insn_map){ .host_off = (uint16_t)(x->e.p - x->b->host),
				    .guest_off = (uint16_t)(x->va - x->b->va),
				    .flags = x->shadow ? DBT_MAP_SHADOW : 0 };
	m->commit = m->host_off;
	x->m = m;
}

/* Vector loads and stores of the unaligned kind tend to be what they are called. */
static enum dbt_fit operand_fit(const struct xlate *x)
{
	const struct x86_insn *i = &x->i;
	enum dbt_fit fit = dbt_site_fit(x->d, x->b->ram_off + (x->va - x->b->va));

	if (fit == DBT_FIT_ALIGNED && i->has_mem && (i->attr & (IA_SSE | IA_VEX)) &&
	    !(i->attr & IA_ALIGN) && i->op[0].size >= 16)
		return DBT_FIT_WITHIN;
	return fit;
}

/* RSP may be anything after it: all but pushes, pops, and adding or subtracting multiples of 8. */
static bool moves_rsp(const struct x86_insn *i)
{
	if ((i->attr & (IA_CALL | IA_RET)) || i->id == X86_ID_LEAVE)
		return true;
	for (unsigned k = 0; k < i->nop; k++)
		if (i->op[k].kind == OPK_GPR && i->op[k].reg == X86_RSP && !i->op[k].high8 &&
		    (i->op[k].access & OPA_W))
			return !((i->id == X86_ID_ADD || i->id == X86_ID_SUB) && i->opsize == 8 &&
				 i->op[1].kind == OPK_IMM && i->imm % 8 == 0);
	return false;
}

/* Decodes and emits one instruction; true: the block goes on. */
static bool build_one(struct xlate *x)
{
	uint8_t buf[15];
	unsigned n;
	const uint8_t *p = code_bytes(x, buf, &n);
	bool shadow = x->shadow;
	uint8_t *undo = x->e.p;
	unsigned npending = x->npending;
	enum xlate_result r;

	new_row(x);
	if (x86_decode(&x->i, X86_MODE_64, p, n) < 0) {
		if (x->b->ninsn == 0)
			return false;
		xl_exit_to(x, x->va);
		return false;
	}
	x->next = x->va + x->i.len;
	x->fit = operand_fit(x);
	x->stack_aligned = false;
	for (unsigned k = 0; k < x->i.nop; k++)
		if (x->i.op[k].kind == OPK_GPR && (x->i.op[k].access & OPA_W))
			x->written |= 1u << x->i.op[k].reg;
	r = translate_one(x);
	if (r == XLATE_STEP) {
		x->e.p = undo;
		x->npending = npending;
		if (x->b->ninsn)
			xl_exit_step(x);
		return false;
	}
	if (moves_rsp(&x->i))
		x->rsp_aligned = false;
	x->b->ninsn++;
	x->va = x->next;
	if (r == XLATE_NEXT && (x->i.attr & IA_BRANCH))
		xl_count_start(x);
	if (shadow && r == XLATE_NEXT) {
		x->shadow = false;
		xl_irq_check(x);
	}
	return r == XLATE_NEXT;
}

/* What becomes of the block when it is begun anew. */
static void start(struct xlate *x)
{
	x->va = x->b->va;
	x->e = (struct emit){ x->d->fc.next, x->d->fc.next, x->d->fc.rw + x->d->fc.size, false };
	x->b->ninsn = 0;
	x->b->nret = 0;
	x->npending = 0;
	x->shadow = false;
	x->count_disp = NULL;
}

static void build(struct xlate *x)
{
	gva_t end = (x->b->va | 4095) + 1;

	xl_count_start(x);
	while (build_one(x)) {
		if (dbt_options.no_chain && (x->i.attr & IA_BRANCH) && !x->shadow) {
			xl_exit_to(x, x->va);
			return;
		}
		if ((x->b->ninsn < MAX_INSNS || x->shadow) && x->va < end && end - 1 > x->b->va &&
		    x->b->ram_off2 == UINT64_MAX && x->npending + 12 < ARRAY_SIZE(x->pending) &&
		    x->e.p - x->b->host < 0x7000)
			continue;
		xl_exit_to(x, x->va);
		return;
	}
}

static bool room_left(const struct dbt *d)
{
	return d->fc.next + MAX_INSNS * INSN_ROOM + 4096 < d->fc.cold &&
	       d->nblock + 1 < DBT_MAX_BLOCKS && d->nlink + 2 * MAX_INSNS + 8 < DBT_MAX_LINKS &&
	       d->nmap + MAX_INSNS + 8 < DBT_MAX_MAPS &&
	       d->nret_site + MAX_INSNS + 8 < DBT_MAX_RET_SITES && d->nkcode + 4 < DBT_MAX_KCODE;
}

void dbt_block_dump(struct dbt *d, const struct dbt_block *b, bool guest, bool host)
{
	char text[96];
	const uint8_t *ram = mem_ram_host(d->v->mem) + b->ram_off;
	struct x86_insn i;

	fprintf(stderr, "block %#lx mode %x: %u instructions, %ld host bytes\n", b->va, b->mode,
		b->ninsn, (long)(b->host_end - b->host));
	for (unsigned n = 0; guest && n < b->ninsn; n++) {
		unsigned off = d->map[b->map + n].guest_off;

		if (x86_decode(&i, X86_MODE_64, ram + off, 15) > 0)
			fprintf(stderr, "  %#lx: %s\n", b->va + off,
				x86_disasm(text, sizeof(text), X86_MODE_64, i.bytes, i.len,
					   b->va + off));
	}
	for (const uint8_t *p = b->host; host && p < b->host_end;) {
		if (x86_decode(&i, X86_MODE_64, p, 15) < 0)
			break;
		fprintf(stderr, "      %p: %s\n", (const void *)p,
			x86_disasm(text, sizeof(text), X86_MODE_64, p, i.len, (uint64_t)p));
		p += i.len;
	}
}

static void finish(struct xlate *x, bool global)
{
	struct dbt *d = x->d;
	struct dbt_block *b = x->b;

	b->guest_len = (uint16_t)(x->va - b->va);
	b->host_end = x->e.p;
	d->fc.next = x->e.p;
	d->nblock++;
	d->nmap += b->ninsn;
	d->nret_site += b->nret;
	dbt_block_insert(d, b);
	if (!(b->mode & DBT_MODE_USER)) {
		dbt_kcode_add(d, b->va, b->ram_off >> 12, global);
		if (b->ram_off2 != UINT64_MAX)
			dbt_kcode_add(d, b->va + 4096, b->ram_off2 >> 12, global);
	}
	stat_inc(DBT_BLOCKS);
	stat_add(DBT_GUEST_INSNS, b->ninsn);
	stat_add(DBT_CODE_BYTES, b->host_end - b->host);
	if ((dbt_options.dump_guest || dbt_options.dump_host) &&
	    (!dbt_options.range_end ||
	     (b->va >= dbt_options.range_start && b->va < dbt_options.range_end)))
		dbt_block_dump(d, b, dbt_options.dump_guest, dbt_options.dump_host);
}

/* An instruction at the very end of the page: does it really cross? */
static bool crosses(struct dbt *d, gva_t va, uint64_t off)
{
	unsigned left = 4096 - (unsigned)(va & 4095);
	struct x86_insn i;

	return left < 15 &&
	       x86_decode(&i, X86_MODE_64, mem_ram_host(d->v->mem) + off, left) == -EAGAIN;
}

/* One instruction too many, on a register that the block leaves alone: whoever compares must notice. */
static void plant_bug(struct xlate *x)
{
	unsigned r = X86_R14;

	if (!dbt_planted_bug || --dbt_planted_bug)
		return;
	while (r > 0 && (r == X86_RSP || xl_home(r) == H_NONE || (x->written & 1u << r)))
		r--;
	if (x->written & 1u << r) {
		dbt_planted_bug = 1; /* the next one, then */
		return;
	}
	start(x);
	emit_lea(&x->e, xl_home(r), HM(xl_home(r), 1));
	build(x);
}

struct dbt_block *dbt_translate(struct dbt *d, gva_t va, uint32_t mode)
{
	struct xlate x = { .d = d, .va = va, .mode = mode };
	bool global = false, global2 = false;
	uint64_t off = dbt_fetch_off(d, va, 0, &global);

	if (off == UINT64_MAX)
		return NULL;
	if (!room_left(d))
		dbt_cache_flush(d);
	d->fc.next = d->fc.rw + ALIGN_UP((uint64_t)(d->fc.next - d->fc.rw), 16ull);
	x.b = &d->block[d->nblock];
	*x.b = (struct dbt_block){ .va = va,
				   .ram_off = off,
				   .ram_off2 = UINT64_MAX,
				   .mode = mode,
				   .map = d->nmap,
				   .ret_site = d->nret_site,
				   .host = d->fc.next };
	if (crosses(d, va, off)) {
		x.b->ram_off2 = dbt_fetch_off(d, (va | 4095) + 1, 0, &global2);
		if (x.b->ram_off2 == UINT64_MAX)
			return NULL;
		global &= global2;
	}
	start(&x);
	build(&x);
	if (x.b->ninsn == 0)
		return NULL;
	plant_bug(&x);
	count_end(&x);
	emit_pending(&x);
	BUG_ON(x.e.overflow);
	finish(&x, global);
	return x.b;
}
