/*
 * What a VMM and an agent that somebody took over send to the supervisor: datagrams on the control
 * socket, frames of the agent's session, log lines. The first byte chooses.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/agent_session.h"
#include "lib/broker.h"
#include "lib/log_reader.h"
#include "lib/verdict.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_control(const uint8_t *data, size_t size)
{
	struct broker broker = { 0 };
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0 || broker_grant(&broker, PROTO_PORT, fds[0]) < 0 ||
	    broker_grant(&broker, PROTO_PORT_STREAM, fds[1]) < 0)
		abort();
	while (size) {
		size_t len = size < sizeof(struct control_msg) ? size : sizeof(struct control_msg);
		struct control_msg msg;
		int fd;

		if (control_from_vmm(data, len, &msg) == 0 && msg.type == CONTROL_DIAL) {
			fd = broker_dial(&broker, msg.port);
			if (fd >= 0 && msg.port != PROTO_PORT && msg.port != PROTO_PORT_STREAM)
				abort();
			if (fd >= 0 && (close(fd) < 0 || broker_dial(&broker, msg.port) >= 0))
				abort(); /* closed before, or granted twice */
		}
		data += len;
		size -= len;
	}
	broker_close(&broker);
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

static void fuzz_agent(const uint8_t *data, size_t size)
{
	struct agent_session agent;
	struct agent_event event;
	unsigned events = 0;
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
			if (++events > 6)
				abort(); /* each answer is accepted once */
			if (event.text && strlen(event.text) > PROTO_REPLY_MAX)
				abort();
			judge(&event);
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
