/* SPDX-License-Identifier: Apache-2.0 */
/* SMBIOS: checksum, and a walk over the structures ends where the entry point says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "fw/smbios.h"

static void test_walk(void **state)
{
	uint8_t b[512], sum = 0, types[8];
	int64_t n = fw_smbios_build(b, sizeof(b), FW_SMBIOS_ADDR);
	uint64_t table;
	uint32_t size, off = 0;
	unsigned count = 0;

	(void)state;
	assert_true(n > 0);
	assert_memory_equal(b, "_SM3_", 5);
	for (unsigned i = 0; i < b[6]; i++)
		sum = (uint8_t)(sum + b[i]);
	assert_int_equal(sum, 0);
	memcpy(&size, b + 12, 4);
	memcpy(&table, b + 16, 8);
	while (off < size && count < sizeof(types)) {
		const uint8_t *t = b + (table - FW_SMBIOS_ADDR) + off;

		types[count++] = t[0];
		off += t[1];
		while (memcmp(b + (table - FW_SMBIOS_ADDR) + off, "\0", 2) != 0)
			off++;
		off += 2;
	}
	assert_int_equal(off, size);
	assert_int_equal(count, 3);
	assert_memory_equal(types, "\x00\x01\x7f", 3);
}

static void test_too_small(void **state)
{
	uint8_t b[64];

	(void)state;
	assert_true(fw_smbios_build(b, sizeof(b), FW_SMBIOS_ADDR) < 0);
	assert_true(fw_smbios_build(b, 8, FW_SMBIOS_ADDR) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_walk),
					    cmocka_unit_test(test_too_small) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
