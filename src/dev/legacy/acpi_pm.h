/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI fixed hardware: PM1a event and control blocks, PM timer, power button, S5. */
#ifndef R3_DEV_LEGACY_ACPI_PM_H
#define R3_DEV_LEGACY_ACPI_PM_H

#include "bus/bus.h"
#include "loop/loop.h"

/* SLP_TYP that the DSDT's \_S5 names. */
#define ACPI_PM_S5 5u

struct acpi_pm_cfg {
	uint16_t base; /* 16 ports: PM1a_EVT at +0, PM1a_CNT +4, PM_TMR +8 */
	unsigned sci;  /* level-triggered, active high */
	bool timer32;  /* as the FADT's flag says */
	struct loop *loop;
	/* The guest switched itself off. On a vCPU's thread, no lock held. */
	void (*poweroff)(void *opaque);
	void *opaque;
};

extern const struct dev_class acpi_pm_class;

/* Any thread: somebody presses the power button. */
void acpi_pm_power_button(struct dev *d);

#endif
