/* SPDX-License-Identifier: Apache-2.0 */
/*
 * User networking: an uplink that turns the guest's packets into sockets of this process, by
 * libslirp. The guest finds 10.0.2.0/24: gateway (and host) .2, name server .3, itself .15 by DHCP.
 *
 * Threads: one lock around libslirp. Frames from guests are put in on the thread that sends them;
 * sockets and timers are served on the loop's thread. Replies go to the switch under the lock.
 */
#ifndef R3_NET_SLIRP_H
#define R3_NET_SLIRP_H

#include "loop/loop.h"
#include "net/net.h"

#include <netinet/in.h>

enum { NET_FORWARDS_MAX = 32 };

/* A port of the host that leads to one of the guest */
struct net_forward {
	bool udp;
	struct in_addr host_addr, guest_addr; /* guest 0.0.0.0: the first DHCP address */
	uint16_t host_port, guest_port;
};

/* "tcp:[ADDRESS:]PORT:[GUEST-ADDRESS:]PORT" or udp:…; without ADDRESS 127.0.0.1 listens. */
int net_forward_parse(const char *s, struct net_forward *f, struct err *e) MUST_CHECK;

struct net_slirp_cfg {
	const char *name;
	bool restricted;      /* the guest reaches nothing outside but forwarded connections */
	unsigned mtu;	      /* 0: 1500 */
	const char *hostname; /* told by DHCP; NULL: none */
	const struct net_forward *forward;
	unsigned forwards;
};

struct net_slirp;
/* Becomes an uplink port of sw. On the loop's thread, or while the loop does not run. */
struct net_slirp *net_slirp_open(const struct net_slirp_cfg *cfg, struct net_switch *sw,
				 struct loop *l, struct err *e) MUST_CHECK;
void net_slirp_close(struct net_slirp *s); /* NULL is allowed */
const struct net_port *net_slirp_port(const struct net_slirp *s);

#endif
