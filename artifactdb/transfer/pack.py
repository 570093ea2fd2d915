"""One file for the post: every record, its content, its history and the whole catalog, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from artifactdb.artifacts import history
from artifactdb.catalog.inside import put_inside
from artifactdb.catalog.pairs import write_pair
from artifactdb.catalog.store import Store
from artifactdb.catalog.views import state_of
from artifactdb.database import Database
from artifactdb.database.making import files_of, new_workspace, require_place
from artifactdb.database.session import require_no_transaction
from artifactdb.database.translate import interprets, translated
from artifactdb.errors import CorruptWorkspaceError, InvalidValueError
from artifactdb.transfer.conflicts import Merge
from artifactdb.transfer.taking import take_in
from artifactdb.transfer.trust import take_rest_of_history, take_whole_signatures

_PAGE_BYTES = ((4 << 20, 1024), (64 << 20, 4096))
"""Below so many stored bytes, pages of this size: in a small file most tables and indexes take one page each."""
_LARGE_PAGE = 16384  # a third faster where content is large

Progress = Callable[[int, int], None]


@interprets
def pack(store: Store, target: Path, *, overwrite: bool = False, progress: Progress | None = None) -> Path:
    """Write one state of a workspace to a new file: compact, checked, with its predictions inside.

    The new file is built without a journal and gets its name when it is whole and on the disk.
    """
    require_target(store, target, overwrite=overwrite)
    stored = store.database.value("SELECT coalesce(sum(stored_bytes), 0) FROM blobs")
    page_bytes = next((size for bound, size in _PAGE_BYTES if stored < bound), _LARGE_PAGE)
    with new_workspace(target, overwrite=overwrite, page_bytes=page_bytes) as made:
        _without_journal(made)
        with (
            store.database.reading_once(),
            state_of(store.database, store.inspector) as state,
            made.transaction(),
        ):
            take_rest_of_history(state.snapshot, made)  # first, so that a record counts after those of its name before
            taken = take_in(state.snapshot, made, Merge(), progress)
            take_whole_signatures(state.snapshot, made, taken.keys)
            history.note(made, "packed", details={"from": store.database.path.name})
            if state.files or state.snapshot.rows("SELECT 1 FROM staged_predictions LIMIT 1"):
                for path, written in write_pair(store, state, files_of(made.path)).values():
                    put_inside(made, path, written)
        require_sound(made)
        with translated(target):
            made.connection().pragma("journal_mode", "WAL")
    return target


def require_target(store: Store, target: Path, *, overwrite: bool) -> None:
    """Refuse what cannot be packed to, or from.

    Raises
    ------
    InvalidValueError
        When it is the workspace itself or is there, unless it may be overwritten; or inside a transaction.
    WorkspaceNotFoundError, ReadOnlyError, BusyError
    """
    require_no_transaction(store.database, "pack")
    if _is(target, store.database.path):
        raise InvalidValueError(f"{target} is the workspace itself.", hint="Name another file.")
    require_place(target, overwrite=overwrite)


def _is(target: Path, path: Path) -> bool:
    try:
        return target.samefile(path)
    except (OSError, ValueError):
        return False  # not there, or no name for a file


def _without_journal(database: Database) -> None:
    connection = database.connection()
    with translated(database.path):
        connection.pragma("journal_mode", "OFF")
        connection.pragma("synchronous", "OFF")


def require_sound(database: Database) -> None:
    """Look at the structure of a new file; its content was compared with its hashes on the way."""
    for statement in ("PRAGMA quick_check", "PRAGMA foreign_key_check"):
        wrong = [row for row in database.rows(statement) if row != ("ok",)]
        if wrong:
            raise CorruptWorkspaceError(f"the new file is not sound ({wrong[0]}).")
