"""What can be made whole in a damaged file itself: its indexes, which hold nothing that their tables do not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from artifactdb.database.making import new_file
from artifactdb.database.opening import connect
from artifactdb.database.outdating import outdate
from artifactdb.database.parity import Reading
from artifactdb.database.translate import translate, translated
from artifactdb.errors import BusyError, ReadOnlyError

_AT_ONCE = 1 << 22


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep everybody else out of a file, whatever it holds, while the block lasts.

    Raises
    ------
    BusyError
        When somebody has it open.
    ReadOnlyError
        When it may not be written.
    """
    if not os.access(path, os.W_OK):  # else SQLite opens it to read, and the locks fail
        raise ReadOnlyError(f"{path} cannot be written.", hint="Check the permissions of the file and its folder.")
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_MAIN_DB
    with translated(path):
        file = apsw.VFSFile("", str(path), [flags, 0])
        try:
            for level in (apsw.SQLITE_LOCK_SHARED, apsw.SQLITE_LOCK_RESERVED, apsw.SQLITE_LOCK_EXCLUSIVE):
                try:
                    file.xLock(level)
                except apsw.BusyError:
                    raise BusyError(f"{path} is in use.", hint="Close it everywhere first.") from None
            yield
        finally:
            file.xUnlock(apsw.SQLITE_LOCK_NONE)
            file.xClose()


def problems_of(path: Path) -> list[str]:
    """Give what SQLite finds wrong with the structure of a file, without opening it as a workspace."""
    try:
        connection = connect(path, writable=False, sealed=True)
        try:
            return [str(row[0]) for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
        finally:
            connection.close()
    except apsw.Error as error:
        return [str(error)]


def reindex(path: Path, kept: Path) -> bool:
    """Make all indexes again; give whether that was possible, and left the file sound. Else nothing is changed.

    Parameters
    ----------
    kept : Path
        Where to leave a copy of the file as it was.
    """
    try:
        connection = connect(path, writable=True, sealed=False)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("REINDEX")
            if connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                connection.execute("ROLLBACK")
                return False
            keep(path, kept)
            outdate(path)
            connection.execute("COMMIT")
            return True
        finally:
            connection.close()
    except (apsw.BusyError, apsw.FullError, apsw.IOError) as error:
        raise translate(error, path) from error
    except apsw.Error:
        return False  # too much is damaged


def keep(path: Path, kept: Path) -> None:
    """Copy a file as it lies, and its time; what is not committed yet is in the log, or nowhere.

    As SQLite reads it: any other descriptor of the file drops its locks when it is closed.
    """
    source = Reading(path)
    try:
        with new_file(kept) as unfinished, unfinished.open("r+b") as file:
            for offset in range(0, source.size_bytes, _AT_ONCE):
                file.write(source.read(offset, min(_AT_ONCE, source.size_bytes - offset)))
            shutil.copystat(path, unfinished)
    finally:
        source.close()
