/* What only system calls can tell of the host. Nothing is changed, nothing is judged. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/landlock.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "host_arch.h"
#include "jail/lsm.h"
#include "lib/doctor.h"
#include "lib/net_user.h"
#include "lib/state_dir.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define KVM_PATH "/dev/kvm"

/* prctl(2), Linux 5.14; Debian 12's headers have them, older ones do not. */
#ifndef PR_SCHED_CORE
#define PR_SCHED_CORE     62
#define PR_SCHED_CORE_GET 0
#endif

/* The wire form of a POSIX ACL in the extended attribute (linux/posix_acl_xattr.h): little-endian. */
#define ACL_VERSION 2U
#define ACL_USER    2U
#define ACL_RW      6U
struct acl_entry {
	uint16_t tag, perm;
	uint32_t id;
};
_Static_assert(sizeof(struct acl_entry) == 8, "struct posix_acl_xattr_entry");

/* Whether an entry names the user with read and write: logind gives one to who sits at the machine. */
static bool acl_names(const char *path, uid_t uid)
{
	struct {
		uint32_t version;
		struct acl_entry entries[64];
	} acl;
	ssize_t n = getxattr(path, "system.posix_acl_access", &acl, sizeof(acl));

	if (n < (ssize_t)sizeof(acl.version) || acl.version != ACL_VERSION)
		return false;
	n = (n - (ssize_t)sizeof(acl.version)) / (ssize_t)sizeof(acl.entries[0]);
	for (ssize_t i = 0; i < n; i++)
		if (acl.entries[i].tag == ACL_USER && acl.entries[i].id == uid &&
		    (acl.entries[i].perm & ACL_RW) == ACL_RW)
			return true;
	return false;
}

static void probe_kvm(struct doctor_host *host)
{
	static const struct {
		int cap;
		const char *name;
	} needed[] = {
#define NEEDED(cap) { cap, #cap },
		HOST_ARCH_KVM_CAPS(NEEDED)
#undef NEEDED
	};
	_cleanup_fd_ int fd = open(KVM_PATH, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	host->kvm_error = fd < 0 ? errno : 0;
	host->kvm_seen = stat(KVM_PATH, &host->kvm_stat) == 0;
	host->kvm_acl = host->kvm_seen && acl_names(KVM_PATH, host->uid);
	host->kvm_api = fd < 0 ? -1 : ioctl(fd, KVM_GET_API_VERSION, 0);
	if (host->kvm_api < 0)
		return;
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (ioctl(fd, KVM_CHECK_EXTENSION, needed[i].cap) <= 0)
			doctor_add(host->kvm_lacks, sizeof(host->kvm_lacks), needed[i].name);
}

#define SECOND_STEP 0x80

/*
 * In a child, which alone may change its namespaces. Two steps: where AppArmor restricts user namespaces,
 * the first succeeds and leaves no capability for the second. The program around us notices nothing of the child:
 * none of its handlers runs there, neither for signals (all are blocked) nor for fork or exit (the bare calls), and
 * without an exit signal neither SIGCHLD nor its own waiting for any child tells of it.
 */
static void probe_namespaces(struct doctor_host *host)
{
	int status = 0, r;
	sigset_t all, old;
	long pid;

	host->userns_error = host->mountns_error = EIO;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_BLOCK, &all, &old);
	pid = syscall(SYS_clone, 0UL, NULL, NULL, NULL, NULL);
	if (pid == 0) {
		if (unshare(CLONE_NEWUSER) < 0)
			status = errno & ~SECOND_STEP;
		else if (unshare(CLONE_NEWNS) < 0)
			status = errno | SECOND_STEP;
		for (;;)
			(void)syscall(SYS_exit_group, status);
	}
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (pid < 0)
		return;
	do
		r = waitpid((pid_t)pid, &status, __WALL);
	while (r < 0 && errno == EINTR);
	if (r < 0 || !WIFEXITED(status))
		return;
	status = WEXITSTATUS(status);
	host->userns_error = status & SECOND_STEP ? 0 : status;
	host->mountns_error = status & SECOND_STEP ? status & ~SECOND_STEP : 0;
}

static void probe_kernel(struct doctor_host *host)
{
	struct utsname name;
	unsigned long cookie = 0;
	char byte;

	if (uname(&name) == 0)
		(void)snprintf(host->release, sizeof(host->release), "%s", name.release);
	host->landlock_abi =
		(int)syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, LANDLOCK_CREATE_RULESET_VERSION);
	if (host->landlock_abi < 0)
		host->landlock_abi = -errno;
	host->lsm_profile = lsm_profile();
	/* Of this process (pid 0) and its thread (type 0, PIDTYPE_PID). */
	host->core_sched = prctl(PR_SCHED_CORE, PR_SCHED_CORE_GET, 0UL, 0UL, &cookie) < 0 ? -errno : 0;
	host->random = getrandom(&byte, sizeof(byte), GRND_NONBLOCK) == (ssize_t)sizeof(byte) ? 0 : -errno;
}

static void probe_process(struct doctor_host *host)
{
	static const struct rlimit none = { RLIM_INFINITY, RLIM_INFINITY };
	struct stat exe;
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	int n = getgroups(DOCTOR_GROUPS_MAX - 1, host->groups);

	host->program_uid = stat("/proc/self/exe", &exe) == 0 ? exe.st_uid : 0;
	host->ngroups = n < 0 ? 0 : (size_t)n;
	host->groups[host->ngroups++] = getegid();
	if (getrlimit(RLIMIT_NOFILE, &host->files) < 0)
		host->files = none;
	if (getrlimit(RLIMIT_NPROC, &host->processes) < 0)
		host->processes = none;
	if (getrlimit(RLIMIT_MEMLOCK, &host->locked) < 0)
		host->locked = none;
	if (getrlimit(RLIMIT_AS, &host->space) < 0)
		host->space = none;
	host->has_runtime_dir = runtime && *runtime == '/';
	if (state_dir_parent(host->state_parent, &host->state_error) < 0)
		host->state_parent[0] = '\0';
}

/* Root's mvm-net is not root: what others may not open is not opened. */
static void probe_net_user(struct doctor_host *host)
{
	_cleanup_fd_ int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	host->tun_error = tun < 0 ? errno : 0;
	if (tun >= 0 && host->uid == 0 && ids_are_ours() && fstat(tun, &st) == 0 && (st.st_mode & 06) != 06)
		host->tun_error = EACCES;
	if (net_user_find("pasta", host->pasta) < 0)
		host->pasta[0] = '\0';
	if (net_user_find("nft", host->nft) < 0)
		host->nft[0] = '\0';
}

void doctor_probe(struct doctor_host *host)
{
	memset(host, 0, sizeof(*host));
	host->root = "";
	host->uid = geteuid();
	host->virtualization = host_arch_virtualization();
	host->is_virtual = host_arch_is_virtual();
	probe_kvm(host);
	probe_namespaces(host);
	probe_kernel(host);
	probe_process(host);
	probe_net_user(host);
	for (enum doctor_part part = 0; part < DOCTOR_PARTS; part++) {
		_cleanup_free_ char *path = NULL;

		if (mvm_part_path(doctor_part_name(part), &path, &host->part_error[part]) == 0)
			(void)snprintf(host->part[part], sizeof(host->part[part]), "%s", path);
	}
}
