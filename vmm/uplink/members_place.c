/* Who may be on a named network, and by which addresses: what needs no kernel. See members.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "lib/text.h"
#include "mvm/vmm_config.h"
#include "uplink/members.h"

#define HOST_FIRST 2U /* behind the gateway */
#define HOST_LAST  65534U /* of larger networks no more are given away */

void members_init(struct members *members, const struct uplink_request *request)
{
	members->request = request;
	members->n = 0;
	members->next = HOST_FIRST;
	for (unsigned i = 0; i < UPLINK_MEMBERS; i++)
		members->m[i].fd = members->m[i].tap = -1; /* what else is there takes memory with its first VM */
}

static bool has_end(const char *text, size_t size)
{
	return strnlen(text, size) < size;
}

bool members_check(const struct uplink_join *join)
{
	bool ok = join->version == UPLINK_VERSION && (join->kind == UPLINK_JOIN || join->kind == UPLINK_WHO) &&
		  has_end(join->name, sizeof(join->name)) && has_end(join->id, sizeof(join->id)) &&
		  join->nrules <= UPLINK_RULES && join->nnames <= UPLINK_NAMES &&
		  !(join->flags & ~(uint32_t)UPLINK_DENY) &&
		  (join->kind == UPLINK_WHO || (join->mtu >= VMM_NET_MTU_MIN && join->mtu <= VMM_NET_MTU_MAX));

	for (uint32_t i = 0; ok && i < join->nrules; i++)
		ok = (join->rules[i].family == 4 && join->rules[i].prefix <= 32) ||
		     (join->rules[i].family == 6 && join->rules[i].prefix <= 128);
	for (uint32_t i = 0; ok && i < join->nnames; i++)
		ok = has_end(join->names[i].name, sizeof(join->names[i].name));
	return ok;
}

/* ---- addresses ---- */

static bool given(const uint8_t *address, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (address[i])
			return true;
	return false;
}

static const struct uplink_member *holder_of(const struct members *members, const uint8_t *address, size_t len)
{
	for (unsigned i = 0; i < UPLINK_MEMBERS; i++) {
		const struct uplink_member *is = &members->m[i].is;

		if (members->m[i].fd >= 0 && !memcmp(len == 4 ? is->ip4 : is->ip6, address, len))
			return is;
	}
	return NULL;
}

static uint32_t last_of(unsigned bits, unsigned all)
{
	return all - bits > 16 ? HOST_LAST : (1U << (all - bits)) - 2;
}

/* Whether a VM can have it: it is in the network, and neither of the first two, nor IPv4's last. */
static bool is_possible(const uint8_t *net, unsigned bits, const uint8_t *address, size_t len)
{
	bool first = true, last = len == 4;

	for (unsigned i = 0; i < len; i++) {
		unsigned own = bits < 8 * i ? 0 : bits - 8 * i > 8 ? 8 : bits - 8 * i;
		uint8_t mask = (uint8_t)(0xff00U >> own), rest = (uint8_t)(address[i] & ~mask);

		if ((address[i] ^ net[i]) & mask)
			return false;
		first &= i == len - 1 ? rest < HOST_FIRST : !rest;
		last &= (rest | mask) == 0xff;
	}
	return !first && !last;
}

static uint32_t number4(const uint8_t net[4], const uint8_t address[4])
{
	uint32_t number = 0;

	for (unsigned i = 0; i < 4; i++)
		number = number << 8 | (uint8_t)(address[i] ^ net[i]);
	return number;
}

static int check_wanted(const struct members *members, const uint8_t *address, size_t len, struct mvm_error *err)
{
	const struct uplink_subnet *subnet = &members->request->subnet;
	const struct uplink_member *other = holder_of(members, address, len);
	const uint8_t *net = len == 4 ? subnet->net4 : subnet->net6;
	unsigned bits = len == 4 ? subnet->bits4 : subnet->bits6;
	const char *key = len == 4 ? "ip" : "ip6";
	char text[INET6_ADDRSTRLEN], of[INET6_ADDRSTRLEN];

	(void)inet_ntop(len == 4 ? AF_INET : AF_INET6, address, text, sizeof(text));
	(void)inet_ntop(len == 4 ? AF_INET : AF_INET6, net, of, sizeof(of));
	if (!bits)
		return error_set(err, EADDRNOTAVAIL, "%s=%s: this network has no IPv6: leave it out", key, text);
	if (!is_possible(net, bits, address, len))
		return error_set(err, EADDRNOTAVAIL,
				 "%s=%s: no address of a VM in %s/%u: take one of that, but the first two%s", key, text,
				 of, bits, len == 4 ? " and the last" : "");
	if (other)
		return error_set(err, EADDRINUSE, "%s=%s: taken by the VM %s: choose another, or leave it out", key,
				 text, *other->name ? other->name : other->id);
	return 0;
}

int members_place(struct members *members, const struct uplink_join *join, struct uplink_member *ret,
		  struct mvm_error *err)
{
	const struct uplink_subnet *subnet = &members->request->subnet;
	uint32_t last = last_of(subnet->bits4, 32), last6 = subnet->bits6 ? last_of(subnet->bits6, 128) : last;
	bool four = given(join->ip4, 4), six = given(join->ip6, 16);
	struct uplink_member is = { .name = "" };
	uint32_t number;
	int r = four ? check_wanted(members, join->ip4, 4, err) : 0;

	if (r == 0 && six)
		r = check_wanted(members, join->ip6, 16, err);
	if (r < 0)
		return r;
	/* One number for both families, where nothing else is wanted. */
	last = four || last6 < last ? last6 : last;
	for (uint32_t tried = 0; tried <= last; tried++) {
		number = HOST_FIRST + (members->next - HOST_FIRST + tried) % (last - HOST_FIRST + 1);
		if (tried == 0 && four && number4(subnet->net4, join->ip4) <= last)
			number = number4(subnet->net4, join->ip4);
		uplink_host4(subnet, number, is.ip4);
		uplink_host6(subnet, number, is.ip6);
		if ((four || !holder_of(members, is.ip4, 4)) &&
		    (six || !subnet->bits6 || !holder_of(members, is.ip6, 16)))
			break;
		if (tried == last)
			return error_set(err, EADDRNOTAVAIL,
					 "all its addresses are taken: make a larger one: --subnet");
	}
	if (!four && !six)
		members->next = number == last ? HOST_FIRST : number + 1;
	if (four)
		memcpy(is.ip4, join->ip4, sizeof(is.ip4));
	if (six)
		memcpy(is.ip6, join->ip6, sizeof(is.ip6));
	if (!subnet->bits6)
		memset(is.ip6, 0, sizeof(is.ip6));
	memcpy(is.mac, join->mac, sizeof(is.mac));
	memcpy(is.name, join->name, sizeof(is.name));
	memcpy(is.id, join->id, sizeof(is.id));
	*ret = is;
	return 0;
}
