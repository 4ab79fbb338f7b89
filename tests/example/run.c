/* run IMAGE COMMAND [ARGUMENT]...: a command in a VM of its own, on libmvm; says what it printed and how it ended. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include <mvm/mvm.h>

/* Passes on what is there. False at the end of the stream. */
static bool copy(int fd)
{
	char bytes[4096];
	ssize_t n = read(fd, bytes, sizeof(bytes));

	if (n > 0)
		(void)fwrite(bytes, 1, (size_t)n, stdout);
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* Takes output and events until both have come to their end. Returns the exit status. */
static int follow(struct mvm_vm *vm)
{
	struct pollfd fds[] = {
		{ .fd = mvm_fd(vm), .events = POLLIN },
		{ .fd = mvm_take_stream(vm, MVM_STDOUT), .events = POLLIN },
		{ .fd = mvm_take_stream(vm, MVM_STDERR), .events = POLLIN },
	};
	const struct mvm_event *event;
	int status = 125, r;

	while (fds[0].fd >= 0 || fds[1].fd >= 0 || fds[2].fd >= 0) {
		if (poll(fds, 3, -1) < 0)
			continue; /* EINTR */
		for (int i = 1; i < 3; i++)
			if (fds[i].revents && !copy(fds[i].fd)) {
				(void)close(fds[i].fd);
				fds[i].fd = -1;
			}
		while (fds[0].fd >= 0 && (r = mvm_next(vm, &event)) != 0) {
			if (r < 0 || event->type == MVM_EVENT_ENDED) {
				if (r > 0)
					status = event->status;
				printf("verdict: %s, status %d\n", r > 0 ? event->verdict : "supervisor died", status);
				fds[0].fd = -1; /* mvm_free() closes it */
			} else if (event->type == MVM_EVENT_LOG) {
				printf("log: %s\n", event->text);
			} else if (event->type == MVM_EVENT_ASK_BUSY) {
				(void)mvm_answer_busy(vm, false);
			}
		}
	}
	return status;
}

int main(int argc, char **argv)
{
	struct mvm_error err = { 0 };
	struct mvm_spec *spec;
	struct mvm_vm *vm;
	int r, status;

	if (argc < 3 || mvm_spec_new(&spec) < 0)
		return 125;
	r = mvm_spec_set(spec, "rootfs", argv[1], &err);
	if (r == 0)
		r = mvm_spec_set(spec, "memory", "96M", &err);
	if (r == 0)
		r = mvm_spec_set_args(spec, (const char *const *)argv + 2, &err);
	if (r == 0)
		r = mvm_start(spec, NULL, &vm, &err);
	mvm_spec_free(spec);
	if (r < 0) {
		fprintf(stderr, "%s: %s\n", argv[0], err.text);
		return 125;
	}
	status = follow(vm);
	mvm_free(vm);
	return status;
}
