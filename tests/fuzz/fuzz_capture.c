/*
 * --pcap: datagrams of a VMM that somebody owns, over one or more runs. The file stays within its bound, and is well-formed
 * by a reader of its own, whatever was sent.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/capture.h"
#include "pcapng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(x)                                                                                                       \
	do {                                                                                                           \
		if (!(x))                                                                                              \
			__builtin_trap();                                                                              \
	} while (0)

#define RUNS 3U

/* A datagram: the input's bytes behind its length, or a sound record of that length, of which there are many at once. */
static void send_some(int fd, const uint8_t **at, const uint8_t *end)
{
	static uint8_t bytes[CAPTURE_FRAME_MAX + 100];
	size_t what = *(*at)++, n = (size_t)(end - *at);

	if (what & 1) {
		struct capture_record record = { 0 };
		size_t most = n < sizeof(record) ? n : sizeof(record);

		memcpy(&record, *at, most);
		*at += most;
		if (what & 2) {
			record.net %= 2;
			record.to_guest &= 1;
			record.reserved = 0;
			record.len = CAPTURE_FRAME_MIN + record.len % (CAPTURE_FRAME_MAX - CAPTURE_FRAME_MIN);
		}
		memcpy(bytes, &record, sizeof(record));
		n = sizeof(record) + (record.len < 1000 ? record.len : 1000);
		for (size_t i = 0; i <= what >> 2; i++)
			(void)!write(fd, bytes, n);
		return;
	}
	n = what < n ? what : n;
	(void)!write(fd, *at, n);
	*at += n;
}

static void read_back(const struct capture *capture)
{
	struct pcapng seen;
	struct stat st;
	void *map;

	CHECK(fstat(capture->file, &st) == 0);
	CHECK((uint64_t)st.st_size == capture->size && capture->size <= capture->max);
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, capture->file, 0);
	CHECK(map != MAP_FAILED);
	CHECK(pcapng_read(map, (size_t)st.st_size, NULL, NULL, &seen) == NULL);
	CHECK(seen.sections >= 1);
	(void)munmap(map, (size_t)st.st_size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t macs[2][6] = { { 2 }, { 2, 1 } };
	static const uint64_t dropped[VMM_NETS_MAX] = { 1, 2 };
	const uint8_t *at = data, *end = data + size;
	struct capture *capture;
	struct mvm_error err;
	char path[64];

	(void)snprintf(path, sizeof(path), "/tmp/mvm-fuzz-capture-%d", getpid());
	CHECK(capture_open(path, CAPTURE_LEAST, 1000, &capture, &err) == 0);
	(void)close(capture->file); /* one that can be read, too */
	capture->file = open(path, O_RDWR | O_CLOEXEC);
	CHECK(capture->file >= 0 && unlink(path) == 0);
	for (unsigned run = 0; run < RUNS && capture->ended == CAPTURE_NOTHING; run++) {
		enum capture_news news = CAPTURE_MORE;
		int fd;

		CHECK(capture_socket(capture, &fd, &err) == 0);
		fd = dup(fd);
		CHECK(fd >= 0 && capture_begin(capture, macs, 2, &err) == 0);
		capture_handed_over(capture);
		while (at < end && *at != 0xff && (news == CAPTURE_MORE || news == CAPTURE_NOTHING)) {
			send_some(fd, &at, end);
			do
				news = capture_read(capture);
			while (news == CAPTURE_MORE);
		}
		CHECK((news == CAPTURE_MORE || news == CAPTURE_NOTHING) == (capture->ended == CAPTURE_NOTHING));
		at += at < end && *at == 0xff;
		(void)close(fd);
		capture_finish(capture, dropped);
		read_back(capture);
	}
	capture_free(capture);
	return 0;
}
