#include "jail/scope.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "lib/text.h"
#include "mvm/cleanup.h"

#define WAIT_NS      2000000000ULL /* for the answer, and then for the move */
#define MESSAGE_MAX  1024U
#define ANSWER_MAX   8192U
#define ROUNDS       8U
#define METHOD_CALL  1
#define METHOD_OK    2
#define METHOD_ERROR 3

/* D-Bus specification, "Marshaling": everything aligned to its size from the message's start; here little-endian. */
struct message {
	uint8_t *bytes;
	size_t len, cap;
	bool full;
};

static void put(struct message *m, const void *bytes, size_t len)
{
	if (len > m->cap - m->len) {
		m->full = true;
		return;
	}
	memcpy(m->bytes + m->len, bytes, len);
	m->len += len;
}

static void align(struct message *m, size_t to)
{
	static const uint8_t zeroes[8];

	put(m, zeroes, (to - m->len % to) % to);
}

static void put_u32(struct message *m, uint32_t v)
{
	const uint8_t bytes[4] = { (uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24) };

	align(m, 4);
	put(m, bytes, sizeof(bytes));
}

static void put_string(struct message *m, const char *s)
{
	put_u32(m, (uint32_t)strlen(s));
	put(m, s, strlen(s) + 1);
}

static void put_signature(struct message *m, const char *s)
{
	const uint8_t len = (uint8_t)strlen(s);

	put(m, &len, 1);
	put(m, s, len + 1U);
}

/* A length that is known only later. */
static void set_u32(struct message *m, size_t at, size_t v)
{
	struct message there = { .bytes = m->bytes + at, .cap = 4 };

	if (!m->full)
		put_u32(&there, (uint32_t)v);
}

static void put_field(struct message *m, uint8_t code, const char *signature, const char *value)
{
	align(m, 8);
	put(m, &code, 1);
	put_signature(m, signature);
	if (*signature == 'g')
		put_signature(m, value);
	else
		put_string(m, value);
}

/* The body: name, mode, properties a(sv), auxiliary units a(sa(sv)); the caller has aligned to 8. */
static void put_body(struct message *m, const char *name, pid_t pid)
{
	size_t length_at, first;

	put_string(m, name);
	put_string(m, "fail");
	align(m, 4);
	length_at = m->len;
	put_u32(m, 0);
	align(m, 8);
	first = m->len;
	put_string(m, "Delegate");
	put_signature(m, "b");
	put_u32(m, 1);
	align(m, 8);
	put_string(m, "CollectMode"); /* gone with its last process, whatever became of it */
	put_signature(m, "s");
	put_string(m, "inactive-or-failed");
	align(m, 8);
	put_string(m, "PIDs");
	put_signature(m, "au");
	put_u32(m, 4);
	put_u32(m, (uint32_t)pid);
	set_u32(m, length_at, m->len - first);
	put_u32(m, 0);
	align(m, 8);
}

int scope_message(const char *name, pid_t pid, uint8_t *buf, size_t cap)
{
	struct message m = { .bytes = buf, .cap = cap };
	const uint8_t head[4] = { 'l', METHOD_CALL, 0, 1 /* protocol */ };
	size_t body, fields;

	put(&m, head, sizeof(head));
	put_u32(&m, 0); /* the body's length */
	put_u32(&m, 1); /* serial */
	put_u32(&m, 0); /* the fields' length */
	fields = m.len;
	put_field(&m, 1, "o", "/org/freedesktop/systemd1");
	put_field(&m, 2, "s", "org.freedesktop.systemd1.Manager");
	put_field(&m, 3, "s", "StartTransientUnit");
	put_field(&m, 6, "s", "org.freedesktop.systemd1");
	put_field(&m, 8, "g", "ssa(sv)a(sa(sv))");
	set_u32(&m, 12, m.len - fields);
	align(&m, 8);
	body = m.len;
	put_body(&m, name, pid);
	set_u32(&m, 4, m.len - body);
	return m.full ? -ENOSPC : (int)m.len;
}

static int dial(const char *runtime_dir)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_fd_ int fd = -1;

	if (snprintf(address.sun_path, sizeof(address.sun_path), "%s/systemd/private", runtime_dir) >=
	    (int)sizeof(address.sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return take_fd(&fd);
}

/* "EXTERNAL": who we are is what the socket says; the number is only a claim to be compared. */
static int send_all(int fd, const char *name, pid_t pid)
{
	uint8_t text[MESSAGE_MAX + 64], message[MESSAGE_MAX];
	char uid[16];
	int len = scope_message(name, pid, message, sizeof(message)), at = 1;
	size_t whole;

	if (len < 0)
		return len;
	text[0] = '\0';
	at += snprintf((char *)text + at, sizeof(text) - 1, "AUTH EXTERNAL ");
	(void)snprintf(uid, sizeof(uid), "%u", geteuid());
	for (const char *c = uid; *c; c++)
		at += snprintf((char *)text + at, 4, "%02x", (unsigned)*c);
	at += snprintf((char *)text + at, 16, "\r\nBEGIN\r\n");
	memcpy(text + at, message, (size_t)len);
	whole = (size_t)at + (size_t)len;
	return send(fd, text, whole, MSG_NOSIGNAL) == (ssize_t)whole ? 0 : -EIO;
}

/* "OK guid\r\n", then messages; the first return or error is the answer to our one call. */
static int judge(const uint8_t *bytes, size_t len)
{
	const uint8_t *end = memchr(bytes, '\n', len);
	size_t at;

	if (len >= 2 && memcmp(bytes, "OK", 2) != 0)
		return -EACCES;
	if (!end)
		return -EAGAIN;
	for (at = (size_t)(end - bytes) + 1; len - at >= 16;) {
		const uint8_t *m = bytes + at;
		uint64_t body = (uint64_t)m[4] | (uint64_t)m[5] << 8 | (uint64_t)m[6] << 16 | (uint64_t)m[7] << 24;
		uint64_t fields =
			(uint64_t)m[12] | (uint64_t)m[13] << 8 | (uint64_t)m[14] << 16 | (uint64_t)m[15] << 24;
		uint64_t size = 16 + ((fields + 7) & ~7ULL) + body;

		if (m[0] != 'l')
			return -EPROTO;
		if (m[1] == METHOD_OK)
			return 0;
		if (m[1] == METHOD_ERROR)
			return -EACCES;
		if (size > len - at)
			break; /* a signal of which more is to come */
		at += size;
	}
	return -EAGAIN;
}

static int wait_answer(int fd, uint64_t deadline)
{
	uint8_t bytes[ANSWER_MAX];
	size_t len = 0;
	int r = -EAGAIN;

	while (r == -EAGAIN) {
		struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
		uint64_t now = text_now_ns();
		ssize_t n;

		if (now >= deadline || poll(&poll_fd, 1, (int)((deadline - now) / 1000000) + 1) == 0)
			return -ETIMEDOUT;
		n = read(fd, bytes + len, sizeof(bytes) - len);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0)
			return -EPROTO; /* closed, or more than any answer has */
		len += (size_t)n;
		r = judge(bytes, len);
	}
	return r;
}

/* A process' v2 group, "/…/name" once systemd has moved it; -EAGAIN: not yet. NULL: whichever it is. */
static int group_of(pid_t pid, const char *name, char *ret_path, size_t cap)
{
	_cleanup_fd_ int fd = -1;
	char text[8192];
	char *own, *end;
	ssize_t n;

	(void)snprintf(text, sizeof(text), "/proc/%ld/cgroup", (long)pid);
	fd = open(text, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	own = strstr(text, "0::/");
	if (!own)
		return -ENOTSUP;
	own += 3;
	own[strcspn(own, "\n")] = '\0';
	end = strrchr(own, '/');
	if (name && strcmp(end + 1, name) != 0)
		return -EAGAIN;
	return snprintf(ret_path, cap, "/sys/fs/cgroup%s", own) < (int)cap ? 0 : -ENAMETOOLONG;
}

/* A group whose children have controllers has no process itself (cgroups(7), "no internal processes"). */
static int step_aside(const char *scope)
{
	char path[4096 + 64];
	_cleanup_fd_ int fd = -1;

	(void)snprintf(path, sizeof(path), "%s/supervisor", scope);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return -errno;
	(void)snprintf(path, sizeof(path), "%s/supervisor/cgroup.procs", scope);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 || write(fd, "0", 1) < 0 ? -errno : 0;
}

/* Those that are in `group`, as far as one read tells, into its leaf. How many; -errno. */
static int move_all(const char *group, int leaf)
{
	char path[4096 + 64], text[4096];
	_cleanup_fd_ int fd = -1;
	int moved = 0;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "%s/cgroup.procs", group);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	for (char *line = text, *feed; (feed = strchr(line, '\n')); line = feed + 1, moved++)
		if (write(leaf, line, (size_t)(feed - line)) < 0 && errno != ESRCH)
			return -errno;
	return moved;
}

bool scope_is_service(void)
{
	static const char end[] = ".service";
	char group[4096];
	size_t len;

	if (group_of(getpid(), NULL, group, sizeof(group)) < 0)
		return false;
	len = strlen(group);
	return len >= sizeof(end) && !strcmp(group + len - (sizeof(end) - 1), end);
}

int scope_step_aside(void)
{
	char group[4096], path[4096 + 64], mark[2];
	_cleanup_fd_ int leaf = -1;
	int r = group_of(getpid(), NULL, group, sizeof(group));

	/* systemd's own mark. A group that is merely ours to write may hold others' processes. */
	if (r == 0 && (getxattr(group, "user.delegate", mark, sizeof(mark)) != 1 || mark[0] != '1'))
		r = -ENODATA;
	if (r == 0)
		r = step_aside(group);
	if (r < 0)
		return r;
	(void)snprintf(path, sizeof(path), "%s/supervisor/cgroup.procs", group);
	leaf = open(path, O_WRONLY | O_CLOEXEC);
	if (leaf < 0)
		return -errno;
	for (unsigned i = 0; i < ROUNDS && (r = move_all(group, leaf)) > 0; i++) /* one may be forking */
		;
	return r < 0 ? r : 0;
}

/* `ret_path`: the scope's folder, of `cap` bytes. */
static int place(const char *runtime_dir, const char *name, pid_t pid, char *ret_path, size_t cap)
{
	const struct timespec moment = { .tv_nsec = 1000000 };
	uint64_t deadline = text_now_ns() + WAIT_NS;
	_cleanup_fd_ int fd = dial(runtime_dir);
	int r = fd < 0 ? fd : send_all(fd, name, pid);

	if (r == 0)
		r = wait_answer(fd, deadline);
	/* The answer is that the job was queued. Its end comes as a signal, and shows in /proc as well. */
	while (r == 0 && (r = group_of(pid, name, ret_path, cap)) == -EAGAIN) {
		if (text_now_ns() >= deadline)
			return -ETIMEDOUT;
		(void)nanosleep(&moment, NULL);
		r = 0;
	}
	return r;
}

int scope_enter(const char *runtime_dir, const char *name)
{
	char path[4096];
	int r = place(runtime_dir, name, getpid(), path, sizeof(path));

	return r < 0 ? r : step_aside(path);
}

int scope_place(const char *runtime_dir, const char *name, pid_t pid)
{
	char path[4096];

	return place(runtime_dir, name, pid, path, sizeof(path));
}
