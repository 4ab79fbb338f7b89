/*
 * A pcapng file (draft-ietf-opsawg-pcapng): blocks in this machine's byte order, as the first of them says, each of a
 * multiple of 4 bytes and with its length at both ends.
 */
#include "lib/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "lib/text.h"
#include "mvm/cleanup.h"
#include "mvm/version.h"

#define RECORDS     128U /* at once, then others have their turn */
#define SOCKET_ROOM (1 << 20) /* bytes that may wait for us; the kernel counts its own overhead, and doubles it */
#define NS_PER_S    1000000000ULL

enum { /* §4: block types; options of any block; those of each */
       BLOCK_SECTION = 0x0a0d0d0a,
       BLOCK_INTERFACE = 1,
       BLOCK_STATISTICS = 5,
       BLOCK_PACKET = 6,
       OPT_END = 0,
       OPT_SECTION_PROGRAM = 4,
       OPT_INTERFACE_NAME = 2,
       OPT_INTERFACE_MAC = 6,
       OPT_INTERFACE_TSRESOL = 9,
       OPT_STATISTICS_DROPPED = 5,
       OPT_PACKET_FLAGS = 2,
       FLAGS_INBOUND = 1,
       FLAGS_OUTBOUND = 2,
       LINK_ETHERNET = 1,
       NANOSECONDS = 9,
};

#define BYTE_ORDER_MAGIC 0x1a2b3c4dU
#define PACKET_HEAD      28U /* bytes of a packet's block before the frame */
#define PACKET_TAIL      16U /* and behind it, padding apart */
#define STATISTICS_BYTES 40U

static size_t padded(size_t len)
{
	return (len + 3) & ~(size_t)3;
}

/* ---- blocks, in the batch ---- */

static void put(struct capture *c, const void *bytes, size_t len)
{
	memcpy(c->batch + c->nbatch, bytes, len);
	memset(c->batch + c->nbatch + len, 0, padded(len) - len);
	c->nbatch += padded(len);
}

static void put_u32(struct capture *c, uint32_t value)
{
	put(c, &value, sizeof(value));
}

static void put_option(struct capture *c, uint16_t code, const void *value, size_t len)
{
	const uint16_t head[2] = { code, (uint16_t)len };

	put(c, head, sizeof(head));
	put(c, value, len);
}

/* A block's length stands at its beginning and at its end: where it began. */
static size_t begin_block(struct capture *c, uint32_t type)
{
	size_t at = c->nbatch;

	put_u32(c, type);
	put_u32(c, 0);
	return at;
}

static void end_block(struct capture *c, size_t at)
{
	uint32_t len = (uint32_t)(c->nbatch - at + sizeof(len));

	memcpy(c->batch + at + sizeof(len), &len, sizeof(len));
	put_u32(c, len);
	c->size += len;
}

static void put_section(struct capture *c)
{
	static const char program[] = "mvm " MVM_VERSION;
	const uint16_t version[2] = { 1, 0 };
	const uint64_t unknown = UINT64_MAX; /* how long the section is */
	size_t at = begin_block(c, BLOCK_SECTION);

	put_u32(c, BYTE_ORDER_MAGIC);
	put(c, version, sizeof(version));
	put(c, &unknown, sizeof(unknown));
	put_option(c, OPT_SECTION_PROGRAM, program, sizeof(program) - 1);
	put_u32(c, OPT_END);
	end_block(c, at);
}

static void put_interface(struct capture *c, unsigned net, const uint8_t mac[6])
{
	const uint16_t link[2] = { LINK_ETHERNET, 0 };
	const uint8_t resolution = NANOSECONDS;
	size_t at = begin_block(c, BLOCK_INTERFACE);
	char name[16];

	(void)snprintf(name, sizeof(name), "net%u", net); /* as the log has it */
	put(c, link, sizeof(link));
	put_u32(c, c->snap);
	put_option(c, OPT_INTERFACE_NAME, name, strlen(name));
	put_option(c, OPT_INTERFACE_MAC, mac, 6);
	put_option(c, OPT_INTERFACE_TSRESOL, &resolution, sizeof(resolution));
	put_u32(c, OPT_END);
	end_block(c, at);
}

static void put_time(struct capture *c, uint64_t ns)
{
	put_u32(c, (uint32_t)(ns >> 32));
	put_u32(c, (uint32_t)ns);
}

/* The frame lies behind its head in the batch already. */
static void put_packet(struct capture *c, const struct capture_record *record, uint32_t len)
{
	const uint32_t flags = record->to_guest ? FLAGS_INBOUND : FLAGS_OUTBOUND;
	size_t at = begin_block(c, BLOCK_PACKET);

	put_u32(c, record->net);
	put_time(c, record->time_ns + c->offset_ns);
	put_u32(c, len);
	put_u32(c, record->len);
	memset(c->batch + c->nbatch + len, 0, padded(len) - len);
	c->nbatch += padded(len);
	put_option(c, OPT_PACKET_FLAGS, &flags, sizeof(flags));
	put_u32(c, OPT_END);
	end_block(c, at);
	c->nframes++;
}

static void put_statistics(struct capture *c, unsigned net, uint64_t dropped)
{
	size_t at = begin_block(c, BLOCK_STATISTICS);

	put_u32(c, net);
	put_time(c, text_now_ns() + c->offset_ns);
	put_option(c, OPT_STATISTICS_DROPPED, &dropped, sizeof(dropped));
	put_u32(c, OPT_END);
	end_block(c, at);
}

/* ---- the file ---- */

/* Room that what ends the section will take. */
static uint64_t reserved(const struct capture *c)
{
	return (uint64_t)c->nnets * STATISTICS_BYTES;
}

static bool has_room(const struct capture *c, uint64_t len)
{
	return c->size + len + reserved(c) <= c->max;
}

/* Writes the batch; what was not written whole is taken back, so that the file ends at the end of a block. */
static int flush(struct capture *c)
{
	uint64_t begin = c->size - c->nbatch;
	size_t at = 0;

	while (at < c->nbatch) {
		ssize_t n = pwrite(c->file, c->batch + at, c->nbatch - at, (off_t)(begin + at));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			int code = n < 0 ? errno : EIO;

			c->size = begin;
			c->nbatch = c->nframes = 0;
			(void)!ftruncate(c->file, (off_t)begin); /* what fails here leaves a torn block */
			return -code;
		}
		at += (size_t)n;
	}
	c->frames += c->nframes;
	c->nbatch = c->nframes = 0;
	return 0;
}

/* The capture is over; the VMM, which sees its socket closed, copies no more. */
static enum capture_news end(struct capture *c, enum capture_news why)
{
	if (why != CAPTURE_FAILED) {
		int r = flush(c);

		if (r < 0) {
			c->error = -r;
			why = CAPTURE_FAILED;
		}
	}
	cleanup_fd(&c->socket);
	c->socket = -1;
	return c->ended = why;
}

static enum capture_news failed(struct capture *c, int code)
{
	c->error = code;
	return end(c, CAPTURE_FAILED);
}

static int check_file(const char *path, int fd, struct mvm_error *err)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_set(err, errno, "--pcap: %s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return error_set(err, EINVAL, "--pcap: %s: not a regular file: name one, or one that is not there yet",
				 path);
	if (st.st_uid != geteuid() || st.st_nlink != 1)
		return error_set(
			err, EPERM,
			"--pcap: %s: there is such a file of another user's, or with another name besides: frames "
			"would be theirs to read: name one that is not there yet",
			path);
	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return error_set(err, EBUSY, "--pcap: %s: in use by a VM: give this capture a file of its own", path);
	return error_set(err, errno, "--pcap: %s: cannot be locked: %s: name a file on a local file system", path,
			 strerror(errno));
}

/* Other people's words may be in it: the owner's alone. *ret_made: it was not there. */
static int open_file(const char *path, bool *ret_made)
{
	const int flags = O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	int fd = open(path, flags | O_CREAT | O_EXCL, 0600);

	*ret_made = fd >= 0;
	return fd < 0 && errno == EEXIST ? open(path, flags | O_NOFOLLOW) : fd;
}

/* A file that was made for a run that was refused. */
static void take_back(const char *path, int fd)
{
	struct stat named, made;

	if (stat(path, &named) == 0 && fstat(fd, &made) == 0 && named.st_dev == made.st_dev &&
	    named.st_ino == made.st_ino && made.st_size == 0)
		(void)unlink(path);
}

int capture_open(const char *path, uint64_t max, uint32_t snap, struct capture **ret_capture, struct mvm_error *err)
{
	_cleanup_fd_ int fd = -1;
	struct capture *c;
	struct stat st;
	bool made;
	int r;

	/* Looked at first: to open a device may do something, and a FIFO waits. What it is is settled below. */
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
		return error_set(err, EINVAL, "--pcap: %s: not a regular file: name one, or one that is not there yet",
				 path);
	fd = open_file(path, &made);
	if (fd < 0)
		return error_set(err, errno, "--pcap: %s: %s: name a file that can be written", path, strerror(errno));
	r = check_file(path, fd, err);
	if (r < 0)
		return r;
	c = malloc(sizeof(*c));
	if (!c)
		return error_set(err, ENOMEM, "--pcap: out of memory");
	memset(c, 0, offsetof(struct capture, batch));
	c->file = take_fd(&fd);
	c->made = made;
	c->socket = c->handed = -1;
	c->path = path;
	c->max = max;
	c->snap = snap;
	*ret_capture = c;
	return 0;
}

void capture_free(struct capture *c)
{
	if (!c)
		return;
	if (c->made && !c->begun)
		take_back(c->path, c->file);
	cleanup_fd(&c->file);
	cleanup_fd(&c->socket);
	cleanup_fd(&c->handed);
	free(c);
}

int capture_socket(struct capture *c, int *ret_fd, struct mvm_error *err)
{
	const int room = SOCKET_ROOM;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return error_set(err, errno, "--pcap: no socket: %s", strerror(errno));
	/* As much as may be: with what a host allows by default, too, it is but a matter of lost frames. */
	if (setsockopt(pair[1], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) < 0)
		(void)setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	c->socket = pair[0];
	c->handed = pair[1];
	*ret_fd = c->handed;
	return 0;
}

void capture_handed_over(struct capture *c)
{
	cleanup_fd(&c->handed);
	c->handed = -1;
}

static uint64_t clock_offset(void)
{
	struct timespec now = { 0 };

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec - text_now_ns();
}

int capture_begin(struct capture *c, const uint8_t macs[][6], unsigned nnets, struct mvm_error *err)
{
	size_t head;
	int r;

	c->offset_ns = clock_offset();
	if (!c->begun && ftruncate(c->file, 0) < 0)
		return error_set(err, errno, "--pcap: %s: cannot be emptied: %s", c->path, strerror(errno));
	c->begun = true;
	c->nnets = nnets;
	put_section(c);
	for (unsigned i = 0; i < nnets; i++)
		put_interface(c, i, macs[i]);
	head = c->nbatch;
	if (c->size + reserved(c) > c->max) { /* of a run that is not the first */
		c->size -= head;
		c->nbatch = 0;
		c->nnets = 0;
		return 0; /* the first frame finds no room */
	}
	r = flush(c);
	return r < 0 ? error_set(err, -r, "--pcap: %s: cannot be written: %s", c->path, strerror(-r)) : 0;
}

static bool is_sound(const struct capture *c, const struct capture_record *record, size_t len)
{
	size_t most = record->len < c->snap ? record->len : c->snap;

	return record->len >= CAPTURE_FRAME_MIN && record->len <= CAPTURE_FRAME_MAX && record->net < c->nnets &&
	       record->to_guest <= 1 && !record->reserved && len == most;
}

/* One record, into the batch, which has room for the largest. */
static enum capture_news take(struct capture *c)
{
	struct capture_record record;
	struct iovec iov[2] = {
		{ &record, sizeof(record) },
		{ c->batch + c->nbatch + PACKET_HEAD, CAPTURE_FRAME_MAX },
	};
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n = recvmsg(c->socket, &msg, MSG_DONTWAIT);
	size_t len;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return CAPTURE_NOTHING;
	if (n <= 0) { /* the VMM is gone; its process is what tells of it */
		cleanup_fd(&c->socket);
		c->socket = -1;
		return CAPTURE_NOTHING;
	}
	if ((size_t)n < sizeof(record) || msg.msg_flags & MSG_TRUNC)
		return end(c, CAPTURE_BROKEN);
	if (c->nnets == 0)
		return end(c, CAPTURE_FULL);
	len = (size_t)n - sizeof(record);
	if (!is_sound(c, &record, len))
		return end(c, CAPTURE_BROKEN);
	if (!has_room(c, PACKET_HEAD + padded(len) + PACKET_TAIL))
		return end(c, CAPTURE_FULL);
	put_packet(c, &record, (uint32_t)len);
	return CAPTURE_MORE;
}

enum capture_news capture_read(struct capture *c)
{
	const size_t largest = PACKET_HEAD + padded(CAPTURE_FRAME_MAX) + PACKET_TAIL;
	enum capture_news news = CAPTURE_MORE;
	uint64_t offset = clock_offset();
	int r;

	/* Who sets the host's clock, or wakes it from its sleep, sets ours; a few nanoseconds would but shuffle frames. */
	if (offset - c->offset_ns + NS_PER_S > 2 * NS_PER_S)
		c->offset_ns = offset;
	for (unsigned i = 0; c->socket >= 0 && i < RECORDS; i++) {
		if (c->nbatch + largest > sizeof(c->batch))
			break;
		news = take(c);
		if (news != CAPTURE_MORE)
			break;
	}
	if (c->ended != CAPTURE_NOTHING)
		return news;
	r = flush(c);
	if (r < 0)
		return failed(c, -r);
	return c->socket < 0 ? CAPTURE_NOTHING : news;
}

void capture_forget(struct capture *c)
{
	c->frames = c->dropped = 0;
}

void capture_finish(struct capture *c, const uint64_t *dropped)
{
	int r;

	for (unsigned i = 0; i < VMM_NETS_MAX; i++)
		c->dropped += dropped[i];
	if (c->ended == CAPTURE_NOTHING && c->begun) {
		for (unsigned i = 0; i < c->nnets; i++)
			put_statistics(c, i, dropped[i]);
		c->nnets = 0; /* the section is over */
		r = flush(c);
		if (r < 0)
			(void)failed(c, -r);
	}
	cleanup_fd(&c->socket);
	c->socket = -1;
	capture_handed_over(c);
}
