"""A look at a process from outside: what /proc says of it."""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
import socket
import stat
import termios
from pathlib import Path

_PIDFD_GETFD = 438  # on every architecture


def memory(pid: int) -> int:
    """Resident memory in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def descriptors(pid: int) -> int:
    """How many are open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def children(pid: int) -> list[int]:
    """The processes that it has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu_seconds(pid: int) -> float:
    """User and system time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def catches_hangups(pid: int) -> bool:
    """Whether SIGHUP no longer ends the process."""
    masks = dict(
        line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line[:3] == "Sig"
    )
    return bool((int(masks["SigIgn"], 16) | int(masks["SigCgt"], 16)) & 1)


def has_been_told(pid: int) -> bool:
    """Whether something lies unread in one of its Unix sockets: its parent has told it something. Root may look."""
    process = os.pidfd_open(pid)
    try:
        for descriptor in map(int, os.listdir(f"/proc/{pid}/fd")):
            copy = ctypes.CDLL(None).syscall(_PIDFD_GETFD, process, descriptor, 0)
            if copy < 0:
                continue
            try:
                if _has_unread(copy):
                    return True
            finally:
                os.close(copy)
    finally:
        os.close(process)
    return False


def _has_unread(descriptor: int) -> bool:
    """Whether it is a Unix socket with something to read."""
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return False
    with socket.socket(fileno=os.dup(descriptor)) as copy:
        if copy.family != socket.AF_UNIX or copy.type != socket.SOCK_STREAM:
            return False
        count = array.array("i", [0])
        fcntl.ioctl(copy, termios.FIONREAD, count)
        return count[0] > 0
