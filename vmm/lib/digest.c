#include "lib/digest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void digest_init(struct digest *digest, int fd, uint64_t size)
{
	memset(digest, 0, sizeof(*digest));
	digest->fd = fd;
	digest->size = size;
	digest->done = fd < 0;
	if (fd >= 0)
		SHA256Init(&digest->ctx);
}

void digest_free(struct digest *digest)
{
	free(digest->buffer);
	digest->buffer = NULL;
}

static void finish(struct digest *digest, int error)
{
	digest->done = true;
	digest->error = error;
	if (!error)
		(void)SHA256End(&digest->ctx, digest->hex);
	digest_free(digest);
}

bool digest_step(struct digest *digest)
{
	uint64_t left = digest->size - digest->offset;
	ssize_t n;

	if (digest->done)
		return false;
	if (!left) {
		finish(digest, 0);
		return false;
	}
	if (!digest->buffer)
		digest->buffer = malloc(DIGEST_SLICE);
	if (!digest->buffer) {
		finish(digest, -ENOMEM);
		return false;
	}
	n = pread(digest->fd, digest->buffer, left < DIGEST_SLICE ? left : DIGEST_SLICE, (off_t)digest->offset);
	if (n < 0 && errno == EINTR)
		return true;
	if (n <= 0) {
		finish(digest, n ? -errno : -EIO); /* shorter than when it was opened */
		return false;
	}
	SHA256Update(&digest->ctx, digest->buffer, (size_t)n);
	digest->offset += (uint64_t)n;
	return true;
}
