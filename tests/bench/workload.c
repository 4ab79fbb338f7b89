/*
 * workload: what the bench runs in a guest. Static, so that what is timed is the VM and not a
 * dynamic linker.
 *
 *   workload hello          one line with the guest's own clock: CLOCK_BOOTTIME when main() began
 *   workload idle           "ready", then nothing until killed
 *   workload source BYTES   "ready", then that many zeroes on stdout
 *   workload sink BYTES     "ready", then reads that many from stdin, then "done"
 *
 * Trust: a test tool. Returns: 0; 1 when reading or writing failed, 2 for wrong arguments.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char chunk[256 << 10];

static int say(const char *s, size_t len)
{
	while (len > 0) {
		ssize_t n = write(1, s, len);

		if (n <= 0)
			return 1;
		s += n;
		len -= (size_t)n;
	}
	return 0;
}

static int hello(void)
{
	struct timespec t;
	char line[64];
	int n;

	(void)clock_gettime(CLOCK_BOOTTIME, &t);
	n = snprintf(line, sizeof(line), "hello %lld\n", (long long)t.tv_sec * 1000000000LL + t.tv_nsec);
	return say(line, (size_t)n);
}

static int source(uint64_t bytes)
{
	while (bytes > 0) {
		size_t n = bytes < sizeof(chunk) ? (size_t)bytes : sizeof(chunk);

		if (say(chunk, n) != 0)
			return 1;
		bytes -= n;
	}
	return 0;
}

static int sink(uint64_t bytes)
{
	while (bytes > 0) {
		ssize_t n = read(0, chunk, bytes < sizeof(chunk) ? (size_t)bytes : sizeof(chunk));

		if (n <= 0)
			return 1;
		bytes -= (uint64_t)n;
	}
	return say("done\n", 5);
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	uint64_t bytes = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;

	if (!strcmp(verb, "hello"))
		return hello();
	if (strcmp(verb, "idle") != 0 && strcmp(verb, "source") != 0 && strcmp(verb, "sink") != 0)
		return 2;
	if (say("ready\n", 6) != 0)
		return 1;
	if (!strcmp(verb, "source"))
		return source(bytes);
	if (!strcmp(verb, "sink"))
		return sink(bytes);
	(void)pause();
	return 0;
}
