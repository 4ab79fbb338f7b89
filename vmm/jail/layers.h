/* The layers of the jail that a host may lack; all others are required always. A set of bits. */
#ifndef JAIL_LAYERS_H
#define JAIL_LAYERS_H

#include "mvm/mvm.h"

enum jail_layer {
	JAIL_LAYER_CGROUP = 1U << 0,
	JAIL_LAYER_LANDLOCK = 1U << 1,
	JAIL_LAYER_LANDLOCK_NET = 1U << 2,
};

/* "cgroup", "landlock", "landlock-net"; NULL past the last bit. */
const char *jail_layer_name(unsigned bit);

/* "cgroup,landlock-net" and the like. -EINVAL with err. `what`: the option or file, for the message. */
int jail_layers_parse(const char *what, const char *text, unsigned *ret_layers, struct mvm_error *err);

#endif
