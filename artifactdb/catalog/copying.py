"""A copy of a workspace with its Parquet files, all of one state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from artifactdb.catalog.files import catalog_folder, device_errors, live_files
from artifactdb.catalog.store import Store
from artifactdb.catalog.views import State, state_of
from artifactdb.database import Database, disk, snapshot
from artifactdb.database.making import files_of, new_file
from artifactdb.database.translate import translated
from artifactdb.errors import BusyError, InvalidValueError

_TRIES = 10


def backup(store: Store, target: Path, progress: Callable[[int, int], None] | None) -> Path:
    """Copy the Parquet files, then the SQLite file, which gets its name last: a copy that has its name is whole.

    Raises
    ------
    InvalidValueError
        When the target, or a catalog of its name, exists.
    """
    with device_errors(target.parent):
        file = target / store.database.path.name if target.is_dir() else target
        folder = catalog_folder(file)
        for taken in (file, folder):
            if taken.exists():
                raise InvalidValueError(f"{taken} is there already.", hint="Name a new file, or remove that one first.")
        with new_file(file, beside=folder) as unfinished:
            copied = _copy(store, unfinished, progress)
            if copied is not None:
                disk.rename(copied, folder)
                disk.sync(folder.parent)
    return file


def _copy(store: Store, file: Path, progress: Callable[[int, int], None] | None) -> Path | None:
    """Copy everything of one state, and give the folder of the Parquet files, if there are any.

    It lies beside the file, so that it gets its name within one folder: a power cut leaves the one name or the other.
    """
    for _ in range(_TRIES):
        # The files of this state stay in place while the block lasts, whatever others do.
        with state_of(store.database, store.inspector) as state:
            folder = _copied_files(state, file)
            copied_files = state.files
        with translated(file):
            snapshot.copy(store.database, file, progress)
        made = Database(file, mode="ro")
        named = live_files(made)
        made.close()
        if named == copied_files:
            return folder
        if folder is not None:
            disk.remove_folder(folder)
    raise BusyError("the catalog is rewritten faster than it can be copied.", hint="Try again later.")


def _copied_files(state: State, file: Path) -> Path | None:
    beside = [entry for kind in ("meta", "data") for entry in state.of_kind(kind) if not entry.inside]
    if not beside:
        return None
    folder = files_of(file)
    for entry in beside:
        disk.copy(state.inspector.folder / entry.name, folder / entry.name)
    disk.sync(folder)
    return folder
