/* `mvm stats --flows`: the connections of a VM, busiest first. Thread: one. */
#ifndef STATS_H
#define STATS_H

#include <stdbool.h>

int stats_flows(const char *id, bool json); /* the exit status */

#endif
