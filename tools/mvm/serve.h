/*
 * A page over HTTP, on a Unix socket or on the loopback, by libmicrohttpd.
 *
 * Purpose: what `mvm metrics --listen` serves. The library is loaded when it is needed: with what it needs itself (TLS)
 *          it would double the time that every other verb takes to begin.
 * Trust:   who connects is anybody on this host: GET and HEAD of one path, 16 connections, 10 s each, headers of 8 KiB.
 *          By TCP the Host header must name the loopback: a page in a browser here, from elsewhere, reads nothing.
 */
#ifndef SERVE_H
#define SERVE_H

#include "mvm/mvm.h"

/* Serves the text that `make` makes, for each request anew, until SIGINT or SIGTERM. Returns the exit status. */
int serve(const char *address, const char *path, int (*make)(char **ret_text, struct mvm_error *err));

#endif
