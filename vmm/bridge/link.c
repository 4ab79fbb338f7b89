#include "bridge/link.h"

#include <errno.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

/* Since Linux 6.3: IFLA_BRPORT_MCAST_MAX_GROUPS, which older headers lack. */
#define PORT_MAX_GROUPS (IFLA_BRPORT_LOCKED + 3)
#define GROUPS          64U /* of multicast that a port may have joined: the bridge's memory of them is for all ports */

#define ANSWER_MAX 32768U /* what the kernel puts into one datagram, at most */

struct message {
	struct nlmsghdr hdr;
	uint8_t rest[496];
};

static void *reserve(struct message *m, size_t len)
{
	uint8_t *at = (uint8_t *)m + NLMSG_ALIGN(m->hdr.nlmsg_len);

	m->hdr.nlmsg_len = NLMSG_ALIGN(m->hdr.nlmsg_len) + (uint32_t)RTA_ALIGN(len);
	return at;
}

static struct rtattr *put(struct message *m, unsigned type, const void *data, size_t len)
{
	struct rtattr *attr = reserve(m, RTA_LENGTH(len));

	attr->rta_type = (unsigned short)type;
	attr->rta_len = (unsigned short)RTA_LENGTH(len);
	if (len)
		memcpy(RTA_DATA(attr), data, len);
	return attr;
}

static void put_u32(struct message *m, unsigned type, uint32_t value)
{
	(void)put(m, type, &value, sizeof(value));
}

static void put_u8(struct message *m, unsigned type, uint8_t value)
{
	(void)put(m, type, &value, sizeof(value));
}

static void put_text(struct message *m, unsigned type, const char *text)
{
	(void)put(m, type, text, strlen(text) + 1);
}

/* All that was put since is inside of it. */
static void end(const struct message *m, struct rtattr *nest)
{
	nest->rta_len = (unsigned short)((const uint8_t *)m + m->hdr.nlmsg_len - (uint8_t *)nest);
}

static void begin(struct message *m, unsigned type, unsigned flags, const void *header, size_t len)
{
	*m = (struct message){ .hdr = { .nlmsg_len = NLMSG_LENGTH(0),
					.nlmsg_type = (uint16_t)type,
					.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags) } };
	memcpy(reserve(m, len), header, len);
}

struct found {
	int index;
	uint32_t mtu;
	uint8_t address[6];
	char kind[16];
};

static void read_link(struct nlmsghdr *hdr, struct found *ret);

/* An answer, up to the kernel's word on the request; of a link that it tells of, `ret` where that is wanted. */
static int receive(int fd, struct found *ret)
{
	static union {
		struct nlmsghdr hdr;
		uint8_t bytes[ANSWER_MAX];
	} answer;

	for (;;) {
		ssize_t n = recv(fd, &answer, sizeof(answer), 0);
		size_t left = n < 0 ? 0 : (size_t)n;

		if (n < 0 && errno != EINTR)
			return -errno;
		for (struct nlmsghdr *hdr = &answer.hdr; NLMSG_OK(hdr, left); hdr = NLMSG_NEXT(hdr, left)) {
			const struct nlmsgerr *error = NLMSG_DATA(hdr);

			if (hdr->nlmsg_type == NLMSG_ERROR)
				return hdr->nlmsg_len < NLMSG_LENGTH(sizeof(*error)) ? -EIO : error->error;
			if (hdr->nlmsg_type == RTM_NEWLINK && ret)
				read_link(hdr, ret);
		}
	}
}

static int ask(int fd, struct message *m, struct found *ret)
{
	m->hdr.nlmsg_flags |= NLM_F_ACK;
	return send(fd, m, m->hdr.nlmsg_len, 0) < 0 ? -errno : receive(fd, ret);
}

/* ---- what there is ---- */

static void read_text(struct rtattr *attr, char *text, size_t size)
{
	size_t len = RTA_PAYLOAD(attr);

	len = len < size ? len : size - 1;
	memcpy(text, RTA_DATA(attr), len);
	text[len] = '\0';
}

static unsigned type_of(struct rtattr *attr)
{
	return attr->rta_type & (unsigned)NLA_TYPE_MASK;
}

static void read_kind(struct rtattr *info, struct found *ret)
{
	size_t left = RTA_PAYLOAD(info);

	for (struct rtattr *attr = RTA_DATA(info); RTA_OK(attr, left); attr = RTA_NEXT(attr, left))
		if (type_of(attr) == IFLA_INFO_KIND)
			read_text(attr, ret->kind, sizeof(ret->kind));
}

static void read_link(struct nlmsghdr *hdr, struct found *ret)
{
	struct ifinfomsg *link = NLMSG_DATA(hdr);
	struct rtattr *attr = IFLA_RTA(link);
	size_t left;

	if (hdr->nlmsg_len < NLMSG_LENGTH(sizeof(*link)))
		return;
	*ret = (struct found){ .index = link->ifi_index };
	left = hdr->nlmsg_len - NLMSG_LENGTH(sizeof(*link));
	for (; RTA_OK(attr, left); attr = RTA_NEXT(attr, left)) {
		unsigned type = type_of(attr);

		if (type == IFLA_MTU && RTA_PAYLOAD(attr) >= sizeof(ret->mtu))
			memcpy(&ret->mtu, RTA_DATA(attr), sizeof(ret->mtu));
		else if (type == IFLA_ADDRESS && RTA_PAYLOAD(attr) == sizeof(ret->address))
			memcpy(ret->address, RTA_DATA(attr), sizeof(ret->address));
		else if (type == IFLA_LINKINFO)
			read_kind(attr, ret);
	}
}

static int find(int fd, const char *name, struct found *ret)
{
	const struct ifinfomsg any = { .ifi_family = AF_UNSPEC };
	struct message m;
	int r;

	begin(&m, RTM_GETLINK, 0, &any, sizeof(any));
	put_text(&m, IFLA_IFNAME, name);
	*ret = (struct found){ .index = 0 };
	r = ask(fd, &m, ret);
	return r == 0 && !ret->index ? -ENODEV : r;
}

int link_find_bridge(int fd, const char *name, struct link_bridge *ret)
{
	struct found found;
	int r = find(fd, name, &found);

	if (r < 0)
		return r;
	if (strcmp(found.kind, "bridge") != 0)
		return -EMEDIUMTYPE;
	*ret = (struct link_bridge){ .index = found.index, .mtu = found.mtu };
	return 0;
}

/* ---- what is made ---- */

static void put_inner(struct message *m, uint32_t mtu, const uint8_t mac[6], int namespace)
{
	const struct ifinfomsg none = { .ifi_family = AF_UNSPEC };
	struct rtattr *info, *data, *peer;

	info = put(m, IFLA_LINKINFO, NULL, 0);
	put_text(m, IFLA_INFO_KIND, "veth");
	data = put(m, IFLA_INFO_DATA, NULL, 0);
	peer = put(m, VETH_INFO_PEER, &none, sizeof(none));
	put_text(m, IFLA_IFNAME, BRIDGE_INNER);
	(void)put(m, IFLA_ADDRESS, mac, 6);
	put_u32(m, IFLA_MTU, mtu);
	put_u32(m, IFLA_NET_NS_FD, (uint32_t) namespace);
	end(m, peer);
	end(m, data);
	end(m, info);
}

int link_make(int fd, const struct link_bridge *bridge, const char *name, const uint8_t mac[6], int namespace,
	      int *ret_index)
{
	const struct ifinfomsg none = { .ifi_family = AF_UNSPEC };
	uint8_t own[6] = { 0 };
	struct found found;
	struct message m;
	int r;

	/* A bridge without an address of its own takes the lowest of its ports': not this one's, while there is another. */
	if (getrandom(own, sizeof(own), 0) != (ssize_t)sizeof(own))
		return -EIO;
	own[0] = 0xfe;
	own[1] = 0xff;
	begin(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &none, sizeof(none));
	put_text(&m, IFLA_IFNAME, name);
	(void)put(&m, IFLA_ADDRESS, own, sizeof(own));
	put_u32(&m, IFLA_MTU, bridge->mtu);
	put_u32(&m, IFLA_MASTER, (uint32_t)bridge->index);
	put_inner(&m, bridge->mtu, mac, namespace);
	r = ask(fd, &m, NULL);
	if (r == -EEXIST) {
		r = find(fd, name, &found);
		return r == 0 ? -EEXIST : r == -ENODEV ? -ENOTUNIQ : r;
	}
	if (r == 0)
		r = find(fd, name, &found);
	/* Had we been stopped, ours may be gone, and another of his have the name: he would bind two addresses to that. */
	if (r == 0 && memcmp(found.address, own, sizeof(own)) != 0)
		r = -ENODEV;
	if (r == 0)
		*ret_index = found.index;
	return r;
}

int link_bind(int fd, int index, const uint8_t mac[6], bool isolated)
{
	const struct ifinfomsg port = { .ifi_family = AF_BRIDGE, .ifi_index = index };
	const struct ndmsg where = {
		.ndm_family = AF_BRIDGE,
		.ndm_ifindex = index,
		.ndm_state = NUD_NOARP,
		/* without the latter one frame from it by another port would move even a static entry (Linux 4.20) */
		.ndm_flags = NTF_MASTER | NTF_STICKY,
	};
	struct rtattr *info;
	struct message m;
	int r;

	begin(&m, RTM_SETLINK, 0, &port, sizeof(port));
	info = put(&m, IFLA_PROTINFO | NLA_F_NESTED, NULL, 0);
	put_u8(&m, IFLA_BRPORT_GUARD, 1);
	put_u8(&m, IFLA_BRPORT_PROTECT, 1); /* never the way to the root */
	put_u8(&m, IFLA_BRPORT_FAST_LEAVE, 1);
	put_u8(&m, IFLA_BRPORT_MULTICAST_ROUTER, 0); /* never: MDB_RTR_TYPE_DISABLED */
	put_u8(&m, IFLA_BRPORT_LEARNING, 0);
	put_u8(&m, IFLA_BRPORT_UNICAST_FLOOD, 0);
	put_u8(&m, IFLA_BRPORT_ISOLATED, isolated);
	put_u8(&m, IFLA_BRPORT_LOCKED, 1); /* a kernel before 5.18 passes over it, as one before 6.3 over this: */
	put_u32(&m, PORT_MAX_GROUPS, GROUPS);
	end(&m, info);
	r = ask(fd, &m, NULL);
	if (r < 0)
		return r;
	begin(&m, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL, &where, sizeof(where));
	(void)put(&m, NDA_LLADDR, mac, 6);
	return ask(fd, &m, NULL);
}
