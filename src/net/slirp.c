/* SPDX-License-Identifier: Apache-2.0 */
/*
 * User networking over libslirp.
 *
 * libslirp is written for a poll() loop that asks for its descriptors before each sleep. We keep
 * an epoll set of our own, which is one descriptor to the loop, and bring it up to date after
 * everything that goes through libslirp; so a guest's packet can change what is waited for from
 * the vCPU's thread without waking the loop. A timerfd in the set does for all its timers.
 *
 * `lock` guards everything here and libslirp. It is held while frames go out to the switch.
 */
#include "net/slirp.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { FDS_MAX = 1024, MS = 1000000, HDR = NET_HDR_LEN };

struct timer {
	SlirpTimerCb cb;
	void *opaque;
	int64_t due_ns; /* INT64_MAX: idle */
	struct timer *next;
};

/* What libslirp wants to hear of */
struct wanted {
	struct pollfd fd[FDS_MAX];
	int n;
};

struct net_slirp {
	pthread_mutex_t lock;
	Slirp *slirp;
	struct loop *loop;
	struct loop_fd lfd;
	struct net_port port;
	int epfd, timerfd;
	size_t frame_max;
	struct timer *timers;
	int64_t armed_ns;      /* what timerfd is set to */
	struct wanted want;    /* scratch */
	short in_set[FDS_MAX]; /* events of each descriptor in the epoll set; 0: not in it */
	uint8_t frame[NET_FRAME_MAX];
};

static short events_to_poll(int ev)
{
	int p = 0;

	p |= ev & SLIRP_POLL_IN ? POLLIN : 0;
	p |= ev & SLIRP_POLL_OUT ? POLLOUT : 0;
	p |= ev & SLIRP_POLL_PRI ? POLLPRI : 0;
	p |= ev & SLIRP_POLL_ERR ? POLLERR : 0;
	p |= ev & SLIRP_POLL_HUP ? POLLHUP : 0;
	return (short)p;
}

static int events_from_poll(short p)
{
	int ev = 0;

	ev |= p & POLLIN ? SLIRP_POLL_IN : 0;
	ev |= p & POLLOUT ? SLIRP_POLL_OUT : 0;
	ev |= p & POLLPRI ? SLIRP_POLL_PRI : 0;
	ev |= p & POLLERR ? SLIRP_POLL_ERR : 0;
	ev |= p & POLLHUP ? SLIRP_POLL_HUP : 0;
	return ev;
}

static int want_add(int fd, int events, void *opaque)
{
	struct wanted *w = &((struct net_slirp *)opaque)->want;

	if (w->n == FDS_MAX)
		return -1;
	w->fd[w->n] = (struct pollfd){ .fd = fd, .events = events_to_poll(events) };
	return w->n++;
}

static int want_revents(int idx, void *opaque)
{
	const struct wanted *w = &((struct net_slirp *)opaque)->want;

	return idx >= 0 && idx < w->n ? events_from_poll(w->fd[idx].revents) : 0;
}

static void set_change(struct net_slirp *s, int fd, short events)
{
	/* The POLL and EPOLL constants are the same bits. */
	struct epoll_event ev = { .events = (uint16_t)events, .data.fd = fd };
	const bool there = s->in_set[fd] != 0;

	s->in_set[fd] = events;
	if (events == 0) {
		epoll_ctl(s->epfd, EPOLL_CTL_DEL, fd, NULL);
		return;
	}
	if (epoll_ctl(s->epfd, there ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev) == 0)
		return;
	if (epoll_ctl(s->epfd, there ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &ev) < 0)
		log_guest("%s: epoll_ctl: %s", s->port.name, strerror(errno));
}

static void timer_arm(struct net_slirp *s, int64_t due)
{
	struct itimerspec it = { .it_value = { .tv_sec = due / 1000000000,
					       .tv_nsec = due % 1000000000 } };

	if (due == s->armed_ns)
		return;
	s->armed_ns = due;
	if (due == INT64_MAX)
		memset(&it, 0, sizeof(it));
	timerfd_settime(s->timerfd, TFD_TIMER_ABSTIME, &it, NULL);
}

/* Asks libslirp what it waits for, and has the epoll set say the same. */
static void refresh(struct net_slirp *s)
{
	short now[FDS_MAX] = { 0 };
	uint32_t timeout = UINT32_MAX;
	int64_t due = INT64_MAX;

	s->want.n = 0;
	slirp_pollfds_fill(s->slirp, &timeout, want_add, s);
	for (int i = 0; i < s->want.n; i++) {
		const struct pollfd *p = &s->want.fd[i];

		if (p->fd >= 0 && p->fd < FDS_MAX)
			now[p->fd] = (short)(now[p->fd] | p->events);
	}
	for (int fd = 0; fd < FDS_MAX; fd++) {
		if (now[fd] != s->in_set[fd])
			set_change(s, fd, now[fd]);
	}
	if (timeout != UINT32_MAX)
		due = clock_monotonic_ns() + (int64_t)timeout * MS;
	for (const struct timer *t = s->timers; t != NULL; t = t->next)
		due = MIN(due, t->due_ns);
	timer_arm(s, due);
}

static void run_timers(struct net_slirp *s)
{
	const int64_t now = clock_monotonic_ns();
	struct timer *next;

	for (struct timer *t = s->timers; t != NULL; t = next) {
		next = t->next;
		if (t->due_ns <= now) {
			t->due_ns = INT64_MAX;
			t->cb(t->opaque);
		}
	}
}

static void serve(struct loop_fd *f, uint32_t events)
{
	struct net_slirp *s = f->opaque;
	uint32_t timeout = UINT32_MAX;
	uint64_t expired;
	int n;

	(void)events;
	pthread_mutex_lock(&s->lock);
	if (read(s->timerfd, &expired, sizeof(expired)) > 0)
		s->armed_ns = INT64_MAX;
	s->want.n = 0;
	slirp_pollfds_fill(s->slirp, &timeout, want_add, s);
	n = poll(s->want.fd, (nfds_t)s->want.n, 0);
	slirp_pollfds_poll(s->slirp, n < 0, want_revents, s);
	run_timers(s);
	refresh(s);
	pthread_mutex_unlock(&s->lock);
}

/* A frame for us, from a guest: copied first, as the guest may write it meanwhile. */
static int deliver(void *opaque, const struct iovec *iov, int n)
{
	const size_t len = net_iov_len(iov, n);
	struct net_slirp *s = opaque;

	if (len < HDR || len > s->frame_max)
		return -EMSGSIZE;
	pthread_mutex_lock(&s->lock);
	net_iov_copy(iov, n, s->frame, len);
	slirp_input(s->slirp, s->frame, (int)len);
	refresh(s);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static ssize_t cb_send_packet(const void *buf, size_t len, void *opaque)
{
	struct net_slirp *s = opaque;
	const struct iovec iov = { (void *)(uintptr_t)buf, len };

	net_port_send(&s->port, &iov, 1);
	return (ssize_t)len;
}

static void cb_guest_error(const char *msg, void *opaque)
{
	const struct net_slirp *s = opaque;

	log_guest("%s: %s", s->port.name, msg);
}

static int64_t cb_clock_get_ns(void *opaque)
{
	(void)opaque;
	return clock_monotonic_ns();
}

static void *cb_timer_new(SlirpTimerCb cb, void *cb_opaque, void *opaque)
{
	struct net_slirp *s = opaque;
	struct timer *t = calloc(1, sizeof(*t));

	BUG_ON(t == NULL); /* once for each network, when it is opened */
	*t = (struct timer){ .cb = cb, .opaque = cb_opaque, .due_ns = INT64_MAX, .next = s->timers };
	s->timers = t;
	return t;
}

static void cb_timer_free(void *timer, void *opaque)
{
	struct net_slirp *s = opaque;

	for (struct timer **p = &s->timers; *p != NULL; p = &(*p)->next) {
		if (*p == timer) {
			*p = (*p)->next;
			break;
		}
	}
	free(timer);
}

static void cb_timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
	(void)opaque; /* refresh() follows and looks at all timers */
	((struct timer *)timer)->due_ns = expire_ms * MS;
}

static void cb_register_fd(int fd, void *opaque)
{
	(void)fd;
	(void)opaque;
}

/* About to be closed: the number may come back as another socket. */
static void cb_unregister_fd(int fd, void *opaque)
{
	struct net_slirp *s = opaque;

	if (fd >= 0 && fd < FDS_MAX && s->in_set[fd] != 0)
		set_change(s, fd, 0);
}

static void cb_notify(void *opaque)
{
	(void)opaque;
}

static const SlirpCb callbacks = {
	.send_packet = cb_send_packet,
	.guest_error = cb_guest_error,
	.clock_get_ns = cb_clock_get_ns,
	.timer_new = cb_timer_new,
	.timer_free = cb_timer_free,
	.timer_mod = cb_timer_mod,
	.register_poll_fd = cb_register_fd,
	.unregister_poll_fd = cb_unregister_fd,
	.notify = cb_notify,
};

static const struct net_port_ops port_ops = { .deliver = deliver };

static struct in_addr addr(const char *text)
{
	struct in_addr a = { 0 };

	inet_pton(AF_INET, text, &a);
	return a;
}

static Slirp *stack_new(struct net_slirp *s, const struct net_slirp_cfg *cfg)
{
	const unsigned mtu = cfg->mtu != 0 ? cfg->mtu : NET_MTU_DEFAULT;
	const SlirpConfig c = {
		.version = 1,
		.restricted = cfg->restricted,
		.in_enabled = true,
		.vnetwork = addr("10.0.2.0"),
		.vnetmask = addr("255.255.255.0"),
		.vhost = addr("10.0.2.2"),
		.vdhcp_start = addr("10.0.2.15"),
		.vnameserver = addr("10.0.2.3"),
		.vhostname = cfg->hostname,
		.if_mtu = mtu,
		.if_mru = mtu,
	};

	s->frame_max = mtu + HDR + 4; /* room for a VLAN tag */
	return slirp_new(&c, &callbacks, s);
}

static int forwards_add(struct net_slirp *s, const struct net_slirp_cfg *cfg, struct err *e)
{
	for (unsigned i = 0; i < cfg->forwards; i++) {
		const struct net_forward *f = &cfg->forward[i];
		struct in_addr guest = f->guest_addr;
		int code;

		if (guest.s_addr == 0)
			guest = addr("10.0.2.15");
		errno = 0;
		if (slirp_add_hostfwd(s->slirp, f->udp, f->host_addr, f->host_port, guest,
				      f->guest_port) == 0)
			continue;
		code = errno != 0 ? errno : EADDRINUSE;
		return err_set(e, -code, "%s: cannot listen on %s port %u: %s; choose another port",
			       cfg->name, f->udp ? "udp" : "tcp", f->host_port, strerror(code));
	}
	return 0;
}

static int fds_open(struct net_slirp *s, struct err *e)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int r;

	s->armed_ns = INT64_MAX;
	s->epfd = epoll_create1(EPOLL_CLOEXEC);
	s->timerfd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (s->epfd < 0 || s->timerfd < 0 || epoll_ctl(s->epfd, EPOLL_CTL_ADD, s->timerfd, &ev) < 0)
		return err_set(e, -errno, "%s: %s", s->port.name, strerror(errno));
	s->lfd = (struct loop_fd){ .fd = s->epfd, .events = EPOLLIN, .ready = serve, .opaque = s };
	r = loop_fd_add(s->loop, &s->lfd);
	return r < 0 ? err_set(e, r, "%s: event loop: %s", s->port.name, strerror(-r)) : 0;
}

void net_slirp_close(struct net_slirp *s)
{
	if (s == NULL)
		return;
	loop_fd_del(s->loop, &s->lfd);
	net_port_remove(&s->port);
	if (s->slirp != NULL)
		slirp_cleanup(s->slirp);
	while (s->timers != NULL)
		cb_timer_free(s->timers, s);
	if (s->epfd >= 0)
		close(s->epfd);
	if (s->timerfd >= 0)
		close(s->timerfd);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

struct net_slirp *net_slirp_open(const struct net_slirp_cfg *cfg, struct net_switch *sw,
				 struct loop *l, struct err *e)
{
	struct net_slirp *s;

	if (cfg->mtu != 0 && (cfg->mtu < 576 || cfg->mtu > NET_MTU_MAX)) {
		err_set(e, -ERANGE, "%s: mtu %u: must lie between 576 and %d", cfg->name, cfg->mtu,
			NET_MTU_MAX);
		return NULL;
	}
	s = calloc(1, sizeof(*s));
	if (s == NULL) {
		err_set(e, -ENOMEM, "%s: out of memory", cfg->name);
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	s->loop = l;
	s->epfd = s->timerfd = -1;
	s->port = (struct net_port){
		.name = cfg->name, .ops = &port_ops, .opaque = s, .uplink = true
	};
	if (fds_open(s, e) < 0 || net_port_add(sw, &s->port, e) < 0)
		goto out;
	s->slirp = stack_new(s, cfg);
	if (s->slirp == NULL) {
		err_set(e, -EINVAL, "%s: libslirp refuses the configuration", cfg->name);
		goto out;
	}
	if (forwards_add(s, cfg, e) < 0)
		goto out;
	refresh(s);
	return s;
out:
	net_slirp_close(s);
	return NULL;
}

const struct net_port *net_slirp_port(const struct net_slirp *s)
{
	return &s->port;
}
