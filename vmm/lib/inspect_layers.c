/* The table of layers, and those of what a process sees: namespaces, files, ids. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/inspect.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

/* R65: what is partitioned, and apart from what. R66: how the parts of the partition are hardened. */
#define PARTED   "R65"
#define HARDENED "R66"

static const struct {
	const char *name;
	bool required; /* missing means refused, at the start */
	unsigned may_lack; /* enum jail_layer: required unless it was named there */
	const char *measure;
	void (*run)(struct inspect *in, struct inspect_row *row);
} layers[] = {
	{ "process", true, 0, PARTED, inspect_process },
	{ "user-namespace", true, 0, PARTED, inspect_namespace },
	{ "mnt-namespace", true, 0, PARTED, inspect_namespace },
	{ "pid-namespace", true, 0, PARTED, inspect_namespace },
	{ "net-namespace", true, 0, PARTED, inspect_namespace },
	{ "ipc-namespace", true, 0, PARTED, inspect_namespace },
	{ "uts-namespace", true, 0, PARTED, inspect_namespace },
	{ "cgroup-namespace", true, 0, PARTED, inspect_namespace },
	{ "identity", true, 0, PARTED, inspect_identity },
	{ "root-folder", true, 0, PARTED, inspect_root_folder },
	{ "mounts", true, 0, PARTED, inspect_mounts },
	{ "descriptors", true, 0, PARTED, inspect_descriptors },
	{ "capabilities", true, 0, HARDENED, inspect_capabilities },
	{ "no-new-privs", true, 0, HARDENED, inspect_no_new_privs },
	{ "seccomp", true, 0, HARDENED, inspect_seccomp },
	{ "seccomp-filters", true, 0, HARDENED, inspect_filters },
	{ "landlock", true, JAIL_LAYER_LANDLOCK, HARDENED, inspect_landlock },
	{ "landlock-net", true, JAIL_LAYER_LANDLOCK_NET, HARDENED, inspect_landlock },
	{ "limits", true, 0, HARDENED, inspect_limits },
	{ "cgroup", true, JAIL_LAYER_CGROUP, PARTED, inspect_cgroup },
	{ "lsm", true, JAIL_LAYER_LSM, HARDENED, inspect_lsm },
	{ "undumpable", true, 0, HARDENED, inspect_undumpable },
	{ "oom-score", false, 0, HARDENED, inspect_oom_score },
	{ "core-scheduling", false, 0, PARTED, inspect_core_scheduling },
};

#define LAYERS (sizeof(layers) / sizeof(layers[0]))

size_t inspect_layers(void)
{
	return LAYERS;
}

int inspect_run(struct inspect *in, struct inspect_row *rows)
{
	in->read = json_object_new_object();
	if (!in->read)
		return -ENOMEM;
	for (size_t i = 0; i < LAYERS; i++) {
		rows[i].layer = (struct mvm_layer){ .name = layers[i].name,
						    .state = MVM_LAYER_UNREADABLE,
						    .required = layers[i].required,
						    .allowed = (layers[i].may_lack & in->recorded.missing) != 0,
						    .measure = layers[i].measure,
						    .found = rows[i].found };
		layers[i].run(in, &rows[i]);
		if (rows[i].layer.state == MVM_LAYER_MISSING && rows[i].layer.allowed)
			inspect_found(&rows[i], MVM_LAYER_MISSING,
				      "missing, as --allow-missing, mvm.conf or the default allowed");
	}
	return 0;
}

void inspect_found(struct inspect_row *row, enum mvm_layer_state state, const char *fmt, ...)
{
	va_list ap;

	row->layer.state = state;
	va_start(ap, fmt);
	(void)vsnprintf(row->found, sizeof(row->found), fmt, ap); /* cut when too long: still one line */
	va_end(ap);
	text_harmless(row->found);
}

void inspect_failed(struct inspect_row *row, int error)
{
	if (error == -EACCES || error == -EPERM)
		inspect_found(row, MVM_LAYER_UNREADABLE, INSPECT_UNREADABLE);
	else
		inspect_found(row, MVM_LAYER_UNREADABLE, "not readable: %s", strerror(-error));
}

static int path_of(const struct inspect *in, char ret_path[PATH_MAX], const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));

static int path_of(const struct inspect *in, char ret_path[PATH_MAX], const char *fmt, va_list ap)
{
	int n = snprintf(ret_path, PATH_MAX, "%s", in->root), more;

	if (n >= PATH_MAX)
		return -ENAMETOOLONG;
	more = vsnprintf(ret_path + n, (size_t)(PATH_MAX - n), fmt, ap);
	return more >= PATH_MAX - n ? -ENAMETOOLONG : 0;
}

int inspect_path(const struct inspect *in, char ret_path[PATH_MAX], const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = path_of(in, ret_path, fmt, ap);
	va_end(ap);
	return r;
}

ssize_t inspect_read(const struct inspect *in, char *text, size_t size, const char *fmt, ...)
{
	_cleanup_fd_ int fd = -1;
	char path[PATH_MAX];
	size_t have = 0;
	ssize_t n = 1;
	va_list ap;
	int r;

	text[0] = '\0';
	va_start(ap, fmt);
	r = path_of(in, path, fmt, ap);
	va_end(ap);
	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (n > 0 && have < size - 1) {
		n = read(fd, text + have, size - 1 - have);
		if (n < 0 && errno == EINTR)
			n = 1;
		else if (n < 0)
			return -errno;
		else
			have += (size_t)n;
	}
	text[have] = '\0';
	return (ssize_t)have;
}

ssize_t inspect_link(const struct inspect *in, char *text, size_t size, const char *fmt, ...)
{
	char path[PATH_MAX];
	va_list ap;
	ssize_t n;
	int r;

	text[0] = '\0';
	va_start(ap, fmt);
	r = path_of(in, path, fmt, ap);
	va_end(ap);
	if (r < 0)
		return r;
	n = readlink(path, text, size - 1);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	return n;
}

bool inspect_field(const char *status, const char *name, char *value, size_t size)
{
	size_t len = strlen(name);

	for (const char *line = status; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
		if (!strncmp(line, name, len) && line[len] == ':') {
			line += len + 1;
			line += strspn(line, " \t");
			(void)snprintf(value, size, "%.*s", (int)strcspn(line, "\n"), line);
			return true;
		}
	return false;
}

int inspect_start_time(const char *root, pid_t pid, uint64_t *ret_ticks)
{
	const struct inspect in = { .root = root };
	char text[1024], *at;
	ssize_t n = inspect_read(&in, text, sizeof(text), "/proc/%d/stat", pid);

	if (n < 0)
		return (int)n;
	at = strrchr(text, ')'); /* the name before it may hold anything */
	for (unsigned field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (!at)
		return -EINVAL;
	at++;
	at[strcspn(at, " \n")] = '\0';
	return text_parse_uint(at, UINT64_MAX, ret_ticks);
}

/* ---- layers ---- */

void inspect_process(struct inspect *in, struct inspect_row *row)
{
	char status[8192], parent[32];
	uint64_t start = 0;
	ssize_t n = inspect_read(in, status, sizeof(status), "/proc/%d/status", in->vmm);
	int r = inspect_start_time(in->root, in->vmm, &start);

	if (n < 0 || r < 0) {
		inspect_failed(row, n < 0 ? (int)n : r);
		return;
	}
	inspect_add(in->read, "start_ticks", json_object_new_uint64(start));
	if (start != in->vmm_start || !inspect_field(status, "PPid", parent, sizeof(parent)) ||
	    strtol(parent, NULL, 10) != in->supervisor) {
		inspect_found(row, MVM_LAYER_MISSING, "process %d is not the one that supervisor %d started", in->vmm,
			      in->supervisor);
		return;
	}
	inspect_found(row, MVM_LAYER_OK, "%d, child of supervisor %d, started %llu ticks after the host", in->vmm,
		      in->supervisor, (unsigned long long)start);
}

void inspect_namespace(struct inspect *in, struct inspect_row *row)
{
	char kind[16], own[64], caller[64], supervisor[64];
	json_object *all, *one;
	ssize_t n;

	(void)snprintf(kind, sizeof(kind), "%.*s", (int)strcspn(row->layer.name, "-"), row->layer.name);
	if (!json_object_object_get_ex(in->read, "namespaces", &all)) {
		all = json_object_new_object();
		inspect_add(in->read, "namespaces", all);
	}
	n = inspect_link(in, own, sizeof(own), "/proc/%d/ns/%s", in->vmm, kind);
	if (n < 0) {
		inspect_add(all, kind, NULL);
		inspect_failed(row, (int)n);
		return;
	}
	one = json_object_new_object();
	inspect_add(one, "is", json_object_new_string(own));
	inspect_add(all, kind, one);
	n = inspect_link(in, caller, sizeof(caller), "/proc/self/ns/%s", kind);
	if (n < 0) {
		inspect_failed(row, (int)n);
		return;
	}
	inspect_add(one, "callers", json_object_new_string(caller));
	if (inspect_link(in, supervisor, sizeof(supervisor), "/proc/%d/ns/%s", in->supervisor, kind) < 0)
		supervisor[0] = '\0';
	inspect_add(one, "supervisors", supervisor[0] ? json_object_new_string(supervisor) : NULL);
	if (!strcmp(own, caller) || !strcmp(own, supervisor))
		inspect_found(row, MVM_LAYER_MISSING, "%s: the %s own", own,
			      strcmp(own, caller) ? "supervisor's" : "caller's");
	else
		inspect_found(row, MVM_LAYER_OK, "%s; the caller's is %s%s", own, caller,
			      supervisor[0] ? ", the supervisor's is another, too" : "");
}

/* "a b c d" of which all are the same number. */
static bool all_same(const char *text, uint64_t *ret_value)
{
	char *end;
	uint64_t first = strtoull(text, &end, 10);

	for (unsigned i = 0; i < 3; i++)
		if (strtoull(end, &end, 10) != first)
			return false;
	*ret_value = first;
	return true;
}

static json_object *string_or_null(const char *text)
{
	return *text ? json_object_new_string(text) : NULL;
}

/* "inside outside count" with blanks of any number; true when exactly one id is mapped, 0 to `id`. */
static bool maps_alone(const char *text, uint64_t id)
{
	unsigned long long numbers[3];
	char *end;

	for (size_t i = 0; i < 3; i++, text = end) {
		numbers[i] = strtoull(text, &end, 10);
		if (end == text)
			return false;
	}
	return !*text && numbers[0] == 0 && numbers[1] == id && numbers[2] == 1;
}

static void trim_end(char *text)
{
	for (size_t len = strlen(text); len && strchr(" \n", text[len - 1]); len--)
		text[len - 1] = '\0';
}

void inspect_identity(struct inspect *in, struct inspect_row *row)
{
	char status[8192], uids[64] = "", gids[64] = "", groups[1024] = "", uid_map[256], gid_map[256];
	uint64_t uid, gid;
	ssize_t n = inspect_read(in, status, sizeof(status), "/proc/%d/status", in->vmm);

	if (n >= 0)
		n = inspect_read(in, uid_map, sizeof(uid_map), "/proc/%d/uid_map", in->vmm);
	if (n >= 0)
		n = inspect_read(in, gid_map, sizeof(gid_map), "/proc/%d/gid_map", in->vmm);
	if (n < 0) {
		inspect_failed(row, (int)n);
		return;
	}
	(void)inspect_field(status, "Uid", uids, sizeof(uids));
	(void)inspect_field(status, "Gid", gids, sizeof(gids));
	(void)inspect_field(status, "Groups", groups, sizeof(groups));
	trim_end(groups);
	trim_end(uid_map);
	trim_end(gid_map);
	inspect_add(in->read, "uid", string_or_null(uids));
	inspect_add(in->read, "gid", string_or_null(gids));
	inspect_add(in->read, "groups", string_or_null(groups));
	inspect_add(in->read, "uid_map", string_or_null(uid_map));
	inspect_add(in->read, "gid_map", string_or_null(gid_map));
	if (!all_same(uids, &uid) || !all_same(gids, &gid))
		inspect_found(row, MVM_LAYER_MISSING, "several ids at once: uid %s, gid %s", uids, gids);
	else if (uid != in->recorded.uid || gid != in->recorded.gid || uid == 0 || !maps_alone(uid_map, uid) ||
		 !maps_alone(gid_map, gid))
		inspect_found(row, MVM_LAYER_MISSING, "uid %llu, gid %llu, map '%s': not uid %u alone",
			      (unsigned long long)uid, (unsigned long long)gid, uid_map, in->recorded.uid);
	else if (in->recorded.by_root)
		inspect_found(row, *groups ? MVM_LAYER_MISSING : MVM_LAYER_OK,
			      "uid and gid %llu, this VM's alone, mapped alone; %s%s", (unsigned long long)uid,
			      *groups ? "groups " : "no groups", groups);
	else
		inspect_found(row, MVM_LAYER_WEAK,
			      "uid %llu, the caller's, mapped alone; its groups stay (%s): as root each VM has a uid "
			      "of its own",
			      (unsigned long long)uid, groups);
}

void inspect_root_folder(struct inspect *in, struct inspect_row *row)
{
	char path[PATH_MAX];
	int r = inspect_path(in, path, "/proc/%d/root/", in->vmm); /* the slash: into what the link leads to */
	DIR *folder = r < 0 ? NULL : opendir(path);
	struct dirent *entry;
	unsigned entries = 0;

	if (!folder) {
		inspect_add(in->read, "root_entries", NULL);
		inspect_failed(row, r < 0 ? r : -errno);
		return;
	}
	while ((entry = readdir(folder)) && entries < 1000)
		entries += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
	(void)closedir(folder);
	inspect_add(in->read, "root_entries", json_object_new_int((int)entries));
	inspect_found(row, entries ? MVM_LAYER_MISSING : MVM_LAYER_OK, entries ? "%u entries in it" : "empty", entries);
}

static bool has_option(const char *options, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = options; (at = strstr(at, word)); at += len)
		if ((at == options || at[-1] == ',') && (!at[len] || at[len] == ','))
			return true;
	return false;
}

/* proc_pid_mountinfo(5): id parent major:minor root mountpoint options [tags] - type source super-options. */
void inspect_mounts(struct inspect *in, struct inspect_row *row)
{
	static const char *const wanted[] = { "ro", "nosuid", "nodev", "noexec" };
	_cleanup_free_ char *text = malloc(INSPECT_FILE_MAX);
	char where[PATH_MAX] = "", options[256] = "", type[32] = "";
	json_object *list = json_object_new_array();
	unsigned count = 0;
	const char *dash;
	ssize_t n = text ? inspect_read(in, text, INSPECT_FILE_MAX, "/proc/%d/mountinfo", in->vmm) : -ENOMEM;

	if (n < 0) {
		(void)json_object_put(list);
		inspect_add(in->read, "mounts", NULL);
		inspect_failed(row, (int)n);
		return;
	}
	for (const char *line = text; *line;) {
		size_t len = strcspn(line, "\n");

		(void)json_object_array_add(list, json_object_new_string_len(line, (int)len));
		count++;
		line += len + (line[len] == '\n');
	}
	inspect_add(in->read, "mounts", list);
	if (count != 1) {
		inspect_found(row, MVM_LAYER_MISSING, "%u mounts", count);
		return;
	}
	dash = strstr(text, " - ");
	if (sscanf(text, "%*s %*s %*s %*s %4095s %255s", where, options) != 2 || !dash ||
	    sscanf(dash, " - %31s", type) != 1) {
		inspect_found(row, MVM_LAYER_MISSING, "not understood: %.200s", text);
		return;
	}
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		if (!has_option(options, wanted[i])) {
			inspect_found(row, MVM_LAYER_MISSING, "a %s that is not %s: %s", type, wanted[i], options);
			return;
		}
	inspect_found(row, strcmp(type, "tmpfs") != 0 || strcmp(where, "/") != 0 ? MVM_LAYER_MISSING : MVM_LAYER_OK,
		      "one, a %s at %.100s: %s", type, where, options);
}

static int by_number(const void *a, const void *b)
{
	return *(const int *)a < *(const int *)b ? -1 : *(const int *)a > *(const int *)b;
}

/* What lies open must be no way to a name: no folder. */
void inspect_descriptors(struct inspect *in, struct inspect_row *row)
{
	json_object *all = json_object_new_object();
	char path[PATH_MAX], target[PATH_MAX], folder_found[128] = "";
	unsigned n = 0, sockets = 0, files = 0;
	struct dirent *entry;
	int numbers[INSPECT_FDS_MAX];
	DIR *folder = NULL;

	errno = ENAMETOOLONG;
	if (inspect_path(in, path, "/proc/%d/fd", in->vmm) == 0)
		folder = opendir(path);
	if (!folder) {
		int error = -errno;

		(void)json_object_put(all);
		inspect_add(in->read, "descriptors", NULL);
		inspect_failed(row, error);
		return;
	}
	while (n < INSPECT_FDS_MAX && (entry = readdir(folder)))
		if (*entry->d_name >= '0' && *entry->d_name <= '9')
			numbers[n++] = (int)strtol(entry->d_name, NULL, 10);
	(void)closedir(folder);
	qsort(numbers, n, sizeof(*numbers), by_number);
	for (unsigned i = 0; i < n; i++) {
		char name[16];
		struct stat st;

		(void)snprintf(name, sizeof(name), "%d", numbers[i]);
		if (inspect_link(in, target, sizeof(target), "/proc/%d/fd/%s", in->vmm, name) < 0)
			continue; /* closed meanwhile */
		text_harmless(target);
		inspect_add(all, name, json_object_new_string(target));
		sockets += !strncmp(target, "socket:", 7);
		files += *target == '/';
		if (inspect_path(in, path, "/proc/%d/fd/%s", in->vmm, name) == 0 && stat(path, &st) == 0 &&
		    S_ISDIR(st.st_mode))
			(void)snprintf(folder_found, sizeof(folder_found), "%s is a folder: %.80s", name, target);
	}
	inspect_add(in->read, "descriptors", all);
	if (folder_found[0])
		inspect_found(row, MVM_LAYER_MISSING, "%s", folder_found);
	else
		inspect_found(row, MVM_LAYER_OK, "%u: %u files and devices, %u sockets, %u of the kernel's own", n,
			      files, sockets, n - files - sockets);
}
