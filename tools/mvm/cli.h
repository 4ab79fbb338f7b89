/*
 * The mvm command: its verbs, its way of speaking.
 *
 * Purpose: a file for each verb (run.c has start, ends.c the short ones, too), one table of them (main.c); everything below is
 *          libmvm (mvm/mvm.h).
 * Trust:   arguments and terminals are the user's.
 * Thread:  one.
 */
#ifndef CLI_H
#define CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mvm/mvm.h"

#define CLI_STATUS_FAILED 125 /* mvm itself failed, or refused: docker's number, and the table's */

struct cli {
	uint64_t began_ns; /* CLOCK_MONOTONIC at main() */
};

struct verb {
	const char *name, *usage, *summary;
	/* argv[0] is the verb; returns the exit status. */
	int (*run)(const struct cli *cli, int argc, char **argv);
	const char *note; /* what its help says besides; NULL: nothing */
};

/* In the order of the help; NULL past the last. */
const struct verb *verb_at(size_t index);

/* A verb's argument that it does not know: says so, made harmless for a terminal. Returns the exit status. */
int cli_unexpected(const char *what, const char *says);

int verb_run(const struct cli *cli, int argc, char **argv);
int verb_doctor(const struct cli *cli, int argc, char **argv);
int verb_inspect(const struct cli *cli, int argc, char **argv);
int verb_start(const struct cli *cli, int argc, char **argv);
int verb_attach(const struct cli *cli, int argc, char **argv);
int verb_exec(const struct cli *cli, int argc, char **argv);
int verb_cp(const struct cli *cli, int argc, char **argv);
int verb_ps(const struct cli *cli, int argc, char **argv);
int verb_logs(const struct cli *cli, int argc, char **argv);
int verb_wait(const struct cli *cli, int argc, char **argv);
int verb_stop(const struct cli *cli, int argc, char **argv);
int verb_kill(const struct cli *cli, int argc, char **argv);
int verb_rm(const struct cli *cli, int argc, char **argv);
int verb_pause(const struct cli *cli, int argc, char **argv);
int verb_resume(const struct cli *cli, int argc, char **argv);
int verb_stats(const struct cli *cli, int argc, char **argv);
int verb_events(const struct cli *cli, int argc, char **argv);
int verb_network(const struct cli *cli, int argc, char **argv);
int verb_metrics(const struct cli *cli, int argc, char **argv);
int verb_top(const struct cli *cli, int argc, char **argv);
int verb_update(const struct cli *cli, int argc, char **argv);
int verb_verify(const struct cli *cli, int argc, char **argv);
int verb_version(const struct cli *cli, int argc, char **argv);
int verb_help(const struct cli *cli, int argc, char **argv);

/* "mvm: text" on stderr, with the carriage return that a raw terminal needs. */
void cli_say(const char *text);

/* Says err and returns CLI_STATUS_FAILED. */
int cli_fail(const struct mvm_error *err);

/* What a verb is for, without its options. */
void help_usage(const char *name);
/* A line of its options. `letter` 0, `metavar` NULL: none. */
void help_option(char letter, const char *name, const char *metavar, const char *help);

/* The options of `run`, or those with these names (the last NULL), as --help shows them. */
void args_print_options(const char *const names[]);

/* What the command line of `run` said besides the spec. */
struct args {
	bool help;
};

/* The file of --config, which is read before all other options, wherever it stands; NULL: none. 0 or -errno with err. */
int args_config(int argc, char **argv, const char **ret_path, struct mvm_error *err);

/* The spec that a file ("-": standard input) describes, in the JSON form of mvm.h. 0 or -errno with err. */
int config_read(const char *path, struct mvm_spec **ret_spec, struct mvm_error *err);

/* Whether the option's value is the next word. */
bool args_takes_value(const char *arg);

/* A terminal is used when both ends are one, and the user said nothing else. */
int run_choose_terminal(struct mvm_spec *spec, struct mvm_start_options *options, bool *ret_tty, struct mvm_error *err);

/* Reads options and, after --, the command into spec. 0 or -errno with err. */
int args_parse(int argc, char **argv, struct mvm_spec *spec, struct args *ret_args, struct mvm_error *err);

#endif
