/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keyboard controller (IBM PS/2 Technical Reference, "Keyboard and Auxiliary Device Controller") at ports
 * 0x60 and 0x64, and system control port A at 0x92. Nothing is plugged in: whatever is sent to a
 * keyboard or mouse is answered at once as timed out, so that probing ends without waiting.
 *
 * One mutex; the reset callback is made without it.
 */
#include "dev/legacy/i8042.h"

#include <pthread.h>

enum {
	ST_OUTPUT = 1,
	ST_SYSTEM = 4,
	ST_COMMAND = 8,
	ST_UNLOCKED = 0x10,
	ST_AUX = 0x20,
	ST_TIMEOUT = 0x40
};
enum {
	CTR_KBD_IRQ = 1,
	CTR_AUX_IRQ = 2,
	CTR_SYSTEM = 4,
	CTR_KBD_OFF = 0x10,
	CTR_AUX_OFF = 0x20,
	CTR_TRANSLATE = 0x40
};
enum {
	CMD_READ_CTR = 0x20,
	CMD_WRITE_CTR = 0x60,
	CMD_AUX_OFF = 0xa7,
	CMD_AUX_ON = 0xa8,
	CMD_AUX_TEST = 0xa9,
	CMD_SELF_TEST = 0xaa,
	CMD_KBD_TEST = 0xab,
	CMD_KBD_OFF = 0xad,
	CMD_KBD_ON = 0xae,
	CMD_READ_INPUT = 0xc0,
	CMD_READ_OUTPUT = 0xd0,
	CMD_WRITE_OUTPUT = 0xd1,
	CMD_KBD_LOOP = 0xd2,
	CMD_AUX_LOOP = 0xd3,
	CMD_AUX_SEND = 0xd4,
	CMD_PULSE = 0xf0
};
enum { OUT_NOT_RESET = 1, OUT_A20 = 2 };
enum { AUX_CLOCK_STUCK = 1, SELF_TEST_OK = 0x55, RESEND = 0xfe };
enum { PORT_DATA = 0x60, PORT_STATUS = 0x64, PORT_A = 0x92 };

struct i8042 {
	pthread_mutex_t lock;
	struct dev *dev;
	struct i8042_cfg cfg;
	struct pio_range data_range, status_range, port_a_range;
	uint8_t ctr, command, data, flags, out;
	bool kbd_line, aux_line;
};

static void set_line(struct i8042 *k, bool *line, unsigned irq, bool on)
{
	if (*line == on)
		return;
	*line = on;
	bus_irq_set(k->dev->bus, irq, on);
}

static void update_irq(struct i8042 *k)
{
	const bool full = k->flags & ST_OUTPUT, aux = k->flags & ST_AUX;

	set_line(k, &k->kbd_line, k->cfg.kbd_irq, full && !aux && (k->ctr & CTR_KBD_IRQ));
	set_line(k, &k->aux_line, k->cfg.aux_irq, full && aux && (k->ctr & CTR_AUX_IRQ));
}

/* Puts a byte into the output buffer; from: ST_AUX and ST_TIMEOUT as they apply. */
static void reply(struct i8042 *k, uint8_t byte, unsigned from)
{
	k->data = byte;
	k->flags = (uint8_t)(ST_OUTPUT | from);
}

static bool write_output_port(struct i8042 *k, uint8_t val)
{
	k->out = val | OUT_NOT_RESET;
	return !(val & OUT_NOT_RESET);
}

/* A byte for port 0x60; true: reset. */
static bool write_data(struct i8042 *k, uint8_t val)
{
	const uint8_t command = k->command;

	k->command = 0;
	switch (command) {
	case 0: reply(k, RESEND, ST_TIMEOUT); break;
	case CMD_WRITE_CTR: k->ctr = val; break;
	case CMD_WRITE_OUTPUT: return write_output_port(k, val);
	case CMD_KBD_LOOP: reply(k, val, 0); break;
	case CMD_AUX_LOOP: reply(k, 0, 0); break; /* no auxiliary port to loop through */
	case CMD_AUX_SEND: reply(k, RESEND, ST_AUX | ST_TIMEOUT); break;
	default: break;
	}
	return false;
}

/* A byte for port 0x64; true: reset. */
static bool write_command(struct i8042 *k, uint8_t val)
{
	k->command = 0;
	switch (val) {
	case CMD_READ_CTR: reply(k, k->ctr, 0); break;
	case CMD_WRITE_CTR:
	case CMD_WRITE_OUTPUT:
	case CMD_KBD_LOOP:
	case CMD_AUX_LOOP:
	case CMD_AUX_SEND: k->command = val; break;
	case CMD_AUX_OFF: k->ctr |= CTR_AUX_OFF; break;
	case CMD_AUX_ON: k->ctr &= (uint8_t)~CTR_AUX_OFF; break;
	case CMD_AUX_TEST: reply(k, AUX_CLOCK_STUCK, 0); break;
	case CMD_SELF_TEST:
		k->ctr |= CTR_SYSTEM;
		reply(k, SELF_TEST_OK, 0);
		break;
	case CMD_KBD_TEST: reply(k, 0, 0); break;
	case CMD_KBD_OFF: k->ctr |= CTR_KBD_OFF; break;
	case CMD_KBD_ON: k->ctr &= (uint8_t)~CTR_KBD_OFF; break;
	case CMD_READ_INPUT: reply(k, 0x80, 0); break;
	case CMD_READ_OUTPUT: reply(k, k->out, 0); break;
	default:
		return val >= CMD_PULSE &&
		       !(val & OUT_NOT_RESET); /* pulse the bits that are zero */
	}
	return false;
}

static void finish_write(struct i8042 *k, bool reset)
{
	update_irq(k);
	pthread_mutex_unlock(&k->lock);
	if (reset && k->cfg.reset != NULL)
		k->cfg.reset(k->cfg.opaque);
}

static void data_write(void *opaque, uint16_t off, uint32_t val, unsigned size)
{
	struct i8042 *k = opaque;

	(void)off;
	(void)size;
	pthread_mutex_lock(&k->lock);
	finish_write(k, write_data(k, (uint8_t)val));
}

static void status_write(void *opaque, uint16_t off, uint32_t val, unsigned size)
{
	struct i8042 *k = opaque;

	(void)off;
	(void)size;
	pthread_mutex_lock(&k->lock);
	finish_write(k, write_command(k, (uint8_t)val));
}

static uint32_t data_read(void *opaque, uint16_t off, unsigned size)
{
	struct i8042 *k = opaque;
	uint8_t val;

	(void)off;
	(void)size;
	pthread_mutex_lock(&k->lock);
	val = k->data;
	k->flags = 0;
	update_irq(k);
	pthread_mutex_unlock(&k->lock);
	return val;
}

static uint32_t status_read(void *opaque, uint16_t off, unsigned size)
{
	struct i8042 *k = opaque;
	uint32_t val;

	(void)off;
	(void)size;
	pthread_mutex_lock(&k->lock);
	val = k->flags | ST_UNLOCKED | (k->ctr & ST_SYSTEM) | (k->command ? ST_COMMAND : 0u);
	pthread_mutex_unlock(&k->lock);
	return val;
}

static void port_a_write(void *opaque, uint16_t off, uint32_t val, unsigned size)
{
	struct i8042 *k = opaque;

	(void)off;
	(void)size;
	pthread_mutex_lock(&k->lock);
	k->out = (uint8_t)((k->out & ~(unsigned)OUT_A20) | (val & OUT_A20));
	finish_write(k, val & 1);
}

static uint32_t port_a_read(void *opaque, uint16_t off, unsigned size)
{
	struct i8042 *k = opaque;

	(void)off;
	(void)size;
	return k->out & OUT_A20;
}

static const struct pio_ops data_ops = { data_read, data_write };
static const struct pio_ops status_ops = { status_read, status_write };
static const struct pio_ops port_a_ops = { port_a_read, port_a_write };

static void i8042_reset(struct dev *d)
{
	struct i8042 *k = d->priv;

	pthread_mutex_lock(&k->lock);
	k->ctr = CTR_KBD_OFF | CTR_AUX_OFF | CTR_TRANSLATE | CTR_SYSTEM;
	k->command = k->data = k->flags = 0;
	k->out = OUT_NOT_RESET | OUT_A20;
	update_irq(k);
	pthread_mutex_unlock(&k->lock);
}

static int claim(struct i8042 *k, struct bus *b)
{
	int r;

	k->data_range = (struct pio_range){ "i8042-data", PORT_DATA, 1, &data_ops, k, NULL };
	k->status_range =
		(struct pio_range){ "i8042-status", PORT_STATUS, 1, &status_ops, k, NULL };
	k->port_a_range = (struct pio_range){ "port-a", PORT_A, 1, &port_a_ops, k, NULL };
	r = bus_pio_add(b, &k->data_range);
	if (r < 0)
		return r;
	r = bus_pio_add(b, &k->status_range);
	if (r < 0)
		goto out_data;
	r = bus_pio_add(b, &k->port_a_range);
	if (r < 0)
		goto out_status;
	return 0;
out_status:
	bus_pio_remove(b, &k->status_range);
out_data:
	bus_pio_remove(b, &k->data_range);
	return r;
}

static int i8042_create(struct dev *d, const void *cfg, struct err *e)
{
	struct i8042 *k = d->priv;
	int r;

	k->dev = d;
	k->cfg = *(const struct i8042_cfg *)cfg;
	r = claim(k, d->bus);
	if (r < 0)
		return err_set(e, r, "%s: ports 0x60, 0x64 or 0x92 are taken", d->name);
	pthread_mutex_init(&k->lock, NULL);
	i8042_reset(d);
	return 0;
}

static void i8042_destroy(struct dev *d)
{
	struct i8042 *k = d->priv;

	bus_pio_remove(d->bus, &k->port_a_range);
	bus_pio_remove(d->bus, &k->status_range);
	bus_pio_remove(d->bus, &k->data_range);
	pthread_mutex_destroy(&k->lock);
}

static const struct snap_field i8042_fields[] = {
	SNAP_FIELD(struct i8042, ctr),	    SNAP_FIELD(struct i8042, command),
	SNAP_FIELD(struct i8042, data),	    SNAP_FIELD(struct i8042, flags),
	SNAP_FIELD(struct i8042, out),	    SNAP_FIELD(struct i8042, kbd_line),
	SNAP_FIELD(struct i8042, aux_line), SNAP_END,
};

const struct dev_class i8042_class = {
	.name = "i8042",
	.priv_size = sizeof(struct i8042),
	.create = i8042_create,
	.reset = i8042_reset,
	.destroy = i8042_destroy,
	.fields = i8042_fields,
};
