"""Runs and pipelines in the file: functions on a database."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

from artifactdb.artifacts import environment
from artifactdb.artifacts.delete import delete_orphans, delete_records, records_of_runs
from artifactdb.artifacts.history import now
from artifactdb.artifacts.save import OF_REGISTRY, key_of_dataset, key_of_environment, key_of_pipeline
from artifactdb.database import Database
from artifactdb.database.translate import interprets
from artifactdb.errors import BusyError, InvalidValueError, RunNotFoundError
from artifactdb.runs.naming import numbered_id
from artifactdb.runs.processes import has_ended, named, this_process
from artifactdb.runs.records import Metrics, PipelineRecord, RunRecord

_RUNS = """
SELECT e.run_id, r.dataset, r.name, r.status, r.started_at, r.ended_at, r.error, r.pipeline_id, r.configuration,
  e.metadata, r.tags, r.notes, r.versions, r.pipelines, r.artifacts, e.process
FROM run_entries AS e
JOIN datasets AS d ON d.dataset_key = e.dataset_key
JOIN runs AS r ON r.run_id = e.run_id AND r.dataset = d.name
WHERE (?1 IS NULL OR d.name = ?1) AND (?2 IS NULL OR e.run_id = ?2)
  AND (?3 IS NULL OR EXISTS (SELECT 1 FROM json_each(e.tags) WHERE value = ?3))
ORDER BY e.run_key
"""
_PIPELINES = """
SELECT p.pipeline_key, p.pipeline_id, d.name, coalesce(t.name, ''), coalesce(t.status, 'completed'),
  coalesce(t.started_at, p.created_at), t.ended_at, t.error, e.run_id, t.configuration, coalesce(t.metadata, '{}'),
  coalesce(t.tags, '[]'), coalesce(t.notes, ''), e.status, e.process,
  (SELECT count(*) FROM records AS r WHERE r.pipeline_key = p.pipeline_key)
FROM pipelines AS p
JOIN datasets AS d ON d.dataset_key = p.dataset_key
LEFT JOIN trained_pipelines AS t ON t.pipeline_key = p.pipeline_key
LEFT JOIN run_entries AS e ON e.run_key = t.run_key
"""
_ONE_PIPELINE = _PIPELINES + "WHERE p.pipeline_id = ?1 AND (?2 IS NULL OR d.name = ?2) ORDER BY p.pipeline_key"
_SOME_PIPELINES = (
    _PIPELINES + "WHERE (?1 IS NULL OR d.name = ?1) AND (?2 IS NULL OR e.run_id = ?2) "
    "AND (?3 IS NULL OR EXISTS (SELECT 1 FROM json_each(t.tags) WHERE value = ?3)) ORDER BY d.name, p.pipeline_id"
)
_METRICS = 'SELECT "partition", fold_id, metric, value FROM pipeline_metrics WHERE pipeline_key = ?'
# The plus keeps the planner from sorting all pipelines of the dataset: the newest is found from the end of the table.
_NEWEST = """
SELECT pipeline_id FROM pipelines WHERE +dataset_key = ? AND pipeline_id GLOB '[0-9][0-9][0-9][0-9]*_*'
ORDER BY pipeline_key DESC LIMIT 1
"""
_LAST_NUMBER = """
SELECT coalesce(max(CAST(substr(pipeline_id, 1, instr(pipeline_id, '_') - 1) AS INTEGER)), 0) FROM pipelines
WHERE dataset_key = ? AND pipeline_id GLOB '[0-9][0-9][0-9][0-9]*_*'
"""
_TAKEN = "SELECT 1 FROM pipelines WHERE dataset_key = ? AND pipeline_id >= ? AND pipeline_id < ? LIMIT 1"
_PROBES = 20
_NAN = "nan"


# -- runs -------------------------------------------------------------------------------------------


class RunKey(NamedTuple):
    """What names a run on a dataset for sure: a key alone may be given anew when its run was taken back."""

    key: int
    run_id: str


def start_run(
    database: Database,
    dataset: str,
    *,
    name: str = "",
    pipeline_id: str = "",
    configuration: str | None = None,
    tags: Iterable[str] = (),
    notes: str = "",
    of_registry: bool = False,
) -> RunKey:
    """Enter a run of this process."""
    run_id = uuid4().hex
    versions = environment.to_json(environment.all_versions())
    with database.transaction():
        key = insert_run(
            database,
            dataset,
            {
                "run_id": run_id, "name": name, "pipeline_id": pipeline_id, "status": "running", "started_at": now(),
                "process": this_process(), "environment_key": key_of_environment(database, versions),
                "configuration": configuration, "tags": tags_json(tags), "notes": notes,
                "metadata": json.dumps({OF_REGISTRY: True} if of_registry else {}),
            },
        )  # fmt: skip
    return RunKey(key, run_id)


def present_key(database: Database, run: RunKey, status: str | None = None) -> int | None:
    """Give the key of a run if it is in the file, and in that state."""
    sql = "SELECT run_key FROM run_entries WHERE run_key = ?1 AND run_id = ?2 AND (?3 IS NULL OR status = ?3)"
    key: int | None = database.value(sql, (*run, status))
    return key


def insert_run(database: Database, dataset: str, columns: Mapping[str, Any]) -> int:
    """Enter a run as its columns say."""
    values = {"dataset_key": key_of_dataset(database, dataset), **columns}
    return _insert(database, "run_entries", values)


def resume_run(database: Database, run_key: int) -> None:
    """Let this process carry on with a run."""
    with database.transaction():
        database.rows(
            "UPDATE run_entries SET status = 'running', ended_at = NULL, error = NULL, process = ? WHERE run_key = ?",
            (this_process(), run_key),
        )


def end_run(database: Database, run_key: int, status: str = "completed", error: str | None = None) -> None:
    """Say how a run ended; pipelines that it left unfinished ended as it did."""
    with database.transaction():
        database.rows(
            "UPDATE run_entries SET status = ?, ended_at = ?, error = ?, process = NULL WHERE run_key = ?",
            (status, now(), error, run_key),
        )
        database.rows(
            "UPDATE trained_pipelines SET status = ?, ended_at = ? WHERE run_key = ? AND status = 'running'",
            ("interrupted" if status == "completed" else status, now(), run_key),
        )


@interprets
def mark_interrupted(database: Database) -> list[str]:
    """Find the runs whose process is gone without a word, and say so in the file; give their ids."""
    running = database.rows("SELECT run_key, run_id, process FROM run_entries WHERE status = 'running'")
    dead = [(key, run_id) for key, run_id, process in running if has_ended(process)]
    if dead:
        with database.transaction(wait=False):
            for key, _ in dead:
                # Asked again: somebody may have resumed it meanwhile.
                process = database.value(
                    "SELECT process FROM run_entries WHERE run_key = ? AND status = 'running'", (key,)
                )
                if has_ended(process):
                    end_run(database, key, "interrupted", "its process ended without a word")
    return [run_id for _, run_id in dead]


def runs(
    database: Database, dataset: str | None = None, run_id: str | None = None, tag: str | None = None
) -> list[RunRecord]:
    """Give the runs that meet every condition, oldest first."""
    return [_run(row) for row in database.rows(_RUNS, (dataset, run_id, tag))]


@interprets
def _run(row: tuple[Any, ...]) -> RunRecord:
    (run_id, dataset, name, status, started_at, ended_at, error, pipeline_id, configuration, metadata, tags, notes,
     versions, pipelines_, artifacts, process) = row  # fmt: skip
    if status == "running" and has_ended(process):
        status = "interrupted"
    return RunRecord(
        run_id, dataset, name, status, started_at, ended_at, error, pipeline_id, _parsed(configuration),
        json.loads(metadata), json.loads(tags), notes, _parsed(versions) or {}, pipelines_, artifacts,
    )  # fmt: skip


def key_of_run(database: Database, run_id: str, dataset: str) -> int | None:
    """Give the key of a run on a dataset, or None."""
    key: int | None = database.value(
        "SELECT run_key FROM run_entries JOIN datasets USING (dataset_key) WHERE run_id = ? AND datasets.name = ?",
        (run_id, dataset),
    )
    return key


def keys_of_run(database: Database, run_id: str, dataset: str | None = None) -> list[int]:
    """Give the keys of a run, one for each dataset.

    Raises
    ------
    RunNotFoundError
    """
    rows = database.rows(
        "SELECT run_key FROM run_entries JOIN datasets USING (dataset_key) "
        "WHERE run_id = ?1 AND (?2 IS NULL OR datasets.name = ?2)",
        (run_id, dataset),
    )
    if not rows:
        raise RunNotFoundError(f"there is no run {run_id!r}.", hint="`artifactdb runs` lists them.")
    return [key for (key,) in rows]


def require_ended(database: Database, run_id: str, run_keys: Iterable[int], *, elsewhere: bool = True) -> None:
    """Refuse a run that a process carries out which may still be there.

    Parameters
    ----------
    elsewhere : bool, default True
        Whether one counts of which nobody here can tell, as of another machine.

    Raises
    ------
    BusyError
    """
    for key in run_keys:
        row = database.row("SELECT status, process FROM run_entries WHERE run_key = ?", (key,))
        if row is None or row[0] != "running" or has_ended(row[1]):
            continue
        who, is_elsewhere = named(row[1])
        if is_elsewhere and not elsewhere:
            continue
        gone = (
            f"; where that machine is gone, say so with `artifactdb runs FILE {run_id} --end`" if is_elsewhere else ""
        )
        raise BusyError(f"run {run_id} is still going on in {who}.", hint=f"Wait for its end{gone}.")


def say_ended(database: Database, run_id: str) -> None:
    """Mark a run as interrupted whose process is gone, as somebody says who knows."""
    keys = keys_of_run(database, run_id)
    require_ended(database, run_id, keys, elsewhere=False)
    with database.transaction():
        for key in keys:
            if database.value("SELECT status FROM run_entries WHERE run_key = ?", (key,)) == "running":
                end_run(database, key, "interrupted", "its process is gone, as somebody said")


def take_back(database: Database, run_keys: Sequence[int]) -> int:
    """Delete the records that runs created, and no other run; give how many."""
    with database.transaction():
        count = delete_records(database, records_of_runs(database, run_keys))
        database.run_many("DELETE FROM run_records WHERE run_key = ?", [(key,) for key in run_keys])
        delete_orphans(database, dry_run=False)
    return count


def remove_run(database: Database, run_key: int) -> None:
    """Remove a run with its pipelines that hold no artifact any more."""
    with database.transaction():
        database.rows(
            "DELETE FROM pipelines "
            "WHERE pipeline_key IN (SELECT pipeline_key FROM trained_pipelines WHERE run_key = ?) "
            "AND NOT EXISTS (SELECT 1 FROM records AS r WHERE r.pipeline_key = pipelines.pipeline_key)",
            (run_key,),
        )
        database.rows("DELETE FROM run_entries WHERE run_key = ?", (run_key,))
        database.keys_are_free = False


def unfinished(database: Database, dataset: str, pipeline_id: str) -> list[int]:
    """Give the registry's runs of a dataset and pipeline that did not end well, oldest first."""
    rows = database.rows(
        "SELECT run_key, status, process FROM run_entries JOIN datasets USING (dataset_key) "
        "WHERE run_entries.status IN ('running', 'interrupted') AND datasets.name = ? AND pipeline_id = ? "
        # Those of files of an earlier schema have no name and bear no mark.
        f"AND (metadata ->> '{OF_REGISTRY}' OR (run_entries.name = '' AND environment_key IS NULL))",
        (dataset, pipeline_id),
    )
    return [key for key, status, process in rows if status == "interrupted" or has_ended(process)]


# -- pipelines --------------------------------------------------------------------------------------


def number_pipeline(database: Database, dataset: str, name: str, configuration: str) -> str:
    """Give the id of the dataset's next pipeline; to be used within the transaction that enters it."""
    dataset_key = key_of_dataset(database, dataset)
    newest = database.value(_NEWEST, (dataset_key,))
    digits = newest.partition("_")[0] if newest else "0"
    number = int(digits) + 1 if digits.isdigit() else 1
    for free in range(number, number + _PROBES):
        if not database.rows(_TAKEN, (dataset_key, f"{free:04}_", f"{free:04}`")):  # the character after _
            return numbered_id(free, name, configuration)
    # Older numbers came last, by an import for one: once, all are looked at.
    return numbered_id(database.value(_LAST_NUMBER, (dataset_key,)) + 1, name, configuration)


def enter_pipeline(database: Database, dataset: str, pipeline_id: str, columns: Mapping[str, Any]) -> int:
    """Enter a pipeline, or what is newly known of it; give its key."""
    given = {"name": "", "metadata": "{}", "tags": "[]", "notes": "", **columns}
    with database.transaction():
        key = key_of_pipeline(database, key_of_dataset(database, dataset), pipeline_id)
        database.rows("DELETE FROM trained_pipelines WHERE pipeline_key = ?", (key,))
        _insert(database, "trained_pipelines", {"pipeline_key": key, **given})
    return key


def key_of(database: Database, pipeline_id: str, dataset: str) -> int | None:
    """Give the key of a pipeline, or None."""
    key: int | None = database.value(
        "SELECT pipeline_key FROM pipelines JOIN datasets USING (dataset_key) "
        "WHERE pipeline_id = ? AND datasets.name = ?",
        (pipeline_id, dataset),
    )
    return key


def ids_that_begin(database: Database, beginning: str, dataset: str | None = None) -> list[str]:
    """Give the ids of pipelines that begin with a number and perhaps a name: ``0042`` or ``0042_pls``."""
    rows = database.rows(
        "SELECT DISTINCT p.pipeline_id FROM pipelines AS p JOIN datasets AS d ON d.dataset_key = p.dataset_key "
        "WHERE p.pipeline_id >= ?1 || '_' AND p.pipeline_id < ?1 || '`' AND (?2 IS NULL OR d.name = ?2) "
        "ORDER BY p.pipeline_id",
        (beginning, dataset),
    )
    return [pipeline_id for (pipeline_id,) in rows]


def end_pipeline(database: Database, pipeline_key: int, status: str, error: str | None = None) -> None:
    """Say how a pipeline ended."""
    with database.transaction():
        database.rows(
            "UPDATE trained_pipelines SET status = ?, ended_at = ?, error = ? WHERE pipeline_key = ?",
            (status, now(), error, pipeline_key),
        )


def keep_metadata(database: Database, pipeline_key: int, metadata: Mapping[str, Any]) -> None:
    """Keep what else is known of a pipeline, instead of what was."""
    text = json.dumps(metadata, ensure_ascii=False, default=str)
    database.rows("UPDATE trained_pipelines SET metadata = ? WHERE pipeline_key = ?", (text, pipeline_key))


def pipelines(
    database: Database, dataset: str | None = None, run_id: str | None = None, tag: str | None = None
) -> list[PipelineRecord]:
    """Give the pipelines that meet every condition, by dataset and id."""
    return [_pipeline(database, row) for row in database.rows(_SOME_PIPELINES, (dataset, run_id, tag))]


def pipeline(database: Database, pipeline_id: str, dataset: str | None = None) -> PipelineRecord:
    """Give one pipeline.

    Raises
    ------
    RunNotFoundError
    InvalidValueError
        When no dataset is given and the id is there in several.
    """
    found = database.rows(_ONE_PIPELINE, (pipeline_id, dataset))
    if not found:
        where = f" of {dataset}" if dataset is not None else ""
        raise RunNotFoundError(
            f"there is no pipeline {pipeline_id!r}{where}.", hint="`artifactdb runs FILE --pipelines` lists them."
        )
    if len(found) > 1:
        raise InvalidValueError(
            f"{pipeline_id!r} is there in the datasets {', '.join(sorted(row[2] for row in found))}.",
            hint="Say which one with dataset= (--dataset).",
        )
    return _pipeline(database, found[0])


@interprets
def _pipeline(database: Database, row: tuple[Any, ...]) -> PipelineRecord:
    (key, pipeline_id, dataset, name, status, started_at, ended_at, error, run_id, configuration, metadata, tags, notes,
     of_run, process, artifacts) = row  # fmt: skip
    if status == "running" and (of_run != "running" or has_ended(process)):
        status = "interrupted"
    return PipelineRecord(
        pipeline_id, dataset, name, status, started_at, ended_at, error, run_id, _parsed(configuration),
        json.loads(metadata), json.loads(tags), notes, metrics_of(database, key), artifacts,
    )  # fmt: skip


@interprets
def metrics_of(database: Database, pipeline_key: int) -> Metrics:
    """Give how well a pipeline does: partition, then fold ("all" for all together), then metric."""
    found: Metrics = {}
    for partition, fold_id, metric, value in database.rows(_METRICS, (pipeline_key,)):
        number = math.nan if value == _NAN else value
        found.setdefault(partition, {}).setdefault(fold_id or "all", {})[metric] = number
    return found


def log_metrics(database: Database, pipeline_key: int, metrics: Mapping[str, Mapping[str, Any]], fold_id: str) -> None:
    """Keep numbers by partition and metric; ones that are there are replaced."""
    rows = [
        (pipeline_key, partition, fold_id, metric, _NAN if math.isnan(value) else value)
        for partition, values in numbers_by_partition(metrics).items()
        for metric, value in values.items()
    ]
    with database.transaction():
        database.run_many("INSERT OR REPLACE INTO pipeline_metrics VALUES (?, ?, ?, ?, ?)", rows)


def numbers_by_partition(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Give metrics as they are kept, by partition and name.

    Raises
    ------
    InvalidValueError
        For what is not by partition, or no number.
    """
    example = "{'val': {'rmse': 0.1}}"
    if not isinstance(metrics, Mapping):
        raise InvalidValueError(f"metrics are given by partition, e.g. {example}, not {metrics!r}.")
    for partition, values in metrics.items():
        if not isinstance(values, Mapping):
            raise InvalidValueError(f"metrics are given by partition, e.g. {example}; {partition!r} holds {values!r}.")
    return {
        str(partition): {str(metric): _number(metric, value) for metric, value in values.items()}
        for partition, values in metrics.items()
    }


def _number(metric: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidValueError(f"metric {metric} is a number, not {value!r}.") from None


def tags_json(tags: Iterable[str]) -> str:
    """Give tags as the file keeps them: a sorted JSON list."""
    listed = list(tags) if isinstance(tags, Iterable) and not isinstance(tags, str) else None
    if listed is None or not all(isinstance(tag, str) for tag in listed):
        raise InvalidValueError(f"tags are a list of texts, not {tags!r}.")
    return json.dumps(sorted(set(listed)), ensure_ascii=False)


def describe(database: Database, table: str, key: int, *, tags: Iterable[str] | None, notes: str | None) -> None:
    """Change tags and notes of a run or a pipeline; None leaves them."""
    column = {"run_entries": "run_key", "trained_pipelines": "pipeline_key"}[table]
    with database.transaction():
        if tags is not None:
            database.rows(f"UPDATE {table} SET tags = ? WHERE {column} = ?", (tags_json(tags), key))
        if notes is not None:
            database.rows(f"UPDATE {table} SET notes = ? WHERE {column} = ?", (notes, key))


def _insert(database: Database, table: str, columns: Mapping[str, Any]) -> int:
    marks = ", ".join("?" * len(columns))
    return database.insert(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", list(columns.values()))


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)
