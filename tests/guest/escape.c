/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does translated code ever reach a host byte outside guest RAM? Random accesses from CPL 0 and 3 through every
 * addressing form, two ways:
 *   - many cases on interp and on the translator, whose states and memories must stay equal: an access either does
 *     what the architecture says or faults in the guest;
 *   - fewer under a tracer that sees every address generated code forms before it is used (escape_trace.c).
 *
 *   escape [--cases N] [--trace N] [--seed S] [--plant]
 */
#include "escape.h"

#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "cpu/dbt/dbt_priv.h"

#define DATA_BYTES (BOX_PAGES_MAPPED * 4096u)
#define EXTRA_BYTES (3 * 4096u)

/* ---- the box ---- */

static void ist_gates(struct box *b)
{
	box_put64(b, BOX_TSS + 36, BOX_KERNEL + ESC_IST);
	for (unsigned i = 0; i < 256; i++)
		b->ram[BOX_IDT + i * 16 + 4] = 1;
}

void esc_box(struct box *b)
{
	ist_gates(b);
	/* What the kernel half shows cannot be changed, nor executed but for the stops. */
	for (unsigned i = 0; i < BOX_KERNEL_PAGES; i++)
		box_map(b, BOX_KERNEL + i * 4096, i * 4096, BOX_P | BOX_G | BOX_NX);
	box_map(b, BOX_KERNEL + BOX_STOPS, BOX_STOPS, BOX_P | BOX_G);
	box_map(b, BOX_KERNEL + ESC_IST - 4096, ESC_IST - 4096, BOX_P | BOX_W | BOX_G | BOX_NX);
	for (unsigned i = 0; i < BOX_PAGES_MAPPED; i++)
		box_map(b, BOX_CODE_VA + i * 4096, BOX_CODE + i * 4096, BOX_P | BOX_U);
	memset(b->ram + BOX_CODE, 0xcc, BOX_PAGES_MAPPED * 4096);
	for (unsigned i = 0; i < 4; i++) {
		box_map(b, BOX_DATA_VA + (10 + i) * 4096, BOX_DATA + (10 + i) * 4096,
			BOX_P | BOX_NX | (i < 2 ? BOX_U : BOX_W));
		box_map(b, ESC_HIGH + i * 4096, BOX_DATA + i * 4096, BOX_P | BOX_W | BOX_NX);
	}
	box_map(b, BOX_DATA_VA + 14 * 4096, 0, 0);
	box_map(b, ESC_LOW_PAGE, ESC_EXTRA, BOX_P | BOX_W | BOX_U | BOX_NX);
	box_map(b, ESC_TOP_USER, ESC_EXTRA + 4096, BOX_P | BOX_W | BOX_U | BOX_NX);
	box_map(b, ESC_TOP, ESC_EXTRA + 8192, BOX_P | BOX_W | BOX_NX);
	box_reset(b, 0);
}

static void set_registers(struct x86_state *s, const struct esc_case *c)
{
	uint16_t dpl = (uint16_t)(c->cpl << 5);

	memcpy(s->gpr, c->gpr, sizeof(s->gpr));
	s->rip = BOX_CODE_VA + c->off;
	s->rflags = c->rflags;
	s->cr2 = 0;
	s->cpl = (uint8_t)c->cpl;
	s->int_shadow = 0;
	s->idtr = (struct x86_dtable){ BOX_KERNEL + BOX_IDT, 0xfff };
	for (unsigned i = 0; i < X86_SEG_COUNT; i++)
		s->seg[i] = (struct x86_seg){ .sel = c->cpl ? BOX_SS3 : BOX_SS0,
					      .attr = 0xc093 | dpl,
					      .limit = ~0u };
	s->seg[X86_CS] = (struct x86_seg){ .sel = c->cpl ? BOX_CS3 : BOX_CS0,
					   .attr = 0xa09b | dpl,
					   .limit = ~0u };
	s->seg[X86_FS].base = c->fs_base;
	s->seg[X86_GS].base = c->gs_base;
	for (unsigned i = 0; i < 256; i++) {
		s->xsave[160 + i] = (uint8_t)(i * 37 + 11);
		s->xsave[576 + i] = (uint8_t)(i * 101 + 3);
	}
	memset(s->xsave, 0, 160);
	s->xsave[0] = 0x7f, s->xsave[1] = 3;
	s->xsave[24] = 0x80, s->xsave[25] = 0x1f;
	for (unsigned i = 0; i < 3; i++) { /* three numbers on the x87 stack */
		s->xsave[4] |= (uint8_t)(1u << i);
		s->xsave[32 + 16 * i + 7] = 0xc0;
		s->xsave[32 + 16 * i + 9] = 0x40;
	}
	s->xsave[512] = 7;
}

/* Paging and mode never change here, so that registers may be set without telling the engine. */
int esc_run(struct box *b, const struct esc_case *c)
{
	int r;

	box_code(b, BOX_CODE + c->off, c->code, c->len);
	set_registers(b->v.s, c);
	memset(b->ram + ESC_IST - 64, 0, 64);
	r = box_run(b);
	memset(b->ram + BOX_CODE + c->off, 0xcc, c->len);
	mem_dma_written(b->mem, BOX_CODE + c->off, c->len);
	return r;
}

/* ---- interp against dbt ---- */

static uint8_t base_data[DATA_BYTES], base_extra[EXTRA_BYTES];

static void fill_base(uint64_t seed)
{
	struct esc_random r = { .x = seed | 1 };

	for (unsigned i = 0; i < DATA_BYTES; i += 8) {
		uint64_t v = esc_random(&r);

		memcpy(base_data + i, &v, 8);
	}
	memcpy(base_extra, base_data + 4096, EXTRA_BYTES);
}

static void restore(struct box *b)
{
	memcpy(b->ram + BOX_DATA, base_data, DATA_BYTES);
	memcpy(b->ram + ESC_EXTRA, base_extra, EXTRA_BYTES);
}

static bool memory_equal(const struct box *a, const struct box *b)
{
	return !memcmp(a->ram + BOX_DATA, b->ram + BOX_DATA, DATA_BYTES) &&
	       !memcmp(a->ram + ESC_EXTRA, b->ram + ESC_EXTRA, EXTRA_BYTES);
}

static void host_addresses(struct esc_random *r, const struct box *dbt)
{
	const struct dbt *d = dbt->v.engine_priv;
	const uint64_t a[] = {
		(uint64_t)d->mmu.ram_rw,
		(uint64_t)d->mmu.ram_ro,
		(uint64_t)d->mmu.ram_rw + BOX_RAM,
		(uint64_t)d->mmu.guard,
		(uint64_t)d->mmu.alias,
		(uint64_t)d->mmu.sup.base,
		(uint64_t)d->fc.rx,
		(uint64_t)d->fc.rw,
		(uint64_t)d->ret_top[0],
		(uint64_t)&dbt_tls,
		(uint64_t)&r,
		(uint64_t)d,
		(uint64_t)&base_data,
		(uint64_t)esc_run,
		(uint64_t)dbt->ram,
		(uint64_t)memcpy,
		getauxval(AT_SYSINFO_EHDR),
	};

	memcpy(r->host, a, sizeof(a));
	r->nhost = ARRAY_SIZE(a);
	for (unsigned i = 0; i < 4; i++) {
		r->delta[r->ndelta++] = dbt_entry_value(dbt_index(BOX_DATA_VA) + i,
							d->mmu.ram_rw + BOX_DATA + i * 4096);
		r->delta[r->ndelta++] = dbt_entry_value(dbt_index(ESC_HIGH) + i,
							d->mmu.ram_rw + BOX_DATA + i * 4096);
	}
}

static void print_case(const struct esc_case *c)
{
	char text[96];
	uint8_t code[64] = { 0 };

	memcpy(code, c->code, c->len);
	fprintf(stderr, "case (%s): CPL %u, %s\n", c->form, c->cpl,
		x86_disasm(text, sizeof(text), X86_MODE_64, code, 15, BOX_CODE_VA + c->off));
	for (unsigned i = 0; i < 16; i++)
		fprintf(stderr, "  gpr%-2u %#018llx%s", i, (unsigned long long)c->gpr[i],
			i % 4 == 3 ? "\n" : "");
	fprintf(stderr, "  fs %#llx gs %#llx rflags %#llx\n", (unsigned long long)c->fs_base,
		(unsigned long long)c->gs_base, (unsigned long long)c->rflags);
}

static unsigned one_case(struct box *interp, struct box *dbt, struct esc_random *r,
			 unsigned long *ended)
{
	struct esc_case c;
	struct box_compare rules = { .skip_from = BOX_DATA, .skip_to = BOX_DATA };
	int a, b;
	unsigned n;

	esc_case_make(&c, r);
	a = esc_run(interp, &c);
	b = esc_run(dbt, &c);
	rules.flags_ignored = c.flags_ignored;
	rules.registers_only = memory_equal(interp, dbt);
	ended[a >= 0 && a < 32 ? a : 31]++;
	n = (a != b) + box_differs(interp, dbt, &rules, stderr);
	if (n) {
		fprintf(stderr, "interp ended with %d, dbt with %d\n", a, b);
		print_case(&c);
	}
	if (n || memcmp(interp->ram + BOX_DATA, base_data, DATA_BYTES) ||
	    memcmp(interp->ram + ESC_EXTRA, base_extra, EXTRA_BYTES)) {
		restore(interp);
		restore(dbt);
	}
	return n != 0;
}

static int compare(uint64_t seed, unsigned long cases)
{
	struct box *interp = box_new(&engine_interp), *dbt = box_new(&engine_dbt);
	struct esc_random r = { .x = seed | 1 };
	unsigned long ended[32] = { 0 }, bad = 0;

	if (!interp || !dbt)
		return 77; /* skipped */
	fill_base(seed);
	esc_box(interp);
	esc_box(dbt);
	restore(interp);
	restore(dbt);
	host_addresses(&r, dbt);
	for (unsigned long i = 0; i < cases && bad < 10; i++)
		bad += one_case(interp, dbt, &r, ended);
	printf("escape: %lu cases against interp, %lu differences; ended in #BP %lu, #PF %lu, #GP %lu, #SS %lu, #UD %lu, #DE %lu, other %lu\n",
	       cases, bad, ended[3], ended[14], ended[13], ended[12], ended[6], ended[0],
	       cases - ended[3] - ended[14] - ended[13] - ended[12] - ended[6] - ended[0]);
	box_free(dbt);
	box_free(interp);
	return bad != 0;
}

int main(int argc, char **argv)
{
	unsigned long cases = 100000, trace = 3000;
	uint64_t seed = 1;
	bool plant = false;
	long bad;
	int r;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--plant"))
			plant = true;
		else if (i + 1 < argc && !strcmp(argv[i], "--cases"))
			cases = strtoul(argv[++i], NULL, 0);
		else if (i + 1 < argc && !strcmp(argv[i], "--trace"))
			trace = strtoul(argv[++i], NULL, 0);
		else if (i + 1 < argc && !strcmp(argv[i], "--seed"))
			seed = strtoul(argv[++i], NULL, 0);
	}
	printf("escape: seed %llu\n", (unsigned long long)seed);
	fflush(stdout);
	bad = trace ? esc_trace(seed, (unsigned)trace, plant) : 0;
	if (bad < 0)
		printf("escape: tracing is not possible here\n");
	r = cases ? compare(seed, cases) : 0;
	if (plant)
		return bad > 0 ? 0 : 1;
	return r ? r : bad > 0;
}
