/* SPDX-License-Identifier: Apache-2.0 */
/* Where the default guest lies, and the scripts that came with the program. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

int cli_cache_path(char *buf, size_t n, const char *file, struct err *e)
{
	const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	int len;

	if (xdg && xdg[0] == '/')
		len = snprintf(buf, n, "%s/ring3/%s", xdg, file);
	else if (home && home[0])
		len = snprintf(buf, n, "%s/.cache/ring3/%s", home, file);
	else
		return err_set(e, -ENOENT, "neither XDG_CACHE_HOME nor HOME is set: where is %s?",
			       file);
	if (len < 0 || (size_t)len >= n)
		return err_set(e, -ENAMETOOLONG, "the path of %s is too long", file);
	return 0;
}

/* Beside the build folder (build/ring3 → tools/guest), or installed under libexec. */
int cli_script_path(char *buf, size_t n, const char *script, struct err *e)
{
	static const char *const from_exe[] = { "../tools/guest", "../../tools/guest",
						"tools/guest", "../libexec/ring3" };
	char exe[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	char *slash;

	if (len < 0)
		return err_set(e, -errno, "cannot find this program's own path: %s",
			       strerror(errno));
	exe[len] = 0;
	slash = strrchr(exe, '/');
	if (slash)
		*slash = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(from_exe); i++) {
		int w = snprintf(buf, n, "%s/%s/%s", exe, from_exe[i], script);

		if (w > 0 && (size_t)w < n && access(buf, X_OK) == 0)
			return 0;
	}
	return err_set(e, -ENOENT,
		       "the script %s is not there: run ring3 from its source tree's build folder",
		       script);
}
