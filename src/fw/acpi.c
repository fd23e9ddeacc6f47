/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The static ACPI tables (ACPI 6.4, 5.2). All lie in one block below 1 MiB, the RSDP first, each table on a
 * 64-byte boundary (the FACS wants that).
 */
#include "fw/acpi.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PACKED __attribute__((packed))

struct acpi_header {
	char sig[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem_id[6], oem_table[8];
	uint32_t oem_revision;
	char creator[4];
	uint32_t creator_revision;
} PACKED;

struct acpi_rsdp {
	char sig[8];
	uint8_t checksum;
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt, length;
	uint64_t xsdt;
	uint8_t ext_checksum, reserved[3];
} PACKED;

struct acpi_gas {
	uint8_t space, bit_width, bit_offset, access;
	uint64_t addr;
} PACKED;

struct acpi_fadt {
	struct acpi_header h;
	uint32_t facs, dsdt;
	uint8_t reserved0, profile;
	uint16_t sci_int;
	uint32_t smi_cmd;
	uint8_t acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
	uint32_t pm1a_evt, pm1b_evt, pm1a_cnt, pm1b_cnt, pm2_cnt, pm_tmr, gpe0, gpe1;
	uint8_t pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len, gpe0_len, gpe1_len, gpe1_base;
	uint8_t cst_cnt;
	uint16_t c2_latency, c3_latency, flush_size, flush_stride;
	uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
	uint16_t boot_arch;
	uint8_t reserved1;
	uint32_t flags;
	struct acpi_gas reset_reg;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor;
	uint64_t x_facs, x_dsdt;
	struct acpi_gas x_pm1a_evt, x_pm1b_evt, x_pm1a_cnt, x_pm1b_cnt, x_pm2_cnt, x_pm_tmr, x_gpe0,
		x_gpe1, sleep_control, sleep_status;
	uint64_t hypervisor;
} PACKED;
_Static_assert(sizeof(struct acpi_fadt) == 276, "FADT of ACPI 6");

#define FADT_WBINVD BIT(0)
#define FADT_PROC_C1 BIT(2)
#define FADT_NO_SLEEP_BUTTON BIT(5)
#define FADT_NO_FIXED_RTC BIT(6)
#define FADT_TIMER32 BIT(8)
#define FADT_RESET_REG BIT(10)
#define BOOT_LEGACY_DEVICES BIT(0)
#define BOOT_I8042 BIT(1)
#define BOOT_NO_VGA BIT(2)

struct tables {
	uint8_t *buf;
	size_t len, cap;
	gpa_t base;
	bool overflow;
};

static uint8_t checksum(const void *p, size_t n)
{
	const uint8_t *b = p;
	uint8_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum = (uint8_t)(sum + b[i]);
	return (uint8_t)-sum;
}

/* Starts a table on its boundary; returns its place, zeroed, or NULL. */
static void *reserve(struct tables *t, size_t n)
{
	size_t at = ALIGN_UP(t->len, 64);

	if (at > t->cap || n > t->cap - at) {
		t->overflow = true;
		return NULL;
	}
	memset(t->buf + t->len, 0, at + n - t->len);
	t->len = at + n;
	return t->buf + at;
}

static uint64_t addr_of(const struct tables *t, const void *p)
{
	return t->base + (uint64_t)((const uint8_t *)p - t->buf);
}

/* Fills header and checksum of a finished table. */
static uint64_t seal(struct tables *t, void *p, const char *sig, uint8_t revision, size_t n)
{
	struct acpi_header *h = p;

	memcpy(h->sig, sig, 4);
	h->length = (uint32_t)n;
	h->revision = revision;
	memcpy(h->oem_id, "RING3 ", 6);
	memcpy(h->oem_table, "RING3   ", 8);
	h->oem_revision = 1;
	memcpy(h->creator, "RNG3", 4);
	h->creator_revision = 1;
	h->checksum = 0;
	h->checksum = checksum(p, n);
	return addr_of(t, p);
}

static uint64_t build_dsdt(struct tables *t, const struct fw_layout *l)
{
	uint8_t *p = reserve(t, sizeof(struct acpi_header));
	int64_t n;

	if (!p)
		return 0;
	n = fw_dsdt_build(p + sizeof(struct acpi_header), t->cap - t->len, l);
	if (n < 0) {
		t->overflow = true;
		return 0;
	}
	t->len += (size_t)n;
	return seal(t, p, "DSDT", 2, sizeof(struct acpi_header) + (size_t)n);
}

static uint64_t build_facs(struct tables *t)
{
	uint8_t *p = reserve(t, 64);

	if (!p)
		return 0;
	memcpy(p, "FACS", 4);
	p[4] = 64;
	p[32] = 2; /* version */
	return addr_of(t, p);
}

static struct acpi_gas io_gas(uint16_t port, uint8_t bits)
{
	return (struct acpi_gas){
		.space = 1,
		.bit_width = bits,
		.access = bits == 8    ? 1
			  : bits == 16 ? 2
				       : 3,
		.addr = port,
	};
}

static void fadt_blocks(struct acpi_fadt *f, uint16_t pm)
{
	f->pm1a_evt = pm;
	f->pm1a_cnt = pm + 4u;
	f->pm_tmr = pm + 8u;
	f->pm1_evt_len = 4;
	f->pm1_cnt_len = 2;
	f->pm_tmr_len = 4;
	f->x_pm1a_evt = io_gas(pm, 32);
	f->x_pm1a_cnt = io_gas((uint16_t)(pm + 4), 16);
	f->x_pm_tmr = io_gas((uint16_t)(pm + 8), 32);
	f->reset_reg = io_gas(0xcf9, 8);
	f->reset_value = 6;
}

static uint64_t build_fadt(struct tables *t, const struct fw_layout *l, uint64_t facs,
			   uint64_t dsdt)
{
	struct acpi_fadt *f = reserve(t, sizeof(*f));

	if (!f)
		return 0;
	f->facs = (uint32_t)facs;
	f->dsdt = (uint32_t)dsdt;
	f->x_dsdt = dsdt;
	f->profile = 1; /* desktop */
	f->sci_int = (uint16_t)l->sci_gsi;
	f->c2_latency = 0xfff; /* none */
	f->c3_latency = 0xfff;
	f->century = 0x32;
	f->boot_arch = (uint16_t)(BOOT_LEGACY_DEVICES | BOOT_NO_VGA | (l->i8042 ? BOOT_I8042 : 0));
	f->flags =
		(uint32_t)(FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLEEP_BUTTON | FADT_NO_FIXED_RTC |
			   FADT_RESET_REG | (l->pm_timer32 ? FADT_TIMER32 : 0));
	f->minor = 4;
	fadt_blocks(f, l->pm_base);
	return seal(t, f, "FACP", 6, sizeof(*f));
}

static uint8_t *madt_entry(uint8_t *p, uint8_t type, uint8_t length)
{
	p[0] = type;
	p[1] = length;
	return p + length;
}

static void madt_override(uint8_t *p, uint8_t irq, uint32_t gsi, uint16_t flags)
{
	madt_entry(p, 2, 10);
	p[3] = irq;
	memcpy(p + 4, &gsi, 4);
	memcpy(p + 8, &flags, 2);
}

static uint64_t build_madt(struct tables *t, const struct fw_layout *l)
{
	size_t n = sizeof(struct acpi_header) + 8 + 8 * (size_t)l->cpus + 12 + 10 + 10 + 6;
	uint8_t *start = reserve(t, n), *p;
	uint32_t word;

	if (!start)
		return 0;
	p = start + sizeof(struct acpi_header);
	word = (uint32_t)l->lapic_base;
	memcpy(p, &word, 4);
	p[4] = 1; /* there is a pair of 8259s too */
	p += 8;
	for (unsigned i = 0; i < l->cpus; i++) {
		p[2] = p[3] = (uint8_t)i;
		p[4] = 1; /* enabled */
		p = madt_entry(p, 0, 8);
	}
	p[2] = (uint8_t)l->ioapic_id;
	word = (uint32_t)l->ioapic_base;
	memcpy(p + 4, &word, 4);
	p = madt_entry(p, 1, 12);
	madt_override(p, 0, 2, 0);
	madt_override(p + 10, 9, l->sci_gsi, 0xd); /* level, active high */
	p += 20;
	p[2] = 0xff; /* every CPU: NMI on LINT1 */
	p[5] = 1;
	madt_entry(p, 4, 6);
	return seal(t, start, "APIC", 4, n);
}

static uint64_t build_mcfg(struct tables *t, const struct fw_layout *l)
{
	size_t n = sizeof(struct acpi_header) + 8 + 16;
	uint8_t *p = reserve(t, n);
	uint64_t ecam = l->ecam_base;

	if (!p)
		return 0;
	memcpy(p + 44, &ecam, 8);
	p[55] = (uint8_t)(l->ecam_size / MiB - 1); /* last bus */
	return seal(t, p, "MCFG", 1, n);
}

static uint64_t build_xsdt(struct tables *t, const uint64_t *table, unsigned count)
{
	size_t n = sizeof(struct acpi_header) + 8 * (size_t)count;
	uint8_t *p = reserve(t, n);

	if (!p)
		return 0;
	memcpy(p + sizeof(struct acpi_header), table, 8 * (size_t)count);
	return seal(t, p, "XSDT", 1, n);
}

static void fill_rsdp(struct acpi_rsdp *r, uint64_t xsdt)
{
	memcpy(r->sig, "RSD PTR ", 8);
	memcpy(r->oem_id, "RING3 ", 6);
	r->revision = 2;
	r->length = sizeof(*r);
	r->xsdt = xsdt;
	r->checksum = checksum(r, 20);
	r->ext_checksum = checksum(r, sizeof(*r));
}

int64_t fw_acpi_build(uint8_t *buf, size_t cap, gpa_t base, const struct fw_layout *l)
{
	struct tables t = { .buf = buf, .cap = cap, .base = base };
	struct acpi_rsdp *rsdp = reserve(&t, sizeof(*rsdp));
	uint64_t facs, dsdt, table[3], xsdt;

	facs = build_facs(&t);
	dsdt = build_dsdt(&t, l);
	table[0] = build_fadt(&t, l, facs, dsdt);
	table[1] = build_madt(&t, l);
	table[2] = build_mcfg(&t, l);
	xsdt = build_xsdt(&t, table, ARRAY_SIZE(table));
	if (t.overflow || !rsdp)
		return -ENOSPC;
	fill_rsdp(rsdp, xsdt);
	return (int64_t)t.len;
}

int fw_acpi_install(struct mem_map *m, const struct fw_layout *l, struct err *e)
{
	uint8_t *buf = calloc(1, FW_ACPI_SIZE);
	int64_t n;
	int r;

	if (!buf)
		return err_set(e, -ENOMEM, "no memory for the ACPI tables");
	n = fw_acpi_build(buf, FW_ACPI_SIZE, FW_ACPI_ADDR, l);
	if (n < 0)
		r = err_set(e, (int)n, "the ACPI tables of %u CPUs do not fit", l->cpus);
	else if (mem_copy_in(m, FW_ACPI_ADDR, buf, FW_ACPI_SIZE) < 0)
		r = err_set(e, -EFAULT, "no RAM below 1 MiB for the ACPI tables");
	else
		r = 0;
	free(buf);
	return r;
}
