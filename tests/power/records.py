"""Runs in the VM.  write: records of 4 KiB, each fsync'ed before its number is printed.
check N: prints how many records are whole from the first on; fails when there are fewer than N."""

import os
import struct
import sys
import zlib

PATH = "/var/records"


def record(n):
    body = struct.pack("<Q", n) * 511
    return body + struct.pack("<Q", zlib.crc32(body))


def write():
    fd = os.open(PATH, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    folder = os.open("/var", os.O_RDONLY)
    os.fsync(folder)
    n = 0
    while True:
        os.pwrite(fd, record(n), n * 4096)
        os.fsync(fd)
        print(n, flush=True)
        n += 1


def check(confirmed):
    n = 0
    with open(PATH, "rb") as f:
        while f.read(4096) == record(n):
            n += 1
    print(n)
    sys.exit(0 if n >= confirmed else 1)


write() if sys.argv[1] == "write" else check(int(sys.argv[2]))
