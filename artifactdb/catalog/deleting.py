"""Predictions go: staged ones at once, those of Parquet files by being listed; compaction gives their space back."""

from __future__ import annotations

import json
from collections.abc import Sequence

from artifactdb.artifacts import history
from artifactdb.catalog.asking import find_in_files
from artifactdb.catalog.columns import ARRAY_IDS
from artifactdb.catalog.files import live_files
from artifactdb.catalog.store import Store
from artifactdb.database import Database
from artifactdb.errors import RunNotFoundError

_UNNAMED_ARRAYS = f"""
DELETE FROM staged_arrays WHERE array_id NOT IN (
  {" UNION ALL ".join(f"SELECT {name} FROM staged_predictions WHERE {name} IS NOT NULL" for name in ARRAY_IDS)})
"""

# A pipeline that another run trains, or has trained to the end, is that one's: its predictions stay.
_PIPELINES_OF_RUN = """
WITH touched (dataset_key, pipeline_id) AS (
  SELECT p.dataset_key, p.pipeline_id
  FROM run_entries AS e
  JOIN run_records AS made ON made.run_key = e.run_key
  JOIN records AS r ON r.record_key = made.record_key
  JOIN pipelines AS p ON p.pipeline_key = r.pipeline_key
  WHERE e.run_id = ?1
  UNION
  SELECT dataset_key, pipeline_id FROM run_entries WHERE run_id = ?1 AND pipeline_id <> ''
)
SELECT d.name, touched.pipeline_id
FROM touched JOIN datasets AS d ON d.dataset_key = touched.dataset_key
WHERE NOT EXISTS (
    SELECT 1 FROM pipelines AS p
    JOIN trained_pipelines AS t ON t.pipeline_key = p.pipeline_key
    JOIN run_entries AS other ON other.run_key = t.run_key
    WHERE p.dataset_key = touched.dataset_key AND p.pipeline_id = touched.pipeline_id AND other.run_id <> ?1)
  AND NOT EXISTS (
    SELECT 1 FROM run_entries AS other
    WHERE other.dataset_key = touched.dataset_key AND other.pipeline_id = touched.pipeline_id
      AND other.run_id <> ?1 AND other.status = 'completed')
  AND NOT EXISTS (
    SELECT 1 FROM pipelines AS p
    JOIN records AS r ON r.pipeline_key = p.pipeline_key
    JOIN run_records AS made ON made.record_key = r.record_key
    JOIN run_entries AS other ON other.run_key = made.run_key
    WHERE p.dataset_key = touched.dataset_key AND p.pipeline_id = touched.pipeline_id
      AND other.run_id <> ?1 AND other.status = 'completed')
UNION
SELECT d.name, p.pipeline_id
FROM run_entries AS e
JOIN trained_pipelines AS t ON t.run_key = e.run_key
JOIN pipelines AS p ON p.pipeline_key = t.pipeline_key
JOIN datasets AS d ON d.dataset_key = p.dataset_key
WHERE e.run_id = ?1
"""


def delete(store: Store, ids: Sequence[str]) -> None:
    """Delete predictions by id, within the caller's transaction."""
    database = store.database
    history.note(database, "deleted", details={"predictions": len(ids)})
    wanted = json.dumps(list(ids))
    staged = "SELECT id FROM staged_predictions WHERE id IN (SELECT value FROM json_each(?))"
    in_staging = [(row_id,) for (row_id,) in database.rows(staged, (wanted,))]
    if in_staging:
        database.run_many("DELETE FROM staged_predictions WHERE id = ?", in_staging)
        # A flush that is under way has read these rows already.
        database.run_many("INSERT INTO deleted_predictions (file_key, id) VALUES (NULL, ?)", in_staging)
        database.rows(_UNNAMED_ARRAYS)
    elsewhere = sorted(set(ids) - {row_id for (row_id,) in in_staging})
    if elsewhere:
        for file in live_files(database):
            if file.kind == "meta":
                there = find_in_files(store, "meta", {file.file_key}, "id", elsewhere, ("id",))
                database.run_many(
                    "INSERT OR IGNORE INTO deleted_predictions (file_key, id) VALUES (?, ?)",
                    [(file.file_key, row_id) for (row_id,) in there],
                )


def pipelines_of_run(database: Database, run_id: str) -> list[tuple[str, str]]:
    """Give dataset and pipeline id of what a run trained.

    Raises
    ------
    RunNotFoundError
    """
    if not database.rows("SELECT 1 FROM run_entries WHERE run_id = ?", (run_id,)):
        raise RunNotFoundError(f"there is no run {run_id!r}.", hint="The table runs lists them.")
    return [(dataset, pipeline_id) for dataset, pipeline_id in database.rows(_PIPELINES_OF_RUN, (run_id,))]
