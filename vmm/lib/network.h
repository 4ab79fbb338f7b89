/*
 * Named networks: what `mvm network create` made, a file each in the folder `networks` beside the VMs' own.
 *
 * Purpose: NAME.json says what the network is like; NAME.sock is where the process that holds it listens while VMs are on
 *          it (uplink/uplink.h): what a killed one left is no hindrance.
 * Trust:   the folder is its owner's alone (state_dir.h), files in it are read as ours.
 * Ownership: a descriptor that is handed out is the caller's.
 * Thread:  any. Who makes, removes, starts or joins a network locks it; who chooses addresses for one locks the folder.
 * Returns: 0 or -errno with err.
 */
#ifndef LIB_NETWORK_H
#define LIB_NETWORK_H

#include <stdbool.h>

#include "mvm/mvm.h"
#include "uplink/uplink.h"

struct network {
	char name[UPLINK_ID];
	struct uplink_subnet subnet;
	bool internal, isolated;
};

/* The folder; with `make` it is made where it is missing, else -ENOENT. */
int network_folder(bool make, int *ret_fd, struct mvm_error *err);

int network_read(int folder, const char *name, struct network *ret, struct mvm_error *err); /* -ENOENT: there is none */

/* Locks the network of that name. -ENOENT: there is none. `label`: for errors. */
int network_lock(const char *label, const char *name, int *ret_folder, int *ret_lock, struct mvm_error *err);
/* … and reads what it is like. */
int network_open(const char *label, const char *name, int *ret_folder, int *ret_lock, struct network *ret,
		 struct mvm_error *err);

/* "10.0.0.0/24" within what a network may have; family 4 or 6, into the half of the subnet that is meant. */
int network_parse_subnet(const char *label, const char *text, unsigned family, struct uplink_subnet *ret,
			 struct mvm_error *err);

/* To the process that holds it. -ECONNREFUSED, -ENOENT: there is none now. */
int network_connect(int folder, const char *name, int *ret_fd);
/* Where it is to listen; what a killed one left is removed. The network is locked. */
int network_listen(int folder, const char *name, int *ret_fd);

/* Calls each() for every VM on it; -ECONNREFUSED, -ENOENT, -ECONNRESET: none is. */
int network_members(int folder, const char *name, void (*each)(void *arg, const struct uplink_member *member),
		    void *arg);

#endif
