/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Effective addresses (SDM vol. 1, 3.7.5). Pure; any thread.
 */
#include "x86/insn.h"

uint64_t x86_ea(const struct x86_insn *insn, const uint64_t gpr[16], uint64_t next_rip)
{
	uint64_t a = (uint64_t)insn->disp;

	if (insn->rip_rel)
		a += next_rip;
	if (insn->base != 0xff)
		a += gpr[insn->base & 15];
	if (insn->index != 0xff)
		a += gpr[insn->index & 15] << insn->scale;
	if (insn->id == X86_ID_XLAT)
		a += gpr[X86_RAX] & 0xff;
	if (insn->addrsize == 4)
		return (uint32_t)a;
	return insn->addrsize == 2 ? (uint16_t)a : a;
}
