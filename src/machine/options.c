/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of --disk and --net. */
#include "machine/machine_priv.h"

static const char *const aio_names[] = { "auto", "io_uring", "threads", NULL };
static const char *const net_kinds[] = { "user", "none", NULL };

static const struct cfg_field disk_fields[] = {
	CFG_STRING(struct machine_disk_opts, path, "path", NULL, "image file (raw, may be sparse)",
		   CFG_REQUIRED | CFG_FIRST),
	CFG_BOOL(struct machine_disk_opts, readonly, "readonly", "off", "refuse the guest's writes",
		 0),
	CFG_ENUM(struct machine_disk_opts, aio, "aio", aio_names, "auto",
		 "how the host file is reached", 0),
	CFG_STRING(struct machine_disk_opts, serial, "serial", NULL, "the disk's id in the guest",
		   0),
	CFG_END,
};
const struct cfg_class machine_disk_class = { "--disk", sizeof(struct machine_disk_opts),
					      disk_fields };

static const struct cfg_field net_fields[] = {
	{ .key = "type",
	  .type = CFG_T_ENUM,
	  .offset = offsetof(struct machine_net_opts, kind),
	  .size = sizeof(int),
	  .def = "user",
	  .help = "user: through this process, no rights needed",
	  .names = net_kinds,
	  .flags = CFG_FIRST },
	CFG_LIST(struct machine_net_opts, forward, "forward",
		 "tcp:[ADDR:]HOSTPORT:[ADDR:]GUESTPORT, or udp:…; may be repeated", 0),
	CFG_STRING(struct machine_net_opts, mac, "mac", NULL, "hardware address", 0),
	CFG_STRING(struct machine_net_opts, hostname, "hostname", NULL, "the name DHCP tells", 0),
	CFG_INT(struct machine_net_opts, mtu, "mtu", 0, 65520, "0", "0: 1500", 0),
	CFG_BOOL(struct machine_net_opts, restricted, "restrict", "off",
		 "nothing but forwarded connections", 0),
	CFG_END,
};
const struct cfg_class machine_net_class = { "--net", sizeof(struct machine_net_opts), net_fields };
