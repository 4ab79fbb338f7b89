/* Between a command in a VM and whoever started it: streams, signals, its terminal, its end; see relay.h. */
#include "relay.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "channel.h"
#include "cli.h"
#include "notify.h"
#include "tty.h"

#define KILL_WINDOW_S 10 /* a second SIGINT or SIGTERM within it ends the VM, or leaves it */
#define LEFT          "left: the VM runs on"
#define ACTIVE_S      1 /* how often the VM is told that its streams are used */
#define READER_MS     2000 /* after a time-out or a stop: for a reader that takes nothing of the output */

enum slot {
	SLOT_VM,
	SLOT_SIGNALS,
	SLOT_WATCHDOG,
	SLOT_IN,
	SLOT_OUT = SLOT_IN + 2,
	SLOT_ERR = SLOT_OUT + 2,
	SLOTS = SLOT_ERR + 2
};

struct run {
	struct mvm_vm *vm;
	const struct notify *notify;
	struct channel in, out, err;
	bool tty;
	bool guest; /* the VM is not ours: it is left, not ended */
	struct keys *keys; /* that leave it */
	int signals;
	time_t active; /* CLOCK_MONOTONIC s when it was told last that it is */
	time_t last_stop; /* CLOCK_MONOTONIC s of the last SIGINT or SIGTERM; 0: none */
	unsigned stops;
	bool ended, deserted; /* deserted: the supervisor died, or was given up */
	bool given_up;
	bool cut_short; /* ended by a time-out or from outside: no reader may hold that up */
	int status;
	char last_error[MVM_ERROR_TEXT_MAX];
};

static const int forwarded[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2 };

/* Blocked from here on and read from a descriptor: none of them is lost, none interrupts. */
int relay_signals(bool tty)
{
	sigset_t set;

	(void)sigemptyset(&set);
	for (size_t i = 0; i < sizeof(forwarded) / sizeof(forwarded[0]); i++)
		(void)sigaddset(&set, forwarded[i]);
	if (tty) {
		(void)sigaddset(&set, SIGWINCH);
		(void)sigaddset(&set, SIGTSTP);
		(void)sigaddset(&set, SIGCONT);
	}
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	(void)signal(SIGPIPE, SIG_IGN); /* a closed stdout is the workload's to notice */
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void resize(struct run *run)
{
	uint16_t rows, cols;

	if (mvm_has_terminal(run->vm) && tty_size(&rows, &cols))
		(void)mvm_resize(run->vm, rows, cols); /* a VM that has gone needs no size */
}

static time_t seconds(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static bool is_over(const struct run *run)
{
	return run->ended || run->deserted;
}

/* The VM is left to itself; or, where it has ended, whoever does not read what it printed. */
static void leave(struct run *run, const char *why)
{
	tty_restore();
	if (!is_over(run)) {
		run->deserted = true;
		run->status = 0;
		if (why)
			cli_say(why);
	}
	channel_close(&run->out);
	channel_close(&run->err);
}

static void on_stop_signal(struct run *run, int signo)
{
	time_t now = seconds();

	run->stops = run->last_stop && now - run->last_stop <= KILL_WINDOW_S ? run->stops + 1 : 1;
	run->last_stop = now;
	if (run->guest && run->stops > 1) {
		leave(run, LEFT);
	} else if (run->stops == 1) {
		notify_say(run->notify, "STOPPING=1\nSTATUS=Ending, as asked for");
		(void)mvm_signal(run->vm, signo); /* when it is gone already, its end is on the way */
	} else if (run->stops == 2) {
		(void)mvm_kill(run->vm);
	} else {
		/* Not even the kill was heard. The supervisor ends the VM when we are gone. */
		cli_say("given up: the supervisor does not answer");
		run->deserted = run->given_up = true;
		run->status = CLI_STATUS_FAILED;
		channel_close(&run->out);
		channel_close(&run->err);
	}
}

static void on_signal(struct run *run)
{
	struct signalfd_siginfo info;

	if (read(run->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	switch ((int)info.ssi_signo) {
	case SIGWINCH:
		resize(run);
		break;
	case SIGTSTP: /* only from outside: typed in raw mode it is a byte for the VM */
		tty_restore();
		(void)raise(SIGSTOP);
		break;
	case SIGCONT:
		if (run->tty && !run->ended)
			tty_raw();
		resize(run);
		break;
	case SIGINT:
	case SIGTERM:
		on_stop_signal(run, (int)info.ssi_signo);
		break;
	default:
		if (run->guest && info.ssi_signo == SIGHUP)
			leave(run, NULL);
		else
			(void)mvm_signal(run->vm, (int)info.ssi_signo);
		break;
	}
}

static void on_ended(struct run *run, const struct mvm_event *event)
{
	static const char *const silent[] = { "exited", "signalled" };
	char text[MVM_ERROR_TEXT_MAX];

	run->ended = true;
	run->status = event->status;
	run->cut_short = strstr(event->verdict, "timeout") || !strcmp(event->verdict, "operator");
	tty_restore();
	for (size_t i = 0; i < sizeof(silent) / sizeof(silent[0]); i++)
		if (!strcmp(event->verdict, silent[i]))
			return;
	/* What the log said a moment ago need not be said again. */
	if (!strcmp(run->last_error, event->text))
		return;
	if (!strcmp(event->verdict, "refused") || !strncmp(event->verdict, "not-", 4)) {
		cli_say(event->text);
		return;
	}
	(void)snprintf(text, sizeof(text), "%s: %.900s", event->verdict, event->text);
	cli_say(text);
}

static void on_started(struct run *run, const char *id)
{
	char text[128];

	if (run->tty)
		tty_raw();
	(void)snprintf(text, sizeof(text), "READY=1\nSTATUS=VM %s runs", id);
	notify_say(run->notify, text);
}

static void on_vm(struct run *run)
{
	const struct mvm_event *event;
	int r;

	while ((r = mvm_next(run->vm, &event)) > 0) {
		switch (event->type) {
		case MVM_EVENT_STARTED:
			on_started(run, event->text);
			break;
		case MVM_EVENT_ALIVE:
			notify_say(run->notify, "WATCHDOG=1");
			break;
		case MVM_EVENT_LOG:
			if (event->level == MVM_LOG_ERROR)
				(void)snprintf(run->last_error, sizeof(run->last_error), "%s", event->text);
			cli_say(event->text);
			break;
		case MVM_EVENT_ASK_BUSY:
			(void)mvm_answer_busy(run->vm, channel_blocked(&run->out) || channel_blocked(&run->err));
			break;
		case MVM_EVENT_ENDED:
			on_ended(run, event);
			return;
		}
	}
	if (r < 0 && !run->ended) {
		run->deserted = true;
		run->status = CLI_STATUS_FAILED;
		tty_restore();
		cli_say("the supervisor died: the VM was ended with it");
	}
}

/* What the streams tell beside their bytes. */
static void look_at_streams(struct run *run)
{
	struct channel *const all[] = { &run->in, &run->out, &run->err };
	bool moved = false;

	for (unsigned i = 0; i < 3; i++) {
		moved |= all[i]->moved;
		all[i]->moved = false;
	}
	if (moved && !run->guest && !run->ended && seconds() - run->active >= ACTIVE_S) {
		run->active = seconds();
		(void)mvm_active(run->vm); /* one that has ended needs it not */
	}
	if (run->keys && run->keys->typed && !is_over(run))
		leave(run, LEFT);
	if (!run->guest || is_over(run) || channel_open(&run->out))
		return;
	/* Its end may be known by now, and be why there is no more; else it is that nobody reads what it prints. */
	on_vm(run);
	if (!is_over(run))
		leave(run, NULL);
}

/* Until the end is known and every byte of output has gone where it belongs, or nobody takes it any more. */
static void relay(struct run *run)
{
	struct pollfd fds[SLOTS];
	int n;

	while (!is_over(run) || channel_open(&run->out) || channel_open(&run->err)) {
		bool over = is_over(run);

		if (over)
			channel_close(&run->in);
		fds[SLOT_VM] = (struct pollfd){ .fd = over ? -1 : mvm_fd(run->vm), .events = POLLIN };
		fds[SLOT_SIGNALS] = (struct pollfd){ .fd = run->signals, .events = POLLIN };
		fds[SLOT_WATCHDOG] = (struct pollfd){ .fd = over ? -1 : run->notify->timer, .events = POLLIN };
		channel_prepare(&run->in, fds + SLOT_IN);
		channel_prepare(&run->out, fds + SLOT_OUT);
		channel_prepare(&run->err, fds + SLOT_ERR);
		n = poll(fds, SLOTS, over && run->cut_short ? READER_MS : -1);
		if (n < 0)
			continue; /* EINTR: of SIGCONT at most */
		if (n == 0) {
			cli_say("output was lost: nobody read it");
			channel_close(&run->out);
			channel_close(&run->err);
			return;
		}
		if (run->tty && fds[SLOT_OUT].revents && !run->ended)
			tty_raw(); /* the first prompt may be here before the word that the command runs */
		channel_run(&run->out, fds + SLOT_OUT);
		channel_run(&run->err, fds + SLOT_ERR);
		channel_run(&run->in, fds + SLOT_IN);
		look_at_streams(run);
		if (fds[SLOT_VM].revents && !run->deserted)
			on_vm(run);
		if (fds[SLOT_WATCHDOG].revents && notify_is_due(run->notify))
			(void)mvm_ping(run->vm); /* one that takes no questions is not alive */
		if (fds[SLOT_SIGNALS].revents)
			on_signal(run);
	}
}

/* The status, unless output was lost on our side of the VM. */
static int finish(struct run *run)
{
	const struct channel *const outs[] = { &run->out, &run->err };
	static const char *const names[] = { "stdout", "stderr" };
	char text[128];

	channel_close(&run->in);
	for (unsigned i = 0; i < 2; i++)
		if (outs[i]->error) {
			(void)snprintf(text, sizeof(text), "%s: cannot be written: %s", names[i],
				       strerror(outs[i]->error));
			cli_say(text);
			run->status = CLI_STATUS_FAILED;
		}
	(void)close(run->signals);
	if (run->guest && !run->ended)
		mvm_release(run->vm);
	else if (!run->given_up) /* it would wait for the supervisor */
		mvm_free(run->vm);
	return run->status;
}

static const struct notify nobody = NOTIFY_NONE;

int relay_run(struct mvm_vm *vm, bool tty, bool interactive, int signals, const struct notify *notify)
{
	struct run run = { .vm = vm,
			   .notify = notify ? notify : &nobody,
			   .tty = tty,
			   .signals = signals,
			   .status = CLI_STATUS_FAILED };
	int stdin_socket = mvm_take_stream(vm, MVM_STDIN);

	if (tty) {
		/* One socket, both ways: each direction has a descriptor of its own to close. */
		channel_init(&run.in, STDIN_FILENO, interactive ? dup(stdin_socket) : -1, false);
		channel_init(&run.out, STDOUT_FILENO, stdin_socket, true);
		channel_init(&run.err, STDERR_FILENO, -1, true);
	} else {
		channel_init(&run.in, STDIN_FILENO, stdin_socket, false);
		channel_init(&run.out, STDOUT_FILENO, mvm_take_stream(vm, MVM_STDOUT), true);
		channel_init(&run.err, STDERR_FILENO, mvm_take_stream(vm, MVM_STDERR), true);
	}
	relay(&run);
	return finish(&run);
}

int relay_attached(struct mvm_vm *vm, bool input, struct keys *keys, int signals)
{
	struct run run = {
		.vm = vm, .notify = &nobody, .guest = true, .signals = signals, .status = CLI_STATUS_FAILED
	};
	int stdin_socket = mvm_take_stream(vm, MVM_STDIN);

	if (!input && stdin_socket >= 0) {
		(void)close(stdin_socket);
		stdin_socket = -1;
	}
	run.tty = mvm_has_terminal(vm) && stdin_socket >= 0;
	channel_init(&run.in, STDIN_FILENO, stdin_socket, false);
	channel_init(&run.out, STDOUT_FILENO, mvm_take_stream(vm, MVM_STDOUT), true);
	channel_init(&run.err, STDERR_FILENO, mvm_take_stream(vm, MVM_STDERR), true);
	resize(&run);
	if (run.tty) {
		tty_raw();
		run.keys = run.in.keys = tty_is_raw() ? keys : NULL;
	}
	relay(&run);
	return finish(&run);
}
