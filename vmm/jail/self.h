/*
 * The VMM's own part of the jail: what a process can only do to itself, after its exec.
 *
 * Purpose: steps 9 and 10 of the list in enter.c.
 * Trust:   the papers come from the supervisor, before any byte of a guest or a config is read.
 * Thread:  jail_close_behind() on the first thread while it is the only one; jail_enter_thread() on each.
 * Returns: 0 or -errno; a failure is fatal to the VMM.
 */
#ifndef JAIL_SELF_H
#define JAIL_SELF_H

#include <stddef.h>

#include "jail/papers.h"

/* Whether `size` bytes of papers are what they say: every program inside. 0, -EINVAL. */
int jail_papers_check(const struct jail_papers *papers, size_t size);

/* Undumpable, dead with its parent, Landlock, the start-up filter. *ret_step: what failed (static text). */
int jail_close_behind(int papers_fd, const char **ret_step);

/* The run-time filter of the calling thread's kind; from here on it may do less. Without papers: nothing. */
int jail_enter_thread(enum jail_filter kind);

#endif
