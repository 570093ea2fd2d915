"""A file that was moved, replaced or removed while it is open is no place to write to.

Its -wal and its catalog lie under a name that is another file's by now, or nobody's.
"""

from __future__ import annotations

import os
from array import array
from contextlib import suppress
from pathlib import Path

import apsw

from artifactdb.database.translate import translated
from artifactdb.errors import StorageError


def require_in_place(connection: apsw.Connection, path: Path) -> None:
    """Compare the file that a connection has open with the one that has its name now.

    Raises
    ------
    StorageError
        When it is another one, or none.
    """
    with translated(path):
        is_elsewhere = _has_moved(connection)
    if is_elsewhere:
        raise StorageError(
            f"{path} was moved, replaced or removed while it was open, and is not written to.",
            hint="Close it, and open it where it is now.",
        )


def fold_behind(connection: apsw.Connection) -> None:
    """Bring what was committed into a file that was moved without its log, when its last connection is to be closed.

    SQLite would leave the log under the old name, where nobody looks for it.
    """
    with suppress(apsw.Error, MemoryError):  # somebody has it open where it is now, for one
        path = connection.db_filename("main")
        # Where another file has the name, the log may be that one's by now.
        if _has_moved(connection) and not os.path.lexists(path) and os.path.exists(f"{path}-wal"):  # noqa: PTH110
            connection.pragma("journal_mode", "DELETE")


def _has_moved(connection: apsw.Connection) -> bool:
    answer = array("i", [0])
    connection.file_control("main", apsw.SQLITE_FCNTL_HAS_MOVED, answer.buffer_info()[0])
    return bool(answer[0])
