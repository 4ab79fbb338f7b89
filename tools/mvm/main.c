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
	  "run a command in a microVM of its own", verb_run, NULL },
	{ "doctor", "mvm doctor [--format table|json] [--strict]",
	  "what this host offers to VMs, and what to put right", verb_doctor, NULL },
	{ "inspect", "mvm inspect ID [--security] [--format table|json|config]",
	  "what a VM that runs is, and what stands around it", verb_inspect,
	  "ID is a VM's id, or a beginning that no other has." },
	{ "start", "mvm start [-a] [-i] [--detach-keys KEYS] VM…", "start VMs that have a name and have ended again",
	  verb_start, NULL },
	{ "attach", "mvm attach [--no-stdin] [--detach-keys KEYS] VM",
	  "join the streams of a detached VM's own command", verb_attach, NULL },
	{ "exec", "mvm exec [-i] [-t] [-e NAME=VALUE] [--env-file FILE] [-u USER] [-w DIR] VM [--] command [argument…]",
	  "run a further command in a VM that runs", verb_exec, NULL },
	{ "cp", "mvm cp [-a] [-L] VM:PATH PATH|- | PATH|- VM:PATH", "copy files out of a VM that runs, and into it",
	  verb_cp,
	  "VM is a name, an id, or the beginning of either; a path here that has a colon is written ./a:b.\n"
	  "FOLDER/. means what is in it; - is a tar stream." },
	{ "ps", "mvm ps [-a] [-q] [--format table|json]", "the VMs that there are", verb_ps, NULL },
	{ "logs", "mvm logs [-f] [-t] [--since TIME] [-n LINES] VM", "what a detached VM's command printed", verb_logs,
	  NULL },
	{ "wait", "mvm wait VM…", "wait for VMs to end, and print their exit statuses", verb_wait, NULL },
	{ "stop", "mvm stop [-t TIME] VM…", "end VMs: SIGTERM, and after a time (10s) the end", verb_stop, NULL },
	{ "kill", "mvm kill [-s SIGNAL] VM…", "end VMs at once, or send their commands a signal", verb_kill, NULL },
	{ "rm", "mvm rm [-f] VM…", "forget VMs that have a name and have ended", verb_rm, NULL },
	{ "stats", "mvm stats [-f] [--flows] [--format table|json] [VM…]", "what VMs use", verb_stats, NULL },
	{ "events", "mvm events [-f] [--since TIME] [--filter KEY=VALUE[,KEY=VALUE]] [--format table|json]",
	  "what happened to VMs, and who asked for it", verb_events, NULL },
	{ "metrics", "mvm metrics [--listen unix:PATH|127.0.0.1:PORT|[::1]:PORT]",
	  "what VMs and their host do, for Prometheus", verb_metrics, NULL },
	{ "network",
	  "mvm network create NAME [--subnet NET] [--subnet6 NET] [--internal] [--isolated] | "
	  "ls [--format table|json] | inspect NAME [--format table|json] | rm NAME…",
	  "networks that VMs join: run --net NAME", verb_network, NULL },
	{ "top", "mvm top [--format table|json] VM", "the processes in a VM", verb_top, NULL },
	{ "pause", "mvm pause VM…", "stop VMs' time", verb_pause, NULL },
	{ "resume", "mvm resume VM…", "let paused VMs go on", verb_resume, NULL },
	{ "update",
	  "mvm update ID [--blk-iops N] [--blk-bps SIZE] [--net-pps N] [--net-bps SIZE] [--io-max KEY=N[,KEY=N]]",
	  "change the limits of a VM that runs", verb_update, "ID is a VM's id, or a beginning that no other has." },
	{ "verify", "mvm verify RECEIPT --key FILE [--sig FILE]", "whether a receipt is what was signed", verb_verify,
	  NULL },
	{ "version", "mvm version", "versions of mvm, its kernel, its agent and its protocols", verb_version, NULL },
	{ "help", "mvm help [verb]", "what the verbs do", verb_help, NULL },
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
		return cli_unexpected("/dev/null",
				      "cannot be opened in the place of a standard stream that is closed: open "
				      "it, as in: mvm … </dev/null");
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
