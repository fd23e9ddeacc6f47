/* SPDX-License-Identifier: Apache-2.0 */
/* Rows that stay in user mode: integer, vector, x87, memory, calls, self-patching code. */
#include "rows.h"

#include <immintrin.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

volatile uint64_t row_sink;

/* ---- integer mix: FNV hash, CRC-32 by table, quicksort ---- */

#define MIX 8192u
static uint32_t crc_table[256], numbers[MIX];
static uint8_t text[65536];

static void mix_setup(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (unsigned k = 0; k < 8; k++)
			c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
		crc_table[i] = c;
	}
	for (unsigned i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)(i * 131 + (i >> 7));
}

static void quicksort(uint32_t *a, int n)
{
	while (n > 1) {
		uint32_t pivot = a[n / 2];
		int i = 0, k = n - 1;

		while (i <= k) {
			while (a[i] < pivot)
				i++;
			while (a[k] > pivot)
				k--;
			if (i <= k) {
				uint32_t t = a[i];

				a[i++] = a[k];
				a[k--] = t;
			}
		}
		quicksort(a, k + 1);
		a += i;
		n -= i;
	}
}

static void mix(uint64_t n)
{
	while (n--) {
		uint64_t hash = 0xcbf29ce484222325u;
		uint32_t crc = ~0u, x = (uint32_t)n + 1;

		for (unsigned i = 0; i < sizeof(text); i++)
			hash = (hash ^ text[i]) * 0x100000001b3u;
		for (unsigned i = 0; i < sizeof(text); i++)
			crc = crc >> 8 ^ crc_table[(crc ^ text[i]) & 255];
		for (unsigned i = 0; i < MIX; i++)
			numbers[i] = x = x * 1664525 + 1013904223;
		quicksort(numbers, MIX);
		row_sink = hash ^ crc ^ numbers[17];
	}
}

/* ---- vectors ---- */

#define M 64
static float ma[M][M] __attribute__((aligned(64))), mb[M][M] __attribute__((aligned(64))),
	mc[M][M] __attribute__((aligned(64)));

static void matmul_setup(void)
{
	for (int i = 0; i < M; i++)
		for (int k = 0; k < M; k++)
			ma[i][k] = (float)(i - k) / 7, mb[i][k] = (float)(i + k) / 11;
}

static void matmul(uint64_t n)
{
	while (n--) {
		for (int i = 0; i < M; i++)
			for (int k = 0; k < M; k += 4) {
				__m128 sum = _mm_setzero_ps();

				for (int j = 0; j < M; j++)
					sum = _mm_add_ps(sum, _mm_mul_ps(_mm_set1_ps(ma[i][j]),
									 _mm_load_ps(&mb[j][k])));
				_mm_store_ps(&mc[i][k], sum);
			}
		ma[0][0] += mc[1][1] * 1e-20f;
	}
	row_sink = (uint64_t)mc[3][3];
}

#define XOR_BYTES 65536
static uint8_t xa[XOR_BYTES] __attribute__((aligned(64))),
	xb[XOR_BYTES] __attribute__((aligned(64)));

static void xor_sse2(uint64_t n)
{
	while (n--)
		for (int i = 0; i < XOR_BYTES; i += 16) {
			__m128i *p = (__m128i *)(xa + i);

			_mm_store_si128(p, _mm_xor_si128(*p, *(const __m128i *)(xb + i)));
		}
	row_sink = xa[5];
}

static bool has_avx2(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

__attribute__((target("avx2"))) static void xor_avx2(uint64_t n)
{
	while (n--)
		for (int i = 0; i < XOR_BYTES; i += 32) {
			__m256i *p = (__m256i *)(xa + i);

			_mm256_store_si256(p, _mm256_xor_si256(*p, *(const __m256i *)(xb + i)));
		}
	row_sink = xa[5];
}

#define SAXPY 4096
static float sx[SAXPY] __attribute__((aligned(64))), sy[SAXPY] __attribute__((aligned(64)));

__attribute__((target("avx2,fma"))) static void saxpy(uint64_t n)
{
	__m256 a = _mm256_set1_ps(0.999f);

	while (n--)
		for (int i = 0; i < SAXPY; i += 8)
			_mm256_store_ps(sy + i, _mm256_fmadd_ps(a, _mm256_load_ps(sx + i),
								_mm256_load_ps(sy + i)));
	row_sink = (uint64_t)sy[9];
}

/* ---- floating point ---- */

static struct body {
	double p[3], v[3], mass;
} bodies[5];

static void nbody_setup(void)
{
	for (int i = 0; i < 5; i++)
		for (int k = 0; k < 3; k++) {
			bodies[i].p[k] = 3.0 * i + k * 0.7 + (i == k);
			bodies[i].v[k] = 0.01 * (i - k);
			bodies[i].mass = 1.0 / (1 + i);
		}
}

static void nbody(uint64_t n)
{
	while (n--) {
		for (int i = 0; i < 5; i++)
			for (int j = i + 1; j < 5; j++) {
				double d[3], r2 = 1e-9, f;

				for (int k = 0; k < 3; k++) {
					d[k] = bodies[i].p[k] - bodies[j].p[k];
					r2 += d[k] * d[k];
				}
				f = 0.001 / (r2 * __builtin_sqrt(r2));
				for (int k = 0; k < 3; k++) {
					bodies[i].v[k] -= d[k] * bodies[j].mass * f;
					bodies[j].v[k] += d[k] * bodies[i].mass * f;
				}
			}
		for (int i = 0; i < 5; i++)
			for (int k = 0; k < 3; k++)
				bodies[i].p[k] += 0.001 * bodies[i].v[k];
	}
	row_sink = (uint64_t)(bodies[0].p[0] * 1000);
}

static void x87(uint64_t n)
{
	long double a[64], s = 1;

	for (int i = 0; i < 64; i++)
		a[i] = i + 0.5L;
	while (n--)
		for (int i = 0; i < 64; i++) {
			s = s * 0.9999L + a[i] / (s + 2);
			a[i] += s * 1e-6L;
		}
	row_sink = (uint64_t)s;
}

/* ---- memory ---- */

#define CHASE (256 * 1024 / 64)
static struct link {
	struct link *next;
	uint8_t pad[56];
} chain[CHASE];

static void chase_setup(void)
{
	uint32_t order[CHASE], x = 1;

	for (uint32_t i = 0; i < CHASE; i++)
		order[i] = i;
	for (uint32_t i = CHASE - 1; i > 0; i--) {
		uint32_t k, t = order[i];

		x = x * 1664525 + 1013904223;
		k = (x >> 8) % i;
		order[i] = order[k];
		order[k] = t;
	}
	for (uint32_t i = 0; i < CHASE; i++)
		chain[order[i]].next = &chain[order[(i + 1) % CHASE]];
}

static void chase(uint64_t n)
{
	struct link *p = chain;

	while (n--)
		for (int i = 0; i < CHASE; i++)
			p = p->next;
	row_sink = (uint64_t)p;
}

#define COPY (16u << 20)
static uint8_t *copy_from, *copy_to;

static void copy_setup(void)
{
	copy_from = malloc(COPY);
	copy_to = malloc(COPY);
	if (!copy_from || !copy_to)
		exit(1);
	memset(copy_from, 1, COPY);
	memset(copy_to, 2, COPY);
}

static void copy(uint64_t n)
{
	while (n--) {
		memcpy(copy_to, copy_from, COPY);
		__asm__ volatile("" : : "r"(copy_to) : "memory");
	}
	row_sink = copy_to[99];
}

/* ---- calls ---- */

__attribute__((noinline)) static unsigned fib(unsigned n)
{
	__asm__ volatile("");
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static void fib_row(uint64_t n)
{
	while (n--)
		row_sink = fib(22);
}

#define TARGET(k)                                                                                  \
	__attribute__((noinline)) static uint64_t target##k(uint64_t x)                            \
	{                                                                                          \
		return x * (2 * k + 3) + k;                                                        \
	}                                                                                          \
	static uint64_t target##k(uint64_t x)
TARGET(0);
TARGET(1);
TARGET(2);
TARGET(3);
TARGET(4);
TARGET(5);
TARGET(6);
TARGET(7);
static uint64_t (*volatile targets[8])(uint64_t) = { target0, target1, target2, target3,
						     target4, target5, target6, target7 };

static void indirect(uint64_t n)
{
	uint64_t x = 1;

	while (n--)
		for (int i = 0; i < 1000; i++)
			x = targets[(x >> 5) & 7](x);
	row_sink = x;
}

static uint8_t *patched;

static void patch_setup(void)
{
	patched = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);
	if (patched == MAP_FAILED)
		exit(1);
	memcpy(patched, (const uint8_t[]){ 0xb8, 0, 0, 0, 0, 0xc3 }, 6); /* MOV EAX, imm; RET */
}

static void patch(uint64_t n)
{
	uint32_t (*f)(void) = (uint32_t(*)(void))patched;
	uint64_t sum = 0;

	while (n--) {
		uint32_t v = (uint32_t)n;

		memcpy(patched + 1, &v, 4);
		__asm__ volatile("" : : : "memory");
		sum += f();
	}
	row_sink = sum;
}

const struct row rows_cpu[] = {
	{ "integer mix", mix, mix_setup, NULL },
	{ "SSE2 matmul", matmul, matmul_setup, NULL },
	{ "nbody double", nbody, nbody_setup, NULL },
	{ "x87", x87, NULL, NULL },
	{ "SSE2 xor", xor_sse2, NULL, NULL },
	{ "AVX2 xor", xor_avx2, NULL, has_avx2 },
	{ "AVX2 saxpy", saxpy, NULL, has_avx2 },
	{ "pointer chase 256 KiB", chase, chase_setup, NULL },
	{ "memcpy 16 MiB", copy, copy_setup, NULL },
	{ "fib (call/ret)", fib_row, NULL, NULL },
	{ "indirect call", indirect, NULL, NULL },
	{ "self-patching call", patch, patch_setup, NULL },
	{ 0 },
};
