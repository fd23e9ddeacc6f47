/* SPDX-License-Identifier: Apache-2.0 */
/* MC146818 real-time clock with CMOS memory. */
#ifndef R3_DEV_LEGACY_RTC_H
#define R3_DEV_LEGACY_RTC_H

#include "bus/bus.h"
#include "loop/loop.h"

struct rtc_cfg {
	uint16_t base; /* index port; data at +1 */
	unsigned irq;
	struct loop *loop;
	uint64_t ram_below_4g, ram_above_4g; /* bytes, for the size registers firmware reads */
};

extern const struct dev_class rtc_class;

#endif
