/* SPDX-License-Identifier: Apache-2.0 */
/* Facts about this host that the user is told. No threads. */
#ifndef R3_CLI_HOST_H
#define R3_CLI_HOST_H

#include "base/base.h"

/* Hardware virtualization in a few words ("/dev/kvm: Permission denied"); true when it would work. */
bool host_kvm(char *buf, size_t n);
bool host_cpu_fsgsbase(void);
bool host_cpu_bmi2(void);
/* First number in a file, or -1. */
int64_t host_read_number(const char *path);

#endif
