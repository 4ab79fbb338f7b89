/* Clients of published ports: taken when the VMM can have them, and given to it (publish.h). */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "lib/supervisor.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define NS_PER_MS 1000000ULL
#define RETRY_NS  (100 * NS_PER_MS) /* until descriptors are looked for again */
#define BATCH     16U /* clients of a port per wake-up */

/* Before there is a VM, and once: of a VM that is started again they are there. */
int supervisor_publish_open(struct supervisor *s, struct mvm_error *err)
{
	s->publish.accepted = 0;
	return s->publish.nports ? 0 : publish_open(&s->publish, s->spec->publish, (unsigned)s->spec->npublish, err);
}

/* A VM that boots, is paused or ends takes nobody: the kernel keeps them. */
static bool may_take(const struct supervisor *s, uint64_t now)
{
	return s->phase == PHASE_RUN && !s->paused && s->vmm_control >= 0 && !s->publish_full &&
	       s->publish.nconns < CONTROL_CONNS_MAX && now >= s->publish_retry_ns;
}

void supervisor_publish_prepare(const struct supervisor *s, uint64_t now, struct pollfd fds[SPEC_PUBLISH_MAX])
{
	bool take = may_take(s, now);

	for (unsigned i = 0; i < SPEC_PUBLISH_MAX; i++)
		fds[i] = (struct pollfd){ .fd = take && i < s->publish.nports && !publish_full(&s->publish, i)
							? s->publish.ports[i].fd
							: -1,
					  .events = POLLIN };
}

uint64_t supervisor_publish_deadline(const struct supervisor *s)
{
	return s->phase == PHASE_RUN && s->publish_retry_ns ? s->publish_retry_ns : UINT64_MAX;
}

/* One client of a port. False: no more now. */
static bool take_one(struct supervisor *s, unsigned index)
{
	struct pollfd room = { .fd = s->vmm_control, .events = POLLOUT };
	struct control_msg msg = { .type = CONTROL_CONNECT,
				   .port = PROTO_PORT_PUBLISH + s->publish.ports[index].spec.guest };
	_cleanup_fd_ int fd = -1;
	int r;

	/* Room first: one that was accepted cannot be put back. Writable is room for many (unix(7)). */
	if (poll(&room, 1, 0) <= 0 || !(room.revents & POLLOUT)) {
		s->publish_full = true;
		return false;
	}
	r = publish_accept(&s->publish, index, &fd, &msg.id);
	if (r < 0)
		s->publish_retry_ns = text_now_ns() + RETRY_NS;
	if (r <= 0)
		return false;
	r = supervisor_tell_vmm(s, &msg, fd);
	if (r < 0) {
		(void)publish_closed(&s->publish, msg.id);
		/* EPIPE: it ends. Else too many descriptors are on their way between this user's processes. */
		s->publish_retry_ns = text_now_ns() + RETRY_NS;
	}
	return r == 0;
}

void supervisor_publish_run(struct supervisor *s, const struct pollfd fds[SPEC_PUBLISH_MAX])
{
	uint64_t now = text_now_ns();

	if (s->publish_retry_ns && now >= s->publish_retry_ns)
		s->publish_retry_ns = 0;
	for (unsigned i = 0; i < s->publish.nports; i++)
		for (unsigned n = 0; fds[i].revents && n < BATCH && may_take(s, now); n++)
			if (!take_one(s, i))
				break;
}

uint64_t supervisor_publish_bytes(const struct supervisor *s)
{
	struct counters counters;

	if (!s->publish.nports || !s->counters)
		return 0;
	counters_copy(s->counters, &counters);
	return counters.publish.from_guest_bytes + counters.publish.to_guest_bytes;
}
