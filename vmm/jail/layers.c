#include "jail/layers.h"

#include <errno.h>
#include <string.h>

#include "lib/text.h"

static const char *const names[] = { "cgroup", "landlock", "landlock-net", "lsm" };

const char *jail_layer_name(unsigned bit)
{
	return bit < sizeof(names) / sizeof(names[0]) ? names[bit] : NULL;
}

int jail_layers_parse(const char *what, const char *text, unsigned *ret_layers, struct mvm_error *err)
{
	unsigned layers = 0, bit;

	for (const char *at = text;; at++) {
		size_t len = strcspn(at, ",");

		for (bit = 0; bit < sizeof(names) / sizeof(names[0]); bit++)
			if (strlen(names[bit]) == len && !strncmp(names[bit], at, len))
				break;
		if (bit == sizeof(names) / sizeof(names[0]))
			return error_set(
				err, EINVAL,
				"%s: '%.*s' is no layer that may be missing: cgroup, landlock, landlock-net and "
				"lsm are, all others never",
				what, (int)(len > 40 ? 40 : len), at);
		layers |= 1U << bit;
		at += len;
		if (!*at)
			break;
	}
	*ret_layers = layers;
	return 0;
}
