/* SPDX-License-Identifier: Apache-2.0 */
/* Keyboard controller without keyboard or mouse: what resets and probing need. */
#ifndef R3_DEV_LEGACY_I8042_H
#define R3_DEV_LEGACY_I8042_H

#include "bus/bus.h"

struct i8042_cfg {
	unsigned kbd_irq, aux_irq; /* 1 and 12 on a PC */
	/* The guest pulsed the reset line. On a vCPU's thread, no lock held. */
	void (*reset)(void *opaque);
	void *opaque;
};

extern const struct dev_class i8042_class;

#endif
