#include <string.h>

#include "tar_pax.h"

bool tar_decimal(const char *s, const char *end, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;

	if (s == end)
		return false;
	for (; s < end; s++) {
		unsigned digit = (unsigned)(*s - '0');

		if (digit > 9 || v > (max - digit) / 10)
			return false;
		v = v * 10 + digit;
	}
	*ret = v;
	return true;
}

bool tar_pax_name(char dst[TAR_PATH_MAX], const char *s, size_t len)
{
	if (!len || len >= TAR_PATH_MAX || memchr(s, 0, len))
		return false;
	memcpy(dst, s, len);
	dst[len] = 0;
	return true;
}

/* Seconds, of which a fraction is dropped: downwards. */
static bool pax_time(const char *s, const char *end, int64_t *ret)
{
	bool negative = s < end && *s == '-', fraction;
	const char *dot;
	uint64_t v;

	s += negative;
	dot = memchr(s, '.', (size_t)(end - s));
	if (!tar_decimal(s, dot ? dot : end, INT64_MAX / 2, &v))
		return false;
	fraction = dot && dot + 1 + strspn(dot + 1, "0") < end;
	*ret = negative ? -(int64_t)v - fraction : (int64_t)v;
	return true;
}

static bool is_key(const char *key, size_t len, const char *name)
{
	return strlen(name) == len && memcmp(key, name, len) == 0;
}

/* "GNU.sparse.": version 1.0's four; of what else begins so the meaning would be lost. */
static bool sparse_record(struct tar_pax *pax, const char *key, size_t len, const char *value, const char *end)
{
	uint64_t v = 0;

	pax->has |= TAR_HAS_SPARSE;
	if (is_key(key, len, "name"))
		return tar_pax_name(pax->sparse_name, value, (size_t)(end - value));
	if (!tar_decimal(value, end, INT64_MAX, &v))
		return false;
	if (is_key(key, len, "realsize"))
		pax->real_size = v;
	else if (is_key(key, len, "major") && v == 1)
		pax->sparse_major = 1;
	else if (!is_key(key, len, "minor") || v)
		return false;
	return true;
}

/* Others (atime, comment, SCHILY.xattr …) say nothing that is kept. */
static bool pax_record(struct tar_pax *pax, const char *key, size_t len, const char *value, const char *end)
{
	static const char sparse[] = "GNU.sparse.";
	size_t n = sizeof(sparse) - 1;

	if (len > n && !memcmp(key, sparse, n))
		return sparse_record(pax, key + n, len - n, value, end);
	if (is_key(key, len, "path")) {
		pax->has |= TAR_HAS_PATH;
		return tar_pax_name(pax->path, value, (size_t)(end - value));
	}
	if (is_key(key, len, "linkpath")) {
		pax->has |= TAR_HAS_LINK;
		return tar_pax_name(pax->link, value, (size_t)(end - value));
	}
	if (is_key(key, len, "size")) {
		pax->has |= TAR_HAS_SIZE;
		return tar_decimal(value, end, INT64_MAX, &pax->size);
	}
	if (is_key(key, len, "uid")) {
		pax->has |= TAR_HAS_UID;
		return tar_decimal(value, end, UINT32_MAX - 1, &pax->uid);
	}
	if (is_key(key, len, "gid")) {
		pax->has |= TAR_HAS_GID;
		return tar_decimal(value, end, UINT32_MAX - 1, &pax->gid);
	}
	if (is_key(key, len, "mtime")) {
		pax->has |= TAR_HAS_MTIME;
		return pax_time(value, end, &pax->mtime);
	}
	return true;
}

bool tar_pax_records(struct tar_pax *pax, const char *s, const char *end)
{
	while (s < end) {
		const char *blank = memchr(s, ' ', (size_t)(end - s)), *equals;
		uint64_t len;

		if (!blank || !tar_decimal(s, blank, TAR_PAX_MAX, &len) || len > (uint64_t)(end - s) ||
		    len < (uint64_t)(blank - s) + 3 || s[len - 1] != '\n')
			return false;
		equals = memchr(blank + 1, '=', (size_t)(s + len - blank - 1));
		if (!equals || !pax_record(pax, blank + 1, (size_t)(equals - blank - 1), equals + 1, s + len - 1))
			return false;
		s += len;
	}
	return true;
}
