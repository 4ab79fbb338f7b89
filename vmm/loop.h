/*
 * The I/O thread's event loop (epoll).
 *
 * Purpose: callbacks for readable/writable descriptors, one thread, no timers finer than a tick.
 * Trust:   none; it moves no bytes.
 * Ownership: a source is embedded in its owner, who removes it before freeing; the loop never
 *          closes a descriptor. A callback may add, modify and remove any source, itself included.
 * Thread:  everything but loop_wake() on the I/O thread only.
 */
#ifndef VMM_LOOP_H
#define VMM_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop;

struct loop_source {
	int fd;
	uint32_t events; /* EPOLLIN | EPOLLOUT, 0 while muted (the fd then stays registered) */
	void (*on_event)(struct loop_source *source, uint32_t events);
	void *arg; /* the owner's */
	bool registered;
};

int loop_new(struct loop **ret_loop);
void loop_free(struct loop *loop);

int loop_add(struct loop *loop, struct loop_source *source);
int loop_modify(struct loop *loop, struct loop_source *source, uint32_t events); /* no call when unchanged */
void loop_remove(struct loop *loop, struct loop_source *source);

/* Calls fn(arg) on the I/O thread after the current batch of events; at most 64 pending, -ENOSPC beyond. Any thread. */
int loop_post(struct loop *loop, void (*fn)(void *arg), void *arg);

/* Calls fn(arg) after every batch of events from now on; NULL: no more. */
void loop_set_after(struct loop *loop, void (*fn)(void *arg), void *arg);

int loop_run(struct loop *loop); /* until loop_quit(); 0 or -errno */
void loop_quit(struct loop *loop);

#endif
