/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text of an instruction, by Zydis. Any thread.
 */
#include "x86/insn.h"

#include <Zydis/Zydis.h>
#include <stdio.h>

static void init_decoder(ZydisDecoder *d, enum x86_mode mode)
{
	if (mode == X86_MODE_64)
		ZydisDecoderInit(d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	else if (mode == X86_MODE_32)
		ZydisDecoderInit(d, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
	else
		ZydisDecoderInit(d, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
}

const char *x86_disasm(char *buf, size_t n, enum x86_mode mode, const uint8_t *bytes, unsigned len,
		       uint64_t rip)
{
	ZydisDecoder dec;
	ZydisFormatter fmt;
	ZydisDecodedInstruction in;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];

	if (n == 0)
		return buf;
	init_decoder(&dec, mode);
	ZydisFormatterInit(&fmt, ZYDIS_FORMATTER_STYLE_INTEL);
	if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&dec, bytes, len, &in, op)) &&
	    ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&fmt, &in, op, in.operand_count_visible,
							 buf, n, rip, NULL)))
		return buf;
	snprintf(buf, n, "(bad)");
	return buf;
}
