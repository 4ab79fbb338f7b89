/*
 * mvm-supervisor: started by libmvm with its end of the session socket as descriptor 0. Takes no
 * arguments; everything it is to do is in the first message.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "jail/hooks.h"
#include "lib/host.h"
#include "lib/inspect.h"
#include "lib/record.h"
#include "lib/supervisor.h"
#include "lib/text.h"
#include "mvm/cleanup.h"
#include "mvm/version.h"

MVM_VERSION_MARKED;

void supervisor_log(struct supervisor *s, enum mvm_log_level level, const char *fmt, ...)
{
	char text[SESSION_TEXT_MAX];
	va_list ap;

	if ((s->session < 0 && !s->log) || (s->spec && level > s->spec->log_level))
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	text_harmless(text);
	if (s->log)
		output_log_say(s->log, text);
	if (s->session < 0)
		return;
	if (session_send(s->session, SESSION_LOG, (int32_t)level, 0, text) == -EAGAIN && s->logs_lost < UINT32_MAX)
		s->logs_lost++;
}

static int refuse(struct supervisor *s, const struct mvm_error *err)
{
	(void)snprintf(s->text_refused, sizeof(s->text_refused), "%s", err->text);
	s->facts.refused = s->text_refused;
	return -err->code;
}

int supervisor_read_spec(int fd, struct mvm_spec **ret_spec, struct mvm_error *err)
{
	struct stat st;
	char *map;
	int r;

	/* What its writer could cut off while it is mapped here would end us. */
	if (fcntl(fd, F_GET_SEALS) < 0 || !(fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK))
		return error_set(err, EINVAL, "spec: not sealed");
	if (fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > SPEC_JSON_MAX)
		return error_set(err, EINVAL, "spec: not readable");
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		return error_set(err, errno, "spec: not readable: %s", strerror(errno));
	r = mvm_spec_from_json(map, (size_t)st.st_size, ret_spec, err);
	(void)munmap(map, (size_t)st.st_size);
	return r;
}

void supervisor_init(struct supervisor *s)
{
	memset(s, 0, sizeof(*s));
	s->session = s->vmm_pidfd = s->vmm_control = s->vmm_log = s->signals = -1;
	for (unsigned i = 0; i < MVM_STREAMS; i++)
		s->streams[i] = -1;
	s->state = STATE_DIR_NONE;
	s->receipt = RECEIPT_NOWHERE;
	for (unsigned i = 0; i < SUPERVISOR_SINKS; i++)
		s->sinks[i] = EVENT_SINK_CLOSED;
	s->run_deadline = s->boot_deadline = s->stop_deadline = s->phase_deadline = UINT64_MAX;
	s->stages[STAGE_SUPERVISOR] = text_now_ns();
	s->last_session = AGENT_SESSION_ID;
	supervisor_attach_init(s);
	supervisor_output_init(s);
	supervisor_viewers_init(s);
	s->idle = IDLE_NEVER;
	vm_files_init(&s->files);
	net_user_init(&s->net);
	publish_udp_init(&s->udp);
	jail_init(&s->jail);
	cgroup_init(&s->parts);
	agent_session_init(&s->agent);
	receipt_digests_init(s->digests);
}

/* The first message and what came with it. */
static int receive_start(struct supervisor *s)
{
	int fds[SESSION_FDS_MAX], sockets[SESSION_SOCKETS_MAX];
	_cleanup_fd_ int spec_fd = -1, receipt_fd = -1;
	struct mvm_error err = { 0 };
	int r = session_receive_start(s->session, &s->start, fds, sockets);

	if (r < 0) {
		(void)error_set(&err, EPROTO,
				"mvm-supervisor: not of the same version as its caller: install mvm again");
		return refuse(s, &err);
	}
	spec_fd = fds[0];
	memcpy(s->streams, fds + 1, sizeof(s->streams));
	receipt_fd = fds[SESSION_FDS_MAX - 1];
	s->stages[STAGE_COMMAND] = s->start.began_ns;
	s->stages[STAGE_SUPERVISOR_ASKED] = s->start.start_ns;
	r = supervisor_read_spec(spec_fd, &s->spec, &err);
	if (r == 0)
		r = mvm_spec_check(s->spec, &err);
	if (r == 0 && s->spec->receipt)
		r = receipt_open(s->spec->receipt, take_fd(&receipt_fd), &s->receipt, &err);
	if (r == 0 && s->spec->sign)
		r = receipt_can_sign(&s->receipt, &err);
	if (r == 0 && s->spec->sign)
		r = sign_key_read(s->spec->sign, &s->sign, &err);
	if (r == 0)
		r = restart_parse(s->spec->restart, &s->restart); /* checked with the spec */
	for (uint32_t i = 0; r == 0 && i < s->start.sockets; i++)
		r = publish_hand(&s->publish, sockets[i], &err);
	if (r == 0)
		r = supervisor_view_caller(s);
	if (r < 0 && !err.code)
		(void)error_set(&err, -r, "streams: %s", strerror(-r));
	return r < 0 ? refuse(s, &err) : 0;
}

/* SIGTERM and its like end the VM in order; SIGPIPE is an EPIPE where it matters. */
static void watch_signals(struct supervisor *s)
{
	sigset_t set;

	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an EFBIG where it is written */
	(void)signal(SIGCHLD, SIG_DFL); /* a caller that ignores it would have us lose the VMM's status */
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGHUP);
	(void)sigaddset(&set, SIGQUIT);
	(void)sigprocmask(SIG_SETMASK, &set, NULL); /* all were blocked over the exec */
	s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK); /* without it they wait until the end */
}

/* --allow-port: every address is known before there is a VM. */
static int allow_ports(struct supervisor *s, struct mvm_error *err)
{
	struct sockaddr_storage addrs[BROKER_ADDRS_MAX];
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->spec->nports; i++) {
		const struct spec_port *port = &s->spec->ports[i];

		r = spec_port_addresses(port, addrs, BROKER_ADDRS_MAX, err);
		if (r < 0)
			return r;
		r = broker_allow(&s->broker, port->port, port->target, addrs, (unsigned)r);
		if (r < 0)
			return error_set(err, -r, "--allow-port: %u: %s", port->port, strerror(-r));
	}
	return r;
}

/* --proxy: a connection to it for each dial. */
static int offer_proxy(struct supervisor *s, struct mvm_error *err)
{
	int r = s->spec->proxy ? broker_offer(&s->broker, PROTO_PORT_PROXY, "proxy", net_proxy_dial, &s->net.proxy) : 0;

	return r < 0 ? error_set(err, -r, "--proxy: %s", strerror(-r)) : 0;
}

/* The VM's folder, for all its runs. */
static int open_folder(struct supervisor *s, struct mvm_error *err)
{
	char parent[PATH_MAX];
	int r = state_dir_parent(parent, err);

	if (r < 0)
		return r;
	return *s->start.again ? state_dir_reopen(parent, s->start.again, &s->state, err)
			       : state_dir_create(parent, s->spec->name, &s->state, err);
}

/* What must be right before there is a VM. */
static int prepare(struct supervisor *s, struct vmm_config *config, struct handover *handover)
{
	struct mvm_error err;
	int r = supervisor_events_open(s, &err);

	/* Of a run that is not the first: the caller's descriptors came with that one. */
	if (r == 0 && s->spec->receipt && !s->receipt.path)
		r = receipt_open(s->spec->receipt, -1, &s->receipt, &err);
	if (r == 0 && s->spec->sign)
		r = receipt_can_sign(&s->receipt, &err);
	if (r == 0)
		r = vm_files_open(s->spec, s->conf.share_kernel, &s->files, &err);
	if (r == 0 && s->state.fd < 0)
		r = open_folder(s, &err);
	hooks_stage("folder-made");
	if (r == 0) {
		supervisor_make_parts(s);
		r = supervisor_net_open(s, &err);
	}
	hooks_stage("net-made");
	if (r == 0)
		r = vm_files_describe(s->spec, &s->files, config, handover, &err);
	if (r == 0)
		r = supervisor_output_open(s, &err);
	if (r == 0 && s->attach_listener < 0)
		r = supervisor_attach_open(s, &err);
	if (r == 0)
		r = allow_ports(s, &err);
	if (r == 0)
		r = offer_proxy(s, &err);
	if (r == 0)
		r = supervisor_publish_open(s, &err);
	s->stages[STAGE_OPENED] = text_now_ns();
	hooks_stage("opened");
	if (r == 0)
		r = supervisor_spawn(s, config, handover, &err);
	s->stages[STAGE_VMM_SPAWNED] = text_now_ns();
	hooks_stage("vmm-spawned");
	return r < 0 ? refuse(s, &err) : 0;
}

/* The agent's session and the streams, granted before the guest can have come so far. */
static int grant_ports(struct supervisor *s, struct mvm_error *err)
{
	struct agent_request request = {
		.spec = s->spec,
		.nets = &s->files.nets,
		.device = "vda",
		.fs_type = s->files.fs_type,
		.hostname = s->spec->hostname ? s->spec->hostname : s->state.id,
		.rows = s->start.rows,
		.cols = s->start.cols,
	};
	int pair[2];
	int r = agent_session_greet(&s->agent, &request);

	if (r < 0)
		return error_set(err, -r, "arguments and environment: too large for the agent: pass a file");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return error_set(err, errno, "agent's socket: %s", strerror(errno));
	s->agent.fd = pair[0];
	r = broker_grant(&s->broker, PROTO_PORT, pair[1]);
	for (unsigned i = 0; r == 0 && i < MVM_STREAMS; i++)
		if (s->streams[i] >= 0)
			r = broker_grant(&s->broker, PROTO_PORT_STREAM + i, take_fd(&s->streams[i]));
	if (r == 0)
		r = agent_session_flush(&s->agent);
	return r < 0 ? error_set(err, -r, "agent's socket: %s", strerror(-r)) : 0;
}

void supervisor_write_spec(struct supervisor *s)
{
	_cleanup_free_ char *text = NULL;
	struct mvm_error err;

	if (mvm_spec_to_json(s->spec, &text, &err) < 0 || state_dir_write(&s->state, INSPECT_SPEC_FILE, text, &err) < 0)
		supervisor_log(s, MVM_LOG_WARNING, "%s", err.text);
}

/* The command in one line, for a table. */
static void command_line(const struct mvm_spec *spec, char text[RECORD_COMMAND])
{
	size_t at = 0;

	text[0] = '\0';
	for (size_t i = 0; i < spec->args.n && at < RECORD_COMMAND - 1; i++) {
		int n = snprintf(text + at, RECORD_COMMAND - at, "%s%s", i ? " " : "", spec->args.v[i]);

		at += n > 0 ? (size_t)n : 0;
	}
	text_harmless(text);
}

uint64_t supervisor_realtime(uint64_t monotonic_ns)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec - (text_now_ns() - monotonic_ns);
}

char *supervisor_record(const struct supervisor *s, const struct verdict *verdict)
{
	char command[RECORD_COMMAND], cause[sizeof(verdict->cause)] = "";
	_cleanup_free_ char *ports =
		s->publish.nports && s->publish.ports[0].fd >= 0 ? publish_where(&s->publish) : NULL;
	struct record record = {
		.id = (char *)(uintptr_t)s->state.id,
		.name = s->spec->name,
		.rootfs = s->spec->rootfs,
		.command = command,
		.ports = ports,
		.state = s->restarting              ? RECORD_RESTARTING
			 : verdict                  ? RECORD_ENDED
			 : s->paused                ? RECORD_PAUSED
			 : s->stages[STAGE_STARTED] ? RECORD_RUNNING
						    : RECORD_BOOTING,
		.detached = s->spec->detach,
		.remove = s->spec->remove,
		.restarts = s->restart.count,
		.supervisor = verdict && !s->restarting ? 0 : getpid(),
		.vmm = verdict ? 0 : s->vmm_pid,
		.began_ns = supervisor_realtime(s->stages[STAGE_COMMAND]),
	};

	command_line(s->spec, command);
	if (verdict) {
		(void)snprintf(cause, sizeof(cause), "%s", verdict->cause);
		text_harmless(cause);
		record.verdict = (char *)(uintptr_t)verdict_name(verdict->kind);
		record.cause = cause;
		record.status = verdict->status;
		record.ended_ns = supervisor_realtime(s->stages[STAGE_ENDED]);
	}
	return record_text(&record);
}

void supervisor_write_record(struct supervisor *s)
{
	_cleanup_free_ char *text = supervisor_record(s, s->restarting ? &s->verdict : NULL);
	struct mvm_error err;

	if (!text || state_dir_write(&s->state, RECORD_FILE, text, &err) < 0)
		supervisor_log(s, MVM_LOG_WARNING, "%s", text ? err.text : RECORD_FILE ": out of memory");
}

static void write_state(struct supervisor *s)
{
	_cleanup_free_ char *record = inspect_record_text(&s->jail);
	struct mvm_error err;

	/* 0, which is no process's, where it ended already. */
	if (inspect_start_time("", s->vmm_pid, &s->vmm_start) < 0)
		s->vmm_start = 0;
	supervisor_write_spec(s);
	if (!record || state_dir_write(&s->state, INSPECT_RECORD_FILE, record, &err) < 0)
		supervisor_log(s, MVM_LOG_WARNING, "%s", record ? err.text : INSPECT_RECORD_FILE ": out of memory");
	supervisor_write_record(s);
}

/* While the guest boots: what need not be done before. */
static int settle(struct supervisor *s)
{
	struct mvm_error err;
	uint64_t now = text_now_ns();
	char parent[PATH_MAX];
	int reclaimed, r = grant_ports(s, &err);

	if (s->spec->timeout_ns)
		s->run_deadline = s->start.began_ns + s->spec->timeout_ns;
	s->boot_deadline = now + (s->spec->boot_timeout_ns ? s->spec->boot_timeout_ns
							   : SPEC_BOOT_TIMEOUT * (s->files.emulated ? 5 : 1));
	if (r == 0)
		r = host_check_cgroup_memory("/sys/fs/cgroup", "/proc/self/cgroup", s->spec->memory, &err);
	if (r < 0)
		return refuse(s, &err);
	write_state(s);
	hooks_stage("recorded");
	supervisor_event_created(s);
	reclaimed = state_dir_parent(parent, NULL) < 0 ? 0 : state_dir_reclaim(parent, s->state.id);
	if (reclaimed)
		supervisor_log(s, MVM_LOG_INFO, "removed what %d crashed run%s left", reclaimed,
			       reclaimed == 1 ? "" : "s");
	if (s->files.emulated)
		supervisor_log(s, MVM_LOG_INFO,
			       "this KVM has no VMX or SVM behind it: the guest is told to avoid what it lacks");
	if (s->spec->receipt)
		receipt_digests_begin(s->spec, &s->files, s->digests);
	return 0;
}

int main(void)
{
	struct handover handover;
	struct vmm_config config;
	struct supervisor s;
	int r;

	supervisor_init(&s);
	s.session = SESSION_FD;
	watch_signals(&s);
	hooks_stage("supervisor");
	r = receive_start(&s);
	do {
		s.phase = PHASE_OVER;
		if (r == 0 && prepare(&s, &config, &handover) == 0) {
			s.phase = PHASE_BOOT;
			if (settle(&s) < 0)
				supervisor_kill(&s);
			supervisor_loop(&s);
		}
		supervisor_finish(&s);
	} while (supervisor_restart(&s));
	supervisor_report(&s);
	supervisor_events_close(&s);
	sign_key_free(s.sign);
	mvm_spec_free(s.spec);
	return 0;
}
