"""SQLite's errors become artifactdb's: which of ours each exception class of APSW is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from artifactdb.errors import (
    ArtifactDBError,
    BusyError,
    CorruptWorkspaceError,
    InvalidValueError,
    NewerSchemaError,
    NotAWorkspaceError,
    QueryError,
    ReadOnlyError,
    StorageError,
    StorageFullError,
    WorkspaceNotFoundError,
)

_BUSY = "Another process or thread is writing; try again, or open the workspace with a longer timeout_s."
_DAMAGED = "Restore a backup, or copy what is readable with the sqlite3 shell's .recover."
_READ_ONLY = "Check the permissions of the file and its folder, or open it with mode='ro' to read."

# Nearest class first: the first that matches wins.
TRANSLATIONS: list[tuple[type[apsw.Error], type[ArtifactDBError], str, str]] = [
    (apsw.NotADBError, NotAWorkspaceError, "{path} is not an SQLite database", "Name another file."),
    (apsw.CorruptError, CorruptWorkspaceError, "{path} is damaged or truncated", _DAMAGED),
    (apsw.FormatError, CorruptWorkspaceError, "{path} is damaged or truncated", _DAMAGED),
    (apsw.BusyError, BusyError, "{path} is locked by another writer", _BUSY),
    (apsw.LockedError, BusyError, "{path} is locked by another statement", _BUSY),
    (apsw.ProtocolError, BusyError, "the locks of {path} could not be had", _BUSY),
    (apsw.FullError, StorageFullError, "no room is left for {path}", "Free space; nothing was changed."),
    (apsw.NoMemError, StorageFullError, "SQLite ran out of memory on {path}", "Nothing was changed."),
    (apsw.IOError, StorageFullError, "the device failed under {path}", "Nothing was changed."),
    (apsw.ReadOnlyError, ReadOnlyError, "{path} cannot be written", _READ_ONLY),
    (apsw.PermissionsError, ReadOnlyError, "{path} cannot be opened", _READ_ONLY),
    (
        apsw.CantOpenError,
        WorkspaceNotFoundError,
        "{path} cannot be opened",
        "Check that folder and file exist.",
    ),
    (apsw.NoLFSError, StorageError, "this system cannot hold a file as large as {path}", ""),
    (
        apsw.TooBigError,
        InvalidValueError,
        "a value is too large for SQLite",
        "Its limit is 1 GB for one text.",
    ),
    (apsw.AuthError, QueryError, "a query may only read", "Use the methods of Workspace to change it."),
    (
        apsw.InterruptError,
        QueryError,
        "the query ran longer than it was given",
        "Raise timeout_s, or ask less.",
    ),
    (apsw.BindingsError, QueryError, "the SQL and its parameters do not fit", "Give one value for each ?."),
    (apsw.SQLError, QueryError, "the SQL is not valid", "Tables and views are listed by `.schema`."),
    (apsw.ConstraintError, InvalidValueError, "a rule of the schema would be broken", ""),
    (apsw.SchemaChangeError, NewerSchemaError, "the schema of {path} changed meanwhile", "Open it again."),
    (apsw.ConnectionClosedError, StorageError, "{path} was closed", "Open the workspace again."),
]


def translate(error: apsw.Error, path: Path | str) -> ArtifactDBError:
    """Give the error of ours that an error of APSW becomes, with SQLite's own words in it."""
    for theirs, ours, message, hint in TRANSLATIONS:
        if isinstance(error, theirs):
            return ours(f"{message.format(path=path)} (SQLite: {error}).", hint=hint)
    return StorageError(f"SQLite could not do this with {path} ({type(error).__name__}: {error}).")


@contextmanager
def translated(path: Path | str) -> Iterator[None]:
    """Turn what APSW raises inside the block into errors of ours."""
    try:
        yield
    except apsw.Error as error:
        raise translate(error, path) from error
