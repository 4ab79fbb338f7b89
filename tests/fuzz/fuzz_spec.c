/* The JSON form of specs, and images' first bytes: whatever is accepted must survive its own round trip. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/image.h"
#include "lib/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_json(const char *json, size_t size)
{
	static const char *const defaults[] = { "PATH=/bin", NULL };
	struct mvm_spec *spec, *back;
	struct mvm_error err;
	const char **env;
	char *first, *second;
	size_t n;

	if (mvm_spec_from_json(json, size, &spec, &err) < 0) {
		if (!err.text[0] || strchr(err.text, '\n') || strchr(err.text, '\033'))
			abort();
		return;
	}
	(void)mvm_spec_check(spec, &err);
	if (spec_environment(spec, defaults, &env, &n) == 0)
		free(env);
	if (mvm_spec_to_json(spec, &first, &err) < 0 || mvm_spec_from_json(first, strlen(first), &back, &err) < 0 ||
	    mvm_spec_to_json(back, &second, &err) < 0 || strcmp(first, second) != 0)
		abort();
	free(first);
	free(second);
	mvm_spec_free(spec);
	mvm_spec_free(back);
}

static void fuzz_probe(const uint8_t *data, size_t size)
{
	size_t len = size < IMAGE_HEAD ? size : IMAGE_HEAD;
	struct mvm_error err = { 0 };
	const char *type = NULL;

	if (image_probe("image", data, len, size, data[0] & 1, &type, &err) < 0 ? !err.text[0] : !type)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	if (data[0] == '{' || data[0] == '[')
		fuzz_json((const char *)data, size);
	else
		fuzz_probe(data, size);
	return 0;
}
