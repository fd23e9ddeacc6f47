/* SPDX-License-Identifier: Apache-2.0 */
/* Recognises a kernel file and hands it to its loader; what the loaders share. */
#include "fw/boot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fw/boot_priv.h"

/* Decides by content what the kernel file is. */
static int recognise(struct fw_boot *b, struct err *e)
{
	uint8_t head[0x8010] = { 0 };
	size_t n = b->kernel.size < sizeof(head) ? (size_t)b->kernel.size : sizeof(head);
	int r = fw_file_read(&b->kernel, 0, head, n, e);

	if (r)
		return r;
	if (n >= 0x206 && !memcmp(head + 0x202, "HdrS", 4) && head[0x1fe] == 0x55 &&
	    head[0x1ff] == 0xaa) {
		b->kind = FW_KERNEL_BZIMAGE;
		return fw_bzimage_check(b, e);
	}
	if (n >= 64 && !memcmp(head,
			       "\x7f"
			       "ELF",
			       4)) {
		b->kind = FW_KERNEL_PVH;
		return fw_pvh_check(b, e);
	}
	return err_set(e, -EINVAL, "kernel %s is not an x86-64 Linux kernel: it is %s",
		       b->kernel.path, fw_file_guess(head, n));
}

int fw_boot_open(struct fw_boot **out, const struct fw_boot_cfg *c, struct err *e)
{
	struct fw_boot *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return err_set(e, -ENOMEM, "no memory");
	b->kernel.fd = b->initrd.fd = -1;
	b->cmdline = strdup(c->cmdline ? c->cmdline : "");
	r = b->cmdline ? 0 : err_set(e, -ENOMEM, "no memory");
	if (!r)
		r = fw_file_open(&b->kernel, "kernel", c->kernel, e);
	if (!r)
		r = recognise(b, e);
	if (!r && c->initrd)
		r = fw_file_open(&b->initrd, "initrd", c->initrd, e);
	if (r) {
		fw_boot_close(b);
		return r;
	}
	*out = b;
	return 0;
}

void fw_boot_close(struct fw_boot *b)
{
	if (!b)
		return;
	fw_file_close(&b->kernel);
	fw_file_close(&b->initrd);
	free(b->cmdline);
	free(b);
}

const char *fw_boot_kind(const struct fw_boot *b)
{
	return b->kind == FW_KERNEL_PVH ? "PVH" : "bzImage";
}

int fw_initrd_load(const struct fw_boot *b, struct mem_map *m, uint64_t bottom, uint64_t top,
		   gpa_t *addr, struct err *e)
{
	uint64_t size = b->initrd.size;

	*addr = 0;
	if (b->initrd.fd < 0)
		return 0;
	if (top < bottom || size > top - bottom || ALIGN_DOWN(top - size, 4096) < bottom)
		return err_set(
			e, -ENOMEM,
			"initrd %s (%llu MiB) does not fit beside the kernel: give more --memory",
			b->initrd.path, (unsigned long long)(size / MiB + 1));
	*addr = ALIGN_DOWN(top - size, 4096);
	return fw_file_load(&b->initrd, 0, size, m, *addr, e);
}

int fw_cmdline_load(const struct fw_boot *b, struct mem_map *m, uint64_t max, struct err *e)
{
	size_t n = strlen(b->cmdline);

	max = MIN(max, FW_CMDLINE_MAX - 1);
	if (n > max)
		return err_set(e, -E2BIG,
			       "kernel command line of %zu bytes: this kernel takes at most %llu",
			       n, (unsigned long long)max);
	if (mem_copy_in(m, FW_CMDLINE_ADDR, b->cmdline, n + 1) < 0)
		return err_set(e, -EFAULT, "no RAM for the kernel command line");
	return 0;
}

int fw_boot_load(struct fw_boot *b, struct mem_map *m, const struct fw_layout *l,
		 struct x86_state *s, struct err *e)
{
	if (b->kind == FW_KERNEL_PVH)
		return fw_pvh_load(b, m, l, s, e);
	return fw_bzimage_load(b, m, l, s, e);
}
