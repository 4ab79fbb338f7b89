/* State folders: made, proved alive, reclaimed when stale, never through a planted link. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/record.h"
#include "lib/state_dir.h"

static char folder[] = "/tmp/test_state_dir.XXXXXX";
static char parent[64], path[256];

static const char *in_parent(const char *name)
{
	(void)snprintf(path, sizeof(path), "%s/%s", parent, name);
	return path;
}

static struct state_dir created(void)
{
	struct state_dir dir = STATE_DIR_NONE;
	struct mvm_error err = { 0 };

	if (state_dir_create(parent, NULL, &dir, &err) < 0)
		fail_msg("%s", err.text);
	return dir;
}

static void test_create_and_remove(void **state)
{
	struct state_dir dir = created();
	struct stat st;

	(void)state;
	assert_int_equal(strlen(dir.id), MVM_ID_LEN);
	assert_int_equal(strspn(dir.id, "0123456789abcdef"), MVM_ID_LEN);
	assert_int_equal(stat(parent, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(in_parent(dir.id), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(state_dir_write(&dir, "state.json", "{}", NULL), 0);
	assert_int_equal(state_dir_write(&dir, "state.json", "{\"a\":1}", NULL), 0);
	assert_int_equal(state_dir_write(&dir, "other", "x", NULL), 0);
	state_dir_remove(&dir);
	assert_int_equal(dir.fd, -1);
	assert_int_equal(rmdir(parent), 0); /* so it is empty */
}

static void test_two_at_once(void **state)
{
	struct state_dir a = created(), b = created();

	(void)state;
	assert_string_not_equal(a.id, b.id);
	assert_int_equal(state_dir_reclaim(parent, a.id), 0); /* b lives */
	assert_int_equal(access(in_parent(b.id), F_OK), 0);
	state_dir_remove(&b);
	state_dir_remove(&a);
}

static void test_reclaim(void **state)
{
	struct state_dir dead = created(), live = created();
	char id[MVM_ID_LEN + 1];

	(void)state;
	memcpy(id, dead.id, sizeof(id));
	assert_int_equal(state_dir_write(&dead, "state.json", "{}", NULL), 0);
	state_dir_close(&dead); /* as the kernel does for a killed process */
	assert_int_equal(access(in_parent(id), F_OK), 0);
	/* Things that are no run's are left alone. */
	assert_int_equal(mkdir(in_parent("not-a-run"), 0700), 0);
	assert_int_equal(mkdir(in_parent("0123456789ABCDEF"), 0700), 0);
	assert_int_equal(symlink("/", in_parent("0123456789ab")), 0);
	/* One that died between mkdir and its lock. */
	assert_int_equal(mkdir(in_parent("00000000000a"), 0700), 0);
	assert_int_equal(state_dir_reclaim(parent, live.id), 2);
	assert_int_equal(access(in_parent(id), F_OK), -1);
	assert_int_equal(access(in_parent("00000000000a"), F_OK), -1);
	assert_int_equal(access(in_parent(live.id), F_OK), 0);
	assert_int_equal(unlink(in_parent("0123456789ab")), 0);
	assert_int_equal(rmdir(in_parent("not-a-run")), 0);
	assert_int_equal(rmdir(in_parent("0123456789ABCDEF")), 0);
	assert_int_equal(state_dir_reclaim(parent, live.id), 0);
	state_dir_remove(&live);
}

static void test_reclaim_waits_for_creators(void **state)
{
	struct state_dir dead = created(), live = created();
	int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	(void)state;
	state_dir_close(&dead);
	assert_int_equal(flock(fd, LOCK_SH), 0); /* somebody is creating a folder */
	assert_int_equal(state_dir_reclaim(parent, live.id), 0);
	(void)close(fd);
	assert_int_equal(state_dir_reclaim(parent, live.id), 1);
	state_dir_remove(&live);
}

static void test_lock_dies_with_its_holder(void **state)
{
	struct state_dir live = created();
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		struct state_dir dir = STATE_DIR_NONE;

		_exit(state_dir_create(parent, NULL, &dir, NULL) < 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(state_dir_reclaim(parent, live.id), 1);
	state_dir_remove(&live);
}

/* ---- names ---- */

static struct state_dir named(const char *name, int want)
{
	struct state_dir dir = STATE_DIR_NONE;
	struct mvm_error err = { 0 };

	if (state_dir_create(parent, name, &dir, &err) != want)
		fail_msg("%s: %s", name, err.text);
	return dir;
}

static void test_names(void **state)
{
	struct state_dir web = named("web", 0), worker = named("worker", 0), again = STATE_DIR_NONE;
	char id[MVM_ID_LEN + 1], first[MVM_ID_LEN + 1], name[STATE_NAME_MAX + 1];
	struct mvm_error err;
	int fd;

	(void)state;
	(void)named("web", -EEXIST);
	state_dir_name(web.parent_fd, web.id, name);
	assert_string_equal(name, "web");
	assert_int_equal(state_dir_find(parent, "web", false, id, &fd, &err), 0);
	assert_string_equal(id, web.id);
	(void)close(fd);
	assert_int_equal(state_dir_find(parent, "w", false, id, &fd, &err), -ENOTUNIQ);
	assert_int_equal(state_dir_find(parent, "wo", false, id, &fd, &err), 0);
	assert_string_equal(id, worker.id);
	(void)close(fd);
	/* An ended one keeps its name; taken up again it has its id. */
	memcpy(first, web.id, sizeof(first));
	state_dir_keep(&web, "{}", &err);
	assert_int_equal(state_dir_find(parent, "web", false, id, &fd, &err), -ESRCH);
	assert_int_equal(state_dir_find(parent, "web", true, id, &fd, &err), 0);
	assert_false(state_dir_alive(fd));
	(void)close(fd);
	(void)named("web", -EEXIST);
	assert_int_equal(state_dir_reopen(parent, first, &again, &err), 0);
	assert_int_equal(state_dir_reopen(parent, first, &web, &err), -EBUSY);
	assert_int_equal(state_dir_reopen(parent, "no-such-id", &web, &err), -EINVAL);
	state_dir_remove(&again);
	assert_int_equal(state_dir_reopen(parent, first, &web, &err), -ESRCH);
	state_dir_remove(&worker);
}

/* What a crash leaves of a VM with a name: its folder, which then says that it has ended. */
static void test_named_crash(void **state)
{
	struct record record = { .id = (char[]){ "0123456789ab" },
				 .name = (char[]){ "web" },
				 .rootfs = (char[]){ "/x" },
				 .command = (char[]){ "true" },
				 .state = RECORD_RUNNING,
				 .supervisor = 7 },
		      found;
	struct state_dir web = named("web", 0), half = named("half", 0), live = created();
	char *text = record_text(&record), id[MVM_ID_LEN + 1];
	struct mvm_error err;
	int fd;

	(void)state;
	assert_int_equal(state_dir_write(&web, RECORD_FILE, text, &err), 0);
	free(text);
	state_dir_close(&web);
	state_dir_close(&half); /* it never said anything */
	assert_int_equal(state_dir_reclaim(parent, live.id), 2);
	assert_int_equal(state_dir_reclaim(parent, live.id), 0);
	assert_int_equal(state_dir_find(parent, "half", true, id, &fd, &err), -ESRCH);
	assert_int_equal(state_dir_find(parent, "web", true, id, &fd, &err), 0);
	assert_int_equal(record_read(fd, &found), 0);
	assert_int_equal(found.state, RECORD_ENDED);
	assert_string_equal(found.verdict, "vmm-fault");
	assert_int_equal(found.status, 125);
	assert_true(found.ended_ns > 0);
	record_free(&found);
	(void)close(fd);
	assert_int_equal(state_dir_reopen(parent, id, &web, &err), 0);
	state_dir_remove(&web);
	state_dir_remove(&live);
}

/* refused(WORD): creation fails with a text that holds it. */
static void refused(int code, const char *word)
{
	struct state_dir dir = STATE_DIR_NONE;
	struct mvm_error err = { 0 };
	int r = state_dir_create(parent, NULL, &dir, &err);

	if (r != -code || !strstr(err.text, word))
		fail_msg("%d: %s", r, err.text);
}

/* A group that cannot be removed yet, as a thread of the VMM's is still leaving it; here: a folder that is not empty. */
static void make_stuck(const char *group, char inside[128])
{
	(void)snprintf(inside, 128, "%s/inside", group);
	assert_int_equal(mkdir(group, 0700), 0);
	assert_int_equal(mkdir(inside, 0700), 0);
}

static void test_cgroup_that_stays(void **state)
{
	char group[96], other[96], inside[128], list[256], id[MVM_ID_LEN + 1];
	struct record record = { .rootfs = list, .command = list, .state = RECORD_ENDED };
	struct mvm_error err;
	struct state_dir dir;
	char *text;

	(void)state;
	(void)snprintf(group, sizeof(group), "%s/mvm-stuck", folder);
	(void)snprintf(other, sizeof(other), "%s/mvm-empty", folder);
	for (unsigned named = 0; named < 2; named++) {
		make_stuck(group, inside);
		assert_int_equal(mkdir(other, 0700), 0);
		assert_int_equal(state_dir_create(parent, named ? "web" : NULL, &dir, &err), 0);
		memcpy(id, dir.id, sizeof(id));
		(void)snprintf(list, sizeof(list), "%s\n%s\n", group, other);
		assert_int_equal(state_dir_write(&dir, STATE_CGROUPS, list, &err), 0);
		record.id = id;
		text = record_text(&record);
		if (named)
			state_dir_keep(&dir, text, &err);
		else
			state_dir_remove(&dir);
		free(text);
		assert_int_equal(access(other, F_OK), -1);
		assert_int_equal(access(group, F_OK), 0);
		(void)snprintf(list, sizeof(list), "%s/%s/%s", parent, id, STATE_CGROUPS);
		assert_int_equal(access(list, F_OK), 0); /* not forgotten */
		(void)state_dir_reclaim(parent, "");
		assert_int_equal(access(list, F_OK), 0); /* nor by one who tries too early */
		assert_int_equal(rmdir(inside), 0);
		(void)state_dir_reclaim(parent, "");
		assert_int_equal(access(group, F_OK), -1);
		assert_int_equal(access(list, F_OK), -1);
		assert_int_equal(access(in_parent(id), F_OK), named ? 0 : -1);
	}
	assert_int_equal(state_dir_reopen(parent, id, &dir, &err), 0);
	state_dir_remove(&dir);
	(void)unlink(in_parent("events")); /* what reclaiming told */
	assert_int_equal(rmdir(parent), 0);
}

/* `mvm rm` while the group is still there: the name is free at once, the group is not forgotten. */
static void test_removed_before_its_cgroup(void **state)
{
	char group[96], inside[128], list[256];
	struct mvm_error err;
	struct state_dir dir, again;

	(void)state;
	(void)snprintf(group, sizeof(group), "%s/mvm-stuck", folder);
	make_stuck(group, inside);
	assert_int_equal(state_dir_create(parent, "web", &dir, &err), 0);
	(void)snprintf(list, sizeof(list), "%s\n", group);
	assert_int_equal(state_dir_write(&dir, STATE_CGROUPS, list, &err), 0);
	state_dir_remove(&dir);
	assert_int_equal(state_dir_create(parent, "web", &again, &err), 0);
	state_dir_remove(&again);
	assert_int_equal(rmdir(inside), 0);
	assert_int_equal(state_dir_reclaim(parent, ""), 1);
	assert_int_equal(access(group, F_OK), -1);
	assert_int_equal(rmdir(parent), 0);
}

static void test_planted_parents(void **state)
{
	char elsewhere[64];
	struct stat st;

	(void)state;
	(void)unlink(in_parent("events")); /* what reclaiming told */
	(void)rmdir(parent);
	(void)snprintf(elsewhere, sizeof(elsewhere), "%s/elsewhere", folder);
	assert_int_equal(mkdir(elsewhere, 0700), 0);
	assert_int_equal(symlink("elsewhere", parent), 0);
	refused(ENOTDIR, "link");
	assert_int_equal(unlink(parent), 0);
	assert_int_equal(symlink("dangling", parent), 0);
	refused(ENOTDIR, "link");
	assert_int_equal(unlink(parent), 0);
	assert_int_equal(close(open(parent, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)), 0);
	refused(ENOTDIR, "link or a file");
	assert_int_equal(unlink(parent), 0);
	assert_int_equal(mkdir(parent, 0700), 0);
	assert_int_equal(chmod(parent, 0777), 0);
	refused(EPERM, "chmod 700");
	assert_int_equal(chmod(parent, 0700), 0);
	if (geteuid() == 0) {
		assert_int_equal(chown(parent, 12345, 0), 0);
		refused(EPERM, "belongs to uid 12345");
		assert_int_equal(chown(parent, 0, 0), 0);
	}
	assert_int_equal(stat(elsewhere, &st), 0);
	assert_int_equal(st.st_nlink, 2); /* nothing was put there */
	assert_int_equal(rmdir(elsewhere), 0);
}

static void test_parent_names(void **state)
{
	char name[PATH_MAX], *long_name = calloc(1, PATH_MAX + 8);

	(void)state;
	assert_int_equal(setenv("XDG_RUNTIME_DIR", "/run/user/7", 1), 0);
	assert_int_equal(state_dir_parent(name, NULL), 0);
	assert_string_equal(name, geteuid() == 0 ? "/run/mvm" : "/run/user/7/mvm");
	memset(long_name, 'x', PATH_MAX);
	long_name[0] = '/';
	assert_int_equal(setenv("XDG_RUNTIME_DIR", long_name, 1), 0);
	assert_int_equal(state_dir_parent(name, NULL), geteuid() == 0 ? 0 : -ENAMETOOLONG);
	assert_int_equal(unsetenv("XDG_RUNTIME_DIR"), 0);
	assert_int_equal(state_dir_parent(name, NULL), 0);
	assert_true(geteuid() == 0 || !strncmp(name, "/tmp/mvm-", 9));
	free(long_name);
}

static int make_folder(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	(void)snprintf(parent, sizeof(parent), "%s/mvm", folder);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	(void)unlink(in_parent("events")); /* what reclaiming told */
	(void)rmdir(parent);
	return rmdir(folder); /* whatever a test left behind makes this fail */
}

static void test_find(void **state)
{
	struct state_dir a = created(), b = created(), dead = created();
	char id[MVM_ID_LEN + 1], prefix[MVM_ID_LEN + 1], dead_id[MVM_ID_LEN + 1];
	struct mvm_error err;
	size_t common = 0;
	int fd = -1;

	(void)state;
	memcpy(dead_id, dead.id, sizeof(dead_id));
	state_dir_close(&dead);
	while (a.id[common] == b.id[common])
		common++;
	/* Its whole id, and the shortest beginning that is its alone. */
	assert_int_equal(state_dir_find(parent, a.id, false, id, &fd, &err), 0);
	assert_string_equal(id, a.id);
	assert_int_equal(faccessat(fd, "lock", F_OK, 0), 0);
	(void)close(fd);
	(void)snprintf(prefix, sizeof(prefix), "%.*s", (int)common + 1, b.id);
	assert_int_equal(state_dir_find(parent, prefix, false, id, &fd, &err), 0);
	assert_string_equal(id, b.id);
	(void)close(fd);
	if (common) {
		prefix[common] = '\0';
		assert_int_equal(state_dir_find(parent, prefix, false, id, &fd, &err), -ENOTUNIQ);
	}
	assert_int_equal(state_dir_find(parent, dead_id, false, id, &fd, &err), -ESRCH);
	assert_true(strstr(err.text, a.id) && strstr(err.text, b.id));
	assert_int_equal(state_dir_find(parent, "", false, id, &fd, &err), -EINVAL);
	assert_int_equal(state_dir_find(parent, "../x", false, id, &fd, &err), -ESRCH);
	assert_int_equal(state_dir_find(parent, "0123456789abc", false, id, &fd, &err), -ESRCH);
	assert_int_equal(state_dir_find("/tmp/no-such-folder", a.id, false, id, &fd, &err), -ESRCH);
	assert_non_null(strstr(err.text, "none is running"));
	assert_int_equal(state_dir_reclaim(parent, a.id), 1);
	state_dir_remove(&b);
	state_dir_remove(&a);
	(void)unlink(in_parent("events"));
	assert_int_equal(rmdir(parent), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create_and_remove),
		cmocka_unit_test(test_two_at_once),
		cmocka_unit_test(test_reclaim),
		cmocka_unit_test(test_reclaim_waits_for_creators),
		cmocka_unit_test(test_lock_dies_with_its_holder),
		cmocka_unit_test(test_cgroup_that_stays),
		cmocka_unit_test(test_removed_before_its_cgroup),
		cmocka_unit_test(test_planted_parents),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_named_crash),
		cmocka_unit_test(test_parent_names),
		cmocka_unit_test(test_find),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
