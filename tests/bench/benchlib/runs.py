"""Running one command under the stopwatch, and the small statistics of paired runs."""

import json
import os
import statistics
import subprocess
import tempfile

RUN_TIMEOUT = 120  # seconds; a run that hangs is a failure, not a slow one


class Broken(Exception):
    """A run did not do what it was started for: the bench fails, with this reason."""


def stopwatch(files, cmd, feed=0, vsock_port=0, expect=""):
    """Runs cmd; the stopwatch's report as a dict. Broken when the output does not hold `expect`."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "report")
        err = os.path.join(folder, "stderr")
        args = [files.stopwatch, "-o", out] + (["-f", str(feed)] if feed else []) + \
               (["-v", str(vsock_port)] if vsock_port else []) + ["--"] + cmd
        # stderr is a file: a pipe that nobody reads would stop who writes there.
        with open(err, "wb") as stderr:
            try:
                done = subprocess.run(args, stdin=subprocess.DEVNULL, stderr=stderr, timeout=RUN_TIMEOUT)
            except subprocess.TimeoutExpired:
                raise Broken(f"{' '.join(cmd)}: no end within {RUN_TIMEOUT} s") from None
        with open(err, "rb") as stderr:
            complaints = stderr.read().decode(errors="replace").strip()
        if done.returncode != 0:
            raise Broken(f"{' '.join(cmd)}: {complaints or done.returncode}")
        with open(out, "rb") as report:
            result = json.load(report)
    if result["status"] != 0 or expect not in result["text"]:
        raise Broken(f"{' '.join(cmd)}: status {result['status']}, output '{result['text']}', stderr '{complaints}'")
    return result


def interleave(names, rounds, run, progress):
    """Runs every name once per round, A B C A B C …; a first round, discarded, warms the caches."""
    results = {name: [] for name in names}
    for turn in range(rounds + 1):
        for name in names:
            result = run(name)
            if turn > 0:
                results[name].append(result)
            progress()
    return results


def summary(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


def paired_ratio(ours, theirs):
    """The median of the ratios within each round: what disturbs a whole round falls out."""
    return statistics.median(a / b for a, b in zip(ours, theirs) if b)


def pids_named(prefixes):
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/comm", encoding="utf-8", errors="replace") as f:
                    name = f.read().strip()
            except OSError:
                continue
            if name.startswith(prefixes):
                found[int(entry)] = name
    return found


def drop_caches():
    """Whether the host's page cache could be emptied; that needs root."""
    try:
        os.sync()
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
            f.write("3\n")
        return True
    except OSError:
        return False
