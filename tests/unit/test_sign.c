/* Signatures of receipts: keys as OpenSSL writes them, RFC 8032's vectors, and every way in which a file can be wrong. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/receipt.h"
#include "lib/sign.h"
#include "lib/text.h"

static char folder[] = "/tmp/test_sign.XXXXXX";

/* RFC 8032, 7.1, TEST 2: the message is the byte 0x72. In PEM as `openssl pkey` writes it. */
#define SEED "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
#define KEY  "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
#define SIGNATURE                                                                                                      \
	"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"                                             \
	"085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
#define PRIVATE_PEM                                                                                                    \
	"-----BEGIN PRIVATE KEY-----\n"                                                                                \
	"MC4CAQAwBQYDK2VwBCIEIEzNCJso/5banbbDRuwRTg9bijGfNaumJNqM9u1PuKb7\n"                                           \
	"-----END PRIVATE KEY-----\n"
#define PUBLIC_PEM                                                                                                     \
	"-----BEGIN PUBLIC KEY-----\n"                                                                                 \
	"MCowBQYDK2VwAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=\n"                                               \
	"-----END PUBLIC KEY-----\n"

static const char *hex(const uint8_t *bytes, size_t n)
{
	static char text[2 * SIGN_BYTES + 1];

	for (size_t i = 0; i < n; i++)
		(void)snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return text;
}

static void put(const char *path, const void *bytes, size_t len, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), (ssize_t)len);
	assert_int_equal(fchmod(fd, mode), 0);
	(void)close(fd);
}

static void put_text(const char *path, const char *text, mode_t mode)
{
	put(path, text, strlen(text), mode);
}

static void test_parse(void **state)
{
	static const struct {
		const char *name, *text;
		int private, public; /* results */
	} cases[] = {
		{ "private", PRIVATE_PEM, 0, -EINVAL },
		{ "public", PUBLIC_PEM, -EINVAL, 0 },
		{ "both in one", PUBLIC_PEM PRIVATE_PEM, 0, 0 },
		{ "text before, CRLF",
		  "hello\r\n-----BEGIN PUBLIC "
		  "KEY-----\r\nMCowBQYDK2VwAyEAPUAXw+hDiVqStwqn\r\nTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=\r\n-----END PUBLIC "
		  "KEY-----",
		  -EINVAL, 0 },
		{ "empty", "", -EINVAL, -EINVAL },
		{ "no end",
		  "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=\n", -EINVAL,
		  -EINVAL },
		{ "a byte short",
		  "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zg==\n-----END "
		  "PUBLIC KEY-----\n",
		  -EINVAL, -EINVAL },
		{ "X25519, which signs nothing",
		  "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=\n-----END "
		  "PUBLIC KEY-----\n",
		  -EINVAL, -EINVAL },
		{ "no base64", "-----BEGIN PUBLIC KEY-----\n****\n-----END PUBLIC KEY-----\n", -EINVAL, -EINVAL },
		{ "encrypted", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
		  -EACCES, -EINVAL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t seed[SIGN_KEY_BYTES], key[SIGN_KEY_BYTES];
		size_t len = strlen(cases[i].text);

		if (sign_parse_private(cases[i].text, len, seed) != cases[i].private ||
		    sign_parse_public(cases[i].text, len, key) != cases[i].public)
			fail_msg("%s", cases[i].name);
		if (cases[i].private == 0)
			assert_string_equal(hex(seed, sizeof(seed)), SEED);
		if (cases[i].public == 0)
			assert_string_equal(hex(key, sizeof(key)), KEY);
	}
}

static void test_sign(void **state)
{
	uint8_t signature[SIGN_BYTES];
	struct mvm_error err;
	struct sign_key *key;
	int status;
	pid_t pid;

	(void)state;
	put_text("key", PRIVATE_PEM, 0600);
	assert_int_equal(sign_key_read("key", &key, &err), 0);
	sign_bytes(key, "r", 1, signature);
	assert_string_equal(hex(signature, sizeof(signature)), SIGNATURE);
	/* A child, as the VMM's process is before its exec, does not have it. */
	pid = fork();
	if (pid == 0) {
		(void)signal(SIGSEGV, SIG_DFL); /* cmocka's own would go on with the tests */
		sign_bytes(key, "r", 1, signature);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	sign_key_free(key);
	(void)unlink("key");
}

static void test_key_refused(void **state)
{
	static const struct {
		const char *text;
		mode_t mode;
		int r;
		const char *says;
	} cases[] = {
		{ PRIVATE_PEM, 0640, -EPERM, "chmod 600" },
		{ PRIVATE_PEM, 0604, -EPERM, "chmod 600" },
		{ PUBLIC_PEM, 0600, -EINVAL, "openssl genpkey" },
		{ "", 0600, -EINVAL, "openssl genpkey" },
		{ "-----BEGIN ENCRYPTED PRIVATE KEY-----", 0600, -EACCES, "passphrase" },
	};
	struct mvm_error err;
	struct sign_key *key;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		put_text("key", cases[i].text, cases[i].mode);
		assert_int_equal(sign_key_read("key", &key, &err), cases[i].r);
		assert_non_null(strstr(err.text, "--sign: key: "));
		assert_non_null(strstr(err.text, cases[i].says));
		(void)unlink("key");
	}
	assert_int_equal(sign_key_read("none", &key, &err), -ENOENT);
	assert_int_equal(sign_key_read("/dev/null", &key, &err), -EINVAL);
}

/* A receipt with its signature, and what is left when one of them cannot be written. */
static void test_receipt(void **state)
{
	struct receipt_place place;
	struct mvm_error err;
	struct sign_key *key;

	(void)state;
	put_text("key", PRIVATE_PEM, 0600);
	put_text("pub", PUBLIC_PEM, 0644);
	assert_int_equal(sign_key_read("key", &key, &err), 0);
	assert_int_equal(receipt_open("r.json", -1, &place, &err), 0);
	assert_int_equal(receipt_can_sign(&place, &err), 0);
	assert_int_equal(receipt_write(&place, "id", "{}\n", key, &err), 0);
	assert_int_equal(mvm_receipt_verify("r.json", NULL, "pub", &err), 0);
	assert_int_equal(mvm_receipt_verify("r.json", "r.json.sig", "pub", &err), 0);
	/* The signature's place is taken: neither file changes, and nothing of this run is left beside them. */
	assert_int_equal(unlink("r.json.sig"), 0);
	assert_int_equal(mkdir("r.json.sig", 0700), 0);
	assert_int_equal(receipt_write(&place, "id", "{\"new\":1}\n", key, &err), -EISDIR);
	assert_int_equal(access(".mvm-receipt-id", F_OK), -1);
	assert_int_equal(access(".mvm-receipt-id.sig", F_OK), -1);
	assert_int_equal(rmdir("r.json.sig"), 0);
	receipt_close(&place);
	assert_int_equal(receipt_open("/dev/null", -1, &place, &err), 0);
	assert_int_equal(receipt_can_sign(&place, &err), -EINVAL);
	receipt_close(&place);
	sign_key_free(key);
	assert_int_equal(unlink("r.json") | unlink("key") | unlink("pub"), 0);
}

static void expect_bad(const char *receipt, const char *signature, const char *key, int r, const char *says)
{
	struct mvm_error err;

	assert_int_equal(mvm_receipt_verify(receipt, signature, key, &err), r);
	if (!strstr(err.text, says))
		fail_msg("'%s' does not say '%s'", err.text, says);
	assert_null(strchr(err.text, '\n'));
}

static void test_verify(void **state)
{
	uint8_t signature[SIGN_BYTES + 1] = { 0 };
	struct mvm_error err;

	(void)state;
	for (unsigned i = 0; i < SIGN_BYTES; i++) {
		unsigned byte;

		assert_int_equal(sscanf(SIGNATURE + 2 * i, "%2x", &byte), 1);
		signature[i] = (uint8_t)byte;
	}
	put_text("pub", PUBLIC_PEM, 0644);
	put_text("r", "r", 0644);
	put("r.sig", signature, SIGN_BYTES, 0644);
	assert_int_equal(mvm_receipt_verify("r", NULL, "pub", &err), 0);
	for (unsigned i = 0; i < SIGN_BYTES * 8; i++) { /* every bit of it counts */
		signature[i / 8] ^= (uint8_t)(1U << i % 8);
		put("other.sig", signature, SIGN_BYTES, 0644);
		expect_bad("r", "other.sig", "pub", -EBADMSG, "NOT what was signed");
		signature[i / 8] ^= (uint8_t)(1U << i % 8);
	}
	put_text("s", "s", 0644);
	expect_bad("s", "r.sig", "pub", -EBADMSG, "receipt: s: NOT");
	put_text("s", "r\n", 0644);
	expect_bad("s", "r.sig", "pub", -EBADMSG, "NOT");
	put_text("s", "", 0644);
	expect_bad("s", "r.sig", "pub", -EBADMSG, "NOT");
	expect_bad("s", NULL, "pub", -ENOENT, "signature: s.sig: No such file");
	expect_bad("none", "r.sig", "pub", -ENOENT, "receipt: none: No such file");
	expect_bad("r", NULL, "none", -ENOENT, "key: none: No such file");
	put("other.sig", signature, SIGN_BYTES - 1, 0644);
	expect_bad("r", "other.sig", "pub", -EINVAL, "63 bytes");
	put("other.sig", signature, SIGN_BYTES + 1, 0644);
	expect_bad("r", "other.sig", "pub", -EFBIG, "longer than 64");
	put_text("other", PRIVATE_PEM, 0600);
	expect_bad("r", NULL, "other", -EINVAL, "not an Ed25519 public key");
	put_text("other",
		 "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zg0=\n-----END "
		 "PUBLIC "
		 "KEY-----\n",
		 0600);
	expect_bad("r", NULL, "other", -EBADMSG, "or the key is another");
	assert_int_equal(
		unlink("r") | unlink("s") | unlink("r.sig") | unlink("other.sig") | unlink("other") | unlink("pub"), 0);
}

static int enter_folder(void **state)
{
	(void)state;
	return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int leave_folder(void **state)
{
	(void)state;
	return chdir("/") == 0 ? rmdir(folder) : -1; /* what was left behind makes this fail */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),   cmocka_unit_test(test_sign),   cmocka_unit_test(test_key_refused),
		cmocka_unit_test(test_receipt), cmocka_unit_test(test_verify),
	};

	return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
