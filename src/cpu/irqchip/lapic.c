/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Local APIC: registers by MMIO and by x2APIC MSRs, priorities, EOI, IA32_APIC_BASE.
 * SDM vol. 3, chapter "Advanced Programmable Interrupt Controller (APIC)".
 *
 * Everything here runs on the vCPU's own thread; what other threads do is in lapic_msg.c.
 */
#include <stdlib.h>

#include "base/log.h"
#include "cpu/irqchip/irqchip_priv.h"

/* Version 0x14, six LVT entries, EOI broadcast can be suppressed. */
#define LAPIC_VERSION_VALUE (0x14u | (LVT_COUNT - 1) << 16 | 1u << 24)
#define SVR_WRITABLE (0xffu | LAPIC_SVR_ENABLE | 1u << 9 | LAPIC_SVR_NO_EOI_BROADCAST)
#define REG_RANGE(first, n) ((BIT(n) - 1) << (first))
#define LVT_REGS REG_RANGE(LAPIC_LVT, LVT_COUNT)

/* Which registers there are in each mode. */
static const uint64_t x2_readable =
	BIT(LAPIC_ID) | BIT(LAPIC_VERSION) | BIT(LAPIC_TPR) | BIT(LAPIC_PPR) | BIT(LAPIC_LDR) |
	BIT(LAPIC_SVR) | REG_RANGE(LAPIC_ISR, 24) | BIT(LAPIC_ESR) | BIT(LAPIC_ICR_LO) | LVT_REGS |
	BIT(LAPIC_TIMER_INIT) | BIT(LAPIC_TIMER_CUR) | BIT(LAPIC_TIMER_DIV);
static const uint64_t x2_writable =
	BIT(LAPIC_TPR) | BIT(LAPIC_EOI) | BIT(LAPIC_SVR) | BIT(LAPIC_ESR) | BIT(LAPIC_ICR_LO) |
	LVT_REGS | BIT(LAPIC_TIMER_INIT) | BIT(LAPIC_TIMER_DIV) | BIT(LAPIC_SELF_IPI);
static const uint64_t x1_only_readable =
	BIT(LAPIC_APR) | BIT(LAPIC_EOI) | BIT(LAPIC_RRD) | BIT(LAPIC_DFR) | BIT(LAPIC_ICR_HI);
static const uint64_t x1_only_writable = BIT(LAPIC_LDR) | BIT(LAPIC_DFR) | BIT(LAPIC_ICR_HI) |
					 BIT(LAPIC_ID); /* written, but without effect */

/* Bits of each LVT entry software may set, and those it may only read. */
static const uint32_t lvt_writable[LVT_COUNT] = {
	[LVT_TIMER] = 0x700ff, [LVT_THERMAL] = 0x107ff, [LVT_PERF] = 0x107ff,
	[LVT_LINT0] = 0x1a7ff, [LVT_LINT1] = 0x1a7ff,	[LVT_ERROR] = 0x100ff,
};
#define LVT_READ_ONLY (1u << 12 | 1u << 14)

static int highest(const uint64_t set[4])
{
	for (int i = 3; i >= 0; i--) {
		if (set[i] != 0)
			return 64 * i + 63 - __builtin_clzll(set[i]);
	}
	return -1;
}

static int highest_irr(const struct lapic *l)
{
	for (int i = 3; i >= 0; i--) {
		const uint64_t w = atomic_load_explicit(&l->irr[i], memory_order_acquire);

		if (w != 0)
			return 64 * i + 63 - __builtin_clzll(w);
	}
	return -1;
}

static uint32_t ppr(const struct lapic *l)
{
	const int isrv = highest(l->isr);
	const uint32_t class = isrv < 0 ? 0 : (uint32_t)isrv & 0xf0;

	return (l->tpr & 0xf0) >= class ? l->tpr : class;
}

int lapic_pending(const struct lapic *l)
{
	const int vec = highest_irr(l);

	if (vec < 0 || !lapic_on(l) || ((uint32_t)vec & 0xf0) <= (ppr(l) & 0xf0))
		return -1;
	return vec;
}

void lapic_recheck(struct lapic *l)
{
	if (lapic_pending(l) >= 0 || (atomic_load(&l->chip->pic_intr) && lapic_takes_extint(l)))
		vcpu_irq_hint(l->v);
}

static void reset_registers(struct lapic *l)
{
	lapic_timer_stop(l);
	for (unsigned i = 0; i < 4; i++) {
		atomic_store(&l->irr[i], 0);
		atomic_store(&l->tmr[i], 0);
		l->isr[i] = 0;
	}
	for (unsigned i = 0; i < LVT_COUNT; i++)
		atomic_store(&l->lvt[i], LVT_MASKED);
	atomic_store(&l->svr, 0xff);
	atomic_store(&l->dfr, UINT32_MAX);
	if (!lapic_x2(l))
		atomic_store(&l->ldr, 0);
	atomic_store(&l->esr_new, 0);
	l->tpr = l->esr = l->icr_lo = l->icr_hi = l->timer_init = l->timer_div = 0;
}

static void set_base(struct lapic *l, uint64_t base)
{
	atomic_store(&l->base, base);
	l->v->s->apic_base = base;
}

void lapic_reset(struct lapic *l, bool init)
{
	const uint64_t bsp = l->v->index == 0 ? APIC_BASE_BSP : 0;

	atomic_store(&l->init_wanted, false);
	if (!init)
		set_base(l, LAPIC_MMIO_BASE | APIC_BASE_EN | bsp);
	reset_registers(l);
}

struct lapic *lapic_new(struct irqchip *c, struct vcpu *v)
{
	struct lapic *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return NULL;
	l->chip = c;
	l->v = v;
	l->id = v->apic_id;
	lapic_reset(l, false);
	return l;
}

void lapic_free(struct lapic *l)
{
	if (l->timer.attached)
		timer_delete(l->timer.id);
	free(l);
}

struct lapic *lapic_own(struct vcpu *v)
{
	struct lapic *l = v->lapic;

	if (unlikely(atomic_load_explicit(&l->init_wanted, memory_order_relaxed)))
		lapic_reset(l, true);
	return l;
}

static void eoi(struct lapic *l)
{
	const int vec = highest(l->isr);
	uint64_t bit;

	if (vec < 0)
		return;
	bit = BIT(vec & 63);
	l->isr[vec >> 6] &= ~bit;
	if ((atomic_load(&l->tmr[vec >> 6]) & bit) &&
	    !(atomic_load(&l->svr) & LAPIC_SVR_NO_EOI_BROADCAST))
		ioapic_eoi(l->chip, (unsigned)vec);
	lapic_recheck(l);
}

static void set_tpr(struct lapic *l, uint32_t tpr)
{
	const bool lower = tpr < l->tpr;

	l->tpr = tpr;
	if (lower)
		lapic_recheck(l);
}

static void write_svr(struct lapic *l, uint32_t val)
{
	atomic_store(&l->svr, val & SVR_WRITABLE);
	if (!(val & LAPIC_SVR_ENABLE)) {
		for (unsigned i = 0; i < LVT_COUNT; i++)
			atomic_fetch_or(&l->lvt[i], LVT_MASKED);
	}
}

static void write_lvt(struct lapic *l, enum lapic_lvt which, uint32_t val)
{
	const uint32_t old = atomic_load(&l->lvt[which]);

	val &= lvt_writable[which];
	if (!(atomic_load(&l->svr) & LAPIC_SVR_ENABLE))
		val |= LVT_MASKED;
	atomic_store(&l->lvt[which], val);
	if (which == LVT_TIMER)
		lapic_timer_lvt_changed(l, old);
	else if (which == LVT_LINT0)
		lapic_recheck(l);
}

static uint32_t word_of(uint64_t w, unsigned reg)
{
	return (uint32_t)(w >> (reg & 1 ? 32 : 0));
}

/* The register's value; its existence in the present mode was checked. */
static uint32_t reg_read(struct lapic *l, unsigned reg)
{
	const unsigned i = (reg & 7) >> 1;

	switch (reg) {
	case LAPIC_ID: return lapic_x2(l) ? l->id : l->id << 24;
	case LAPIC_VERSION: return LAPIC_VERSION_VALUE;
	case LAPIC_TPR: return l->tpr;
	case LAPIC_PPR: return ppr(l);
	case LAPIC_LDR: return atomic_load(&l->ldr);
	case LAPIC_DFR: return atomic_load(&l->dfr);
	case LAPIC_SVR: return atomic_load(&l->svr);
	case LAPIC_ISR ... LAPIC_ISR + 7: return word_of(l->isr[i], reg);
	case LAPIC_TMR ... LAPIC_TMR + 7: return word_of(atomic_load(&l->tmr[i]), reg);
	case LAPIC_IRR ... LAPIC_IRR + 7:
		lapic_timer_poll(l); /* nothing else looks while interrupts are off */
		return word_of(atomic_load(&l->irr[i]), reg);
	case LAPIC_ESR: return l->esr;
	case LAPIC_ICR_LO: return l->icr_lo;
	case LAPIC_ICR_HI: return l->icr_hi;
	case LAPIC_LVT ... LAPIC_LVT + LVT_COUNT - 1: return atomic_load(&l->lvt[reg - LAPIC_LVT]);
	case LAPIC_TIMER_INIT: return l->timer_init;
	case LAPIC_TIMER_CUR: return lapic_timer_current(l);
	case LAPIC_TIMER_DIV: return l->timer_div;
	default: return 0;
	}
}

static void reg_write(struct lapic *l, unsigned reg, uint32_t val)
{
	switch (reg) {
	case LAPIC_TPR: set_tpr(l, val & 0xff); break;
	case LAPIC_EOI: eoi(l); break;
	case LAPIC_LDR: atomic_store(&l->ldr, val & 0xff000000u); break;
	case LAPIC_DFR: atomic_store(&l->dfr, val | 0x0fffffffu); break;
	case LAPIC_SVR: write_svr(l, val); break;
	case LAPIC_ESR: l->esr = atomic_exchange(&l->esr_new, 0); break;
	case LAPIC_ICR_LO:
		l->icr_lo = val & 0xccfffu;
		lapic_send(l);
		break;
	case LAPIC_ICR_HI: l->icr_hi = val & 0xff000000u; break;
	case LAPIC_LVT ... LAPIC_LVT + LVT_COUNT - 1:
		write_lvt(l, (enum lapic_lvt)(reg - LAPIC_LVT), val);
		break;
	case LAPIC_TIMER_INIT: lapic_timer_start(l, val); break;
	case LAPIC_TIMER_DIV: lapic_timer_set_divider(l, val & 0xb); break;
	default: break;
	}
}

/* ---- xAPIC: the memory-mapped page ---- */

static struct lapic *mmio_lapic(void)
{
	struct lapic *l;

	if (vcpu_self == NULL || vcpu_self->lapic == NULL)
		return NULL;
	l = lapic_own(vcpu_self);
	if (!lapic_on(l) || lapic_x2(l) || (atomic_load(&l->base) & ~0xfffull) != LAPIC_MMIO_BASE)
		return NULL;
	return l;
}

static uint64_t mmio_read(void *opaque, uint64_t off, unsigned size)
{
	struct lapic *l = mmio_lapic();
	const unsigned reg = (unsigned)off >> 4;
	uint64_t val;

	(void)opaque;
	(void)size;
	if (l == NULL)
		return UINT64_MAX;
	if (reg > LAPIC_SELF_IPI || !((x2_readable | x1_only_readable) & BIT(reg))) {
		lapic_error(l, LAPIC_ESR_REGISTER);
		return 0;
	}
	if ((off & 15) >= 4)
		return 0;
	val = reg_read(l, reg);
	return val >> (8 * (off & 3));
}

static void mmio_write(void *opaque, uint64_t off, uint64_t val, unsigned size)
{
	struct lapic *l = mmio_lapic();
	const unsigned reg = (unsigned)off >> 4;

	(void)opaque;
	if (l == NULL || (off & 15) != 0 || size < 4)
		return; /* registers are written as aligned doublewords */
	if (reg >= LAPIC_SELF_IPI || !((x2_writable | x1_only_writable) & BIT(reg)))
		lapic_error(l, LAPIC_ESR_REGISTER);
	else
		reg_write(l, reg, (uint32_t)val);
}

const struct mem_io_ops lapic_mmio_ops = { .read = mmio_read, .write = mmio_write };

/* ---- x2APIC: MSRs ---- */

/* Reserved bits of a register in x2APIC mode, where setting one is #GP. */
static uint32_t x2_reserved(unsigned reg)
{
	switch (reg) {
	case LAPIC_TPR:
	case LAPIC_SELF_IPI: return ~0xffu;
	case LAPIC_EOI:
	case LAPIC_ESR: return ~0u;
	case LAPIC_SVR: return ~SVR_WRITABLE;
	case LAPIC_ICR_LO: return 0xfff32000u;
	case LAPIC_LVT ... LAPIC_LVT + LVT_COUNT - 1:
		return ~(lvt_writable[reg - LAPIC_LVT] | LVT_READ_ONLY);
	case LAPIC_TIMER_DIV: return ~0xbu;
	default: return 0;
	}
}

static int x2_write(struct lapic *l, unsigned reg, uint64_t val)
{
	if (reg > LAPIC_SELF_IPI || !(x2_writable & BIT(reg)) || ((uint32_t)val & x2_reserved(reg)))
		return -1;
	if (reg == LAPIC_ICR_LO)
		l->icr_hi = (uint32_t)(val >> 32);
	else if (val >> 32)
		return -1;
	if (reg == LAPIC_SELF_IPI)
		lapic_send_self(l, (unsigned)val);
	else
		reg_write(l, reg, (uint32_t)val);
	return 0;
}

static int x2_read(struct lapic *l, unsigned reg, uint64_t *val)
{
	if (reg > LAPIC_SELF_IPI || !(x2_readable & BIT(reg)))
		return -1;
	*val = reg_read(l, reg);
	if (reg == LAPIC_ICR_LO)
		*val |= (uint64_t)l->icr_hi << 32;
	return 0;
}

/* Mode changes allowed by SDM figure "Local x2APIC State Transitions". */
static int write_base(struct lapic *l, uint64_t val)
{
	const uint64_t mode = val & (APIC_BASE_EN | APIC_BASE_EXTD);
	const uint64_t was = atomic_load(&l->base) & (APIC_BASE_EN | APIC_BASE_EXTD);

	/* Bits 0-7 and 9, and what lies above 52 physical address bits, are reserved. */
	if ((val & 0x2ff) || val >> 52 || mode == APIC_BASE_EXTD)
		return -1;
	if (was == (APIC_BASE_EN | APIC_BASE_EXTD) && mode == APIC_BASE_EN)
		return -1;
	if (was == 0 && mode == (APIC_BASE_EN | APIC_BASE_EXTD))
		return -1;
	if ((val & ~0xfffull) != LAPIC_MMIO_BASE)
		log_guest("local APIC %u moved to %#llx: no longer reachable by memory", l->id,
			  (unsigned long long)(val & ~0xfffull));
	set_base(l, val);
	if (mode == 0 && was != 0)
		reset_registers(l);
	if (mode != was && (mode & APIC_BASE_EXTD))
		atomic_store(&l->ldr, (l->id >> 4) << 16 | 1u << (l->id & 15));
	lapic_recheck(l);
	return 0;
}

int irqchip_apic_rdmsr(void *opaque, struct vcpu *v, uint32_t msr, uint64_t *val)
{
	struct lapic *l = lapic_own(v);

	(void)opaque;
	if (msr == MSR_APIC_BASE) {
		*val = atomic_load(&l->base);
		return 0;
	}
	if (msr == MSR_TSC_DEADLINE) {
		*val = lapic_timer_get_tsc(l);
		return 0;
	}
	if (msr < MSR_X2APIC_FIRST || !lapic_on(l) || !lapic_x2(l))
		return -1;
	return x2_read(l, msr - MSR_X2APIC_FIRST, val);
}

int irqchip_apic_wrmsr(void *opaque, struct vcpu *v, uint32_t msr, uint64_t val)
{
	struct lapic *l = lapic_own(v);

	(void)opaque;
	if (msr == MSR_TSC_DEADLINE) {
		lapic_timer_set_tsc(l, val);
		return 0;
	}
	if (msr == MSR_APIC_BASE)
		return write_base(l, val);
	if (msr < MSR_X2APIC_FIRST || !lapic_on(l) || !lapic_x2(l))
		return -1;
	return x2_write(l, msr - MSR_X2APIC_FIRST, val);
}

uint64_t irqchip_get_tpr(void *opaque, struct vcpu *v)
{
	(void)opaque;
	return lapic_own(v)->tpr >> 4;
}

void irqchip_set_tpr(void *opaque, struct vcpu *v, uint64_t cr8)
{
	(void)opaque;
	set_tpr(lapic_own(v), (uint32_t)(cr8 & 15) << 4);
}
