/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration mechanisms, BAR sizing and moving, INTx sharing, MSI-X masking. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "drv.h"

#include <string.h>

struct fake {
	struct pci_fn fn;
	uint64_t reg[3]; /* one for each BAR */
};

static struct drv_machine m;
static struct fake a, b;

static uint64_t fake_read(struct pci_fn *f, unsigned bar, uint64_t off, unsigned size)
{
	(void)size;
	return container_of(f, struct fake, fn)->reg[bar % 3] + off;
}

static void fake_write(struct pci_fn *f, unsigned bar, uint64_t off, uint64_t val, unsigned size)
{
	(void)off;
	(void)size;
	container_of(f, struct fake, fn)->reg[bar % 3] = val;
}

static const struct pci_fn_ops fake_ops = { .bar_read = fake_read, .bar_write = fake_write };

static void fake_add(struct fake *f, int slot)
{
	const struct pci_id id = { .vendor = 0x1234,
				   .device = 0x5678,
				   .class_code = 0x018000,
				   .subvendor = 0x1111,
				   .subsystem = 0x2222,
				   .revision = 7,
				   .intx = true };
	struct err e;

	memset(f, 0, sizeof(*f));
	pci_fn_init(&f->fn, "fake", &id, &fake_ops);
	pci_fn_bar(&f->fn, 0, PCI_BAR_MEM32, 0x4000);
	pci_fn_bar(&f->fn, 1, PCI_BAR_IO, 0x20);
	pci_fn_bar(&f->fn, 2, PCI_BAR_MEM64, 0x10000);
	assert_int_equal(pci_fn_msix(&f->fn, 3, 0, 0x1000, 0x2000), 0);
	assert_int_equal(pci_fn_attach(&f->fn, m.pci, slot, &e), 0);
}

static int setup(void **state)
{
	(void)state;
	drv_machine_init(&m);
	fake_add(&a, 1);
	fake_add(&b, 9); /* shares a's line */
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	pci_fn_detach(&a.fn);
	pci_fn_detach(&b.fn);
	drv_machine_fini(&m);
	return 0;
}

static uint32_t port_read(unsigned slot, unsigned reg, unsigned size)
{
	bus_pio_write(m.bus, 0xcf8, 0x80000000u | slot << 11 | (reg & 0xfc), 4);
	return bus_pio_read(m.bus, (uint16_t)(0xcfc + (reg & 3)), size);
}

static void test_mechanisms_agree(void **state)
{
	(void)state;
	assert_int_equal(port_read(0, 0, 4), 0x29c08086);
	assert_int_equal(port_read(1, 0, 4), 0x56781234);
	assert_int_equal(port_read(1, 2, 2), 0x5678);
	assert_int_equal(port_read(1, 0x0b, 1), 0x01);
	assert_int_equal(port_read(2, 0, 4), 0xffffffff);
	for (unsigned off = 0; off < 256; off += 4)
		assert_int_equal(port_read(1, off, 4), drv_cfg_read(&m, 1, off, 4));
	assert_int_equal(drv_cfg_read(&m, 1, 0x100, 4), 0); /* no extended capabilities */
	assert_int_equal(drv_cfg_read(&m, 2, 0, 2), 0xffff);
	assert_int_equal(mem_load(m.mem, DRV_ECAM + (1 << 15) + (1 << 12), 4),
			 0xffffffff);		     /* func 1 */
	bus_pio_write(m.bus, 0xcf8, 0x80010000u, 4); /* another bus */
	assert_int_equal(bus_pio_read(m.bus, 0xcfc, 4), 0xffffffff);
	bus_pio_write(m.bus, 0xcf8, 0x00000800u, 4); /* not enabled */
	assert_int_equal(bus_pio_read(m.bus, 0xcfc, 4), 0xffffffff);
	/* read-only registers stay */
	drv_cfg_write(&m, 1, 0, 0xdeadbeef, 4);
	assert_int_equal(drv_cfg_read(&m, 1, 0, 4), 0x56781234);
}

static void test_reset_port(void **state)
{
	(void)state;
	bus_pio_write(m.bus, 0xcf9, 0x02, 1);
	assert_false(m.reset_asked);
	bus_pio_write(m.bus, 0xcf9, 0x06, 1);
	assert_true(m.reset_asked);
}

static void test_sizing(void **state)
{
	const uint32_t home = drv_cfg_read(&m, 1, 0x10, 4);

	(void)state;
	assert_in_range(home, DRV_MMIO, DRV_MMIO + DRV_MMIO_SIZE - 1);
	drv_cfg_write(&m, 1, 0x10, 0xffffffff, 4);
	assert_int_equal(drv_cfg_read(&m, 1, 0x10, 4), 0xffffc000);
	drv_cfg_write(&m, 1, 0x14, 0xffffffff, 4);
	assert_int_equal(drv_cfg_read(&m, 1, 0x14, 4), 0xffffffe1);
	drv_cfg_write(&m, 1, 0x18, 0xffffffff, 4);
	drv_cfg_write(&m, 1, 0x1c, 0xffffffff, 4);
	assert_int_equal(drv_cfg_read(&m, 1, 0x18, 4), 0xffff0004);
	assert_int_equal(drv_cfg_read(&m, 1, 0x1c, 4), 0xffffffff);
	drv_cfg_write(&m, 1, 0x20, 0xffffffff, 4); /* not there */
	assert_int_equal(drv_cfg_read(&m, 1, 0x20, 4), 0);
	pci_fn_reset(&a.fn);
	assert_int_equal(drv_cfg_read(&m, 1, 0x10, 4), home);
}

static void test_decoding_and_moving(void **state)
{
	const gpa_t home = drv_cfg_read(&m, 1, 0x10, 4);
	const uint16_t io = (uint16_t)(drv_cfg_read(&m, 1, 0x14, 4) & ~3u);

	(void)state;
	a.reg[0] = 0x100;
	a.reg[1] = 0x200;
	a.reg[2] = 0x300;
	assert_int_equal(mem_load(m.mem, home, 4), 0xffffffff); /* decoding is off */
	drv_cfg_write(&m, 1, PCI_CFG_COMMAND, PCI_CMD_MEM, 2);
	assert_int_equal(mem_load(m.mem, home + 8, 4), 0x108);
	assert_int_equal(bus_pio_read(m.bus, io, 4), 0xffffffff);
	drv_cfg_write(&m, 1, PCI_CFG_COMMAND, PCI_CMD_MEM | PCI_CMD_IO, 2);
	assert_int_equal(bus_pio_read(m.bus, (uint16_t)(io + 4), 2), 0x204);
	/* move the first within the low window, the 64-bit one into the high window */
	drv_cfg_write(&m, 1, 0x10, DRV_MMIO + 0x800000, 4);
	assert_int_equal(mem_load(m.mem, home, 4), 0xffffffff);
	assert_int_equal(mem_load(m.mem, DRV_MMIO + 0x800010, 4), 0x110);
	drv_cfg_write(&m, 1, 0x18, 0x00040000, 4);
	drv_cfg_write(&m, 1, 0x1c, DRV_MMIO64 >> 32, 4);
	mem_store(m.mem, DRV_MMIO64 + 0x40000, 0x4242, 8);
	assert_int_equal(a.reg[2], 0x4242);
	assert_int_equal(mem_load(m.mem, DRV_MMIO64 + 0x40020, 8), 0x4262);
	/* an access over the end is not the BAR's */
	assert_int_equal(mem_load(m.mem, DRV_MMIO64 + 0x4fffc, 8), UINT64_MAX);
}

static void test_intx(void **state)
{
	const unsigned gsi = pci_intx_gsi(1, 0);

	(void)state;
	assert_int_equal(gsi, pci_intx_gsi(9, 0));
	assert_int_equal(drv_cfg_read(&m, 1, PCI_CFG_INT_PIN, 1), 1);
	pci_intx_set(&a.fn, true);
	pci_intx_set(&b.fn, true);
	pci_intx_set(&a.fn, true);
	assert_int_equal(m.gsi_level[gsi], 1);
	assert_int_equal(drv_cfg_read(&m, 1, PCI_CFG_STATUS, 2) & PCI_STATUS_INTX, PCI_STATUS_INTX);
	pci_intx_set(&a.fn, false);
	assert_int_equal(m.gsi_level[gsi], 1); /* b still asks */
	assert_int_equal(drv_cfg_read(&m, 1, PCI_CFG_STATUS, 2) & PCI_STATUS_INTX, 0);
	drv_cfg_write(&m, 9, PCI_CFG_COMMAND, PCI_CMD_INTX_OFF, 2);
	assert_int_equal(m.gsi_level[gsi], 0);
	drv_cfg_write(&m, 9, PCI_CFG_COMMAND, 0, 2);
	assert_int_equal(m.gsi_level[gsi], 1);
	pci_fn_reset(&b.fn);
	assert_int_equal(m.gsi_level[gsi], 0);
}

static unsigned msix_cap(void)
{
	unsigned c = drv_cfg_read(&m, 1, PCI_CFG_CAPS, 1);

	while (drv_cfg_read(&m, 1, c, 1) != PCI_CAP_MSIX)
		c = drv_cfg_read(&m, 1, c + 1, 1);
	return c;
}

static void test_msix(void **state)
{
	const gpa_t bar = drv_cfg_read(&m, 1, 0x10, 4), table = bar + 0x1000, pba = bar + 0x2000;
	const unsigned cap = msix_cap();

	(void)state;
	assert_int_equal(drv_cfg_read(&m, 1, cap + 2, 2), 2); /* n - 1 */
	drv_cfg_write(&m, 1, PCI_CFG_COMMAND, PCI_CMD_MEM | PCI_CMD_MASTER, 2);
	assert_int_equal(mem_load(m.mem, table + 12, 4), 1); /* masked from the start */
	for (unsigned i = 0; i < 3; i++) {
		mem_store(m.mem, table + 16 * i, DRV_MSI, 4);
		mem_store(m.mem, table + 16 * i + 4, 0, 4);
		mem_store(m.mem, table + 16 * i + 8, i + 1, 8); /* data, and unmasked */
	}
	assert_int_equal(mem_load(m.mem, table + 16, 8), DRV_MSI);
	pci_msix_notify(&a.fn, 0);
	assert_int_equal(m.msi_count[1], 0); /* not enabled: lost */
	drv_cfg_write(&m, 1, cap + 2, 0x8000, 2);
	pci_msix_notify(&a.fn, 0);
	pci_msix_notify(&a.fn, 2);
	pci_msix_notify(&a.fn, 3); /* there is none */
	assert_int_equal(m.msi_count[1], 1);
	assert_int_equal(m.msi_count[3], 1);
	/* a masked vector waits, once */
	mem_store(m.mem, table + 16 + 12, 1, 4);
	pci_msix_notify(&a.fn, 1);
	pci_msix_notify(&a.fn, 1);
	assert_int_equal(m.msi_count[2], 0);
	assert_int_equal(mem_load(m.mem, pba, 8), 2);
	mem_store(m.mem, table + 16 + 12, 0, 4);
	assert_int_equal(m.msi_count[2], 1);
	assert_int_equal(mem_load(m.mem, pba, 4), 0);
	/* the whole function masked */
	drv_cfg_write(&m, 1, cap + 2, 0xc000, 2);
	pci_msix_notify(&a.fn, 0);
	assert_int_equal(m.msi_count[1], 1);
	drv_cfg_write(&m, 1, cap + 2, 0x8000, 2);
	assert_int_equal(m.msi_count[1], 2);
	/* no messages without bus mastering */
	drv_cfg_write(&m, 1, PCI_CFG_COMMAND, PCI_CMD_MEM, 2);
	pci_msix_notify(&a.fn, 0);
	assert_int_equal(m.msi_count[1], 2);
	/* odd accesses do nothing; the rest of the BAR is the device's */
	mem_store(m.mem, table + 8, 0xff, 1);
	assert_int_equal(mem_load(m.mem, table + 8, 4), 1);
	assert_int_equal(mem_load(m.mem, bar + 4, 4), a.reg[0] + 4);
	/* MSI-X on: the pin is silent */
	pci_intx_set(&a.fn, true);
	assert_int_equal(m.gsi_level[pci_intx_gsi(1, 0)], 0);
}

/* Every configuration write of every size at every offset: nothing but masked bits may change. */
static void test_config_fuzz(void **state)
{
	uint64_t seed = 12345;

	(void)state;
	for (unsigned i = 0; i < 200000; i++) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		drv_cfg_write(&m, 1, (unsigned)(seed >> 33) % 4096, (uint32_t)(seed >> 20),
			      1u << (seed >> 62) % 3);
		if (i % 16 == 0)
			mem_load(m.mem, DRV_MMIO + (seed >> 30) % DRV_MMIO_SIZE, 4);
	}
	assert_int_equal(drv_cfg_read(&m, 1, 0, 4), 0x56781234);
	assert_int_equal(drv_cfg_read(&m, 1, 8, 4), 0x01800007);
	pci_fn_reset(&a.fn);
	assert_int_equal(drv_cfg_read(&m, 1, PCI_CFG_COMMAND, 2), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_mechanisms_agree),    T(test_reset_port), T(test_sizing),
		T(test_decoding_and_moving), T(test_intx),	 T(test_msix),
		T(test_config_fuzz),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
