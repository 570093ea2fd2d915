"""Writers take turns: SQLite lets them wait by looking again and again, and whoever looks at the right time is next.

Where many write without a pause one of them would wait for ever. So only one at a time looks: who holds a lock
(``flock``), for which the system lets the others queue. Who has written and wants to write again is the last of them.
The lock protects nothing: without it all is as right, and less fair.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import apsw

try:
    import fcntl
except ImportError:  # Windows: there they wait as SQLite has it
    fcntl = None  # type: ignore[assignment]


T = TypeVar("T")
_LOOK_EVERY_S = 0.001


def in_turn(path: Path, timeout_s: float, act: Callable[[], T]) -> T:
    """Be the one who looks while something is done, and give what that gives.

    Who does not come to be it in time looks as well.

    The lock lies on the -wal file, which is there as long as anybody has the file open, and on which SQLite itself
    never takes one: closing a descriptor of the workspace or of its -shm would drop SQLite's.
    """
    descriptor = -1
    try:
        if fcntl is not None and timeout_s > 0:
            with suppress(OSError):  # nobody else is there
                descriptor = os.open(f"{path}-wal", os.O_RDONLY)
        if descriptor >= 0:
            lock_within(descriptor, timeout_s)
        return act()
    finally:
        if descriptor >= 0:
            # Not by a function: an interrupt at its beginning would leave the lock to this process for ever.
            try:  # noqa: SIM105
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            except OSError:
                pass
            os.close(descriptor)


def begin(connection: apsw.Connection, path: Path, timeout_s: float, usual_timeout_s: float) -> None:
    """Begin a transaction that writes, when it is one's turn; apsw.BusyError when that does not come in time."""
    deadline = time.monotonic() + timeout_s

    def look() -> None:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except apsw.BusyError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_LOOK_EVERY_S)

    connection.set_busy_timeout(0)
    try:
        in_turn(path, timeout_s, look)
    finally:
        connection.set_busy_timeout(int(usual_timeout_s * 1000))


def lock_within(descriptor: int, timeout_s: float) -> bool:
    """Take the exclusive lock of a file or folder, in the order of those who wait; tell whether it was had in time.

    A file system without such locks has it at once.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return timeout_s > 0 and _Waiting(descriptor).lasts(timeout_s)
    except OSError:
        return True


class _Waiting:
    """A thread that stands in the queue: only who waits without end keeps a place, and this can be given up."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = os.dup(descriptor)  # of the same lock; the caller may close its own meanwhile
        self._guard = threading.Lock()
        self._granted = self._given_up = False
        self._thread = threading.Thread(target=self._wait, daemon=True)

    def lasts(self, timeout_s: float) -> bool:
        try:
            self._thread.start()
            self._thread.join(timeout_s)
        finally:
            with self._guard:
                self._given_up = not self._granted
        return self._granted

    def _wait(self) -> None:
        with suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        with self._guard:
            if self._given_up:
                unlock(self._descriptor)
            else:
                self._granted = True
                os.close(self._descriptor)


def unlock(descriptor: int) -> None:
    """Give a lock back; closing alone would leave it to a child that was forked meanwhile."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
