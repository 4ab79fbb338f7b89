/*
 * threads VM: eight threads of one program run commands in a VM, copy files in and out, and attach to it, all at the same
 * time (libmvm, "safe from several threads"). The VM's own command prints lines "tick". Run under ThreadSanitizer in the end-to-end
 * tests. Says what went wrong; exit status 0 when nothing did.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mvm/mvm.h"

#define THREADS 8U
#define ROUNDS  2U
#define END_MS  120000

struct worker {
	pthread_t thread;
	unsigned number;
	char failed[MVM_ERROR_TEXT_MAX + 256];
};

static const char *vm_name;

__attribute__((format(printf, 3, 4))) static bool expect(struct worker *w, bool good, const char *fmt, ...)
{
	va_list ap;

	if (good || w->failed[0])
		return good;
	va_start(ap, fmt);
	(void)vsnprintf(w->failed, sizeof(w->failed), fmt, ap);
	va_end(ap);
	return false;
}

/* Reads a stream to its end, or until `enough` bytes have come. Returns how many; closes it. */
static size_t take(int fd, char *text, size_t size, size_t enough)
{
	size_t len = 0;

	while (len < enough && len < size - 1) {
		struct pollfd ready = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (poll(&ready, 1, END_MS) <= 0)
			break;
		n = read(fd, text + len, size - 1 - len);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			break;
		len += n > 0 ? (size_t)n : 0;
	}
	text[len] = '\0';
	(void)close(fd);
	return len;
}

/* The exit status of its command, -1 without one. */
static int await(struct mvm_vm *vm)
{
	struct pollfd ready = { .fd = mvm_fd(vm), .events = POLLIN };
	const struct mvm_event *event;
	int r;

	while (poll(&ready, 1, END_MS) > 0)
		while ((r = mvm_next(vm, &event)) != 0) {
			if (r < 0)
				return -1;
			if (event->type == MVM_EVENT_ENDED)
				return event->status;
			if (event->type == MVM_EVENT_ASK_BUSY)
				(void)mvm_answer_busy(vm, false);
		}
	return -1;
}

static void run_a_command(struct worker *w)
{
	char script[64], text[64], want[64];
	const char *const args[] = { "sh", "-c", script, NULL };
	struct mvm_error err = { 0 };
	struct mvm_spec *spec;
	struct mvm_vm *vm;
	int status;

	(void)snprintf(script, sizeof(script), "echo this is %u; exit %u", w->number, w->number);
	(void)snprintf(want, sizeof(want), "this is %u\n", w->number);
	if (!expect(w, mvm_spec_new(&spec) == 0, "no spec"))
		return;
	if (expect(w, mvm_spec_set_args(spec, args, &err) == 0, "arguments: %s", err.text) &&
	    expect(w, mvm_exec(vm_name, spec, NULL, &vm, &err) == 0, "exec: %s", err.text)) {
		(void)take(mvm_take_stream(vm, MVM_STDOUT), text, sizeof(text), sizeof(text));
		status = await(vm);
		(void)expect(w, !strcmp(text, want), "exec: it printed \"%s\"", text);
		(void)expect(w, status == (int)w->number, "exec: status %d", status);
		mvm_free(vm);
	}
	mvm_spec_free(spec);
}

static void copy_a_file(struct worker *w)
{
	char in[32], there[32], back[32], text[64] = { 0 }, same[64] = { 0 }, note[MVM_ERROR_TEXT_MAX];
	struct mvm_error err = { 0 };
	FILE *f;

	(void)snprintf(in, sizeof(in), "in.%u", w->number);
	(void)snprintf(there, sizeof(there), "/tmp/there.%u", w->number);
	(void)snprintf(back, sizeof(back), "back.%u", w->number);
	(void)snprintf(text, sizeof(text), "a file of thread %u\n", w->number);
	f = fopen(in, "we");
	if (!expect(w, f && fputs(text, f) >= 0 && fclose(f) == 0, "%s: cannot be written", in))
		return;
	if (!expect(w, mvm_copy_in(vm_name, in, there, NULL, note, &err) == 0, "copy in: %s", err.text) ||
	    !expect(w, mvm_copy_out(vm_name, there, back, NULL, note, &err) == 0, "copy out: %s", err.text))
		return;
	f = fopen(back, "re");
	(void)expect(w, f && fgets(same, sizeof(same), f) && !strcmp(same, text), "%s: holds \"%s\"", back, same);
	if (f)
		(void)fclose(f);
}

static void watch_it(struct worker *w)
{
	struct mvm_error err = { 0 };
	struct mvm_vm *vm;
	char text[64];

	if (!expect(w, mvm_attach(vm_name, &vm, &err) == 0, "attach: %s", err.text))
		return;
	(void)expect(w, take(mvm_take_stream(vm, MVM_STDOUT), text, sizeof(text), 10) >= 10 && strstr(text, "tick\n"),
		     "attach: it printed \"%s\"", text);
	mvm_free(vm);
}

static void *work(void *arg)
{
	static void (*const works[])(struct worker *) = { run_a_command, copy_a_file, watch_it };
	struct worker *w = arg;

	for (unsigned i = 0; i < 3 * ROUNDS; i++)
		works[(w->number + i) % 3](w);
	return NULL;
}

int main(int argc, char **argv)
{
	struct worker workers[THREADS] = { 0 };
	int status = 0;

	if (argc != 2)
		return 2;
	vm_name = argv[1];
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i].number = i + 1;
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
			abort();
	}
	for (unsigned i = 0; i < THREADS; i++) {
		(void)pthread_join(workers[i].thread, NULL);
		if (workers[i].failed[0]) {
			fprintf(stderr, "thread %u: %s\n", workers[i].number, workers[i].failed);
			status = 1;
		}
	}
	return status;
}
