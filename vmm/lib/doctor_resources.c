/* Checks of memory, limits, randomness and the place for state folders. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "lib/doctor.h"
#include "lib/host.h"
#include "lib/text.h"

#define MEMINFO_MAX      (8U << 10)
#define MIB              (UINT64_C(1) << 20)
#define MEMORY_LEAST     (48 * MIB) /* the smallest VM, 32m, and its VMM */
#define MEMORY_USUAL     (512 * MIB) /* one VM of the default size, and room for the host */
#define FILES_WANTED     2048U /* 1023 vsock connections, each with a socket, and a fixed set */
#define PROCESSES_LEAST  64U /* 32 vCPUs, disks' threads, supervisor, command */
#define SPACE_WANTED     (4096 * MIB)
#define STATE_SPACE      MIB
#define OVERCOMMIT_NEVER 2U

/* A value of /proc/meminfo in bytes; 0 when it is not there. */
static uint64_t meminfo(const char *text, const char *key)
{
	const char *at = strstr(text, key);
	char digits[24];
	uint64_t kib;

	if (!at || (at != text && at[-1] != '\n'))
		return 0;
	at += strlen(key);
	at += strspn(at, ": \t");
	(void)snprintf(digits, sizeof(digits), "%.*s", (int)strspn(at, "0123456789"), at);
	return text_parse_uint(digits, UINT64_MAX >> 10, &kib) < 0 ? 0 : kib << 10;
}

/* Whether this process's cgroup, or one above it, allows so much. */
static bool cgroup_allows(const struct doctor_host *host, uint64_t bytes)
{
	char root[PATH_MAX], proc[PATH_MAX];

	return doctor_path(host, root, "/sys/fs/cgroup") < 0 || doctor_path(host, proc, "/proc/self/cgroup") < 0 ||
	       host_check_cgroup_memory(root, proc, bytes, NULL) == 0;
}

void doctor_check_memory(const struct doctor_host *host, struct doctor_result *r)
{
	char text[MEMINFO_MAX];
	uint64_t available, limit, used, overcommit = 0;

	if (doctor_read(host, "/proc/meminfo", text, sizeof(text)) <= 0) {
		doctor_found(r, MVM_CHECK_SKIPPED, "/proc/meminfo cannot be read");
		return;
	}
	available = meminfo(text, "MemAvailable");
	limit = meminfo(text, "CommitLimit");
	used = meminfo(text, "Committed_AS");
	(void)doctor_number(host, "/proc/sys/vm/overcommit_memory", &overcommit);
	if (overcommit == OVERCOMMIT_NEVER && (limit > used ? limit - used : 0) < available)
		available = limit > used ? limit - used : 0;
	if (available < MEMORY_USUAL) {
		doctor_found(r, available < MEMORY_LEAST ? MVM_CHECK_PROBLEM : MVM_CHECK_WARNING,
			     "%llum available%s: %s", (unsigned long long)(available / MIB),
			     overcommit == OVERCOMMIT_NEVER ? " by vm.overcommit_memory=2" : "",
			     available < MEMORY_LEAST ? "not enough for the smallest VM"
						      : "enough for small VMs alone");
		doctor_remedy(r, "%s",
			      overcommit == OVERCOMMIT_NEVER
				      ? "end something, or: sudo sysctl -w vm.overcommit_memory=0"
				      : "end something, or add memory");
	} else if (!cgroup_allows(host, MEMORY_USUAL)) {
		bool least = cgroup_allows(host, MEMORY_LEAST);

		doctor_found(r, least ? MVM_CHECK_WARNING : MVM_CHECK_PROBLEM,
			     "this process's cgroup, or one above it, allows less than %llum",
			     (unsigned long long)((least ? MEMORY_USUAL : MEMORY_LEAST) / MIB));
		doctor_remedy(r, "raise memory.max there (systemd: MemoryMax=)");
	} else if (overcommit == OVERCOMMIT_NEVER) {
		doctor_found(r, MVM_CHECK_WARNING,
			     "%llum available; vm.overcommit_memory=2 counts each VM's memory in full, used or not",
			     (unsigned long long)(available / MIB));
		doctor_remedy(r, "sudo sysctl -w vm.overcommit_memory=0, or count with it");
	} else {
		doctor_found(r, MVM_CHECK_OK, "%llum available, vm.overcommit_memory=%llu",
			     (unsigned long long)(available / MIB), (unsigned long long)overcommit);
	}
}

static const char *limit_text(rlim_t value, bool bytes, char buf[32])
{
	if (value == RLIM_INFINITY)
		(void)snprintf(buf, 32, "unlimited");
	else if (bytes)
		(void)text_size(value, buf);
	else
		(void)snprintf(buf, 32, "%llu", (unsigned long long)value);
	return buf;
}

void doctor_check_limits(const struct doctor_host *host, struct doctor_result *r)
{
	char files[32], processes[32], locked[32], space[32], what[64] = "";

	doctor_found(r, MVM_CHECK_OK, "open files %s, processes %s, locked memory %s, address space %s",
		     limit_text(host->files.rlim_max, false, files),
		     limit_text(host->processes.rlim_cur, false, processes),
		     limit_text(host->locked.rlim_cur, true, locked), limit_text(host->space.rlim_cur, true, space));
	if (host->files.rlim_max < FILES_WANTED) {
		doctor_add(what, sizeof(what), "open files");
		doctor_remedy(r, "in /etc/security/limits.conf: * hard nofile 524288, then log in again");
	}
	if (host->processes.rlim_cur < PROCESSES_LEAST && host->uid) {
		doctor_add(what, sizeof(what), "processes");
		doctor_remedy(r, "ulimit -u %u, or in /etc/security/limits.conf: * - nproc 4096, then log in again",
			      4096U);
	}
	if (host->space.rlim_cur < SPACE_WANTED) {
		doctor_add(what, sizeof(what), "address space");
		doctor_remedy(r, "ulimit -v unlimited: the VM's memory counts against it");
	}
	if (what[0])
		doctor_found(r, MVM_CHECK_WARNING, "low: %s (open files %s, processes %s, address space %s)", what,
			     files, processes, space);
}

void doctor_check_random(const struct doctor_host *host, struct doctor_result *r)
{
	if (host->random == 0) {
		doctor_found(r, MVM_CHECK_OK, "the kernel's generator is seeded");
	} else if (host->random == -EAGAIN) {
		doctor_found(r, MVM_CHECK_WARNING,
			     "the kernel's generator is not seeded yet: starts of VMs wait for it");
		doctor_remedy(r, "wait; on a virtual machine: give it a virtio-rng device");
	} else {
		doctor_found(r, MVM_CHECK_PROBLEM, "getrandom: %s", strerror(-host->random));
		doctor_remedy(r, "in a container: allow getrandom(2) in its seccomp profile");
	}
}

/* Judges the folder that is there. */
static void check_folder(const struct doctor_host *host, const struct stat *st, struct doctor_result *r)
{
	const char *name = host->state_parent;

	if (!S_ISDIR(st->st_mode)) {
		doctor_found(r, MVM_CHECK_PROBLEM, "%.300s is a link or a file", name);
		doctor_remedy(r, "rm %.300s", name);
	} else if (st->st_uid != host->uid) {
		doctor_found(r, MVM_CHECK_PROBLEM, "%.300s belongs to uid %u, not to you", name, st->st_uid);
		doctor_remedy(r, "have it removed, or set XDG_RUNTIME_DIR to a folder of yours");
	} else if (st->st_mode & (S_IWGRP | S_IWOTH)) {
		doctor_found(r, MVM_CHECK_PROBLEM, "%.300s is writable by others", name);
		doctor_remedy(r, "chmod 700 %.300s", name);
	} else {
		doctor_found(r, MVM_CHECK_OK, "%.300s", name);
	}
}

void doctor_check_state_folder(const struct doctor_host *host, struct doctor_result *r)
{
	char path[PATH_MAX], *slash;
	struct statvfs fs;
	struct stat st;

	if (!host->state_parent[0] || doctor_path(host, path, "%s", host->state_parent) < 0) {
		doctor_found(r, MVM_CHECK_PROBLEM, "%s", host->state_error.text);
		doctor_remedy(r, "export XDG_RUNTIME_DIR=/run/user/%u", host->uid);
		return;
	}
	if (lstat(path, &st) == 0) {
		check_folder(host, &st, r);
	} else {
		doctor_found(r, MVM_CHECK_OK, "%.300s can be made", host->state_parent);
		slash = strrchr(path, '/');
		if (slash)
			*slash = '\0';
		if (faccessat(AT_FDCWD, path, W_OK | X_OK, AT_EACCESS) < 0) {
			doctor_found(r, MVM_CHECK_PROBLEM, "%.300s cannot be made: %s", host->state_parent,
				     strerror(errno));
			doctor_remedy(r,
				      host->uid ? "sudo loginctl enable-linger $USER, and export "
						  "XDG_RUNTIME_DIR=/run/user/%u; or another folder of yours"
						: "mount a tmpfs: sudo mount -t tmpfs -o mode=755 none /run",
				      host->uid);
		}
	}
	if (r->check.state != MVM_CHECK_OK)
		return;
	if (statvfs(path, &fs) == 0 && ((fs.f_flag & ST_RDONLY) || (uint64_t)fs.f_bavail * fs.f_frsize < STATE_SPACE)) {
		doctor_found(r, MVM_CHECK_PROBLEM, "%.300s lies on a file system that is %s", host->state_parent,
			     fs.f_flag & ST_RDONLY ? "read-only" : "full");
		doctor_remedy(r, "make room there, or set XDG_RUNTIME_DIR to another folder of yours");
	} else if (host->uid && !host->has_runtime_dir) {
		doctor_found(r, MVM_CHECK_WARNING,
			     "%.300s, as XDG_RUNTIME_DIR is not set: anybody may take the name there",
			     host->state_parent);
		doctor_remedy(r, "sudo loginctl enable-linger $USER, and export XDG_RUNTIME_DIR=/run/user/%u",
			      host->uid);
	}
}
