/* What an agent may answer, in which order, and what it is told. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/agent_session.h"
#include "mvm/version.h"

struct peer {
	struct agent_session agent;
	int fd; /* the guest's end */
};

static void peer_open(struct peer *peer)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	agent_session_init(&peer->agent);
	peer->agent.fd = pair[0];
	peer->fd = pair[1];
}

static void peer_close(struct peer *peer)
{
	agent_session_close(&peer->agent);
	(void)close(peer->fd);
}

static void peer_sends(struct peer *peer, enum proto_type type, const void *payload, size_t len, const char *text)
{
	struct proto_out out = { 0 };

	proto_begin(&out, type);
	proto_put(&out, payload, len);
	if (text)
		proto_put_str(&out, text);
	proto_end(&out);
	assert_false(out.failed);
	assert_int_equal(write(peer->fd, out.data, out.len), (ssize_t)out.len);
	free(out.data);
}

static void peer_says_hello(struct peer *peer)
{
	struct proto_hello hello = { .magic = le32_of(PROTO_MAGIC), .version = le16_of(PROTO_VERSION) };

	peer_sends(peer, PROTO_HELLO, &hello, sizeof(hello), "9.9");
}

/* Reads and takes one answer: 1, 0 or -errno. */
static int next(struct peer *peer, struct agent_event *event)
{
	int r = agent_session_fill(&peer->agent);

	return r < 0 && r != -EPIPE ? r : agent_session_next(&peer->agent, event);
}

static const struct le32 ours = { AGENT_SESSION_ID };

static void test_agent_in_order(void **state)
{
	struct proto_started started = { .session = ours, .pid = le32_of(5) };
	struct proto_exited exited = { .session = ours, .kind = le32_of(PROTO_EXIT_STATUS), .value = le32_of(4) };
	struct agent_event event;
	struct peer peer;

	(void)state;
	peer_open(&peer);
	peer_says_hello(&peer);
	assert_int_equal(next(&peer, &event), 1);
	assert_int_equal(event.type, PROTO_HELLO);
	assert_string_equal(event.text, "9.9");
	assert_int_equal(next(&peer, &event), 0);
	peer_sends(&peer, PROTO_STARTED, &started, sizeof(started), NULL);
	peer_sends(&peer, PROTO_EXITED, &exited, sizeof(exited), NULL);
	peer_sends(&peer, PROTO_BYE, NULL, 0, NULL);
	assert_int_equal(next(&peer, &event), 1);
	assert_int_equal(le32_get(event.started.pid), 5);
	assert_int_equal(next(&peer, &event), 1);
	assert_int_equal(le32_get(event.exited.value), 4);
	assert_int_equal(next(&peer, &event), 1);
	assert_int_equal(event.type, PROTO_BYE);
	assert_int_equal(next(&peer, &event), 0);
	peer_close(&peer);
}

static void test_agent_byte_by_byte(void **state)
{
	static const uint8_t bytes[] = { 12, 0, 0, 0,   1,   0,   0, 0, 0x4d, 0x56, 0x4d, 0x41, PROTO_VERSION,
					 0,  0, 0, '1', '.', '0', 0 };
	struct agent_event event;
	struct peer peer;

	(void)state;
	peer_open(&peer);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		assert_int_equal(write(peer.fd, bytes + i, 1), 1);
		assert_int_equal(next(&peer, &event), i + 1 == sizeof(bytes));
	}
	assert_string_equal(event.text, "1.0");
	(void)shutdown(peer.fd, SHUT_WR);
	assert_int_equal(agent_session_fill(&peer.agent), -EPIPE);
	peer_close(&peer);
}

static void test_agent_largest_frame(void **state)
{
	struct proto_hdr hdr = { .length = le32_of(PROTO_REPLY_MAX), .type = le16_of(PROTO_ERROR) };
	char *text = malloc(PROTO_REPLY_MAX);
	struct agent_event event = { 0 };
	struct peer peer;
	size_t at = 0;
	int r = 0;

	(void)state;
	peer_open(&peer);
	peer_says_hello(&peer);
	assert_int_equal(next(&peer, &event), 1);
	memset(text, 'x', PROTO_REPLY_MAX);
	text[PROTO_REPLY_MAX - 1] = '\0';
	assert_int_equal(write(peer.fd, &hdr, sizeof(hdr)), (ssize_t)sizeof(hdr));
	while (r == 0 && at < PROTO_REPLY_MAX) {
		ssize_t n = write(peer.fd, text + at, PROTO_REPLY_MAX - at < 1000 ? PROTO_REPLY_MAX - at : 1000);

		assert_true(n > 0);
		at += (size_t)n;
		r = next(&peer, &event);
	}
	while (r == 0)
		r = next(&peer, &event);
	assert_int_equal(r, 1);
	assert_int_equal(strlen(event.text), PROTO_REPLY_MAX - 1);
	free(text);
	peer_close(&peer);
}

/* A conversation: types in order; the last one must be refused. */
static void test_agent_out_of_order(void **state)
{
	static const struct {
		const char *name;
		uint16_t types[5];
	} cases[] = {
		{ "bye first", { PROTO_BYE } },
		{ "started first", { PROTO_STARTED } },
		{ "hello twice", { PROTO_HELLO, PROTO_HELLO } },
		{ "exited without started", { PROTO_HELLO, PROTO_EXITED } },
		{ "started twice", { PROTO_HELLO, PROTO_STARTED, PROTO_STARTED } },
		{ "failed after started", { PROTO_HELLO, PROTO_STARTED, PROTO_FAILED } },
		{ "exited twice", { PROTO_HELLO, PROTO_STARTED, PROTO_EXITED, PROTO_EXITED } },
		{ "exited after bye", { PROTO_HELLO, PROTO_STARTED, PROTO_BYE, PROTO_EXITED } },
		{ "bye twice", { PROTO_HELLO, PROTO_BYE, PROTO_BYE } },
		{ "error twice", { PROTO_HELLO, PROTO_ERROR, PROTO_ERROR } },
		{ "a host's message", { PROTO_HELLO, PROTO_EXEC } },
		{ "type 0", { PROTO_HELLO, 99 } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct proto_started started = { .session = ours };
		struct proto_failed failed = { .session = ours };
		struct proto_exited exited = { .session = ours, .kind = le32_of(PROTO_EXIT_STATUS) };
		struct agent_event event;
		struct peer peer;

		peer_open(&peer);
		for (unsigned j = 0; cases[i].types[j]; j++) {
			uint16_t type = cases[i].types[j];
			int want = cases[i].types[j + 1] ? 1 : -EPROTO;

			if (type == PROTO_HELLO)
				peer_says_hello(&peer);
			else if (type == PROTO_STARTED)
				peer_sends(&peer, PROTO_STARTED, &started, sizeof(started), NULL);
			else if (type == PROTO_FAILED)
				peer_sends(&peer, PROTO_FAILED, &failed, sizeof(failed), "why");
			else if (type == PROTO_EXITED)
				peer_sends(&peer, PROTO_EXITED, &exited, sizeof(exited), NULL);
			else if (type == PROTO_ERROR)
				peer_sends(&peer, PROTO_ERROR, NULL, 0, "why");
			else
				peer_sends(&peer, (enum proto_type)type, NULL, 0, NULL);
			if (next(&peer, &event) != want)
				fail_msg("%s: message %u", cases[i].name, j);
		}
		peer_close(&peer);
	}
}

static void test_agent_damaged(void **state)
{
	static const struct {
		const char *name;
		enum proto_type type;
		struct le32 session, kind;
		size_t len;
		const char *text;
	} cases[] = {
		{ "started, other session", PROTO_STARTED, { 7 }, { 0 }, sizeof(struct proto_started), NULL },
		{ "started, short",
		  PROTO_STARTED,
		  { AGENT_SESSION_ID },
		  { 0 },
		  sizeof(struct proto_started) - 1,
		  NULL },
		{ "started, long", PROTO_STARTED, { AGENT_SESSION_ID }, { 0 }, sizeof(struct proto_started), "x" },
		{ "started, empty", PROTO_STARTED, { AGENT_SESSION_ID }, { 0 }, 0, NULL },
		{ "failed without text", PROTO_FAILED, { AGENT_SESSION_ID }, { 0 }, sizeof(struct proto_failed), NULL },
		{ "error without text", PROTO_ERROR, { 0x41414141 }, { 0 }, 4, NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t payload[64];
		struct agent_event event;
		struct peer peer;

		memset(payload, 0x41, sizeof(payload));
		memcpy(payload, &cases[i].session, sizeof(cases[i].session));
		peer_open(&peer);
		peer_says_hello(&peer);
		assert_int_equal(next(&peer, &event), 1);
		peer_sends(&peer, cases[i].type, payload, cases[i].len, cases[i].text);
		if (next(&peer, &event) != -EPROTO)
			fail_msg("%s", cases[i].name);
		peer_close(&peer);
	}
}

static void test_agent_exit_kinds(void **state)
{
	(void)state;
	for (uint32_t kind = 0; kind < 6; kind++) {
		struct proto_started started = { .session = ours };
		struct proto_exited exited = { .session = ours, .kind = le32_of(kind) };
		struct agent_event event;
		struct peer peer;

		peer_open(&peer);
		peer_says_hello(&peer);
		assert_int_equal(next(&peer, &event), 1);
		peer_sends(&peer, PROTO_STARTED, &started, sizeof(started), NULL);
		assert_int_equal(next(&peer, &event), 1);
		peer_sends(&peer, PROTO_EXITED, &exited, sizeof(exited), NULL);
		assert_int_equal(next(&peer, &event), kind >= 1 && kind <= 3 ? 1 : -EPROTO);
		peer_close(&peer);
	}
}

/* What the agent is told, as it reads it. */
/* The agent is told to listen, and the command where it is; what the user says of that counts. */
static void test_agent_proxy(void **state)
{
	static const char *const want[] = {
		"ALL_PROXY=socks5h://127.0.0.1:3128",
		"HTTPS_PROXY=mine",
		"HTTP_PROXY=http://127.0.0.1:3128",
		"NO_PROXY=localhost,127.0.0.1,::1",
	};
	struct agent_request request = { .device = "vda", .fs_type = "erofs", .hostname = "box" };
	uint8_t bytes[8192];
	struct mvm_spec *spec;
	struct proto_proxy proxy;
	struct proto_exec exec;
	struct proto_in in;
	struct peer peer;
	char **strs;
	uint16_t type;
	ssize_t len;
	long at = 0;
	const char *s;

	(void)state;
	assert_int_equal(mvm_spec_new(&spec), 0);
	assert_int_equal(mvm_spec_set(spec, "proxy", NULL, NULL), 0);
	assert_int_equal(mvm_spec_set(spec, "env", "HTTPS_PROXY=mine", NULL), 0);
	assert_int_equal(mvm_spec_set_args(spec, (const char *const[]){ "ls", NULL }, NULL), 0);
	request.spec = spec;
	peer_open(&peer);
	assert_int_equal(agent_session_greet(&peer.agent, &request), 0);
	assert_int_equal(agent_session_flush(&peer.agent), 0);
	len = read(peer.fd, bytes, sizeof(bytes));
	assert_true(len > 0);
	at += proto_next(bytes, (size_t)len, PROTO_PAYLOAD_MAX, &type, &in);
	at += proto_next(bytes + at, (size_t)(len - at), PROTO_PAYLOAD_MAX, &type, &in);
	assert_int_equal(type, PROTO_PROXY);
	assert_int_equal(proto_get(&in, &proxy, sizeof(proxy)), 0);
	assert_int_equal(le16_get(proxy.port), 3128);
	at += proto_next(bytes + at, (size_t)(len - at), PROTO_PAYLOAD_MAX, &type, &in);
	assert_int_equal(type, PROTO_SETUP);
	(void)proto_next(bytes + at, (size_t)(len - at), PROTO_PAYLOAD_MAX, &type, &in);
	assert_int_equal(proto_get(&in, &exec, sizeof(exec)), 0);
	assert_int_equal(proto_get_str(&in, &s), 0);
	assert_int_equal(proto_get_str(&in, &s), 0);
	assert_int_equal(proto_get_str(&in, &s), 0);
	assert_int_equal(le32_get(exec.envc), 9);
	assert_int_equal(proto_get_strs(&in, le32_get(exec.envc), &strs), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_string_equal(strs[i], want[i]);
	assert_int_equal(strncmp(strs[4], "PATH=/usr", 9), 0);
	assert_string_equal(strs[7], "https_proxy=http://127.0.0.1:3128");
	free(strs);
	mvm_spec_free(spec);
	peer_close(&peer);
}

/* The first device that names servers decides; the others do not take its word back. */
static void test_name_servers(void **state)
{
	static const char *const wanted[] = { "", "nameserver 10.0.0.1\nsearch back\n", "" };
	struct net_host nets = { .n = 3 };
	struct agent_request request = { .nets = &nets, .device = "vda", .fs_type = "erofs", .hostname = "box" };
	uint8_t bytes[8192];
	struct mvm_spec *spec;
	struct proto_net net;
	struct proto_in in;
	struct peer peer;
	const char *text;
	uint16_t type;
	ssize_t len;
	long at = 0;

	(void)state;
	assert_int_equal(mvm_spec_new(&spec), 0);
	assert_int_equal(mvm_spec_set_args(spec, (const char *const[]){ "ls", NULL }, NULL), 0);
	request.spec = spec;
	assert_int_equal(spec_net_parse("--net", "tap=t0", &nets.ends[0].net, NULL), 0);
	assert_int_equal(spec_net_parse("--net", "back", &nets.ends[1].net, NULL), 0);
	assert_int_equal(spec_net_parse("--net", "front", &nets.ends[2].net, NULL), 0);
	for (unsigned i = 1; i < 3; i++) {
		nets.ends[i].net.ndns = 1;
		nets.ends[i].net.dns[0] = (struct spec_net_address){ .family = 4, .bytes = { 10, 0, 0, (uint8_t)i } };
	}
	peer_open(&peer);
	assert_int_equal(agent_session_greet(&peer.agent, &request), 0);
	assert_int_equal(agent_session_flush(&peer.agent), 0);
	len = read(peer.fd, bytes, sizeof(bytes));
	assert_true(len > 0);
	at += proto_next(bytes, (size_t)len, PROTO_PAYLOAD_MAX, &type, &in);
	for (unsigned i = 0; i < 3; i++) {
		at += proto_next(bytes + at, (size_t)(len - at), PROTO_PAYLOAD_MAX, &type, &in);
		assert_int_equal(type, PROTO_NET);
		assert_int_equal(proto_get(&in, &net, sizeof(net)), 0);
		assert_int_equal(proto_get_str(&in, &text), 0);
		assert_string_equal(text, wanted[i]);
	}
	peer_close(&peer);
	mvm_spec_free(spec);
}

static void test_agent_greeting(void **state)
{
	struct agent_request request = { .device = "vda", .fs_type = "erofs", .hostname = "box", .rows = 3, .cols = 4 };
	uint8_t bytes[8192];
	struct mvm_spec *spec;
	struct proto_exec exec;
	struct proto_setup setup;
	struct proto_in in;
	struct peer peer;
	const char *s;
	char **strs;
	uint16_t type;
	ssize_t len;
	long size, at = 0;

	(void)state;
	assert_int_equal(mvm_spec_new(&spec), 0);
	assert_int_equal(mvm_spec_set(spec, "env", "PATH=/mine", NULL), 0);
	assert_int_equal(mvm_spec_set(spec, "workdir", "/w", NULL), 0);
	assert_int_equal(mvm_spec_set(spec, "scratch", "1m", NULL), 0);
	for (unsigned i = 0; i < 5; i++) /* the last two lead where others do */
		assert_int_equal(mvm_spec_set(spec, "publish",
					      ((const char *const[]){ "80", "443", "80/udp", "81:80", "81:80/udp" })[i],
					      NULL),
				 0);
	assert_int_equal(mvm_spec_set_args(spec, (const char *const[]){ "ls", "-l", NULL }, NULL), 0);
	request.spec = spec;
	peer_open(&peer);
	assert_int_equal(agent_session_greet(&peer.agent, &request), 0);
	assert_int_equal(agent_session_signal(&peer.agent, AGENT_SESSION_ID, 15), 0);
	assert_int_equal(agent_session_flush(&peer.agent), 0);
	len = read(peer.fd, bytes, sizeof(bytes));
	assert_true(len > 0);

	at += proto_next(bytes, (size_t)len, PROTO_PAYLOAD_MAX, &type, &in);
	assert_int_equal(type, PROTO_HELLO);
	assert_int_equal(proto_check_hello(&in, &s), 0);
	assert_string_equal(s, MVM_VERSION);

	for (unsigned i = 0; i < 3; i++) {
		struct proto_publish publish;

		at += proto_next(bytes + at, (size_t)(len - at), PROTO_PAYLOAD_MAX, &type, &in);
		assert_int_equal(type, PROTO_PUBLISH);
		assert_int_equal(proto_get(&in, &publish, sizeof(publish)), 0);
		assert_int_equal(le16_get(publish.port), i == 1 ? 443 : 80);
		assert_int_equal(le16_get(publish.kind), i == 2 ? PROTO_PUBLISH_UDP : PROTO_PUBLISH_TCP);
		assert_ptr_equal(in.pos, in.end);
	}

	at += proto_next(bytes + at, (size_t)(len - at), PROTO_PAYLOAD_MAX, &type, &in);
	assert_int_equal(type, PROTO_SETUP);
	assert_int_equal(proto_get(&in, &setup, sizeof(setup)), 0);
	assert_int_equal(le64_get(setup.scratch), 1 << 20);
	assert_int_equal(proto_get_str(&in, &s), 0);
	assert_string_equal(s, "vda");

	size = proto_next(bytes + at, (size_t)(len - at), PROTO_PAYLOAD_MAX, &type, &in);
	at += size;
	assert_int_equal(type, PROTO_EXEC);
	assert_int_equal(proto_get(&in, &exec, sizeof(exec)), 0);
	assert_int_equal(le32_get(exec.stdin_port), PROTO_PORT_NONE); /* neither -i nor -t */
	assert_int_equal(le32_get(exec.stdout_port), PROTO_PORT_STREAM + 1);
	assert_int_equal(le32_get(exec.stderr_port), PROTO_PORT_STREAM + 2);
	assert_int_equal(proto_get_str(&in, &s), 0);
	assert_string_equal(s, "/w");
	assert_int_equal(proto_get_str(&in, &s), 0);
	assert_string_equal(s, "");
	assert_int_equal(proto_get_strs(&in, le32_get(exec.argc), &strs), 0);
	assert_string_equal(strs[1], "-l");
	free(strs);
	assert_int_equal(proto_get_strs(&in, le32_get(exec.envc), &strs), 0);
	assert_string_equal(strs[0], "PATH=/mine");
	assert_null(strs[1]);
	free(strs);
	assert_ptr_equal(in.pos, in.end);

	at += proto_next(bytes + at, (size_t)(len - at), PROTO_PAYLOAD_MAX, &type, &in);
	assert_int_equal(type, PROTO_SIGNAL);
	assert_int_equal(at, len);
	mvm_spec_free(spec);
	peer_close(&peer);
}

static void test_agent_that_does_not_read(void **state)
{
	struct peer peer;
	unsigned n = 0;
	char byte;

	(void)state;
	peer_open(&peer);
	while (n < 100000 && agent_session_signal(&peer.agent, AGENT_SESSION_ID, 1) == 0) {
		n++;
		if (agent_session_flush(&peer.agent) < 0)
			break;
	}
	assert_in_range(n, AGENT_QUEUE_MAX, 99999); /* at last it is full, and no memory was spent beyond the bound */
	assert_in_range(peer.agent.out.len, 1, AGENT_QUEUE_MAX * 16);
	assert_int_equal(agent_session_resize(&peer.agent, AGENT_SESSION_ID, 1, 1), -EAGAIN);
	assert_int_equal(agent_session_shutdown(&peer.agent), 0); /* one word always has room */
	while (read(peer.fd, &byte, 1) == 1)
		if (agent_session_flush(&peer.agent) == 0)
			break;
	assert_int_equal(peer.agent.out.len, 0);
	peer_close(&peer);
}

/* ---- further commands ---- */

static const char *const true_argv[] = { "true", NULL };
static const struct agent_exec plain = { .argv = true_argv };

/* A peer whose boot session runs; what the host said so far is read and forgotten. */
static void peer_boot(struct peer *peer)
{
	struct proto_started started = { .session = ours };
	struct agent_event event;

	peer_open(peer);
	peer_says_hello(peer);
	assert_int_equal(next(peer, &event), 1);
	peer_sends(peer, PROTO_STARTED, &started, sizeof(started), NULL);
	assert_int_equal(next(peer, &event), 1);
	assert_int_equal(event.session, AGENT_SESSION_ID);
}

static void peer_answers(struct peer *peer, uint16_t type, uint32_t id)
{
	struct proto_started started = { .session = le32_of(id) };
	struct proto_failed failed = { .session = le32_of(id), .reason = le32_of(PROTO_FAIL_NOT_FOUND) };
	struct proto_exited exited = { .session = le32_of(id), .kind = le32_of(PROTO_EXIT_STATUS) };
	struct proto_topped topped = { .request = le32_of(id) };
	struct proto_statted statted = { .request = le32_of(id), .pids = le64_of(3) };

	if (type == PROTO_STARTED)
		peer_sends(peer, PROTO_STARTED, &started, sizeof(started), NULL);
	else if (type == PROTO_FAILED)
		peer_sends(peer, PROTO_FAILED, &failed, sizeof(failed), "why");
	else if (type == PROTO_EXITED)
		peer_sends(peer, PROTO_EXITED, &exited, sizeof(exited), NULL);
	else if (type == PROTO_TOPPED)
		peer_sends(peer, PROTO_TOPPED, &topped, sizeof(topped), "1\t0\tS\t4\t5\tsh\n");
	else if (type == PROTO_STATTED)
		peer_sends(peer, PROTO_STATTED, &statted, sizeof(statted), NULL);
	else
		peer_sends(peer, (enum proto_type)type, NULL, 0, type == PROTO_ERROR ? "why" : NULL);
}

static void answer(struct peer *peer, uint16_t type, uint32_t id)
{
	struct agent_event event;

	peer_answers(peer, type, id);
	assert_int_equal(next(peer, &event), 1);
	assert_int_equal(event.type, type);
	assert_int_equal(event.session, type == PROTO_TOPPED || type == PROTO_STATTED || type == PROTO_BYE ? 0 : id);
}

static void test_exec_lives(void **state)
{
	uint32_t ids[PROTO_SESSIONS_MAX];
	struct peer peer;

	(void)state;
	peer_boot(&peer);
	assert_int_equal(agent_session_exec(&peer.agent, 7, &plain), 0);
	assert_int_equal(agent_session_exec(&peer.agent, UINT32_MAX, &plain), 0);
	assert_int_equal(agent_session_exec(&peer.agent, 7, &plain), -EEXIST);
	assert_int_equal(agent_session_open(&peer.agent, ids), 2);
	answer(&peer, PROTO_STARTED, UINT32_MAX);
	answer(&peer, PROTO_FAILED, 7);
	assert_int_equal(agent_session_open(&peer.agent, ids), 1);
	assert_int_equal(ids[0], UINT32_MAX);
	assert_int_equal(agent_session_exec(&peer.agent, 7, &plain), 0); /* free again */
	answer(&peer, PROTO_STARTED, 7);
	answer(&peer, PROTO_EXITED, UINT32_MAX);
	answer(&peer, PROTO_EXITED, 7);
	assert_int_equal(agent_session_exec(&peer.agent, 7, &plain), 0);
	answer(&peer, PROTO_EXITED, AGENT_SESSION_ID);
	answer(&peer, PROTO_BYE, 0);
	assert_int_equal(agent_session_open(&peer.agent, ids), 1); /* it crossed the end's way: never answered */
	assert_int_equal(agent_session_exec(&peer.agent, 8, &plain), -ENOTCONN);
	peer_close(&peer);
}

static void test_exec_refusals(void **state)
{
	static const char *const none[] = { NULL };
	static char large[PROTO_PAYLOAD_MAX];
	const char *const huge[] = { "a", large, NULL };
	const char **many = calloc(PROTO_STRINGS_MAX + 2, sizeof(*many));
	struct agent_exec exec = plain;
	struct peer peer;

	(void)state;
	assert_non_null(many);
	memset(large, 'x', sizeof(large) - 1);
	peer_open(&peer);
	assert_int_equal(agent_session_exec(&peer.agent, 2, &plain), -ENOTCONN); /* before the boot session */
	assert_int_equal(agent_session_top(&peer.agent, 1), -ENOTCONN);
	peer_close(&peer);

	peer_boot(&peer);
	assert_int_equal(agent_session_exec(&peer.agent, 0, &plain), -EINVAL);
	assert_int_equal(agent_session_exec(&peer.agent, AGENT_SESSION_ID, &plain), -EINVAL);
	exec.tty = true;
	assert_int_equal(agent_session_exec(&peer.agent, 2, &exec), -EINVAL); /* no port */
	exec.ports[0] = exec.ports[1] = PROTO_PORT_STREAM;
	assert_int_equal(agent_session_exec(&peer.agent, 2, &exec), -EINVAL);
	exec.ports[1] = PROTO_PORT_NONE;
	exec.copy = true;
	assert_int_equal(agent_session_exec(&peer.agent, 2, &exec), -EINVAL); /* files have no terminal */
	exec = plain;
	exec.argv = huge;
	assert_int_equal(agent_session_exec(&peer.agent, 2, &exec), -E2BIG);
	exec.argv = none;
	exec.env = huge;
	assert_int_equal(agent_session_exec(&peer.agent, 2, &exec), -E2BIG);
	exec.env = NULL;
	exec.cwd = large;
	assert_int_equal(agent_session_exec(&peer.agent, 2, &exec), -E2BIG);
	exec.cwd = NULL;
	for (size_t i = 0; i <= PROTO_STRINGS_MAX; i++)
		many[i] = "";
	exec.argv = many;
	assert_int_equal(agent_session_exec(&peer.agent, 2, &exec), -E2BIG);
	assert_int_equal(peer.agent.out.len, 0); /* what was refused left nothing behind */
	many[PROTO_STRINGS_MAX] = NULL;
	assert_int_equal(agent_session_exec(&peer.agent, 2, &exec), 0);
	for (uint32_t id = 3; id < PROTO_SESSIONS_MAX + 2; id++)
		assert_int_equal(agent_session_exec(&peer.agent, id, &plain), 0);
	assert_int_equal(agent_session_exec(&peer.agent, 1000, &plain), -EBUSY);
	assert_int_equal(agent_session_signal(&peer.agent, 2, 1), -EAGAIN); /* as many messages as may wait */
	agent_session_close(&peer.agent);
	assert_int_equal(agent_session_exec(&peer.agent, 1000, &plain), -ENOTCONN);
	peer_close(&peer);
	free(many);
}

static void test_copy_as_the_agent_reads_it(void **state)
{
	static const char *const argv[] = { "in", "/tmp", "x", "a", NULL };
	const struct agent_exec exec = { .argv = argv, .copy = true, .ports = { 0x40000010 } };
	struct proto_exec wire;
	uint8_t bytes[4096];
	struct proto_in in;
	struct peer peer;
	uint16_t type;
	ssize_t len;

	(void)state;
	peer_boot(&peer);
	assert_int_equal(agent_session_exec(&peer.agent, 9, &exec), 0);
	assert_int_equal(agent_session_flush(&peer.agent), 0);
	len = read(peer.fd, bytes, sizeof(bytes));
	assert_true(len > 0);
	assert_true(proto_next(bytes, (size_t)len, PROTO_PAYLOAD_MAX, &type, &in) > 0);
	assert_int_equal(type, PROTO_EXEC);
	assert_int_equal(proto_get(&in, &wire, sizeof(wire)), 0);
	assert_int_equal(le32_get(wire.flags), PROTO_EXEC_COPY);
	assert_int_equal(le32_get(wire.argc), PROTO_COPY_ARGS);
	peer_close(&peer);
}

static void test_exec_as_the_agent_reads_it(void **state)
{
	static const char *const argv[] = { "sh", "-c", "x", NULL }, *const env[] = { "A=b", NULL };
	struct agent_exec exec = { .argv = argv,
				   .env = env,
				   .cwd = "/w",
				   .user = "u:g",
				   .tty = true,
				   .rows = 3,
				   .cols = 4,
				   .ports = { 0x40000010 } };
	uint8_t bytes[4096];
	struct proto_exec wire;
	struct proto_query query;
	struct proto_signal sig;
	struct proto_in in;
	struct peer peer;
	const char *s;
	char **strs;
	uint16_t type;
	ssize_t len;
	long at;

	(void)state;
	peer_boot(&peer);
	assert_int_equal(agent_session_signal(&peer.agent, 9, 15), 0); /* not open: goes nowhere */
	assert_int_equal(agent_session_exec(&peer.agent, 9, &exec), 0);
	assert_int_equal(agent_session_signal(&peer.agent, 9, 15), 0);
	assert_int_equal(agent_session_resize(&peer.agent, 0, 1, 1), 0);
	assert_int_equal(agent_session_stat(&peer.agent, 77), 0);
	assert_int_equal(agent_session_flush(&peer.agent), 0);
	len = read(peer.fd, bytes, sizeof(bytes));
	assert_true(len > 0);
	at = proto_next(bytes, (size_t)len, PROTO_PAYLOAD_MAX, &type, &in);
	assert_int_equal(type, PROTO_EXEC);
	assert_int_equal(proto_get(&in, &wire, sizeof(wire)), 0);
	assert_int_equal(le32_get(wire.session), 9);
	assert_int_equal(le32_get(wire.flags), PROTO_EXEC_TTY);
	assert_int_equal(le32_get(wire.stdin_port), 0x40000010);
	assert_int_equal(le16_get(wire.cols), 4);
	assert_int_equal(proto_get_str(&in, &s), 0);
	assert_string_equal(s, "/w");
	assert_int_equal(proto_get_str(&in, &s), 0);
	assert_string_equal(s, "u:g");
	assert_int_equal(proto_get_strs(&in, le32_get(wire.argc), &strs), 0);
	assert_string_equal(strs[2], "x");
	free(strs);
	assert_int_equal(proto_get_strs(&in, le32_get(wire.envc), &strs), 0);
	assert_string_equal(strs[0], "A=b");
	free(strs);
	assert_ptr_equal(in.pos, in.end);
	at += proto_next(bytes + at, (size_t)(len - at), PROTO_PAYLOAD_MAX, &type, &in);
	assert_int_equal(type, PROTO_SIGNAL);
	assert_int_equal(proto_get(&in, &sig, sizeof(sig)), 0);
	assert_int_equal(le32_get(sig.session), 9);
	at += proto_next(bytes + at, (size_t)(len - at), PROTO_PAYLOAD_MAX, &type, &in);
	assert_int_equal(type, PROTO_STAT);
	assert_int_equal(proto_get(&in, &query, sizeof(query)), 0);
	assert_int_equal(le32_get(query.request), 77);
	assert_int_equal(at, len);
	peer_close(&peer);
}

/* Sessions 2 and 3 are asked for; answers in order, the last of which must be refused. */
static void test_exec_out_of_order(void **state)
{
	static const struct {
		const char *name;
		struct {
			uint16_t type;
			uint32_t id;
		} answers[5];
	} cases[] = {
		{ "started, unknown", { { PROTO_STARTED, 4 } } },
		{ "failed, unknown", { { PROTO_FAILED, 4 } } },
		{ "exited, unknown", { { PROTO_EXITED, 4 } } },
		{ "started, no session", { { PROTO_STARTED, 0 } } },
		{ "failed, no session", { { PROTO_FAILED, 0 } } },
		{ "exited, no session", { { PROTO_EXITED, 0 } } },
		{ "started twice", { { PROTO_STARTED, 2 }, { PROTO_STARTED, 3 }, { PROTO_STARTED, 2 } } },
		{ "boot started again", { { PROTO_STARTED, 1 } } },
		{ "exited before started", { { PROTO_STARTED, 2 }, { PROTO_EXITED, 3 } } },
		{ "failed after started", { { PROTO_STARTED, 2 }, { PROTO_FAILED, 2 } } },
		{ "exited twice", { { PROTO_STARTED, 2 }, { PROTO_EXITED, 2 }, { PROTO_EXITED, 2 } } },
		{ "failed twice", { { PROTO_FAILED, 2 }, { PROTO_FAILED, 2 } } },
		{ "started after failed", { { PROTO_FAILED, 2 }, { PROTO_STARTED, 2 } } },
		{ "started after the boot session", { { PROTO_EXITED, 1 }, { PROTO_STARTED, 2 } } },
		{ "exited after the boot session", { { PROTO_STARTED, 2 }, { PROTO_EXITED, 1 }, { PROTO_EXITED, 2 } } },
		{ "failed after bye", { { PROTO_BYE, 0 }, { PROTO_FAILED, 2 } } },
		{ "topped unasked", { { PROTO_TOPPED, 0 } } },
		{ "statted unasked", { { PROTO_STATTED, 0 } } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct agent_event event;
		struct peer peer;

		peer_boot(&peer);
		assert_int_equal(agent_session_exec(&peer.agent, 2, &plain), 0);
		assert_int_equal(agent_session_exec(&peer.agent, 3, &plain), 0);
		for (unsigned j = 0; cases[i].answers[j].type; j++) {
			peer_answers(&peer, cases[i].answers[j].type, cases[i].answers[j].id);
			if (next(&peer, &event) != (cases[i].answers[j + 1].type ? 1 : -EPROTO))
				fail_msg("%s: answer %u", cases[i].name, j);
		}
		peer_close(&peer);
	}
}

static void test_queries(void **state)
{
	struct proto_statted statted = { .request = le32_of(6), .memory = le64_of(1ULL << 40) };
	struct agent_event event;
	struct peer peer;

	(void)state;
	peer_boot(&peer);
	assert_int_equal(agent_session_top(&peer.agent, 5), 0);
	assert_int_equal(agent_session_top(&peer.agent, 6), -EALREADY);
	assert_int_equal(agent_session_stat(&peer.agent, 6), 0);
	assert_int_equal(agent_session_stat(&peer.agent, 6), -EALREADY);
	peer_sends(&peer, PROTO_STATTED, &statted, sizeof(statted), NULL);
	assert_int_equal(next(&peer, &event), 1);
	assert_int_equal(event.request, 6);
	assert_int_equal(le64_get(event.statted.memory), 1ULL << 40);
	peer_answers(&peer, PROTO_TOPPED, 5);
	assert_int_equal(next(&peer, &event), 1);
	assert_int_equal(event.request, 5);
	assert_string_equal(event.text, "1\t0\tS\t4\t5\tsh\n");
	assert_int_equal(agent_session_top(&peer.agent, 0), 0); /* any number is one */
	answer(&peer, PROTO_TOPPED, 0);
	peer_answers(&peer, PROTO_TOPPED, 0);
	assert_int_equal(next(&peer, &event), -EPROTO);
	peer_close(&peer);

	peer_boot(&peer);
	assert_int_equal(agent_session_top(&peer.agent, 5), 0);
	peer_answers(&peer, PROTO_TOPPED, 6); /* another question's */
	assert_int_equal(next(&peer, &event), -EPROTO);
	peer_close(&peer);

	peer_boot(&peer);
	assert_int_equal(agent_session_stat(&peer.agent, 5), 0);
	peer_answers(&peer, PROTO_TOPPED, 5); /* of the other kind */
	assert_int_equal(next(&peer, &event), -EPROTO);
	peer_close(&peer);

	peer_boot(&peer);
	assert_int_equal(agent_session_stat(&peer.agent, 6), 0);
	peer_sends(&peer, PROTO_STATTED, &statted, sizeof(statted) - 1, NULL);
	assert_int_equal(next(&peer, &event), -EPROTO);
	peer_close(&peer);
}

/* A list: how long it may be, and what may be in it. */
static void test_top_texts(void **state)
{
	static char at_bound[PROTO_TOP_MAX], above[PROTO_TOP_MAX + 1];
	static const struct {
		const char *name, *text;
		int want;
	} cases[] = {
		{ "empty", "", 1 },
		{ "cut", "2\t0\tS\t1\t1\tx y?\xc3\xa4\n...\n", 1 },
		{ "at the bound", at_bound, 1 },
		{ "above it", above, -EPROTO },
		{ "no string", NULL, -EPROTO },
		{ "escape", "2\t\033[2J\n", -EPROTO },
		{ "carriage return", "2\r\n", -EPROTO },
		{ "delete", "2\177\n", -EPROTO },
	};
	struct proto_topped topped = { .request = le32_of(1) };

	(void)state;
	memset(at_bound, 'x', sizeof(at_bound) - 1);
	memset(above, 'x', sizeof(above) - 1);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct agent_event event;
		struct peer peer;
		int r = 0;

		peer_boot(&peer);
		assert_int_equal(agent_session_top(&peer.agent, 1), 0);
		peer_sends(&peer, PROTO_TOPPED, &topped, sizeof(topped), cases[i].text);
		for (unsigned tries = 0; r == 0 && tries < 20; tries++)
			r = next(&peer, &event);
		if (r != cases[i].want)
			fail_msg("%s: %d", cases[i].name, r);
		peer_close(&peer);
	}
}

/* Nothing is read at the other end: commands are refused when enough wait, and memory stays bounded. */
static void test_exec_and_a_slow_agent(void **state)
{
	static char large[3U << 20];
	const char *const argv[] = { "x", large, NULL };
	struct agent_exec exec = { .argv = argv };
	uint32_t ids[PROTO_SESSIONS_MAX];
	struct peer peer;
	char byte[4096];

	(void)state;
	memset(large, 'x', sizeof(large) - 1);
	peer_boot(&peer);
	assert_int_equal(agent_session_exec(&peer.agent, 2, &exec), 0);
	assert_int_equal(agent_session_flush(&peer.agent), 1);
	assert_int_equal(agent_session_exec(&peer.agent, 3, &exec), -EAGAIN);
	assert_int_equal(agent_session_open(&peer.agent, ids), 1);
	assert_int_equal(agent_session_exec(&peer.agent, 3, &plain), 0);
	/* A reader that never quite catches up: what it has read does not stay in memory. */
	for (unsigned round = 0; round < 2000; round++) {
		if (read(peer.fd, byte, sizeof(byte)) < 0)
			break;
		peer.agent.queued = 0;
		(void)agent_session_signal(&peer.agent, 2, 1);
		assert_in_range(agent_session_flush(&peer.agent), 0, 1);
		assert_in_range(peer.agent.out.len, 0, sizeof(large) + 65536);
	}
	peer_close(&peer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_agent_in_order),
		cmocka_unit_test(test_agent_byte_by_byte),
		cmocka_unit_test(test_agent_largest_frame),
		cmocka_unit_test(test_agent_out_of_order),
		cmocka_unit_test(test_agent_damaged),
		cmocka_unit_test(test_agent_exit_kinds),
		cmocka_unit_test(test_agent_greeting),
		cmocka_unit_test(test_agent_proxy),
		cmocka_unit_test(test_agent_that_does_not_read),
		cmocka_unit_test(test_exec_lives),
		cmocka_unit_test(test_exec_refusals),
		cmocka_unit_test(test_exec_as_the_agent_reads_it),
		cmocka_unit_test(test_copy_as_the_agent_reads_it),
		cmocka_unit_test(test_exec_out_of_order),
		cmocka_unit_test(test_name_servers),
		cmocka_unit_test(test_queries),
		cmocka_unit_test(test_top_texts),
		cmocka_unit_test(test_exec_and_a_slow_agent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
