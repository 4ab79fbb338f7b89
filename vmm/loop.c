#include "loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_BATCH 32
#define POSTS_MAX    64

struct post {
	void (*fn)(void *arg);
	void *arg;
};

struct loop {
	int epoll_fd;
	struct loop_source wake;
	bool quit;
	struct post after; /* fn NULL: nothing */
	/* the batch being delivered: loop_remove() blanks entries that point to a source about to be freed */
	struct epoll_event events[EVENTS_BATCH];
	int nevents;
	pthread_mutex_t lock; /* guards posts */
	unsigned nposts;
	struct post posts[POSTS_MAX];
};

static void on_wake(struct loop_source *source, uint32_t events)
{
	eventfd_t count;

	(void)events;
	(void)eventfd_read(source->fd, &count); /* EAGAIN: another batch drained it */
}

int loop_new(struct loop **ret_loop)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int err;

	if (!loop)
		return -ENOMEM;
	loop->wake = (struct loop_source){ .fd = -1, .events = EPOLLIN, .on_event = on_wake };
	(void)pthread_mutex_init(&loop->lock, NULL);
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0) {
		err = -errno;
		goto fail;
	}
	loop->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake.fd < 0) {
		err = -errno;
		goto fail;
	}
	err = loop_add(loop, &loop->wake);
	if (err)
		goto fail;
	*ret_loop = loop;
	return 0;
fail:
	loop_free(loop);
	return err;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	if (loop->wake.fd >= 0)
		(void)close(loop->wake.fd);
	if (loop->epoll_fd >= 0)
		(void)close(loop->epoll_fd);
	(void)pthread_mutex_destroy(&loop->lock);
	free(loop);
}

int loop_add(struct loop *loop, struct loop_source *source)
{
	struct epoll_event ev = { .events = source->events, .data.ptr = source };

	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, source->fd, &ev) < 0)
		return -errno;
	source->registered = true;
	return 0;
}

int loop_modify(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = source };

	if (source->events == events)
		return 0;
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &ev) < 0)
		return -errno;
	source->events = events;
	return 0;
}

void loop_remove(struct loop *loop, struct loop_source *source)
{
	if (!source->registered)
		return;
	(void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL); /* fails only for an fd already closed */
	source->registered = false;
	for (int i = 0; i < loop->nevents; i++)
		if (loop->events[i].data.ptr == source)
			loop->events[i].data.ptr = NULL;
}

int loop_post(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	int err = 0;

	(void)pthread_mutex_lock(&loop->lock);
	if (loop->nposts == POSTS_MAX)
		err = -ENOSPC;
	else
		loop->posts[loop->nposts++] = (struct post){ fn, arg };
	(void)pthread_mutex_unlock(&loop->lock);
	if (!err && eventfd_write(loop->wake.fd, 1) < 0)
		err = -errno;
	return err;
}

static void run_posts(struct loop *loop)
{
	struct post batch[POSTS_MAX];
	unsigned n;

	(void)pthread_mutex_lock(&loop->lock);
	n = loop->nposts;
	for (unsigned i = 0; i < n; i++)
		batch[i] = loop->posts[i];
	loop->nposts = 0;
	(void)pthread_mutex_unlock(&loop->lock);
	for (unsigned i = 0; i < n; i++)
		batch[i].fn(batch[i].arg);
}

void loop_set_after(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	loop->after = (struct post){ fn, arg };
}

int loop_run(struct loop *loop)
{
	while (!loop->quit) {
		loop->nevents = epoll_wait(loop->epoll_fd, loop->events, EVENTS_BATCH, -1);
		if (loop->nevents < 0) {
			loop->nevents = 0;
			if (errno == EINTR)
				continue;
			return -errno;
		}
		for (int i = 0; i < loop->nevents; i++) {
			struct loop_source *source = loop->events[i].data.ptr;

			if (source)
				source->on_event(source, loop->events[i].events);
		}
		loop->nevents = 0;
		run_posts(loop);
		if (loop->after.fn)
			loop->after.fn(loop->after.arg);
	}
	return 0;
}

void loop_quit(struct loop *loop)
{
	loop->quit = true;
}
