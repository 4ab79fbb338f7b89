/*
 * The table compiled: seccomp programs by libseccomp, in a sealed memfd of jail papers.
 *
 * Thread:  any, in the supervisor.
 */
#ifndef JAIL_SECCOMP_H
#define JAIL_SECCOMP_H

#include <stdint.h>

#include "jail/papers.h"
#include "mvm/mvm.h"

/* What is to be shown of it later: the programs' sizes, rules and digests. */
struct jail_filters_shown {
	unsigned instructions[JAIL_FILTERS], calls[JAIL_FILTERS];
	char sha256[65]; /* of all programs together, as handed over */
	char programs[JAIL_FILTERS][65]; /* and of each: what a dump of a thread's filters is compared with */
};

struct jail_papers_options {
	unsigned needs; /* enum jail_need */
	uint32_t flags; /* enum jail_papers_flags */
	uint64_t file_size_max; /* of TEST_FILE_SIZE, bytes */
};

/* A sealed memfd of papers. */
int seccomp_make_papers(const struct jail_papers_options *options, int *ret_fd, struct jail_filters_shown *ret_shown,
			struct mvm_error *err);

#endif
