/* --net user, a named network, --proxy: what mvm-net has to tell, and its end. See net_user.h. */
#include <stdio.h>
#include <string.h>

#include "jail/cgroup.h"
#include "lib/supervisor.h"

#define BATCH 16U /* messages at once */

int supervisor_net_open(struct supervisor *s, struct mvm_error *err)
{
	struct net_user_who who = { .spec = s->spec,
				    .id = s->state.id,
				    .uid_first = s->conf.uid_first,
				    .uid_count = s->conf.uid_count,
				    .parts = &s->parts };

	return net_user_open(&s->net, &s->files.nets, &who, err);
}

static void tell_place(struct supervisor *s, const struct net_user_place *place)
{
	const char *why = uplink_reason_name(place->refused.reason);
	char text[NET_USER_PLACE_TEXT];

	(void)net_user_place_text(&place->refused, text);
	if (place->told == 1 && place->refused.reason == UPLINK_SPOOFED)
		supervisor_event_violation(s, "vmm", "a frame with an address that is not the guest's");
	if (place->told == 1)
		supervisor_log(s, MVM_LOG_WARNING, "net: the guest may not reach %s (%s)%s", text, why,
			       place->refused.reason == UPLINK_FLOWS      ? ": too many connections"
			       : place->refused.reason == UPLINK_ISOLATED ? ": its network is --isolated"
									  : ": see --allow-egress");
	supervisor_event_egress(s, place);
}

static void tell_over(struct supervisor *s, const char *network, const char *why)
{
	if (*network)
		supervisor_log(s, MVM_LOG_ERROR, "net: the VM is off the network %s: %s", network, why);
	else
		supervisor_log(s, MVM_LOG_ERROR, "net: the VM has no way out any more: %s%s", why,
			       cgroup_oom_kills(&s->parts) ? ": out of memory in its cgroup, mvm-ID-net" : "");
	supervisor_event_violation(s, "net", why);
}

void supervisor_on_net(struct supervisor *s, unsigned link)
{
	const struct net_user_place *place = NULL;
	char text[UPLINK_TEXT];

	for (unsigned i = 0; i < BATCH; i++) {
		switch (net_user_read(&s->net, link, &place, text)) {
		case NET_USER_NOTHING:
			return;
		case NET_USER_PLACE:
			tell_place(s, place);
			break;
		case NET_USER_COUNTED:
			break;
		case NET_USER_FLOWS:
			supervisor_flows_told(s);
			break;
		case NET_USER_TEXT:
			supervisor_log(s, MVM_LOG_INFO, "net: %s",
				       text); /* pasta's: it tells much, and fails by ending */
			break;
		case NET_USER_OVER:
			tell_over(s, s->net.links[link].network, text);
			return;
		}
	}
}

uint64_t supervisor_proxy_bytes(const struct supervisor *s)
{
	struct uplink_proxied counted;

	net_proxy_counted(&s->net.proxy, &counted);
	return counted.from_guest_bytes + counted.to_guest_bytes;
}

void supervisor_net_ended(struct supervisor *s)
{
	char text[40 * UPLINK_REASONS] = "";
	size_t len = 0;

	if (!s->net.asked)
		return;
	for (unsigned i = 0; i < NET_USER_LINKS; i++)
		supervisor_on_net(s, i);
	net_user_count(&s->net);
	for (unsigned i = 0; i < UPLINK_REASONS; i++)
		if (s->net.counters[i])
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s (%llu)", len ? ", " : "",
						uplink_reason_name(i), (unsigned long long)s->net.counters[i]);
	if (len)
		supervisor_log(s, MVM_LOG_INFO, "net: packets of the guest's that were refused: %s", text);
}
