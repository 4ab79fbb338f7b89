/* Receipts: their contents, their places, and digests. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/receipt.h"

static char folder[] = "/tmp/test_receipt.XXXXXX";

static const char *field(json_object *root, const char *pointer)
{
	json_object *found = NULL;

	if (json_pointer_get(root, pointer, &found) != 0)
		return "(missing)";
	return found ? json_object_get_string(found) : "(null)";
}

/* What --pcap wrote, and by what it ended. */
static void test_capture(void **state)
{
	static const struct {
		enum capture_news ended;
		const char *text;
	} ends[] = { { CAPTURE_NOTHING, "run" },
		     { CAPTURE_FULL, "full" },
		     { CAPTURE_FAILED, "error" },
		     { CAPTURE_BROKEN, "error" } };
	static struct capture capture = { .path = "/p", .size = 5000, .frames = 9, .dropped = 4, .begun = true };
	struct verdict verdict = { 0 };
	struct receipt receipt = { .verdict = &verdict, .capture = &capture };

	(void)state;
	for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		json_object *root;
		char *text;

		capture.ended = ends[i].ended;
		text = receipt_text(&receipt);
		root = json_tokener_parse(text);
		assert_string_equal(field(root, "/capture/file"), "/p");
		assert_string_equal(field(root, "/capture/bytes"), "5000");
		assert_string_equal(field(root, "/capture/frames"), "9");
		assert_string_equal(field(root, "/capture/dropped"), "4");
		assert_string_equal(field(root, "/capture/ended"), ends[i].text);
		(void)json_object_put(root);
		free(text);
	}
}

static void test_contents(void **state)
{
	struct verdict verdict = { .kind = VERDICT_GUEST_PANIC, .status = 125, .cause = "the \"kernel\"\npanicked" };
	struct proto_exited exited = { .kind = le32_of(PROTO_EXIT_STATUS), .value = le32_of(9) };
	struct digest digests[RECEIPT_FILES];
	struct counters counters = { .disks[1] = { .reads = 4, .queues.kicks = UINT64_MAX } };
	struct receipt_used used = { .cpu_user_ns = 77, .blocks_out = 2 };
	struct vm_files files;
	struct receipt receipt = {
		.id = "0123456789ab",
		.verdict = &verdict,
		.began_ns = 1700000000000000000,
		.files = &files,
		.digests = digests,
		.used = &used,
		.counters = &counters,
		.stages = { [STAGE_COMMAND] = 1000, [STAGE_SUPERVISOR] = 1500, [STAGE_ENDED] = 9000 },
		.agent_version = "1\"",
		.exited = &exited,
	};
	struct sockaddr_storage addr = { .ss_family = AF_UNIX };
	struct broker broker = { 0 };
	const struct uplink_proxied proxied = { .opened = 3, .refused = 2, .to_guest_bytes = 77 };
	struct net_user net = { .asked = true, .proxy.counted = &proxied, .traffic = { .begun = 8, .in_bytes = 99 } };
	struct publish publish = { .nports = 1, .ports[0].host = 4711, .accepted = 9 };
	const struct udp_counted datagrams = { .to_clients = 5, .dropped = { [UDP_DROP_BAD] = 6 }, .broken = 1 };
	struct publish_udp udp = { .counted = &datagrams };
	static struct capture capture = {
		.path = "/p", .size = 5000, .frames = 9, .dropped = 4, .ended = CAPTURE_FULL
	};
	struct jail jail;
	struct mvm_spec *spec;
	json_object *root;
	char *text;

	(void)state;
	vm_files_init(&files);
	files.kernel_shared = true;
	files.kernel_path = strdup("/k");
	files.kernel.size = 5;
	files.fs_type = "erofs";
	files.ndisks = 2;
	files.disks[1].size = 1024;
	receipt_digests_init(digests);
	digests[RECEIPT_KERNEL] = digests[RECEIPT_DISKS + 1] = (struct digest){ .done = true, .fd = 0, .hex = "abc" };
	counters.vcpus[1].exits[COUNTERS_EXIT_PORT] = 3;
	counters.vcpus[1].exits[COUNTERS_EXIT_MMIO_READ] = 4;
	counters.publish.refused = 2;
	assert_int_equal(spec_publish_parse("-p", "80", &publish.ports[0].spec, NULL), 0);
	assert_int_equal(mvm_spec_new(&spec), 0);
	assert_int_equal(mvm_spec_set(spec, "vcpus", "2", NULL), 0);
	assert_int_equal(mvm_spec_set(spec, "cpus", "1.5", NULL), 0);
	assert_int_equal(mvm_spec_set(spec, "idle-timeout", "1m", NULL), 0);
	assert_int_equal(mvm_spec_set(spec, "io-max", "wbps=1m", NULL), 0);
	assert_int_equal(mvm_spec_set(spec, "env", "SECRET=hunter2", NULL), 0);
	assert_int_equal(mvm_spec_set(spec, "env", "A=", NULL), 0);
	assert_int_equal(mvm_spec_set(spec, "disk", "d1", NULL), 0);
	assert_int_equal(mvm_spec_set(spec, "disk", "d2,ro,id=data", NULL), 0);
	assert_int_equal(mvm_spec_set_args(spec, (const char *const[]){ "sh", "\xff\xc3\xa9\n", NULL }, NULL), 0);
	assert_int_equal(mvm_spec_set(spec, "rootfs", "a/b", NULL), 0);
	assert_int_equal(mvm_spec_set(spec, "allow-port", "5=tcp:name:80", NULL), 0);
	spec->ports[0].addresses = strdup("10.0.0.1");
	assert_int_equal(broker_allow(&broker, 5, "unix:/x", &addr, 1), 0);
	broker.channels[0].opened = 3;
	broker.refused = 7;
	broker.nrefused = 1;
	broker.refused_ports[0].port = 99;
	broker.refused_ports[0].times = 6;
	receipt.broker = &broker;
	receipt.publish = &publish;
	receipt.udp = &udp;
	receipt.net = &net;
	receipt.capture = &capture;
	receipt.spec = spec;
	jail_init(&jail);
	jail.missing = JAIL_LAYER_LANDLOCK_NET;
	jail.ids.uid = 1234;
	receipt.jail = &jail;
	text = receipt_text(&receipt);
	root = json_tokener_parse(text);
	assert_non_null(root);
	assert_int_equal(text[strlen(text) - 1], '\n');
	assert_string_equal(field(root, "/id"), "0123456789ab");
	assert_string_equal(field(root, "/verdict"), "guest-panic");
	assert_string_equal(field(root, "/status"), "125");
	assert_string_equal(field(root, "/word_of"), "host");
	assert_string_equal(field(root, "/cause"), "the \"kernel\"\npanicked");
	assert_string_equal(field(root, "/image/path"), "a/b");
	assert_string_equal(field(root, "/image/type"), "erofs");
	assert_string_equal(field(root, "/image/written"), "false");
	assert_string_equal(field(root, "/image/sha256"), "(null)"); /* not digested */
	assert_string_equal(field(root, "/kernel/sha256"), "abc");
	assert_string_equal(field(root, "/times_ns/command"), "0");
	assert_string_equal(field(root, "/times_ns/supervisor"), "500");
	assert_string_equal(field(root, "/times_ns/ended"), "8000");
	assert_string_equal(field(root, "/times_ns/started"), "(missing)"); /* never came */
	assert_string_equal(field(root, "/guest/agent"), "1\"");
	assert_string_equal(field(root, "/guest/exit_value"), "9");
	assert_string_equal(field(root, "/channels/allowed/0/port"), "5");
	assert_string_equal(field(root, "/channels/allowed/0/target"), "unix:/x");
	assert_string_equal(field(root, "/channels/allowed/0/addresses"), "10.0.0.1");
	assert_string_equal(field(root, "/channels/allowed/0/opened"), "3");
	assert_string_equal(field(root, "/channels/allowed/0/failed"), "0");
	assert_string_equal(field(root, "/channels/refused"), "7");
	assert_string_equal(field(root, "/channels/published/0"), "127.0.0.1:4711->80/tcp");
	assert_string_equal(field(root, "/channels/accepted"), "9");
	assert_string_equal(field(root, "/channels/udp/to_clients"), "5");
	assert_string_equal(field(root, "/channels/udp/dropped/bad"), "6");
	assert_string_equal(field(root, "/channels/udp/broken"), "1");
	assert_string_equal(field(root, "/egress/policy"), "allow");
	assert_string_equal(field(root, "/egress/traffic/begun"), "8");
	assert_string_equal(field(root, "/egress/traffic/in_bytes"), "99");
	assert_string_equal(field(root, "/egress/proxy/opened"), "3");
	assert_string_equal(field(root, "/egress/proxy/refused"), "2");
	assert_string_equal(field(root, "/egress/proxy/to_guest_bytes"), "77");
	assert_string_equal(field(root, "/capture"), "(null)"); /* it never began */
	assert_string_equal(field(root, "/asked/pcap_max"), "(null)");
	assert_string_equal(field(root, "/devices/publish/refused"), "2");
	assert_string_equal(field(root, "/channels/refused_ports/0/port"), "99");
	assert_string_equal(field(root, "/channels/refused_ports/0/times"), "6");
	assert_string_equal(field(root, "/receipt"), "1");
	assert_string_equal(field(root, "/began_ns"), "1700000000000000000");
	assert_string_equal(field(root, "/name"), "(null)");
	assert_string_equal(field(root, "/initrd"), "(null)");
	assert_string_equal(field(root, "/disks/0/sha256"), "(null)");
	assert_string_equal(field(root, "/disks/0/id"), "disk1");
	assert_string_equal(field(root, "/disks/0/written"), "true");
	assert_string_equal(field(root, "/disks/1/sha256"), "abc");
	assert_string_equal(field(root, "/disks/1/id"), "data");
	assert_string_equal(field(root, "/disks/1/bytes"), "1024");
	assert_string_equal(field(root, "/command/args/1"), "?\xc3\xa9\n"); /* UTF-8, whatever was given */
	assert_string_equal(field(root, "/command/environment/0"), "A");
	assert_string_equal(field(root, "/command/environment/1"), "SECRET");
	assert_null(strstr(text, "hunter2"));
	assert_string_equal(field(root, "/asked/cpus"), "1.50");
	assert_string_equal(field(root, "/asked/vcpus"), "2");
	assert_string_equal(field(root, "/asked/pids_max"), "(null)");
	assert_string_equal(field(root, "/asked/idle_timeout_ns"), "60000000000");
	assert_string_equal(field(root, "/asked/restart"), "(null)");
	assert_string_equal(field(root, "/asked/io_max/wbps"), "1048576");
	assert_string_equal(field(root, "/asked/io_max/rbps"), "(null)");
	assert_string_equal(field(root, "/used/cpu_user_ns"), "77");
	assert_string_equal(field(root, "/used/written_bytes"), "1024");
	assert_string_equal(field(root, "/used/memory_peak"), "(null)");
	assert_string_equal(field(root, "/devices/word_of"), "vmm");
	assert_string_equal(field(root, "/devices/disks/0/id"), "rootfs");
	assert_string_equal(field(root, "/devices/disks/1/reads"), "4");
	assert_string_equal(field(root, "/devices/disks/1/kicks"), "18446744073709551615"); /* hostile: as it is */
	assert_string_equal(field(root, "/devices/disks/3"), "(missing)");
	assert_string_equal(field(root, "/devices/vcpus/1/exits"), "7");
	assert_string_equal(field(root, "/devices/vcpus/1/port_io"), "3");
	assert_string_equal(field(root, "/devices/vcpus/2"), "(missing)");
	assert_string_equal(field(root, "/isolation/uid"), "1234");
	assert_string_equal(field(root, "/isolation/missing/0"), "landlock-net");
	assert_string_equal(field(root, "/isolation/in_force/0"), "namespaces");
	assert_string_equal(field(root, "/isolation/cgroup"), "false");
	assert_string_equal(field(root, "/isolation/kernel_shared"), "true");
	broker_free(&broker);
	(void)json_object_put(root);
	free(text);
	for (enum verdict_source source = VERDICT_FROM_HOST; source <= VERDICT_FROM_GUEST; source++) {
		static const char *const names[] = { "host", "vmm", "guest" };

		verdict.source = source;
		text = receipt_text(&receipt);
		root = json_tokener_parse(text);
		assert_string_equal(field(root, "/word_of"), names[source]);
		(void)json_object_put(root);
		free(text);
	}
	/* A run that was refused before there was a spec still has one. */
	receipt = (struct receipt){ .verdict = &verdict };
	text = receipt_text(&receipt);
	root = json_tokener_parse(text);
	assert_string_equal(field(root, "/id"), "(null)");
	assert_string_equal(field(root, "/isolation"), "(null)");
	assert_string_equal(field(root, "/command"), "(null)");
	assert_string_equal(field(root, "/used"), "(null)");
	assert_string_equal(field(root, "/devices"), "(null)");
	(void)json_object_put(root);
	free(text);
	vm_files_close(&files);
	mvm_spec_free(spec);
}

static void read_back(const char *path, const char *want)
{
	char got[64] = { 0 };
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(read(fd, got, sizeof(got) - 1), (ssize_t)strlen(want));
	assert_string_equal(got, want);
	(void)close(fd);
}

static void test_file(void **state)
{
	struct receipt_place place;
	struct mvm_error err;
	struct stat before, after;
	int old;

	(void)state;
	assert_int_equal(receipt_open("r.json", -1, &place, &err), 0);
	assert_int_equal(access("r.json", F_OK), -1); /* nothing before there is something to say */
	assert_int_equal(receipt_write(&place, "id", "first\n", NULL, &err), 0);
	read_back("r.json", "first\n");
	assert_int_equal(stat("r.json", &before), 0);
	old = open("r.json", O_RDONLY | O_CLOEXEC);
	assert_int_equal(receipt_write(&place, "id", "second\n", NULL, &err), 0);
	read_back("r.json", "second\n");
	assert_int_equal(stat("r.json", &after), 0);
	assert_int_not_equal(before.st_ino, after.st_ino); /* replaced, never half written */
	(void)close(old);
	receipt_close(&place);
	assert_int_equal(unlink("r.json"), 0);
}

static void test_places(void **state)
{
	static const struct {
		const char *target;
		int r;
	} cases[] = {
		{ "no/such/folder/r.json", -ENOENT },
		{ ".", -EISDIR },
		{ "sub/", -EISDIR },
		{ "sub", -EISDIR },
		{ "sub/r.json", 0 },
		{ "/dev/null", 0 },
		{ "fd:3", -EBADF }, /* nothing came along */
	};

	(void)state;
	assert_int_equal(mkdir("sub", 0700), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct receipt_place place = RECEIPT_NOWHERE;
		struct mvm_error err;

		if (receipt_open(cases[i].target, -1, &place, &err) != cases[i].r)
			fail_msg("%s: %s", cases[i].target, err.text);
		if (cases[i].r < 0)
			assert_non_null(strstr(err.text, "--receipt"));
		receipt_close(&place);
	}
	assert_int_equal(rmdir("sub"), 0);
}

static void test_descriptor(void **state)
{
	struct receipt_place place;
	struct mvm_error err;
	int pair[2];
	char got[8] = { 0 };

	(void)state;
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	assert_int_equal(receipt_open("fd:9", pair[0], &place, &err), -EBADF); /* the reading end; closed by it */
	assert_int_equal(fcntl(pair[0], F_GETFD), -1);
	(void)close(pair[1]);
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	assert_int_equal(receipt_open("fd:9", pair[1], &place, &err), 0);
	assert_int_equal(receipt_write(&place, "id", "text", NULL, &err), 0);
	assert_int_equal(read(pair[0], got, sizeof(got)), 4);
	assert_string_equal(got, "text");
	receipt_close(&place);
	(void)close(pair[0]);
}

static void test_full_disk(void **state)
{
	struct receipt_place place;
	struct mvm_error err;

	(void)state;
	assert_int_equal(receipt_open("/dev/full", -1, &place, &err), 0);
	assert_int_equal(receipt_write(&place, "id", "text", NULL, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "/dev/full: cannot be written: No space left"));
	receipt_close(&place);
}

static void digest_of(const char *bytes, size_t len, uint64_t size, int error, const char *hex)
{
	struct digest digest;
	unsigned steps = 0;
	int fd = open("data", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), (ssize_t)len);
	digest_init(&digest, fd, size);
	while (digest_step(&digest))
		assert_true(++steps < 1000);
	assert_true(digest.done);
	assert_int_equal(digest.error, error);
	if (hex)
		assert_string_equal(digest.hex, hex);
	digest_free(&digest);
	(void)close(fd);
	assert_int_equal(unlink("data"), 0);
}

static void test_digests(void **state)
{
	struct digest none;
	char *zeros = calloc(1, 1000000);

	(void)state;
	/* FIPS 180-2, appendix B.1, and the empty message */
	digest_of("abc", 3, 3, 0, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	digest_of("", 0, 0, 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	digest_of(zeros, 1000000, 1000000, 0, "d29751f2649b32ff572b5e0a9f541ea660a50f94ff0beedfb0b692b924cc8025");
	digest_of("abc", 3, 4, -EIO, NULL); /* it shrank meanwhile */
	digest_init(&none, -1, 0);
	assert_true(none.done);
	assert_false(digest_step(&none));
	free(zeros);
}

static int enter_folder(void **state)
{
	(void)state;
	return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int leave_folder(void **state)
{
	(void)state;
	return chdir("/") == 0 ? rmdir(folder) : -1; /* what was left behind makes this fail */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_contents), cmocka_unit_test(test_capture),    cmocka_unit_test(test_file),
		cmocka_unit_test(test_places),   cmocka_unit_test(test_descriptor), cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_digests),
	};

	return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
