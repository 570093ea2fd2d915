"""A file that was moved, replaced or removed while it is open is no place to write to.

Its -wal and its catalog lie under a name that is another file's by now, or nobody's.
"""

from __future__ import annotations

from array import array
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
    answer = array("i", [0])
    with translated(path):
        connection.file_control("main", apsw.SQLITE_FCNTL_HAS_MOVED, answer.buffer_info()[0])
    if answer[0]:
        raise StorageError(
            f"{path} was moved, replaced or removed while it was open, and is not written to.",
            hint=f"Close it. {path.name}-wal, if it is there, holds what was saved last: give it the new name, too, "
            "before you open it where it is now.",
        )
