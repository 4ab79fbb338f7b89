#include "state.h"

#include <stdlib.h>
#include <string.h>

#include "mvm/endian.h"

#define STATE_MAX (64U << 20) /* no device has more to say; bounds a runaway writer */

void state_put_bytes(struct state_writer *w, const void *p, size_t len)
{
	if (w->failed || len > STATE_MAX - w->len) {
		w->failed = true;
		return;
	}
	if (w->cap - w->len < len) {
		size_t cap = w->cap ? w->cap : 256;
		uint8_t *data;

		while (cap - w->len < len)
			cap *= 2;
		data = realloc(w->data, cap);
		if (!data) {
			w->failed = true;
			return;
		}
		w->data = data;
		w->cap = cap;
	}
	if (len)
		memcpy(w->data + w->len, p, len);
	w->len += len;
}

void state_put_u16(struct state_writer *w, uint16_t v)
{
	struct le16 wire = le16_of(v);

	state_put_bytes(w, &wire, sizeof(wire));
}

void state_put_u32(struct state_writer *w, uint32_t v)
{
	struct le32 wire = le32_of(v);

	state_put_bytes(w, &wire, sizeof(wire));
}

void state_put_u64(struct state_writer *w, uint64_t v)
{
	struct le64 wire = le64_of(v);

	state_put_bytes(w, &wire, sizeof(wire));
}

void state_writer_free(struct state_writer *w)
{
	free(w->data);
	*w = (struct state_writer){ 0 };
}

void state_get_bytes(struct state_reader *r, void *dst, size_t len)
{
	if (r->failed || (size_t)(r->end - r->pos) < len) {
		r->failed = true;
		memset(dst, 0, len);
		return;
	}
	memcpy(dst, r->pos, len);
	r->pos += len;
}

uint16_t state_get_u16(struct state_reader *r)
{
	struct le16 wire;

	state_get_bytes(r, &wire, sizeof(wire));
	return le16_get(wire);
}

uint32_t state_get_u32(struct state_reader *r)
{
	struct le32 wire;

	state_get_bytes(r, &wire, sizeof(wire));
	return le32_get(wire);
}

uint64_t state_get_u64(struct state_reader *r)
{
	struct le64 wire;

	state_get_bytes(r, &wire, sizeof(wire));
	return le64_get(wire);
}

bool state_ok(const struct state_reader *r)
{
	return !r->failed;
}
