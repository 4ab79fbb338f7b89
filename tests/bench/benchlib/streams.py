"""Streams: the workload's stdout and stdin through the VMM, in MB/s."""

from benchlib.runs import Broken, interleave, paired_ratio, stopwatch, summary
from benchlib.vmms import WORKLOAD, Mvm, Qemu

VSOCK_PORT = 5033


def run(files, options, progress):
    vmms = {"mvm": Mvm(files), "qemu-vhost": Qemu(files, vsock_port=VSOCK_PORT), "qemu": Qemu(files)}
    vmms["qemu"].name = "QEMU, virtio-console"
    size = options.stream_mib << 20
    found = {"mib": options.stream_mib, "skipped": {}, "cases": {}, "commands": {}}

    def once(name, verb):
        vmm = vmms[name]
        port = getattr(vmm, "vsock_port", None) or 0
        # The console port moves at most a few KiB at a time; less is enough to know its rate.
        n = size // 8 if name == "qemu" else size
        report = stopwatch(files, vmm.command([WORKLOAD, verb, str(n)], stdin=verb == "sink"),
                           feed=n if verb == "sink" else 0, vsock_port=port, expect="ready\n")
        if verb == "source" and name == "qemu":
            # QEMU drops what still waited in its port when the guest ended; the rate is of what came.
            n = report["bytes"] - len("ready\n")
        elif verb == "source" and report["bytes"] != n + len("ready\n"):
            raise Broken(f"{vmm.name}: {report['bytes']} bytes arrived of {n}")
        if verb == "sink" and not report["text"].endswith("done\n"):
            raise Broken(f"{vmm.name}: the guest did not get all bytes: {report['text']}")
        return n * 1e3 / (report["last"] - report["ready"])  # bytes per ns, as MB/s

    try:
        once("qemu-vhost", "source")
    except Broken as e:
        found["skipped"]["qemu-vhost"] = str(e)
        del vmms["qemu-vhost"]
    for verb, title in (("source", "guest to host"), ("sink", "host to guest")):
        results = interleave(vmms, options.stream_pairs, lambda name: once(name, verb), progress)
        found["cases"][title] = {name: summary(v) | {"name": vmms[name].name, "ratio": paired_ratio(results["mvm"], v)}
                                 for name, v in results.items()}
        found["commands"][title] = {name: v.command([WORKLOAD, verb, str(size)], stdin=verb == "sink")
                                    for name, v in vmms.items()}
    return found


def show(found, out):
    out.title(f"streams of {found['mib']} MiB between workload and host: MB/s, medians")
    table = [("", "", "MB/s", "mvm's ratio to it")]
    for title, rows in found["cases"].items():
        for row in rows.values():
            table.append((title, row["name"], f"{row['median']:.0f}", f"{row['ratio']:.2f}"))
    out.table(table)
    for name, why in found["skipped"].items():
        out.line(f"{name} skipped: {why}")
