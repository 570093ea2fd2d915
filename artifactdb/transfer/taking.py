"""Everything of one state of a workspace but its predictions comes into another, in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from artifactdb.artifacts import history
from artifactdb.blobs.copying import copy_blobs
from artifactdb.database import Database, Snapshot
from artifactdb.errors import ArtifactDBError, CorruptWorkspaceError
from artifactdb.transfer.conflicts import Merge
from artifactdb.transfer.keys import Keys
from artifactdb.transfer.records import take_records, take_shared_values
from artifactdb.transfer.runs import (
    take_library,
    take_metrics,
    take_run_records,
    take_runs,
    take_trained_pipelines,
)
from artifactdb.transfer.trust import take_history, take_signatures, take_signers


class Taken(NamedTuple):
    """What came in: keys, and those of records in the source that are new, that replaced another, that signed ours.

    Of those that ``stayed`` ours has other content, and nothing came in.
    """

    keys: Keys
    new: list[int]
    replaced: list[int]
    signed: list[int]
    stayed: list[int]


def take_in(
    source: Snapshot, target: Database, merge: Merge, progress: Callable[[int, int], None] | None = None
) -> Taken:
    """Take in content, records, runs, metrics and library; what nobody reaches stays behind.

    Runs within the caller's transaction.
    """
    _require_tables(source, target)
    keys, mended = Keys(), list[bytes]()
    try:
        keys.blobs = copy_blobs(source, target, progress=progress, mended=mended)
        if mended:
            done = [f"blob sha256:{digest.hex()} was written anew" for digest in mended]
            history.note(target, "repaired", details={"done": done})
        take_shared_values(source, target, keys)
        take_signers(source, target, keys)
        taken = Taken(keys, *take_records(source, target, keys, merge))
        take_signatures(source, target, keys)
        take_history(source, target, keys, taken.new)
        runs = take_runs(source, target, keys, merge)
        take_run_records(source, target, keys, runs, {*taken.new, *taken.replaced}, {*taken.stayed})
        take_trained_pipelines(source, target, keys, runs, merge)
        take_metrics(source, target, keys, merge)
        take_library(source, target, keys, merge)
    except ArtifactDBError:
        raise
    except _DAMAGED as error:
        raise CorruptWorkspaceError(
            f"{source.path} holds what artifactdb does not write ({type(error).__name__}: {error}).",
            hint="`artifactdb verify` lists what is wrong with it; nothing was changed here.",
        ) from error
    merge.settle()
    return taken


# What a file that was damaged or made up makes of lines that take for granted what the schema promises.
_DAMAGED = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError, MemoryError)


def _require_tables(source: Snapshot, target: Database) -> None:
    """Refuse a file whose tables are no tables: a view may say anything, and run for ever."""
    sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    missing = {name for (name,) in target.rows(sql)} - {name for (name,) in source.rows(sql)}
    if missing:
        raise CorruptWorkspaceError(f"{source.path} has no table {', '.join(sorted(missing)[:5])}.")
