/*
 * libmvm: run workloads in microVMs of their own.
 *
 * Purpose: describe a VM (mvm_spec_*), start it (mvm_start), follow and steer it (mvm_next,
 *          mvm_signal, …). The mvm command is written on these calls alone.
 * Trust:   option values come from the user; texts in errors and events are made harmless for a
 *          terminal, whoever wrote them.
 * Ownership: *_new and mvm_start hand out what *_free takes back; *_free(NULL) is legal.
 * Thread:  any; an object belongs to one thread at a time. No global state.
 * Returns: 0 or -errno unless said otherwise; outputs are written on success only. `err` may be
 *          NULL; when given it holds, on failure, one line: the object, the reason, the remedy.
 * ABI:     within libmvm.so.0 nothing is taken away. What the library hands out as pointers to const
 *          may grow at the end; enums may gain values, which a caller passes over. What a caller
 *          allocates begins with `size`, set by its initialiser (MVM_START_OPTIONS, MVM_LIMITS_KEEP):
 *          -EINVAL without it, -E2BIG when a library older than the header would pass a field over.
 *          struct mvm_error alone stays as it is for ever.
 */
#ifndef MVM_MVM_H
#define MVM_MVM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default) /* all else in the library is hidden */

#define MVM_ERROR_TEXT_MAX 1024
#define MVM_ID_LEN         12 /* hex digits */

struct mvm_error {
	int code; /* errno, positive; what the call returned is -code */
	char text[MVM_ERROR_TEXT_MAX];
};

/* A time as options have it: seconds, or a number with ms, s, m, h or d. -EINVAL, -ERANGE. */
int mvm_parse_time(const char *text, uint64_t *ret_ns);

/* The library's version, "0.1.0": of what is loaded, not of this header. Static. */
const char *mvm_version(void);

/* ---- what is to run ---- */

struct mvm_spec;

/* An option of a spec; the names are the command's long flags and the keys of its JSON form. */
struct mvm_option {
	const char *name;
	char letter; /* short flag, 0: none */
	bool repeats; /* may be given several times; an array in JSON */
	const char *metavar; /* NULL: a switch, without a value */
	const char *help;
};

/* The option at `index`, in the order of the manual; NULL past the last. */
const struct mvm_option *mvm_spec_option(size_t index);

int mvm_spec_new(struct mvm_spec **ret_spec);
void mvm_spec_free(struct mvm_spec *spec);

/*
 * Sets one option from text, as on a command line. A switch takes NULL, "true" or "false".
 * -EINVAL: unknown name (the nearest known one is named) or a value out of range.
 */
int mvm_spec_set(struct mvm_spec *spec, const char *name, const char *value, struct mvm_error *err);

/* The command and its arguments, NULL-terminated; copied. */
int mvm_spec_set_args(struct mvm_spec *spec, const char *const *args, struct mvm_error *err);

/* Whether an option of that name was set (the switches: set to true); "args": whether there is a command. */
bool mvm_spec_has(const struct mvm_spec *spec, const char *name);

/* Checks what single options cannot: what is missing, what excludes what. mvm_start does it too. */
int mvm_spec_check(const struct mvm_spec *spec, struct mvm_error *err);

int mvm_spec_to_json(const struct mvm_spec *spec, char **ret_json, struct mvm_error *err); /* free() it */
int mvm_spec_from_json(const char *json, size_t len, struct mvm_spec **ret_spec, struct mvm_error *err);

/*
 * Whether a receipt (--receipt, --sign) is, byte for byte, what was signed with the private key that belongs to `key`, a
 * public one in PEM. `signature`: its file; NULL: the receipt's name and ".sig". -EBADMSG: it is not; others: a file
 * cannot be read, or is not what it should be.
 */
int mvm_receipt_verify(const char *receipt, const char *signature, const char *key, struct mvm_error *err);

/* ---- networks ---- */

/* What a network is like; what is left out is chosen. */
struct mvm_network_options {
	uint32_t size; /* of this struct: MVM_NETWORK_OPTIONS sets it */
	uint8_t internal; /* 1: it leads nowhere */
	uint8_t isolated; /* 1: its VMs do not reach each other */
	uint16_t reserved; /* 0 */
	const char *subnet, *subnet6; /* "10.1.2.0/24", "fd12:3456:789a::/64" */
};

/* struct mvm_network_options options = MVM_NETWORK_OPTIONS; */
#define MVM_NETWORK_OPTIONS                                                                                            \
	{                                                                                                              \
		sizeof(struct mvm_network_options), 0, 0, 0, NULL, NULL                                                \
	}

/* A network that VMs of this user's join with the option net=NAME. NULL for options is MVM_NETWORK_OPTIONS. */
int mvm_network_create(const char *name, const struct mvm_network_options *options, struct mvm_error *err);
int mvm_network_remove(const char *name, struct mvm_error *err); /* -EBUSY: VMs are on it */

/* An array of all networks, or the object of one, with the VMs that are on it; free() it. */
int mvm_networks_to_json(const char *name, char **ret_json, struct mvm_error *err);

/* ---- a run ---- */

struct mvm_vm;

enum mvm_stream { MVM_STDIN, MVM_STDOUT, MVM_STDERR, MVM_STREAMS };

enum mvm_log_level { MVM_LOG_ERROR, MVM_LOG_WARNING, MVM_LOG_INFO, MVM_LOG_DEBUG };

enum mvm_event_type {
	MVM_EVENT_STARTED =
		1, /* the workload's execve succeeded; text: the VM's id. Of a detached VM the last event. */
	MVM_EVENT_LOG, /* level, text */
	MVM_EVENT_ASK_BUSY, /* the VM is over but for output: call mvm_answer_busy() */
	MVM_EVENT_ENDED, /* verdict, status, text (the cause); the last event */
	MVM_EVENT_ALIVE, /* answer to mvm_ping() */
};

struct mvm_event {
	enum mvm_event_type type;
	enum mvm_log_level level;
	int status; /* exit status that mvm's table gives the verdict */
	const char *verdict; /* static */
	const char *text;
};

/* Where and when the caller's own story began. */
struct mvm_start_options {
	uint32_t size; /* of this struct: MVM_START_OPTIONS sets it */
	uint16_t rows, cols; /* of the terminal, with the option tty */
	uint64_t began_ns; /* CLOCK_MONOTONIC: the zero of the receipt's times; 0: now */
	const char *supervisor; /* path of mvm-supervisor; NULL: found beside the program or installed */
	uint32_t attach; /* 1: a detached VM's streams are handed out from their first byte on, as by mvm_attach() */
	uint32_t nsockets;
	/*
	 * TCP sockets that listen already, as a service manager hands them over; for mvm_start(). An option publish with the
	 * address and port of one takes a copy of it instead of listening itself; each has to be taken by one.
	 */
	const int *sockets;
};

/* struct mvm_start_options options = MVM_START_OPTIONS; */
#define MVM_START_OPTIONS                                                                                              \
	{                                                                                                              \
		sizeof(struct mvm_start_options), 0, 0, 0, NULL, 0, 0, NULL                                            \
	}

/*
 * Starts a VM under a supervisor of its own and returns at once; a VM that cannot be started
 * reports so by MVM_EVENT_ENDED with the verdict "refused". When the caller dies the VM is ended.
 * NULL for options is MVM_START_OPTIONS. The supervisor is a child process: SIGCHLD comes when it ends.
 */
int mvm_start(const struct mvm_spec *spec, const struct mvm_start_options *options, struct mvm_vm **ret_vm,
	      struct mvm_error *err);

/*
 * The caller's end of a stream: a non-blocking socket, then owned by the caller; -1 when the spec
 * has none (stdin without `interactive`; stderr with `tty`, where stdin's is the terminal both
 * ways). End-of-file on the outputs means that all was delivered.
 */
int mvm_take_stream(struct mvm_vm *vm, enum mvm_stream stream);

int mvm_fd(const struct mvm_vm *vm); /* readable: call mvm_next() until it returns 0 */

/*
 * 1 and an event, 0 when there is none now, -EPIPE when the supervisor died without a result. The event
 * belongs to the VM and is valid until the next call.
 */
int mvm_next(struct mvm_vm *vm, const struct mvm_event **ret_event);

int mvm_signal(struct mvm_vm *vm, int signo); /* to the workload */
int mvm_resize(struct mvm_vm *vm, uint16_t rows, uint16_t cols);
int mvm_stop(struct mvm_vm *vm); /* workload killed, file systems synced, VM ended: verdict `operator` */
int mvm_kill(struct mvm_vm *vm); /* VM ended at once: verdict `operator` */
/*
 * Asks supervisor and VM whether they are alive: MVM_EVENT_ALIVE when both answered, the VM by its I/O loop; what is asked
 * while an answer is awaited is answered with it. For a VM that is paused, or ending, the supervisor answers alone.
 */
int mvm_ping(struct mvm_vm *vm);
int mvm_answer_busy(struct mvm_vm *vm, bool busy); /* busy: some output still waits for its reader */

/*
 * Bytes went through the streams of a run of mvm_start()'s: with the option idle-timeout, which cannot see them, it is
 * not idle. Once a second is often enough.
 */
int mvm_active(struct mvm_vm *vm);

bool mvm_has_terminal(const struct mvm_vm *vm); /* its command has one: the option tty */

/* Ends the VM if it is still there, and waits for its supervisor's end; of mvm_exec() and mvm_attach() see there. */
void mvm_free(struct mvm_vm *vm);

/* Lets go of a detached VM that has started: it runs on, whoever has its streams. Of one that has ended it waits for the supervisor's end. */
void mvm_release(struct mvm_vm *vm);

/* ---- VMs that somebody started: each by its name, its id, or the beginning of either ---- */

/* What a VM's record says. Strings belong to the list, harmless on a terminal. */
struct mvm_vm_entry {
	const char *id, *name; /* name: "" without one */
	const char *rootfs, *command;
	const char *
		state; /* "booting", "running", "paused", "restarting", "ended"; "unknown": its record cannot be read */
	bool detached;
	int supervisor, vmm; /* processes; 0 once it has ended */
	uint64_t began_ns, ended_ns; /* CLOCK_REALTIME; 0: not yet */
	const char *verdict, *cause; /* "" until it has ended */
	int status;
	uint32_t restarts; /* by the option restart, since somebody started it */
	const char *ports; /* published ones: "127.0.0.1:8080->80/tcp, …"; "" without any */
};

struct mvm_list;

/* The caller's VMs, those that began last first. `ended`: with those that have a name and have ended. */
int mvm_list_new(bool ended, struct mvm_list **ret_list, struct mvm_error *err);
void mvm_list_free(struct mvm_list *list);
const struct mvm_vm_entry *mvm_list_at(const struct mvm_list *list, size_t index); /* NULL past the last */

/* How a VM ended, as in its receipt. */
struct mvm_end {
	uint32_t size; /* of this struct: MVM_END sets it */
	const char *verdict; /* static */
	int status;
	char cause[MVM_ERROR_TEXT_MAX];
};

/* struct mvm_end end = MVM_END; */
#define MVM_END                                                                                                        \
	{                                                                                                              \
		sizeof(struct mvm_end), 0, 0,                                                                          \
		{                                                                                                      \
			0                                                                                              \
		}                                                                                                      \
	}

/* Waits for its end, for ever; of one that is started again, for its last. -ESRCH: no such VM (of one without a name nothing is left at its end). */
int mvm_wait(const char *id, struct mvm_end *ret_end, struct mvm_error *err);

/*
 * Ends it: SIGTERM for its command, `grace_ns` later SIGKILL, then the file systems are synced. Returns when it
 * has ended, verdict `operator`. 0 also when it had ended already. ret_end may be NULL.
 */
int mvm_end(const char *id, uint64_t grace_ns, struct mvm_end *ret_end, struct mvm_error *err);

/* A signal for its command; SIGKILL ends the VM at once, and is waited for. */
int mvm_send_signal(const char *id, int signo, struct mvm_error *err);

/*
 * A further command in a VM that runs: of the spec its command, environment, workdir, user, interactive and tty. As
 * mvm_start(): streams, mvm_next(), mvm_signal() and mvm_resize() are the command's, MVM_EVENT_ENDED its end; mvm_stop()
 * and mvm_kill() kill it, mvm_free() and the caller's own end, too.
 */
int mvm_exec(const char *id, const struct mvm_spec *spec, const struct mvm_start_options *options,
	     struct mvm_vm **ret_vm, struct mvm_error *err);

/* How files are copied. */
struct mvm_copy_options {
	uint32_t size; /* of this struct: MVM_COPY_OPTIONS sets it */
	int fd; /* a tar stream, where the host's path is NULL: read or written to its end, not closed */
	bool archive; /* owner, group and the whole mode stay; else what is made belongs to root there, to the caller here */
	bool follow; /* a source that is a symbolic link means what it leads to */
	uint16_t reserved; /* 0 */
};

/* struct mvm_copy_options options = MVM_COPY_OPTIONS; */
#define MVM_COPY_OPTIONS                                                                                               \
	{                                                                                                              \
		sizeof(struct mvm_copy_options), -1, false, false, 0                                                   \
	}

/*
 * Files, folders and symbolic links of the host's into a VM that runs, and out of it, as docker cp has it: a source
 * FOLDER/. means what is in it; a destination that is a folder gets the source below it, another one is what the source
 * becomes. Whatever the guest sends, nothing but the destination is touched: mvm-cp(1). Returns when all is there; a file has
 * its name when it is whole. NULL for options is MVM_COPY_OPTIONS. ret_note (may be NULL): one line about what was
 * left out (devices, fifos, sockets), "" when nothing was. -ESRCH no such VM, and others.
 */
int mvm_copy_in(const char *id, const char *from, const char *to, const struct mvm_copy_options *options,
		char ret_note[MVM_ERROR_TEXT_MAX], struct mvm_error *err);
int mvm_copy_out(const char *id, const char *from, const char *to, const struct mvm_copy_options *options,
		 char ret_note[MVM_ERROR_TEXT_MAX], struct mvm_error *err);

/*
 * The own command of a detached VM, as mvm_start() gives it: what it prints from now on, and where the VM has the
 * option interactive its stdin; mvm_take_stream() gives -1 for what there is not, and of a terminal the output as
 * stdout, apart from stdin. Several may be attached at once; their input is taken in the order of its arrival, and the
 * end of one's is not the command's. What is not read slows the command down, for five seconds: then MVM_EVENT_ENDED
 * comes with the verdict "refused". Else it comes with the end of this run. mvm_signal() and mvm_resize() are for the
 * command, mvm_stop() and mvm_kill() end the VM; mvm_free() leaves it as it is.
 */
int mvm_attach(const char *id, struct mvm_vm **ret_vm, struct mvm_error *err);

/* Stops a VM's time until it is resumed. -EALREADY: as it is. */
int mvm_pause(const char *id, struct mvm_error *err);
int mvm_resume(const char *id, struct mvm_error *err);

/* What a VM uses: the host's numbers; from guest_memory_total to scratch_used the guest's word. 0: not to be told (now). */
struct mvm_stats {
	uint32_t size; /* of this struct: MVM_STATS sets it */
	uint32_t reserved; /* 0 */
	uint64_t wall_ns, cpu_ns; /* since its process began */
	uint64_t memory, memory_peak, memory_max; /* bytes, of its cgroup */
	uint64_t guest_memory_total, guest_memory_available; /* bytes */
	uint64_t guest_pids, guest_cpu_us; /* of the workload */
	uint64_t scratch_size, scratch_used; /* bytes */
	/* Of published ports: clients there are now and were taken, by the host; the VMM's word. */
	uint64_t publish_open, publish_accepted, publish_refused;
	uint64_t publish_from_guest, publish_to_guest; /* bytes */
	/* Of --proxy, the proxy's word: connections that it made, refused by the rules, and could not make. */
	uint64_t proxy_opened, proxy_refused, proxy_failed;
	uint64_t proxy_from_guest, proxy_to_guest; /* bytes */
	/* Of published UDP ports, by the word of who serves them: datagrams that were passed on, and dropped. */
	uint64_t udp_from_clients, udp_to_clients, udp_dropped;
	/*
	 * Of --net user, --net bridge=, named networks and --proxy, by the word of mvm-net: connections now and ever, what crossed
	 * the link to the outside (of named networks all that passes), and packets that the rules refused.
	 */
	uint64_t net_flows, net_flows_begun;
	uint64_t net_out_packets, net_out_bytes, net_in_packets, net_in_bytes;
	uint64_t net_refused;
};

/* struct mvm_stats stats = MVM_STATS; */
#define MVM_STATS                                                                                                      \
	{                                                                                                              \
		sizeof(struct mvm_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,   \
			0, 0, 0, 0, 0, 0, 0                                                                            \
	}

int mvm_get_stats(const char *id, struct mvm_stats *ret_stats, struct mvm_error *err);

/*
 * A connection of a VM with --net user or on a named network (of several the first), as its guest began it; with --net
 * bridge=, also as others began it with the guest; or with --proxy, as the proxy did for it. By the word of mvm-net, which
 * has it of the kernel. Texts are harmless on a terminal.
 */
struct mvm_flow {
	const char *protocol; /* "tcp", "udp", "icmp", or a number */
	const char *from, *to; /* addresses */
	uint16_t from_port, to_port; /* of tcp and udp; else 0 */
	const char *state; /* of tcp: "established" and so on; else "" */
	bool answered; /* something came back */
	uint64_t age_s; /* UINT64_MAX: not known */
	uint64_t out_packets, out_bytes, in_packets, in_bytes;
};

struct mvm_flows;

/*
 * Those through which most bytes went, 256 at most, the busiest first. -ENOTSUP: neither --net user, --net bridge=, a
 * named network nor --proxy.
 */
int mvm_flows_new(const char *id, struct mvm_flows **ret_flows, struct mvm_error *err);
void mvm_flows_free(struct mvm_flows *flows);
const struct mvm_flow *mvm_flows_at(const struct mvm_flows *flows, size_t index); /* NULL past the last */
uint64_t mvm_flows_all(const struct mvm_flows *flows); /* how many there are; UINT64_MAX: more than were looked at */

/*
 * The processes in a VM, the guest's word: lines "pid\tuid\tstate\trss_kib\tcpu_ms\tcommand", "..." at the end when
 * not all had room; free() it.
 */
int mvm_top(const char *id, char **ret_text, struct mvm_error *err);

/* Forgets a VM with a name. -EBUSY while it lives, unless `force`: then it is killed first. */
int mvm_remove(const char *id, bool force, struct mvm_error *err);

/* Starts one that has ended again, detached; as mvm_start(). */
int mvm_start_again(const char *id, const struct mvm_start_options *options, struct mvm_vm **ret_vm,
		    struct mvm_error *err);

/* ---- what a detached VM's command printed ---- */

struct mvm_log;

struct mvm_log_line {
	const char *time; /* RFC 3339, UTC, nanoseconds */
	const char *stream; /* "stdout", "stderr", "mvm" */
	bool partial; /* it goes on in the next line of that stream */
	const char *text; /* as it was written: not harmless on a terminal */
	size_t len;
};

int mvm_log_open(const char *id, struct mvm_log **ret_log, struct mvm_error *err);
void mvm_log_free(struct mvm_log *log);

/* 1 and a line, valid until the next call; 0 when there is none now. */
int mvm_log_next(struct mvm_log *log, const struct mvm_log_line **ret_line);

/* Waits for more. 1 there may be, 0 there will be none: the VM has ended. */
int mvm_log_wait(struct mvm_log *log);

/*
 * What the caller's VMs that live, and their host, do: in Prometheus' text format, version 0.0.4; mvm-metrics(1) lists
 * the families. No guest is asked; supervisors that do not answer are waited for 5 seconds together. free() it.
 */
int mvm_metrics(char **ret_text, struct mvm_error *err);

/* ---- what happened to the caller's VMs, those that are gone included ---- */

struct mvm_events;

/* An event; mvm-events(1) lists their kinds and keys. Everything is harmless on a terminal. */
struct mvm_event_entry {
	const char *time; /* RFC 3339, UTC, nanoseconds */
	const char *kind, *severity; /* "started"; "info", "notice", "warning", "error" */
	const char *id, *name; /* of the VM; "" where it has none */
	const char *details; /* its other keys in one line, "key=value key=value" */
	const char *json; /* all of it: one line */
};

/* From the oldest that is kept; later ones as they happen. The caller's own VMs'. */
int mvm_events_open(struct mvm_events **ret_events, struct mvm_error *err);
void mvm_events_free(struct mvm_events *events);

/* 1 and an event, valid until the next call; 0 when there is none now; -errno. */
int mvm_events_next(struct mvm_events *events, const struct mvm_event_entry **ret_event);

/* Waits for more: returns when there may be some, or after a second. */
void mvm_events_wait(struct mvm_events *events);

/* ---- a run that somebody else started ---- */

#define MVM_KEEP UINT64_MAX

/* What can be changed while a VM runs; MVM_KEEP: stays as it is; 0: no limit. */
struct mvm_limits {
	uint32_t size; /* of this struct: MVM_LIMITS_KEEP sets it */
	uint32_t reserved; /* 0 */
	uint64_t blk_iops, blk_bps; /* of each of its disks */
	uint64_t io_rbps, io_wbps, io_riops, io_wiops; /* of each block device below them */
	uint64_t net_pps, net_bps; /* of each network device and direction */
};

/* struct mvm_limits limits = MVM_LIMITS_KEEP; */
#define MVM_LIMITS_KEEP                                                                                                \
	{                                                                                                              \
		sizeof(struct mvm_limits), 0, MVM_KEEP, MVM_KEEP, MVM_KEEP, MVM_KEEP, MVM_KEEP, MVM_KEEP, MVM_KEEP,    \
			MVM_KEEP                                                                                       \
	}

/*
 * Sets one of them from text, named and written as the option of a spec ("blk-bps", "10m"). "io-max" sets those that are
 * named in its value, where 0 is: no limit.
 */
int mvm_limits_set(struct mvm_limits *limits, const char *name, const char *value, struct mvm_error *err);

/*
 * Changes them for the VM whose id is, or begins uniquely with, `id`; of the caller's own user. Waits
 * for its supervisor, 15 seconds at most. -ESRCH no such VM, -ENOTUNIQ several, -ESHUTDOWN it is ending, and others.
 */
int mvm_update(const char *id, const struct mvm_limits *limits, struct mvm_error *err);

/* What is told of a VM that lives. */
struct mvm_vm_info {
	const char *id, *folder; /* of its state */
	const char *state; /* "booting", "running", "paused", "ending", "restarting" */
	const char *spec; /* the JSON that makes it again; what was changed meanwhile is in it */
	int supervisor, vmm; /* processes */
	uint64_t began_ns; /* CLOCK_REALTIME */
	uint32_t restarts; /* by the option restart, since somebody started it */
	const char *ports; /* published ones: "127.0.0.1:8080->80/tcp, …"; "" without any */
};

enum mvm_layer_state {
	MVM_LAYER_OK,
	MVM_LAYER_WEAK, /* in force, looser than it could be */
	MVM_LAYER_MISSING,
	MVM_LAYER_UNREADABLE, /* not to be told by this caller, or not at all */
};

/* A layer of what stands around the VM's process, read back from it. Texts are harmless on a terminal. */
struct mvm_layer {
	const char *name; /* unique, [a-z-] */
	enum mvm_layer_state state;
	bool required; /* without it no VM is started … */
	bool allowed; /* … unless, as here, the operator allowed it to be missing */
	const char *measure; /* of ANSSI's Linux configuration guide that it answers: "R65", "R66" */
	const char *found;
};

struct mvm_inspection;

/*
 * Looks at the VM whose id is, or begins uniquely with, `id`; of the caller's own user, or as root of any. With `security` its
 * process is looked at, too; as root each of its threads stops for less than a millisecond, for its filters. Waits
 * for its supervisor, 15 seconds at most. -ESRCH no such VM, -ENOTUNIQ several, -EAGAIN it is just starting, and
 * others.
 */
int mvm_inspect(const char *id, bool security, struct mvm_inspection **ret_inspection, struct mvm_error *err);
void mvm_inspect_free(struct mvm_inspection *inspection);

const struct mvm_vm_info *mvm_inspect_info(const struct mvm_inspection *inspection);

/* The layer at `index`, in a fixed order; NULL past the last, and without `security`. */
const struct mvm_layer *mvm_inspect_layer(const struct mvm_inspection *inspection, size_t index);

/* No required layer is missing but those that were allowed to be. */
bool mvm_inspect_holds(const struct mvm_inspection *inspection);

/* Everything, with what was read as it was. free() it. */
int mvm_inspect_to_json(const struct mvm_inspection *inspection, char **ret_json, struct mvm_error *err);

/* "ok", "weak", "missing", "unreadable". */
const char *mvm_layer_state_name(enum mvm_layer_state state);

/* ---- about this installation ---- */

/* Where a part ("mvm-supervisor", "mvm-vmm", "agent.cpio", "vmlinux") is; -ENOENT. free() it. */
int mvm_part_path(const char *part, char **ret_path, struct mvm_error *err);

/* The banner ("Linux version …") inside a kernel image; -ENOENT when it has none. free() it. */
int mvm_kernel_version(const char *path, char **ret_banner, struct mvm_error *err);

/* ---- about this host ---- */

enum mvm_check_state {
	MVM_CHECK_OK,
	MVM_CHECK_WARNING, /* mvm runs, slower or less apart from its neighbours */
	MVM_CHECK_PROBLEM, /* mvm cannot run as this user here */
	MVM_CHECK_SKIPPED, /* it does not apply, or cannot be told */
};

/* One thing looked at: one line each, harmless on a terminal, owned by the doctor. */
struct mvm_check {
	const char *name; /* unique, [a-z0-9.-]; the same in every version that has the check */
	enum mvm_check_state state;
	const char *found;
	const char *remedy; /* a command or a setting; "" where nothing is to be done */
};

struct mvm_doctor;

/*
 * Looks at what the host offers to the calling user: KVM, CPU, kernel, cgroups, limits, mvm's own parts.
 * Changes nothing; a child process ends at once. Takes milliseconds. -ENOMEM only: what cannot be
 * read is a check's finding.
 */
int mvm_doctor_new(struct mvm_doctor **ret_doctor, struct mvm_error *err);
void mvm_doctor_free(struct mvm_doctor *doctor);

/* The check at `index`, in a fixed order; NULL past the last. */
const struct mvm_check *mvm_doctor_check(const struct mvm_doctor *doctor, size_t index);

/* "ok", "warning", "problem", "not checked". */
const char *mvm_check_state_name(enum mvm_check_state state);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
