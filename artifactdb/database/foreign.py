"""SQLite files of other programs, read and never written; nothing is left beside them.

Another SQLite library of this very process may hold such a file open. Closing one more descriptor of it would drop
that library's locks, so then it is not opened at all.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw

from artifactdb.database.translate import translated
from artifactdb.errors import BusyError, CorruptWorkspaceError, NotAWorkspaceError, WorkspaceNotFoundError

_MAGIC = b"SQLite format 3\0"
_BUSY_TIMEOUT_MS = 5_000
_MAX_VALUE_BYTES = 256 << 20
_ROWS_AT_ONCE = 1_000


class ForeignFile:
    """A file of another program while it is open.

    Attributes
    ----------
    columns : dict
        The names of the columns of each real table; views and virtual tables are left out.
    """

    def __init__(self, connection: apsw.Connection, path: Path) -> None:
        self._connection = connection
        self.path = path
        # A view or a virtual table has no page of its own, and what it gives is for its author to decide.
        tables = self._rows("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0")
        self.columns: dict[str, tuple[str, ...]] = {
            str(name): tuple(str(column) for (column,) in self._rows("SELECT name FROM pragma_table_info(?)", (name,)))
            for (name,) in tables
        }

    def require(self, tables: Mapping[str, Sequence[str]], what: str) -> None:
        """Raise unless there are these tables with these columns.

        Raises
        ------
        NotAWorkspaceError
        """
        for table, columns in tables.items():
            missing = [column for column in columns if column not in self.columns.get(table, ())]
            if missing:
                lacks = f"columns {', '.join(missing)} in {table}" if table in self.columns else f"a table {table}"
                raise NotAWorkspaceError(f"{self.path} is not {what}: it lacks {lacks}.")

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """Give the rows of a table as dicts, in the order in which they came; none when there is no such table."""
        columns = self.columns.get(table, ())
        if not columns:
            return
        named = ", ".join(f'"{column.replace(chr(34), chr(34) * 2)}"' for column in columns)
        for row in self._rows(f'SELECT {named} FROM "{table.replace(chr(34), chr(34) * 2)}"'):
            yield dict(zip(columns, row, strict=True))

    def _rows(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        with translated(self.path):
            try:
                yield from self._connection.execute(sql, parameters)
            except UnicodeDecodeError as error:
                raise CorruptWorkspaceError(f"{self.path} holds text that is no UTF-8 ({error}).") from None


@contextmanager
def open_foreign(path: Path) -> Iterator[ForeignFile]:
    """Open a file of another program for reading.

    Raises
    ------
    BusyError
        When this process has it open already.
    NotAWorkspaceError
        When it is no SQLite file.
    """
    refuse_if_open_here(path)
    _require_sqlite(path)
    with tempfile.TemporaryDirectory() as scratch, translated(path):
        connection = _connect(path, Path(scratch))
        try:
            connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
            connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0)
            connection.limit(apsw.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
            connection.set_busy_timeout(_BUSY_TIMEOUT_MS)
            connection.pragma("query_only", True)
            connection.pragma("cell_size_check", True)
            connection.execute("BEGIN")  # one state, whatever its program does meanwhile
            yield ForeignFile(connection, path)
        finally:
            connection.close()


def _connect(path: Path, scratch: Path) -> apsw.Connection:
    log, index, journal = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal"))
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    if _has_bytes(log) and _has_bytes(index) and not _has_bytes(journal):
        return apsw.Connection(f"file:{quote(str(path))}", flags)  # its program is at work, and locks say how far
    if _has_bytes(log) or _has_bytes(journal):
        # What a crash left would be worked into the file by who opens it; so a copy is opened.
        for file in (path, log, journal):
            with suppress(FileNotFoundError):
                shutil.copyfile(file, scratch / file.name)
        return apsw.Connection(str(scratch / path.name), apsw.SQLITE_OPEN_READWRITE)
    return apsw.Connection(f"file:{quote(str(path))}?immutable=1", flags)


def _has_bytes(path: Path) -> bool:
    with suppress(OSError):
        return path.stat().st_size > 0
    return False


def _require_sqlite(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        raise WorkspaceNotFoundError(f"{path} cannot be read ({error.strerror}).") from None
    if magic != _MAGIC:
        raise NotAWorkspaceError(f"{path} is not an SQLite database.")


def refuse_if_open_here(path: Path) -> None:
    """Refuse a file of which this process has a descriptor: closing another would drop that one's locks."""
    if _is_open_here(path):
        raise BusyError(f"{path} is open in this process.", hint="Close it there first, or import in another process.")


def _is_open_here(path: Path) -> bool:
    with suppress(OSError):  # where there is no /proc nobody can tell
        wanted = path.stat()
        for descriptor in Path("/proc/self/fd").iterdir():
            with suppress(OSError):
                found = descriptor.stat()
                if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                    return True
    return False
