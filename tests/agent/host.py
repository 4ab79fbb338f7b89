"""The host's side of the agent's protocol, and a sandbox that is a guest's initramfs to the agent.

The agent runs as pid 1 of a pid namespace, on a tmpfs that is the root of a mount namespace; vsock
ports are abstract Unix sockets (tests/agent/dial_unix.c). Nothing here may be used by mvm itself:
it believes what the agent says.
"""
import ctypes
import os
import select
import shutil
import signal
import socket
import struct
import tempfile
import time

HELLO, SETUP, EXEC, SIGNAL, RESIZE, SHUTDOWN, TOP, STAT, NET, PUBLISH, PROXY = range(1, 12)
STARTED, FAILED, EXITED, BYE, ERROR, TOPPED, STATTED = range(32, 39)
NAMES = {1: "HELLO", 32: "STARTED", 33: "FAILED", 34: "EXITED", 35: "BYE", 36: "ERROR", 37: "TOPPED", 38: "STATTED"}
NOT_FOUND, NOT_EXECUTABLE, REFUSED = 1, 2, 3
STATUS, SIGNALLED, OOM = 1, 2, 3
MAGIC, VERSION = 0x414D564D, 8
STREAM = 0x40000000
PUBLISHED = 0x50000000
PUBLISHED_UDP = 0x50010000
PROXIED = 0x60000000
PATIENCE = 60  # seconds until a test that waits is called hung

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x20000, 0x02000000, 0x04000000
CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = 0x08000000, 0x20000000, 0x40000000
MS_REC, MS_PRIVATE, MNT_DETACH, SYS_PIVOT_ROOT = 0x4000, 1 << 18, 2, 155
libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def frame(kind, payload=b""):
    return struct.pack("<IHH", len(payload), kind, 0) + payload


def text(*strings):
    return b"".join(s.encode() if isinstance(s, str) else s for s in strings for s in (s, b"\0"))


def hello(magic=MAGIC, version=VERSION):
    return frame(HELLO, struct.pack("<IHH", magic, version, 0) + text("test"))


def setup(device, fstype, hostname="guest", rw=False, scratch=0, pids=0):
    return frame(SETUP, struct.pack("<IIQ", int(rw), pids, scratch) + text(device, fstype, hostname))


def publish(port, kind=0):
    return frame(PUBLISH, struct.pack("<HH", port, kind))


def datagram(data):
    return struct.pack("<H", len(data)) + data


def proxy(port, zero=0):
    return frame(PROXY, struct.pack("<HH", port, zero))


def execute(argv, env=(), cwd="", user="", ports=(STREAM, STREAM + 1, STREAM + 2), tty=None, session=1, copy=False):
    rows, cols = tty or (0, 0)
    head = struct.pack("<IIIIIHHII", session, int(tty is not None) | copy << 1, *ports, rows, cols, len(argv), len(env))
    return frame(EXEC, head + text(cwd, user, *argv, *env))


def enter_sandbox(agent, token):
    """In the child, already pid 1 of its namespace: becomes the agent on an empty root."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # the kernel starts init with defaults, Python ignores it
    libc.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC)
    check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
    root = b"/tmp"
    check(libc.mount(b"initramfs", root, b"tmpfs", 0, None))
    shutil.copy(agent, "/tmp/init")
    os.chmod("/tmp/init", 0o755)
    os.mkdir("/tmp/old")
    check(libc.syscall(SYS_PIVOT_ROOT, root, b"/tmp/old"))
    os.chdir("/")
    check(libc.umount2(b"/old", MNT_DETACH))
    os.rmdir("/old")
    os.execve("/init", ["/init"], {"MVM_TEST_TOKEN": token})


class Guest:
    """One run of the agent. Listens on every port that a test may name before the agent starts."""

    def __init__(self, agent, ports=(STREAM, STREAM + 1, STREAM + 2), console=None, wrap=None):
        self.token = "%d-%d" % (os.getpid(), time.monotonic_ns())
        self.listeners = {p: self.listen(p) for p in (1, *ports)}
        self.buffer = b""
        self.status = None
        self.console = tempfile.TemporaryFile() if console is None else console
        reader, writer = os.pipe()
        self.parent = os.fork()
        if self.parent == 0:  # unshare(CLONE_NEWPID) concerns children: one more fork
            try:
                check(libc.unshare(CLONE_NEWPID))
                child = os.fork()
                if child == 0:
                    os.dup2(os.open("/dev/null", os.O_RDWR), 0)
                    os.dup2(self.console.fileno(), 1)
                    os.dup2(self.console.fileno(), 2)
                    os.closerange(3, 1024)
                    enter_sandbox(agent, self.token)
                os.write(writer, struct.pack("<i", child))
                os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255)
            finally:
                os._exit(99)
        os.close(writer)
        self.pid = struct.unpack("<i", os.read(reader, 4))[0]
        os.close(reader)
        self.control = self.accept(1)

    def listen(self, port):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.bind("\0mvm-agent-test/%s/%u" % (self.token, port))
        s.listen(300)
        s.settimeout(PATIENCE)
        return s

    def accept(self, port):
        s = self.listeners[port].accept()[0]
        s.settimeout(PATIENCE)
        return s

    def client(self, port, base=PUBLISHED):
        """A connection to a published port, as the host makes one."""
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.settimeout(PATIENCE)
        s.connect("\0mvm-agent-test/%s/%u" % (self.token, base + port))
        return s

    def send(self, *frames):
        self.control.sendall(b"".join(frames))

    def receive(self):
        """The next (type, payload); (None, b"") at end-of-file."""
        while True:
            if len(self.buffer) >= 8:
                length, kind, zero = struct.unpack_from("<IHH", self.buffer)
                assert zero == 0 and length <= 64 << 10, "agent's header"
                if len(self.buffer) >= 8 + length:
                    payload, self.buffer = self.buffer[8 : 8 + length], self.buffer[8 + length :]
                    return kind, payload
            try:
                data = self.control.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                return None, b""
            self.buffer += data

    def expect(self, kind):
        got, payload = self.receive()
        assert got == kind, "expected %s, got %s %r" % (NAMES[kind], NAMES.get(got), payload)
        return payload

    def greet(self):
        magic, version, _ = struct.unpack_from("<IHH", self.expect(HELLO))
        assert (magic, version) == (MAGIC, VERSION)

    def exited(self):
        fields = struct.unpack("<IIIIQQQ", self.expect(EXITED))
        return dict(zip(("session", "kind", "value", "zero", "user_us", "sys_us", "peak"), fields))

    def failed(self):
        payload = self.expect(FAILED)
        session, reason, error, _ = struct.unpack_from("<IIII", payload)
        return reason, error, payload[16:-1].decode()

    def end(self):
        """Ends the 'VM' as the host does after BYE, and collects the agent."""
        self.control.close()
        for s in self.listeners.values():
            s.close()
        self.status = os.waitpid(self.parent, 0)[1]

    def kill(self):
        if self.status is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.end()

    def console_text(self):
        self.console.seek(0)
        return self.console.read().decode(errors="replace")


def read_all(streams):
    """Reads several sockets to their ends at once: {socket: bytes}."""
    got = {s: b"" for s in streams}
    left = set(streams)
    while left:
        ready = select.select(list(left), [], [], PATIENCE)[0]
        assert ready, "nothing came for %d s" % PATIENCE
        for s in ready:
            data = s.recv(1 << 16)
            if data:
                got[s] += data
            else:
                left.discard(s)
    return got
