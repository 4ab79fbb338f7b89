/* --net user: a packet that was refused, as the kernel logs it with the guest's headers in it; and --allow-egress. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/net_user.h"
#include "lib/spec_egress.h"
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
	return 0;
}
