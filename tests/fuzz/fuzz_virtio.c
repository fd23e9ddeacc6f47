/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile driver: rings of all four virtio devices full of half-sensible rubbish, registers
 * written at random, kicks, resets, frames and input from outside. Nothing may crash (run it with
 * sanitizers), hang, or stay broken: every device must work again after a reset.
 *
 *	fuzz_virtio [rounds [seed]]
 */
#include "dev/virtio/virtio_blk.h"
#include "dev/virtio/virtio_console.h"
#include "dev/virtio/virtio_net.h"
#include "dev/virtio/virtio_rng.h"
#include "unit/dev/drv.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEVICES = 4, DISK = 1 << 20, KICKS = 16 };

static uint64_t seed;
static struct drv_machine m;
static struct drv d[DEVICES];
static const unsigned queues[DEVICES] = { 1, 2, 2, 1 };
static struct loop *loop;
static struct blk *disk;
static struct net_switch *sw;
static struct net_port peer;
static struct dev *console;
static unsigned broken, answered;
static bool wild; /* this round's driver is; the tame ones only pick odd requests */

static uint32_t rnd(uint32_t n)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(seed >> 33) % n;
}

static uint64_t rnd_addr(void)
{
	switch (rnd(8)) {
	case 0: return DRV_RAM - rnd(64);
	case 1: return UINT64_MAX - rnd(64);
	case 2: return DRV_MMIO + rnd(0x10000);
	case 3: return DRV_RINGS + rnd(0x10000); /* the rings themselves */
	default: return DRV_DATA + rnd(0x10000);
	}
}

static uint32_t rnd_len(void)
{
	static const uint32_t some[] = { 0,   1,   11,	 12,	15,	 16,	     17,
					 512, 513, 4096, 65536, 1 << 20, 0x7fffffff, 0xffffffff };

	return rnd(3) == 0 ? some[rnd(ARRAY_SIZE(some))] : 16 + rnd(64) * 16;
}

static void rubbish_desc(struct drv_ring *r, gpa_t table, unsigned i, unsigned n)
{
	const uint16_t flags = rnd(16) == 0 ? (uint16_t)rnd(65536) : (uint16_t)rnd(8);
	const uint16_t next = rnd(8) == 0 ? (uint16_t)rnd(65536) : (uint16_t)rnd(n + 1);

	drv_desc(r, table, i, rnd_addr(), rnd_len(), flags, next);
}

/* Mostly good requests, a wild driver's with something wrong now and then, so that the deep code is reached too. */
static void likely_chain(struct drv_ring *r)
{
	const gpa_t hdr = DRV_DATA + 32 * rnd(64);
	struct drv_seg s[6] = { { hdr, 16, false } };
	unsigned n = 1 + rnd(4);

	mem_store(m.mem, hdr, rnd(16), 4);
	mem_store(m.mem, hdr + 8, rnd(DISK / 512 + 8), 8);
	for (unsigned i = 1; i <= n; i++)
		s[i] = (struct drv_seg){ DRV_DATA + 0x1000 + rnd(0x8000), 512u * (1 + rnd(4)),
					 i > n / 2 };
	if (wild && rnd(6) == 0)
		s[rnd(n + 1)] = (struct drv_seg){ rnd_addr(), rnd_len(), rnd(2) };
	if (rnd(3) == 0)
		drv_add_indirect(r, DRV_DATA + 0x10000 + 0x100 * rnd(16), s, n + 1);
	else
		drv_add(r, s, n + 1);
}

static void fill(struct drv_ring *r)
{
	if (!wild || rnd(3) != 0) {
		for (unsigned i = rnd(5); i > 0; i--)
			likely_chain(r);
		return;
	}
	for (unsigned i = 0; i < r->size; i++)
		rubbish_desc(r, r->desc, i, r->size);
	for (unsigned i = rnd(16); i > 0; i--)
		rubbish_desc(r, DRV_DATA + 0x10000 + rnd(64), rnd(64), 64);
	for (unsigned i = rnd(r->size); i > 0; i--)
		drv_avail(r, rnd(10) == 0 ? (uint16_t)rnd(65536) : (uint16_t)rnd(r->size));
	if (rnd(8) == 0)
		mem_store(m.mem, r->avail + 2, rnd(65536), 2);
}

static void poke(struct drv *v)
{
	const uint64_t val = rnd(2) ? rnd(16) : (uint64_t)rnd(UINT32_MAX) << rnd(32);
	const gpa_t base[] = { v->common, v->isr, v->notify, v->common + 0x2000,
			       v->common + 0x4000 };
	const gpa_t at = base[rnd(5)] + rnd(0x48);
	const unsigned size = 1u << rnd(4);

	if (rnd(2))
		mem_store(m.mem, at, val, size);
	else
		mem_load(m.mem, at, size);
}

static void outside(void)
{
	static uint8_t f[1600];
	struct iovec iov = { f, 14 + rnd(1550) };

	memset(f, 0xff, 6);
	net_port_send(&peer, &iov, 1);
	virtio_console_input(console, f, rnd(100));
	loop_once(loop, 0);
}

static void restart(struct drv *v, unsigned i)
{
	const gpa_t status = v->common + 0x14;
	struct drv fresh;

	drv_probe(&fresh, &m, v->slot); /* sets the command register again */
	mem_store(m.mem, status, 0, 1);
	for (unsigned k = 0; k < 1000 && drv_status(v) != 0; k++)
		loop_once(loop, 10000000);
	drv_start(v, rnd(2) ? UINT64_MAX : (uint64_t)rnd(UINT32_MAX), queues[i], rnd(2));
}

static void round_of(unsigned i)
{
	struct drv *v = &d[i];
	uint32_t id, len;

	wild = rnd(2);
	restart(v, i);
	for (unsigned k = 0; k < KICKS; k++) {
		const unsigned q = rnd(queues[i]);

		fill(&v->ring[q]);
		drv_kick(v, q);
		if (wild && rnd(4) == 0)
			poke(v);
		outside();
		while (drv_used(&v->ring[q], &id, &len))
			answered++;
	}
	broken += (drv_status(v) & VIRTIO_ST_NEEDS_RESET) != 0;
}

static int take(void *opaque, const struct iovec *iov, int n)
{
	uint8_t f[NET_FRAME_MAX];

	(void)opaque;
	net_iov_copy(iov, n, f, sizeof(f));
	return 0;
}

static void output(void *opaque, const void *buf, size_t n)
{
	uint64_t sum = 0;

	(void)opaque;
	for (size_t i = 0; i < n; i += 512)
		sum += ((const volatile uint8_t *)buf)[i];
	(void)sum;
}

static const struct net_port_ops peer_ops = { .deliver = take };

static bool machine_build(char *path)
{
	const struct blk_cfg bc = { .path = path };
	struct virtio_blk_cfg blk = { .slot = 1 };
	struct virtio_net_cfg net = { .slot = 2 };
	struct virtio_console_cfg con = { .slot = 3, .output = output };
	struct virtio_rng_cfg rng = { .slot = 4 };
	struct err e = { 0, "" };
	int fd = mkstemp(path);

	drv_machine_init(&m);
	blk.pci = net.pci = con.pci = rng.pci = m.pci;
	loop = loop_new(&e);
	sw = net_switch_new();
	if (fd < 0 || ftruncate(fd, DISK) < 0 || loop == NULL || sw == NULL)
		return false;
	close(fd);
	disk = blk_open(&bc, loop, &e);
	peer = (struct net_port){ .name = "peer", .ops = &peer_ops };
	if (disk == NULL || net_port_add(sw, &peer, &e) < 0)
		return false;
	blk.disk = disk;
	net.net = sw;
	console = dev_create(&m.devs, m.bus, &virtio_console_class, "console0", &con, &e);
	return console != NULL &&
	       dev_create(&m.devs, m.bus, &virtio_blk_class, "disk0", &blk, &e) &&
	       dev_create(&m.devs, m.bus, &virtio_net_class, "net0", &net, &e) &&
	       dev_create(&m.devs, m.bus, &virtio_rng_class, "rng0", &rng, &e);
}

static void machine_end(const char *path)
{
	drv_machine_fini(&m);
	net_port_remove(&peer);
	net_switch_free(sw);
	blk_close(disk);
	loop_free(loop);
	unlink(path);
}

/* A correct request after all that */
static bool still_works(void)
{
	const struct drv_seg s[] = { { DRV_DATA, 64, true } };
	uint32_t id, len;

	restart(&d[3], 3);
	drv_add(&d[3].ring[0], s, 1);
	drv_kick(&d[3], 0);
	return drv_used(&d[3].ring[0], &id, &len) && len == 64;
}

int main(int argc, char **argv)
{
	const unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 0) : 4000;
	char path[] = "/tmp/r3-fuzz-XXXXXX";
	bool good;

	seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	printf("fuzz_virtio: %u rounds, seed %" PRIu64 "\n", rounds, seed);
	log_threshold = LOG_ERR;
	if (!machine_build(path))
		return 1;
	for (unsigned i = 0; i < DEVICES; i++)
		drv_probe(&d[i], &m, i == 0 ? 1 : i + 1);
	for (unsigned n = 0; n < rounds; n++)
		round_of(n % DEVICES);
	good = still_works();
	machine_end(path);
	printf("%u answered, %u of %u rounds ended in NEEDS_RESET\n", answered, broken, rounds);
	/* Neither all good nor all bad: else this has not tested what it should. */
	return good && broken > rounds / 20 && broken < rounds && answered > rounds ? 0 : 1;
}
