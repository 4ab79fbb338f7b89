#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "mvm/cleanup.h"
#include "net.h"

int net_loopback_up(int any_socket)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	_cleanup_fd_ int inet = -1;

	/* Families that do not know a request hand it to the device layer: one call instead of three. */
	if (any_socket >= 0 && ioctl(any_socket, SIOCSIFFLAGS, &lo) == 0)
		return 0;
	inet = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (inet < 0)
		return -errno;
	return ioctl(inet, SIOCSIFFLAGS, &lo) < 0 ? -errno : 0;
}
