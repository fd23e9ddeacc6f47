/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page walk: linear to guest-physical address (SDM vol. 3, chapter 4). No caching here.
 */
#ifndef R3_X86_PAGING_H
#define R3_X86_PAGING_H

#include "x86/state.h"

/* How the walk reaches page tables. Entries outside RAM read as all ones with *ok = false. */
struct x86_walk_mem {
	void *opaque;
	uint64_t (*read)(void *opaque, gpa_t a, unsigned size /* 4 or 8 */, bool *ok);
	/* Atomically replaces old by new; false: it had changed meanwhile, walk again. */
	bool (*cmpxchg)(void *opaque, gpa_t a, unsigned size, uint64_t old_val, uint64_t new_val);
};

#define X86_ACC_R 0u
#define X86_ACC_W 1u	/* write, or read-modify-write */
#define X86_ACC_X 2u	/* instruction fetch */
#define X86_ACC_USER 4u /* made with user privilege (CPL 3 and not an implicit supervisor access) */
#define X86_ACC_IMPLICIT                                                                           \
	8u /* implicit supervisor access (GDT, IDT, TSS): SMAP applies whatever AC says */
#define X86_ACC_PROBE 16u /* do not set A/D bits */

struct x86_xlat {
	gpa_t gpa;	    /* physical address of the byte asked for */
	uint64_t page_size; /* 4 KiB, 2 MiB, 4 MiB, 1 GiB; 4 KiB when paging is off */
	bool user;	    /* U=1 at every level */
	bool writable;	    /* R/W=1 at every level (CR0.WP not applied) */
	bool nx;	    /* XD at some level */
	bool dirty;	    /* D is set now */
	bool global;
};

/*
 * Translates va under s (CR0, CR3, CR4, EFER, CPL is NOT consulted: X86_ACC_USER says it; AC from rflags).
 * Returns 0, or -EFAULT with *pf_error set to the #PF error code. Never touches CR2.
 * With PG off it is the identity. va need not be canonical-checked by this function: callers do that.
 */
int x86_translate(const struct x86_state *s, const struct x86_walk_mem *m, gva_t va, unsigned acc,
		  struct x86_xlat *out, uint32_t *pf_error) MUST_CHECK;

/* Physical address width guests see: the host's, at most 40. Bits above it are reserved in page tables. */
unsigned x86_phys_bits(void);

#endif
