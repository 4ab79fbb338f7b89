/*
 * The agent's readers of what others wrote: the host's frames, and the image's passwd and group.
 *
 * The first byte chooses: frames, or a user specification with two files (separated by 0xff).
 */
#include <stdlib.h>
#include <string.h>

#include "request.c"
#include "user.c"

#include <stdarg.h>
#include <stdio.h>

/* failure.c without its console */
int fail_as(struct failure *f, enum proto_failure reason, int error, const char *fmt, ...)
{
	va_list ap;

	f->error = error;
	f->reason = reason;
	va_start(ap, fmt);
	(void)vsnprintf(f->text, sizeof(f->text), fmt, ap);
	va_end(ap);
	return -error;
}

int fail(struct failure *f, int error, const char *fmt, ...)
{
	(void)fmt;
	return fail_as(f, PROTO_FAIL_REFUSED, error, "%s", strerror(error));
}

static size_t touch(const char *s)
{
	return strlen(s); /* runs off the payload, should a string not be terminated */
}

static size_t read_exec(struct proto_in in)
{
	struct exec_request exec;
	size_t sum = 0;

	if (request_exec(in, &exec) < 0)
		return 0;
	for (char **s = exec.argv; *s; s++)
		sum += touch(*s);
	for (char **s = exec.envp; *s; s++)
		sum += touch(*s);
	for (unsigned i = 0; i <= REQUEST_ENV_SPARE; i++)
		exec.envp[exec.envc + i] = NULL;
	sum += touch(exec.cwd) + touch(exec.user);
	if (!exec.session || exec.argv[exec.argc])
		abort();
	request_exec_free(&exec);
	return sum;
}

static void read_frame(uint16_t type, struct proto_in in)
{
	struct setup_request setup;
	uint16_t rows, cols;
	uint32_t session;
	int signo;

	switch (type) {
	case PROTO_HELLO:
		(void)proto_check_hello(&in, NULL);
		break;
	case PROTO_SETUP:
		if (request_setup(in, &setup) == 0 &&
		    (strchr(setup.device, '/') || touch(setup.device) > REQUEST_NAME_MAX ||
		     touch(setup.hostname) > REQUEST_HOSTNAME_MAX || touch(setup.fstype) > REQUEST_NAME_MAX))
			abort();
		break;
	case PROTO_EXEC:
		(void)read_exec(in);
		break;
	case PROTO_SIGNAL:
		if (request_signal(in, &session, &signo) == 0 && (signo < 1 || signo > 64))
			abort();
		break;
	case PROTO_RESIZE:
		(void)request_resize(in, &session, &rows, &cols);
		break;
	default:
		break;
	}
}

static void fuzz_frames(const uint8_t *data, size_t len)
{
	struct proto_in in;
	uint16_t type;
	long n;

	while ((n = proto_next(data, len, PROTO_PAYLOAD_MAX, &type, &in)) > 0) {
		/* A heap copy of just the payload: the sanitizer sees the first byte too many. */
		size_t size = (size_t)(in.end - in.pos);
		uint8_t *copy = malloc(size ? size : 1);

		if (!copy)
			return;
		memcpy(copy, in.pos, size);
		in = (struct proto_in){ copy, copy + size };
		read_frame(type, in);
		free(copy);
		data += n;
		len -= (size_t)n;
	}
}

static void fuzz_user(const uint8_t *data, size_t len)
{
	static struct user user;
	struct failure f;
	struct slice rest, parts[3] = { 0 };
	char *copies[3] = { 0 };

	rest = (struct slice){ (const char *)data, len };
	for (int i = 0; i < 3; i++) {
		parts[i] = cut(rest, '\xff', &rest);
		copies[i] = malloc(parts[i].len + 1);
		if (!copies[i])
			abort();
		if (parts[i].len)
			memcpy(copies[i], parts[i].s, parts[i].len);
		copies[i] = realloc(copies[i], parts[i].len + (i == 0)); /* only the specification ends in NUL */
		if (i == 0)
			copies[0][parts[0].len] = 0;
	}
	if (user_resolve(copies[0], copies[1], parts[1].len, copies[2], parts[2].len, &user, &f) == 0 &&
	    (user.uid == (uid_t)-1 || user.gid == (gid_t)-1 || user.ngroups > USER_GROUPS_MAX ||
	     strlen(user.home) >= USER_HOME_MAX))
		abort();
	for (int i = 0; i < 3; i++)
		free(copies[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (!len)
		return 0;
	if (*data & 1)
		fuzz_user(data + 1, len - 1);
	else
		fuzz_frames(data + 1, len - 1);
	return 0;
}
