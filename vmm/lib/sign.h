/*
 * Ed25519 signatures of receipts (RFC 8032): keys in OpenSSL's PEM forms, a signature is 64 raw bytes.
 *
 * Purpose: read a key, sign, verify. What is made here `openssl pkeyutl -verify -rawin` checks, and the other way round.
 * Trust:   keys, signatures and receipts to be verified may be anybody's files: of bounded size, every byte checked.
 * Ownership: a private key lives in a page of its own that no child inherits and no core dump holds, until
 *          sign_key_free() wipes it. Its descriptor is closed before sign_key_read() returns.
 * Thread:  any; an object belongs to one at a time.
 * Returns: 0 or -errno with err.
 */
#ifndef LIB_SIGN_H
#define LIB_SIGN_H

#include <stddef.h>
#include <stdint.h>

#include "mvm/mvm.h"

#define SIGN_BYTES     64U /* of a signature */
#define SIGN_KEY_BYTES 32U /* of a public key, and of a private one's seed */
#define SIGN_PEM_MAX   2048U /* bytes of a key's file */
#define SIGN_SUFFIX    ".sig" /* the signature's file: the receipt's name, and this */

struct sign_key;

/* The private key in a file that nobody but its owner may read. */
int sign_key_read(const char *path, struct sign_key **ret_key, struct mvm_error *err);
void sign_key_free(struct sign_key *key);
void sign_bytes(const struct sign_key *key, const void *bytes, size_t len, uint8_t ret_signature[SIGN_BYTES]);

/* The key in a PEM text. -EINVAL: there is no Ed25519 key of that kind in it, -EACCES: it is encrypted. */
int sign_parse_private(const char *text, size_t len, uint8_t ret_seed[SIGN_KEY_BYTES]);
int sign_parse_public(const char *text, size_t len, uint8_t ret_key[SIGN_KEY_BYTES]);

#endif
