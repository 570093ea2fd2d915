"""Pipelines and runs as plain dicts: what ``manifest.yaml`` holds, and what a library entry keeps.

The layout is that of the seed's manifests, schema 3.0; what other programs add to theirs is kept and given back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from artifactdb.artifacts.environment import to_json
from artifactdb.artifacts.history import now
from artifactdb.artifacts.manifest import SCHEMA_VERSION, export_manifest
from artifactdb.artifacts.save import key_of_environment
from artifactdb.database import Database
from artifactdb.errors import DuplicateError, InvalidValueError
from artifactdb.ids import require_pipeline_id
from artifactdb.records import ArtifactRecord
from artifactdb.runs import store
from artifactdb.runs.naming import require_dataset_name
from artifactdb.runs.records import STATUSES, PipelineRecord, RunRecord

_KNOWN = {
    "schema_version", "pipeline_id", "name", "dataset", "created_at", "ended_at", "status", "error", "run_id", "tags",
    "notes", "pipeline", "metrics", "artifacts",
}  # fmt: skip


def manifest_of(pipeline: PipelineRecord, records: Sequence[ArtifactRecord]) -> dict[str, Any]:
    """Give a pipeline and the records of its artifacts as a manifest."""
    return {
        "schema_version": SCHEMA_VERSION,
        "pipeline_id": pipeline.pipeline_id,
        "name": pipeline.name,
        "dataset": pipeline.dataset,
        "created_at": pipeline.started_at,
        "ended_at": pipeline.ended_at,
        "status": pipeline.status,
        "error": pipeline.error,
        "run_id": pipeline.run_id,
        "tags": pipeline.tags,
        "notes": pipeline.notes,
        "pipeline": {"steps": pipeline.configuration},
        "metrics": pipeline.metrics,
        **_beside(pipeline.metadata),
        "artifacts": export_manifest(records),
    }


def _beside(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Give metadata as keys of a manifest: what is called as those are, in one of its own."""
    beside = {name: value for name, value in metadata.items() if name not in _KNOWN}
    hidden = {name: value for name, value in metadata.items() if name in _KNOWN}
    if hidden or _is_hidden(beside.get("metadata")):
        beside["metadata"] = hidden | ({"metadata": beside["metadata"]} if "metadata" in beside else {})
    return beside


def _metadata_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    beside = {name: value for name, value in manifest.items() if name not in _KNOWN}
    return beside | beside.pop("metadata") if _is_hidden(beside.get("metadata")) else beside


def _is_hidden(value: Any) -> bool:
    """Tell ``_beside``'s own key from one that another program, or the user, called so."""
    return isinstance(value, Mapping) and bool(value) and {*value} <= {*_KNOWN, "metadata"}


def enter_run(database: Database, run: Mapping[str, Any]) -> int:
    """Enter a run that ``RunRecord.to_dict`` describes, unless it is there; give its key."""
    dataset = require_dataset_name(run.get("dataset"))
    run_id = str(run.get("run_id") or "")
    if not run_id:
        raise InvalidValueError("a run has no run_id.")
    found = store.key_of_run(database, run_id, dataset)
    if found is not None:
        return found
    versions = run.get("environment")
    return store.insert_run(
        database,
        dataset,
        {
            "run_id": run_id,
            "name": str(run.get("name") or ""),
            "pipeline_id": str(run.get("pipeline_id") or ""),
            "status": _status(run.get("status")),
            "started_at": str(run.get("started_at") or now()),
            "ended_at": _text(run.get("ended_at")),
            "error": _text(run.get("error")),
            "environment_key": key_of_environment(database, to_json(versions)) if versions else None,
            "configuration": json_text(run.get("configuration"), canonical=True),
            "metadata": json_text(run.get("metadata") or {}),
            "tags": store.tags_json(run.get("tags") or []),
            "notes": str(run.get("notes") or ""),
        },
    )


def enter_pipeline(database: Database, manifest: Mapping[str, Any]) -> int:
    """Enter what a manifest says of a pipeline, its artifacts left out; give its key.

    Raises
    ------
    DuplicateError
        When the dataset has a pipeline of that id with another configuration.
    """
    dataset = require_dataset_name(manifest.get("dataset"))
    pipeline_id = require_pipeline_id(manifest.get("pipeline_id"))
    steps = manifest.get("pipeline")
    plain = steps["steps"] if isinstance(steps, Mapping) and "steps" in steps else steps
    configuration = json_text(plain, canonical=True)
    run_key = store.key_of_run(database, str(manifest["run_id"]), dataset) if manifest.get("run_id") else None
    present = database.row(
        "SELECT t.pipeline_key, t.configuration FROM trained_pipelines AS t JOIN pipelines AS p USING (pipeline_key) "
        "JOIN datasets AS d USING (dataset_key) WHERE d.name = ? AND p.pipeline_id = ?",
        (dataset, pipeline_id),
    )
    if present is not None:
        if present[1] != configuration:
            raise DuplicateError(
                f"{dataset} has a pipeline {pipeline_id!r} already, with another configuration.",
                hint="Import into a new workspace.",
            )
        return int(present[0])
    began = {"run_key": run_key, "started_at": str(manifest.get("created_at") or now())}
    key = store.enter_pipeline(
        database, dataset, pipeline_id, {**_columns(manifest), **began, "configuration": configuration}
    )
    enter_metrics(database, key, manifest.get("metrics") or {})
    return key


def differences(database: Database, pipeline_key: int, manifest: Mapping[str, Any]) -> list[str]:
    """Name what a manifest says otherwise of a pipeline that is there with the same configuration."""
    columns = _columns(manifest)
    names = ", ".join(columns)
    row = database.rows(f"SELECT {names} FROM trained_pipelines WHERE pipeline_key = ?", (pipeline_key,))[0]
    present = dict(zip(columns, row, strict=True))
    present["status"] = _status(present["status"])
    for each in (columns, present):
        each["metadata"] = json.loads(each["metadata"])  # whatever the order
    differ = [name for name, value in columns.items() if present[name] != value]
    ours = store.metrics_of(database, pipeline_key)
    both = [
        (ours.get(partition, {}).get(fold_id or "all", {}).get(metric), number)
        for fold_id, metrics in _by_fold(manifest.get("metrics") or {})
        for partition, numbers in store.numbers_by_partition(metrics).items()
        for metric, number in numbers.items()
    ]
    return differ + ["metrics"] * any(repr(own) != repr(number) for own, number in both)  # NaN is like NaN


def _columns(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": str(manifest.get("name") or ""),
        "status": _status(manifest.get("status")),
        "ended_at": _text(manifest.get("ended_at")),
        "error": _text(manifest.get("error")),
        "metadata": json_text(_metadata_of(manifest)),
        "tags": store.tags_json(manifest.get("tags") or []),
        "notes": str(manifest.get("notes") or ""),
    }


def enter_metrics(database: Database, pipeline_key: int, metrics: Any) -> None:
    """Keep metrics by partition, then fold ("all" for all together), then metric."""
    for fold_id, values in _by_fold(metrics):
        store.log_metrics(database, pipeline_key, values, fold_id)


def _by_fold(metrics: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the folds ("" for all together) of each partition, each with its metrics by that partition."""
    if not isinstance(metrics, Mapping):
        raise InvalidValueError(f"metrics are a dict by partition, not {str(metrics)[:80]!r}.")
    for partition, folds in metrics.items():
        for fold, values in folds.items() if isinstance(folds, Mapping) else ():
            yield "" if fold == "all" else str(fold), {str(partition): values}


def run_dict(run: RunRecord) -> dict[str, Any]:
    """Give a run as ``enter_run`` takes it."""
    counted = ("pipelines", "artifacts")
    return {name: value for name, value in run.to_dict().items() if name not in counted}


def _status(value: Any) -> str:
    # What another program was doing when its folder was copied goes on nowhere.
    return {None: "completed", "running": "interrupted"}.get(value, value if value in STATUSES else "completed")


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def json_text(value: Any, *, canonical: bool = False) -> str | None:
    """Give JSON that keeps everything; what YAML has and JSON has not, NaN for one, becomes text.

    Keys stay in their order, which numbers branches; canonical, they are sorted: then equal values are equal texts.
    """
    if value is None:
        return None
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=canonical, allow_nan=False, default=str)
    except (TypeError, ValueError):
        return json.dumps(_plain(value), ensure_ascii=False, sort_keys=canonical)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, str | int | float) else str(value)
