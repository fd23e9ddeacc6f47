/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small builder of ACPI machine language (ACPI 6.4, chapter 20): objects that contain others are
 * opened, filled and closed with aml_end, which puts the package length in. Names are written as in
 * ASL ("\\_SB_.PCI0", four letters a segment). Nothing is written beyond the buffer: `overflow` says
 * so at the end. No threads.
 */
#ifndef R3_FW_AML_H
#define R3_FW_AML_H

#include "base/base.h"

#define AML_DEPTH 16

struct aml {
	uint8_t *buf;
	size_t len, cap;
	bool overflow;
	unsigned depth;
	size_t mark[AML_DEPTH]; /* where the package length of each open object goes */
};

void aml_init(struct aml *a, void *buf, size_t cap);

/* Containers; each wants an aml_end. */
void aml_scope(struct aml *a, const char *name);
void aml_device(struct aml *a, const char *name);
void aml_method(struct aml *a, const char *name, unsigned args);
void aml_package(struct aml *a, unsigned elements);
void aml_end(struct aml *a);

/* Name(name, …): the value must follow. */
void aml_name(struct aml *a, const char *name);
void aml_int(struct aml *a, uint64_t v);
void aml_string(struct aml *a, const char *s);
void aml_eisaid(struct aml *a, const char *id);	  /* "PNP0A08" */
void aml_return_arg(struct aml *a, unsigned arg); /* Return (ArgN) */

/* ResourceTemplate () { … }: begin, descriptors, end. */
void aml_res_begin(struct aml *a);
void aml_res_end(struct aml *a);
void aml_res_io(struct aml *a, uint16_t base, uint8_t count);
void aml_res_irq(struct aml *a, unsigned irq);
void aml_res_mem32(struct aml *a, uint32_t base, uint32_t size);
void aml_res_bus(struct aml *a, uint16_t first, uint16_t last);
void aml_res_io_window(struct aml *a, uint16_t first, uint16_t last);
void aml_res_mem32_window(struct aml *a, uint32_t first, uint32_t last);
void aml_res_mem64_window(struct aml *a, uint64_t first, uint64_t last);

#endif
