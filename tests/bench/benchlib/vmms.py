"""The VMMs that are compared, each as the command line that runs one workload in one VM.

Pinned on all sides: the guest's memory and vCPUs, the image and how it is mounted, the command,
and the kernel (the twin has QEMU's two needs on top; mvm runs with both, so the difference shows).
"""

import os
import shutil

MEMORY_MIB = 256
WORKLOAD = "/bench/workload"

# As mvm's own (vmm/lib/cmdline.c), but for the reset: the microvm machine without an i8042 ends by a
# triple fault.
QEMU_CMDLINE = "quiet panic=-1 reboot=t no_timer_check tsc=reliable"


class Files:
    """Where the parts are; every path is absolute."""

    def __init__(self, root, disk):
        build = os.path.join(root, "build")
        self.mvm = os.environ.get("MVM", os.path.join(build, "release/mvm"))
        self.hooks = os.path.join(build, "hooks/mvm")
        self.kernel = os.path.join(build, "kernel/vmlinux")
        self.twin = os.environ.get("TWIN", os.path.join(build, "kernel/vmlinux-qemu"))
        self.stopwatch = os.path.join(build, "bench/stopwatch")
        self.deny = os.path.join(build, "bench/deny")
        self.initramfs = os.path.join(build, "bench/qemu.cpio")
        self.image = os.path.join(disk, "root.img")
        self.blk = os.path.join(disk, "blk.img")


class Link:
    """A tap of the host's for one VMM: 10.77.N.1 here, 10.77.N.2 in the guest."""

    def __init__(self, number):
        self.tap, self.host, self.guest = f"mb{number}", f"10.77.{number}.1", f"10.77.{number}.2/24"


class Mvm:
    def __init__(self, files, kernel=None, vcpus=1):
        self.name = "mvm" if kernel is None else "mvm, QEMU's kernel"
        self.files = files
        self.kernel = kernel
        self.vcpus = vcpus
        self.processes = ("mvm",)

    def command(self, args, stdin=False, disk=None, options=()):
        cmd = [self.files.mvm, "run", "--rootfs", self.files.image, "-m", f"{MEMORY_MIB}m", "-c", str(self.vcpus)]
        if self.kernel:
            cmd += ["--kernel", self.kernel]
        if stdin:
            cmd += ["-i"]
        if disk:
            cmd += ["--disk", disk]
        return cmd + list(options) + ["--"] + list(args)


class Qemu:
    """QEMU's microvm machine at its best: no legacy device, no ACPI, qboot, no option ROM.

    Debian's qemu-system-x86_64-microvm is the same QEMU with the other machines left out: 10
    libraries instead of 51 to load, so it starts far sooner and is the fairer opponent. It lacks
    vhost-vsock; where that is wanted the whole program runs (full=True).
    """

    def __init__(self, files, cache="none", vsock_port=None, vcpus=1, full=False):
        self.name = "QEMU" if cache == "none" else f"QEMU, cache={cache}"
        if vsock_port:
            self.name = "QEMU, vhost-vsock"
        self.files = files
        self.cache = cache
        self.vsock_port = vsock_port
        self.vcpus = vcpus
        small = shutil.which("qemu-system-x86_64-microvm")
        self.program = "qemu-system-x86_64" if full or vsock_port or not small else small
        self.processes = ("qemu-system-x86",)

    def drive(self, name, path, readonly):
        drive = f"if=none,id={name},file={path},format=raw,cache={self.cache},aio=threads"
        return ["-drive", drive + (",readonly=on" if readonly else ""),
                "-device", f"virtio-blk-device,drive={name},iothread=io0"]

    def command(self, args, stdin=False, disk=None, options=()):
        assert not any(" " in arg for arg in args), "qemu_init splits the command at spaces"
        variables = f'BENCH="{" ".join(args)}"' + (f" BENCH_VSOCK={self.vsock_port}" if self.vsock_port else "")
        cmd = [self.program, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
               "-M", "microvm,x-option-roms=off,pit=off,pic=off,rtc=off,isa-serial=off,acpi=off,auto-kernel-cmdline=on",
               "-accel", "kvm", "-cpu", "host", "-m", f"{MEMORY_MIB}M", "-smp", str(self.vcpus),
               "-kernel", self.files.twin, "-initrd", self.files.initramfs,
               "-append", f"{QEMU_CMDLINE} {variables}",
               "-object", "iothread,id=io0"]
        # The guest finds the devices in this order: streams first (their port comes up by messages, which
        # takes a while), then the image, which becomes /dev/vda.
        if self.vsock_port:
            cmd += ["-device", "vhost-vsock-device,guest-cid=33"]
        else:
            cmd += ["-chardev", "stdio,id=out,signal=off", "-device", "virtio-serial-device",
                    "-device", "virtserialport,chardev=out"]
        cmd += self.drive("d0", self.files.image, True)
        if disk:
            cmd += self.drive("d1", disk, False)
        return cmd + list(options)
