/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI fixed hardware (ACPI specification, chapter "ACPI Hardware Specification"). There is no SMI and no
 * legacy mode: SCI_EN is always one. The reset register is port 0xcf9, which the PCI host bridge has.
 *
 * One mutex. The timer's status bit is computed from the clock; only if the guest enables its
 * interrupt is a timer of the loop used, which vCPU threads have re-armed by a post. The loop must not run
 * after the device is destroyed.
 */
#include "dev/legacy/acpi_pm.h"

#include <pthread.h>

#define PM_TIMER_HZ 3579545u
#define NS_PER_S 1000000000u
enum { OFF_STATUS = 0, OFF_ENABLE = 2, OFF_CONTROL = 4, OFF_TIMER = 8, BLOCK_SIZE = 16 };
enum { EV_TIMER = 1, EV_GLOBAL = 0x20, EV_POWER = 0x100, EV_SLEEP = 0x200, EV_RTC = 0x400 };
#define EV_ENABLES (EV_TIMER | EV_GLOBAL | EV_POWER | EV_SLEEP | EV_RTC)
enum { CNT_SCI = 1, CNT_KEPT = 0x1c02, CNT_SLP_EN = 0x2000 };

struct acpi_pm {
	pthread_mutex_t lock;
	struct dev *dev;
	struct acpi_pm_cfg cfg;
	struct pio_range range;
	struct loop_timer timer;
	struct loop_work rearm;
	uint16_t status, enable, control;
	uint64_t half; /* how often the counter's top bit has changed, as last looked at */
	bool line;
};

static uint64_t ticks(int64_t now)
{
	return (uint64_t)((unsigned __int128)now * PM_TIMER_HZ / NS_PER_S);
}

static unsigned top_bit(const struct acpi_pm *p)
{
	return p->cfg.timer32 ? 31 : 23;
}

static void update(struct acpi_pm *p)
{
	const uint64_t half = ticks(clock_monotonic_ns()) >> top_bit(p);
	bool on;

	if (half != p->half)
		p->status |= EV_TIMER;
	p->half = half;
	on = (p->status & p->enable) != 0;
	if (on == p->line)
		return;
	p->line = on;
	bus_irq_set(p->dev->bus, p->cfg.sci, on);
}

/* On the loop's thread. */
static void set_timer(struct acpi_pm *p)
{
	const uint64_t next = (p->half + 1) << top_bit(p);

	if (p->enable & EV_TIMER)
		loop_timer_set(p->cfg.loop, &p->timer,
			       (int64_t)((unsigned __int128)next * NS_PER_S / PM_TIMER_HZ) + 1);
	else
		loop_timer_cancel(p->cfg.loop, &p->timer);
}

static void rearm(struct loop_work *w)
{
	struct acpi_pm *p = w->opaque;

	pthread_mutex_lock(&p->lock);
	set_timer(p);
	pthread_mutex_unlock(&p->lock);
}

static void fire(struct loop_timer *t)
{
	struct acpi_pm *p = t->opaque;

	pthread_mutex_lock(&p->lock);
	update(p);
	set_timer(p);
	pthread_mutex_unlock(&p->lock);
}

static void write_enable(struct acpi_pm *p, uint16_t val)
{
	const uint16_t was = p->enable;

	p->enable = val & EV_ENABLES;
	if ((was ^ p->enable) & EV_TIMER)
		loop_post(p->cfg.loop, &p->rearm);
}

/* True: power off. */
static bool write_control(struct acpi_pm *p, uint16_t val)
{
	p->control = val & CNT_KEPT;
	return (val & CNT_SLP_EN) && (val >> 10 & 7) == ACPI_PM_S5;
}

static uint16_t reg16(const struct acpi_pm *p, unsigned off)
{
	switch (off) {
	case OFF_STATUS: return p->status;
	case OFF_ENABLE: return p->enable;
	case OFF_CONTROL: return p->control | CNT_SCI;
	default: return 0;
	}
}

static uint32_t read_timer(const struct acpi_pm *p)
{
	const uint32_t t = (uint32_t)ticks(clock_monotonic_ns());

	return p->cfg.timer32 ? t : t & 0xffffff;
}

static uint32_t pm_read(void *opaque, uint16_t off, unsigned size)
{
	struct acpi_pm *p = opaque;
	uint32_t val = 0;

	if (off >= OFF_TIMER) /* needs no lock: a guest may use it as its clock */
		return off < OFF_TIMER + 4 ? read_timer(p) >> (8 * (off - OFF_TIMER)) : 0;
	pthread_mutex_lock(&p->lock);
	update(p);
	for (unsigned i = 0; i < size; i++) {
		const unsigned at = off + i;
		const unsigned byte = reg16(p, at & ~1u) >> (8 * (at & 1)) & 0xff;

		val |= byte << (8 * i);
	}
	pthread_mutex_unlock(&p->lock);
	return val;
}

/* The value of a 16-bit register after bytes [off, off+size) of the block were written with val. */
static uint16_t merged(uint16_t old, unsigned reg, unsigned off, uint32_t val, unsigned size)
{
	for (unsigned i = 0; i < 2; i++) {
		const unsigned at = reg + i;

		if (at < off || at >= off + size)
			continue;
		old &= (uint16_t) ~(0xffu << (8 * i));
		old |= (uint16_t)((val >> (8 * (at - off)) & 0xff) << (8 * i));
	}
	return old;
}

static bool touches(unsigned reg, unsigned off, unsigned size)
{
	return off < reg + 2 && reg < off + size;
}

static void pm_write(void *opaque, uint16_t off, uint32_t val, unsigned size)
{
	struct acpi_pm *p = opaque;
	bool quit = false;

	pthread_mutex_lock(&p->lock);
	update(p);
	if (touches(OFF_STATUS, off, size)) /* ones clear */
		p->status &= (uint16_t)~merged(0, OFF_STATUS, off, val, size);
	if (touches(OFF_ENABLE, off, size))
		write_enable(p, merged(p->enable, OFF_ENABLE, off, val, size));
	if (touches(OFF_CONTROL, off, size))
		quit = write_control(p, merged(p->control, OFF_CONTROL, off, val, size));
	update(p);
	pthread_mutex_unlock(&p->lock);
	if (quit && p->cfg.poweroff != NULL)
		p->cfg.poweroff(p->cfg.opaque);
}

void acpi_pm_power_button(struct dev *d)
{
	struct acpi_pm *p = d->priv;

	pthread_mutex_lock(&p->lock);
	p->status |= EV_POWER;
	update(p);
	pthread_mutex_unlock(&p->lock);
}

static const struct pio_ops pm_ops = { pm_read, pm_write };

static void pm_reset(struct dev *d)
{
	struct acpi_pm *p = d->priv;

	pthread_mutex_lock(&p->lock);
	write_enable(p, 0);
	p->control = 0;
	p->half = ticks(clock_monotonic_ns()) >> top_bit(p);
	p->status = 0;
	update(p);
	pthread_mutex_unlock(&p->lock);
}

static int pm_create(struct dev *d, const void *cfg, struct err *e)
{
	struct acpi_pm *p = d->priv;
	int r;

	p->dev = d;
	p->cfg = *(const struct acpi_pm_cfg *)cfg;
	p->timer.fire = fire;
	p->timer.opaque = p;
	p->rearm.run = rearm;
	p->rearm.opaque = p;
	p->range = (struct pio_range){ "acpi-pm", p->cfg.base, BLOCK_SIZE, &pm_ops, p, NULL };
	r = bus_pio_add(d->bus, &p->range);
	if (r < 0)
		return err_set(e, r, "%s: port %#x is taken", d->name, p->cfg.base);
	pthread_mutex_init(&p->lock, NULL);
	pm_reset(d);
	return 0;
}

static void pm_destroy(struct dev *d)
{
	struct acpi_pm *p = d->priv;

	loop_timer_cancel(p->cfg.loop, &p->timer);
	bus_pio_remove(d->bus, &p->range);
	pthread_mutex_destroy(&p->lock);
}

static const struct snap_field pm_fields[] = {
	SNAP_FIELD(struct acpi_pm, status),
	SNAP_FIELD(struct acpi_pm, enable),
	SNAP_FIELD(struct acpi_pm, control),
	SNAP_FIELD(struct acpi_pm, line),
	SNAP_END,
};

const struct dev_class acpi_pm_class = {
	.name = "acpi-pm",
	.priv_size = sizeof(struct acpi_pm),
	.create = pm_create,
	.reset = pm_reset,
	.destroy = pm_destroy,
	.fields = pm_fields,
};
