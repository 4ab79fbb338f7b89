/*
 * A tar stream as files: the one place that decides where an entry of a stream goes.
 *
 * Purpose: the destination as cp(1) and docker have it, then each member below it.
 * Trust:   the stream is hostile, and so may be whoever else works in the destination meanwhile. The destination's own
 *          path is the caller's and followed as such. Below it:
 *          - a name is split into components, none of which is "", ".", ".." or holds a '/'; each is opened by the
 *            descriptor of the folder before it, and never followed when it is a link. So whatever is in the stream, and
 *            whatever is swapped meanwhile, nothing outside is reached;
 *          - where a name is expected at the top of the stream (rule.top), no other one is taken;
 *          - no devices, no fifos; set-id bits only together with the owners that were asked for;
 *          - a file gets its name when it is whole (O_TMPFILE, or a temporary name ".mvm-cp-…" where a file system has
 *            none). It takes the place of a file or of a link, never of a folder, and of no device; nothing is written
 *            through a name that was there before.
 *          What a failure leaves: the members before it, whole, and folders.
 *          Memory and descriptors are bounded by UNPACK_DEPTH_MAX, whatever the stream's length.
 * Thread:  any. Blocks.
 * Returns: 0 or -errno with *f filled; -ENODATA: the stream was cut short.
 */
#ifndef MVM_GUEST_UNPACK_H
#define MVM_GUEST_UNPACK_H

#include <limits.h>

#include "pack.h"
#include "tar.h"

#define UNPACK_DEPTH_MAX (PACK_DEPTH_MAX + 1)

struct unpack_rule {
	/*
	 * What the stream must begin with: a name, "." (the contents of a folder), or NULL (any names; the destination
	 * is a folder that is there).
	 */
	const char *top;
	const char *as; /* what it is called here; NULL: as there. With "." the folder that the contents go into. */
};

struct unpack_plan {
	unsigned n;
	const char *part[UNPACK_DEPTH_MAX];
};

/* Splits `path`, which is cut up, into the components where its member goes. None at all: the destination itself. */
int unpack_plan(char *path, const struct unpack_rule *rule, struct unpack_plan *ret, struct failure *f);

struct unpack_options {
	const char *dest;
	const char *top; /* see struct unpack_rule */
	bool archive; /* owner, group and the whole mode as in the stream */
	bool hard_links; /* are made; else a stream with one is refused */
};

int unpack(const struct unpack_options *options, int in, struct pack_note *ret_note, struct failure *f);

#endif
