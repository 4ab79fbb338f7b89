#include "lib/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "lib/spec_net.h"
#include "lib/state_dir.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define FOLDER       "networks"
#define FILE_MAX     4096U
#define BACKLOG      64
#define LOCK_WAIT_MS 90000 /* longer than a network takes to be made */
#define LOCK_STEP_NS 10000000L
#define LIST_WAIT_MS 5000

/* ---- files ---- */

int network_folder(bool make, int *ret_fd, struct mvm_error *err)
{
	char parent[PATH_MAX], path[PATH_MAX + sizeof("/" FOLDER)];
	_cleanup_fd_ int parent_fd = -1;
	int r = state_dir_parent(parent, err);

	if (r == 0 && !make && access(parent, F_OK) < 0)
		return -ENOENT;
	if (r == 0)
		r = state_dir_open_parent(parent, &parent_fd, err);
	if (r < 0)
		return r;
	(void)snprintf(path, sizeof(path), "%s/" FOLDER, parent);
	if (!make && faccessat(parent_fd, FOLDER, F_OK, 0) < 0)
		return -ENOENT;
	return state_dir_open_parent(path, ret_fd, err);
}

static bool read_subnet(json_object *object, const char *key, unsigned family, struct uplink_subnet *subnet)
{
	json_object *value = NULL;

	if (!json_object_object_get_ex(object, key, &value) || json_object_is_type(value, json_type_null))
		return family == 6;
	return network_parse_subnet("", json_object_get_string(value), family, subnet, NULL) == 0;
}

static bool read_flag(json_object *object, const char *key)
{
	json_object *value = NULL;

	return json_object_object_get_ex(object, key, &value) && json_object_get_boolean(value);
}

int network_read(int folder, const char *name, struct network *ret, struct mvm_error *err)
{
	struct network network = { .internal = false };
	_cleanup_free_ char *text = NULL;
	char file[UPLINK_ID + 8];
	json_object *object;
	bool ok;
	int r;

	(void)snprintf(file, sizeof(file), "%s.json", name);
	r = state_dir_read(folder, file, FILE_MAX, &text);
	if (r < 0)
		return r;
	(void)snprintf(network.name, sizeof(network.name), "%s", name);
	object = json_tokener_parse(text);
	ok = json_object_is_type(object, json_type_object) && read_subnet(object, "subnet", 4, &network.subnet) &&
	     read_subnet(object, "subnet6", 6, &network.subnet);
	if (ok) {
		network.internal = read_flag(object, "internal");
		network.isolated = read_flag(object, "isolated");
		*ret = network;
	}
	json_object_put(object);
	return ok ? 0 : error_set(err, EINVAL, "%s: its file cannot be read: mvm network rm %s", name, name);
}

/* The lock is on the file itself: whoever waited for one that was removed meanwhile looks again. */
static int lock_file(int folder, const char *name, int *ret_lock)
{
	const struct timespec pause = { .tv_nsec = LOCK_STEP_NS };
	uint64_t end = text_now_ns() + LOCK_WAIT_MS * 1000000ULL;
	char file[UPLINK_ID + 8];
	struct stat ours, named;

	(void)snprintf(file, sizeof(file), "%s.json", name);
	while (text_now_ns() < end) {
		_cleanup_fd_ int fd = openat(folder, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

		if (fd < 0)
			return -errno;
		while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
			if ((errno != EWOULDBLOCK && errno != EINTR) || text_now_ns() > end)
				return errno == EWOULDBLOCK ? -ETIMEDOUT : -errno;
			(void)nanosleep(&pause, NULL);
		}
		if (fstat(fd, &ours) == 0 && fstatat(folder, file, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
		    named.st_ino == ours.st_ino) {
			*ret_lock = take_fd(&fd);
			return 0;
		}
	}
	return -ETIMEDOUT;
}

int network_lock(const char *label, const char *name, int *ret_folder, int *ret_lock, struct mvm_error *err)
{
	_cleanup_fd_ int folder = -1, lock = -1;
	int r = network_folder(false, &folder, err);

	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0)
		r = lock_file(folder, name, &lock);
	if (r == -ENOENT)
		return error_set(err, ENOENT,
				 "%s%.63s: there is no such network: mvm network ls lists them, mvm network "
				 "create %.63s makes it",
				 label, name, name);
	if (r < 0)
		return error_set(err, -r, "%s%s: it cannot be locked: %s", label, name, strerror(-r));
	*ret_folder = take_fd(&folder);
	*ret_lock = take_fd(&lock);
	return 0;
}

int network_open(const char *label, const char *name, int *ret_folder, int *ret_lock, struct network *ret,
		 struct mvm_error *err)
{
	_cleanup_fd_ int folder = -1, lock = -1;
	int r = network_lock(label, name, &folder, &lock, err);

	if (r == 0)
		r = network_read(folder, name, ret, err);
	if (r < 0)
		return r;
	*ret_folder = take_fd(&folder);
	*ret_lock = take_fd(&lock);
	return 0;
}

/* ---- who holds it ---- */

/* By way of the folder's descriptor: sun_path has 108 bytes, and a folder's path may have 4096. */
static struct sockaddr_un address(int folder, const char *name)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/%.63s.sock", folder, name);
	return addr;
}

int network_connect(int folder, const char *name, int *ret_fd)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr = address(folder, name);

	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	*ret_fd = take_fd(&fd);
	return 0;
}

int network_listen(int folder, const char *name, int *ret_fd)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr = address(folder, name);
	char file[UPLINK_ID + 8];

	(void)snprintf(file, sizeof(file), "%s.sock", name);
	if (unlinkat(folder, file, 0) < 0 && errno != ENOENT)
		return -errno;
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	*ret_fd = take_fd(&fd);
	return 0;
}

int network_members(int folder, const char *name, void (*each)(void *arg, const struct uplink_member *member),
		    void *arg)
{
	struct uplink_join ask = { .version = UPLINK_VERSION, .kind = UPLINK_WHO };
	uint64_t end = text_now_ns() + LIST_WAIT_MS * 1000000ULL;
	struct uplink_message message;
	_cleanup_fd_ int fd = -1;
	int r = network_connect(folder, name, &fd);

	if (r == 0 && send(fd, &ask, sizeof(ask), MSG_NOSIGNAL) < 0)
		r = errno == EPIPE ? -ECONNRESET : -errno;
	while (r == 0) {
		struct pollfd news = { .fd = fd, .events = POLLIN };
		uint64_t now = text_now_ns();
		ssize_t n;

		if (now >= end)
			return -ETIMEDOUT;
		if (poll(&news, 1, (int)((end - now) / 1000000) + 1) <= 0)
			continue;
		n = recv(fd, &message, sizeof(message), MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n != (ssize_t)sizeof(message))
			return n <= 0 ? -ECONNRESET : -EPROTO;
		if (message.type == UPLINK_MEMBER_LAST)
			return 0;
		if (message.type != UPLINK_MEMBER)
			return -EPROTO;
		message.member.name[UPLINK_ID - 1] = message.member.id[UPLINK_ID - 1] = '\0';
		each(arg, &message.member);
	}
	return r;
}
