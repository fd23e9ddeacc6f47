/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Direct kernel boot: a Linux bzImage through the 64-bit entry of the Linux boot protocol, or an x86-64
 * ELF kernel through its PVH entry. fw_boot_open looks at the files and keeps them open;
 * fw_boot_load may run again for every reset of the guest. One thread.
 */
#ifndef R3_FW_BOOT_H
#define R3_FW_BOOT_H

#include "base/err.h"
#include "fw/layout.h"
#include "x86/state.h"

struct fw_boot_cfg {
	const char *kernel;
	const char *initrd; /* NULL: none */
	const char *cmdline;
};

struct fw_boot;

/* Opens and recognises the files. Errors name the file, what it is and the mend. */
int fw_boot_open(struct fw_boot **out, const struct fw_boot_cfg *c, struct err *e) MUST_CHECK;
void fw_boot_close(struct fw_boot *b);
/* "bzImage" or "PVH" */
const char *fw_boot_kind(const struct fw_boot *b);

/*
 * Puts kernel, initrd, command line and boot information into guest RAM (which is zero) and sets *s, which
 * holds the reset state, to the kernel's entry.
 */
int fw_boot_load(struct fw_boot *b, struct mem_map *m, const struct fw_layout *l,
		 struct x86_state *s, struct err *e) MUST_CHECK;

#endif
