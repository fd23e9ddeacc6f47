/* SPDX-License-Identifier: Apache-2.0 */
/* `ring3 doctor`: what this host offers, one line each, with the mend where something is missing. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>

#include "cli/cli.h"
#include "cli/host.h"

#define MAPS_WANTED 65530
#define FILES_WANTED 256
#define MEMORY_WANTED_KIB (1536 * 1024)

enum verdict { GOOD, ABSENT /* something else is used */, BAD };

struct finding {
	char text[160]; /* what is there */
	char mend[160]; /* empty: nothing to do */
};

struct check {
	const char *name;
	enum verdict (*look)(struct finding *f);
};

static void say(char *buf, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void say(char *buf, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(((struct finding *)0)->text), fmt, ap);
	va_end(ap);
}

static enum verdict look_kvm(struct finding *f)
{
	char text[128];
	bool usable = host_kvm(text, sizeof(text));

	say(f->text, "%s", text);
	if (!usable)
		say(f->mend, "none needed: guests are translated");
	return usable ? GOOD : ABSENT;
}

static enum verdict look_fsgsbase(struct finding *f)
{
	bool ok = host_cpu_fsgsbase();

	say(f->text, ok ? "yes: the translator can run" : "no: only --engine interp can run");
	if (!ok)
		say(f->mend, "Linux 5.9 or newer on Ivy Bridge, Zen or newer, without nofsgsbase");
	return ok ? GOOD : ABSENT;
}

static enum verdict look_bmi2(struct finding *f)
{
	bool ok = host_cpu_bmi2();

	say(f->text, ok ? "yes: the translator can run" : "no: only --engine interp can run");
	if (!ok)
		say(f->mend, "a CPU since Haswell or Zen");
	return ok ? GOOD : ABSENT;
}

static enum verdict look_uring(struct finding *f)
{
	struct io_uring_params p;
	long fd;

	memset(&p, 0, sizeof(p));
	fd = syscall(SYS_io_uring_setup, 4, &p);
	if (fd >= 0) {
		close((int)fd);
		say(f->text, "yes: disks use it");
		return GOOD;
	}
	say(f->text, "no (%s): disks use threads", strerror(errno));
	if (errno == EPERM)
		say(f->mend,
		    "sysctl kernel.io_uring_disabled=0, or allow it in the container's seccomp profile");
	return ABSENT;
}

static enum verdict look_tap(struct finding *f)
{
	struct ifreq ifr;
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC), r;

	if (fd < 0) {
		say(f->text, "no (/dev/net/tun: %s): user networking works without",
		    strerror(errno));
		say(f->mend, "modprobe tun; access to /dev/net/tun");
		return ABSENT;
	}
	memset(&ifr, 0, sizeof(ifr));
	ifr.ifr_flags = IFF_TAP | IFF_NO_PI;
	r = ioctl(fd, TUNSETIFF, &ifr);
	if (r < 0) {
		say(f->text, "not for this user (%s): user networking works without",
		    strerror(errno));
		say(f->mend,
		    "CAP_NET_ADMIN, or a tap made for this user: ip tuntap add mode tap user NAME");
	} else {
		say(f->text, "yes");
	}
	close(fd);
	return r < 0 ? ABSENT : GOOD;
}

static enum verdict look_userfaultfd(struct finding *f)
{
	long fd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (fd >= 0) {
		close((int)fd);
		say(f->text, "yes");
		return GOOD;
	}
	say(f->text, "no (%s): not needed to run guests", strerror(errno));
	if (errno == EPERM)
		say(f->mend, "sysctl vm.unprivileged_userfaultfd=1");
	return ABSENT;
}

static enum verdict look_maps(struct finding *f)
{
	int64_t n = host_read_number("/proc/sys/vm/max_map_count");

	say(f->text, "%lld mappings a process (vm.max_map_count)", (long long)n);
	if (n >= MAPS_WANTED || n < 0)
		return GOOD;
	say(f->mend, "sysctl vm.max_map_count=%d", MAPS_WANTED);
	return BAD;
}

static enum verdict look_files(struct finding *f)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) < 0)
		return ABSENT;
	say(f->text, "%llu open files (ulimit -n)", (unsigned long long)r.rlim_cur);
	if (r.rlim_cur >= FILES_WANTED)
		return GOOD;
	say(f->mend, "ulimit -n 1024");
	return BAD;
}

static enum verdict look_address_space(struct finding *f)
{
	struct rlimit r;
	void *p;

	if (!getrlimit(RLIMIT_AS, &r) && r.rlim_cur != RLIM_INFINITY) {
		say(f->text, "address space limited to %llu MiB (ulimit -v)",
		    (unsigned long long)(r.rlim_cur / MiB));
		say(f->mend, "ulimit -v unlimited");
		return BAD;
	}
	p = mmap(NULL, 4096 * GiB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) {
		say(f->text, "4 TiB of address space cannot be reserved: %s", strerror(errno));
		say(f->mend, "sysctl vm.overcommit_memory=0");
		return BAD;
	}
	munmap(p, 4096 * GiB);
	say(f->text, "terabytes can be reserved");
	return GOOD;
}

static int64_t available_kib(void)
{
	char line[128];
	long long v = -1;
	FILE *f = fopen("/proc/meminfo", "re");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %lld kB", &v) == 1)
			break;
	if (f)
		fclose(f);
	return v;
}

static enum verdict look_memory(struct finding *f)
{
	int64_t kib = available_kib();

	say(f->text, "%lld MiB available", (long long)(kib / 1024));
	if (kib >= MEMORY_WANTED_KIB)
		return GOOD;
	say(f->mend, "the default guest takes 1 GiB: ring3 run --memory 256M");
	return ABSENT;
}

static enum verdict look_memfd(struct finding *f)
{
	int fd = memfd_create("ring3-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0) {
		say(f->text, "no (%s): guest memory needs it", strerror(errno));
		say(f->mend, "Linux 3.17 or newer, or a container that allows memfd_create");
		return BAD;
	}
	close(fd);
	say(f->text, "yes");
	return GOOD;
}

static enum verdict look_exec_memory(struct finding *f)
{
	int fd = memfd_create("ring3-doctor", MFD_CLOEXEC);
	void *p = MAP_FAILED;

	if (fd >= 0 && ftruncate(fd, 4096) == 0)
		p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	if (fd >= 0)
		close(fd);
	if (p == MAP_FAILED) {
		say(f->text, "no: only --engine interp can run");
		say(f->mend,
		    "allow executable memfd mappings (sysctl vm.memfd_noexec=0, SELinux execmem)");
		return ABSENT;
	}
	munmap(p, 4096);
	say(f->text, "yes: the translator can run");
	return GOOD;
}

static enum verdict look_guest(struct finding *f)
{
	char kernel[PATH_MAX], initrd[PATH_MAX];
	struct err e;

	if (cli_cache_path(kernel, sizeof(kernel), "vmlinuz-amd64", &e) < 0 ||
	    cli_cache_path(initrd, sizeof(initrd), "initrd-amd64.img", &e) < 0) {
		say(f->text, "%.150s", e.msg);
		return ABSENT;
	}
	if (access(kernel, R_OK) == 0 && access(initrd, R_OK) == 0) {
		say(f->text, "%.150s", kernel);
		return GOOD;
	}
	say(f->text, "not prepared: `ring3 run` needs a --kernel");
	say(f->mend, "tools/guest/prepare");
	return ABSENT;
}

static const struct check checks[] = {
	{ "KVM", look_kvm },
	{ "FSGSBASE", look_fsgsbase },
	{ "BMI2", look_bmi2 },
	{ "code memory", look_exec_memory },
	{ "memfd", look_memfd },
	{ "address space", look_address_space },
	{ "mappings", look_maps },
	{ "memory", look_memory },
	{ "files", look_files },
	{ "io_uring", look_uring },
	{ "tap", look_tap },
	{ "userfaultfd", look_userfaultfd },
	{ "default guest", look_guest },
};

static void help(FILE *f)
{
	fprintf(f,
		"usage: ring3 doctor\n\n"
		"Says what this host offers to virtual machines, one line each, with the mend where something\n"
		"is missing: `ok`, `--` (absent, something else is used) or `!!` (must be mended).\n\n"
		"exit status: 0, or 1 when something must be mended.\n");
}

static int run(int argc, char **argv)
{
	static const char *const mark[] = { "ok", "--", "!!" };
	int status = CLI_OK;

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		help(stdout);
		return CLI_OK;
	}
	if (argc > 1) {
		fprintf(stderr, "ring3: doctor: unexpected '%.60s': it takes no options\n",
			argv[1]);
		return CLI_USAGE;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(checks); i++) {
		struct finding f = { "", "" };
		enum verdict v = checks[i].look(&f);

		printf("%s  %-14s %s%s%s\n", mark[v], checks[i].name, f.text,
		       f.mend[0] ? "; mend: " : "", f.mend);
		if (v == BAD)
			status = CLI_USAGE;
	}
	return status;
}

const struct cli_command cli_doctor = { "doctor", "what this host offers, and mends", run, help };
