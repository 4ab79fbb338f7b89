/* loop: sources may remove one another from inside a callback; posts cross threads; the after-hook runs. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "loop.h"

struct pair {
	struct loop *loop;
	struct loop_source a, b;
	unsigned calls;
};

/* Whichever of the two comes first removes both: the other, ready in the same batch, must stay silent. */
static void remove_both(struct loop_source *source, uint32_t events)
{
	struct pair *pair = source->arg;

	(void)events;
	pair->calls++;
	loop_remove(pair->loop, &pair->a);
	loop_remove(pair->loop, &pair->b);
	loop_quit(pair->loop);
}

static void test_remove_in_callback(void **state)
{
	struct pair pair = { 0 };

	(void)state;
	assert_int_equal(loop_new(&pair.loop), 0);
	pair.a = (struct loop_source){ .fd = eventfd(1, 0), .events = EPOLLIN, .on_event = remove_both, .arg = &pair };
	pair.b = (struct loop_source){ .fd = eventfd(1, 0), .events = EPOLLIN, .on_event = remove_both, .arg = &pair };
	assert_int_equal(loop_add(pair.loop, &pair.a), 0);
	assert_int_equal(loop_add(pair.loop, &pair.b), 0);
	assert_int_equal(loop_run(pair.loop), 0);
	assert_int_equal(pair.calls, 1);
	(void)close(pair.a.fd);
	(void)close(pair.b.fd);
	loop_free(pair.loop);
}

struct counter {
	struct loop *loop;
	unsigned posts, afters;
};

static void on_post(void *arg)
{
	((struct counter *)arg)->posts++;
}

static void on_after(void *arg)
{
	struct counter *c = arg;

	c->afters++;
	if (c->posts == 3)
		loop_quit(c->loop);
}

static void *poster(void *arg)
{
	struct counter *c = arg;

	for (int i = 0; i < 3; i++)
		assert_int_equal(loop_post(c->loop, on_post, c), 0);
	return NULL;
}

static void test_posts(void **state)
{
	struct counter c = { 0 };
	pthread_t thread;

	(void)state;
	assert_int_equal(loop_new(&c.loop), 0);
	loop_set_after(c.loop, on_after, &c);
	assert_int_equal(pthread_create(&thread, NULL, poster, &c), 0);
	assert_int_equal(loop_run(c.loop), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(c.posts, 3);
	assert_true(c.afters >= 1);
	loop_free(c.loop);
}

static void test_posts_are_bounded(void **state)
{
	struct counter c = { 0 };
	int err = 0;

	(void)state;
	assert_int_equal(loop_new(&c.loop), 0);
	for (int i = 0; i < 64; i++)
		err |= loop_post(c.loop, on_post, &c);
	assert_int_equal(err, 0);
	assert_int_equal(loop_post(c.loop, on_post, &c), -ENOSPC);
	loop_free(c.loop);
	loop_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_remove_in_callback),
		cmocka_unit_test(test_posts),
		cmocka_unit_test(test_posts_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
