/* SPDX-License-Identifier: Apache-2.0 */
/* The program's subcommands; main.c only dispatches. */
#ifndef R3_CLI_CLI_H
#define R3_CLI_CLI_H

#include <stdio.h>

#include "base/err.h"

/* Exit statuses beside those of enum vmm_end. */
enum { CLI_OK = 0, CLI_USAGE = 1 };

struct cli_command {
	const char *name, *summary;
	int (*run)(int argc, char **argv); /* argv[0] is the command's name */
	void (*help)(FILE *f);
};

extern const struct cli_command cli_run, cli_doctor, cli_image; /* run.c doctor.c image.c */
extern const struct cli_command *const cli_commands[];		/* NULL-ended */

/* The whole program. */
int cli_main(int argc, char **argv);
/* Prints "ring3: message" and returns CLI_USAGE. */
int cli_fail(const struct err *e);

/* Files of the default guest and scripts that come with the program (paths.c). */
int cli_cache_path(char *buf, size_t n, const char *file, struct err *e) MUST_CHECK;
int cli_script_path(char *buf, size_t n, const char *script, struct err *e) MUST_CHECK;

#endif
