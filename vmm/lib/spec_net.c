#include "lib/spec_net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/spec.h"
#include "lib/text.h"

#define FORM                                                                                                           \
	"write none, user, bridge=NAME, tap=NAME, socket=PATH or a network's name (mvm network ls), and behind it "    \
	",ip=ADDRESS/BITS "                                                                                            \
	",gw=ADDRESS ,ip6= ,gw6= ,dns= ,mac= or ,mtu="

static const char *const mode_names[] = { "none", "tap=", "socket=", "user", "", "bridge=" };

bool spec_net_is_name(const char *name)
{
	static const char *const modes[] = { "none", "user", "tap", "socket", "bridge", "host" };

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(name, modes[i]))
			return false;
	return spec_is_name(name);
}

/* An address of either family; `prefix`: "/BITS" must follow. */
static int parse_address(const char *label, const char *key, const char *value, bool prefix,
			 struct spec_net_address *ret, struct mvm_error *err)
{
	struct spec_net_address address = { 0 };
	const char *slash = strchr(value, '/');
	size_t len = slash ? (size_t)(slash - value) : strlen(value);
	char text[INET6_ADDRSTRLEN];
	uint64_t bits = 0;

	(void)snprintf(text, sizeof(text), "%.*s", (int)len, value);
	if (len < sizeof(text) && inet_pton(AF_INET, text, address.bytes) == 1)
		address.family = 4;
	else if (len < sizeof(text) && inet_pton(AF_INET6, text, address.bytes) == 1)
		address.family = 6;
	else
		return error_set(err, EINVAL, "%s: %s=%.60s: no IP address: write it as 10.0.0.2 or fd00::2", label,
				 key, value);
	if (prefix != (slash != NULL))
		return error_set(err, EINVAL, "%s: %s=%.60s: %s", label, key, value,
				 prefix ? "how many bits are the network's? write it as 10.0.0.2/24"
					: "an address alone is wanted, without /BITS");
	if (prefix && (text_parse_uint(slash + 1, address.family == 4 ? 32 : 128, &bits) < 0 || bits == 0))
		return error_set(err, EINVAL, "%s: %s=%.60s: a network has 1 to %u bits", label, key, value,
				 address.family == 4 ? 32U : 128U);
	address.prefix = (uint8_t)bits;
	*ret = address;
	return 0;
}

bool spec_net_is_host(const struct spec_net_address *a)
{
	const uint8_t *b = a->bytes;

	if (a->family == 4)
		return b[0] != 0 && b[0] != 127 && b[0] < 224;
	for (unsigned i = 0; i < 15; i++)
		if (b[i])
			return b[0] != 0xff && !(b[0] == 0xfe && (b[1] & 0xc0) == 0x80);
	return b[15] > 1;
}

static int set_own(const char *label, const char *key, const char *value, unsigned family, bool prefix,
		   struct spec_net_address *ret, struct mvm_error *err)
{
	int r = parse_address(label, key, value, prefix, ret, err);

	if (r < 0)
		return r;
	if (ret->family != family || !spec_net_is_host(ret))
		return error_set(err, EINVAL, "%s: %s=%.60s: no address that a host of an IPv%u network can have",
				 label, key, value, family);
	return 0;
}

static int set_gateway(const char *label, const char *key, const char *value, unsigned family,
		       struct spec_net_address *ret, struct mvm_error *err)
{
	int r = parse_address(label, key, value, false, ret, err);

	if (r < 0)
		return r;
	if (ret->family != family)
		return error_set(err, EINVAL, "%s: %s=%.60s: no IPv%u address", label, key, value, family);
	return 0;
}

static int set_dns(const char *label, const char *value, struct spec_net *net, struct mvm_error *err)
{
	if (net->ndns == SPEC_NET_DNS)
		return error_set(err, E2BIG, "%s: dns=%.60s: a guest asks at most %u name servers: leave one out",
				 label, value, SPEC_NET_DNS);
	return parse_address(label, "dns", value, false, &net->dns[net->ndns++], err);
}

static int set_mac(const char *label, const char *value, uint8_t mac[6], struct mvm_error *err)
{
	bool good = strlen(value) == 17 && strspn(value, "0123456789abcdefABCDEF:") == 17;
	uint8_t bytes[6];

	for (unsigned i = 0; good && i < 6; i++) {
		char *end;

		bytes[i] = (uint8_t)strtoul(value + 3UL * i, &end, 16);
		good = end == value + 3UL * i + 2 && *end == (i < 5 ? ':' : '\0');
	}
	if (!good || bytes[0] & 1) /* a group's: IEEE 802.3 §3.2.3 */
		return error_set(
			err, EINVAL,
			"%s: mac=%.40s: no address of a device: write six bytes as 02:00:00:00:00:01, the first even",
			label, value);
	memcpy(mac, bytes, sizeof(bytes));
	return 0;
}

static int set_mtu(const char *label, const char *value, uint16_t *ret, struct mvm_error *err)
{
	uint64_t v;

	if (text_parse_uint(value, VMM_NET_MTU_MAX, &v) < 0 || v < VMM_NET_MTU_MIN)
		return error_set(err, EINVAL, "%s: mtu=%.40s: give %u to %u bytes", label, value, VMM_NET_MTU_MIN,
				 VMM_NET_MTU_MAX);
	*ret = (uint16_t)v;
	return 0;
}

static int set_mode(const char *label, const char *item, const char *value, struct spec_net *net, struct mvm_error *err)
{
	if (!strcmp(item, "none") && !value) {
		net->mode = SPEC_NET_NONE;
	} else if (!strcmp(item, "user") && !value) {
		net->mode = SPEC_NET_USER;
	} else if (!strcmp(item, "socket") && value) {
		if (*value != '/' || strlen(value) >= sizeof(net->host))
			return error_set(err, EINVAL, "%s: socket=%.60s: give an absolute path of at most %u bytes",
					 label, value, SPEC_NET_HOST - 1);
		memcpy(net->host, value, strlen(value) + 1);
		net->mode = SPEC_NET_SOCKET;
	} else if ((!strcmp(item, "tap") || !strcmp(item, "bridge")) && value) {
		if (!*value || strlen(value) >= IFNAMSIZ || strpbrk(value, "/ :%") || !strcmp(value, ".") ||
		    !strcmp(value, ".."))
			return error_set(err, EINVAL, "%s: %s=%.40s: no name of a network device", label, item, value);
		memcpy(net->host, value, strlen(value) + 1);
		net->mode = *item == 't' ? SPEC_NET_TAP : SPEC_NET_BRIDGE;
	} else if (!value && spec_net_is_name(item)) {
		memcpy(net->host, item, strlen(item) + 1);
		net->mode = SPEC_NET_NAMED;
	} else {
		return error_set(err, EINVAL, "%s: '%.40s' is no network: " FORM, label, item);
	}
	return 0;
}

static int set_key(const char *label, const char *key, const char *value, struct spec_net *net, struct mvm_error *err)
{
	if (!value || net->mode == SPEC_NET_NONE)
		return error_set(err, EINVAL, "%s: '%.40s' means nothing there: " FORM, label, key);
	if (!strcmp(key, "ip"))
		return set_own(label, key, value, 4, net->mode != SPEC_NET_NAMED, &net->ip, err);
	if (!strcmp(key, "ip6"))
		return set_own(label, key, value, 6, net->mode != SPEC_NET_NAMED, &net->ip6, err);
	if (!strcmp(key, "gw"))
		return set_gateway(label, key, value, 4, &net->gateway, err);
	if (!strcmp(key, "gw6"))
		return set_gateway(label, key, value, 6, &net->gateway6, err);
	if (!strcmp(key, "dns"))
		return set_dns(label, value, net, err);
	if (!strcmp(key, "mac"))
		return set_mac(label, value, net->mac, err);
	if (!strcmp(key, "mtu"))
		return set_mtu(label, value, &net->mtu, err);
	return error_set(err, EINVAL, "%s: '%.40s' is unknown: " FORM, label, key);
}

static int check_whole(const char *label, const struct spec_net *net, struct mvm_error *err)
{
	if (net->mode == SPEC_NET_USER && (net->ip.family || net->ip6.family))
		return error_set(err, EINVAL, "%s: user: its addresses are given by mvm: leave ip= and ip6= out",
				 label);
	if (net->mode == SPEC_NET_NAMED && (net->gateway.family || net->gateway6.family || net->ndns))
		return error_set(err, EINVAL,
				 "%s: %s: the network is its gateway and its name server: leave gw=, gw6= and dns= out",
				 label, net->host);
	if (net->mode == SPEC_NET_BRIDGE && !net->ip.family && !net->ip6.family)
		return error_set(err, EINVAL,
				 "%s: bridge=%s: which address does the VM have there? add ip=ADDRESS/BITS or ip6=: no "
				 "DHCP and no router's word gets through to it",
				 label, net->host);
	if (net->mode == SPEC_NET_BRIDGE && (net->ip.prefix > 31 || net->ip6.prefix > 127))
		return error_set(
			err, EINVAL,
			"%s: bridge=%s: how many bits are the network's that the bridge is? /%u is one address "
			"alone",
			label, net->host, net->ip.prefix > 31 ? net->ip.prefix : net->ip6.prefix);
	if (net->gateway.family && !net->ip.family)
		return error_set(err, EINVAL, "%s: gw= without ip=: give the VM's own address too", label);
	if (net->gateway6.family && !net->ip6.family)
		return error_set(err, EINVAL, "%s: gw6= without ip6=: give the VM's own address too", label);
	if (net->ip6.family && net->mtu && net->mtu < 1280)
		return error_set(err, EINVAL, "%s: mtu=%u: IPv6 wants 1280 or more (RFC 8200)", label, net->mtu);
	return 0;
}

int spec_net_parse(const char *label, const char *value, struct spec_net *ret_net, struct mvm_error *err)
{
	struct spec_net net = { 0 };
	char text[SPEC_NET_TEXT], *rest = text, *item;
	bool first = true;
	int r = 0;

	if (strlen(value) >= sizeof(text))
		return error_set(err, E2BIG, "%s: '%.40s…' is too long: " FORM, label, value);
	memcpy(text, value, strlen(value) + 1);
	while (r == 0 && (item = strsep(&rest, ","))) {
		char *equals = strchr(item, '=');

		if (equals)
			*equals++ = '\0';
		r = first ? set_mode(label, item, equals, &net, err) : set_key(label, item, equals, &net, err);
		first = false;
	}
	if (r == 0)
		r = check_whole(label, &net, err);
	if (r == 0)
		*ret_net = net;
	return r;
}

static size_t put_address(char *buf, size_t at, const char *key, const struct spec_net_address *a)
{
	char text[INET6_ADDRSTRLEN], bits[8] = "";

	if (!a->family)
		return at;
	(void)inet_ntop(a->family == 4 ? AF_INET : AF_INET6, a->bytes, text, sizeof(text));
	if (a->prefix)
		(void)snprintf(bits, sizeof(bits), "/%u", a->prefix);
	return at + (size_t)snprintf(buf + at, SPEC_NET_TEXT - at, ",%s=%s%s", key, text, bits);
}

const char *spec_net_text(const struct spec_net *net, char buf[SPEC_NET_TEXT])
{
	static const uint8_t none[6];
	const uint8_t *m = net->mac;
	size_t at = (size_t)snprintf(buf, SPEC_NET_TEXT, "%s%s", mode_names[net->mode], net->host);

	at = put_address(buf, at, "ip", &net->ip);
	at = put_address(buf, at, "gw", &net->gateway);
	at = put_address(buf, at, "ip6", &net->ip6);
	at = put_address(buf, at, "gw6", &net->gateway6);
	for (unsigned i = 0; i < net->ndns; i++)
		at = put_address(buf, at, "dns", &net->dns[i]);
	if (memcmp(m, none, sizeof(none)) != 0)
		at += (size_t)snprintf(buf + at, SPEC_NET_TEXT - at, ",mac=%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1],
				       m[2], m[3], m[4], m[5]);
	if (net->mtu)
		(void)snprintf(buf + at, SPEC_NET_TEXT - at, ",mtu=%u", net->mtu);
	return buf;
}
