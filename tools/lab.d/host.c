/*
 * lab-host: the lab's outer end.
 *
 *   lab-host [options] -- QEMU ARG... --- COMMAND ARG...
 *     -C DIR     the directory the command starts in
 *     -e K=V     one environment variable of the command (repeatable)
 *     -u USER    run the command as USER
 *     -c FILE    write the lab's kernel console to FILE
 *     -t SECS    end the lab after so long with status 124 (0: never)
 *     -b SECS    give up when the command has not started after so long
 *
 * Starts QEMU on socket pairs of its own, sends the command in, carries the
 * streams, and exits with the command's status; 125 when the lab itself failed.
 * QEMU dies with this process whatever ends it (PR_SET_PDEATHSIG), and there is
 * no file to clean up: a killed lab leaves nothing.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "frame.h"

#define EXIT_LAB     125
#define EXIT_TIMEOUT 124

/* What is kept of the console and of QEMU's own messages, for the case of failure. */
#define KEEP        16384u
#define SHOWN_LINES 30

/* Three of these in a row on the terminal end the lab: ^] */
#define ESCAPE       0x1d
#define ESCAPE_COUNT 3

struct options {
	const char *cwd, *user, *console;
	char **env;
	size_t env_count;
	long timeout, boot_timeout;
	char **qemu, **command;
	char **argv; /* a copy of main's: to start over with */
};

/* The last bytes of a text stream. */
struct tail {
	int fd;
	FILE *copy;
	size_t len;
	char text[KEEP + 1];
};

/* One output stream on its way to the caller. */
struct out_stream {
	int port, fd, number;
	pthread_t thread;
};

enum { FD_CONTROL, FD_STDIN, FD_STDOUT, FD_STDERR, FD_CONSOLE, FD_COUNT };

static int port_fd[FD_COUNT];
static pthread_mutex_t control_lock = PTHREAD_MUTEX_INITIALIZER;
static struct termios saved_termios;
static bool raw_tty;
static pid_t qemu_pid;
static int qemu_messages = -1;
static atomic_bool escaped;
static int streams_done = -1; /* eventfd, counts the output streams that ended */

static void restore_tty(void)
{
	if (raw_tty)
		(void)tcsetattr(STDIN_FILENO, TCSADRAIN, &saved_termios);
	raw_tty = false;
}

static void stop_qemu(void)
{
	if (qemu_pid > 0) {
		(void)kill(qemu_pid, SIGKILL);
		(void)waitpid(qemu_pid, NULL, 0);
	}
	qemu_pid = 0;
}

/* exit() would wait on stdio's locks, which a thread stuck in write may hold. */
static _Noreturn void finish(int status)
{
	stop_qemu();
	restore_tty();
	fflush(NULL);
	_exit(status);
}

static _Noreturn __attribute__((format(printf, 1, 2))) void fail(const char *fmt, ...)
{
	va_list ap;

	restore_tty();
	fprintf(stderr, "lab: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	finish(EXIT_LAB);
}

/* ---- text kept for failures ---------------------------------------------- */

/* Takes in what is there; false at the end. */
static bool tail_read(struct tail *t)
{
	char buf[4096];
	ssize_t n = read(t->fd, buf, sizeof(buf));

	if (n <= 0)
		return n < 0 && errno == EINTR;
	if (t->copy) {
		fwrite(buf, 1, (size_t)n, t->copy);
		fflush(t->copy);
	}
	if (t->len + (size_t)n > KEEP) {
		size_t drop = t->len + (size_t)n - KEEP;

		memmove(t->text, t->text + drop, t->len - drop);
		t->len -= drop;
	}
	memcpy(t->text + t->len, buf, (size_t)n);
	t->len += (size_t)n;
	return true;
}

static void tail_drain(struct tail *t)
{
	struct pollfd p = { .fd = t->fd, .events = POLLIN };

	while (t->fd >= 0 && poll(&p, 1, 0) > 0 && tail_read(t))
		;
}

static void tail_print(struct tail *t, const char *what)
{
	char *from = t->text + t->len;
	int lines = 0;

	t->text[t->len] = '\0';
	while (from > t->text && lines <= SHOWN_LINES)
		if (*--from == '\n')
			lines++;
	for (char *rest = from + (*from == '\n'), *line; (line = strsep(&rest, "\n"));) {
		line[strcspn(line, "\r")] = '\0';
		/* Said at every start of what an emulated EPYC lacks. */
		if (*line && !strstr(line, "TCG doesn't support requested feature"))
			fprintf(stderr, "lab: %s: %s\n", what, line);
	}
}

static void explain(struct tail *console, struct tail *messages)
{
	tail_drain(console);
	tail_drain(messages);
	tail_print(messages, "QEMU");
	tail_print(console, "kernel");
}

/*
 * A kernel that died or hung before the command ran gets a second try: an emulated CPU is not a perfect one. Nothing is
 * lost, as stdin is not read before the command runs. Returns when this was the second try already.
 */
static void try_again(const struct options *o)
{
	if (getenv("LAB_AGAIN"))
		return;
	fprintf(stderr, "lab: once more\n");
	stop_qemu();
	restore_tty();
	(void)setenv("LAB_AGAIN", "1", 1);
	execv(o->argv[0], o->argv);
}

static _Noreturn void qemu_ended(const struct options *o, bool running, struct tail *console, struct tail *messages)
{
	int status = 0;
	char *panic;

	restore_tty();
	(void)waitpid(qemu_pid, &status, 0);
	qemu_pid = 0;
	tail_drain(console);
	console->text[console->len] = '\0';
	panic = strstr(console->text, "Kernel panic - ");
	if (panic)
		fprintf(stderr, "lab: the lab's kernel panicked: %.*s\n", (int)strcspn(panic, "\r\n"), panic);
	else if (WIFSIGNALED(status))
		fprintf(stderr, "lab: QEMU was killed by signal %d\n", WTERMSIG(status));
	else if (WEXITSTATUS(status))
		fprintf(stderr, "lab: QEMU exited with status %d\n", WEXITSTATUS(status));
	else
		fprintf(stderr, "lab: the lab was switched off or restarted before the command ended\n");
	explain(console, messages);
	if (panic && !running)
		try_again(o);
	finish(EXIT_LAB);
}

/* ---- QEMU ---------------------------------------------------------------- */

static void add(char ***list, size_t *count, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void add(char ***list, size_t *count, const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		fail("out of memory");
	va_end(ap);
	*list = realloc(*list, (*count + 2) * sizeof(**list));
	if (!*list)
		fail("out of memory");
	(*list)[(*count)++] = text;
	(*list)[*count] = NULL;
}

/* The caller's QEMU arguments and the ports on top of them. */
static char **qemu_arguments(char **given, const int *guest_fd)
{
	static const int number[] = { PORT_CONTROL, PORT_STDIN, PORT_STDOUT, PORT_STDERR };
	char **args = NULL;
	size_t n = 0;

	for (; *given; given++)
		add(&args, &n, "%s", *given);
	add(&args, &n, "-device");
	add(&args, &n, "virtio-serial-pci,max_ports=8");
	for (int i = FD_CONTROL; i <= FD_STDERR; i++) {
		add(&args, &n, "-chardev");
		add(&args, &n, "socket,id=port%d,fd=%d", i, guest_fd[i]);
		add(&args, &n, "-device");
		add(&args, &n, "virtserialport,chardev=port%d,nr=%d,name=lab.%d", i, number[i], i);
	}
	add(&args, &n, "-chardev");
	add(&args, &n, "socket,id=console,fd=%d", guest_fd[FD_CONSOLE]);
	add(&args, &n, "-serial");
	add(&args, &n, "chardev:console");
	return args;
}

static _Noreturn void exec_qemu(char **args, const int *guest_fd, int messages, pid_t parent)
{
	sigset_t none;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	/* A group of its own: ^C is for us to handle. */
	(void)setpgid(0, 0);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_LAB);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (null < 0 || dup2(null, 0) < 0 || dup2(messages, 1) < 0 || dup2(messages, 2) < 0)
		_exit(EXIT_LAB);
	for (int i = 0; i < FD_COUNT; i++)
		if (fcntl(guest_fd[i], F_SETFD, 0) < 0)
			_exit(EXIT_LAB);
	execvp(args[0], args);
	fprintf(stderr, "%s: %s\n", args[0], strerror(errno));
	_exit(127);
}

static void start_qemu(const struct options *o)
{
	int guest_fd[FD_COUNT], messages[2];
	pid_t parent = getpid();
	char **args;

	for (int i = 0; i < FD_COUNT; i++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
			fail("socketpair: %m");
		port_fd[i] = pair[0];
		guest_fd[i] = pair[1];
	}
	if (pipe2(messages, O_CLOEXEC) < 0)
		fail("pipe: %m");
	args = qemu_arguments(o->qemu, guest_fd);
	if (getenv("LAB_DEBUG")) {
		for (char **a = args; *a; a++)
			fprintf(stderr, "%s ", *a);
		fprintf(stderr, "\n");
	}
	qemu_pid = fork();
	if (qemu_pid < 0)
		fail("fork: %m");
	if (qemu_pid == 0)
		exec_qemu(args, guest_fd, messages[1], parent);
	for (int i = 0; i < FD_COUNT; i++)
		close(guest_fd[i]);
	close(messages[1]);
	qemu_messages = messages[0];
}

/* ---- the job ------------------------------------------------------------- */

/*
 * A thread of its own sends the job: a large environment does not fit in the
 * socket while the guest is still coming up, and the main loop must not wait.
 */

static void control_send(char type, const void *p, size_t len)
{
	pthread_mutex_lock(&control_lock);
	/* A dead QEMU is seen and explained by the main loop. */
	(void)frame_send(port_fd[FD_CONTROL], type, p, (uint32_t)len);
	pthread_mutex_unlock(&control_lock);
}

static void send_winsize(void)
{
	struct winsize w;

	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &w) == 0)
		control_send(FRAME_WINSIZE, &w, sizeof(w));
}

static void *run_sender(void *arg)
{
	const struct options *o = arg;
	char tty = 0;

	if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
		tty = (char)(TTY_STDIO | (isatty(STDERR_FILENO) ? TTY_STDERR : 0));
	for (char **a = o->command; *a; a++)
		control_send(FRAME_ARG, *a, strlen(*a));
	for (size_t i = 0; i < o->env_count; i++)
		control_send(FRAME_ENV, o->env[i], strlen(o->env[i]));
	control_send(FRAME_CWD, o->cwd, strlen(o->cwd));
	if (o->user)
		control_send(FRAME_USER, o->user, strlen(o->user));
	if (tty) {
		send_winsize();
		control_send(FRAME_TTY, &tty, 1);
	}
	control_send(FRAME_GO, NULL, 0);
	return NULL;
}

static void make_tty_raw(void)
{
	if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && tcgetattr(STDIN_FILENO, &saved_termios) == 0) {
		struct termios raw = saved_termios;

		cfmakeraw(&raw);
		raw_tty = tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
	}
}

/* ---- the streams --------------------------------------------------------- */

static void *run_stdin(void *arg)
{
	char *buf = malloc(FRAME_HEAD + FRAME_CHUNK);
	int escapes = 0;

	(void)arg;
	while (buf) {
		ssize_t n = read(STDIN_FILENO, buf + FRAME_HEAD, FRAME_CHUNK);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) /* an error, such as a closed stdin, is an end too */
			break;
		for (ssize_t i = 0; raw_tty && i < n; i++) {
			escapes = buf[FRAME_HEAD + i] == ESCAPE ? escapes + 1 : 0;
			if (escapes == ESCAPE_COUNT) {
				escaped = true;
				(void)kill(getpid(), SIGTERM);
			}
		}
		frame_head(buf, FRAME_DATA, (uint32_t)n);
		if (write_all(port_fd[FD_STDIN], buf, FRAME_HEAD + (size_t)n) < 0)
			break;
	}
	free(buf);
	(void)frame_send(port_fd[FD_STDIN], FRAME_DATA, NULL, 0);
	return NULL;
}

static void *run_out(void *arg)
{
	struct out_stream *s = arg;
	char *buf = malloc(FRAME_MAX);
	bool open = true;

	while (buf) {
		char type;
		uint32_t len;

		if (frame_recv_head(s->port, &type, &len) < 0 || read_all(s->port, buf, len) < 0)
			break;
		if (len == 0)
			break;
		if (open && write_all(s->fd, buf, len) < 0) {
			/* Whoever read us has gone: the command is to get SIGPIPE. */
			char number = (char)s->number;

			control_send(FRAME_CLOSED, &number, 1);
			open = false;
		}
	}
	free(buf);
	(void)eventfd_write(streams_done, 1);
	return NULL;
}

static void start_thread(pthread_t *t, void *(*fn)(void *), void *arg)
{
	int rc = pthread_create(t, NULL, fn, arg);

	if (rc)
		fail("thread: %s", strerror(rc));
}

/* ---- waiting ------------------------------------------------------------- */

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void handle_signal(int fd)
{
	struct signalfd_siginfo si;
	int sig;

	if (read(fd, &si, sizeof(si)) != (ssize_t)sizeof(si))
		return;
	sig = (int)si.ssi_signo;
	if (sig == SIGWINCH) {
		/* After a trylock: never wait for a guest that is not reading. */
		if (raw_tty && pthread_mutex_trylock(&control_lock) == 0) {
			pthread_mutex_unlock(&control_lock);
			send_winsize();
		}
		return;
	}
	stop_qemu();
	restore_tty();
	fprintf(stderr, escaped ? "lab: ended by the escape keys\n" : "lab: ended by signal %d\n", sig);
	/* Die of it, so that a calling shell or make knows. */
	(void)signal(sig, SIG_DFL);
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, sig);
	(void)sigprocmask(SIG_UNBLOCK, &set, NULL);
	(void)kill(getpid(), sig);
	finish(128 + sig);
}

/* Runs until the status is in and both output streams have ended: they come in
 * on other ports, and whoever reads them may be slow. */
static int supervise(const struct options *o, int signals)
{
	static struct tail console, messages;
	int pidfd = (int)syscall(SYS_pidfd_open, qemu_pid, 0);
	int64_t start = now_ms();
	bool running = false, ended = false;
	eventfd_t done = 0;
	pthread_t in;
	int status = 0;

	console.fd = port_fd[FD_CONSOLE];
	messages.fd = qemu_messages;
	if (pidfd < 0)
		fail("pidfd_open: %m");
	if (o->console && !(console.copy = fopen(o->console, "we")))
		fail("%s: %m", o->console);
	for (;;) {
		struct pollfd p[] = {
			{ .fd = signals, .events = POLLIN },
			{ .fd = ended ? -1 : port_fd[FD_CONTROL], .events = POLLIN },
			{ .fd = console.fd, .events = POLLIN },
			{ .fd = messages.fd, .events = POLLIN },
			{ .fd = ended ? -1 : pidfd, .events = POLLIN },
			{ .fd = streams_done, .events = POLLIN },
		};
		int64_t end = INT64_MAX, left;
		char type, *text;
		uint32_t len;

		if (!running)
			end = start + o->boot_timeout * 1000;
		if (o->timeout && start + o->timeout * 1000 < end)
			end = start + o->timeout * 1000;
		left = end == INT64_MAX ? -1 : end - now_ms();
		if (end != INT64_MAX && left <= 0) {
			bool boot = !o->timeout || o->timeout * 1000 > end - start;

			restore_tty();
			fprintf(stderr,
				boot ? "lab: no command running after %lld s\n" : "lab: timed out after %lld s\n",
				(long long)((end - start) / 1000));
			explain(&console, &messages);
			if (boot)
				try_again(o);
			finish(boot ? EXIT_LAB : EXIT_TIMEOUT);
		}
		if (poll(p, 6, (int)(left > 60000 ? 60000 : left)) < 0 && errno != EINTR)
			fail("poll: %m");
		if (p[0].revents)
			handle_signal(signals);
		if (p[2].revents && !tail_read(&console))
			console.fd = -1;
		if (p[3].revents && !tail_read(&messages))
			messages.fd = -1;
		if (p[1].revents & POLLIN) {
			if (frame_recv(port_fd[FD_CONTROL], &type, &text, &len) < 0)
				qemu_ended(o, running, &console, &messages);
			if (type == FRAME_RUNNING) {
				running = true;
				start_thread(&in, run_stdin, NULL);
			}
			if (type == FRAME_FAILED) {
				restore_tty();
				fprintf(stderr, "lab: %s\n", text);
				explain(&console, &messages);
				finish(EXIT_LAB);
			}
			if (type == FRAME_STATUS && len == sizeof(uint32_t)) {
				memcpy(&status, text, sizeof(status));
				ended = true;
			}
			free(text);
		} else if (p[4].revents || p[1].revents) {
			qemu_ended(o, running, &console, &messages);
		}
		if (p[5].revents) {
			eventfd_t n;

			if (eventfd_read(streams_done, &n) == 0)
				done += n;
		}
		if (ended && done == 2)
			return status;
	}
}

/* ---- arguments ----------------------------------------------------------- */

static long seconds(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || *end || n < 0 || n > 10000000)
		fail("not a number of seconds: %s", text);
	return n;
}

static void parse(int argc, char **argv, struct options *o)
{
	int c, i;

	while ((c = getopt(argc, argv, "+C:e:u:c:t:b:")) != -1) {
		switch (c) {
		case 'C':
			o->cwd = optarg;
			break;
		case 'e':
			add(&o->env, &o->env_count, "%s", optarg);
			break;
		case 'u':
			o->user = optarg;
			break;
		case 'c':
			o->console = optarg;
			break;
		case 't':
			o->timeout = seconds(optarg);
			break;
		case 'b':
			o->boot_timeout = seconds(optarg);
			break;
		default:
			finish(EXIT_LAB);
		}
	}
	o->qemu = argv + optind;
	for (i = optind; i < argc && strcmp(argv[i], "---") != 0; i++)
		;
	if (i == optind || i + 1 >= argc)
		fail("usage: lab-host [options] -- QEMU ARG... --- COMMAND ARG...");
	argv[i] = NULL;
	o->command = argv + i + 1;
}

/* A caller may have closed its streams; their numbers must not become sockets. */
static void open_missing_streams(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			_exit(EXIT_LAB);
}

int main(int argc, char **argv)
{
	struct options o = { .cwd = "/", .boot_timeout = 120 };
	struct out_stream out = { .fd = STDOUT_FILENO, .number = 1 }, err = { .fd = STDERR_FILENO, .number = 2 };
	pthread_t sender;
	sigset_t set;
	int signals;

	open_missing_streams();
	o.argv = calloc((size_t)argc + 1, sizeof(*o.argv));
	if (!o.argv)
		fail("out of memory");
	memcpy(o.argv, argv, (size_t)argc * sizeof(*argv));
	parse(argc, argv, &o);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGWINCH);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (signals < 0)
		fail("signalfd: %m");

	streams_done = eventfd(0, EFD_CLOEXEC);
	if (streams_done < 0)
		fail("eventfd: %m");
	start_qemu(&o);
	start_thread(&sender, run_sender, &o);
	make_tty_raw();
	out.port = port_fd[FD_STDOUT];
	err.port = port_fd[FD_STDERR];
	start_thread(&out.thread, run_out, &out);
	start_thread(&err.thread, run_out, &err);
	finish(supervise(&o, signals));
}
