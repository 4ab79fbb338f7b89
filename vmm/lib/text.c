#include "lib/text.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define NS_PER_S 1000000000ULL

int error_set(struct mvm_error *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return -code;
	err->code = code;
	va_start(ap, fmt);
	(void)vsnprintf(err->text, sizeof(err->text), fmt, ap); /* cut when too long: still one line */
	va_end(ap);
	text_harmless(err->text);
	return -code;
}

/* Length of the UTF-8 sequence at s when it is well-formed and no control character; 0 otherwise. */
static size_t utf8_length(const unsigned char *s)
{
	static const uint32_t smallest[] = { 0, 0, 0xa0, 0x800, 0x10000 }; /* U+0080..9F are terminal controls */
	size_t len;
	uint32_t c;

	if (s[0] >= 0xc2 && s[0] < 0xe0) {
		len = 2;
		c = s[0] & 0x1fU;
	} else if (s[0] >= 0xe0 && s[0] < 0xf0) {
		len = 3;
		c = s[0] & 0x0fU;
	} else if (s[0] >= 0xf0 && s[0] < 0xf5) {
		len = 4;
		c = s[0] & 0x07U;
	} else {
		return 0;
	}
	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0U) != 0x80)
			return 0; /* the terminating NUL ends here as well */
		c = c << 6 | (s[i] & 0x3fU);
	}
	if (c < smallest[len] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	/* Direction overrides and line separators would let a name pose as other text. */
	if ((c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069))
		return 0;
	return len;
}

void text_harmless(char *s)
{
	unsigned char *p = (unsigned char *)s;

	while (*p) {
		size_t len = *p >= 0x80 ? utf8_length(p) : 1;

		if (*p < 0x20 || *p == 0x7f || !len) {
			*p = '?';
			len = 1;
		}
		p += len;
	}
}

void text_utf8(char *s)
{
	unsigned char *p = (unsigned char *)s;

	while (*p) {
		size_t len = *p >= 0x80 ? utf8_length(p) : 1;

		if (!len) {
			*p = '?';
			len = 1;
		}
		p += len;
	}
}

int text_parse_uint(const char *s, uint64_t max, uint64_t *ret_value)
{
	uint64_t v = 0;

	if (!*s)
		return -EINVAL;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(v, 10U, &v) || __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
			v = UINT64_MAX; /* sticky: any further digit overflows again or stays above max */
	}
	if (v > max)
		return -ERANGE;
	*ret_value = v;
	return 0;
}

int text_parse_size(const char *s, uint64_t *ret_bytes)
{
	static const char units[] = "bkmg";
	size_t len = strlen(s);
	const char *unit = NULL;
	char digits[32];
	uint64_t v;
	int r;

	if (!len || len >= sizeof(digits))
		return -EINVAL;
	memcpy(digits, s, len + 1);
	if (!isdigit((unsigned char)s[len - 1])) {
		unit = strchr(units, tolower((unsigned char)s[len - 1]));
		if (!unit)
			return -EINVAL;
		digits[len - 1] = '\0';
	}
	r = text_parse_uint(digits, UINT64_MAX - 1, &v);
	if (r < 0)
		return r;
	for (ptrdiff_t i = unit ? unit - units : 0; i > 0; i--)
		if (__builtin_mul_overflow(v, 1024U, &v))
			return -ERANGE;
	*ret_bytes = v;
	return 0;
}

static uint64_t duration_unit(const char *s)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} units[] = {
		{ "", NS_PER_S },       { "ms", NS_PER_S / 1000 }, { "s", NS_PER_S },
		{ "m", 60 * NS_PER_S }, { "h", 3600 * NS_PER_S },  { "d", 86400 * NS_PER_S },
	};

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (!strcmp(units[i].name, s))
			return units[i].ns;
	return 0;
}

int text_parse_duration(const char *s, uint64_t *ret_ns)
{
	uint64_t whole = 0, fraction, unit, scale, ns;
	const char *p = s;

	for (; isdigit((unsigned char)*p); p++) {
		whole = whole * 10 + (uint64_t)(*p - '0');
		if (whole > 1000000000000000)
			return -ERANGE;
	}
	fraction = 0;
	scale = 1;
	if (p > s && p[0] == '.' && isdigit((unsigned char)p[1]))
		for (p++; isdigit((unsigned char)*p); p++)
			if (scale < 1000000) { /* further digits change nothing that anyone can notice */
				fraction = fraction * 10 + (uint64_t)(*p - '0');
				scale *= 10;
			}
	unit = duration_unit(p);
	if (p == s || !unit)
		return -EINVAL;
	if (__builtin_mul_overflow(whole, unit, &ns) || ns > INT64_MAX / 2)
		return -ERANGE;
	*ret_ns = ns + unit / scale * fraction;
	return 0;
}

const char *text_size(uint64_t bytes, char buf[32])
{
	static const char units[] = { 0, 'k', 'm', 'g' };
	unsigned i = 0;

	while (i < 3 && bytes && !(bytes & 1023)) {
		bytes >>= 10;
		i++;
	}
	(void)snprintf(buf, 32, "%llu%.1s", (unsigned long long)bytes, i ? &units[i] : "");
	return buf;
}

#define NAME_MAX_BYTES 63

unsigned text_distance(const char *a, const char *b)
{
	unsigned rows[3][NAME_MAX_BYTES + 1];
	size_t la = strlen(a), lb = strlen(b);

	if (la > NAME_MAX_BYTES || lb > NAME_MAX_BYTES)
		return NAME_MAX_BYTES;
	for (size_t j = 0; j <= lb; j++)
		rows[0][j] = (unsigned)j;
	for (size_t i = 1; i <= la; i++) {
		const unsigned *above = rows[(i - 1) % 3], *above2 = rows[(i + 1) % 3];
		unsigned *row = rows[i % 3];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned best = above[j - 1] + (a[i - 1] != b[j - 1]);

			if (above[j] + 1 < best)
				best = above[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && above2[j - 2] + 1 < best)
				best = above2[j - 2] + 1;
			row[j] = best;
		}
	}
	return rows[la % 3][lb];
}

uint64_t text_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail for this clock */
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

size_t text_time(char buf[TEXT_TIME])
{
	struct timespec now;
	struct tm utc;
	size_t n;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	(void)gmtime_r(&now.tv_sec, &utc);
	n = strftime(buf, TEXT_TIME, "%Y-%m-%dT%H:%M:%S", &utc);
	return n + (size_t)snprintf(buf + n, TEXT_TIME - n, ".%09ldZ", now.tv_nsec);
}
