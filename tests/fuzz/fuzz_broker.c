/*
 * What a VMM and an agent that somebody took over send to the supervisor: datagrams on the control
 * socket, frames of the agent's session, log lines. The first byte chooses.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/agent_session.h"
#include "lib/broker.h"
#include "lib/log_reader.h"
#include "lib/verdict.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_PORT_CLOSED 5U /* a channel to a socket that is not there */
#define FUZZ_PORT_QUEUE  6U /* to one that never accepts: its queue is soon full, and dials wait */

static struct sockaddr_storage abstract_address(const char *name, int *ret_listener)
{
	struct sockaddr_storage addr = { .ss_family = AF_UNIX };
	struct sockaddr_un *un = (struct sockaddr_un *)&addr;

	(void)snprintf(un->sun_path + 1, sizeof(un->sun_path) - 1, "mvm-fuzz-%d-%s", getpid(), name);
	if (!ret_listener)
		return addr;
	*ret_listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*ret_listener < 0 || bind(*ret_listener, (struct sockaddr *)un, sizeof(*un)) < 0 ||
	    listen(*ret_listener, 1) < 0)
		abort();
	return addr;
}

/* What an answer may be: one of the four ports connected, or a refusal that has a reason. */
static void check_answer(const struct broker_answer *answer)
{
	bool known = answer->port == PROTO_PORT || answer->port == PROTO_PORT_STREAM || answer->port == FUZZ_PORT_QUEUE;

	if (answer->fd >= 0 ? !known || answer->error : !answer->error)
		abort();
	if (answer->fd >= 0 && close(answer->fd) < 0)
		abort(); /* closed before, or granted twice */
}

static void fuzz_control(const uint8_t *data, size_t size)
{
	struct broker broker = { 0 };
	struct broker_answer answer;
	struct sockaddr_storage addr;
	uint64_t now = 0;
	unsigned granted = 0;
	int fds[2], listener;

	addr = abstract_address("closed", NULL);
	if (broker_allow(&broker, FUZZ_PORT_CLOSED, "closed", &addr, 1) < 0)
		abort();
	addr = abstract_address("queue", &listener);
	if (broker_allow(&broker, FUZZ_PORT_QUEUE, "queue", &addr, 1) < 0)
		abort();
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0 || broker_grant(&broker, PROTO_PORT, fds[0]) < 0 ||
	    broker_grant(&broker, PROTO_PORT_STREAM, fds[1]) < 0)
		abort();
	while (size) {
		size_t len = size < sizeof(struct control_msg) ? size : sizeof(struct control_msg);
		struct control_msg msg;

		if (control_from_vmm(data, len, &msg) == 0 && msg.type == CONTROL_DIAL) {
			now += msg.arg % 1000000000U;
			if (broker_dial(&broker, msg.id, msg.port, now, &answer)) {
				granted += answer.fd >= 0 && !answer.channel;
				check_answer(&answer);
			}
			while (broker_next(&broker, now, &answer))
				check_answer(&answer);
			if (broker.npending > BROKER_PENDING_MAX || granted > 2 ||
			    broker.nrefused > BROKER_REFUSED_MAX ||
			    (broker.npending && broker_deadline(&broker) <= now))
				abort();
		}
		data += len;
		size -= len;
	}
	/* Whatever waits ends with its time. */
	for (unsigned i = 0; broker.npending && i < 2 * BROKER_PENDING_MAX; i++)
		if (broker_next(&broker, now + BROKER_CONNECT_NS, &answer))
			check_answer(&answer);
	if (broker.npending)
		abort();
	(void)close(listener);
	broker_free(&broker);
}

static void judge(const struct agent_event *event)
{
	struct verdict_facts facts = { .vmm_waited = true, .vmm_code = 1, .vmm_ended = true };
	struct verdict verdict;

	if (event->type == PROTO_EXITED) {
		facts.exited = true;
		facts.exit_kind = le32_get(event->exited.kind);
		facts.exit_value = le32_get(event->exited.value);
	} else if (event->type == PROTO_FAILED) {
		facts.failed = true;
		facts.failure = le32_get(event->failed.reason);
		facts.failure_text = event->text;
	}
	verdict_decide(&facts, &verdict);
	if (verdict.status < 0 || verdict.status > 255 || strchr(verdict.cause, '\033'))
		abort();
}

/* What the host asks for meanwhile, in turn; counts the answers that it may get for it. */
static unsigned ask_agent(struct agent_session *agent, unsigned step)
{
	static const char *const argv[] = { "true", NULL };
	struct agent_exec exec = { .argv = argv, .ports = { PROTO_PORT_STREAM } };
	unsigned answers = 0;

	for (uint32_t id = 2; id < 5; id++)
		if (agent_session_exec(agent, id, &exec) == 0)
			answers += 2;
	answers += agent_session_top(agent, step % 3) == 0;
	answers += agent_session_stat(agent, step % 3) == 0;
	(void)agent_session_signal(agent, step % 6, 15);
	(void)agent_session_resize(agent, step % 6, 1, 2);
	if (step % 2)
		(void)agent_session_flush(agent);
	if (agent->out.len > PROTO_PAYLOAD_MAX || agent->out.failed)
		abort();
	return answers;
}

static void fuzz_agent(const uint8_t *data, size_t size)
{
	struct agent_session agent;
	struct agent_event event;
	unsigned events = 0, allowed = 6;
	int pair[2], r = 0;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		abort();
	agent_session_init(&agent);
	agent.fd = pair[0];
	while (size && r == 0) {
		size_t len = size < 1000 ? size : 1000;

		if (write(pair[1], data, len) != (ssize_t)len)
			abort();
		data += len;
		size -= len;
		if (agent_session_fill(&agent) < 0)
			abort(); /* its buffer must have room as long as every whole frame was taken */
		while ((r = agent_session_next(&agent, &event)) > 0) {
			if (++events > allowed)
				abort(); /* each answer is accepted once, and only for what was asked */
			if (event.text && strlen(event.text) > PROTO_REPLY_MAX)
				abort();
			judge(&event);
			allowed += ask_agent(&agent, events);
		}
	}
	agent_session_close(&agent);
	(void)close(pair[1]);
}

static void on_line(void *arg, enum mvm_log_level level, const char *text)
{
	unsigned *lines = arg;

	if (++*lines > 2 * LOG_READER_BURST + 4 || level > MVM_LOG_DEBUG || strlen(text) >= LOG_READER_LINE)
		abort();
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			abort();
}

static void fuzz_log(const uint8_t *data, size_t size)
{
	struct log_reader reader = { 0 };
	unsigned lines = 0;

	for (size_t at = 0; at < size; at += 97)
		log_reader_feed(&reader, (const char *)data + at, size - at < 97 ? size - at : 97, 0, on_line, &lines);
	log_reader_finish(&reader, on_line, &lines);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	switch (data[0] % 3) {
	case 0:
		fuzz_control(data + 1, size - 1);
		break;
	case 1:
		fuzz_agent(data + 1, size - 1);
		break;
	default:
		fuzz_log(data + 1, size - 1);
		break;
	}
	return 0;
}
