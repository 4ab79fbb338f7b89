/* DNS messages: a guest's question, a server's answer, a name of the command line's. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "uplink/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whatever was read can be written, and is read as the same. */
static void question(const uint8_t *msg, size_t size)
{
	struct dns_question asked, again;
	uint8_t code, buf[DNS_MESSAGE];
	char name[DNS_NAME];
	int r = dns_parse_question(msg, size, &asked, &code);

	if (r < 0 && asked.name[0])
		abort();
	if (r < 0)
		return;
	if (!dns_name(asked.name, name) || strcmp(name, asked.name) != 0)
		abort();
	if (dns_parse_question(buf, dns_put_question(buf, &asked), &again, &code) < 0 ||
	    strcmp(again.name, asked.name) != 0 || again.type != asked.type || again.id != asked.id)
		abort();
}

static void answer(const uint8_t *msg, size_t size)
{
	struct dns_question asked = { .type = DNS_A, .name = "a.example.org" };
	struct dns_answer read, again;
	uint8_t buf[DNS_MESSAGE];

	if (size >= 2)
		asked.id = (uint16_t)(msg[0] << 8 | msg[1]);
	for (unsigned i = 0; i < 2; i++, asked.type = DNS_AAAA) {
		if (dns_parse_answer(msg, size, &asked, &read) < 0)
			continue;
		if (read.n > DNS_ADDRESSES ||
		    dns_parse_answer(buf, dns_put_answer(buf, &asked, &read), &asked, &again) < 0 ||
		    again.n != read.n || (read.n && again.ttl != read.ttl) || again.code != read.code)
			abort();
	}
}

static void command_line(const uint8_t *data, size_t size)
{
	char text[400], name[DNS_NAME];

	if (size >= sizeof(text))
		return;
	memcpy(text, data, size);
	text[size] = '\0';
	if (dns_name(text, name) && strlen(name) >= DNS_NAME)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1); /* with an end that ASan knows */

	if (!copy)
		abort();
	memcpy(copy, data, size);
	question(copy, size);
	answer(copy, size);
	command_line(copy, size);
	free(copy);
	return 0;
}
