"""virtio-blk: fio in the guest on a raw disk, direct=1."""

import json

from benchlib.runs import Broken, again_if_stuck, drop_caches, paired_ratio, start, summary, whole_output
from benchlib.vmms import Mvm, Qemu

JOBS = {  # of blk.fio: (title, fio's key, unit)
    "seqread": ("sequential read, 1 MiB", ("read", "bw_bytes"), "MB/s"),
    "randread1": ("4 KiB random read, QD 1", ("read", "iops"), "IOPS"),
    "randread32": ("4 KiB random read, QD 32", ("read", "iops"), "IOPS"),
    "seqwrite": ("sequential write, 1 MiB, fsync at the end", ("write", "bw_bytes"), "MB/s"),
}


@again_if_stuck
def fio(vmm, files, job):
    cmd = vmm.command(["fio", "--output-format=json", f"--section={job}", "/bench/blk.fio"], disk=files.blk)
    text = whole_output(start(cmd))
    try:
        # fio prefaces its JSON with warnings.
        return json.loads(text[text.index("{"):text.rindex("}") + 1])["jobs"][0]
    except (ValueError, KeyError, IndexError) as e:
        raise Broken(f"{' '.join(cmd)}: {e}: {text[:500]}") from None


def warm(path):
    with open(path, "rb", buffering=0) as f:
        while f.read(1 << 20):
            pass


def run(files, options, progress):
    """Cold: the host's page cache empty, against cache=none. Warm: the disk in it, against cache=writeback."""
    found = {"jobs": {}, "caches_dropped": True}
    for state, other in (("cold", Qemu(files)), ("warm", Qemu(files, cache="writeback"))):
        vmms = {"mvm": Mvm(files), "qemu": other}
        for job, (title, (kind, key), unit) in JOBS.items():
            values = {name: [] for name in vmms}
            for _ in range(options.blk_pairs):
                for name, vmm in vmms.items():
                    if not drop_caches():
                        found["caches_dropped"] = False
                    if state == "warm":
                        warm(files.blk)
                    values[name].append(fio(vmm, files, job)[kind][key])
                    progress()
            found["jobs"][f"{job}, {state}"] = {
                "title": title, "state": state, "unit": unit,
                "mvm": summary(values["mvm"]), "qemu": summary(values["qemu"]),
                "ratio": paired_ratio(values["mvm"], values["qemu"])}
    found["commands"] = {"mvm": Mvm(files).command(["fio"], disk=files.blk),
                         "qemu": Qemu(files).command(["fio"], disk=files.blk)}
    return found


def show(found, out):
    out.title("virtio-blk: fio in the guest, libaio, direct=1, on a raw disk")
    table = [("", "host's page cache", "mvm", "QEMU", "", "ratio", "QEMU's")]
    for row in found["jobs"].values():
        scale = 1e6 if row["unit"] == "MB/s" else 1
        table.append((row["title"], row["state"], f"{row['mvm']['median'] / scale:.0f}",
                      f"{row['qemu']['median'] / scale:.0f}", row["unit"], f"{row['ratio']:.2f}",
                      "cache=none" if row["state"] == "cold" else "cache=writeback"))
    out.table(table)
    if not found["caches_dropped"]:
        out.line("The host's page cache could not be emptied (that needs root): 'cold' is not cold.")
