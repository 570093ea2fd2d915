"""What is registered between a start and an end of training, so that a failed training can be taken back."""

from __future__ import annotations

from artifactdb.artifacts.delete import delete_orphans, delete_records
from artifactdb.artifacts.save import key_of_dataset, now
from artifactdb.database import Database


def start(database: Database, dataset: str, pipeline_id: str) -> int:
    """Begin to keep track; give the key of the run."""
    with database.transaction():
        return database.insert(
            "INSERT INTO training_runs (dataset_key, pipeline_id, started_at) VALUES (?, ?, ?)",
            (key_of_dataset(database, dataset), pipeline_id, now()),
        )


def end(database: Database, run: int) -> None:
    """Say that training ended well: what it registered stays."""
    with database.transaction():
        database.rows("UPDATE training_runs SET ended_at = ? WHERE training_run_key = ?", (now(), run))


def take_back(database: Database, runs: list[int]) -> int:
    """Delete what was first registered in these runs, and end them; give how many records."""
    with database.transaction():
        keys = [
            key
            for run in runs
            for (key,) in database.rows(
                "SELECT record_key FROM training_run_records WHERE training_run_key = ?", (run,)
            )
        ]
        count = delete_records(database, keys)
        for run in runs:
            end(database, run)
        delete_orphans(database, dry_run=False)
    return count


def unfinished(database: Database, dataset: str, pipeline_id: str) -> list[int]:
    """Give the runs of a dataset and pipeline that never ended, as a process leaves them that died."""
    rows = database.rows(
        "SELECT training_run_key FROM training_runs JOIN datasets USING (dataset_key) "
        "WHERE ended_at IS NULL AND name = ? AND pipeline_id = ?",
        (dataset, pipeline_id),
    )
    return [key for (key,) in rows]
