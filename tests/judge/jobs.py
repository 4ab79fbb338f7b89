"""One untrusted program in one microVM, with limits, its output bounded and its verdict told: an example to copy.

    result = run(Job(["python3", "-c", submission], rootfs="python.img", memory="128m", timeout="10s"))
    if result.verdict == "exited" and result.status == 0: ...

It needs the `mvm` command and nothing else. Any number of threads may call run() at once; each call leaves
nothing behind, however the program ended.
"""

import dataclasses
import json
import os
import subprocess
import tempfile
import threading

OUTPUT_MAX = 64 << 10  # bytes of each of stdout and stderr that are kept; the rest is read and forgotten


@dataclasses.dataclass
class Job:
    """A program and what it may use. `options` are further ones of `mvm run`."""

    command: list
    rootfs: str
    memory: str = "96m"
    timeout: str = "60s"  # of the whole run, booting included
    pids: int = 128
    cpus: str = "1"
    options: tuple = ()


@dataclasses.dataclass
class Result:
    """How it ended: mvm's exit status, and from the receipt the verdict with its cause, and who says so."""

    status: int
    verdict: str
    cause: str
    word_of: str
    stdout: bytes
    stderr: bytes
    dropped: int  # bytes of output beyond OUTPUT_MAX
    receipt: dict


class Sink(threading.Thread):
    """Reads a pipe to its end and keeps the beginning: a flood costs time of its sender, no memory of ours."""

    def __init__(self, pipe):
        super().__init__(daemon=True)
        self.pipe, self.kept, self.dropped = pipe, b"", 0
        self.start()

    def run(self):
        with self.pipe:
            while data := self.pipe.read1(1 << 16):
                room = OUTPUT_MAX - len(self.kept)
                self.kept += data[:room]
                self.dropped += max(0, len(data) - room)


def command_line(job, mvm):
    return [mvm, "run", "--rootfs", job.rootfs, "-m", job.memory, "--timeout", job.timeout, "--pids-max", str(job.pids),
            "--cpus", job.cpus, *job.options]


def run(job, mvm="mvm"):
    """Runs the job to its end. OSError when mvm itself cannot be started."""
    # The receipt goes to a descriptor: no name that anybody else could know or guess.
    with tempfile.TemporaryFile() as receipt:
        argv = command_line(job, mvm) + ["--receipt", f"fd:{receipt.fileno()}", "--", *job.command]
        with subprocess.Popen([os.fsencode(word) for word in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, pass_fds=[receipt.fileno()]) as process:
            sinks = Sink(process.stdout), Sink(process.stderr)
            status = process.wait()  # bounded by --timeout
            for sink in sinks:
                sink.join()
        receipt.seek(0)
        told = json.loads(receipt.read() or b"{}")
    return Result(status, told.get("verdict", "none"), told.get("cause", ""), told.get("word_of", ""),
                  sinks[0].kept, sinks[1].kept, sinks[0].dropped + sinks[1].dropped, told)
