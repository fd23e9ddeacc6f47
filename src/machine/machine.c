/* SPDX-License-Identifier: Apache-2.0 */
/* Puts the board together, in one explicit order, and takes it apart in the reverse. */
#include "machine/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>

#include "fw/acpi.h"
#include "fw/smbios.h"
#include "machine/machine_priv.h"

const struct machine_dev machine_devs[] = {
	{ "legacy", machine_legacy_create, machine_legacy_destroy },
	{ "pci", machine_pci_create, NULL },
	{ "virtio", machine_virtio_create, machine_virtio_destroy },
	{ NULL, NULL, NULL },
};

static int create_devices(struct machine *m, struct err *e)
{
	int r = 0;

	for (const struct machine_dev *d = machine_devs; d->name && !r; d++)
		r = d->create(m, e);
	return r;
}

static int create_core(struct machine *m, struct err *e)
{
	struct x86_cpuid_options o = { .vcpus = m->cfg.cpus,
				       .invtsc = m->cfg.invtsc,
				       .hypervisor = true };
	int r;

	x86_cpuid_build(&m->cpuid, &o);
	m->mem = mem_map_new();
	m->bus = m->mem ? bus_new(m->mem) : NULL;
	if (!m->bus)
		return err_set(e, -ENOMEM, "no memory");
	r = machine_layout(m, e);
	if (r)
		return r;
	m->irqchip = irqchip_new(m->bus, m->loop, m->cpuid.tsc_hz, e);
	if (!m->irqchip)
		return e->code;
	m->bus->irq = (struct irq_ops){
		.set_line = irqchip_set_line,
		.send_msi = irqchip_send_msi,
		.opaque = m->irqchip,
	};
	return 0;
}

struct machine *machine_create(const struct machine_cfg *cfg, struct loop *loop,
			       const struct machine_host *host, struct err *e)
{
	struct machine *m = calloc(1, sizeof(*m));

	if (!m) {
		err_set(e, -ENOMEM, "no memory");
		return NULL;
	}
	m->cfg = *cfg;
	m->host = *host;
	m->loop = loop;
	if (fw_boot_open(&m->boot, &cfg->boot, e) || create_core(m, e) || create_devices(m, e)) {
		machine_destroy(m);
		return NULL;
	}
	return m;
}

void machine_destroy(struct machine *m)
{
	if (!m)
		return;
	dev_destroy_all(&m->devs);
	for (const struct machine_dev *d = machine_devs; d->name; d++)
		if (d->destroy)
			d->destroy(m);
	irqchip_free(m->irqchip);
	if (m->bus)
		bus_free(m->bus);
	if (m->mem)
		mem_map_free(m->mem);
	fw_boot_close(m->boot);
	free(m);
}

void machine_reset(struct machine *m)
{
	dev_pause_all(&m->devs);
	dev_reset_all(&m->devs);
	irqchip_reset(m->irqchip);
	dev_resume_all(&m->devs);
}

/* A new guest starts with zero pages, and the host gets the old ones back. */
static int clear_ram(struct machine *m, struct err *e)
{
	if (fallocate(mem_ram_fd(m->mem), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		      (off_t)m->cfg.memory) < 0)
		return err_set(e, -errno, "cannot clear the guest's RAM: %s", strerror(errno));
	return 0;
}

int machine_load(struct machine *m, struct x86_state *bsp, struct err *e)
{
	int r = clear_ram(m, e);

	if (!r)
		r = fw_acpi_install(m->mem, &m->layout, e);
	if (!r)
		r = fw_smbios_install(m->mem, e);
	if (!r)
		r = fw_boot_load(m->boot, m->mem, &m->layout, bsp, e);
	return r;
}

void machine_shutdown(struct machine *m)
{
	dev_pause_all(&m->devs);
	machine_virtio_flush(m);
}

void machine_power_button(struct machine *m)
{
	machine_legacy_power_button(m);
}

size_t machine_console_in(struct machine *m, enum machine_console which, const uint8_t *buf,
			  size_t n)
{
	if (which == MACHINE_VIRTIO_CONSOLE)
		return machine_virtio_console_in(m, buf, n);
	return machine_legacy_serial_in(m, buf, n);
}
