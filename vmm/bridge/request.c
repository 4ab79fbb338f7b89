/* What the helper is asked, and the names of what it makes. See bridge.h. */
#include <string.h>

#include "bridge/bridge.h"

static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";

/* dev_valid_name() of the kernel, and no byte that a terminal would not show. */
bool bridge_is_device(const char name[BRIDGE_DEVICE])
{
	size_t len = strnlen(name, BRIDGE_DEVICE);

	if (!len || len == BRIDGE_DEVICE || !strcmp(name, ".") || !strcmp(name, ".."))
		return false;
	for (size_t i = 0; i < len; i++)
		if (name[i] <= ' ' || name[i] > '~' || strchr("/:%", name[i]))
			return false;
	return true;
}

static bool all_zeroes(const void *bytes, size_t size)
{
	const uint8_t *b = bytes;

	while (size && !*b) {
		b++;
		size--;
	}
	return !size;
}

const char *bridge_request_read(const void *bytes, size_t size, bool root, struct bridge_request *ret)
{
	static const uint8_t own[] = BRIDGE_MAC; /* locally administered: IEEE 802 §8.4 */
	struct bridge_request request;
	size_t len;

	if (size != sizeof(request))
		return "not of the same version as its supervisor: install mvm again";
	memcpy(&request, bytes, sizeof(request));
	if (request.version != BRIDGE_VERSION)
		return "not of the same version as its supervisor: install mvm again";
	len = strnlen(request.bridge, BRIDGE_DEVICE);
	if (!bridge_is_device(request.bridge) || !all_zeroes(request.bridge + len, BRIDGE_DEVICE - len) ||
	    !all_zeroes(request.reserved, sizeof(request.reserved)))
		return "no request: what it names is no network device";
	if (request.mac[0] & 1 || all_zeroes(request.mac, sizeof(request.mac)))
		return "mac=: no address of a device";
	if (!root && memcmp(request.mac, own, sizeof(own)) != 0) /* a machine that is silent has its address, too */
		return "mac=: only root may take an address that does not begin with " BRIDGE_MAC_TXT
		       ": leave mac= out, or begin it so";
	*ret = request;
	return NULL;
}

/* The last digits of it, so many. Returns what is behind them. */
static char *put_digits(char *at, unsigned n, uint32_t value)
{
	for (unsigned i = n; i; i--) {
		at[i - 1] = digits[value % 36];
		value /= 36;
	}
	return at + n;
}

const char *bridge_port_name(uint32_t uid, int bridge, unsigned slot, char buf[BRIDGE_DEVICE])
{
	char *at = buf;

	*at++ = 'm';
	*at++ = 'v';
	at = put_digits(at, 7, uid);
	at = put_digits(at, 4, (uint32_t)bridge);
	at = put_digits(at, 2, slot);
	*at = '\0';
	return buf;
}
