#include "lib/net_proxy.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/fdpass.h"
#include "mvm/cleanup.h"

/* Of programs some read the one spelling, some the other. socks5h: names are the proxy's to resolve. */
#define WAITING_BYTES 8192 /* some ten connections; the kernel counts its own for each */
#define HTTP          "http://127.0.0.1:3128"
#define SOCKS         "socks5h://127.0.0.1:3128"
#define HERE          "localhost,127.0.0.1,::1"

_Static_assert(NET_PROXY_PORT == 3128, "as it is written here");

const char *const net_proxy_environment[] = {
	"http_proxy=" HTTP,  "https_proxy=" HTTP, "HTTP_PROXY=" HTTP,
	"HTTPS_PROXY=" HTTP, "all_proxy=" SOCKS,  "ALL_PROXY=" SOCKS,
	"no_proxy=" HERE,    "NO_PROXY=" HERE,    NULL,
};

void net_proxy_init(struct net_proxy *proxy)
{
	*proxy = (struct net_proxy){ .fd = -1 };
}

int net_proxy_open(struct net_proxy *proxy, int ret_theirs[UPLINK_FDS])
{
	_cleanup_fd_ int memory = memfd_create("mvm-proxy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *map = MAP_FAILED;
	int pair[2];

	/* Of a fixed size: what its writer could cut off while we read it would end us. */
	if (memory >= 0 && fchmod(memory, 0600) == 0 && ftruncate(memory, sizeof(struct uplink_proxied)) == 0 &&
	    fcntl(memory, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW) == 0)
		map = mmap(NULL, sizeof(struct uplink_proxied), PROT_READ, MAP_SHARED, memory, 0);
	if (map == MAP_FAILED)
		return -errno;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		int r = -errno;

		(void)munmap(map, sizeof(struct uplink_proxied));
		return r;
	}
	/* What waits there are descriptors in flight, which the kernel counts for each user. */
	(void)setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &(int){ WAITING_BYTES }, sizeof(int));
	proxy->counted = map;
	proxy->fd = pair[0];
	ret_theirs[0] = pair[1];
	ret_theirs[1] = take_fd(&memory);
	return 0;
}

void net_proxy_close(struct net_proxy *proxy)
{
	cleanup_fd(&proxy->fd);
	if (proxy->counted)
		(void)munmap((void *)(uintptr_t)proxy->counted, sizeof(*proxy->counted));
	net_proxy_init(proxy);
}

int net_proxy_dial(void *arg)
{
	const struct net_proxy *proxy = arg;
	_cleanup_fd_ int ours = -1, theirs = -1;
	int pair[2], r;

	if (proxy->fd < 0)
		return -ECONNREFUSED;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -errno;
	ours = pair[0];
	theirs = pair[1];
	/* A proxy that has as many as it takes leaves some in its queue; then there is no room. */
	r = fdpass_send(proxy->fd, "c", 1, &theirs, 1, MSG_DONTWAIT);
	return r < 0 ? r : take_fd(&ours);
}

void net_proxy_counted(const struct net_proxy *proxy, struct uplink_proxied *ret)
{
	*ret = (struct uplink_proxied){ 0 };
	if (!proxy->counted)
		return;
	ret->opened = __atomic_load_n(&proxy->counted->opened, __ATOMIC_RELAXED);
	ret->refused = __atomic_load_n(&proxy->counted->refused, __ATOMIC_RELAXED);
	ret->failed = __atomic_load_n(&proxy->counted->failed, __ATOMIC_RELAXED);
	ret->from_guest_bytes = __atomic_load_n(&proxy->counted->from_guest_bytes, __ATOMIC_RELAXED);
	ret->to_guest_bytes = __atomic_load_n(&proxy->counted->to_guest_bytes, __ATOMIC_RELAXED);
}
