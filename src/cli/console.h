/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the user's terminal (or files) and the guest's consoles. Output may come from any thread; the rest
 * belongs to the loop's thread.
 */
#ifndef R3_CLI_CONSOLE_H
#define R3_CLI_CONSOLE_H

#include <pthread.h>
#include <stdatomic.h>

#include "cli/escape.h"
#include "loop/loop.h"
#include "vmm/vmm.h"

#define CONSOLE_OUT_SIZE (256 * 1024)
#define CONSOLE_IN_SIZE 4096

/* Where a guest console's output goes. */
struct console_sink {
	int fd;	      /* -1: dropped */
	bool is_file; /* opened by us */
	size_t len;   /* bytes waiting in buf */
	uint8_t *buf;
};

struct console {
	struct loop *loop;
	struct vmm *vmm;
	pthread_mutex_t lock; /* sinks */
	struct console_sink sink[MACHINE_CONSOLES];
	struct loop_work flush_work;
	struct loop_timer flush_timer;
	atomic_bool stalled, closing, held; /* held: the monitor has the terminal */

	enum machine_console input; /* which console the keyboard belongs to */
	struct loop_fd in;
	bool in_open, in_pollable, tty;
	struct escape escape;
	uint8_t pending[CONSOLE_IN_SIZE]; /* typed, not yet taken by the guest */
	size_t npending;

	/* Called for Ctrl-A x, c, h and, in the monitor, for every byte. */
	void (*action)(void *opaque, enum escape_action a);
	void (*monitor_byte)(void *opaque, uint8_t c);
	void *opaque;
};

/*
 * dest: "stdio", "null" or "file:PATH", for each console. The keyboard belongs to the console on stdio.
 */
int console_open(struct console *c, struct loop *l, const char *const dest[MACHINE_CONSOLES],
		 struct err *e) MUST_CHECK;
/* Starts reading the keyboard. */
void console_start(struct console *c, struct vmm *v);
void console_close(struct console *c);

/* What vmm_cfg wants. */
void console_out(struct console *c, enum machine_console which, const uint8_t *buf, size_t n);
void console_room(struct console *c);
/* A line for the user on stderr, after the output that came before it. */
void console_notice(struct console *c, const char *line);
/* Text for the user on stdout, with the line ends the terminal needs. */
void console_print(struct console *c, const char *text, size_t n);
/* The monitor takes the terminal, or gives it back. */
void console_hold(struct console *c, bool hold);

#endif
