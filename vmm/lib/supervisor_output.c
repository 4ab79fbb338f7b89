/* A detached VM's own end of its command's stdout and stderr: into the log (output_log.h). */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/supervisor.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define READ_BYTES 65536U
#define LOG_BURST  (1ULL << 20) /* bytes of log at once … */
#define LOG_RATE                                                                                                       \
	(8ULL << 20) /* … and a second after that: then the command's writes wait, and its host's CPU is spared */
#define LAST_READS 256U /* at the end: what was sent is in the sockets, and no more can come */

void supervisor_output_init(struct supervisor *s)
{
	s->log = NULL;
	for (unsigned i = 0; i < SUPERVISOR_OUTPUTS; i++)
		s->outputs[i] = -1;
}

/* Our end of one of the command's streams. */
static int open_stream(struct supervisor *s, enum mvm_stream stream, int *ret_fd, struct mvm_error *err)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return error_set(err, errno, "streams: no socket: %s", strerror(errno));
	*ret_fd = pair[0];
	s->streams[stream] = pair[1];
	return 0;
}

/* A terminal is one stream, both ways. Stdin stays open until the command ends: who types there comes and goes. */
static int open_streams(struct supervisor *s, struct mvm_error *err)
{
	int r;

	if (s->spec->tty)
		return open_stream(s, MVM_STDIN, &s->outputs[OUTPUT_STDOUT], err);
	r = open_stream(s, MVM_STDOUT, &s->outputs[OUTPUT_STDOUT], err);
	if (r == 0)
		r = open_stream(s, MVM_STDERR, &s->outputs[OUTPUT_STDERR], err);
	if (r == 0 && s->spec->interactive)
		r = open_stream(s, MVM_STDIN, &s->viewers.input, err);
	return r;
}

int supervisor_output_open(struct supervisor *s, struct mvm_error *err)
{
	int r;

	if (!s->spec->detach)
		return 0;
	if (s->log) /* of the run before: it goes on */
		return open_streams(s, err);
	s->log = calloc(1, sizeof(*s->log));
	if (!s->log)
		return error_set(err, ENOMEM, "log: out of memory");
	r = output_log_open(s->log, s->state.fd, s->spec->log_max);
	if (r < 0)
		return error_set(err, -r, "%s/" OUTPUT_LOG_FILE ": cannot be written: %s", s->state.id, strerror(-r));
	return open_streams(s, err);
}

/* Whether more may be read now: the log has taken less than its rate allows. */
bool supervisor_output_allowed(struct supervisor *s, uint64_t now)
{
	uint64_t used, refill;

	if (!s->log || s->phase >= PHASE_KILL) /* no more can come than there is */
		return true;
	used = s->log->written - s->output_seen;
	refill = (now - s->output_refilled_ns) / 1000 * LOG_RATE / 1000000;
	if (refill) {
		s->output_seen += refill < used ? refill : used;
		s->output_refilled_ns = now;
	}
	return s->log->written - s->output_seen < LOG_BURST;
}

void supervisor_output_prepare(const struct supervisor *s, bool allowed, struct pollfd fds[SUPERVISOR_OUTPUTS])
{
	allowed &= !supervisor_viewers_behind(s);
	for (unsigned i = 0; i < SUPERVISOR_OUTPUTS; i++)
		fds[i] = (struct pollfd){ .fd = allowed ? s->outputs[i] : -1, .events = POLLIN };
}

/* One read. False when there is nothing now, or nothing any more. */
static bool take(struct supervisor *s, unsigned i)
{
	static char bytes[READ_BYTES]; /* the supervisor has one thread, and small stacks are cheap to keep */
	ssize_t n = recv(s->outputs[i], bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n > 0) {
		output_log_write(s->log, (enum output_stream)i, bytes, (size_t)n);
		supervisor_viewers_show(s, (enum output_stream)i, bytes, (size_t)n);
		s->stream_bytes += (uint64_t)n;
		return true;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return errno == EINTR;
	output_log_finish(s->log, (enum output_stream)i);
	cleanup_fd(&s->outputs[i]);
	s->outputs[i] = -1;
	return false;
}

void supervisor_output_run(struct supervisor *s, const struct pollfd fds[SUPERVISOR_OUTPUTS])
{
	for (unsigned i = 0; i < SUPERVISOR_OUTPUTS; i++)
		if (s->outputs[i] >= 0 && fds[i].fd == s->outputs[i] && fds[i].revents && !supervisor_viewers_behind(s))
			(void)take(s, i);
	supervisor_event_log_dropped(s);
}

void supervisor_output_close(struct supervisor *s)
{
	for (unsigned i = 0; i < SUPERVISOR_OUTPUTS; i++) {
		supervisor_viewers_drain(s);
		for (unsigned n = 0; s->outputs[i] >= 0 && n < LAST_READS && take(s, i); n++)
			supervisor_viewers_drain(s);
		if (s->outputs[i] >= 0)
			output_log_finish(s->log, (enum output_stream)i);
		cleanup_fd(&s->outputs[i]);
		s->outputs[i] = -1;
	}
	supervisor_event_log_dropped(s);
}

void supervisor_log_close(struct supervisor *s)
{
	if (s->log)
		output_log_close(s->log);
	free(s->log);
	s->log = NULL;
}

/* The caller has what it asked for: nothing of its own stays open here. */
void supervisor_detach(struct supervisor *s)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	cleanup_fd(&s->session);
	s->session = -1;
	/* Whoever started it may wait for the end of what is written to these; and a later run's files take no such number. */
	if (null >= 0) {
		(void)dup2(null, STDIN_FILENO);
		(void)dup2(null, STDOUT_FILENO);
		(void)dup2(null, STDERR_FILENO);
		if (null > STDERR_FILENO)
			(void)close(null);
	}
	if (chdir("/") < 0)
		supervisor_log(s, MVM_LOG_DEBUG, "/: %s", strerror(errno)); /* a file system stays busy, no more */
}
