/*
 * A file or a tree as a tar stream.
 *
 * Purpose: what is copied, by whichever end has it: files (holes are kept), folders, symbolic links. Devices, fifos
 *          and sockets are left out and counted, and kernel file systems (proc, sysfs, …) that are mounted below are not
 *          entered. Hard links become files of their own.
 * Trust:   the tree may change while it is read: everything is opened by its folder's descriptor, links are not
 *          followed but at the very source where that is asked for. A file that shrinks meanwhile is an error.
 * Ownership: descriptors are the caller's.
 * Thread:  any. Blocks.
 * Returns: 0 or -errno with *f filled; -EPIPE: nobody reads the stream any more.
 */
#ifndef MVM_GUEST_PACK_H
#define MVM_GUEST_PACK_H

#include <limits.h>

#include "failure.h"

#define PACK_DEPTH_MAX 400U /* folders in folders; each takes two descriptors while it is in work */
#define PACK_NOTE_MAX  256U

/* What was left out. */
struct pack_note {
	uint64_t left_out;
	char first[PACK_NOTE_MAX]; /* its name, perhaps cut */
};

/* The stream's first name for a source: its last component; "." when that is no name (/, x/., x/..). -ENAMETOOLONG. */
int pack_top(const char *source, char ret_top[NAME_MAX + 1]);

/* `follow`: a source that is a symbolic link means what it leads to. */
int pack(const char *source, bool follow, int out, struct pack_note *ret_note, struct failure *f);

#endif
