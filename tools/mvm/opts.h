/*
 * The options of a verb that has few: flags, values, and words.
 *
 * Purpose: one parser for the verbs that act on VMs; `run` has libmvm's table (args.c).
 * Trust:   arguments are the user's; what is said of them is made harmless for a terminal.
 */
#ifndef OPTS_H
#define OPTS_H

#include <stdbool.h>

#include "cli.h"

struct opt {
	const char *name; /* long; NULL ends the list */
	char letter; /* 0: none */
	bool *flag; /* a switch … */
	const char **value; /* … or a value, which `metavar` stands for */
	const char *metavar, *help;
};

struct words {
	char **v;
	int n;
};

/*
 * Options may stand anywhere before a word "--"; everything behind that is words, which are moved to argv[1] and on.
 * False: there is nothing left to do, and ret_status is the verb's; help has been shown, or what is wrong been said.
 */
bool opts_parse(int argc, char **argv, const struct opt *opts, struct words *ret_words, int *ret_status);

/* The options of a verb, as its --help shows them. */
void opts_print(const struct opt *opts);

/* "table" or "json"; anything else is said. NULL: a table. */
bool opts_format(const char *format, bool *ret_json);

/* "10", "1.5s", "2m": nanoseconds. False: said. */
bool opts_time(const char *name, const char *value, uint64_t *ret_ns);

#define OPTS_MOMENT 40 /* bytes */

/* A time before now ("10m"), or a moment as logs and events write it, or its beginning: as they write it. False: said. */
bool opts_moment(const char *name, const char *value, char ret_moment[OPTS_MOMENT]);

#endif
