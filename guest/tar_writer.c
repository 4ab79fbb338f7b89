#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tar.h"

#define PAX_MOST (3 * TAR_PATH_MAX) /* two names and some numbers */

int tar_writer_init(struct tar_writer *w, int fd, struct failure *f)
{
	*w = (struct tar_writer){ .fd = fd };
	w->buf = malloc(TAR_BUFFER);
	return w->buf ? 0 : fail(f, ENOMEM, "tar");
}

void tar_writer_free(struct tar_writer *w)
{
	free(w->buf);
	w->buf = NULL;
}

/* A socket whose reader has gone must not raise a signal in a program that libmvm is only a part of. */
static ssize_t write_some(int fd, const void *p, size_t n)
{
	ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);

	return sent < 0 && errno == ENOTSOCK ? write(fd, p, n) : sent;
}

static int flush(struct tar_writer *w, struct failure *f)
{
	for (size_t at = 0; at < w->len;) {
		ssize_t n = write_some(w->fd, w->buf + at, w->len - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(f, errno == ECONNRESET ? EPIPE : errno, "the tar stream cannot be written");
		at += (size_t)n;
	}
	w->len = 0;
	return 0;
}

int tar_room(struct tar_writer *w, uint8_t **ret_room, size_t *ret_size, struct failure *f)
{
	int r = TAR_BUFFER - w->len < TAR_BUFFER / 4 ? flush(w, f) : 0;

	if (r < 0)
		return r;
	*ret_room = w->buf + w->len;
	*ret_size = TAR_BUFFER - w->len;
	return 0;
}

void tar_filled(struct tar_writer *w, size_t n)
{
	w->len += n;
}

/* Small things: headers, maps, padding. */
static int put(struct tar_writer *w, const void *p, size_t n, struct failure *f)
{
	const uint8_t *bytes = p;

	while (n) {
		uint8_t *room;
		size_t some;
		int r = tar_room(w, &room, &some, f);

		if (r < 0)
			return r;
		some = some < n ? some : n;
		if (bytes)
			memcpy(room, bytes, some);
		else
			memset(room, 0, some);
		bytes += bytes ? some : 0;
		n -= some;
		tar_filled(w, some);
	}
	return 0;
}

int tar_pad(struct tar_writer *w, uint64_t content, struct failure *f)
{
	return put(w, NULL, -content % TAR_BLOCK, f);
}

int tar_finish(struct tar_writer *w, struct failure *f)
{
	int r = put(w, NULL, 2 * (size_t)TAR_BLOCK, f);

	return r < 0 ? r : flush(w, f);
}

/* Octal with a NUL behind. False: it does not fit, and 0 stands there. */
static bool put_number(char *field, size_t len, uint64_t v)
{
	bool fits = v >> (3 * (len - 1)) == 0;

	(void)snprintf(field, len, "%0*llo", (int)len - 1, fits ? (unsigned long long)v : 0ULL);
	return fits;
}

static void seal(struct tar_header *h)
{
	const unsigned char *p = (const unsigned char *)h;
	unsigned sum = 0;

	memcpy(h->magic, "ustar", 6);
	memcpy(h->version, "00", 2);
	memset(h->checksum, ' ', sizeof(h->checksum));
	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += p[i];
	(void)snprintf(h->checksum, sizeof(h->checksum) - 1, "%06o", sum);
}

struct pax_text {
	char s[PAX_MOST];
	size_t len;
};

/* "LENGTH KEY=VALUE\n", where LENGTH counts itself. */
static void add_text(struct pax_text *t, const char *key, const char *value)
{
	size_t rest = strlen(key) + strlen(value) + 3, all = rest, digits;

	do {
		digits = (size_t)snprintf(NULL, 0, "%zu", all);
		all = rest + digits;
	} while ((size_t)snprintf(NULL, 0, "%zu", all) != digits);
	t->len += (size_t)snprintf(t->s + t->len, sizeof(t->s) - t->len, "%zu %s=%s\n", all, key, value);
}

static void add_number(struct pax_text *t, const char *key, long long v)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%lld", v);
	add_text(t, key, text);
}

/* The name as far as it fits, for readers that know no pax. */
static void put_name(char field[100], const char *name)
{
	size_t len = strlen(name);

	memcpy(field, name, len < 100 ? len : 100);
}

static char type_of(const struct tar_member *m)
{
	return m->kind == TAR_FOLDER ? '5' : m->kind == TAR_SYMLINK ? '2' : '0';
}

static void fill_header(const struct tar_member *m, uint64_t stored, struct tar_header *h, struct pax_text *t)
{
	*h = (struct tar_header){ .type = type_of(m) };
	put_name(h->name, m->sparse ? "GNUSparseFile.0/file" : m->path);
	(void)put_number(h->mode, sizeof(h->mode), m->mode);
	if (m->sparse) {
		add_text(t, "GNU.sparse.major", "1");
		add_text(t, "GNU.sparse.minor", "0");
		add_text(t, "GNU.sparse.name", m->path);
		add_number(t, "GNU.sparse.realsize", (long long)m->size);
	} else if (strlen(m->path) > sizeof(h->name)) {
		add_text(t, "path", m->path);
	}
	if (m->kind == TAR_SYMLINK) {
		put_name(h->link, m->link);
		if (strlen(m->link) > sizeof(h->link))
			add_text(t, "linkpath", m->link);
	}
	if (!put_number(h->uid, sizeof(h->uid), m->uid))
		add_number(t, "uid", m->uid);
	if (!put_number(h->gid, sizeof(h->gid), m->gid))
		add_number(t, "gid", m->gid);
	if (!put_number(h->size, sizeof(h->size), stored))
		add_number(t, "size", (long long)stored);
	if (m->mtime < 0 || !put_number(h->mtime, sizeof(h->mtime), (uint64_t)m->mtime)) {
		(void)put_number(h->mtime, sizeof(h->mtime), 0);
		add_number(t, "mtime", m->mtime);
	}
	seal(h);
}

static int put_pax(struct tar_writer *w, const struct pax_text *t, struct failure *f)
{
	struct tar_header h = { .type = 'x' };

	put_name(h.name, "PaxHeader/file");
	(void)put_number(h.mode, sizeof(h.mode), 0644);
	(void)put_number(h.uid, sizeof(h.uid), 0);
	(void)put_number(h.gid, sizeof(h.gid), 0);
	(void)put_number(h.size, sizeof(h.size), t->len);
	(void)put_number(h.mtime, sizeof(h.mtime), 0);
	seal(&h);
	if (put(w, &h, sizeof(h), f) < 0 || put(w, t->s, t->len, f) < 0)
		return -f->error;
	return tar_pad(w, t->len, f);
}

static size_t map_line(char line[48], const struct tar_extent *e)
{
	return (size_t)snprintf(line, 48, "%llu\n%llu\n", (unsigned long long)e->offset, (unsigned long long)e->length);
}

int tar_put(struct tar_writer *w, const struct tar_member *m, const struct tar_extent *map, size_t nmap,
	    struct failure *f)
{
	uint64_t stored = m->kind == TAR_FILE ? m->size : 0, bytes = 0;
	struct pax_text t = { .len = 0 };
	struct tar_header h;
	char line[48];
	size_t n = 0;

	if (m->sparse) {
		n = (size_t)snprintf(line, sizeof(line), "%zu\n", nmap);
		for (size_t i = 0; i < nmap; i++) {
			char other[48];

			n += map_line(other, &map[i]);
			bytes += map[i].length;
		}
		stored = n + -n % TAR_BLOCK + bytes;
	}
	fill_header(m, stored, &h, &t);
	if ((t.len && put_pax(w, &t, f) < 0) || put(w, &h, sizeof(h), f) < 0)
		return -f->error;
	if (!m->sparse)
		return 0;
	if (put(w, line, strlen(line), f) < 0)
		return -f->error;
	for (size_t i = 0; i < nmap; i++)
		if (put(w, line, map_line(line, &map[i]), f) < 0)
			return -f->error;
	return tar_pad(w, n, f);
}
