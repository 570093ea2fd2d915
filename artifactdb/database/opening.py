"""Where a workspace lies, and how one connection to it is opened and made strict."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import apsw

from artifactdb.database.migrations import is_current, migrate
from artifactdb.database.strict import restrict
from artifactdb.database.structure import look_over
from artifactdb.database.translate import translated
from artifactdb.errors import InvalidValueError, NotAWorkspaceError, ReadOnlyError, WorkspaceNotFoundError

FILE_NAME = "workspace.sqlite"
_FILE_SUFFIXES = {".sqlite", ".sqlite3", ".db", ".artifactdb"}


def workspace_file(path: str | os.PathLike[str]) -> Path:
    """Give the SQLite file of a workspace that is named by its file or its directory.

    A path that does not exist yet is a file when it ends in .sqlite, .sqlite3, .db or .artifactdb.

    Examples
    --------
    >>> workspace_file("wheat.sqlite").name, workspace_file("wheat").name
    ('wheat.sqlite', 'workspace.sqlite')
    """
    if not isinstance(path, str | os.PathLike):
        raise InvalidValueError(f"a workspace is named by a path, not by {type(path).__name__}.")
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidValueError("a workspace needs a path that is not empty and holds no NUL character.")
    location = Path(text).expanduser().absolute()
    if location.is_dir() or (not location.exists() and location.suffix.lower() not in _FILE_SUFFIXES):
        location = location / FILE_NAME
    # As SQLite does for its -wal: what lies beside a workspace lies beside the file itself, not beside a link to it.
    return location.resolve() if location.is_symlink() else location


def open_connection(path: Path, *, writable: bool, timeout_s: float, known: bool = False) -> apsw.Connection:
    """Open one connection; make or migrate the file first when it may be written.

    Parameters
    ----------
    known : bool, default False
        Whether the structure of the file was looked over already.

    Raises
    ------
    WorkspaceNotFoundError, NotAWorkspaceError, NewerSchemaError, CorruptWorkspaceError, ReadOnlyError, BusyError
        Nothing of the file is changed then.
    """
    if writable:
        _make_folder(path.parent)
    if not path.exists():
        if not writable:
            raise WorkspaceNotFoundError(f"{path} is not there.", hint="`artifactdb init` makes a workspace.")
        if not os.access(path.parent, os.W_OK):
            raise ReadOnlyError(f"the folder {path.parent} cannot be written.", hint="Choose another folder.")
    with translated(path):
        connection = _connect(path, writable)
        try:
            connection.set_busy_timeout(int(timeout_s * 1000))
            if not is_current(connection, path):
                _require_writable(connection, path)
                migrate(connection, path)
            if not known:
                look_over(connection, path)
            _make_ready(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def _connect(path: Path, writable: bool) -> apsw.Connection:
    if path.exists() and not path.is_file():
        raise NotAWorkspaceError(f"{path} is not a file.")
    may_write = os.access(path.parent, os.W_OK) and (os.access(path, os.W_OK) or not path.exists())
    if writable and may_write:
        return restrict(apsw.Connection(str(path), apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE))
    if may_write:
        # A reader that may write can clean up: opened read-only, it would leave the -wal and -shm files behind.
        connection = restrict(apsw.Connection(str(path), apsw.SQLITE_OPEN_READWRITE))
        connection.pragma("query_only", True)
        return connection
    # Where nobody can make the -wal and -shm files, SQLite reads a closed workspace only as immutable.
    sealed = not path.with_name(path.name + "-wal").exists()
    if not sealed and not path.with_name(path.name + "-shm").exists():
        raise ReadOnlyError(
            f"the last writer of {path} left a -wal file, which cannot be folded in where nothing may be written.",
            hint="Copy both to a folder that can be written, and open the copy.",
        )
    uri = f"file:{quote(str(path))}{'?immutable=1' if sealed else ''}"
    return restrict(apsw.Connection(uri, apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except PermissionError as error:
        raise ReadOnlyError(f"{folder} cannot be made ({error.strerror}).", hint="Choose another folder.") from None
    except OSError as error:
        raise WorkspaceNotFoundError(f"{folder} cannot be made ({error.strerror}).") from None


def _require_writable(connection: apsw.Connection, path: Path) -> None:
    if connection.readonly("main") or connection.pragma("query_only"):
        raise ReadOnlyError(
            f"{path} is empty or has an older schema, and cannot be written to bring it up to date.",
            hint="Open it once where it can be written.",
        )


def _make_ready(connection: apsw.Connection) -> None:
    connection.pragma("foreign_keys", True)
    connection.pragma("synchronous", "FULL")
    # 64 MB of page cache is the bound on what SQLite itself keeps, however large a transaction grows.
    connection.pragma("cache_size", -65536)
