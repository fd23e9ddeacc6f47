/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PVH boot of an x86-64 ELF kernel: segments at their physical addresses, entry from the note
 * XEN_ELFNOTE_PHYS32_ENTRY, struct hvm_start_info in EBX (Xen: docs/misc/pvh.pandoc, public/arch-x86/hvm/start_info.h).
 */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "fw/boot_priv.h"
#include "fw/e820.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define START_INFO_MAGIC 0x336ec578u
#define MAX_PHDRS 64
#define NOTES_MAX (64 * KiB)

struct start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist, cmdline, rsdp, memmap;
	uint32_t memmap_entries, reserved;
};

struct start_module {
	uint64_t addr, size, cmdline, reserved;
};

struct start_memmap {
	uint64_t addr, size;
	uint32_t type, reserved;
};

/* As it stands in guest memory at FW_PVH_INFO_ADDR. */
struct start_block {
	struct start_info info;
	struct start_module initrd;
	struct start_memmap map[FW_E820_MAX];
};

struct image {
	Elf64_Phdr ph[MAX_PHDRS];
	unsigned count;
	uint32_t entry;
};

static int damaged(const struct fw_boot *b, struct err *e)
{
	return err_set(e, -EINVAL, "kernel %s is a damaged ELF file", b->kernel.path);
}

static int read_ehdr(const struct fw_boot *b, Elf64_Ehdr *h, struct err *e)
{
	int r = fw_file_read(&b->kernel, 0, h, sizeof(*h), e);

	if (r)
		return r;
	if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_machine != EM_X86_64)
		return err_set(
			e, -EINVAL,
			"kernel %s is an ELF file for another machine: an x86-64 one is needed",
			b->kernel.path);
	if (h->e_phentsize != sizeof(Elf64_Phdr) || h->e_phnum == 0 || h->e_phnum > MAX_PHDRS)
		return damaged(b, e);
	return 0;
}

/* Looks for the entry note among n bytes of notes. */
static bool find_entry(const uint8_t *p, uint64_t n, uint32_t *entry)
{
	Elf64_Nhdr nh;
	uint64_t name, desc;

	while (n >= sizeof(nh)) {
		memcpy(&nh, p, sizeof(nh));
		name = ALIGN_UP((uint64_t)nh.n_namesz, 4);
		desc = ALIGN_UP((uint64_t)nh.n_descsz, 4);
		if (sizeof(nh) + name + desc > n)
			return false;
		if (nh.n_type == XEN_ELFNOTE_PHYS32_ENTRY && nh.n_namesz == 4 && nh.n_descsz >= 4 &&
		    !memcmp(p + sizeof(nh), "Xen", 4)) {
			memcpy(entry, p + sizeof(nh) + name, 4);
			return true;
		}
		p += sizeof(nh) + name + desc;
		n -= sizeof(nh) + name + desc;
	}
	return false;
}

static int read_notes(const struct fw_boot *b, struct image *im, struct err *e)
{
	static const char hint[] = "an ELF file without a PVH entry (CONFIG_PVH): use the bzImage";
	uint8_t buf[NOTES_MAX];
	int r;

	for (unsigned i = 0; i < im->count; i++) {
		if (im->ph[i].p_type != PT_NOTE || im->ph[i].p_filesz > sizeof(buf))
			continue;
		r = fw_file_read(&b->kernel, im->ph[i].p_offset, buf, im->ph[i].p_filesz, e);
		if (r)
			return r;
		if (find_entry(buf, im->ph[i].p_filesz, &im->entry))
			return 0;
	}
	return err_set(e, -EINVAL, "kernel %s is %s", b->kernel.path, hint);
}

static int read_image(const struct fw_boot *b, struct image *im, struct err *e)
{
	Elf64_Ehdr h;
	int r = read_ehdr(b, &h, e);

	if (r)
		return r;
	im->count = h.e_phnum;
	r = fw_file_read(&b->kernel, h.e_phoff, im->ph, im->count * sizeof(im->ph[0]), e);
	if (r)
		return r;
	for (unsigned i = 0; i < im->count; i++) {
		const Elf64_Phdr *p = &im->ph[i];

		if (p->p_type != PT_LOAD)
			continue;
		if (p->p_filesz > p->p_memsz || p->p_offset > INT64_MAX - p->p_filesz)
			return damaged(b, e);
		if (p->p_offset + p->p_filesz > b->kernel.size)
			return err_set(e, -EINVAL, "kernel %s is truncated: copy it again",
				       b->kernel.path);
	}
	return read_notes(b, im, e);
}

int fw_pvh_check(struct fw_boot *b, struct err *e)
{
	struct image im;

	return read_image(b, &im, e);
}

static int load_segments(const struct fw_boot *b, const struct image *im, struct mem_map *m,
			 uint64_t ram, gpa_t *end, struct err *e)
{
	int r = 0;

	*end = FW_HIGH_MEM;
	for (unsigned i = 0; i < im->count && !r; i++) {
		const Elf64_Phdr *p = &im->ph[i];

		if (p->p_type != PT_LOAD || p->p_memsz == 0)
			continue;
		if (p->p_paddr < FW_HIGH_MEM)
			return damaged(b, e);
		if (p->p_paddr > ram || p->p_memsz > ram - p->p_paddr)
			return err_set(
				e, -ENOMEM,
				"kernel %s does not fit the guest's %llu MiB: give more --memory",
				b->kernel.path, (unsigned long long)(ram / MiB));
		r = fw_file_load(&b->kernel, p->p_offset, p->p_filesz, m, p->p_paddr, e);
		*end = MAX(*end, p->p_paddr + p->p_memsz);
	}
	return r;
}

static int put_start_info(struct mem_map *m, const struct fw_layout *l, gpa_t initrd,
			  uint64_t initrd_size)
{
	struct start_block s = { 0 };
	struct fw_e820_entry e820[FW_E820_MAX];

	s.info = (struct start_info){
		.magic = START_INFO_MAGIC,
		.version = 1,
		.nr_modules = initrd ? 1 : 0,
		.modlist = initrd ? FW_PVH_INFO_ADDR + offsetof(struct start_block, initrd) : 0,
		.cmdline = FW_CMDLINE_ADDR,
		.rsdp = FW_ACPI_ADDR,
		.memmap = FW_PVH_INFO_ADDR + offsetof(struct start_block, map),
		.memmap_entries = fw_e820_build(e820, l),
	};
	s.initrd = (struct start_module){ .addr = initrd, .size = initrd_size };
	for (unsigned i = 0; i < s.info.memmap_entries; i++)
		s.map[i] = (struct start_memmap){ e820[i].addr, e820[i].size, e820[i].type, 0 };
	return mem_copy_in(m, FW_PVH_INFO_ADDR, &s, sizeof(s));
}

int fw_pvh_load(struct fw_boot *b, struct mem_map *m, const struct fw_layout *l,
		struct x86_state *s, struct err *e)
{
	struct image im;
	gpa_t end, initrd;
	int r = read_image(b, &im, e);

	if (!r)
		r = load_segments(b, &im, m, l->ram_low, &end, e);
	if (!r)
		r = fw_initrd_load(b, m, end, l->ram_low, &initrd, e);
	if (!r)
		r = fw_cmdline_load(b, m, 2047, e);
	if (r)
		return r;
	if (put_start_info(m, l, initrd, initrd ? b->initrd.size : 0) < 0 ||
	    fw_entry_protected(m, s, im.entry, (uint32_t)FW_PVH_INFO_ADDR) < 0)
		return err_set(e, -EFAULT, "no RAM below 1 MiB for the boot parameters");
	return 0;
}
