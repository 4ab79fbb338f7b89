/* How a run is brought to its end and what is said of it. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail/hooks.h"
#include "lib/supervisor.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define DIGEST_GRACE_NS 60000000000ULL /* for hashing after the end; an image may be any size */
#define STOP_GRACE_NS   10000000000ULL /* a VMM told to stop finishes its requests and exits; a host may be busy */
#define HURRY_GRACE_NS  2000000000ULL /* … where its end changes no verdict any more */

void supervisor_kill(struct supervisor *s)
{
	if (s->phase >= PHASE_KILL)
		return;
	s->phase = PHASE_KILL;
	s->phase_deadline = UINT64_MAX;
	s->facts.killed_by_us = true;
	if (syscall(SYS_pidfd_send_signal, s->vmm_pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		supervisor_log(s, MVM_LOG_ERROR, "mvm-vmm: cannot be killed: %s", strerror(errno));
	cgroup_lift_io(&s->jail.cgroup, &s->jail.options.io); /* after the signal: the guest gains nothing by it */
}

void supervisor_vmm_broke(struct supervisor *s, const char *how)
{
	if (s->phase >= PHASE_KILL)
		return;
	if (!s->facts.vmm_broke) {
		(void)snprintf(s->text_broke, sizeof(s->text_broke), "%s", how);
		s->facts.vmm_broke = s->text_broke;
		supervisor_event_violation(s, "vmm", how);
	}
	supervisor_kill(s);
}

/* A VM that is to end goes on first. */
static void go_on(struct supervisor *s)
{
	if (s->paused)
		(void)syscall(SYS_pidfd_send_signal, s->vmm_pidfd, SIGCONT, NULL, 0);
	s->paused = false;
}

void supervisor_stop(struct supervisor *s)
{
	struct control_msg msg = { .type = CONTROL_STOP };

	if (s->phase >= PHASE_STOP)
		return;
	go_on(s);
	cgroup_lift_io(&s->jail.cgroup,
		       &s->jail.options.io); /* a request that waits for its turn would hold the end up */
	s->phase = PHASE_STOP;
	s->stages[STAGE_STOPPED] = text_now_ns();
	hooks_stage("stopping");
	s->phase_deadline = s->stages[STAGE_STOPPED] + (s->hurried ? HURRY_GRACE_NS : STOP_GRACE_NS);
	s->facts.stop_sent = true;
	/* After a regular exit only the reader of the output can hold the VMM up. */
	s->waiting_for_output = (s->facts.exited || s->facts.failed) && s->session >= 0 && !s->hurried;
	if (send(s->vmm_control, &msg, sizeof(msg), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EAGAIN)
		supervisor_vmm_broke(s, "the VMM does not read its control socket");
	/* EPIPE: it is ending already; the grace bounds how long that may take. */
}

void supervisor_shut_down(struct supervisor *s, uint64_t grace_ns)
{
	if (s->phase >= PHASE_SYNC)
		return;
	go_on(s);
	if (s->agent.fd < 0 || !(s->agent.seen & AGENT_SEEN_HELLO) || agent_session_shutdown(&s->agent) < 0) {
		supervisor_stop(s);
		return;
	}
	s->phase = PHASE_SYNC;
	s->phase_deadline = text_now_ns() + grace_ns;
	if (agent_session_flush(&s->agent) < 0)
		supervisor_stop(s);
}

/*
 * A time-out, the operator or a signal ends what is under way already, too: a reader that does not read, a guest
 * that syncs for ever, a VMM that does not stop. Call it before supervisor_shut_down().
 */
void supervisor_hurry(struct supervisor *s, uint64_t grace_ns)
{
	uint64_t deadline = text_now_ns() + grace_ns;

	s->hurried = true;
	s->waiting_for_output = false;
	if ((s->phase == PHASE_SYNC || s->phase == PHASE_STOP) && deadline < s->phase_deadline)
		s->phase_deadline = deadline;
}

/* Whether somebody wants the end now, by a signal to us, a word of the caller's, or the caller's own end. */
static bool told_to_end(struct supervisor *s)
{
	struct pollfd signals = { .fd = s->signals, .events = POLLIN };
	struct session_msg msg;
	int r = 0;

	while (s->session >= 0 && (r = session_receive(s->session, &msg)) > 0)
		if (msg.type == SESSION_STOP || msg.type == SESSION_KILL ||
		    (msg.type == SESSION_SIGNAL && msg.code != SIGUSR1 && msg.code != SIGUSR2))
			return true;
	return r < 0 || poll(&signals, 1, 0) > 0;
}

/*
 * The run is over, but hashing takes its time, or a reader: until `until`, or until something happens, others are served as
 * before. Whoever wants the end now is not kept waiting for either.
 */
void supervisor_meanwhile(struct supervisor *s, uint64_t until)
{
	struct pollfd fds[2 + VIEWER_SLOTS + 1 + ATTACH_CLIENTS_MAX];
	struct pollfd *viewers = fds + 2, *others = viewers + VIEWER_SLOTS;
	uint64_t now = text_now_ns(), first = supervisor_attach_deadline(s), next = first < until ? first : until;

	/* Signals stay where they are, for supervisor_restart(). */
	fds[0] = (struct pollfd){ .fd = s->hurried ? -1 : s->signals, .events = POLLIN };
	fds[1] = (struct pollfd){ .fd = s->hurried ? -1 : s->session, .events = POLLIN };
	supervisor_viewers_prepare(s, viewers);
	supervisor_attach_prepare(s, others);
	if (poll(fds, sizeof(fds) / sizeof(fds[0]), next > now ? (int)((next - now + 999999) / 1000000) : 0) < 0)
		return; /* EINTR; ENOMEM, and what is waited for has its own bound */
	if (!s->hurried && told_to_end(s))
		supervisor_hurry(s, 0);
	supervisor_viewers_run(s, viewers, text_now_ns());
	supervisor_attach_run(s, others, text_now_ns());
}

/*
 * Nothing else is left to do but to hash, and the receipt owes the digests. Whoever wants the end now, and the
 * deadline, leaves a digest out (null) rather than hold the end up.
 */
static void finish_digests(struct supervisor *s)
{
	uint64_t deadline = text_now_ns() + DIGEST_GRACE_NS;

	while (receipt_digests_step(s->digests)) {
		if (s->hurried || text_now_ns() > deadline)
			return;
		supervisor_meanwhile(s, 0);
	}
}

static void write_receipt(struct supervisor *s, const struct verdict *verdict)
{
	struct counters counters = { 0 };
	struct receipt receipt = {
		.id = s->state.id,
		.spec = s->spec,
		.verdict = verdict,
		.began_ns = supervisor_realtime(s->stages[STAGE_COMMAND]),
		.ended_ns = supervisor_realtime(s->stages[STAGE_ENDED]),
		.files = &s->files,
		.digests = s->digests,
		.agent_version = s->agent_version[0] ? s->agent_version : NULL,
		.started = s->agent.seen & AGENT_SEEN_STARTED ? &s->started : NULL,
		.exited = s->facts.exited ? &s->exited : NULL,
		.broker = &s->broker,
		.publish = &s->publish,
		.udp = &s->udp,
		.net = &s->net,
		.capture = s->capture,
		.jail = s->vmm_pid > 0 ? &s->jail : NULL,
		.used = s->vmm_pid > 0 ? &s->used : NULL,
		.counters = s->vmm_pid > 0 ? &counters : NULL,
	};
	_cleanup_free_ char *text = NULL;
	struct mvm_error err;
	char name[32];

	finish_digests(s);
	if (s->counters)
		counters_copy(s->counters, &counters);
	memcpy(receipt.stages, s->stages, sizeof(receipt.stages));
	text = receipt_text(&receipt);
	(void)snprintf(name, sizeof(name), "%d", getpid());
	if (!text)
		supervisor_log(s, MVM_LOG_ERROR, "--receipt: %s: out of memory", s->receipt.path);
	else if (receipt_write(&s->receipt, s->state.id[0] ? s->state.id : name, text, s->sign, &err) < 0)
		supervisor_log(s, MVM_LOG_ERROR, "%s", err.text);
}

/* The result must arrive, however far behind with the log lines its reader is. */
static void send_result(struct supervisor *s, const struct verdict *verdict)
{
	struct pollfd room = { .fd = s->session, .events = POLLOUT };

	if (s->logs_lost)
		(void)session_send(s->session, SESSION_LOG, MVM_LOG_WARNING, 0,
				   "some log lines were lost: nobody read them");
	while (session_send(s->session, SESSION_ENDED, verdict->status, verdict->kind, verdict->cause) == -EAGAIN)
		if (poll(&room, 1, -1) < 0 && errno != EINTR)
			return;
}

/* Once, with the numbers: each port had its own line when it was first dialled. */
static void tell_refused(struct supervisor *s)
{
	const struct broker *broker = &s->broker;
	char text[256] = "";
	size_t len = 0;

	if (!broker->refused)
		return;
	for (unsigned i = 0; i < broker->nrefused && len < sizeof(text) - 48; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%u (%llu)", i ? ", " : "",
					broker->refused_ports[i].port,
					(unsigned long long)broker->refused_ports[i].times);
	supervisor_log(s, MVM_LOG_INFO,
		       "vsock: %llu connections to host ports that may not be dialled were refused: %s",
		       (unsigned long long)broker->refused, text);
}

/*
 * A VM with a name, that ran, stays as a record that it can be started from again. What of any VM could not be removed
 * (a cgroup) is left as a crash leaves it, for the next command to reclaim: the folder names it.
 */
static void leave_folder(struct supervisor *s, const struct verdict *verdict)
{
	_cleanup_free_ char *text = NULL;
	struct mvm_error err;

	if (s->state.fd >= 0 && s->spec->name && !s->spec->remove &&
	    (s->vmm_pid > 0 || s->started_told || *s->start.again))
		text = supervisor_record(s, verdict);
	if (text)
		state_dir_keep(&s->state, text, &err);
	else
		state_dir_remove(&s->state);
}

void supervisor_finish(struct supervisor *s)
{
	tell_refused(s);
	publish_forget(&s->publish);
	if (s->restart.when == RESTART_NO ||
	    s->restart.off) /* else who comes meanwhile may be served by the next run */
		publish_close(&s->publish);
	supervisor_net_ended(s);
	supervisor_capture_ended(s);
	s->stages[STAGE_ENDED] = text_now_ns();
	hooks_stage("ended");
	verdict_decide(&s->facts, &s->verdict);
	/* A run that was refused for its key's sake has none: what is not signed does not pose as it. */
	if (s->receipt.path && (s->sign || !s->spec->sign))
		write_receipt(s, &s->verdict);
	broker_close(&s->broker);
	supervisor_output_close(s);
	supervisor_event_ended(s, &s->verdict);
	for (unsigned i = 0; i < MVM_STREAMS; i++) {
		cleanup_fd(&s->streams[i]);
		s->streams[i] = -1;
	}
	vm_files_close(&s->files);
	net_user_close(&s->net);
	publish_udp_close(&s->udp);
	cgroup_free(&s->parts);
	hooks_stage("jail-left");
	jail_free(&s->jail);
	hooks_stage("jail-gone");
	agent_session_close(&s->agent);
	receipt_digests_free(s->digests);
	broker_free(&s->broker);
	receipt_close(&s->receipt);
	if (s->counters)
		(void)munmap((void *)(uintptr_t)s->counters, sizeof(*s->counters));
	s->counters = NULL;
	cleanup_fd(&s->vmm_control);
	cleanup_fd(&s->vmm_log);
	cleanup_fd(&s->vmm_pidfd);
	s->vmm_control = s->vmm_log = s->vmm_pidfd = -1;
}

/* In this order: when anybody hears of the end, nothing of the VM is left. */
void supervisor_report(struct supervisor *s)
{
	publish_close(&s->publish);
	capture_free(s->capture);
	s->capture = NULL;
	supervisor_log_close(s);
	leave_folder(s, &s->verdict);
	hooks_stage("folder-left");
	supervisor_exec_close(s, &s->verdict);
	supervisor_viewers_close(s, &s->verdict);
	supervisor_attach_close(s, &s->verdict);
	if (s->session >= 0)
		send_result(s, &s->verdict);
}
