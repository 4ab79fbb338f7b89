#include "lib/net_user_host.h"

#include <limits.h>
#include <net/route.h>
#include <stdio.h>
#include <string.h>

static FILE *open_table(const char *folder, const char *name)
{
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	return fopen(path, "re");
}

static bool has_four(const char *proc_net)
{
	FILE *f = open_table(proc_net, "route");
	bool found = false;
	char line[256];

	while (f && !found && fgets(line, sizeof(line), f)) {
		unsigned to, gateway, flags, mask;

		/* Iface Destination Gateway Flags RefCnt Use Metric Mask … */
		found = sscanf(line, "%*s %x %x %x %*d %*d %*d %x", &to, &gateway, &flags, &mask) == 4 && !to &&
			!mask && flags & RTF_UP && !(flags & RTF_REJECT);
	}
	if (f)
		(void)fclose(f); /* only read from */
	return found;
}

static bool has_six(const char *proc_net)
{
	FILE *f = open_table(proc_net, "ipv6_route");
	bool found = false;
	char line[256];

	while (f && !found && fgets(line, sizeof(line), f)) {
		unsigned prefix, flags;
		char to[33], link[32];

		/* destination, its bits, source, its bits, next hop, metric, references, use, flags, link */
		found = sscanf(line, "%32s %x %*s %*x %*s %*x %*x %*x %x %31s", to, &prefix, &flags, link) == 4 &&
			!prefix && strspn(to, "0") == 32 && flags & RTF_UP && !(flags & RTF_REJECT) &&
			strcmp(link, "lo") != 0;
	}
	if (f)
		(void)fclose(f);
	return found;
}

void net_user_host_routes(const char *proc_net, bool *ret_four, bool *ret_six)
{
	*ret_four = has_four(proc_net);
	*ret_six = has_six(proc_net);
}

void net_user_host_servers(const char *resolv_conf, bool *ret_four, bool *ret_six)
{
	FILE *f = fopen(resolv_conf, "re");
	bool four = false, six = false;
	char line[256], server[64];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "nameserver %63s", server) != 1)
			continue;
		six |= strchr(server, ':') != NULL;
		four |= strchr(server, ':') == NULL;
	}
	if (f)
		(void)fclose(f);
	*ret_four = four || !six;
	*ret_six = six;
}
