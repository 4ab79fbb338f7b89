/*
 * --net: a network device of a VM, as the user described it.
 *
 * Purpose: "MODE[,KEY=VALUE…]" to a struct and back, with what was left out filled in.
 * Trust:   values come from the user; every field is checked here.
 * Returns: 0 or -errno with err.
 */
#ifndef LIB_SPEC_NET_H
#define LIB_SPEC_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mvm/mvm.h"
#include "mvm/vmm_config.h"

#define SPEC_NET_HOST 108U /* bytes, with the NUL; sockaddr_un's path */
#define SPEC_NET_TEXT 512 /* bytes of the longest text, with the NUL */
#define SPEC_NET_DNS  3U /* name servers; resolv.conf takes no more (resolv.conf(5), MAXNS) */

enum spec_net_mode {
	SPEC_NET_NONE,
	SPEC_NET_TAP, /* a tap of the host's */
	SPEC_NET_SOCKET, /* a unix stream socket of frames behind their lengths: passt's, QEMU's -netdev stream */
	SPEC_NET_USER, /* a network namespace of the VM's own, with a way out that needs no rights (uplink/uplink.h) */
	SPEC_NET_NAMED, /* a network that `mvm network create` made, of several VMs (lib/network.h) */
	SPEC_NET_BRIDGE, /* a bridge of the host's, where the VM is by addresses of its own (bridge/bridge.h) */
};

struct spec_net_address {
	uint8_t bytes[16]; /* IPv4: the first four; zeroes: none */
	uint8_t prefix; /* bits */
	uint8_t family; /* 0: none, 4 or 6 */
};

struct spec_net {
	enum spec_net_mode mode;
	char host[SPEC_NET_HOST]; /* the tap's, bridge's or network's name, or the socket's absolute path */
	uint8_t mac[6]; /* zeroes: a new one with each start */
	uint16_t mtu; /* 0: the tap's, the bridge's, UPLINK_MTU of user and named, 1500 of a socket */
	struct spec_net_address ip, ip6, gateway, gateway6, dns[SPEC_NET_DNS];
	unsigned ndns;
	/* Not the user's word, but what a named network is like: */
	struct spec_net_address route, route6; /* what the gateway leads to … */
	bool local, local6; /* … and nothing else */
};

/* Whether a network may be called so. */
bool spec_net_is_name(const char *name);

/* Whether a host of a network can have it: RFC 6890, RFC 4291 §2.5 and §2.7. */
bool spec_net_is_host(const struct spec_net_address *address);

int spec_net_parse(const char *label, const char *value, struct spec_net *ret_net, struct mvm_error *err);

/* As spec_net_parse() reads it; returns buf. */
const char *spec_net_text(const struct spec_net *net, char buf[SPEC_NET_TEXT]);

#endif
