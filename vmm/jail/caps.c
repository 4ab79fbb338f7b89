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

	/* libcap's cap_reset_ambient() asks for each of 41 first; the kernel has one call for all. */
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0UL, 0UL, 0UL) < 0)
		return -errno;
	/* The bounding set and the securebits need CAP_SETPCAP: before the sets that hold it. EINVAL: past the kernel's last. */
	for (cap_value_t cap = 0; cap_drop_bound(cap) == 0; cap++)
		;
	if (errno != EINVAL)
		return -errno;
	if (cap_set_secbits(LOCKED_BITS) < 0)
		return -errno;
	none = cap_init();
	if (!none || cap_set_proc(none) < 0)
		r = -errno;
	(void)cap_free(none);
	return r;
}
