#include "lib/broker.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define RETRY_NS 20000000ULL /* a Unix socket's queue of connections was full */

int broker_grant(struct broker *broker, uint32_t port, int fd)
{
	int r = broker->ngrants < BROKER_GRANTS_MAX ? 0 : -ENOSPC;

	for (unsigned i = 0; i < broker->ngrants; i++)
		if (broker->grants[i].port == port)
			r = -EEXIST;
	if (r < 0) {
		(void)close(fd);
		return r;
	}
	broker->grants[broker->ngrants].port = port;
	broker->grants[broker->ngrants++].fd = fd;
	return 0;
}

void broker_revoke(struct broker *broker, uint32_t port)
{
	for (unsigned i = 0; i < broker->ngrants; i++)
		if (broker->grants[i].port == port) {
			(void)close(broker->grants[i].fd);
			broker->grants[i] = broker->grants[--broker->ngrants];
			return;
		}
}

static int add_channel(struct broker *broker, struct broker_channel channel)
{
	struct broker_channel *channels;

	for (unsigned i = 0; i < broker->nchannels; i++)
		if (broker->channels[i].port == channel.port)
			return -EEXIST;
	channels = reallocarray(broker->channels, broker->nchannels + 1, sizeof(*channels));
	if (!channels)
		return -ENOMEM;
	broker->channels = channels;
	channels[broker->nchannels++] = channel;
	return 0;
}

int broker_allow(struct broker *broker, uint32_t port, const char *target, const struct sockaddr_storage *addrs,
		 unsigned naddrs)
{
	struct broker_channel channel = { .port = port, .naddrs = naddrs, .target = target };
	int r;

	if (!naddrs || naddrs > BROKER_ADDRS_MAX)
		return -EINVAL;
	channel.addrs = calloc(naddrs, sizeof(*addrs));
	if (!channel.addrs)
		return -ENOMEM;
	memcpy(channel.addrs, addrs, naddrs * sizeof(*addrs));
	r = add_channel(broker, channel);
	if (r < 0)
		free(channel.addrs);
	return r;
}

int broker_offer(struct broker *broker, uint32_t port, const char *target, int (*open)(void *arg), void *arg)
{
	return add_channel(broker, (struct broker_channel){ .port = port, .target = target, .open = open, .arg = arg });
}

/* ---- refusals ---- */

static void refuse_unknown(struct broker *broker, struct broker_answer *answer)
{
	answer->error = ECONNREFUSED;
	broker->refused++;
	for (unsigned i = 0; i < broker->nrefused; i++)
		if (broker->refused_ports[i].port == answer->port) {
			broker->refused_ports[i].times++;
			return;
		}
	if (broker->nrefused == BROKER_REFUSED_MAX)
		return;
	answer->tell = true;
	broker->refused_ports[broker->nrefused].port = answer->port;
	broker->refused_ports[broker->nrefused++].times = 1;
}

static void fail(struct broker_channel *channel, struct broker_answer *answer, int error)
{
	channel->failed++;
	answer->error = error;
	answer->tell = !(channel->failed & (channel->failed - 1));
}

/* ---- connecting ---- */

static socklen_t address_len(const struct sockaddr_storage *addr)
{
	if (addr->ss_family == AF_UNIX)
		return sizeof(struct sockaddr_un);
	return addr->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

/* 0 connected, -EINPROGRESS wait, -EAGAIN try again later, or another -errno. */
static int try_connect(struct broker_pending *p, const struct sockaddr_storage *addr)
{
	int one = 1, r;

	if (p->fd < 0) {
		p->fd = socket(addr->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (p->fd < 0)
			return -errno;
		/* The guest cut its bytes into packets already: a hint that may fail. */
		if (addr->ss_family != AF_UNIX)
			(void)setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	}
	do
		r = connect(p->fd, (const struct sockaddr *)addr, address_len(addr));
	while (r < 0 && errno == EINTR && addr->ss_family == AF_UNIX);
	if (r == 0)
		return 0;
	return errno == EINTR ? -EINPROGRESS : -errno; /* interrupted, TCP goes on by itself (connect(2)) */
}

/* Whether the attempt under way has come to an end: as try_connect(). */
static int check(struct broker_pending *p, const struct sockaddr_storage *addr, uint64_t now_ns)
{
	struct pollfd ready = { .fd = p->fd, .events = POLLOUT };
	int error = 0;
	socklen_t len = sizeof(error);

	if (p->again)
		return now_ns < p->deadline_ns ? -EAGAIN : try_connect(p, addr);
	if (poll(&ready, 1, 0) <= 0)
		return now_ns < p->deadline_ns ? -EINPROGRESS : -ETIMEDOUT;
	if (getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return -errno;
	return -error;
}

static void open_offered(struct broker_channel *channel, struct broker_answer *answer)
{
	int r = channel->open(channel->arg);

	answer->channel = channel;
	if (r < 0) {
		fail(channel, answer, -r);
		return;
	}
	channel->opened++;
	answer->fd = r;
}

/* Moves a dial on by as much as is possible now. True: it is over. */
static bool advance(struct broker *broker, struct broker_pending *p, bool fresh, uint64_t now_ns,
		    struct broker_answer *ret)
{
	struct broker_channel *channel = &broker->channels[p->channel];
	struct broker_answer answer = { .id = p->id, .port = channel->port, .fd = -1, .channel = channel };
	int r;

	for (;; fresh = true) {
		const struct sockaddr_storage *addr = &channel->addrs[p->addr];

		r = fresh ? try_connect(p, addr) : check(p, addr, now_ns);
		if (r == 0)
			break;
		p->again = r == -EAGAIN && addr->ss_family == AF_UNIX;
		if (p->again && now_ns < p->end_ns) {
			if (now_ns >= p->deadline_ns || fresh)
				p->deadline_ns = now_ns + RETRY_NS;
			return false;
		}
		if (r == -EINPROGRESS) {
			/* What is left of the time is shared by the addresses that are left. */
			if (fresh)
				p->deadline_ns = now_ns + (p->end_ns - now_ns) / (channel->naddrs - p->addr);
			return false;
		}
		if (p->fd >= 0)
			(void)close(p->fd);
		p->fd = -1;
		if (++p->addr == channel->naddrs || now_ns >= p->end_ns)
			break;
	}
	if (r == 0) {
		channel->opened++;
		answer.fd = p->fd;
	} else {
		fail(channel, &answer, p->again ? ETIMEDOUT : -r);
	}
	*ret = answer;
	return true;
}

bool broker_dial(struct broker *broker, uint32_t id, uint32_t port, uint64_t now_ns, struct broker_answer *ret)
{
	struct broker_answer answer = { .id = id, .port = port, .fd = -1 };
	struct broker_pending p = { .id = id, .fd = -1, .end_ns = now_ns + BROKER_CONNECT_NS };

	for (unsigned i = 0; i < broker->ngrants; i++)
		if (broker->grants[i].port == port) {
			answer.fd = broker->grants[i].fd;
			broker->grants[i] = broker->grants[--broker->ngrants];
			*ret = answer;
			return true;
		}
	while (p.channel < broker->nchannels && broker->channels[p.channel].port != port)
		p.channel++;
	if (p.channel == broker->nchannels) {
		refuse_unknown(broker, &answer);
		*ret = answer;
		return true;
	}
	if (broker->channels[p.channel].open) {
		open_offered(&broker->channels[p.channel], &answer);
		*ret = answer;
		return true;
	}
	if (broker->npending == BROKER_PENDING_MAX) { /* a sound VMM asks no more than that at once */
		answer.channel = &broker->channels[p.channel];
		fail(&broker->channels[p.channel], &answer, EAGAIN);
		*ret = answer;
		return true;
	}
	if (advance(broker, &p, true, now_ns, ret))
		return true;
	broker->pending[broker->npending++] = p;
	return false;
}

bool broker_next(struct broker *broker, uint64_t now_ns, struct broker_answer *ret)
{
	for (unsigned i = 0; i < broker->npending; i++)
		if (advance(broker, &broker->pending[i], false, now_ns, ret)) {
			broker->pending[i] = broker->pending[--broker->npending];
			return true;
		}
	return false;
}

void broker_prepare(const struct broker *broker, struct pollfd fds[BROKER_PENDING_MAX])
{
	for (unsigned i = 0; i < BROKER_PENDING_MAX; i++) {
		bool wait = i < broker->npending && !broker->pending[i].again;

		fds[i] = (struct pollfd){ .fd = wait ? broker->pending[i].fd : -1, .events = POLLOUT };
	}
}

uint64_t broker_deadline(const struct broker *broker)
{
	uint64_t first = UINT64_MAX;

	for (unsigned i = 0; i < broker->npending; i++)
		if (broker->pending[i].deadline_ns < first)
			first = broker->pending[i].deadline_ns;
	return first;
}

void broker_cancel(struct broker *broker)
{
	while (broker->npending)
		(void)close(broker->pending[--broker->npending].fd);
}

void broker_close(struct broker *broker)
{
	broker_cancel(broker);
	while (broker->ngrants)
		(void)close(broker->grants[--broker->ngrants].fd);
}

void broker_free(struct broker *broker)
{
	broker_close(broker);
	for (unsigned i = 0; i < broker->nchannels; i++)
		free(broker->channels[i].addrs);
	free(broker->channels);
	*broker = (struct broker){ 0 };
}

int control_from_vmm(const void *datagram, size_t len, struct control_msg *ret_msg)
{
	struct control_msg msg;

	if (len != sizeof(msg))
		return -EPROTO;
	memcpy(&msg, datagram, sizeof(msg));
	if (msg.type != CONTROL_RUNNING && msg.type != CONTROL_DIAL && msg.type != CONTROL_ENDED &&
	    msg.type != CONTROL_PONG && msg.type != CONTROL_CLOSED)
		return -EPROTO;
	if (msg.type == CONTROL_RUNNING && msg.arg != CONTROL_VERSION)
		return -EPROTO;
	*ret_msg = msg;
	return 0;
}
