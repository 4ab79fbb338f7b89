/*
 * The supervisor's event loop: a few descriptors, so poll() with computed deadlines; it
 * needs no set-up calls on the way to the workload's first byte.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/supervisor.h"
#include "lib/text.h"

#define NS_PER_S         1000000000ULL
#define END_GRACE_NS     (2 * NS_PER_S)
#define VIEWERS_GRACE_NS (60 * NS_PER_S) /* from CONTROL_STOP on, for all of them together */
#define CONTROL_BATCH    16U
#define CONTROL_BURST    256U /* messages at once; a guest that dials like mad makes them */
#define CONTROL_RATE     1000U /* messages a second after that */
#define LAST_LOG_READS   64U
#define LOG_BURST        65536U /* bytes of log at once: a pipe full */
#define LOG_RATE         262144U /* bytes a second after that; what is not read fills the VMM's pipe, and no more */

enum slot {
	SLOT_SESSION,
	SLOT_CONTROL,
	SLOT_AGENT,
	SLOT_LOG,
	SLOT_PROCESS,
	SLOT_SIGNALS,
	SLOT_NET,
	SLOT_CAPTURE = SLOT_NET + NET_USER_LINKS,
	SLOT_DIALS, /* BROKER_PENDING_MAX of them */
	SLOT_OUTPUTS = SLOT_DIALS + BROKER_PENDING_MAX,
	SLOT_VIEWERS = SLOT_OUTPUTS + SUPERVISOR_OUTPUTS,
	SLOT_ATTACH = SLOT_VIEWERS + VIEWER_SLOTS, /* the listening socket, then its clients */
	SLOT_PUBLISH = SLOT_ATTACH + 1 + ATTACH_CLIENTS_MAX,
	SLOTS = SLOT_PUBLISH + PUBLISH_SLOTS
};

/* Refills the control socket's tokens. 0 left: the VMM waits, and its own socket buffer bounds it. */
static unsigned control_tokens(struct supervisor *s, uint64_t now)
{
	uint64_t refill = (now - s->control_refilled_ns) / (NS_PER_S / CONTROL_RATE);

	if (refill) {
		s->control_used = refill >= s->control_used ? 0 : s->control_used - refill;
		s->control_refilled_ns = now;
	}
	return s->control_used >= CONTROL_BURST ? 0 : (unsigned)(CONTROL_BURST - s->control_used);
}

/* The same for the bytes of its log: reading and cutting what a flood brings is work, too. */
static bool log_allowed(struct supervisor *s, uint64_t now)
{
	uint64_t refill = (now - s->log_refilled_ns) / (NS_PER_S / LOG_RATE);

	if (refill) {
		s->log_used = refill >= s->log_used ? 0 : s->log_used - refill;
		s->log_refilled_ns = now;
	}
	return s->log_used < LOG_BURST;
}

/* A command that somebody started in it, and a pause, which is somebody's will, are no idleness. */
static void look_whether_idle(struct supervisor *s, uint64_t now)
{
	bool busy = s->paused;

	for (unsigned i = 0; i < ATTACH_CLIENTS_MAX; i++)
		busy |= s->clients[i].fd >= 0 && s->clients[i].kind == CLIENT_RUNS;
	if (!idle_look(&s->idle, now, supervisor_cpu_time(s),
		       s->stream_bytes + supervisor_publish_bytes(s) + supervisor_proxy_bytes(s), busy))
		return;
	s->facts.idle_timed_out = !s->facts.operator_why && !s->facts.timed_out;
	supervisor_hurry(s, END_GRACE_NS);
	supervisor_shut_down(s, END_GRACE_NS);
}

static void on_deadlines(struct supervisor *s, uint64_t now)
{
	if (now >= s->idle.next_ns && s->phase == PHASE_RUN)
		look_whether_idle(s, now);
	if (now >= s->run_deadline) {
		s->run_deadline = UINT64_MAX;
		/* Output that was not read in time is part of the run. */
		s->facts.timed_out = (!s->facts.exited && !s->facts.failed) || s->waiting_for_output;
		supervisor_hurry(s, END_GRACE_NS);
		supervisor_shut_down(s, END_GRACE_NS);
	}
	if (now >= s->boot_deadline) {
		s->boot_deadline = UINT64_MAX;
		s->facts.boot_timed_out = s->phase == PHASE_BOOT && !s->facts.timed_out && !s->facts.operator_why;
		if (s->facts.boot_timed_out)
			supervisor_hurry(s, END_GRACE_NS);
		supervisor_shut_down(s, END_GRACE_NS);
	}
	if (now >= s->stop_deadline) {
		s->stop_deadline = UINT64_MAX;
		s->facts.operator_why = "stopped by the operator, and killed when it did not end by itself";
		supervisor_operator_ends(s, s->facts.operator_why, false);
	}
	if (now < s->phase_deadline)
		return;
	s->phase_deadline = UINT64_MAX;
	if (s->phase == PHASE_SYNC) {
		if (s->facts.exited || s->facts.failed)
			supervisor_log(s, MVM_LOG_WARNING, "the guest did not finish syncing its file systems");
		supervisor_stop(s);
	} else if (s->phase == PHASE_STOP && s->waiting_for_output && s->session >= 0) {
		/* No deadline until it answers: a caller that was suspended answers later. */
		if (session_send(s->session, SESSION_ASK_BUSY, 0, 0, NULL) == -EAGAIN)
			s->phase_deadline = now + NS_PER_S;
	} else if (s->phase == PHASE_STOP && !s->hurried && supervisor_viewers_behind(s) &&
		   now < s->stages[STAGE_STOPPED] + VIEWERS_GRACE_NS) {
		s->phase_deadline = now + NS_PER_S; /* the VMM waits for them, who have their own bound */
	} else if (s->phase == PHASE_STOP) {
		/* After a host's verdict, or its own last word, a VMM that will not end changes nothing but the way. */
		if (s->hurried || s->facts.vmm_ended)
			supervisor_kill(s);
		else
			supervisor_vmm_broke(s, "the VMM did not end when told to");
	}
}

static void on_signal(struct supervisor *s)
{
	struct signalfd_siginfo info;

	if (read(s->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	supervisor_event_signalled(s, &info);
	s->restart.off = true;
	if (!s->facts.operator_why)
		s->facts.operator_why = "the supervisor was told to end by a signal";
	supervisor_hurry(s, END_GRACE_NS);
	supervisor_shut_down(s, END_GRACE_NS);
}

static uint64_t ns_of(struct timeval t)
{
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_usec * 1000U;
}

static void note_used(struct supervisor *s, const struct rusage *used)
{
	uint64_t now, max;

	s->used = (struct receipt_used){
		.wall_ns = text_now_ns() - s->stages[STAGE_VMM_SPAWNED],
		.cpu_user_ns = ns_of(used->ru_utime),
		.cpu_sys_ns = ns_of(used->ru_stime),
		.rss_peak = (uint64_t)used->ru_maxrss << 10,
		.blocks_in = (uint64_t)used->ru_inblock,
		.blocks_out = (uint64_t)used->ru_oublock,
	};
	cgroup_memory(&s->jail.cgroup, &now, &s->used.memory_peak, &max);
}

/* Which disk the host had no room for most often, by its file's name. */
static void note_full(struct supervisor *s)
{
	struct counters counters;
	uint64_t most = 0;

	if (!s->counters)
		return;
	counters_copy(s->counters, &counters);
	for (size_t i = 0; i <= s->spec->ndisks; i++) {
		if (counters.disks[i].no_space <= most)
			continue;
		most = counters.disks[i].no_space;
		s->facts.full = i ? s->spec->disks[i - 1].file : s->spec->rootfs;
	}
}

/* The VMM's process is gone: what it and the agent had said before is read, then it is over. */
static void on_process(struct supervisor *s)
{
	siginfo_t info = { 0 };
	struct rusage used = { 0 };

	/* The bare call: waitid(3) keeps to itself what the process used. */
	while (syscall(SYS_waitid, P_PIDFD, s->vmm_pidfd, &info, WEXITED, &used) < 0 && errno == EINTR)
		;
	note_used(s, &used);
	supervisor_on_control(s, CONTROL_BURST + CONTROL_CONNS_MAX); /* its last word behind all that it may say */
	if (s->agent.fd >= 0)
		supervisor_on_agent(s);
	for (unsigned i = 0; i < LAST_LOG_READS && s->vmm_log >= 0; i++)
		supervisor_on_log(s);
	s->facts.vmm_waited = true;
	s->facts.vmm_code = info.si_code;
	s->facts.vmm_status = info.si_status;
	s->facts.host_oom = cgroup_oom_kills(&s->jail.cgroup) > 0;
	note_full(s);
	if (info.si_code != CLD_EXITED && info.si_status == SIGSYS) {
		killed_call_name("/dev/kmsg", s->vmm_pid, s->killed_call);
		s->facts.killed_call = s->killed_call;
	}
	/* Killed, but not by the time it had ended by itself. */
	if (info.si_code == CLD_EXITED)
		s->facts.killed_by_us = false;
	s->phase = PHASE_OVER;
}

/* Milliseconds until something is due: 0 while there is hashing to do meanwhile. */
static int wait_time(const struct supervisor *s, uint64_t now, bool throttled)
{
	uint64_t next = s->run_deadline < s->boot_deadline ? s->run_deadline : s->boot_deadline;

	if (receipt_digests_pending(s->digests))
		return 0;
	if (s->phase_deadline < next)
		next = s->phase_deadline;
	if (s->stop_deadline < next)
		next = s->stop_deadline;
	if (broker_deadline(&s->broker) < next)
		next = broker_deadline(&s->broker);
	if (supervisor_attach_deadline(s) < next)
		next = supervisor_attach_deadline(s);
	if (supervisor_viewers_deadline(s) < next)
		next = supervisor_viewers_deadline(s);
	if (supervisor_publish_deadline(s) < next)
		next = supervisor_publish_deadline(s);
	if (s->idle.next_ns < next && s->phase == PHASE_RUN)
		next = s->idle.next_ns;
	if (throttled && next > now + NS_PER_S / 100)
		next = now + NS_PER_S / 100;
	if (next == UINT64_MAX)
		return -1;
	if (next <= now)
		return 0;
	next = (next - now + 999999) / 1000000;
	return next > 3600000 ? 3600000 : (int)next;
}

static void prepare(const struct supervisor *s, uint64_t now, bool throttled, bool log, bool output,
		    struct pollfd fds[SLOTS])
{
	fds[SLOT_SESSION] = (struct pollfd){ .fd = s->session, .events = POLLIN };
	fds[SLOT_CONTROL] = (struct pollfd){ .fd = throttled ? -1 : s->vmm_control, .events = POLLIN };
	if (s->publish_full)
		fds[SLOT_CONTROL].events |= POLLOUT;
	fds[SLOT_AGENT] = (struct pollfd){ .fd = s->agent.fd, .events = POLLIN };
	if (s->agent.out_pos < s->agent.out.len)
		fds[SLOT_AGENT].events |= POLLOUT;
	fds[SLOT_LOG] = (struct pollfd){ .fd = log ? s->vmm_log : -1, .events = POLLIN };
	fds[SLOT_PROCESS] = (struct pollfd){ .fd = s->vmm_pidfd, .events = POLLIN };
	fds[SLOT_SIGNALS] = (struct pollfd){ .fd = s->signals, .events = POLLIN };
	for (unsigned i = 0; i < NET_USER_LINKS; i++)
		fds[SLOT_NET + i] = (struct pollfd){ .fd = s->net.links[i].fd, .events = POLLIN };
	fds[SLOT_CAPTURE] = (struct pollfd){ .fd = s->capture ? s->capture->socket : -1, .events = POLLIN };
	broker_prepare(&s->broker, fds + SLOT_DIALS);
	supervisor_output_prepare(s, output, fds + SLOT_OUTPUTS);
	supervisor_viewers_prepare(s, fds + SLOT_VIEWERS);
	supervisor_attach_prepare(s, fds + SLOT_ATTACH);
	supervisor_publish_prepare(s, now, fds + SLOT_PUBLISH);
}

static void dispatch(struct supervisor *s, const struct pollfd fds[SLOTS], unsigned tokens)
{
	if (fds[SLOT_SESSION].revents)
		supervisor_on_session(s);
	if (fds[SLOT_CONTROL].revents & POLLOUT)
		s->publish_full = false;
	if (fds[SLOT_CONTROL].revents)
		supervisor_on_control(s, tokens < CONTROL_BATCH ? tokens : CONTROL_BATCH);
	if (fds[SLOT_AGENT].revents & POLLOUT && s->agent.fd >= 0)
		(void)agent_session_flush(&s->agent); /* an agent that has gone shows as end-of-file */
	if (fds[SLOT_AGENT].revents & (POLLIN | POLLHUP | POLLERR) && s->agent.fd >= 0)
		supervisor_on_agent(s);
	if (fds[SLOT_LOG].revents && s->vmm_log >= 0)
		supervisor_on_log(s);
	supervisor_output_run(s, fds + SLOT_OUTPUTS);
	for (unsigned i = 0; i < NET_USER_LINKS; i++)
		if (fds[SLOT_NET + i].revents)
			supervisor_on_net(s, i);
	if (fds[SLOT_CAPTURE].revents)
		supervisor_on_capture(s);
	if (fds[SLOT_SIGNALS].revents)
		on_signal(s);
	if (fds[SLOT_PROCESS].revents)
		on_process(s);
}

void supervisor_loop(struct supervisor *s)
{
	struct pollfd fds[SLOTS];

	while (s->phase != PHASE_OVER) {
		uint64_t now = text_now_ns();
		unsigned tokens = control_tokens(s, now);
		bool log = log_allowed(s, now), output = supervisor_output_allowed(s, now);
		int n;

		prepare(s, now, !tokens, log, output, fds);
		n = poll(fds, SLOTS, wait_time(s, now, !tokens || !log || !output));
		if (n < 0 && errno != EINTR) {
			supervisor_vmm_broke(s,
					     strerror(errno)); /* ENOMEM; on_process() is reached by waiting itself */
			on_process(s);
			return;
		}
		if (s->broker.npending)
			supervisor_on_dials(s);
		if (n >= 0)
			supervisor_viewers_run(s, fds + SLOT_VIEWERS, text_now_ns());
		if (n >= 0)
			supervisor_attach_run(s, fds + SLOT_ATTACH, text_now_ns());
		if (n > 0)
			dispatch(s, fds, tokens);
		if (n >= 0)
			supervisor_publish_run(s, fds + SLOT_PUBLISH);
		if (s->phase != PHASE_OVER)
			on_deadlines(s, text_now_ns());
		if (n == 0)
			(void)receipt_digests_step(s->digests);
	}
}
