/* Attacks that are more than one call; each is a row's attempt() in table.c, which says what it is. */
#ifndef ESCAPE_TRIES_H
#define ESCAPE_TRIES_H

/* What the script's neighbour process (neighbour.c) offers to whoever can see it. */
#define NEIGHBOUR_ABSTRACT "mvm-escape" /* an abstract AF_UNIX name */
#define NEIGHBOUR_PORT     7777 /* TCP and UDP, loopback */
#define NEIGHBOUR_SHM      0x6d766d31 /* keys, System V, for everybody */
#define NEIGHBOUR_MSG      0x6d766d32
#define NEIGHBOUR_SEM      0x6d766d33

/* files.c */
long try_openat_fds(void);
long try_openat_above_fds(void);
long try_open_by_handle(void);
long try_openat2(void);
long try_open_tree_fds(void);
long try_chmod_disk(void);
long try_xattr_disk(void);
long try_write_read_only(void);
long try_pwritev2_read_only(void);
long try_pwritev2_beyond(void);
long try_truncate_larger(void);
long try_truncate_smaller(void);
long try_allocate_larger(void);
long try_allocate_collapse(void);
long try_zero_range_beyond(void);
long try_punch_read_only(void);
long try_unlock(void);
long try_relock_ofd(void);
long try_set_append(void);
long try_set_direct(void);
long try_set_owner(void);
long try_lease(void);
long try_ioctl_fionread(void);
long try_ioctl_fs_flags(void);
long try_ioctl_ficlone(void);
long try_ioctl_tiocsti(void);
long try_ioctl_fioasync(void);
long try_setns_fds(void);
long try_splice_disk(void);

/* kvm.c */
long try_kvm_second_vm(void);
long try_kvm_device(void);
long try_kvm_assign(void);
long try_kvm_memory(void);
long try_kvm_msrs(void);
long try_kvm_vcpu(void);
long try_kvm_irqfd(void);
long try_kvm_stats(void);

/* processes.c */
long try_fork(void);
long try_vfork(void);
long try_clone(void);
long try_clone3(void);
long try_clone_userns(void);
long try_clone_parent(void);
long try_execveat_fds(void);
long try_execveat_memfd(void);
long try_kill_each(void);
long try_kill_parent(void);
long try_tgkill_each(void);
long try_pidfd(void);
long try_sigqueue_each(void);
long try_read_each(void);
long try_write_each(void);
long try_ptrace_each(void);
long try_prlimit_each(void);
long try_capset(void);
long try_ambient(void);
long try_seccomp_allow(void);
long try_raise_limit(void);
long try_many(void);
long try_spin(void);
long try_realtime(void);

/* memory.c */
long try_exec_page(void);
long try_map_over_text(void);
long try_mremap(void);
long try_remap_pages(void);
long try_huge_map(void);
long try_brk(void);
long try_memfds(void);
long try_ksm(void);
long try_x32(void);
long try_int80(void);
long try_int80_socket(void);
long try_bpf(void);
long try_perf(void);
long try_io_uring(void);
long try_settimeofday(void);

/* sockets.c */
long try_abstract(void);
long try_unix_path(void);
long try_tcp(void);
long try_tcp6(void);
long try_udp(void);
long try_bind(void);
long try_vsock(void);
long try_link_up(void);
long try_families(void);
long try_pass_fds(void);
long try_garbage(void);
long try_too_long(void);
long try_false_end(void);

#endif
