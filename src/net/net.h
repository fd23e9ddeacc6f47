/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Networks: ports on a switch that learns addresses (IEEE 802.1D in miniature). A port is a
 * virtual machine's network card or an uplink.
 *
 * Threads: net_port_send from any thread; the switch calls the receivers' deliver on that same
 * thread, holding no lock of its own. Lock order: sender's lock, uplink's lock, receiver's lock;
 * so a card must take frames under a lock that it does not hold while it sends. Ports are added
 * and removed while nothing is sent.
 */
#ifndef R3_NET_NET_H
#define R3_NET_NET_H

#include "base/base.h"
#include "base/err.h"

#include <sys/uio.h>

enum {
	NET_MAC_LEN = 6,
	NET_HDR_LEN = 14, /* destination, source, type */
	NET_MTU_DEFAULT = 1500,
	NET_MTU_MAX = 65520,
	NET_FRAME_MAX = 65550, /* larger ones are dropped */
	NET_IOV_MAX = 64,
};

struct net_port_ops {
	/* One frame, without preamble and checksum. 0, or -errno when it was dropped. */
	int (*deliver)(void *opaque, const struct iovec *iov, int n);
};

struct net_counters {
	uint64_t frames, bytes, dropped;
};

struct net_switch;
struct net_port {
	const char *name;
	const struct net_port_ops *ops;
	void *opaque;
	bool uplink;	       /* takes a lock while it delivers and sends: one for each switch */
	struct net_switch *sw; /* private */
	struct net_counters sent, taken; /* by, and to the port; atomic */
};

struct net_switch *net_switch_new(void) MUST_CHECK;
void net_switch_free(struct net_switch *s); /* no ports are left */

/* The caller keeps *p and fills name, ops, opaque and uplink before. */
int net_port_add(struct net_switch *s, struct net_port *p, struct err *e) MUST_CHECK;
void net_port_remove(struct net_port *p);

/* A frame from the port into the network. */
void net_port_send(struct net_port *p, const struct iovec *iov, int n);

size_t net_iov_len(const struct iovec *iov, int n);
/* Gathers at most size bytes into buf; the number copied. */
size_t net_iov_copy(const struct iovec *iov, int n, void *buf, size_t size);

/* "52:54:00:12:34:56" */
int net_mac_parse(const char *s, uint8_t mac[NET_MAC_LEN], struct err *e) MUST_CHECK;

#endif
