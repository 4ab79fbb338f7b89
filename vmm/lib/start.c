/* The caller's side of a run: spawns the supervisor and speaks with it; see mvm.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jail/hooks.h"
#include "lib/inspect.h"
#include "lib/session.h"
#include "lib/sized.h"
#include "lib/spawn.h"
#include "lib/spec.h"
#include "lib/start.h"
#include "lib/state_dir.h"
#include "lib/text.h"
#include "lib/verdict.h"
#include "mvm/cleanup.h"
#include "mvm/version.h"

extern char **environ;

/* The struct's first size: what every caller has. */
#define OPTIONS_LEAST 24U
_Static_assert(offsetof(struct mvm_start_options, supervisor) + sizeof(char *) == OPTIONS_LEAST, "ABI");

int start_options(const struct mvm_start_options *given, struct mvm_start_options *options, struct mvm_error *err)
{
	return given ? sized_copy(options, sizeof(*options), OPTIONS_LEAST, given, 0, "struct mvm_start_options", err)
		     : 0;
}

static int make_absolute(char **path, const char *folder, struct mvm_error *err)
{
	char *all;

	if (!*path || **path == '/' || !strncmp(*path, SPEC_RECEIPT_FD, strlen(SPEC_RECEIPT_FD)))
		return 0;
	if (asprintf(&all, "%s/%s", strcmp(folder, "/") != 0 ? folder : "", *path) < 0)
		return error_set(err, ENOMEM, "out of memory");
	free(*path);
	*path = all;
	return 0;
}

/* A VM that is to be started again may be from another folder. */
static int make_paths_absolute(struct mvm_spec *spec, struct mvm_error *err)
{
	_cleanup_free_ char *folder = getcwd(NULL, 0);
	const struct spec_key *key;
	int r = 0;

	if (!folder)
		return error_set(err, errno, "the current folder has no name: %s: go to another", strerror(errno));
	for (size_t i = 0; r == 0 && (key = spec_key_at(i)); i++)
		if (key->type == SPEC_PATH)
			r = make_absolute((char **)(void *)((char *)spec + key->offset), folder, err);
	for (size_t i = 0; r == 0 && i < spec->ndisks; i++)
		r = make_absolute(&spec->disks[i].file, folder, err);
	return r;
}

/* Names are resolved here, in a program that is linked dynamically, as the system's resolver wants it. */
static int resolved_json(const struct mvm_spec *spec, char **ret_json, struct mvm_error *err)
{
	_cleanup_free_ char *json = NULL;
	struct mvm_spec *copy;
	int r;

	if (!spec->nports && !spec->name)
		return mvm_spec_to_json(spec, ret_json, err);
	r = mvm_spec_to_json(spec, &json, err);
	if (r < 0)
		return r;
	r = mvm_spec_from_json(json, strlen(json), &copy, err);
	if (r < 0)
		return r;
	r = spec_ports_resolve(copy, err);
	if (r >= 0 && spec->name)
		r = make_paths_absolute(copy, err);
	if (r >= 0)
		r = mvm_spec_to_json(copy, ret_json, err);
	mvm_spec_free(copy);
	return r;
}

static int write_spec(const struct mvm_spec *spec, int *ret_fd, struct mvm_error *err)
{
	_cleanup_fd_ int fd = memfd_create("mvm-spec", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	_cleanup_free_ char *json = NULL;
	size_t len, at = 0;
	int r = resolved_json(spec, &json, err);

	if (r < 0)
		return r;
	if (fd < 0)
		return error_set(err, errno, "spec: no memfd: %s", strerror(errno));
	for (len = strlen(json); at < len;) {
		ssize_t n = write(fd, json + at, len - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return error_set(err, n ? errno : EIO, "spec: cannot be written: %s", strerror(errno));
		at += (size_t)n;
	}
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return error_set(err, errno, "spec: cannot be sealed: %s", strerror(errno));
	*ret_fd = take_fd(&fd);
	return 0;
}

void attached_close(struct attached *attached)
{
	for (unsigned i = 0; i < attached->n; i++)
		(void)close(attached->fds[i]);
}

static int make_streams(const struct mvm_spec *spec, bool attach, struct mvm_vm *vm, struct session_start *start,
			struct attached *attached)
{
	/* Those of a detached VM are its supervisor's, and shared in the way of view.c. */
	const bool of_detached[MVM_STREAMS] = { attach && spec->interactive, attach, attach && !spec->tty };
	const bool own[MVM_STREAMS] = { spec->interactive || spec->tty, !spec->tty, !spec->tty };
	const bool *wanted = spec->detach ? of_detached : own;

	for (unsigned i = 0; i < MVM_STREAMS; i++) {
		int pair[2];

		if (!wanted[i])
			continue;
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
			return -errno;
		vm->streams[i] = pair[0];
		attached->fds[attached->n++] = pair[1];
		start->fds |= (uint32_t)SESSION_HAS_STDIN << i;
	}
	return 0;
}

int vm_new(struct mvm_vm **ret_vm, struct mvm_error *err)
{
	struct mvm_vm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return error_set(err, ENOMEM, "mvm: out of memory");
	vm->session = vm->supervisor = -1;
	/* Asked before a descriptor of ours could take its number. */
	vm->quiet = fcntl(STDERR_FILENO, F_GETFD) < 0;
	for (unsigned i = 0; i < MVM_STREAMS; i++)
		vm->streams[i] = -1;
	*ret_vm = vm;
	return 0;
}

int start_new(const struct mvm_spec *spec, bool attach, struct mvm_vm **ret_vm, struct session_start *start,
	      struct attached *attached, struct mvm_error *err)
{
	struct mvm_vm *vm = NULL;
	int r = vm_new(&vm, err);

	if (r < 0 || !vm)
		return r;
	vm->terminal = spec->tty;
	r = write_spec(spec, &attached->fds[0], err);
	if (r == 0) {
		attached->n = 1;
		r = make_streams(spec, attach, vm, start, attached);
		if (r < 0)
			(void)error_set(err, -r, "streams: no socket: %s: raise the limit of open files (ulimit -n)",
					strerror(-r));
	}
	if (r < 0) {
		attached_close(attached);
		mvm_free(vm);
		return r;
	}
	*ret_vm = vm;
	return 0;
}

/* The caller's descriptor, copied before any of our own could take a closed one's number. -1: none is meant. */
static int copy_receipt(const struct mvm_spec *spec, int *ret_fd, struct mvm_error *err)
{
	uint64_t number;
	int fd;

	*ret_fd = -1;
	if (!spec->receipt || strncmp(spec->receipt, SPEC_RECEIPT_FD, strlen(SPEC_RECEIPT_FD)) != 0)
		return 0;
	if (text_parse_uint(spec->receipt + strlen(SPEC_RECEIPT_FD), INT32_MAX, &number) < 0)
		return error_set(err, EINVAL, "--receipt: %s: not a descriptor", spec->receipt);
	fd = fcntl((int)number, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return error_set(err, EBADF, "--receipt: %s: not open: open it, as in: 3>receipt.json", spec->receipt);
	*ret_fd = fd;
	return 0;
}

/* Copies, as what is attached is ours to close. */
static int copy_sockets(const struct mvm_start_options *options, struct session_start *start, struct attached *attached,
			struct mvm_error *err)
{
	if (options->nsockets > SESSION_SOCKETS_MAX)
		return error_set(err, E2BIG, "%u listening sockets: a VM has %u published ports at most",
				 options->nsockets, SESSION_SOCKETS_MAX);
	for (uint32_t i = 0; i < options->nsockets; i++) {
		int fd = fcntl(options->sockets[i], F_DUPFD_CLOEXEC, 3);

		if (fd < 0)
			return error_set(err, errno, "listening socket %d: %s", options->sockets[i], strerror(errno));
		attached->fds[attached->n++] = fd;
		start->sockets++;
	}
	return 0;
}

struct supervisor_child {
	struct spawn spawn;
	const char *path;
	int session;
	bool quiet; /* the caller has no stderr */
};

static void supervisor_enter(struct spawn *spawn)
{
	char name[] = "mvm-supervisor";
	struct supervisor_child *child = (struct supervisor_child *)spawn; /* its first member */
	char *argv[] = { name, NULL };
	long err;

	/* Bare calls: this child runs in its caller's memory, where a sanitizer keeps accounts of descriptors. */
	if (syscall(SYS_setsid) < 0)
		spawn_failed(spawn, "setsid");
	/* The caller's stderr stays, for a crash of the supervisor itself; its stdout is the workload's alone. */
	if (syscall(SYS_dup2, child->session, SESSION_FD) < 0)
		spawn_failed(spawn, "dup2");
	err = child->quiet ? syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR) : STDERR_FILENO;
	if (syscall(SYS_dup2, err, STDOUT_FILENO) < 0 || syscall(SYS_dup2, STDOUT_FILENO, STDERR_FILENO) < 0)
		spawn_failed(spawn, "dup2");
	/* dup2 onto itself leaves the close-on-exec flag in place. */
	if (child->session == SESSION_FD && syscall(SYS_fcntl, SESSION_FD, F_SETFD, 0) < 0)
		spawn_failed(spawn, "fcntl");
	if (syscall(SYS_close_range, 3U, ~0U, 0) < 0)
		spawn_failed(spawn, "close_range");
	(void)execve(child->path, argv, environ);
	spawn_failed(spawn, "exec");
}

static int start_supervisor(struct mvm_vm *vm, const struct mvm_start_options *options,
			    const struct session_start *start, const struct attached *attached, struct mvm_error *err)
{
	_cleanup_free_ char *found = NULL;
	_cleanup_fd_ int theirs = -1;
	const char *path = options->supervisor;
	struct supervisor_child child;
	int pair[2], r;
	pid_t pid;

	if (!path) {
		r = mvm_part_path("mvm-supervisor", &found, err);
		if (r < 0)
			return r;
		path = found;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set(err, errno, "session socket: %s", strerror(errno));
	vm->session = pair[0];
	theirs = pair[1];
	/* Sent before its reader exists: it finds the message waiting. */
	r = session_send_start(vm->session, start, attached->fds, attached->n);
	if (r < 0)
		return error_set(err, -r, "session socket: %s", strerror(-r));
	child = (struct supervisor_child){
		.spawn.child = supervisor_enter, .path = path, .session = theirs, .quiet = vm->quiet
	};
	r = spawn_run(&child.spawn, &pid, &vm->supervisor);
	if (r < 0)
		return error_set(err, -r, "%s: cannot be started: %s: install mvm again", path, strerror(-r));
	return 0;
}

/* `again`: the id of a VM that has ended, or "". */
static int start(const struct mvm_spec *spec, const struct mvm_start_options *given, const char *again,
		 struct mvm_vm **ret_vm, struct mvm_error *err)
{
	struct mvm_start_options options = MVM_START_OPTIONS;
	struct session_start message = {
		.magic = SESSION_MAGIC,
		.version = SESSION_VERSION,
		.start_ns = text_now_ns(),
		.program = MVM_VERSION,
	};
	struct attached attached = { 0 };
	_cleanup_fd_ int receipt = -1;
	struct mvm_vm *vm = NULL;
	int r = mvm_spec_check(spec, err);

	if (r == 0)
		r = start_options(given, &options, err);
	r = r < 0 ? r : copy_receipt(spec, &receipt, err);
	if (r < 0)
		return r;
	message.rows = options.rows;
	message.cols = options.cols;
	(void)snprintf(message.again, sizeof(message.again), "%s", again);
	message.began_ns = options.began_ns ? options.began_ns : message.start_ns;
	r = start_new(spec, options.attach == 1, &vm, &message, &attached, err);
	if (r < 0 || !vm)
		return r;
	if (receipt >= 0) {
		attached.fds[attached.n++] = take_fd(&receipt);
		message.fds |= SESSION_HAS_RECEIPT;
	}
	r = copy_sockets(&options, &message, &attached, err);
	hooks_stage("asked");
	if (r == 0)
		r = start_supervisor(vm, &options, &message, &attached, err);
	hooks_stage("supervisor-asked");
	attached_close(&attached);
	if (r < 0) {
		mvm_free(vm);
		return r;
	}
	*ret_vm = vm;
	return 0;
}

int mvm_start(const struct mvm_spec *spec, const struct mvm_start_options *options, struct mvm_vm **ret_vm,
	      struct mvm_error *err)
{
	return start(spec, options, "", ret_vm, err);
}

int mvm_start_again(const char *id, const struct mvm_start_options *options, struct mvm_vm **ret_vm,
		    struct mvm_error *err)
{
	char parent[PATH_MAX], found[MVM_ID_LEN + 1];
	_cleanup_free_ char *json = NULL;
	_cleanup_fd_ int folder = -1;
	struct mvm_spec *spec;
	int r = state_dir_parent(parent, err);

	if (r < 0)
		return r;
	(void)state_dir_reclaim(parent, "");
	r = state_dir_find(parent, id, true, found, &folder, err);
	if (r < 0)
		return r;
	r = state_dir_read(folder, INSPECT_SPEC_FILE, SPEC_JSON_MAX, &json);
	if (r < 0)
		return error_set(err, -r, "%s/%s/" INSPECT_SPEC_FILE ": cannot be read: %s: mvm rm %s", parent, found,
				 strerror(-r), found);
	r = mvm_spec_from_json(json, strlen(json), &spec, err);
	if (r < 0)
		return r;
	spec->detach = true;
	r = start(spec, options, found, ret_vm, err);
	mvm_spec_free(spec);
	return r;
}

int mvm_take_stream(struct mvm_vm *vm, enum mvm_stream stream)
{
	return take_fd(&vm->streams[stream]);
}

int mvm_fd(const struct mvm_vm *vm)
{
	return vm->session;
}

int mvm_next(struct mvm_vm *vm, const struct mvm_event **ret_event)
{
	struct mvm_event *event = &vm->event;

	for (;;) {
		int r = session_receive(vm->session, &vm->msg);

		if (r <= 0)
			return r;
		*event = (struct mvm_event){ .level = MVM_LOG_ERROR, .text = vm->msg.text };
		text_harmless(vm->msg.text);
		switch (vm->msg.type) {
		case SESSION_STARTED:
			event->type = MVM_EVENT_STARTED;
			vm->started = true;
			event->level = MVM_LOG_INFO;
			break;
		case SESSION_LOG:
			event->type = MVM_EVENT_LOG;
			event->level = (enum mvm_log_level)(vm->msg.code & 3);
			break;
		case SESSION_ASK_BUSY:
			event->type = MVM_EVENT_ASK_BUSY;
			break;
		case SESSION_PONG:
			event->type = MVM_EVENT_ALIVE;
			event->level = MVM_LOG_INFO;
			break;
		case SESSION_ENDED:
			event->type = MVM_EVENT_ENDED;
			event->status = vm->msg.code;
			event->verdict = verdict_name(vm->msg.kind);
			break;
		default:
			continue; /* a newer supervisor cannot be there: the versions were compared */
		}
		*ret_event = event;
		return 1;
	}
}

int mvm_signal(struct mvm_vm *vm, int signo)
{
	return session_send(vm->session, SESSION_SIGNAL, signo, 0, NULL);
}

int mvm_resize(struct mvm_vm *vm, uint16_t rows, uint16_t cols)
{
	return session_send(vm->session, SESSION_RESIZE, (int32_t)((uint32_t)rows << 16 | cols), 0, NULL);
}

int mvm_stop(struct mvm_vm *vm)
{
	return session_send(vm->session, SESSION_STOP, 0, 0, NULL);
}

int mvm_kill(struct mvm_vm *vm)
{
	return session_send(vm->session, SESSION_KILL, 0, 0, NULL);
}

int mvm_ping(struct mvm_vm *vm)
{
	return session_send(vm->session, SESSION_PING, 0, 0, NULL);
}

bool mvm_has_terminal(const struct mvm_vm *vm)
{
	return vm->terminal;
}

int mvm_active(struct mvm_vm *vm)
{
	return session_send(vm->session, SESSION_ACTIVE, 0, 0, NULL);
}

int mvm_answer_busy(struct mvm_vm *vm, bool busy)
{
	return session_send(vm->session, SESSION_BUSY, busy, 0, NULL);
}

void mvm_release(struct mvm_vm *vm)
{
	if (vm && vm->started) {
		/* Should the caller live on, it is for it to reap; should it not, for pid 1. */
		cleanup_fd(&vm->supervisor);
		vm->supervisor = -1;
	}
	mvm_free(vm);
}

void mvm_free(struct mvm_vm *vm)
{
	siginfo_t info;

	if (!vm)
		return;
	for (unsigned i = 0; i < MVM_STREAMS; i++)
		cleanup_fd(&vm->streams[i]);
	cleanup_fd(&vm->session);
	if (vm->supervisor >= 0)
		while (waitid(P_PIDFD, (id_t)vm->supervisor, &info, WEXITED) < 0 && errno == EINTR)
			;
	cleanup_fd(&vm->supervisor);
	free(vm);
}
