"""Everything of one state of a workspace but its predictions comes into another, in one transaction."""

from __future__ import annotations

from collections.abc import Callable

from artifactdb.blobs.copying import copy_blobs
from artifactdb.database import Database, Snapshot
from artifactdb.transfer.conflicts import Merge
from artifactdb.transfer.records import Keys, take_records, take_shared_values
from artifactdb.transfer.runs import take_library, take_metrics, take_runs


def take_in(
    source: Snapshot, target: Database, merge: Merge, progress: Callable[[int, int], None] | None = None
) -> None:
    """Take in content, records, runs, metrics and library; what nobody reaches stays behind.

    Runs within the caller's transaction.
    """
    keys = Keys()
    keys.blobs = copy_blobs(source, target, progress=progress)
    take_shared_values(source, target, keys)
    take_records(source, target, keys, merge)
    take_runs(source, target, keys, merge)
    take_metrics(source, target, keys, merge)
    take_library(source, target, keys, merge)
    merge.settle()
