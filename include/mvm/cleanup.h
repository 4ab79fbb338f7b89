/*
 * Scope-bound ownership for file descriptors and heap memory.
 *
 * Purpose: a resource is released on every path unless it is taken with take_fd()/take_ptr().
 * Returns: take_*() hand the resource to the caller and leave -1/NULL behind.
 * Thread:  any.
 */
#ifndef MVM_CLEANUP_H
#define MVM_CLEANUP_H

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_fd_   __attribute__((cleanup(cleanup_fd)))
#define _cleanup_free_ __attribute__((cleanup(cleanup_free)))

/* Closes *fd when it is open; keeps errno, so that it can run between a failure and its report. */
static inline void cleanup_fd(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;

		(void)close(*fd); /* nothing can be done about a failing close here */
		errno = saved;
	}
}

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

static inline void *take_ptr_(void **p)
{
	void *taken = *p;

	*p = NULL;
	return taken;
}

#define take_ptr(p) ((__typeof__(*(p)))take_ptr_((void **)(p)))

#endif
