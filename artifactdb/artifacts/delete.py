"""Taking things out: what is deleted is planned first, refused when others need it, and the plan is what happens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from artifactdb.artifacts import history
from artifactdb.artifacts.dependencies import DEPENDENTS_OUTSIDE
from artifactdb.database import Database
from artifactdb.errors import StillReferencedError

_ORPHANS = "SELECT blob_key, content_hash, size_bytes, stored_bytes FROM orphan_blobs ORDER BY blob_key"


@dataclass(frozen=True, slots=True)
class Orphan:
    """Content that no record reaches."""

    blob_key: int
    content_hash: str
    size_bytes: int
    stored_bytes: int


def find_orphans(database: Database) -> list[Orphan]:
    """Give the content that no record reaches, asked of the file as it is now."""
    return [Orphan(*row) for row in database.rows(_ORPHANS)]


def delete_orphans(database: Database, *, dry_run: bool) -> list[Orphan]:
    """Delete the content that no record reaches, and give what was, or with ``dry_run`` would be, deleted."""
    if dry_run:
        return find_orphans(database)
    with database.transaction():
        orphans = find_orphans(database)
        keys = [(orphan.blob_key,) for orphan in orphans]
        # Objects let go of their parts before the parts go.
        database.run_many("DELETE FROM blob_parts WHERE blob_key = ?", keys)
        database.run_many("DELETE FROM blobs WHERE blob_key = ?", keys)
        for table, key, users in _SHARED_VALUES:
            used = " UNION ALL ".join(f"SELECT {key} FROM {user} WHERE {key} IS NOT NULL" for user in users)
            database.rows(f"DELETE FROM {table} WHERE {key} NOT IN ({used})")
        database.keys_are_free = False
    return orphans


_DELETED = """
SELECT r.record_key, r.artifact_id, d.name, 'sha256:' || lower(hex(b.content_hash)) FROM json_each(?) AS chosen
JOIN records AS r ON r.record_key = chosen.value JOIN blobs AS b ON b.blob_key = r.blob_key
JOIN datasets AS d ON d.dataset_key = r.dataset_key
"""
_SHARED_VALUES = (
    ("chains", "chain_key", ("records",)),
    ("parameter_sets", "parameter_set_key", ("records",)),
    ("environments", "environment_key", ("records", "run_entries")),
)


def delete_records(database: Database, record_keys: Sequence[int], *, cascade: bool = False) -> int:
    """Delete records; their content becomes an orphan unless others have it.

    Parameters
    ----------
    record_keys : sequence of int
    cascade : bool, default False
        Delete what depends on them too, instead of refusing.

    Raises
    ------
    StillReferencedError
        Lists the ids outside the selection that depend on a part of it.
    """
    with database.transaction():
        keys = _with_dependents(database, record_keys) if cascade else list(record_keys)
        if not cascade:
            _refuse_if_needed(database, keys)
        named = database.rows(_DELETED, (json.dumps(keys),))
        history.note_many(
            database,
            "deleted",
            [(key, name, {"dataset": dataset, "content": content}) for key, name, dataset, content in named],
        )
        # The edges first: records of one selection may depend on each other in any order.
        database.run_many("DELETE FROM record_sources WHERE record_key = ?", [(key,) for key in keys])
        database.run_many("DELETE FROM records WHERE record_key = ?", [(key,) for key in keys])
    return len(keys)


def _refuse_if_needed(database: Database, keys: Sequence[int]) -> None:
    selection = json.dumps(list(keys))
    dependents = sorted({row[0] for key in keys for row in database.rows(DEPENDENTS_OUTSIDE, (key, selection))})
    if dependents:
        raise StillReferencedError(
            f"{len(dependents)} artifacts depend on what would be deleted: {', '.join(dependents[:5])}"
            f"{' …' if len(dependents) > 5 else ''}.",
            hint="Delete them first, or ask for cascade.",
            dependents=dependents,
        )


def _with_dependents(database: Database, keys: Sequence[int]) -> list[int]:
    rows = database.rows(
        "WITH RECURSIVE down (record_key) AS (SELECT value FROM json_each(?) UNION "
        "SELECT rs.record_key FROM down JOIN record_sources AS rs ON rs.source_key = down.record_key) "
        "SELECT record_key FROM down",
        (json.dumps(list(keys)),),
    )
    return [key for (key,) in rows]


def records_of_pipeline(database: Database, dataset: str, pipeline_id: str) -> list[int]:
    """Give the keys of a pipeline's records."""
    rows = database.rows(
        "SELECT r.record_key FROM records AS r JOIN pipelines AS p ON p.pipeline_key = r.pipeline_key "
        "JOIN datasets AS d ON d.dataset_key = p.dataset_key WHERE d.name = ? AND p.pipeline_id = ?",
        (dataset, pipeline_id),
    )
    return [key for (key,) in rows]


def records_of_dataset(database: Database, dataset: str) -> list[int]:
    """Give the keys of a dataset's records."""
    rows = database.rows(
        "SELECT record_key FROM records WHERE dataset_key = (SELECT dataset_key FROM datasets WHERE name = ?)",
        (dataset,),
    )
    return [key for (key,) in rows]


def records_of_runs(database: Database, run_keys: Sequence[int]) -> list[int]:
    """Give the keys of the records that runs created, and no other run."""
    rows = database.rows(
        "SELECT DISTINCT record_key FROM run_records AS made WHERE run_key IN (SELECT value FROM json_each(?1)) "
        "AND NOT EXISTS (SELECT 1 FROM run_records AS other WHERE other.record_key = made.record_key "
        "AND other.run_key NOT IN (SELECT value FROM json_each(?1)))",
        (json.dumps(list(run_keys)),),
    )
    return [key for (key,) in rows]
