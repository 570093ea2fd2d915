"""Two workspaces become one: what the other holds comes in by content, all of it or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from artifactdb.artifacts.statistics import has_predictions
from artifactdb.catalog.files import catalog_folder, discard, only_writer
from artifactdb.catalog.store import Store
from artifactdb.catalog.views import state_of
from artifactdb.database import Database, snapshot
from artifactdb.database.making import scratch_folder
from artifactdb.database.opening import has_older_schema, workspace_file
from artifactdb.database.session import require_no_transaction, require_writing
from artifactdb.database.translate import interprets
from artifactdb.errors import ArtifactDBError, InvalidValueError, StorageError, WorkspaceNotFoundError
from artifactdb.transfer.conflicts import Merge
from artifactdb.transfer.predictions import take_predictions
from artifactdb.transfer.taking import take_in
from artifactdb.transfer.trust import note_arrival

Progress = Callable[[int, int], None]


@interprets
def merge_into(
    store: Store, other: object, *, on_conflict: str, dry_run: bool = False, progress: Progress | None = None
) -> Merge:
    """Take in another workspace, as it is now."""
    result = Merge(on_conflict)
    database = store.database
    require_writing(database, "merge")
    if isinstance(theirs_open := getattr(other, "database", None), Database):
        require_no_transaction(theirs_open, "merge")
    with (
        _opened(other, database.path) as theirs,
        theirs.database.reading_once(),
        state_of(theirs.database, theirs.inspector) as state,
        ExitStack() as held,
    ):
        is_new_folder = not store.folder.exists()
        predicts = has_predictions(state.snapshot)
        if predicts:
            held.enter_context(only_writer(store.folder, database.timeout_s))
        made: list[Path] = []
        try:
            with database.transaction(keep=not dry_run):
                taken = take_in(state.snapshot, database, result, progress)
                note_arrival(database, taken.keys, taken.new, taken.replaced, taken.signed, theirs.database.path.name)
                if predicts:
                    take_predictions(store, theirs, state, result, made)
            if dry_run:
                discard(database, made)
        except BaseException:
            discard(database, made)
            raise
        finally:
            store.forget()
            if is_new_folder:
                with suppress(OSError):  # it holds something now
                    store.folder.rmdir()
    return result


@contextmanager
def _opened(other: object, ours: Path) -> Iterator[Store]:
    """Open the other workspace to read; a file of an older schema is brought up to date in a copy."""
    given = getattr(other, "database", None)
    path = given.path if isinstance(given, Database) else workspace_file(other)  # type: ignore[arg-type]
    try:
        if not path.exists():
            raise WorkspaceNotFoundError(f"{path} is not there.")
        if ours.exists() and path.samefile(ours):
            raise InvalidValueError(f"{path} cannot be merged into itself.", hint="Name another workspace.")
        is_older = not isinstance(given, Database) and has_older_schema(path)
    except ArtifactDBError:
        raise
    except OSError as error:
        raise StorageError(f"{path} cannot be read ({error.strerror}).") from None
    if isinstance(given, Database):
        yield Store(given)
        return
    with scratch_folder() as folder:
        file, mode = path, "ro"
        if is_older:
            file, mode = snapshot.copy_as_it_is(path, folder / path.name), "rw"
        database = Database(file, mode=mode)
        store = Store(database, catalog_folder(path))
        try:
            yield store
        finally:
            database.close()
            store.unpacked.remove()
