#include "lib/net_user_host.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <net/route.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINK4_LEAST 8U /* bits */
#define LINK6_LEAST 20U

static FILE *open_table(const char *folder, const char *name)
{
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	return fopen(path, "re");
}

/* The words of a line, in place; their number, `max` at most. */
static unsigned words_of(char *line, char *words[], unsigned max)
{
	unsigned n = 0;

	for (char *rest = line, *word; n < max && (word = strsep(&rest, " \t\n"));)
		if (*word)
			words[n++] = word;
	return n;
}

static bool is_zero(const char *hex)
{
	return *hex && hex[strspn(hex, "0")] == '\0';
}

static bool leads(const char *flags)
{
	unsigned long bits = strtoul(flags, NULL, 16);

	return bits & RTF_UP && !(bits & RTF_REJECT);
}

/* Iface Destination Gateway Flags RefCnt Use Metric Mask … */
static bool has_four(const char *proc_net)
{
	FILE *f = open_table(proc_net, "route");
	bool found = false;
	char line[256], *word[8];

	while (f && !found && fgets(line, sizeof(line), f))
		found = words_of(line, word, 8) == 8 && is_zero(word[1]) && is_zero(word[7]) && leads(word[3]);
	if (f)
		(void)fclose(f); /* only read from */
	return found;
}

/* destination, its bits, source, its bits, next hop, metric, references, use, flags, link */
static bool has_six(const char *proc_net)
{
	FILE *f = open_table(proc_net, "ipv6_route");
	bool found = false;
	char line[256], *word[10];

	while (f && !found && fgets(line, sizeof(line), f))
		found = words_of(line, word, 10) == 10 && is_zero(word[0]) && is_zero(word[1]) && leads(word[8]) &&
			strcmp(word[9], "lo") != 0;
	if (f)
		(void)fclose(f);
	return found;
}

void net_user_host_routes(const char *proc_net, bool *ret_four, bool *ret_six)
{
	*ret_four = has_four(proc_net);
	*ret_six = has_six(proc_net);
}

static int add_link(struct uplink_rule links[UPLINK_LINKS], uint32_t *n, const struct uplink_rule *link)
{
	if (*n == UPLINK_LINKS)
		return -E2BIG;
	links[(*n)++] = *link;
	return 0;
}

/* A line of route (the first, of words, is none): numbers as the kernel has them in memory, which is the network's order. */
static bool is_route4(char *word[8], struct uplink_rule *ret)
{
	uint32_t net = (uint32_t)strtoul(word[1], NULL, 16), mask = (uint32_t)strtoul(word[7], NULL, 16);

	*ret = (struct uplink_rule){ .family = 4, .prefix = (uint8_t)__builtin_popcount(mask) };
	memcpy(ret->address, &net, sizeof(net));
	return leads(word[3]);
}

static bool is_link4(char *word[8], struct uplink_rule *ret)
{
	return is_route4(word, ret) && is_zero(word[2]) && ret->prefix >= LINK4_LEAST;
}

static bool is_route6(char *word[10], struct uplink_rule *ret)
{
	unsigned long prefix = strtoul(word[1], NULL, 16);

	*ret = (struct uplink_rule){ .family = 6, .prefix = (uint8_t)prefix };
	if (strlen(word[0]) != 2 * sizeof(ret->address))
		return false;
	for (size_t i = 0; i < sizeof(ret->address); i++) {
		char digits[3] = { word[0][2 * i], word[0][2 * i + 1], '\0' };

		ret->address[i] = (uint8_t)strtoul(digits, NULL, 16);
	}
	return leads(word[8]) && prefix <= 128 && strcmp(word[9], "lo") != 0;
}

static bool is_link6(char *word[10], struct uplink_rule *ret)
{
	return is_route6(word, ret) && is_zero(word[4]) && ret->prefix >= LINK6_LEAST;
}

int net_user_host_links(const char *proc_net, struct uplink_rule ret_links[UPLINK_LINKS], uint32_t *ret_n)
{
	FILE *four = open_table(proc_net, "route"), *six = open_table(proc_net, "ipv6_route");
	struct uplink_rule link;
	char line[256], *word[10];
	int r = 0;

	*ret_n = 0;
	while (r == 0 && four && fgets(line, sizeof(line), four))
		if (words_of(line, word, 8) == 8 && is_link4(word, &link))
			r = add_link(ret_links, ret_n, &link);
	while (r == 0 && six && fgets(line, sizeof(line), six))
		if (words_of(line, word, 10) == 10 && is_link6(word, &link))
			r = add_link(ret_links, ret_n, &link);
	if (four)
		(void)fclose(four); /* only read from */
	if (six)
		(void)fclose(six);
	return r;
}

bool net_user_host_overlap(const struct uplink_rule *a, const struct uplink_rule *b)
{
	unsigned bits = a->prefix < b->prefix ? a->prefix : b->prefix;

	for (unsigned bit = 0; bit < bits; bit++)
		if ((a->address[bit / 8] ^ b->address[bit / 8]) & 0x80 >> bit % 8)
			return false;
	return a->family == b->family;
}

static void describe(const struct uplink_rule *net, const char *link, char text[NET_USER_HOST_TEXT])
{
	char address[INET6_ADDRSTRLEN];

	(void)inet_ntop(net->family == 4 ? AF_INET : AF_INET6, net->address, address, sizeof(address));
	(void)snprintf(text, NET_USER_HOST_TEXT, "%s/%u (%.15s)", address, net->prefix, link);
}

bool net_user_host_overlaps(const char *proc_net, const struct uplink_rule *net, char ret_text[NET_USER_HOST_TEXT])
{
	bool four = net->family == 4, found = false;
	FILE *table = open_table(proc_net, four ? "route" : "ipv6_route");
	char line[256], *word[10];
	struct uplink_rule route;

	while (table && !found && fgets(line, sizeof(line), table)) {
		found = four ? words_of(line, word, 8) == 8 && is_route4(word, &route)
			     : words_of(line, word, 10) == 10 && is_route6(word, &route);
		/* A half of everything is a default route in disguise, as tunnels have it. */
		found = found && route.prefix > (four ? 1 : 3) && net_user_host_overlap(&route, net);
		if (found)
			describe(&route, word[four ? 0 : 9], ret_text);
	}
	if (table)
		(void)fclose(table); /* only read from */
	return found;
}

void net_user_host_servers(const char *resolv_conf, bool *ret_four, bool *ret_six)
{
	FILE *f = fopen(resolv_conf, "re");
	bool four = false, six = false;
	char line[256], *word[2];

	while (f && fgets(line, sizeof(line), f)) {
		if (words_of(line, word, 2) != 2 || strcmp(word[0], "nameserver") != 0)
			continue;
		six |= strchr(word[1], ':') != NULL;
		four |= strchr(word[1], ':') == NULL;
	}
	if (f)
		(void)fclose(f);
	*ret_four = four || !six;
	*ret_six = six;
}
