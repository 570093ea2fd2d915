"""Everything of a damaged workspace that is still what was written goes into a new one; the rest is listed.

The source is read page by page (``database/damaged.py``), never by SQLite, and never written. What comes out is a
workspace like any other, in which nothing dangles: what is gone is an event of its history.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from artifactdb.artifacts import history, row_problems
from artifactdb.artifacts.statistics import has_predictions
from artifactdb.catalog.asking import ask
from artifactdb.catalog.files import catalog_folder
from artifactdb.catalog.store import Store
from artifactdb.database import Database
from artifactdb.database.damaged import DamagedDatabase
from artifactdb.database.foreign import refuse_if_open_here
from artifactdb.database.making import new_file
from artifactdb.database.opening import workspace_file
from artifactdb.database.pages import Pages
from artifactdb.database.restoring import restore
from artifactdb.errors import InvalidValueError, NotAWorkspaceError
from artifactdb.transfer.mending import mend
from artifactdb.transfer.pack import require_sound
from artifactdb.transfer.recovered_catalog import recover_catalog
from artifactdb.transfer.recovery import Recovery

Progress = Callable[[int, int], None]


def recover(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, progress: Progress | None = None
) -> Recovery:
    """Save everything of a damaged workspace that is still what was written, into a new one.

    Nothing of the source is changed or run. It may be damaged anywhere; its Parquet files are looked for beside it.

    Parameters
    ----------
    source : str or Path
        The damaged file, or its directory.
    target : str or Path
        A new file; nothing is left of it when recovery fails.
    progress : callable, optional
        Called with (done, in all): first tables, then blobs, then Parquet files.

    Returns
    -------
    Recovery
        What was saved, and what is gone.

    Raises
    ------
    InvalidValueError
        When the target is there.
    NotAWorkspaceError
        When nothing of the source looks like a workspace.
    WorkspaceNotFoundError, BusyError, StorageFullError

    Examples
    --------
    >>> from artifactdb import Workspace, recover
    >>> folder = getfixture("tmp_path")
    >>> with Workspace(folder / "wheat.sqlite") as workspace:
    ...     record = workspace.registry("wheat", "0001_pls").register_with_chain({"a": 1}, "s1.A", "model", 1)
    >>> with (folder / "wheat.sqlite").open("r+b") as file:
    ...     written = file.write(bytes(100))  # the header is gone
    >>> recovery = recover(folder / "wheat.sqlite", folder / "saved.sqlite")
    >>> recovery.ok, recovery.saved["artifacts"]
    (True, 1)
    >>> with Workspace(folder / "saved.sqlite") as workspace:
    ...     workspace.load(record.artifact_id)
    {'a': 1}
    """
    path, made = workspace_file(source), workspace_file(target)
    refuse_if_open_here(path)
    folder = catalog_folder(made)
    if folder.exists():
        raise InvalidValueError(f"{folder} is there already.", hint="Name another file.")
    recovery, before = Recovery(made), _times(path)
    with new_file(made, beside=folder) as unfinished:
        with closing(Pages(path)) as pages:
            restored = restore(DamagedDatabase(pages), unfinished, progress)
        if not restored.rows:
            raise NotAWorkspaceError(f"nothing in {path} is of a workspace.", hint="Nothing was written.")
        recovery.pages = restored.pages
        recovery.doubtful = [row_problems.row_of(table, key) for table, key in restored.doubtful]
        database = Database(unfinished)
        database.keys_are_free = True  # what waits for keys to come is among what is let go
        try:
            store = Store(database, folder)
            with database.transaction():
                mend(database, restored, recovery, progress)
                recover_catalog(store, catalog_folder(path), restored, recovery, progress)
                history.note(database, "recovered", details={"from": path.name, "gone": len(recovery.gone)})
            recovery.saved = _counted(store)
            require_sound(database)
            database.connection().pragma("journal_mode", "WAL")
        finally:
            database.close()
    if _times(path) != before:
        recovery.notes.append(
            f"{path.name} was written meanwhile: what is listed as gone may be what was not there yet. Close it "
            "everywhere, and recover it again"
        )
    return recovery


def _times(path: Path) -> list[tuple[str, int, int]]:
    """Give when a workspace, its log and its journal were last written, and how large they are."""
    found = []
    for suffix in ("", "-wal", "-journal"):
        with suppress(OSError):
            status = path.with_name(f"{path.name}{suffix}").stat()
            found.append((suffix, status.st_mtime_ns, status.st_size))
    return found


def _counted(store: Store) -> dict[str, int]:
    tables = {
        "artifacts": "records", "blobs": "blobs", "runs": "run_entries", "pipelines": "pipelines",
        "metrics": "pipeline_metrics", "library entries": "library_entries", "events": "history",
    }  # fmt: skip
    counted = {kind: int(store.database.value(f"SELECT count(*) FROM {table}")) for kind, table in tables.items()}
    counted["predictions"] = 0
    if has_predictions(store.database):
        counted["predictions"] = int(ask(store, "SELECT count(*) FROM predictions")[0][0])
    return counted
