"""A workspace gets a file beside it from which damaged blocks of it, and of its Parquet files, can be made again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from artifactdb.artifacts import check, history, row_problems
from artifactdb.artifacts.descriptions import Problem
from artifactdb.artifacts.statistics import has_predictions
from artifactdb.catalog import checking
from artifactdb.catalog.files import catalog_folder, live_files
from artifactdb.catalog.store import Store
from artifactdb.database import Database, disk, parity
from artifactdb.database.making import new_file
from artifactdb.database.outdating import outdated_file, parity_file
from artifactdb.database.session import require_writing
from artifactdb.database.snapshot import fold_log
from artifactdb.errors import ArtifactDBError, BusyError, CorruptWorkspaceError

Progress = Callable[[int, int], None]

_TRIES = 5


def protect(database: Database, overhead: float = 0.1, progress: Progress | None = None) -> Path:
    """Write parity of the workspace as it is now; nobody can write to it meanwhile."""
    require_writing(database, "protect")
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
    _refuse_damage(database, progress)
    with new_file(target, overwrite=True) as unfinished:
        members = [parity.describe(path.parent, name) for name in names]
        parity.write(path.parent, members, unfinished, overhead, history.now(), progress)
    disk.remove(outdated_file(path))
    return target


def _refuse_damage(database: Database, progress: Progress | None) -> None:
    """See that nothing is protected that is damaged: it would be taken for right, and what could mend it be gone."""
    path, target = database.path, parity_file(database.path)
    protected = None
    with suppress(CorruptWorkspaceError):  # what is damaged itself tells nothing
        protected = parity.read(target) if target.exists() else None
    # Of a workspace that was renamed with its parity the files bear other names: it tells nothing of these.
    if protected is not None and any(member.name == path.name for member in protected.members):
        damages = parity.find_damage(protected, path.parent, progress)
        wrong = [each for each in damages if path.name != each.member.name or not may_be_newer(path, each.member)]
        problems = [describe(damage, path.parent, protected) for damage in wrong]
    else:
        found = check.verify(database, progress).problems
        found += checking.check(Store(database)) if has_predictions(database) else []
        problems = [problem for problem in found if not row_problems.is_of_a_row(problem)]
    if problems:
        raise CorruptWorkspaceError(
            f"{path} is damaged, and was not protected as it is: {problems[0].where} {problems[0].what}.",
            hint="`artifactdb verify --repair` first; `artifactdb recover` where it cannot mend.",
        )


def may_be_newer(path: Path, member: parity.Member) -> bool:
    """Tell whether a file was written since it was protected, as far as that can be told from what it holds.

    artifactdb puts its parity aside when it writes; damage of a disk changes no time and leaves nothing sound.
    """
    if path.stat().st_mtime_ns == member.modified_ns:
        return False
    try:
        database = Database(path, mode="ro")
        try:
            return all(map(row_problems.is_of_a_row, check.verify(database).problems))
        finally:
            database.close()
    except ArtifactDBError:
        return False


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
