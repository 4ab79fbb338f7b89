#include "uplink/dns.h"

#include <errno.h>
#include <string.h>

#define HEADER  12U
#define LABEL   63U
#define CLASS   1U /* IN */
#define CNAME   5U
#define RECORDS 64U /* of an answer that are looked at */

enum { /* bits of the header's second word */
       FLAG_RESPONSE = 0x8000,
       FLAG_OPCODE = 0x7800,
       FLAG_AUTHORITATIVE = 0x0400,
       FLAG_RECURSION_DESIRED = 0x0100,
       FLAG_RECURSION_AVAILABLE = 0x0080,
       FLAG_CODE = 0x000f,
};

/* ---- reading ---- */

struct in {
	const uint8_t *msg;
	size_t len, at;
	bool bad; /* it ended too early */
};

static uint32_t get(struct in *in, unsigned bytes)
{
	uint32_t value = 0;

	if (in->len - in->at < bytes) {
		in->bad = true;
		return 0;
	}
	while (bytes--)
		value = value << 8 | in->msg[in->at++];
	return value;
}

static bool is_of_a_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* A label at in->at, its length read. */
static bool get_label(struct in *in, unsigned len, char name[DNS_NAME], size_t *used)
{
	if (len > LABEL || in->len - in->at < len || *used + len + 1 >= DNS_NAME)
		return false;
	if (*used)
		name[(*used)++] = '.';
	for (unsigned i = 0; i < len; i++) {
		char c = lower((char)in->msg[in->at++]);

		if (!is_of_a_name(c))
			return false;
		name[(*used)++] = c;
	}
	return true;
}

/* A pointer leads to before the piece that it ends (RFC 1035 §4.1.4), so that every name has an end. */
static void get_name(struct in *in, char name[DNS_NAME])
{
	size_t used = 0, behind = 0, piece = in->at;
	unsigned len;

	while (!in->bad && (len = get(in, 1)) != 0) {
		if ((len & 0xc0) == 0xc0) {
			size_t to = (len & 0x3fU) << 8 | get(in, 1);

			if (!behind)
				behind = in->at;
			in->bad |= to >= piece;
			if (!in->bad)
				in->at = piece = to;
		} else if (!get_label(in, len, name, &used)) {
			in->bad = true;
		}
	}
	if (behind && !in->bad)
		in->at = behind;
	name[used] = '\0';
	in->bad |= !used;
}

bool dns_name(const char *text, char ret[DNS_NAME])
{
	size_t len = strlen(text), label = 0;

	if (len && text[len - 1] == '.')
		len--;
	if (!len || len >= DNS_NAME)
		return false;
	for (size_t i = 0; i < len; i++) {
		ret[i] = lower(text[i]);
		label = ret[i] == '.' ? 0 : label + 1;
		if (label > LABEL || (ret[i] == '.' ? !i || text[i - 1] == '.' : !is_of_a_name(ret[i])))
			return false;
	}
	ret[len] = '\0';
	return label > 0;
}

int dns_parse_question(const uint8_t *msg, size_t len, struct dns_question *ret, uint8_t *ret_code)
{
	struct in in = { .msg = msg, .len = len };
	unsigned flags, questions;

	*ret = (struct dns_question){ .id = (uint16_t)get(&in, 2) };
	*ret_code = DNS_FORMERR;
	flags = get(&in, 2);
	questions = get(&in, 2);
	(void)get(&in,
		  6); /* other sections: a question may have EDNS' there, which is not answered (RFC 6891 §6.2.3) */
	if (in.bad || flags & FLAG_RESPONSE)
		return -EBADMSG;
	ret->recursion = flags & FLAG_RECURSION_DESIRED;
	if (flags & FLAG_OPCODE) {
		*ret_code = DNS_NOTIMP;
		return -EINVAL;
	}
	if (questions == 1)
		get_name(&in, ret->name);
	ret->type = (uint16_t)get(&in, 2);
	if (questions == 1 && get(&in, 2) == CLASS && !in.bad)
		return 0;
	ret->name[0] = '\0';
	return -EINVAL;
}

/* A record's owner, type and class, and where its data is; what is behind it comes next. */
struct record {
	char owner[DNS_NAME];
	unsigned type, class;
	uint32_t ttl;
	struct in data;
};

static bool get_record(struct in *in, struct record *ret)
{
	size_t len;

	get_name(in, ret->owner);
	ret->type = get(in, 2);
	ret->class = get(in, 2);
	ret->ttl = get(in, 4);
	len = get(in, 2);
	if (in->bad || in->len - in->at < len)
		return false;
	ret->data = (struct in){ .msg = in->msg, .len = in->at + len, .at = in->at };
	in->at += len;
	return true;
}

/* Of a record that belongs to `name`, which an alias changes. */
static void take(struct record *record, unsigned type, char name[DNS_NAME], struct dns_answer *ret)
{
	size_t size = type == DNS_A ? 4 : 16, len = record->data.len - record->data.at;
	char alias[DNS_NAME];

	if (record->type == CNAME) {
		get_name(&record->data, alias);
		if (!record->data.bad)
			memcpy(name, alias, sizeof(alias));
	} else if (record->type == type && len == size && ret->n < DNS_ADDRESSES) {
		memcpy(ret->addresses[ret->n].bytes, record->data.msg + record->data.at, size);
		/* RFC 2181 §8: with the first bit set it is 0 */
		if (record->ttl >> 31)
			record->ttl = 0;
		if (!ret->n || record->ttl < ret->ttl)
			ret->ttl = record->ttl;
		ret->n++;
	}
}

int dns_parse_answer(const uint8_t *msg, size_t len, const struct dns_question *question, struct dns_answer *ret)
{
	struct in in = { .msg = msg, .len = len };
	char name[DNS_NAME];
	unsigned id = get(&in, 2), flags = get(&in, 2), questions = get(&in, 2), answers = get(&in, 2);
	struct record record;

	(void)get(&in, 4);
	if (in.bad || id != question->id || !(flags & FLAG_RESPONSE) || flags & FLAG_OPCODE || questions != 1)
		return -EBADMSG;
	get_name(&in, name);
	if (get(&in, 2) != question->type || get(&in, 2) != CLASS || in.bad || strcmp(name, question->name) != 0)
		return -EBADMSG;
	*ret = (struct dns_answer){ .code = flags & FLAG_CODE };
	for (unsigned i = 0; i < answers && i < RECORDS && get_record(&in, &record); i++)
		if (record.class == CLASS && !strcmp(record.owner, name))
			take(&record, question->type, name, ret);
	return 0;
}

/* ---- writing: DNS_MESSAGE is more than any of these needs ---- */

struct out {
	uint8_t *msg;
	size_t at;
};

static void put(struct out *out, unsigned bytes, uint32_t value)
{
	while (bytes--)
		out->msg[out->at++] = (uint8_t)(value >> 8 * bytes);
}

static void put_name(struct out *out, const char *name)
{
	while (*name) {
		size_t len = strcspn(name, ".");

		put(out, 1, (uint32_t)len);
		memcpy(out->msg + out->at, name, len);
		out->at += len;
		name += len + (name[len] == '.');
	}
	put(out, 1, 0);
}

static void put_header(struct out *out, unsigned id, unsigned flags, unsigned questions, unsigned answers)
{
	put(out, 2, id);
	put(out, 2, flags);
	put(out, 2, questions);
	put(out, 2, answers);
	put(out, 4, 0);
}

static void put_question(struct out *out, const struct dns_question *question)
{
	put_name(out, question->name);
	put(out, 2, question->type);
	put(out, 2, CLASS);
}

size_t dns_put_question(uint8_t buf[DNS_MESSAGE], const struct dns_question *question)
{
	struct out out = { .msg = buf };

	put_header(&out, question->id, FLAG_RECURSION_DESIRED, 1, 0);
	put_question(&out, question);
	return out.at;
}

size_t dns_put_answer(uint8_t buf[DNS_MESSAGE], const struct dns_question *question, const struct dns_answer *answer)
{
	struct out out = { .msg = buf };
	unsigned size = question->type == DNS_A ? 4 : 16;
	bool asked = question->name[0] != '\0';

	put_header(&out, question->id,
		   FLAG_RESPONSE | FLAG_RECURSION_AVAILABLE | (question->recursion ? FLAG_RECURSION_DESIRED : 0U) |
			   (answer->authoritative ? FLAG_AUTHORITATIVE : 0U) | (answer->code & FLAG_CODE),
		   asked, answer->n);
	if (asked)
		put_question(&out, question);
	for (unsigned i = 0; i < answer->n && i < DNS_ADDRESSES; i++) {
		put(&out, 2, 0xc000U | HEADER); /* the question's name */
		put(&out, 2, question->type);
		put(&out, 2, CLASS);
		put(&out, 4, answer->ttl);
		put(&out, 2, size);
		memcpy(out.msg + out.at, answer->addresses[i].bytes, size);
		out.at += size;
	}
	return out.at;
}
