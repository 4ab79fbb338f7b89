/*
 * What the agent's event loop calls.
 *
 * Purpose: an epoll registration carries a pointer to a struct watch embedded in its owner.
 * Ownership: every watch lives in static session storage, so that an event which was fetched
 *          before its owner closed the descriptor still finds a valid (and idle) owner.
 * Thread:  the agent's only one.
 */
#ifndef MVM_GUEST_WATCH_H
#define MVM_GUEST_WATCH_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

struct watch {
	void (*ready)(struct watch *w, uint32_t events);
};

#define watch_owner(w, type, member) ((type *)(void *)((char *)(w)-offsetof(type, member)))

/* Edge-triggered: the owner goes on until EAGAIN. Returns 0 or -errno. */
static inline int watch_add(int epoll, int fd, uint32_t events, struct watch *w)
{
	struct epoll_event ev = { .events = events | EPOLLET, .data.ptr = w };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

#endif
