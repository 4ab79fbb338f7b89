/* Checks of mvm's own parts: there, ours, nobody else's to change, of this version. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "lib/doctor.h"
#include "lib/text.h"
#include "mvm/cleanup.h"
#include "mvm/version.h"

#define PART_MAX    (64U << 20) /* bytes that are searched for the version */
#define VERSION_MAX 32U
#define CHUNK       ((size_t)64 << 10)
#define KEEP        (sizeof(MVM_VERSION_MARK) + VERSION_MAX)

enum writers { WRITERS_US, WRITERS_PROGRAM, WRITERS_OTHERS };

/* Who may change what is here: root and the user; who may change mvm itself; others. /tmp's sticky bit keeps names apart. */
static enum writers writers_of(const struct doctor_host *host, const struct stat *st)
{
	if ((st->st_mode & S_IWOTH) && !(S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX)))
		return WRITERS_OTHERS;
	if (st->st_uid == 0 || st->st_uid == host->uid)
		return WRITERS_US;
	return st->st_uid == host->program_uid ? WRITERS_PROGRAM : WRITERS_OTHERS;
}

/* The worst of the part and every folder above it, up to the host's root; the length of that one's path. */
static enum writers find_writers(const struct doctor_host *host, const char *path, size_t *ret_len)
{
	enum writers worst = WRITERS_US;
	char at[PATH_MAX];

	(void)snprintf(at, sizeof(at), "%s", path);
	*ret_len = 0;
	while (strlen(at) > strlen(host->root)) {
		struct stat st;
		enum writers now = stat(at, &st) < 0 ? WRITERS_OTHERS : writers_of(host, &st);
		char *slash = strrchr(at, '/');

		if (now > worst) {
			worst = now;
			*ret_len = strlen(at);
		}
		if (!slash)
			break;
		*slash = '\0';
	}
	return worst;
}

/* Reads until the mark and what follows it are in buf, of CHUNK + KEEP bytes; NULL when it does not come. */
static const char *find_mark(int fd, char *buf, size_t *ret_have)
{
	static const char mark[] = MVM_VERSION_MARK;
	size_t have = 0;

	for (size_t total = 0; total < PART_MAX; total += CHUNK) {
		ssize_t n = read(fd, buf + have, CHUNK);
		const char *at;

		if (n <= 0)
			return NULL;
		have += (size_t)n;
		at = memmem(buf, have, mark, sizeof(mark) - 1);
		if (at && have - (size_t)(at - buf) < KEEP) { /* its end may be in what follows */
			n = read(fd, buf + have, CHUNK + KEEP - have);
			have += n > 0 ? (size_t)n : 0;
		}
		if (at) {
			*ret_have = have - (size_t)(at - buf) - (sizeof(mark) - 1);
			return at + sizeof(mark) - 1;
		}
		if (have > KEEP) { /* the mark may have begun */
			memmove(buf, buf + have - KEEP, KEEP);
			have = KEEP;
		}
	}
	return NULL;
}

/*
 * The version that a program says it is of (MVM_VERSION_MARK); false when it says none. Read, not run:
 * what is examined is not trusted yet.
 */
static bool read_version(const char *path, char ret_version[VERSION_MAX])
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char *buf = malloc(CHUNK + KEEP);
	const char *at;
	size_t have;

	at = fd < 0 || !buf ? NULL : find_mark(fd, buf, &have);
	if (at)
		(void)snprintf(ret_version, VERSION_MAX, "%.*s", (int)strnlen(at, have), at);
	free(buf);
	return at != NULL;
}

static void check_version(const char *path, const char *shown, struct doctor_result *r)
{
	char version[VERSION_MAX];

	if (!read_version(path, version)) {
		doctor_found(r, MVM_CHECK_PROBLEM, "%.300s is of no known version: another program, or one cut short",
			     shown);
	} else if (strcmp(version, MVM_VERSION) != 0) {
		doctor_found(r, MVM_CHECK_PROBLEM, "%.300s is of version %s, and this is " MVM_VERSION, shown, version);
	} else {
		doctor_found(r, MVM_CHECK_OK, "%.300s, version %s", shown, version);
		return;
	}
	doctor_remedy(r, "install mvm again: its parts belong together");
}

static void check_kernel(const char *path, const char *shown, struct doctor_result *r)
{
	_cleanup_free_ char *banner = NULL;
	char *at;

	if (mvm_kernel_version(path, &banner, NULL) < 0) {
		doctor_found(r, MVM_CHECK_PROBLEM, "%.300s is no Linux kernel that can be read", shown);
		doctor_remedy(r, "install mvm again, or make kernel");
		return;
	}
	/* "Linux version 6.12.90 (who built it) …" */
	at = strstr(banner, " (");
	if (at)
		*at = '\0';
	doctor_found(r, MVM_CHECK_OK, "%.300s, %.64s", shown, banner);
}

static void check_file(const struct doctor_host *host, enum doctor_part part, const char *path, struct doctor_result *r)
{
	const char *shown = path + strlen(host->root);
	enum writers writers;
	struct stat st;
	size_t len;
	int n;

	writers = find_writers(host, path, &len);
	n = len ? (int)(len - strlen(host->root)) : 0; /* of what is shown */

	if (stat(path, &st) < 0 || !S_ISREG(st.st_mode)) {
		doctor_found(r, MVM_CHECK_PROBLEM, "%.300s is no file", shown);
		doctor_remedy(r, "install mvm again");
	} else if (writers == WRITERS_OTHERS) {
		doctor_found(r, MVM_CHECK_PROBLEM, "%.*s can be changed by others than root and you", n, shown);
		doctor_remedy(r, "sudo chown root: %.*s && sudo chmod go-w %.*s", n, shown, n, shown);
	} else if (st.st_mode & (S_ISUID | S_ISGID)) {
		doctor_found(r, MVM_CHECK_PROBLEM, "%.300s is setuid or setgid, and was never meant to be", shown);
		doctor_remedy(r, "sudo chmod ug-s %.300s", shown);
	} else if (part != DOCTOR_BRIDGE && getxattr(path, "security.capability", NULL, 0) > 0) {
		doctor_found(r, MVM_CHECK_PROBLEM, "%.300s has capabilities, and only mvm-bridge was ever meant to",
			     shown);
		doctor_remedy(r, "sudo setcap -r %.300s", shown);
	} else if (part <= DOCTOR_VMM && !(st.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH))) {
		doctor_found(r, MVM_CHECK_PROBLEM, "%.300s is not executable", shown);
		doctor_remedy(r, "sudo chmod 755 %.300s", shown);
	} else if (part == DOCTOR_KERNEL) {
		check_kernel(path, shown, r);
	} else {
		check_version(path, shown, r);
	}
	if (r->check.state == MVM_CHECK_OK && writers == WRITERS_PROGRAM) {
		doctor_found(r, MVM_CHECK_WARNING,
			     "%.*s belongs to uid %u, as mvm itself does: that user can change it", n, shown,
			     host->program_uid);
		doctor_remedy(r, "nothing if that user is you; else have root install mvm: sudo make install");
	} else if (r->check.state == MVM_CHECK_OK && (st.st_mode & S_IWGRP) && st.st_gid != 0) {
		doctor_found(r, MVM_CHECK_WARNING, "%.300s is writable by group %u", shown, st.st_gid);
		doctor_remedy(r, "chmod g-w %.300s", shown);
	}
}

void doctor_check_part(const struct doctor_host *host, struct doctor_result *r)
{
	enum doctor_part part = 0;
	char path[PATH_MAX], *real;

	while (part < DOCTOR_KERNEL && strcmp(doctor_part_name(part), r->check.name) != 0)
		part++;
	if (!host->part[part][0]) {
		doctor_found(r, MVM_CHECK_PROBLEM, "%s", host->part_error[part].text);
		doctor_remedy(r, part == DOCTOR_KERNEL ? "install mvm again, or make kernel" : "install mvm again");
		return;
	}
	/* The way there, without links and "..": each folder on it is looked at. */
	real = doctor_path(host, path, "%s", host->part[part]) < 0 ? NULL : realpath(path, NULL);
	if (real && !strncmp(real, host->root, strlen(host->root))) {
		check_file(host, part, real, r);
	} else {
		doctor_found(r, MVM_CHECK_PROBLEM, "%.300s is not there", host->part[part]);
		doctor_remedy(r, "install mvm again");
	}
	free(real);
}
