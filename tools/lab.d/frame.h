/*
 * The wire between the two ends of a lab: lab-host beside QEMU and lab-guest
 * inside.
 *
 * Four virtio-serial ports carry it: control (both ways), stdin (to the guest),
 * stdout and stderr (to the host).  A port is a byte pipe that never ends, so
 * every port carries frames: a type byte, a length in the machine's own order
 * (both ends are this machine) and that many bytes.  On the three data ports a
 * FRAME_DATA of length 0 is the end of the stream.  Each stream has a port of
 * its own, so back-pressure on one never stops another.
 *
 * Trust: both ends belong to the caller; the lab is a test host, not a jail.
 * Lengths are bounded all the same, so that a broken lab gives an error and not
 * a wild allocation.
 */
#ifndef LAB_FRAME_H
#define LAB_FRAME_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	FRAME_DATA = 'd', /* stream bytes; length 0 ends the stream */

	/* control, host to guest, in any order and closed by FRAME_GO */
	FRAME_ARG = 'A', /* one argument of the command */
	FRAME_ENV = 'E', /* one K=V */
	FRAME_CWD = 'C', /* the directory to start in */
	FRAME_USER = 'U', /* the user to run as; absent means root */
	FRAME_TTY = 'T', /* one byte, TTY_* bits */
	FRAME_GO = 'G', /* no payload: start */

	/* control, host to guest, at any time after FRAME_GO */
	FRAME_WINSIZE = 'W', /* struct winsize; also legal before FRAME_GO */
	FRAME_CLOSED = 'P', /* one byte, 1 or 2: nobody reads that stream any more */

	/* control, guest to host */
	FRAME_RUNNING = 'R', /* the command is being started */
	FRAME_STATUS = 'X', /* uint32_t exit status; everything before it is on disk */
	FRAME_FAILED = 'F', /* text: the lab could not run the command */
};

enum {
	TTY_STDIO = 1, /* stdin and stdout are one terminal */
	TTY_STDERR = 2, /* and stderr is it too */
};

/* virtio-serial port numbers; 0 is kept for a console by the specification. */
enum { PORT_CONTROL = 1, PORT_STDIN, PORT_STDOUT, PORT_STDERR };

/*
 * 32 KiB is the most the guest kernel takes in one write to a port, header
 * included: a full frame is then one request.
 */
#define FRAME_HEAD  5u
#define FRAME_CHUNK (32768u - FRAME_HEAD)
#define FRAME_MAX   (4u << 20)

/* Writes all of buf; 0 or -errno.  fd must block. */
static inline int write_all(int fd, const void *buf, size_t len)
{
	const char *p = buf;

	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Reads exactly len bytes; 0, -EPIPE at the end of file, or -errno. */
static inline int read_all(int fd, void *buf, size_t len)
{
	char *p = buf;

	while (len > 0) {
		ssize_t n = read(fd, p, len);

		if (n == 0)
			return -EPIPE;
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Fills in the head at buf, whose payload of len bytes follows it. */
static inline void frame_head(char *buf, char type, uint32_t len)
{
	buf[0] = type;
	memcpy(buf + 1, &len, sizeof(len));
}

/* Sends one frame with a single write, so that two writers never interleave
 * below the port's own write size; 0 or -errno. */
static inline int frame_send(int fd, char type, const void *payload, uint32_t len)
{
	char *buf = malloc(FRAME_HEAD + (size_t)len);
	int rc;

	if (!buf)
		return -ENOMEM;
	frame_head(buf, type, len);
	if (len)
		memcpy(buf + FRAME_HEAD, payload, len);
	rc = write_all(fd, buf, FRAME_HEAD + (size_t)len);
	free(buf);
	return rc;
}

/* Receives a head; 0 or -errno, -EPROTO when the length is out of bounds. */
static inline int frame_recv_head(int fd, char *ret_type, uint32_t *ret_len)
{
	char head[FRAME_HEAD];
	uint32_t len;
	int rc = read_all(fd, head, sizeof(head));

	if (rc < 0)
		return rc;
	memcpy(&len, head + 1, sizeof(len));
	if (len > FRAME_MAX)
		return -EPROTO;
	*ret_type = head[0];
	*ret_len = len;
	return 0;
}

/* Receives a whole frame; the payload is the caller's to free and has a NUL
 * after its last byte; 0 or -errno. */
static inline int frame_recv(int fd, char *ret_type, char **ret_payload, uint32_t *ret_len)
{
	char type, *payload;
	uint32_t len;
	int rc = frame_recv_head(fd, &type, &len);

	if (rc < 0)
		return rc;
	payload = malloc((size_t)len + 1);
	if (!payload)
		return -ENOMEM;
	rc = read_all(fd, payload, len);
	if (rc < 0) {
		free(payload);
		return rc;
	}
	payload[len] = '\0';
	*ret_type = type;
	*ret_payload = payload;
	*ret_len = len;
	return 0;
}

#endif
