/*
 * qemu_init: pid 1 of the guest that QEMU boots in the bench: the least that runs the same command
 * from the same image, mounted the same way as mvm's agent does it (guest/mount.c): /dev/vda
 * read-only below an overlay on a tmpfs, devtmpfs, proc, sysfs.
 *
 * Purpose: a fair opponent: no shell, no udev, no service manager. The command is the variable BENCH,
 *          words separated by spaces, which the kernel takes from its command line (arguments after
 *          "--" would be mixed with the devices that QEMU appends). Its stdin and stdout are the
 *          virtio-console port /dev/vport0p1, or, with BENCH_VSOCK=PORT, a connection to that port of
 *          the host.
 * Trust:   a test tool. Ends by restarting the machine, which QEMU's -no-reboot makes an exit.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

static _Noreturn void finish(void)
{
	(void)reboot(RB_AUTOBOOT);
	for (;;)
		(void)pause();
}

/* What went wrong goes to the kernel's log, which the console shows when there is one. */
static _Noreturn void die(const char *what)
{
	int fd = open("/dev/kmsg", O_WRONLY);

	if (fd >= 0)
		dprintf(fd, "<0>qemu_init: %s: %s\n", what, strerror(errno));
	finish();
}

static void mount_at(const char *source, const char *target, const char *type, unsigned long flags, const char *options)
{
	(void)mkdir(target, 0755);
	if (mount(source, target, type, flags, options) < 0)
		die(target);
}

static void mount_all(void)
{
	mount_at("dev", "/dev", "devtmpfs", MS_NOSUID, NULL);
	mount_at("scratch", "/scratch", "tmpfs", MS_NOSUID | MS_NODEV, NULL);
	(void)mkdir("/scratch/upper", 0755);
	(void)mkdir("/scratch/work", 0755);
	mount_at("/dev/vda", "/lower", "ext4", MS_RDONLY, NULL);
	mount_at("root", "/root", "overlay", 0, "lowerdir=/lower,upperdir=/scratch/upper,workdir=/scratch/work");
	mount_at("proc", "/root/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_at("sysfs", "/root/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	if (mount("/dev", "/root/dev", NULL, MS_MOVE, NULL) < 0 || chdir("/root") < 0 ||
	    mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0)
		die("root");
}

/* The port is announced by messages of its own device, which may still be under way. */
static int open_port(void)
{
	const struct timespec step = { .tv_nsec = 1000000 };
	int fd;

	for (unsigned i = 0; i < 10000; i++) {
		fd = open("/dev/vport0p1", O_RDWR);
		if (fd >= 0)
			return fd;
		(void)nanosleep(&step, NULL);
	}
	die("/dev/vport0p1");
}

static int stream(unsigned port)
{
	struct sockaddr_vm host = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port };
	int fd;

	if (!port)
		return open_port();
	fd = socket(AF_VSOCK, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&host, sizeof(host)) < 0)
		die("vsock");
	return fd;
}

/* The command's words; `text` is cut up. */
static char **split(char *text)
{
	static char *words[64];
	size_t n = 0;

	for (char *save = NULL, *word = strtok_r(text, " ", &save); word && n < 63; word = strtok_r(NULL, " ", &save))
		words[n++] = word;
	return words;
}

int main(void)
{
	char *env[] = { (char[]){ "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" },
			(char[]){ "HOME=/root" }, NULL };
	char *command = getenv("BENCH"), *port = getenv("BENCH_VSOCK"), **words;
	int fd, status;
	pid_t pid;

	mount_all();
	words = command ? split(command) : NULL;
	if (!words || !words[0]) {
		errno = EINVAL;
		die("no command");
	}
	fd = stream(port ? (unsigned)strtoul(port, NULL, 10) : 0);
	environ = env;
	pid = fork();
	if (pid == 0) {
		(void)dup2(fd, 0);
		(void)dup2(fd, 1);
		(void)close(fd);
		(void)execvp(words[0], words);
		dprintf(1, "qemu_init: %s: %s\n", words[0], strerror(errno));
		_exit(127);
	}
	(void)close(fd);
	if (pid < 0)
		die("fork");
	while (waitpid(-1, &status, 0) != pid)
		;
	finish();
}
