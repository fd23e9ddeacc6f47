/* SPDX-License-Identifier: Apache-2.0 */
/* The monitor: a prompt on the guest's terminal (Ctrl-A c). The loop's thread. */
#ifndef R3_CLI_MONITOR_H
#define R3_CLI_MONITOR_H

#include <stdio.h>

#include "vmm/vmm.h"

#define MONITOR_LINE 200

struct monitor {
	struct vmm *vmm;
	char line[MONITOR_LINE];
	size_t len;
	/* Text for the user. */
	void (*print)(void *opaque, const char *text, size_t n);
	/* Back to the guest's console. */
	void (*leave)(void *opaque);
	void *opaque;
};

void monitor_enter(struct monitor *m);
/* A key typed at the prompt. */
void monitor_byte(struct monitor *m, uint8_t c);
/* Executes one line; its answer goes to f. False: the monitor is to be left. */
bool monitor_command(struct monitor *m, const char *line, FILE *f);
/* Counters that are not zero. */
void monitor_print_stats(FILE *f);

#endif
