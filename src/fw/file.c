/* SPDX-License-Identifier: Apache-2.0 */
/* Files a guest is booted from: opening, reading, and saying what a wrong one is. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fw/boot_priv.h"

static const char *mend(int error)
{
	switch (error) {
	case ENOENT:
	case ENOTDIR: return "; check the name";
	case EACCES: return "; change its permissions";
	default: return "";
	}
}

int fw_file_open(struct fw_file *f, const char *what, const char *path, struct err *e)
{
	struct stat st;
	int r;

	f->what = what;
	f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (f->fd < 0)
		return err_set(e, -errno, "cannot open %s '%s': %s%s", what, path, strerror(errno),
			       mend(errno));
	if (fstat(f->fd, &st) < 0)
		r = err_set(e, -errno, "cannot read %s %s: %s", what, path, strerror(errno));
	else if (S_ISDIR(st.st_mode))
		r = err_set(e, -EISDIR, "%s %s is a directory: name a file", what, path);
	else if (!S_ISREG(st.st_mode))
		r = err_set(e, -EINVAL, "%s %s is not a regular file: name one", what, path);
	else if (st.st_size == 0)
		r = err_set(e, -EINVAL, "%s %s is empty: copy it again", what, path);
	else
		r = 0;
	f->size = r ? 0 : (uint64_t)st.st_size;
	f->path = r ? NULL : strdup(path);
	if (!r && !f->path)
		r = err_set(e, -ENOMEM, "no memory");
	if (r)
		fw_file_close(f);
	return r;
}

void fw_file_close(struct fw_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
	free(f->path);
	f->path = NULL;
}

int fw_file_read(const struct fw_file *f, uint64_t off, void *buf, uint64_t n, struct err *e)
{
	uint8_t *p = buf;
	ssize_t got;

	if (off > f->size || n > f->size - off)
		return err_set(e, -EINVAL, "%s %s is truncated: copy it again", f->what, f->path);
	while (n) {
		got = pread(f->fd, p, n < GiB ? n : GiB, (off_t)off);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_set(e, -errno, "cannot read %s %s: %s", f->what, f->path,
				       strerror(errno));
		if (got == 0)
			return err_set(e, -EINVAL, "%s %s is truncated: copy it again", f->what,
				       f->path);
		p += got;
		off += (uint64_t)got;
		n -= (uint64_t)got;
	}
	return 0;
}

int fw_file_load(const struct fw_file *f, uint64_t off, uint64_t n, struct mem_map *m, gpa_t a,
		 struct err *e)
{
	uint8_t *p;
	int r;

	if (n == 0)
		return 0;
	p = mem_ptr(m, a, n, true);
	if (!p)
		return err_set(e, -ENOMEM,
			       "%s %s does not fit the guest's memory: give more --memory", f->what,
			       f->path);
	r = fw_file_read(f, off, p, n, e);
	mem_dma_written(m, a, n);
	return r;
}

const char *fw_file_guess(const uint8_t *head, size_t n)
{
	static const struct {
		unsigned off, len;
		const char *bytes, *what;
	} known[] = {
		{ 0, 2, "\x1f\x8b", "a gzip file: unpack it" },
		{ 0, 6,
		  "\xfd"
		  "7zXZ\0",
		  "an xz file: unpack it" },
		{ 0, 4, "\x28\xb5\x2f\xfd", "a zstd file: unpack it" },
		{ 0, 3, "BZh", "a bzip2 file: unpack it" },
		{ 56, 4, "ARM\x64", "an arm64 Image: an x86-64 kernel is needed" },
		{ 48, 4, "RSCV", "a RISC-V Image: an x86-64 kernel is needed" },
		{ 0, 4, "\x27\x05\x19\x56", "a U-Boot image: an x86-64 bzImage is needed" },
		{ 0, 6, "070701", "a cpio archive: give it as --initrd" },
		{ 0, 4, "QFI\xfb", "a qcow2 disk: give it as --disk" },
		{ 0, 7, "!<arch>", "a Debian package or archive: take the vmlinuz out of it" },
		{ 0, 4,
		  "\x7f"
		  "ELF",
		  "an ELF file, but no kernel" },
		{ 0, 2, "MZ", "a PE program (EFI), but no Linux kernel" },
		{ 0, 2, "#!", "a script" },
		{ 0x8001, 5, "CD001", "a CD image" },
		{ 0x1fe, 2, "\x55\xaa", "a disk image or boot sector: give it as --disk" },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(known); i++)
		if (known[i].off + known[i].len <= n &&
		    !memcmp(head + known[i].off, known[i].bytes, known[i].len))
			return known[i].what;
	for (size_t i = 0; i < n; i++)
		if ((head[i] < ' ' || head[i] > '~') && !strchr("\t\r\n", head[i] ? head[i] : 'x'))
			return "of no known kind";
	return "a text file";
}
