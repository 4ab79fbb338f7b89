#include "lib/receipt.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/inspect.h"
#include "lib/text.h"
#include "mvm/cleanup.h"
#include "mvm/version.h"

static const char *const stage_names[STAGES] = {
	[STAGE_COMMAND] = "command",         [STAGE_SUPERVISOR_ASKED] = "supervisor_asked",
	[STAGE_SUPERVISOR] = "supervisor",   [STAGE_OPENED] = "opened",
	[STAGE_JAIL_MADE] = "jail_made",     [STAGE_VMM_SPAWNED] = "vmm_spawned",
	[STAGE_VMM_RUNNING] = "vmm_running", [STAGE_AGENT] = "agent",
	[STAGE_STARTED] = "started",         [STAGE_EXITED] = "exited",
	[STAGE_STOPPED] = "stopped",         [STAGE_ENDED] = "ended",
};

static void add(json_object *o, const char *name, json_object *value)
{
	(void)json_object_object_add(o, name, value); /* out of memory shows as a missing text at the end */
}

static void add_string(json_object *o, const char *name, const char *value)
{
	add(o, name, value ? json_object_new_string(value) : NULL);
}

/* A digest is null where it would describe nothing: a disk that was written to, or an unreadable file. */
static json_object *file_object(const char *path, uint64_t size, const struct digest *digest)
{
	json_object *o = json_object_new_object();

	add_string(o, "path", path);
	add(o, "bytes", json_object_new_uint64(size));
	add_string(o, "sha256", digest && digest->done && !digest->error && digest->fd >= 0 ? digest->hex : NULL);
	return o;
}

static json_object *stages_object(const struct receipt *receipt)
{
	json_object *o = json_object_new_object();

	for (unsigned i = 0; i < STAGES; i++)
		if (receipt->stages[i] >= receipt->stages[STAGE_COMMAND] && receipt->stages[i])
			add(o, stage_names[i],
			    json_object_new_uint64(receipt->stages[i] - receipt->stages[STAGE_COMMAND]));
	return o;
}

static json_object *guest_object(const struct receipt *receipt)
{
	static const char *const kinds[] = { NULL, "status", "signal", "oom" };
	json_object *o = json_object_new_object();

	add_string(o, "agent", receipt->agent_version);
	if (receipt->started) {
		add(o, "boot_ns", json_object_new_uint64(le64_get(receipt->started->boot_ns)));
		add(o, "started_ns", json_object_new_uint64(le64_get(receipt->started->started_ns)));
	}
	if (receipt->exited) {
		uint32_t kind = le32_get(receipt->exited->kind);

		add_string(o, "exit_kind", kind < sizeof(kinds) / sizeof(kinds[0]) ? kinds[kind] : NULL);
		add(o, "exit_value", json_object_new_uint64(le32_get(receipt->exited->value)));
		add(o, "user_us", json_object_new_uint64(le64_get(receipt->exited->user_us)));
		add(o, "sys_us", json_object_new_uint64(le64_get(receipt->exited->sys_us)));
		add(o, "peak_bytes", json_object_new_uint64(le64_get(receipt->exited->peak_bytes)));
	}
	return o;
}

/* What the guest was allowed to dial, and what it tried. */
static json_object *channels_object(const struct broker *broker, const struct mvm_spec *spec)
{
	json_object *o = json_object_new_object(), *allowed = json_object_new_array();

	for (unsigned i = 0; broker && i < broker->nchannels; i++) {
		const struct broker_channel *channel = &broker->channels[i];
		json_object *entry = json_object_new_object();

		add(entry, "port", json_object_new_uint64(channel->port));
		add_string(entry, "target", channel->target);
		if (spec && i < spec->nports && spec->ports[i].port == channel->port && spec->ports[i].addresses)
			add_string(entry, "addresses", spec->ports[i].addresses);
		add(entry, "opened", json_object_new_uint64(channel->opened));
		add(entry, "failed", json_object_new_uint64(channel->failed));
		(void)json_object_array_add(allowed, entry);
	}
	add(o, "allowed", allowed);
	add(o, "refused", json_object_new_uint64(broker ? broker->refused : 0));
	return o;
}

char *receipt_text(const struct receipt *receipt)
{
	const struct verdict *verdict = receipt->verdict;
	json_object *root = json_object_new_object(), *image;
	const char *text;
	char *copy = NULL;

	if (!root)
		return NULL;
	add_string(root, "mvm", MVM_VERSION);
	add_string(root, "id", receipt->id && *receipt->id ? receipt->id : NULL);
	add_string(root, "verdict", verdict_name(verdict->kind));
	add(root, "value", json_object_new_int(verdict->value));
	add(root, "status", json_object_new_int(verdict->status));
	add_string(root, "cause", verdict->cause);
	add_string(root, "word_of", verdict_source_name(verdict->source));
	image = file_object(receipt->spec ? receipt->spec->rootfs : NULL, receipt->rootfs_size, receipt->rootfs_digest);
	add_string(image, "type", receipt->fs_type);
	add(image, "written", json_object_new_boolean(receipt->spec && receipt->spec->rw));
	add(root, "image", image);
	add(root, "kernel", file_object(receipt->kernel, receipt->kernel_size, receipt->kernel_digest));
	if (receipt->spec) {
		add(root, "memory", json_object_new_uint64(receipt->spec->memory));
		add(root, "vcpus", json_object_new_uint64(receipt->spec->vcpus));
	}
	add(root, "isolation", receipt->jail ? inspect_isolation(receipt->jail) : NULL);
	add(root, "channels", channels_object(receipt->broker, receipt->spec));
	add(root, "times_ns", stages_object(receipt));
	add(root, "guest", guest_object(receipt));
	text = json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
	if (text && asprintf(&copy, "%s\n", text) < 0)
		copy = NULL;
	(void)json_object_put(root);
	return copy;
}

static int open_descriptor(const char *target, int fd, struct receipt_place *ret_place, struct mvm_error *err)
{
	int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);

	if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY) {
		cleanup_fd(&fd);
		return error_set(err, EBADF, "--receipt: %s: not open for writing: open it, as in: 3>receipt.json",
				 target);
	}
	ret_place->fd = fd;
	return 0;
}

static int open_folder(const char *target, struct receipt_place *place, struct mvm_error *err)
{
	const char *slash = strrchr(target, '/');
	char folder[PATH_MAX] = ".";
	struct stat st;

	if (slash && (size_t)(slash - target) >= sizeof(folder) - 1)
		return error_set(err, ENAMETOOLONG, "--receipt: %.80s…: too long: choose a shorter name", target);
	if (slash)
		(void)snprintf(folder, sizeof(folder), "%.*s", (int)(slash - target) + 1, target);
	place->name = strdup(slash ? slash + 1 : target);
	if (!place->name)
		return error_set(err, ENOMEM, "--receipt: out of memory");
	if (!*place->name)
		return error_set(err, EISDIR, "--receipt: %s: a directory: add a file's name", target);
	place->folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (place->folder_fd < 0)
		return error_set(err, errno, "--receipt: %s: %s: make the folder first", target, strerror(errno));
	if (fstatat(place->folder_fd, place->name, &st, 0) == 0) {
		if (S_ISDIR(st.st_mode))
			return error_set(err, EISDIR, "--receipt: %s: a directory: add a file's name", target);
		if (!S_ISREG(st.st_mode)) { /* a terminal, a FIFO, /dev/null: written to, never replaced */
			place->fd = openat(place->folder_fd, place->name, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
			if (place->fd < 0)
				return error_set(err, errno, "--receipt: %s: %s: give a file", target, strerror(errno));
		}
	}
	if (place->fd < 0 && faccessat(place->folder_fd, ".", W_OK, AT_EACCESS) < 0)
		return error_set(err, errno, "--receipt: %s: its folder cannot be written to: %s: choose another",
				 target, strerror(errno));
	return 0;
}

int receipt_open(const char *target, int fd, struct receipt_place *ret_place, struct mvm_error *err)
{
	struct receipt_place place = RECEIPT_NOWHERE;
	int r;

	place.path = target;
	if (!strncmp(target, SPEC_RECEIPT_FD, strlen(SPEC_RECEIPT_FD)))
		r = open_descriptor(target, fd, &place, err);
	else
		r = open_folder(target, &place, err);
	if (r < 0)
		receipt_close(&place);
	else
		*ret_place = place;
	return r;
}

static int write_all(int fd, const char *text)
{
	size_t len = strlen(text);

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

/* A regular file: written beside its place under a name of this run's, then renamed over it. */
static int write_file(const struct receipt_place *place, const char *id, const char *text)
{
	char temporary[64];
	int fd, r;

	(void)snprintf(temporary, sizeof(temporary), ".mvm-receipt-%s", id);
	fd = openat(place->folder_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
	if (fd < 0)
		return -errno;
	r = write_all(fd, text);
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && renameat(place->folder_fd, temporary, place->folder_fd, place->name) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(place->folder_fd, temporary, 0);
	return r;
}

int receipt_write(struct receipt_place *place, const char *id, const char *text, struct mvm_error *err)
{
	int r = place->fd >= 0 ? write_all(place->fd, text) : write_file(place, id, text);

	if (r < 0)
		return error_set(err, -r, "--receipt: %s: cannot be written: %s", place->path, strerror(-r));
	return 0;
}

void receipt_close(struct receipt_place *place)
{
	cleanup_fd(&place->fd);
	cleanup_fd(&place->folder_fd);
	free(place->name);
	*place = RECEIPT_NOWHERE;
}
