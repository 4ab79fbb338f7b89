#include "uplink/members.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/text.h"
#include "mvm/cleanup.h"
#include "rtnl.h"
#include "uplink/nfnl.h"
#include "uplink/reset.h"
#include "uplink/rules.h"

/* ---- come and go ---- */

static int make(struct member *m, const struct holder *h, unsigned slot, struct mvm_error *err)
{
	_cleanup_free_ char *rules = rules_join_text(&h->request, &h->limits, &m->join, &m->is, slot);
	char device[16];
	int r;

	(void)snprintf(device, sizeof(device), "vm%u", slot);
	if (!rules)
		return error_set(err, ENOMEM, "rules: out of memory");
	r = space_tap(h, device, m->join.mtu, &m->tap, &m->index, err);
	if (r < 0)
		return r;
	r = rtnl_add_route(h->route, m->index, AF_INET, m->is.ip4, 32, NULL);
	if (r == 0 && h->request.subnet.bits6)
		r = rtnl_add_route(h->route, m->index, AF_INET6, m->is.ip6, 128, NULL);
	if (r < 0)
		return error_set(err, -r, "its route: %s", strerror(-r));
	return space_nft(h, rules, err);
}

/* The device goes though the VMM may still hold it. */
static int remove_tap(struct member *m, const struct holder *h)
{
	int r = m->tap >= 0 ? rtnl_link_delete(h->route, m->index) : 0;

	cleanup_fd(&m->tap);
	m->tap = -1;
	return r;
}

int members_join(struct members *members, struct holder *h, int fd, const struct uplink_join *join,
		 struct mvm_error *err)
{
	unsigned slot = 0;
	struct member *m;
	int r;

	while (slot < UPLINK_MEMBERS && (members->m[slot].fd >= 0 || members->m[slot].lost))
		slot++;
	if (slot == UPLINK_MEMBERS)
		return error_set(err, EUSERS, "it has %u VMs, and takes no more: make another", members->n);
	m = &members->m[slot];
	*m = (struct member){ .fd = -1, .tap = -1, .join = *join };
	r = members_place(members, join, &m->is, err);
	if (r == 0)
		r = make(m, h, slot, err);
	if (r < 0) {
		m->lost = remove_tap(m, h) < 0;
		return r;
	}
	m->fd = fd;
	members->n++;
	return (int)slot;
}

#define RESETS_AT_ONCE 128U

/*
 * What leads out ends for pasta, too. The entry is still there, so that its port is nobody else's; what cannot be sent ends
 * later.
 */
struct resets {
	const struct holder *h;
	unsigned sent;
};

static void reset(void *arg, const struct reset_ends *back, size_t len)
{
	struct resets *resets = arg;
	const struct holder *h = resets->h;
	struct sockaddr_in four = { .sin_family = AF_INET };
	struct sockaddr_in6 six = { .sin6_family = AF_INET6 };
	struct reset_ends ends = { .from_port = back->to_port, .to_port = back->from_port };
	uint8_t own[16], packet[RESET_MAX];
	size_t n;

	(void)inet_pton(len == 4 ? AF_INET : AF_INET6, len == 4 ? UPLINK_OWN4 : UPLINK_OWN6, own);
	if (back->protocol != IPPROTO_TCP || memcmp(back->to, own, len) != 0)
		return;
	memcpy(ends.from, back->to, len);
	memcpy(ends.to, back->from, len);
	memcpy(&four.sin_addr, ends.to, sizeof(four.sin_addr));
	memcpy(&six.sin6_addr, ends.to, sizeof(six.sin6_addr));
	n = reset_packet(&ends, len, packet);
	if (++resets->sent % RESETS_AT_ONCE == 0) /* pasta's link holds 500 packets, and drops what is more */
		(void)poll(NULL, 0, 1);
	(void)sendto(h->raw[len == 4 ? 0 : 1], packet, n, MSG_DONTWAIT, len == 4 ? (void *)&four : (void *)&six,
		     len == 4 ? sizeof(four) : sizeof(six));
}

/* Until the rules are gone, and the tap behind them, what is not in them is dropped. */
void members_leave(struct members *members, struct holder *h, unsigned slot)
{
	struct member *m = &members->m[slot];
	_cleanup_free_ char *rules = rules_leave_text(&h->request, &m->join, slot);
	struct resets resets = { .h = h };
	struct mvm_error err;

	m->lost = !rules || space_nft(h, rules, &err) < 0;
	m->lost |= remove_tap(m, h) < 0;
	(void)nfnl_forget(h->nft, m->is.ip4, sizeof(m->is.ip4), reset,
			  &resets); /* steward() found that it can be done */
	if (h->request.subnet.bits6)
		(void)nfnl_forget(h->nft, m->is.ip6, sizeof(m->is.ip6), reset, &resets);
	cleanup_fd(&m->fd);
	m->fd = -1;
	members->n--;
}

/* ---- names ---- */

void members_say(const struct members *members, unsigned slot, struct names_member *ret)
{
	const struct member *m = &members->m[slot];
	char name[DNS_NAME];

	memset(ret, 0, sizeof(*ret));
	ret->slot = slot;
	if (m->fd < 0)
		return;
	ret->used = 1;
	ret->deny = m->join.flags & UPLINK_DENY;
	memcpy(ret->ip4, m->is.ip4, sizeof(ret->ip4));
	memcpy(ret->ip6, m->is.ip6, sizeof(ret->ip6));
	if (dns_name(m->is.name, name) && strlen(name) < sizeof(ret->name))
		memcpy(ret->name, name, strlen(name) + 1);
	ret->nnames = m->join.nnames;
	memcpy(ret->names, m->join.names, sizeof(ret->names));
}

bool members_names(struct members *members, unsigned slot, struct names_of *ret)
{
	struct member *m;

	if (slot >= UPLINK_MEMBERS || members->m[slot].fd < 0)
		return false;
	m = &members->m[slot];
	*ret = (struct names_of){ .names = m->join.names, .nnames = m->join.nnames, .said = &m->said, .fd = m->fd };
	(void)rules_of(slot, ret->of);
	m->dirty = true;
	return true;
}
