/* Checks of what VMs share with each other and with the disk: CPU, cores, pages, settings, swap. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/doctor.h"
#include "lib/host_conf.h"
#include "lib/text.h"

#define ISSUES_MAX   128 /* files in vulnerabilities/: some 25 in 2025 */
#define SWAPS_MAX    (16U << 10)
#define CMDLINE_MAX  (16U << 10)
#define DM_DEPTH_MAX 4 /* device-mapper layers: LVM in LUKS, or the reverse, are two */

static int not_hidden(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* Sorts one issue's line into the lists of those without mitigation, and of those that SMT leaves open. */
static void read_issue(const struct doctor_host *host, const char *name, char vulnerable[256], char smt[128])
{
	char path[320], line[256];

	(void)snprintf(path, sizeof(path), "/sys/devices/system/cpu/vulnerabilities/%s", name);
	if (!doctor_line(host, path, line, sizeof(line)))
		return;
	/* "Vulnerable: no microcode", "KVM: Vulnerable", "…; VMX: vulnerable", "…; SMT vulnerable" */
	if (!strncmp(line, "Vulnerable", 10) || strstr(line, "KVM: Vulnerable") || strstr(line, "VMX: vulnerable"))
		doctor_add(vulnerable, 256, name);
	else if (strstr(line, "SMT vulnerable"))
		doctor_add(smt, 128, name);
}

/* Whether the kernel was told not to mitigate. */
static bool mitigations_off(const struct doctor_host *host)
{
	char cmdline[CMDLINE_MAX];

	return doctor_line(host, "/proc/cmdline", cmdline, sizeof(cmdline)) &&
	       strstr(cmdline, "mitigations=off") != NULL;
}

void doctor_check_mitigations(const struct doctor_host *host, struct doctor_result *r)
{
	char path[PATH_MAX], vulnerable[256] = "", smt[128] = "";
	struct dirent **names;
	int n = doctor_path(host, path, "/sys/devices/system/cpu/vulnerabilities");

	n = n < 0 ? n : scandir(path, &names, not_hidden, alphasort);
	if (n < 0) {
		doctor_found(r, MVM_CHECK_SKIPPED,
			     "the kernel does not tell (/sys/devices/system/cpu/vulnerabilities)");
		return;
	}
	for (int i = 0; i < n; i++) {
		if (i < ISSUES_MAX)
			read_issue(host, names[i]->d_name, vulnerable, smt);
		free(names[i]);
	}
	free(names);
	if (vulnerable[0]) {
		doctor_found(r, MVM_CHECK_WARNING, "the CPU is vulnerable: %s", vulnerable);
		if (mitigations_off(host))
			doctor_remedy(r, "remove mitigations=off from the kernel's command line");
		else
			doctor_remedy(r,
				      "update the CPU's microcode (Debian: intel-microcode or amd64-microcode) and the "
				      "kernel, in a virtual machine those of its host; boot with mitigations=auto");
	} else if (smt[0]) {
		doctor_found(r, MVM_CHECK_WARNING, "mitigated but for threads of one core: %s", smt);
		doctor_remedy(r, "boot with mitigations=auto,nosmt");
	} else {
		doctor_found(r, MVM_CHECK_OK, "no known vulnerability is open");
	}
}

static bool smt_on(const struct doctor_host *host)
{
	uint64_t active;

	return doctor_number(host, "/sys/devices/system/cpu/smt/active", &active) == 0 && active == 1;
}

void doctor_check_smt(const struct doctor_host *host, struct doctor_result *r)
{
	char control[32];

	if (!smt_on(host)) {
		if (doctor_line(host, "/sys/devices/system/cpu/smt/control", control, sizeof(control)))
			doctor_found(r, MVM_CHECK_OK, "no two threads share a core (%s)", control);
		else
			doctor_found(r, MVM_CHECK_SKIPPED, "the kernel does not tell (/sys/devices/system/cpu/smt)");
		return;
	}
	if (host->core_sched == 0) {
		doctor_found(r, MVM_CHECK_OK, "on; core scheduling can keep VMs off each other's cores");
		return;
	}
	doctor_found(r, MVM_CHECK_WARNING, "on: two VMs may share a core, and one may learn what the other computes");
	doctor_remedy(r, "a kernel with CONFIG_SCHED_CORE (5.14), or: echo off | sudo tee "
			 "/sys/devices/system/cpu/smt/control");
}

void doctor_check_core_sched(const struct doctor_host *host, struct doctor_result *r)
{
	if (host->core_sched == 0) {
		doctor_found(r, MVM_CHECK_OK, "available");
	} else if (host->core_sched == -ENODEV || !smt_on(host)) {
		doctor_found(r, MVM_CHECK_OK, "not needed: no two threads share a core");
	} else {
		doctor_found(r, MVM_CHECK_WARNING, "the kernel has none, and SMT is on");
		doctor_remedy(r, "a kernel with CONFIG_SCHED_CORE (5.14)");
	}
}

void doctor_check_ksm(const struct doctor_host *host, struct doctor_result *r)
{
	uint64_t run;

	if (doctor_number(host, "/sys/kernel/mm/ksm/run", &run) < 0) {
		doctor_found(r, MVM_CHECK_OK, "the kernel has none");
	} else if (run != 1) {
		doctor_found(r, MVM_CHECK_OK, "off");
	} else {
		doctor_found(r, MVM_CHECK_WARNING,
			     "on: equal pages are merged, and who writes to one can tell that another has it");
		doctor_remedy(r,
			      "echo 2 | sudo tee /sys/kernel/mm/ksm/run (stops and separates), and disable ksm.service "
			      "or ksmtuned.service");
	}
}

void doctor_check_settings(const struct doctor_host *host, struct doctor_result *r)
{
	struct host_conf conf;
	struct mvm_error err;
	char path[PATH_MAX];

	if (doctor_path(host, path, "%s", HOST_CONF_PATH) < 0)
		return;
	if (host_conf_read(path, &conf, &err) < 0) {
		doctor_found(r, MVM_CHECK_PROBLEM, "no VM starts: %s", err.text);
		doctor_remedy(r, "put %s right", path);
	} else if (conf.share_kernel) {
		doctor_found(r, MVM_CHECK_WARNING,
			     "%s: share-kernel: who is in one VM can tell what another's kernel runs, and slow it down",
			     path);
		doctor_remedy(r, "where VMs are not all of one owner: remove the line share-kernel");
	} else {
		doctor_found(r, MVM_CHECK_OK, access(path, F_OK) == 0 ? "%s can be read" : "there is no %s", path);
	}
}

/* Whether block device `name` (dm-0) is dm-crypt, or lies on such alone as far as one may look. */
static bool is_encrypted(const struct doctor_host *host, const char *name, unsigned depth)
{
	char path[PATH_MAX], uuid[128];
	struct dirent **slaves;
	bool all;
	int n;

	if (depth > DM_DEPTH_MAX || strchr(name, '/'))
		return false;
	(void)snprintf(path, sizeof(path), "/sys/block/%s/dm/uuid", name);
	if (doctor_line(host, path, uuid, sizeof(uuid)) && !strncmp(uuid, "CRYPT-", 6))
		return true;
	if (doctor_path(host, path, "/sys/block/%s/slaves", name) < 0)
		return false;
	n = scandir(path, &slaves, not_hidden, alphasort);
	if (n < 0)
		return false;
	all = n > 0 && n <= ISSUES_MAX;
	for (int i = 0; i < n; i++) {
		all = all && is_encrypted(host, slaves[i]->d_name, depth + 1);
		free(slaves[i]);
	}
	free(slaves);
	return all;
}

void doctor_check_swap(const struct doctor_host *host, struct doctor_result *r)
{
	char text[SWAPS_MAX], *rest = text, *line, open[256] = "", closed[256] = "";

	if (doctor_read(host, "/proc/swaps", text, sizeof(text)) <= 0) {
		doctor_found(r, MVM_CHECK_OK, "the kernel has none");
		return;
	}
	(void)doctor_next_line(&rest); /* Filename Type Size Used Priority */
	while ((line = doctor_next_line(&rest))) {
		line[strcspn(line, " \t")] = '\0';
		if (!line[0])
			continue;
		if (!strncmp(line, "/dev/zram", 9) || (!strncmp(line, "/dev/", 5) && is_encrypted(host, line + 5, 0)))
			doctor_add(closed, sizeof(closed), line);
		else
			doctor_add(open, sizeof(open), line);
	}
	if (open[0]) {
		doctor_found(r, MVM_CHECK_WARNING,
			     "on, not encrypted: %s: what guests hold in memory may reach the disk", open);
		doctor_remedy(r, "sudo swapoff -a, or swap to zram, or encrypted with a key of each boot's own "
				 "(crypttab(5): option swap)");
	} else if (closed[0]) {
		doctor_found(r, MVM_CHECK_OK, "in memory or encrypted: %s", closed);
	} else {
		doctor_found(r, MVM_CHECK_OK, "off");
	}
}
