/*
 * stopwatch: runs a command and tells when its output came, seen from the host's end of a pipe.
 *
 *   stopwatch [-o FILE] [-f BYTES] [-v PORT] -- command args…
 *
 * Purpose: one clock for every VMM that the bench compares: it starts right before the command's
 *          fork and looks at the same byte for all of them. Writes one JSON object to -o (or stdout):
 *          ready, first, last, end (ns since the start), bytes, status, cpu_ns (user and system, of the
 *          command and of all its descendants, the guest's own included), left (descendants that
 *          outlived the command), text (the output's beginning).
 *          ready is when the line "ready\n" was whole, what `last` is measured from by throughputs.
 * Options: -f BYTES: once "ready" came, that many zeroes are written to the command's stdin.
 *          -v PORT: streams run over a vsock connection that the guest makes to this host port,
 *          instead of stdout and stdin (QEMU with vhost-vsock).
 * Trust:   a test tool, run by the bench alone.
 * Returns: 0 when the command ran, whatever its status; 125 when the stopwatch itself failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define CHUNK (256U << 10)

struct watch {
	int in, out; /* of the command: we write to in (-1: nothing to feed), read from out */
	uint64_t start, ready, first, last, end;
	uint64_t bytes, feed;
	int status; /* of the command, as wait() has it */
	unsigned left;
	char text[512];
};

static void die(const char *what)
{
	fprintf(stderr, "stopwatch: %s: %s\n", what, strerror(errno));
	exit(125);
}

static uint64_t now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static int vsock_listen(unsigned port)
{
	struct sockaddr_vm addr = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port };
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 1) < 0)
		die("vsock");
	return fd;
}

/* The connection that the guest makes; the command's death ends the wait. */
static int vsock_accept(int listener, pid_t child)
{
	for (;;) {
		struct pollfd p = { .fd = listener, .events = POLLIN };
		siginfo_t info = { 0 };

		if (poll(&p, 1, 200) > 0) {
			int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

			if (fd < 0)
				die("accept");
			return fd;
		}
		if (waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == child) {
			errno = ESRCH;
			die("the command ended before its guest connected");
		}
	}
}

/* vfork, so that the start costs the same however large we are; the child only moves descriptors. */
static pid_t spawn(char *const argv[], int in, int out)
{
	pid_t pid = vfork();

	if (pid == 0) {
		if (dup2(in, 0) < 0 || dup2(out, 1) < 0)
			_exit(127);
		(void)execvp(argv[0], argv);
		_exit(127);
	}
	if (pid < 0)
		die("fork");
	return pid;
}

/* Reads what there is; false at its end. */
static bool drain(struct watch *w, char *buf)
{
	ssize_t n = read(w->out, buf, CHUNK);
	size_t have = strlen(w->text);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0)
		return false;
	w->last = now() - w->start;
	if (!w->first)
		w->first = w->last;
	w->bytes += (uint64_t)n;
	if (have < sizeof(w->text) - 1) {
		size_t room = sizeof(w->text) - 1 - have;

		memcpy(w->text + have, buf, (size_t)n < room ? (size_t)n : room);
		if (!w->ready && strstr(w->text, "ready\n"))
			w->ready = w->last;
	}
	return true;
}

static void follow(struct watch *w)
{
	char *buf = calloc(2, CHUNK), *zeroes;
	bool feeding = w->feed > 0;

	if (!buf)
		die("memory");
	zeroes = buf + CHUNK;
	for (;;) {
		struct pollfd p[2] = { { .fd = w->out, .events = POLLIN },
				       { .fd = feeding && w->ready ? w->in : -1, .events = POLLOUT } };

		if (poll(p, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			die("poll");
		}
		if (p[0].revents && !drain(w, buf))
			break;
		if (p[1].revents) {
			ssize_t n = write(w->in, zeroes, w->feed < CHUNK ? (size_t)w->feed : CHUNK);

			if (n < 0 && errno != EAGAIN && errno != EINTR)
				feeding = false;
			if (n > 0)
				w->feed -= (uint64_t)n;
			if (!w->feed)
				feeding = false;
		}
	}
	free(buf);
}

/* The command's end is what counts; who outlives it is waited for as well, for the CPU time. */
static void reap(struct watch *w, pid_t pid)
{
	int status;

	for (;;) {
		pid_t dead = wait(&status);

		if (dead < 0 && errno == EINTR)
			continue;
		if (dead < 0)
			break;
		if (dead == pid) {
			w->status = status;
			w->end = now() - w->start;
		} else if (w->end) {
			w->left++;
		}
	}
	if (!w->end)
		die("wait");
}

/* The text as a JSON string; what is not printable ASCII becomes a question mark. */
static void print_text(FILE *f, const char *s)
{
	fputc('"', f);
	for (; *s; s++) {
		if (*s == '\n')
			fputs("\\n", f);
		else
			fputc(*s < 0x20 || *s > 0x7e || *s == '"' || *s == '\\' ? '?' : *s, f);
	}
	fputc('"', f);
}

static uint64_t ns_of(struct timeval t)
{
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_usec * 1000U;
}

static void report(FILE *f, const struct watch *w)
{
	struct rusage ru;

	if (getrusage(RUSAGE_CHILDREN, &ru) < 0)
		die("getrusage");
	fprintf(f, "{\"ready\": %llu, \"first\": %llu, \"last\": %llu, \"end\": %llu, \"bytes\": %llu, ",
		(unsigned long long)w->ready, (unsigned long long)w->first, (unsigned long long)w->last,
		(unsigned long long)w->end, (unsigned long long)w->bytes);
	fprintf(f, "\"status\": %d, \"cpu_ns\": %llu, \"left\": %u, \"text\": ",
		WIFEXITED(w->status) ? WEXITSTATUS(w->status) : 128 + WTERMSIG(w->status),
		(unsigned long long)(ns_of(ru.ru_utime) + ns_of(ru.ru_stime)), w->left);
	print_text(f, w->text);
	fputs("}\n", f);
}

/* Descriptors: the command's ends go to it, ours stay; every one of ours is non-blocking. */
static pid_t start(struct watch *w, char *const argv[], unsigned port)
{
	int in[2], out[2], listener = port ? vsock_listen(port) : -1;
	pid_t pid;

	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
		die("pipe");
	/* What a terminal's shell would give: pipes of the size that throughput needs. */
	(void)fcntl(in[1], F_SETPIPE_SZ, 1 << 20);
	(void)fcntl(out[0], F_SETPIPE_SZ, 1 << 20);
	w->start = now();
	pid = spawn(argv, in[0], port ? 2 : out[1]);
	(void)close(in[0]);
	(void)close(out[1]);
	w->in = in[1];
	w->out = out[0];
	if (port)
		w->in = w->out = vsock_accept(listener, pid);
	if (fcntl(w->in, F_SETFL, O_NONBLOCK) < 0 || fcntl(w->out, F_SETFL, O_NONBLOCK) < 0)
		die("fcntl");
	return pid;
}

int main(int argc, char **argv)
{
	struct watch w = { 0 };
	const char *to = NULL;
	unsigned port = 0;
	pid_t pid;
	int opt;
	FILE *f;

	while ((opt = getopt(argc, argv, "+o:f:v:")) != -1) {
		switch (opt) {
		case 'o':
			to = optarg;
			break;
		case 'f':
			w.feed = strtoull(optarg, NULL, 10);
			break;
		case 'v':
			port = (unsigned)strtoul(optarg, NULL, 10);
			break;
		default:
			return 125;
		}
	}
	if (optind >= argc) {
		fprintf(stderr, "usage: stopwatch [-o FILE] [-f BYTES] [-v PORT] -- command args...\n");
		return 125;
	}
	(void)signal(SIGPIPE, SIG_IGN);
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		die("subreaper");
	pid = start(&w, argv + optind, port);
	follow(&w);
	reap(&w, pid);
	f = to ? fopen(to, "we") : stdout;
	if (!f)
		die(to);
	report(f, &w);
	return fclose(f) == 0 ? 0 : 125;
}
