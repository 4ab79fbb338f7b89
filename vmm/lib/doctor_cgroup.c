/* Checks of control groups: which version, and what of it this user may hand out. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/doctor.h"
#include "lib/text.h"

#define MOUNTS_MAX  (1U << 20) /* hosts of many containers have thousands of mounts of some 200 bytes */
#define CGROUP_MAX  (16U << 10)
#define CGROUP_ROOT "/sys/fs/cgroup"

enum cgroup_kind { CGROUP_NONE, CGROUP_V1, CGROUP_HYBRID, CGROUP_V2 };

static const char *const wanted[] = { "cpu", "io", "memory", "pids" };

struct cgroup_layout {
	enum cgroup_kind kind;
	char v2[PATH_MAX]; /* where version 2 is mounted; "" where it is not */
};

static bool is_v1_controller(const char *options)
{
	/* "name=systemd" alone is a hierarchy without controllers. */
	return doctor_has_word(options, "memory") || doctor_has_word(options, "cpu") ||
	       doctor_has_word(options, "pids") || doctor_has_word(options, "blkio");
}

/* Takes one line of proc_pid_mounts(5) in: device, mount point, type, options. */
static void read_mount(char *line, struct cgroup_layout *layout, bool *v1)
{
	char *save = NULL, *where, *type, *options;

	if (!strtok_r(line, " ", &save))
		return;
	where = strtok_r(NULL, " ", &save);
	type = strtok_r(NULL, " ", &save);
	options = strtok_r(NULL, " ", &save);
	if (!options)
		return;
	if (!strcmp(type, "cgroup2") && !layout->v2[0])
		(void)snprintf(layout->v2, sizeof(layout->v2), "%s", where);
	if (!strcmp(type, "cgroup") && is_v1_controller(options))
		*v1 = true;
}

static void read_layout(const struct doctor_host *host, struct cgroup_layout *ret_layout)
{
	char *text = malloc(MOUNTS_MAX), *rest = text, *line;
	bool v1 = false;

	memset(ret_layout, 0, sizeof(*ret_layout));
	if (!text || doctor_read(host, "/proc/self/mounts", text, MOUNTS_MAX) < 0)
		rest = NULL;
	while ((line = doctor_next_line(&rest)))
		read_mount(line, ret_layout, &v1);
	free(text);
	if (ret_layout->v2[0])
		ret_layout->kind = v1 ? CGROUP_HYBRID : CGROUP_V2;
	else
		ret_layout->kind = v1 ? CGROUP_V1 : CGROUP_NONE;
}

/* Which of the wanted controllers the group at `folder` cannot hand out; "" for none. */
static void missing_controllers(const struct doctor_host *host, const char *folder, char lacks[64])
{
	char path[PATH_MAX + 32], text[512];

	lacks[0] = '\0';
	(void)snprintf(path, sizeof(path), "%s/cgroup.controllers", folder);
	if (doctor_read(host, path, text, sizeof(text)) < 0)
		text[0] = '\0';
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		if (!doctor_has_word(text, wanted[i]))
			doctor_add(lacks, 64, wanted[i]);
}

void doctor_check_cgroup(const struct doctor_host *host, struct doctor_result *r)
{
	static const char unify[] = "boot with systemd.unified_cgroup_hierarchy=1 on the kernel's command line";
	struct cgroup_layout layout;
	char lacks[64];

	read_layout(host, &layout);
	switch (layout.kind) {
	case CGROUP_NONE:
		doctor_found(r, MVM_CHECK_WARNING, "none is mounted: what a VM takes of the host has no bounds");
		doctor_remedy(r, "sudo mount -t cgroup2 none " CGROUP_ROOT ", or boot with systemd");
		return;
	case CGROUP_V1:
		doctor_found(r, MVM_CHECK_WARNING, "v1: its bounds are looser, and root alone can set them");
		doctor_remedy(r, unify);
		return;
	case CGROUP_HYBRID:
		doctor_found(r, MVM_CHECK_WARNING, "hybrid: v2 at %s, and its controllers are held by v1", layout.v2);
		doctor_remedy(r, unify);
		return;
	case CGROUP_V2:
	default:
		break;
	}
	missing_controllers(host, layout.v2, lacks);
	if (lacks[0]) {
		doctor_found(r, MVM_CHECK_WARNING, "v2 without the controllers %s", lacks);
		doctor_remedy(r, strstr(lacks, "memory")
					 ? "boot with cgroup_enable=memory on the kernel's command line, "
					   "on a kernel with CONFIG_MEMCG"
					 : "a kernel with CONFIG_CGROUP_SCHED, CONFIG_BLK_CGROUP and "
					   "CONFIG_CGROUP_PIDS; in a container: have it given more");
	} else {
		doctor_found(r, MVM_CHECK_OK, "v2 at %s with cpu, io, memory, pids", layout.v2);
	}
}

static bool is_mine(const struct doctor_host *host, const char *folder)
{
	char path[PATH_MAX];
	struct stat st;

	return doctor_path(host, path, "%s/cgroup.procs", folder) == 0 && stat(path, &st) == 0 &&
	       st.st_uid == host->uid;
}

/* This process's group of version 2 as a folder; false where it has none. */
static bool own_group(const struct doctor_host *host, const char *v2, char ret_folder[PATH_MAX])
{
	char text[CGROUP_MAX], *rest = text, *line;

	if (doctor_read(host, "/proc/self/cgroup", text, sizeof(text)) < 0)
		return false;
	while ((line = doctor_next_line(&rest)))
		if (!strncmp(line, "0::/", 4)) /* cgroups(7) */
			return snprintf(ret_folder, PATH_MAX, "%s%s", v2, line + 3) < PATH_MAX;
	return false;
}

/* The group that was given to this user: by systemd to the user's manager, or the one this process is in. */
static bool delegated_group(const struct doctor_host *host, const char *v2, char ret_folder[PATH_MAX])
{
	(void)snprintf(ret_folder, PATH_MAX, "%.256s/user.slice/user-%u.slice/user@%u.service", v2, host->uid,
		       host->uid);
	if (is_mine(host, ret_folder))
		return true;
	return own_group(host, v2, ret_folder) && is_mine(host, ret_folder);
}

void doctor_check_delegation(const struct doctor_host *host, struct doctor_result *r)
{
	struct cgroup_layout layout;
	char folder[PATH_MAX], lacks[64];

	if (host->uid == 0) {
		doctor_found(r, MVM_CHECK_SKIPPED, "root needs none");
		return;
	}
	read_layout(host, &layout);
	if (layout.kind != CGROUP_V2) {
		doctor_found(r, MVM_CHECK_WARNING,
			     "only cgroup v2 can be handed to ordinary users: no bounds on their VMs");
		doctor_remedy(r, "see the check cgroup");
		return;
	}
	if (!delegated_group(host, layout.v2, folder)) {
		doctor_found(r, MVM_CHECK_WARNING, "no group is yours: your VMs have no bounds");
		doctor_remedy(
			r, "log in by a session of systemd's (not su or sudo), or: sudo loginctl enable-linger $USER");
		return;
	}
	missing_controllers(host, folder, lacks);
	if (!lacks[0]) {
		doctor_found(r, MVM_CHECK_OK, "%.300s has cpu, io, memory, pids", folder);
		return;
	}
	doctor_found(r, MVM_CHECK_WARNING, "%.300s lacks %s", folder, lacks);
	doctor_remedy(r,
		      "sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu cpuset io "
		      "memory pids\\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl "
		      "daemon-reload && sudo systemctl restart user@%u.service",
		      host->uid);
}
