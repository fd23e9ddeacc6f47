/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 16550A UART (National Semiconductor PC16550D data sheet). Transmission takes no time: the holding
 * register is always empty, and every byte goes to the back-end, which batches. What was received and
 * stays below the trigger level is reported as a character timeout at once.
 *
 * One mutex per port; the interrupt line is only touched when it changes.
 */
#include "dev/legacy/serial.h"

#include <pthread.h>
#include <string.h>

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCRATCH, REG_COUNT };
enum { IER_RX = 1, IER_THRE = 2, IER_LINE = 4, IER_MODEM = 8 };
enum {
	IIR_NONE = 1,
	IIR_MODEM = 0,
	IIR_THRE = 2,
	IIR_RX = 4,
	IIR_LINE = 6,
	IIR_TIMEOUT = 12,
	IIR_FIFO = 0xc0
};
enum { FCR_ENABLE = 1, FCR_CLEAR_RX = 2 };
enum { LCR_DLAB = 0x80 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 0x10 };
enum {
	LSR_READY = 1,
	LSR_OVERRUN = 2,
	LSR_BREAK = 0x10,
	LSR_THRE = 0x20,
	LSR_IDLE = 0x40,
	LSR_ERRORS = 0x1e
};
enum { MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80 };
enum { FIFO_SIZE = 16 };

struct serial {
	pthread_mutex_t lock;
	struct dev *dev;
	struct serial_cfg cfg;
	struct pio_range range;
	uint8_t ier, fcr, lcr, mcr, errors, scratch, divisor[2];
	uint8_t modem;	 /* MSR bits 7:4 */
	uint8_t changes; /* MSR bits 3:0 */
	bool thre_pending, line, refused;
	uint8_t fifo[FIFO_SIZE];
	uint8_t head, count;
};

static unsigned capacity(const struct serial *p)
{
	return p->fcr & FCR_ENABLE ? FIFO_SIZE : 1;
}

static unsigned trigger(const struct serial *p)
{
	static const uint8_t levels[4] = { 1, 4, 8, 14 };

	return p->fcr & FCR_ENABLE ? levels[p->fcr >> 6] : 1;
}

/* The pending interrupt of highest priority as IIR codes it. */
static uint8_t interrupt_id(const struct serial *p)
{
	if ((p->ier & IER_LINE) && p->errors)
		return IIR_LINE;
	if ((p->ier & IER_RX) && p->count > 0)
		return p->count >= trigger(p) ? IIR_RX : IIR_TIMEOUT;
	if ((p->ier & IER_THRE) && p->thre_pending)
		return IIR_THRE;
	if ((p->ier & IER_MODEM) && p->changes)
		return IIR_MODEM;
	return IIR_NONE;
}

static void update_irq(struct serial *p)
{
	/* On a PC, OUT2 connects the chip's output to the interrupt line. */
	const bool on = (p->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2 && interrupt_id(p) != IIR_NONE;

	if (on == p->line)
		return;
	p->line = on;
	bus_irq_set(p->dev->bus, p->cfg.irq, on);
}

static bool push(struct serial *p, uint8_t byte)
{
	if (p->count >= capacity(p))
		return false;
	p->fifo[(p->head + p->count++) % FIFO_SIZE] = byte;
	return true;
}

static uint8_t pop(struct serial *p)
{
	const uint8_t byte = p->fifo[p->head];

	if (p->count == 0)
		return 0;
	p->head = (uint8_t)((p->head + 1) % FIFO_SIZE);
	p->count--;
	return byte;
}

static void transmit(struct serial *p, uint8_t byte)
{
	p->thre_pending = true;
	if (p->mcr & MCR_LOOP) {
		if (!push(p, byte))
			p->errors |= LSR_OVERRUN;
	} else if (p->cfg.output != NULL) {
		p->cfg.output(p->cfg.opaque, &byte, 1);
	}
}

static void update_modem(struct serial *p)
{
	uint8_t now = MSR_CTS | MSR_DSR | MSR_DCD, diff;

	if (p->mcr & MCR_LOOP)
		now = (uint8_t)((p->mcr & MCR_RTS ? MSR_CTS : 0) |
				(p->mcr & MCR_DTR ? MSR_DSR : 0) |
				(p->mcr & MCR_OUT1 ? MSR_RI : 0) |
				(p->mcr & MCR_OUT2 ? MSR_DCD : 0));
	diff = now ^ p->modem;
	if (now & MSR_RI)
		diff &= (uint8_t)~MSR_RI; /* only its end counts */
	p->changes |= diff >> 4;
	p->modem = now;
}

static void write_fcr(struct serial *p, uint8_t val)
{
	const bool toggled = (val ^ p->fcr) & FCR_ENABLE;

	if (toggled || (val & FCR_CLEAR_RX))
		p->head = p->count = 0;
	p->fcr = val & FCR_ENABLE ? val & 0xc1 : 0;
}

static void write_ier(struct serial *p, uint8_t val)
{
	if ((val & ~p->ier) & IER_THRE)
		p->thre_pending = true;
	p->ier = val & 15;
}

static void reg_write(struct serial *p, unsigned reg, uint8_t val)
{
	if ((p->lcr & LCR_DLAB) && reg <= REG_IER) {
		p->divisor[reg] = val;
		return;
	}
	switch (reg) {
	case REG_DATA: transmit(p, val); break;
	case REG_IER: write_ier(p, val); break;
	case REG_IIR_FCR: write_fcr(p, val); break;
	case REG_LCR: p->lcr = val; break;
	case REG_MCR:
		p->mcr = val & 0x1f;
		update_modem(p);
		break;
	case REG_SCRATCH: p->scratch = val; break;
	default: break; /* LSR and MSR are not for writing */
	}
	update_irq(p);
}

static uint8_t read_iir(struct serial *p)
{
	const uint8_t id = interrupt_id(p);

	if (id == IIR_THRE)
		p->thre_pending = false;
	return (uint8_t)(id | (p->fcr & FCR_ENABLE ? IIR_FIFO : 0));
}

static uint8_t read_lsr(struct serial *p)
{
	const uint8_t val = (uint8_t)(p->errors | LSR_THRE | LSR_IDLE | (p->count ? LSR_READY : 0));

	p->errors = 0;
	return val;
}

static uint8_t read_msr(struct serial *p)
{
	const uint8_t val = p->modem | p->changes;

	p->changes = 0;
	return val;
}

static uint8_t reg_read(struct serial *p, unsigned reg)
{
	uint8_t val;

	if ((p->lcr & LCR_DLAB) && reg <= REG_IER)
		return p->divisor[reg];
	switch (reg) {
	case REG_DATA: val = pop(p); break;
	case REG_IER: return p->ier;
	case REG_IIR_FCR: val = read_iir(p); break;
	case REG_LCR: return p->lcr;
	case REG_MCR: return p->mcr;
	case REG_LSR: val = read_lsr(p); break;
	case REG_MSR: val = read_msr(p); break;
	default: return p->scratch;
	}
	update_irq(p);
	return val;
}

static uint32_t serial_read(void *opaque, uint16_t off, unsigned size)
{
	struct serial *p = opaque;
	uint32_t val = 0;
	bool room;

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < size; i++)
		val |= (uint32_t)reg_read(p, off + i) << (8 * i);
	room = p->refused && p->count == 0;
	if (room)
		p->refused = false;
	pthread_mutex_unlock(&p->lock);
	if (room && p->cfg.room != NULL)
		p->cfg.room(p->cfg.opaque);
	return val;
}

static void serial_write(void *opaque, uint16_t off, uint32_t val, unsigned size)
{
	struct serial *p = opaque;
	bool room;

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < size; i++)
		reg_write(p, off + i, (uint8_t)(val >> (8 * i)));
	/* FIFO enabled or emptied, loopback left: what was refused may be taken now. */
	room = p->refused && p->count == 0 && !(p->mcr & MCR_LOOP);
	if (room)
		p->refused = false;
	pthread_mutex_unlock(&p->lock);
	if (room && p->cfg.room != NULL)
		p->cfg.room(p->cfg.opaque);
}

size_t serial_receive(struct dev *d, const uint8_t *buf, size_t n)
{
	struct serial *p = d->priv;
	size_t taken = 0;

	pthread_mutex_lock(&p->lock);
	if (!(p->mcr & MCR_LOOP)) {
		while (taken < n && push(p, buf[taken]))
			taken++;
	}
	if (taken < n)
		p->refused = true;
	update_irq(p);
	pthread_mutex_unlock(&p->lock);
	return taken;
}

void serial_break(struct dev *d)
{
	struct serial *p = d->priv;

	pthread_mutex_lock(&p->lock);
	p->errors |= LSR_BREAK;
	if (!push(p, 0))
		p->errors |= LSR_OVERRUN;
	update_irq(p);
	pthread_mutex_unlock(&p->lock);
}

static const struct pio_ops serial_ops = { serial_read, serial_write };

static void serial_reset(struct dev *d)
{
	struct serial *p = d->priv;

	pthread_mutex_lock(&p->lock);
	p->ier = p->fcr = p->lcr = p->mcr = p->errors = p->changes = 0;
	p->head = p->count = 0;
	p->thre_pending = false;
	p->divisor[0] = 12; /* 9600 baud */
	p->divisor[1] = 0;
	p->modem = MSR_CTS | MSR_DSR | MSR_DCD;
	update_irq(p);
	pthread_mutex_unlock(&p->lock);
}

static int serial_create(struct dev *d, const void *cfg, struct err *e)
{
	struct serial *p = d->priv;
	int r;

	p->dev = d;
	p->cfg = *(const struct serial_cfg *)cfg;
	p->range = (struct pio_range){ "serial", p->cfg.base, REG_COUNT, &serial_ops, p, NULL };
	r = bus_pio_add(d->bus, &p->range);
	if (r < 0)
		return err_set(e, r, "%s: port %#x is taken", d->name, p->cfg.base);
	pthread_mutex_init(&p->lock, NULL);
	serial_reset(d);
	return 0;
}

static void serial_destroy(struct dev *d)
{
	struct serial *p = d->priv;

	bus_pio_remove(d->bus, &p->range);
	pthread_mutex_destroy(&p->lock);
}

static const struct snap_field serial_fields[] = {
	SNAP_FIELD(struct serial, ier),
	SNAP_FIELD(struct serial, fcr),
	SNAP_FIELD(struct serial, lcr),
	SNAP_FIELD(struct serial, mcr),
	SNAP_FIELD(struct serial, errors),
	SNAP_FIELD(struct serial, scratch),
	SNAP_FIELD(struct serial, divisor),
	SNAP_FIELD(struct serial, modem),
	SNAP_FIELD(struct serial, changes),
	SNAP_FIELD(struct serial, thre_pending),
	SNAP_FIELD(struct serial, line),
	SNAP_FIELD(struct serial, fifo),
	SNAP_FIELD(struct serial, head),
	SNAP_FIELD(struct serial, count),
	SNAP_END,
};

const struct dev_class serial_class = {
	.name = "serial",
	.priv_size = sizeof(struct serial),
	.create = serial_create,
	.reset = serial_reset,
	.destroy = serial_destroy,
	.fields = serial_fields,
};
