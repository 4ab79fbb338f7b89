#include "lib/restart.h"

#include <errno.h>
#include <string.h>

#include "lib/text.h"

int restart_parse(const char *text, struct restart *ret_restart)
{
	static const char on_failure[] = "on-failure";
	struct restart restart = { 0 };
	uint64_t most = 0;
	int r;

	if (!text || !strcmp(text, "no")) {
		restart.when = RESTART_NO;
	} else if (!strcmp(text, "always")) {
		restart.when = RESTART_ALWAYS;
	} else if (!strncmp(text, on_failure, strlen(on_failure))) {
		restart.when = RESTART_ON_FAILURE;
		text += strlen(on_failure);
		r = *text == ':' ? text_parse_uint(text + 1, UINT32_MAX, &most) : *text ? -EINVAL : 0;
		if (r == 0 && *text && !most)
			r = -ERANGE;
		if (r < 0)
			return r;
		restart.most = (uint32_t)most;
	} else {
		return -EINVAL;
	}
	*ret_restart = restart;
	return 0;
}

static bool wanted(const struct restart *restart, const struct verdict *verdict)
{
	if (restart->off || verdict->kind == VERDICT_OPERATOR)
		return false;
	if (restart->when == RESTART_ON_FAILURE)
		return verdict->status != 0 && verdict->kind != VERDICT_IDLE_TIMEOUT &&
		       (!restart->most || restart->count < restart->most);
	return restart->when == RESTART_ALWAYS;
}

bool restart_next(struct restart *restart, const struct verdict *verdict, uint64_t ran_ns)
{
	if (!wanted(restart, verdict))
		return false;
	if (!restart->wait_ns || ran_ns >= RESTART_STEADY_NS)
		restart->wait_ns = RESTART_FIRST_NS;
	else if (restart->wait_ns <= RESTART_MOST_NS / 2)
		restart->wait_ns *= 2;
	else
		restart->wait_ns = RESTART_MOST_NS;
	if (restart->count < UINT32_MAX)
		restart->count++;
	return true;
}
