/*
 * What the agent's event loop calls.
 *
 * Purpose: an epoll registration carries a pointer to a struct watch embedded in its owner.
 * Ownership: an event may have been fetched before its owner closed the descriptor, so an owner stays
 *          until all events of a turn were called: agent_run() frees sessions behind them.
 * Thread:  the agent's only one.
 */
#ifndef MVM_GUEST_WATCH_H
#define MVM_GUEST_WATCH_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <unistd.h>

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

/*
 * Closes *fd and ends its registration. Closing alone may not end it: a child that is about to execve holds
 * a copy of every descriptor for a moment longer than vfork lasts (the kernel lets the parent go before it
 * closes them), and an event of that moment would find its owner freed.
 */
static inline void watch_close(int epoll, int *fd)
{
	if (*fd < 0)
		return;
	(void)epoll_ctl(epoll, EPOLL_CTL_DEL, *fd, NULL); /* one that was never added is no error */
	(void)close(*fd);
	*fd = -1;
}

#endif
