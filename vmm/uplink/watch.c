/* While the VM runs: counters, packets that were refused, and the host's addresses as they come. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <seccomp.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "mvm/cleanup.h"
#include "uplink/flows.h"
#include "uplink/holder.h"
#include "uplink/nfnl.h"
#include "uplink/route.h"
#include "uplink/rules.h"

#define COUNT_MS     1000 /* at most so often, and so long after the last refusal at most, the counters are told */
#define LOG_BATCH    32U
#define HOST_WAIT_MS 5000
#define SAID_MS      1000 /* what pasta says is told so often; it does not wait to be heard, and a guest may make it speak */

static int64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- the host's addresses ---- */

/* One that the host loses stays refused: another of its links may have it still. */
static void refuse_host(struct holder *h, unsigned family, const uint8_t *bytes)
{
	int r = nfnl_add_address(h->nft, family == 4 ? RULES_HOST4 : RULES_HOST6, bytes, family == 4 ? 4 : 16, 0);

	if (r < 0)
		holder_fail(-r, "an address of the host's does not get into the rules: %s", strerror(-r));
}

static void take_address(const struct route_address *address, void *arg)
{
	struct holder *h = arg;
	const struct uplink_place *place = &h->request.place;
	size_t size = address->family == 4 ? 4 : 16;

	/* Link-local: never forwarded, refused by the rules anyway, and every link that comes brings another one. */
	if (size == 16 && address->bytes[0] == 0xfe && (address->bytes[1] & 0xc0) == 0x80)
		return;
	if (h->request.flags & UPLINK_BRIDGE &&
	    !memcmp(address->bytes, address->family == 4 ? place->ip4 : place->ip6, size))
		holder_fail(EADDRINUSE, "%s= is this host's own address: give the VM another one",
			    address->family == 4 ? "ip" : "ip6");
	refuse_host(h, address->family, address->bytes);
	if (memcmp(address->also, address->bytes, size) != 0)
		refuse_host(h, address->family, address->also);
}

static void ask_host(struct holder *h, unsigned family)
{
	int r = route_ask_addresses(h->host, family);

	if (r < 0)
		holder_fail(-r, "the host's addresses cannot be asked for: %s", strerror(-r));
	h->asking = family;
}

void watch_host_news(struct holder *h)
{
	int r = route_read_addresses(h->host, take_address, h);

	if (r == -ENOBUFS || (r > 0 && h->asking == 4))
		ask_host(h, r < 0 ? 4 : 6);
	else if (r > 0)
		h->asking = 0;
	else if (r < 0)
		holder_fail(-r, "the host's addresses: %s", strerror(-r));
}

void watch_host(struct holder *h)
{
	struct pollfd news = { .fd = h->host, .events = POLLIN };
	int64_t end = now_ms() + HOST_WAIT_MS;

	ask_host(h, 4);
	while (h->asking) {
		if (poll(&news, 1, 100) > 0)
			watch_host_news(h);
		else if (now_ms() > end)
			holder_fail(ETIMEDOUT, "the host's addresses: no answer");
	}
}

/* ---- what the supervisor hears ---- */

static void tell_counters(const struct holder *h)
{
	struct uplink_message message = { .type = UPLINK_COUNTED };
	int r = nfnl_counters(h->nft, &message.counted, 1);

	/* A kernel without ctnetlink lacks these alone. */
	if (r == 0 && flows_count(h->nft, &message.counted.traffic.flows) < 0)
		message.counted.traffic.flows = 0;
	message.counted.counters[UPLINK_NAME] = h->names_said.refused;
	if (r < 0)
		holder_fail(-r, "counters: %s", strerror(-r));
	holder_send(UPLINK_FD, &message, -1);
}

void watch_tell_flows(const struct holder *h, int to, const struct uplink_member *of)
{
	static struct flows flows;
	struct uplink_message message = { .type = UPLINK_LISTED };
	int r = flows_dump(h->nft, of, &flows);

	if (r < 0)
		flows = (struct flows){ .cut = true };
	message.listed = (struct uplink_listed){ .told = flows.n, .all = flows.seen, .cut = flows.cut };
	holder_send(to, &message, -1);
	for (unsigned i = 0; i < flows.n; i += message.nflows) {
		unsigned n = flows.n - i < UPLINK_FLOWS_IN ? flows.n - i : UPLINK_FLOWS_IN;

		message = (struct uplink_message){ .type = UPLINK_LIST, .nflows = n };
		memcpy(message.flows, flows.busiest + i, n * sizeof(message.flows[0]));
		holder_send(to, &message, -1);
	}
}

static bool on_refused(const struct holder *h)
{
	struct uplink_message message = { .type = UPLINK_REFUSED };
	uint8_t packet[4096] __attribute__((aligned(8)));
	bool any = false;

	for (unsigned i = 0; i < LOG_BATCH; i++) {
		ssize_t n = recv(h->log, packet, sizeof(packet), MSG_DONTWAIT);

		if (n < 0 && errno != ENOBUFS) /* more than it holds: they are counted all the same */
			break;
		any = true;
		if (n > 0 && nfnl_parse_refused(packet, (size_t)n, &message.refused))
			holder_send(UPLINK_FD, &message, -1);
	}
	return any;
}

static void on_supervisor(const struct holder *h)
{
	struct uplink_message message;
	ssize_t n = recv(UPLINK_FD, &message, sizeof(message), MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		_exit(0);
	if (n != (ssize_t)sizeof(message))
		return;
	if (message.type == UPLINK_COUNT)
		tell_counters(h);
	else if (message.type == UPLINK_TELL_FLOWS)
		watch_tell_flows(h, UPLINK_FD, NULL);
}

static bool on_names(struct holder *h)
{
	uint64_t before = h->names_said.refused;

	if (names_read(h, NULL, NULL) < 0)
		holder_fail(ECHILD, "the resolver ended");
	return h->names_said.refused != before;
}

/* ---- from here on ---- */

/* Headers of the guest's packets are read from here on, by a process that can do no more than answer. */
static void lock(void)
{
#ifndef JAIL_OMIT_SECCOMP /* sanitizers: their run-time's own calls */
	static const int calls[] = {
		SCMP_SYS(poll),       SCMP_SYS(recvfrom),     SCMP_SYS(sendto),
		SCMP_SYS(sendmsg),    SCMP_SYS(read),         SCMP_SYS(clock_gettime),
		SCMP_SYS(exit_group), SCMP_SYS(rt_sigreturn), SCMP_SYS(restart_syscall),
		SCMP_SYS(ppoll),
	};
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r = filter ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < sizeof(calls) / sizeof(calls[0]); i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	if (r == 0)
		r = seccomp_load(filter);
	if (r < 0)
		holder_fail(-r, "seccomp: %s", strerror(-r));
	seccomp_release(filter);
#endif
}

void watch(struct holder *h)
{
	struct uplink_message ready = { .type = UPLINK_READY };
	int64_t told = now_ms() - COUNT_MS;
	int64_t heard = told; /* pasta */
	bool dirty = false;

	holder_send(UPLINK_FD, &ready, h->tap);
	cleanup_fd(&h->tap); /* the link goes with the VMM's */
	h->tap = -1;
	lock();
	for (;;) {
		struct pollfd fds[] = {
			{ .fd = UPLINK_FD, .events = POLLIN }, { .fd = h->log, .events = POLLIN },
			{ .fd = h->host, .events = POLLIN },   { .fd = h->pasta, .events = POLLIN },
			{ .fd = h->proxy, .events = POLLIN },  { .fd = h->pasta_says, .events = POLLIN },
			{ .fd = h->names, .events = POLLIN },
		};
		int64_t now = now_ms(), left = dirty ? told + COUNT_MS - now : INT_MAX;
		int64_t silent = heard + SAID_MS - now;
		char text[2048];

		if (dirty && left <= 0) {
			tell_counters(h);
			told = now;
			dirty = false;
			left = INT_MAX;
		}
		if (silent > 0) {
			fds[5].fd = -1;
			left = silent < left ? silent : left;
		}
		if (poll(fds, sizeof(fds) / sizeof(fds[0]), left == INT_MAX ? -1 : (int)left) < 0)
			continue;
		if (fds[0].revents)
			on_supervisor(h);
		if (fds[1].revents)
			dirty |= on_refused(h);
		if (fds[2].revents)
			watch_host_news(h);
		if (fds[3].revents)
			holder_fail(ECHILD, "pasta ended: %s", space_pasta_says(h, text, sizeof(text)));
		if (fds[6].revents)
			dirty |= on_names(h);
		if (fds[4].revents)
			holder_fail(ECHILD, "the proxy ended: it was killed, dmesg may say why");
		if (fds[5].revents) {
			const char *said = space_pasta_says(h, text, sizeof(text));

			heard = now_ms();
			if (fds[5].revents & POLLIN && *said)
				holder_warn(UPLINK_FD, "pasta: %.300s", said);
			if (!(fds[5].revents & POLLIN))
				h->pasta_says = -1; /* closed; that it ended shows elsewhere */
		}
	}
}
