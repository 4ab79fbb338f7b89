/*
 * mvm-supervisor: one per VM; opens, spawns, brokers, watches, judges, cleans up.
 *
 * Purpose: shared state of the supervisor's own files (supervisor*.c); not part of libmvm.
 * Trust:   its caller is the same user; the VMM and the agent behind it are hostile.
 * Ownership: the struct owns every descriptor in it, -1 where there is none.
 * Thread:  one.
 */
#ifndef LIB_SUPERVISOR_H
#define LIB_SUPERVISOR_H

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/types.h>

#include "jail/jail.h"
#include "lib/agent_session.h"
#include "lib/attach.h"
#include "lib/broker.h"
#include "lib/capture.h"
#include "lib/digest.h"
#include "lib/event.h"
#include "lib/event_sink.h"
#include "lib/host_conf.h"
#include "lib/idle.h"
#include "lib/killed_call.h"
#include "lib/log_reader.h"
#include "lib/net_user.h"
#include "lib/output_log.h"
#include "lib/publish.h"
#include "lib/publish_udp.h"
#include "lib/receipt.h"
#include "lib/record.h"
#include "lib/restart.h"
#include "lib/session.h"
#include "lib/state_dir.h"
#include "lib/verdict.h"
#include "lib/vm_files.h"
#include "mvm/counters.h"

#define SUPERVISOR_OUTPUTS 2 /* stdout and stderr */
#define SUPERVISOR_SINKS   2 /* of events: the operator's, the run's own */

#define VIEWERS_MAX  8U /* at once */
#define VIEWER_SLOTS (1 + 2 * VIEWERS_MAX)

/* Who looks at a detached VM's streams, and what is on its way between them (supervisor_viewers.c). */
struct viewers {
	struct viewer {
		int client; /* its place among the clients; -1: none */
		int in, out[SUPERVISOR_OUTPUTS]; /* its ends of the streams; -1: none, or no more */
		size_t sent; /* bytes of the chunk that it has */
	} v[VIEWERS_MAX];
	const char *chunk; /* borrowed: what was read of the output last */
	size_t len;
	enum output_stream stream; /* of the chunk */
	uint64_t chunk_ns; /* when it was read */
	int input; /* our end of the command's stdin, if that is no terminal; -1 */
	size_t typed_len, typed_pos;
	char typed[4096]; /* on its way to the command */
};

enum supervisor_phase {
	PHASE_BOOT, /* until the workload runs; bounded by --boot-timeout */
	PHASE_RUN,
	PHASE_SYNC, /* the agent syncs and unmounts; ends with BYE */
	PHASE_STOP, /* CONTROL_STOP sent; ends with the VMM's process */
	PHASE_KILL, /* SIGKILL sent */
	PHASE_OVER, /* VMM waited for, or never started */
};

struct supervisor {
	struct session_start start;
	int session; /* to the caller; -1 once it is gone */
	int streams[MVM_STREAMS];
	struct mvm_spec *spec;
	struct state_dir state;
	struct vm_files files;
	struct net_user net; /* of --net user, --net bridge=, named networks, --proxy */
	uint64_t net_asked_ns; /* when for its count; 0: never */
	struct capture *capture; /* of --pcap; NULL: none. The file is the VM's, over its restarts */
	struct jail jail;
	struct cgroup parts; /* for mvm-net and mvm-udp */
	struct broker broker;
	struct publish publish; /* its listening sockets are the VM's, its connections a run's */
	struct publish_udp udp; /* who serves those of UDP, in this run */
	uint64_t publish_retry_ns; /* no client is taken before then: out of descriptors */
	uint64_t udp_retry_ns; /* what it asks for is not looked at before then: of many a second some must wait */
	bool publish_full; /* the VMM has to read its control socket first */
	struct agent_session agent;
	struct log_reader log_reader;

	const struct counters *counters; /* the VMM's word, see mvm/counters.h; NULL: there was no VMM */
	uint64_t vmm_start; /* when it began, ticks since the host's boot: with its pid it names it for ever */
	pid_t vmm_pid;
	int attach_listener; /* others of the same user's, see attach.h */
	uint64_t attach_retry_ns; /* not looked at before then */
	struct {
		int fd;
		/* WAITS: for the VM's end; RUNS: a command in it; VIEWS: its streams; TOP, STATS: for the agent's answer; FLOWS: for mvm-net's */
		enum {
			CLIENT_ASKS,
			CLIENT_WAITS,
			CLIENT_RUNS,
			CLIENT_VIEWS,
			CLIENT_TOP,
			CLIENT_STATS,
			CLIENT_FLOWS
		} kind;
		uint32_t session; /* of the command */
		uint64_t deadline_ns;
	} clients[ATTACH_CLIENTS_MAX];
	uint32_t last_session;

	int outputs[SUPERVISOR_OUTPUTS]; /* of a detached VM */
	struct output_log *log; /* NULL: not detached */
	struct viewers viewers;
	uint64_t
		stream_bytes; /* that went through the streams, as far as we know of them: a caller's are its own affair */
	struct idle idle;
	uint64_t output_seen, output_refilled_ns; /* bytes of the log that count no longer; when that was computed */

	int vmm_pidfd, vmm_control, vmm_log, signals;
	uint64_t control_used, control_refilled_ns; /* throttle of a flooding VMM: messages */
	uint64_t log_used, log_refilled_ns; /* … and bytes of its log */

	enum supervisor_phase phase;
	uint32_t ping; /* number of the last CONTROL_PING */
	bool paused; /* the VMM's process is stopped */
	bool pinged; /* it is not answered yet */
	bool restarting; /* the VM has ended and is to be started again */
	bool started_told; /* the caller knows that the command runs */
	struct restart restart;
	struct verdict verdict; /* of the run that ended last */
	uint64_t run_deadline, boot_deadline, stop_deadline, phase_deadline; /* ns, UINT64_MAX: none */
	bool hurried; /* no grace but a short one is left: whatever has not ended then is killed */
	bool waiting_for_output; /* PHASE_STOP after a regular end: its length is the reader's affair */
	unsigned idle_answers; /* SESSION_BUSY 0 since CONTROL_STOP */

	/* What is known for the verdict, and the texts behind it. */
	struct verdict_facts facts;
	char killed_call[KILLED_CALL_NAME];
	char text_vmm_error[LOG_READER_LINE + LOG_READER_PATH];
	char text_refused[MVM_ERROR_TEXT_MAX], text_broke[128], text_failure[512], text_agent[512];
	char agent_version[64];
	struct proto_started started;
	struct proto_exited exited;
	uint64_t stages[STAGES];

	struct receipt_place receipt;
	struct sign_key *sign; /* NULL: it is not signed. No process but ours has it, see sign.h */
	struct digest digests[RECEIPT_FILES];
	struct receipt_used used; /* complete once vmm_waited */
	uint32_t logs_lost;

	struct host_conf conf;
	struct event_sink sinks[SUPERVISOR_SINKS];
	uint64_t execs, execs_ended, events_lost_ever; /* for metrics */
	uint64_t events_lost; /* that the journal did not take since one was last told */
	uint64_t clients_refused;
	bool created_told, log_drop_told;
};

/* supervisor.c */
void supervisor_log(struct supervisor *s, enum mvm_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

int supervisor_read_spec(int fd, struct mvm_spec **ret_spec, struct mvm_error *err); /* unchecked as a whole */
void supervisor_write_spec(struct supervisor *s); /* as it is in force, for `mvm inspect` */

void supervisor_write_record(struct supervisor *s);

/* CLOCK_REALTIME of a moment of CLOCK_MONOTONIC's, ns. */
uint64_t supervisor_realtime(uint64_t monotonic_ns);

/* The record of the state folder; verdict NULL: it has not ended. free() it; NULL: out of memory. */
char *supervisor_record(const struct supervisor *s, const struct verdict *verdict);

/* supervisor_spawn.c: the cgroup of what serves its network, before there is such a process; */
void supervisor_make_parts(struct supervisor *s);
/* and config memfd, sockets, the VMM's process. 0 or -errno with err. */
int supervisor_spawn(struct supervisor *s, struct vmm_config *config, struct handover *handover, struct mvm_error *err);

/* supervisor_loop.c: from the spawned VMM to its end (PHASE_OVER). */
void supervisor_loop(struct supervisor *s);

/*
 * supervisor_restart.c: whether the VM, whose run has ended, is to be started again. True: its back-off is over, and
 * everything but what it keeps is as it was before its first run.
 */
bool supervisor_restart(struct supervisor *s);
void supervisor_init(struct supervisor *s); /* supervisor.c: nothing is open, nothing has happened */

/* supervisor_peers.c: what the peers say, one wake-up's worth each. */
void supervisor_on_session(struct supervisor *s);
void supervisor_on_control(struct supervisor *s, unsigned at_most);
void supervisor_on_agent(struct supervisor *s);
void supervisor_on_log(struct supervisor *s);

void supervisor_on_dials(struct supervisor *s); /* connects under way */

/* A message to the VMM, with a descriptor when fd >= 0. 0 or -errno. */
int supervisor_tell_vmm(struct supervisor *s, const struct control_msg *msg, int fd);

/* supervisor_publish.c: clients of published ports, from the listening sockets and mvm-udp to the VMM. */
#define PUBLISH_SLOTS (SPEC_PUBLISH_MAX + 1)
int supervisor_publish_open(struct supervisor *s, struct mvm_error *err);
void supervisor_publish_prepare(const struct supervisor *s, uint64_t now, struct pollfd fds[PUBLISH_SLOTS]);
void supervisor_publish_run(struct supervisor *s, const struct pollfd fds[PUBLISH_SLOTS]);
uint64_t supervisor_publish_deadline(const struct supervisor *s);
uint64_t supervisor_publish_bytes(const struct supervisor *s); /* both ways, the VMM's word */

/* supervisor_output.c: a detached VM's output. */
void supervisor_output_init(struct supervisor *s);
int supervisor_output_open(struct supervisor *s, struct mvm_error *err);
bool supervisor_output_allowed(struct supervisor *s, uint64_t now);
void supervisor_output_prepare(const struct supervisor *s, bool allowed, struct pollfd fds[SUPERVISOR_OUTPUTS]);
void supervisor_output_run(struct supervisor *s, const struct pollfd fds[SUPERVISOR_OUTPUTS]);
void supervisor_output_close(struct supervisor *s); /* of one run: what is there still is in the log */
void supervisor_log_close(struct supervisor *s);
void supervisor_detach(struct supervisor *s);

/* supervisor_attach.c: requests of others; the entries of poll() are prepared, then run, each turn. */
void supervisor_attach_init(struct supervisor *s);
int supervisor_attach_open(struct supervisor *s, struct mvm_error *err);
void supervisor_attach_prepare(const struct supervisor *s, struct pollfd fds[1 + ATTACH_CLIENTS_MAX]);
void supervisor_attach_run(struct supervisor *s, const struct pollfd fds[1 + ATTACH_CLIENTS_MAX], uint64_t now);
void supervisor_drop_client(struct supervisor *s, unsigned client);
uint64_t supervisor_attach_deadline(const struct supervisor *s);
uint32_t supervisor_attach_phase(const struct supervisor *s); /* enum attach_phase */
void supervisor_attach_close(struct supervisor *s, const struct verdict *verdict); /* who waits is told */

/* supervisor_io.c: `mvm update --io-max`; of each key MVM_KEEP, 0: no limit, or the limit. 0 or -errno with a text. */
int supervisor_update_io(struct supervisor *s, const uint64_t most[IO_MAX_KEYS], char *ret_text, size_t size);

/* supervisor_stats.c: what the VM uses and runs, paused and resumed. */
int supervisor_ask_agent(struct supervisor *s, unsigned client, bool top, char *ret_text, size_t size);
void supervisor_on_numbers(struct supervisor *s, const struct agent_event *event); /* TOPPED, STATTED */
void supervisor_numbers_late(struct supervisor *s, unsigned client);
int supervisor_pause(struct supervisor *s, bool pause, char *ret_text, size_t size);
uint64_t supervisor_cpu_time(const struct supervisor *s); /* of the VMM's process, ns; 0: not to be told */

/*
 * supervisor_viewers.c. The chunk stays where it is until nobody is behind; drain() waits for that, as long as
 * patience goes.
 */
void supervisor_viewers_init(struct supervisor *s);
int supervisor_view(struct supervisor *s, unsigned client, const struct attach_msg *msg, int *fds, unsigned nfds,
		    char *ret_text, size_t size); /* 1: answered */
int supervisor_view_caller(struct supervisor *s); /* the caller of a detached VM, if it gave streams. 0 or -errno */
void supervisor_viewer_speaks(struct supervisor *s, unsigned client);
void supervisor_viewer_gone(struct supervisor *s, unsigned client);
void supervisor_viewers_show(struct supervisor *s, enum output_stream stream, const char *bytes, size_t len);
bool supervisor_viewers_behind(const struct supervisor *s);
uint64_t supervisor_viewers_deadline(const struct supervisor *s);
void supervisor_viewers_drain(struct supervisor *s);
void supervisor_viewers_prepare(const struct supervisor *s, struct pollfd fds[VIEWER_SLOTS]);
void supervisor_viewers_run(struct supervisor *s, const struct pollfd fds[VIEWER_SLOTS], uint64_t now);
void supervisor_viewers_close(struct supervisor *s, const struct verdict *of_vm); /* of this run: all are told */

/* supervisor_exec.c: further commands. The descriptors of a request stay the caller's to close, but for those taken. */
int supervisor_exec_start(struct supervisor *s, unsigned client, const struct attach_msg *msg, int *fds, unsigned nfds,
			  char *ret_text, size_t size);
void supervisor_exec_event(struct supervisor *s, const struct agent_event *event);
void supervisor_exec_client(struct supervisor *s, unsigned client);
void supervisor_exec_close(struct supervisor *s, const struct verdict *of_vm);

/* supervisor_net.c: --net user, --proxy. */
int supervisor_net_open(struct supervisor *s, struct mvm_error *err);
void supervisor_on_net(struct supervisor *s, unsigned link);
uint64_t supervisor_proxy_bytes(const struct supervisor *s); /* both ways, the proxy's word */
void supervisor_net_ended(struct supervisor *s); /* the VMM is gone: the last count, and the process's end */

/* supervisor_flows.c: what goes through its namespace. */
void supervisor_net_fresh(struct supervisor *s); /* s->net's counts are a second old at most then */
int supervisor_ask_flows(struct supervisor *s, unsigned client, char *ret_text, size_t size);
void supervisor_flows_told(struct supervisor *s);

/* supervisor_capture.c: --pcap. Before the VMM there is one; when it is about to be; and as it goes on. */
int supervisor_capture_open(struct supervisor *s, struct vmm_config *config, struct handover *handover,
			    struct mvm_error *err);
int supervisor_capture_begin(struct supervisor *s, struct mvm_error *err);
void supervisor_on_capture(struct supervisor *s);
void supervisor_capture_ended(struct supervisor *s); /* the VMM is gone: what it had sent */

/* supervisor_metrics.c: answers with struct attach_metrics. */
void supervisor_metrics(struct supervisor *s, int fd);

/* supervisor_events.c: what is told of all this (event.h). */
int supervisor_events_open(struct supervisor *s, struct mvm_error *err);
void supervisor_events_close(struct supervisor *s);
void supervisor_event_created(struct supervisor *s);
void supervisor_event_stage(struct supervisor *s, enum event_kind kind, enum receipt_stage stage);
void supervisor_event_asked(struct supervisor *s, unsigned client, const struct attach_msg *msg, int result);
void supervisor_event_caller(struct supervisor *s, enum event_kind kind, int fd, int signo); /* fd: whoever asks */
void supervisor_event_signalled(struct supervisor *s, const struct signalfd_siginfo *info);
void supervisor_event_client_refused(struct supervisor *s, const struct attach_peer *peer);
void supervisor_event_exec(struct supervisor *s, unsigned client, uint32_t session, const struct mvm_spec *spec);
void supervisor_event_exec_ended(struct supervisor *s, uint32_t session, const struct verdict *verdict);
void supervisor_event_port(struct supervisor *s, const struct broker_answer *answer);
void supervisor_event_egress(struct supervisor *s, const struct net_user_place *place);
void supervisor_event_violation(struct supervisor *s, const char *of, const char *how);
void supervisor_event_log_dropped(struct supervisor *s);
void supervisor_event_ended(struct supervisor *s, const struct verdict *verdict);
/* What a caller, or one that is attached, says. */
void supervisor_caller_says(struct supervisor *s, const struct session_msg *msg, int fd); /* fd: it comes from there */

/* "the VM is booting", "… paused", "… ending", "… to be started again". */
const char *supervisor_state_text(const struct supervisor *s);

/* supervisor_peers.c, too: somebody wants the end. `grace_ns`: for the workload, after a SIGTERM. */
void supervisor_operator_ends(struct supervisor *s, const char *why, bool at_once);
void supervisor_operator_asks(struct supervisor *s, uint64_t grace_ns);

/* supervisor_end.c: the ways to an end, mildest first; each is a no-op when a later one was begun. */
void supervisor_shut_down(struct supervisor *s, uint64_t grace_ns); /* agent: kill, sync, unmount */
void supervisor_hurry(struct supervisor *s, uint64_t grace_ns);
void supervisor_stop(struct supervisor *s);
void supervisor_kill(struct supervisor *s);
void supervisor_vmm_broke(struct supervisor *s, const char *how); /* the VMM cannot be trusted to end by itself */
void supervisor_meanwhile(struct supervisor *s, uint64_t until); /* after the run, ns; others are served */
void supervisor_finish(struct supervisor *s); /* of one run: verdict, receipt, and everything that was open for it */
void supervisor_report(struct supervisor *s); /* of the VM: its state folder, its clients, the caller */

#endif
