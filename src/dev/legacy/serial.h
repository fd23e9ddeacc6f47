/* SPDX-License-Identifier: Apache-2.0 */
/* 16550A serial port. */
#ifndef R3_DEV_LEGACY_SERIAL_H
#define R3_DEV_LEGACY_SERIAL_H

#include "bus/bus.h"

struct serial_cfg {
	uint16_t base;
	unsigned irq;
	/* What the guest sends, mostly byte by byte; on a vCPU's thread with the port's lock held: must
	 * not call back into the port. May be NULL. */
	void (*output)(void *opaque, const uint8_t *buf, size_t n);
	/* The guest took input after serial_receive had refused some: offer it again. Any thread, no
	 * lock held. May be NULL. */
	void (*room)(void *opaque);
	void *opaque;
};

extern const struct dev_class serial_class;

/* Any thread: input for the guest. Returns how many bytes were taken; 0 in loopback mode. */
size_t serial_receive(struct dev *d, const uint8_t *buf, size_t n);
/* Any thread: a break condition on the line (the kernel's SysRq prefix). */
void serial_break(struct dev *d);

#endif
