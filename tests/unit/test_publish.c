/* Published ports: binding, who is in the way, clients and their numbers. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/publish.h"

static struct spec_publish spec_of(const char *text)
{
	struct spec_publish spec;
	struct mvm_error err;

	assert_int_equal(spec_publish_parse("-p", text, &spec, &err), 0);
	return spec;
}

/* A socket as a service manager hands it over. */
static int bound(int type, bool listening, uint16_t *ret_port)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	if (listening)
		assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
	*ret_port = ntohs(in.sin_port);
	return fd;
}

static int client_of(const struct publish *publish, unsigned index)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_port = htons(publish->ports[index].host),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	return fd;
}

static void wait_for_client(const struct publish *publish, unsigned index)
{
	struct pollfd ready = { .fd = publish->ports[index].fd, .events = POLLIN };

	assert_int_equal(poll(&ready, 1, 10000), 1);
}

static void test_handed(void **state)
{
	struct publish publish = { 0 };
	struct spec_publish specs[2];
	char text[SPEC_PUBLISH_TEXT];
	struct mvm_error err;
	uint16_t port, other;
	int fd = bound(SOCK_STREAM, true, &port), wrong, client;

	(void)state;
	(void)snprintf(text, sizeof(text), "%u:80", port);
	specs[0] = spec_of(text);
	specs[1] = spec_of("80"); /* listens itself */
	assert_int_equal(publish_hand(&publish, fd, &err), 0);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(publish_open(&publish, specs, 2, &err), 0);
	assert_int_equal(publish.ports[0].fd, fd);
	assert_int_equal(publish.ports[0].host, port);
	assert_int_equal(publish.nhanded, 0);
	client = client_of(&publish, 0);
	wait_for_client(&publish, 0);
	(void)close(client);
	publish_close(&publish);

	/* What does not listen, is no TCP, or is nobody's, is said. */
	publish = (struct publish){ 0 };
	wrong = bound(SOCK_STREAM, false, &other);
	assert_int_equal(publish_hand(&publish, wrong, &err), -EINVAL);
	(void)close(wrong);
	wrong = bound(SOCK_DGRAM, false, &other);
	assert_int_equal(publish_hand(&publish, wrong, &err), -EINVAL);
	assert_non_null(strstr(err.text, "ListenStream"));
	(void)close(wrong);
	assert_int_equal(publish_hand(&publish, 1000, &err), -EINVAL);
	fd = bound(SOCK_STREAM, true, &port);
	assert_int_equal(publish_hand(&publish, fd, &err), 0);
	assert_int_equal(publish_open(&publish, specs + 1, 1, &err), -EINVAL);
	(void)snprintf(text, sizeof(text), "add -p 127.0.0.1:%u:PORT", port);
	assert_non_null(strstr(err.text, text));
	publish_close(&publish);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static void test_open(void **state)
{
	struct spec_publish specs[] = { spec_of("80"), spec_of("127.0.0.1::80"), spec_of("127.0.0.2::443") };
	struct publish publish = { 0 }, other = { 0 };
	char text[SPEC_PUBLISH_TEXT], wanted[3 * SPEC_PUBLISH_TEXT];
	struct mvm_error err;
	char *where;

	(void)state;
	assert_int_equal(publish_open(&publish, specs, 3, &err), 0);
	assert_int_equal(publish.nports, 3);
	assert_true(publish.ports[0].host && publish.ports[0].host != publish.ports[1].host);
	where = publish_where(&publish);
	(void)snprintf(wanted, sizeof(wanted), "127.0.0.1:%u->80/tcp, 127.0.0.1:%u->80/tcp, 127.0.0.2:%u->443/tcp",
		       publish.ports[0].host, publish.ports[1].host, publish.ports[2].host);
	assert_string_equal(where, wanted);
	free(where);

	/* Of several that cannot all be had none stays. */
	(void)snprintf(text, sizeof(text), "%u:1", publish.ports[1].host);
	specs[1] = spec_of(text);
	assert_int_equal(publish_open(&other, specs, 2, &err), -EADDRINUSE);
	assert_int_equal(other.nports, 0);
	assert_non_null(strstr(err.text, "another -p of this VM"));
	specs[1] = spec_of("192.0.2.1:0:1"); /* RFC 5737: nobody's */
	assert_int_equal(publish_open(&other, specs, 2, &err), -EADDRNOTAVAIL);
	assert_non_null(strstr(err.text, "192.0.2.1:0:1"));
	publish_close(&publish);
	publish_close(&publish);
	where = publish_where(&publish); /* still told when it is over */
	assert_string_equal(where, wanted);
	free(where);
}

/* As many as there may be, then none; who is gone makes room. */
static void test_bounds(void **state)
{
	struct spec_publish spec = spec_of("80");
	int clients[CONTROL_CONNS_MAX + 1], fd = -1;
	bool seen[CONTROL_CONNS_MAX] = { false };
	struct publish publish = { 0 };
	struct mvm_error err;
	uint32_t id = 0, again;

	(void)state;
	assert_int_equal(publish_open(&publish, &spec, 1, &err), 0);
	assert_int_equal(publish_accept(&publish, 0, &fd, &id), 0);
	assert_int_equal(publish_closed(&publish, 0), -EPROTO);
	for (unsigned i = 0; i <= CONTROL_CONNS_MAX; i++) {
		clients[i] = client_of(&publish, 0);
		wait_for_client(&publish, 0);
		if (i == CONTROL_CONNS_MAX)
			break;
		assert_int_equal(publish_accept(&publish, 0, &fd, &id), 1);
		assert_true(id < CONTROL_CONNS_MAX && !seen[id]);
		seen[id] = true;
		assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
		assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
		(void)close(fd);
	}
	assert_int_equal(publish_accept(&publish, 0, &fd, &id), 0);
	assert_int_equal(publish_closed(&publish, CONTROL_CONNS_MAX), -EPROTO);
	assert_int_equal(publish_closed(&publish, 77), 0);
	assert_int_equal(publish_closed(&publish, 77), -EPROTO);
	assert_int_equal(publish_accept(&publish, 0, &fd, &again), 1);
	assert_int_equal(again, 77);
	(void)close(fd);
	assert_int_equal(publish.accepted, CONTROL_CONNS_MAX + 1);
	publish_forget(&publish);
	assert_int_equal(publish.nconns, 0);
	assert_int_equal(publish_closed(&publish, 77), -EPROTO);
	for (unsigned i = 0; i <= CONTROL_CONNS_MAX; i++)
		(void)close(clients[i]);
	publish_close(&publish);
}

/* A crowd at one port leaves room for the other's clients. */
static void test_reserve(void **state)
{
	struct spec_publish specs[] = { spec_of("80"), spec_of("81") };
	unsigned most = CONTROL_CONNS_MAX - PUBLISH_RESERVE;
	struct publish publish = { 0 };
	struct mvm_error err;
	int client, fd = -1;
	uint32_t id = 0;

	(void)state;
	assert_int_equal(publish_open(&publish, specs, 2, &err), 0);
	for (unsigned i = 0; i <= most; i++) {
		client = client_of(&publish, 0);
		wait_for_client(&publish, 0);
		assert_int_equal(publish_full(&publish, 0), i == most);
		assert_int_equal(publish_accept(&publish, 0, &fd, &id), i < most);
		(void)close(client);
		if (i < most)
			(void)close(fd);
	}
	client = client_of(&publish, 1);
	wait_for_client(&publish, 1);
	assert_int_equal(publish_accept(&publish, 1, &fd, &id), 1);
	(void)close(fd);
	(void)close(client);
	assert_true(publish_full(&publish, 0) && !publish_full(&publish, 1));
	publish_forget(&publish);
	assert_false(publish_full(&publish, 0));
	publish_close(&publish);
}

static void put(const char *root, const char *name, const char *text)
{
	char path[256];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/%s", root, name);
	f = fopen(path, "we");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void make_dir(const char *root, const char *name)
{
	char path[256];

	(void)snprintf(path, sizeof(path), "%s/%s", root, name);
	assert_int_equal(mkdir(path, 0700), 0);
}

/* A /proc of our own: two listeners, of which one is another user's. */
static void test_holder(void **state)
{
	static const char tcp[] =
		"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
		"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1\n"
		"   1: 0100007F:1F91 0100007F:1234 01 00000000:00000000 00:00000000 00000000  1000        0 4243 1\n"
		"   2: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000    33        0 4244 1\n"
		"   nonsense\n";
	static const char tcp6[] = "  sl\n"
				   "   0: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 "
				   "0A 0:0 0:0 0 0 0 9 1\n";
	static const struct {
		const char *spec, *says;
	} cases[] = {
		{ "8080:1", "evil?name (process 17)" },
		{ "0.0.0.0:8080:1", "evil?name (process 17)" },
		{ "127.0.0.2:8080:1", "" },
		{ "8081:1", "" }, /* connected, not listening */
		{ "80:1", "a process of user 33" },
		{ "[::1]:22:1", "a process of user 0" },
		{ "22:1", "" },
		{ "8081:1/udp", "evil?name (process 17)" },
		{ "[::1]:53:1/udp", "a process of user 7" },
		{ "8080:1/udp", "" },
		{ "81:1", "" },
	};
	char root[] = "/tmp/mvm-test-XXXXXX", path[128], text[PUBLISH_HOLDER], command[160];

	(void)state;
	assert_non_null(mkdtemp(root));
	make_dir(root, "self");
	make_dir(root, "self/net");
	make_dir(root, "17");
	make_dir(root, "17/fd");
	make_dir(root, "18");
	put(root, "self/net/udp", "  sl\n  7: 0100007F:1F91 00000000:0000 07 0:0 0:0 0 1000 0 4242 1\n");
	put(root, "self/net/udp6",
	    "  sl\n  7: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 07 0:0 0:0 0 7 0 9 "
	    "1\n");
	put(root, "self/net/tcp", tcp);
	put(root, "self/net/tcp6", tcp6);
	put(root, "17/comm", "evil\033name\n");
	(void)snprintf(path, sizeof(path), "%s/17/fd/5", root);
	assert_int_equal(symlink("socket:[4242]", path), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct spec_publish spec = spec_of(cases[i].spec);

		publish_holder(root, &spec, text);
		assert_string_equal(text, cases[i].says);
	}
	(void)snprintf(command, sizeof(command), "rm -r %s", root);
	assert_int_equal(system(command), 0); // NOLINT(cert-env33-c): a path of our own
	publish_holder(root, &(struct spec_publish){ .family = 4, .host = 80 }, text);
	assert_string_equal(text, "");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),    cmocka_unit_test(test_handed), cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_reserve), cmocka_unit_test(test_holder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
