/* Other processes of the same user's that want something of this VM (attach.h). */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/supervisor.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define ATTACH_RETRY_NS 1000000000ULL
#define ATTACH_SPARE    8U /* clients that neither wait nor run commands always have room */
#define STOP_MOST_NS    86400000000000ULL /* a day */

void supervisor_attach_init(struct supervisor *s)
{
	s->attach_listener = -1;
	for (unsigned i = 0; i < ATTACH_CLIENTS_MAX; i++)
		s->clients[i].fd = -1;
}

int supervisor_attach_open(struct supervisor *s, struct mvm_error *err)
{
	int r = attach_listen(s->state.fd, &s->attach_listener);

	return r < 0 ? error_set(err, -r, "%s: the VM's control socket cannot be made: %s", s->state.id, strerror(-r))
		     : 0;
}

void supervisor_drop_client(struct supervisor *s, unsigned i)
{
	supervisor_viewer_gone(s, i);
	cleanup_fd(&s->clients[i].fd);
	s->clients[i].fd = -1;
}

void supervisor_attach_close(struct supervisor *s, const struct verdict *verdict)
{
	uint8_t payload[sizeof(struct attach_ended) + sizeof(verdict->cause)];
	const struct attach_ended ended = { .kind = verdict->kind, .status = verdict->status };
	size_t len = strnlen(verdict->cause, sizeof(payload) - sizeof(ended));

	memcpy(payload, &ended, sizeof(ended));
	memcpy(payload + sizeof(ended), verdict->cause, len);
	cleanup_fd(&s->attach_listener);
	for (unsigned i = 0; i < ATTACH_CLIENTS_MAX; i++) {
		if (s->clients[i].fd >= 0 && s->clients[i].kind == CLIENT_WAITS)
			(void)attach_send(s->clients[i].fd, ATTACH_ANSWER, 0, payload, sizeof(ended) + len);
		supervisor_drop_client(s, i);
	}
	s->attach_listener = -1;
}

/* ---- requests: 0 or -errno, with the text of the answer ---- */

static unsigned free_slots(const struct supervisor *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < ATTACH_CLIENTS_MAX; i++)
		n += s->clients[i].fd < 0;
	return n;
}

static bool changes_io(const uint64_t most[IO_MAX_KEYS])
{
	for (unsigned key = 0; key < IO_MAX_KEYS; key++)
		if (most[key] != MVM_KEEP)
			return true;
	return false;
}

/* In bounds, or MVM_KEEP. */
static int update_nets(struct supervisor *s, uint64_t pps, uint64_t bps, char *ret_text, size_t size)
{
	struct control_msg limits = { .type = CONTROL_NET_LIMITS };

	if (pps != MVM_KEEP) {
		limits.code |= CONTROL_LIMITS_IOPS;
		limits.id = (uint32_t)pps;
	}
	if (bps != MVM_KEEP) {
		limits.code |= CONTROL_LIMITS_BPS;
		limits.arg = bps;
	}
	if (!limits.code)
		return 0;
	if (!s->files.nets.n) {
		(void)snprintf(ret_text, size, "the VM has no network device to limit: --net gives it one");
		return -ENODEV;
	}
	if (send(s->vmm_control, &limits, sizeof(limits), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return -errno; /* EAGAIN: changed faster than the VMM reads */
	if (pps != MVM_KEEP)
		s->spec->net_pps = pps;
	if (bps != MVM_KEEP)
		s->spec->net_bps = bps;
	supervisor_write_spec(s); /* whatever becomes of the rest */
	supervisor_log(s, MVM_LOG_INFO, "network: limits changed: %llu packets and %llu bytes a second (0: any)",
		       (unsigned long long)s->spec->net_pps, (unsigned long long)s->spec->net_bps);
	return 0;
}

static int update(struct supervisor *s, const struct attach_msg *msg, char *ret_text, size_t size)
{
	struct control_msg limits = { .type = CONTROL_LIMITS, .port = CONTROL_ALL_DISKS };
	struct attach_update wanted;
	int r;

	memset(&wanted, 0xff, sizeof(wanted)); /* MVM_KEEP */
	if (msg->hdr.len != sizeof(wanted) && msg->hdr.len != ATTACH_UPDATE_IO && msg->hdr.len != ATTACH_UPDATE_LEAST)
		return -EPROTO;
	memcpy(&wanted, msg->payload, msg->hdr.len);
	if (wanted.blk_iops != MVM_KEEP) {
		if (wanted.blk_iops > VMM_IOPS_MAX)
			return -ERANGE;
		limits.code |= CONTROL_LIMITS_IOPS;
		limits.id = (uint32_t)wanted.blk_iops;
	}
	if (wanted.blk_bps != MVM_KEEP) {
		if (wanted.blk_bps > VMM_BPS_MAX || (wanted.blk_bps && wanted.blk_bps < VMM_BPS_MIN))
			return -ERANGE;
		limits.code |= CONTROL_LIMITS_BPS;
		limits.arg = wanted.blk_bps;
	}
	if ((wanted.net_pps != MVM_KEEP && wanted.net_pps > VMM_PPS_MAX) ||
	    (wanted.net_bps != MVM_KEEP && wanted.net_bps &&
	     (wanted.net_bps > VMM_BPS_MAX || wanted.net_bps < VMM_BPS_MIN)))
		return -ERANGE;
	if (s->phase >= PHASE_STOP || s->vmm_control < 0) {
		(void)snprintf(ret_text, size, "%s", supervisor_state_text(s));
		return -ESHUTDOWN;
	}
	r = update_nets(s, wanted.net_pps, wanted.net_bps, ret_text, size);
	if (r < 0)
		return r;
	if (changes_io(wanted.io_max)) {
		r = supervisor_update_io(s, wanted.io_max, ret_text, size);
		if (r < 0)
			return r;
	}
	if (limits.code && send(s->vmm_control, &limits, sizeof(limits), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return -errno; /* EAGAIN: changed faster than the VMM reads */
	if (limits.code & CONTROL_LIMITS_IOPS)
		s->spec->blk_iops = wanted.blk_iops;
	if (limits.code & CONTROL_LIMITS_BPS)
		s->spec->blk_bps = wanted.blk_bps;
	supervisor_write_spec(s);
	if (limits.code)
		supervisor_log(s, MVM_LOG_INFO,
			       "disks: limits changed: %llu operations and %llu bytes a second (0: any)",
			       (unsigned long long)s->spec->blk_iops, (unsigned long long)s->spec->blk_bps);
	return 0;
}

uint32_t supervisor_attach_phase(const struct supervisor *s)
{
	return s->phase == PHASE_BOOT  ? ATTACH_BOOTING
	       : s->restarting         ? ATTACH_RESTARTING
	       : s->phase != PHASE_RUN ? ATTACH_ENDING
	       : s->paused             ? ATTACH_PAUSED
				       : ATTACH_RUNNING;
}

static void tell_status(const struct supervisor *s, int fd)
{
	const struct attach_status status = {
		.began_ns = s->stages[STAGE_COMMAND],
		.vmm_start = s->vmm_start,
		.restarts = s->restart.count,
		.vmm = s->phase < PHASE_OVER ? s->vmm_pid : 0,
		.phase = supervisor_attach_phase(s),
	};

	(void)attach_send(fd, ATTACH_ANSWER, 0, &status, sizeof(status));
}

static int stop(struct supervisor *s, const struct attach_msg *msg)
{
	struct attach_stop wanted;

	if (msg->hdr.len != sizeof(wanted))
		return -EPROTO;
	memcpy(&wanted, msg->payload, sizeof(wanted));
	supervisor_operator_asks(s, wanted.grace_ns < STOP_MOST_NS ? wanted.grace_ns : STOP_MOST_NS);
	return 0;
}

static int signal_workload(struct supervisor *s, const struct attach_msg *msg, char *ret_text, size_t size)
{
	struct attach_signal wanted;
	int r;

	if (msg->hdr.len != sizeof(wanted))
		return -EPROTO;
	memcpy(&wanted, msg->payload, sizeof(wanted));
	if (wanted.signo < 1 || wanted.signo > 64)
		return -EINVAL;
	if (wanted.signo == SIGKILL) {
		supervisor_operator_ends(s, "killed by the operator", true);
		return 0;
	}
	if (s->phase != PHASE_RUN) {
		(void)snprintf(ret_text, size, "its command is not running: %s", supervisor_state_text(s));
		return -ESRCH;
	}
	r = agent_session_signal(&s->agent, AGENT_SESSION_ID, wanted.signo);
	if (r == 0)
		(void)agent_session_flush(&s->agent); /* an agent that has gone shows at its own descriptor */
	return r;
}

static void answer(struct supervisor *s, unsigned i, const struct attach_msg *msg, int *fds, unsigned nfds)
{
	char text[512] = "";
	int fd = s->clients[i].fd, r = -ENOTSUP;

	bool command = msg->hdr.type == ATTACH_EXEC || msg->hdr.type == ATTACH_COPY;

	if ((msg->hdr.type == ATTACH_WAIT || msg->hdr.type == ATTACH_VIEW || command) && free_slots(s) < ATTACH_SPARE) {
		(void)snprintf(text, sizeof(text), "as many wait for this VM, or run commands in it, as may");
		(void)attach_send(fd, ATTACH_ANSWER, EBUSY, text, strlen(text));
		return;
	}
	if (msg->hdr.type == ATTACH_WAIT) {
		s->clients[i].kind = CLIENT_WAITS;
		s->clients[i].deadline_ns = UINT64_MAX;
		return;
	}
	if (command)
		r = supervisor_exec_start(s, i, msg, fds, nfds, text, sizeof(text));
	if (msg->hdr.type == ATTACH_VIEW)
		r = supervisor_view(s, i, msg, fds, nfds, text, sizeof(text));
	if (msg->hdr.type == ATTACH_TOP || msg->hdr.type == ATTACH_STATS)
		r = supervisor_ask_agent(s, i, msg->hdr.type == ATTACH_TOP, text, sizeof(text));
	if (msg->hdr.type == ATTACH_FLOWS)
		r = supervisor_ask_flows(s, i, text, sizeof(text));
	if (r > 0)
		return;
	if (msg->hdr.type == ATTACH_PAUSE || msg->hdr.type == ATTACH_RESUME)
		r = supervisor_pause(s, msg->hdr.type == ATTACH_PAUSE, text, sizeof(text));
	if (msg->hdr.type == ATTACH_STOP)
		r = stop(s, msg);
	if (msg->hdr.type == ATTACH_SIGNAL)
		r = signal_workload(s, msg, text, sizeof(text));

	if (msg->hdr.type == ATTACH_STATUS) {
		tell_status(s, fd);
		return;
	}
	if (msg->hdr.type == ATTACH_METRICS) {
		supervisor_metrics(s, fd);
		return;
	}
	if (msg->hdr.type == ATTACH_UPDATE)
		r = update(s, msg, text, sizeof(text));
	supervisor_event_asked(s, i, msg, r);
	if (r < 0 && !*text)
		(void)snprintf(text, sizeof(text), "refused: %s", strerror(-r));
	(void)attach_send(fd, ATTACH_ANSWER, -r, text, strlen(text)); /* one that does not read misses it */
}

static void on_client(struct supervisor *s, unsigned i, uint64_t now)
{
	int fds[ATTACH_FDS_MAX] = { -1, -1, -1, -1 };
	struct attach_msg msg;
	unsigned nfds = 0;
	int r;

	if (s->clients[i].kind == CLIENT_RUNS) {
		supervisor_exec_client(s, i);
		return;
	}
	if (s->clients[i].kind == CLIENT_VIEWS) {
		supervisor_viewer_speaks(s, i);
		return;
	}
	r = attach_receive_with(s->clients[i].fd, &msg, fds, &nfds);

	if (r > 0) {
		s->clients[i].deadline_ns = now + ATTACH_SILENCE_NS; /* unless it is to wait */
		answer(s, i, &msg, fds, nfds);
	} else if (r < 0) {
		if (r == -EPROTONOSUPPORT) /* in our version, from which the client learns the same */
			(void)attach_send(s->clients[i].fd, ATTACH_ANSWER, EPROTONOSUPPORT, NULL, 0);
		supervisor_drop_client(s, i);
	}
	for (unsigned n = 0; n < nfds; n++)
		cleanup_fd(&fds[n]);
}

/* ---- the loop's side ---- */

static int free_slot(const struct supervisor *s)
{
	for (unsigned i = 0; i < ATTACH_CLIENTS_MAX; i++)
		if (s->clients[i].fd < 0)
			return (int)i;
	return -1;
}

void supervisor_attach_prepare(const struct supervisor *s, struct pollfd fds[1 + ATTACH_CLIENTS_MAX])
{
	bool open = free_slot(s) >= 0 && (!s->attach_retry_ns || text_now_ns() >= s->attach_retry_ns);

	fds[0] = (struct pollfd){ .fd = open ? s->attach_listener : -1, .events = POLLIN };
	for (unsigned i = 0; i < ATTACH_CLIENTS_MAX; i++)
		fds[1 + i] = (struct pollfd){ .fd = s->clients[i].fd, .events = POLLIN };
}

void supervisor_attach_run(struct supervisor *s, const struct pollfd fds[1 + ATTACH_CLIENTS_MAX], uint64_t now)
{
	struct attach_peer refused;
	int slot, fd, r;

	for (unsigned i = 0; i < ATTACH_CLIENTS_MAX; i++) {
		if (s->clients[i].fd >= 0 && s->clients[i].fd == fds[1 + i].fd && fds[1 + i].revents)
			on_client(s, i, now);
		if (s->clients[i].fd >= 0 && now >= s->clients[i].deadline_ns) {
			supervisor_numbers_late(s, i);
			supervisor_drop_client(s, i);
		}
	}
	slot = free_slot(s);
	if (!fds[0].revents || slot < 0 || s->attach_listener < 0)
		return;
	r = attach_accept(s->attach_listener, &fd, &refused);
	if (r > 0) {
		s->clients[slot].fd = fd;
		s->clients[slot].kind = CLIENT_ASKS;
		s->clients[slot].deadline_ns = now + ATTACH_SILENCE_NS;
	} else if (r == -EPERM) {
		supervisor_event_client_refused(s, &refused);
	} else if (r < 0) {
		/* EMFILE and its like would come again at once. */
		supervisor_log(s, MVM_LOG_WARNING, "control socket: %s: tried again in a second", strerror(-r));
		s->attach_retry_ns = now + ATTACH_RETRY_NS;
	}
}

uint64_t supervisor_attach_deadline(const struct supervisor *s)
{
	uint64_t first = s->attach_retry_ns > text_now_ns() ? s->attach_retry_ns : UINT64_MAX;

	for (unsigned i = 0; i < ATTACH_CLIENTS_MAX; i++)
		if (s->clients[i].fd >= 0 && s->clients[i].deadline_ns < first)
			first = s->clients[i].deadline_ns;
	return first;
}
