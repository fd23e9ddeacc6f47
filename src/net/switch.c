/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The switch: a hashed table of addresses, each with its port and when it was last heard of.
 * `lock` guards table and port list; it is let go before a frame is delivered, which is safe as
 * ports come and go only while nothing is sent.
 */
#include "net/net.h"

#include "loop/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PORTS_MAX = 32, TABLE_SIZE = 1024, PROBES = 4 };

#define AGE_NS (300ll * 1000000000)

struct entry {
	uint64_t mac; /* 0: free */
	struct net_port *port;
	int64_t heard_ns;
};

struct net_switch {
	pthread_mutex_t lock;
	struct net_port *port[PORTS_MAX];
	unsigned ports;
	struct entry table[TABLE_SIZE];
};

struct net_switch *net_switch_new(void)
{
	struct net_switch *s = calloc(1, sizeof(*s));

	if (s != NULL)
		pthread_mutex_init(&s->lock, NULL);
	return s;
}

void net_switch_free(struct net_switch *s)
{
	if (s == NULL)
		return;
	pthread_mutex_destroy(&s->lock);
	free(s);
}

int net_port_add(struct net_switch *s, struct net_port *p, struct err *e)
{
	int r = 0;

	pthread_mutex_lock(&s->lock);
	if (s->ports == PORTS_MAX)
		r = err_set(e, -ENOSPC, "net %s: the switch has only %d ports", p->name, PORTS_MAX);
	for (unsigned i = 0; i < s->ports && r == 0; i++) {
		if (p->uplink && s->port[i]->uplink)
			r = err_set(e, -EBUSY, "net %s: the switch has an uplink already: %s",
				    p->name, s->port[i]->name);
	}
	if (r == 0) {
		s->port[s->ports++] = p;
		p->sw = s;
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

void net_port_remove(struct net_port *p)
{
	struct net_switch *s = p->sw;

	if (s == NULL)
		return;
	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < s->ports; i++) {
		if (s->port[i] == p) {
			s->port[i] = s->port[--s->ports];
			break;
		}
	}
	for (unsigned i = 0; i < TABLE_SIZE; i++) {
		if (s->table[i].port == p)
			memset(&s->table[i], 0, sizeof(s->table[i]));
	}
	p->sw = NULL;
	pthread_mutex_unlock(&s->lock);
}

size_t net_iov_len(const struct iovec *iov, int n)
{
	size_t len = 0;

	for (int i = 0; i < n; i++)
		len += iov[i].iov_len;
	return len;
}

size_t net_iov_copy(const struct iovec *iov, int n, void *buf, size_t size)
{
	size_t done = 0;

	for (int i = 0; i < n && done < size; i++) {
		const size_t m = MIN(iov[i].iov_len, size - done);

		memcpy((uint8_t *)buf + done, iov[i].iov_base, m);
		done += m;
	}
	return done;
}

static uint64_t mac_get(const uint8_t *p)
{
	uint64_t v = 0;

	memcpy(&v, p, NET_MAC_LEN);
	return v; /* the first byte sent is the lowest: bit 0 is the group bit */
}

static unsigned mac_hash(uint64_t mac)
{
	return (unsigned)((mac * 0x9e3779b97f4a7c15ull) >> 54);
}

static struct entry *mac_find(struct net_switch *s, uint64_t mac)
{
	for (unsigned i = 0; i < PROBES; i++) {
		struct entry *e = &s->table[(mac_hash(mac) + i) % TABLE_SIZE];

		if (e->mac == mac)
			return e;
	}
	return NULL;
}

/* A full neighbourhood gives up its oldest entry, so that a flood of addresses only costs floods. */
static void mac_learn(struct net_switch *s, uint64_t mac, struct net_port *p, int64_t now)
{
	struct entry *e = mac_find(s, mac), *old;

	if (mac == 0 || (mac & 1))
		return;
	if (e == NULL) {
		e = &s->table[mac_hash(mac) % TABLE_SIZE];
		for (unsigned i = 1; i < PROBES; i++) {
			old = &s->table[(mac_hash(mac) + i) % TABLE_SIZE];
			if (old->heard_ns < e->heard_ns)
				e = old;
		}
	}
	*e = (struct entry){ .mac = mac, .port = p, .heard_ns = now };
}

/* Who gets the frame: their number, at most PORTS_MAX. */
static unsigned targets(struct net_switch *s, struct net_port *from, const uint8_t *hdr,
			struct net_port **to)
{
	const uint64_t dst = mac_get(hdr), src = mac_get(hdr + NET_MAC_LEN);
	const int64_t now = clock_monotonic_ns();
	const struct entry *e;
	unsigned n = 0;

	pthread_mutex_lock(&s->lock);
	mac_learn(s, src, from, now);
	e = (dst & 1) ? NULL : mac_find(s, dst);
	if (e != NULL && dst != 0 && now - e->heard_ns < AGE_NS) {
		if (e->port != from)
			to[n++] = e->port;
	} else {
		for (unsigned i = 0; i < s->ports; i++) {
			if (s->port[i] != from)
				to[n++] = s->port[i];
		}
	}
	pthread_mutex_unlock(&s->lock);
	return n;
}

static void count(struct net_counters *c, size_t len, bool dropped)
{
	if (dropped) {
		__atomic_add_fetch(&c->dropped, 1, __ATOMIC_RELAXED);
		return;
	}
	__atomic_add_fetch(&c->frames, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&c->bytes, len, __ATOMIC_RELAXED);
}

void net_port_send(struct net_port *p, const struct iovec *iov, int n)
{
	const size_t len = net_iov_len(iov, n);
	struct net_port *to[PORTS_MAX];
	uint8_t hdr[NET_HDR_LEN];
	unsigned m;

	if (p->sw == NULL || len > NET_FRAME_MAX ||
	    net_iov_copy(iov, n, hdr, sizeof(hdr)) < sizeof(hdr)) {
		count(&p->sent, len, true);
		return;
	}
	count(&p->sent, len, false);
	m = targets(p->sw, p, hdr, to);
	for (unsigned i = 0; i < m; i++) {
		int r = to[i]->ops->deliver(to[i]->opaque, iov, n);

		count(&to[i]->taken, len, r < 0);
	}
}

int net_mac_parse(const char *s, uint8_t mac[NET_MAC_LEN], struct err *e)
{
	unsigned b[NET_MAC_LEN];
	int end = 0;

	if (strlen(s) != 17 ||
	    sscanf(s, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
		   &end) != NET_MAC_LEN ||
	    end != 17)
		return err_set(e, -EINVAL,
			       "'%s' is no MAC address; write it like 52:54:00:12:34:56", s);
	if (b[0] & 1)
		return err_set(e, -EINVAL, "'%s' is a group address; the first byte must be even",
			       s);
	if ((b[0] | b[1] | b[2] | b[3] | b[4] | b[5]) == 0)
		return err_set(e, -EINVAL,
			       "'%s' is no card's address; leave it out for a ready-made one", s);
	for (unsigned i = 0; i < NET_MAC_LEN; i++)
		mac[i] = (uint8_t)b[i];
	return 0;
}
