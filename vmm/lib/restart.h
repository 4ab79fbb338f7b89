/*
 * Whether a detached VM that has ended is started again, and when.
 *
 * Purpose: the policy of --restart and its back-off, apart from who acts on it (supervisor_restart.c).
 * Trust:   the policy's text is the user's; a verdict may rest on the guest's word: a guest that ends its VM on purpose
 *          gets the back-off for it, as docker's does.
 * Thread:  any; pure.
 */
#ifndef LIB_RESTART_H
#define LIB_RESTART_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/verdict.h"

#define RESTART_FIRST_NS  100000000ULL /* the first wait; each is twice the one before */
#define RESTART_MOST_NS   60000000000ULL /* … but no longer than this */
#define RESTART_STEADY_NS 10000000000ULL /* a run that lasted so long begins the row anew */

enum restart_when { RESTART_NO, RESTART_ON_FAILURE, RESTART_ALWAYS };

struct restart {
	enum restart_when when;
	uint32_t most; /* restarts after failures, 0: any number */
	uint32_t count; /* restarts since somebody started the VM */
	uint64_t wait_ns; /* before the next start, or the one before it; 0: there was none */
	bool off; /* somebody wants the VM's end for good */
};

/* "no", "on-failure", "on-failure:N", "always"; NULL is "no". -EINVAL, -ERANGE: N is not 1 to UINT32_MAX. */
int restart_parse(const char *text, struct restart *ret_restart);

/*
 * After a run of `ran_ns` that ended so. True: it is to be started again after wait_ns, and is counted. The operator's
 * word ends it for good; a failure is any exit status but 0, though not an idle VM's end, which was asked for.
 */
bool restart_next(struct restart *restart, const struct verdict *verdict, uint64_t ran_ns);

#endif
