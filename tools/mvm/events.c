/* mvm events: what happened to VMs, and who asked for it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "mvm/cleanup.h"
#include "opts.h"

#define FILTERS_MAX 32

enum filter_key { FILTER_EVENT, FILTER_SEVERITY, FILTER_ID, FILTER_NAME, FILTER_KEYS };

struct choice {
	bool json;
	char since[OPTS_MOMENT]; /* as the events' own times: compared as text */
	unsigned n;
	struct {
		enum filter_key key;
		const char *value; /* of the command line */
		size_t len;
	} filters[FILTERS_MAX];
};

static const char *const keys[FILTER_KEYS] = { "event", "severity", "id", "name" };

static bool add_filter(const char *text, size_t len, struct choice *choice)
{
	size_t name = 0;
	unsigned key = 0;

	while (name < len && text[name] != '=')
		name++;
	while (key < FILTER_KEYS && (strlen(keys[key]) != name || strncmp(keys[key], text, name) != 0))
		key++;
	if (key == FILTER_KEYS || name + 1 >= len) {
		(void)cli_unexpected(text, "--filter: give KEY=VALUE; keys are event, severity, id and name");
		return false;
	}
	if (choice->n == FILTERS_MAX) {
		(void)cli_unexpected(text, "--filter: too many: 32 are the most");
		return false;
	}
	choice->filters[choice->n].key = (enum filter_key)key;
	choice->filters[choice->n].value = text + name + 1;
	choice->filters[choice->n++].len = len - name - 1;
	return true;
}

/* "KEY=VALUE,KEY=VALUE" */
static bool parse_filters(const char *text, struct choice *choice)
{
	for (;; text++) {
		size_t len = strcspn(text, ",");

		if (!add_filter(text, len, choice))
			return false;
		text += len;
		if (!*text)
			return true;
	}
}

/* One of those with the same key must hold, of every key that is there. An id may be its beginning. */
static bool wanted(const struct choice *choice, const struct mvm_event_entry *event)
{
	const char *const values[FILTER_KEYS] = { event->kind, event->severity, event->id, event->name };
	bool asked[FILTER_KEYS] = { false }, holds[FILTER_KEYS] = { false };

	if (strcmp(event->time, choice->since) < 0)
		return false;
	for (unsigned i = 0; i < choice->n; i++) {
		enum filter_key key = choice->filters[i].key;
		size_t len = choice->filters[i].len;

		asked[key] = true;
		holds[key] |=
			!strncmp(values[key], choice->filters[i].value, len) && (key == FILTER_ID || !values[key][len]);
	}
	for (unsigned key = 0; key < FILTER_KEYS; key++)
		if (asked[key] && !holds[key])
			return false;
	return true;
}

static void print(const struct choice *choice, const struct mvm_event_entry *event)
{
	if (choice->json)
		(void)puts(event->json);
	else
		(void)printf("%-30s  %-14s  %-16.16s  %s\n", event->time, event->kind,
			     *event->name ? event->name : event->id, event->details);
}

static int show(const struct choice *choice, bool follow)
{
	const struct mvm_event_entry *event;
	struct mvm_events *events;
	struct mvm_error err;
	int r = mvm_events_open(&events, &err);

	if (r < 0)
		return cli_fail(&err);
	if (!choice->json)
		(void)printf("%-30s  %-14s  %-16s  %s\n", "TIME", "EVENT", "VM", "DETAILS");
	for (;;) {
		while ((r = mvm_events_next(events, &event)) > 0)
			if (wanted(choice, event))
				print(choice, event);
		if (r < 0)
			(void)cli_unexpected("events", strerror(-r));
		if (fflush(stdout) != 0 || r < 0 || !follow)
			break;
		mvm_events_wait(events);
	}
	mvm_events_free(events);
	return r < 0 || ferror(stdout) ? CLI_STATUS_FAILED : 0;
}

int verb_events(const struct cli *cli, int argc, char **argv)
{
	const char *since = NULL, *filter = NULL, *format = NULL;
	struct words words;
	int status;
	struct choice choice = { 0 };
	bool follow = false;
	const struct opt opts[] = { { "follow", 'f', &follow, NULL, NULL, "go on with what happens" },
				    { "since", 0, NULL, &since, "TIME", "from then on: 10m ago, or 2026-01-31T12:00" },
				    { "filter", 0, NULL, &filter, "KEY=VALUE[,KEY=VALUE]", "events with these alone" },
				    { "format", 0, NULL, &format, "table|json", "how it is shown (table)" },
				    { 0 } };

	(void)cli;
	if (!opts_parse(argc, argv, opts, &words, &status))
		return status;
	if (words.n)
		return cli_unexpected(words.v[0], "not expected: for one VM give --filter name=NAME or id=ID");
	if (!opts_format(format, &choice.json) || (since && !opts_moment("--since", since, choice.since)))
		return CLI_STATUS_FAILED;
	if (filter && !parse_filters(filter, &choice))
		return CLI_STATUS_FAILED;
	return show(&choice, follow);
}
