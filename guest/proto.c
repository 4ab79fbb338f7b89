/* The one parser and builder of the host <-> agent wire format; see mvm/proto.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mvm/proto.h"

/* Makes room for `more` bytes; a frame never outgrows PROTO_PAYLOAD_MAX, so neither sum can wrap. */
static bool out_reserve(struct proto_out *out, size_t more)
{
	size_t want, cap;
	uint8_t *grown;

	if (out->failed)
		return false;
	want = out->len + more;
	if (want <= out->cap)
		return true;
	for (cap = out->cap ? out->cap : 256; cap < want;)
		cap *= 2;
	grown = realloc(out->data, cap);
	if (!grown) {
		out->failed = true;
		return false;
	}
	out->data = grown;
	out->cap = cap;
	return true;
}

void proto_begin(struct proto_out *out, enum proto_type type)
{
	struct proto_hdr hdr = { .type = le16_of((uint16_t)type) };

	if (!out_reserve(out, sizeof(hdr)))
		return;
	out->begun = out->len;
	memcpy(out->data + out->len, &hdr, sizeof(hdr));
	out->len += sizeof(hdr);
}

void proto_put(struct proto_out *out, const void *p, size_t len)
{
	if (out->failed)
		return;
	if (len > PROTO_PAYLOAD_MAX - (out->len - out->begun - sizeof(struct proto_hdr))) {
		out->failed = true;
		return;
	}
	if (!len || !out_reserve(out, len))
		return;
	memcpy(out->data + out->len, p, len);
	out->len += len;
}

void proto_put_str(struct proto_out *out, const char *s)
{
	proto_put(out, s, strlen(s) + 1);
}

void proto_end(struct proto_out *out)
{
	struct le32 length;

	if (out->failed)
		return;
	length = le32_of((uint32_t)(out->len - out->begun - sizeof(struct proto_hdr)));
	memcpy(out->data + out->begun + offsetof(struct proto_hdr, length), &length, sizeof(length));
}

int proto_get(struct proto_in *in, void *dst, size_t len)
{
	if ((size_t)(in->end - in->pos) < len)
		return -EPROTO;
	memcpy(dst, in->pos, len);
	in->pos += len;
	return 0;
}

int proto_get_str(struct proto_in *in, const char **ret_s)
{
	size_t left = (size_t)(in->end - in->pos);
	const uint8_t *nul = left ? memchr(in->pos, 0, left) : NULL;

	if (!nul)
		return -EPROTO;
	*ret_s = (const char *)in->pos;
	in->pos = nul + 1;
	return 0;
}

int proto_get_strs(struct proto_in *in, uint32_t count, char ***ret_strs)
{
	union {
		const char *got;
		char *kept; /* the type that execve() asks for; nobody writes through it */
	} s;
	char **strs;

	/* Each string takes a byte at least: a count that cannot be true allocates nothing. */
	if (count > PROTO_STRINGS_MAX || count > (size_t)(in->end - in->pos))
		return -EPROTO;
	strs = calloc((size_t)count + 1, sizeof(*strs));
	if (!strs)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		int r = proto_get_str(in, &s.got);

		if (r < 0) {
			free(strs);
			return r;
		}
		strs[i] = s.kept;
	}
	*ret_strs = strs;
	return 0;
}

long proto_next(const uint8_t *buf, size_t len, size_t max, uint16_t *ret_type, struct proto_in *ret_in)
{
	struct proto_hdr hdr;
	size_t payload;

	if (len < sizeof(hdr))
		return 0;
	memcpy(&hdr, buf, sizeof(hdr));
	payload = le32_get(hdr.length);
	if (payload > max || payload > PROTO_PAYLOAD_MAX || le16_get(hdr.zero) != 0)
		return -EPROTO;
	if (len - sizeof(hdr) < payload)
		return 0;
	*ret_type = le16_get(hdr.type);
	ret_in->pos = buf + sizeof(hdr);
	ret_in->end = ret_in->pos + payload;
	return (long)(sizeof(hdr) + payload);
}

long proto_next_datagram(const uint8_t *buf, size_t len, struct proto_in *ret_in)
{
	struct le16 head;
	size_t payload;

	_Static_assert(sizeof(head) == PROTO_DATAGRAM_HEAD, "wire");
	if (len < sizeof(head))
		return 0;
	memcpy(&head, buf, sizeof(head));
	payload = le16_get(head);
	if (payload > PROTO_DATAGRAM_MAX)
		return -EPROTO;
	if (len - sizeof(head) < payload)
		return 0;
	ret_in->pos = buf + sizeof(head);
	ret_in->end = ret_in->pos + payload;
	return (long)(sizeof(head) + payload);
}

void proto_put_datagram_head(uint8_t head[PROTO_DATAGRAM_HEAD], size_t len)
{
	struct le16 wire = le16_of((uint16_t)len);

	memcpy(head, &wire, sizeof(wire));
}

int proto_check_hello(struct proto_in *in, const char **ret_version)
{
	struct proto_hello hello;
	const char *version;
	int r = proto_get(in, &hello, sizeof(hello));

	if (r < 0)
		return r;
	if (le32_get(hello.magic) != PROTO_MAGIC)
		return -EPROTO;
	if (le16_get(hello.version) != PROTO_VERSION)
		return -EPROTONOSUPPORT;
	r = proto_get_str(in, &version);
	if (r < 0)
		return r;
	if (ret_version)
		*ret_version = version;
	return 0;
}
