/*
 * Landlock (landlock(7)): the process gives up, for good, every right that the host's kernel can take.
 *
 * Thread:  the first one, before any other exists.
 */
#ifndef JAIL_LANDLOCK_H
#define JAIL_LANDLOCK_H

#include <stdbool.h>

#define LANDLOCK_ABI_NET 4 /* Linux 6.7: the first whose rules cover TCP */

/* The host's Landlock ABI version, 0 where there is none. */
int landlock_abi(void);

/* No access to any file by name, no TCP; -ENOSYS where the host cannot do what is demanded. */
int landlock_close(bool fs, bool net);

#endif
