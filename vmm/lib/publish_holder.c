/* Who has a port: proc(5), "net/tcp" and "net/udp", and the sockets among each process's descriptors. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/publish.h"
#include "lib/text.h"
#include "mvm/cleanup.h"

#define LISTENING 0x0a /* TCP_LISTEN */

enum field { LOCAL = 1, STATE = 3, UID = 7, INODE = 9, FIELDS };

struct held {
	unsigned long long inode;
	unsigned uid;
};

/* Whether a line's address (hexadecimal words of the host's order) is the wanted one, or any. */
static bool overlaps(const char *hex, const struct spec_publish *wanted)
{
	static const uint8_t none[16];
	size_t words = strlen(hex) / 8, bytes = wanted->family == 4 ? 4 : 16;
	uint8_t address[16] = { 0 };

	if (words != 1 && words != 4)
		return false;
	for (size_t i = 0; i < words; i++) {
		char word[9];
		uint32_t value;

		(void)snprintf(word, sizeof(word), "%.8s", hex + i * 8);
		value = (uint32_t)strtoul(word, NULL, 16);
		memcpy(address + i * 4, &value, sizeof(value));
	}
	/* Any address, of either side; of the other family any is all that can be in the way. */
	if (!memcmp(address, none, sizeof(none)) || !memcmp(wanted->address, none, bytes))
		return true;
	return words * 4 == bytes && !memcmp(address, wanted->address, bytes);
}

/* A line of net/tcp: "sl: ADDRESS:PORT ADDRESS:PORT STATE tx:rx tr:when retransmits uid timeout inode …". */
static bool is_it(char *line, const struct spec_publish *wanted, struct held *ret)
{
	char *fields[FIELDS], *word, *colon;
	unsigned n = 0;

	while (n < FIELDS && (word = strsep(&line, " \n")))
		if (*word)
			fields[n++] = word;
	if (n < FIELDS || !(colon = strchr(fields[LOCAL], ':')))
		return false;
	*colon++ = '\0';
	if ((!wanted->udp && strtoul(fields[STATE], NULL, 16) != LISTENING) ||
	    strtoul(colon, NULL, 16) != wanted->host || !overlaps(fields[LOCAL], wanted))
		return false;
	ret->uid = (unsigned)strtoul(fields[UID], NULL, 10);
	ret->inode = strtoull(fields[INODE], NULL, 10);
	return true;
}

static bool find_socket(const char *proc, const char *file, const struct spec_publish *wanted, struct held *ret)
{
	char path[64], line[512];
	bool found = false;
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/self/net/%s", proc, file);
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f))
		found = is_it(line, wanted, ret);
	if (f)
		(void)fclose(f); /* only read from */
	return found;
}

static bool has_socket(int folder, const char *pid, const char *link)
{
	char path[64], target[64];
	bool found = false;
	struct dirent *entry;
	DIR *dir;
	int fd;

	(void)snprintf(path, sizeof(path), "%.16s/fd", pid);
	fd = openat(folder, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir && fd >= 0)
		(void)close(fd);
	while (dir && !found && (entry = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);

		target[n > 0 ? n : 0] = '\0';
		found = !strcmp(target, link);
	}
	if (dir)
		(void)closedir(dir);
	return found;
}

static void name_of(int folder, const char *pid, char name[32])
{
	char path[64];
	ssize_t n;
	_cleanup_fd_ int fd = -1;

	(void)snprintf(path, sizeof(path), "%.16s/comm", pid);
	fd = openat(folder, path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, name, 31);
	name[n > 0 ? n : 0] = '\0';
	name[strcspn(name, "\n")] = '\0';
	text_harmless(name);
}

void publish_holder(const char *proc, const struct spec_publish *wanted, char ret_text[PUBLISH_HOLDER])
{
	struct held held;
	struct dirent *entry;
	char link[48], name[32];
	DIR *dir;

	ret_text[0] = '\0';
	if (!find_socket(proc, wanted->udp ? "udp" : "tcp", wanted, &held) &&
	    !find_socket(proc, wanted->udp ? "udp6" : "tcp6", wanted, &held))
		return;
	(void)snprintf(ret_text, PUBLISH_HOLDER, "a process of user %u", held.uid);
	(void)snprintf(link, sizeof(link), "socket:[%llu]", held.inode);
	dir = opendir(proc);
	while (dir && (entry = readdir(dir))) {
		if (!isdigit((unsigned char)entry->d_name[0]) || !has_socket(dirfd(dir), entry->d_name, link))
			continue;
		name_of(dirfd(dir), entry->d_name, name);
		(void)snprintf(ret_text, PUBLISH_HOLDER, "%s (process %.16s)", name, entry->d_name);
		break;
	}
	if (dir)
		(void)closedir(dir);
}
