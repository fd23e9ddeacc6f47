/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IN, OUT, INS, OUTS with IOPL and the I/O permission bitmap (SDM vol. 1, 19.5). Repeats stop
 * between iterations when an event waits. Owner thread only.
 */
#include "base/stats.h"
#include "cpu/interp/sys_priv.h"

/* ---- permission ---- */

static int bitmap_allows(struct vcpu *v, unsigned port, unsigned size)
{
	const struct x86_seg *tr = &v->s->tr;
	uint16_t base = 0, bits = 0;
	unsigned at;

	if (!(tr->attr & X86_SEG_P) || !(X86_SEG_TYPE(tr->attr) & 8) || tr->limit < 0x67)
		return interp_gp0(v);
	if (interp_lin_read(v, tr->base + 0x66, &base, 2, X86_ACC_R | X86_ACC_IMPLICIT) < 0)
		return -1;
	at = base + port / 8;
	if (at + 1 > tr->limit)
		return interp_gp0(v);
	if (interp_lin_read(v, tr->base + at, &bits, 2, X86_ACC_R | X86_ACC_IMPLICIT) < 0)
		return -1;
	if (((unsigned)bits >> (port & 7)) & ((1u << size) - 1))
		return interp_gp0(v);
	return 0;
}

static int io_allowed(struct vcpu *v, unsigned port, unsigned size)
{
	const struct x86_state *s = v->s;

	if (sys_real(s) || (s->cpl <= sys_iopl(s) && !sys_vm86(s)))
		return 0;
	return bitmap_allows(v, port, size);
}

/* ---- single transfers ---- */

static uint32_t port_in(struct vcpu *v, unsigned port, unsigned size)
{
	stat_inc(EXIT_PIO);
	return v->io->pio_read(v->io->opaque, (uint16_t)port, size);
}

static void port_out(struct vcpu *v, unsigned port, unsigned size, uint64_t val)
{
	stat_inc(EXIT_PIO);
	v->io->pio_write(v->io->opaque, (uint16_t)port, (uint32_t)val, size);
}

/* Bytes moved: the byte forms, or two or four. */
static unsigned width(const struct x86_insn *i, unsigned byte_opcode)
{
	if ((i->opcode & ~8u) == byte_opcode)
		return 1;
	return i->opsize == 2 ? 2 : 4;
}

static unsigned port_of(const struct vcpu *v, const struct x86_insn *i)
{
	return i->opcode & 8 ? (unsigned)(v->s->gpr[X86_RDX] & 0xffff) : (unsigned)(i->imm & 0xff);
}

SYS_HANDLER(exec_in)
{
	const unsigned size = width(i, 0xe4), port = port_of(v, i);

	if (io_allowed(v, port, size) < 0)
		return -1;
	interp_set_gpr(v->s, X86_RAX, false, size, port_in(v, port, size));
	return 0;
}

SYS_HANDLER(exec_out)
{
	const unsigned size = width(i, 0xe6), port = port_of(v, i);

	if (io_allowed(v, port, size) < 0)
		return -1;
	port_out(v, port, size, interp_get_gpr(v->s, X86_RAX, false, size));
	return 0;
}

/* ---- strings ---- */

static uint64_t addr_mask(const struct x86_insn *i)
{
	return i->addrsize == 8 ? ~0ull : i->addrsize == 4 ? 0xffffffffull : 0xffffull;
}

static void advance(struct vcpu *v, const struct x86_insn *i, unsigned reg, unsigned size)
{
	struct x86_state *s = v->s;
	const uint64_t step = s->rflags & X86_FL_DF ? 0 - (uint64_t)size : size;

	interp_set_gpr(s, reg, false, i->addrsize, s->gpr[reg] + step);
}

static int ins_one(struct vcpu *v, const struct x86_insn *i, unsigned port, unsigned size)
{
	gva_t lin;

	if (interp_linear(v, X86_ES, v->s->gpr[X86_RDI] & addr_mask(i), size, X86_ACC_W, &lin) < 0)
		return -1;
	/* the destination must take the datum before the port gives it away */
	if (interp_direct(v, lin, 1, X86_ACC_W) == NULL && interp_of(v)->fault.pending)
		return -1;
	if (interp_direct(v, lin + size - 1, 1, X86_ACC_W) == NULL && interp_of(v)->fault.pending)
		return -1;
	if (interp_store(v, lin, size, port_in(v, port, size)) < 0)
		return -1;
	advance(v, i, X86_RDI, size);
	return 0;
}

static int outs_one(struct vcpu *v, const struct x86_insn *i, unsigned port, unsigned size)
{
	uint64_t val;
	gva_t lin;

	if (interp_linear(v, i->seg, v->s->gpr[X86_RSI] & addr_mask(i), size, X86_ACC_R, &lin) <
		    0 ||
	    interp_load(v, lin, size, &val) < 0)
		return -1;
	port_out(v, port, size, val);
	advance(v, i, X86_RSI, size);
	return 0;
}

static bool event_waits(struct vcpu *v)
{
	if (atomic_load_explicit(&v->kick_pending, memory_order_relaxed))
		return true;
	return atomic_load_explicit(&v->irq_hint, memory_order_relaxed) &&
	       (v->s->rflags & X86_FL_IF);
}

static int io_string(struct vcpu *v, const struct x86_insn *i,
		     int (*one)(struct vcpu *, const struct x86_insn *, unsigned, unsigned),
		     unsigned byte_opcode)
{
	struct x86_state *s = v->s;
	const unsigned size = i->opcode == byte_opcode ? 1 : i->opsize == 2 ? 2 : 4;
	const unsigned port = (unsigned)(s->gpr[X86_RDX] & 0xffff);

	if (io_allowed(v, port, size) < 0)
		return -1;
	if (i->rep == REP_NONE)
		return one(v, i, port, size);
	while (interp_get_gpr(s, X86_RCX, false, i->addrsize) != 0) {
		if (one(v, i, port, size) < 0)
			return -1;
		interp_set_gpr(s, X86_RCX, false, i->addrsize, s->gpr[X86_RCX] - 1);
		if (event_waits(v) && interp_get_gpr(s, X86_RCX, false, i->addrsize) != 0) {
			interp_of(v)->interrupted = true;
			interp_of(v)->next_rip = s->rip;
			return 0;
		}
	}
	return 0;
}

SYS_HANDLER(exec_ins)
{
	return io_string(v, i, ins_one, 0x6c);
}

SYS_HANDLER(exec_outs)
{
	return io_string(v, i, outs_one, 0x6e);
}
