#include "udp/flows.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH       32U /* datagrams of a port, or of a flow, per wake-up: one that is busy does not starve the others */
#define PAGE        4096U /* what a slot keeps when it is free */
#define INDEX(n)    ((n) % 256U) /* of a flow's number: its place; the rest tells it from those that were there before */
#define NEXT        256U
#define DATAGRAM_NS (int64_t)(UDP_NS_PER_S / UDP_RATE)

_Static_assert(UDP_FLOWS_MAX <= 256, "a flow's number holds its place");

static void count(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

static void drop(struct udp *udp, enum udp_drop why)
{
	count(&udp->counted->dropped[why], 1);
}

/* ---- how many a second ---- */

static void pace_refill(struct udp_pace *pace, uint64_t now)
{
	const int64_t most = UDP_BURST * DATAGRAM_NS;
	uint64_t passed = now - pace->at_ns;

	pace->at_ns = now;
	if (passed < (uint64_t)(most - pace->saved_ns))
		pace->saved_ns += (int64_t)passed;
	else
		pace->saved_ns = most;
}

/* What is read at once may be more than there is: by so much the next comes later. */
static bool pace_is_open(const struct udp_pace *pace)
{
	return pace->saved_ns > 0;
}

static void pace_take(struct udp_pace *pace)
{
	pace->saved_ns -= DATAGRAM_NS;
}

/* UINT64_MAX: it is open. */
static uint64_t pace_deadline(const struct udp_pace *pace)
{
	return pace_is_open(pace) ? UINT64_MAX : pace->at_ns + (uint64_t)-pace->saved_ns + 1;
}

/* ---- slots ---- */

static uint8_t *slot(const struct udp *udp, int index)
{
	return udp->arena + (size_t)index * UDP_SLOT;
}

/* -1: none is free, or the port has its share. */
static int slot_take(struct udp *udp, unsigned port)
{
	if (udp->nslots == UDP_SLOTS || udp->ports[port].nslots >= UDP_SLOTS / udp->nports)
		return -1;
	for (unsigned i = 0; i < UDP_SLOTS; i++) {
		if (udp->slot_of[i])
			continue;
		udp->slot_of[i] = (uint8_t)(port + 1);
		udp->ports[port].nslots++;
		udp->nslots++;
		return (int)i;
	}
	return -1;
}

/* `used`: bytes of it that were written. */
static void slot_give(struct udp *udp, int *index, size_t used)
{
	if (*index < 0)
		return;
	if (used > PAGE)
		(void)madvise(slot(udp, *index), UDP_SLOT, MADV_DONTNEED); /* else it is only not given back */
	udp->ports[udp->slot_of[*index] - 1].nslots--;
	udp->slot_of[*index] = 0;
	udp->nslots--;
	*index = -1;
}

/* ---- flows ---- */

static void end(struct udp *udp, struct udp_flow *flow)
{
	if (flow->fd >= 0)
		(void)close(flow->fd);
	flow->fd = -1;
	slot_give(udp, &flow->out, UDP_SLOT);
	slot_give(udp, &flow->in, UDP_SLOT);
	flow->state = UDP_FREE;
	flow->number += NEXT;
	udp->ports[flow->port].nflows--;
	udp->nflows--;
}

static uint64_t patience(const struct udp_flow *flow)
{
	return flow->answered ? UDP_ANSWERED_NS : UDP_ONE_WAY_NS;
}

static struct udp_flow *find(struct udp *udp, unsigned port, const struct udp_client *client)
{
	for (unsigned i = 0; i < UDP_FLOWS_MAX; i++) {
		struct udp_flow *flow = &udp->flows[i];

		if (flow->state != UDP_FREE && flow->port == port && !memcmp(&flow->client, client, sizeof(*client)))
			return flow;
	}
	return NULL;
}

/* Of one host, as far as that can be seen: by IPv6 it has a /64 of addresses. */
static bool same_host(const struct udp_client *a, const struct udp_client *b)
{
	return a->family == b->family && !memcmp(a->address, b->address, a->family == AF_INET ? 4 : 8);
}

static unsigned count_host(const struct udp *udp, unsigned port, const struct udp_client *client)
{
	unsigned n = 0;

	for (unsigned i = 0; i < UDP_FLOWS_MAX; i++) {
		const struct udp_flow *flow = &udp->flows[i];

		n += flow->state != UDP_FREE && flow->port == port && same_host(&flow->client, client);
	}
	return n;
}

/* A client of the host that has the most of the port's flows, where those are more than its share; NULL: none has. */
static const struct udp_client *greediest(const struct udp *udp, unsigned port, unsigned *ret_most)
{
	const struct udp_client *found = NULL;

	*ret_most = UDP_SHARE;
	for (unsigned i = 0; i < UDP_FLOWS_MAX; i++) {
		const struct udp_flow *flow = &udp->flows[i];
		unsigned n = flow->state == UDP_FREE || flow->port != port ? 0 : count_host(udp, port, &flow->client);

		if (n <= *ret_most)
			continue;
		*ret_most = n;
		found = &flow->client;
	}
	return found;
}

/* Who makes room, the first first. */
enum rank { GREEDY_UNANSWERED, UNANSWERED, QUIET, GREEDY_LIVELY, LIVELY };

static enum rank rank_of(const struct udp_flow *flow, bool greedy, uint64_t now)
{
	if (!flow->answered)
		return greedy ? GREEDY_UNANSWERED : UNANSWERED;
	if (now - flow->heard_ns >= UDP_QUIET_NS)
		return QUIET;
	return greedy ? GREEDY_LIVELY : LIVELY;
}

/* Of the port's flows the one that makes room for `client`; NULL: none. */
static struct udp_flow *least(struct udp *udp, unsigned port, const struct udp_client *client, uint64_t now)
{
	unsigned most;
	const struct udp_client *greedy = greediest(udp, port, &most);
	bool own = greedy && same_host(greedy, client);
	/* A lively one gives way where its host has more than the newcomer's would have by it. */
	enum rank last = greedy && !own && count_host(udp, port, client) + 1 < most ? GREEDY_LIVELY : QUIET;
	/* One that has more than half makes room before all others: else newcomers would do it for each other. */
	bool first = last == GREEDY_LIVELY && most > UDP_FLOWS_MAX / 2;
	struct udp_flow *best = NULL;
	unsigned of_best = 0;

	for (unsigned i = 0; i < UDP_FLOWS_MAX; i++) {
		struct udp_flow *flow = &udp->flows[i];
		bool theirs = greedy && same_host(greedy, &flow->client);
		unsigned rank = rank_of(flow, theirs, now);

		if (flow->state == UDP_FREE || flow->port != port || rank > (unsigned)last || (own && !theirs))
			continue;
		if (first && !theirs)
			rank += LIVELY;
		if (!best || rank < of_best || (rank == of_best && flow->heard_ns < best->heard_ns)) {
			best = flow;
			of_best = rank;
		}
	}
	return best;
}

/* Which port is to make room for one more of `port`'s; -1: there is room. */
static int crowded(const struct udp *udp, unsigned port)
{
	unsigned most = port;

	if (udp->ports[port].nflows >= UDP_FLOWS_MAX - UDP_RESERVE * (udp->nports - 1))
		return (int)port;
	if (udp->nflows < UDP_FLOWS_MAX)
		return -1;
	for (unsigned i = 0; i < udp->nports; i++)
		if (udp->ports[i].nflows > udp->ports[most].nflows)
			most = i;
	return (int)most;
}

_Static_assert(UDP_FLOWS_MAX >= UDP_RESERVE * (PROTO_PUBLISH_MAX - 1), "each port may have some");
_Static_assert(UDP_FLOWS_MAX > PROTO_PUBLISH_MAX, "when all are taken a port has more than one");

/* A token a new client: what a port saves up is its burst. Who has one leaves some to who has none. */
static bool allowed(struct udp *udp, unsigned index, const struct udp_client *client, uint64_t now)
{
	uint64_t price = UDP_NS_PER_S * udp->nports / UDP_NEW_RATE, most = price * UDP_NEW_BURST;
	uint64_t spare = count_host(udp, index, client) ? price * UDP_NEW_SPARE : 0;
	struct udp_port *port = &udp->ports[index];

	port->tokens_ns += now - port->tokens_at_ns;
	port->tokens_at_ns = now;
	if (port->tokens_ns > most)
		port->tokens_ns = most;
	if (port->tokens_ns < price + spare)
		return false;
	port->tokens_ns -= price;
	return true;
}

static struct udp_flow *begin(struct udp *udp, unsigned port, const struct udp_client *client, uint64_t now)
{
	struct udp_flow *flow;
	int from = crowded(udp, port);

	if (!allowed(udp, port, client, now))
		return NULL;
	if (from >= 0) {
		flow = least(udp, (unsigned)from, client, now);
		if (!flow)
			return NULL;
		end(udp, flow);
	}
	for (flow = udp->flows; flow->state != UDP_FREE; flow++) /* there is one: nflows is below the most */
		assert(flow < udp->flows + UDP_FLOWS_MAX - 1);
	if (!udp->ask(udp->arg, flow->number, port))
		return NULL;
	flow->state = UDP_ASKED;
	flow->client = *client;
	flow->port = (uint8_t)port;
	flow->answered = false;
	flow->heard_ns = now;
	flow->out_pos = flow->out_len = flow->in_len = 0;
	udp->ports[port].nflows++;
	udp->nflows++;
	return flow;
}

/* ---- to the guest ---- */

/* -1: it ends the connection. Bytes that it took. */
static ssize_t put(const struct udp_flow *flow, const uint8_t *bytes, size_t len)
{
	ssize_t n = sendto(flow->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);

	return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : n;
}

static void flush(struct udp *udp, struct udp_flow *flow)
{
	ssize_t n;

	if (flow->out < 0 || flow->fd < 0)
		return;
	n = put(flow, slot(udp, flow->out) + flow->out_pos, flow->out_len - flow->out_pos);
	if (n < 0) {
		end(udp, flow);
		return;
	}
	flow->out_pos += (size_t)n;
	if (flow->out_pos < flow->out_len)
		return;
	slot_give(udp, &flow->out, flow->out_len);
	flow->out_pos = flow->out_len = 0;
}

/* Whole datagrams alone, but for one whose beginning is on its way. */
static bool keep(struct udp *udp, struct udp_flow *flow, const uint8_t *bytes, size_t len)
{
	if (flow->out < 0)
		flow->out = slot_take(udp, flow->port);
	if (flow->out < 0 || UDP_SLOT - flow->out_len < len)
		return false;
	memcpy(slot(udp, flow->out) + flow->out_len, bytes, len);
	flow->out_len += len;
	return true;
}

/* A datagram with its length before it. */
static void pass(struct udp *udp, struct udp_flow *flow, const uint8_t *frame, size_t len)
{
	ssize_t n = 0;

	if (flow->fd >= 0 && flow->out < 0)
		n = put(flow, frame, len);
	if (n < 0) {
		end(udp, flow);
		drop(udp, UDP_DROP_FULL);
	} else if (n < (ssize_t)len && !keep(udp, flow, frame + n, len - (size_t)n)) {
		drop(udp, UDP_DROP_FULL);
		if (n) /* its beginning is gone: nothing can follow it */
			end(udp, flow);
	} else {
		count(&udp->counted->from_clients, 1);
		count(&udp->counted->from_clients_bytes, len - PROTO_DATAGRAM_HEAD);
	}
}

/* ---- from clients ---- */

union control {
	struct cmsghdr hdr;
	char space[CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

int udp_set_options(int fd, unsigned family)
{
	int one = 1;
	int r = family == AF_INET ? setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof(one))
				  : setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof(one));

	return r < 0 ? -errno : 0;
}

static void read_own(struct msghdr *msg, struct udp_client *client)
{
	for (struct cmsghdr *hdr = CMSG_FIRSTHDR(msg); hdr; hdr = CMSG_NXTHDR(msg, hdr)) {
		if (hdr->cmsg_level == IPPROTO_IP && hdr->cmsg_type == IP_PKTINFO &&
		    hdr->cmsg_len >= CMSG_LEN(sizeof(struct in_pktinfo))) {
			struct in_pktinfo info;

			memcpy(&info, CMSG_DATA(hdr), sizeof(info));
			memcpy(client->own, &info.ipi_spec_dst, sizeof(info.ipi_spec_dst));
		} else if (hdr->cmsg_level == IPPROTO_IPV6 && hdr->cmsg_type == IPV6_PKTINFO &&
			   hdr->cmsg_len >= CMSG_LEN(sizeof(struct in6_pktinfo))) {
			struct in6_pktinfo info;

			memcpy(&info, CMSG_DATA(hdr), sizeof(info));
			if (!IN6_IS_ADDR_MULTICAST(&info.ipi6_addr)) /* which nobody can answer from */
				memcpy(client->own, &info.ipi6_addr, sizeof(info.ipi6_addr));
		}
	}
}

static void read_client(struct msghdr *msg, const struct sockaddr_storage *from, struct udp_client *client)
{
	memset(client, 0, sizeof(*client));
	client->family = from->ss_family;
	if (from->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)from;

		memcpy(client->address, &in->sin_addr, sizeof(in->sin_addr));
		client->port = in->sin_port;
	} else {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)from;

		memcpy(client->address, &in6->sin6_addr, sizeof(in6->sin6_addr));
		client->port = in6->sin6_port;
		client->scope = in6->sin6_scope_id;
	}
	read_own(msg, client);
}

/* Nobody sends from port 0; and what seems to come from this very port would be answered to it, for ever. */
static bool is_forged(const struct udp_port *port, const struct udp_client *client)
{
	return client->family != port->family || !client->port ||
	       (client->port == port->port && !memcmp(client->address, client->own, sizeof(client->own)));
}

/* False: none is left. */
static bool from_client(struct udp *udp, unsigned index, uint64_t now)
{
	struct udp_port *port = &udp->ports[index];
	struct sockaddr_storage from = { 0 };
	union control control;
	struct iovec iov = { udp->buffer + PROTO_DATAGRAM_HEAD, sizeof(udp->buffer) - PROTO_DATAGRAM_HEAD };
	struct msghdr msg = { .msg_name = &from,
			      .msg_namelen = sizeof(from),
			      .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(port->fd, &msg, MSG_DONTWAIT);
	struct udp_client client;
	struct udp_flow *flow;

	if (n < 0)
		return errno == EINTR;
	pace_take(&udp->in);
	read_client(&msg, &from, &client);
	if ((size_t)n > PROTO_DATAGRAM_MAX || msg.msg_flags & MSG_TRUNC || is_forged(port, &client)) {
		drop(udp, UDP_DROP_BAD);
		return true;
	}
	flow = find(udp, index, &client);
	if (!flow)
		flow = begin(udp, index, &client, now);
	if (!flow) {
		drop(udp, UDP_DROP_FLOWS);
		return true;
	}
	flow->heard_ns = now;
	proto_put_datagram_head(udp->buffer, (size_t)n);
	pass(udp, flow, udp->buffer, PROTO_DATAGRAM_HEAD + (size_t)n);
	return true;
}

/* ---- to clients ---- */

static void put_own(struct msghdr *msg, union control *control, const struct udp_client *client)
{
	memset(control, 0, sizeof(*control));
	msg->msg_control = control;
	if (client->family == AF_INET) {
		struct in_pktinfo info = { 0 };

		memcpy(&info.ipi_spec_dst, client->own, sizeof(info.ipi_spec_dst));
		control->hdr.cmsg_level = IPPROTO_IP;
		control->hdr.cmsg_type = IP_PKTINFO;
		control->hdr.cmsg_len = CMSG_LEN(sizeof(info));
		msg->msg_controllen = CMSG_SPACE(sizeof(info));
		memcpy(CMSG_DATA(&control->hdr), &info, sizeof(info));
	} else {
		struct in6_pktinfo info = { .ipi6_ifindex = client->scope };

		memcpy(&info.ipi6_addr, client->own, sizeof(info.ipi6_addr));
		control->hdr.cmsg_level = IPPROTO_IPV6;
		control->hdr.cmsg_type = IPV6_PKTINFO;
		control->hdr.cmsg_len = CMSG_LEN(sizeof(info));
		msg->msg_controllen = CMSG_SPACE(sizeof(info));
		memcpy(CMSG_DATA(&control->hdr), &info, sizeof(info));
	}
}

static void answer(struct udp *udp, const struct udp_flow *flow, const struct proto_in *datagram)
{
	const struct udp_client *client = &flow->client;
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = client->port };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6,
				    .sin6_port = client->port,
				    .sin6_scope_id = client->scope };
	bool four = client->family == AF_INET;
	size_t len = (size_t)(datagram->end - datagram->pos);
	struct iovec iov = { (void *)(uintptr_t)datagram->pos, len };
	struct msghdr msg = { .msg_name = four ? (void *)&in : (void *)&in6,
			      .msg_namelen = four ? sizeof(in) : sizeof(in6),
			      .msg_iov = &iov,
			      .msg_iovlen = 1 };
	union control control;

	memcpy(&in.sin_addr, client->address, sizeof(in.sin_addr));
	memcpy(&in6.sin6_addr, client->address, sizeof(in6.sin6_addr));
	put_own(&msg, &control, client);
	/* What the host does not send now is lost, as on any network. */
	if (sendmsg(udp->ports[flow->port].fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		drop(udp, UDP_DROP_ANSWER);
		return;
	}
	count(&udp->counted->to_clients, 1);
	count(&udp->counted->to_clients_bytes, len);
}

/* The beginning of a datagram waits for the rest of it. */
static bool keep_begun(struct udp *udp, struct udp_flow *flow, const uint8_t *bytes, size_t len)
{
	if (!len) {
		slot_give(udp, &flow->in, UDP_SLOT);
	} else {
		if (flow->in < 0)
			flow->in = slot_take(udp, flow->port);
		if (flow->in < 0)
			return false;
		memmove(slot(udp, flow->in), bytes, len);
	}
	flow->in_len = len;
	return true;
}

/* False: nothing is left, or the flow is over. */
static bool from_guest(struct udp *udp, struct udp_flow *flow)
{
	uint8_t *buffer = flow->in >= 0 ? slot(udp, flow->in) : udp->buffer;
	size_t have = flow->in >= 0 ? flow->in_len : 0, at = 0;
	ssize_t n = recvfrom(flow->fd, buffer + have, UDP_SLOT - have, MSG_DONTWAIT, NULL, NULL);
	struct proto_in datagram;
	long size;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) { /* nobody is there, or no longer */
		end(udp, flow);
		return false;
	}
	have += (size_t)n;
	while ((size = proto_next_datagram(buffer + at, have - at, &datagram)) > 0) {
		flow->answered = true; /* it is the client who keeps it alive: else a guest would send for ever */
		answer(udp, flow, &datagram);
		pace_take(&udp->out);
		at += (size_t)size;
	}
	if (size < 0 || !keep_begun(udp, flow, buffer + at, have - at)) {
		count(&udp->counted->broken, 1);
		end(udp, flow);
		return false;
	}
	return true;
}

/* ---- for its process ---- */

void udp_init(struct udp *udp, const struct udp_request *request, const int *fds, uint8_t *arena,
	      struct udp_counted *counted, uint64_t now)
{
	memset(udp, 0, sizeof(*udp));
	udp->nports = request->nports;
	udp->arena = arena;
	udp->counted = counted;
	pace_refill(&udp->in, now); /* a whole burst */
	pace_refill(&udp->out, now);
	for (unsigned i = 0; i < udp->nports; i++) {
		udp->ports[i].fd = fds[i];
		udp->ports[i].port = htons(request->ports[i].port);
		udp->ports[i].family = request->ports[i].family == 4 ? AF_INET : AF_INET6;
		udp->ports[i].tokens_ns = UDP_NS_PER_S; /* a whole burst */
		udp->ports[i].tokens_at_ns = now;
	}
	for (unsigned i = 0; i < UDP_FLOWS_MAX; i++)
		udp->flows[i] = (struct udp_flow){ .fd = -1, .number = i, .out = -1, .in = -1 };
}

void udp_given(struct udp *udp, uint32_t number, int fd, uint64_t now)
{
	struct udp_flow *flow = INDEX(number) < UDP_FLOWS_MAX ? &udp->flows[INDEX(number)] : NULL;

	if (!flow || flow->state != UDP_ASKED || flow->number != number) { /* it made room meanwhile */
		if (fd >= 0)
			(void)close(fd);
		return;
	}
	if (fd < 0) {
		drop(udp, UDP_DROP_FLOWS);
		end(udp, flow);
		return;
	}
	flow->fd = fd;
	flow->state = UDP_OPEN;
	flow->heard_ns = now;
	flush(udp, flow);
}

void udp_prepare(const struct udp *udp, struct pollfd fds[UDP_FDS])
{
	bool in = pace_is_open(&udp->in);
	short out = pace_is_open(&udp->out) ? POLLIN : 0;

	for (unsigned i = 0; i < PROTO_PUBLISH_MAX; i++)
		fds[i] = (struct pollfd){ .fd = in && i < udp->nports ? udp->ports[i].fd : -1, .events = POLLIN };
	for (unsigned i = 0; i < UDP_FLOWS_MAX; i++) {
		const struct udp_flow *flow = &udp->flows[i];
		short events = flow->out >= 0 ? out | POLLOUT : out;

		/* That its end is gone is told also where nothing else is asked: not at all, then. */
		fds[PROTO_PUBLISH_MAX + i] = (struct pollfd){ .fd = events ? flow->fd : -1, .events = events };
	}
}

static bool is_over(const struct udp_flow *flow, uint64_t now)
{
	return flow->state != UDP_FREE && now >= flow->heard_ns + patience(flow);
}

void udp_run(struct udp *udp, const struct pollfd fds[UDP_FDS], uint64_t now)
{
	pace_refill(&udp->in, now);
	pace_refill(&udp->out, now);
	for (unsigned k = 0, begin = udp->next; k < UDP_FLOWS_MAX; k++) {
		unsigned i = (begin + k) % UDP_FLOWS_MAX;
		struct udp_flow *flow = &udp->flows[i];
		short events = flow->fd >= 0 ? fds[PROTO_PUBLISH_MAX + i].revents : 0;
		bool open = pace_is_open(&udp->out);

		if (events & POLLOUT)
			flush(udp, flow);
		for (unsigned n = 0; n < BATCH && events & (POLLIN | POLLHUP | POLLERR) && flow->fd >= 0; n++)
			if (!pace_is_open(&udp->out) || !from_guest(udp, flow))
				break;
		if (open && !pace_is_open(&udp->out)) /* whose turn it is when there is a pace again */
			udp->next = (i + 1) % UDP_FLOWS_MAX;
		if (is_over(flow, now))
			end(udp, flow);
	}
	for (unsigned i = 0; i < udp->nports; i++)
		for (unsigned n = 0; n < BATCH && fds[i].revents; n++)
			if (!from_client(udp, i, now))
				break;
}

uint64_t udp_deadline(const struct udp *udp)
{
	uint64_t first = pace_deadline(&udp->in), out = pace_deadline(&udp->out);

	if (out < first)
		first = out;

	for (unsigned i = 0; i < UDP_FLOWS_MAX; i++) {
		const struct udp_flow *flow = &udp->flows[i];

		if (flow->state != UDP_FREE && flow->heard_ns + patience(flow) < first)
			first = flow->heard_ns + patience(flow);
	}
	return first;
}
