/* SPDX-License-Identifier: Apache-2.0 */
/* What `ring3 run` can be told, and its defaults. */
#ifndef R3_CLI_RUN_OPTS_H
#define R3_CLI_RUN_OPTS_H

#include "cli/opts.h"
#include "vmm/vmm.h"

struct run_opts {
	const char *kernel, *initrd, *append, *engine, *serial;
	uint64_t memory;
	int64_t cpus;
	int64_t lockstep; /* -1: no, 0: without end */
	int64_t lockstep_plant;
	struct opt_list disk, net;
	int console; /* 0 serial, 1 virtio */
	uint64_t dbt_cache;
	int dump; /* 0 none, 1 guest, 2 host, 3 both */
	bool no_chain, no_reboot, stats, verbose, no_invtsc, help;

	/* Filled by run_opts_finish: */
	const char *sink[MACHINE_CONSOLES];
	char kernel_path[4096], initrd_path[4096], cmdline[4096];
};

extern const struct opt run_opt_table[];

/* Options → *o, everything checked that can be without creating anything. */
int run_opts_parse(struct run_opts *o, int argc, char **argv, struct err *e) MUST_CHECK;
void run_opts_help(FILE *f);
/* The VM's configuration from options; o must outlive it. */
void run_opts_vmm(const struct run_opts *o, struct vmm_cfg *c);

#endif
