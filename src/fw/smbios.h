/* SPDX-License-Identifier: Apache-2.0 */
/* A minimal SMBIOS 3 table (DMTF DSP0134): BIOS, system, end. At the start of the F segment. No threads. */
#ifndef R3_FW_SMBIOS_H
#define R3_FW_SMBIOS_H

#include "base/err.h"
#include "fw/layout.h"

/* Builds entry point and structures for guest address `base`; returns the bytes used or -ENOSPC. */
int64_t fw_smbios_build(uint8_t *buf, size_t cap, gpa_t base);
int fw_smbios_install(struct mem_map *m, struct err *e) MUST_CHECK;

#endif
