#include "lib/host_conf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "jail/ids.h"
#include "jail/layers.h"
#include "lib/event_sink.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define CONF_MAX  65536 /* bytes */
#define UID_LEAST 1000U /* below are the host's own */

static int set_uid_range(const char *path, char *value, struct host_conf *conf, struct mvm_error *err)
{
	char *dash = strchr(value, '-');
	uint64_t first = 0, last = 0;
	int r = dash ? 0 : -EINVAL;

	if (dash)
		*dash = '\0';
	if (r == 0)
		r = text_parse_uint(value, UINT32_MAX - 1, &first);
	if (r == 0)
		r = text_parse_uint(dash + 1, UINT32_MAX - 1, &last);
	if (r < 0 || first < UID_LEAST || last < first)
		return error_set(err, EINVAL, "%s: uid-range: give FIRST-LAST, from %u on, as 1900000000-1900065535",
				 path, UID_LEAST);
	conf->uid_first = (uint32_t)first;
	conf->uid_count = (uint32_t)(last - first) + 1;
	return 0;
}

static char *trim(char *s)
{
	size_t len;

	s += strspn(s, " \t");
	for (len = strlen(s); len && strchr(" \t\r", s[len - 1]); len--)
		s[len - 1] = '\0';
	return s;
}

static int set_line(const char *path, unsigned number, char *line, struct host_conf *conf, struct mvm_error *err)
{
	char *name, *value, *equals, what[64];

	line[strcspn(line, "#")] = '\0';
	name = trim(line);
	if (!*name)
		return 0;
	equals = strchr(name, '=');
	if (!equals)
		return error_set(err, EINVAL, "%s: line %u: write NAME = VALUE", path, number);
	*equals = '\0';
	name = trim(name);
	value = trim(equals + 1);
	if (!strcmp(name, "allow-missing")) {
		if (!*value) { /* nothing may be */
			conf->may_lack = 0;
			return 0;
		}
		(void)snprintf(what, sizeof(what), "%.40s: line %u", path, number);
		return jail_layers_parse(what, value, &conf->may_lack, err);
	}
	if (!strcmp(name, "uid-range"))
		return set_uid_range(path, value, conf, err);
	if (!strcmp(name, "events")) {
		(void)snprintf(what, sizeof(what), "%.40s: line %u", path, number);
		if (strlen(value) >= sizeof(conf->events))
			return error_set(err, EINVAL, "%s: events: too long: choose a shorter path", what);
		(void)snprintf(conf->events, sizeof(conf->events), "%s", value);
		return *value ? event_sink_check(what, value, err) : 0;
	}
	if (!strcmp(name, "share-kernel")) {
		conf->share_kernel = !strcmp(value, "yes");
		if (!conf->share_kernel && strcmp(value, "no") != 0)
			return error_set(err, EINVAL, "%s: line %u: share-kernel: give yes or no", path, number);
		return 0;
	}
	return error_set(err, EINVAL,
			 "%s: line %u: '%.40s' is no setting: allow-missing, events, share-kernel and uid-range are",
			 path, number, name);
}

int host_conf_read(const char *path, struct host_conf *ret_conf, struct mvm_error *err)
{
	struct host_conf conf = { .may_lack = JAIL_LAYERS_DEFAULT, .uid_first = IDS_FIRST, .uid_count = IDS_COUNT };
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	_cleanup_free_ char *text = NULL;
	unsigned number = 0;
	struct stat st;
	ssize_t n;
	int r = 0;

	if (fd < 0 && errno == ENOENT) {
		*ret_conf = conf;
		return 0;
	}
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, errno, "%s: cannot be read: %s: make it readable for everybody: chmod 644", path,
				 strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_uid != 0 || st.st_mode & (S_IWGRP | S_IWOTH))
		return error_set(err, EPERM, "%s: not root's alone to write: chown root %s && chmod 644 %s", path, path,
				 path);
	text = malloc(CONF_MAX);
	n = text ? read(fd, text, CONF_MAX) : -1;
	if (n < 0 || n == CONF_MAX)
		return error_set(err, EIO, "%s: cannot be read, or too long", path);
	text[n] = '\0';
	for (char *line = text, *next; r == 0 && line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		r = set_line(path, ++number, line, &conf, err);
	}
	if (r == 0)
		*ret_conf = conf;
	return r;
}
