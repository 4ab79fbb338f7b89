/* Checks of what --net user, --proxy and --net bridge= need: two programs and a device; who may have a bridge's ports. */
#include <endian.h>
#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "bridge/bridge.h"
#include "lib/doctor.h"

void doctor_check_net_user(const struct doctor_host *host, struct doctor_result *r)
{
	char lacks[32] = "", packages[32] = "";

	if (!*host->pasta) {
		doctor_add(lacks, sizeof(lacks), "pasta");
		doctor_add(packages, sizeof(packages), "passt");
	}
	if (!*host->nft) {
		doctor_add(lacks, sizeof(lacks), "nft");
		doctor_add(packages, sizeof(packages), "nftables");
	}
	if (*lacks) {
		doctor_found(r, MVM_CHECK_WARNING, "--net user and --proxy cannot be had: not installed: %s", lacks);
		doctor_remedy(r, "where it is wanted, install %s", packages);
	} else if (host->tun_error == ENOENT || host->tun_error == ENODEV) {
		doctor_found(r, MVM_CHECK_WARNING, "--net user and --proxy cannot be had: there is no /dev/net/tun");
		doctor_remedy(r, "sudo modprobe tun; in a container, have it given (--device /dev/net/tun)");
	} else if (host->tun_error) {
		doctor_found(r, MVM_CHECK_WARNING, "--net user and --proxy cannot be had: /dev/net/tun: %s",
			     strerror(host->tun_error));
		doctor_remedy(r, "sudo chmod 666 /dev/net/tun, as udev has it: a device there is each user's own");
	} else {
		doctor_found(r, MVM_CHECK_OK, "--net user and --proxy can be had: %s, %s, /dev/net/tun", host->pasta,
			     host->nft);
	}
}

enum capable {
	CAPABLE_NOT,
	CAPABLE_RIGHT, /* cap_net_admin+ep */
	CAPABLE_OTHERWISE,
};

static enum capable find_capable(const struct doctor_host *host, const char *part)
{
	const struct vfs_cap_data right = {
		.magic_etc = htole32(VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE),
		.data = { { .permitted = htole32(1U << CAP_NET_ADMIN) } },
	};
	struct vfs_ns_cap_data found; /* the longest there is */
	char path[PATH_MAX];
	ssize_t n;

	if (!*part || doctor_path(host, path, "%s", part) < 0)
		return CAPABLE_NOT;
	n = getxattr(path, "security.capability", &found, sizeof(found));
	if (n <= 0)
		return n < 0 && errno == ERANGE ? CAPABLE_OTHERWISE : CAPABLE_NOT;
	return n == (ssize_t)sizeof(right) && !memcmp(&found, &right, sizeof(right)) ? CAPABLE_RIGHT
										     : CAPABLE_OTHERWISE;
}

/* Root's needs nothing but the part itself; an ordinary user's a policy, and the capability on that part. */
void doctor_check_net_bridge(const struct doctor_host *host, struct doctor_result *r)
{
	static const char policy[] = BRIDGE_FOLDER "/" BRIDGE_POLICY;
	const char *part = host->part[DOCTOR_BRIDGE];
	enum capable capable = find_capable(host, part);
	char path[PATH_MAX];
	struct stat st;

	if (capable == CAPABLE_OTHERWISE) {
		doctor_found(r, MVM_CHECK_PROBLEM,
			     "%.300s has other capabilities than cap_net_admin+ep, which alone it was meant to", part);
		doctor_remedy(r, "sudo setcap cap_net_admin+ep %.300s", part);
		return;
	}
	if (doctor_path(host, path, "%s", policy) < 0 || lstat(path, &st) < 0) {
		doctor_found(r, MVM_CHECK_OK, "--net bridge= is root's alone: there is no %s", policy);
		return;
	}
	if (!S_ISREG(st.st_mode) || st.st_mode & (S_IWGRP | S_IWOTH) || st.st_uid != 0) {
		doctor_found(r, MVM_CHECK_PROBLEM, "%s is not a file that is root's, and for root alone to write",
			     policy);
		doctor_remedy(r, "sudo chown root: %s && sudo chmod 644 %s", policy, policy);
		return;
	}
	if (capable == CAPABLE_NOT) {
		doctor_found(r, MVM_CHECK_WARNING,
			     "--net bridge= is root's alone, though there is %s: mvm-bridge has no capability", policy);
		doctor_remedy(r, "sudo setcap cap_net_admin+ep %.300s", *part ? part : "mvm-bridge");
		return;
	}
	doctor_found(r, MVM_CHECK_OK, "--net bridge= can be had by those whom %s names", policy);
}
