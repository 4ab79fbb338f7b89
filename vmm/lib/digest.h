/*
 * SHA-256 of a file, a slice at a time, so that an event loop stays awake beside it.
 *
 * Ownership: borrows the descriptor and reads by offset.
 * Thread:  one at a time per object.
 */
#ifndef LIB_DIGEST_H
#define LIB_DIGEST_H

#include <sha256.h>
#include <stdbool.h>
#include <stdint.h>

#define DIGEST_SLICE (256U << 10) /* bytes a step: about a millisecond */

struct digest {
	SHA2_CTX ctx;
	int fd; /* -1: nothing to digest */
	uint64_t offset, size; /* bytes */
	uint8_t *buffer; /* of a slice, while it is needed */
	bool done;
	int error; /* -errno: the file could not be read to `size` */
	char hex[SHA256_DIGEST_STRING_LENGTH]; /* once done without error */
};

void digest_init(struct digest *digest, int fd, uint64_t size);
bool digest_step(struct digest *digest); /* true while there is more to do */
void digest_free(struct digest *digest);

#endif
