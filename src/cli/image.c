/* SPDX-License-Identifier: Apache-2.0 */
/* `ring3 image build`: runs the script that makes a root disk. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "config/config.h"

#define ARGS_MAX 32

static void help(FILE *f)
{
	fprintf(f,
		"usage: ring3 image build debian-12 --output FILE [--size SIZE]\n\n"
		"Makes a bootable Debian root disk: partitioned, ext4, systemd, sparse. Packages come from\n"
		"the mirror this machine is configured for; root rights are not needed.\n");
}

static int exec_build(int argc, char **argv)
{
	char path[PATH_MAX], *args[ARGS_MAX + 2];
	struct err e;

	if (cli_script_path(path, sizeof(path), "image-build", &e) < 0)
		return cli_fail(&e);
	if (argc > ARGS_MAX) {
		err_set(&e, -E2BIG, "image build: too many words");
		return cli_fail(&e);
	}
	args[0] = path;
	for (int i = 0; i < argc; i++)
		args[i + 1] = argv[i];
	args[argc + 1] = NULL;
	execv(path, args);
	err_set(&e, -errno, "cannot run %.200s: %s", path, strerror(errno));
	return cli_fail(&e);
}

static int run(int argc, char **argv)
{
	struct err e;

	if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		help(argc < 2 ? stderr : stdout);
		return argc < 2 ? CLI_USAGE : CLI_OK;
	}
	if (strcmp(argv[1], "build") != 0) {
		err_set(&e, -EINVAL, "image: unknown word '%.60s': there is `ring3 image build`",
			argv[1]);
		return cli_fail(&e);
	}
	if (argc < 3) {
		err_set(&e, -EINVAL,
			"image build: which one? ring3 image build debian-12 --output FILE");
		return cli_fail(&e);
	}
	if (!strcmp(argv[2], "--help") || !strcmp(argv[2], "-h")) {
		help(stdout);
		return CLI_OK;
	}
	if (argv[2][0] != '-' && strcmp(argv[2], "debian-12") != 0) {
		err_set(&e, -EINVAL, "image build: unknown image '%.60s': there is debian-12",
			argv[2]);
		return cli_fail(&e);
	}
	return exec_build(argc - 2, argv + 2);
}

const struct cli_command cli_image = { "image", "make a guest's disk: ring3 image build debian-12",
				       run, help };
