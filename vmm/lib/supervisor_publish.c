/* Clients of published ports: taken when the VMM can have them, and given to it (publish.h, publish_udp.h). */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "lib/supervisor.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define NS_PER_MS 1000000ULL
#define RETRY_NS  (100 * NS_PER_MS) /* until descriptors are looked for again */
#define BATCH     16U /* clients of a port per wake-up */
#define PAUSE_NS  (5 * NS_PER_MS) /* after a batch of UDP's, whose clients may all be forged */

/* Before there is a VM; the sockets once: of a VM that is started again they are there. */
int supervisor_publish_open(struct supervisor *s, struct mvm_error *err)
{
	int r = 0;

	s->publish.accepted = 0;
	if (!s->publish.nports)
		r = publish_open(&s->publish, s->spec->publish, (unsigned)s->spec->npublish, err);
	return r < 0 ? r : publish_udp_open(&s->udp, &s->publish, &s->parts, s->conf.uid_first, s->conf.uid_count, err);
}

/* A VM that boots, is paused or ends takes nobody: the kernel keeps them. */
static bool may_take(const struct supervisor *s, uint64_t now)
{
	return s->phase == PHASE_RUN && !s->paused && s->vmm_control >= 0 && !s->publish_full &&
	       s->publish.nconns < CONTROL_CONNS_MAX && now >= s->publish_retry_ns;
}

void supervisor_publish_prepare(const struct supervisor *s, uint64_t now, struct pollfd fds[PUBLISH_SLOTS])
{
	bool take = may_take(s, now);

	for (unsigned i = 0; i < SPEC_PUBLISH_MAX; i++) {
		bool this = take && i < s->publish.nports && !s->publish.ports[i].spec.udp;

		fds[i] = (struct pollfd){ .fd = this && !publish_full(&s->publish, i) ? s->publish.ports[i].fd : -1,
					  .events = POLLIN };
	}
	fds[SPEC_PUBLISH_MAX] =
		(struct pollfd){ .fd = take && now >= s->udp_retry_ns ? s->udp.fd : -1, .events = POLLIN };
}

uint64_t supervisor_publish_deadline(const struct supervisor *s)
{
	uint64_t next = s->publish_retry_ns ? s->publish_retry_ns : UINT64_MAX;

	if (s->udp_retry_ns && s->udp_retry_ns < next)
		next = s->udp_retry_ns;
	return s->phase == PHASE_RUN ? next : UINT64_MAX;
}

/* Writable is room for many (unix(7)). */
static bool has_room(struct supervisor *s)
{
	struct pollfd room = { .fd = s->vmm_control, .events = POLLOUT };

	s->publish_full = poll(&room, 1, 0) <= 0 || !(room.revents & POLLOUT);
	return !s->publish_full;
}

/* A connection that has its number. */
static int give(struct supervisor *s, const struct control_msg *msg, int fd)
{
	int r = supervisor_tell_vmm(s, msg, fd);

	if (r < 0) {
		(void)publish_closed(&s->publish, msg->id);
		/* EPIPE: it ends. Else too many descriptors are on their way between this user's processes. */
		s->publish_retry_ns = text_now_ns() + RETRY_NS;
	}
	return r;
}

/* One client of a port. False: no more now. */
static bool take_one(struct supervisor *s, unsigned index)
{
	struct control_msg msg = { .type = CONTROL_CONNECT,
				   .port = PROTO_PORT_PUBLISH + s->publish.ports[index].spec.guest };
	_cleanup_fd_ int fd = -1;
	int r;

	/* Room first: one that was accepted cannot be put back. */
	if (!has_room(s))
		return false;
	r = publish_accept(&s->publish, index, &fd, &msg.id);
	if (r < 0)
		s->publish_retry_ns = text_now_ns() + RETRY_NS;
	if (r <= 0)
		return false;
	return give(s, &msg, fd) == 0;
}

/* A new client of a UDP port: one end of its connection to the VMM, the other to mvm-udp. */
static void connect_udp(struct supervisor *s, unsigned index, uint32_t flow)
{
	struct control_msg msg = { .type = CONTROL_CONNECT,
				   .port = PROTO_PORT_PUBLISH_UDP + s->publish.ports[index].spec.guest };
	_cleanup_fd_ int ours = -1, theirs = -1;
	int pair[2];

	if (publish_udp_pair(pair) == 0) {
		ours = pair[0];
		theirs = pair[1];
	}
	if (ours < 0 || !publish_take(&s->publish, index, &msg.id) || give(s, &msg, ours) < 0)
		publish_udp_answer(&s->udp, flow, -1);
	else
		publish_udp_answer(&s->udp, flow, theirs);
}

/* What mvm-udp asks for. False: nothing more now. */
static bool take_udp(struct supervisor *s)
{
	unsigned index;
	uint32_t flow;
	int r;

	if (!has_room(s))
		return false;
	r = publish_udp_asked(&s->udp, &index, &flow);
	if (r < 0) {
		const char *text = r == -EPROTO ? "mvm-udp broke its protocol" : "mvm-udp ended: dmesg may say why";

		supervisor_log(s, MVM_LOG_ERROR, "publish: UDP ports lead nowhere any more: %s", text);
		supervisor_event_violation(s, "udp", text);
	}
	if (r == 1)
		connect_udp(s, index, flow);
	return r == 1;
}

void supervisor_publish_run(struct supervisor *s, const struct pollfd fds[PUBLISH_SLOTS])
{
	uint64_t now = text_now_ns();
	unsigned taken = 0;

	if (s->publish_retry_ns && now >= s->publish_retry_ns)
		s->publish_retry_ns = 0;
	for (unsigned i = 0; i < s->publish.nports; i++)
		for (unsigned n = 0; fds[i].revents && n < BATCH && may_take(s, now); n++)
			if (!take_one(s, i))
				break;
	if (s->udp_retry_ns && now >= s->udp_retry_ns)
		s->udp_retry_ns = 0;
	while (fds[SPEC_PUBLISH_MAX].revents && taken < BATCH && may_take(s, now) && take_udp(s))
		taken++;
	if (taken == BATCH)
		s->udp_retry_ns = now + PAUSE_NS;
}

uint64_t supervisor_publish_bytes(const struct supervisor *s)
{
	struct counters counters;

	if (!s->publish.nports || !s->counters)
		return 0;
	counters_copy(s->counters, &counters);
	return counters.publish.from_guest_bytes + counters.publish.to_guest_bytes;
}
