/* Changing a VM that runs: the caller's side; see mvm.h. */
#include <errno.h>
#include <string.h>

#include "lib/attach.h"
#include "lib/sized.h"
#include "lib/spec.h"
#include "lib/state_dir.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

/* The struct's first size: what every caller has. */
#define LIMITS_LEAST 24U
_Static_assert(sizeof(struct mvm_limits) > LIMITS_LEAST && offsetof(struct mvm_limits, blk_bps) + 8 == LIMITS_LEAST,
	       "ABI");

static int known_limits(const struct mvm_limits *given, struct mvm_limits *ret_limits, struct mvm_error *err)
{
	*ret_limits = (struct mvm_limits)MVM_LIMITS_KEEP;
	return sized_copy(ret_limits, sizeof(*ret_limits), LIMITS_LEAST, given, 0xff, "struct mvm_limits", err);
}

static int set_io(struct mvm_limits *limits, const char *value, struct mvm_error *err)
{
	uint64_t most[IO_MAX_KEYS], *fields[IO_MAX_KEYS] = {
		[IO_MAX_RBPS] = &limits->io_rbps,
		[IO_MAX_WBPS] = &limits->io_wbps,
		[IO_MAX_RIOPS] = &limits->io_riops,
		[IO_MAX_WIOPS] = &limits->io_wiops,
	};
	int r;

	if (limits->size < sizeof(*limits))
		return error_set(err, EINVAL, "--io-max: struct mvm_limits is of an older header, without it");
	r = io_max_parse_change("--io-max", value, most, err);
	for (unsigned key = 0; r == 0 && key < IO_MAX_KEYS; key++)
		if (most[key] != MVM_KEEP)
			*fields[key] = most[key];
	return r;
}

int mvm_limits_set(struct mvm_limits *limits, const char *name, const char *value, struct mvm_error *err)
{
	struct mvm_spec *spec;
	struct mvm_limits known;
	uint64_t *field = NULL;
	int r = known_limits(limits, &known, err);

	if (r < 0)
		return r;
	if (!strcmp(name, "io-max"))
		return set_io(limits, value, err);
	if (!strcmp(name, "blk-iops"))
		field = &limits->blk_iops;
	else if (!strcmp(name, "blk-bps"))
		field = &limits->blk_bps;
	if (!field)
		return error_set(err, EINVAL,
				 "--%.60s: cannot be changed while a VM runs: --blk-iops, --blk-bps and --io-max can",
				 name);
	r = mvm_spec_new(&spec);
	if (r < 0)
		return error_set(err, -r, "--%s: out of memory", name);
	r = mvm_spec_set(spec, name, value, err);
	if (r == 0)
		*field = field == &limits->blk_iops ? spec->blk_iops : spec->blk_bps;
	mvm_spec_free(spec);
	return r;
}

int mvm_update(const char *id, const struct mvm_limits *given, struct mvm_error *err)
{
	_cleanup_fd_ int folder = -1;
	struct attach_update update;
	struct mvm_limits limits;
	char parent[PATH_MAX], found[MVM_ID_LEN + 1];
	struct mvm_error why;
	bool io = false;
	int r = known_limits(given, &limits, err);

	if (r < 0)
		return r;
	update = (struct attach_update){
		.blk_iops = limits.blk_iops,
		.blk_bps = limits.blk_bps,
		.io_max = {
			[IO_MAX_RBPS] = limits.io_rbps,
			[IO_MAX_WBPS] = limits.io_wbps,
			[IO_MAX_RIOPS] = limits.io_riops,
			[IO_MAX_WIOPS] = limits.io_wiops,
		},
	};
	for (unsigned key = 0; key < IO_MAX_KEYS; key++)
		io |= update.io_max[key] != MVM_KEEP;
	if (limits.blk_iops == MVM_KEEP && limits.blk_bps == MVM_KEEP && !io)
		return error_set(err, EINVAL, "nothing to change: give --blk-iops, --blk-bps or --io-max");
	r = state_dir_parent(parent, err);
	if (r == 0)
		r = state_dir_find(parent, id, false, found, &folder, err);
	if (r < 0)
		return r;
	r = attach_call(folder, ATTACH_UPDATE, &update, io ? sizeof(update) : ATTACH_UPDATE_LEAST, &why);
	return r < 0 ? error_set(err, -r, "%s: %s", found, why.text) : 0;
}
