#include "jail/caps.h"

#include <errno.h>
#include <linux/securebits.h>
#include <sys/capability.h>
#include <sys/prctl.h>

/* uid 0 of the namespace gets nothing at an exec, no uid change restores anything, none of it can be undone. */
#define LOCKED_BITS                                                                                                    \
	(SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED |               \
	 SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED)

int caps_drop_all(void)
{
	cap_t none;
	int r = 0;

	if (cap_reset_ambient() < 0)
		return -errno;
	/* The bounding set and the securebits need CAP_SETPCAP: before the sets that hold it. */
	for (cap_value_t cap = 0; cap_get_bound(cap) >= 0; cap++)
		if (cap_drop_bound(cap) < 0)
			return -errno;
	if (cap_set_secbits(LOCKED_BITS) < 0)
		return -errno;
	none = cap_init();
	if (!none || cap_set_proc(none) < 0)
		r = -errno;
	(void)cap_free(none);
	return r;
}
