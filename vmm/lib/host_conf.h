/*
 * The host's own settings, /etc/mvm.conf: what the operator says once for every VM.
 *
 * Trust:   a file of root's that nobody else may write; anything else is refused, not ignored.
 * Form:    NAME = VALUE, one a line, # begins a comment:
 *            allow-missing = cgroup,landlock-net      layers of the jail that this host lacks; empty: none.
 *                                                     Without the line: JAIL_LAYERS_DEFAULT (jail/layers.h)
 *            events = journald                        where all VMs' events go besides (event_sink.h)
 *            uid-range = 1900000000-1900065535        where root's VMs have their uids from
 *            share-kernel = yes                       VMs map the kernel's text instead of copying it; no by default
 */
#ifndef LIB_HOST_CONF_H
#define LIB_HOST_CONF_H

#include <stdbool.h>
#include <stdint.h>

#include "mvm/mvm.h"

#define HOST_CONF_PATH "/etc/mvm.conf"

struct host_conf {
	unsigned may_lack; /* enum jail_layer */
	uint32_t uid_first, uid_count;
	bool share_kernel;
	char events[256]; /* ""; nowhere */
};

/* Without the file: the defaults. */
int host_conf_read(const char *path, struct host_conf *ret_conf, struct mvm_error *err);

#endif
