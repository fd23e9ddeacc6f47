/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Code memory: one memfd mapped twice, writable and executable, never both at one address. Space is handed
 * out by moving a pointer; when it is used up everything is thrown away together.
 */
#include "base/stats.h"
#include "cpu/dbt/dbt_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int dbt_fcache_open(struct dbt_fcache *f, size_t size)
{
	int fd = memfd_create("ring3-code", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size)) {
		close(fd);
		return -ENOMEM;
	}
	f->size = size;
	f->rw = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	f->rx = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	close(fd);
	if (f->rw == MAP_FAILED || f->rx == MAP_FAILED)
		return -ENOMEM;
	f->next = f->rw;
	f->cold = f->rw + f->size;
	return 0;
}

void dbt_fcache_close(struct dbt_fcache *f)
{
	if (!f->size)
		return;
	munmap(f->rw, f->size);
	munmap(f->rx, f->size);
	f->size = 0;
}

void dbt_cache_flush(struct dbt *d)
{
	struct dbt_mmu *m = &d->mmu;

	stat_inc(DBT_FLUSH_CACHE);
	d->flushes++;
	d->fc.next = d->fc.after_stubs;
	d->fc.cold = d->fc.rw + d->fc.size;
	d->nblock = d->nlink = 1;
	d->nmap = d->nret_site = 0;
	d->nkcode = 1;
	memset(d->kcode_hash, 0, sizeof(d->kcode_hash));
	memset(d->hash, 0, DBT_HASH_SIZE * sizeof(*d->hash));
	memset(d->page_blocks, 0, d->ram_pages * sizeof(*d->page_blocks));
	for (uint64_t p = 0; p < d->ram_pages; p++)
		if (atomic_load_explicit(&d->page_code[p], memory_order_relaxed))
			atomic_fetch_and(&d->page_code[p], (uint8_t)~DBT_CODE_TRANSLATED);
	for (unsigned i = 0; i < DBT_SPACES; i++) {
		dbt_jc_clear(m->space[i].jc, d->stub_jc_miss);
		m->space[i].ncell_used = 0;
	}
	d->ncell = 0;
	dbt_jc_clear(d->jc_kernel, d->stub_jc_miss);
	dbt_ret_reset(d, true);
	dbt_ret_reset(d, false);
}
