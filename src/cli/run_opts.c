/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options of `ring3 run`: one row here is one option. Then the defaults: the default guest's files,
 * the kernel's command line, where consoles go.
 */
#include "cli/run_opts.h"

#include <errno.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "cli/cli.h"

#define MEMORY_DEFAULT (1 * GiB)
#define DBT_CACHE_DEFAULT (64 * MiB)
#define DBT_CACHE_MIN (1 * MiB)

static const char *const console_names[] = { "serial", "virtio", NULL };
static const char *const dump_names[] = { "none", "guest", "host", "both", NULL };

static int set_lockstep(void *member, const char *value, const struct opt *o, struct err *e)
{
	*(int64_t *)member = 0;
	return value ? opt_int(member, value, o, e) : 0;
}

#define ROW(n, a, s, m, h)                                                                         \
	{                                                                                          \
		.name = n, .arg = a, .help = h, .set = s, .offset = offsetof(struct run_opts, m)   \
	}

const struct opt run_opt_table[] = {
	ROW("kernel", "FILE", opt_string, kernel,
	    "bzImage, or ELF vmlinux with a PVH entry; without it: the default\n"
	    "guest, ~/.cache/ring3/vmlinuz-amd64 and initrd-amd64.img"),
	ROW("initrd", "FILE", opt_string, initrd, "initial RAM disk"),
	ROW("append", "TEXT", opt_string, append,
	    "kernel command line; console=ttyS0 (or hvc0) is put before it\n"
	    "unless it has a console= of its own"),
	{ .name = "memory",
	  .arg = "SIZE",
	  .help = "guest memory such as 512M or 2G (default 1G)",
	  .set = opt_size,
	  .offset = offsetof(struct run_opts, memory),
	  .min = MACHINE_MEM_MIN },
	{ .name = "cpus",
	  .arg = "N",
	  .help = "virtual CPUs (default 1)",
	  .set = opt_int,
	  .offset = offsetof(struct run_opts, cpus),
	  .min = 1,
	  .max = MACHINE_CPUS_MAX },
	{ .name = "disk",
	  .arg = "KEY=VALUE,…",
	  .help = "a disk (/dev/vda, …); may be repeated",
	  .set = opt_list,
	  .offset = offsetof(struct run_opts, disk),
	  .cls = &machine_disk_class },
	{ .name = "net",
	  .arg = "KEY=VALUE,…",
	  .help = "a network card; may be repeated (default: none)",
	  .set = opt_list,
	  .offset = offsetof(struct run_opts, net),
	  .cls = &machine_net_class },
	{ .name = "console",
	  .arg = "KIND",
	  .help = "what this terminal is to the guest: serial (default) or virtio",
	  .set = opt_enum,
	  .offset = offsetof(struct run_opts, console),
	  .names = console_names },
	ROW("serial", "DEST", opt_string, serial,
	    "where COM1 goes: stdio, null or file:PATH (default: stdio, or\n"
	    "null with --console virtio)"),
	ROW("engine", "NAME", opt_string, engine,
	    "auto (default), or strictly: dbt (binary translation),\n"
	    "interp (slow reference)"),
	{ .name = "lockstep",
	  .arg = "[=N]",
	  .help = "runs dbt and interp side by side in virtual time and stops at the\n"
		  "first difference; N: ends after so many guest instructions",
	  .set = set_lockstep,
	  .offset = offsetof(struct run_opts, lockstep),
	  .min = 1,
	  .max = INT64_MAX },
	{ .name = "lockstep-plant", /* for tests: the N-th translation is wrong */
	  .arg = "N",
	  .set = opt_int,
	  .offset = offsetof(struct run_opts, lockstep_plant),
	  .min = 1,
	  .max = INT64_MAX },
	{ .name = "dbt-cache",
	  .arg = "SIZE",
	  .help = "memory for translated code (default 64M)",
	  .set = opt_size,
	  .offset = offsetof(struct run_opts, dbt_cache),
	  .min = DBT_CACHE_MIN },
	{ .name = "dump",
	  .arg = "WHAT",
	  .help = "prints translations on stderr: guest, host or both",
	  .set = opt_enum,
	  .offset = offsetof(struct run_opts, dump),
	  .names = dump_names },
	ROW("no-chain", NULL, opt_flag, no_chain,
	    "translated blocks return to the run loop after each jump"),
	ROW("no-reboot", NULL, opt_flag, no_reboot, "a guest's reset ends the program"),
	ROW("no-invtsc", NULL, opt_flag, no_invtsc,
	    "do not show an invariant TSC: Linux then takes kvm-clock"),
	ROW("stats", NULL, opt_flag, stats,
	    "print counters at the end (translated instructions are counted, which\n"
	    "costs some speed)"),
	ROW("verbose", NULL, opt_flag, verbose, "debug messages on stderr"),
	ROW("help", NULL, opt_flag, help, "this text"),
	{ .name = NULL },
};

void run_opts_help(FILE *f)
{
	fprintf(f,
		"usage: ring3 run [options]\n\n"
		"Runs a virtual machine on this terminal; without options, the default guest: Debian's\n"
		"kernel and a busybox shell.\n\n");
	opts_help(run_opt_table, f);
	fprintf(f,
		"\nkeys:\n"
		"  Ctrl-A x  ends the virtual machine     Ctrl-A c  monitor prompt, and back\n"
		"  Ctrl-A a  sends Ctrl-A to the guest    Ctrl-A h  help\n"
		"\nSIGTERM presses the guest's power button, a second one ends it. Disks are flushed either way.\n"
		"\nexit status:\n"
		"  0  the guest powered off (or rebooted, with --no-reboot), or was ended from this terminal\n"
		"  1  wrong options or files: nothing was started\n"
		"  2  the host failed while the guest ran\n"
		"  3  the guest crashed: kernel panic, or triple fault with --no-reboot\n"
		"  4  ended by a second SIGTERM, before the guest had powered off\n");
}

static int check_memory(struct run_opts *o, struct err *e)
{
	struct sysinfo si;
	uint64_t have;

	o->memory = ALIGN_DOWN(o->memory, 4 * KiB);
	if (sysinfo(&si) < 0)
		return 0;
	have = ((uint64_t)si.totalram + si.totalswap) * si.mem_unit;
	if (o->memory > have)
		return err_set(
			e, -ENOMEM,
			"--memory: %llu MiB is more than this host has (%llu MiB): give less",
			(unsigned long long)(o->memory / MiB), (unsigned long long)(have / MiB));
	return 0;
}

static int check_lockstep(struct run_opts *o, struct err *e)
{
	if (o->lockstep < 0)
		return 0;
	if (strcmp(o->engine, "auto") != 0 && strcmp(o->engine, "lockstep") != 0)
		return err_set(e, -EINVAL,
			       "--lockstep runs dbt and interp: give no --engine beside it");
	if (o->cpus != 1)
		return err_set(e, -EINVAL, "--lockstep runs one CPU: use --cpus 1");
	o->engine = "lockstep";
	return 0;
}

/* Rows of key=value options are read again by the machine; here only to fail early. */
static int check_lists(const struct run_opts *o, struct err *e)
{
	static union {
		char room[65536];
		uint64_t align;
	} u;
	int r = 0;

	_Static_assert(sizeof(u) >= 16384, "room for any option struct");
	for (unsigned i = 0; i < o->disk.n && !r; i++)
		r = cfg_parse(&machine_disk_class, o->disk.item[i], &u, e);
	for (unsigned i = 0; i < o->net.n && !r; i++)
		r = cfg_parse(&machine_net_class, o->net.item[i], &u, e);
	return r;
}

static int default_guest(struct run_opts *o, struct err *e)
{
	int r;

	if (o->kernel)
		return 0;
	r = cli_cache_path(o->kernel_path, sizeof(o->kernel_path), "vmlinuz-amd64", e);
	if (!r && !o->initrd)
		r = cli_cache_path(o->initrd_path, sizeof(o->initrd_path), "initrd-amd64.img", e);
	if (r)
		return r;
	if (access(o->kernel_path, R_OK) < 0)
		return err_set(
			e, -ENOENT,
			"no default guest (%.120s): run tools/guest/prepare once, or name a --kernel",
			o->kernel_path);
	o->kernel = o->kernel_path;
	if (!o->initrd)
		o->initrd = o->initrd_path;
	if (!o->append)
		o->append = "panic=-1";
	return 0;
}

static bool has_console(const char *append)
{
	const char *p = append;

	while ((p = strstr(p, "console=")) != NULL) {
		if (p == append || p[-1] == ' ')
			return true;
		p++;
	}
	return false;
}

static int make_cmdline(struct run_opts *o, struct err *e)
{
	const char *append = o->append ? o->append : "";
	const char *console = o->console ? "console=hvc0" : "console=ttyS0";
	int n;

	if (has_console(append))
		n = snprintf(o->cmdline, sizeof(o->cmdline), "%s", append);
	else
		n = snprintf(o->cmdline, sizeof(o->cmdline), "%s%s%s", console, *append ? " " : "",
			     append);
	if (n < 0 || (size_t)n >= sizeof(o->cmdline))
		return err_set(e, -E2BIG, "--append: at most %zu bytes", sizeof(o->cmdline) - 32);
	return 0;
}

int run_opts_parse(struct run_opts *o, int argc, char **argv, struct err *e)
{
	unsigned words;
	int r;

	*o = (struct run_opts){ .engine = "auto",
				.memory = MEMORY_DEFAULT,
				.cpus = 1,
				.lockstep = -1,
				.dbt_cache = DBT_CACHE_DEFAULT };
	r = opts_parse(run_opt_table, o, argc, argv, NULL, 0, &words, e);
	if (r || o->help)
		return r;
	r = check_lockstep(o, e);
	if (!r)
		r = check_memory(o, e);
	if (!r)
		r = check_lists(o, e);
	if (!r)
		r = default_guest(o, e);
	if (!r)
		r = make_cmdline(o, e);
	o->sink[MACHINE_SERIAL] = o->serial ? o->serial : o->console ? "null" : "stdio";
	o->sink[MACHINE_VIRTIO_CONSOLE] = o->console ? "stdio" : "null";
	if (!r && o->console && o->serial && !strcmp(o->serial, "stdio"))
		r = err_set(e, -EINVAL,
			    "--serial stdio and --console virtio want the same terminal: "
			    "use --serial file:PATH");
	return r;
}

void run_opts_vmm(const struct run_opts *o, struct vmm_cfg *c)
{
	*c = (struct vmm_cfg){
		.machine = {
			.memory = o->memory,
			.cpus = (unsigned)o->cpus,
			.boot = { .kernel = o->kernel, .initrd = o->initrd, .cmdline = o->cmdline },
			.disks = o->disk.n,
			.nets = o->net.n,
			.virtio_console = o->console != 0,
			.invtsc = !o->no_invtsc,
		},
		.engine = o->engine,
		.lockstep_limit = o->lockstep > 0 ? (uint64_t)o->lockstep : 0,
		.lockstep_plant = (uint64_t)o->lockstep_plant,
		.dbt_cache = o->dbt_cache,
		.dbt_count = o->stats,
		.dbt_no_chain = o->no_chain,
		.dbt_dump_guest = o->dump & 1,
		.dbt_dump_host = o->dump & 2,
		.no_reboot = o->no_reboot,
	};
	for (unsigned i = 0; i < o->disk.n; i++)
		c->machine.disk[i] = o->disk.item[i];
	for (unsigned i = 0; i < o->net.n; i++)
		c->machine.net[i] = o->net.item[i];
}
