/* SPDX-License-Identifier: Apache-2.0 */
/* The text form of a port forward: PROTOCOL:[ADDRESS:]PORT:[ADDRESS:]PORT. */
#include "net/slirp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int bad(const char *s, const char *what, struct err *e)
{
	return err_set(e, -EINVAL, "forward '%s': %s; write it like tcp:2222:22", s, what);
}

static bool port_parse(const char *s, uint16_t *port)
{
	char *end;
	unsigned long v = strtoul(s, &end, 10);

	if (s[0] < '0' || s[0] > '9' || *end != '\0' || v == 0 || v > UINT16_MAX)
		return false;
	*port = (uint16_t)v;
	return true;
}

/* Splits at colons; the number of fields, more than max when there are too many. */
static unsigned split(char *s, char **field, unsigned max)
{
	unsigned n = 0;

	for (char *p = s; p != NULL; n++) {
		char *colon = strchr(p, ':');

		if (n < max)
			field[n] = p;
		if (colon != NULL)
			*colon++ = '\0';
		p = colon;
	}
	return n;
}

int net_forward_parse(const char *s, struct net_forward *f, struct err *e)
{
	char text[64], *field[5];
	unsigned n, i = 1;

	memset(f, 0, sizeof(*f));
	f->host_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (strlen(s) >= sizeof(text))
		return bad(s, "too long", e);
	snprintf(text, sizeof(text), "%s", s);
	n = split(text, field, ARRAY_SIZE(field));
	if (n < 3 || n > ARRAY_SIZE(field))
		return bad(s, "has the wrong number of parts", e);
	if (strcmp(field[0], "tcp") != 0 && strcmp(field[0], "udp") != 0)
		return bad(s, "begins with neither tcp nor udp", e);
	f->udp = field[0][0] == 'u';
	if (strchr(field[i], '.') != NULL && inet_pton(AF_INET, field[i++], &f->host_addr) != 1)
		return bad(s, "the host's address is not one", e);
	if (i >= n || !port_parse(field[i++], &f->host_port))
		return bad(s, "the host's port is not between 1 and 65535", e);
	if (i < n && strchr(field[i], '.') != NULL &&
	    inet_pton(AF_INET, field[i++], &f->guest_addr) != 1)
		return bad(s, "the guest's address is not one", e);
	if (i >= n || !port_parse(field[i++], &f->guest_port))
		return bad(s, "the guest's port is not between 1 and 65535", e);
	return i == n ? 0 : bad(s, "has the wrong number of parts", e);
}
