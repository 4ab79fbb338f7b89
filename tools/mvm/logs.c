/* mvm logs: what a detached VM's command printed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "mvm/cleanup.h"
#include "opts.h"

struct choice {
	bool follow, times;
	char since[OPTS_MOMENT]; /* RFC 3339, as the log's own: compared as text; "": from the beginning */
	uint64_t skip; /* lines of those that are shown */
};

static bool wanted(const struct choice *choice, const struct mvm_log_line *line)
{
	return strcmp(line->time, choice->since) >= 0;
}

/* On a terminal a guest's text moves no cursor and changes no setting: control bytes, and C1's in UTF-8, are shown as '?'. */
static void put(FILE *to, const char *text, size_t len)
{
	if (!isatty(fileno(to))) {
		(void)fwrite(text, 1, len, to);
		return;
	}
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];
		bool c1 = c == 0xc2 && i + 1 < len && (unsigned char)text[i + 1] < 0xa0;

		(void)fputc((c < 0x20 && c != '\t') || c == 0x7f || c1 ? '?' : c, to);
		i += c1;
	}
}

/* stdout to stdout, the rest to stderr; a partial line's text without an end, and nothing put before it. */
static bool show(const struct choice *choice, const struct mvm_log_line *line, bool begun[2])
{
	bool out = !strcmp(line->stream, "stdout"), own = !strcmp(line->stream, "mvm");
	FILE *to = out ? stdout : stderr;

	if (choice->times && !begun[out] && !own)
		(void)fprintf(to, "%s ", line->time);
	if (own)
		(void)fprintf(to, "mvm: ");
	/* A terminal's lines end with a carriage return, too: on one of ours it is not text. */
	put(to, line->text, line->len - (line->len && line->text[line->len - 1] == '\r' && isatty(fileno(to))));
	if (!line->partial)
		(void)fputc('\n', to);
	if (!own)
		begun[out] = line->partial;
	return !ferror(to);
}

static int relay(struct mvm_log *log, struct choice *choice)
{
	const struct mvm_log_line *line;
	bool begun[2] = { false, false };
	int r;

	for (;;) {
		while ((r = mvm_log_next(log, &line)) > 0)
			if (wanted(choice, line)) {
				if (choice->skip) {
					choice->skip -= !line->partial;
					continue;
				}
				if (!show(choice, line, begun))
					return CLI_STATUS_FAILED;
			}
		if (fflush(stdout) != 0 || r < 0)
			return CLI_STATUS_FAILED;
		if (!choice->follow || !mvm_log_wait(log))
			return 0;
	}
}

/* How many lines come before the last `tail` ones. */
static int count(const char *id, const struct choice *choice, uint64_t tail, uint64_t *ret_skip, struct mvm_error *err)
{
	const struct mvm_log_line *line;
	struct mvm_log *log;
	uint64_t n = 0;
	int r = mvm_log_open(id, &log, err);

	if (r < 0)
		return r;
	while (mvm_log_next(log, &line) > 0)
		n += wanted(choice, line) && !line->partial; /* a long one stands there in several pieces */
	mvm_log_free(log);
	*ret_skip = n > tail ? n - tail : 0;
	return 0;
}

int verb_logs(const struct cli *cli, int argc, char **argv)
{
	struct words words;
	const char *since = NULL, *tail = NULL;
	struct choice choice = { 0 };
	const struct opt opts[] = { { "follow", 'f', &choice.follow, NULL, NULL, "go on with what is printed" },
				    { "timestamps", 't', &choice.times, NULL, NULL, "when each line was written" },
				    { "since", 0, NULL, &since, "TIME", "from then on: 10m ago, or 2026-01-31T12:00" },
				    { "tail", 'n', NULL, &tail, "LINES", "the last so many alone" },
				    { 0 } };
	struct mvm_error err;
	struct mvm_log *log;
	int status;

	(void)cli;
	if (!opts_parse(argc, argv, opts, &words, &status))
		return status;
	if (words.n != 1)
		return cli_unexpected(argv[0], "give one VM, by its name or id: mvm ps -a shows them");
	if (tail && (!*tail || strlen(tail) > 9 || strspn(tail, "0123456789") != strlen(tail)))
		return cli_unexpected(tail, "--tail: no number of lines");
	if (since && !opts_moment("--since", since, choice.since))
		return CLI_STATUS_FAILED;
	if (tail && count(words.v[0], &choice, strtoull(tail, NULL, 10), &choice.skip, &err) < 0)
		return cli_fail(&err);
	if (mvm_log_open(words.v[0], &log, &err) < 0)
		return cli_fail(&err);
	status = relay(log, &choice);
	mvm_log_free(log);
	return status;
}
