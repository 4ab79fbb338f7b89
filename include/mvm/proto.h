/*
 * Host <-> agent wire format, spoken over one vsock stream: the agent dials host port PROTO_PORT
 * when it is up, the host's first messages are waiting there already.
 *
 * Purpose: frames of struct proto_hdr + payload. Streams (stdin, stdout, stderr, a terminal) are
 *          *not* framed: each is a vsock connection of its own that the agent dials, raw bytes,
 *          half-closed by shutdown; flow control is vsock's credit.
 * Trust:   hostile in both directions: every length is checked against its bound before use.
 *          proto_next() and the proto_get_*() readers (guest/proto.c, linked into both ends) are
 *          the only code that parses.
 * Layout:  little-endian, packed by construction, strings NUL-terminated inside the payload.
 * Published: for each PUBLISH the agent listens on guest port PROTO_PORT_PUBLISH + port, for the host alone. A
 *          connection there is one to that TCP port of the guest's loopback: raw bytes both ways, half-closed as it is;
 *          closed without a half-close before, where nobody listens behind it. Of one with PROTO_PUBLISH_UDP the port
 *          is PROTO_PORT_PUBLISH_UDP + port, and each connection one client: datagrams both ways, each a length of 16
 *          bits and as many bytes, PROTO_DATAGRAM_MAX at most; over when either end closes it.
 * Proxied: after PROXY the agent listens on that TCP port of 127.0.0.1. For each connection to it, it dials host port
 *          PROTO_PORT_PROXY: raw bytes both ways, half-closed as it is. What is said there is the host's affair.
 * Order:   host: HELLO, a NET for each network device, a PUBLISH for each published port, at most one PROXY, SETUP EXEC(1), then
 *          SIGNAL/RESIZE/SHUTDOWN at any time, and once session 1 has STARTED any number of EXEC/TOP/STAT.
 *          agent: HELLO, then for each EXEC either FAILED or STARTED and EXITED, for each TOP and STAT
 *          its answer; session 1's EXITED or FAILED after every other session's; at last BYE when every
 *          file system is synced and unmounted. Behind BYE or ERROR nothing is answered any more.
 *
 * Session 1 is the boot session: its command's end is the container's end, and EXITED comes when its
 * output streams were sent to their end, whoever held them.
 * Every other session is one more command in the same container, at most PROTO_SESSIONS_MAX at once:
 *   - A failure to start it is FAILED for that session alone, as is one too many (EBUSY) or one that
 *     comes when the VM is ending (ESHUTDOWN). None of its ports has been dialled then. An EXEC with an
 *     id that is in use, or before session 1's, is the host's error: ERROR.
 *   - When its command ends, what its output streams hold at that moment is sent and the streams are
 *     closed, though background children may hold their other ends; those live on in the container.
 *     EXITED follows, when every port has been dialled or refused.
 *   - When the container ends it is killed; its EXITED comes before session 1's. A host that does not
 *     read a stream of such a session delays the end by two seconds at most, and loses the rest of it.
 *   - Behind FAILED or EXITED its id is free again.
 */
#ifndef MVM_PROTO_H
#define MVM_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mvm/endian.h"

#define PROTO_MAGIC            0x414d564dU /* "MVMA" */
#define PROTO_VERSION          8U
#define PROTO_PORT             1U /* host port of the control session */
#define PROTO_PORT_STREAM      0x40000000U /* first host port granted to a stream */
#define PROTO_PORT_PUBLISH     0x50000000U /* guest port of published TCP port 0 */
#define PROTO_PORT_PUBLISH_UDP 0x50010000U /* guest port of published UDP port 0 */
#define PROTO_PORT_PROXY       0x60000000U /* host port of the proxy */
#define PROTO_PUBLISH_MAX      32U /* published ports */
#define PROTO_CONNS_MAX        256U /* connections to them and of the proxy's clients at once */
#define PROTO_DATAGRAM_MAX     65507U /* bytes: a UDP datagram's most over IPv4 (RFC 768) */
#define PROTO_PAYLOAD_MAX      (4U << 20) /* bytes; ARG_MAX-sized EXECs fit */
#define PROTO_REPLY_MAX        (64U << 10) /* bytes; bound on what an agent may send */
#define PROTO_STRINGS_MAX      32768U /* argv or env entries */
#define PROTO_PORT_NONE        0U /* this stream is /dev/null */
#define PROTO_SESSION_BOOT     1U
#define PROTO_SESSIONS_MAX     64U /* at once, beside the boot session */
#define PROTO_COPY_ARGS        4U /* strings of an EXEC with PROTO_EXEC_COPY */
#define PROTO_TOP_MAX          (48U << 10) /* bytes of TOPPED's text with its NUL */

enum proto_type {
	PROTO_HELLO = 1,
	/* host -> agent */
	PROTO_SETUP = 2,
	PROTO_EXEC = 3,
	PROTO_SIGNAL = 4,
	PROTO_RESIZE = 5,
	PROTO_SHUTDOWN = 6, /* kill every session, sync, unmount, BYE */
	PROTO_TOP = 7, /* struct proto_query */
	PROTO_STAT = 8, /* struct proto_query */
	PROTO_NET = 9,
	PROTO_PUBLISH = 10,
	PROTO_PROXY = 11, /* struct proto_proxy */
	/* agent -> host */
	PROTO_STARTED = 32,
	PROTO_FAILED = 33,
	PROTO_EXITED = 34,
	PROTO_BYE = 35,
	PROTO_ERROR = 36, /* the agent cannot go on; text says why; the VM will be ended */
	PROTO_TOPPED = 37,
	PROTO_STATTED = 38,
};

struct proto_hdr {
	struct le32 length; /* payload bytes that follow, <= PROTO_PAYLOAD_MAX or PROTO_REPLY_MAX */
	struct le16 type; /* enum proto_type */
	struct le16 zero;
};

struct proto_hello {
	struct le32 magic;
	struct le16 version;
	struct le16 zero;
	/* followed by the program's version, a NUL-terminated string */
};

enum proto_setup_flags {
	PROTO_SETUP_RW = 1U << 0, /* mount the rootfs read-write, no overlay */
};

struct proto_setup {
	struct le32 flags;
	struct le32 pids_max; /* processes and threads of the workload at once; 0: no limit */
	struct le64 scratch; /* bytes of the tmpfs above a read-only rootfs; 0: half of memory */
	/* followed by strings: rootfs device ("vda"), fs type ("ext4"), hostname */
};

enum proto_net_flags {
	PROTO_NET_LOCAL4 = 1U << 0, /* the gateway is no way to anywhere but to route4 */
	PROTO_NET_LOCAL6 = 1U << 1, /* … to route6 */
};

/* One network device, found by its MAC address: brought up with what is given here; zeroes: not given. */
struct proto_net {
	uint8_t mac[6];
	uint8_t prefix4, prefix6; /* bits */
	uint8_t ip4[4], gateway4[4];
	uint8_t ip6[16], gateway6[16];
	uint8_t route4[4], route6[16]; /* networks behind the gateway … */
	uint8_t route_bits4, route_bits6; /* … 0: none is given */
	uint8_t flags; /* PROTO_NET_* */
	uint8_t zero;
	/* followed by a string: what /etc/resolv.conf is to hold, "": as the image has it, or an earlier NET said */
};

enum proto_publish_kind { PROTO_PUBLISH_TCP, PROTO_PUBLISH_UDP };

struct proto_publish {
	struct le16 port; /* of the guest's loopback; not 0, of each kind once */
	struct le16 kind; /* enum proto_publish_kind */
};

struct proto_proxy {
	struct le16 port; /* TCP, of the guest's loopback; not 0 */
	struct le16 zero;
};

enum proto_exec_flags {
	PROTO_EXEC_TTY = 1U << 0, /* stdin_port is the terminal, both ways; the other two are NONE */
	/*
	 * No command: the agent itself reads files of the container as a tar stream on stdout, or makes them of one on
	 * stdin. argv is "out" or "in", a path, a name ("in": of struct unpack_rule, "" any; "out": ""), and letters:
	 * 'a' owner and mode as in the stream, 'L' the source's link is followed. One line on stderr says what failed
	 * (status 1) or, behind "note: ", what was left out (status 0). Not of session 1, not with TTY.
	 */
	PROTO_EXEC_COPY = 1U << 1,
};

struct proto_exec {
	struct le32 session; /* chosen by the host: PROTO_SESSION_BOOT first; then not 0 and not in use */
	struct le32 flags;
	struct le32 stdin_port;
	struct le32 stdout_port;
	struct le32 stderr_port;
	struct le16 rows; /* with TTY */
	struct le16 cols;
	struct le32 argc; /* 0: the image has nothing to run -> FAILED not-found */
	struct le32 envc;
	/* followed by strings: cwd ("" = /), user ("" = root; name[:group] or uid[:gid]), argv, env */
};

struct proto_signal {
	struct le32 session;
	struct le32 signo; /* Linux number, 1..64; sent to the session's process group */
};

struct proto_resize {
	struct le32 session;
	struct le16 rows;
	struct le16 cols;
};

struct proto_started {
	struct le32 session;
	struct le32 pid; /* in the guest's root pid namespace */
	struct le64 boot_ns; /* CLOCK_BOOTTIME when the agent's main began */
	struct le64 started_ns; /* CLOCK_BOOTTIME after the workload's execve succeeded */
};

enum proto_failure {
	PROTO_FAIL_NOT_FOUND = 1, /* 127 */
	PROTO_FAIL_NOT_EXECUTABLE = 2, /* 126 */
	PROTO_FAIL_REFUSED = 3, /* unknown user, bad cwd, …: the verdict `refused` */
};

struct proto_failed {
	struct le32 session;
	struct le32 reason; /* enum proto_failure */
	struct le32 error; /* errno */
	struct le32 zero;
	/* followed by a string: object and what happened, for one error line */
};

enum proto_exit_kind {
	PROTO_EXIT_STATUS = 1, /* value = exit status 0..255 */
	PROTO_EXIT_SIGNAL = 2, /* value = signal */
	/*
	 * value = signal; the guest's OOM killer chose a process of the workload. The kernel counts its
	 * kills by container, so this is as good as certain for one command that died of a SIGKILL that
	 * the host did not ask for, and a guess when several died at the same time.
	 */
	PROTO_EXIT_OOM = 3,
};

struct proto_exited {
	struct le32 session;
	struct le32 kind;
	struct le32 value;
	struct le32 zero;
	struct le64 user_us; /* CPU: of the whole container for the boot session, else of the command and of */
	struct le64 sys_us; /* the children that it waited for */
	struct le64 peak_bytes; /* of the container's memory, for the boot session; 0 unknown */
};

struct proto_query {
	struct le32 request; /* chosen by the host, comes back in the answer */
	struct le32 zero;
};

/*
 * The workload's processes, in order of their pids, by what the kernel says; the container's own pid 1 is
 * not listed. Each is a line "pid\tuid\tstate\trss_kib\tcpu_ms\tcommand line\n": pid as inside the
 * container, state a letter as in ps(1), the command line's first KiB with blanks for its NULs and '?' for
 * control bytes, or its name in brackets where it has none. Last comes "...\n" when not all had room.
 */
struct proto_topped {
	struct le32 request;
	struct le32 zero;
	/* followed by a string, at most PROTO_TOP_MAX with its NUL; no control byte in it but \t and \n */
};

/* Of the guest as its kernel says it; 0 where that says nothing. */
struct proto_statted {
	struct le32 request;
	struct le32 zero;
	struct le64 memory_total; /* bytes that the guest kernel manages */
	struct le64 memory_available; /* bytes that a program could have without swapping */
	struct le64 cpu_idle; /* of all CPUs since the boot, in 1/100 s: idle and waiting for disks */
	struct le64 cpu_total; /* the same, everything */
	struct le64 scratch_size; /* bytes */
	struct le64 scratch_used;
	/* of the container: */
	struct le64 pids; /* processes and threads, its pid 1 not counted */
	struct le64 memory; /* bytes, page cache included */
	struct le64 cpu_us; /* since its start */
};

_Static_assert(sizeof(struct proto_hdr) == 8, "wire");
_Static_assert(sizeof(struct proto_hello) == 8, "wire");
_Static_assert(sizeof(struct proto_setup) == 16, "wire");
_Static_assert(sizeof(struct proto_net) == 72, "wire");
_Static_assert(sizeof(struct proto_publish) == 4, "wire");
_Static_assert(sizeof(struct proto_proxy) == 4, "wire");
_Static_assert(sizeof(struct proto_exec) == 32, "wire");
_Static_assert(sizeof(struct proto_signal) == 8, "wire");
_Static_assert(sizeof(struct proto_resize) == 8, "wire");
_Static_assert(sizeof(struct proto_started) == 24, "wire");
_Static_assert(sizeof(struct proto_failed) == 16, "wire");
_Static_assert(sizeof(struct proto_exited) == 40, "wire");
_Static_assert(sizeof(struct proto_query) == 8, "wire");
_Static_assert(sizeof(struct proto_topped) == 8, "wire");
_Static_assert(sizeof(struct proto_statted) == 80, "wire");
_Static_assert(sizeof(struct proto_topped) + PROTO_TOP_MAX <= PROTO_REPLY_MAX, "a list of processes is a reply");

/* A growing outgoing frame. Zero-initialise; free(data) when done. `failed` is sticky (ENOMEM, too long). */
struct proto_out {
	uint8_t *data;
	size_t len, cap;
	size_t begun; /* offset of the frame last begun */
	bool failed;
};

void proto_begin(struct proto_out *out, enum proto_type type); /* appends a header */
void proto_put(struct proto_out *out, const void *p, size_t len);
void proto_put_str(struct proto_out *out, const char *s); /* with its NUL */
void proto_end(struct proto_out *out); /* patches the length of the frame last begun */

/* An incoming payload being read. Readers return 0 or -EPROTO and never pass `end`. */
struct proto_in {
	const uint8_t *pos, *end;
};

int proto_get(struct proto_in *in, void *dst, size_t len);
int proto_get_str(struct proto_in *in, const char **ret_s); /* points into the payload */

/*
 * Reads `count` strings into a new NULL-terminated array that points into the payload; the caller
 * frees the array only. -EPROTO when count > PROTO_STRINGS_MAX or the payload is too short.
 */
int proto_get_strs(struct proto_in *in, uint32_t count, char ***ret_strs);

/*
 * Looks for one whole frame at buf[0..len). Returns its total size and fills type and payload,
 * 0 when more bytes are needed, -EPROTO when the header is not acceptable (payload above max, zero not 0).
 */
long proto_next(const uint8_t *buf, size_t len, size_t max, uint16_t *ret_type, struct proto_in *ret_in);

#define PROTO_DATAGRAM_HEAD 2U /* bytes of its length on the wire */

/* Of a published UDP port: the same for one datagram at buf[0..len). -EPROTO: longer than PROTO_DATAGRAM_MAX. */
long proto_next_datagram(const uint8_t *buf, size_t len, struct proto_in *ret_in);
void proto_put_datagram_head(uint8_t head[PROTO_DATAGRAM_HEAD], size_t len);

/*
 * Whether `in` begins with a HELLO of our magic and version: 0, -EPROTO when it is none, -EPROTONOSUPPORT
 * when it speaks another PROTO_VERSION. *ret_version (may be NULL): the peer's program version.
 */
int proto_check_hello(struct proto_in *in, const char **ret_version);

#endif
