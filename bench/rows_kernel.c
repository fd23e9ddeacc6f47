/* SPDX-License-Identifier: Apache-2.0 */
/* Rows that ask the kernel: system calls, processes, page tables, signals, files, and the shell. */
#include "rows.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

const char *row_self, *row_busybox;

static void must(int good, const char *what)
{
	if (!good) {
		perror(what);
		exit(1);
	}
}

static void getppid_row(uint64_t n)
{
	while (n--)
		row_sink = (uint64_t)syscall(SYS_getppid);
}

static void clock_row(uint64_t n)
{
	struct timespec t;

	while (n--)
		clock_gettime(CLOCK_MONOTONIC, &t);
	row_sink = (uint64_t)t.tv_nsec;
}

static void reap(pid_t pid)
{
	int status;

	must(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0,
	     "child");
}

static void pipe_row(uint64_t n)
{
	int there[2], back[2];
	char c = 0;
	pid_t pid;

	must(!pipe(there) && !pipe(back), "pipe");
	pid = fork();
	must(pid >= 0, "fork");
	if (pid == 0) {
		close(there[1]);
		while (read(there[0], &c, 1) == 1)
			if (write(back[1], &c, 1) != 1)
				break;
		_exit(0);
	}
	while (n--)
		must(write(there[1], &c, 1) == 1 && read(back[0], &c, 1) == 1, "pipe");
	close(there[1]);
	reap(pid);
	close(there[0]);
	close(back[0]);
	close(back[1]);
}

static void futex_wait_for(uint32_t *f, uint32_t v)
{
	uint32_t old;

	while ((old = __atomic_load_n(f, __ATOMIC_ACQUIRE)) != v)
		syscall(SYS_futex, f, FUTEX_WAIT, old, NULL, NULL, 0);
}

static void futex_set(uint32_t *f, uint32_t v)
{
	__atomic_store_n(f, v, __ATOMIC_RELEASE);
	syscall(SYS_futex, f, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void futex_row(uint64_t n)
{
	uint32_t *f = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;

	must(f != MAP_FAILED, "mmap");
	pid = fork();
	must(pid >= 0, "fork");
	for (uint64_t i = 0; i < n; i++) {
		futex_wait_for(f, pid == 0);
		futex_set(f, pid != 0);
	}
	if (pid == 0)
		_exit(0);
	reap(pid);
	munmap(f, 4096);
}

static void fork_exit(uint64_t n)
{
	while (n--) {
		pid_t pid = fork();

		must(pid >= 0, "fork");
		if (pid == 0)
			_exit(0);
		reap(pid);
	}
}

static void run(char *const argv[])
{
	pid_t pid = fork();

	must(pid >= 0, "fork");
	if (pid == 0) {
		execv(argv[0], argv);
		_exit(127);
	}
	reap(pid);
}

static void fork_exec(uint64_t n)
{
	char *argv[] = { (char *)(uintptr_t)row_self, (char *)(uintptr_t) "--exit", NULL };

	while (n--)
		run(argv);
}

#define FAULT_PAGES 256
static void page_fault(uint64_t n)
{
	while (n) {
		uint64_t k = n < FAULT_PAGES ? n : FAULT_PAGES;
		uint8_t *p = mmap(NULL, FAULT_PAGES * 4096, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		must(p != MAP_FAILED, "mmap");
		madvise(p, FAULT_PAGES * 4096, MADV_NOHUGEPAGE);
		for (uint64_t i = 0; i < k; i++)
			p[i * 4096] = 1;
		munmap(p, FAULT_PAGES * 4096);
		n -= k;
	}
}

static uint8_t *one_page;

static void page_setup(void)
{
	one_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(one_page != MAP_FAILED, "mmap");
	*one_page = 1;
}

static void mprotect_pair(uint64_t n)
{
	while (n--) {
		mprotect(one_page, 4096, PROT_READ);
		mprotect(one_page, 4096, PROT_READ | PROT_WRITE);
		*one_page = (uint8_t)n;
	}
}

static void mmap_munmap(uint64_t n)
{
	while (n--) {
		uint8_t *p = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				  -1, 0);

		must(p != MAP_FAILED, "mmap");
		p[5000] = 1;
		munmap(p, 16384);
	}
}

static void on_signal(int sig)
{
	row_sink += (uint64_t)sig;
}

static void signal_setup(void)
{
	signal(SIGUSR2, on_signal);
}

static void signal_self(uint64_t n)
{
	pid_t self = getpid();

	while (n--)
		kill(self, SIGUSR2);
}

static char file_name[64];

static void file_setup(void)
{
	/* both are tmpfs where the guest and usual hosts mount them */
	snprintf(file_name, sizeof(file_name), "%s/r3-bench-%d",
		 access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm", (int)getpid());
}

static void create_remove(uint64_t n)
{
	while (n--) {
		int fd = open(file_name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

		must(fd >= 0, file_name);
		close(fd);
		unlink(file_name);
	}
}

static bool have_busybox(void)
{
	return row_busybox != NULL;
}

static void shell(const char *script)
{
	char *argv[] = { (char *)(uintptr_t)row_busybox, (char *)(uintptr_t) "sh",
			 (char *)(uintptr_t) "-c", (char *)(uintptr_t)script, NULL };

	run(argv);
}

static void shell_loop(uint64_t n)
{
	while (n--)
		shell("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done");
}

static void shell_spawns(uint64_t n)
{
	char script[256];

	snprintf(script, sizeof(script), "i=0; while [ $i -lt 300 ]; do %s true; i=$((i+1)); done",
		 row_busybox);
	while (n--)
		shell(script);
}

const struct row rows_kernel[] = {
	{ "getppid", getppid_row, NULL, NULL },
	{ "pipe round trip", pipe_row, NULL, NULL },
	{ "futex switch", futex_row, NULL, NULL },
	{ "fork+exit", fork_exit, NULL, NULL },
	{ "fork+exec", fork_exec, NULL, NULL },
	{ "page fault", page_fault, NULL, NULL },
	{ "mprotect pair", mprotect_pair, page_setup, NULL },
	{ "mmap+munmap", mmap_munmap, NULL, NULL },
	{ "signal to self", signal_self, signal_setup, NULL },
	{ "tmpfs create+remove", create_remove, file_setup, NULL },
	{ "clock_gettime", clock_row, NULL, NULL },
	{ "shell loop of 300,000", shell_loop, NULL, have_busybox },
	{ "300 shell spawns", shell_spawns, NULL, have_busybox },
	{ 0 },
};
