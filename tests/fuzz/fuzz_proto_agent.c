/*
 * The agent's readers of what others wrote: the host's frames, the image's passwd and group, and what processes
 * call themselves.
 *
 * The first byte chooses: frames, or a user specification with two files, or four texts of a proc (separated by 0xff).
 */
#include <stdlib.h>
#include <string.h>

/* The agent is no library: its sources are compiled in here, beside the failure.c of this file. */
#include "procfs.c" // NOLINT(bugprone-suspicious-include)
#include "request.c" // NOLINT(bugprone-suspicious-include)
#include "user.c" // NOLINT(bugprone-suspicious-include)

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
	struct exec_request exec = { 0 };
	size_t sum = 0;

	if (request_exec(in, &exec) < 0)
		return 0;
	/* NOLINTBEGIN(clang-analyzer-core.CallAndMessage): proto_get_strs(), in another file, has filled them */
	for (uint32_t i = 0; i < exec.argc; i++)
		sum += touch(exec.argv[i]);
	for (uint32_t i = 0; i < exec.envc; i++)
		sum += touch(exec.envp[i]);
	/* NOLINTEND(clang-analyzer-core.CallAndMessage) */
	for (unsigned i = 0; i <= REQUEST_ENV_SPARE; i++)
		exec.envp[exec.envc + i] = NULL;
	sum += touch(exec.cwd) + touch(exec.user);
	if (!exec.session || exec.argv[exec.argc] || (exec.copy && (exec.tty || exec.argc != PROTO_COPY_ARGS)))
		abort();
	request_exec_free(&exec);
	return sum;
}

static void read_frame(uint16_t type, struct proto_in in)
{
	struct setup_request setup;
	struct net_request net;
	uint16_t rows, cols;
	uint32_t session;
	bool udp;
	int signo;

	switch (type) {
	case PROTO_HELLO:
		(void)proto_check_hello(&in, NULL);
		break;
	case PROTO_NET:
		if (request_net(in, &net) == 0 && (net.net.prefix4 > 32 || net.net.route_bits4 > 32 ||
						   net.net.route_bits6 > 128 || touch(net.resolv) > REQUEST_RESOLV_MAX))
			abort();
		break;
	case PROTO_PUBLISH:
		if (request_publish(in, &rows, &udp) == 0 && !rows)
			abort();
		break;
	case PROTO_PROXY:
		if (request_proxy(in, &rows) == 0 && !rows)
			abort();
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
	case PROTO_TOP:
	case PROTO_STAT:
		(void)request_query(in, &session);
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

/* A heap copy of exactly that size (one byte when empty), so that the sanitizer sees the first byte too many. */
static char *exact(struct slice part, bool terminated)
{
	size_t size = part.len + terminated;
	char *copy = malloc(size ? size : 1);

	if (!copy)
		abort();
	if (part.len)
		memcpy(copy, part.s, part.len);
	if (terminated)
		copy[part.len] = 0;
	return copy;
}

static void fuzz_user(const uint8_t *data, size_t len)
{
	struct slice rest = { (const char *)data, len }, part[3];
	char *spec, *passwd, *group;
	static struct user user;
	struct failure f;

	for (int i = 0; i < 3; i++)
		part[i] = cut(rest, '\xff', &rest);
	spec = exact(part[0], true);
	passwd = exact(part[1], false);
	group = exact(part[2], false);
	if (user_resolve(spec, passwd, part[1].len, group, part[2].len, &user, &f) == 0 &&
	    (user.uid == (uid_t)-1 || user.gid == (gid_t)-1 || user.ngroups > USER_GROUPS_MAX ||
	     strlen(user.home) >= USER_HOME_MAX))
		abort();
	free(spec);
	free(passwd);
	free(group);
}

static void fuzz_proc(const uint8_t *data, size_t len)
{
	struct slice rest = { (const char *)data, len }, part[4];
	struct procfs_texts texts;
	char line[PROCFS_LINE_MAX], command[PROCFS_COMMAND_MAX + 1];
	char *text[3];
	unsigned tabs = 0;
	size_t n;

	for (int i = 0; i < 4; i++)
		part[i] = cut(rest, '\xff', &rest);
	for (int i = 0; i < 3; i++)
		text[i] = exact(part[i], true);
	texts = (struct procfs_texts){
		.status_uid = text[0],
		.status_nspid = text[1],
		.stat = text[2],
		.command = command,
		.command_len = part[3].len < PROCFS_COMMAND_MAX ? part[3].len : PROCFS_COMMAND_MAX,
	};
	if (texts.command_len)
		memcpy(command, part[3].s, texts.command_len);
	n = procfs_line(&texts, line);
	if (n && (n >= sizeof(line) || line[n] || strlen(line) != n || line[n - 1] != '\n'))
		abort();
	for (size_t i = 0; i + 1 < n; i++)
		if (line[i] == '\t')
			tabs++;
		else if ((unsigned char)line[i] < ' ' || line[i] == '\177')
			abort();
	if (n && tabs != 5)
		abort();
	for (int i = 0; i < 3; i++)
		free(text[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (!len)
		return 0;
	switch (*data % 3) {
	case 0:
		fuzz_frames(data + 1, len - 1);
		break;
	case 1:
		fuzz_user(data + 1, len - 1);
		break;
	default:
		fuzz_proc(data + 1, len - 1);
		break;
	}
	return 0;
}
