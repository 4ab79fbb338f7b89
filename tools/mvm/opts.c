#include "opts.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static void wrong(const char *arg, const char *verb, const char *why)
{
	char text[160];

	(void)snprintf(text, sizeof(text), "%s: mvm help %s shows how", why, verb);
	(void)cli_unexpected(arg, text);
}

static const struct opt *find(const struct opt *opts, const char *name, size_t len, char letter)
{
	for (; opts->name; opts++)
		if (letter ? opts->letter == letter : strlen(opts->name) == len && !memcmp(opts->name, name, len))
			return opts;
	return NULL;
}

/* --name, --name=value, --name value. Returns how many further arguments were used, or -1: said. */
static int parse_long(const char *verb, const char *arg, const char *next, const struct opt *opts)
{
	size_t len = strcspn(arg + 2, "=");
	const struct opt *opt = find(opts, arg + 2, len, 0);
	const char *value = arg[2 + len] ? arg + 3 + len : NULL;

	if (!opt || (opt->flag && value)) {
		wrong(arg, verb, opt ? "takes no value" : "unknown");
		return -1;
	}
	if (opt->flag) {
		*opt->flag = true;
		return 0;
	}
	*opt->value = value ? value : next;
	if (!*opt->value)
		wrong(arg, verb, "needs a value");
	return *opt->value ? !value : -1;
}

/* -f, -fx, -n3, -n 3. */
static int parse_short(const char *verb, const char *arg, const char *next, const struct opt *opts)
{
	for (const char *at = arg + 1; *at; at++) {
		const struct opt *opt = find(opts, "", 0, *at);

		if (!opt) {
			wrong(arg, verb, "unknown");
			return -1;
		}
		if (opt->flag) {
			*opt->flag = true;
			continue;
		}
		*opt->value = at[1] ? at + 1 : next;
		if (!*opt->value)
			wrong(arg, verb, "needs a value");
		return *opt->value ? !at[1] : -1;
	}
	return 0;
}

void opts_print(const struct opt *opts)
{
	if (opts->name)
		printf("\noptions:\n");
	for (; opts->name; opts++)
		help_option(opts->letter, opts->name, opts->metavar, opts->help);
}

bool opts_parse(int argc, char **argv, const struct opt *opts, struct words *ret_words, int *ret_status)
{
	struct words words = { .v = argv + 1 };
	bool only_words = false;

	*ret_words = words;
	for (int i = 1; i < argc; i++) {
		char *arg = argv[i];
		int used;

		if (!only_words && !strcmp(arg, "--")) {
			only_words = true;
			continue;
		}
		if (only_words || *arg != '-' || !arg[1]) {
			words.v[words.n++] = arg;
			continue;
		}
		if (!strcmp(arg, "--help") || !strcmp(arg, "-h")) {
			help_usage(argv[0]);
			opts_print(opts);
			*ret_status = 0;
			return false;
		}
		used = arg[1] == '-' ? parse_long(argv[0], arg, argv[i + 1], opts)
				     : parse_short(argv[0], arg, argv[i + 1], opts);
		if (used < 0) {
			*ret_status = CLI_STATUS_FAILED;
			return false;
		}
		i += used;
	}
	*ret_words = words;
	return true;
}

bool opts_format(const char *format, bool *ret_json)
{
	*ret_json = format && !strcmp(format, "json");
	if (!format || *ret_json || !strcmp(format, "table"))
		return true;
	(void)cli_unexpected(format, "no format: give table or json");
	return false;
}

bool opts_time(const char *name, const char *value, uint64_t *ret_ns)
{
	char text[64];

	if (mvm_parse_time(value, ret_ns) == 0)
		return true;
	(void)snprintf(text, sizeof(text), "%s: no time: seconds, or with ms, s, m, h or d", name);
	(void)cli_unexpected(value, text);
	return false;
}

bool opts_moment(const char *name, const char *text, char ret[OPTS_MOMENT])
{
	struct timespec now;
	struct tm utc;
	uint64_t ns;
	size_t n;

	if (strlen(text) >= 4 && strspn(text, "0123456789-T:.Z") == strlen(text) && text[4] == '-') {
		(void)snprintf(ret, OPTS_MOMENT, "%.39s", text);
		return true;
	}
	if (!opts_time(name, text, &ns))
		return false;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	*ret = '\0';
	if (ns / 1000000000U > (uint64_t)now.tv_sec)
		return true; /* before there were clocks: everything */
	now.tv_sec -= (time_t)(ns / 1000000000U);
	(void)gmtime_r(&now.tv_sec, &utc);
	n = strftime(ret, OPTS_MOMENT, "%Y-%m-%dT%H:%M:%S", &utc);
	(void)snprintf(ret + n, OPTS_MOMENT - n, ".%09ld", now.tv_nsec);
	return true;
}
