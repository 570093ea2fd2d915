"""SQLite's errors become artifactdb's: which of ours each exception class of APSW is, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import ParamSpec, TypeVar

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

P = ParamSpec("P")
T = TypeVar("T")

_BUSY = "Another process or thread is writing; try again, or open the workspace with a longer timeout_s."
_DAMAGED = "Restore a backup, or save what is right with `artifactdb recover`."
_READ_ONLY = "Check the permissions of the file and its folder, or open it with mode='ro' to read."

# Nearest class first: the first that matches wins.
TRANSLATIONS: list[tuple[type[apsw.Error], type[ArtifactDBError], str, str]] = [
    (apsw.NotADBError, NotAWorkspaceError, "{path} is not an SQLite database", "Name another file."),
    (apsw.CorruptError, CorruptWorkspaceError, "{path} is damaged or truncated, or its device failed", _DAMAGED),
    (apsw.FormatError, CorruptWorkspaceError, "{path} is damaged or truncated, or its device failed", _DAMAGED),
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
        "The limit is 512 MB for one text or array.",
    ),
    (apsw.AuthError, QueryError, "a query may only read", "Use the methods of Workspace to change it."),
    (
        apsw.InterruptError,
        QueryError,
        "the query ran longer than it was given",
        "Raise timeout_s (--timeout), or ask less.",
    ),
    (apsw.BindingsError, QueryError, "the SQL and its parameters do not fit", "Give one value for each ?."),
    (
        apsw.SQLError,
        QueryError,
        "the SQL is not valid",
        "`SELECT name, sql FROM sqlite_schema` gives tables and views.",
    ),
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


def no_text(error: UnicodeDecodeError, path: Path | str) -> CorruptWorkspaceError:
    """Give the error for text in the file that is no UTF-8."""
    return CorruptWorkspaceError(f"{path} is damaged: it holds text that is no UTF-8 ({error.reason}).", hint=_DAMAGED)


def taken_back(path: Path | str) -> StorageFullError:
    """Give the error for a transaction that ended before its block, as it does when a disk or memory is full."""
    return StorageFullError(
        f"a statement failed on {path}, and all of its transaction was taken back.",
        hint="Nothing was changed. Leave the block, and begin again.",
    )


class _OfProgress(Exception):  # noqa: N818 - it carries one
    """Carries what the caller's ``progress`` raised past whatever would take it for a fault of the file."""

    def __init__(self, raised: Exception) -> None:
        super().__init__()
        self.raised = raised


def _carrying(progress: Callable[..., None]) -> Callable[..., None]:
    def call(*counts: int) -> None:
        try:
            progress(*counts)
        except Exception as error:
            raise _OfProgress(error) from None

    return call


def interprets(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function that makes values of rows say what is wrong with a row that artifactdb cannot have written.

    What its argument ``progress`` raises, which is the caller's, comes out as it is.

    Raises
    ------
    CorruptWorkspaceError
        For texts, JSON and types that are not what they should be; a stranger's file may hold anything.
    """
    form = signature(function)

    @wraps(function)
    def interpreting(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except ArtifactDBError:
            raise
        except (TypeError, ValueError, LookupError, AttributeError, OverflowError, RecursionError) as error:
            raise CorruptWorkspaceError(
                f"the file is damaged: a row of it is not as artifactdb writes it ({type(error).__name__}: "
                f"{str(error)[:200]}).",
                hint=_DAMAGED,
            ) from error

    @wraps(function)
    def interpreting_but_progress(*args: P.args, **kwargs: P.kwargs) -> T:
        given = form.bind(*args, **kwargs)
        if given.arguments.get("progress") is None:
            return interpreting(*args, **kwargs)
        given.arguments["progress"] = _carrying(given.arguments["progress"])
        try:
            return interpreting(*given.args, **given.kwargs)
        except _OfProgress as carried:
            raised = carried.raised
        raise raised

    return interpreting_but_progress if "progress" in form.parameters else interpreting


@contextmanager
def translated(path: Path | str) -> Iterator[None]:
    """Turn what APSW raises inside the block into errors of ours."""
    try:
        yield
    except apsw.Error as error:
        raise translate(error, path) from error
    except UnicodeDecodeError as error:
        raise no_text(error, path) from None
