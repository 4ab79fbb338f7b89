/*
 * A child that shares our memory until it executes another program (vfork's way: no page table
 * is copied, and nothing of the caller runs on in a copy).
 *
 * Purpose: what posix_spawn does without its 70 calls for signals, and with a pidfd.
 * Trust:   none involved.
 * Ownership: the pidfd belongs to the caller.
 * Thread:  any. All signals are blocked meanwhile, and in the child: the new program sets its mask.
 */
#ifndef LIB_SPAWN_H
#define LIB_SPAWN_H

#include <stdbool.h>
#include <sys/types.h>

#include "mvm/mvm.h"

struct spawn {
	/* Runs in the child, on a stack of its own. System calls only; it executes or calls spawn_failed(). */
	void (*child)(struct spawn *spawn);
	const char *failed; /* the step that failed, NULL: the program runs */
	int code; /* errno of it */
};

/* Ends the child with a word on why; in the child only. */
void spawn_failed(struct spawn *spawn, const char *step) __attribute__((noreturn));

/* 0 with process and pidfd (ret_pidfd may be NULL), or -errno; then spawn->failed names the child's step, if it came so far. */
int spawn_run(struct spawn *spawn, pid_t *ret_pid, int *ret_pidfd);

#define SPAWN_PART_FD 0

struct cgroup;

/*
 * spawn_part.c: one of mvm's own programs ("mvm-net"), without arguments and environment; its descriptor SPAWN_PART_FD is the
 * other end of *ret_fd, a SOCK_SEQPACKET socket, which is the caller's also where it fails. `group`: where it is put, NULL: where
 * we are. `flag`: for errors. 0 or -errno with err.
 */
int spawn_part(const char *program, const char *flag, const struct cgroup *group, int *ret_fd, pid_t *ret_pid,
	       int *ret_pidfd, struct mvm_error *err);

#endif
