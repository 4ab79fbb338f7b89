/*
 * A named network: its VMs come and go, and with each a tap, routes, rules and a name. Number 1 of the pid namespace:
 * pasta, the resolver and the watcher die with it.
 *
 * It runs nft and makes taps, so it reads no byte that a guest wrote: what it hears comes from supervisors of one user,
 * and as bounded structs from the resolver and the watcher; addresses and ports in the kernel's list of connections
 * (flows.h) are numbers to it. It ends with its last member: who joins just then finds a closed connection, and starts
 * another (lib/net_join.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "mvm/cleanup.h"
#include "uplink/flows.h"
#include "uplink/holder.h"
#include "uplink/members.h"
#include "uplink/nfnl.h"

#define COMING     16U /* connections that have not said yet what they want */
#define COMING_MS  5000
#define BATCH      64U
#define LIST_BYTES (1 << 18) /* twice that is taken, where the host allows (net.core.wmem_max) */
#define COUNT_MS   1000 /* at most so often counters are told */
#define SAID_BYTES 300U

struct steward {
	struct holder *h;
	struct members members;
	struct coming {
		int fd; /* -1: none */
		int64_t end_ms;
	} coming[COMING];
	struct uplink_counted counted[UPLINK_MEMBERS];
	struct flows_each flows;
	bool started; /* the supervisor that started us has gone on */
	int64_t told_ms;
	char pasta_said[SAID_BYTES];
};

static int64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Tells all members, and ends this process. */
static void fail(const struct steward *s, int code, const char *fmt, ...)
	__attribute__((noreturn, format(printf, 3, 4)));

static void fail(const struct steward *s, int code, const char *fmt, ...)
{
	struct uplink_message message = { .type = UPLINK_FAILED, .code = code };
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(message.text, sizeof(message.text), fmt, ap);
	va_end(ap);
	for (unsigned i = 0; i < UPLINK_MEMBERS; i++)
		if (s->members.m[i].fd >= 0)
			holder_send(s->members.m[i].fd, &message, -1);
	_exit(1);
}

/* ---- what members hear ---- */

static void read_counters(struct steward *s)
{
	int r = nfnl_counters(s->h->nft, s->counted, UPLINK_MEMBERS);

	if (r < 0)
		fail(s, -r, "counters: %s", strerror(-r));
}

/* Of the kernel's numbers there is none for one member: its connections are looked at. */
static void count_flows(struct steward *s, unsigned slot)
{
	const struct uplink_member *of[UPLINK_MEMBERS];
	int r;

	for (unsigned i = 0; i < UPLINK_MEMBERS; i++)
		of[i] = s->members.m[i].fd >= 0 ? &s->members.m[i].is : NULL;
	r = flows_count_each(&s->flows, s->h->nft, of, now_ms());
	if (r < 0)
		fail(s, -r, "connections: %s", strerror(-r));
	s->counted[slot].traffic.flows = s->flows.now[slot];
}

static void tell_counters(struct steward *s, unsigned slot)
{
	struct uplink_message message = { .type = UPLINK_COUNTED };
	struct member *m = &s->members.m[slot];

	message.counted = s->counted[slot];
	message.counted.counters[UPLINK_NAME] = m->said.refused;
	m->dirty = false;
	holder_send(m->fd, &message, -1);
}

static bool any_dirty(const struct steward *s)
{
	for (unsigned i = 0; i < UPLINK_MEMBERS; i++)
		if (s->members.m[i].fd >= 0 && s->members.m[i].dirty)
			return true;
	return false;
}

static void tell_dirty(struct steward *s)
{
	read_counters(s);
	for (unsigned i = 0; i < UPLINK_MEMBERS; i++)
		if (s->members.m[i].fd >= 0 && s->members.m[i].dirty)
			tell_counters(s, i);
}

/* The watcher's word; it may lie, of which member and why. */
static void on_refusals(struct steward *s)
{
	struct uplink_message message = { .type = UPLINK_REFUSED };

	for (unsigned i = 0; i < BATCH; i++) {
		ssize_t n = recv(s->h->refusals, &message.refused, sizeof(message.refused), MSG_DONTWAIT);
		unsigned slot = message.refused.slot;

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n != (ssize_t)sizeof(message.refused))
			fail(s, ECHILD, "its watcher ended: it was killed, dmesg may say why");
		message.refused.slot = 0;
		if (slot >= UPLINK_MEMBERS || s->members.m[slot].fd < 0 || message.refused.reason == UPLINK_NAME)
			continue;
		s->members.m[slot].dirty = true;
		holder_send(s->members.m[slot].fd, &message, -1);
	}
}

static bool find_names(void *arg, unsigned slot, struct names_of *ret)
{
	struct steward *s = arg;

	return members_names(&s->members, slot, ret);
}

/* ---- who comes and goes ---- */

static void tell_resolver(struct steward *s, unsigned slot)
{
	struct names_member says;

	members_say(&s->members, slot, &says);
	if (names_tell(s->h, &says) < 0)
		fail(s, ECHILD, "its resolver ended: it was killed, dmesg may say why");
}

static void leave(struct steward *s, unsigned slot)
{
	members_leave(&s->members, s->h, slot);
	tell_resolver(s, slot);
	s->counted[slot] = (struct uplink_counted){ .traffic = { .flows = 0 } };
	s->flows.now[slot] = 0;
}

static void join(struct steward *s, int fd, const struct uplink_join *wanted)
{
	struct uplink_message message = { .type = UPLINK_READY };
	struct mvm_error err;
	int slot = members_join(&s->members, s->h, fd, wanted, &err);

	if (slot < 0) {
		message = (struct uplink_message){ .type = UPLINK_FAILED, .code = -slot };
		(void)snprintf(message.text, sizeof(message.text), "%.399s", err.text);
		holder_send(fd, &message, -1);
		(void)close(fd);
		return;
	}
	tell_resolver(s, (unsigned)slot);
	message.code = (int)(s->h->request.flags & (UPLINK_IP4 | UPLINK_IP6 | UPLINK_DNS4 | UPLINK_DNS6));
	message.member = s->members.m[slot].is;
	holder_send(fd, &message, s->members.m[slot].tap);
}

static void list(struct steward *s, int fd)
{
	struct uplink_message message = { .type = UPLINK_MEMBER };

	/* None is waited for: all of them find room. */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){ LIST_BYTES }, sizeof(int));
	for (unsigned i = 0; i < UPLINK_MEMBERS; i++) {
		if (s->members.m[i].fd < 0)
			continue;
		message.member = s->members.m[i].is;
		holder_send(fd, &message, -1);
	}
	message = (struct uplink_message){ .type = UPLINK_MEMBER_LAST };
	holder_send(fd, &message, -1);
	(void)close(fd);
}

static void on_coming(struct steward *s, struct coming *c)
{
	static struct uplink_join wanted;
	ssize_t n = recv(c->fd, &wanted, sizeof(wanted), MSG_DONTWAIT);
	int fd = c->fd;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	c->fd = -1;
	if (n == (ssize_t)sizeof(wanted) && members_check(&wanted) && wanted.kind == UPLINK_JOIN) {
		join(s, fd, &wanted);
	} else if (n == (ssize_t)sizeof(wanted) && members_check(&wanted)) {
		list(s, fd);
	} else if (n > 0) {
		struct uplink_message message = { .type = UPLINK_FAILED,
						  .code = EPROTO,
						  .text = "it is held by an mvm-net of another version: end its VMs" };

		holder_send(fd, &message, -1);
		(void)close(fd);
	} else {
		(void)close(fd);
	}
}

/* True: somebody came. */
static bool take(struct steward *s)
{
	bool ours = s->h->request.uid == UINT32_MAX;
	_cleanup_fd_ int fd = accept4(s->h->fds[0], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (fd < 0)
		return false;
	/* Our user namespace has one uid, 0: the owner's, or, of root's network, one that is nobody's but ours. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || (peer.uid == 0) != ours)
		return true;
	for (unsigned i = 0; i < COMING; i++) {
		if (s->coming[i].fd >= 0)
			continue;
		s->coming[i] = (struct coming){ .fd = take_fd(&fd), .end_ms = now_ms() + COMING_MS };
		break;
	}
	return true;
}

static void on_member(struct steward *s, unsigned slot)
{
	struct uplink_message message;
	ssize_t n = recv(s->members.m[slot].fd, &message, sizeof(message), MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		leave(s, slot);
	} else if (n == (ssize_t)sizeof(message) && message.type == UPLINK_COUNT) {
		read_counters(s);
		count_flows(s, slot);
		tell_counters(s, slot);
	} else if (n == (ssize_t)sizeof(message) && message.type == UPLINK_TELL_FLOWS) {
		watch_tell_flows(s->h, s->members.m[slot].fd, &s->members.m[slot].is);
	}
}

/* It goes on, or it is gone; what fails from here on is told to members alone. */
static void on_starter(struct steward *s)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0 || dup3(null, UPLINK_FD, O_CLOEXEC) < 0)
		fail(s, errno, "/dev/null: %s", strerror(errno));
	(void)close(null);
	s->started = true;
}

static void end_if_empty(struct steward *s)
{
	bool empty = s->started && !s->members.n;

	for (unsigned i = 0; i < COMING; i++)
		empty &= s->coming[i].fd < 0;
	if (empty && !take(s))
		_exit(0);
}

/* ---- from here on ---- */

static void on_pasta_says(struct steward *s)
{
	char text[2048];
	const char *said = space_pasta_says(s->h, text, sizeof(text));

	if (*said)
		(void)snprintf(s->pasta_said, sizeof(s->pasta_said), "%s", said);
}

enum { SLOT_STARTER, SLOT_LISTENER, SLOT_HOST, SLOT_PASTA, SLOT_SAYS, SLOT_NAMES, SLOT_REFUSALS, SLOT_COMING };
enum { SLOT_MEMBERS = SLOT_COMING + COMING, SLOTS = SLOT_MEMBERS + UPLINK_MEMBERS };

/* Returns when something is to be looked at again though nothing comes. */
static int64_t prepare(struct steward *s, int64_t now, struct pollfd fds[SLOTS])
{
	int64_t next = any_dirty(s) ? s->told_ms + COUNT_MS : INT64_MAX;
	const struct holder *h = s->h;
	bool room = false;

	fds[SLOT_STARTER].fd = s->started ? -1 : UPLINK_FD;
	fds[SLOT_HOST].fd = h->request.flags & (UPLINK_IP4 | UPLINK_IP6) ? h->host : -1;
	fds[SLOT_PASTA].fd = h->pasta;
	fds[SLOT_SAYS].fd = h->pasta_says;
	fds[SLOT_NAMES].fd = h->names;
	fds[SLOT_REFUSALS].fd = h->refusals;
	for (unsigned i = 0; i < COMING; i++) {
		struct coming *c = &s->coming[i];

		if (c->fd >= 0 && c->end_ms <= now) {
			(void)close(c->fd);
			c->fd = -1;
		}
		next = c->fd >= 0 && c->end_ms < next ? c->end_ms : next;
		room |= c->fd < 0;
		fds[SLOT_COMING + i].fd = c->fd;
	}
	fds[SLOT_LISTENER].fd = room ? h->fds[0] : -1;
	for (unsigned i = 0; i < UPLINK_MEMBERS; i++)
		fds[SLOT_MEMBERS + i].fd = s->members.m[i].fd;
	for (unsigned i = 0; i < SLOTS; i++) {
		fds[i].events = POLLIN;
		fds[i].revents = 0;
	}
	return next;
}

static void dispatch(struct steward *s, const struct pollfd fds[SLOTS])
{
	if (fds[SLOT_STARTER].revents)
		on_starter(s);
	if (fds[SLOT_HOST].revents)
		watch_host_news(s->h);
	if (fds[SLOT_SAYS].revents & POLLIN)
		on_pasta_says(s);
	else if (fds[SLOT_SAYS].revents)
		s->h->pasta_says = -1; /* closed; that it ended shows elsewhere */
	if (fds[SLOT_PASTA].revents)
		fail(s, ECHILD, "pasta ended: %s", s->pasta_said);
	if (fds[SLOT_REFUSALS].revents)
		on_refusals(s);
	if (fds[SLOT_NAMES].revents && names_read(s->h, find_names, s) < 0)
		fail(s, ECHILD, "its resolver ended: it was killed, dmesg may say why");
	for (unsigned i = 0; i < UPLINK_MEMBERS; i++)
		if (fds[SLOT_MEMBERS + i].revents)
			on_member(s, i);
	for (unsigned i = 0; i < COMING; i++)
		if (fds[SLOT_COMING + i].revents)
			on_coming(s, &s->coming[i]);
	if (fds[SLOT_LISTENER].revents)
		(void)take(s);
}

void steward(struct holder *h)
{
	const struct uplink_message ready = { .type = UPLINK_READY };
	static struct pollfd fds[SLOTS];
	static struct steward s;
	int r = nfnl_forget(h->nft, h->request.subnet.net4, sizeof(h->request.subnet.net4), NULL,
			    NULL); /* nobody's yet */

	if (r < 0)
		holder_fail(-r, "connections cannot be forgotten: %s: the kernel needs nf_conntrack_netlink",
			    strerror(-r));

	s.h = h;
	members_init(&s.members, &h->request);
	for (unsigned i = 0; i < COMING; i++)
		s.coming[i].fd = -1;
	(void)!chdir("/");
	holder_send(UPLINK_FD, &ready, -1);
	for (;;) {
		int64_t now = now_ms(), next = prepare(&s, now, fds);

		if (any_dirty(&s) && s.told_ms + COUNT_MS <= now) {
			tell_dirty(&s);
			s.told_ms = now;
			continue;
		}
		if (poll(fds, SLOTS, next == INT64_MAX ? -1 : (int)(next > now ? next - now : 0)) < 0)
			continue;
		dispatch(&s, fds);
		end_if_empty(&s);
	}
}
