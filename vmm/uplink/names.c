/* Names that may be reached: what the resolver says, into the rules' sets; in a network the VMs that it answers for. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>

#include "jail/caps.h"
#include "uplink/holder.h"
#include "uplink/nfnl.h"
#include "uplink/rules.h"

#define PORT      53
#define KEPT_S    1200U /* that an address may be reached: twice as long as the guest is told that its answer counts */
#define BATCH     32U
#define FILES_MAX (QUESTIONS_WAITING + 8U) /* of the resolver */
#define TOLD      20U /* refused names a second; questions.c tells fewer */
#define HEAR_MS   2000 /* that the resolver may take to hear of a member */
#define WARNINGS  1U

/* UDP, on an address of the namespace's. */
static int listen_on(int family, const char *text)
{
	union {
		struct sockaddr any;
		struct sockaddr_in four;
		struct sockaddr_in6 six;
	} address = { .any.sa_family = (sa_family_t)family };
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (family == AF_INET) {
		address.four.sin_port = htons(PORT);
		(void)inet_pton(family, text, &address.four.sin_addr);
	} else {
		address.six.sin6_port = htons(PORT);
		(void)inet_pton(family, text, &address.six.sin6_addr);
	}
	if (fd < 0 || bind(fd, &address.any, family == AF_INET ? sizeof(address.four) : sizeof(address.six)) < 0)
		holder_fail(errno, "resolver: %s: %s", text, strerror(errno));
	return fd;
}

/* With no capability, and no descriptor but these; where the guest does not ask there is /dev/null, which 1 is. */
static void run(const struct holder *h, int four, int six, int holder) __attribute__((noreturn));

static void run(const struct holder *h, int four, int six, int holder)
{
	const struct rlimit files = { FILES_MAX, FILES_MAX };

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (setrlimit(RLIMIT_NOFILE, &files) < 0 || dup2(four >= 0 ? four : 1, 0) < 0 ||
	    (six >= 0 && dup2(six, 1) < 0) || dup2(holder, 2) < 0 || close_range(3, ~0U, 0) < 0 || caps_drop_all() < 0)
		_exit(1);
	resolver(&h->request, rules_servers_most(&h->limits), four < 0 ? -1 : 0, six < 0 ? -1 : 1, 2);
}

void names_start(struct holder *h)
{
	uint32_t flags = h->request.flags;
	int pair[2], four, six;
	struct space_gateway gateway;
	pid_t pid;

	if (!h->request.nnames && !(flags & UPLINK_NETWORK))
		return;
	space_gateway(&h->request, &gateway);
	four = *gateway.four ? listen_on(AF_INET, gateway.four) : -1;
	six = *gateway.six ? listen_on(AF_INET6, gateway.six) : -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		holder_fail(errno, "resolver: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		holder_fail(errno, "no process can be made: %s", strerror(errno));
	if (pid == 0)
		run(h, four, six, pair[1]);
	(void)close(pair[1]);
	if (four >= 0)
		(void)close(four);
	if (six >= 0)
		(void)close(six);
	h->names = pair[0];
}

/* Whether it may be said: so many in a second, whatever the resolver says. */
static bool may_say(struct names_rate *said, unsigned most)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	if (now.tv_sec != said->second)
		*said = (struct names_rate){ .second = now.tv_sec };
	return said->times++ < most;
}

/* An address that is not public is not reached by these sets: rules.h. One that does not get in is not reached either. */
static void keep(struct holder *h, const struct names_of *of, const struct resolved *said)
{
	const struct dns_answer *answer = &said->answer;
	bool four = said->type == DNS_A;
	char set[32];
	int failed = 0;

	for (unsigned i = 0; i < of->nnames; i++) {
		if (!rules_name_matches(&of->names[i], said->name))
			continue;
		for (unsigned k = 0; k < answer->n && k < DNS_ADDRESSES; k++) {
			int r = nfnl_add_address(h->nft, rules_name_set(i, four, of->of, set),
						 answer->addresses[k].bytes, four ? 4 : 16, KEPT_S);

			failed = r < 0 ? r : failed;
		}
	}
	if (failed && may_say(&of->said->warned, WARNINGS))
		holder_warn(of->fd, "an address of %s cannot be reached: %s", said->name,
			    failed == -ENFILE ? "it has had too many of late" : strerror(-failed));
}

static void refuse(const struct names_of *of, const struct resolved *said)
{
	struct uplink_message message = { .type = UPLINK_REFUSED, .refused.reason = UPLINK_NAME };

	of->said->refused = said->refused;
	memcpy(message.refused.name, said->name, sizeof(said->name));
	if (may_say(&of->said->told, TOLD))
		holder_send(of->fd, &message, -1);
}

static bool of_the_vm(void *arg, unsigned slot, struct names_of *ret)
{
	struct holder *h = arg;

	*ret = (struct names_of){ .of = "",
				  .names = h->request.names,
				  .nnames = h->request.nnames,
				  .said = &h->names_said,
				  .fd = UPLINK_FD };
	return slot == 0;
}

static int say(const struct holder *h, const void *bytes, size_t len)
{
	struct pollfd room = { .fd = h->names, .events = POLLOUT };

	while (send(h->names, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		if (poll(&room, 1, HEAR_MS) == 0)
			return -ETIMEDOUT;
	}
	return 0;
}

int names_read(struct holder *h, bool (*find)(void *arg, unsigned slot, struct names_of *ret), void *arg)
{
	struct resolved said;
	struct names_of of;
	int r;

	for (unsigned i = 0; i < BATCH; i++) {
		ssize_t n = recv(h->names, &said, sizeof(said), MSG_DONTWAIT);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		if (n != (ssize_t)sizeof(said))
			return -ECHILD;
		said.name[DNS_NAME - 1] = '\0';
		if (find ? find(arg, said.slot, &of) : of_the_vm(h, said.slot, &of)) {
			if (said.type)
				keep(h, &of, &said);
			else
				refuse(&of, &said);
		}
		r = say(h, "", 1); /* it waits for that */
		if (r < 0)
			return r;
	}
	return 0;
}

int names_tell(struct holder *h, const struct names_member *member)
{
	return say(h, member, sizeof(*member));
}
