/*
 * workload: what the bench runs in a guest. Static, so that what is timed is the VM and not a
 * dynamic linker.
 *
 *   workload hello          one line with the guest's own clock: CLOCK_BOOTTIME when main() began
 *   workload idle           "ready", then nothing until killed
 *   workload source BYTES   "ready", then that many zeroes on stdout
 *   workload sink BYTES     "ready", then reads that many from stdin, then "done"
 *   workload net ADDRESS/BITS COMMAND…
 *                           eth0 gets the address, then becomes COMMAND
 *   workload ping ADDRESS N one echo request after the other's answer: "median NS", over N of them
 *
 * Trust: a test tool. Returns: 0; 1 when reading or writing failed, 2 for wrong arguments.
 */
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
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

static int64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int net(char *address, char **command)
{
	struct sockaddr_in in = { .sin_family = AF_INET }, mask = { .sin_family = AF_INET };
	struct ifreq request = { .ifr_name = "eth0" };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	char *bits = strchr(address, '/');

	if (fd < 0 || !bits)
		return 2;
	*bits++ = '\0';
	mask.sin_addr.s_addr = htonl(~0U << (32 - atoi(bits)));
	if (inet_pton(AF_INET, address, &in.sin_addr) != 1)
		return 2;
	memcpy(&request.ifr_addr, &in, sizeof(in));
	if (ioctl(fd, SIOCSIFADDR, &request) < 0)
		return 1;
	memcpy(&request.ifr_netmask, &mask, sizeof(mask));
	if (ioctl(fd, SIOCSIFNETMASK, &request) < 0)
		return 1;
	request.ifr_flags = IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		return 1;
	(void)execvp(command[0], command);
	return 1;
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static uint16_t sum_of(const struct icmphdr *hdr)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < sizeof(*hdr) / 2; i++)
		sum += ((const uint16_t *)hdr)[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t) ~(sum + (sum >> 16));
}

/* The first tenth warms up: neighbours are looked up, code is translated. */
static int ping(const char *address, unsigned n)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	int64_t *took = calloc(n, sizeof(*took));
	int fd = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
	char line[64];

	if (fd < 0 || !took || inet_pton(AF_INET, address, &to.sin_addr) != 1)
		return 2;
	for (unsigned i = 0; i < n; i++) {
		struct icmphdr out = { .type = ICMP_ECHO, .un.echo = { .id = 77, .sequence = htons((uint16_t)i) } };
		struct {
			struct iphdr ip;
			struct icmphdr icmp;
		} in;
		int64_t begin = now_ns();

		out.checksum = sum_of(&out);
		if (sendto(fd, &out, sizeof(out), 0, (struct sockaddr *)&to, sizeof(to)) < 0)
			return 1;
		do {
			if (recv(fd, &in, sizeof(in), 0) < (ssize_t)sizeof(in))
				return 1;
		} while (in.icmp.type != ICMP_ECHOREPLY || in.icmp.un.echo.sequence != out.un.echo.sequence);
		took[i] = now_ns() - begin;
	}
	qsort(took + n / 10, n - n / 10, sizeof(*took), compare);
	return say(line,
		   (size_t)snprintf(line, sizeof(line), "median %lld\n", (long long)took[n / 10 + (n - n / 10) / 2]));
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	uint64_t bytes = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;

	if (!strcmp(verb, "hello"))
		return hello();
	if (!strcmp(verb, "net") && argc > 3)
		return net(argv[2], argv + 3);
	if (!strcmp(verb, "ping") && argc > 3)
		return ping(argv[2], (unsigned)atoi(argv[3]));
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
