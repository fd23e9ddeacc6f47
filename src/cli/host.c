/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at /dev/kvm, CPUID and the auxiliary vector. */
#include "cli/host.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define HWCAP2_FSGSBASE_BIT 2ul
#define CPUID7_EBX_BMI2 (1u << 8)

bool host_kvm(char *buf, size_t n)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC), version;

	if (fd < 0) {
		snprintf(buf, n, "/dev/kvm: %s", strerror(errno));
		return false;
	}
	version = ioctl(fd, KVM_GET_API_VERSION, 0);
	close(fd);
	if (version != KVM_API_VERSION) {
		snprintf(buf, n, "/dev/kvm answers with version %d", version);
		return false;
	}
	if (access("/sys/module/kvm_intel", F_OK) < 0 && access("/sys/module/kvm_amd", F_OK) < 0) {
		snprintf(buf, n, "/dev/kvm is there, but no VT-x or AMD-V behind it");
		return false;
	}
	snprintf(buf, n, "/dev/kvm");
	return true;
}

bool host_cpu_fsgsbase(void)
{
	return getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT;
}

bool host_cpu_bmi2(void)
{
	unsigned a, b, c, d;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & CPUID7_EBX_BMI2);
}

int64_t host_read_number(const char *path)
{
	char buf[64];
	ssize_t n = -1;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (n <= 0)
		return -1;
	buf[n] = 0;
	return strtoll(buf, NULL, 10);
}
