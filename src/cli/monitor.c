/* SPDX-License-Identifier: Apache-2.0 */
/* A line editor of the smallest kind, and a table of commands. */
#include "cli/monitor.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/stats.h"
#include "config/config.h"

enum { KEY_CTRL_C = 3, KEY_CTRL_D = 4, KEY_BACKSPACE = 8, KEY_CTRL_U = 21, KEY_DEL = 127 };

static const char prompt[] = "(ring3) ";

struct command {
	const char *name, *help;
	bool (*run)(struct monitor *m, FILE *f); /* false: leave the monitor */
};

static bool cmd_help(struct monitor *m, FILE *f);

static bool cmd_cont(struct monitor *m, FILE *f)
{
	(void)f;
	vmm_resume(m->vmm);
	return false;
}

static bool cmd_quit(struct monitor *m, FILE *f)
{
	(void)f;
	vmm_quit(m->vmm, VMM_END_OFF);
	return false;
}

static bool cmd_status(struct monitor *m, FILE *f)
{
	vmm_print_status(m->vmm, f);
	return true;
}

static bool cmd_stats(struct monitor *m, FILE *f)
{
	(void)m;
	monitor_print_stats(f);
	return true;
}

static bool cmd_powerdown(struct monitor *m, FILE *f)
{
	vmm_resume(m->vmm);
	vmm_power_button(m->vmm);
	fprintf(f, "power button pressed\n");
	return true;
}

static bool cmd_reset(struct monitor *m, FILE *f)
{
	(void)f;
	vmm_reset(m->vmm);
	return false;
}

static bool cmd_pause(struct monitor *m, FILE *f)
{
	vmm_pause(m->vmm);
	fprintf(f, "%s\n", vmm_paused(m->vmm) ? "paused" : "not paused: the guest is ending");
	return true;
}

static bool cmd_resume(struct monitor *m, FILE *f)
{
	vmm_resume(m->vmm);
	fprintf(f, "running\n");
	return true;
}

static bool cmd_registers(struct monitor *m, FILE *f)
{
	vmm_print_registers(m->vmm, f);
	return true;
}

static const struct command commands[] = {
	{ "help", "this list", cmd_help },
	{ "cont", "back to the guest's console (also Ctrl-A c), resuming it", cmd_cont },
	{ "status", "engine, memory, time", cmd_status },
	{ "stats", "counters", cmd_stats },
	{ "registers", "of every vCPU", cmd_registers },
	{ "pause", "stop the guest's CPUs", cmd_pause },
	{ "resume", "let them run", cmd_resume },
	{ "powerdown", "press the power button", cmd_powerdown },
	{ "reset", "press the reset button", cmd_reset },
	{ "quit", "end the virtual machine at once", cmd_quit },
};

static bool cmd_help(struct monitor *m, FILE *f)
{
	(void)m;
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].help);
	return true;
}

void monitor_print_stats(FILE *f)
{
	for (unsigned i = 0; i < STAT_COUNT; i++) {
		uint64_t v = stat_sum((enum stat_id)i);

		if (v)
			fprintf(f, "%-20s %14" PRIu64 "  %s\n", stat_name((enum stat_id)i), v,
				stat_help((enum stat_id)i));
	}
}

static void unknown(const char *name, FILE *f)
{
	const char *names[ARRAY_SIZE(commands) + 1], *near;

	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
		names[i] = commands[i].name;
	names[ARRAY_SIZE(commands)] = NULL;
	near = cfg_nearest(name, names);
	if (near)
		fprintf(f, "unknown command '%s': did you mean '%s'?\n", name, near);
	else
		fprintf(f, "unknown command '%s': try help\n", name);
}

bool monitor_command(struct monitor *m, const char *line, FILE *f)
{
	char word[MONITOR_LINE];
	size_t n;

	line += strspn(line, " \t");
	n = strcspn(line, " \t");
	if (n == 0 || n >= sizeof(word))
		return true;
	memcpy(word, line, n);
	word[n] = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i].name, word))
			return commands[i].run(m, f);
	unknown(word, f);
	return true;
}

static void print(struct monitor *m, const char *text)
{
	m->print(m->opaque, text, strlen(text));
}

static void start_line(struct monitor *m)
{
	m->len = 0;
	print(m, prompt);
}

void monitor_enter(struct monitor *m)
{
	print(m, "\n[ring3 monitor; `help` lists commands, `cont` or Ctrl-A c goes back]\n");
	start_line(m);
}

static void leave(struct monitor *m)
{
	print(m, "[console]\n");
	m->leave(m->opaque);
}

static void execute(struct monitor *m)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);
	bool stay = true;

	print(m, "\n");
	m->line[m->len] = 0;
	if (f) {
		stay = monitor_command(m, m->line, f);
		fclose(f);
		m->print(m->opaque, text, n);
		free(text);
	}
	if (stay)
		start_line(m);
	else
		leave(m);
}

static void erase(struct monitor *m)
{
	if (m->len) {
		m->len--;
		print(m, "\b \b");
	}
}

static void add(struct monitor *m, uint8_t c)
{
	char echo[2] = { (char)c, 0 };

	if (c < ' ' || c > '~' || m->len >= MONITOR_LINE - 1)
		return;
	m->line[m->len++] = (char)c;
	print(m, echo);
}

void monitor_byte(struct monitor *m, uint8_t c)
{
	switch (c) {
	case '\r':
	case '\n': execute(m); break;
	case KEY_BACKSPACE:
	case KEY_DEL: erase(m); break;
	case KEY_CTRL_U:
		while (m->len)
			erase(m);
		break;
	case KEY_CTRL_C:
		print(m, "\n");
		start_line(m);
		break;
	case KEY_CTRL_D:
		print(m, "\n");
		leave(m);
		break;
	default: add(m, c); break;
	}
}
