/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Privileged and sensitive instructions that kernels execute often, done inside generated code; all others are
 * interp's. Code is translated per privilege, so no check of CPL is left at run time.
 */
#include "cpu/dbt/xlate.h"

static int32_t gs_base(void)
{
	return (int32_t)(offsetof(struct dbt_tls, st.seg) + X86_GS * sizeof(struct x86_seg) +
			 offsetof(struct x86_seg, base));
}

void xl_store_imm(struct xlate *x, struct host_mem m, uint32_t v)
{
	emit_op_mem(&x->e, false, 0, 0xc7, 0, m);
	emit_u32(&x->e, v);
}

static enum xlate_result sti(struct xlate *x)
{
	xl_commit(x);
	xl_store_imm(x, TLS(vif), X86_FL_IF);
	x->shadow = true;
	return XLATE_NEXT;
}

static enum xlate_result cli(struct xlate *x)
{
	xl_commit(x);
	xl_store_imm(x, TLS(vif), 0);
	return XLATE_NEXT;
}

/* AC is bit 2 of sysflags' third byte, alone there; it selects the table. */
static enum xlate_result set_ac(struct xlate *x, bool ac)
{
	struct host_mem byte = TLS(sysflags);

	byte.disp += 2;
	xl_commit(x);
	emit_store_imm8(&x->e, byte, ac ? 4 : 0);
	if (x->mode & DBT_MODE_SMAP) {
		emit_load(&x->e, S0, ac ? TLS(gs_sup_ac) : TLS(gs_sup));
		emit_u8(&x->e, 0xf3);
		emit_op_reg(&x->e, true, 1, 0xae, 3, S0); /* WRGSBASE */
	}
	return XLATE_NEXT;
}

static enum xlate_result swapgs(struct xlate *x)
{
	struct host_mem gs = HFS(dbt_fs_offset + gs_base());

	xl_commit(x);
	emit_load(&x->e, S0, gs);
	emit_load(&x->e, S1, TLS(st.kernel_gs_base));
	emit_store(&x->e, gs, S1);
	emit_store(&x->e, TLS(st.kernel_gs_base), S0);
	return XLATE_NEXT;
}

/* EDX:EAX := host counter + offset; RDTSCP also loads ECX. */
static enum xlate_result rdtsc(struct xlate *x, bool p)
{
	struct emit *e = &x->e;

	if (((x->mode & DBT_MODE_TSD) && (x->mode & DBT_MODE_USER)) || dbt_options.lockstep)
		return XLATE_STEP;
	xl_commit(x);
	if (p)
		emit_bytes(e, (const uint8_t[]){ 0x0f, 0x01, 0xf9 }, 3);
	else
		emit_bytes(e, (const uint8_t[]){ 0x0f, 0x31 }, 2);
	emit_rorx(e, S0, H_RDX, 32);
	emit_lea(e, S0, HMX(S0, H_RAX));
	emit_load(e, S1, TLS(st.tsc_offset));
	emit_lea(e, S0, HMX(S0, S1));
	emit_mov_rr32(e, H_RAX, S0);
	emit_rorx(e, H_RDX, S0, 32);
	emit_mov_rr32(e, H_RDX, H_RDX);
	if (p)
		emit_load32(e, H_RCX, TLS(st.tsc_aux));
	return XLATE_NEXT;
}

static enum xlate_result mov_from_cr(struct xlate *x)
{
	const struct x86_insn *i = &x->i;
	struct host_mem m;

	if (i->op[0].kind != OPK_GPR)
		return XLATE_STEP;
	switch (i->op[1].reg) {
	case 0: m = TLS(st.cr0); break;
	case 2: m = TLS(st.cr2); break;
	case 3: m = TLS(st.cr3); break;
	case 4: m = TLS(st.cr4); break;
	default: return XLATE_STEP;
	}
	xl_commit(x);
	emit_load(&x->e, S0, m);
	xl_put(x, i->op[0].reg, S0);
	return XLATE_NEXT;
}

enum xlate_result xl_system(struct xlate *x)
{
	if (x->i.id == X86_ID_RDTSC || x->i.id == X86_ID_RDTSCP)
		return rdtsc(x, x->i.id == X86_ID_RDTSCP);
	if (x->i.id == X86_ID_PUSHF || x->i.id == X86_ID_POPF)
		return xl_stack(x);
	if (x->mode & DBT_MODE_USER)
		return XLATE_STEP;
	switch (x->i.id) {
	case X86_ID_STI: return sti(x);
	case X86_ID_CLI: return cli(x);
	case X86_ID_STAC: return set_ac(x, true);
	case X86_ID_CLAC: return set_ac(x, false);
	case X86_ID_SWAPGS: return swapgs(x);
	case X86_ID_MOV_CR: return mov_from_cr(x);
	default: return XLATE_STEP;
	}
}
