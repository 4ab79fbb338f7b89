/*
 * Between a supervisor and mvm-bridge, the helper that makes a VM's network namespace a port of a bridge of the host's
 * (--net bridge=): one request with the namespace's descriptor, one answer.
 *
 * Purpose: fixed-layout structs on a SOCK_SEQPACKET socket, which is the helper's descriptor 0.
 * Trust:   the request is anybody's: the helper may have CAP_NET_ADMIN, and whoever may execute it may write the request.
 *          bridge_request_read() takes any bytes. The answer is of a program that root installed.
 */
#ifndef BRIDGE_BRIDGE_H
#define BRIDGE_BRIDGE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BRIDGE_VERSION 1U
#define BRIDGE_FD      0 /* the socket, in mvm-bridge */
#define BRIDGE_FOLDER  "/etc/mvm"
#define BRIDGE_POLICY  "bridge.conf" /* in there: mvm-bridge.conf(5) */
#define BRIDGE_DEVICE  16U /* bytes of a device's name, with the NUL: IFNAMSIZ */
#define BRIDGE_TEXT    400U
#define BRIDGE_INNER   "out0" /* the link's end in the VM's namespace: UPLINK_OUT */
#define BRIDGE_MAC                                                                                                     \
	{                                                                                                              \
		0x0e, 0x6d, 0x76                                                                                       \
	} /* what the device addresses begin with that ordinary users may have: mvm's own */
#define BRIDGE_MAC_TXT "0e:6d:76"
#define BRIDGE_SLOTS   (36U * 36U) /* that a port's name can tell apart */

struct bridge_request {
	uint32_t version;
	char bridge[BRIDGE_DEVICE]; /* filled up with zeroes */
	uint8_t mac[6]; /* the guest's, and so the inner end's */
	uint8_t reserved[2]; /* zeroes */
};

_Static_assert(sizeof(struct bridge_request) == 28, "wire");

struct bridge_answer {
	uint32_t version;
	int32_t code; /* 0, or errno with text */
	uint32_t mtu; /* the bridge's, and so that of both ends */
	char port[BRIDGE_DEVICE]; /* the outer end */
	char text[BRIDGE_TEXT];
};

/* Whether the kernel could have a device of that name. */
bool bridge_is_device(const char name[BRIDGE_DEVICE]);

/*
 * A request of `size` bytes. `root`: the caller may have any device address, also one of another machine's; others those
 * alone that begin with BRIDGE_MAC. NULL, or what is wrong with it.
 */
const char *bridge_request_read(const void *bytes, size_t size, bool root, struct bridge_request *ret);

/*
 * The name of a user's port of a bridge, `slot` of BRIDGE_SLOTS: "mv", and in base 36 seven digits of the uid, four of the
 * bridge's index, two of the slot: all that a name has room for, and no other user's. Of two bridges whose indices are 36^4
 * apart his ports share the slots: he has fewer then, never more. Returns buf.
 */
const char *bridge_port_name(uint32_t uid, int bridge, unsigned slot, char buf[BRIDGE_DEVICE]);

#endif
