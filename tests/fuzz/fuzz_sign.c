/* Keys in PEM: what is found in a text is inside it, and what is no key is refused. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/sign.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t key[SIGN_KEY_BYTES], again[SIGN_KEY_BYTES];
	const char *text = (const char *)data;
	int r;

	if (size > SIGN_PEM_MAX)
		return 0;
	r = sign_parse_private(text, size, key);
	if (r != 0 && r != -EINVAL && r != -EACCES)
		abort();
	if (r == 0 && (sign_parse_private(text, size, again) != 0 || memcmp(key, again, sizeof(key)) != 0 ||
		       !memmem(data, size, "PRIVATE KEY-----", 16)))
		abort();
	r = sign_parse_public(text, size, key);
	if (r != 0 && r != -EINVAL)
		abort();
	if (r == 0 && !memmem(data, size, "-----END PUBLIC KEY-----", 24))
		abort();
	return 0;
}
