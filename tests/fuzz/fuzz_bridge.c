/* mvm-bridge, which has a capability and is asked by anybody: its request, its policy, a line of passwd; and the rules of a place. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/bridge.h"
#include "bridge/policy.h"
#include "uplink/rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void request(const uint8_t *data, size_t size)
{
	static const uint8_t own[] = BRIDGE_MAC;
	struct bridge_request read;
	const char *wrong = bridge_request_read(data, size, false, &read);

	if (wrong)
		return;
	if (memcmp(&read, data, size) != 0 || !bridge_is_device(read.bridge) || memcmp(read.mac, own, sizeof(own)) != 0)
		abort();
}

static bool look_up(void *arg, bool group, const char *name, uint32_t *ret_id)
{
	(void)arg;
	if (!*name || strlen(name) >= POLICY_LINE_MAX)
		abort();
	*ret_id = group ? 50 : 1000;
	return name[0] == 'a';
}

static void policy(const uint8_t *data, size_t size)
{
	const struct policy_caller caller = { .uid = 1000, .gids = { 50 }, .ngids = 1 };
	struct policy_grant grant = { .ports = 0 };
	char text[POLICY_TEXT] = "";
	char *copy = malloc(size ? size : 1); /* so that a byte too far is seen */
	unsigned line;
	uint32_t id = 0;

	if (!copy)
		return;
	memcpy(copy, data, size);
	line = policy_read(copy, size, "br0", &caller, look_up, NULL, &grant, text);
	if (line ? !*text || grant.ports : grant.ports > POLICY_PORTS_MAX)
		abort();
	if (policy_id_of(copy, size, "alice", &id) && (size < 9 || memcmp(copy, "alice:", 6) != 0 || id == UINT32_MAX))
		abort();
	free(copy);
}

/* Nothing but numbers, addresses and what we wrote ourselves gets into the text. */
static void rules(const uint8_t *data, size_t size)
{
	struct uplink_request of = { .flags = UPLINK_BRIDGE | UPLINK_IP4 | UPLINK_IP6 };
	char *text;

	if (size < sizeof(of.place) + sizeof(of.mac))
		return;
	memcpy(&of.place, data, sizeof(of.place));
	memcpy(of.mac, data + sizeof(of.place), sizeof(of.mac));
	of.place.bits4 %= 32;
	of.place.bits6 %= 128;
	text = rules_bridge_text(&of);
	for (const char *c = text; c && *c; c++)
		if ((*c < ' ' || *c > '~') && *c != '\n' && *c != '\t')
			abort();
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > POLICY_MAX)
		return 0;
	request(data, size);
	policy(data, size);
	rules(data, size);
	return 0;
}
