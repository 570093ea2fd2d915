"""What can be made whole of a damaged workspace where it lies, without anything of value being lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artifactdb.artifacts import check
from artifactdb.artifacts.descriptions import Problem
from artifactdb.artifacts.statistics import has_predictions
from artifactdb.catalog import checking
from artifactdb.catalog.store import Store
from artifactdb.database import Database, disk, parity, snapshot
from artifactdb.database.foreign import refuse_if_open_here
from artifactdb.database.opening import workspace_file
from artifactdb.database.outdating import outdated_file, parity_file
from artifactdb.database.reindexing import alone, keep, problems_of, reindex
from artifactdb.errors import ArtifactDBError, WorkspaceNotFoundError
from artifactdb.transfer.mending import carry_out, plan_mending
from artifactdb.transfer.protect import describe, may_be_newer

Progress = Callable[[int, int], None]

_RECOVER = "`artifactdb recover` saves what is right of it into a new file"


@dataclass(slots=True)
class Repair:
    """What was repaired in place.

    Attributes
    ----------
    done : list of str
        What was made whole.
    kept : list of Path
        Copies of the files as they were before.
    problems : list of Problem
        What is still wrong.
    """

    path: Path
    done: list[str] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong any more."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Give plain types."""
        problems = [problem.to_dict() for problem in self.problems]
        return {
            "path": str(self.path), "ok": self.ok, "done": list(self.done), "kept": [str(kept) for kept in self.kept],
            "problems": problems,
        }  # fmt: skip


def repair(path: str | os.PathLike[str], *, as_protected: bool = False, progress: Progress | None = None) -> Repair:
    """Repair a workspace that nobody has open: damaged blocks from its parity, indexes, references that lead nowhere.

    A file is copied before it is changed, to a name that ends in ``.damaged``.

    Parameters
    ----------
    as_protected : bool, default False
        Restore what differs from what was protected even where SQLite finds the file sound: a wrong bit in a name or a
        score looks no other than what another program wrote.

    Raises
    ------
    BusyError
        When somebody has it open.
    """
    file = workspace_file(path)
    if not file.exists():
        raise WorkspaceNotFoundError(f"{file} is not there.", hint="`artifactdb init` makes a workspace.")
    refuse_if_open_here(file)
    found = Repair(file)
    with alone(file):
        _restore_blocks(file, found, progress, as_protected=as_protected)
    refused = found.problems
    if problems_of(file):
        kept = _name_of_copy(file)
        if reindex(file, kept):
            found.kept.append(kept)
            found.done.append("all indexes were made again from their tables")
    try:
        database = Database(file)
    except ArtifactDBError as error:
        found.problems.append(Problem(str(file), f"{error.message} {_RECOVER}."))
        return found
    try:
        left = _problems(database, progress)
        if left and (plan := plan_mending(database, left)):
            found.kept.append(snapshot.backup(database, _name_of_copy(file)))
            database.keys_are_free = True  # what waits for keys to come is among what goes
            found.done += carry_out(database, plan)
            left = _problems(database, progress)
        found.problems = [*refused, *left]
        if left:
            found.problems.append(Problem(str(file), f"could not be made whole: {_RECOVER}"))
    finally:
        database.close()
    return found


def _restore_blocks(file: Path, found: Repair, progress: Progress | None, *, as_protected: bool) -> None:
    """Make damaged blocks again, unless it may be that somebody changed the file."""
    target = parity_file(file)
    if not target.exists():
        if outdated_file(file).exists():
            found.done.append(f"{outdated_file(file).name} is of an earlier state, and was not used")
        return
    try:
        protected = parity.read(target)
        damages = parity.find_damage(protected, file.parent, progress)
    except ArtifactDBError as error:
        found.problems.append(Problem(str(target), str(error)))
        return
    for damage in damages:
        path = file.parent / damage.member.name
        if path == file and not as_protected and may_be_newer(path, damage.member):
            found.problems.append(
                Problem(
                    str(path),
                    f"is sound, and {len(damage.blocks)} blocks differ from what was protected at "
                    f"{protected.protected_at}. It was written since, perhaps by another program, so nothing was "
                    "restored: protect it again if it is right, or `artifactdb verify --repair --as-protected`",
                )
            )
            continue
        if not damage.can_be_restored:
            found.problems.append(describe(damage, file.parent, protected))
            continue
        try:
            _restore(protected, damage, path, found)
        except ArtifactDBError as error:
            found.problems.append(Problem(str(path), str(error)))


def _restore(protected: parity.Parity, damage: parity.Damage, path: Path, found: Repair) -> None:
    if path.exists():
        kept = _name_of_copy(path)
        keep(path, kept)
        found.kept.append(kept)
    unfinished = path.with_name(f".{path.name}.restored")
    disk.make_folder(path.parent)
    unfinished.write_bytes(b"")
    try:
        if not parity.restore(protected, protected.path.parent, damage, unfinished):
            found.problems.append(Problem(str(path), f"{protected.path.name} does not bring it back as it was"))
            return
        disk.sync(unfinished)
        os.utime(unfinished, ns=(damage.member.modified_ns, damage.member.modified_ns))
        disk.rename(unfinished, path)
        disk.sync(path.parent)
    finally:
        disk.remove(unfinished)
    found.done.append(f"{len(damage.blocks)} damaged blocks of {path.name} were restored from {protected.path.name}")


def _name_of_copy(path: Path) -> Path:
    number = 1
    while (kept := path.with_name(f"{path.name}.damaged{'' if number == 1 else f'-{number}'}")).exists():
        number += 1
    return kept


def _problems(database: Database, progress: Progress | None) -> list[Problem]:
    problems = check.verify(database, progress).problems
    if has_predictions(database):
        problems += checking.check(Store(database))
    return problems
