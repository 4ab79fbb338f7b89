/* What goes through --net user, a named network or --proxy, for who asks (`mvm stats`, `mvm metrics`). */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "lib/supervisor.h"
#include "lib/text.h"

#define NS_PER_MS     1000000ULL
#define FLOWS_NS      (5000 * NS_PER_MS)
#define FRESH_NS      (1000 * NS_PER_MS) /* what was told so long ago at most is told again */
#define FRESH_WAIT_NS (50 * NS_PER_MS) /* for a new count; mvm-net takes a millisecond */

/* Asks mvm-net for its count, and waits for it a moment. It may be a guest's: so seldom, and not for long. */
void supervisor_net_fresh(struct supervisor *s)
{
	uint64_t now = text_now_ns(), end = now + FRESH_WAIT_NS;

	if (s->net_asked_ns && now - s->net_asked_ns < FRESH_NS)
		return;
	s->net_asked_ns = now;
	if (!net_user_ask_count(&s->net))
		return;
	for (; !net_user_counted(&s->net) && now < end; now = text_now_ns()) {
		struct pollfd news[NET_USER_LINKS];

		for (unsigned i = 0; i < NET_USER_LINKS; i++)
			news[i] = (struct pollfd){ .fd = s->net.links[i].fd, .events = POLLIN };
		if (poll(news, NET_USER_LINKS, (int)((end - now) / NS_PER_MS) + 1) <= 0)
			continue;
		for (unsigned i = 0; i < NET_USER_LINKS; i++)
			if (news[i].revents)
				supervisor_on_net(s, i);
	}
}

/* 1: to be answered by supervisor_flows_told(). */
int supervisor_ask_flows(struct supervisor *s, unsigned client, char *ret_text, size_t size)
{
	if (!s->net.asked) {
		(void)snprintf(ret_text, size,
			       "it has neither --net user, --net bridge=, a named network nor --proxy: the connections "
			       "of others "
			       "are not known to mvm");
		return -ENOTSUP;
	}
	if (!net_user_ask_flows(&s->net)) {
		(void)snprintf(ret_text, size, "its network has ended, or does not answer: try again");
		return -EAGAIN;
	}
	s->clients[client].kind = CLIENT_FLOWS;
	s->clients[client].deadline_ns = text_now_ns() + FLOWS_NS;
	return 1;
}

/* All who wait for it. */
void supervisor_flows_told(struct supervisor *s)
{
	struct net_flows *flows = &s->net.flows;
	struct attach_flows answer = {
		.told = flows->n,
		.all = flows->listed.all,
		.cut = flows->listed.cut != 0,
	};

	memcpy(answer.flows, flows->flows, flows->n * sizeof(answer.flows[0]));
	for (unsigned i = 0; i < ATTACH_CLIENTS_MAX; i++) {
		if (s->clients[i].fd < 0 || s->clients[i].kind != CLIENT_FLOWS)
			continue;
		(void)attach_send(s->clients[i].fd, ATTACH_ANSWER, 0, &answer,
				  offsetof(struct attach_flows, flows) + flows->n * sizeof(answer.flows[0]));
		s->clients[i].kind = CLIENT_ASKS;
	}
}
