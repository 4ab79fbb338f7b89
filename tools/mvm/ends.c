/* mvm stop, kill, wait, rm, pause, resume: what is done to VMs, each of several. */
#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli.h"
#include "mvm/cleanup.h"
#include "opts.h"

#define STOP_GRACE_NS 10000000000ULL /* docker's ten seconds */

struct call {
	uint64_t grace_ns;
	int signo;
	bool force; /* rm: kill it first; pause: rather than resume */
};

/* For each VM that was named; the last failure's status, but of one VM alone its own. */
static int for_each(int argc, char **argv, const struct opt *opts, struct call *call,
		    bool (*prepare)(struct call *call), int (*one)(const char *id, const struct call *call))
{
	struct words words;
	int status = 0;

	if (!opts_parse(argc, argv, opts, &words, &status))
		return status;
	if (!words.n)
		return cli_unexpected(argv[0], "which VM? give its name or id: mvm ps shows them");
	if (prepare && !prepare(call))
		return CLI_STATUS_FAILED;
	for (int i = 0; i < words.n; i++) {
		int r = one(words.v[i], call);

		status = r ? r : status;
	}
	return fflush(stdout) == 0 ? status : CLI_STATUS_FAILED;
}

/* ---- stop ---- */

static const char *stop_time;

static bool prepare_stop(struct call *call)
{
	call->grace_ns = STOP_GRACE_NS;
	return !stop_time || opts_time("--time", stop_time, &call->grace_ns);
}

static int stop(const char *id, const struct call *call)
{
	struct mvm_error err;

	return mvm_end(id, call->grace_ns, NULL, &err) < 0 ? cli_fail(&err) : 0;
}

int verb_stop(const struct cli *cli, int argc, char **argv)
{
	const struct opt opts[] = { { "time", 't', NULL, &stop_time, "TIME", "until the end after SIGTERM (10s)" },
				    { 0 } };
	struct call call = { 0 };

	(void)cli;
	return for_each(argc, argv, opts, &call, prepare_stop, stop);
}

/* ---- kill ---- */

static const char *kill_signal;

/* "9", "KILL", "SIGKILL". */
static bool prepare_kill(struct call *call)
{
	const char *name = kill_signal;

	call->signo = SIGKILL;
	if (!name)
		return true;
	call->signo = 0;
	if (isdigit((unsigned char)*name) && strlen(name) <= 2)
		call->signo = (int)strtol(name, NULL, 10); /* two digits at most */
	if (!strncasecmp(name, "SIG", 3))
		name += 3;
	for (int i = 1; i < 32 && !call->signo; i++)
		if (sigabbrev_np(i) && !strcasecmp(sigabbrev_np(i), name))
			call->signo = i;
	if (call->signo >= 1 && call->signo <= 64)
		return true;
	(void)cli_unexpected(kill_signal, "--signal: no signal: a name as TERM, or 1 to 64");
	return false;
}

static int send_signal(const char *id, const struct call *call)
{
	struct mvm_error err;

	return mvm_send_signal(id, call->signo, &err) < 0 ? cli_fail(&err) : 0;
}

int verb_kill(const struct cli *cli, int argc, char **argv)
{
	const struct opt opts[] = { { "signal", 's', NULL, &kill_signal, "SIGNAL",
				      "send this to the command; the VM ends when it does" },
				    { 0 } };
	struct call call = { 0 };

	(void)cli;
	return for_each(argc, argv, opts, &call, prepare_kill, send_signal);
}

/* ---- wait ---- */

/* As docker's: the status is printed. */
static int wait_for(const char *id, const struct call *call)
{
	struct mvm_error err;
	struct mvm_end end = MVM_END;

	(void)call;
	if (mvm_wait(id, &end, &err) < 0)
		return cli_fail(&err);
	(void)printf("%d\n", end.status);
	if (strcmp(end.verdict, "exited") != 0) {
		char text[MVM_ERROR_TEXT_MAX];

		(void)snprintf(text, sizeof(text), "%.64s: %s: %.800s", id, end.verdict, end.cause);
		cli_say(text);
	}
	return 0;
}

int verb_wait(const struct cli *cli, int argc, char **argv)
{
	const struct opt opts[] = { { 0 } };
	struct call call = { 0 };

	(void)cli;
	return for_each(argc, argv, opts, &call, NULL, wait_for);
}

/* ---- rm ---- */

static int forget(const char *id, const struct call *call)
{
	struct mvm_error err;

	return mvm_remove(id, call->force, &err) < 0 ? cli_fail(&err) : 0;
}

int verb_rm(const struct cli *cli, int argc, char **argv)
{
	struct call call = { 0 };
	const struct opt opts[] = { { "force", 'f', &call.force, NULL, NULL, "one that runs is killed first" }, { 0 } };

	(void)cli;
	return for_each(argc, argv, opts, &call, NULL, forget);
}

/* ---- pause, resume ---- */

static int pause_it(const char *id, const struct call *call)
{
	struct mvm_error err;

	return (call->force ? mvm_pause(id, &err) : mvm_resume(id, &err)) < 0 ? cli_fail(&err) : 0;
}

int verb_pause(const struct cli *cli, int argc, char **argv)
{
	const struct opt opts[] = { { 0 } };
	struct call call = { .force = true };

	(void)cli;
	return for_each(argc, argv, opts, &call, NULL, pause_it);
}

int verb_resume(const struct cli *cli, int argc, char **argv)
{
	const struct opt opts[] = { { 0 } };
	struct call call = { 0 };

	(void)cli;
	return for_each(argc, argv, opts, &call, NULL, pause_it);
}
