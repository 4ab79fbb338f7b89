/* A named network: what a supervisor says when it joins, the rules made of that, a subnet's text, a counter's name. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/network.h"
#include "uplink/members.h"
#include "uplink/rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Nothing but numbers, addresses and what we wrote ourselves gets into the text. */
static void check_text(char *text)
{
	if (!text)
		abort();
	for (const char *c = text; *c; c++)
		if ((*c < ' ' || *c > '~') && *c != '\n' && *c != '\t')
			abort();
	free(text);
}

static void join(const uint8_t *data, size_t size)
{
	static const struct uplink_request request = {
		.flags = UPLINK_NETWORK | UPLINK_IP4,
		.subnet = { .net4 = { 10, 1, 2, 0 }, .bits4 = 29, .net6 = { 0xfd, 1 }, .bits6 = 64 },
	};
	static const struct rules_limits limits = { 65536, 262144 };
	static struct members members;
	static struct uplink_join wanted;
	struct uplink_member is;

	memset(&wanted, 0, sizeof(wanted));
	memcpy(&wanted, data, size < sizeof(wanted) ? size : sizeof(wanted));
	wanted.version = UPLINK_VERSION;
	if (!members_check(&wanted))
		return;
	members_init(&members, &request);
	for (unsigned i = 0; i < 8; i++) {
		if (members_place(&members, &wanted, &is, NULL) < 0)
			continue;
		for (unsigned k = 0; k < UPLINK_MEMBERS; k++)
			if (members.m[k].fd >= 0 &&
			    (!memcmp(members.m[k].is.ip4, is.ip4, 4) || !memcmp(members.m[k].is.ip6, is.ip6, 16)))
				abort();
		members.m[i].fd = 0;
		members.m[i].is = is;
		check_text(rules_join_text(&request, &limits, &wanted, &is, i));
		check_text(rules_leave_text(&request, &wanted, i));
	}
}

static void texts(const uint8_t *data, size_t size)
{
	struct uplink_subnet subnet = { .bits4 = 0 };
	unsigned reason, slot;
	char text[128];

	if (size >= sizeof(text))
		return;
	memcpy(text, data, size);
	text[size] = '\0';
	if (network_parse_subnet("", text, 4, &subnet, NULL) == 0 && (subnet.bits4 < 8 || subnet.bits4 > 30))
		abort();
	if (network_parse_subnet("", text, 6, &subnet, NULL) == 0 && (subnet.bits6 < 48 || subnet.bits6 > 126))
		abort();
	if (rules_parse_reason((const char *)data, size, &reason, &slot) &&
	    (reason >= UPLINK_REASONS || slot >= UPLINK_MEMBERS))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > sizeof(struct uplink_join))
		return 0;
	texts(data, size);
	join(data, size);
	return 0;
}
