/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the boot loaders: open files, recognised kernels, entry states. */
#ifndef R3_FW_BOOT_PRIV_H
#define R3_FW_BOOT_PRIV_H

#include "fw/boot.h"

enum fw_kernel_kind { FW_KERNEL_BZIMAGE, FW_KERNEL_PVH };

struct fw_file {
	char *path;
	const char *what; /* "kernel", "initrd" */
	int fd;		  /* -1: none */
	uint64_t size;
};

struct fw_boot {
	enum fw_kernel_kind kind;
	struct fw_file kernel, initrd;
	char *cmdline;
};

/* Opens a regular, non-empty, readable file. */
int fw_file_open(struct fw_file *f, const char *what, const char *path, struct err *e) MUST_CHECK;
void fw_file_close(struct fw_file *f);
/* Reads exactly n bytes at off; a shorter file is an error that says "truncated". */
int fw_file_read(const struct fw_file *f, uint64_t off, void *buf, uint64_t n,
		 struct err *e) MUST_CHECK;
/* The same into guest RAM. */
int fw_file_load(const struct fw_file *f, uint64_t off, uint64_t n, struct mem_map *m, gpa_t a,
		 struct err *e) MUST_CHECK;
/* What a file that is no kernel seems to be, from its first n bytes; never NULL. */
const char *fw_file_guess(const uint8_t *head, size_t n);

/*
 * Loads the initrd, if any, as high as fits below `top` and above `bottom`; *addr is 0 without one.
 */
int fw_initrd_load(const struct fw_boot *b, struct mem_map *m, uint64_t bottom, uint64_t top,
		   gpa_t *addr, struct err *e) MUST_CHECK;
/* Writes the command line at FW_CMDLINE_ADDR; longer than max is an error. */
int fw_cmdline_load(const struct fw_boot *b, struct mem_map *m, uint64_t max,
		    struct err *e) MUST_CHECK;

int fw_bzimage_check(struct fw_boot *b, struct err *e) MUST_CHECK;
int fw_bzimage_load(struct fw_boot *b, struct mem_map *m, const struct fw_layout *l,
		    struct x86_state *s, struct err *e) MUST_CHECK;
int fw_pvh_check(struct fw_boot *b, struct err *e) MUST_CHECK;
int fw_pvh_load(struct fw_boot *b, struct mem_map *m, const struct fw_layout *l,
		struct x86_state *s, struct err *e) MUST_CHECK;

/* 64-bit mode at `entry`: GDT, page tables mapping the first 4 GiB onto themselves, RSI. */
int fw_entry_long(struct mem_map *m, struct x86_state *s, gpa_t entry, uint64_t rsi) MUST_CHECK;
/* 32-bit protected mode without paging at `entry`: flat segments, EBX. */
int fw_entry_protected(struct mem_map *m, struct x86_state *s, gpa_t entry,
		       uint32_t ebx) MUST_CHECK;

#endif
