/*
 * Tar streams: the form in which files cross between host and guest (`mvm cp`), read and written.
 *
 * Purpose: POSIX ustar with pax extended headers; GNU's long names are read too. Sparse files are pax's
 *          GNU.sparse 1.0, which GNU tar and libarchive know; other sparse forms are refused by name. Linked into
 *          the agent and into libmvm: what one end writes the other reads, and each may have been taken over. Written
 *          by hand for that: the agent has no libraries, and what reads a guest's bytes on the host is small.
 * Trust:   every byte read is hostile. Sizes, counts and names are bounded before they are used; memory is one
 *          buffer, one member and one map of TAR_EXTENTS_MAX, however long the stream is. What a name may do is not
 *          decided here (unpack.h).
 * Ownership: descriptors are the caller's; *_init() allocates what *_free() takes back.
 * Thread:  any; an object belongs to one at a time. Blocks where its descriptor does.
 * Returns: 0 or -errno with *f filled, unless said otherwise. -ENODATA: the stream ends before its end mark;
 *          -EBADMSG: it is no tar; -EPIPE: nobody reads what is written.
 */
#ifndef MVM_GUEST_TAR_H
#define MVM_GUEST_TAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"

#define TAR_BLOCK       512U
#define TAR_BUFFER      (256U << 10) /* bytes; a multiple of TAR_BLOCK */
#define TAR_PATH_MAX    4096U /* with the NUL; Linux takes no longer ones */
#define TAR_PAX_MAX     (1U << 20) /* bytes of one extended header */
#define TAR_EXTENTS_MAX 65536U /* pieces of data of a sparse file */

/* A header block, POSIX.1 pax "ustar Interchange Format". Numbers are octal text. */
struct tar_header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8];
	char type;
	char link[100], magic[6], version[2], uname[32], gname[32], major[8], minor[8], prefix[155], zero[12];
};

_Static_assert(sizeof(struct tar_header) == TAR_BLOCK, "wire");

enum tar_kind {
	TAR_FILE,
	TAR_FOLDER,
	TAR_SYMLINK,
	TAR_HARDLINK,
	TAR_SPECIAL, /* a device or a fifo */
};

struct tar_member {
	enum tar_kind kind;
	uint32_t mode; /* 07777 */
	uint32_t uid, gid;
	int64_t mtime; /* seconds */
	uint64_t size; /* bytes of the file, holes included; 0 of all but files */
	bool sparse;
	char path[TAR_PATH_MAX]; /* as it stands in the stream, not empty */
	char link[TAR_PATH_MAX]; /* target of a link, not empty there */
};

struct tar_extent {
	uint64_t offset, length;
};

/* What an extended header says of the next member. */
struct tar_pax {
	unsigned has; /* which fields */
	uint64_t size, real_size, uid, gid;
	int64_t mtime;
	unsigned sparse_major, sparse_minor;
	char path[TAR_PATH_MAX], link[TAR_PATH_MAX], sparse_name[TAR_PATH_MAX];
};

struct tar_reader {
	int fd;
	uint8_t *buf;
	size_t pos, len;
	uint64_t left; /* bytes of the member's content that are still in the stream */
	unsigned pad; /* behind them */
	struct tar_extent *map; /* where they belong: nmap pieces, `piece` the current one, `done` bytes of it read */
	size_t nmap, piece;
	uint64_t done;
	char *text; /* of the last extended header */
	struct tar_pax pax;
};

int tar_reader_init(struct tar_reader *r, int fd, struct failure *f);
void tar_reader_free(struct tar_reader *r);

/* The next member; what is left of the last one's content is skipped. 1, 0 at the end mark, -errno. */
int tar_next(struct tar_reader *r, struct tar_member *ret, struct failure *f);

/* The next bytes of its content, in the reader's buffer until the next call, and where they belong. 1, 0 none left. */
int tar_data(struct tar_reader *r, const uint8_t **ret_data, size_t *ret_len, uint64_t *ret_offset, struct failure *f);

struct tar_writer {
	int fd;
	uint8_t *buf;
	size_t len;
};

int tar_writer_init(struct tar_writer *w, int fd, struct failure *f);
void tar_writer_free(struct tar_writer *w);

/*
 * A member's header. Of a sparse one with its map: ascending, apart, within the size; what follows is the pieces'
 * bytes one after the other; of another, its `size` bytes. Then tar_pad().
 */
int tar_put(struct tar_writer *w, const struct tar_member *m, const struct tar_extent *map, size_t nmap,
	    struct failure *f);

/* Room for content, at least a quarter of the buffer; the caller fills some and tells how much. */
int tar_room(struct tar_writer *w, uint8_t **ret_room, size_t *ret_size, struct failure *f);
void tar_filled(struct tar_writer *w, size_t n);

int tar_pad(struct tar_writer *w, uint64_t content, struct failure *f); /* to a whole block */
int tar_finish(struct tar_writer *w, struct failure *f); /* the end mark; all is written then */

#endif
