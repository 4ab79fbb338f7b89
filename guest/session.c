#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exec.h"
#include "mvm/cleanup.h"
#include "session.h"

void session_zero(struct session *s)
{
	*s = (struct session){ .pidfd = -1 };
	for (int i = 0; i < 3; i++)
		stream_zero(&s->streams[i]);
}

static void command_ended(struct watch *w, uint32_t events)
{
	struct session *s = watch_owner(w, struct session, watch);

	(void)events;
	if (s->pidfd < 0 || wait4(s->pid, &s->status, WNOHANG, &s->usage) == 0)
		return;
	cleanup_fd(&s->pidfd);
	s->pidfd = -1;
}

static int open_streams(struct session *s, const struct exec_request *req, int epoll, struct exec_launch *launch,
			struct failure *f)
{
	static const char *const names[] = { "stdin", "stdout", "stderr" };
	int r;

	if (req->tty) {
		r = stream_open_tty(&s->streams[0], epoll, req->ports[0], req->rows, req->cols, &launch->tty_number);
		return r < 0 ? fail(f, -r, "terminal") : 0;
	}
	for (int i = 0; i < 3; i++) {
		r = stream_open_pipe(&s->streams[i], epoll, i == 0 ? STREAM_IN : STREAM_OUT, req->ports[i],
				     &launch->stdio[i]);
		if (r < 0)
			return fail(f, -r, "%s", names[i]);
	}
	return 0;
}

int session_start(struct session *s, const struct exec_request *req, struct container *container, int epoll,
		  const char *hostname, struct failure *f)
{
	struct exec_launch launch = {
		.req = req, .container = container, .hostname = hostname, .stdio = { -1, -1, -1 }, .tty_number = -1
	};
	int r;

	s->id = req->session;
	/* Streams first: their connecting overlaps with what init still has to do. */
	r = open_streams(s, req, epoll, &launch, f);
	if (r == 0)
		r = container_ready(container, f);
	if (r == 0)
		r = exec_launch(&launch, &s->pid, &s->pidfd, f);
	for (int i = 0; i < 3; i++)
		cleanup_fd(&launch.stdio[i]);
	if (r == 0) {
		s->watch.ready = command_ended;
		r = watch_add(epoll, s->pidfd, EPOLLIN, &s->watch);
		if (r < 0) {
			(void)fail(f, -r, "epoll");
			(void)kill(s->pid, SIGKILL);
			(void)waitpid(s->pid, NULL, 0);
			cleanup_fd(&s->pidfd);
			s->pidfd = -1;
		}
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
	if (session_running(s) && kill(-s->pid, signo) < 0)
		console_line("agent: signal %d: %s", signo, strerror(errno));
}

void session_resize(struct session *s, uint16_t rows, uint16_t cols)
{
	int r = stream_resize(&s->streams[0], rows, cols);

	if (r < 0)
		console_line("agent: resize: %s", strerror(-r));
}

static uint64_t microseconds(struct timeval a, struct timeval b)
{
	return (uint64_t)(a.tv_sec + b.tv_sec) * 1000000U + (uint64_t)(a.tv_usec + b.tv_usec);
}

void session_report(const struct session *s, const struct container *container, struct proto_out *out)
{
	struct container_usage usage = {
		.user_us = microseconds(s->usage.ru_utime, container->usage.ru_utime),
		.sys_us = microseconds(s->usage.ru_stime, container->usage.ru_stime),
	};
	bool signalled = WIFSIGNALED(s->status);
	int value = signalled ? WTERMSIG(s->status) : WEXITSTATUS(s->status);
	enum proto_exit_kind kind = signalled ? PROTO_EXIT_SIGNAL : PROTO_EXIT_STATUS;
	struct proto_exited wire;

	container_account(container, &usage);
	if (signalled && value == SIGKILL && usage.oom_killed)
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
