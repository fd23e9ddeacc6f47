/* SPDX-License-Identifier: Apache-2.0 */
/* The old PC's parts: COM1, RTC, keyboard controller (for resets), ACPI fixed hardware. */
#include <errno.h>
#include <stdlib.h>

#include "dev/legacy/acpi_pm.h"
#include "dev/legacy/i8042.h"
#include "dev/legacy/rtc.h"
#include "dev/legacy/serial.h"
#include "machine/machine_priv.h"

#define COM1_PORT 0x3f8
#define COM1_IRQ 4
#define RTC_PORT 0x70
#define RTC_IRQ 8
#define KBD_IRQ 1
#define AUX_IRQ 12

struct machine_legacy {
	struct dev *serial, *pm;
};

static void on_serial_out(void *opaque, const uint8_t *buf, size_t n)
{
	struct machine *m = opaque;

	m->host.console_out(m->host.opaque, MACHINE_SERIAL, buf, n);
}

static void on_serial_room(void *opaque)
{
	struct machine *m = opaque;

	m->host.console_room(m->host.opaque);
}

static void on_power_off(void *opaque)
{
	struct machine *m = opaque;

	m->host.power_off(m->host.opaque);
}

static void on_reset(void *opaque)
{
	struct machine *m = opaque;

	m->host.reset(m->host.opaque);
}

static int create_serial(struct machine *m, struct err *e)
{
	const struct serial_cfg cfg = {
		.base = COM1_PORT,
		.irq = COM1_IRQ,
		.output = on_serial_out,
		.room = on_serial_room,
		.opaque = m,
	};

	m->legacy->serial = dev_create(&m->devs, m->bus, &serial_class, "com1", &cfg, e);
	return m->legacy->serial ? 0 : e->code;
}

static int create_pm(struct machine *m, struct err *e)
{
	const struct acpi_pm_cfg cfg = {
		.base = MACHINE_PM_BASE,
		.sci = MACHINE_SCI_GSI,
		.timer32 = m->layout.pm_timer32,
		.loop = m->loop,
		.poweroff = on_power_off,
		.opaque = m,
	};

	m->legacy->pm = dev_create(&m->devs, m->bus, &acpi_pm_class, "acpi-pm", &cfg, e);
	return m->legacy->pm ? 0 : e->code;
}

static int create_rtc(struct machine *m, struct err *e)
{
	const struct rtc_cfg cfg = {
		.base = RTC_PORT,
		.irq = RTC_IRQ,
		.loop = m->loop,
		.ram_below_4g = m->layout.ram_low,
		.ram_above_4g = m->layout.ram_high,
	};

	return dev_create(&m->devs, m->bus, &rtc_class, "rtc", &cfg, e) ? 0 : e->code;
}

static int create_i8042(struct machine *m, struct err *e)
{
	const struct i8042_cfg cfg = {
		.kbd_irq = KBD_IRQ,
		.aux_irq = AUX_IRQ,
		.reset = on_reset,
		.opaque = m,
	};

	return dev_create(&m->devs, m->bus, &i8042_class, "i8042", &cfg, e) ? 0 : e->code;
}

int machine_legacy_create(struct machine *m, struct err *e)
{
	int r;

	m->legacy = calloc(1, sizeof(*m->legacy));
	if (!m->legacy)
		return err_set(e, -ENOMEM, "no memory");
	r = create_serial(m, e);
	if (!r)
		r = create_rtc(m, e);
	if (!r)
		r = create_i8042(m, e);
	return r ? r : create_pm(m, e);
}

void machine_legacy_destroy(struct machine *m)
{
	free(m->legacy);
	m->legacy = NULL;
}

void machine_legacy_power_button(struct machine *m)
{
	acpi_pm_power_button(m->legacy->pm);
}

size_t machine_legacy_serial_in(struct machine *m, const uint8_t *buf, size_t n)
{
	return serial_receive(m->legacy->serial, buf, n);
}
