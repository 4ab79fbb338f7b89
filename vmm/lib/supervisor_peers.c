/* What the caller, the VMM and the agent say, and what follows. */
#include <errno.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "jail/hooks.h"
#include "lib/fdpass.h"
#include "lib/supervisor.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define NS_PER_S         1000000000ULL
#define GONE_GRACE_NS    (2 * NS_PER_S) /* after a time-out or the operator's word: sync, then the end */
#define SYNC_GRACE_NS    (10 * NS_PER_S)
#define SYNC_RW_GRACE_NS (120 * NS_PER_S) /* an image that is written to: a slow disk may have much to sync */
#define STARTED_MS       2000
#define LOG_BATCH        4096U /* bytes */

/* ---- the caller ---- */

const char *supervisor_state_text(const struct supervisor *s)
{
	if (s->restarting)
		return "the VM has ended and is to be started again: try again";
	if (s->phase < PHASE_RUN)
		return "the VM is booting";
	return s->paused ? "the VM is paused" : s->phase == PHASE_RUN ? "the VM is running" : "the VM is ending";
}

void supervisor_operator_ends(struct supervisor *s, const char *why, bool at_once)
{
	s->restart.off = true;
	if (!s->facts.operator_why && !s->facts.timed_out && !s->facts.boot_timed_out && !s->facts.idle_timed_out)
		s->facts.operator_why = why;
	supervisor_hurry(s, GONE_GRACE_NS);
	if (at_once)
		supervisor_kill(s);
	else
		supervisor_shut_down(s, GONE_GRACE_NS);
}

void supervisor_operator_asks(struct supervisor *s, uint64_t grace_ns)
{
	uint64_t deadline = text_now_ns() + grace_ns;

	s->restart.off = true;
	if (s->phase == PHASE_OVER)
		supervisor_hurry(s, 0); /* nothing is left to ask: what is still read or hashed is not waited for */
	if (s->phase >= PHASE_SYNC)
		return; /* it is ending already, and bounded */
	if (s->phase != PHASE_RUN || s->paused || !grace_ns ||
	    agent_session_signal(&s->agent, AGENT_SESSION_ID, SIGTERM) < 0) {
		supervisor_operator_ends(s, "stopped by the operator", false);
		return;
	}
	if (!s->facts.operator_why)
		s->facts.operator_why = "stopped by the operator";
	if (deadline < s->stop_deadline)
		s->stop_deadline = deadline;
	(void)agent_session_flush(&s->agent); /* an agent that has gone shows at its own descriptor */
}

static void on_signal(struct supervisor *s, int32_t signo)
{
	if (signo < 1 || signo > 64)
		return;
	if (agent_session_signal(&s->agent, AGENT_SESSION_ID, (uint32_t)signo) < 0)
		supervisor_log(s, MVM_LOG_WARNING, "signal %d: lost: the guest takes none", signo);
	else if (agent_session_flush(&s->agent) < 0)
		supervisor_log(s, MVM_LOG_INFO, "signal %d: the agent has gone", signo);
}

static void on_busy(struct supervisor *s, bool busy)
{
	if (s->phase != PHASE_STOP)
		return;
	s->idle_answers = busy ? 0 : s->idle_answers + 1;
	/* Twice, a second apart: the first may have crossed the last byte's way. */
	if (s->idle_answers >= 2)
		supervisor_vmm_broke(s, "the VMM did not end when told to");
	else
		s->phase_deadline = text_now_ns() + NS_PER_S;
}

/* The VM's watchdog barks when no answer comes. One that is paused or ending is bounded by others. */
static void on_ping(struct supervisor *s)
{
	struct control_msg msg = { .type = CONTROL_PING, .id = s->ping + 1 };

	if (s->paused || s->phase >= PHASE_SYNC || s->vmm_control < 0) {
		(void)session_send(s->session, SESSION_PONG, 0, 0, NULL);
		return;
	}
	if (s->pinged || send(s->vmm_control, &msg, sizeof(msg), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return;
	s->ping++;
	s->pinged = true;
}

static void on_pong(struct supervisor *s, const struct control_msg *msg)
{
	if (!s->pinged || msg->id != s->ping) {
		supervisor_vmm_broke(s, "the VMM answered what it was not asked");
		return;
	}
	s->pinged = false;
	if (s->session >= 0)
		(void)session_send(s->session, SESSION_PONG, 0, 0, NULL);
}

void supervisor_caller_says(struct supervisor *s, const struct session_msg *msg, int fd)
{
	switch (msg->type) {
	case SESSION_SIGNAL:
		on_signal(s, msg->code);
		break;
	case SESSION_RESIZE:
		if (agent_session_resize(&s->agent, AGENT_SESSION_ID, (uint16_t)(msg->code >> 16),
					 (uint16_t)(msg->code & 0xffff)) == 0)
			(void)agent_session_flush(&s->agent); /* an agent that has gone shows at its own descriptor */
		break;
	case SESSION_STOP:
		supervisor_event_caller(s, EVENT_STOP, fd, 0);
		supervisor_operator_ends(s, "stopped by the operator", false);
		break;
	case SESSION_KILL:
		supervisor_event_caller(s, EVENT_KILL, fd, 0);
		supervisor_operator_ends(s, "killed by the operator", true);
		break;
	case SESSION_PING:
		on_ping(s);
		break;
	case SESSION_ACTIVE:
		s->stream_bytes++;
		break;
	case SESSION_BUSY:
		on_busy(s, msg->code != 0);
		break;
	default:
		supervisor_log(s, MVM_LOG_WARNING, "session: unknown message %u", msg->type);
		break;
	}
}

void supervisor_on_session(struct supervisor *s)
{
	struct session_msg msg;
	int r = session_receive(s->session, &msg);

	if (r < 0) {
		(void)close(s->session);
		s->session = -1;
		if (s->log && s->started_told)
			return; /* it was told that the VM runs, and left it to itself */
		supervisor_operator_ends(s, "the command that the run belongs to has gone", false);
		return;
	}
	if (r > 0)
		supervisor_caller_says(s, &msg, s->session);
}

/* ---- the VMM ---- */

int supervisor_tell_vmm(struct supervisor *s, const struct control_msg *what, int fd)
{
	return fdpass_send(s->vmm_control, what, sizeof(*what), &fd, fd >= 0, MSG_DONTWAIT);
}

/* Grant or refusal; `tell` bounds the lines: a guest can cause any number of either. */
static void answer_dial(struct supervisor *s, const struct broker_answer *answer)
{
	_cleanup_fd_ int fd = answer->fd;
	struct control_msg msg = { .id = answer->id, .port = answer->port, .code = (uint32_t)answer->error };
	int r;

	msg.type = fd >= 0 ? CONTROL_DIALLED : CONTROL_REFUSED;
	if (answer->tell && answer->channel)
		supervisor_log(s, MVM_LOG_WARNING, "vsock: port %u: %s: %s", answer->port, answer->channel->target,
			       strerror(answer->error));
	else if (answer->tell)
		supervisor_log(
			s, MVM_LOG_WARNING, "vsock: the guest dialled host port %u, which it may not%s", answer->port,
			answer->port > PROTO_PORT && answer->port < PROTO_PORT_STREAM ? ": see --allow-port" : "");
	if (answer->tell)
		supervisor_event_port(s, answer);
	/* It may have at most CONTROL_DIALS_MAX questions open, whose answers fit into the socket many times over. */
	r = supervisor_tell_vmm(s, &msg, fd);
	if (r < 0 && r != -EAGAIN && fd >= 0) { /* too many descriptors are on their way, or no memory for one */
		msg.type = CONTROL_REFUSED;
		msg.code = (uint32_t)-r;
		r = supervisor_tell_vmm(s, &msg, -1);
	}
	if (r == -EAGAIN)
		supervisor_vmm_broke(s, "the VMM does not read its control socket");
}

void supervisor_on_dials(struct supervisor *s)
{
	struct broker_answer answer;

	while (s->vmm_control >= 0 && broker_next(&s->broker, text_now_ns(), &answer))
		answer_dial(s, &answer);
}

static void on_dial(struct supervisor *s, const struct control_msg *msg)
{
	struct broker_answer answer;

	if (broker_dial(&s->broker, msg->id, msg->port, text_now_ns(), &answer))
		answer_dial(s, &answer);
}

/* It costs the VMM nothing of what it may say: there are no more of these than it was given connections. */
static void on_closed(struct supervisor *s, const struct control_msg *msg)
{
	if (publish_closed(&s->publish, msg->id) < 0)
		supervisor_vmm_broke(s, "the VMM closed a connection that it was not given");
	else
		s->control_used--;
}

static void on_ended(struct supervisor *s, const struct control_msg *msg)
{
	if (s->facts.vmm_ended) {
		supervisor_vmm_broke(s, "the VMM ended twice");
		return;
	}
	s->facts.vmm_ended = true;
	s->facts.end = msg->code;
	supervisor_stop(s); /* its process is to end by itself within the grace */
	s->waiting_for_output = false; /* all was delivered before it said so */
}

void supervisor_on_control(struct supervisor *s, unsigned at_most)
{
	char datagram[sizeof(struct control_msg) + 1]; /* one byte more than allowed shows what is too long */

	while (at_most-- && s->vmm_control >= 0 && s->phase < PHASE_OVER) {
		struct control_msg msg;
		ssize_t n = recv(s->vmm_control, datagram, sizeof(datagram), MSG_DONTWAIT);

		/* It ended with an answer of ours unread: told before what it had said itself (unix(7)), and once. */
		if (n < 0 && errno == ECONNRESET)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			/* End-of-file (an empty datagram is as good as one): its process has a grace to end, too. */
			(void)close(s->vmm_control);
			s->vmm_control = -1;
			broker_cancel(&s->broker);
			supervisor_stop(s);
			return;
		}
		s->control_used++;
		hooks_stage("vmm-spoke");
		if (control_from_vmm(datagram, (size_t)n, &msg) < 0) {
			supervisor_vmm_broke(s, "the VMM broke the control protocol");
			return;
		}
		if (msg.type == CONTROL_RUNNING && s->stages[STAGE_VMM_RUNNING])
			supervisor_vmm_broke(s, "the VMM started twice");
		else if (msg.type == CONTROL_RUNNING)
			s->stages[STAGE_VMM_RUNNING] = text_now_ns();
		else if (msg.type == CONTROL_DIAL)
			on_dial(s, &msg);
		else if (msg.type == CONTROL_PONG)
			on_pong(s, &msg);
		else if (msg.type == CONTROL_CLOSED)
			on_closed(s, &msg);
		else
			on_ended(s, &msg);
	}
}

/* ---- the agent ---- */

static bool writes_disks(const struct supervisor *s)
{
	bool writes = s->spec->rw;

	for (size_t i = 0; i < s->spec->ndisks; i++)
		writes |= !s->spec->disks[i].ro;
	return writes;
}

/* The workload is over. Where nothing on the host was writable there is nothing to sync either. */
static void workload_over(struct supervisor *s)
{
	s->stages[STAGE_EXITED] = text_now_ns();
	hooks_stage("exited");
	if (writes_disks(s))
		supervisor_shut_down(s, SYNC_RW_GRACE_NS);
	else
		supervisor_stop(s);
}

static void agent_broke(struct supervisor *s, const char *how)
{
	if (!s->facts.agent_error) {
		(void)snprintf(s->text_agent, sizeof(s->text_agent), "%s", how);
		s->facts.agent_error = s->text_agent;
	}
	agent_session_close(&s->agent);
	/* A panic is under way, most likely: pid 1 is gone. The VMM gets time to see it. */
	if (s->phase < PHASE_SYNC) {
		s->phase = PHASE_SYNC;
		s->phase_deadline = text_now_ns() + GONE_GRACE_NS;
	}
}

static int drop_segment(struct dl_phdr_info *info, size_t size, void *arg)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	(void)size;
	(void)arg;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *phdr = &info->dlpi_phdr[i];
		uintptr_t start = (info->dlpi_addr + phdr->p_vaddr) & ~(page - 1);
		uintptr_t end = (info->dlpi_addr + phdr->p_vaddr + phdr->p_memsz + page - 1) & ~(page - 1);

		if (phdr->p_type == PT_LOAD && !(phdr->p_flags & PF_W))
			(void)madvise((void *)start, end - start, MADV_DONTNEED); /* a hint that may fail */
	}
	return 1; /* the program itself comes first */
}

/*
 * From here on there is little to do but to wait. What ran until now (JSON, checks, opening) is
 * clean text that the kernel reads back if it is needed again; unmapped, it is no VM's overhead.
 */
static void drop_start_up_text(void)
{
	(void)dl_iterate_phdr(drop_segment, NULL);
}

/* A detached VM's caller waits for this word alone, and may be behind with the lines before it. */
static bool tell_started(struct supervisor *s)
{
	struct pollfd room = { .fd = s->session, .events = POLLOUT };
	int r = session_send(s->session, SESSION_STARTED, 0, 0, s->state.id);

	if (r == -EAGAIN && s->log && poll(&room, 1, STARTED_MS) > 0)
		r = session_send(s->session, SESSION_STARTED, 0, 0, s->state.id);
	s->started_told = r == 0;
	return r != -EAGAIN;
}

static void on_started(struct supervisor *s, const struct agent_event *event)
{
	s->stages[STAGE_STARTED] = text_now_ns();
	hooks_stage("started");
	s->started = event->started;
	if (s->phase == PHASE_BOOT)
		s->phase = PHASE_RUN;
	s->boot_deadline = UINT64_MAX;
	idle_start(&s->idle, s->spec->idle_timeout_ns, text_now_ns(), supervisor_cpu_time(s), s->stream_bytes);
	if (s->session >= 0 && !tell_started(s))
		s->logs_lost++;
	supervisor_write_record(s);
	supervisor_event_stage(s, EVENT_STARTED, STAGE_STARTED);
	if (s->log && s->session >= 0 && s->started_told)
		supervisor_detach(s);
	drop_start_up_text();
	hooks_stage("started-told");
}

static void on_agent_event(struct supervisor *s, const struct agent_event *event)
{
	s->facts.agent_spoke = true; /* nothing may come before its HELLO */
	if (event->type == PROTO_TOPPED || event->type == PROTO_STATTED) {
		supervisor_on_numbers(s, event);
		return;
	}
	if (event->session && event->session != AGENT_SESSION_ID) {
		supervisor_exec_event(s, event);
		return;
	}
	switch (event->type) {
	case PROTO_HELLO:
		s->stages[STAGE_AGENT] = text_now_ns();
		hooks_stage("agent");
		(void)snprintf(s->agent_version, sizeof(s->agent_version), "%s", event->text);
		text_harmless(s->agent_version);
		supervisor_event_stage(s, EVENT_BOOTED, STAGE_AGENT);
		break;
	case PROTO_STARTED:
		on_started(s, event);
		break;
	case PROTO_FAILED:
		(void)snprintf(s->text_failure, sizeof(s->text_failure), "%s", event->text);
		s->facts.failed = true;
		s->facts.failure = le32_get(event->failed.reason);
		s->facts.failure_text = s->text_failure;
		workload_over(s);
		break;
	case PROTO_EXITED:
		s->facts.exited = true;
		s->facts.exit_kind = le32_get(event->exited.kind);
		s->facts.exit_value = le32_get(event->exited.value);
		s->exited = event->exited;
		workload_over(s);
		break;
	case PROTO_ERROR:
		(void)snprintf(s->text_agent, sizeof(s->text_agent), "%s", event->text);
		s->facts.agent_error = s->text_agent;
		s->facts.agent_refuses = true;
		supervisor_stop(s);
		break;
	default: /* BYE */
		supervisor_stop(s);
		break;
	}
}

void supervisor_on_agent(struct supervisor *s)
{
	struct agent_event event;
	int r = agent_session_fill(&s->agent), next;

	while ((next = agent_session_next(&s->agent, &event)) > 0)
		on_agent_event(s, &event);
	if (next < 0) {
		supervisor_event_violation(s, "agent", "the agent broke its protocol");
		agent_broke(s, "the agent broke its protocol");
	} else if (r < 0 && s->agent.seen & AGENT_SEEN_BYE) {
		agent_session_close(&s->agent);
	} else if (r < 0) {
		agent_broke(s, "the agent went away");
	}
}

/* ---- the VMM's log ---- */

static void on_log_line(void *arg, enum mvm_log_level level, const char *line)
{
	struct supervisor *s = arg;
	const char *paths[VMM_DISKS_MAX] = { s->spec->rootfs };
	char text[LOG_READER_LINE + LOG_READER_PATH];

	for (size_t i = 0; i < s->spec->ndisks; i++)
		paths[i + 1] = s->spec->disks[i].file;
	log_reader_name_disk(line, paths, s->spec->ndisks + 1, text, sizeof(text));
	/* The first error is the reason; what follows are its consequences, a register dump for one. */
	if (level == MVM_LOG_ERROR && !s->facts.vmm_error) {
		(void)snprintf(s->text_vmm_error, sizeof(s->text_vmm_error), "%s", text);
		s->facts.vmm_error = s->text_vmm_error;
	}
	supervisor_log(s, level, "%s", text);
}

void supervisor_on_log(struct supervisor *s)
{
	char bytes[LOG_BATCH];
	ssize_t n = read(s->vmm_log, bytes, sizeof(bytes));

	if (n > 0) {
		s->log_used += (uint64_t)n;
		log_reader_feed(&s->log_reader, bytes, (size_t)n, text_now_ns(), on_log_line, s);
	} else if (n == 0 || errno != EAGAIN) {
		log_reader_finish(&s->log_reader, on_log_line, s);
		(void)close(s->vmm_log);
		s->vmm_log = -1;
	}
}
