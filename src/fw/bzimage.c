/* SPDX-License-Identifier: Apache-2.0 */
/* Linux bzImage: setup header, zero page, 64-bit entry (Documentation/arch/x86/boot.rst, zero-page.rst). */
#include <errno.h>
#include <string.h>

#include "fw/boot_priv.h"
#include "fw/e820.h"

/* Offsets in the image's first sectors; the header is copied to the same place of the zero page. */
enum {
	ZP_RSDP_ADDR = 0x70,
	ZP_E820_COUNT = 0x1e8,
	HDR_SETUP_SECTS = 0x1f1,
	HDR_SYSSIZE = 0x1f4,
	HDR_BOOT_FLAG = 0x1fe,
	HDR_JUMP_LEN = 0x201,
	HDR_MAGIC = 0x202,
	HDR_VERSION = 0x206,
	HDR_LOADER = 0x210,
	HDR_LOADFLAGS = 0x211,
	HDR_CODE32 = 0x214,
	HDR_RAMDISK = 0x218,
	HDR_RAMDISK_SIZE = 0x21c,
	HDR_CMDLINE = 0x228,
	HDR_INITRD_MAX = 0x22c,
	HDR_ALIGNMENT = 0x230,
	HDR_RELOCATABLE = 0x234,
	HDR_XLOADFLAGS = 0x236,
	HDR_CMDLINE_SIZE = 0x238,
	HDR_PREF_ADDRESS = 0x258,
	HDR_INIT_SIZE = 0x260,
	HDR_END = 0x264,
	ZP_E820_TABLE = 0x2d0,
};

#define XLF_KERNEL_64 1
#define LOADED_HIGH 1
#define ENTRY_64 0x200

struct header {
	uint64_t setup_size, code_size;
	uint64_t cmdline_max, initrd_max, alignment, pref, init_size;
	bool relocatable;
	uint8_t raw[0x300]; /* the file's first bytes */
};

static uint64_t get(const uint8_t *p, unsigned off, unsigned n)
{
	uint64_t v = 0;

	memcpy(&v, p + off, n);
	return v;
}

static void set(uint8_t *p, unsigned off, unsigned n, uint64_t v)
{
	memcpy(p + off, &v, n);
}

static int check_version(const struct fw_boot *b, const uint8_t *p, struct err *e)
{
	if (get(p, HDR_VERSION, 2) < 0x20c)
		return err_set(
			e, -EINVAL,
			"kernel %s is too old: boot protocol 2.12 (Linux 3.8) or newer is needed",
			b->kernel.path);
	if (!(get(p, HDR_LOADFLAGS, 1) & LOADED_HIGH))
		return err_set(e, -EINVAL, "kernel %s is a zImage: a bzImage is needed",
			       b->kernel.path);
	if (!(get(p, HDR_XLOADFLAGS, 2) & XLF_KERNEL_64))
		return err_set(e, -EINVAL, "kernel %s is a 32-bit kernel: an x86-64 one is needed",
			       b->kernel.path);
	return 0;
}

static int read_header(const struct fw_boot *b, struct header *h, struct err *e)
{
	const uint8_t *p = h->raw;
	int r = fw_file_read(&b->kernel, 0, h->raw, sizeof(h->raw), e);

	if (!r)
		r = check_version(b, p, e);
	if (r)
		return r;
	h->setup_size = 512 * ((get(p, HDR_SETUP_SECTS, 1) ? get(p, HDR_SETUP_SECTS, 1) : 4) + 1);
	h->code_size = get(p, HDR_SYSSIZE, 4) * 16;
	h->cmdline_max = get(p, HDR_CMDLINE_SIZE, 4);
	h->initrd_max = get(p, HDR_INITRD_MAX, 4);
	h->alignment = get(p, HDR_ALIGNMENT, 4);
	h->relocatable = get(p, HDR_RELOCATABLE, 1);
	h->pref = get(p, HDR_PREF_ADDRESS, 8);
	h->init_size = get(p, HDR_INIT_SIZE, 4);
	if (h->code_size == 0 || h->setup_size >= b->kernel.size ||
	    h->code_size > ALIGN_UP(b->kernel.size - h->setup_size, 16))
		return err_set(e, -EINVAL, "kernel %s is truncated: copy it again", b->kernel.path);
	if (h->alignment == 0 || (h->alignment & (h->alignment - 1)) || h->pref < FW_HIGH_MEM)
		return err_set(e, -EINVAL, "kernel %s has a damaged header", b->kernel.path);
	h->code_size = MIN(h->code_size, b->kernel.size - h->setup_size);
	h->init_size = MAX(h->init_size, h->code_size);
	return 0;
}

int fw_bzimage_check(struct fw_boot *b, struct err *e)
{
	struct header h;

	return read_header(b, &h, e);
}

/* Where the kernel goes: its preferred address, or the lowest aligned one when that is beyond RAM. */
static int choose_address(const struct fw_boot *b, const struct header *h, uint64_t ram,
			  gpa_t *addr, struct err *e)
{
	uint64_t at = h->pref;

	if (h->relocatable && (at > ram || h->init_size > ram - at))
		at = ALIGN_UP(FW_HIGH_MEM, h->alignment);
	if (at > ram || h->init_size > ram - at)
		return err_set(
			e, -ENOMEM,
			"kernel %s needs %llu MiB of memory, the guest has %llu: give more --memory",
			b->kernel.path, (unsigned long long)((at + h->init_size) / MiB + 1),
			(unsigned long long)(ram / MiB));
	*addr = at;
	return 0;
}

static int put_zero_page(struct mem_map *m, const struct fw_layout *l, const struct header *h,
			 gpa_t initrd, uint64_t initrd_size)
{
	uint8_t zp[4096] = { 0 };
	unsigned end = MIN(HDR_MAGIC + (unsigned)h->raw[HDR_JUMP_LEN], (unsigned)ZP_E820_TABLE);
	struct fw_e820_entry e820[FW_E820_MAX];
	unsigned n = fw_e820_build(e820, l);

	end = MAX(end, (unsigned)HDR_END);
	memcpy(zp + HDR_SETUP_SECTS, h->raw + HDR_SETUP_SECTS, end - HDR_SETUP_SECTS);
	set(zp, HDR_LOADER, 1, 0xff);
	set(zp, HDR_CMDLINE, 4, FW_CMDLINE_ADDR);
	set(zp, HDR_RAMDISK, 4, initrd);
	set(zp, HDR_RAMDISK_SIZE, 4, initrd_size);
	set(zp, ZP_RSDP_ADDR, 8, FW_ACPI_ADDR);
	set(zp, ZP_E820_COUNT, 1, n);
	memcpy(zp + ZP_E820_TABLE, e820, n * sizeof(e820[0]));
	return mem_copy_in(m, FW_ZERO_PAGE_ADDR, zp, sizeof(zp));
}

int fw_bzimage_load(struct fw_boot *b, struct mem_map *m, const struct fw_layout *l,
		    struct x86_state *s, struct err *e)
{
	struct header h;
	gpa_t at = 0, initrd;
	int r = read_header(b, &h, e);

	if (!r)
		r = choose_address(b, &h, l->ram_low, &at, e);
	if (!r)
		r = fw_file_load(&b->kernel, h.setup_size, h.code_size, m, at, e);
	if (!r)
		r = fw_initrd_load(b, m, at + h.init_size, MIN(h.initrd_max + 1, l->ram_low),
				   &initrd, e);
	if (!r)
		r = fw_cmdline_load(b, m, h.cmdline_max, e);
	if (r)
		return r;
	if (put_zero_page(m, l, &h, initrd, initrd ? b->initrd.size : 0) < 0 ||
	    fw_entry_long(m, s, at + ENTRY_64, FW_ZERO_PAGE_ADDR) < 0)
		return err_set(e, -EFAULT, "no RAM below 1 MiB for the boot parameters");
	return 0;
}
