/* SPDX-License-Identifier: Apache-2.0 */
/*
 * insn-test: random user-mode instructions on the bare host and on an engine, results compared whole.
 *   insn-test --engine interp|dbt [--cases N] [--seed S] [--row name] [--first I] [--insns 1..4]
 *             [--strict] [--show N] [--list] [--verbose] [--plant]
 * --plant changes one thing in every outcome of the engine: each change must be found.
 * Any difference makes the exit status 1. A case is reproduced by the same seed with --first I --cases 1.
 */
#include <cpuid.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "case.h"
#include "cpu/engine.h"
#include "gen.h"
#include "x86/cpuid.h"

struct options {
	const char *engine, *row;
	uint64_t cases, seed, first;
	unsigned insns, show;
	bool strict, list, verbose, plant;
};

static const struct {
	uint32_t leaf, subleaf, reg, bit;
} feature_at[] = {
	{ 0, 0, 0, 0 },
#define X86_FEAT(name, leaf, subleaf, reg, bit) { leaf, subleaf, reg, bit },
#include "x86/features.def"
#undef X86_FEAT
};

static bool host_has(unsigned feature)
{
	uint32_t r[4] = { 0 };

	if (feature == X86_FEAT_NONE)
		return true;
	__cpuid_count(feature_at[feature].leaf, feature_at[feature].subleaf, r[0], r[1], r[2],
		      r[3]);
	return r[feature_at[feature].reg] >> feature_at[feature].bit & 1;
}

struct coverage {
	uint64_t forms[4096]; /* by row */
	uint64_t faulted, regular;
	unsigned *bad; /* differences by row */
};

static int parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "engine", 1, NULL, 'e' },  { "cases", 1, NULL, 'n' }, { "seed", 1, NULL, 's' },
		{ "row", 1, NULL, 'r' },     { "first", 1, NULL, 'f' }, { "insns", 1, NULL, 'i' },
		{ "strict", 0, NULL, 'x' },  { "show", 1, NULL, 'w' },	{ "list", 0, NULL, 'l' },
		{ "verbose", 0, NULL, 'v' }, { "plant", 0, NULL, 'p' }, { 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'e': o->engine = optarg; break;
		case 'n': o->cases = strtoull(optarg, NULL, 0); break;
		case 's': o->seed = strtoull(optarg, NULL, 0); break;
		case 'r': o->row = optarg; break;
		case 'f': o->first = strtoull(optarg, NULL, 0); break;
		case 'i': o->insns = MIN((unsigned)strtoul(optarg, NULL, 0), CASE_INSNS_MAX); break;
		case 'x': o->strict = true; break;
		case 'w': o->show = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'l': o->list = true; break;
		case 'p': o->plant = true; break;
		case 'v': o->verbose = true; break;
		default: return 2;
		}
	}
	return optind == argc ? 0 : 2;
}

/* Rows that take part; prints those that do not, by reason, when asked. */
static unsigned choose_rows(const struct options *o, const struct x86_cpuid *guest, unsigned *rows)
{
	unsigned n = 0, without = 0;

	for (unsigned i = 0; i < x86_row_count(); i++) {
		const struct x86_row *r = x86_row_at(i);
		const char *why = gen_excluded(r);
		uint64_t seed = i;
		uint8_t b[15];

		if (o->row && strcmp(o->row, r->name))
			continue;
		if (!why && !host_has(r->feature))
			why = "the host lacks it";
		if (!why && !x86_has(guest, (enum x86_feature)r->feature))
			why = "not shown to guests";
		if (!why && gen_encode(r, &seed, b) == 0)
			why = "no encoding in 64-bit mode";
		if (why) {
			without++;
			if (o->list)
				printf("excluded: %-12s %-24s %s\n", r->name, r->operands, why);
			continue;
		}
		rows[n++] = i;
	}
	printf("%u rows take part, %u are excluded (--list says why)\n", n, without);
	return n;
}

static const struct cpu_engine *find_engine(const char *name)
{
	for (unsigned i = 0; cpu_engines[i]; i++)
		if (!strcmp(cpu_engines[i]->name, name))
			return cpu_engines[i];
	return NULL;
}

static void count_forms(struct coverage *cov, const struct test_case *c)
{
	unsigned at = 0;

	for (unsigned i = 0; i < c->ninsn; i++) {
		struct x86_insn in;
		int len = x86_decode(&in, X86_MODE_64, c->code + at, 15);

		if (len <= 0)
			break;
		cov->forms[c->row[i]] |= BIT(gen_form(&in));
		at += (unsigned)len;
	}
}

/* One wrong thing of each class in turn. */
static void plant(struct outcome *o, uint64_t i)
{
	switch (i % 10) {
	case 0: o->out.gpr[i / 10 % 16] ^= BIT(i / 160 % 64); break;
	case 1: o->out.rflags ^= X86_FL_DF; break;
	case 2: o->out.rip++; break;
	case 3: o->vector = o->vector == X86_EX_BP ? X86_EX_UD : X86_EX_BP; break;
	case 4: o->out.fx[160 + i / 10 % 256] ^= 1; break;
	case 5: o->out.ymmh[i / 10 % 256] ^= 0x80; break;
	case 6: o->out.fx[32 + 16 * (i / 10 % 8) + i / 80 % 10] ^= 4; break;
	case 7: o->out.fx[25] ^= 0x80; break;
	case 8:
		o->hash ^= 1;
		o->nchanged++;
		break;
	default: o->out.fx[3] ^= 0x38; break; /* TOP */
	}
}

/* Every planted change is a difference; prints which were not seen as one. */
static uint64_t check_planted(const struct test_case *c, const struct outcome *bare,
			      const struct outcome *eng)
{
	struct compare_rules rules = { .strict = true };
	struct outcome bad = *eng;

	if (bare->vector != eng->vector || bare->cr2 != eng->cr2 ||
	    outcome_compare(c, bare, eng, &rules, false))
		return 0; /* differs already, or in something left open */
	plant(&bad, c->index);
	if (outcome_compare(c, bare, &bad, &rules, false) ||
	    (c->index % 10 == 3 && bare->vector != X86_EX_BP))
		return 0;
	printf("planted change %u of case %llu was not found\n", (unsigned)(c->index % 10),
	       (unsigned long long)c->index);
	return 1;
}

static unsigned check(const struct options *o, const struct test_case *c,
		      const struct outcome *bare, const struct outcome *eng, struct coverage *cov,
		      unsigned shown)
{
	struct compare_rules rules = { .strict = o->strict };

	if (o->verbose) {
		printf("case %llu: vector %u\n", (unsigned long long)c->index, bare->vector);
		case_print(c, false);
	}
	if (!outcome_compare(c, bare, eng, &rules, false))
		return 0;
	for (unsigned i = 0; i < c->ninsn; i++)
		cov->bad[c->row[i]]++;
	if (shown < o->show && cov->bad[c->row[0]] <= 2) {
		printf("case %llu (vector %u)\n", (unsigned long long)c->index, bare->vector);
		case_print(c, true);
		outcome_compare(c, bare, eng, &rules, true);
	}
	return 1;
}

static void report(const struct coverage *cov, const unsigned *rows, unsigned nrows)
{
	unsigned hit = 0, forms = 0;

	for (unsigned i = 0; i < nrows; i++) {
		hit += cov->forms[rows[i]] != 0;
		forms += (unsigned)__builtin_popcountll(cov->forms[rows[i]]);
		if (cov->bad[rows[i]])
			printf("DIFFERS %6u  %-14s %s\n", cov->bad[rows[i]],
			       x86_row_at(rows[i])->name, x86_row_at(rows[i])->operands);
	}
	printf("coverage: %u of %u rows, %u row forms; %llu cases ended regularly, %llu in an exception\n",
	       hit, nrows, forms, (unsigned long long)cov->regular,
	       (unsigned long long)cov->faulted);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t run_all(const struct options *o, struct batch *b, struct bare *bare,
			struct guest *g, const struct case_plan *plan, struct coverage *cov)
{
	static struct outcome eng;
	uint64_t bad = 0;

	for (uint64_t done = 0; done < o->cases; done += b->n) {
		batch_fill_base(b, o->seed + (o->first + done) / BATCH);
		b->n = (uint32_t)MIN(o->cases - done, BATCH - (o->first + done) % BATCH);
		for (unsigned i = 0; i < b->n; i++)
			case_make(&b->c[i], plan, o->first + done + i);
		if (bare_run(bare)) {
			printf("the child on the bare host died in cases %llu..%llu\n",
			       (unsigned long long)(o->first + done),
			       (unsigned long long)(o->first + done + b->n));
			return bad + 1;
		}
		guest_set_base(g, b->base);
		for (unsigned i = 0; i < b->n; i++) {
			const struct outcome *r = &b->bare[i];

			if (r->vector == VEC_TIMEOUT)
				continue;
			if (o->verbose)
				fflush(stdout);
			guest_run(g, &b->c[i], b->base, &eng);
			count_forms(cov, &b->c[i]);
			*(r->vector == X86_EX_BP ? &cov->regular : &cov->faulted) += 1;
			if (o->plant)
				bad += check_planted(&b->c[i], r, &eng);
			else
				bad += check(o, &b->c[i], r, &eng, cov,
					     bad < o->show ? (unsigned)bad : o->show);
		}
	}
	return bad;
}

int main(int argc, char **argv)
{
	struct options o = { .engine = "interp", .cases = 20000, .seed = 1, .insns = 1, .show = 40 };
	static unsigned rows[4096], bad_by_row[4096];
	static struct x86_cpuid cpuid;
	static struct coverage cov = { .bad = bad_by_row };
	const struct cpu_engine *e;
	struct case_plan plan;
	struct err err = { 0 };
	struct batch *b;
	struct bare *bare;
	struct guest *g;
	uint64_t bad;
	double t;

	if (parse(argc, argv, &o)) {
		fprintf(stderr,
			"usage: insn-test --engine interp|dbt [--cases N] [--seed S] [--row name]\n");
		return 2;
	}
	e = find_engine(o.engine);
	b = mmap(NULL, sizeof *b, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	x86_cpuid_build(&cpuid, &(struct x86_cpuid_options){
					.vcpus = 1, .invtsc = true, .hypervisor = true });
	plan = (struct case_plan){ .seed = o.seed, .rows = rows, .max_insns = o.insns };
	plan.nrows = choose_rows(&o, &cpuid, rows);
	if (!e || b == MAP_FAILED || plan.nrows == 0) {
		fprintf(stderr, "insn-test: no such engine, or no such row\n");
		return 2;
	}
	bare = bare_start(b);
	g = guest_start(e, &err);
	if (!g) {
		fprintf(stderr, "insn-test: %s: %s\n", o.engine, err.msg);
		return 2;
	}
	t = now();
	bad = run_all(&o, b, bare, g, &plan, &cov);
	t = now() - t;
	bare_stop(bare);
	guest_stop(g);
	report(&cov, rows, plan.nrows);
	printf("insn-test %s: seed %llu, %llu cases, %.0f a second, %llu differ\n", o.engine,
	       (unsigned long long)o.seed, (unsigned long long)o.cases, (double)o.cases / t,
	       (unsigned long long)bad);
	return bad != 0;
}
