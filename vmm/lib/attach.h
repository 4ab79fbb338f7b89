/*
 * Talking to a VM that somebody else started: messages on the socket `control` in its state folder.
 *
 * Purpose: one SOCK_SEQPACKET datagram is one struct attach_hdr and its payload; each request is
 *          answered by one ATTACH_ANSWER. What more verbs need (inspect, exec, stop) are further types.
 * Trust:   the folder is its user's alone (0700), and the supervisor asks the kernel who is there:
 *          same uid or root. Both sides check sizes all the same; a client of another build is
 *          told so, which the version is for.
 * Ownership: descriptors are the caller's.
 * Layout:  native integers: both ends are the same machine.
 * Returns: 0 or -errno unless said otherwise.
 */
#ifndef LIB_ATTACH_H
#define LIB_ATTACH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "jail/io_max.h"
#include "mvm/counters.h"
#include "udp/udp.h"
#include "uplink/uplink.h"
#include "mvm/mvm.h"
#include "mvm/proto.h"

#define ATTACH_MAGIC       0x544d564dU /* "MVMT" */
#define ATTACH_VERSION     1U
#define ATTACH_NAME        "control"
#define ATTACH_PAYLOAD_MAX PROTO_TOP_MAX /* bytes */
#define ATTACH_CLIENTS_MAX 80U /* at once: 64 commands and others; more wait in the socket's queue, as many again */
#define ATTACH_SILENCE_NS  5000000000ULL /* a client that says nothing for so long is closed */

enum attach_type {
	ATTACH_UPDATE = 1, /* struct attach_update */
	ATTACH_STATUS = 2, /* nothing; answered with struct attach_status */
	ATTACH_STOP = 3, /* struct attach_stop; answered at once */
	ATTACH_SIGNAL = 4, /* struct attach_signal */
	ATTACH_WAIT = 5, /* nothing; answered when the VM has ended: struct attach_ended and a text, its cause */
	ATTACH_EXEC =
		6, /* struct attach_exec, the spec and the streams as descriptors; after its answer, messages of session.h */
	ATTACH_TOP = 7, /* nothing; answered with the agent's text (proto.h, TOPPED) */
	ATTACH_STATS = 8, /* nothing; answered with struct attach_stats */
	ATTACH_PAUSE = 9, /* nothing */
	ATTACH_RESUME = 10, /* nothing */
	ATTACH_COPY = 11, /* as ATTACH_EXEC; the spec's command is a copy's (proto.h, PROTO_EXEC_COPY) */
	ATTACH_FLOWS = 21, /* nothing; answered with struct attach_flows */
	ATTACH_METRICS = 20, /* nothing; answered at once with struct attach_metrics: no guest is asked */
	/*
	 * Nothing, and three sockets as descriptors: stdin, stdout, stderr; answered with struct attach_viewing, after that
	 * messages of session.h. A descriptor that the VM has no use for is closed.
	 */
	ATTACH_VIEW = 16,
	ATTACH_ANSWER = 128, /* code; the payload is a text, or with code 0 what was asked for */
};

struct attach_hdr {
	uint32_t magic;
	uint16_t version;
	uint16_t type; /* enum attach_type */
	uint32_t len; /* bytes of payload that follow */
	int32_t code; /* of an answer: errno; else 0 */
};

struct attach_update {
	uint64_t blk_iops, blk_bps; /* MVM_KEEP: as it is */
	uint64_t io_max[IO_MAX_KEYS]; /* the same; left out by a client that changes none, or knows none */
	uint64_t net_pps, net_bps; /* of each network device; the same */
};

#define ATTACH_UPDATE_LEAST offsetof(struct attach_update, io_max)
#define ATTACH_UPDATE_IO    offsetof(struct attach_update, net_pps)

struct attach_stop {
	uint64_t grace_ns; /* for the workload after a SIGTERM; 0: no SIGTERM */
};

struct attach_signal {
	uint32_t signo; /* to the workload; SIGKILL: the end of the VM, at once */
	uint32_t zero;
};

/* Descriptors come in this order: a memfd with the spec's JSON form, then those streams that `fds` names. */
struct attach_exec {
	uint32_t fds; /* enum session_fds: the streams */
	uint16_t rows, cols; /* with a terminal */
};

#define ATTACH_EXEC_STREAMS 7U /* SESSION_HAS_STDIN to _STDERR */
#define ATTACH_FDS_MAX      4U

/* What a VM uses. The host's numbers, then the guest's word; 0: not to be told. */
struct attach_stats {
	uint64_t wall_ns, cpu_ns; /* since its process began */
	uint64_t memory, memory_peak, memory_max; /* bytes, of its cgroup */
	uint64_t guest_memory_total, guest_memory_available; /* bytes */
	uint64_t guest_pids, guest_cpu_us; /* of the workload */
	uint64_t scratch_size, scratch_used; /* bytes */
	uint64_t publish_open, publish_accepted,
		publish_refused; /* clients of published ports; refused: VMM's word … */
	uint64_t publish_from_guest, publish_to_guest; /* … as these bytes */
	struct uplink_proxied proxied; /* the proxy's word */
	uint64_t udp_from_clients, udp_to_clients, udp_dropped; /* mvm-udp's */
	struct uplink_traffic traffic; /* mvm-net's */
	uint64_t net_refused; /* packets; the same */
};

/* As uplink.h has them; `told` of them are there. */
struct attach_flows {
	uint32_t told, all;
	uint32_t cut, zero; /* cut: there are more than `all` */
	struct uplink_flow flows[UPLINK_FLOWS_MAX];
};

_Static_assert(sizeof(struct attach_flows) <= ATTACH_PAYLOAD_MAX, "one answer");

enum attach_view_flags {
	ATTACH_VIEW_INPUT = 1U << 0, /* the command takes what is written to the first socket */
	ATTACH_VIEW_TTY = 1U << 1, /* it has a terminal: stdout alone, and RESIZE counts */
};

struct attach_viewing {
	uint32_t flags; /* enum attach_view_flags */
	uint32_t zero;
};

struct attach_ended {
	uint32_t kind; /* enum verdict_kind */
	int32_t status;
};

struct attach_status {
	uint64_t began_ns; /* CLOCK_MONOTONIC */
	uint64_t vmm_start; /* of its process, in ticks since the host's boot (proc_pid_stat(5), field 22) */
	int32_t vmm; /* its process; 0: none any more */
	uint32_t phase; /* enum attach_phase */
	uint32_t restarts;
	uint32_t zero;
};

enum attach_phase { ATTACH_BOOTING, ATTACH_RUNNING, ATTACH_ENDING, ATTACH_PAUSED, ATTACH_RESTARTING };

/* What the supervisor and the kernel know of a VM, then its VMM's word. 0: not to be told. */
struct attach_metrics {
	uint64_t wall_ns; /* since its process began */
	uint64_t user_ns, guest_ns,
		system_ns; /* CPU time of its process: in the VMM, in the guest, in the host's kernel */
	uint64_t memory, memory_peak, memory_max; /* bytes, of its cgroup */
	uint64_t resident; /* bytes of its process */
	uint64_t supervisor_ns, supervisor_peak; /* CPU time; most bytes resident so far */
	uint64_t memory_asked, vcpus, disks, nets; /* as in the spec; disks: the rootfs among them */
	uint64_t log_bytes, log_dropped;
	uint64_t execs, execs_ended; /* further commands begun, and ended */
	uint64_t ports_refused, ports_opened, ports_failed;
	uint64_t clients, clients_refused;
	uint64_t events_lost;
	uint64_t publish_open, publish_accepted; /* clients of published ports: now, and ever */
	uint64_t phase; /* enum attach_phase */
	uint64_t egress_refused[UPLINK_REASONS]; /* packets of --net user or --proxy, by why */
	struct uplink_proxied proxied; /* the proxy's word */
	struct udp_counted udp; /* mvm-udp's */
	struct uplink_traffic traffic; /* mvm-net's */
	struct counters counters;
};

struct attach_peer {
	pid_t pid;
	uid_t uid;
};

struct attach_msg {
	struct attach_hdr hdr;
	uint8_t payload[ATTACH_PAYLOAD_MAX + 1]; /* received ones end with a NUL behind */
};

_Static_assert(sizeof(struct attach_hdr) == 16 && sizeof(struct attach_update) == 64 &&
		       sizeof(struct attach_status) == 32 && sizeof(struct attach_stop) == 8 &&
		       sizeof(struct attach_signal) == 8 && sizeof(struct attach_ended) == 8 &&
		       sizeof(struct attach_viewing) == 8,
	       "layout");

/* Checks a datagram of `n` bytes in *msg. 0, -EPROTO, -EPROTONOSUPPORT: of another version. */
int attach_check(struct attach_msg *msg, size_t n);

/* Makes the socket in the folder, however long the folder's path is. */
int attach_listen(int folder_fd, int *ret_fd);

/* 1 and a client that may speak, 0 none, -EPERM one that may not (closed; *ret_refused: who), -errno. */
int attach_accept(int listener, int *ret_fd, struct attach_peer *ret_refused);

/* The same with descriptors, *ret_n of them; the receiver's to close. Whoever expects none uses the one below. */
int attach_receive_with(int fd, struct attach_msg *ret_msg, int ret_fds[ATTACH_FDS_MAX], unsigned *ret_n);
int attach_send_with(int fd, enum attach_type type, const void *payload, size_t len, const int *fds, unsigned nfds);

/* 1 and a message, 0 none yet, -EPIPE gone, or as attach_check(). Never waits. */
int attach_receive(int fd, struct attach_msg *ret_msg);

/* Never waits: who does not read its answers misses them. */
int attach_send(int fd, enum attach_type type, int code, const void *payload, size_t len);

#define ATTACH_ANSWER_MS 10000 /* for what is answered at once */

/* A client's connection, and a request on it, waiting -1: for ever. 0, or what the supervisor said, in err. */
#define ATTACH_PATIENCE_MS 5000U /* until one of those before us is done */
int attach_open(int folder_fd, unsigned patience_ms, int *ret_fd, struct mvm_error *err);
int attach_answer(int fd, int timeout_ms, struct attach_msg *ret_answer, struct mvm_error *err);
int attach_request(int fd, enum attach_type type, const void *payload, size_t len, int timeout_ms,
		   struct attach_msg *ret_answer, struct mvm_error *err);

/* A client's whole call: connects, sends, waits for the answer. 0, or what the supervisor said, in err. */
int attach_call(int folder_fd, enum attach_type type, const void *payload, size_t len, struct mvm_error *err);

/* The same by the VM's name, waiting for the answer. */
int attach_vm(const char *id, enum attach_type type, struct attach_msg *ret_answer, struct mvm_error *err);

/* The same for what is answered with exactly `len` bytes; *ret_peer: who listens, by the kernel's word. */
int attach_ask(int folder_fd, enum attach_type type, void *ret_payload, size_t len, struct attach_peer *ret_peer,
	       struct mvm_error *err);

#endif
