/* --proxy: a client's first bytes, what is made of them, and what is answered. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "uplink/proxy_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t made[PROXY_REWRITE], said[PROXY_ANSWER];

/* Whatever was read has a destination, and every answer to it is one. */
static void check(const struct proxy_request *request)
{
	char name[DNS_NAME];

	if (!request->port || (request->family != 0 && request->family != 4 && request->family != 6))
		abort();
	if (!request->family && (!dns_name(request->name, name) || strcmp(name, request->name) != 0))
		abort();
	for (unsigned result = PROXY_OPENED; result <= PROXY_FAILED; result++)
		if (proxy_answer(request, result, "10.0.0.1:80", "why", said) >= PROXY_ANSWER)
			abort();
}

/* What is passed on is a whole head, of the same method, in origin-form, that asks for nothing after it. */
static void rewrite(const uint8_t *head, size_t len, const struct proxy_request *request)
{
	static const char end[] = "\r\nConnection: close\r\nVia: 1.1 mvm\r\n\r\n";
	size_t n = proxy_rewrite(head, len, request, made), at = request->method_len;

	if (n >= PROXY_REWRITE || n < strlen(end) || memcmp(made + n - strlen(end), end, strlen(end)) != 0)
		abort();
	if (memcmp(made, head, at) != 0 || made[at] != ' ' || (made[at + 1] != '/' && made[at + 1] != '*'))
		abort();
	if (memmem(made, n - 4, "\r\n\r\n", 4) || memmem(made, n, "\n\n", 2))
		abort();
}

/* The same however it comes in pieces: nothing is told of a part that the whole does not bear out. */
static void http(const uint8_t *data, size_t size)
{
	struct proxy_request whole, part;
	enum proxy_result why = PROXY_OPENED, early = PROXY_OPENED;
	int r = proxy_http_request(data, size, &whole, &why);

	if (r < -1 || r > (int)size || (r < 0 && (why < PROXY_BAD || why > PROXY_VERSION)))
		abort();
	for (size_t cut = 0; cut < size; cut += 1 + size / 16) {
		uint8_t *copy = malloc(cut ? cut : 1); /* with an end that ASan knows */
		int earlier;

		if (!copy)
			abort();
		memcpy(copy, data, cut);
		earlier = proxy_http_request(copy, cut, &part, &early);
		free(copy);
		if (earlier > 0 && earlier != r)
			abort();
	}
	if (r <= 0)
		return;
	check(&whole);
	if (whole.kind == PROXY_FORWARD)
		rewrite(data, (size_t)r, &whole);
	else if (whole.kind != PROXY_CONNECT)
		abort();
}

static void socks(const uint8_t *data, size_t size)
{
	struct proxy_request request;
	enum proxy_result why = PROXY_OPENED;
	bool good = false;
	int r = proxy_socks_greeting(data, size, &good);

	if (r < 0 || r > (int)size || (good && !r))
		abort();
	r = proxy_socks_request(data + r, size - (size_t)r, &request, &why);
	if (r < -1 || r > (int)size)
		abort();
	if (r > 0)
		check(&request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy;

	if (!size || size > PROXY_HEAD + 64)
		return 0;
	copy = malloc(size);
	if (!copy)
		abort();
	memcpy(copy, data, size);
	if (proxy_kind_of(copy[0]) == PROXY_SOCKS)
		socks(copy, size);
	else
		http(copy, size);
	free(copy);
	return 0;
}
