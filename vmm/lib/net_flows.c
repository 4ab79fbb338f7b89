#include "lib/net_flows.h"

#include <string.h>

void net_flows_ask(struct net_flows *flows)
{
	flows->asked = true;
	flows->begun = false;
	flows->n = 0;
}

/* What breaks its own announcement is no answer: whoever waits for one waits until the time-out. */
static void give_up(struct net_flows *flows)
{
	flows->asked = flows->begun = false;
	flows->n = 0;
}

static bool begin(struct net_flows *flows, const struct uplink_listed *listed)
{
	if (listed->told > UPLINK_FLOWS_MAX || listed->told > listed->all) {
		give_up(flows);
		return false;
	}
	flows->listed = *listed;
	flows->n = 0;
	flows->begun = true;
	return true;
}

static bool add(struct net_flows *flows, const struct uplink_message *message)
{
	uint32_t n = message->nflows;

	if (!n || n > UPLINK_FLOWS_IN || n > flows->listed.told - flows->n) {
		give_up(flows);
		return false;
	}
	for (uint32_t i = 0; i < n; i++) {
		if (message->flows[i].family != 4 && message->flows[i].family != 6) {
			give_up(flows);
			return false;
		}
	}
	memcpy(flows->flows + flows->n, message->flows, n * sizeof(flows->flows[0]));
	flows->n += n;
	return true;
}

bool net_flows_take(struct net_flows *flows, const struct uplink_message *message)
{
	bool good = false;

	if (message->type == UPLINK_LISTED && flows->asked)
		good = begin(flows, &message->listed);
	else if (message->type == UPLINK_LIST && flows->begun)
		good = add(flows, message);
	if (!good || flows->n < flows->listed.told)
		return false;
	flows->asked = flows->begun = false;
	return true;
}
