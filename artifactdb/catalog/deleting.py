"""Predictions go: staged ones at once, those of Parquet files by being listed; compaction gives their space back."""

from __future__ import annotations

import json
from collections.abc import Sequence

from artifactdb.catalog.asking import find_in_files
from artifactdb.catalog.columns import ARRAY_IDS
from artifactdb.catalog.files import live_files
from artifactdb.catalog.store import Store
from artifactdb.database import Database
from artifactdb.errors import InvalidValueError

_UNNAMED_ARRAYS = f"""
DELETE FROM staged_arrays WHERE array_id NOT IN (
  {" UNION ALL ".join(f"SELECT {name} FROM staged_predictions WHERE {name} IS NOT NULL" for name in ARRAY_IDS)})
"""

_PIPELINES_OF_RUN = """
SELECT d.name, p.pipeline_id
FROM training_run_records AS made
JOIN records AS r ON r.record_key = made.record_key
JOIN pipelines AS p ON p.pipeline_key = r.pipeline_key
JOIN datasets AS d ON d.dataset_key = p.dataset_key
WHERE made.training_run_key = ?
UNION
SELECT d.name, t.pipeline_id FROM training_runs AS t JOIN datasets AS d ON d.dataset_key = t.dataset_key
WHERE t.training_run_key = ? AND t.pipeline_id <> ''
"""


def delete(store: Store, ids: Sequence[str]) -> None:
    """Delete predictions by id, within the caller's transaction."""
    database = store.database
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


def pipelines_of_run(database: Database, run_id: int) -> list[tuple[str, str]]:
    """Give dataset and pipeline id of what a run trained.

    Raises
    ------
    InvalidValueError
        When there is no such run.
    """
    if not database.rows("SELECT 1 FROM training_runs WHERE training_run_key = ?", (run_id,)):
        raise InvalidValueError(f"there is no run {run_id!r}.", hint="The table runs lists them.")
    return [(dataset, pipeline_id) for dataset, pipeline_id in database.rows(_PIPELINES_OF_RUN, (run_id, run_id))]
