/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables (ACPI 6.4, chapter 5): RSDP, XSDT, FADT with FACS, MADT, MCFG, DSDT. Written once before
 * the guest starts, and again at each reset. No threads.
 */
#ifndef R3_FW_ACPI_H
#define R3_FW_ACPI_H

#include "base/err.h"
#include "fw/layout.h"

/*
 * Builds all tables into buf as they will stand at guest address `base` (the RSDP comes first).
 * Returns the number of bytes, or -ENOSPC.
 */
int64_t fw_acpi_build(uint8_t *buf, size_t cap, gpa_t base, const struct fw_layout *l);
/* Builds them into guest memory at FW_ACPI_ADDR. */
int fw_acpi_install(struct mem_map *m, const struct fw_layout *l, struct err *e) MUST_CHECK;

/* The DSDT's body (without its header): bytes written or -ENOSPC. */
int64_t fw_dsdt_build(uint8_t *buf, size_t cap, const struct fw_layout *l);

#endif
