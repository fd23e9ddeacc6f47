/* SPDX-License-Identifier: Apache-2.0 */
/* A running checksum over integer, SSE and x87 arithmetic and memory; the same code in a guest and on the host. */
#ifndef R3_TESTS_TWIN_SUM_H
#define R3_TESTS_TWIN_SUM_H

#include <stdint.h>

uint64_t twin_sum(uint64_t rounds);

#endif
