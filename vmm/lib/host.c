#include "lib/host.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "host_arch.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

void host_kvm_missing(bool can_virtualize, bool is_virtual, struct host_advice *ret_advice)
{
	if (can_virtualize)
		*ret_advice = (struct host_advice){
			"missing, though the CPU can virtualize",
			"load the driver: sudo modprobe kvm && sudo modprobe " HOST_ARCH_KVM_MODULES,
		};
	else if (is_virtual)
		*ret_advice = (struct host_advice){
			"missing: this machine is virtual itself and its host keeps hardware virtualization from it",
			"turn nested virtualization on there",
		};
	else
		*ret_advice = (struct host_advice){
			"missing: the CPU shows no virtualization",
			"turn it on in the firmware's settings (VT-x, AMD-V)",
		};
}

bool host_kvm_group_may(const struct stat *st)
{
	return (st->st_mode & (S_IRGRP | S_IWGRP)) == (S_IRGRP | S_IWGRP) && st->st_gid != 0;
}

static int kvm_missing(const char *path, int code, struct mvm_error *err)
{
	struct host_advice advice;

	host_kvm_missing(host_arch_has_virtualization(), host_arch_is_virtual(), &advice);
	return error_set(err, code, "%s: %s: %s", path, advice.found, advice.remedy);
}

static int kvm_denied(const char *path, int code, struct mvm_error *err)
{
	struct stat st;

	if (stat(path, &st) == 0 && host_kvm_group_may(&st))
		return error_set(err, code, "%s: no permission: it belongs to group %u (kvm): " HOST_KVM_JOIN, path,
				 st.st_gid);
	return error_set(err, code, "%s: no permission: its mode lets no group in: " HOST_KVM_OPEN, path);
}

int host_open_kvm(const char *path, int *ret_fd, struct mvm_error *err)
{
	_cleanup_fd_ int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int version;

	if (fd < 0) {
		if (errno == ENOENT || errno == ENOTDIR || errno == ENODEV || errno == ENXIO)
			return kvm_missing(path, errno, err);
		if (errno == EACCES || errno == EPERM)
			return kvm_denied(path, errno, err);
		return error_set(err, errno, "%s: cannot be opened: %s", path, strerror(errno));
	}
	version = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (version < 0)
		return error_set(err, ENODEV,
				 "%s: not KVM: it does not answer KVM_GET_API_VERSION: remove it and load the driver: "
				 "sudo modprobe " HOST_ARCH_KVM_MODULES,
				 path);
	if (version != HOST_KVM_API)
		return error_set(err, ENODEV, "%s: KVM of API version %d, and %d is needed: use a current kernel", path,
				 version, HOST_KVM_API);
	*ret_fd = take_fd(&fd);
	return 0;
}

int host_check_memory(uint64_t bytes, struct mvm_error *err)
{
	struct sysinfo info;
	uint64_t total;
	char asked[32];

	if (sysinfo(&info) < 0)
		return error_set(err, errno, "memory: the host's cannot be told: %s", strerror(errno));
	total = (uint64_t)info.totalram * info.mem_unit;
	if (bytes > total)
		return error_set(err, ENOMEM, "--memory: %s asked, and the host has %llum: ask for less",
				 text_size(bytes, asked), (unsigned long long)(total >> 20));
	return 0;
}

/* The number in a memory.max file; UINT64_MAX for "max" and where there is none. */
static uint64_t read_limit(const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[32];
	uint64_t v = UINT64_MAX;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n <= 0)
		return UINT64_MAX;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return text_parse_uint(text, UINT64_MAX - 1, &v) < 0 ? UINT64_MAX : v;
}

int host_check_cgroup_memory(const char *cgroup_root, const char *proc_cgroup, uint64_t bytes, struct mvm_error *err)
{
	_cleanup_fd_ int fd = open(proc_cgroup, O_RDONLY | O_CLOEXEC);
	char text[PATH_MAX], path[2 * PATH_MAX];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	uint64_t limit;
	char *group, asked[32];

	if (n <= 0)
		return 0; /* no cgroups, no limit */
	text[n] = '\0';
	group = strstr(text, "0::/"); /* cgroups(7): the v2 line */
	if (!group || (group != text && group[-1] != '\n'))
		return 0;
	group += 3;
	group[strcspn(group, "\n")] = '\0';
	/* The tightest limit may be any ancestor's; the root itself has none. */
	while (group[0] && group[1]) {
		(void)snprintf(path, sizeof(path), "%s%s/memory.max", cgroup_root, group);
		limit = read_limit(path);
		if (limit < bytes)
			return error_set(
				err, ENOMEM,
				"--memory: %s asked, and the cgroup %s allows %llum: ask for less, or raise memory.max",
				text_size(bytes, asked), group, (unsigned long long)(limit >> 20));
		*strrchr(group, '/') = '\0';
	}
	return 0;
}
