/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the translator.
 *
 * Register plan. Generated code keeps twelve guest registers in host registers:
 *     rax rcx rdx rbx rbp rsi rdi r8 r12 r13 r14    in place
 *     guest rsp                                     in host r15
 * and four, rarely used, in the vCPU block: r9 r10 r11 r15. Host r9 r10 r11 are thereby scratch and
 * nothing is ever spilled around a memory access. Host RSP is the return stack, host GS the base of the
 * current translation table. Host FS stays what libc made it: the vCPU block is thread-local storage at
 * a constant distance from it, so that signal handlers and C helpers run without changing a segment base.
 * Arithmetic flags and ID are the guest's own; the other RFLAGS bits live in the vCPU block (sysflags, vif). DF is
 * always clear in generated code.
 *
 * Threads: everything here belongs to the vCPU's thread, except the queue of pages written by devices.
 */
#ifndef R3_CPU_DBT_PRIV_H
#define R3_CPU_DBT_PRIV_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "cpu/dbt/dbt.h"
#include "cpu/dbt/emit.h"
#include "cpu/interp/interp.h"
#include "mem/mem.h"

/* Scratch host registers, and the home of guest RSP. */
#define S0 H_R9
#define S1 H_R10
#define S2 H_R11
#define H_GUEST_RSP H_R15

/* Flags that live in the host's RFLAGS while generated code runs. */
#define DBT_HOST_FLAGS (X86_FL_ARITH | X86_FL_ID)

enum dbt_exit {
	DBT_EXIT_NONE,
	DBT_EXIT_LINK, /* a direct jump not chained yet; arg: link index */
	DBT_EXIT_CELL, /* a link of user code across pages not resolved in this space; arg: cell */
	DBT_EXIT_LOOKUP, /* an indirect target not cached; RIP is the target */
	DBT_EXIT_STEP,	 /* interp is to execute the instruction at RIP */
	DBT_EXIT_FAULT,	 /* the instruction at RIP faulted on the host: interp is to execute it */
	DBT_EXIT_REP, /* a repeated string instruction at RIP met a page that is not in the table */
	DBT_EXIT_KICK,	/* stopped at a boundary by a signal */
	DBT_EXIT_IRQ,	/* IF became 1 and an interrupt waits; RIP is the next instruction */
	DBT_EXIT_ABORT, /* kicked before the first guest instruction: state in memory is intact */
};

struct dbt;

/*
 * Links of user code across pages: each such jump goes through a cell of its own, which lies below the user table of
 * every address space and so follows GS. A flush of the space empties its cells.
 */
#define DBT_MAX_CELLS (1u << 17)
#define DBT_CELL_BYTES (DBT_MAX_CELLS * 8u)

#define DBT_JC_SIZE 8192u
#define DBT_JC_INDEX(va) (((va) + ((va) >> 13)) & (DBT_JC_SIZE - 1))

/* Jump cache: host entries by hashed guest target, and which of them are set. */
struct dbt_jc {
	uint64_t *entry[DBT_JC_SIZE];
	uint8_t chain[DBT_JC_SIZE]; /* how many targets share the slot, less one */
	uint16_t used[1024];
	unsigned nused;
};

/* The vCPU block: thread-local, addressed by generated code as fs:[dbt_fs_offset + field]. */
struct dbt_tls {
	struct x86_state st;
	uint64_t mask_page;	 /* bits 47:12: table index of an address */
	uint64_t mask_misfit[6]; /* by log2 of the access size: where ea modulo it goes; [0]: one bit */
	uint64_t mask_one;
	uint64_t mask_offset;	   /* bits 11:0 */
	uint64_t mask_hash;	   /* jump-cache index of a target address */
	uint64_t mask_flags;	   /* DBT_HOST_FLAGS */
	uint64_t mask_63, mask_31; /* bit offsets within an operand */
	uint64_t flags;		   /* DBT_HOST_FLAGS while outside generated code */
	uint64_t sysflags;	   /* the rest of RFLAGS, without IF */
	uint32_t vif;		   /* guest IF: 0 or X86_FL_IF */
	uint32_t irq_wait;	   /* an interrupt waits for IF */
	uint32_t kick;		   /* a signal came: do not enter */
	uint32_t exit_reason, exit_arg;
	uint32_t default_mxcsr;
	uint64_t tmp0, tmp1;
	uint32_t branch_row;  /* side-table row of the last indirect jump, call or return */
	uint64_t overwritten; /* what the last indirect call's return address replaced */
	uint64_t retired;     /* instructions, when counted */
	uint64_t c_rsp;	      /* C stack while in generated code */
	uint64_t ret_rsp;     /* return stack while outside */
	uint64_t enter_pc;
	uint64_t self;			     /* linear address of this block */
	uint64_t gs_sup, gs_sup_ac, gs_user; /* tables of the current CR3 by view */
	struct dbt_jc *jc_user, *jc_kernel;
	/* fault report for the run loop */
	uint64_t fault_pc;
	struct dbt *d;
};
extern __thread struct dbt_tls dbt_tls __attribute__((tls_model("initial-exec")));

#define TLS(field) HFS(dbt_fs_offset + (int32_t)offsetof(struct dbt_tls, field))
#define TLS_GPR(n) HFS(dbt_fs_offset + (int32_t)offsetof(struct dbt_tls, st.gpr) + 8 * (int32_t)(n))
extern int32_t dbt_fs_offset;

/* ---- blocks ---- */

/* What a block's translation assumed; part of its key. */
#define DBT_MODE_USER BIT(0)
#define DBT_MODE_NOFPU BIT(1) /* CR0.TS or EM: FP and SSE instructions go to interp */
#define DBT_MODE_NOAVX BIT(2)
#define DBT_MODE_SMAP BIT(3) /* CR4.SMAP: STAC and CLAC change the table */
#define DBT_MODE_TSD BIT(4)  /* RDTSC faults in user mode */

struct dbt_insn_map {
	uint16_t host_off; /* from block start: where its code begins */
	uint16_t commit;   /* host_off..commit: state is that before the instruction, after fix */
	uint16_t guest_off;
	uint16_t fix_off; /* the fix is needed from here on */
	uint8_t fix;	  /* enum dbt_fix */
	uint8_t flags;
};
enum dbt_fix {
	DBT_FIX_NONE,
	DBT_FIX_RDI_S1,
	/* guest RDI is in S1 */ DBT_FIX_PUSHED /* flags on the host stack */
};
#define DBT_MAP_SHADOW 1  /* not interruptible before this instruction */
#define DBT_MAP_ALIGNED 2 /* faults when its memory operand is not aligned */

struct dbt_block {
	gva_t va;
	uint64_t ram_off;  /* offset of its first byte in guest RAM's memfd */
	uint64_t ram_off2; /* of the second page when the code spans two; else UINT64_MAX */
	uint32_t mode;
	bool valid;
	bool global;
	uint16_t guest_len, ninsn;
	uint8_t *host, *host_end; /* writable alias */
	uint8_t *checked;	  /* entry that compares S0 with va first; NULL until asked for */
	uint32_t map;		  /* first of ninsn rows of d->map */
	uint32_t ret_site, nret;  /* range of d->ret_site: offsets from host of its return sites */
	struct dbt_block *hash_next, *page_next, *page2_next;
	uint32_t in_head;  /* links that jump here */
	uint32_t out_head; /* links that leave */
};

/* A direct jump or call between blocks. */
struct dbt_link {
	gva_t target;
	uint8_t *rel;  /* rel32 to patch */
	uint8_t *stub; /* where it goes while unlinked */
	struct dbt_block *from, *to;
	uint32_t in_next, out_next;
};

/* ---- code memory (fcache.c) ---- */
/* One piece of cold code: MOV r64, imm64 and JMP rel32, rounded up. */
#define DBT_COLD_BYTES 16

struct dbt_fcache {
	uint8_t *rw, *rx;
	size_t size;
	uint8_t *next; /* bump pointer, writable alias */
	uint8_t *cold; /* the same from the far end, downwards */
	uint8_t *after_stubs;
};
static inline uint8_t *dbt_rx(const struct dbt_fcache *f, uint8_t *rw)
{
	return rw - f->rw + f->rx;
}

/* ---- address translation (mmu.c, space.c) ---- */
/* Where host addresses of guest accesses lie: see half.c. */
#define DBT_WINDOW_BASE BIT(45)
#define DBT_WINDOW_BYTES BIT(45)
#define DBT_MISFIT_SHIFT 40
#define DBT_ALIAS_BYTES BIT(39) /* room for each alias of RAM */

#define DBT_SPACES 12u
#define DBT_HALF_BYTES (256 * GiB) /* table bytes for one half of the address space */
#define DBT_HALF_ENTRIES (DBT_HALF_BYTES / 8)
#define DBT_CHUNK_BYTES (64 * KiB)

/*
 * Entries of one half of an address space, shared by the tables that show it. Backed by a range of the
 * tables' memfd; the C side reaches it through an alias that is always writable.
 */
struct dbt_half {
	uint64_t *entry;      /* alias for C */
	uint64_t first_index; /* table index of entry[0]: 0 or 2^35 */
	uint64_t *log;	      /* indices filled since the last flush */
	uint32_t nlog, cap_log;
	uint8_t *chunk_ready; /* bitmap: chunk holds entries */
	uint32_t *chunk;      /* the ready ones */
	uint32_t nchunk, cap_chunk;
	uint8_t large; /* 1: holds fragments of 2 MiB pages, 2: of 1 GiB pages */
	/* Kernel half: mappings without the global bit, by index; nonglobal: more than fit. */
	uint64_t ng[512];
	uint32_t nng;
	bool nonglobal;
};

/* A translation table as generated code sees it through GS: lower half, then upper half. */
struct dbt_table {
	uint8_t *base;
	struct dbt_half *lower, *upper; /* NULL: nothing is ever mapped there */
};

/* What one CR3 (frame and PCID) maps in the lower half. */
struct dbt_space {
	uint64_t key;		 /* CR3 frame | PCID; UINT64_MAX: free */
	uint64_t stamp;		 /* last use */
	struct dbt_half half;	 /* pages with U=1 only */
	struct dbt_table user;	 /* view: user privilege */
	struct dbt_table sup_ac; /* view: supervisor with EFLAGS.AC under SMAP */
	struct dbt_jc *jc;	 /* for user code */
	uint64_t *cell;		 /* links across pages; DBT_MAX_CELLS */
	uint32_t *cell_used;
	uint32_t ncell_used;
};

struct dbt_rmap {
	uint64_t *entry;
	uint64_t index;
	uint32_t next;
};

struct dbt_mmu {
	uint8_t *ram_rw, *ram_ro; /* aliases of all guest RAM, guard pages on both sides */
	uint64_t ram_size;
	uint8_t *window; /* DBT_WINDOW_BYTES of address space, everything below lies in it */
	uint8_t *guard;	 /* pages never mapped: where absent entries point */
	uint8_t *alias;	 /* writable view of the tables' memfd */
	int fd;
	struct dbt_half kernel;	 /* upper half, shared by all supervisor tables */
	struct dbt_half sup_low; /* lower half seen by supervisor code outside SMAP's AC window */
	struct dbt_table sup;
	struct dbt_space space[DBT_SPACES];
	struct dbt_space *cur;
	uint64_t stamp;
	uint32_t *rmap_head; /* by RAM page: writable entries that map it; 0: none */
	struct dbt_rmap *rmap;
	uint32_t rmap_next, rmap_cap;
};

/* ---- everything ---- */
#define DBT_HASH_SIZE 65536u
#define DBT_MAX_BLOCKS (1u << 19)
#define DBT_MAX_LINKS (1u << 21)
#define DBT_MAX_MAPS (1u << 23)
#define DBT_MAX_RET_SITES (1u << 20)
#define DBT_RET_STACK (64 * KiB)
#define DBT_KCODE_HASH 4096u
#define DBT_MAX_KCODE (1u << 17)

#define DBT_CODE_TRANSLATED 1u /* blocks start or lie there */
#define DBT_CODE_DECODED 2u    /* interp may hold decoded instructions */

/* A page of supervisor code: translations chained by address stay valid while va maps to this frame. */
struct dbt_kcode {
	gva_t va;
	uint64_t ram_page;
	bool global;
	uint32_t next;
};

struct dbt {
	struct vcpu *v;
	struct dbt_tls *t;	   /* NULL until the vCPU's thread runs */
	struct x86_state *initial; /* where the state was before */
	struct dbt_jc *jc_kernel;
	struct dbt_fcache fc;
	struct dbt_mmu mmu;
	struct mem_listener listener;

	/* Pools: reserved whole, touched as they grow, emptied together with the code cache. */
	struct dbt_block *block; /* in ascending order of host address; 0 unused */
	struct dbt_link *link;	 /* 0 unused */
	struct dbt_insn_map *map;
	uint32_t *ret_site;
	struct dbt_kcode *kcode;
	gva_t *cell_target; /* by cell */
	uint32_t nblock, nlink, nmap, nret_site, nkcode, ncell;
	uint32_t kcode_hash[DBT_KCODE_HASH];
	struct dbt_block **hash; /* by (ram_off, va, mode) */

	struct dbt_ram {
		gpa_t base;
		uint64_t off, size;
	} ram[8];
	unsigned nram;
	uint64_t ram_pages;
	_Atomic uint8_t *page_code;	/* by RAM page: DBT_CODE_* */
	struct dbt_block **page_blocks; /* by RAM page */

	/* Stubs, writable alias; the rx ones are addresses to jump to. */
	uint8_t *stub_leave, *stub_link, *stub_cell, *stub_step, *stub_irq, *stub_rep;
	uint8_t *leave_saved;	 /* inside stub_leave, once the general registers are saved */
	uint8_t *stub_miss;	 /* S0 is a guest target the jump cache lacks */
	uint8_t *stub_jump[2];	 /* jump through the cache to S0: kernel, user */
	uint8_t *stub_jc_miss;	 /* rx */
	uint8_t *ret_top[2];	 /* initial return-stack pointers: kernel, user */
	uint8_t *ret_stack[2];	 /* lowest usable address */
	uint64_t ret_user_saved; /* user return stack while the kernel runs */
	uint8_t *enter, *enter_from, *enter_to, *enter_abort; /* rx */
	uint8_t *rep_from, *rep_to; /* rx: stub_rep after its look at kick */

	uint64_t step_page;	/* RAM page interp was last let decode, UINT64_MAX: none */
	gva_t step_va;		/* and its address */
	bool user_ring;		/* whose return stack ret_rsp is */
	uint32_t mode[2];	/* what each ring's jump caches and return stack were made under */
	struct dbt_block *last; /* run by dbt_run_one_block */
	uint64_t flushes;	/* of the code cache */
	struct dbt_block *misfit; /* faulted for where its operand lies: to be translated anew */
	struct dbt_site {
		uint32_t tag; /* RAM offset of the instruction + 1 */
		uint8_t fit, crossings;
	} * site;			   /* hash table of DBT_SITES */
	uint64_t refault_pc, refault_addr; /* last host fault that a fill answered */
	uint8_t *altstack;
	size_t altstack_size;

	pthread_mutex_t dma_lock; /* pages written by devices, any thread */
	uint64_t dma_page[256];
	unsigned ndma;
	bool dma_all;
	atomic_uint dma_flag;
};

/* fcache.c */
int dbt_fcache_open(struct dbt_fcache *f, size_t size) MUST_CHECK;
void dbt_fcache_close(struct dbt_fcache *f);
/* Throws every translation away. */
void dbt_cache_flush(struct dbt *d);

/* stubs.c */
int dbt_stubs_emit(struct dbt *d) MUST_CHECK;
/* Jump through the jump cache of the code's privilege to the guest address in S0. */
void dbt_emit_jump_s0(struct emit *e, uint32_t mode);
void dbt_emit_call_s0(struct emit *e, uint32_t mode);
/* Falls through when S0 equals va, else goes to miss; S1 is lost. Returns nothing; flags survive. */
void dbt_emit_check_s0(struct emit *e, gva_t va, const uint8_t *miss);

/* What is known of an instruction's memory operand, and so how its translation looks after page crossings. */
enum dbt_fit {
	DBT_FIT_ALIGNED, /* as far as seen aligned: faults when it is not */
	DBT_FIT_WITHIN,	 /* unaligned, within its page: faults when it crosses */
	DBT_FIT_TESTED, /* crosses pages now and then: tests, and hands crossings to interp without a fault */
};
#define DBT_SITES 65536u
enum dbt_fit dbt_site_fit(const struct dbt *d, uint64_t ram_off);
/* The instruction faulted for its operand's place. true: it should be translated anew. */
bool dbt_site_misfit(struct dbt *d, uint64_t ram_off, bool was_aligned);

/* helper.c */
#define DBT_REP_STOS BIT(16)
/*
 * Repeated MOVS or STOS at RIP, on registers in the vCPU block. what: instruction length, element size << 8,
 * DBT_REP_STOS. 0: done, RIP is past it; 1: interp must go on; 2: kicked between pages.
 */
unsigned dbt_helper_rep(uint32_t what);

/* xlate.c */
/* Translates the block at va; NULL: the first instruction is for interp, or cannot be fetched. */
struct dbt_block *dbt_translate(struct dbt *d, gva_t va, uint32_t mode);
void dbt_block_dump(struct dbt *d, const struct dbt_block *b, bool guest, bool host);

/* lookup.c */
struct dbt_block *dbt_lookup(struct dbt *d, gva_t va, uint32_t mode);
struct dbt_block *dbt_find(struct dbt *d, uint64_t ram_off, uint64_t ram_off2, gva_t va,
			   uint32_t mode);
struct dbt_block *dbt_block_by_host(struct dbt *d, const uint8_t *rx_pc);
/* 15 bytes of guest code at `off` in the block; zeros beyond what the block knows to be mapped. */
void dbt_block_code(struct dbt *d, const struct dbt_block *b, unsigned off, uint8_t code[15]);
void dbt_block_insert(struct dbt *d, struct dbt_block *b);
void dbt_block_remove(struct dbt *d, struct dbt_block *b);
void dbt_jc_init(struct dbt_jc *jc, uint8_t *miss_rx);
void dbt_jc_clear(struct dbt_jc *jc, uint8_t *miss_rx);
/* Makes indirect jumps to b->va find b. */
void dbt_jc_set(struct dbt *d, struct dbt_block *b);
/* A new cell for a jump to target; DBT_MAX_CELLS when there is none left. */
uint32_t dbt_cell_new(struct dbt *d, gva_t target);
void dbt_cell_set(struct dbt *d, uint32_t cell, struct dbt_block *b);
void dbt_cells_clear(struct dbt *d, struct dbt_space *s);
/* Where code at va for a fetch with the current privilege lies in RAM; UINT64_MAX: fault, or not RAM. probe: 0 or X86_ACC_PROBE. */
uint64_t dbt_fetch_off(struct dbt *d, gva_t va, unsigned probe, bool *global);

/* link.c */
uint32_t dbt_link_new(struct dbt *d, struct dbt_block *from, gva_t target, uint8_t *rel,
		      uint8_t *stub);
void dbt_link_to(struct dbt *d, uint32_t l, struct dbt_block *to);
void dbt_block_invalidate(struct dbt *d, struct dbt_block *b);

/* mmu.c */
int dbt_mmu_open(struct dbt *d, struct err *e) MUST_CHECK;
void dbt_mmu_close(struct dbt *d);
/* Signal context: an access to a table's own memory faulted at addr; readies its chunk. false: not a table. */
bool dbt_mmu_table_fault(struct dbt *d, uint64_t addr);
/* Fills the entry (and neighbours) for an access at va with the current privilege. true: try the access again. */
bool dbt_mmu_fill(struct dbt *d, gva_t va, bool write);
/* Empties a half and gives its memory back: tables fault their chunks in anew. */
void dbt_mmu_recycle(struct dbt_mmu *m, struct dbt_half *h);
/* The table for the current CPL, CR4.SMAP and EFLAGS.AC becomes GS base. */
void dbt_mmu_select(struct dbt *d);
/* From now on writes to RAM page p fault: it holds code. */
void dbt_mmu_protect(struct dbt *d, uint64_t ram_page);
/* Offset in guest RAM of gpa, or UINT64_MAX. */
uint64_t dbt_ram_off(struct dbt *d, gpa_t a);
/* The guest-physical address of an offset in guest RAM. */
gpa_t dbt_ram_gpa(struct dbt *d, uint64_t off);
extern const struct x86_walk_mem dbt_walk_ops; /* template; opaque is filled with the struct dbt */

/* half.c */
void dbt_half_init(struct dbt_mmu *m, struct dbt_half *h, uint8_t *entries, bool upper);
void dbt_half_free(struct dbt_half *h);
/* The chunk that holds `index` becomes usable: every entry absent. */
void dbt_half_ready(struct dbt_mmu *m, struct dbt_half *h, uint64_t index);
bool dbt_half_is_ready(const struct dbt_half *h, uint64_t index);
/* host: page address, or NULL for absent. */
void dbt_half_set(struct dbt_mmu *m, struct dbt_half *h, uint64_t index, uint8_t *host);
uint8_t *dbt_half_get(const struct dbt_half *h, uint64_t index);
void dbt_half_clear(struct dbt_mmu *m, struct dbt_half *h);
/* Gives the memory of every chunk back; only for dbt_mmu_recycle, which first takes it out of every table. */
void dbt_half_drop(struct dbt_half *h);
/* Drops the mappings without the global bit. */
void dbt_half_clear_nonglobal(struct dbt_mmu *m, struct dbt_half *h);
void dbt_half_clear_page(struct dbt_mmu *m, struct dbt_half *h, gva_t va);
/* Value of an entry that sends an access in page `index` to host page `host`. */
uint64_t dbt_entry_value(uint64_t index, const uint8_t *host);
static inline uint64_t dbt_index(gva_t va)
{
	return (va >> 12) & (BIT(36) - 1);
}

/* space.c: what CR3 loads and TLB invalidations do */
void dbt_space_load(struct dbt *d, bool keep);
void dbt_flush(struct dbt *d, bool global);
void dbt_flush_page(struct dbt *d, gva_t va);
void dbt_flush_pcid(struct dbt *d, unsigned type, uint64_t pcid, gva_t va);

/* smc.c */
void dbt_smc_mark(struct dbt *d, uint64_t ram_page, unsigned bit);
/* The page was, or is about to be, written: whatever was made of its bytes is stale. */
void dbt_smc_written(struct dbt *d, uint64_t ram_page);
void dbt_smc_dma(struct mem_listener *l, gpa_t a, uint64_t len); /* any thread */
void dbt_smc_drain(struct dbt *d);

/* kcode.c */
void dbt_kcode_add(struct dbt *d, gva_t va, uint64_t ram_page, bool global);
/* Drops translations of supervisor pages that no longer map to the same frame. */
void dbt_kcode_revalidate_page(struct dbt *d, gva_t va);
void dbt_kcode_revalidate_all(struct dbt *d, bool nonglobal_only);

/* fault.c */
/* Signal handlers (once) and this thread's alternate stack. */
int dbt_fault_attach(struct dbt *d) MUST_CHECK;
void dbt_fault_detach(struct dbt *d);

/* run.c */
/* Empties a return stack: pairing starts anew. */
void dbt_ret_reset(struct dbt *d, bool user);
uint32_t dbt_mode(const struct dbt *d);

#endif
