#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tar_pax.h"

static int no_tar(struct failure *f, const char *why)
{
	return fail_as(f, PROTO_FAIL_REFUSED, EBADMSG, "the stream is no tar that can be read: %s", why);
}

int tar_reader_init(struct tar_reader *r, int fd, struct failure *f)
{
	*r = (struct tar_reader){ .fd = fd };
	r->buf = malloc(TAR_BUFFER);
	return r->buf ? 0 : fail(f, ENOMEM, "tar");
}

void tar_reader_free(struct tar_reader *r)
{
	free(r->buf);
	free(r->map);
	free(r->text);
	r->buf = NULL;
	r->map = NULL;
	r->text = NULL;
}

/* At least `least` bytes in a row in the buffer, at most TAR_BUFFER. */
static int fill(struct tar_reader *r, size_t least, struct failure *f)
{
	if (r->len - r->pos >= least)
		return 0;
	memmove(r->buf, r->buf + r->pos, r->len - r->pos);
	r->len -= r->pos;
	r->pos = 0;
	while (r->len < least) {
		ssize_t n = read(r->fd, r->buf + r->len, TAR_BUFFER - r->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(f, errno, "the tar stream cannot be read");
		if (n == 0)
			return fail_as(f, PROTO_FAIL_REFUSED, ENODATA, "the tar stream was cut short");
		r->len += (size_t)n;
	}
	return 0;
}

static int skip(struct tar_reader *r, uint64_t n, struct failure *f)
{
	while (n) {
		int rc = fill(r, 1, f);
		size_t have;

		if (rc < 0)
			return rc;
		have = r->len - r->pos;
		have = have < n ? have : (size_t)n;
		r->pos += have;
		n -= have;
	}
	return 0;
}

/* ---- numbers ---- */

/* Octal text, or GNU's base 256 when the first byte has its top bit. False: neither, or above INT64_MAX. */
static bool number(const char *field, size_t len, int64_t *ret)
{
	const unsigned char *p = (const unsigned char *)field;
	uint64_t v = 0;
	size_t i = 0;

	if (*p & 0x80) {
		bool negative = *p & 0x40;

		v = negative ? UINT64_MAX << 6 | (*p & 0x3f) : *p & 0x3f;
		for (i = 1; i < len; i++) {
			if (v >> 55 != (negative ? 0x1ff : 0))
				return false;
			v = v << 8 | p[i];
		}
		*ret = (int64_t)v;
		return true;
	}
	while (i < len && p[i] == ' ')
		i++;
	for (; i < len && p[i] >= '0' && p[i] <= '7'; i++) {
		if (v >> 60)
			return false;
		v = v << 3 | (p[i] - '0');
	}
	*ret = (int64_t)v;
	return i == len || !p[i] || p[i] == ' ';
}

static bool checksum_is_right(const struct tar_header *h)
{
	const unsigned char *p = (const unsigned char *)h;
	int64_t said, sum = 0;

	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += p[i];
	for (size_t i = 0; i < sizeof(h->checksum); i++)
		sum += ' ' - (unsigned char)h->checksum[i];
	return number(h->checksum, sizeof(h->checksum), &said) && said == sum;
}

/* ---- extended headers ---- */

/* The content of a header that says something of the next one into r->text, a NUL behind. */
static int read_text(struct tar_reader *r, size_t size, struct failure *f)
{
	char *text = realloc(r->text, size + 1);

	if (!text)
		return fail(f, ENOMEM, "tar");
	r->text = text;
	for (size_t have = 0; have < size;) {
		int rc = fill(r, 1, f);
		size_t n;

		if (rc < 0)
			return rc;
		n = r->len - r->pos < size - have ? r->len - r->pos : size - have;
		memcpy(text + have, r->buf + r->pos, n);
		r->pos += n;
		have += n;
	}
	text[size] = 0;
	return skip(r, -size % TAR_BLOCK, f);
}

/* 'x' is of the next member, 'g' of all: of that what would change how the stream is read is refused. */
static int read_extension(struct tar_reader *r, char type, uint64_t size, struct failure *f)
{
	unsigned had = r->pax.has;
	const char *text;
	bool good;
	int rc = size > TAR_PAX_MAX ? no_tar(f, "an extended header is too large") : read_text(r, (size_t)size, f);

	if (rc < 0)
		return rc;
	text = r->text;
	switch (type) {
	case 'L':
		r->pax.has |= TAR_HAS_PATH;
		good = tar_pax_name(r->pax.path, text, strlen(text));
		break;
	case 'K':
		r->pax.has |= TAR_HAS_LINK;
		good = tar_pax_name(r->pax.link, text, strlen(text));
		break;
	case 'g':
		r->pax.has = 0;
		good = tar_pax_records(&r->pax, text, text + size) &&
		       !(r->pax.has & ~(TAR_HAS_UID | TAR_HAS_GID | TAR_HAS_MTIME));
		r->pax.has = 0; /* a global header stands before a member's own */
		return good && !had ? 0 : no_tar(f, "a global header says what it may not");
	default:
		good = tar_pax_records(&r->pax, text, text + size);
		break;
	}
	return good ? 0 : no_tar(f, "an extended header is malformed, or of a sparse form other than GNU.sparse 1.0");
}

/* ---- members ---- */

static bool kind_of(const struct tar_header *h, enum tar_kind *ret)
{
	switch (h->type) {
	case '\0':
	case '0':
	case '7':
		*ret = TAR_FILE;
		return true;
	case '1':
		*ret = TAR_HARDLINK;
		return true;
	case '2':
		*ret = TAR_SYMLINK;
		return true;
	case '5':
		*ret = TAR_FOLDER;
		return true;
	case '3':
	case '4':
	case '6':
		*ret = TAR_SPECIAL;
		return true;
	default:
		return false;
	}
}

/* Name and link, of the header's fields, which need not end with a NUL, or of what stood before it. */
static bool take_names(const struct tar_pax *pax, const struct tar_header *h, struct tar_member *m)
{
	bool posix = !memcmp(h->magic, "ustar\0", 6);
	size_t name = strnlen(h->name, sizeof(h->name)), prefix = posix ? strnlen(h->prefix, sizeof(h->prefix)) : 0;

	m->path[0] = m->link[0] = 0;
	if (pax->has & TAR_HAS_PATH) {
		memcpy(m->path, pax->path, strlen(pax->path) + 1);
	} else {
		memcpy(m->path, h->prefix, prefix);
		if (prefix)
			m->path[prefix++] = '/';
		memcpy(m->path + prefix, h->name, name);
		m->path[prefix + name] = 0;
	}
	if (pax->has & TAR_HAS_SPARSE && *pax->sparse_name)
		memcpy(m->path, pax->sparse_name, strlen(pax->sparse_name) + 1);
	if (m->kind == TAR_SYMLINK || m->kind == TAR_HARDLINK) {
		size_t link = strnlen(h->link, sizeof(h->link));

		memcpy(m->link, h->link, link);
		m->link[link] = 0;
		if (pax->has & TAR_HAS_LINK)
			memcpy(m->link, pax->link, strlen(pax->link) + 1);
		if (!*m->link)
			return false;
	}
	/* Before there was a type for folders. */
	if (m->kind == TAR_FILE && *m->path && m->path[strlen(m->path) - 1] == '/')
		m->kind = TAR_FOLDER;
	return *m->path;
}

static bool take_numbers(const struct tar_pax *pax, const struct tar_header *h, struct tar_member *m)
{
	int64_t mode, uid, gid;

	if (!number(h->mode, sizeof(h->mode), &mode) || !number(h->uid, sizeof(h->uid), &uid) ||
	    !number(h->gid, sizeof(h->gid), &gid) || !number(h->mtime, sizeof(h->mtime), &m->mtime))
		return false;
	uid = pax->has & TAR_HAS_UID ? (int64_t)pax->uid : uid;
	gid = pax->has & TAR_HAS_GID ? (int64_t)pax->gid : gid;
	m->mtime = pax->has & TAR_HAS_MTIME ? pax->mtime : m->mtime;
	if (uid < 0 || gid < 0 || uid >= UINT32_MAX || gid >= UINT32_MAX)
		return false;
	m->mode = (uint32_t)mode & 07777;
	m->uid = (uint32_t)uid;
	m->gid = (uint32_t)gid;
	return true;
}

/* A number and its newline from a sparse file's map; the map is bounded, so a byte at a time is good enough. */
static int map_number(struct tar_reader *r, uint64_t *ret, struct failure *f)
{
	char digits[20];
	size_t n = 0;

	for (;;) {
		int rc = r->left ? fill(r, 1, f) : no_tar(f, "the map of a sparse file is cut");

		if (rc < 0)
			return rc;
		r->left--;
		if (r->buf[r->pos] == '\n')
			break;
		if (n == sizeof(digits))
			return no_tar(f, "the map of a sparse file is malformed");
		digits[n++] = (char)r->buf[r->pos++];
	}
	r->pos++;
	return tar_decimal(digits, digits + n, INT64_MAX, ret) ? 0 : no_tar(f, "the map of a sparse file is malformed");
}

/* The map in front of the content: ascending, apart, within the file, as many bytes as there are. */
static int read_map(struct tar_reader *r, uint64_t real_size, struct failure *f)
{
	uint64_t before = r->left, n = 0, at = 0, sum = 0, tail;
	int rc = map_number(r, &n, f);

	if (rc < 0)
		return rc;
	if (n > TAR_EXTENTS_MAX)
		return no_tar(f, "a sparse file has too many pieces");
	free(r->map);
	r->nmap = 0;
	r->map = malloc((n ? n : 1) * sizeof(*r->map));
	if (!r->map)
		return fail(f, ENOMEM, "tar");
	for (; r->nmap < n; r->nmap++) {
		struct tar_extent *e = &r->map[r->nmap];

		rc = map_number(r, &e->offset, f);
		rc = rc < 0 ? rc : map_number(r, &e->length, f);
		if (rc < 0)
			return rc;
		if (e->offset < at || e->offset > real_size || e->length > real_size - e->offset)
			return no_tar(f, "the map of a sparse file makes no sense");
		at = e->offset + e->length;
		sum += e->length; /* apart and within the file: no more than it */
	}
	tail = -(before - r->left) % TAR_BLOCK;
	if (tail > r->left || r->left - tail != sum)
		return no_tar(f, "a sparse file has another size than its map");
	r->left -= tail;
	return skip(r, tail, f);
}

static int take_content(struct tar_reader *r, struct tar_member *m, uint64_t stored, struct failure *f)
{
	r->piece = r->nmap = 0;
	r->done = 0;
	m->sparse = r->pax.has & TAR_HAS_SPARSE;
	if (m->kind != TAR_FILE) {
		/* Only files have content; what others say of a size is of the file that they stand for. */
		m->size = r->left = r->pad = 0;
		return m->sparse ? no_tar(f, "a sparse file is none") : 0;
	}
	m->size = r->left = stored;
	r->pad = (unsigned)(-stored % TAR_BLOCK);
	if (!m->sparse)
		return 0;
	if (r->pax.sparse_major != 1)
		return no_tar(f, "a sparse file of another form than GNU.sparse 1.0");
	m->size = r->pax.real_size;
	return read_map(r, m->size, f);
}

static int take_member(struct tar_reader *r, const struct tar_header *h, uint64_t size, struct tar_member *m,
		       struct failure *f)
{
	if (h->type == 'S')
		return no_tar(f, "a sparse file in GNU's old form: make it with tar --format=posix");
	if (!kind_of(h, &m->kind))
		return no_tar(f, "a member of an unknown type");
	if (!take_names(&r->pax, h, m) || !take_numbers(&r->pax, h, m))
		return no_tar(f, "a header is malformed");
	return take_content(r, m, r->pax.has & TAR_HAS_SIZE ? r->pax.size : size, f);
}

static bool is_zero(const struct tar_header *h)
{
	static const struct tar_header zero;

	return !memcmp(h, &zero, sizeof(zero));
}

int tar_next(struct tar_reader *r, struct tar_member *ret, struct failure *f)
{
	int rc = skip(r, r->left, f);

	rc = rc < 0 ? rc : skip(r, r->pad, f);
	if (rc < 0)
		return rc;
	r->left = r->pad = 0;
	r->pax.has = 0;
	for (;;) {
		struct tar_header h;
		int64_t size;

		rc = fill(r, TAR_BLOCK, f);
		if (rc < 0)
			return rc;
		memcpy(&h, r->buf + r->pos, sizeof(h));
		r->pos += TAR_BLOCK;
		if (is_zero(&h))
			return 0;
		if (!checksum_is_right(&h))
			return no_tar(f, "a header's checksum is wrong");
		if (!number(h.size, sizeof(h.size), &size) || size < 0)
			return no_tar(f, "a size is malformed");
		if (h.type != 'x' && h.type != 'g' && h.type != 'L' && h.type != 'K') {
			rc = take_member(r, &h, (uint64_t)size, ret, f);
			return rc < 0 ? rc : 1;
		}
		if (!(r->pax.has & TAR_HAS_SPARSE)) {
			r->pax.sparse_name[0] = 0;
			r->pax.sparse_major = 0;
			r->pax.real_size = 0;
		}
		rc = read_extension(r, h.type, (uint64_t)size, f);
		if (rc < 0)
			return rc;
	}
}

int tar_data(struct tar_reader *r, const uint8_t **ret_data, size_t *ret_len, uint64_t *ret_offset, struct failure *f)
{
	uint64_t want = r->left;
	size_t n;
	int rc;

	if (!want)
		return 0;
	while (r->piece < r->nmap && r->done == r->map[r->piece].length) {
		r->piece++;
		r->done = 0;
	}
	if (r->nmap)
		want = r->map[r->piece].length - r->done; /* read_map(): the pieces are as long as what is left */
	rc = fill(r, 1, f);
	if (rc < 0)
		return rc;
	n = r->len - r->pos < want ? r->len - r->pos : (size_t)want;
	*ret_data = r->buf + r->pos;
	*ret_len = n;
	*ret_offset = r->nmap ? r->map[r->piece].offset + r->done : r->done;
	r->pos += n;
	r->left -= n;
	r->done += n;
	return 1;
}
