/* What the host reads of an agent that a guest may have replaced: every reader on every frame. */
#include <stdlib.h>
#include <string.h>

#include "mvm/proto.h"

static size_t read_strings(struct proto_in in)
{
	const char *s;
	size_t sum = 0;

	while (proto_get_str(&in, &s) == 0)
		sum += strlen(s) + 1;
	return sum;
}

/* Each message as its struct, with the strings behind it, whatever its type says it is. */
static void read_payload(struct proto_in whole)
{
	static const size_t sizes[] = {
		0,
		sizeof(struct proto_hello),
		sizeof(struct proto_started),
		sizeof(struct proto_failed),
		sizeof(struct proto_exited),
		sizeof(struct proto_topped),
		sizeof(struct proto_statted),
	};
	uint8_t wire[96];
	const char *version = NULL;
	struct proto_in in;
	char **strs = NULL;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		in = whole;
		if (proto_get(&in, wire, sizes[i]) == 0 && read_strings(in) > (size_t)(in.end - in.pos))
			abort();
	}
	in = whole;
	if (proto_check_hello(&in, &version) == 0 && strlen(version) + 1 + 8 > (size_t)(whole.end - whole.pos))
		abort();
	for (uint32_t count = 0; count < 4; count++) {
		in = whole;
		if (proto_get_strs(&in, count, &strs) == 0) {
			if (strs[count])
				abort();
			free(strs);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct proto_in in;
	uint16_t type;
	long n;

	while ((n = proto_next(data, len, PROTO_REPLY_MAX, &type, &in)) > 0) {
		size_t size = (size_t)(in.end - in.pos);
		uint8_t *copy = malloc(size ? size : 1);

		if (!copy || size > PROTO_REPLY_MAX || n != (long)size + 8)
			abort();
		memcpy(copy, in.pos, size);
		read_payload((struct proto_in){ copy, copy + size });
		free(copy);
		data += n;
		len -= (size_t)n;
	}
	return 0;
}
