"""Cold start: from the command to the workload's first byte, and to the command's end."""

import os
import re
import subprocess

from benchlib.runs import RUN_TIMEOUT, interleave, paired_ratio, stopwatch, summary
from benchlib.vmms import WORKLOAD, Mvm, Qemu

CASES = {
    "static C program": ([WORKLOAD, "hello"], "hello "),
    "python3 -c print(6*7)": (["python3", "-c", "print(6*7)"], "42\n"),
}


JAIL_STARTS = 20


def jail(files, progress):
    """CPU ns that the jail adds to a start (jail.c), on the CPU that the cold starts ran on."""
    folder = os.path.dirname(files.mvm)
    program = os.path.join(folder, "tests/bench-jail")
    if not os.path.exists(program):
        return {"skipped": "no bench-jail (make build/release/tests/bench-jail)"}
    done = subprocess.run([program, os.path.join(folder, "mvm-vmm"), str(JAIL_STARTS)], capture_output=True, text=True,
                          check=False, timeout=RUN_TIMEOUT)
    told = re.search(r"the jail's CPU is (-?[\d.]+) ms", done.stdout)
    if done.returncode != 0 or not told:
        return {"skipped": f"{program}: status {done.returncode}: {done.stdout}{done.stderr}".rstrip()}
    progress()
    return {"ns": float(told.group(1)) * 1e6}


def run(files, options, progress):
    vmms = {"mvm": Mvm(files), "qemu": Qemu(files)}
    if not options.essential:
        vmms["mvm-twin"] = Mvm(files, kernel=files.twin)
        vmms["qemu-writeback"] = Qemu(files, cache="writeback")
    found = {"commands": {}, "cases": {}}
    for case, (args, expect) in CASES.items():
        found["commands"][case] = {name: vmm.command(args) for name, vmm in vmms.items()}
        results = interleave(vmms, options.pairs,
                             lambda name: stopwatch(files, vmms[name].command(args), expect=expect), progress)
        rows = {}
        for name, runs in results.items():
            rows[name] = {"name": vmms[name].name}
            for what in ("first", "end", "cpu_ns"):
                values = [r[what] for r in runs]
                rows[name][what] = summary(values) | {"all": values}
                rows[name][what]["ratio"] = paired_ratio(values, [r[what] for r in results["qemu"]])
            if expect == "hello ":
                # The guest's clock starts in its kernel: what came before is the VMM's and its loader's.
                clock = [int(r["text"].split()[1]) for r in runs]
                rows[name]["guest"] = summary(clock)
                rows[name]["host"] = summary([r["first"] - c for r, c in zip(runs, clock)])
            rows[name]["left"] = max(r["left"] for r in runs)
        found["cases"][case] = rows
    found["jail"] = jail(files, progress)
    return found


def show(found, out):
    for case, rows in found["cases"].items():
        out.title(f"cold start, {case}: milliseconds, medians; ratio to QEMU in the same round")
        table = [("", "first byte", "ratio", "to exit", "ratio", "CPU", "ratio", "guest's clock", "before it")]
        for row in rows.values():
            cells = [row["name"]]
            for what in ("first", "end", "cpu_ns"):
                cells += [out.ms(row[what]["median"]), f"{row[what]['ratio']:.2f}"]
            cells += [out.ms(row[k]["median"]) if k in row else "" for k in ("guest", "host")]
            table.append(tuple(cells))
        out.table(table)
    out.line("CPU: user and system time of all processes, the guest's included. guest's clock: from the guest")
    out.line("kernel's start of time to the workload's main(); before it: VMM, firmware and loader, and the way back.")
    if "skipped" in found["jail"]:
        out.line(f"the jail's share: skipped: {found['jail']['skipped']}")
        return
    ns = found["jail"]["ns"]
    for case, rows in found["cases"].items():
        whole = rows["mvm"]["cpu_ns"]["median"]
        out.line(f"the jail's share of the CPU, {case}: {out.ms(ns)} of {out.ms(whole)} ms, "
                 f"{100 * ns / whole:.1f} %")
