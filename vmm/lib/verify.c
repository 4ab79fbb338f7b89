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

struct bytes {
	uint8_t *p; /* NULL: none */
	size_t len, cap;
};

static void drop(struct bytes *bytes)
{
	free(bytes->p);
	bytes->p = NULL;
}

/* What the descriptor has, of which more than `most` bytes are never kept but for one. */
static int read_all(int fd, size_t most, struct bytes *bytes)
{
	while (bytes->len <= most) {
		ssize_t n;

		if (bytes->len == bytes->cap) {
			size_t cap = bytes->cap ? bytes->cap * 2 : 4096;
			uint8_t *more = realloc(bytes->p, cap);

			if (!more)
				return -ENOMEM;
			bytes->p = more;
			bytes->cap = cap;
		}
		n = read(fd, bytes->p + bytes->len, bytes->cap - bytes->len);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return 0;
		bytes->len += n > 0 ? (size_t)n : 0;
	}
	return -EFBIG;
}

static int slurp(const char *what, const char *path, size_t most, struct bytes *bytes, struct mvm_error *err)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_NOCTTY | O_CLOEXEC);
	int r = fd < 0 ? -errno : read_all(fd, most, bytes);

	if (r == -EFBIG)
		return error_set(err, EFBIG, "%s: %s: longer than %zu bytes: not one of mvm's", what, path, most);
	return r < 0 ? error_set(err, -r, "%s: %s: %s: check the path", what, path, strerror(-r)) : 0;
}

static int read_public(const char *path, uint8_t ret_key[SIGN_KEY_BYTES], struct mvm_error *err)
{
	struct bytes text = { 0 };
	int r = slurp("key", path, SIGN_PEM_MAX, &text, err);

	if (r == 0 && sign_parse_public((const char *)text.p, text.len, ret_key) < 0)
		r = error_set(err, EINVAL,
			      "key: %s: not an Ed25519 public key in PEM: openssl pkey -in key.pem -pubout", path);
	drop(&text);
	return r;
}

static int check(const char *receipt, const char *signature, const char *key, struct bytes *text, struct bytes *proof,
		 struct mvm_error *err)
{
	uint8_t public[SIGN_KEY_BYTES] = { 0 };
	int r = read_public(key, public, err);

	if (r == 0)
		r = slurp("receipt", receipt, RECEIPT_MAX, text, err);
	if (r == 0)
		r = slurp("signature", signature, SIGN_BYTES, proof, err);
	if (r < 0)
		return r;
	if (proof->len != SIGN_BYTES)
		return error_set(err, EINVAL, "signature: %s: %zu bytes, and a signature has %u: it was cut short",
				 signature, proof->len, SIGN_BYTES);
	if (crypto_sign_verify_detached(proof->p, text->p, text->len, public) != 0)
		return error_set(
			err, EBADMSG,
			"receipt: %s: NOT what was signed with this key: it or %s was changed, or the key is another",
			receipt, signature);
	return 0;
}

int mvm_receipt_verify(const char *receipt, const char *signature, const char *key, struct mvm_error *err)
{
	_cleanup_free_ char *beside = NULL;
	struct bytes text = { 0 }, proof = { 0 };
	int r;

	if (!signature && asprintf(&beside, "%s%s", receipt, SIGN_SUFFIX) < 0)
		return error_set(err, ENOMEM, "receipt: %s: out of memory", receipt);
	if (sodium_init() < 0)
		return error_set(err, EIO, "receipt: %s: libsodium does not start: install it again", receipt);
	r = check(receipt, signature ? signature : beside, key, &text, &proof, err);
	drop(&text);
	drop(&proof);
	return r;
}
