/*
 * Device state, as bytes: what virtio_ops.save writes and virtio_ops.restore reads.
 *
 * Purpose: a bounded little-endian stream, so that a snapshot never depends on struct layout.
 * Trust:   the writer is ours; the reader may be fed a damaged or hostile file: each get checks its
 *          bound, and the first failure is sticky (state_ok() false; gets then return zeros).
 * Ownership: the writer owns its buffer until state_writer_free(); the reader borrows.
 */
#ifndef VMM_STATE_H
#define VMM_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct state_writer {
	uint8_t *data;
	size_t len, cap;
	bool failed; /* ENOMEM */
};

struct state_reader {
	const uint8_t *pos, *end;
	bool failed;
};

void state_put_u16(struct state_writer *w, uint16_t v);
void state_put_u32(struct state_writer *w, uint32_t v);
void state_put_u64(struct state_writer *w, uint64_t v);
void state_put_bytes(struct state_writer *w, const void *p, size_t len);
void state_writer_free(struct state_writer *w);

uint16_t state_get_u16(struct state_reader *r);
uint32_t state_get_u32(struct state_reader *r);
uint64_t state_get_u64(struct state_reader *r);
void state_get_bytes(struct state_reader *r, void *dst, size_t len); /* zeroes dst on failure */
bool state_ok(const struct state_reader *r);

#endif
