/*
 * Who looks at a detached VM's streams (`mvm attach`): each a client of the control socket with sockets of its own.
 *
 * Output: every viewer gets what is read from now on. Until all have taken it nothing more is read, so a slow one slows
 * the command down; one that does not take at most VIEWER_CHUNK bytes within its patience is dropped, and told. The log
 * has everything, whoever looks.
 * Input: what any of them types goes to the command's stdin, in the order of its arrival, a piece at a time.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/supervisor.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define PATIENCE_NS         5000000000ULL
#define PATIENCE_HURRIED_NS 500000000ULL /* less than what a VM has that is to end at once */

void supervisor_viewers_init(struct supervisor *s)
{
	s->viewers = (struct viewers){ .input = -1 };
	for (unsigned i = 0; i < VIEWERS_MAX; i++)
		s->viewers.v[i] = (struct viewer){ .client = -1, .in = -1, .out = { -1, -1 } };
}

/* The command's stdin, or its terminal; -1: there is none, or it is closed. */
static int input_of(const struct supervisor *s)
{
	if (!s->spec->interactive)
		return -1;
	return s->spec->tty ? s->outputs[OUTPUT_STDOUT] : s->viewers.input;
}

/* ---- coming and going ---- */

static struct viewer *viewer_of(struct supervisor *s, int client)
{
	for (unsigned i = 0; i < VIEWERS_MAX; i++)
		if (s->viewers.v[i].client == client)
			return &s->viewers.v[i];
	return NULL;
}

void supervisor_viewer_gone(struct supervisor *s, unsigned client)
{
	struct viewer *viewer = viewer_of(s, (int)client);

	if (!viewer)
		return;
	cleanup_fd(&viewer->in);
	cleanup_fd(&viewer->out[0]);
	cleanup_fd(&viewer->out[1]);
	*viewer = (struct viewer){ .client = -1, .in = -1, .out = { -1, -1 } };
}

/* Its last word; one that is too far behind for it learns the end from that of the connection. */
static void dismiss(struct supervisor *s, const struct viewer *viewer, int status, enum verdict_kind kind,
		    const char *cause)
{
	unsigned client = (unsigned)viewer->client;

	(void)session_send(s->clients[client].fd, SESSION_ENDED, status, kind, cause);
	supervisor_drop_client(s, client);
}

/* Its descriptors may be anything: they are only ever used as sockets, without waiting. */
int supervisor_view(struct supervisor *s, unsigned client, const struct attach_msg *msg, int *fds, unsigned nfds,
		    char *ret_text, size_t size)
{
	struct attach_viewing viewing = { .flags = (s->spec->interactive ? ATTACH_VIEW_INPUT : 0U) |
						   (s->spec->tty ? ATTACH_VIEW_TTY : 0U) };
	struct viewer *viewer = viewer_of(s, -1);

	if (msg->hdr.len || nfds != MVM_STREAMS)
		return -EPROTO;
	if (!s->spec->detach || s->paused || s->restarting || s->phase > PHASE_RUN) {
		(void)snprintf(ret_text, size, "%s",
			       !s->spec->detach ? "was not started with --detach: its streams are its caller's"
			       : s->paused      ? "the VM is paused: mvm resume it"
						: supervisor_state_text(s));
		return -EAGAIN;
	}
	if (!viewer) {
		(void)snprintf(ret_text, size, "as many as may are attached to this VM: %u", VIEWERS_MAX);
		return -EBUSY;
	}
	viewer->client = (int)client;
	viewer->in = input_of(s) < 0 ? -1 : take_fd(&fds[MVM_STDIN]);
	viewer->out[OUTPUT_STDOUT] = take_fd(&fds[MVM_STDOUT]);
	viewer->out[OUTPUT_STDERR] = s->spec->tty ? -1 : take_fd(&fds[MVM_STDERR]);
	viewer->sent = s->viewers.len; /* what the others are still taking was before its time */
	s->clients[client].kind = CLIENT_VIEWS;
	s->clients[client].deadline_ns = UINT64_MAX;
	(void)attach_send(s->clients[client].fd, ATTACH_ANSWER, 0, &viewing, sizeof(viewing));
	supervisor_event_caller(s, EVENT_ATTACH, s->clients[client].fd, 0);
	return 1;
}

/*
 * Before the command runs, so that its first byte is seen. Until then the caller has its session as well, whose end is
 * that of a VM that has not started; after that it is a client as others.
 */
int supervisor_view_caller(struct supervisor *s)
{
	struct viewer *viewer = &s->viewers.v[0];
	int fd;

	if (!s->spec->detach || s->streams[MVM_STDOUT] < 0)
		return 0;
	fd = fcntl(s->session, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return -errno;
	s->clients[0].fd = fd;
	s->clients[0].kind = CLIENT_VIEWS;
	s->clients[0].deadline_ns = UINT64_MAX;
	viewer->client = 0;
	viewer->in = take_fd(&s->streams[MVM_STDIN]);
	viewer->out[OUTPUT_STDOUT] = take_fd(&s->streams[MVM_STDOUT]);
	viewer->out[OUTPUT_STDERR] = take_fd(&s->streams[MVM_STDERR]);
	return 0;
}

/* What it says, as the caller of a run does; its end is its own alone. */
void supervisor_viewer_speaks(struct supervisor *s, unsigned client)
{
	struct session_msg msg;
	int r = session_receive(s->clients[client].fd, &msg);

	if (r < 0)
		supervisor_drop_client(s, client);
	else if (r > 0 && msg.type <= SESSION_KILL) { /* the others are between a run and its caller */
		if (msg.type == SESSION_SIGNAL)
			supervisor_event_caller(s, EVENT_SIGNAL, s->clients[client].fd, msg.code);
		supervisor_caller_says(s, &msg, s->clients[client].fd);
	}
}

/* ---- output ---- */

/* Sends it what it lacks of the chunk. A reader that has gone is no reason to keep the others waiting. */
static void send_on(struct supervisor *s, struct viewer *viewer)
{
	int *out = &viewer->out[s->viewers.stream];

	while (viewer->sent < s->viewers.len && *out >= 0) {
		ssize_t n = send(*out, s->viewers.chunk + viewer->sent, s->viewers.len - viewer->sent,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			cleanup_fd(out);
		if (n < 0)
			*out = -1;
		else
			viewer->sent += (size_t)n;
	}
	viewer->sent = s->viewers.len;
}

bool supervisor_viewers_behind(const struct supervisor *s)
{
	for (unsigned i = 0; i < VIEWERS_MAX; i++)
		if (s->viewers.v[i].client >= 0 && s->viewers.v[i].sent < s->viewers.len)
			return true;
	return false;
}

void supervisor_viewers_show(struct supervisor *s, enum output_stream stream, const char *bytes, size_t len)
{
	s->viewers.stream = stream;
	s->viewers.chunk = bytes;
	s->viewers.len = len;
	s->viewers.chunk_ns = text_now_ns();
	for (unsigned i = 0; i < VIEWERS_MAX; i++) {
		s->viewers.v[i].sent = s->viewers.v[i].client < 0 ? len : 0;
		if (s->viewers.v[i].client >= 0)
			send_on(s, &s->viewers.v[i]);
	}
}

uint64_t supervisor_viewers_deadline(const struct supervisor *s)
{
	if (!supervisor_viewers_behind(s))
		return UINT64_MAX;
	return s->viewers.chunk_ns + (s->hurried ? PATIENCE_HURRIED_NS : PATIENCE_NS);
}

static void drop_slow(struct supervisor *s)
{
	for (unsigned i = 0; i < VIEWERS_MAX; i++)
		if (s->viewers.v[i].client >= 0 && s->viewers.v[i].sent < s->viewers.len) {
			supervisor_log(s, MVM_LOG_INFO, "attach: one that did not read what was printed was dropped");
			dismiss(s, &s->viewers.v[i], 125, VERDICT_REFUSED,
				"attach: dropped, as what was printed was not read: mvm logs has it, and the VM runs "
				"on");
		}
}

void supervisor_viewers_drain(struct supervisor *s)
{
	while (supervisor_viewers_behind(s))
		supervisor_meanwhile(s, supervisor_viewers_deadline(s));
}

/* ---- input ---- */

static void close_input(struct supervisor *s)
{
	for (unsigned i = 0; i < VIEWERS_MAX; i++) {
		cleanup_fd(&s->viewers.v[i].in);
		s->viewers.v[i].in = -1;
	}
	s->viewers.typed_len = s->viewers.typed_pos = 0;
}

/* What was typed, as far as the command takes it. */
static void pass_on(struct supervisor *s)
{
	struct viewers *all = &s->viewers;

	while (all->typed_pos < all->typed_len) {
		ssize_t n = send(input_of(s), all->typed + all->typed_pos, all->typed_len - all->typed_pos,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) { /* it closed its stdin, or ended: nothing takes what is typed */
			close_input(s);
			cleanup_fd(&all->input);
			all->input = -1;
			return;
		}
		all->typed_pos += (size_t)n;
		s->stream_bytes += (uint64_t)n;
	}
	all->typed_pos = all->typed_len = 0;
}

static void take_typed(struct supervisor *s, struct viewer *viewer)
{
	ssize_t n = recv(viewer->in, s->viewers.typed, sizeof(s->viewers.typed), MSG_DONTWAIT);

	if (n > 0) {
		s->viewers.typed_len = (size_t)n;
		pass_on(s);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		/* Its input has ended, not the command's: others may come. */
		cleanup_fd(&viewer->in);
		viewer->in = -1;
	}
}

/* ---- the loop's side ---- */

void supervisor_viewers_prepare(const struct supervisor *s, struct pollfd fds[VIEWER_SLOTS])
{
	bool waiting = s->viewers.typed_len != 0;

	fds[0] = (struct pollfd){ .fd = waiting ? input_of(s) : -1, .events = POLLOUT };
	for (unsigned i = 0; i < VIEWERS_MAX; i++) {
		const struct viewer *viewer = &s->viewers.v[i];
		bool behind = viewer->client >= 0 && viewer->sent < s->viewers.len;

		fds[1 + 2 * i] = (struct pollfd){ .fd = waiting ? -1 : viewer->in, .events = POLLIN };
		fds[2 + 2 * i] =
			(struct pollfd){ .fd = behind ? viewer->out[s->viewers.stream] : -1, .events = POLLOUT };
	}
}

/* By the entries alone: a viewer may have gone, and a new one have taken its place and its descriptor's number. */
void supervisor_viewers_run(struct supervisor *s, const struct pollfd fds[VIEWER_SLOTS], uint64_t now)
{
	if (s->viewers.typed_len && fds[0].fd >= 0 && fds[0].revents)
		pass_on(s);
	for (unsigned i = 0; i < VIEWERS_MAX; i++) {
		struct viewer *viewer = &s->viewers.v[i];

		if (viewer->client >= 0 && viewer->sent < s->viewers.len)
			send_on(s, viewer);
		if (viewer->in >= 0 && fds[1 + 2 * i].fd == viewer->in && fds[1 + 2 * i].revents &&
		    !s->viewers.typed_len)
			take_typed(s, viewer);
	}
	if (now >= supervisor_viewers_deadline(s))
		drop_slow(s);
}

void supervisor_viewers_close(struct supervisor *s, const struct verdict *of_vm)
{
	for (unsigned i = 0; i < VIEWERS_MAX; i++)
		if (s->viewers.v[i].client >= 0)
			dismiss(s, &s->viewers.v[i], of_vm->status, of_vm->kind, of_vm->cause);
	close_input(s);
	cleanup_fd(&s->viewers.input);
	s->viewers.input = -1;
}
