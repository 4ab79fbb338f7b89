/*
 * The guest kernel's command line.
 *
 * Trust:   `extra` is the user's, who may say anything to a kernel of theirs.
 * Thread:  any; pure.
 */
#ifndef LIB_CMDLINE_H
#define LIB_CMDLINE_H

#include <stdbool.h>

#include "mvm/mvm.h"
#include "mvm/vmm_config.h"

/*
 * Writes the whole line: our own base, what an emulating KVM needs, the console's, then `extra`
 * (may be NULL), which so has the last word. -E2BIG when it does not fit.
 */
int cmdline_build(bool console, bool emulated, const char *extra, char ret_line[VMM_CMDLINE_MAX],
		  struct mvm_error *err);

#endif
