/*
 * Somebody else on the host, for an attacker to reach: listens on an abstract name and on the loopback, shares
 * System V objects with everybody, is of the caller's process group. Says "ready", and for each touch what was
 * touched, until its stdin ends.
 */
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tries.h"

static int listener(int family, int type, const void *addr, size_t len)
{
	int fd = socket(family, type, 0);

	if (fd < 0 || bind(fd, addr, (socklen_t)len) < 0 || (type == SOCK_STREAM && listen(fd, 8) < 0)) {
		perror("neighbour: socket");
		exit(1);
	}
	return fd;
}

int main(void)
{
	struct sockaddr_in in = {
		.sin_family = AF_INET,
		.sin_port = htons(NEIGHBOUR_PORT),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int shm = shmget(NEIGHBOUR_SHM, 4096, IPC_CREAT | 0666);
	int msg = msgget(NEIGHBOUR_MSG, IPC_CREAT | 0666);
	int sem = semget(NEIGHBOUR_SEM, 1, IPC_CREAT | 0666);
	const char *const names[] = { "the end", "abstract name", "TCP port", "UDP port", "signal" };
	struct pollfd fds[5] = { { .fd = STDIN_FILENO } };
	sigset_t urgent;

	memcpy(un.sun_path + 1, NEIGHBOUR_ABSTRACT, strlen(NEIGHBOUR_ABSTRACT));
	fds[1].fd = listener(AF_UNIX, SOCK_STREAM, &un,
			     offsetof(struct sockaddr_un, sun_path) + 1 + strlen(NEIGHBOUR_ABSTRACT));
	fds[2].fd = listener(AF_INET, SOCK_STREAM, &in, sizeof(in));
	fds[3].fd = listener(AF_INET, SOCK_DGRAM, &in, sizeof(in));
	(void)sigemptyset(&urgent);
	(void)sigaddset(&urgent, SIGURG);
	(void)sigprocmask(SIG_BLOCK, &urgent, NULL);
	fds[4].fd = signalfd(-1, &urgent, 0);
	for (unsigned i = 0; i < 5; i++)
		fds[i].events = POLLIN;
	(void)puts("ready");
	(void)fflush(stdout);
	while (poll(fds, 5, -1) >= 0 && !fds[0].revents)
		for (unsigned i = 1; i < 5; i++)
			if (fds[i].revents) {
				(void)printf("touched: %s\n", names[i]);
				fds[i].fd = -1; /* once is enough */
			}
	(void)shmctl(shm, IPC_RMID, NULL);
	(void)msgctl(msg, IPC_RMID, NULL);
	(void)semctl(sem, 0, IPC_RMID);
	return 0;
}
