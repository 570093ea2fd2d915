"""Which process carries out a run, and whether it is still there: a killed one cannot say that it ended."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from pathlib import Path


def this_process() -> str:
    """Name this process so that another can tell whether it is still there, as JSON."""
    pid = os.getpid()
    return json.dumps(
        {"host": socket.gethostname(), "boot": _boot(), "namespace": _namespace(), "pid": pid, "start": _start(pid)}
    )


def has_ended(process: str | None) -> bool:
    """Tell whether a process is known to have ended; one of another machine or container is not."""
    if process is None:
        return False
    named = json.loads(process)
    if not isinstance(named, dict):
        return True
    if named.get("host") != socket.gethostname():
        return False
    if named.get("boot") != _boot():
        return True
    if _is_of_other_numbers(named):
        return False
    pid = named.get("pid")
    return not isinstance(pid, int) or not _is_there(pid) or _start(pid) != named.get("start")


def named(process: str | None) -> tuple[str, bool]:
    """Give how a process is called, and whether nobody here can tell whether it is still there."""
    found = json.loads(process) if process else None
    if not isinstance(found, dict):
        return "another process", False
    host, pid = str(found.get("host"))[:100], str(found.get("pid"))[:20]
    return f"process {pid} on {host}", host != socket.gethostname() or _is_of_other_numbers(found) or not _CAN_TELL


_CAN_TELL = os.name == "posix"
"""Elsewhere there is no signal that asks only: 0 is what Ctrl-C sends."""


def _is_there(pid: int) -> bool:
    if not _CAN_TELL:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # somebody else's
    return True


def _is_of_other_numbers(named: dict[str, object]) -> bool:
    """Tell whether a process was numbered where its number says nothing here; earlier versions did not name where."""
    return named.get("namespace", _namespace()) != _namespace()


def _namespace() -> str:
    """Give in which space of Linux a process has its number: a container has one of its own, whatever its host name."""
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _start(pid: int) -> str:
    """Give when a process started, in ticks since the boot; a number is given to another process later."""
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    return ""
