/* The description that `mvm run --config` reads. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "mvm/cleanup.h"

#define CONFIG_MAX (16U << 20) /* bytes; what libmvm reads at most */

static int failed(struct mvm_error *err, const char *path, int code, const char *remedy)
{
	err->code = code;
	(void)snprintf(err->text, sizeof(err->text), "--config: %.200s: %s: %s", path, strerror(code), remedy);
	return -code;
}

/* All of a file or a pipe; a byte more than is possible tells that there was too much. */
static int read_all(FILE *f, char **ret_text, size_t *ret_len)
{
	size_t cap = 4096, len = 0;
	char *text = malloc(cap);

	while (text) {
		char *more;

		len += fread(text + len, 1, cap - len, f);
		if (len < cap || cap > CONFIG_MAX)
			break;
		cap *= 2;
		more = realloc(text, cap);
		if (!more)
			free(text);
		text = more;
	}
	if (!text)
		return -ENOMEM;
	if (ferror(f)) {
		free(text);
		return -EIO;
	}
	*ret_text = text;
	*ret_len = len;
	return 0;
}

int config_read(const char *path, struct mvm_spec **ret_spec, struct mvm_error *err)
{
	_cleanup_free_ char *text = NULL;
	bool standard = !strcmp(path, "-");
	FILE *f = standard ? stdin : fopen(path, "re");
	struct mvm_error why;
	size_t len;
	int r;

	if (!f)
		return failed(err, path, errno, "name a readable file, or - for standard input");
	r = read_all(f, &text, &len);
	if (!standard)
		(void)fclose(f); /* only read from */
	if (r < 0)
		return failed(err, path, r == -EIO ? EISDIR : -r, "name a readable text file");
	if (len > CONFIG_MAX)
		return failed(err, path, EFBIG, "a description has 16 MiB at most");
	if (mvm_spec_from_json(text, len, ret_spec, &why) == 0)
		return 0;
	err->code = why.code;
	(void)snprintf(err->text, sizeof(err->text), "--config: %.200s: %.800s", path, why.text);
	for (unsigned char *p = (unsigned char *)err->text; *p; p++)
		if (*p < 0x20 || *p == 0x7f)
			*p = '?';
	return -why.code;
}
