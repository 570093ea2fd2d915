"""Where a workspace lies, and how one connection to it is opened and made strict."""

from __future__ import annotations

import os
from numbers import Real
from pathlib import Path
from urllib.parse import quote

import apsw

from artifactdb.database import disk, row_checks
from artifactdb.database.migrations import APPLICATION_ID, is_current, latest_version, migrate
from artifactdb.database.network import choose_journal, is_single, require_unshared, without_log
from artifactdb.database.sealed import Seal, SealedConnection, changed, seal_of, settled, shut
from artifactdb.database.strict import restrict
from artifactdb.database.structure import look_over
from artifactdb.database.translate import translated
from artifactdb.errors import (
    ArtifactDBError,
    InvalidValueError,
    NotAWorkspaceError,
    ReadOnlyError,
    WorkspaceNotFoundError,
)
from artifactdb.paths import local_path

FILE_NAME = "workspace.sqlite"
_FILE_SUFFIXES = {".sqlite", ".sqlite3", ".db", ".artifactdb"}
_TRIES = 3
_LONGEST_S = 1e6  # SQLite counts milliseconds in 32 bits


def workspace_file(path: str | os.PathLike[str]) -> Path:
    """Give the SQLite file of a workspace that is named by its file or its directory.

    A path that does not exist yet is a file when it ends in .sqlite, .sqlite3, .db or .artifactdb.

    Examples
    --------
    >>> workspace_file("wheat.sqlite").name, workspace_file("wheat").name
    ('wheat.sqlite', 'workspace.sqlite')
    """
    location = local_path(local_path(path).absolute())  # the folder that a relative one lies in, too
    try:
        if location.is_dir() or (not location.exists() and location.suffix.lower() not in _FILE_SUFFIXES):
            location = location / FILE_NAME
        # As SQLite does for its -wal: what lies beside a workspace lies beside the file itself, not beside a link.
        return location.resolve() if location.is_symlink() else location
    except RuntimeError:
        raise InvalidValueError(f"{location} is a link that leads back to itself.", hint="Name a file.") from None
    except OSError as error:
        kind = ReadOnlyError if isinstance(error, PermissionError) else InvalidValueError
        raise kind(f"{location} cannot be looked for ({error.strerror}).", hint="Check it, folder by folder.") from None


def require_timeout(timeout_s: float) -> float:
    """Give for how long to wait for others, in seconds, or raise InvalidValueError."""
    if not isinstance(timeout_s, Real) or not timeout_s >= 0:  # NaN is neither
        raise InvalidValueError(f"timeout_s is a number of seconds, 0 or more, not {timeout_s!r}.")
    return min(float(timeout_s), _LONGEST_S)


def is_workspace_name(name: object) -> bool:
    """Tell whether a file of that name is taken for a workspace by its name alone, and shown for what it is.

    Examples
    --------
    >>> [is_workspace_name(name) for name in ("wheat.sqlite", "wheat.sqlite-wal", ".sqlite", "../wheat.db", "json.py")]
    [True, False, False, False, False]
    """
    if not isinstance(name, str) or not name.isprintable() or Path(name).name != name or name.startswith("."):
        return False
    return Path(name).suffix.lower() in _FILE_SUFFIXES


def open_connection(
    path: Path, *, writable: bool, timeout_s: float, known: bool = False, sealed: bool = False
) -> apsw.Connection:
    """Open one connection; make or migrate the file first when it may be written.

    Parameters
    ----------
    known : bool, default False
        Whether the structure of the file was looked over already.
    sealed : bool, default False
        Whether to make nothing beside a file at rest, and read it without locks.

    Raises
    ------
    WorkspaceNotFoundError, NotAWorkspaceError, NewerSchemaError, CorruptWorkspaceError, ReadOnlyError, BusyError
        Nothing of the file is changed then.
    """
    if writable:
        require_unshared(path)
    if writable and not path.exists():
        _make_folder(path.parent)
    for tries in range(1, _TRIES + 1):
        if not path.exists():
            if not writable:
                raise WorkspaceNotFoundError(f"{path} is not there.", hint="`artifactdb init` makes a workspace.")
            if not os.access(path.parent, os.W_OK):
                raise ReadOnlyError(f"the folder {path.parent} cannot be written.", hint="Choose another folder.")
        with translated(path):
            log_was_there = path.with_name(f"{path.name}-wal").exists()
            # A file that changes again and again is not at rest.
            connection = connect(path, writable=writable, sealed=sealed and tries < _TRIES)
            seal = seal_of(connection)
            try:
                _prepare(connection, path, timeout_s, known=known)
            except BaseException as error:
                if log_was_there:  # closing would fold it into a file that is refused
                    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                shut(connection)
                if seal is None or seal.holds() or not isinstance(error, Exception):
                    raise
                continue
        if seal is None or seal.holds():
            return connection
        shut(connection)
    raise changed(path)


def _prepare(connection: apsw.Connection, path: Path, timeout_s: float, *, known: bool) -> None:
    connection.set_busy_timeout(int(timeout_s * 1000))
    connection.pragma("fullfsync", True)  # or a Mac leaves what was synced in the cache of its drive
    row_checks.register(connection)
    if not is_current(connection, path):
        _require_writable(connection, path)
        migrate(connection, path)
    if not known:
        look_over(connection, path)
    if is_single() or not (connection.readonly("main") or connection.pragma("query_only")):
        choose_journal(connection)  # the file may come from where another one was
    _make_ready(connection)


def connect(path: Path, *, writable: bool, sealed: bool) -> apsw.Connection:
    """Open a connection in the way that the file and its folder allow; nothing of the file is looked at."""
    if path.exists() and not path.is_file():
        raise NotAWorkspaceError(f"{path} is not a file.")
    may_write = os.access(path.parent, os.W_OK) and (os.access(path, os.W_OK) or not path.exists())
    if writable and may_write:
        return without_log(restrict(apsw.Connection(str(path), apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)))
    seal = settled(path) if sealed or not may_write else None
    if seal is not None:
        return restrict(SealedConnection(path, seal))
    require_unshared(path, to="read while others write, or before what they left in a -wal is folded in,")
    if may_write:
        # A reader that may write can clean up: opened read-only, it would leave the -wal and -shm files behind.
        connection = without_log(restrict(apsw.Connection(str(path), apsw.SQLITE_OPEN_READWRITE)))
        connection.pragma("query_only", True)
        return connection
    if _has_begun(path.with_name(path.name + "-journal")):
        raise ReadOnlyError(
            f"a writer of {path} left or holds a -journal, which cannot be taken back where nothing may be written.",
            hint="Copy both to a folder that can be written when nobody is writing, and open the copy.",
        )
    # Where nobody can make the -wal and -shm files, SQLite reads a closed workspace only as immutable.
    if not path.with_name(path.name + "-wal").exists():
        return restrict(SealedConnection(path, Seal(path)))
    if not path.with_name(path.name + "-shm").exists():
        raise ReadOnlyError(
            f"the last writer of {path} left a -wal file, which cannot be folded in where nothing may be written.",
            hint="Copy both to a folder that can be written, and open the copy.",
        )
    uri = f"file:{quote(str(path))}"
    return restrict(apsw.Connection(uri, apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI))


def _has_begun(journal: Path) -> bool:
    """Tell whether a rollback journal is of a transaction that did not end; else it is empty or zeroed."""
    try:
        with journal.open("rb") as file:
            return file.read(1).strip(b"\0") != b""
    except FileNotFoundError:
        return False
    except OSError:
        return True  # as SQLite takes it


def has_older_schema(path: Path) -> bool:
    """Tell whether a file is a workspace of an earlier version; nothing but its header is believed."""
    return 0 < _version_of(path) < latest_version()


def is_workspace(path: Path) -> bool:
    """Tell whether a file says that it is a workspace; nothing but its header is believed."""
    try:
        return path.is_file() and _version_of(path) > 0
    except ArtifactDBError:
        return False


def _version_of(path: Path) -> int:
    # Not by reading the file: closing it would drop the locks that this process has on it.
    with translated(path):
        connection = connect(path, writable=False, sealed=True)
        try:
            application_id, version = connection.pragma("application_id"), connection.pragma("user_version")
        finally:
            connection.close()
    return int(version) if application_id == APPLICATION_ID else 0


def _make_folder(folder: Path) -> None:
    try:
        disk.make_folder(folder)
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
    # As FULL; and without a -wal, what was committed is not taken back by a -journal whose removal was lost.
    connection.pragma("synchronous", "EXTRA")
    # 64 MB of page cache is the bound on what SQLite itself keeps, however large a transaction grows.
    connection.pragma("cache_size", -65536)
