/*
 * qemu_init: pid 1 of the guest that QEMU boots in the bench: the least that runs the same command
 * from the same image, mounted the same way as mvm's agent does it (guest/mount.c): /dev/vda
 * read-only below an overlay on a tmpfs, devtmpfs, proc, sysfs.
 *
 * Purpose: a fair opponent: no shell, no udev, no service manager. Its arguments are what follows
 *          "--" on the kernel's command line: an optional vsock=PORT (stdin and stdout are a
 *          connection to that port of the host), then the command. Else stdin and stdout are the
 *          virtio-console port /dev/vport0p1.
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

static int stream(unsigned port)
{
	struct sockaddr_vm host = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port };
	int fd = port ? socket(AF_VSOCK, SOCK_STREAM, 0) : open("/dev/vport0p1", O_RDWR);

	if (fd < 0)
		die(port ? "vsock" : "/dev/vport0p1");
	if (port && connect(fd, (const struct sockaddr *)&host, sizeof(host)) < 0)
		die("connect");
	return fd;
}

int main(int argc, char **argv)
{
	char *env[] = { (char[]){ "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" },
			(char[]){ "HOME=/root" }, NULL };
	unsigned port = 0;
	int fd, status;
	pid_t pid;

	if (argc > 1 && !strncmp(argv[1], "vsock=", 6)) {
		port = (unsigned)strtoul(argv[1] + 6, NULL, 10);
		argv++;
		argc--;
	}
	mount_all();
	if (argc < 2) {
		errno = EINVAL;
		die("no command");
	}
	environ = env;
	fd = stream(port);
	pid = fork();
	if (pid == 0) {
		for (int i = 0; i < 2; i++)
			(void)dup2(fd, i);
		(void)close(fd);
		(void)execvp(argv[1], argv + 1);
		dprintf(1, "qemu_init: %s: %s\n", argv[1], strerror(errno));
		_exit(127);
	}
	(void)close(fd);
	if (pid < 0)
		die("fork");
	while (waitpid(-1, &status, 0) != pid)
		;
	finish();
}
