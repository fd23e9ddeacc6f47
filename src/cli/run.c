/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `ring3 run`: one virtual machine on this terminal. Signals are blocked everywhere and read from a
 * signalfd on the loop, which the main thread runs.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/stats.h"
#include "cli/cli.h"
#include "cli/console.h"
#include "cli/host.h"
#include "cli/monitor.h"
#include "cli/run_opts.h"
#include "cli/term.h"

struct run {
	struct run_opts opts;
	struct loop *loop;
	struct vmm *vmm;
	struct console console;
	struct monitor monitor;
	struct loop_fd signals;
	bool asked_off; /* the power button was pressed for a signal */
	bool console_is_open;
};

/* ---- what the VM says ---- */

static void on_console_out(void *opaque, enum machine_console which, const uint8_t *buf, size_t n)
{
	struct run *r = opaque;

	console_out(&r->console, which, buf, n);
}

static void on_console_room(void *opaque)
{
	struct run *r = opaque;

	console_room(&r->console);
}

static void on_notice(void *opaque, const char *line)
{
	struct run *r = opaque;

	console_notice(&r->console, line);
}

/* ---- what the user does ---- */

static void leave_monitor(void *opaque)
{
	struct run *r = opaque;

	console_hold(&r->console, false);
}

static void monitor_print(void *opaque, const char *text, size_t n)
{
	struct run *r = opaque;

	console_print(&r->console, text, n);
}

static void toggle_monitor(struct run *r)
{
	if (atomic_load(&r->console.held)) {
		leave_monitor(r);
		return;
	}
	console_hold(&r->console, true);
	monitor_enter(&r->monitor);
}

static void on_key(void *opaque, enum escape_action a)
{
	static const char help[] =
		"\n[Ctrl-A x ends the virtual machine, Ctrl-A c opens and closes the "
		"monitor, Ctrl-A a sends Ctrl-A]\n";
	struct run *r = opaque;

	switch (a) {
	case ESCAPE_QUIT: vmm_quit(r->vmm, VMM_END_OFF); break;
	case ESCAPE_MONITOR: toggle_monitor(r); break;
	case ESCAPE_HELP: console_print(&r->console, help, sizeof(help) - 1); break;
	default: break;
	}
}

static void on_monitor_byte(void *opaque, uint8_t c)
{
	struct run *r = opaque;

	monitor_byte(&r->monitor, c);
}

/* ---- signals ---- */

static void on_terminate(struct run *r)
{
	if (r->asked_off) {
		vmm_quit(r->vmm, VMM_END_KILLED);
		return;
	}
	r->asked_off = true;
	console_notice(&r->console, "power button pressed; another signal ends the guest at once");
	vmm_resume(r->vmm);
	vmm_power_button(r->vmm);
}

static void on_stop(struct run *r)
{
	bool was_raw = term_is_raw();

	term_restore();
	kill(getpid(), SIGSTOP);
	if (was_raw)
		term_raw(STDIN_FILENO);
	(void)r;
}

/* After a stop from outside the shell has put the terminal back to its own mode. */
static void on_continue(struct run *r)
{
	if (!r->console.tty)
		return;
	term_restore();
	term_raw(STDIN_FILENO);
}

static void on_signal(struct loop_fd *f, uint32_t events)
{
	struct run *r = f->opaque;
	struct signalfd_siginfo si;

	(void)events;
	if (read(f->fd, &si, sizeof(si)) != sizeof(si))
		return;
	switch (si.ssi_signo) {
	case SIGTSTP: on_stop(r); break;
	case SIGCONT: on_continue(r); break;
	default: on_terminate(r); break;
	}
}

static int watch_signals(struct run *r, struct err *e)
{
	static const int which[] = { SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGTSTP, SIGCONT };
	sigset_t set;

	sigemptyset(&set);
	for (unsigned i = 0; i < ARRAY_SIZE(which); i++)
		sigaddset(&set, which[i]);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTTOU, SIG_IGN);
	r->signals = (struct loop_fd){
		.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK),
		.events = EPOLLIN,
		.ready = on_signal,
		.opaque = r,
	};
	if (r->signals.fd < 0 || loop_fd_add(r->loop, &r->signals) < 0)
		return err_set(e, -errno, "cannot watch signals: %s", strerror(errno));
	return 0;
}

/* ---- one run ---- */

/* Which engine runs, and why: one line before the guest's first. */
static void announce(const struct run *r)
{
	const char *engine = vmm_engine_name(r->vmm), *why = vmm_engine_why(r->vmm);
	char kvm[128];

	if (strcmp(r->opts.engine, "auto") != 0)
		fprintf(stderr, "ring3: engine %s: as asked\n", engine);
	else if (why[0])
		fprintf(stderr, "ring3: engine %s: %s\n", engine, why);
	else if (host_kvm(kvm, sizeof(kvm)))
		fprintf(stderr,
			"ring3: engine %s: binary translation; this version does not use %s\n",
			engine, kvm);
	else
		fprintf(stderr,
			"ring3: engine %s: binary translation, as there is no hardware virtualization (%s)\n",
			engine, kvm);
}

static int create(struct run *r, struct err *e)
{
	struct vmm_cfg cfg;
	int rc;

	r->loop = loop_new(e);
	if (!r->loop)
		return e->code;
	rc = watch_signals(r, e);
	if (rc)
		return rc;
	run_opts_vmm(&r->opts, &cfg);
	cfg.console_out = on_console_out;
	cfg.console_room = on_console_room;
	cfg.notice = on_notice;
	cfg.opaque = r;
	r->vmm = vmm_create(&cfg, r->loop, e);
	if (!r->vmm)
		return e->code;
	rc = console_open(&r->console, r->loop, r->opts.sink, e);
	if (rc)
		return err_prefix(e, "--serial");
	r->console_is_open = true;
	announce(r);
	return 0;
}

static void destroy(struct run *r)
{
	if (r->console_is_open)
		console_close(&r->console);
	vmm_destroy(r->vmm);
	if (r->loop) {
		if (r->signals.fd > 0) {
			loop_fd_del(r->loop, &r->signals);
			close(r->signals.fd);
		}
		loop_free(r->loop);
	}
}

static int run_vm(struct run *r)
{
	struct err e = { 0 };
	enum vmm_end end;

	r->console.action = on_key;
	r->console.monitor_byte = on_monitor_byte;
	r->console.opaque = r;
	r->monitor = (struct monitor){
		.vmm = r->vmm,
		.print = monitor_print,
		.leave = leave_monitor,
		.opaque = r,
	};
	console_start(&r->console, r->vmm);
	if (vmm_start(r->vmm, &e) < 0) {
		term_restore();
		return cli_fail(&e);
	}
	end = vmm_run(r->vmm, &e);
	atomic_store(&r->console.held, false);
	console_close(&r->console);
	r->console_is_open = false;
	if (e.code)
		fprintf(stderr, "ring3: %s\n", e.msg);
	if (end == VMM_END_CRASH)
		fprintf(stderr, "ring3: ended: %s\n", vmm_crash_text(r->vmm));
	if (r->opts.stats)
		monitor_print_stats(stderr);
	return (int)end;
}

static int run(int argc, char **argv)
{
	static struct run r;
	struct err e = { 0 };
	int status;

	if (run_opts_parse(&r.opts, argc - 1, argv + 1, &e) < 0)
		return cli_fail(&e);
	if (r.opts.help) {
		run_opts_help(stdout);
		return CLI_OK;
	}
	if (r.opts.verbose)
		log_threshold = LOG_DEBUG;
	stat_thread_register();
	term_guard();
	if (create(&r, &e) < 0)
		status = cli_fail(&e);
	else
		status = run_vm(&r);
	destroy(&r);
	return status;
}

const struct cli_command cli_run = { "run", "run a virtual machine on this terminal", run,
				     run_opts_help };
