/* The empty root: no file, no device, no /proc. In the jailed child only, with CAP_SYS_ADMIN over its mounts. */
#ifndef JAIL_ROOTFS_H
#define JAIL_ROOTFS_H

int rootfs_empty(void); /* 0 or -errno */

#endif
