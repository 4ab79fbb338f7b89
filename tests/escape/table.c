/* Every attack; see attack.h and README.md for how a row reads. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/kexec.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <sys/fanotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/quota.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "attack.h"
#include "call.h"
#include "jail/seccomp_table.h"
#include "mvm/vmm_config.h"
#include "tries.h"

#define A(nr, ...)       .call = SYS_##nr, .args = { __VA_ARGS__ }
#define F(function)      .attempt = try_##function
#define DENIED(why, ...) .next = why, .errnos = { __VA_ARGS__ }
#define ALONE(why)       .next = why, .flags = ATTACK_ALONE
#define ON_ALL           (ON_IO | ON_VCPU | ON_DISK)
#define HERE             ((uintptr_t)AT_FDCWD)

/* Layers that come next. */
#define EMPTY_ROOT  "empty root: there is no such name"
#define SEALED_ROOT "empty root: read-only"
#define LANDLOCK    "Landlock"
#define NO_FOLDER   "no folder among the descriptors"
#define CAPS        "no capability"
#define PID_NS      "pid namespace: nobody else is in it"
#define NET_NS      "net namespace: empty, loopback down"
#define IPC_NS      "ipc namespace: empty"
#define RLIMITS     "rlimits"
#define OPEN_MODE   "the open mode of the descriptor"
#define SEALS       "seals"
#define NO_PRIVS    "no_new_privs"

/* Reasons why the filter alone is enough. */
#define OWN_PROCESS "changes this process alone, which is the attacker's already"
#define OWN_DISK    "the guest's own disk, which it may write anyway"
#define OWN_VM      "this VM's own KVM objects, bounded by its cgroup; the rest is KVM's, which the guest faces too"
#define IN_JAIL     "the child is in the same jail, under the same limits"
#define SURFACE     "gives nothing by itself; the filter is there to take the kernel's code behind it away"
#define ONLY_FEWER  "can only take away"

/* A row is a line. */
/* clang-format off */
static const struct attack attacks[] = {
	/* ---- files by name ---- */
	{ "open /etc/passwd", A(open, P("/etc/passwd"), O_RDONLY), DENIED(EMPTY_ROOT, ENOENT) },
	{ "openat /etc/passwd", A(openat, HERE, P("/etc/passwd"), O_RDONLY), DENIED(EMPTY_ROOT, ENOENT) },
	{ "openat /proc/self/mem", A(openat, HERE, P("/proc/self/mem"), O_RDWR), DENIED(EMPTY_ROOT, ENOENT) },
	{ "openat /proc/1/root", A(openat, HERE, P("/proc/1/root"), O_PATH), DENIED(EMPTY_ROOT, ENOENT) },
	{ "openat /dev/kvm", A(openat, HERE, P("/dev/kvm"), O_RDWR), DENIED(EMPTY_ROOT, ENOENT) },
	{ "openat /", A(openat, HERE, P("/"), O_RDONLY | O_DIRECTORY), DENIED(LANDLOCK, EACCES) },
	{ "openat / by O_PATH", A(openat, HERE, P("/"), O_PATH), ALONE("the root is empty and read-only") },
	{ "openat ../../etc/passwd", A(openat, HERE, P("../../../../etc/passwd"), O_RDONLY), DENIED(EMPTY_ROOT, ENOENT) },
	{ "openat below every descriptor", F(openat_fds), DENIED(NO_FOLDER, ENOTDIR) },
	{ "openat above every descriptor", F(openat_above_fds), DENIED(NO_FOLDER, ENOTDIR) },
	{ "openat2 /../../etc/passwd", F(openat2), DENIED(EMPTY_ROOT, ENOENT) },
	{ "open_by_handle_at on every descriptor", F(open_by_handle), DENIED(CAPS, EPERM) },
	{ "name_to_handle_at /", A(name_to_handle_at, HERE, P("/"), 0, 0, 0), DENIED(EMPTY_ROOT, EFAULT, EOPNOTSUPP) },
	{ "creat /x", A(creat, P("/x"), 0600), DENIED(SEALED_ROOT, EROFS, EACCES) },
	{ "open with O_TMPFILE", A(open, P("/"), O_TMPFILE | O_RDWR, 0600), DENIED(SEALED_ROOT, EROFS, EACCES) },
	{ "mkdir /x", A(mkdir, P("/x"), 0700), DENIED(SEALED_ROOT, EROFS, EACCES) },
	{ "symlink /x", A(symlink, P("/etc"), P("/x")), DENIED(SEALED_ROOT, EROFS, EACCES) },
	{ "mknod of kvm", A(mknod, P("/kvm"), S_IFCHR | 0666, 10 << 8 | 232), DENIED(SEALED_ROOT, EROFS, EPERM) },
	{ "linkat of a descriptor", A(linkat, VMM_FD_FIRST, P(""), HERE, P("/x"), AT_EMPTY_PATH), DENIED(CAPS, ENOENT, EROFS, EXDEV) },
	{ "unlink /etc/passwd", A(unlink, P("/etc/passwd")), DENIED(EMPTY_ROOT, ENOENT, EROFS) },
	{ "rename /etc", A(rename, P("/etc"), P("/x")), DENIED(EMPTY_ROOT, ENOENT, EROFS) },
	{ "truncate /etc/passwd", A(truncate, P("/etc/passwd"), 0), DENIED(EMPTY_ROOT, ENOENT) },
	{ "chdir /etc", A(chdir, P("/etc")), DENIED(EMPTY_ROOT, ENOENT) },
	{ "chmod /", A(chmod, P("/"), 0777), DENIED(SEALED_ROOT, EROFS, EPERM) },
	{ "stat /etc/passwd", A(statx, HERE, P("/etc/passwd"), 0, 0x7ff, P((char[256]){ 0 })), DENIED(EMPTY_ROOT, ENOENT) },
	{ "readlink /proc/self/exe", A(readlink, P("/proc/self/exe"), P((char[64]){ 0 }), 64), DENIED(EMPTY_ROOT, ENOENT) },
	{ "memfd_create", A(memfd_create, P("x"), 0), ALONE("memory of its own, in its own cgroup") },
	{ "memfd_secret", A(memfd_secret, 0), ALONE(SURFACE) },
	{ "inotify_init1", A(inotify_init1, 0), ALONE("there is nothing to watch by name") },
	{ "fanotify_init", A(fanotify_init, FAN_CLASS_CONTENT, O_RDONLY), DENIED(CAPS, EPERM, ENOSYS) },
	{ "quotactl", A(quotactl, (uint32_t)QCMD(Q_QUOTAOFF, USRQUOTA), P("/dev/vda"), 0, 0), DENIED(EMPTY_ROOT, ENOENT, EPERM, ENOSYS, ENODEV) },
	{ "acct /x", A(acct, P("/x")), DENIED(CAPS, EPERM, ENOSYS) },
	{ "swapon /x", A(swapon, P("/x"), 0), DENIED(CAPS, EPERM) },

	/* ---- files handed over ---- */
	{ "write to a read-only file", F(write_read_only), DENIED(OPEN_MODE, EBADF), .passes = ON_ALL },
	{ "pwritev2 to a read-only file", F(pwritev2_read_only), DENIED(OPEN_MODE, EBADF), .passes = ON_DISK },
	{ "hole in a read-only file", F(punch_read_only), DENIED(OPEN_MODE, EBADF), .passes = ON_DISK },
	{ "write to the sealed config", A(write, VMM_FD_CONFIG, P("x"), 1), DENIED(SEALS, EPERM), .passes = ON_ALL },
	{ "write to the sealed filters", A(write, VMM_FD_JAIL, P("x"), 1), DENIED("closed once it was read", EPERM, EBADF, EINVAL), .passes = ON_ALL },
	{ "unsealing the config", A(fcntl, VMM_FD_CONFIG, F_ADD_SEALS, 0), DENIED(SEALS, EPERM) },
	{ "disk beyond the largest file by pwritev2", F(pwritev2_beyond), DENIED(RLIMITS, EFBIG), .passes = ON_DISK },
	{ "disk beyond the largest file by ftruncate", F(truncate_larger), DENIED(RLIMITS, EFBIG) },
	{ "disk beyond the largest file by fallocate", F(allocate_larger), DENIED(RLIMITS, EFBIG) },
	{ "blocks beyond the largest file", F(zero_range_beyond), ALONE("the filter bounds offset and length by the largest file's size") },
	{ "a smaller disk by ftruncate", F(truncate_smaller), ALONE(OWN_DISK) },
	{ "a smaller disk by fallocate", F(allocate_collapse), ALONE(OWN_DISK) },
	{ "fchmod of the disk", F(chmod_disk), ALONE("root's VMs are not the owner (EPERM); a user's own file gets a mode of the attacker's") },
	{ "fchown of the console", A(fchown, VMM_FD_LOG, 0, 0), ALONE("root's VMs are not the owner (EPERM); ids but our own are not mapped") },
	{ "fsetxattr of the disk", F(xattr_disk), ALONE("root's VMs are not the owner (EACCES); else a name on " OWN_DISK) },
	{ "F_SETLK of the disk", F(unlock), ALONE("the lock that counts is not the process's but the open file's") },
	{ "F_OFD_SETLK: the disk's lock dropped", F(relock_ofd), ALONE("another VM may then open " OWN_DISK) },
	{ "flock of the disk", A(flock, VMM_FD_FIRST + 2, 2), ALONE("not the lock that images have") },
	{ "F_SETFL O_APPEND on the disk", F(set_append), ALONE(OWN_DISK) },
	{ "F_SETFL O_DIRECT on the disk", F(set_direct), ALONE(OWN_DISK) },
	{ "F_SETOWN to another process", F(set_owner), DENIED(PID_NS, ESRCH) },
	{ "F_SETLEASE on a file", F(lease), ALONE("root's VMs are not the owner (EACCES); else it delays who opens the file") },
	{ "dup", A(dup, 1), ALONE(OWN_PROCESS) },
	{ "dup2", A(dup2, 1, 60), ALONE(OWN_PROCESS) },
	{ "dup3", A(dup3, 1, 60, 0), ALONE(OWN_PROCESS) },
	{ "F_DUPFD", A(fcntl, 1, F_DUPFD, 0), ALONE(OWN_PROCESS) },
	{ "ioctl FIONREAD on every descriptor", F(ioctl_fionread), ALONE(SURFACE) },
	{ "ioctl FIOASYNC", F(ioctl_fioasync), ALONE("F_SETOWN reaches nobody else") },
	{ "ioctl TIOCSTI on every descriptor", F(ioctl_tiocsti), DENIED("no terminal among the descriptors", ENOTTY, EINVAL) },
	{ "ioctl FS_IOC_SETFLAGS: immutable", F(ioctl_fs_flags), DENIED(CAPS, EPERM, ENOTTY, EINVAL, EACCES) },
	{ "ioctl FICLONE between images", F(ioctl_ficlone), ALONE("both may be read, one may be written") },
	{ "splice of an image", F(splice_disk), ALONE(SURFACE) },
	{ "setns to every descriptor", F(setns_fds), DENIED("no namespace among the descriptors", EINVAL) },

	/* ---- programs and processes ---- */
	{ "execve /proc/self/exe", A(execve, P("/proc/self/exe"), 0, 0), DENIED(EMPTY_ROOT, ENOENT) },
	{ "execve /bin/sh", A(execve, P("/bin/sh"), 0, 0), DENIED(EMPTY_ROOT, ENOENT) },
	{ "execveat of every descriptor", F(execveat_fds), DENIED("no program among the descriptors; Landlock", EACCES) },
	{ "execveat of a memfd", F(execveat_memfd), ALONE("no_new_privs, and the same jail around it") },
	{ "fork", F(fork), ALONE(IN_JAIL) },
	{ "vfork", F(vfork), ALONE(IN_JAIL) },
	{ "clone", F(clone), ALONE(IN_JAIL) },
	{ "clone3", F(clone3), ALONE(IN_JAIL) },
	{ "clone as a sibling", F(clone_parent), DENIED("pid namespace: its first process has no siblings", EINVAL) },
	{ "clone with a user namespace", F(clone_userns), DENIED("no more user namespaces in the VM's own", ENOSPC) },
	{ "more processes than granted", F(many), DENIED("pids.max, RLIMIT_NPROC", EAGAIN) },
	{ "ptrace of process 1", A(ptrace, PTRACE_SEIZE, 1, 0, 0), DENIED("undumpable; one's own thread group", EPERM) },
	{ "ptrace of any other", F(ptrace_each), DENIED(PID_NS, ESRCH) },
	{ "ptrace by the parent", A(ptrace, PTRACE_TRACEME, 0, 0, 0), .next = "its tracer is the supervisor, which would wait for ever for a traced thread: this VM's end alone", .flags = ATTACK_ALONE | ATTACK_APART | ATTACK_HANGS },
	{ "kill of any other", F(kill_each), DENIED(PID_NS, ESRCH) },
	{ "kill of everybody", A(kill, -1UL, SIGKILL), DENIED(PID_NS, ESRCH) },
	{ "kill of the parent and its group", F(kill_parent), ALONE("a session and process group of its own: it reaches itself alone") },
	{ "tgkill of any other by the kick", F(tgkill_each), DENIED(PID_NS, ESRCH), .passes = ON_IO },
	{ "tgkill by SIGKILL", A(tgkill, 2, 2, SIGKILL), DENIED(PID_NS, ESRCH) },
	{ "rt_sigqueueinfo to any other", F(sigqueue_each), DENIED(PID_NS, ESRCH) },
	{ "pidfd_open of any other", F(pidfd), DENIED(PID_NS, ESRCH) },
	{ "pidfd_getfd", A(pidfd_getfd, VMM_FD_FIRST, 0, 0), DENIED("no pidfd among the descriptors", EBADF) },
	{ "pidfd_send_signal", A(pidfd_send_signal, VMM_FD_FIRST, SIGKILL, 0, 0), DENIED("no pidfd among the descriptors", EBADF) },
	{ "process_vm_readv of any other", F(read_each), DENIED(PID_NS, ESRCH) },
	{ "process_vm_writev of any other", F(write_each), DENIED(PID_NS, ESRCH) },
	{ "process_madvise", A(process_madvise, VMM_FD_FIRST, 0, 0, MADV_COLD, 0), DENIED("no pidfd among the descriptors", EBADF, EFAULT) },
	{ "move_pages of another", A(move_pages, 2000, 0, 0, 0, 0, 0), DENIED(PID_NS, ESRCH) },
	{ "migrate_pages of another", A(migrate_pages, 2000, 64, 0, 0), DENIED(PID_NS, ESRCH) },
	{ "kcmp of another", A(kcmp, 2000, 2001, 0, 0, 0), DENIED(PID_NS, ESRCH) },
	{ "get_robust_list of another", A(get_robust_list, 2000, 0, 0), DENIED(PID_NS, ESRCH) },
	{ "prlimit64 of any other", F(prlimit_each), DENIED(PID_NS, ESRCH) },
	{ "sched_setaffinity of another", A(sched_setaffinity, 2000, 8, P(&(uint64_t){ 1 })), DENIED(PID_NS, ESRCH) },
	{ "sched_setaffinity", A(sched_setaffinity, 0, 8, P(&(uint64_t){ 3 })), ALONE("cpu.max counts, wherever it runs") },
	{ "sched_setscheduler SCHED_FIFO", F(realtime), DENIED(RLIMITS, EPERM) },
	{ "setpriority -20", A(setpriority, PRIO_PROCESS, 0, -20UL), DENIED(RLIMITS, EACCES, EPERM) },
	{ "ioprio_set real-time", A(ioprio_set, 1, 0, 1 << 13), DENIED(CAPS, EPERM) },
	{ "setrlimit upwards", F(raise_limit), DENIED(CAPS, EPERM) },

	/* ---- privileges and namespaces ---- */
	{ "setuid 1", A(setuid, 1), DENIED("user namespace: no other id", EINVAL) },
	{ "setresuid 1000", A(setresuid, 1000, 1000, 1000), DENIED("user namespace: no other id", EINVAL) },
	{ "setgid 1", A(setgid, 1), DENIED("user namespace: no other id", EINVAL) },
	{ "setgroups", A(setgroups, 0, 0), DENIED(CAPS, EPERM) },
	{ "capset of everything", F(capset), DENIED(CAPS, EPERM) },
	{ "prctl: ambient CAP_SYS_ADMIN", F(ambient), DENIED(CAPS, EPERM) },
	{ "prctl: securebits", A(prctl, PR_SET_SECUREBITS, 0), DENIED(CAPS, EPERM) },
	{ "prctl: keep capabilities", A(prctl, PR_SET_KEEPCAPS, 1), DENIED("locked securebits", EPERM) },
	{ "prctl: new privileges", A(prctl, PR_SET_NO_NEW_PRIVS, 0), DENIED(NO_PRIVS, EINVAL) },
	{ "prctl: dumpable", A(prctl, PR_SET_DUMPABLE, 1), ALONE("who may then look at it is its own user, outside") },
	{ "prctl: parent-death signal", A(prctl, PR_SET_PDEATHSIG, 0), ALONE("the control socket's end tells, too") },
	{ "prctl: own address space", A(prctl, PR_SET_MM, PR_SET_MM_START_CODE, 0x10000, 0, 0), DENIED(CAPS, EPERM) },
	{ "prctl: seccomp off", A(prctl, PR_SET_SECCOMP, 0), DENIED("the kernel knows no way back", EINVAL) },
	{ "seccomp: a filter that allows all", F(seccomp_allow), ALONE(ONLY_FEWER) },
	{ "personality READ_IMPLIES_EXEC", A(personality, READ_IMPLIES_EXEC), ALONE(OWN_PROCESS) },
	{ "arch_prctl: GS", A(arch_prctl, 0x1001, 0), ALONE(OWN_PROCESS) },
	{ "unshare of the user namespace", A(unshare, CLONE_NEWUSER), DENIED("threads share one", EINVAL, ENOSPC) },
	{ "unshare of the mount namespace", A(unshare, CLONE_NEWNS), DENIED(CAPS, EPERM) },
	{ "unshare of the pid namespace", A(unshare, CLONE_NEWPID), DENIED(CAPS, EPERM) },
	{ "unshare of the net namespace", A(unshare, CLONE_NEWNET), DENIED(CAPS, EPERM) },
	{ "unshare of the ipc namespace", A(unshare, CLONE_NEWIPC), DENIED(CAPS, EPERM) },
	{ "unshare of the uts namespace", A(unshare, CLONE_NEWUTS), DENIED(CAPS, EPERM) },
	{ "unshare of the cgroup namespace", A(unshare, CLONE_NEWCGROUP), DENIED(CAPS, EPERM) },
	{ "unshare of the time namespace", A(unshare, 0x80 /* CLONE_NEWTIME */), DENIED(CAPS, EPERM) },
	{ "mount of a tmpfs", A(mount, P("x"), P("/"), P("tmpfs"), 0, 0), DENIED(CAPS, EPERM) },
	{ "mount: remount writable", A(mount, 0, P("/"), 0, MS_REMOUNT, 0), DENIED(CAPS, EPERM) },
	{ "umount2 of the root", A(umount2, P("/"), MNT_DETACH), DENIED(CAPS, EPERM) },
	{ "pivot_root", A(pivot_root, P("."), P(".")), DENIED(CAPS, EPERM) },
	{ "chroot", A(chroot, P("/")), DENIED(CAPS, EPERM) },
	{ "fsopen", A(fsopen, P("tmpfs"), 0), DENIED(CAPS, EPERM) },
	{ "fspick", A(fspick, HERE, P("/"), 0), DENIED(CAPS, EPERM) },
	{ "open_tree of the root", A(open_tree, HERE, P("/"), 1 /* OPEN_TREE_CLONE */), DENIED(CAPS, EPERM) },
	{ "open_tree of every descriptor", F(open_tree_fds), DENIED(CAPS, EPERM) },
	{ "move_mount", A(move_mount, HERE, P("/"), HERE, P("/"), 0), DENIED(CAPS, EPERM) },
	{ "mount_setattr", A(mount_setattr, HERE, P("/"), 0, P(((uint64_t[4]){ 0, 1 })), 32), DENIED(CAPS, EPERM) },

	/* ---- sockets ---- */
	{ "connect to an abstract name", F(abstract), DENIED(NET_NS, ECONNREFUSED, EPERM) },
	{ "connect to a socket by name", F(unix_path), DENIED(EMPTY_ROOT, ENOENT) },
	{ "TCP to the host's loopback", F(tcp), DENIED(NET_NS "; Landlock", ENETUNREACH, EACCES) },
	{ "TCP to the host's ::1", F(tcp6), DENIED(NET_NS "; Landlock", ENETUNREACH, EADDRNOTAVAIL, EACCES, EAFNOSUPPORT) },
	{ "UDP to the host's loopback", F(udp), DENIED(NET_NS, ENETUNREACH) },
	{ "bind of a TCP port", F(bind), ALONE("Landlock (EACCES) where it can; a port of an empty net namespace else") },
	{ "raw IP socket", A(socket, AF_INET, SOCK_RAW, 1), DENIED(CAPS, EPERM) },
	{ "packet socket", A(socket, AF_PACKET, SOCK_RAW, 0x300), DENIED(CAPS, EPERM, EAFNOSUPPORT) },
	{ "netlink: loopback up", F(link_up), DENIED(CAPS, EPERM) },
	{ "netlink socket for audit", A(socket, AF_NETLINK, SOCK_RAW, 9), ALONE("of an empty net namespace") },
	{ "vsock to the host", F(vsock), ALONE("vsock has no namespaces: only the filter is between the VMM and a host that serves vsock") },
	{ "AF_ALG socket", A(socket, 38, SOCK_SEQPACKET, 0), ALONE(SURFACE) },
	{ "AF_XDP socket", A(socket, 44, SOCK_RAW, 0), DENIED(CAPS, EPERM, EAFNOSUPPORT) },
	{ "sockets of rare families", F(families), ALONE(SURFACE) },
	{ "socketpair", A(socketpair, AF_UNIX, SOCK_STREAM, 0, P((int[2]){ 0 })), ALONE(OWN_PROCESS) },
	{ "descriptors sent to the supervisor", F(pass_fds), .next = "the supervisor receives without a control buffer", .flags = ATTACK_ALONE | ATTACK_APART },
	{ "garbage to the supervisor", F(garbage), .passes = ON_ALL, .next = "the supervisor checks every message", .flags = ATTACK_HARMLESS | ATTACK_APART },
	{ "an overlong message to the supervisor", F(too_long), .passes = ON_ALL, .next = "the supervisor checks every message", .flags = ATTACK_HARMLESS | ATTACK_APART },
	{ "a false end", F(false_end), .passes = ON_ALL, .next = "no end that a VMM claims is the command's success", .flags = ATTACK_HARMLESS | ATTACK_APART },

	/* ---- IPC ---- */
	{ "shmget of the host's segment", A(shmget, NEIGHBOUR_SHM, 0, 0), DENIED(IPC_NS, ENOENT) },
	{ "msgget of the host's queue", A(msgget, NEIGHBOUR_MSG, 0), DENIED(IPC_NS, ENOENT) },
	{ "semget of the host's semaphore", A(semget, NEIGHBOUR_SEM, 0, 0), DENIED(IPC_NS, ENOENT) },
	{ "shmget of a new segment", A(shmget, IPC_PRIVATE, 4096, 0600), ALONE("an ipc namespace of its own; its cgroup pays") },
	{ "mq_open", A(mq_open, P("x"), O_CREAT | O_RDWR, 0600, 0), DENIED(RLIMITS, EMFILE) },
	{ "add_key", A(add_key, P("user"), P("x"), P("x"), 1, -3UL /* session */), ALONE("a session keyring of its own") },
	{ "request_key", A(request_key, P("user"), P("escape"), 0, 0), DENIED("a session keyring of its own", ENOKEY) },
	{ "keyctl: the user's keyring", A(keyctl, KEYCTL_GET_KEYRING_ID, -4UL /* user */, 0), ALONE("a user namespace has user keyrings of its own") },

	/* ---- KVM ---- */
	{ "KVM_CREATE_VM again", F(kvm_second_vm), ALONE(OWN_VM) },
	{ "KVM_CREATE_DEVICE VFIO", F(kvm_device), ALONE(OWN_VM) },
	{ "KVM_ASSIGN_PCI_DEVICE", F(kvm_assign), DENIED("gone from the kernel", ENOTTY, EINVAL, EOPNOTSUPP) },
	{ "KVM_SET_USER_MEMORY_REGION", F(kvm_memory), ALONE("what the guest then sees is this process's own memory") },
	{ "KVM_GET_MSRS", F(kvm_msrs), ALONE(OWN_VM) },
	{ "KVM_CREATE_VCPU again", F(kvm_vcpu), ALONE(OWN_VM) },
	{ "KVM_IRQFD", F(kvm_irqfd), ALONE(OWN_VM) },
	{ "KVM_GET_STATS_FD", F(kvm_stats), ALONE(OWN_VM) },

	/* ---- the kernel's larger doors ---- */
	{ "bpf", F(bpf), DENIED("kernel.unprivileged_bpf_disabled", EPERM, ENOSYS) },
	{ "io_uring_setup", F(io_uring), ALONE(SURFACE) },
	{ "userfaultfd", A(userfaultfd, 0), DENIED("vm.unprivileged_userfaultfd", EPERM, ENOSYS) },
	{ "userfaultfd of user mode", A(userfaultfd, 1), ALONE(SURFACE) },
	{ "perf_event_open of everybody", F(perf), DENIED("kernel.perf_event_paranoid", EACCES, EPERM, ENOSYS) },
	{ "kexec_load", A(kexec_load, 0, 0, 0, 0), DENIED(CAPS, EPERM, ENOSYS) },
	{ "kexec_file_load", A(kexec_file_load, VMM_FD_FIRST + 1, VMM_FD_FIRST + 1, 0, 0, 0), DENIED(CAPS, EPERM, ENOSYS) },
	{ "init_module", A(init_module, P(""), 0, P("")), DENIED(CAPS, EPERM) },
	{ "finit_module", A(finit_module, VMM_FD_FIRST + 1, P(""), 0), DENIED(CAPS, EPERM) },
	{ "delete_module", A(delete_module, P("kvm"), O_NONBLOCK), DENIED(CAPS, EPERM) },
	{ "reboot", A(reboot, 0xfee1dead, 0x28121969, 0x01234567, 0), DENIED(CAPS, EPERM) },
	{ "sethostname", A(sethostname, P("x"), 1), DENIED(CAPS, EPERM) },
	{ "setdomainname", A(setdomainname, P("x"), 1), DENIED(CAPS, EPERM) },
	{ "settimeofday", F(settimeofday), DENIED(CAPS, EPERM) },
	{ "clock_settime", A(clock_settime, 0, P(((uint64_t[2]){ 1, 0 }))), DENIED(CAPS, EPERM) },
	{ "syslog", A(syslog, 3, P((char[64]){ 0 }), 64), DENIED("kernel.dmesg_restrict", EPERM) },
	{ "iopl", A(iopl, 3), DENIED(CAPS, EPERM, ENOSYS) },
	{ "ioperm", A(ioperm, 0x70, 2, 1), DENIED(CAPS, EPERM, ENOSYS) },
	{ "modify_ldt", A(modify_ldt, 0, 0, 0), ALONE(SURFACE) },
	{ "vhangup", A(vhangup, 0), DENIED(CAPS, EPERM) },
	{ "x32: openat", F(x32), ALONE("where the kernel has x32 (ENOSYS): the root is empty all the same") },
	{ "int 0x80: getpid", F(int80), ALONE("the other table leads to the same jail") },
	{ "int 0x80: socket", F(int80_socket), ALONE("the other table leads to the same jail") },

	/* ---- memory and time ---- */
	{ "mprotect: a page of data executable", F(exec_page), ALONE(OWN_PROCESS) },
	{ "mmap: executable memory", A(mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1UL, 0), ALONE(OWN_PROCESS) },
	{ "mmap over the program", F(map_over_text), ALONE(OWN_PROCESS) },
	{ "mmap of page zero", A(mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1UL, 0), DENIED("vm.mmap_min_addr", EPERM, EACCES) },
	{ "mremap over the program", F(mremap), ALONE(OWN_PROCESS) },
	{ "remap_file_pages", F(remap_pages), ALONE(OWN_PROCESS) },
	{ "mmap of more than granted", F(huge_map), DENIED(RLIMITS, ENOMEM) },
	{ "brk of more than granted", F(brk), DENIED(RLIMITS, ENOMEM) },
	{ "mlockall", A(mlockall, 1), DENIED(RLIMITS, EPERM) },
	{ "madvise: KSM", F(ksm), ALONE("who else runs is not read by it; hosts of strangers turn KSM off, as doctor says") },
	{ "more memory than granted", F(memfds), .next = "memory.max: the VM alone is killed", .flags = ATTACK_APART | ATTACK_OOM },
	{ "more CPU than granted", F(spin), .passes = ON_ALL, .next = "cpu.max", .flags = ATTACK_APART | ATTACK_SPIN },
};
/* clang-format on */

const struct attack *attack_at(size_t index)
{
	return index < sizeof(attacks) / sizeof(attacks[0]) ? &attacks[index] : NULL;
}
