#include "lib/state_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "jail/cgroup.h"
#include "jail/ids.h"
#include "lib/attach.h"
#include "lib/event.h"
#include "lib/record.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define CGROUPS_MAX_BYTES 32800
#define NAMED_MAX         8U /* ids in an error */
#define CRASH_VERDICT     "vmm-fault"
#define CRASH_CAUSE       "its supervisor died, and the VM with it"
#define CRASH_STATUS      125

int state_dir_parent(char ret_path[PATH_MAX], struct mvm_error *err)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	int n;

	if (geteuid() == 0)
		n = snprintf(ret_path, PATH_MAX, "/run/mvm");
	else if (runtime && *runtime == '/')
		n = snprintf(ret_path, PATH_MAX, "%s/mvm", runtime);
	else
		n = snprintf(ret_path, PATH_MAX, "/tmp/mvm-%u", geteuid());
	if (n >= PATH_MAX)
		return error_set(err, ENAMETOOLONG, "XDG_RUNTIME_DIR: too long: set it to /run/user/%u", geteuid());
	return 0;
}

/* Whoever could write there could swap our folders: refused. */
int state_dir_open_parent(const char *parent, int *ret_fd, struct mvm_error *err)
{
	_cleanup_fd_ int fd = open(parent, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 && errno == ENOENT) {
		if (mkdir(parent, 0700) < 0 && errno != EEXIST)
			return error_set(err, errno, "%s: the folder for running VMs cannot be made: %s: %s", parent,
					 strerror(errno),
					 errno == ENOENT ? "set XDG_RUNTIME_DIR to a folder of yours"
							 : "make room or give permission there");
		fd = open(parent, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	}
	if (fd < 0 && (errno == ELOOP || errno == ENOTDIR))
		return error_set(err, errno, "%s: the folder for running VMs is a link or a file: remove it: rm %s",
				 parent, parent);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, errno, "%s: the folder for running VMs cannot be opened: %s", parent,
				 strerror(errno));
	if (st.st_uid != geteuid())
		return error_set(
			err, EPERM,
			"%s: the folder for running VMs belongs to uid %u, not to you: have it removed, or set "
			"XDG_RUNTIME_DIR to a folder of yours",
			parent, st.st_uid);
	/* Who may only open it could still hold its lock for ever: ours alone, whoever made it. */
	if (!(st.st_mode & (S_IWGRP | S_IWOTH)) && (st.st_mode & (S_IRWXG | S_IRWXO)) && fchmod(fd, 0700) < 0)
		return error_set(err, errno, "%s: the folder for running VMs is readable by others: chmod 700 %s: %s",
				 parent, parent, strerror(errno));
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return error_set(err, EPERM, "%s: the folder for running VMs is writable by others: chmod 700 %s",
				 parent, parent);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int take_lock(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

static int choose_id(char id[MVM_ID_LEN + 1])
{
	uint8_t bytes[MVM_ID_LEN / 2];

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return -EIO;
	for (size_t i = 0; i < sizeof(bytes); i++)
		(void)snprintf(id + 2 * i, 3, "%02x", bytes[i]);
	return 0;
}

/* With the parent flocked shared: a reclaimer, which locks exclusively, never sees a folder without its lock. */
static int create_locked(struct state_dir *dir)
{
	int r = -EEXIST;

	for (unsigned tries = 0; r == -EEXIST && tries < 8; tries++) {
		r = choose_id(dir->id);
		if (r == 0 && mkdirat(dir->parent_fd, dir->id, 0700) < 0)
			r = -errno;
	}
	if (r < 0)
		return r;
	dir->fd = openat(dir->parent_fd, dir->id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir->fd < 0)
		return -errno;
	dir->lock_fd = openat(dir->fd, "lock", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (dir->lock_fd < 0)
		return -errno;
	return take_lock(dir->lock_fd);
}

int state_dir_read(int folder, const char *name, size_t max, char **ret_text)
{
	_cleanup_fd_ int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	_cleanup_free_ char *text = NULL;
	size_t have = 0;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 || (size_t)st.st_size > max)
		return -EINVAL;
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return -ENOMEM;
	while (have < (size_t)st.st_size) {
		ssize_t n = read(fd, text + have, (size_t)st.st_size - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EINVAL;
		have += (size_t)n;
	}
	text[have] = '\0';
	*ret_text = take_ptr(&text);
	return 0;
}

static bool is_id(const char *name)
{
	return strlen(name) == MVM_ID_LEN && strspn(name, "0123456789abcdef") == MVM_ID_LEN;
}

void state_dir_name(int parent_fd, const char *id, char ret_name[STATE_NAME_MAX + 1])
{
	char path[MVM_ID_LEN + sizeof("/name")];
	ssize_t n;

	(void)snprintf(path, sizeof(path), "%s/name", id);
	n = readlinkat(parent_fd, path, ret_name, STATE_NAME_MAX + 1);
	ret_name[n > 0 && n <= STATE_NAME_MAX ? n : 0] = '\0';
}

/* A stream of the parent's entries with an offset, and a flock, of its own. */
static DIR *open_stream(int parent_fd)
{
	int fd = openat(parent_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);

	if (!stream)
		cleanup_fd(&fd);
	return stream;
}

/* Whose the name is; "" nobody's. Of a name that is an id's prefix the id could not be told. */
static void holder_of(int parent_fd, const char *name, char ret_id[MVM_ID_LEN + 1])
{
	DIR *stream = open_stream(parent_fd);
	int left = STATE_ENTRIES_MAX;
	struct dirent *entry;

	ret_id[0] = '\0';
	while (stream && !ret_id[0] && left-- && (entry = readdir(stream))) {
		char other[STATE_NAME_MAX + 1];

		if (!is_id(entry->d_name))
			continue;
		state_dir_name(parent_fd, entry->d_name, other);
		if (!strcmp(other, name))
			memcpy(ret_id, entry->d_name, MVM_ID_LEN + 1);
	}
	if (stream)
		(void)closedir(stream);
}

int state_dir_create(const char *parent, const char *name, struct state_dir *ret_dir, struct mvm_error *err)
{
	struct state_dir dir = STATE_DIR_NONE;
	int r = state_dir_open_parent(parent, &dir.parent_fd, err);
	char holder[MVM_ID_LEN + 1];

	if (r < 0)
		return r;
	if (name)
		(void)state_dir_reclaim(parent, ""); /* a crash's may hold it */
	/* Names are compared, and taken, by one at a time. */
	while ((r = flock(dir.parent_fd, name ? LOCK_EX : LOCK_SH)) < 0 && errno == EINTR)
		;
	if (r == 0 && name) {
		holder_of(dir.parent_fd, name, holder);
		if (*holder) {
			state_dir_close(&dir);
			return error_set(err, EEXIST, "--name: %s: taken by the VM %s: mvm rm %s, or choose another",
					 name, holder, name);
		}
	}
	if (r < 0)
		r = -errno;
	else
		r = create_locked(&dir);
	if (r == 0 && name && symlinkat(name, dir.fd, "name") < 0)
		r = -errno;
	if (r < 0) {
		(void)error_set(err, -r,
				"%s: no folder for this VM can be made there: %s: make room or give permission", parent,
				strerror(-r));
		state_dir_remove(&dir);
		return r;
	}
	(void)flock(dir.parent_fd, LOCK_UN); /* closing would do it as well */
	*ret_dir = dir;
	return 0;
}

int state_dir_reopen(const char *parent, const char *id, struct state_dir *ret_dir, struct mvm_error *err)
{
	struct state_dir dir = STATE_DIR_NONE;
	int r = is_id(id) ? state_dir_open_parent(parent, &dir.parent_fd, err) : -EINVAL;

	if (r < 0)
		return r;
	memcpy(dir.id, id, sizeof(dir.id));
	while (flock(dir.parent_fd, LOCK_SH) < 0 && errno == EINTR)
		;
	dir.fd = openat(dir.parent_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir.fd >= 0)
		dir.lock_fd = openat(dir.fd, "lock", O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (dir.lock_fd < 0) {
		r = error_set(err, ESRCH, "%s: no such VM: it was removed", id);
	} else if (take_lock(dir.lock_fd) < 0) {
		r = error_set(err, EBUSY, "%s: runs already", id);
	} else if (!state_dir_reclaim_cgroups(dir.fd)) {
		r = error_set(err, EBUSY, "%s: its last run is still being taken down: try again in a moment", id);
	}
	if (r < 0) {
		state_dir_close(&dir);
		return r;
	}
	(void)flock(dir.parent_fd, LOCK_UN);
	(void)unlinkat(dir.fd, ATTACH_NAME, 0); /* a crash's; ours takes its place */
	*ret_dir = dir;
	return 0;
}

static int write_all(int fd, const char *text, size_t len)
{
	while (len) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

int state_dir_write(const struct state_dir *dir, const char *name, const char *text, struct mvm_error *err)
{
	_cleanup_fd_ int fd = openat(dir->fd, ".new", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : write_all(fd, text, strlen(text));

	if (r == 0 && renameat(dir->fd, ".new", dir->fd, name) < 0)
		r = -errno;
	if (r < 0)
		return error_set(err, -r, "%s/%s: cannot be written: %s: make room there", dir->id, name, strerror(-r));
	return 0;
}

/* Unlinks every file in an open folder, then the folder: one level, nothing is followed. */
static int delete_folder(int parent_fd, int folder_fd, const char *name)
{
	int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int left = STATE_ENTRIES_MAX;

	if (!stream) {
		if (fd >= 0)
			(void)close(fd);
		return -errno;
	}
	while (left-- && (entry = readdir(stream)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			(void)unlinkat(folder_fd, entry->d_name, 0); /* what stays makes the next call fail */
	(void)closedir(stream);
	return unlinkat(parent_fd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

/* The cgroups that its supervisor had made, a path a line. Their list goes with the last of them; false: it stays. */
bool state_dir_reclaim_cgroups(int folder_fd)
{
	_cleanup_fd_ int fd = openat(folder_fd, STATE_CGROUPS, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	char text[CGROUPS_MAX_BYTES];
	bool gone = true;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n < 0)
		return true; /* there were none */
	text[n] = '\0';
	for (char *line = text, *next; (next = strchr(line, '\n')); line = next) {
		*next++ = '\0';
		gone &= cgroup_reclaim(line);
	}
	if (gone)
		(void)unlinkat(folder_fd, STATE_CGROUPS, 0);
	return gone;
}

/* Whoever reclaims it tells of the end that its supervisor could not tell. */
static void tell_crashed(int parent_fd, const char *id, const char *name)
{
	json_object *event = event_new(EVENT_ENDED, id, name);

	event_severity(event, LOG_ERR);
	event_text(event, "verdict", CRASH_VERDICT);
	event_number(event, "status", CRASH_STATUS);
	event_text(event, "cause", CRASH_CAUSE);
	event_append_object(parent_fd, event);
}

/* A VM with a name whose supervisor died: 1 when there was something to put right. */
static int mark_ended(const struct state_dir *dir)
{
	char verdict[] = CRASH_VERDICT, cause[] = CRASH_CAUSE;
	struct record record = { 0 };
	_cleanup_free_ char *text = NULL;
	struct timespec now;
	char *old[2];
	int r;

	(void)state_dir_reclaim_cgroups(dir->fd);
	(void)unlinkat(dir->fd, ATTACH_NAME, 0);
	r = record_read(dir->fd, &record);
	if (r < 0)
		return r == -ENOENT ? r
				    : 0; /* it died before it could say what it was; or it is damaged, and says so */
	if (record.state == RECORD_ENDED || record.remove) {
		r = record.remove ? -ENOENT : 0; /* --rm: nothing stays */
		record_free(&record);
		return r;
	}
	(void)clock_gettime(CLOCK_REALTIME, &now);
	record.state = RECORD_ENDED;
	record.ended_ns = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
	record.status = CRASH_STATUS;
	record.supervisor = record.vmm = 0;
	old[0] = record.verdict;
	old[1] = record.cause;
	record.verdict = verdict;
	record.cause = cause;
	text = record_text(&record);
	if (text)
		(void)state_dir_write(dir, RECORD_FILE, text, NULL);
	tell_crashed(dir->parent_fd, dir->id, record.name);
	record.verdict = old[0];
	record.cause = old[1];
	record_free(&record);
	return 1;
}

/* 1 when the folder was stale and is gone, or put right. */
static int reclaim_one(int parent_fd, const char *id)
{
	_cleanup_fd_ int folder_fd = openat(parent_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_fd_ int lock_fd = -1;
	char name[STATE_NAME_MAX + 1];

	if (folder_fd < 0)
		return 0;
	lock_fd = openat(folder_fd, "lock", O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	/* No lock file: its maker died before it had one; we hold the parent, so nobody is making one. */
	if (lock_fd < 0 && errno != ENOENT)
		return 0;
	if (lock_fd >= 0 && take_lock(lock_fd) < 0)
		return 0;
	state_dir_name(parent_fd, id, name);
	if (lock_fd >= 0 && *name) {
		struct state_dir dir = { .parent_fd = parent_fd, .fd = folder_fd, .lock_fd = lock_fd };
		int r;

		memcpy(dir.id, id, sizeof(dir.id));
		r = mark_ended(&dir);
		if (r >= 0)
			return r;
	}
	/* Whose cgroup cannot be removed yet is not forgotten: the next command finds it here. */
	if (!state_dir_reclaim_cgroups(folder_fd))
		return 0;
	if (faccessat(folder_fd, RECORD_FILE, F_OK, 0) == 0)
		tell_crashed(parent_fd, id, name);
	return delete_folder(parent_fd, folder_fd, id) == 0;
}

int state_dir_reclaim(const char *parent, const char *but)
{
	_cleanup_fd_ int fd = open(parent, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *stream = fd < 0 ? NULL : open_stream(fd);
	int left = STATE_ENTRIES_MAX, gone = 0;
	struct dirent *entry;
	struct stat st;

	if (!stream)
		return 0;
	if (fstat(fd, &st) == 0 && st.st_uid == geteuid() && flock(dirfd(stream), LOCK_EX | LOCK_NB) == 0)
		while (left-- && (entry = readdir(stream)))
			if (is_id(entry->d_name) && strcmp(entry->d_name, but) != 0)
				gone += reclaim_one(fd, entry->d_name);
	(void)closedir(stream); /* gives the flock up */
	if (geteuid() == 0)
		ids_reclaim(IDS_FOLDER); /* also of one that died while it was started again, whose folder stays */
	return gone;
}

/* Whether the run in the folder lives: somebody holds its lock. Ours is not even tried. */
bool state_dir_alive(int folder_fd)
{
	_cleanup_fd_ int fd = openat(folder_fd, "lock", O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static int each_of(const char *parent, uid_t owner,
		   int (*each)(void *arg, int parent_fd, int fd, const char *id, bool alive), void *arg,
		   struct mvm_error *err)
{
	_cleanup_fd_ int fd = open(parent, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int left = STATE_ENTRIES_MAX, r = 0;
	struct dirent *entry;
	struct stat st;
	DIR *stream;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, errno, "%s: cannot be read: %s", parent, strerror(errno));
	if (st.st_uid != owner) /* another's, who could answer for our VMs */
		return error_set(err, EPERM, "%s: the folder for running VMs is not yours", parent);
	stream = open_stream(fd);
	if (!stream)
		return error_set(err, errno, "%s: cannot be read: %s", parent, strerror(errno));
	while (r == 0 && left-- && (entry = readdir(stream))) {
		_cleanup_fd_ int folder = -1;

		if (is_id(entry->d_name))
			folder = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (folder >= 0)
			r = each(arg, fd, folder, entry->d_name, state_dir_alive(folder));
	}
	(void)closedir(stream);
	return r;
}

int state_dir_each(const char *parent, int (*each)(void *arg, int parent_fd, int fd, const char *id, bool alive),
		   void *arg, struct mvm_error *err)
{
	return each_of(parent, geteuid(), each, arg, err);
}

/* What is looked for, and the VMs that there are, as far as they are told: at most NAMED_MAX. */
struct search {
	const char *prefix;
	bool ended; /* those, too */
	bool exact; /* the match is the whole of an id or a name */
	unsigned n, matches;
	char names[NAMED_MAX * (STATE_NAME_MAX + 2) + 8];
	char id[MVM_ID_LEN + 1];
	int fd;
};

static int consider(void *arg, int parent_fd, int fd, const char *id, bool alive)
{
	struct search *search = arg;
	size_t len = strlen(search->names), prefix = strlen(search->prefix);
	char name[STATE_NAME_MAX + 1];
	bool exact;

	if (!alive && !search->ended)
		return 0;
	state_dir_name(parent_fd, id, name);
	if (search->n++ < NAMED_MAX)
		(void)snprintf(search->names + len, sizeof(search->names) - len, "%s%s", len ? ", " : "",
			       *name ? name : id);
	exact = !strcmp(name, search->prefix) || !strcmp(id, search->prefix);
	if (search->exact || (strncmp(id, search->prefix, prefix) != 0 && strncmp(name, search->prefix, prefix) != 0))
		return 0;
	search->matches = exact ? 1 : search->matches + 1;
	search->exact = exact;
	memcpy(search->id, id, sizeof(search->id));
	cleanup_fd(&search->fd);
	search->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return search->fd < 0 ? -errno : 0;
}

static int find(const char *parent, uid_t owner, const char *prefix, bool ended, char ret_id[MVM_ID_LEN + 1],
		int *ret_fd, struct mvm_error *err)
{
	struct search search = { .prefix = prefix, .ended = ended, .fd = -1 };
	int r = 0;

	if (!*prefix || strlen(prefix) > STATE_NAME_MAX)
		return error_set(err, EINVAL, "%.40s: no id or name of a VM", *prefix ? prefix : "''");
	r = each_of(parent, owner, consider, &search, err);
	if (r == 0 && !search.n)
		r = error_set(err, ESRCH, "%.63s: no such VM: none is %s", prefix, ended ? "there" : "running");
	else if (r == 0 && !search.matches)
		r = error_set(err, ESRCH, "%.63s: no such VM: there %s %s%s", prefix, search.n == 1 ? "is" : "are",
			      search.names, search.n > NAMED_MAX ? " and others" : "");
	else if (r == 0 && search.matches > 1)
		r = error_set(err, ENOTUNIQ, "%.63s: several VMs begin so: there are %s%s", prefix, search.names,
			      search.n > NAMED_MAX ? " and others" : "");
	if (r < 0) {
		cleanup_fd(&search.fd);
		return r;
	}
	memcpy(ret_id, search.id, sizeof(search.id));
	*ret_fd = search.fd;
	return 0;
}

int state_dir_find(const char *parent, const char *prefix, bool ended, char ret_id[MVM_ID_LEN + 1], int *ret_fd,
		   struct mvm_error *err)
{
	return find(parent, geteuid(), prefix, ended, ret_id, ret_fd, err);
}

int state_dir_find_any(const char *prefix, char ret_id[MVM_ID_LEN + 1], char ret_parent[PATH_MAX], int *ret_fd,
		       uid_t *ret_owner, struct mvm_error *err)
{
	int r = state_dir_parent(ret_parent, err);
	glob_t users = { 0 };
	struct stat st;

	if (r == 0) {
		*ret_owner = geteuid();
		r = find(ret_parent, *ret_owner, prefix, false, ret_id, ret_fd, err);
	}
	if (r != -ESRCH || geteuid() != 0)
		return r;
	if (glob("/run/user/*/mvm", 0, NULL, &users) == GLOB_NOSPACE ||
	    glob("/tmp/mvm-*", GLOB_APPEND, NULL, &users) == GLOB_NOSPACE)
		users.gl_pathc = 0;
	for (size_t i = 0; r == -ESRCH && i < users.gl_pathc; i++) {
		int n = snprintf(ret_parent, PATH_MAX, "%s", users.gl_pathv[i]);

		if (n >= PATH_MAX || lstat(ret_parent, &st) < 0 || !S_ISDIR(st.st_mode) ||
		    find(ret_parent, st.st_uid, prefix, false, ret_id, ret_fd, NULL) < 0)
			continue;
		*ret_owner = st.st_uid;
		r = 0;
	}
	globfree(&users);
	return r;
}

void state_dir_close(struct state_dir *dir)
{
	cleanup_fd(&dir->lock_fd);
	cleanup_fd(&dir->fd);
	cleanup_fd(&dir->parent_fd);
	*dir = STATE_DIR_NONE;
}

void state_dir_keep(struct state_dir *dir, const char *record, struct mvm_error *err)
{
	(void)unlinkat(dir->fd, ATTACH_NAME, 0);
	(void)state_dir_reclaim_cgroups(dir->fd);
	(void)unlinkat(dir->fd, "jail.json", 0);
	(void)state_dir_write(dir, RECORD_FILE, record, err);
	state_dir_close(dir);
}

void state_dir_remove(struct state_dir *dir)
{
	/*
	 * Our files by name first (no directory needs to be read), then whatever else is there. The
	 * lock goes last: until then the folder is ours.
	 */
	if (dir->fd >= 0) {
		bool gone = state_dir_reclaim_cgroups(dir->fd);

		(void)unlinkat(dir->fd, "state.json", 0);
		(void)unlinkat(dir->fd, "spec.json", 0);
		(void)unlinkat(dir->fd, "jail.json", 0);
		(void)unlinkat(dir->fd, "control", 0);
		(void)unlinkat(dir->fd, "name", 0);
		(void)unlinkat(dir->fd, "log", 0);
		if (gone) { /* else list and lock stay, for the next command to put right */
			(void)unlinkat(dir->fd, "lock", 0);
			if (unlinkat(dir->parent_fd, dir->id, AT_REMOVEDIR) < 0 && errno == ENOTEMPTY)
				(void)delete_folder(dir->parent_fd, dir->fd, dir->id);
		}
	} else if (dir->parent_fd >= 0 && dir->id[0]) {
		(void)unlinkat(dir->parent_fd, dir->id, AT_REMOVEDIR);
	}
	state_dir_close(dir);
}
