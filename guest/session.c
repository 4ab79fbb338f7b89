#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "copy.h"
#include "exec.h"
#include "mvm/cleanup.h"
#include "session.h"

void session_init(struct session *s, int epoll)
{
	*s = (struct session){ .epoll = epoll, .pidfd = -1 };
	for (int i = 0; i < 3; i++)
		stream_init(&s->streams[i], epoll);
}

static bool is_boot(const struct session *s)
{
	return s->id == PROTO_SESSION_BOOT;
}

static void command_ended(struct watch *w, uint32_t events)
{
	struct session *s = watch_owner(w, struct session, watch);

	(void)events;
	if (s->pidfd < 0 || wait4(s->pid, &s->status, WNOHANG, &s->usage) == 0)
		return;
	watch_close(s->epoll, &s->pidfd);
	/* The boot session's streams end by themselves, with the last process of the container. */
	for (int i = 0; i < 3 && !is_boot(s); i++)
		stream_finish(&s->streams[i]);
}

static const char *const stream_names[] = { "stdin", "stdout", "stderr" };

static int dial_streams(struct session *s, const struct exec_request *req, struct failure *f)
{
	for (int i = 0; i < 3; i++) {
		int r = req->ports[i] == PROTO_PORT_NONE ? 0 : stream_dial(&s->streams[i], req->ports[i]);

		if (r < 0)
			return fail(f, -r, "%s", req->tty ? "terminal" : stream_names[i]);
	}
	return 0;
}

static int open_streams(struct session *s, const struct exec_request *req, struct exec_launch *launch,
			struct failure *f)
{
	if (req->tty) {
		int r = stream_tty(&s->streams[0], req->rows, req->cols, &launch->tty_number);

		return r < 0 ? fail(f, -r, "terminal") : 0;
	}
	for (int i = 0; i < 3; i++) {
		int r = req->ports[i] == PROTO_PORT_NONE
				? 0
				: stream_pipe(&s->streams[i], i == 0 ? STREAM_IN : STREAM_OUT, &launch->stdio[i]);

		if (r < 0)
			return fail(f, -r, "%s", stream_names[i]);
	}
	return 0;
}

static int watch_command(struct session *s, struct failure *f)
{
	int r;

	s->watch.ready = command_ended;
	r = watch_add(s->epoll, s->pidfd, EPOLLIN, &s->watch);
	if (r == 0)
		return 0;
	(void)kill(s->pid, SIGKILL);
	(void)waitpid(s->pid, NULL, 0);
	watch_close(s->epoll, &s->pidfd);
	return fail(f, -r, "epoll");
}

int session_start(struct session *s, const struct exec_request *req, struct container *container, const char *hostname,
		  struct failure *f)
{
	struct exec_launch launch = {
		.req = req, .container = container, .hostname = hostname, .stdio = { -1, -1, -1 }, .tty_number = -1
	};
	int r = 0;

	s->id = req->session;
	s->copy = s->killed = req->copy; /* no OOM killer of the container's finds it */
	/* First, here: their connecting overlaps with what init still has to do. */
	if (is_boot(s))
		r = dial_streams(s, req, f);
	if (r == 0)
		r = open_streams(s, req, &launch, f);
	if (r == 0)
		r = container_ready(container, f);
	if (!is_boot(s))
		s->oom_before = container_number(container, "memory.events", "oom_kill ");
	if (r == 0)
		r = req->copy ? copy_launch(&launch, &s->pid, &s->pidfd, f)
			      : exec_launch(&launch, &s->pid, &s->pidfd, f);
	for (int i = 0; i < 3; i++)
		cleanup_fd(&launch.stdio[i]);
	if (r == 0)
		r = watch_command(s, f);
	/* Last, here: a command that cannot be started leaves its ports alone. One that was is FAILED no more. */
	if (r == 0 && !is_boot(s) && dial_streams(s, req, f) < 0) {
		console_line("agent: session %u: %s", s->id, f->text);
		for (int i = 0; i < 3; i++)
			stream_close(&s->streams[i]);
		session_signal(s, SIGKILL);
	}
	return r;
}

bool session_running(const struct session *s)
{
	return s->pidfd >= 0;
}

bool session_drained(const struct session *s)
{
	for (int i = 0; i < 3; i++)
		if (!stream_drained(&s->streams[i]))
			return false;
	return true;
}

bool session_pump(struct session *s)
{
	bool again = false;

	for (int i = 0; i < 3; i++) {
		if (s->streams[i].again)
			stream_pump(&s->streams[i]);
		again |= s->streams[i].again;
	}
	return again;
}

void session_signal(struct session *s, int signo)
{
	/* The command leads its process group, whose number stays taken until it is reaped. */
	if (!session_running(s))
		return;
	s->killed |= signo == SIGKILL;
	if (kill(-s->pid, signo) < 0)
		console_line("agent: signal %d: %s", signo, strerror(errno));
}

void session_resize(struct session *s, uint16_t rows, uint16_t cols)
{
	int r = stream_resize(&s->streams[0], rows, cols);

	if (r < 0)
		console_line("agent: resize: %s", strerror(-r));
}

static uint64_t microseconds(struct timeval t)
{
	return (uint64_t)t.tv_sec * 1000000U + (uint64_t)t.tv_usec;
}

void session_report(const struct session *s, struct container *container, struct proto_out *out)
{
	struct container_usage usage = {
		.user_us = microseconds(s->usage.ru_utime),
		.sys_us = microseconds(s->usage.ru_stime),
	};
	bool signalled = WIFSIGNALED(s->status);
	int value = signalled ? WTERMSIG(s->status) : WEXITSTATUS(s->status);
	enum proto_exit_kind kind = signalled ? PROTO_EXIT_SIGNAL : PROTO_EXIT_STATUS;
	struct proto_exited wire;

	if (is_boot(s))
		container_account(container, &usage);
	/*
	 * The kernel does not say whom the OOM killer chose, only how many of the container it has. Taken for
	 * this command: it died of a SIGKILL that is not ours, and a kill was counted in its life that no other
	 * session's end was explained by. Wrong when one of its children was chosen and somebody else in the
	 * container killed the command, or when of several that died at once only some were chosen.
	 */
	if (signalled && value == SIGKILL && !s->killed && container_take_oom(container, s->oom_before))
		kind = PROTO_EXIT_OOM;
	wire = (struct proto_exited){
		.session = le32_of(s->id),
		.kind = le32_of(kind),
		.value = le32_of((uint32_t)value),
		.user_us = le64_of(usage.user_us),
		.sys_us = le64_of(usage.sys_us),
		.peak_bytes = le64_of(usage.peak_bytes),
	};
	proto_begin(out, PROTO_EXITED);
	proto_put(out, &wire, sizeof(wire));
	proto_end(out);
}

void session_close(struct session *s)
{
	for (int i = 0; i < 3; i++)
		stream_close(&s->streams[i]);
	s->id = 0;
}
