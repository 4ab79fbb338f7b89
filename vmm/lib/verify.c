/* Whether a receipt is what was signed; see mvm.h. */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/sign.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define RECEIPT_MAX (64U << 20) /* bytes; the longest command, escaped, many times over */

/* All of a file, at most `most` bytes; -EFBIG: it has more. */
static int slurp(const char *what, const char *path, size_t most, uint8_t **ret_bytes, size_t *ret_len,
		 struct mvm_error *err)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_NOCTTY | O_CLOEXEC);
	_cleanup_free_ uint8_t *bytes = NULL;
	size_t cap = most < 65536 ? most + 1 : 65536, len = 0;

	bytes = malloc(cap);
	for (;;) {
		ssize_t n = fd < 0 || !bytes ? -1 : read(fd, bytes + len, cap - len);

		if (!bytes)
			return error_set(err, ENOMEM, "%s: %s: out of memory", what, path);
		if (n < 0 && fd >= 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(err, errno, "%s: %s: %s: check the path", what, path, strerror(errno));
		len += (size_t)n;
		if (n == 0 || len > most)
			break;
		if (len == cap) {
			uint8_t *more = realloc(bytes, cap * 2);

			if (!more)
				return error_set(err, ENOMEM, "%s: %s: out of memory", what, path);
			bytes = more;
			cap *= 2;
		}
	}
	if (len > most)
		return error_set(err, EFBIG, "%s: %s: longer than %zu bytes: not one of mvm's", what, path, most);
	*ret_bytes = bytes;
	bytes = NULL;
	*ret_len = len;
	return 0;
}

static int read_public(const char *path, uint8_t ret_key[SIGN_KEY_BYTES], struct mvm_error *err)
{
	_cleanup_free_ uint8_t *text = NULL;
	size_t len;
	int r = slurp("key", path, SIGN_PEM_MAX, &text, &len, err);

	if (r == 0 && sign_parse_public((const char *)text, len, ret_key) < 0)
		r = error_set(err, EINVAL,
			      "key: %s: not an Ed25519 public key in PEM: openssl pkey -in key.pem -pubout", path);
	return r;
}

int mvm_receipt_verify(const char *receipt, const char *signature, const char *key, struct mvm_error *err)
{
	_cleanup_free_ uint8_t *bytes = NULL, *sig = NULL;
	_cleanup_free_ char *beside = NULL;
	uint8_t public[SIGN_KEY_BYTES];
	size_t len, sig_len;
	int r;

	if (!signature && asprintf(&beside, "%s%s", receipt, SIGN_SUFFIX) < 0)
		return error_set(err, ENOMEM, "receipt: %s: out of memory", receipt);
	signature = signature ? signature : beside;
	r = sodium_init() < 0 ? error_set(err, EIO, "receipt: %s: libsodium does not start", receipt) : 0;
	if (r == 0)
		r = read_public(key, public, err);
	if (r == 0)
		r = slurp("receipt", receipt, RECEIPT_MAX, &bytes, &len, err);
	if (r == 0)
		r = slurp("signature", signature, SIGN_BYTES, &sig, &sig_len, err);
	if (r < 0)
		return r;
	if (sig_len != SIGN_BYTES)
		return error_set(err, EINVAL, "signature: %s: %zu bytes, and a signature has %u: it was cut short",
				 signature, sig_len, SIGN_BYTES);
	if (crypto_sign_verify_detached(sig, bytes, len, public) != 0)
		return error_set(
			err, EBADMSG,
			"receipt: %s: NOT what was signed with this key: it or %s was changed, or the key is another",
			receipt, signature);
	return 0;
}
