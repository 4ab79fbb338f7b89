/*
 * Structs that callers allocate and that begin with `uint32_t size` (mvm.h, "ABI").
 *
 * Trust:   the caller may have been compiled with an older or a newer header; `given` is readable for `size`
 *          bytes.
 * Thread:  any; no state.
 */
#ifndef LIB_SIZED_H
#define LIB_SIZED_H

#include <stddef.h>

#include "mvm/mvm.h"

/*
 * Copies `given` into `ours`, whose `have` bytes hold the defaults. What an older caller does not have stays so; what
 * a newer one has beyond ours must be `filler` in each byte, the default. -EINVAL: no size, or one below `least`, the
 * struct's first; -E2BIG: it asks for what this library does not know.
 */
int sized_copy(void *ours, size_t have, size_t least, const void *given, unsigned char filler, const char *name,
	       struct mvm_error *err);

#endif
