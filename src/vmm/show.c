/* SPDX-License-Identifier: Apache-2.0 */
/* What a person asks a VM: registers, status. The loop's thread. */
#include <inttypes.h>

#include "vmm/vmm_priv.h"

static void print_gprs(FILE *f, const struct x86_state *s)
{
	static const char *const name[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp",
					      "rsi", "rdi", "r8",  "r9",  "r10", "r11",
					      "r12", "r13", "r14", "r15" };

	for (unsigned i = 0; i < 16; i++)
		fprintf(f, "%3s %016" PRIx64 "%s", name[i], s->gpr[i], i % 4 == 3 ? "\n" : "  ");
}

static void print_system(FILE *f, const struct x86_state *s)
{
	static const char *const mp[] = { "running", "halted", "waits for SIPI" };
	static const char *const seg[] = { "es", "cs", "ss", "ds", "fs", "gs" };

	fprintf(f, "rip %016" PRIx64 "  rflags %08" PRIx64 "  cpl %u  %s\n", s->rip, s->rflags,
		s->cpl, s->mp_state < ARRAY_SIZE(mp) ? mp[s->mp_state] : "?");
	for (unsigned i = 0; i < X86_SEG_COUNT; i++)
		fprintf(f, "%s %04x base %016" PRIx64 "%s", seg[i], s->seg[i].sel, s->seg[i].base,
			i % 2 ? "\n" : "  ");
	fprintf(f, "cr0 %08" PRIx64 "  cr2 %016" PRIx64 "  cr3 %016" PRIx64 "  cr4 %08" PRIx64 "\n",
		s->cr0, s->cr2, s->cr3, s->cr4);
	fprintf(f, "efer %04" PRIx64 "  gdt %016" PRIx64 "  idt %016" PRIx64 "  tr %04x\n", s->efer,
		s->gdtr.base, s->idtr.base, s->tr.sel);
}

static void print_cpu(struct vmm *v, struct vmm_cpu *c, FILE *f)
{
	static struct x86_state s;

	if (!c->v.thread || v->engine->get_state(&c->v, &s) < 0) {
		fprintf(f, "vCPU %u does not run\n", c->v.index);
		return;
	}
	fprintf(f, "vCPU %u\n", c->v.index);
	print_gprs(f, &s);
	print_system(f, &s);
}

void vmm_print_registers(struct vmm *v, FILE *f)
{
	bool paused = vmm_paused(v);

	vmm_pause(v);
	for (unsigned i = 0; i < v->ncpus; i++)
		print_cpu(v, &v->cpu[i], f);
	if (!paused)
		vmm_resume(v);
}

void vmm_print_status(struct vmm *v, FILE *f)
{
	static const char *const phase[] = { "running", "paused", "stopping" };
	uint64_t insns = 0;

	for (unsigned i = 0; i < v->ncpus; i++)
		insns += v->cpu[i].v.insn_count;
	fprintf(f, "%s, engine %s, %u vCPU%s, %" PRIu64 " MiB, up %.1f s, %u reset%s\n",
		phase[atomic_load(&v->phase)], v->engine->name, v->ncpus, v->ncpus == 1 ? "" : "s",
		(uint64_t)(v->cfg.machine.memory / MiB),
		(double)(clock_monotonic_ns() - v->start_ns) / 1e9, v->resets,
		v->resets == 1 ? "" : "s");
	if (insns)
		fprintf(f, "%" PRIu64 " guest instructions counted\n", insns);
}
