/*
 * Supervisor -> VMM: the jail papers, what the VMM closes behind itself with.
 *
 * Purpose: one sealed memfd holding the compiled seccomp programs, so that no compiler of filters is
 *          part of the VMM, and the supervisor can show what it handed over.
 * Trust:   written by the supervisor; the VMM checks bounds all the same, and the kernel checks the programs.
 * Layout:  native integers (both ends are the same machine and the same build); struct jail_papers,
 *          then every program's instructions.
 */
#ifndef JAIL_PAPERS_H
#define JAIL_PAPERS_H

#include <linux/filter.h>
#include <stdint.h>

#define JAIL_PAPERS_MAGIC 0x4a4d564dU /* "MVMJ" */
#define JAIL_FILTER_MAX   4096U /* instructions; BPF_MAXINSNS */

/* One seccomp program each. A thread has the first, and on top of it that of its kind. */
enum jail_filter {
	JAIL_FILTER_START, /* from before the config is read: all that any thread needs, and building the VM */
	JAIL_FILTER_IO, /* the I/O thread, once every other thread runs */
	JAIL_FILTER_VCPU,
	JAIL_FILTER_DISK, /* a disk's worker threads */
	JAIL_FILTERS,
};

enum jail_papers_flags {
	JAIL_LANDLOCK_FS = 1U << 0, /* Landlock's file system rules must hold */
	JAIL_LANDLOCK_NET = 1U << 1, /* and its network rules */
	JAIL_PAPERS_ALL = (1U << 2) - 1,
};

struct jail_papers {
	uint32_t magic;
	uint32_t size; /* of the whole file, bytes */
	uint32_t flags; /* enum jail_papers_flags */
	uint32_t attack; /* test builds alone: the attack to try, 0: none */
	uint32_t attacker; /* and the thread kind that tries it (enum jail_filter) */
	uint32_t reserved;
	struct {
		uint32_t first, count; /* in instructions; count 0: none (test builds alone) */
	} filters[JAIL_FILTERS];
};

_Static_assert(sizeof(struct jail_papers) == 24 + JAIL_FILTERS * 8, "layout");
_Static_assert(sizeof(struct jail_papers) % sizeof(struct sock_filter) == 0, "the programs follow aligned");

#endif
