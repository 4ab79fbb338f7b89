#include "lib/log_reader.h"

#include <stdio.h>
#include <string.h>

#include "lib/text.h"

/* vmm/log.c begins each line with its level's name. */
static enum mvm_log_level take_level(const char **text)
{
	static const char *const names[] = { "error ", "warning ", "info ", "debug " };

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strncmp(*text, names[i], strlen(names[i]))) {
			*text += strlen(names[i]);
			return (enum mvm_log_level)i;
		}
	return MVM_LOG_ERROR; /* not ours: an assertion's or a sanitizer's last words */
}

static void emit(struct log_reader *reader, uint64_t now_ns, log_reader_fn *fn, void *arg)
{
	const char *text = reader->line;
	enum mvm_log_level level;
	uint64_t refill;
	unsigned class;

	reader->line[reader->len] = '\0';
	reader->len = 0;
	text_harmless(reader->line);
	if (!*text)
		return;
	level = take_level(&text);
	class = level == MVM_LOG_ERROR ? 0 : 1;
	refill = (now_ns - reader->limits[class].last_ns) / (1000000000U / LOG_READER_RATE);
	if (refill) {
		reader->limits[class].used =
			refill >= reader->limits[class].used ? 0 : reader->limits[class].used - (uint32_t)refill;
		reader->limits[class].last_ns = now_ns;
	}
	if (reader->limits[class].used >= LOG_READER_BURST) {
		reader->dropped++;
		return;
	}
	reader->limits[class].used++;
	fn(arg, level, text);
}

void log_reader_feed(struct log_reader *reader, const char *bytes, size_t len, uint64_t now_ns, log_reader_fn *fn,
		     void *arg)
{
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] == '\n') {
			if (!reader->cut)
				emit(reader, now_ns, fn, arg);
			reader->cut = false;
			reader->len = 0;
		} else if (reader->cut) {
			continue;
		} else {
			reader->line[reader->len++] = bytes[i] ? bytes[i] : '?';
			if (reader->len == sizeof(reader->line) - 1) {
				emit(reader, now_ns, fn, arg);
				reader->cut = true;
			}
		}
	}
}

void log_reader_finish(struct log_reader *reader, log_reader_fn *fn, void *arg)
{
	char text[96];

	if (reader->len && !reader->cut)
		emit(reader, UINT64_MAX / 2, fn, arg);
	if (!reader->dropped)
		return;
	(void)snprintf(text, sizeof(text), "vmm: %llu log lines came too fast and were dropped",
		       (unsigned long long)reader->dropped);
	reader->dropped = 0;
	fn(arg, MVM_LOG_WARNING, text);
}

void log_reader_name_disk(const char *text, const char *const *paths, size_t npaths, char *ret_text, size_t size)
{
	const char *rest = text, *path;
	size_t n = 0, len;

	if (!strncmp(rest, "disk ", 5))
		rest += 5;
	if (!strncmp(rest, "blk", 3)) {
		rest += 3;
		for (; *rest >= '0' && *rest <= '9' && n < npaths; rest++)
			n = n * 10 + (size_t)(*rest - '0');
	}
	if (rest == text || *rest != ':' || rest[-1] < '0' || rest[-1] > '9' || n >= npaths) {
		(void)snprintf(ret_text, size, "%s", text);
		return;
	}
	path = paths[n];
	len = strlen(path);
	if (len > LOG_READER_PATH)
		(void)snprintf(ret_text, size, "disk …%s%s", path + len - LOG_READER_PATH, rest);
	else
		(void)snprintf(ret_text, size, "disk %s%s", path, rest);
}
