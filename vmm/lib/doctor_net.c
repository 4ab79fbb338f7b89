/* Checks of what --net user and --proxy need: two programs and a device. Nothing else of mvm needs them. */
#include <errno.h>
#include <string.h>

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
