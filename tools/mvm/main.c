#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "tty.h"

static const struct verb verbs[] = {
	{ "run", "mvm run [options] [--config FILE|-] --rootfs FILE -- command [argument…]",
	  "run a command in a microVM of its own", verb_run },
	{ "doctor", "mvm doctor [--format table|json] [--strict]",
	  "what this host offers to VMs, and what to put right", verb_doctor },
	{ "inspect", "mvm inspect ID [--security] [--format table|json|config]",
	  "what a VM that runs is, and what stands around it", verb_inspect },
	{ "start", "mvm start VM…", "start VMs that have a name and have ended again", verb_start },
	{ "exec", "mvm exec [-i] [-t] [-e NAME=VALUE] [-u USER] [-w DIR] VM [--] command [argument…]",
	  "run a further command in a VM that runs", verb_exec },
	{ "ps", "mvm ps [-a] [-q] [--format table|json]", "the VMs that there are", verb_ps },
	{ "logs", "mvm logs [-f] [-t] [--since TIME] [-n LINES] VM", "what a detached VM's command printed",
	  verb_logs },
	{ "wait", "mvm wait VM…", "wait for VMs to end, and print their exit statuses", verb_wait },
	{ "stop", "mvm stop [-t TIME] VM…", "end VMs: SIGTERM, and after a time (10s) the end", verb_stop },
	{ "kill", "mvm kill [-s SIGNAL] VM…", "end VMs at once, or send their commands a signal", verb_kill },
	{ "rm", "mvm rm [-f] VM…", "forget VMs that have a name and have ended", verb_rm },
	{ "stats", "mvm stats [-f] [--format table|json] [VM…]", "what VMs use", verb_stats },
	{ "events", "mvm events [-f] [--since TIME] [--filter KEY=VALUE[,KEY=VALUE]] [--format table|json]",
	  "what happened to VMs, and who asked for it", verb_events },
	{ "metrics", "mvm metrics [--listen unix:PATH|127.0.0.1:PORT]", "what VMs and their host do, for Prometheus",
	  verb_metrics },
	{ "top", "mvm top VM", "the processes in a VM", verb_top },
	{ "pause", "mvm pause VM…", "stop VMs' time", verb_pause },
	{ "resume", "mvm resume VM…", "let paused VMs go on", verb_resume },
	{ "update", "mvm update ID [--blk-iops N] [--blk-bps SIZE] [--io-max KEY=N[,KEY=N]]",
	  "change the limits of a VM that runs", verb_update },
	{ "verify", "mvm verify RECEIPT --key FILE [--sig FILE]", "whether a receipt is what was signed", verb_verify },
	{ "version", "mvm version", "versions of mvm, its kernel, its agent and its protocols", verb_version },
	{ "help", "mvm help [verb]", "what the verbs do", verb_help },
};

const struct verb *verb_at(size_t index)
{
	return index < sizeof(verbs) / sizeof(verbs[0]) ? &verbs[index] : NULL;
}

void cli_say(const char *text)
{
	/* One write: the workload may be writing to the same terminal. */
	(void)dprintf(STDERR_FILENO, "mvm: %s%s", text, tty_is_raw() ? "\r\n" : "\n");
}

int cli_fail(const struct mvm_error *err)
{
	cli_say(err->text);
	return CLI_STATUS_FAILED;
}

static const struct verb *verb_find(const char *name)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	if (!strcmp(name, "--version") || !strcmp(name, "-V"))
		return verb_find("version");
	if (!strcmp(name, "--help") || !strcmp(name, "-h"))
		return verb_find("help");
	return NULL;
}

/* A descriptor opened below would else become the workload's output. */
static bool standard_streams_open(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return false;
	return true;
}

int cli_unexpected(const char *what, const char *says)
{
	char text[256];

	(void)snprintf(text, sizeof(text), "%.100s: %s", what, says);
	for (unsigned char *p = (unsigned char *)text; *p; p++)
		if (*p < 0x20 || *p == 0x7f)
			*p = '?';
	cli_say(text);
	return CLI_STATUS_FAILED;
}

int main(int argc, char **argv)
{
	const struct verb *verb;
	struct timespec now;
	struct cli cli;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	cli.began_ns = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
	if (!standard_streams_open())
		return CLI_STATUS_FAILED;
	if (argc < 2) {
		char *help[] = { argv[0], NULL };

		(void)verb_help(&cli, 1, help);
		return CLI_STATUS_FAILED;
	}
	verb = verb_find(argv[1]);
	if (!verb) {
		char text[160];

		(void)snprintf(text, sizeof(text), "%.60s: unknown: mvm help lists what there is", argv[1]);
		cli_say(text);
		return CLI_STATUS_FAILED;
	}
	return verb->run(&cli, argc - 1, argv + 1);
}
