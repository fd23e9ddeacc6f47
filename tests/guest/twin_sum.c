/* SPDX-License-Identifier: Apache-2.0 */
#include "twin_sum.h"

#define TABLE 8192

static uint64_t table[TABLE];

static uint64_t bits_of(double d)
{
	union {
		double d;
		uint64_t u;
	} x = { .d = d };

	return x.u;
}

uint64_t twin_sum(uint64_t rounds)
{
	uint64_t x = 0x9e3779b97f4a7c15u, sum = 0;
	double d = 1.5;
	long double l = 0.25L;

	for (unsigned i = 0; i < TABLE; i++)
		table[i] = i * x;
	for (uint64_t i = 0; i < rounds; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		table[x % TABLE] += x;
		sum = (sum << 5 | sum >> 59) + table[x >> 20 & (TABLE - 1)];
		d = d * 1.0000001 + (double)(uint32_t)x * 1e-6;
		if (d > 1e12)
			d /= 3e9;
		l = l * 1.25L - (long double)(int32_t)(x >> 32);
		if (l > 1e15L || l < -1e15L)
			l /= 7e12L;
		sum ^= bits_of(d) + bits_of((double)l);
	}
	return sum;
}
