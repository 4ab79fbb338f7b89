#include "pcapng.h"

#include <string.h>

struct block {
	const uint8_t *p;
	size_t len; /* of its body */
};

static uint32_t u32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint16_t u16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* The option of that code behind `at`, NULL: none, or of another length; *ret_end: they end where the block does. */
static const uint8_t *option(struct block b, size_t at, unsigned code, size_t len, bool *ret_end)
{
	const uint8_t *found = NULL;

	*ret_end = false;
	while (b.len - at >= 4) {
		unsigned kind = u16(b.p + at), n = u16(b.p + at + 2);

		at += 4;
		if (!kind) {
			*ret_end = n == 0 && at == b.len;
			return found;
		}
		if (n > b.len - at || ((n + 3) & ~3U) > b.len - at)
			return NULL;
		if (kind == code && (!len || n == len))
			found = b.p + at;
		at += (n + 3) & ~3U;
	}
	return NULL;
}

static const char *section(struct block b, struct pcapng *s)
{
	bool end;

	if (b.len < 16 || u32(b.p) != 0x1a2b3c4d || u16(b.p + 4) != 1 || u16(b.p + 6) != 0)
		return "a section of another form";
	if (!option(b, 16, 4, 0, &end) || !end)
		return "a section without its program";
	s->sections++;
	s->nets = s->statistics = 0;
	return NULL;
}

static const char *interface(struct block b, struct pcapng *s)
{
	const uint8_t *name, *mac, *resolution;
	bool end;

	if (!s->sections || s->nets == PCAPNG_NETS)
		return "an interface too many";
	if (b.len < 8 || u16(b.p) != 1 || u16(b.p + 2) != 0)
		return "an interface of another form";
	name = option(b, 8, 2, 4, &end);
	mac = option(b, 8, 6, 6, &end);
	resolution = option(b, 8, 9, 1, &end);
	if (!name || !mac || !resolution || !end || memcmp(name, "net", 3) != 0 || name[3] != '0' + (int)s->nets ||
	    *resolution != 9)
		return "an interface without its options";
	memcpy(s->macs[s->nets++], mac, 6);
	s->snap = u32(b.p + 4);
	return NULL;
}

static const char *packet(struct block b, struct pcapng *s, struct pcapng_frame *frame)
{
	const uint8_t *flags;
	bool end;

	if (b.len < 20 || u32(b.p) >= s->nets)
		return "a frame of no interface";
	*frame = (struct pcapng_frame){
		.section = s->sections - 1,
		.net = u32(b.p),
		.time_ns = (uint64_t)u32(b.p + 4) << 32 | u32(b.p + 8),
		.have = u32(b.p + 12),
		.len = u32(b.p + 16),
		.bytes = b.p + 20,
	};
	if (frame->have > b.len - 20 || ((frame->have + 3) & ~3U) > b.len - 20)
		return "a frame longer than its block";
	if (frame->len < 14 || frame->len > 65549 || frame->have != (frame->len < s->snap ? frame->len : s->snap))
		return "a frame of an impossible length";
	flags = option(b, 20 + ((frame->have + 3) & ~3U), 2, 4, &end);
	if (!flags || !end || (u32(flags) != 1 && u32(flags) != 2))
		return "a frame without its direction";
	frame->to_guest = u32(flags) == 1;
	s->frames++;
	return NULL;
}

static const char *statistics(struct block b, struct pcapng *s)
{
	const uint8_t *dropped;
	bool end;

	if (b.len < 12 || u32(b.p) != s->statistics || s->statistics >= s->nets)
		return "numbers of no interface";
	dropped = option(b, 12, 5, 8, &end);
	if (!dropped || !end)
		return "numbers without the lost frames";
	memcpy(&s->dropped[s->statistics++], dropped, 8);
	return NULL;
}

const char *pcapng_read(const uint8_t *file, size_t len, void (*on_frame)(void *arg, const struct pcapng_frame *frame),
			void *arg, struct pcapng *ret)
{
	const char *wrong = NULL;

	*ret = (struct pcapng){ 0 };
	for (size_t at = 0; at < len && !wrong;) {
		struct pcapng_frame frame;
		struct block b;
		uint32_t n;

		if (len - at < 12)
			return "a torn block";
		n = u32(file + at + 4);
		if (n < 12 || n % 4 || n > len - at || u32(file + at + n - 4) != n)
			return "a block whose lengths are wrong";
		b = (struct block){ file + at + 8, n - 12 };
		switch (u32(file + at)) {
		case 0x0a0d0d0a:
			wrong = section(b, ret);
			break;
		case 1:
			wrong = interface(b, ret);
			break;
		case 5:
			wrong = statistics(b, ret);
			break;
		case 6:
			wrong = packet(b, ret, &frame);
			if (!wrong && on_frame)
				on_frame(arg, &frame);
			break;
		default:
			return "a block of another kind";
		}
		at += n;
	}
	return wrong;
}
