/*
 * A stand-in for mvm-vmm that needs no KVM: it takes the same descriptors, plays VMM and agent,
 * and "runs" a few built-in commands. Its bad manners prove what the supervisor makes of a VMM or
 * an agent that somebody took over.
 *
 * The command line of the config may hold fake=MODE; see modes[]. Commands: echo ARG…, cat,
 * exit N, killed N, err TEXT, both, sleep (until a signal), yes, size (prints rows and columns,
 * again on each resize, until a signal), fail N TEXT; fill (after a signal as much as goes, and dies), spill (without end,
 * once it is told to stop).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "mvm/capture.h"
#include "mvm/control.h"
#include "mvm/proto.h"
#include "mvm/version.h"
#include "mvm/vmm_config.h"

static struct vmm_config config;
static int agent = -1; /* the agent's end of its control session */
static uint8_t inbox[PROTO_PAYLOAD_MAX + 64];
static size_t inbox_len;

static void say(const char *line)
{
	if (write(VMM_FD_LOG, line, strlen(line)) < 0)
		_exit(3);
}

/* What a test asked for is not there: told in words, ended in a way that no test expects. */
static void die(const char *why)
{
	say("error fake: ");
	say(why);
	say("\n");
	_exit(3);
}

static void control_send(uint32_t type, uint32_t id, uint32_t port, uint32_t code, uint64_t arg)
{
	struct control_msg msg = { .type = type, .id = id, .port = port, .code = code, .arg = arg };

	if (write(VMM_FD_CONTROL, &msg, sizeof(msg)) < 0)
		_exit(4); /* the supervisor is gone, or has enough of us */
}

static int control_receive(struct control_msg *msg)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { msg, sizeof(*msg) };
	struct msghdr hdr = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t n = recvmsg(VMM_FD_CONTROL, &hdr, 0);
	struct cmsghdr *cmsg = n > 0 ? CMSG_FIRSTHDR(&hdr) : NULL;
	int fd = -1;

	if (n == 0)
		_exit(0); /* no supervisor, no VM */
	if (n != (ssize_t)sizeof(*msg))
		die("a control message of the wrong size");
	if (cmsg)
		memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	return fd;
}

/* Dials a host port; blocking, as everything here. -1: refused. */
static int dial(uint32_t port)
{
	static uint32_t next_id;
	struct control_msg msg;
	int fd;

	control_send(CONTROL_DIAL, ++next_id, port, 0, 0);
	fd = control_receive(&msg);
	if (msg.type == CONTROL_STOP) {
		control_send(CONTROL_ENDED, 0, 0, VM_END_STOPPED, 0);
		_exit(0);
	}
	if (msg.id != next_id || (msg.type == CONTROL_DIALLED) != (fd >= 0))
		die("an answer that fits no dial");
	if (fd >= 0 && fcntl(fd, F_SETFL, 0) < 0)
		die("no blocking socket");
	return fd;
}

static void agent_send(enum proto_type type, const void *payload, size_t len, const char *text)
{
	struct proto_out out = { 0 };

	proto_begin(&out, type);
	proto_put(&out, payload, len);
	if (text)
		proto_put_str(&out, text);
	proto_end(&out);
	if (out.failed || send(agent, out.data, out.len, MSG_NOSIGNAL) != (ssize_t)out.len)
		die("the supervisor closed the agent's session");
	free(out.data);
}

/* The next frame from the host; false when `wait` is not set and none is whole. */
static bool agent_receive(bool wait, uint16_t *type, struct proto_in *in)
{
	static size_t used;

	memmove(inbox, inbox + used, inbox_len - used);
	inbox_len -= used;
	used = 0;
	for (;;) {
		long size = proto_next(inbox, inbox_len, PROTO_PAYLOAD_MAX, type, in);
		ssize_t n;

		if (size < 0)
			die("not a frame");
		if (size > 0) {
			used = (size_t)size;
			return true;
		}
		n = recv(agent, inbox + inbox_len, sizeof(inbox) - inbox_len, wait ? 0 : MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return false;
		if (n <= 0)
			die("the supervisor closed the agent's session");
		inbox_len += (size_t)n;
	}
}

static struct proto_exec exec_request;
static char **args;

static void greet(void)
{
	struct proto_hello hello = { .magic = le32_of(PROTO_MAGIC), .version = le16_of(PROTO_VERSION) };
	struct proto_setup setup;
	struct proto_in in;
	const char *s;
	uint16_t type;

	agent_send(PROTO_HELLO, &hello, sizeof(hello), MVM_VERSION);
	if (!agent_receive(true, &type, &in) || type != PROTO_HELLO || proto_check_hello(&in, NULL) < 0)
		die("no HELLO first");
	do
		(void)agent_receive(true, &type, &in);
	while (type == PROTO_PUBLISH || type == PROTO_PROXY || type == PROTO_NET);
	if (type != PROTO_SETUP || proto_get(&in, &setup, sizeof(setup)) < 0)
		die("no SETUP second");
	if (proto_get_str(&in, &s) < 0 || strcmp(s, "vda") != 0)
		die("another device than vda");
	if (!agent_receive(true, &type, &in) || type != PROTO_EXEC ||
	    proto_get(&in, &exec_request, sizeof(exec_request)) < 0)
		die("no EXEC third");
	if (proto_get_str(&in, &s) < 0 || proto_get_str(&in, &s) < 0 ||
	    proto_get_strs(&in, le32_get(exec_request.argc), &args) < 0)
		die("EXEC without its strings");
	/* The strings live in the inbox, which the next frame overwrites. */
	for (char **p = args; *p; p++)
		*p = strdup(*p);
}

static void send_started(void)
{
	struct proto_started started = { .session = exec_request.session, .pid = le32_of(2) };

	agent_send(PROTO_STARTED, &started, sizeof(started), NULL);
}

static void send_exited(enum proto_exit_kind kind, uint32_t value)
{
	struct proto_exited exited = { .session = exec_request.session,
				       .kind = le32_of(kind),
				       .value = le32_of(value) };

	agent_send(PROTO_EXITED, &exited, sizeof(exited), NULL);
}

static void wait_for_stop(void)
{
	struct control_msg msg;

	do
		(void)control_receive(&msg);
	while (msg.type != CONTROL_STOP);
}

static void ended(enum vm_end end)
{
	control_send(CONTROL_ENDED, 0, 0, end, 0);
}

static void put(int fd, const char *text)
{
	for (size_t len = strlen(text); len;) {
		ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

		if (n < 0) {
			send_exited(PROTO_EXIT_SIGNAL, SIGPIPE);
			wait_for_stop();
			ended(VM_END_STOPPED);
			_exit(0);
		}
		text += n;
		len -= (size_t)n;
	}
}

static int stream(struct le32 port)
{
	return le32_get(port) == PROTO_PORT_NONE ? -1 : dial(le32_get(port));
}

static void copy(int from, int to)
{
	static char buffer[65536 + 1];
	ssize_t n;

	while (from >= 0 && (n = recv(from, buffer, sizeof(buffer) - 1, 0)) > 0) {
		for (ssize_t at = 0; at < n;) {
			ssize_t done = send(to, buffer + at, (size_t)(n - at), MSG_NOSIGNAL);

			if (done < 0)
				return;
			at += done;
		}
	}
}

/* Serves signals and resizes until a signal ends the command, or CONTROL_STOP the VM. */
static uint32_t until_signal(int out)
{
	struct pollfd fds[2] = { { .fd = agent, .events = POLLIN }, { .fd = VMM_FD_CONTROL, .events = POLLIN } };
	struct proto_signal signal_in;
	struct proto_resize resize;
	struct proto_in in;
	uint16_t type;
	char text[64];

	for (;;) {
		while (agent_receive(false, &type, &in)) {
			if (type == PROTO_SIGNAL && proto_get(&in, &signal_in, sizeof(signal_in)) == 0)
				return le32_get(signal_in.signo);
			if (type == PROTO_SHUTDOWN)
				return SIGKILL;
			if (type == PROTO_RESIZE && proto_get(&in, &resize, sizeof(resize)) == 0) {
				(void)snprintf(text, sizeof(text), "%u %u\r\n", le16_get(resize.rows),
					       le16_get(resize.cols));
				put(out, text);
			}
		}
		if (poll(fds, 2, -1) > 0 && fds[1].revents) {
			struct control_msg msg;

			(void)control_receive(&msg);
			if (msg.type == CONTROL_LIMITS) {
				(void)snprintf(text, sizeof(text), "limits %x %u %llu\n", msg.code, msg.id,
					       (unsigned long long)msg.arg);
				put(out, text);
			} else if (msg.type == CONTROL_STOP) {
				ended(VM_END_STOPPED);
				_exit(0);
			}
		}
	}
}

/* Bytes in lines; false: nobody has taken any for a while. */
static bool put_lines(int fd, int timeout_ms)
{
	struct pollfd room = { .fd = fd, .events = POLLOUT };
	static char lines[65536];

	memset(lines, 'x', sizeof(lines));
	for (size_t i = 99; i < sizeof(lines); i += 100)
		lines[i] = '\n';
	if (poll(&room, 1, timeout_ms) <= 0)
		return false;
	return send(fd, lines, sizeof(lines), MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

static void fill(int out)
{
	put(out, "ready\n");
	(void)until_signal(out);
	while (put_lines(out, 200))
		;
	_exit(9);
}

static void spill(int out)
{
	put(out, "ready\n");
	(void)until_signal(out);
	agent_send(PROTO_BYE, NULL, 0, NULL);
	wait_for_stop();
	while (put_lines(out, -1))
		;
	(void)pause();
}

static void workload(void)
{
	enum proto_exit_kind kind = PROTO_EXIT_STATUS;
	uint32_t value = 0;
	int in = stream(exec_request.stdin_port), out = stream(exec_request.stdout_port);
	int err = stream(exec_request.stderr_port);
	const char *arg = args[0] ? args[1] : NULL;
	char text[64];

	if (le32_get(exec_request.flags) & PROTO_EXEC_TTY)
		out = err = in;
	if (!args[0] || !strcmp(args[0], "fail")) {
		struct proto_failed failed = { .session = exec_request.session,
					       .reason = le32_of((uint32_t)atoi(arg)) };

		agent_send(PROTO_FAILED, &failed, sizeof(failed), args[2]);
		return;
	}
	send_started();
	if (!strcmp(args[0], "echo")) {
		for (char **p = args + 1; *p; p++) {
			put(out, *p);
			put(out, p[1] ? " " : "\n");
		}
	} else if (!strcmp(args[0], "cat")) {
		copy(in, out);
	} else if (!strcmp(args[0], "exit")) {
		value = (uint32_t)atoi(arg);
	} else if (!strcmp(args[0], "killed")) {
		kind = PROTO_EXIT_SIGNAL;
		value = (uint32_t)atoi(arg);
	} else if (!strcmp(args[0], "err")) {
		put(err, arg);
	} else if (!strcmp(args[0], "both")) {
		put(out, "to stdout\n");
		put(err, "to stderr\n");
	} else if (!strcmp(args[0], "yes")) {
		for (;;)
			put(out, "y\n");
	} else if (!strcmp(args[0], "fill")) {
		fill(out);
	} else if (!strcmp(args[0], "spill")) {
		spill(out);
	} else if (!strcmp(args[0], "sleep") || !strcmp(args[0], "size")) {
		if (*args[0] == 's' && args[0][1] == 'i') {
			(void)snprintf(text, sizeof(text), "%u %u\r\n", le16_get(exec_request.rows),
				       le16_get(exec_request.cols));
			put(out, text);
		} else {
			put(out, "ready\n");
		}
		kind = PROTO_EXIT_SIGNAL;
		value = until_signal(out);
	} else {
		die("no such command");
	}
	/* The outputs reach their end before the exit is told. */
	(void)shutdown(out, SHUT_WR);
	(void)close(out);
	if (err >= 0 && err != out)
		(void)close(err);
	if (in >= 0 && in != out)
		(void)close(in);
	send_exited(kind, value);
}

/* ---- bad manners ---- */

static void connect_agent(void)
{
	agent = dial(PROTO_PORT);
	if (agent < 0)
		die("the agent's port was refused");
}

static void running(void)
{
	control_send(CONTROL_RUNNING, 0, 0, 0, CONTROL_VERSION);
}

static void mode_normal(void)
{
	running();
	connect_agent();
	greet();
	workload();
	agent_send(PROTO_BYE, NULL, 0, NULL);
	wait_for_stop();
	ended(VM_END_STOPPED);
}

static void mode_refused_ports(void)
{
	static const uint32_t ports[] = { 0, 2, 22, PROTO_PORT_STREAM + 3, UINT32_MAX };

	running();
	for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++)
		if (dial(ports[i]) >= 0)
			die("a port was granted that nobody asked for");
	connect_agent();
	if (dial(PROTO_PORT) >= 0)
		die("the agent's port was granted twice");
	greet();
	workload();
	if (dial(le32_get(exec_request.stdout_port)) >= 0)
		die("a stream was granted twice");
	wait_for_stop();
	ended(VM_END_STOPPED);
}

static void mode_dial_flood(void)
{
	running();
	for (unsigned i = 0; i < 3000; i++)
		if (dial(7) >= 0)
			die("granted");
	connect_agent();
	greet();
	workload();
	wait_for_stop();
	ended(VM_END_STOPPED);
}

static void mode_deaf_flood(void)
{
	running();
	for (;;) /* never reads an answer */
		control_send(CONTROL_DIAL, 1, 7, 0, 0);
}

static void mode_garbage(void)
{
	if (write(VMM_FD_CONTROL, "garbage", 7) < 0)
		_exit(4);
	(void)pause();
}

static void mode_long_message(void)
{
	struct control_msg two[2] = { { .type = CONTROL_RUNNING, .arg = CONTROL_VERSION } };

	if (write(VMM_FD_CONTROL, two, sizeof(two)) < 0)
		_exit(4);
	(void)pause();
}

static void mode_unasked_pong(void)
{
	control_send(CONTROL_PONG, 1, 0, 0, 0);
	(void)pause();
}

static void mode_unasked_closed(void)
{
	control_send(CONTROL_CLOSED, 1, 0, 0, 0);
	(void)pause();
}

static void mode_unknown_type(void)
{
	control_send(CONTROL_DIALLED, 0, 0, 0, 0);
	(void)pause();
}

static void mode_wrong_version(void)
{
	control_send(CONTROL_RUNNING, 0, 0, 0, CONTROL_VERSION + 1);
	(void)pause();
}

static void mode_pass_descriptor(void)
{
	struct control_msg dial_msg = { .type = CONTROL_RUNNING, .arg = CONTROL_VERSION };
	char bytes[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = { 0 };
	struct iovec iov = { &dial_msg, sizeof(dial_msg) };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = bytes, .msg_controllen = sizeof(bytes) };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&hdr);
	int pair[2];
	char byte;

	if (pipe(pair) < 0)
		die("no pipe");
	*cmsg = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)),
				  .cmsg_level = SOL_SOCKET,
				  .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(cmsg), &pair[1], sizeof(int));
	if (sendmsg(VMM_FD_CONTROL, &hdr, 0) < 0)
		_exit(4);
	(void)close(pair[1]);
	/* End-of-file comes when nobody holds the other end: the supervisor must not. */
	if (read(pair[0], &byte, 1) != 0)
		die("read");
	connect_agent();
	greet();
	workload();
	wait_for_stop();
	ended(VM_END_STOPPED);
}

static void mode_close_control(void)
{
	running();
	(void)close(VMM_FD_CONTROL);
	(void)pause();
}

static void mode_crash_early(void)
{
	(void)signal(SIGSEGV, SIG_DFL);
	*(volatile int *)(uintptr_t)8 =
		0; /* a real fault: the first process of a namespace is deaf to its own signals */
}

static void mode_sigsys(void)
{
	running();
	connect_agent();
	greet();
	(void)prctl(PR_SET_NAME, "stand-in"); /* tests/escape/seen: no VMM is killed for a call */
	(void)signal(SIGSYS, SIG_DFL);
	struct sock_filter deny[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS) };
	struct sock_fprog program = { 1, deny };

	(void)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
	(void)getpid();
}

static void mode_exit_early(void)
{
	say("error config: wrong version\n");
	_exit(1);
}

static void mode_setup(void)
{
	say("error kernel: no segment to load\n");
	ended(VM_END_SETUP);
	_exit(1);
}

/* Set-up cannot fail any more once a guest's agent has spoken. */
static void mode_late_setup(void)
{
	running();
	connect_agent();
	greet();
	say("error kernel: no segment to load\n");
	ended(VM_END_SETUP);
	_exit(1);
}

static void mode_hang(void)
{
	running();
	(void)pause();
	for (;;)
		(void)pause();
}

static void mode_hang_after_exit(void)
{
	running();
	connect_agent();
	greet();
	workload();
	for (;;)
		(void)pause();
}

static void mode_panic(void)
{
	running();
	connect_agent();
	greet();
	send_started();
	say("error guest: panic: reported by the guest kernel\nerror console: Kernel panic - not syncing: "
	    "\033[31mred\nwarning x");
	ended(VM_END_PANIC);
}

static void mode_poweroff(void)
{
	running();
	connect_agent();
	greet();
	send_started();
	ended(VM_END_POWEROFF);
}

static void mode_forged_then_panic(void)
{
	running();
	connect_agent();
	greet();
	send_started();
	send_exited(PROTO_EXIT_STATUS, 0);
	ended(VM_END_PANIC);
}

static void mode_ended_twice(void)
{
	running();
	ended(VM_END_POWEROFF);
	ended(VM_END_PANIC);
	(void)pause();
}

static void mode_odd_end(void)
{
	ended((enum vm_end)999);
}

static void agent_bytes(const void *bytes, size_t len)
{
	running();
	connect_agent();
	if (send(agent, bytes, len, MSG_NOSIGNAL) != (ssize_t)len)
		die("send");
	wait_for_stop();
	ended(VM_END_STOPPED);
}

static void mode_agent_garbage(void)
{
	agent_bytes("\xff\xff\xff\xff\xff\xff\xff\xff", 8);
}

static void mode_agent_large_frame(void)
{
	struct proto_hdr hdr = { .length = le32_of(PROTO_REPLY_MAX + 1), .type = le16_of(PROTO_HELLO) };

	agent_bytes(&hdr, sizeof(hdr));
}

static void mode_agent_no_hello(void)
{
	struct proto_hdr hdr = { .type = le16_of(PROTO_BYE) };

	agent_bytes(&hdr, sizeof(hdr));
}

static void mode_agent_repeats(void)
{
	running();
	connect_agent();
	greet();
	send_started();
	send_started();
	wait_for_stop();
	ended(VM_END_STOPPED);
}

static void mode_agent_error(void)
{
	running();
	connect_agent();
	greet();
	agent_send(PROTO_ERROR, NULL, 0, "vda: cannot be mounted");
	wait_for_stop();
	ended(VM_END_STOPPED);
}

static void mode_agent_gone(void)
{
	running();
	connect_agent();
	greet();
	send_started();
	(void)close(agent);
	wait_for_stop();
	ended(VM_END_STOPPED);
}

static void mode_log_flood(void)
{
	for (unsigned i = 0; i < 20000; i++)
		say("warning guest: something again\n");
	for (unsigned i = 0; i < 3000; i++)
		say("\033]0;title\007x\x9b"
		    "31m");
	say("\nerror the reason\n");
	mode_normal();
}

/* A frame for --pcap, of which `have` bytes come; false: nobody takes it any more. */
static bool capture(struct capture_record record, size_t have)
{
	static uint8_t frame[CAPTURE_FRAME_MAX];
	struct iovec iov[2] = { { &record, sizeof(record) }, { frame, have } };
	struct pollfd room = { .fd = config.capture_fd, .events = POLLOUT };

	while (writev(config.capture_fd, iov, 2) < 0) {
		if (errno == EPIPE || errno == ECONNRESET)
			return false;
		if (errno != EAGAIN || poll(&room, 1, -1) < 0)
			die("the capture takes no frame");
	}
	return true;
}

static void mode_capture(void)
{
	for (unsigned i = 0; i < 3000; i++)
		if (!capture((struct capture_record){ .len = 60 + i % 1400, .to_guest = i & 1 }, 60 + i % 1400))
			die("the capture ended early");
	mode_normal();
}

/* What the supervisor has not read yet when we are gone. */
static void mode_capture_crash(void)
{
	running();
	for (unsigned i = 0; i < 20; i++)
		(void)capture((struct capture_record){ .len = 60 }, 60);
	abort();
}

static void mode_capture_garbage(void)
{
	running();
	(void)capture((struct capture_record){ .len = 60 }, 60);
	(void)capture((struct capture_record){ .len = 60, .net = 200 }, 60);
	wait_for_stop();
	ended(VM_END_STOPPED);
}

/* The bound ends it, and nothing else. */
static void mode_capture_flood(void)
{
	while (capture((struct capture_record){ .len = 1500 }, 1500))
		;
	mode_normal();
}

static void mode_check_fds(void)
{
	char path[64], target[256];
	int expected = VMM_FD_FIRST + 3 + (int)config.ninitrds + (int)config.ndisks + (config.console_fd >= 0) +
		       (int)config.nnets + (config.capture_fd > 0);
	extern char **environ;

	for (int fd = 0; fd < 4096; fd++) {
		bool open = fcntl(fd, F_GETFD) >= 0;

		if (open != (fd < expected)) {
			(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
			target[0] = '\0';
			(void)!readlink(path, target, sizeof(target) - 1);
			die(open ? "a descriptor too many" : "a descriptor is missing");
		}
	}
	if (environ && environ[0])
		die("the environment is not empty");
	if (fcntl(VMM_FD_CONFIG, F_GET_SEALS) != (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE))
		die("the config is not sealed");
	mode_normal();
}

/*
 * A guest that answers each copy out of it with what came on its own stdin, whatever was asked for: once, or, when
 * that begins with '+', what is behind it for ever; after what is behind a '!' it neither ends nor says anything. Copies
 * into it are read and believed.
 */
static void answer_copy(const uint8_t *bytes, size_t len)
{
	bool endless = len && *bytes == '+', mute = len && *bytes == '!';
	int in = stream(exec_request.stdin_port), out = stream(exec_request.stdout_port);
	int err = stream(exec_request.stderr_port);
	ssize_t n = 0;

	send_started();
	if (in >= 0)
		copy(in, err); /* an error line of the host's own bytes */
	do
		for (size_t at = endless || mute; at < len && n >= 0 && in < 0; at += (size_t)n)
			n = send(out, bytes + at, len - at, MSG_NOSIGNAL);
	while (endless && n >= 0 && in < 0);
	(void)close(out);
	if (mute)
		return;
	(void)close(err);
	if (in >= 0)
		(void)close(in);
	send_exited(PROTO_EXIT_STATUS, in >= 0);
}

static void mode_copies(void)
{
	static uint8_t bytes[8 << 20];
	struct proto_in frame;
	size_t len = 0;
	uint16_t type;
	ssize_t n;
	int in, out;

	running();
	connect_agent();
	greet();
	in = stream(exec_request.stdin_port);
	out = stream(exec_request.stdout_port);
	(void)stream(exec_request.stderr_port);
	while ((n = recv(in, bytes + len, sizeof(bytes) - len, 0)) > 0)
		len += (size_t)n;
	send_started();
	put(out, "ready\n");
	while (agent_receive(true, &type, &frame) && type != PROTO_SHUTDOWN)
		if (type == PROTO_EXEC && proto_get(&frame, &exec_request, sizeof(exec_request)) == 0)
			answer_copy(bytes, len);
	agent_send(PROTO_BYE, NULL, 0, NULL);
	wait_for_stop();
	ended(VM_END_STOPPED);
}

static const struct {
	const char *name;
	void (*run)(void);
} modes[] = {
	{ "normal", mode_normal },
	{ "refused-ports", mode_refused_ports },
	{ "dial-flood", mode_dial_flood },
	{ "deaf-flood", mode_deaf_flood },
	{ "garbage", mode_garbage },
	{ "long-message", mode_long_message },
	{ "unknown-type", mode_unknown_type },
	{ "unasked-pong", mode_unasked_pong },
	{ "unasked-closed", mode_unasked_closed },
	{ "wrong-version", mode_wrong_version },
	{ "pass-descriptor", mode_pass_descriptor },
	{ "close-control", mode_close_control },
	{ "crash-early", mode_crash_early },
	{ "sigsys", mode_sigsys },
	{ "exit-early", mode_exit_early },
	{ "setup", mode_setup },
	{ "late-setup", mode_late_setup },
	{ "hang", mode_hang },
	{ "hang-after-exit", mode_hang_after_exit },
	{ "panic", mode_panic },
	{ "poweroff", mode_poweroff },
	{ "forged-then-panic", mode_forged_then_panic },
	{ "ended-twice", mode_ended_twice },
	{ "odd-end", mode_odd_end },
	{ "agent-garbage", mode_agent_garbage },
	{ "agent-large-frame", mode_agent_large_frame },
	{ "agent-no-hello", mode_agent_no_hello },
	{ "agent-repeats", mode_agent_repeats },
	{ "agent-error", mode_agent_error },
	{ "agent-gone", mode_agent_gone },
	{ "log-flood", mode_log_flood },
	{ "capture", mode_capture },
	{ "capture-crash", mode_capture_crash },
	{ "capture-garbage", mode_capture_garbage },
	{ "capture-flood", mode_capture_flood },
	{ "check-fds", mode_check_fds },
	{ "copies", mode_copies },
};

int main(void)
{
	const char *mode;
	size_t len;

	(void)signal(SIGPIPE, SIG_IGN);
	(void)fcntl(VMM_FD_LOG, F_SETFL, 0); /* a flood is to arrive whole */
	if (pread(VMM_FD_CONFIG, &config, sizeof(config), 0) != (ssize_t)sizeof(config) ||
	    config.magic != VMM_CONFIG_MAGIC || config.version != VMM_CONFIG_VERSION || config.size != sizeof(config))
		die("no config");
	mode = strstr(config.cmdline, "fake=");
	mode = mode ? mode + strlen("fake=") : "normal";
	len = strcspn(mode, " ");
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (strlen(modes[i].name) == len && !memcmp(modes[i].name, mode, len)) {
			modes[i].run();
			return 0;
		}
	die("no such mode");
	return 0;
}
