/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening image files. An open-file-description lock on the whole file (shared for readers,
 * exclusive for a writer) keeps two machines from writing one disk; it goes with the descriptor.
 */
#include "block/blk_priv.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int file_lock(int fd, const char *path, bool readonly, struct err *e)
{
	struct flock fl = { .l_type = (short)(readonly ? F_RDLCK : F_WRLCK), .l_whence = SEEK_SET };

	if (fcntl(fd, F_OFD_SETLK, &fl) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return err_set(e, -EBUSY,
			       "disk %s: locked by another ring3; stop that one, or use a copy",
			       path);
	log_warn("disk %s: cannot be locked (%s): nothing keeps another ring3 from using it", path,
		 strerror(errno));
	return 0;
}

static int file_check(int fd, const char *path, uint64_t *size, struct err *e)
{
	struct stat st;
	off_t end;

	if (fstat(fd, &st) < 0)
		return err_set(e, -errno, "disk %s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(e, -EINVAL, "disk %s: neither a file nor a block device", path);
	end = lseek(fd, 0, SEEK_END);
	if (end < 0)
		return err_set(e, -errno, "disk %s: %s", path, strerror(errno));
	*size = (uint64_t)end;
	return 0;
}

static const char *open_mend(int code, bool readonly)
{
	if (code == ENOENT)
		return "; name an existing image, or make one with 'ring3 image build'";
	if ((code == EACCES || code == EROFS || code == EPERM) && !readonly)
		return "; change its permissions, or open it with readonly=on";
	return "";
}

int blk_file_open(const char *path, bool readonly, uint64_t *size, struct err *e)
{
	/* O_NONBLOCK: a FIFO named by mistake must not hang us; it means nothing for files. */
	int fd = open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
	int r;

	if (fd < 0) {
		r = errno;
		return err_set(e, -r, "disk %s: %s%s", path, strerror(r), open_mend(r, readonly));
	}
	r = file_check(fd, path, size, e);
	if (r == 0)
		r = file_lock(fd, path, readonly, e);
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}
