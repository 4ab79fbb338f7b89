"""What the benches need before they run: helpers, QEMU's initramfs, a disk for the lab."""

import os
import platform
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
ROOT = os.path.realpath(os.path.join(HERE, "../.."))
BUILD = os.path.join(ROOT, "build/bench")
IMAGE = os.path.join(ROOT, "build/images/debian.img")
PYTHON = "/usr/bin/python3"  # in the lab every wrapper around it would be read through the emulator
LAB_FILES = "/mnt/bench"
BLK_MIB = 512

CFLAGS = ["-std=gnu11", "-D_GNU_SOURCE", "-Os", "-Wall", "-Wextra", "-static", "-s",
          "-idirafter", "/usr/include", "-idirafter", f"/usr/include/{platform.machine()}-linux-gnu"]


def die(text):
    sys.exit(f"bench: {text}")


def sh(cmd, **options):
    done = subprocess.run(cmd, check=False, **options)
    if done.returncode != 0:
        die(f"{' '.join(cmd)}: status {done.returncode}")


def older(target, *sources):
    return not os.path.exists(target) or any(os.path.getmtime(target) <= os.path.getmtime(s) for s in sources)


def make_tools():
    """The static helpers, and QEMU's initramfs."""
    for name in ("stopwatch", "workload", "qemu_init"):
        source, program = os.path.join(HERE, f"{name}.c"), os.path.join(BUILD, name)
        if older(program, source):
            sh(["musl-gcc"] + CFLAGS + ["-o", program, source])
    source, program = os.path.join(ROOT, "tests/e2e/deny.c"), os.path.join(BUILD, "deny")
    if older(program, source):
        sh(["cc", "-D_GNU_SOURCE", "-O1", "-o", program, source, "-lseccomp"])
    archive, program = os.path.join(BUILD, "qemu.cpio"), os.path.join(BUILD, "qemu_init")
    if older(archive, program):
        folder = os.path.join(BUILD, "initramfs")
        os.makedirs(folder, exist_ok=True)
        shutil.copy(program, os.path.join(folder, "init"))
        with open(archive, "wb") as f:
            sh(["cpio", "--quiet", "-o", "-H", "newc", "--owner", "0:0"], input=b"init\n", stdout=f, cwd=folder)


def make_disk():
    """A folder with root.img (the Debian image and our workload in it) and blk.img, and a disk of that folder.

    O_DIRECT does not work on the lab's own file systems, so the lab gets the folder as a disk.
    """
    folder, disk = os.path.join(BUILD, "files"), os.path.join(BUILD, "disk.img")
    root, raw = os.path.join(folder, "root.img"), os.path.join(folder, "blk.img")
    workload, jobs = os.path.join(BUILD, "workload"), os.path.join(HERE, "blk.fio")
    nginx = os.path.join(HERE, "nginx.conf")
    if not older(disk, IMAGE, workload, jobs, nginx):
        return folder, disk
    os.makedirs(folder, exist_ok=True)
    sh(["cp", "--sparse=always", IMAGE, root])
    script = f"mkdir bench\nwrite {workload} bench/workload\nset_inode_field bench/workload mode 0100755\n" \
             f"write {jobs} bench/blk.fio\nwrite {nginx} bench/nginx.conf\n"
    sh(["debugfs", "-w", "-f", "-", root], input=script.encode(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(raw, "wb") as f:
        for _ in range(BLK_MIB):
            f.write(os.urandom(1 << 20))  # random: nothing on the way can take a hole for it
    size = os.path.getsize(root) + os.path.getsize(raw) + (128 << 20)
    temporary = disk + ".tmp"
    with open(temporary, "wb") as f:
        f.truncate(size)
    sh(["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-d", folder, temporary])
    os.rename(temporary, disk)
    return folder, disk


def check_parts():
    for path, how in ((os.path.join(ROOT, "build/release/mvm"), "make all"),
                      (os.path.join(ROOT, "build/release/agent.cpio"), "make all"),
                      (os.path.join(ROOT, "build/kernel/vmlinux"), "make kernel"),
                      (os.environ.get("TWIN", os.path.join(ROOT, "build/kernel/vmlinux-qemu")), "make kernel-qemu"),
                      (IMAGE, "make image")):
        if not os.path.exists(path):
            die(f"{path} is missing: {how}")


def lab_command(options, disk, results, icount):
    cmd = [options.lab, "--disk", disk, "--results", results, "--timeout", str(options.timeout)]
    if icount:
        cmd += ["--icount", "--smp", "1"]
    for name in ("MVM", "TWIN", "BENCH_DOTS"):
        if name in os.environ:
            cmd += ["--env", f"{name}={os.environ[name]}"]
    return cmd + ["--"]
