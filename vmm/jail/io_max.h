/*
 * What a VMM may do to the host's block devices: the limits of the kernel's io controller, by its own names.
 *
 * Purpose: --io-max read and written; which device a file's limits must name.
 * Trust:   the text is the user's; sysfs is the kernel's word.
 * Thread:  any; no state.
 * Returns: 0 or -errno; err holds one line.
 */
#ifndef JAIL_IO_MAX_H
#define JAIL_IO_MAX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "mvm/mvm.h"
#include "mvm/vmm_config.h"

enum io_max_key { IO_MAX_RBPS, IO_MAX_WBPS, IO_MAX_RIOPS, IO_MAX_WIOPS, IO_MAX_KEYS };

#define IO_MAX_TEXT 128 /* bytes that every text of io_max_text() fits into */

struct io_max {
	uint64_t most[IO_MAX_KEYS]; /* bytes or operations a second; 0: no limit */
};

/* Where they hold: of each of the devices for all that the VMM does there. */
struct io_limits {
	struct io_max max;
	dev_t devices[VMM_DISKS_MAX]; /* whole disks, each once */
	unsigned ndevices;
};

bool io_max_any(const struct io_max *io);

/* "KEY=N[,KEY=N…]" into *io, whose keys so far must be others; unchanged on failure. `what` is the flag, for messages. */
int io_max_parse(const char *what, const char *text, struct io_max *io, struct mvm_error *err);

/*
 * The same as a change: keys that are not named become MVM_KEEP, and 0 takes a limit away. *most is written on success
 * only.
 */
int io_max_parse_change(const char *what, const char *text, uint64_t most[IO_MAX_KEYS], struct mvm_error *err);

/* A change as a line of the file io.max has it: "rbps=10 wbps=max". Returns buf. */
const char *io_max_change_text(const uint64_t most[IO_MAX_KEYS], char buf[IO_MAX_TEXT]);

/* The keys that have a limit, as io_max_parse() reads them with ',' and the file io.max with ' ' between them. Returns buf. */
const char *io_max_text(const struct io_max *io, char between, char buf[IO_MAX_TEXT]);

/*
 * The disk that holds a file whose st_dev is `device`, by `sys` (where sysfs is mounted): the device itself, or of a
 * partition the whole, as the controller knows no parts. -ENOTBLK: the file system has no block device of its own.
 */
int io_max_disk(const char *sys, dev_t device, dev_t *ret_disk);

#endif
