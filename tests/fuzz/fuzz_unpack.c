/*
 * A tar stream of anybody's as files: guest/tar_reader.c, unpack.c and place.c, which the host runs on a guest's bytes
 * and the agent on a user's.
 *
 * The first byte chooses what is asked for; the rest is the stream, with the checksums of its headers put right. It is
 * unpacked for real, beside a file that nobody named: nothing may change but the destination.
 */
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unpack.h"

static char folder[] = "/dev/shm/fuzz_unpack.XXXXXX"; /* with what follows in it, each time anew */
static char secret[sizeof(folder) + 8], dest[sizeof(folder) + 8], fresh[sizeof(folder) + 16], up[sizeof(folder) + 16];
static int stream = -1;

static int forget(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	if (remove(path) < 0)
		abort();
	return 0;
}

static void set_up(void)
{
	if (stream >= 0)
		return;
	stream = memfd_create("stream", MFD_CLOEXEC);
	if (stream < 0 || !mkdtemp(folder) || rmdir(folder) < 0)
		abort();
	(void)snprintf(secret, sizeof(secret), "%s/secret", folder);
	(void)snprintf(dest, sizeof(dest), "%s/dest", folder);
	(void)snprintf(fresh, sizeof(fresh), "%s/new", dest);
	(void)snprintf(up, sizeof(up), "%s/up", dest);
}

static void put_checksums_right(uint8_t *data, size_t len)
{
	for (size_t at = 0; at + TAR_BLOCK <= len; at += TAR_BLOCK) {
		struct tar_header *h = (struct tar_header *)(void *)(data + at);
		unsigned sum = 0;

		if (memcmp(h->magic, "ustar", 5) != 0)
			continue;
		memset(h->checksum, ' ', sizeof(h->checksum));
		for (size_t i = 0; i < TAR_BLOCK; i++)
			sum += data[at + i];
		(void)snprintf(h->checksum, sizeof(h->checksum), "%06o", sum);
	}
}

/* Beside the destination lies what lay there before. */
static void check_outside(void)
{
	struct stat st;
	char text[8] = "";
	int fd = open(secret, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_nlink != 1 || (st.st_mode & 07777) != 0600 ||
	    read(fd, text, sizeof(text)) != 4 || memcmp(text, "kept", 4) != 0)
		abort();
	(void)close(fd);
	if (stat(folder, &st) < 0 || st.st_nlink != 3) /* dest is its only folder */
		abort();
}

static int look(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)type;
	/* No devices, no set-id bits; beside the two names nothing. */
	if (!S_ISDIR(st->st_mode) && !S_ISREG(st->st_mode) && !S_ISLNK(st->st_mode))
		abort();
	if (st->st_mode & (S_ISUID | S_ISGID))
		abort();
	if (at->level == 1 && strcmp(path, dest) != 0 && strcmp(path, secret) != 0)
		abort();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const char *const tops[] = { NULL, ".", "x", "top" };
	struct unpack_options options = { .dest = dest };
	struct pack_note note;
	struct failure f;
	uint8_t *copy;
	int fd;

	if (len < 1 || len > (64 << 10))
		return 0;
	set_up();
	options.top = tops[*data & 3];
	options.hard_links = *data & 4;
	if (options.top && *data & 8)
		options.dest = fresh;
	if (mkdir(folder, 0700) < 0 || mkdir(dest, 0700) < 0 || symlink("..", up) < 0)
		abort();
	fd = open(secret, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, "kept", 4) != 4)
		abort();
	(void)close(fd);
	copy = malloc(len);
	if (!copy)
		abort();
	memcpy(copy, data + 1, len - 1);
	put_checksums_right(copy, len - 1);
	if (ftruncate(stream, 0) < 0 || pwrite(stream, copy, len - 1, 0) != (ssize_t)(len - 1) ||
	    lseek(stream, 0, SEEK_SET) != 0)
		abort();
	free(copy);
	(void)unpack(&options, stream, &note, &f);
	check_outside();
	(void)nftw(folder, look, 16, FTW_PHYS);
	if (nftw(folder, forget, 16, FTW_DEPTH | FTW_PHYS) != 0)
		abort();
	return 0;
}
