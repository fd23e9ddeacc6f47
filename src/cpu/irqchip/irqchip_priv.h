/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the interrupt controllers: what their files promise each other.
 *
 * Locks: irqchip.lock guards IOAPIC and PIC, pit.lock the PIT; pit.lock may be held when irqchip.lock is
 * taken, never the other way round. A local APIC has no lock: fields marked "any" are atomics that every
 * thread may touch, the others belong to its vCPU's thread.
 */
#ifndef R3_CPU_IRQCHIP_PRIV_H
#define R3_CPU_IRQCHIP_PRIV_H

#include <signal.h>
#include <time.h>

#include "cpu/irqchip/irqchip.h"

enum { IRQCHIP_MAX_VCPUS = 255, IOAPIC_PINS = 24 };

#define LAPIC_MMIO_BASE 0xfee00000ull
#define IOAPIC_MMIO_BASE 0xfec00000ull

/* Delivery modes of LVT, ICR, IOAPIC entries and MSI data. */
enum apic_mode {
	APIC_FIXED,
	APIC_LOWEST,
	APIC_SMI,
	APIC_RESERVED,
	APIC_NMI,
	APIC_INIT,
	APIC_SIPI,
	APIC_EXTINT
};

/* Registers by number: MMIO offset >> 4, x2APIC MSR - 0x800 (SDM vol. 3, tables 11-1 and 11-6). */
enum lapic_reg {
	LAPIC_ID = 0x02,
	LAPIC_VERSION = 0x03,
	LAPIC_TPR = 0x08,
	LAPIC_APR = 0x09,
	LAPIC_PPR = 0x0a,
	LAPIC_EOI = 0x0b,
	LAPIC_RRD = 0x0c,
	LAPIC_LDR = 0x0d,
	LAPIC_DFR = 0x0e,
	LAPIC_SVR = 0x0f,
	LAPIC_ISR = 0x10,
	LAPIC_TMR = 0x18,
	LAPIC_IRR = 0x20,
	LAPIC_ESR = 0x28,
	LAPIC_ICR_LO = 0x30,
	LAPIC_ICR_HI = 0x31,
	LAPIC_LVT = 0x32,
	LAPIC_TIMER_INIT = 0x38,
	LAPIC_TIMER_CUR = 0x39,
	LAPIC_TIMER_DIV = 0x3e,
	LAPIC_SELF_IPI = 0x3f
};

/* Index of a local vector table entry; its register is LAPIC_LVT + index. */
enum lapic_lvt { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };
#define LVT_MASKED (1u << 16)

#define LAPIC_SVR_ENABLE (1u << 8)
#define LAPIC_SVR_NO_EOI_BROADCAST (1u << 12)

#define APIC_BASE_BSP BIT(8)
#define APIC_BASE_EXTD BIT(10)
#define APIC_BASE_EN BIT(11)
#define MSR_APIC_BASE 0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC_FIRST 0x800u

#define LAPIC_ESR_SEND_VECTOR (1u << 5)
#define LAPIC_ESR_RECV_VECTOR (1u << 6)
#define LAPIC_ESR_REGISTER (1u << 7)

/* One interrupt message on its way to local APICs. */
struct apic_msg {
	uint32_t dest;
	bool wide; /* dest has 32 bits (x2APIC ICR); otherwise 8, or 15 by the extended MSI form */
	bool logical, level;
	uint8_t mode, vector;
};

struct lapic_timer {
	_Atomic int64_t deadline_ns; /* any; INT64_MAX: off */
	uint64_t tsc_deadline;	     /* guest TSC; 0: off */
	int64_t period_ns;	     /* periodic mode */
	int64_t armed_ns;	     /* the host timer goes off then; INT64_MAX: not armed */
	timer_t id;
	bool attached;
};

struct lapic {
	struct irqchip *chip;
	struct vcpu *v;
	uint32_t id;
	_Atomic uint64_t base;		 /* any: IA32_APIC_BASE */
	_Atomic uint64_t irr[4], tmr[4]; /* any */
	_Atomic uint32_t ldr, dfr, svr;	 /* any may read */
	_Atomic uint32_t lvt[LVT_COUNT]; /* any may read */
	_Atomic uint32_t esr_new;	 /* any: errors since the last write of ESR */
	atomic_bool init_wanted;   /* any: an INIT arrived; registers are reset by the owner */
	atomic_bool ioapic_extint; /* any: IOAPIC pin 0 passes the PIC's output to this CPU */
	uint64_t isr[4];
	uint32_t tpr, esr, icr_lo, icr_hi, timer_init, timer_div;
	struct lapic_timer timer;
};

struct pic_chip {
	uint8_t irr, imr, isr, line, elcr, elcr_mask;
	uint8_t base;	   /* ICW2 */
	uint8_t first;	   /* the line of highest priority */
	uint8_t init_step; /* the ICW expected at the odd port; 0: none */
	bool want_icw4, single, read_isr, poll, auto_eoi, rotate_aeoi, special_mask, nested;
};

struct ioapic {
	uint64_t entry[IOAPIC_PINS];
	uint32_t line; /* asserted inputs */
	uint32_t id;
	uint8_t select;
	struct mem_region region;
};

struct pit_channel {
	uint32_t count; /* 1..65536 */
	uint8_t mode, access, gate;
	bool bcd, loaded, triggered;
	bool write_high, read_high; /* second byte of a two-byte access is next */
	uint8_t low;		    /* first byte written */
	uint8_t latched;	    /* bytes of latch still to be read: 0, 1, 2 */
	uint16_t latch;
	bool status_latched;
	uint8_t status;
	int64_t start_ns;
	uint64_t frozen; /* clocks counted when the gate went low */
};

struct pit {
	pthread_mutex_t lock;
	struct irqchip *chip;
	struct loop *loop;
	struct pit_channel ch[3];
	uint8_t port61;
	int64_t next_ns; /* next edge of IRQ 0; INT64_MAX: none */
	struct loop_timer timer;
	struct loop_work rearm;
	struct pio_range range, range61;
};

struct irqchip {
	struct bus *bus;
	uint64_t tsc_hz;
	uint64_t ns_per_tsc; /* 32.32 fixed point */
	struct lapic *cpu[IRQCHIP_MAX_VCPUS];
	unsigned cpus;
	pthread_mutex_t lock;
	struct ioapic ioapic;
	struct pic_chip pic[2];
	atomic_bool pic_intr; /* output of the master PIC */
	struct pio_range pic_range[2], elcr_range;
	struct mem_region lapic_region;
	struct pit pit;
};

/* ---- lapic.c: registers, priorities ---- */
struct lapic *lapic_new(struct irqchip *c, struct vcpu *v) MUST_CHECK;
void lapic_free(struct lapic *l);
/* Power-up state; init: what an INIT leaves (mode and id stay). Owner's thread or vCPU stopped. */
void lapic_reset(struct lapic *l, bool init);
/* v's local APIC, an INIT that arrived having been applied. Owner's thread. */
struct lapic *lapic_own(struct vcpu *v);
/* Highest vector waiting that beats the processor priority, or -1. Owner's thread. */
int lapic_pending(const struct lapic *l);
/* Hints the vCPU when something can be delivered: after priorities fell. Owner's thread. */
void lapic_recheck(struct lapic *l);
extern const struct mem_io_ops lapic_mmio_ops;

/* ---- lapic_msg.c: messages between local APICs. Any thread. ---- */
void apic_msg_deliver(struct irqchip *c, const struct apic_msg *m);
bool lapic_matches(const struct lapic *l, const struct apic_msg *m);
/* An event at a local input goes where its LVT entry says; false when masked. */
bool lapic_local(struct lapic *l, enum lapic_lvt which);
void lapic_error(struct lapic *l, uint32_t bits);
/* Sends what the ICR says. Owner's thread. */
void lapic_send(struct lapic *l);
void lapic_send_self(struct lapic *l, unsigned vec);
/* Does this local APIC let the PIC's INTR through to its CPU? */
bool lapic_takes_extint(const struct lapic *l);

/* ---- lapic_timer.c. Owner's thread. ---- */
void lapic_timer_poll(struct lapic *l);
void lapic_timer_stop(struct lapic *l);
void lapic_timer_start(struct lapic *l, uint32_t count);
uint32_t lapic_timer_current(struct lapic *l);
void lapic_timer_set_divider(struct lapic *l, uint32_t val);
/* The LVT entry changed from old to its present value. */
void lapic_timer_lvt_changed(struct lapic *l, uint32_t old);
void lapic_timer_set_tsc(struct lapic *l, uint64_t deadline);
uint64_t lapic_timer_get_tsc(struct lapic *l);

static inline bool lapic_on(const struct lapic *l)
{
	return atomic_load_explicit(&l->base, memory_order_relaxed) & APIC_BASE_EN;
}
static inline bool lapic_x2(const struct lapic *l)
{
	return atomic_load_explicit(&l->base, memory_order_relaxed) & APIC_BASE_EXTD;
}
static inline unsigned lvt_mode(uint32_t lvt)
{
	return (lvt >> 8) & 7;
}

/* ---- ioapic.c: under irqchip.lock ---- */
void ioapic_reset(struct irqchip *c);
void ioapic_set_line(struct irqchip *c, unsigned pin, bool level);
/* Takes the lock itself. */
void ioapic_eoi(struct irqchip *c, unsigned vector);
extern const struct mem_io_ops ioapic_mmio_ops;

/* ---- pic.c: under irqchip.lock ---- */
void pic_reset(struct irqchip *c);
void pic_set_line(struct irqchip *c, unsigned irq, bool level);
/* INTA cycle: takes the request of highest priority (or the spurious one); its vector. */
int pic_ack(struct irqchip *c);
/* The vector pic_ack would give. */
int pic_peek(const struct irqchip *c);
int pic_claim_ports(struct irqchip *c) MUST_CHECK;
void pic_release_ports(struct irqchip *c);

/* ---- pit.c: takes pit.lock itself ---- */
int pit_init(struct irqchip *c, struct loop *loop) MUST_CHECK;
void pit_fini(struct irqchip *c);
void pit_reset(struct irqchip *c);

#endif
