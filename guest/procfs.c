#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/mount.h>

#include "mvm/cleanup.h"
#include "procfs.h"

#define TICKS_PER_S 100U /* USER_HZ: the unit of stat files, whatever the kernel's own */
#define FIELD_MAX   512U /* bytes of a line of a status file: 32 nested namespaces have room */

int procfs_open(void)
{
	_cleanup_fd_ int context = (int)syscall(SYS_fsopen, "proc", FSOPEN_CLOEXEC);
	long fd;

	if (context < 0 || syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	fd = syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
	return fd < 0 ? -errno : (int)fd;
}

const char *procfs_field(const char *text, const char *key)
{
	size_t len = strlen(key);

	for (; text; text = strchr(text, '\n')) {
		text += *text == '\n';
		if (strncmp(text, key, len) == 0)
			return text + len;
	}
	return NULL;
}

/* Reads the beginning of a file and terminates it; "" when it cannot be read. Returns its length. */
static size_t read_text(int dir, const char *name, char *buf, size_t size)
{
	_cleanup_fd_ int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);

	if (n < 0)
		n = 0;
	buf[n] = 0;
	return (size_t)n;
}

/*
 * What is behind `key` on its line of a status file. The list of groups before it may be most of a megabyte
 * long, so the file goes through a window.
 */
static bool read_field(int fd, const char *key, char *value, size_t size)
{
	char window[2048];
	size_t kept = 0;
	ssize_t n;

	while ((n = read(fd, window + kept, sizeof(window) - 1 - kept)) > 0) {
		const char *at;

		kept += (size_t)n;
		window[kept] = 0;
		at = procfs_field(window, key);
		if (at && strchr(at, '\n')) {
			(void)snprintf(value, size, "%.*s", (int)strcspn(at, "\n"), at);
			return true;
		}
		if (kept > sizeof(window) / 2) {
			memmove(window, window + kept - FIELD_MAX, FIELD_MAX);
			kept = FIELD_MAX;
		}
	}
	return false;
}

/* The container's number is the second: the first is the root namespace's, more are of namespaces further inside. */
static unsigned long inner_pid(const char *nspid)
{
	char *end;

	(void)strtoul(nspid, &end, 10);
	return end == nspid ? 0 : strtoul(end, NULL, 10);
}

/* Skips `n` words, each with the blank behind it. */
static const char *skip_words(const char *s, unsigned n)
{
	while (n-- && *s) {
		s += strcspn(s, " ");
		s += *s == ' ';
	}
	return s;
}

static void make_printable(char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!s[i])
			s[i] = ' ';
		else if ((unsigned char)s[i] < ' ' || s[i] == '\177')
			s[i] = '?';
	s[len] = 0;
}

size_t procfs_line(const struct procfs_texts *texts, char line[PROCFS_LINE_MAX])
{
	const char *name = strchr(texts->stat, '('), *behind = strrchr(texts->stat, ')'), *s;
	unsigned long pid = inner_pid(texts->status_nspid);
	unsigned long long ticks, rss;
	size_t len = texts->command_len;
	char *uid_end;
	int n;

	/* The container's pid 1 is the agent's, not the workload's. The name in brackets may hold brackets, too. */
	if (pid < 2 || !name || !behind || behind < name || behind[1] != ' ' || behind[2] < 'A' || behind[2] > 'z')
		return 0;
	s = skip_words(behind + 2, 11); /* of proc(5)'s fields: from the 3rd, state, to the 14th, utime */
	ticks = strtoull(s, NULL, 10) + strtoull(skip_words(s, 1), NULL, 10);
	rss = strtoull(skip_words(s, 10), NULL, 10); /* the 24th, in pages */
	(void)strtoul(texts->status_uid, &uid_end, 10); /* the real one; the effective one follows */
	while (len && !texts->command[len - 1])
		len--;
	make_printable(texts->command, len);
	n = snprintf(line, PROCFS_LINE_MAX, "%lu\t%lu\t%c\t%llu\t%llu\t", pid, strtoul(uid_end, NULL, 10), behind[2],
		     rss * (unsigned)getpagesize() / 1024, ticks * (1000 / TICKS_PER_S));
	if (len) {
		n += snprintf(line + n, PROCFS_LINE_MAX - (size_t)n, "%s\n", texts->command);
	} else {
		int begin = n;

		n += snprintf(line + n, PROCFS_LINE_MAX - (size_t)n, "[%.*s]",
			      (int)(behind - name - 1 > 64 ? 64 : behind - name - 1), name + 1);
		make_printable(line + begin, (size_t)(n - begin));
		line[n++] = '\n';
		line[n] = 0;
	}
	return (size_t)n;
}

/* A process that has gone meanwhile is no line. */
static size_t read_process(int proc, const char *name, char line[PROCFS_LINE_MAX])
{
	_cleanup_fd_ int dir = openat(proc, name, O_PATH | O_DIRECTORY | O_CLOEXEC), status = -1;
	char uid[FIELD_MAX], nspid[FIELD_MAX], stat[1024], command[PROCFS_COMMAND_MAX + 1];
	struct procfs_texts texts = { .status_uid = uid, .status_nspid = nspid, .stat = stat, .command = command };

	if (dir < 0)
		return 0;
	status = openat(dir, "status", O_RDONLY | O_CLOEXEC);
	if (status < 0 || !read_field(status, "Uid:", uid, sizeof(uid)) || lseek(status, 0, SEEK_SET) < 0 ||
	    !read_field(status, "NSpid:", nspid, sizeof(nspid)) || !inner_pid(nspid))
		return 0; /* kernel threads and the agent: no second look at them */
	(void)read_text(dir, "stat", stat, sizeof(stat));
	texts.command_len = read_text(dir, "cmdline", command, sizeof(command));
	return procfs_line(&texts, line);
}

void procfs_list(int proc, char *text, size_t size)
{
	static const char more[] = "...\n";
	_cleanup_fd_ int fd = proc < 0 ? -1 : openat(proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	size_t at = 0;

	*text = 0;
	if (!dir)
		return;
	(void)take_fd(&fd); /* closedir() closes it */
	while ((entry = readdir(dir))) {
		char line[PROCFS_LINE_MAX];
		size_t len =
			*entry->d_name >= '1' && *entry->d_name <= '9' ? read_process(proc, entry->d_name, line) : 0;

		if (at + len + sizeof(more) > size) {
			memcpy(text + at, more, sizeof(more));
			break;
		}
		memcpy(text + at, line, len);
		at += len;
		text[at] = 0;
	}
	(void)closedir(dir);
}

/* Kibibytes behind "Key:", as bytes. */
static uint64_t meminfo_bytes(const char *text, const char *key)
{
	const char *at = procfs_field(text, key);

	return at ? strtoull(at, NULL, 10) * 1024 : 0;
}

void procfs_stat(int proc, struct proto_statted *wire)
{
	char text[512]; /* what is looked for is at the beginning of both files */
	uint64_t total = 0, idle = 0;
	const char *s;

	if (proc < 0)
		return;
	(void)read_text(proc, "meminfo", text, sizeof(text));
	wire->memory_total = le64_of(meminfo_bytes(text, "MemTotal:"));
	wire->memory_available = le64_of(meminfo_bytes(text, "MemAvailable:"));
	(void)read_text(proc, "stat", text, sizeof(text));
	s = strncmp(text, "cpu ", 4) == 0 ? text + 4 : "";
	/* user nice system idle iowait irq softirq steal; what guests use is counted in user already */
	for (int i = 0; i < 8; i++) {
		char *end;
		uint64_t ticks = strtoull(s, &end, 10);

		total += ticks;
		idle += i == 3 || i == 4 ? ticks : 0;
		s = end;
	}
	wire->cpu_total = le64_of(total);
	wire->cpu_idle = le64_of(idle);
}
