/* Checks of KVM, the CPU behind it and the clock. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host_arch.h"
#include "lib/doctor.h"
#include "lib/host.h"
#include "lib/text.h"

#define NAME_MAX_BYTES 64
#define ACCOUNTS_MAX   (256U << 10) /* of /etc/passwd and /etc/group, what is looked at */
#define CPUINFO_MAX    (32U << 10) /* the first CPU's lines are some 2 KiB */
#define MODE_RW        06U

static bool kvm_missing(const struct doctor_host *host)
{
	return host->kvm_error == ENOENT || host->kvm_error == ENOTDIR || host->kvm_error == ENODEV ||
	       host->kvm_error == ENXIO;
}

void doctor_check_kvm(const struct doctor_host *host, struct doctor_result *r)
{
	struct host_advice advice;

	if (kvm_missing(host)) {
		host_kvm_missing(host->virtualization != NULL, host->is_virtual, &advice);
		doctor_found(r, MVM_CHECK_PROBLEM, "/dev/kvm: %s", advice.found);
		if (host->virtualization)
			doctor_remedy(r, "sudo modprobe %s", host_arch_kvm_module(host->virtualization));
		else
			doctor_remedy(r, "%s", advice.remedy);
	} else if (!host->virtualization) {
		doctor_found(r, MVM_CHECK_WARNING,
			     "emulated: the CPU offers neither VMX nor SVM (KVM-PVM or the like): guests run slowly");
		doctor_remedy(r, "%s",
			      host->is_virtual ? "turn nested virtualization on in the host of this machine"
					       : "turn VT-x or AMD-V on in the firmware's settings");
	} else if (host->is_virtual) {
		doctor_found(r, MVM_CHECK_OK, "nested: %s in a machine that is virtual itself: each exit costs more",
			     host->virtualization);
	} else {
		doctor_found(r, MVM_CHECK_OK, "hardware: %s", host->virtualization);
	}
}

/*
 * Finds the line of an account file whose field `key_field` is `key`; copies the line. The files are
 * read directly: what a directory server knows is not asked, and then advice names $USER instead.
 */
static bool find_account(const struct doctor_host *host, const char *path, unsigned key_field, const char *key,
			 char ret_line[DOCTOR_TEXT_MAX])
{
	char *text = malloc(ACCOUNTS_MAX), *rest = text, *line;
	size_t len = strlen(key);
	bool found = false;

	if (!text || doctor_read(host, path, text, ACCOUNTS_MAX) < 0)
		rest = NULL;
	while (!found && (line = doctor_next_line(&rest))) {
		const char *field = line;

		for (unsigned i = 0; field && i < key_field; i++) {
			field = strchr(field, ':');
			field += field != NULL;
		}
		if (field && !strncmp(field, key, len) && (field[len] == ':' || !field[len])) {
			(void)snprintf(ret_line, DOCTOR_TEXT_MAX, "%s", line);
			found = true;
		}
	}
	free(text);
	return found;
}

/* The name of an id, or the number. `ret_members`: a group's, may be NULL. */
static void account_name(const struct doctor_host *host, const char *path, unsigned id, char name[NAME_MAX_BYTES],
			 char ret_members[DOCTOR_TEXT_MAX])
{
	char line[DOCTOR_TEXT_MAX];
	const char *members;

	(void)snprintf(name, NAME_MAX_BYTES, "%u", id);
	if (ret_members)
		ret_members[0] = '\0';
	if (!find_account(host, path, 2, name, line))
		return;
	members = strrchr(line, ':');
	if (ret_members && members)
		(void)snprintf(ret_members, DOCTOR_TEXT_MAX, "%s", members + 1);
	(void)snprintf(name, NAME_MAX_BYTES, "%.*s", (int)strcspn(line, ":"), line);
}

static bool in_group(const struct doctor_host *host, gid_t gid)
{
	for (size_t i = 0; i < host->ngroups; i++)
		if (host->groups[i] == gid)
			return true;
	return false;
}

static const char *let_in_by(const struct doctor_host *host)
{
	mode_t mode = host->kvm_stat.st_mode;

	if (host->uid == 0)
		return "as root";
	if (host->kvm_stat.st_uid == host->uid)
		return "as its owner";
	if (host->kvm_acl)
		return "by an ACL";
	if (((mode >> 3) & MODE_RW) == MODE_RW && in_group(host, host->kvm_stat.st_gid))
		return "by its group";
	return (mode & MODE_RW) == MODE_RW ? "as everybody may" : "by other means";
}

static void kvm_denied(const struct doctor_host *host, const char *device, const char *group, const char *members,
		       struct doctor_result *r)
{
	char user[NAME_MAX_BYTES];

	account_name(host, "/etc/passwd", host->uid, user, NULL);
	if (host->uid == 0 ||
	    (host->kvm_seen && in_group(host, host->kvm_stat.st_gid) && host_kvm_group_may(&host->kvm_stat))) {
		/* The mode lets us in, and something else does not. */
		doctor_found(r, MVM_CHECK_PROBLEM, "%s: no permission, though its mode gives it: a container's rule?",
			     device);
		doctor_remedy(r, "give the container the device (docker and podman: --device /dev/kvm), or allow "
				 "/dev/kvm in its device rules or LSM profile");
	} else if (host->kvm_seen && host_kvm_group_may(&host->kvm_stat)) {
		bool member = doctor_has_word(members, user);

		doctor_found(r, MVM_CHECK_PROBLEM, "%s: no permission: you are %s group %s", device,
			     member ? "not yet in this session in" : "not in", group);
		if (member)
			doctor_remedy(r, "log in again, or: newgrp %s", group);
		else
			doctor_remedy(r, "sudo usermod -aG %s $USER, then log in again", group);
	} else {
		doctor_found(r, MVM_CHECK_PROBLEM, "%s: no permission: its mode lets no group in", device);
		doctor_remedy(r, HOST_KVM_OPEN);
	}
}

void doctor_check_kvm_device(const struct doctor_host *host, struct doctor_result *r)
{
	char owner[NAME_MAX_BYTES], group[NAME_MAX_BYTES], members[DOCTOR_TEXT_MAX] = "", device[DOCTOR_TEXT_MAX];

	if (kvm_missing(host)) {
		doctor_found(r, MVM_CHECK_SKIPPED, "there is no /dev/kvm");
		return;
	}
	(void)snprintf(device, sizeof(device), "/dev/kvm");
	(void)snprintf(group, sizeof(group), "kvm");
	if (host->kvm_seen) {
		account_name(host, "/etc/passwd", host->kvm_stat.st_uid, owner, NULL);
		account_name(host, "/etc/group", host->kvm_stat.st_gid, group, members);
		(void)snprintf(device, sizeof(device), "/dev/kvm is %s:%s %04o", owner, group,
			       host->kvm_stat.st_mode & 07777U);
	}
	if (!host->kvm_error) {
		doctor_found(r, MVM_CHECK_OK, "%s, open to you %s", device, let_in_by(host));
	} else if (host->kvm_error == EACCES || host->kvm_error == EPERM) {
		kvm_denied(host, device, group, members, r);
	} else {
		doctor_found(r, MVM_CHECK_PROBLEM, "%s: cannot be opened: %s", device, strerror(host->kvm_error));
		doctor_remedy(r, "see what the kernel says: sudo dmesg | grep -i kvm");
	}
}

void doctor_check_kvm_api(const struct doctor_host *host, struct doctor_result *r)
{
	if (host->kvm_error) {
		doctor_found(r, MVM_CHECK_SKIPPED, "/dev/kvm cannot be opened");
	} else if (host->kvm_api < 0) {
		doctor_found(r, MVM_CHECK_PROBLEM, "/dev/kvm is not KVM: it does not answer KVM_GET_API_VERSION");
		doctor_remedy(r, "remove it and load the driver: sudo modprobe " HOST_ARCH_KVM_MODULES);
	} else if (host->kvm_api != HOST_KVM_API) {
		doctor_found(r, MVM_CHECK_PROBLEM, "version %d, and %d is needed", host->kvm_api, HOST_KVM_API);
		doctor_remedy(r, "use a current kernel");
	} else if (host->kvm_lacks[0]) {
		doctor_found(r, MVM_CHECK_PROBLEM, "version %d lacks %s", host->kvm_api, host->kvm_lacks);
		doctor_remedy(r, "use a current kernel, with its own kvm module");
	} else {
		doctor_found(r, MVM_CHECK_OK, "version %d, with every capability that is needed", host->kvm_api);
	}
}

/* Whether a line of the first CPU's part of cpuinfo that lists flags has this one. */
static bool cpu_has(const char *cpuinfo, const char *flag)
{
	char *text = strdup(cpuinfo), *rest = text, *line;
	bool found = false;

	while (!found && (line = doctor_next_line(&rest))) {
		char *colon = strchr(line, ':');

		if (colon && (!strncmp(line, "flags", 5) || !strncmp(line, "vmx flags", 9)))
			found = doctor_has_word(colon + 1, flag);
	}
	free(text);
	return found;
}

void doctor_check_cpu(const struct doctor_host *host, struct doctor_result *r)
{
	static const struct {
		const char *of, *flag, *module;
	} features[] = {
#define FEATURE(of, flag, module) { of, flag, module },
		HOST_ARCH_KVM_FEATURES(FEATURE)
#undef FEATURE
	};
	char cpuinfo[CPUINFO_MAX], has[128] = "", lacks[128] = "", path[128], line[8];

	if (!host->virtualization) {
		doctor_found(r, MVM_CHECK_SKIPPED, "no VMX or SVM whose features could be looked at");
		return;
	}
	if (doctor_read(host, "/proc/cpuinfo", cpuinfo, sizeof(cpuinfo)) <= 0) {
		doctor_found(r, MVM_CHECK_SKIPPED, "/proc/cpuinfo cannot be read");
		return;
	}
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		if (strcmp(features[i].of, host->virtualization) != 0)
			continue;
		(void)snprintf(path, sizeof(path), "/sys/module/%s/parameters/%s", features[i].module,
			       features[i].flag);
		if (!cpu_has(cpuinfo, features[i].flag)) {
			doctor_add(lacks, sizeof(lacks), features[i].flag);
			if (!r->remedy[0])
				doctor_remedy(r, "%s",
					      host->is_virtual
						      ? "have the host of this machine offer it (QEMU: -cpu host)"
						      : "a newer CPU; until then guests are slower");
		} else if (doctor_line(host, path, line, sizeof(line)) && (line[0] == 'N' || line[0] == '0')) {
			doctor_add(lacks, sizeof(lacks), features[i].flag);
			doctor_remedy(r,
				      "sudo modprobe -r %s && sudo modprobe %s %s=1, and remove %s=0 from "
				      "/etc/modprobe.d and the kernel's command line",
				      features[i].module, features[i].module, features[i].flag, features[i].flag);
		} else {
			doctor_add(has, sizeof(has), features[i].flag);
		}
	}
	if (lacks[0])
		doctor_found(r, MVM_CHECK_WARNING, "%s without %s", host->virtualization, lacks);
	else
		doctor_found(r, MVM_CHECK_OK, "%s with %s", host->virtualization, has);
}

void doctor_check_clock(const struct doctor_host *host, struct doctor_result *r)
{
	static const char folder[] = "/sys/devices/system/clocksource/clocksource0";
	static const char *const good[] = { HOST_ARCH_GOOD_CLOCKS };
	char path[128], now[64], available[256];

	(void)snprintf(path, sizeof(path), "%s/current_clocksource", folder);
	if (!doctor_line(host, path, now, sizeof(now))) {
		doctor_found(r, MVM_CHECK_SKIPPED, "%s cannot be read", path);
		return;
	}
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (!strcmp(now, good[i])) {
			doctor_found(r, MVM_CHECK_OK, "%s", now);
			return;
		}
	doctor_found(r, MVM_CHECK_WARNING, "%s: slow to read, and guests' clocks follow it worse", now);
	(void)snprintf(path, sizeof(path), "%s/available_clocksource", folder);
	if (doctor_line(host, path, available, sizeof(available)))
		for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
			if (doctor_has_word(available, good[i])) {
				doctor_remedy(r, "echo %s | sudo tee %s/current_clocksource", good[i], folder);
				return;
			}
	doctor_remedy(r, "see why the kernel gave the TSC up: sudo dmesg | grep -i -e tsc -e clocksource");
}
