"""A workspace gets a file beside it from which damaged blocks of it, and of its Parquet files, can be made again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from artifactdb.artifacts import history
from artifactdb.artifacts.descriptions import Problem
from artifactdb.artifacts.statistics import has_predictions
from artifactdb.catalog.files import catalog_folder, live_files
from artifactdb.database import Database, disk, parity
from artifactdb.database.making import new_file
from artifactdb.database.outdating import outdate, outdated_file, parity_file
from artifactdb.database.snapshot import fold_log
from artifactdb.errors import ArtifactDBError, BusyError, InvalidValueError, ReadOnlyError

Progress = Callable[[int, int], None]

_TRIES = 5


def protect(database: Database, overhead: float = 0.1, progress: Progress | None = None) -> Path:
    """Write parity of the workspace as it is now; nobody can write to it meanwhile."""
    if database.mode == "ro":
        raise ReadOnlyError(f"{database.path} was opened with mode='ro'.", hint="Open it with mode='rw'.")
    if database.in_transaction:
        raise InvalidValueError("protect cannot run inside a transaction.", hint="Call it when the block has ended.")
    for _ in range(_TRIES):
        fold_log(database)
        with database.transaction(keep=False):
            if _is_folded(database.path):
                return _protect(database, overhead, progress)
    raise BusyError(f"others write to {database.path} all the time.", hint="Try again later.")


def _is_folded(path: Path) -> bool:
    log = path.with_name(f"{path.name}-wal")
    return not log.exists() or log.stat().st_size == 0


def _protect(database: Database, overhead: float, progress: Progress | None) -> Path:
    path, target = database.path, parity_file(database.path)
    names = [path.name]
    if has_predictions(database):
        folder = catalog_folder(path)
        names += [f"{folder.name}/{file.name}" for file in live_files(database) if not file.inside]
    was_protected = target.exists()
    try:
        outdate(path)
        with new_file(target) as unfinished:
            members = [parity.describe(path.parent, name) for name in names]
            parity.write(path.parent, members, unfinished, overhead, history.now(), progress)
    except BaseException:
        # Nothing was changed, and what protected it does so still; what was put aside before is of an earlier state.
        if was_protected and outdated_file(path).exists() and not target.exists():
            disk.rename(outdated_file(path), target)
        raise
    disk.remove(outdated_file(path))
    return target


def differences(path: Path, progress: Progress | None = None) -> tuple[list[Problem], list[str]]:
    """Give what differs from what was protected, and what else to know of the protection."""
    target = parity_file(path)
    if not target.exists():
        stale = outdated_file(path)
        return [], [f"{stale.name} is of an earlier state: protect the workspace again"] if stale.exists() else []
    try:
        protected = parity.read(target)
        damages = parity.find_damage(protected, path.parent, progress)
        problems = [describe(damage, path.parent, protected) for damage in damages]
        if not parity.is_whole(protected):
            problems.append(Problem(str(target), "is damaged itself: protect the workspace again"))
        return problems, []
    except ArtifactDBError as error:
        return [Problem(str(target), str(error))], []


def describe(damage: parity.Damage, folder: Path, protected: parity.Parity) -> Problem:
    """Say which blocks of a file differ."""
    size, protected_at = protected.block, protected.protected_at
    shown = ", ".join(str(number) for number in damage.blocks[:10]) + (" …" if len(damage.blocks) > 10 else "")
    what = f"{len(damage.blocks)} blocks of {size} bytes ({shown})" if damage.blocks else "its length"
    can = "`artifactdb verify --repair` restores them" if damage.can_be_restored else "too many to be restored"
    return Problem(
        str(folder / damage.member.name), f"differs from what was protected at {protected_at}: {what}; {can}"
    )
