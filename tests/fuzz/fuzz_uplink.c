/*
 * --net user: a packet that was refused, as the kernel logs it with the guest's headers in it; connections, as it
 * lists them, and as mvm-net tells them to the supervisor; and --allow-egress.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/net_user.h"
#include "lib/spec_egress.h"
#include "uplink/flows.h"
#include "uplink/nfnl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse_packet(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size); /* aligned, and with an end that ASan knows */
	struct uplink_refused refused;
	char text[NET_USER_PLACE_TEXT];

	if (!copy)
		abort();
	memcpy(copy, data, size);
	if (nfnl_parse_refused(copy, size, &refused) &&
	    (refused.reason >= UPLINK_REASONS || (refused.family != 4 && refused.family != 6) ||
	     strlen(net_user_place_text(&refused, text)) >= sizeof(text)))
		abort();
	free(copy);
}

static void parse_flow(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size);
	struct uplink_flow flow;

	if (!copy)
		abort();
	memcpy(copy, data, size);
	if (flows_parse(copy, size, &flow) && flow.family != 4 && flow.family != 6)
		abort();
	free(copy);
}

/* What a hostile mvm-net says, message by message. */
static void take_flows(const uint8_t *data, size_t size)
{
	static struct net_flows flows;
	struct uplink_message message;

	net_flows_ask(&flows);
	for (; size >= sizeof(message); data += sizeof(message), size -= sizeof(message)) {
		memcpy(&message, data, sizeof(message));
		message.type = message.type % 2 ? UPLINK_LISTED : UPLINK_LIST;
		if (net_flows_take(&flows, &message) && flows.n > flows.listed.all)
			abort();
		if (flows.n > UPLINK_FLOWS_MAX)
			abort();
	}
}

static void parse_rule(const uint8_t *data, size_t size)
{
	char text[200];
	struct spec_egress rule;

	if (size >= sizeof(text))
		return;
	memcpy(text, data, size);
	text[size] = '\0';
	if (spec_egress_parse("--allow-egress", text, &rule, NULL) == 0 && !rule.name[0] &&
	    ((rule.to.family != 4 && rule.to.family != 6) || rule.to.prefix > (rule.to.family == 4 ? 32 : 128) ||
	     (rule.protocol && !rule.port)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 4096)
		return 0;
	parse_rule(data, size);
	if (size >= 16)
		parse_packet(data, size);
	if (size >= 16)
		parse_flow(data, size);
	take_flows(data, size);
	return 0;
}
