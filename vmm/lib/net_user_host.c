#include "lib/net_user_host.h"

#include <limits.h>
#include <net/route.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
