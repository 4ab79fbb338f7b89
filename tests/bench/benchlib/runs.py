"""Running one command under the stopwatch, and the small statistics of paired runs."""

import functools
import json
import os
import signal
import statistics
import subprocess
import tempfile

RUN_TIMEOUT = 120  # seconds; a run that hangs is a failure, not a slow one
TRIES = 4


class Broken(Exception):
    """A run did not do what it was started for: the bench fails, with this reason."""


class Stuck(Broken):
    """The run went on for ever, or its guest's CPU reset itself, as a lab's emulated CPU makes of some (README.md)."""


repeated = []  # what was Stuck and done again, for the report


def again_if_stuck(run):
    """A decorator: `run` again where it was Stuck, TRIES times in all, which is told in the report."""
    @functools.wraps(run)
    def patient(*args, **options):
        for _ in range(TRIES - 1):
            try:
                return run(*args, **options)
            except Stuck as e:
                repeated.append(" ".join(str(e).split())[:500])
        return run(*args, **options)
    return patient


def start(cmd):
    """The command, its output a pipe. Its stdin is open and silent: at its end QEMU would close the port that the guest writes to."""
    read, write = os.pipe()
    child = subprocess.Popen(cmd, stdin=read, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    os.close(read)
    child.silence = write
    return child


def whole_output(child, silent=False):
    """All that a child of start() prints; Stuck when that does not end in time, or (unless silent) is nothing."""
    cmd = " ".join(child.args)
    try:
        text = child.communicate(timeout=RUN_TIMEOUT)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        child.kill()
        try:
            child.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            cmd += " (which goes on after SIGKILL)"
        raise Stuck(f"{cmd}: no end within {RUN_TIMEOUT} s") from None
    finally:
        os.close(child.silence)
    if "triple fault" in text or not (text or silent):  # QEMU says nothing when it is reset
        raise Stuck(f"{cmd}: {text[:500] or 'it said nothing'}")
    return text


@again_if_stuck
def stopwatch(files, cmd, feed=0, vsock_port=0, expect=""):
    """Runs cmd; the stopwatch's report as a dict. Broken when the output does not hold `expect`."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "report")
        err = os.path.join(folder, "stderr")
        args = [files.stopwatch, "-o", out] + (["-f", str(feed)] if feed else []) + \
               (["-v", str(vsock_port)] if vsock_port else []) + ["--"] + cmd
        # stderr is a file: a pipe that nobody reads would stop who writes there.
        with open(err, "wb") as stderr:
            child = subprocess.Popen(args, stdin=subprocess.DEVNULL, stderr=stderr, start_new_session=True)
            try:
                child.wait(RUN_TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)  # the VMM as well
                child.wait()
                raise Stuck(f"{' '.join(cmd)}: no end within {RUN_TIMEOUT} s") from None
        with open(err, "rb") as stderr:
            complaints = stderr.read().decode(errors="replace").strip()
        if "triple fault" in complaints:
            raise Stuck(f"{' '.join(cmd)}: {complaints}")
        if child.returncode != 0:
            raise Broken(f"{' '.join(cmd)}: {complaints or child.returncode}")
        with open(out, "rb") as report:
            result = json.load(report)
    if not result["bytes"]:
        raise Stuck(f"{' '.join(cmd)}: it said nothing")
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
