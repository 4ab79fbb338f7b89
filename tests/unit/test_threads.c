/*
 * libmvm in a program with threads: eight of them do what needs no KVM, at the same time, each with objects of its
 * own. Under ThreadSanitizer (make VARIANT=tsan) no two may meet; in every build the process is afterwards as it was.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "mvm/mvm.h"

#define THREADS 8U
#define ROUNDS  6U
#define END_MS  60000
#define FDS_MAX 1024

/* cmocka's asserts belong to the main thread: the others remember the first thing that went wrong. */
struct worker {
	pthread_t thread;
	unsigned number;
	char failed[MVM_ERROR_TEXT_MAX + 256];
};

static char supervisor[PATH_MAX];
static atomic_bool done;
static bool inherited[FDS_MAX]; /* from whoever started this program */

/* Says what is wrong with it; the first failure of a worker stays. */
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

static struct mvm_spec *a_spec(struct worker *w)
{
	const char *const args[] = { "/bin/echo", "hello", NULL };
	char rootfs[64], size[16];
	struct mvm_error err = { 0 };
	struct mvm_spec *spec;

	(void)snprintf(rootfs, sizeof(rootfs), "/nonexistent/thread-%u.img", w->number);
	(void)snprintf(size, sizeof(size), "%uM", 64 + w->number);
	if (!expect(w, mvm_spec_new(&spec) == 0, "no spec"))
		return NULL;
	if (mvm_spec_set(spec, "rootfs", rootfs, &err) < 0 || mvm_spec_set(spec, "memory", size, &err) < 0 ||
	    mvm_spec_set(spec, "env", "A=b", &err) < 0 || mvm_spec_set(spec, "timeout", "1.5s", &err) < 0 ||
	    mvm_spec_set_args(spec, args, &err) < 0 || mvm_spec_check(spec, &err) < 0)
		(void)expect(w, false, "spec: %s", err.text);
	return spec;
}

static void use_spec(struct worker *w)
{
	struct mvm_spec *spec = a_spec(w), *again = NULL;
	char *json = NULL, *same = NULL;
	struct mvm_error err = { 0 };
	char rootfs[32];
	int r;

	if (!spec)
		return;
	(void)snprintf(rootfs, sizeof(rootfs), "thread-%u.img", w->number);
	r = mvm_spec_to_json(spec, &json, &err);
	r = r < 0 ? r : mvm_spec_from_json(json, strlen(json), &again, &err);
	r = r < 0 ? r : mvm_spec_to_json(again, &same, &err);
	if (expect(w, r == 0, "spec: %s", err.text)) {
		(void)expect(w, !strcmp(json, same), "%s is not %s", same, json);
		(void)expect(w, strstr(json, rootfs) != NULL, "no %s in %s", rootfs, json);
	}
	r = mvm_spec_set(spec, "memmory", "1g", &err);
	(void)expect(w, r == -EINVAL && err.code == EINVAL && strstr(err.text, "memory"), "wrong name: %s", err.text);
	(void)expect(w, mvm_spec_from_json("{", 1, &again, &err) < 0, "half an object was taken");
	free(json);
	free(same);
	mvm_spec_free(again);
	mvm_spec_free(spec);
}

static void use_tables(struct worker *w)
{
	struct mvm_limits limits = MVM_LIMITS_KEEP;
	struct mvm_error err = { 0 };
	char *path = NULL;
	size_t n = 0;

	while (mvm_spec_option(n))
		n++;
	(void)expect(w, n > 20, "%zu options", n);
	(void)expect(w, mvm_limits_set(&limits, "blk-bps", "10m", &err) == 0, "limits: %s", err.text);
	(void)expect(w, mvm_part_path("no-such-part", &path, &err) == -ENOENT, "a part: %s", path ? path : err.text);
	(void)expect(w, mvm_kernel_version("/nonexistent", &path, &err) < 0, "a kernel: %s", path ? path : "");
	(void)expect(w, mvm_version()[0] != '\0', "no version");
}

static void use_doctor(struct worker *w)
{
	struct mvm_error err = { 0 };
	struct mvm_doctor *doctor;
	size_t n = 0;

	if (!expect(w, mvm_doctor_new(&doctor, &err) == 0, "doctor: %s", err.text))
		return;
	for (const struct mvm_check *check; (check = mvm_doctor_check(doctor, n)); n++)
		(void)expect(w, mvm_check_state_name(check->state)[0] && check->found[0], "%s: nothing", check->name);
	(void)expect(w, n > 20, "%zu checks", n);
	mvm_doctor_free(doctor);
}

static void use_running(struct worker *w)
{
	struct mvm_limits limits = MVM_LIMITS_KEEP;
	struct mvm_inspection *inspection;
	struct mvm_error err = { 0 };
	char id[16];
	int r;

	(void)snprintf(id, sizeof(id), "0000000000%02x", w->number);
	limits.blk_iops = 7;
	r = mvm_inspect(id, true, &inspection, &err);
	(void)expect(w, r < 0 && err.code == -r && err.text[0], "inspect: %d", r);
	r = mvm_update(id, &limits, &err);
	(void)expect(w, r < 0 && err.code == -r && err.text[0], "update: %d", r);
	mvm_inspect_free(NULL);
}

/* The events until the last; then the supervisor's end. */
static void follow(struct worker *w, struct mvm_vm *vm)
{
	struct pollfd ready = { .fd = mvm_fd(vm), .events = POLLIN };
	const struct mvm_event *event;
	bool ended = false;
	int r = 0;

	while (r >= 0) {
		if (poll(&ready, 1, END_MS) == 0) {
			(void)expect(w, false, "no word from the supervisor");
			return;
		}
		while ((r = mvm_next(vm, &event)) > 0) {
			ended = ended || event->type == MVM_EVENT_ENDED;
			if (event->type == MVM_EVENT_ENDED)
				(void)expect(w, !strcmp(event->verdict, "refused") && event->status == 125,
					     "verdict %s, %d: %s", event->verdict, event->status, event->text);
		}
	}
	(void)expect(w, r == -EPIPE && ended, "the supervisor: %d, ended %d", r, ended);
}

static void use_start(struct worker *w)
{
	struct mvm_start_options options = MVM_START_OPTIONS;
	struct mvm_spec *spec = a_spec(w);
	struct mvm_error err = { 0 };
	struct mvm_vm *vm = NULL;
	int out;

	if (!spec)
		return;
	options.supervisor = "/nonexistent/mvm-supervisor";
	(void)expect(w, mvm_start(spec, &options, &vm, &err) == -ENOENT, "no supervisor: %s", err.text);
	options.supervisor = supervisor;
	if (expect(w, mvm_start(spec, &options, &vm, &err) == 0, "start: %s", err.text)) {
		out = mvm_take_stream(vm, MVM_STDOUT);
		(void)expect(w, out >= 0 && mvm_take_stream(vm, MVM_STDOUT) == -1, "stdout: %d", out);
		(void)mvm_signal(vm, SIGTERM); /* to whom there is not: no more than an error */
		follow(w, vm);
		(void)expect(w, mvm_kill(vm) < 0, "killed what has ended");
		(void)close(out);
		mvm_free(vm);
	}
	mvm_spec_free(spec);
}

static void *work(void *arg)
{
	void (*const uses[])(struct worker *) = { use_spec, use_start, use_doctor, use_tables, use_running };
	const size_t n = sizeof(uses) / sizeof(uses[0]);
	struct worker *w = arg;

	/* Each begins with another, so that all pairs meet. */
	for (size_t i = 0; i < ROUNDS * n && !w->failed[0]; i++)
		uses[(i + w->number) % n](w);
	return NULL;
}

/* How many descriptors there are; -1 and which: one that is not ours to answer for would reach a program executed now. */
static int descriptors(char *what, size_t size)
{
	DIR *folder = opendir("/proc/self/fd");
	const struct dirent *entry;
	ssize_t len;
	int n = 0;

	while (folder && n >= 0 && (entry = readdir(folder))) {
		int fd = entry->d_name[0] == '.' ? -1 : (int)strtol(entry->d_name, NULL, 10);
		int flags = fd < 0 || fd >= FDS_MAX || inherited[fd] ? FD_CLOEXEC : fcntl(fd, F_GETFD);

		n = flags >= 0 && !(flags & FD_CLOEXEC) ? -1 : n + 1;
		if (n < 0) {
			len = readlinkat(dirfd(folder), entry->d_name, what, size - 1);
			what[len < 0 ? 0 : len] = '\0';
		}
	}
	if (folder)
		(void)closedir(folder);
	return n;
}

static void *watch(void *arg)
{
	struct worker *w = arg;
	char what[128];

	while (!atomic_load(&done))
		if (!expect(w, descriptors(what, sizeof(what)) >= 0, "every child would inherit %s", what))
			break;
	return NULL;
}

static void test_threads(void **state)
{
	struct worker workers[THREADS] = { 0 }, watcher = { 0 };
	char before[PATH_MAX], after[PATH_MAX];
	sigset_t old, mask;
	mode_t mode = umask(022);
	char what[128];
	int fds;

	(void)state;
	for (int fd = 0; fd < FDS_MAX; fd++)
		inherited[fd] = fcntl(fd, F_GETFD) >= 0;
	assert_non_null(getcwd(before, sizeof(before)));
	(void)pthread_sigmask(SIG_SETMASK, NULL, &old);
	fds = descriptors(what, sizeof(what));
	assert_int_equal(pthread_create(&watcher.thread, NULL, watch, &watcher), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i].number = i;
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		(void)pthread_join(workers[i].thread, NULL);
	atomic_store(&done, true);
	(void)pthread_join(watcher.thread, NULL);
	for (unsigned i = 0; i < THREADS; i++)
		if (workers[i].failed[0])
			fail_msg("thread %u: %s", i, workers[i].failed);
	if (watcher.failed[0])
		fail_msg("%s", watcher.failed);

	assert_int_equal(descriptors(what, sizeof(what)), fds);
	assert_int_equal(umask(mode), 022);
	assert_string_equal(getcwd(after, sizeof(after)), before);
	(void)pthread_sigmask(SIG_SETMASK, NULL, &mask);
	for (int signo = 1; signo < 32; signo++)
		assert_int_equal(sigismember(&mask, signo), sigismember(&old, signo));
}

/* A caller with the standard descriptors closed, as a daemon may be: none of ours is taken for them. */
static void test_closed_standard_descriptors(void **state)
{
	struct worker w = { 0 };
	int kept[3];

	(void)state;
	for (int fd = 0; fd < 3; fd++) {
		kept[fd] = fcntl(fd, F_DUPFD_CLOEXEC, 10);
		(void)close(fd);
	}
	use_start(&w);
	for (int fd = 0; fd < 3; fd++)
		if (kept[fd] >= 0) {
			(void)dup2(kept[fd], fd);
			(void)close(kept[fd]);
		}
	if (w.failed[0])
		fail_msg("%s", w.failed);
}

/* As callers that were compiled with other headers, or without the macro. */
static void test_options_of_other_versions(void **state)
{
	struct {
		struct mvm_start_options known;
		const char *more;
	} newer = { MVM_START_OPTIONS, NULL };
	struct mvm_start_options none = { 0 };
	struct worker w = { 0 };
	struct mvm_spec *spec = a_spec(&w);
	struct mvm_error err = { 0 };
	struct mvm_vm *vm = NULL;

	(void)state;
	assert_non_null(spec);
	assert_int_equal(mvm_start(spec, &none, &vm, &err), -EINVAL);
	assert_non_null(strstr(err.text, "macro"));
	newer.known.size = sizeof(newer);
	newer.known.supervisor = supervisor;
	assert_int_equal(mvm_start(spec, &newer.known, &vm, &err), 0);
	mvm_free(vm);
	newer.more = "";
	assert_int_equal(mvm_start(spec, &newer.known, &vm, &err), -E2BIG);
	assert_non_null(strstr(err.text, mvm_version()));
	mvm_spec_free(spec);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_closed_standard_descriptors),
		cmocka_unit_test(test_options_of_other_versions),
		cmocka_unit_test(test_threads),
	};
	ssize_t n = readlink("/proc/self/exe", supervisor, sizeof(supervisor) - 32);
	char *slash;

	if (n <= 0)
		return 1;
	supervisor[n] = '\0';
	slash = strrchr(supervisor, '/');
	(void)strcpy(slash, "/../mvm-supervisor");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
