/* SPDX-License-Identifier: Apache-2.0 */
/* The board: RAM around the hole, devices at their places, power button, resets, refused configurations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine/machine.h"

static char kernel[64], disk[64];
static unsigned offs, resets;
static char printed[64];
static size_t nprinted;
static struct loop *loop;
static struct err e;

static void on_off(void *opaque)
{
	(void)opaque;
	offs++;
}

static void on_reset(void *opaque)
{
	(void)opaque;
	resets++;
}

static void on_out(void *opaque, enum machine_console which, const uint8_t *buf, size_t n)
{
	(void)opaque;
	assert_int_equal(which, MACHINE_SERIAL);
	for (size_t i = 0; i < n && nprinted < sizeof(printed) - 1; i++)
		printed[nprinted++] = (char)buf[i];
}

static void on_room(void *opaque)
{
	(void)opaque;
}

static const struct machine_host host = { on_off, on_reset, on_out, on_room, NULL };

/* The smallest file that passes for a kernel. */
static void make_kernel(void)
{
	uint8_t p[1024 + 512] = { 0 };
	FILE *f = fopen(kernel, "w");

	p[0x1f1] = 1;
	p[0x1f4] = 512 / 16;
	memcpy(p + 0x1fe, "\x55\xaa", 2);
	memcpy(p + 0x202, "HdrS\x0f\x02", 6);
	p[0x211] = 1;
	memcpy(p + 0x22c, "\xff\xff\xff\x7f", 4);
	p[0x232] = 0x20; /* alignment 2 MiB */
	p[0x234] = 1;
	p[0x236] = 1;
	p[0x239] = 8;	 /* command line of 2048 */
	p[0x25a] = 0x20; /* preferred address 2 MiB */
	p[0x262] = 0x10; /* 1 MiB */
	assert_non_null(f);
	assert_int_equal(fwrite(p, sizeof(p), 1, f), 1);
	fclose(f);
}

static struct machine *make(struct machine_cfg *c)
{
	c->boot.kernel = kernel;
	if (!c->memory)
		c->memory = 64 * MiB;
	c->cpus = 1;
	memset(&e, 0, sizeof(e));
	return machine_create(c, loop, &host, &e);
}

static void test_small(void **state)
{
	struct machine_cfg c = { 0 };
	struct machine *m = make(&c);
	struct x86_state *s = aligned_alloc(64, ALIGN_UP(sizeof(*s), 64));

	(void)state;
	assert_non_null(m);
	assert_non_null(s);
	assert_non_null(mem_ptr(m->mem, 64 * MiB - 1, 1, true));
	assert_null(mem_ptr(m->mem, 64 * MiB, 1, true));
	x86_state_reset(s);
	machine_reset(m);
	assert_int_equal(machine_load(m, s, &e), 0);
	assert_int_equal(s->rip, 2 * MiB + 0x200);
	assert_memory_equal(mem_ptr(m->mem, FW_ACPI_ADDR, 8, false), "RSD PTR ", 8);
	memset(mem_ptr(m->mem, 32 * MiB, 16, true), 0xaa, 16);
	assert_int_equal(machine_load(m, s, &e), 0);
	assert_int_equal(*mem_ptr(m->mem, 32 * MiB, 1, false), 0);
	free(s);
	machine_destroy(m);
}

static void test_high_ram(void **state)
{
	struct machine_cfg c = { .memory = 4 * GiB };
	struct machine *m = make(&c);

	(void)state;
	assert_non_null(m);
	assert_int_equal(m->layout.ram_low + m->layout.ram_high, 4 * GiB);
	assert_int_equal(m->layout.ram_low, 0xb0000000);
	assert_non_null(mem_ptr(m->mem, 0xafffffff, 1, true));
	assert_null(mem_ptr(m->mem, 0xb0000000, 1, true));
	assert_non_null(mem_ptr(m->mem, 4 * GiB + m->layout.ram_high - 1, 1, true));
	assert_null(mem_ptr(m->mem, 4 * GiB + m->layout.ram_high, 1, true));
	assert_true(m->layout.pci64_base >= 4 * GiB + m->layout.ram_high);
	machine_destroy(m);
}

static void test_ports(void **state)
{
	struct machine_cfg c = { 0 };
	struct machine *m = make(&c);

	(void)state;
	assert_non_null(m);
	machine_reset(m);
	offs = resets = 0;
	bus_pio_write(m->bus, 0x3f8, 'h', 1);
	bus_pio_write(m->bus, 0x3f8, 'i', 1);
	assert_string_equal(printed, "hi");
	assert_int_equal(bus_pio_read(m->bus, 0x604, 2) & 1, 1);
	machine_power_button(m);
	assert_true(bus_pio_read(m->bus, 0x600, 2) & 0x100);
	bus_pio_write(m->bus, 0x604, 5 << 10 | 1 << 13, 2);
	assert_int_equal(offs, 1);
	bus_pio_write(m->bus, 0xcf9, 6, 1);
	assert_int_equal(resets, 1);
	bus_pio_write(m->bus, 0x64, 0xfe, 1);
	assert_int_equal(resets, 2);
	/* The host bridge by both mechanisms. */
	bus_pio_write(m->bus, 0xcf8, 0x80000000, 4);
	assert_int_equal(bus_pio_read(m->bus, 0xcfc, 4), mem_load(m->mem, 0xb0000000, 4));
	assert_true(mem_load(m->mem, 0xb0000000, 2) == 0x8086);
	assert_int_equal(machine_console_in(m, MACHINE_SERIAL, (const uint8_t *)"x", 1), 1);
	assert_int_equal(bus_pio_read(m->bus, 0x3f8, 1), 'x');
	machine_destroy(m);
}

static void test_disk_and_net(void **state)
{
	char text[128];
	struct machine_cfg c = { .disks = 1, .nets = 1, .net = { "user,restrict=on" } };
	struct machine *m;
	FILE *f = fopen(disk, "w");

	(void)state;
	assert_non_null(f);
	fclose(f);
	assert_int_equal(truncate(disk, MiB), 0);
	snprintf(text, sizeof(text), "path=%s", disk);
	c.disk[0] = text;
	m = make(&c);
	if (!m)
		fail_msg("%s", e.msg);
	/* virtio, in the slots after the bridge */
	for (unsigned slot = 1; slot <= 3; slot++)
		assert_int_equal(mem_load(m->mem, 0xb0000000 + (slot << 15), 2), 0x1af4);
	machine_shutdown(m);
	machine_destroy(m);
}

static void test_refused(void **state)
{
	struct machine_cfg c = { .disks = 1, .disk = { "path=/nonexistent/x" } };

	(void)state;
	assert_null(make(&c));
	assert_non_null(strstr(e.msg, "/nonexistent/x"));
	c = (struct machine_cfg){ .nets = 1, .net = { "user,forward=tcp:1" } };
	assert_null(make(&c));
	assert_non_null(strstr(e.msg, "forward"));
	c = (struct machine_cfg){ .nets = 1, .net = { "user,mac=zz" } };
	assert_null(make(&c));
	assert_non_null(strstr(e.msg, "mac"));
}

static int setup(void **state)
{
	(void)state;
	snprintf(kernel, sizeof(kernel), "/tmp/ring3-machine-kernel-%d", getpid());
	snprintf(disk, sizeof(disk), "/tmp/ring3-machine-disk-%d", getpid());
	make_kernel();
	loop = loop_new(&e);
	return loop ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	unlink(kernel);
	unlink(disk);
	loop_free(loop);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small),	cmocka_unit_test(test_high_ram),
		cmocka_unit_test(test_ports),	cmocka_unit_test(test_disk_and_net),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
