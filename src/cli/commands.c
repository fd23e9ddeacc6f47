/* SPDX-License-Identifier: Apache-2.0 */
/* The table of subcommands, --help, --version. */
#include <string.h>

#include "cli/cli.h"
#include "config/config.h"

static int run_help(int argc, char **argv);
static int run_version(int argc, char **argv);
static void help_all(FILE *f);

static const struct cli_command cli_help = { "help", "help for a command: ring3 help COMMAND",
					     run_help, help_all };
static const struct cli_command cli_version = { "version", "the program's version", run_version,
						NULL };

const struct cli_command *const cli_commands[] = { &cli_run,  &cli_image,   &cli_doctor,
						   &cli_help, &cli_version, NULL };

int cli_fail(const struct err *e)
{
	fprintf(stderr, "ring3: %s\n", e->msg);
	return CLI_USAGE;
}

static void help_all(FILE *f)
{
	fprintf(f, "ring3 runs virtual machines, with or without hardware virtualization.\n\n"
		   "usage: ring3 COMMAND [options]\n\n");
	for (const struct cli_command *const *c = cli_commands; *c; c++)
		fprintf(f, "  %-10s %s\n", (*c)->name, (*c)->summary);
	fprintf(f,
		"\n`ring3 run` boots the default guest to a shell; `ring3 help run` says the rest.\n");
}

static const struct cli_command *find(const char *name)
{
	for (const struct cli_command *const *c = cli_commands; *c; c++)
		if (!strcmp((*c)->name, name))
			return *c;
	return NULL;
}

static int unknown(const char *name)
{
	const char *names[16], *near;
	unsigned n = 0;

	while (cli_commands[n] && n < ARRAY_SIZE(names) - 1) {
		names[n] = cli_commands[n]->name;
		n++;
	}
	names[n] = NULL;
	near = cfg_nearest(name, names);
	if (near)
		fprintf(stderr, "ring3: unknown command '%.60s': did you mean '%s'?\n", name, near);
	else
		fprintf(stderr, "ring3: unknown command '%.60s': `ring3 --help` lists them\n",
			name);
	return CLI_USAGE;
}

static int run_help(int argc, char **argv)
{
	const struct cli_command *c = argc > 1 ? find(argv[1]) : &cli_help;

	if (!c)
		return unknown(argv[1]);
	if (c->help)
		c->help(stdout);
	else
		printf("ring3 %s: %s\n", c->name, c->summary);
	return CLI_OK;
}

static int run_version(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	printf("ring3 %s\n", R3_VERSION);
	return CLI_OK;
}

int cli_main(int argc, char **argv)
{
	const struct cli_command *c;

	if (argc < 2) {
		help_all(stderr);
		return CLI_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
		return run_help(1, argv + 1);
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V"))
		return run_version(1, argv + 1);
	c = find(argv[1]);
	return c ? c->run(argc - 1, argv + 1) : unknown(argv[1]);
}
