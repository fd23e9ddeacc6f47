/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Output is gathered in a buffer per console and written by the loop's thread, so that a guest that prints
 * byte by byte does not cost a system call each; a thread that finds the buffer full writes it itself and
 * waits for the reader. console->lock guards the buffers and keeps writes in order.
 */
#include "cli/console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "cli/term.h"

#define CHUNK 4096	  /* poll promises room for this much in a pipe */
#define RETRY_NS 10000000 /* a blocked output is tried again */

/* ---- output ---- */

static bool can_write(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	return poll(&p, 1, timeout_ms) > 0;
}

/* Writes what goes without blocking; lock held. A dead output swallows everything. */
static void drain(struct console_sink *s, int timeout_ms)
{
	size_t done = 0;
	ssize_t n;

	while (done < s->len && can_write(s->fd, timeout_ms)) {
		n = write(s->fd, s->buf + done, MIN(s->len - done, (size_t)CHUNK));
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			break;
		if (n < 0)
			done = s->len;
		else
			done += (size_t)n;
	}
	memmove(s->buf, s->buf + done, s->len - done);
	s->len -= done;
}

static void flush(struct console *c)
{
	bool left = false;

	pthread_mutex_lock(&c->lock);
	for (unsigned i = 0; i < MACHINE_CONSOLES; i++) {
		struct console_sink *s = &c->sink[i];

		if (s->fd < 0 || (atomic_load(&c->held) && s->fd == STDOUT_FILENO))
			continue;
		drain(s, 0);
		left = left || s->len > 0;
	}
	atomic_store(&c->stalled, left);
	pthread_mutex_unlock(&c->lock);
	if (left)
		loop_timer_set(c->loop, &c->flush_timer, clock_monotonic_ns() + RETRY_NS);
}

static void on_flush_work(struct loop_work *w)
{
	flush(w->opaque);
}

static void on_flush_timer(struct loop_timer *t)
{
	flush(t->opaque);
}

/* The buffer is full: the guest waits for the reader, unless the VM is ending. Lock held. */
static void wait_for_room(struct console *c, struct console_sink *s)
{
	while (s->len == CONSOLE_OUT_SIZE) {
		atomic_store(&c->stalled, true);
		if (atomic_load(&c->closing) || atomic_load(&c->held) || vmm_stopping(c->vmm)) {
			s->len = 0;
			return;
		}
		drain(s, 50);
		pthread_mutex_unlock(&c->lock);
		sched_yield();
		pthread_mutex_lock(&c->lock);
	}
}

void console_out(struct console *c, enum machine_console which, const uint8_t *buf, size_t n)
{
	struct console_sink *s = &c->sink[which];
	bool was_empty;
	size_t part;

	if (s->fd < 0)
		return;
	pthread_mutex_lock(&c->lock);
	was_empty = s->len == 0;
	while (n) {
		wait_for_room(c, s);
		part = MIN(n, CONSOLE_OUT_SIZE - s->len);
		memcpy(s->buf + s->len, buf, part);
		s->len += part;
		buf += part;
		n -= part;
	}
	pthread_mutex_unlock(&c->lock);
	if (was_empty)
		loop_post(c->loop, &c->flush_work);
}

void console_notice(struct console *c, const char *line)
{
	flush(c);
	fprintf(stderr, "%sring3: %s%s", term_is_raw() ? "\r\n" : "", line,
		term_is_raw() ? "\r\n" : "\n");
	fflush(stderr);
}

void console_print(struct console *c, const char *text, size_t n)
{
	const char *nl;
	size_t part;

	(void)c;
	while (n) {
		nl = term_is_raw() ? memchr(text, '\n', n) : NULL;
		part = nl ? (size_t)(nl - text) : n;
		fwrite(text, 1, part, stdout);
		if (nl)
			fputs("\r\n", stdout);
		part += nl ? 1 : 0;
		text += part;
		n -= part;
	}
	fflush(stdout);
}

void console_hold(struct console *c, bool hold)
{
	if (hold)
		flush(c);
	atomic_store(&c->held, hold);
	if (!hold)
		flush(c);
}

/* ---- input ---- */

/* Keys typed at a terminal are dropped when too many wait; a pipe is read only while there is room. */
static void update_reading(struct console *c)
{
	bool want = c->tty || c->npending < CONSOLE_IN_SIZE;

	if (c->in_open && c->in_pollable && loop_fd_mod(c->loop, &c->in, want ? EPOLLIN : 0) < 0)
		c->in_open = false;
}

static void deliver(struct console *c)
{
	size_t n;

	if (!c->npending || (atomic_load(&c->stalled) && !c->tty))
		return;
	n = vmm_console_in(c->vmm, c->input, c->pending, c->npending);
	memmove(c->pending, c->pending + n, c->npending - n);
	c->npending -= n;
}

static void take_byte(struct console *c, uint8_t byte)
{
	enum escape_action a = c->tty ? escape_feed(&c->escape, byte, &byte) : ESCAPE_BYTE;

	if (a == ESCAPE_NONE)
		return;
	if (a != ESCAPE_BYTE)
		c->action(c->opaque, a);
	else if (atomic_load(&c->held))
		c->monitor_byte(c->opaque, byte);
	else if (c->npending < CONSOLE_IN_SIZE)
		c->pending[c->npending++] = byte;
}

/* The end of the input is not the end of the guest. */
static void close_input(struct console *c)
{
	if (c->in_open && c->in_pollable)
		loop_fd_del(c->loop, &c->in);
	c->in_open = false;
}

static void read_input(struct console *c)
{
	uint8_t buf[512];
	size_t room = c->tty ? sizeof(buf) : MIN(sizeof(buf), CONSOLE_IN_SIZE - c->npending);
	ssize_t n;

	if (!c->in_open || room == 0)
		return;
	n = read(STDIN_FILENO, buf, room);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		close_input(c);
		return;
	}
	for (ssize_t i = 0; i < n; i++)
		take_byte(c, buf[i]);
}

static void pump(struct console *c)
{
	do {
		if (!c->in_pollable)
			read_input(c);
		deliver(c);
	} while (!c->in_pollable && c->in_open && c->npending == 0);
	update_reading(c);
}

static void on_input(struct loop_fd *f, uint32_t events)
{
	struct console *c = f->opaque;

	(void)events;
	read_input(c);
	deliver(c);
	update_reading(c);
}

void console_room(struct console *c)
{
	pump(c);
}

void console_start(struct console *c, struct vmm *v)
{
	int r;

	c->vmm = v;
	if (c->sink[MACHINE_SERIAL].fd != STDOUT_FILENO &&
	    c->sink[MACHINE_VIRTIO_CONSOLE].fd != STDOUT_FILENO)
		return;
	c->tty = term_raw(STDIN_FILENO);
	c->in = (struct loop_fd){
		.fd = STDIN_FILENO,
		.events = EPOLLIN,
		.ready = on_input,
		.opaque = c,
	};
	c->in_open = true;
	r = loop_fd_add(c->loop, &c->in);
	c->in_pollable = r == 0;
	if (r && r != -EPERM) /* -EPERM: a regular file, always ready; else: closed */
		c->in_open = false;
	if (!c->in_pollable)
		pump(c);
}

/* ---- opening ---- */

static int open_sink(struct console_sink *s, const char *dest, struct err *e)
{
	s->fd = -1;
	if (!strcmp(dest, "null"))
		return 0;
	s->buf = malloc(CONSOLE_OUT_SIZE);
	if (!s->buf)
		return err_set(e, -ENOMEM, "no memory");
	if (!strcmp(dest, "stdio")) {
		s->fd = STDOUT_FILENO;
		return 0;
	}
	if (strncmp(dest, "file:", 5) != 0 || !dest[5])
		return err_set(e, -EINVAL, "'%.100s': allowed are stdio, null and file:PATH", dest);
	s->fd = open(dest + 5, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
	if (s->fd < 0)
		return err_set(e, -errno, "cannot write %.180s: %s", dest + 5, strerror(errno));
	s->is_file = true;
	return 0;
}

int console_open(struct console *c, struct loop *l, const char *const dest[MACHINE_CONSOLES],
		 struct err *e)
{
	int r = 0;

	memset(c, 0, sizeof(*c));
	c->loop = l;
	pthread_mutex_init(&c->lock, NULL);
	c->flush_work = (struct loop_work){ .run = on_flush_work, .opaque = c };
	c->flush_timer = (struct loop_timer){ .fire = on_flush_timer, .opaque = c };
	for (unsigned i = 0; i < MACHINE_CONSOLES; i++)
		c->sink[i].fd = -1;
	for (unsigned i = 0; i < MACHINE_CONSOLES && !r; i++)
		r = open_sink(&c->sink[i], dest[i], e);
	if (c->sink[MACHINE_VIRTIO_CONSOLE].fd == STDOUT_FILENO)
		c->input = MACHINE_VIRTIO_CONSOLE;
	if (r)
		console_close(c);
	return r;
}

void console_close(struct console *c)
{
	close_input(c);
	loop_timer_cancel(c->loop, &c->flush_timer);
	atomic_store(&c->closing, true);
	for (unsigned i = 0; i < MACHINE_CONSOLES; i++) {
		struct console_sink *s = &c->sink[i];

		for (int tries = 0; s->fd >= 0 && s->len > 0 && tries < 10; tries++)
			drain(s, 100);
		if (s->is_file)
			close(s->fd);
		free(s->buf);
		s->buf = NULL;
		s->fd = -1;
	}
	term_restore();
}
