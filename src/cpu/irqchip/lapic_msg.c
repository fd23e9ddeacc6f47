/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt messages: who is addressed, and what a message does to a local APIC. SDM vol. 3, sections
 * "Determining IPI Destination", "Local Vector Table", "Error Handling".
 *
 * Any thread; no lock. A message sets TMR, then IRR, then the vCPU's hint.
 */
#include "cpu/irqchip/irqchip_priv.h"

static void set_irr(struct lapic *l, unsigned vec, bool level)
{
	const uint64_t bit = BIT(vec & 63);

	if (level)
		atomic_fetch_or(&l->tmr[vec >> 6], bit);
	else if (atomic_load_explicit(&l->tmr[vec >> 6], memory_order_relaxed) & bit)
		atomic_fetch_and(&l->tmr[vec >> 6], ~bit);
	atomic_fetch_or(&l->irr[vec >> 6], bit);
	vcpu_irq_hint(l->v);
}

void lapic_error(struct lapic *l, uint32_t bits)
{
	const uint32_t lvt = atomic_load(&l->lvt[LVT_ERROR]);

	atomic_fetch_or(&l->esr_new, bits);
	if (!(lvt & LVT_MASKED) && (lvt & 0xff) >= 16)
		set_irr(l, lvt & 0xff, false);
}

static void accept_fixed(struct lapic *l, unsigned vec, bool level)
{
	if (!(atomic_load(&l->svr) & LAPIC_SVR_ENABLE))
		return;
	if (vec < 16)
		lapic_error(l, LAPIC_ESR_RECV_VECTOR);
	else
		set_irr(l, vec, level);
}

static void accept_nmi(struct lapic *l)
{
	__atomic_store_n(&l->v->s->nmi_pending, 1, __ATOMIC_RELEASE);
	vcpu_irq_hint(l->v);
}

static void accept_init(struct lapic *l)
{
	atomic_store(&l->init_wanted, true);
	atomic_store(&l->v->sipi_pending, 0);
	atomic_store(&l->v->init_pending, 1);
	vcpu_irq_hint(l->v);
}

static void accept(struct lapic *l, unsigned mode, unsigned vec, bool level)
{
	switch (mode) {
	case APIC_FIXED:
	case APIC_LOWEST: accept_fixed(l, vec, level); break;
	case APIC_NMI: accept_nmi(l); break;
	case APIC_INIT: accept_init(l); break;
	case APIC_SIPI:
		atomic_store(&l->v->sipi_pending, 0x100u | vec);
		vcpu_irq_hint(l->v);
		break;
	default:
		break; /* SMI: there is no system management mode. ExtINT: see lapic_takes_extint */
	}
}

bool lapic_local(struct lapic *l, enum lapic_lvt which)
{
	const uint32_t lvt = atomic_load(&l->lvt[which]);
	/* Timer and error entries have no mode field: it reads as fixed. */

	if ((lvt & LVT_MASKED) || !lapic_on(l))
		return false;
	accept(l, lvt_mode(lvt), lvt & 0xff, false);
	return true;
}

bool lapic_takes_extint(const struct lapic *l)
{
	const uint32_t lint0 = atomic_load(&l->lvt[LVT_LINT0]);

	if (!lapic_on(l)) /* then the LINT0 pin is INTR */
		return l->v->index == 0;
	return (!(lint0 & LVT_MASKED) && lvt_mode(lint0) == APIC_EXTINT) ||
	       atomic_load(&l->ioapic_extint);
}

/* x2APIC: cluster in the upper half, one bit per member below. */
static bool matches_x2_logical(uint32_t ldr, uint32_t dest)
{
	return ldr >> 16 == dest >> 16 && (ldr & dest & 0xffff) != 0;
}

static bool matches_logical(const struct lapic *l, uint32_t dest)
{
	const uint32_t ldr = atomic_load(&l->ldr) >> 24;

	if (dest > 0xff)
		return false;
	if (atomic_load(&l->dfr) >> 28 == 0xf) /* flat */
		return (ldr & dest) != 0;
	return (dest >> 4 == 0xf || dest >> 4 == ldr >> 4) && (ldr & dest & 0xf) != 0;
}

bool lapic_matches(const struct lapic *l, const struct apic_msg *m)
{
	if (!lapic_on(l))
		return false;
	if (m->dest == (m->wide ? UINT32_MAX : 0xffu))
		return true;
	if (m->logical)
		return lapic_x2(l) ? matches_x2_logical(atomic_load(&l->ldr), m->dest)
				   : matches_logical(l, m->dest);
	return m->dest == (lapic_x2(l) ? l->id : l->id & 0xff);
}

/* Lowest priority: the vector chooses among those that match, so that an interrupt stays where it is. */
static void deliver_lowest(struct irqchip *c, const struct apic_msg *m, const struct lapic *except)
{
	struct lapic *found[IRQCHIP_MAX_VCPUS];
	unsigned n = 0;

	for (unsigned i = 0; i < c->cpus; i++) {
		struct lapic *l = c->cpu[i];

		if (l != except && lapic_matches(l, m) && (atomic_load(&l->svr) & LAPIC_SVR_ENABLE))
			found[n++] = l;
	}
	if (n > 0)
		accept(found[m->vector % n], APIC_FIXED, m->vector, m->level);
}

static void deliver(struct irqchip *c, const struct apic_msg *m, const struct lapic *except)
{
	if (m->mode == APIC_LOWEST) {
		deliver_lowest(c, m, except);
		return;
	}
	for (unsigned i = 0; i < c->cpus; i++) {
		if (c->cpu[i] != except && lapic_matches(c->cpu[i], m))
			accept(c->cpu[i], m->mode, m->vector, m->level);
	}
}

void apic_msg_deliver(struct irqchip *c, const struct apic_msg *m)
{
	deliver(c, m, NULL);
}

static bool icr_mode_ok(struct lapic *l, unsigned mode, unsigned vec, bool self)
{
	if ((mode == APIC_FIXED || mode == APIC_LOWEST) && vec < 16) {
		lapic_error(l, LAPIC_ESR_SEND_VECTOR);
		return false;
	}
	if (self)
		return mode == APIC_FIXED;
	return mode != APIC_SMI && mode != APIC_RESERVED && mode != APIC_EXTINT;
}

void lapic_send_self(struct lapic *l, unsigned vec)
{
	if (icr_mode_ok(l, APIC_FIXED, vec, true))
		accept(l, APIC_FIXED, vec, false);
}

void lapic_send(struct lapic *l)
{
	const uint32_t lo = l->icr_lo;
	const unsigned shorthand = (lo >> 18) & 3;
	struct apic_msg m = {
		.dest = lapic_x2(l) ? l->icr_hi : l->icr_hi >> 24,
		.wide = lapic_x2(l),
		.logical = lo >> 11 & 1,
		.mode = (uint8_t)(lo >> 8 & 7),
		.vector = (uint8_t)lo,
	};

	if (!icr_mode_ok(l, m.mode, m.vector, shorthand == 1))
		return;
	if (m.mode == APIC_INIT && (lo >> 14 & 3) == 2)
		return; /* level-triggered de-assert: only synchronises arbitration ids */
	if (shorthand == 1) {
		accept(l, APIC_FIXED, m.vector, false);
		return;
	}
	if (shorthand != 0) {
		m.dest = UINT32_MAX;
		m.wide = true;
	}
	deliver(l->chip, &m, shorthand == 3 ? l : NULL);
}
