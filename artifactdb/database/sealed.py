"""Reading a file at rest: without locks, and so without the -wal and -shm files that locks need.

Who writes to a workspace makes a -wal first and changes the file itself only in a checkpoint. So what was read of a
file that has not changed meanwhile is all of one state; and while there is no -wal, that state is the newest.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import apsw

from artifactdb.database.translate import no_text, translate
from artifactdb.errors import BusyError

_TICK_S = 0.02
"""Twice the steps in which an operating system counts the time stamps of files."""
_COARSE_TICK_S = 2.1
"""Of file systems that keep whole seconds; FAT keeps even ones."""
_LOOKS = 3


class Seal:
    """How a file was when it was opened without locks: time of the last change, size and place."""

    __slots__ = ("_file", "_log", "_status")

    def __init__(self, path: Path) -> None:
        self._file, self._log = str(path), f"{path}-wal"
        self._status = _status(self._file)

    def holds(self) -> bool:
        """Tell whether the file is as it was, so that all that was read of it is of one state."""
        return self._status is not None and _status(self._file) == self._status

    def is_newest(self) -> bool:
        """Tell whether that state is the newest there is."""
        # In this order: a -wal that is folded in between the two looks has changed the file before the second.
        return not os.access(self._log, os.F_OK) and self.holds()

    def is_of_same_file(self, path: Path) -> bool:
        """Tell whether the file was changed in its place, and not replaced by another one."""
        now = _status(str(path))
        return now is not None and self._status is not None and now[2:] == self._status[2:]

    def is_settled(self) -> bool:
        """Tell whether the last change is so long ago that the next one must bear another time."""
        if self._status is None:
            return False
        changed_at = self._status[0]
        tick = _TICK_S if changed_at % 1_000_000_000 else _COARSE_TICK_S
        return abs(time.time_ns() - changed_at) > tick * 1e9


def _status(file: str) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(file)  # noqa: PTH116 - asked before and after each statement, and a Path takes twice as long
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev


def settled(path: Path) -> Seal | None:
    """Give the seal of a file that nobody writes to, or None; one that was closed just now is waited for."""
    if os.name != "posix":
        return None  # Windows may tell of a change only when the file is closed
    for look in range(_LOOKS):
        if look:
            time.sleep(_TICK_S)
        seal = Seal(path)
        if any(os.access(f"{path}{suffix}", os.F_OK) for suffix in ("-wal", "-journal")):
            return None
        if seal.is_settled():
            return seal
    return None


class SealedConnection(apsw.Connection):
    """Reads a file as if it could not change; what it gave is to be believed as long as the seal holds.

    Who does not look before is told when closing it, with a BusyError.
    """

    def __init__(self, path: Path, seal: Seal) -> None:
        super().__init__(f"file:{quote(str(path))}?immutable=1", apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
        self.seal = seal
        self._path = path

    def close(self, force: bool = False) -> None:
        """Close it; raise BusyError when the file has changed since it was opened."""
        super().close(force)
        if not self.seal.holds():
            raise changed(self._path)


def seal_of(connection: apsw.Connection) -> Seal | None:
    """Give the seal of a connection, or None for one that takes locks."""
    return connection.seal if isinstance(connection, SealedConnection) else None


def shut(connection: apsw.Connection) -> None:
    """Close a connection of which nothing more is wanted."""
    with suppress(apsw.Error, BusyError):
        connection.close(True)  # also when one of its statements cannot be ended as it should be


def changed(path: Path) -> BusyError:
    """Give the error for what was read of two states."""
    return BusyError(f"{path} was changed while it was read.", hint="Ask again.")


@contextmanager
def believed(seal: Seal | None, path: Path) -> Iterator[None]:
    """Turn what APSW raises inside the block into errors of ours, and what comes of a changed file into BusyError."""
    try:
        yield
    except (apsw.Error, UnicodeDecodeError) as error:
        if seal is not None and not seal.holds():
            raise changed(path) from error
        raise (translate(error, path) if isinstance(error, apsw.Error) else no_text(error, path)) from error
    if seal is not None and not seal.holds():
        raise changed(path)
