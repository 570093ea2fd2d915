"""A new workspace file gets its name when it is whole; what fails half way leaves nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from artifactdb.database.connection import Database
from artifactdb.database.migrations import set_page_size
from artifactdb.errors import (
    ArtifactDBError,
    InvalidValueError,
    ReadOnlyError,
    StorageFullError,
    WorkspaceNotFoundError,
)


@contextmanager
def new_file(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a path to write to, which gets the target's name when the block ends, and goes when it raises.

    Raises
    ------
    InvalidValueError
        When the target is there, unless it may be overwritten.
    WorkspaceNotFoundError, ReadOnlyError, StorageFullError
    """
    if target.is_dir() or (target.exists() and not overwrite):
        raise InvalidValueError(f"{target} is there already.", hint="Name a new file, or remove that one first.")
    if not target.parent.is_dir():
        raise WorkspaceNotFoundError(f"the folder {target.parent} is not there.", hint="Make it first.")
    if not os.access(target.parent, os.W_OK):
        raise ReadOnlyError(f"the folder {target.parent} cannot be written.")
    unfinished = target.with_name(target.name + ".unfinished")
    _remove(unfinished)
    try:
        unfinished.touch()
        yield unfinished
        sync(unfinished)
        unfinished.replace(target)
        sync(target.parent)
    except ArtifactDBError:
        raise
    except OSError as error:
        raise StorageFullError(f"{target} could not be written ({error}).", hint="Nothing was changed.") from error
    finally:
        _remove(unfinished)


@contextmanager
def new_workspace(target: Path, *, overwrite: bool = False, page_bytes: int = 4096) -> Iterator[Database]:
    """Give an empty workspace to fill, which gets the target's name when the block ends, and goes when it raises.

    Parameters
    ----------
    page_bytes : int, default 4096
        Size of SQLite's pages: large ones make large files faster, and small files larger.
    """
    with new_file(target, overwrite=overwrite) as unfinished:
        set_page_size(unfinished, page_bytes)
        database = Database(unfinished)
        try:
            yield database
        finally:
            database.close()


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
