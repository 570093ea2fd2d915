"""A new workspace file gets its name when it is whole; what fails half way leaves nothing."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import apsw

from artifactdb.database import disk
from artifactdb.database.connection import Database
from artifactdb.database.migrations import set_page_size
from artifactdb.database.outdating import outdate
from artifactdb.database.strict import restrict
from artifactdb.database.translate import translated
from artifactdb.errors import (
    ArtifactDBError,
    BusyError,
    InvalidValueError,
    ReadOnlyError,
    StorageFullError,
    WorkspaceNotFoundError,
)

try:
    import fcntl
except ImportError:  # Windows: what a killed process left over is then not cleared away
    fcntl = None  # type: ignore[assignment]

_BESIDE = ("-wal", "-shm", "-journal")
_MAX_NAME_CHARACTERS = 200
# An identity a workspace has from the first.
_FILLED_TABLES = """
SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'identity'
"""


@contextmanager
def new_file(target: Path, *, overwrite: bool = False, beside: Path | None = None) -> Iterator[Path]:
    """Give a path to write to, which gets the target's name when the block ends, and goes when it raises.

    What else is needed meanwhile may lie in the folder ``files_of`` gives.

    Parameters
    ----------
    beside : Path, optional
        A folder that the block makes for the file; it goes unless the file gets its name.

    Raises
    ------
    InvalidValueError
        When the target is there, unless it may be overwritten.
    BusyError
        When the workspace that is to be overwritten is in use.
    WorkspaceNotFoundError, ReadOnlyError, StorageFullError
    """
    descriptor, unfinished = -1, target
    try:
        require_place(target, overwrite=overwrite)
        _remove_leftovers(target)
        unfinished = target.absolute().with_name(f".{target.name}.{secrets.token_hex(8)}.unfinished")
        # Held while it is made, so that nobody takes it for one that was left over. Closed after SQLite's own.
        descriptor = disk.create(unfinished)
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield unfinished
        disk.sync(unfinished)
        _remove_files(unfinished)  # while its owner has a name that tells of it
        _clear(target)
        disk.rename(unfinished, target)
        disk.sync(target.parent)
    except ArtifactDBError:
        raise
    except OSError as error:
        raise disk.refusal(f"{target} could not be written", error, "Nothing was changed.") from error
    finally:
        if descriptor >= 0:
            if beside is not None and unfinished.exists():  # an interrupt may come when it has its name already
                disk.remove_folder(beside)
            _remove(unfinished)
            os.close(descriptor)


def files_of(unfinished: Path) -> Path:
    """Give the folder for files that are needed while a file is made; it goes with it."""
    folder = unfinished.with_name(f"{unfinished.name}.files")
    disk.make_folder(folder)
    return folder


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give an empty folder among the temporary ones, which goes when the block ends.

    Raises
    ------
    StorageFullError
        When none can be made.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="artifactdb-", ignore_cleanup_errors=True)
    except OSError as error:
        raise StorageFullError(f"no temporary folder can be made ({error}).", hint="Nothing was changed.") from error
    with folder as name:
        yield Path(name)


@contextmanager
def new_workspace(target: Path, *, overwrite: bool = False, page_bytes: int = 4096) -> Iterator[Database]:
    """Give an empty workspace to fill, which gets the target's name when the block ends, and goes when it raises.

    Parameters
    ----------
    page_bytes : int, default 4096
        Size of SQLite's pages: large ones make large files faster, and small files larger.
    """
    with new_file(target, overwrite=overwrite) as unfinished:
        with translated(target):
            set_page_size(unfinished, page_bytes)
        database = Database(unfinished)
        try:
            yield database
        finally:
            database.close()


def remove_if_empty(path: Path) -> None:
    """Remove a workspace that holds nothing and that nobody else has open."""
    with (
        suppress(apsw.Error, OSError, UnicodeError),
        closing(restrict(apsw.Connection(str(path), apsw.SQLITE_OPEN_READWRITE))) as it,
    ):
        it.pragma("journal_mode", "DELETE")  # refused to all but the only one who has it
        it.execute("BEGIN EXCLUSIVE")  # who opens it now waits, and then finds that it is gone
        tables = [name for (name,) in it.execute(_FILLED_TABLES)]
        is_empty = not any(it.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchall() for name in tables)
        if is_empty:
            disk.remove(path)
        it.execute("ROLLBACK")
        if not is_empty:
            it.pragma("journal_mode", "WAL")


def require_place(target: Path, *, overwrite: bool) -> None:
    """Refuse a target that no file can be written to, as ``new_file`` does."""
    if not target.name or len(target.name) > _MAX_NAME_CHARACTERS:
        raise InvalidValueError(f"{str(target)[:80]!r} is no name for a file.", hint="Choose a shorter one.")
    if os.path.lexists(target):  # a link that leads nowhere, too, would be replaced
        if target.is_dir() or not overwrite:
            raise InvalidValueError(f"{target} is there already.", hint="Name a new file, or remove that one first.")
        if target.is_symlink() or not target.is_file():
            raise InvalidValueError(f"{target} is a link, a pipe or a device, and stays.", hint="Name a plain file.")
    if not target.parent.is_dir():
        raise WorkspaceNotFoundError(f"the folder {target.parent} is not there.", hint="Make it first.")
    if not os.access(target.parent, os.W_OK):
        raise ReadOnlyError(f"the folder {target.parent} cannot be written.")
    if target.exists():
        _require_unused(target)


def _clear(target: Path) -> None:
    """See that nothing of an earlier file of this name would be taken for a part of the new one."""
    if target.exists():
        _require_unused(target)
    outdate(target)
    for suffix in _BESIDE:
        disk.remove(target.with_name(target.name + suffix))
    # Before the new file has the name: a log that came back after a power cut would be folded into it.
    disk.sync(target.parent)


def _require_unused(target: Path) -> None:
    """Fold the log of a workspace into it, which only its last user can."""
    try:
        connection = restrict(apsw.Connection(str(target), apsw.SQLITE_OPEN_READWRITE))
        try:
            connection.pragma("journal_mode", "DELETE")
        finally:
            connection.close()
    except (apsw.BusyError, apsw.LockedError) as error:
        raise BusyError(f"{target} is in use.", hint="Close it first, or name another file.") from error
    except apsw.Error:
        return  # no workspace, or a damaged one: it may be replaced


def _remove_leftovers(target: Path) -> None:
    """Remove what a process left that died while it made this very file."""
    if fcntl is None:
        return
    beside = [path.name for path in target.parent.glob(".*.unfinished*") if path.name.startswith(f".{target.name}.")]
    # After a power cut a journal or a folder may be there whose file is not.
    for unfinished in {target.with_name(f"{name.rpartition('.unfinished')[0]}.unfinished") for name in beside}:
        with suppress(OSError):
            if not unfinished.exists():
                _remove(unfinished)
                continue
            descriptor = os.open(unfinished, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(unfinished)
            finally:
                os.close(descriptor)


def _remove(path: Path) -> None:
    """Remove an unfinished file, itself last: a process that dies meanwhile leaves what the next one looks for."""
    _remove_files(path)
    for suffix in (*_BESIDE, ""):
        with suppress(OSError):
            disk.remove(path.with_name(path.name + suffix))


def _remove_files(path: Path) -> None:
    disk.remove_folder(path.with_name(f"{path.name}.files"))
