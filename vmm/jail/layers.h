/* The layers of the jail that a host may lack; all others are required always. A set of bits. */
#ifndef JAIL_LAYERS_H
#define JAIL_LAYERS_H

#include "mvm/mvm.h"

enum jail_layer {
	JAIL_LAYER_CGROUP = 1U << 0,
	JAIL_LAYER_LANDLOCK = 1U << 1,
	JAIL_LAYER_LANDLOCK_NET = 1U << 2,
	JAIL_LAYER_LSM = 1U << 3, /* AppArmor, with mvm's profile (lsm.h) */
};

/*
 * What may be missing where the operator said nothing: an LSM is set up by root, once, and many hosts have none. A line
 * allow-missing in /etc/mvm.conf, be it empty, takes this one's place.
 */
#define JAIL_LAYERS_DEFAULT JAIL_LAYER_LSM

/* "cgroup", "landlock", "landlock-net", "lsm"; NULL past the last bit. */
const char *jail_layer_name(unsigned bit);

/* "cgroup,landlock-net" and the like. -EINVAL with err. `what`: the option or file, for the message. */
int jail_layers_parse(const char *what, const char *text, unsigned *ret_layers, struct mvm_error *err);

#endif
