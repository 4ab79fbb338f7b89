/* Checks of what the kernel offers to the jail. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "jail/lsm.h"
#include "lib/doctor.h"
#include "lib/text.h"

/*
 * What VMs are jailed with, by the version that brought it: clone3 with CLONE_INTO_CGROUP 5.7, close_range 5.9,
 * Landlock 5.13, limits of processes per user namespace 5.14; 5.15 is the long-term kernel after it.
 */
#define KERNEL_NEEDED   VERSION(5, 9)
#define KERNEL_ROOTLESS VERSION(5, 15)

#define VERSION(major, minor) ((major)*1000U + (minor))

#define LANDLOCK_NET_ABI 4 /* Linux 6.7: TCP bind and connect */

void doctor_check_kernel(const struct doctor_host *host, struct doctor_result *r)
{
	unsigned major = 0, minor = 0, version;

	if (sscanf(host->release, "%4u.%4u", &major, &minor) != 2) { /* NOLINT(cert-err34-c): bounded by its width */
		doctor_found(r, MVM_CHECK_SKIPPED, "%s: no version of Linux that can be read", host->release);
		return;
	}
	version = VERSION(major, minor < 1000 ? minor : 999);
	if (version >= KERNEL_ROOTLESS) {
		doctor_found(r, MVM_CHECK_OK, "Linux %s", host->release);
		return;
	}
	if (version < KERNEL_NEEDED)
		doctor_found(r, MVM_CHECK_PROBLEM, "Linux %s: without close_range, which 5.9 brought", host->release);
	else
		doctor_found(r, host->uid ? MVM_CHECK_PROBLEM : MVM_CHECK_WARNING,
			     "Linux %s: too old for VMs of ordinary users", host->release);
	doctor_remedy(r, "boot a kernel from 5.15 on");
}

static bool setting_is(const struct doctor_host *host, const char *path, uint64_t value)
{
	uint64_t v;

	return doctor_number(host, path, &v) == 0 && v == value;
}

/* The setting that is to blame, or what is left to guess. */
static void userns_remedy(const struct doctor_host *host, struct doctor_result *r)
{
	int error = host->userns_error;

	if (setting_is(host, "/proc/sys/kernel/unprivileged_userns_clone", 0) && host->uid)
		doctor_remedy(r, "sudo sysctl -w kernel.unprivileged_userns_clone=1, and in /etc/sysctl.d");
	else if (setting_is(host, "/proc/sys/user/max_user_namespaces", 0) || error == ENOSPC || error == EUSERS)
		doctor_remedy(r, "sudo sysctl -w user.max_user_namespaces=15000, and in /etc/sysctl.d");
	else if (setting_is(host, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", 1))
		doctor_remedy(r, "an AppArmor profile with \"userns,\" for mvm-supervisor, or for every program: sudo "
				 "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0");
	else if (error == EINVAL || error == ENOSYS)
		doctor_remedy(r, "a kernel with CONFIG_USER_NS");
	else
		doctor_remedy(r, "in a container: allow unshare(2) in its seccomp profile; in a chroot: leave it");
}

void doctor_check_userns(const struct doctor_host *host, struct doctor_result *r)
{
	if (host->userns_error)
		doctor_found(r, MVM_CHECK_PROBLEM, "none can be made: %s", strerror(host->userns_error));
	else if (host->mountns_error)
		doctor_found(r, MVM_CHECK_PROBLEM, "one can be made, but it gives no right to mount: %s",
			     strerror(host->mountns_error));
	else
		doctor_found(r, MVM_CHECK_OK, "allowed (tried)");
	if (r->check.state == MVM_CHECK_PROBLEM)
		userns_remedy(host, r);
}

void doctor_check_seccomp(const struct doctor_host *host, struct doctor_result *r)
{
	static const char *const needed[] = { "kill_process", "trap", "errno", "log" };
	char actions[256], lacks[64] = "";

	if (!doctor_line(host, "/proc/sys/kernel/seccomp/actions_avail", actions, sizeof(actions))) {
		doctor_found(r, MVM_CHECK_PROBLEM, "the kernel has no seccomp filters");
		doctor_remedy(r, "a kernel with CONFIG_SECCOMP_FILTER, and /proc mounted");
		return;
	}
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (!doctor_has_word(actions, needed[i]))
			doctor_add(lacks, sizeof(lacks), needed[i]);
	if (lacks[0]) {
		doctor_found(r, MVM_CHECK_PROBLEM, "without the actions %s", lacks);
		doctor_remedy(r, "boot a kernel from 4.14 on");
	} else {
		doctor_found(r, MVM_CHECK_OK, "%s", actions);
	}
}

void doctor_check_landlock(const struct doctor_host *host, struct doctor_result *r)
{
	if (host->landlock_abi >= LANDLOCK_NET_ABI) {
		doctor_found(r, MVM_CHECK_OK, "ABI %d", host->landlock_abi);
	} else if (host->landlock_abi > 0) {
		doctor_found(r, MVM_CHECK_WARNING, "ABI %d: without rules for the network, which %d brought",
			     host->landlock_abi, LANDLOCK_NET_ABI);
		doctor_remedy(r, "boot a kernel from 6.7 on");
	} else if (host->landlock_abi == -EOPNOTSUPP) {
		doctor_found(r, MVM_CHECK_WARNING, "built into the kernel, and off");
		doctor_remedy(r, "put landlock first in lsm= of the kernel's command line: lsm=landlock,lockdown,yama,"
				 "integrity,apparmor,bpf");
	} else if (host->landlock_abi == -ENOSYS) {
		doctor_found(r, MVM_CHECK_WARNING, "the kernel has none");
		doctor_remedy(r, "a kernel from 6.7 on with CONFIG_SECURITY_LANDLOCK");
	} else {
		doctor_found(r, MVM_CHECK_WARNING, "cannot be used: %s", strerror(-host->landlock_abi));
		doctor_remedy(r, "in a container: allow landlock_create_ruleset(2) in its seccomp profile");
	}
}

static void check_profile(const struct doctor_host *host, struct doctor_result *r)
{
	if (host->lsm_profile == 0) {
		doctor_found(r, MVM_CHECK_OK, "AppArmor, with the profile " LSM_PROFILE " for VMMs");
	} else if (host->lsm_profile == -ENOENT) {
		doctor_found(r, MVM_CHECK_WARNING, "AppArmor, but " LSM_PROFILE ", the profile of VMMs, is not loaded");
		doctor_remedy(r, LSM_LOAD);
	} else if (host->lsm_profile == -EUCLEAN) {
		doctor_found(r, MVM_CHECK_WARNING,
			     "AppArmor, but " LSM_PROFILE ", the profile of VMMs, reports and forbids nothing");
		doctor_remedy(r, LSM_ENFORCE);
	} else {
		doctor_found(r, MVM_CHECK_WARNING, "AppArmor, but " LSM_PROFILE " cannot be entered from here: %s",
			     strerror(-host->lsm_profile));
		doctor_remedy(r, "allow it in the profile that confines mvm: change_profile -> " LSM_PROFILE ",");
	}
}

void doctor_check_lsm(const struct doctor_host *host, struct doctor_result *r)
{
	char enabled[8] = "", enforce[8] = "";
	bool has_apparmor = doctor_line(host, "/sys/module/apparmor/parameters/enabled", enabled, sizeof(enabled));

	if (doctor_line(host, "/sys/fs/selinux/enforce", enforce, sizeof(enforce))) {
		if (enforce[0] == '1') {
			doctor_found(r, MVM_CHECK_OK, "SELinux, enforcing");
			return;
		}
		doctor_found(r, MVM_CHECK_WARNING, "SELinux, permissive: it reports and forbids nothing");
		doctor_remedy(r, "sudo setenforce 1, and SELINUX=enforcing in /etc/selinux/config");
	} else if (enabled[0] == 'Y') {
		check_profile(host, r);
	} else if (has_apparmor) {
		doctor_found(r, MVM_CHECK_WARNING, "AppArmor is built into the kernel, and off");
		doctor_remedy(r, "add to the kernel's command line: apparmor=1 security=apparmor");
	} else {
		doctor_found(r, MVM_CHECK_WARNING, "neither AppArmor nor SELinux");
		doctor_remedy(r, "a kernel with AppArmor or SELinux; mvm's own walls stand without them");
	}
}
