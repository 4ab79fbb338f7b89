/* Named networks: made, removed, shown. See network.h. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/net_user_host.h"
#include "lib/network.h"
#include "lib/sized.h"
#include "lib/spec_net.h"
#include "lib/state_dir.h"
#include "lib/text.h"
#include "mvm/cleanup.h"
#include "uplink/dns.h"

#define NETWORKS_MAX 4096
#define POOL         "10.209" /* where a network without --subnet is: a /24 of these */
#define BITS4_LEAST  8U
#define BITS4_MOST   30U
#define BITS6_LEAST  48U
#define BITS6_MOST   126U
#define NAMED        8U /* VMs in an error */

/* ---- subnets ---- */

static struct uplink_rule rule4(const struct uplink_subnet *subnet)
{
	struct uplink_rule rule = { .family = 4, .prefix = subnet->bits4 };

	memcpy(rule.address, subnet->net4, sizeof(subnet->net4));
	return rule;
}

static struct uplink_rule rule6(const struct uplink_subnet *subnet)
{
	struct uplink_rule rule = { .family = 6, .prefix = subnet->bits6 };

	memcpy(rule.address, subnet->net6, sizeof(subnet->net6));
	return rule;
}

static bool is_in(const uint8_t *address, unsigned bits, int family, const char *net, unsigned net_bits)
{
	uint8_t bytes[16];

	(void)inet_pton(family, net, bytes);
	for (unsigned bit = 0; bit < net_bits; bit++)
		if ((address[bit / 8] ^ bytes[bit / 8]) & 0x80 >> bit % 8)
			return false;
	return bits >= net_bits;
}

/* What is nobody's on the internet, nor what the way out is made of (uplink.h). */
static bool may_be(const uint8_t *net, unsigned bits, unsigned family)
{
	if (family == 4)
		return is_in(net, bits, AF_INET, "10.0.0.0", 8) || is_in(net, bits, AF_INET, "172.16.0.0", 12) ||
		       is_in(net, bits, AF_INET, "192.168.0.0", 16) || is_in(net, bits, AF_INET, "100.64.0.0", 10);
	return is_in(net, bits, AF_INET6, "fc00::", 7) && !is_in(net, bits, AF_INET6, "fd6e:82a4:17c9::", 48);
}

int network_parse_subnet(const char *label, const char *text, unsigned family, struct uplink_subnet *ret,
			 struct mvm_error *err)
{
	unsigned least = family == 4 ? BITS4_LEAST : BITS6_LEAST, most = family == 4 ? BITS4_MOST : BITS6_MOST;
	const char *slash = strchr(text, '/'), *kind = family == 4 ? "IPv4" : "IPv6";
	char address[INET6_ADDRSTRLEN], net[INET6_ADDRSTRLEN];
	uint8_t bytes[16] = { 0 }, own[16];
	uint64_t bits = 0;

	(void)snprintf(address, sizeof(address), "%.*s", slash ? (int)(slash - text) : (int)strlen(text), text);
	if (!slash || (size_t)(slash - text) >= sizeof(address) ||
	    inet_pton(family == 4 ? AF_INET : AF_INET6, address, bytes) != 1 ||
	    text_parse_uint(slash + 1, most, &bits) < 0 || bits < least)
		return error_set(err, EINVAL, "%s%.60s: no %s network of %u to %u bits: write it as %s", label, text,
				 kind, least, most, family == 4 ? "10.1.2.0/24" : "fd12:3456:789a::/64");
	memcpy(own, bytes, sizeof(own));
	for (unsigned bit = (unsigned)bits; bit < (family == 4 ? 32U : 128U); bit++)
		own[bit / 8] &= (uint8_t) ~(0x80U >> bit % 8);
	(void)inet_ntop(family == 4 ? AF_INET : AF_INET6, own, net, sizeof(net));
	if (memcmp(own, bytes, sizeof(own)) != 0)
		return error_set(err, EINVAL, "%s%.60s: that is an address in a network: write %s/%u", label, text, net,
				 (unsigned)bits);
	if (!may_be(own, (unsigned)bits, family))
		return error_set(err, EINVAL, "%s%.60s: not private: take one in %s", label, text,
				 family == 4 ? "10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10"
					     : "fc00::/7, but not in fd6e:82a4:17c9::/48");
	if (family == 4) {
		memcpy(ret->net4, own, sizeof(ret->net4));
		ret->bits4 = (uint8_t)bits;
	} else {
		memcpy(ret->net6, own, sizeof(ret->net6));
		ret->bits6 = (uint8_t)bits;
	}
	return 0;
}

static const char *subnet_text(const struct uplink_rule *net, char buf[64])
{
	char address[INET6_ADDRSTRLEN];

	(void)inet_ntop(net->family == 4 ? AF_INET : AF_INET6, net->address, address, sizeof(address));
	(void)snprintf(buf, 64, "%s/%u", address, net->prefix);
	return buf;
}

/* ---- all of them ---- */

/* Calls each() with every name in the folder, until it returns other than 0. */
static int each_name(int folder, int (*each)(void *arg, int folder, const char *name), void *arg)
{
	int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), left = NETWORKS_MAX, r = 0;
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!stream) {
		cleanup_fd(&fd);
		return -errno;
	}
	while (r == 0 && left-- && (entry = readdir(stream))) {
		size_t len = strlen(entry->d_name);

		if (len <= 5 || strcmp(entry->d_name + len - 5, ".json") != 0)
			continue;
		entry->d_name[len - 5] = '\0';
		if (spec_net_is_name(entry->d_name))
			r = each(arg, folder, entry->d_name);
	}
	(void)closedir(stream);
	return r;
}

struct clash {
	const struct uplink_rule *net;
	char with[UPLINK_ID + 80];
};

static int compare(void *arg, int folder, const char *name)
{
	struct clash *clash = arg;
	struct uplink_rule other;
	struct network network;
	char text[64];

	if (network_read(folder, name, &network, NULL) < 0)
		return 0;
	other = clash->net->family == 4 ? rule4(&network.subnet) : rule6(&network.subnet);
	if ((clash->net->family == 6 && !network.subnet.bits6) || !net_user_host_overlap(clash->net, &other))
		return 0;
	(void)snprintf(clash->with, sizeof(clash->with), "%s of the network %s", subnet_text(&other, text), name);
	return 1;
}

/* With what it overlaps: of the host's, or another network; false: with nothing. */
static bool overlaps(int folder, const struct uplink_rule *net, char with[UPLINK_ID + 80])
{
	struct clash clash = { .net = net };
	char route[NET_USER_HOST_TEXT];

	if (net_user_host_overlaps("/proc/net", net, route)) {
		(void)snprintf(with, UPLINK_ID + 80, "this host's route to %s", route);
		return true;
	}
	if (each_name(folder, compare, &clash) <= 0)
		return false;
	memcpy(with, clash.with, sizeof(clash.with));
	return true;
}

static int check(int folder, const char *flag, struct uplink_rule net, struct mvm_error *err)
{
	char with[UPLINK_ID + 80], text[64];

	if (!overlaps(folder, &net, with))
		return 0;
	return error_set(err, EADDRINUSE, "%s%s: overlaps with %s: choose another", flag, subnet_text(&net, text),
			 with);
}

static int choose4(int folder, struct uplink_subnet *ret, struct mvm_error *err)
{
	char text[32], with[UPLINK_ID + 80];

	for (unsigned i = 0; i < 256; i++) {
		struct uplink_rule net;

		(void)snprintf(text, sizeof(text), POOL ".%u.0/24", i);
		(void)network_parse_subnet("", text, 4, ret, NULL);
		net = rule4(ret);
		if (!overlaps(folder, &net, with))
			return 0;
	}
	return error_set(err, EADDRINUSE, "network: all of " POOL ".0.0/16 is taken: name one: --subnet");
}

/* RFC 4193 §3.2: 40 random bits, and a subnet of 0. A host without IPv6 has networks without it. */
static int choose6(struct uplink_subnet *ret, struct mvm_error *err)
{
	if (access("/proc/sys/net/ipv6", F_OK) < 0)
		return 0;
	memset(ret->net6, 0, sizeof(ret->net6));
	do {
		if (getrandom(ret->net6 + 1, 5, 0) != 5)
			return error_set(err, EIO, "network: no random bytes for its IPv6 addresses");
		ret->net6[0] = 0xfd;
	} while (!may_be(ret->net6, 64, 6));
	ret->bits6 = 64;
	return 0;
}

/* ---- made and removed ---- */

static char *file_text(const struct network *network)
{
	json_object *object = json_object_new_object();
	struct uplink_rule net4 = rule4(&network->subnet), net6 = rule6(&network->subnet);
	const char *text;
	char buf[64], *copy;

	(void)json_object_object_add(object, "version", json_object_new_int(1));
	(void)json_object_object_add(object, "subnet", json_object_new_string(subnet_text(&net4, buf)));
	if (network->subnet.bits6)
		(void)json_object_object_add(object, "subnet6", json_object_new_string(subnet_text(&net6, buf)));
	(void)json_object_object_add(object, "internal", json_object_new_boolean(network->internal));
	(void)json_object_object_add(object, "isolated", json_object_new_boolean(network->isolated));
	text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	copy = text ? strdup(text) : NULL;
	json_object_put(object);
	return copy;
}

static int write_file(int folder, const struct network *network, struct mvm_error *err)
{
	struct state_dir dir = { .parent_fd = -1, .fd = folder, .lock_fd = -1, .id = "networks" };
	char file[UPLINK_ID + 8], *text;
	int r;

	(void)snprintf(file, sizeof(file), "%s.json", network->name);
	if (faccessat(folder, file, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return error_set(err, EEXIST, "network %s: there is one: mvm network inspect %s", network->name,
				 network->name);
	text = file_text(network);
	if (!text)
		return error_set(err, ENOMEM, "network: out of memory");
	r = state_dir_write(&dir, file, text, err);
	free(text);
	return r;
}

int mvm_network_create(const char *name, const struct mvm_network_options *options, struct mvm_error *err)
{
	struct mvm_network_options given = MVM_NETWORK_OPTIONS;
	struct network network = { .internal = false };
	_cleanup_fd_ int folder = -1;
	char domain[DNS_NAME];
	int r = options ? sized_copy(&given, sizeof(given), sizeof(given), options, 0, "struct mvm_network_options",
				     err)
			: 0;

	if (r < 0)
		return r;
	if (!spec_net_is_name(name) || !dns_name(name, domain))
		return error_set(
			err, EINVAL,
			"network: '%.63s' is no name for one: letters, digits, _, . and -, the first a letter or "
			"digit, but not none, user, tap, socket, bridge or host",
			name);
	(void)snprintf(network.name, sizeof(network.name), "%s", name);
	network.internal = given.internal;
	network.isolated = given.isolated;
	if (given.subnet)
		r = network_parse_subnet("--subnet: ", given.subnet, 4, &network.subnet, err);
	if (r == 0 && given.subnet6)
		r = network_parse_subnet("--subnet6: ", given.subnet6, 6, &network.subnet, err);
	if (r == 0)
		r = network_folder(true, &folder, err);
	while (r == 0 && flock(folder, LOCK_EX) < 0)
		if (errno != EINTR)
			return error_set(err, errno, "network: its folder cannot be locked: %s", strerror(errno));
	if (r == 0 && !given.subnet)
		r = choose4(folder, &network.subnet, err);
	if (r == 0 && given.subnet)
		r = check(folder, "--subnet: ", rule4(&network.subnet), err);
	if (r == 0 && !given.subnet6)
		r = choose6(&network.subnet, err);
	if (r == 0 && given.subnet6)
		r = check(folder, "--subnet6: ", rule6(&network.subnet), err);
	return r < 0 ? r : write_file(folder, &network, err);
}

struct named {
	char text[NAMED * (UPLINK_ID + 2) + 16];
	unsigned n;
};

static void add_name(void *arg, const struct uplink_member *member)
{
	struct named *named = arg;
	size_t len = strlen(named->text);

	if (named->n++ < NAMED)
		(void)snprintf(named->text + len, sizeof(named->text) - len, "%s%s", len ? ", " : "",
			       *member->name ? member->name : member->id);
}

int mvm_network_remove(const char *name, struct mvm_error *err)
{
	_cleanup_fd_ int folder = -1, lock = -1;
	struct named named = { .n = 0 };
	char file[UPLINK_ID + 8];
	int r;

	if (!spec_net_is_name(name))
		return error_set(err, EINVAL, "network: '%.63s' is no name for one", name);
	r = network_lock("network ", name, &folder, &lock, err);
	if (r < 0)
		return r;
	r = network_members(folder, name, add_name, &named);
	if (r < 0 && r != -ECONNREFUSED && r != -ENOENT && r != -ECONNRESET)
		return error_set(err, -r, "network %s: who is on it cannot be told: %s", name, strerror(-r));
	if (named.n)
		return error_set(err, EBUSY, "network %s: %u VM%s on it: %s%s: end %s first", name, named.n,
				 named.n == 1 ? " is" : "s are", named.text, named.n > NAMED ? " and others" : "",
				 named.n == 1 ? "it" : "them");
	(void)snprintf(file, sizeof(file), "%s.sock", name);
	(void)unlinkat(folder, file, 0);
	(void)snprintf(file, sizeof(file), "%s.json", name);
	if (unlinkat(folder, file, 0) < 0)
		return error_set(err, errno, "network %s: it cannot be removed: %s", name, strerror(errno));
	return 0;
}

/* ---- shown ---- */

static void add_text(json_object *object, const char *key, const char *text)
{
	(void)json_object_object_add(object, key, *text ? json_object_new_string(text) : NULL);
}

static void add_member(void *arg, const struct uplink_member *member)
{
	static const uint8_t none[16];
	json_object *object = json_object_new_object();
	const uint8_t *m = member->mac;
	char text[INET6_ADDRSTRLEN];

	add_text(object, "name", member->name);
	add_text(object, "id", member->id);
	add_text(object, "ip", inet_ntop(AF_INET, member->ip4, text, sizeof(text)));
	if (memcmp(member->ip6, none, sizeof(none)) != 0)
		add_text(object, "ip6", inet_ntop(AF_INET6, member->ip6, text, sizeof(text)));
	(void)snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
	add_text(object, "mac", text);
	(void)json_object_array_add(arg, object);
}

static json_object *network_object(int folder, const struct network *network)
{
	struct uplink_rule net4 = rule4(&network->subnet), net6 = rule6(&network->subnet);
	json_object *object = json_object_new_object(), *members = json_object_new_array();
	char text[64];

	add_text(object, "name", network->name);
	add_text(object, "subnet", subnet_text(&net4, text));
	if (network->subnet.bits6)
		add_text(object, "subnet6", subnet_text(&net6, text));
	(void)json_object_object_add(object, "internal", json_object_new_boolean(network->internal));
	(void)json_object_object_add(object, "isolated", json_object_new_boolean(network->isolated));
	(void)network_members(folder, network->name, add_member, members); /* nobody holds it: there are none */
	(void)json_object_object_add(object, "members", members);
	return object;
}

static int add_network(void *arg, int folder, const char *name)
{
	struct network network;

	if (network_read(folder, name, &network, NULL) == 0)
		(void)json_object_array_add(arg, network_object(folder, &network));
	return 0;
}

int mvm_networks_to_json(const char *name, char **ret_json, struct mvm_error *err)
{
	_cleanup_fd_ int folder = -1;
	json_object *object = NULL;
	struct network network;
	const char *text;
	int r = network_folder(false, &folder, err);

	if (r < 0 && r != -ENOENT)
		return r;
	if (name) {
		r = r == 0 && spec_net_is_name(name) ? network_read(folder, name, &network, err) : -ENOENT;
		if (r == -ENOENT)
			return error_set(err, ENOENT, "%.63s: there is no such network: mvm network ls", name);
		if (r < 0)
			return r;
		object = network_object(folder, &network);
	} else {
		object = json_object_new_array();
		if (r == 0)
			(void)each_name(folder, add_network, object);
	}
	text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
	*ret_json = text ? strdup(text) : NULL;
	json_object_put(object);
	return *ret_json ? 0 : error_set(err, ENOMEM, "networks: out of memory");
}
