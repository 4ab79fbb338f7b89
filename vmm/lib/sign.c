#include "lib/sign.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/text.h"
#include "mvm/cleanup.h"

_Static_assert(SIGN_BYTES == crypto_sign_BYTES && SIGN_KEY_BYTES == crypto_sign_PUBLICKEYBYTES &&
		       SIGN_KEY_BYTES == crypto_sign_SEEDBYTES,
	       "Ed25519");

#define MAKE_KEY "make one: openssl genpkey -algorithm ed25519 -out key.pem"

struct sign_key {
	uint8_t secret[crypto_sign_SECRETKEYBYTES];
	uint8_t seed[SIGN_KEY_BYTES];
	char text[SIGN_PEM_MAX + 1]; /* the file, while it is read */
};

_Static_assert(sizeof(struct sign_key) <= 4096, "a page");

/* RFC 8410: in DER an Ed25519 key is always these bytes and the key's own. */
static const uint8_t private_head[] = { 0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06,
					0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20 };
static const uint8_t public_head[] = { 0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00 };

/* The first block of that label, which must hold `head` and a key. */
static int parse(const char *text, size_t len, const char *begin, const char *end, const uint8_t *head, size_t head_len,
		 uint8_t ret_key[SIGN_KEY_BYTES])
{
	uint8_t der[sizeof(private_head) + SIGN_KEY_BYTES];
	const char *from = memmem(text, len, begin, strlen(begin)), *to;
	size_t n = 0;
	int r = -EINVAL;

	if (!from)
		return -EINVAL;
	from += strlen(begin);
	to = memmem(from, len - (size_t)(from - text), end, strlen(end));
	if (to &&
	    sodium_base642bin(der, sizeof(der), from, (size_t)(to - from), " \t\r\n", &n, NULL,
			      sodium_base64_VARIANT_ORIGINAL) == 0 &&
	    n == head_len + SIGN_KEY_BYTES && !memcmp(der, head, head_len)) {
		memcpy(ret_key, der + head_len, SIGN_KEY_BYTES);
		r = 0;
	}
	sodium_memzero(der, sizeof(der));
	return r;
}

int sign_parse_private(const char *text, size_t len, uint8_t ret_seed[SIGN_KEY_BYTES])
{
	static const char encrypted[] = "-----BEGIN ENCRYPTED PRIVATE KEY-----";

	if (memmem(text, len, encrypted, strlen(encrypted)))
		return -EACCES;
	return parse(text, len, "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", private_head,
		     sizeof(private_head), ret_seed);
}

int sign_parse_public(const char *text, size_t len, uint8_t ret_key[SIGN_KEY_BYTES])
{
	return parse(text, len, "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----", public_head,
		     sizeof(public_head), ret_key);
}

static int read_all(int fd, void *bytes, size_t cap, size_t *ret_len)
{
	size_t len = 0;

	while (len < cap) {
		ssize_t n = read(fd, (uint8_t *)bytes + len, cap - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	*ret_len = len;
	return 0;
}

static int parse_key(const char *path, struct sign_key *key, size_t len, struct mvm_error *err)
{
	uint8_t public[SIGN_KEY_BYTES];
	int r = sign_parse_private(key->text, len, key->seed);

	if (r == -EACCES)
		return error_set(
			err, EACCES,
			"--sign: %s: encrypted, and nobody is asked for a passphrase: openssl pkey -in %s -out "
			"key.pem",
			path, path);
	if (r < 0)
		return error_set(err, -r, "--sign: %s: not an Ed25519 private key in PEM: " MAKE_KEY, path);
	(void)crypto_sign_seed_keypair(public, key->secret, key->seed); /* cannot fail */
	sodium_memzero(key->seed, sizeof(key->seed));
	sodium_memzero(key->text, sizeof(key->text));
	return 0;
}

/* A page that a child does not have: not even the VMM's process before its exec. */
static struct sign_key *new_key(void)
{
	struct sign_key *key = mmap(NULL, sizeof(*key), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (key == MAP_FAILED)
		return NULL;
	if (madvise(key, sizeof(*key), MADV_DONTFORK) < 0 || madvise(key, sizeof(*key), MADV_DONTDUMP) < 0) {
		(void)munmap(key, sizeof(*key));
		return NULL;
	}
	(void)mlock(key, sizeof(*key)); /* a limit of 0 leaves it to the host's swap */
	return key;
}

void sign_key_free(struct sign_key *key)
{
	if (!key)
		return;
	sodium_memzero(key, sizeof(*key));
	(void)munmap(key, sizeof(*key));
}

int sign_key_read(const char *path, struct sign_key **ret_key, struct mvm_error *err)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct sign_key *key;
	struct stat st;
	size_t len = 0;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, errno, "--sign: %s: %s: " MAKE_KEY, path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return error_set(err, EINVAL, "--sign: %s: not a plain file: " MAKE_KEY, path);
	if (st.st_mode & 077)
		return error_set(err, EPERM, "--sign: %s: others than its owner may use it: chmod 600 %s", path, path);
	key = sodium_init() < 0 ? NULL : new_key();
	if (!key)
		return error_set(err, ENOMEM, "--sign: %s: no memory for it", path);
	r = read_all(fd, key->text, SIGN_PEM_MAX, &len);
	r = r < 0 ? error_set(err, -r, "--sign: %s: cannot be read: %s", path, strerror(-r))
		  : parse_key(path, key, len, err);
	if (r < 0) {
		sign_key_free(key);
		return r;
	}
	*ret_key = key;
	return 0;
}

void sign_bytes(const struct sign_key *key, const void *bytes, size_t len, uint8_t ret_signature[SIGN_BYTES])
{
	(void)crypto_sign_detached(ret_signature, NULL, bytes, len, key->secret); /* cannot fail */
}
