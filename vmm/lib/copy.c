/* Files into a VM that runs and out of it, as tar streams: the caller's side; see mvm.h, guest/pack.h, guest/unpack.h. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/sized.h"
#include "lib/start.h"
#include "lib/text.h"
#include "mvm/cleanup.h"
#include "unpack.h"

#define PUMP_BYTES (128U << 10)
#define NOTE       "note: " /* how the agent begins what is no error */
#define END_NS     10000000000ULL /* for the agent to end, when it has nothing left to do */

/* The struct's first size: what every caller has. */
#define OPTIONS_LEAST 12U
_Static_assert(sizeof(struct mvm_copy_options) == OPTIONS_LEAST, "ABI");

struct copy {
	const char *id, *host, *guest; /* host: NULL for a stream */
	struct mvm_copy_options options;
	bool in;
	struct mvm_vm *vm;
	int data, errors; /* -1: closed */
	char top[NAME_MAX + 1]; /* of the stream; "": any */
	struct pack_note note;
	struct failure f; /* of this side */
};

/* ---- beginning ---- */

static int name_top(struct copy *c, struct mvm_error *err)
{
	const char *source = c->in ? c->host : c->guest;

	c->top[0] = 0;
	if (source && pack_top(source, c->top) < 0)
		return error_set(err, ENAMETOOLONG, "%.200s: too long a name", source);
	if (!c->guest || !*c->guest || (c->host && !*c->host))
		return error_set(err, EINVAL, "copy: an empty path: name a file or a folder");
	return 0;
}

static int make_spec(const struct copy *c, struct mvm_spec **ret_spec, struct mvm_error *err)
{
	char letters[3] = "", *end = letters;
	const char *args[] = { c->in ? "in" : "out", c->guest, c->in ? c->top : "", letters, NULL };
	int r = mvm_spec_new(ret_spec);

	if (r < 0)
		return error_set(err, -r, "copy: out of memory");
	if (c->options.archive)
		*end++ = 'a';
	if (c->options.follow)
		*end++ = 'L';
	*end = 0;
	r = mvm_spec_set_args(*ret_spec, args, err);
	if (r == 0 && c->in)
		r = mvm_spec_set(*ret_spec, "interactive", NULL, err);
	return r;
}

static int take_blocking(struct mvm_vm *vm, enum mvm_stream stream)
{
	int fd = mvm_take_stream(vm, stream), flags = fcntl(fd, F_GETFL);

	(void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK); /* of a socket of our own */
	return fd;
}

static int begin(struct copy *c, struct mvm_error *err)
{
	struct mvm_start_options options = MVM_START_OPTIONS;
	struct mvm_spec *spec = NULL;
	struct mvm_error why;
	int r = name_top(c, err);

	if (r < 0)
		return r;
	r = make_spec(c, &spec, &why);
	r = r < 0 ? r : start_command(c->id, ATTACH_COPY, spec, &options, &c->vm, &why);
	mvm_spec_free(spec);
	if (r < 0)
		return error_set(err, -r, "%s%s", why.text,
				 r == -ENOTSUP ? ": it runs under an older mvm: start it again" : "");
	c->data = take_blocking(c->vm, c->in ? MVM_STDIN : MVM_STDOUT);
	c->errors = take_blocking(c->vm, MVM_STDERR);
	return 0;
}

/* ---- streams that the caller brings ---- */

/* The guest may have had enough while nothing comes from the caller. */
static bool wait_for_caller(struct copy *c)
{
	struct pollfd fds[] = { { .fd = c->options.fd, .events = POLLIN }, { .fd = c->data } };

	while (poll(fds, 2, -1) < 0 && errno == EINTR)
		;
	return !fds[1].revents;
}

static int send_all(struct copy *c, const char *bytes, size_t len)
{
	while (len) {
		ssize_t n = send(c->data, bytes, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(&c->f, EPIPE, "the tar stream");
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

static int write_all(struct copy *c, const char *bytes, size_t len)
{
	while (len) {
		ssize_t n = write(c->options.fd, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) /* not EPIPE, which is the other side's: see conclude() */
			return fail_as(&c->f, PROTO_FAIL_REFUSED, EIO, "the tar stream cannot be written: %s",
				       strerror(errno));
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Once. 1: there may be more; 0: where it comes from is at its end. */
static int pump_some(struct copy *c, char *buffer)
{
	ssize_t n;
	int r;

	if (c->in && !wait_for_caller(c))
		return fail(&c->f, EPIPE, "the tar stream");
	n = read(c->in ? c->options.fd : c->data, buffer, PUMP_BYTES);
	if (n < 0 && errno == EINTR)
		return 1;
	if (n < 0 && c->in)
		return fail(&c->f, errno, "the tar stream cannot be read");
	if (n <= 0)
		return 0; /* why the guest's ends, its own word says */
	r = c->in ? send_all(c, buffer, (size_t)n) : write_all(c, buffer, (size_t)n);
	return r < 0 ? r : 1;
}

static int pump(struct copy *c)
{
	char *buffer = malloc(PUMP_BYTES);
	int r = 1;

	if (!buffer)
		return fail(&c->f, ENOMEM, "the tar stream");
	while (r > 0)
		r = pump_some(c, buffer);
	free(buffer);
	return r;
}

static int transfer(struct copy *c)
{
	const struct unpack_options options = { .dest = c->host, .top = c->top, .archive = c->options.archive };

	if (!c->host)
		return pump(c);
	return c->in ? pack(c->host, c->options.follow, c->data, &c->note, &c->f)
		     : unpack(&options, c->data, &c->note, &c->f);
}

/* ---- the end ---- */

/* Waits until there is something to read, or the deadline: false. */
static bool readable(int fd, uint64_t deadline)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	int n;

	do {
		uint64_t now = text_now_ns();

		n = poll(&ready, 1,
			 deadline == UINT64_MAX ? -1
			 : deadline <= now      ? 0
						: (int)((deadline - now + 999999) / 1000000));
	} while (n < 0 && errno == EINTR);
	return n != 0;
}

/* What the agent has to say, its first line; more than that is not waited for. */
static void read_said(struct copy *c, uint64_t deadline, char said[MVM_ERROR_TEXT_MAX])
{
	size_t len = 0;

	while (len < MVM_ERROR_TEXT_MAX - 1 && !memchr(said, '\n', len) && readable(c->errors, deadline)) {
		ssize_t n = read(c->errors, said + len, MVM_ERROR_TEXT_MAX - 1 - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	said[len] = 0;
	said[strcspn(said, "\n")] = 0;
	text_harmless(said);
}

/* -ETIMEDOUT: it did not end by the deadline. */
static int wait_end(struct copy *c, uint64_t deadline, const struct mvm_event **ret_event)
{
	for (;;) {
		int r = mvm_next(c->vm, ret_event);

		if (r < 0 || (r > 0 && (*ret_event)->type == MVM_EVENT_ENDED))
			return r < 0 ? r : 0;
		if (r == 0 && !readable(mvm_fd(c->vm), deadline))
			return -ETIMEDOUT;
	}
}

static int own_failure(struct copy *c, struct mvm_error *err)
{
	text_harmless(c->f.text);
	return error_set(err, c->f.error, "%s", c->f.text);
}

/* This side's failure, unless it is that the other one stopped: then that one's reason. */
static int conclude(struct copy *c, int r, char said[MVM_ERROR_TEXT_MAX], struct mvm_error *err)
{
	/* What was written to it the guest may take its time to store; else it has nothing left to do. */
	uint64_t deadline = c->in && r == 0 ? UINT64_MAX : text_now_ns() + END_NS;
	const struct mvm_event *event;
	int ended;

	if (r < 0 && r != -EPIPE && r != -ENODATA)
		return own_failure(c, err);
	(void)shutdown(c->data, c->in ? SHUT_WR : SHUT_RDWR); /* what was written is still read */
	read_said(c, deadline, said);
	ended = wait_end(c, deadline, &event);
	if (ended == -ETIMEDOUT && r < 0)
		return own_failure(c, err);
	if (ended == -ETIMEDOUT)
		return error_set(err, ETIMEDOUT, "%s: the guest does not end the copy: what it had sent is there",
				 c->id);
	if (ended < 0)
		return error_set(err, EPIPE, "%s: the VM's supervisor died", c->id);
	if (event->status == 0)
		return r < 0 ? own_failure(c, err) : 0;
	if (!strcmp(event->verdict, "exited") && *said && strncmp(said, NOTE, strlen(NOTE)) != 0)
		return error_set(err, EIO, "%s: %s", c->id, said);
	return error_set(err, EIO, "%s: the copy came to no end: %.900s", c->id, event->text);
}

static void tell_note(const struct copy *c, const char *said, char *note)
{
	if (!strncmp(said, NOTE, strlen(NOTE)))
		(void)snprintf(note, MVM_ERROR_TEXT_MAX, "%s", said + strlen(NOTE));
	else if (c->note.left_out)
		(void)snprintf(note, MVM_ERROR_TEXT_MAX, "%llu left out: devices, fifos and sockets are not copied: %s",
			       (unsigned long long)c->note.left_out, c->note.first);
	text_harmless(note);
}

static int copy(struct copy *c, const struct mvm_copy_options *given, char *ret_note, struct mvm_error *err)
{
	char said[MVM_ERROR_TEXT_MAX] = "", note[MVM_ERROR_TEXT_MAX] = "";
	int r = 0;

	c->options = (struct mvm_copy_options)MVM_COPY_OPTIONS;
	c->data = c->errors = -1;
	if (given)
		r = sized_copy(&c->options, sizeof(c->options), OPTIONS_LEAST, given, 0, "struct mvm_copy_options",
			       err);
	r = r < 0 ? r : begin(c, err);
	if (r == 0) {
		r = conclude(c, transfer(c), said, err);
		tell_note(c, said, note);
	}
	cleanup_fd(&c->data);
	cleanup_fd(&c->errors);
	mvm_free(c->vm); /* what has not ended yet ends */
	if (r == 0 && ret_note)
		memcpy(ret_note, note, sizeof(note));
	return r;
}

int mvm_copy_in(const char *id, const char *from, const char *to, const struct mvm_copy_options *options,
		char ret_note[MVM_ERROR_TEXT_MAX], struct mvm_error *err)
{
	struct copy c = { .id = id, .host = from, .guest = to, .in = true };

	return copy(&c, options, ret_note, err);
}

int mvm_copy_out(const char *id, const char *from, const char *to, const struct mvm_copy_options *options,
		 char ret_note[MVM_ERROR_TEXT_MAX], struct mvm_error *err)
{
	struct copy c = { .id = id, .host = to, .guest = from };

	return copy(&c, options, ret_note, err);
}
