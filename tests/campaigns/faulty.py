"""Faults of the system, on demand: the n-th call that touches a file below one folder fails, or the n-th allocation.

Or somebody interrupts: at the n-th place in artifactdb's own code where Python looks whether a signal came, which is
where a function begins and where one of C's has returned.

A small library (faults.c) stands before the C library of a process of its own, so that what fails is real for SQLite,
DuckDB, Arrow and Python alike. Linux, and a C compiler, are needed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import apsw

ROOT = "ARTIFACTDB_FAULTS"
_CALLS = ["read", "write", "sync", "lock", "truncate", "open", "create", "rename", "unlink", "mkdir", "map", "memory"]
_FOR_GOOD = 1 << 60


@dataclass(frozen=True)
class Kind:
    """What goes wrong: which calls, with which error (0: they do half of what was asked), once or from then on."""

    calls: str
    error: int
    for_good: bool = False
    interrupts: bool = False


KINDS = {
    "io-error": Kind("read write sync lock truncate open create rename unlink mkdir map", errno.EIO),
    "io-errors": Kind("read write sync lock truncate open create rename unlink mkdir map", errno.EIO, for_good=True),
    "disk-full": Kind("write truncate create rename mkdir", errno.ENOSPC, for_good=True),
    "short": Kind("read write", 0, for_good=True),
    "busy": Kind("lock", errno.EAGAIN),
    "descriptors": Kind("open create", errno.EMFILE),
    "memory": Kind("memory", errno.ENOMEM),
    "memory-gone": Kind("memory", errno.ENOMEM, for_good=True),
    "interrupt": Kind("", errno.EINTR, interrupts=True),
}
_OWN = (f"{os.sep}artifactdb{os.sep}", f"{os.sep}contextlib.py")


def possible() -> bool:
    """Tell whether faults can be made here."""
    return sys.platform == "linux" and shutil.which("cc") is not None


def run(module: str, *arguments: str) -> int:
    """Run a module in a process with the library, a folder for all that it keeps, and nobody's keys; give its code."""
    with tempfile.TemporaryDirectory(prefix="artifactdb-faults-") as folder:
        root = Path(folder).resolve()
        library = root / "faults.so"
        source = Path(__file__).with_name("faults.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        for name in ("work", "work/tmp", "work/home"):
            (root / name).mkdir()
        environment = {
            **os.environ, "LD_PRELOAD": str(library), ROOT: str(root / "work"), "TMPDIR": str(root / "work" / "tmp"),
            "ARTIFACTDB_HOME": str(root / "work" / "home"), "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1",
        }  # fmt: skip
        environment.pop("ARTIFACTDB_TRUST", None)
        code = subprocess.run([sys.executable, "-m", module, *arguments], env=environment, check=False).returncode
        if code < 0:
            print(f"FAILED: the process died of signal {-code} at {(root / 'last').read_text(encoding='ascii')}")
        return code


class Faults:
    """Tells the library what is to fail; for a process that ``run`` started."""

    def __init__(self) -> None:
        self.root = Path(os.environ[ROOT])
        self._library = ctypes.CDLL(None)
        self._library.faults_said.restype = ctypes.c_char_p
        self._library.faults_met.restype = ctypes.c_long
        self._library.faults_arm.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
        self._library.faults_watch.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p]
        places = [
            int(place, 16)
            for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
            if line.endswith(apsw.__file__)
            for place in line.split()[0].split("-")
        ]
        self._interrupted = ""
        self._library.faults_watch(os.fsencode(self.root), min(places), max(places))

    def arm(self, kind: Kind, n: int) -> None:
        """Let the n-th call of a kind from now on fail."""
        self._interrupted = ""
        if kind.interrupts:
            self._interrupt(n)
            return
        calls = sum(1 << _CALLS.index(call) for call in kind.calls.split())
        self._library.faults_arm(calls, kind.error, n, _FOR_GOOD if kind.for_good else n)

    def disarm(self) -> str:
        """Let nothing fail any more; say which call failed first, or nothing."""
        sys.setprofile(None)
        if self._interrupted:
            return self._interrupted
        self._library.faults_disarm()
        return os.fsdecode(self._library.faults_said()) if self._library.faults_met() else ""

    def _interrupt(self, n: int) -> None:
        left = n

        def look(frame: FrameType, event: str, _: Any) -> None:
            nonlocal left
            if event not in ("call", "c_return") or not any(own in frame.f_code.co_filename for own in _OWN):
                return
            left -= 1
            if not left:
                sys.setprofile(None)
                place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}"
                self._interrupted = f"{'the beginning' if event == 'call' else 'behind a call'} of {place}"
                raise KeyboardInterrupt

        sys.setprofile(look)
