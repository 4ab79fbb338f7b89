#include "lib/sized.h"

#include <errno.h>
#include <string.h>

#include "lib/text.h"

#define SIZE_MAX_BYTES 4096U /* beyond it the size was never set */

int sized_copy(void *ours, size_t have, size_t least, const void *given, unsigned char filler, const char *name,
	       struct mvm_error *err)
{
	const unsigned char *bytes = given;
	uint32_t size;

	memcpy(&size, given, sizeof(size));
	if (size < least || size > SIZE_MAX_BYTES)
		return error_set(err, EINVAL, "%s: its size is not set: initialise it with the macro of mvm.h", name);
	for (size_t i = have; i < size; i++)
		if (bytes[i] != filler)
			return error_set(err, E2BIG,
					 "%s: a field that libmvm %s does not know is set: install a newer one", name,
					 mvm_version());
	memcpy(ours, given, size < have ? size : have);
	size = (uint32_t)have;
	memcpy(ours, &size, sizeof(size));
	return 0;
}
