"""Memory and CPU time of the processes beside the guest, while the guest runs and idles."""

import copy
import json
import os
import subprocess
import tempfile
import time

from benchlib.runs import Broken, RUN_TIMEOUT, pids_named, summary
from benchlib.vmms import MEMORY_MIB, WORKLOAD, Mvm, Qemu


def mappings(pid):
    """(start, end, permissions, name, Pss in bytes) of every mapping of a process."""
    found = []
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as f:
        for line in f:
            words = line.split()
            if not words[0].endswith(":"):
                start, end = (int(x, 16) for x in words[0].split("-"))
                found.append([start, end, words[1], words[5] if len(words) > 5 else "", 0])
            elif words[0] == "Pss:":
                found[-1][4] = int(words[1]) * 1024
    return found


def split_pss(pid):
    """(Pss beside the guest's RAM, resident guest RAM) in bytes.

    Guest RAM is what is mapped writable in one unbroken run at least as long as the guest's memory;
    nothing else of a VMM is. It may consist of several mappings (a kernel mapped from its file).
    """
    maps = mappings(pid)
    beside = guest = 0
    i = 0
    while i < len(maps):
        j = i
        while j + 1 < len(maps) and maps[j + 1][0] == maps[j][1] and "w" in maps[j][2] and "w" in maps[j + 1][2]:
            j += 1
        pss = sum(m[4] for m in maps[i:j + 1])
        if maps[j][1] - maps[i][0] >= MEMORY_MIB << 20 and "w" in maps[i][2]:
            guest += pss
        else:
            beside += pss
        i = j + 1
    return beside, guest


def cpu_ns(pid):
    """CPU time of a process by thread, exact: {comm: ns}."""
    times = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{tid}/comm", encoding="utf-8", errors="replace") as f:
                name = f.read().strip()
            with open(f"/proc/{pid}/task/{tid}/schedstat", encoding="ascii") as f:
                times[name] = times.get(name, 0) + int(f.read().split()[0])
        except OSError:
            continue  # a worker that ended meanwhile
    return times


def filters(pid):
    """How many seccomp programs a process is under."""
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Seccomp_filters:"))


def observe(vmm, cmd):
    before = pids_named(vmm.processes)
    child = subprocess.Popen(cmd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        if b"ready" not in child.stdout.readline():
            raise Broken(f"{' '.join(cmd)}: no word from the workload")
        time.sleep(1)  # idle means that what the start left behind has settled
        found = {}
        for pid, name in pids_named(vmm.processes).items():
            if pid not in before:
                beside, guest = split_pss(pid)
                found[name] = {"pss": beside, "guest": guest, "cpu": cpu_ns(pid), "filters": filters(pid)}
        return found
    finally:
        child.terminate()
        try:
            child.communicate(timeout=RUN_TIMEOUT)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()


def elf_sizes(files):
    """Stripped size of mvm-vmm, and the code in it that is our own."""
    folder = os.path.dirname(files.mvm)
    program = os.path.join(folder, "mvm-vmm")
    with tempfile.TemporaryDirectory() as temporary:
        copy = os.path.join(temporary, "mvm-vmm")
        subprocess.run(["strip", "-o", copy, program], check=True)
        stripped = os.path.getsize(copy)
    objects = [os.path.join(folder, "libvmm.a"), os.path.join(folder, "vmm/main.o")]
    lines = subprocess.run(["size"] + objects, check=True, capture_output=True, text=True).stdout.splitlines()[1:]
    return {"stripped": stripped, "own_text": sum(int(line.split()[0]) for line in lines)}


class Bare:
    """The hooks build with as little of the jail as it starts with: no seccomp programs, no cgroup, no Landlock."""

    HIDE = 'mount -t tmpfs none /sys/fs/cgroup; exec "$@"'

    def __init__(self, files, vmm):
        self.files, self.vmm, self.processes = files, vmm, vmm.processes

    def command(self, args, options=()):
        options = (*options, "--allow-missing", "cgroup,landlock,landlock-net,lsm")
        return ["unshare", "--mount", "env", "MVM_TEST_NO_SECCOMP=1", "sh", "-ec", self.HIDE, "sh", self.files.deny,
                "landlock_create_ruleset=ENOSYS", "--"] + self.vmm.command(args, options=options)


def jail_difference(files, progress):
    """What supervisor and VMM take with the whole jail, and with what of it can be left out left out."""
    if not os.path.exists(files.hooks):
        return {"skipped": "no hooks build (make VARIANT=hooks all)"}
    if os.geteuid() != 0:
        return {"skipped": "only root can hide the cgroups"}
    hooks = copy.copy(files)
    hooks.mvm = files.hooks
    whole = Mvm(hooks)
    sums, programs, found = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        receipt = os.path.join(folder, "receipt")
        for name, vmm in (("whole", whole), ("bare", Bare(files, whole))):
            cmd = vmm.command([WORKLOAD, "idle"], options=("--receipt", receipt))
            runs = []
            for _ in range(4):
                runs.append(observe(vmm, cmd))
                progress()
            sums[name] = [sum(row["pss"] for process, row in r.items() if process != "mvm") for r in runs[1:]]
            programs[name] = max(row["filters"] for row in runs[-1].values())
            with open(receipt, encoding="utf-8") as f:
                found[f"missing_{name}"] = json.load(f)["isolation"]["missing"]
            os.unlink(receipt)
    missing = [layer for layer in found["missing_bare"] if layer not in found["missing_whole"]]
    # `deny` is a program of its own.
    if programs["bare"] >= programs["whole"] or not {"cgroup", "landlock"} <= set(found["missing_bare"]):
        raise Broken(f"the jail was not left out: {programs} seccomp programs, missing: {missing}")
    return found | {"left_out": ["seccomp", *missing], "whole": summary(sums["whole"]), "bare": summary(sums["bare"])}


def run(files, options, progress):
    vmms = {"mvm": Mvm(files), "qemu": Qemu(files)}
    found = {"vmms": {}, "sizes": elf_sizes(files)}
    for name, vmm in vmms.items():
        cmd = vmm.command([WORKLOAD, "idle"])
        runs = []
        for turn in range(4):
            result = observe(vmm, cmd)
            progress()
            if turn > 0:
                runs.append(result)
        rows = {}
        for process in runs[0]:
            same = [r[process] for r in runs if process in r]
            threads = {t for r in same for t in r["cpu"]}
            rows[process] = {"pss": summary([r["pss"] for r in same]), "guest": summary([r["guest"] for r in same]),
                             "cpu": {t: summary([r["cpu"].get(t, 0) for r in same]) for t in sorted(threads)}}
        found["vmms"][name] = rows
    ours = found["vmms"]["mvm"]
    found["supervisor_and_vmm"] = sum(row["pss"]["median"] for name, row in ours.items() if name != "mvm")
    found["jail"] = jail_difference(files, progress)
    return found


def show(found, out):
    out.title(f"memory beside a running, idle guest of {MEMORY_MIB} MiB, and CPU time until then")
    table = [("process", "Pss KiB", "guest RAM MiB", "CPU ms by thread")]
    for rows in found["vmms"].values():
        for name, row in rows.items():
            threads = ", ".join(f"{t} {out.ms(v['median'])}" for t, v in row["cpu"].items() if v["median"] > 0)
            table.append((name, f"{row['pss']['median'] / 1024:.0f}", f"{row['guest']['median'] / 2**20:.1f}", threads))
    out.table(table)
    total = {name: sum(row["pss"]["median"] for row in rows.values()) for name, rows in found["vmms"].items()}
    out.line(f"supervisor and VMM: {found['supervisor_and_vmm'] / 2**20:.2f} MiB beside the guest's RAM "
             f"(all of mvm {total['mvm'] / 2**20:.2f}, QEMU {total['qemu'] / 2**20:.2f}, "
             f"ratio {total['mvm'] / total['qemu']:.3f})")
    sizes = found["sizes"]
    out.line(f"mvm-vmm stripped: {sizes['stripped'] / 1e6:.2f} MB, our own text in it at most {sizes['own_text'] / 1e3:.0f} KB")
    jail = found["jail"]
    if "skipped" in jail:
        out.line(f"the jail's memory: skipped: {jail['skipped']}")
        return
    whole, bare = (jail[k]["median"] / 2**20 for k in ("whole", "bare"))
    out.line(f"supervisor and VMM of the hooks build: {whole:.2f} MiB with the whole jail, {bare:.2f} MiB without "
             f"{', '.join(jail['left_out'])}: the difference is {whole - bare:+.2f} MiB")
