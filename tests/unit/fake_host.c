#include "fake_host.h"

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "mvm/version.h"

/* A host on which nothing is to be said. */
const struct fake_file fake_host_files[] = {
	{ "/etc/passwd", "root:x:0:0::/root:/bin/sh\nalice:x:@:1000::/home/alice:/bin/sh\n" },
	{ "/etc/group", GROUP_FILE },
	{ "/proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu vme svm\nvmx flags\t: vnmi ept vpid unrestricted_guest\n" },
	{ "/proc/cmdline", "root=/dev/sda1 quiet\n" },
	{ "/proc/meminfo", "MemTotal: 8000000 kB\nMemFree: 1 kB\nMemAvailable:    4000000 kB\n"
			   "CommitLimit: 4000000 kB\nCommitted_AS: 3900000 kB\n" },
	{ "/proc/self/cgroup", "0::/user.slice/user-@.slice/session-2.scope\n" },
	{ "/proc/self/mounts", "proc /proc proc rw 0 0\n" V2_MOUNT },
	{ "/proc/swaps", SWAPS },
	{ "/proc/sys/kernel/seccomp/actions_avail",
	  "kill_process kill_thread trap errno user_notif trace log allow\n" },
	{ "/proc/sys/vm/overcommit_memory", "0\n" },
	{ "/sys/devices/system/cpu/smt/active", "0\n" },
	{ "/sys/devices/system/cpu/smt/control", "off\n" },
	{ VULNERABLE "meltdown", "Not affected\n" },
	{ VULNERABLE "spectre_v2", "Mitigation: Retpolines; STIBP: disabled\n" },
	{ CLOCKS "current_clocksource", "tsc\n" },
	{ "/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory hugetlb pids\n" },
	{ USER_GROUP "cgroup.controllers", "cpu io memory pids\n" },
	{ USER_GROUP "cgroup.procs", "" },
	{ "/sys/kernel/mm/ksm/run", "0\n" },
	{ "/sys/module/apparmor/parameters/enabled", "Y\n" },
	{ "/run/user/mvm/.keep", "" },
	{ "/lib/mvm/mvm-supervisor", "..." MVM_VERSION_MARK MVM_VERSION },
	{ "/lib/mvm/mvm-net", "..." MVM_VERSION_MARK MVM_VERSION },
	{ "/lib/mvm/mvm-udp", "..." MVM_VERSION_MARK MVM_VERSION },
	{ "/lib/mvm/mvm-bridge", "..." MVM_VERSION_MARK MVM_VERSION },
	{ "/lib/mvm/mvm-vmm", "..." MVM_VERSION_MARK MVM_VERSION },
	{ "/lib/mvm/agent.cpio", "..." MVM_VERSION_MARK MVM_VERSION },
	{ "/lib/mvm/vmlinux", NULL }, /* written below: it is longer */
	{ NULL, NULL },
};

char fake_host_root[] = "/tmp/test_doctor.XXXXXX";
uid_t fake_host_user;

/* The text with each @ replaced by the user's id. */
static void fill(char *to, size_t size, const char *text)
{
	size_t n = 0;

	for (; *text && n + 16 < size; text++)
		if (*text == '@' && (text[1] < 'a' || text[1] > 'z') && !(text[1] == '@'))
			n += (size_t)snprintf(to + n, size - n, "%u", fake_host_user);
		else
			to[n++] = *text;
	to[n] = '\0';
}

static void give(const char *path)
{
	if (geteuid() == 0)
		assert_int_equal(lchown(path, fake_host_user, fake_host_user), 0);
}

void fake_host_put(const char *name, const char *text)
{
	char path[512], filled[4096];
	size_t from = strlen(fake_host_root) + 1;
	int fd;

	(void)snprintf(path, sizeof(path), "%s", fake_host_root);
	fill(path + strlen(fake_host_root), sizeof(path) - strlen(fake_host_root), name);
	if (!text) {
		(void)unlink(path);
		return;
	}
	for (char *slash = strchr(path + from, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(path, 0755) == 0)
			give(path);
		*slash = '/';
	}
	fill(filled, sizeof(filled), text);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, filled, strlen(filled)), (ssize_t)strlen(filled));
	assert_int_equal(fchmod(fd, 0755), 0);
	assert_int_equal(close(fd), 0);
	give(path);
}

static void put_kernel(void)
{
	char text[4000];

	memset(text, '.', sizeof(text));
	memcpy(text + 10, "Linux version 6.12.3 (somebody) #1", 34);
	text[sizeof(text) - 1] = '\0';
	fake_host_put("/lib/mvm/vmlinux", text);
}

void fake_host_answers(struct doctor_host *host)
{
	static const char *const parts[] = { "mvm-supervisor", "mvm-net",    "mvm-udp", "mvm-bridge",
					     "mvm-vmm",        "agent.cpio", "vmlinux" };
	static const struct rlimit none = { RLIM_INFINITY, RLIM_INFINITY };

	memset(host, 0, sizeof(*host));
	host->root = fake_host_root;
	host->uid = fake_host_user;
	host->groups[0] = KVM_GROUP;
	host->ngroups = 1;
	(void)snprintf(host->release, sizeof(host->release), "6.12.3-amd64");
	host->virtualization = "VMX";
	host->kvm_seen = true;
	host->kvm_stat = (struct stat){ .st_mode = S_IFCHR | 0660, .st_gid = KVM_GROUP };
	host->kvm_api = 12;
	host->landlock_abi = 6;
	host->files = host->processes = host->locked = host->space = none;
	(void)snprintf(host->state_parent, sizeof(host->state_parent), "/run/user/mvm");
	host->has_runtime_dir = true;
	(void)snprintf(host->pasta, sizeof(host->pasta), "/usr/bin/pasta");
	(void)snprintf(host->nft, sizeof(host->nft), "/usr/sbin/nft");
	for (size_t i = 0; i < DOCTOR_PARTS; i++)
		(void)snprintf(host->part[i], sizeof(host->part[i]), "/lib/mvm/%s", parts[i]);
}

static int delete_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st;
	(void)kind;
	(void)where;
	return remove(path);
}

void fake_host_make_empty(void)
{
	(void)snprintf(fake_host_root, sizeof(fake_host_root), "/tmp/test_doctor.XXXXXX");
	assert_non_null(mkdtemp(fake_host_root));
	assert_int_equal(chmod(fake_host_root, 0755), 0);
	fake_host_user = geteuid() ? geteuid() : USER;
	give(fake_host_root);
}

void fake_host_make(void)
{
	fake_host_make_empty();
	for (const struct fake_file *f = fake_host_files; f->path; f++)
		fake_host_put(f->path, f->text);
	put_kernel();
}

void fake_host_remove(void)
{
	assert_int_equal(nftw(fake_host_root, delete_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
}
