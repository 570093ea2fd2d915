"""What a trained entry keeps: pipelines with all that their artifacts depend on, their metrics and predictions."""

from __future__ import annotations

import io
import json
import mmap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from artifactdb.artifacts.dependencies import sources_first
from artifactdb.artifacts.save import keep_content
from artifactdb.artifacts.statistics import has_predictions
from artifactdb.catalog.asking import ask
from artifactdb.catalog.engine import literal
from artifactdb.catalog.files import device_errors
from artifactdb.catalog.pairs import of_pipelines, write_pair
from artifactdb.catalog.store import Store
from artifactdb.catalog.views import state_of
from artifactdb.content import Content, Segment
from artifactdb.database import Database
from artifactdb.database.making import scratch_folder
from artifactdb.errors import InvalidValueError
from artifactdb.library.entries import record_by_key
from artifactdb.runs import store as runs
from artifactdb.runs.manifests import json_text, manifest_of, run_dict
from artifactdb.runs.records import PipelineRecord

_REACHED = """
WITH RECURSIVE reached (record_key) AS (
  SELECT r.record_key FROM records AS r
  JOIN pipelines AS p ON p.pipeline_key = r.pipeline_key
  JOIN datasets AS d ON d.dataset_key = p.dataset_key
  JOIN json_each(?) AS wanted ON d.name = wanted.value ->> 0 AND p.pipeline_id = wanted.value ->> 1
  UNION
  SELECT rs.source_key FROM reached JOIN record_sources AS rs ON rs.record_key = reached.record_key
)
SELECT reached.record_key, rs.source_key
FROM reached LEFT JOIN record_sources AS rs ON rs.record_key = reached.record_key
ORDER BY reached.record_key
"""


def named_pipeline(database: Database, pipeline_dir: Any, dataset: str | None = None) -> PipelineRecord:
    """Give the pipeline that is named by its id, by dataset and id, or as the folder that the seed keeps it in."""
    known = database.value("SELECT 1 FROM pipelines WHERE pipeline_id = ?", (str(pipeline_dir),))
    parts = (str(pipeline_dir),) if known else Path(str(pipeline_dir)).parts
    if not parts:
        raise InvalidValueError("which pipeline is not said.", hint="Give its id, or runs/<dataset>/<pipeline id>.")
    return runs.pipeline(database, parts[-1], dataset or (parts[-2] if len(parts) > 1 else None))


def artifacts(database: Database, pipelines: Iterable[PipelineRecord]) -> list[tuple[dict[str, Any], int]]:
    """Give the records of pipelines and of all that they depend on, with their blobs; sources come first."""
    wanted = json.dumps([(pipeline.dataset, pipeline.pipeline_id) for pipeline in pipelines])
    edges: dict[int, list[int]] = {}
    for key, source in database.rows(_REACHED, (wanted,)):
        edges.setdefault(key, []).extend([source] if source is not None else [])
    records = [record_by_key(database, key) for key in sources_first(database, edges)]
    return [(record.to_dict(), record.blob_key) for record in records]


def content(
    database: Database, pipelines: Sequence[PipelineRecord], kept: Iterable[Mapping[str, Any]] = ()
) -> str | None:
    """Give the runs and pipelines, those that only lend an artifact included, as JSON."""
    named = {(pipeline.dataset, pipeline.pipeline_id): pipeline for pipeline in pipelines}
    for record in kept:
        place = (record["dataset"], record["pipeline_id"])
        if place not in named:
            named[place] = runs.pipeline(database, place[1], place[0])
    manifests = [manifest_of(pipeline, []) for pipeline in named.values()]
    for manifest in manifests:
        del manifest["artifacts"]
    run_ids = dict.fromkeys((pipeline.dataset, pipeline.run_id) for pipeline in named.values() if pipeline.run_id)
    described = [run_dict(run) for dataset, run_id in run_ids for run in runs.runs(database, dataset, run_id)]
    return json_text({"runs": described, "pipelines": manifests})


def metrics(store: Store, pipelines: Sequence[PipelineRecord]) -> dict[str, dict[str, float]]:
    """Give metrics by partition: the pipeline's own, else the means of its predictions' scores over its folds."""
    if len(pipelines) == 1:
        own = {partition: folds["all"] for partition, folds in pipelines[0].metrics.items() if "all" in folds}
        if own:
            return own
    means: dict[str, dict[str, float]] = {}
    columns = ", ".join(f"avg({partition}_score) AS {partition}" for partition in ("train", "val", "test"))
    condition = condition_of(pipelines)
    for row in _asked(store, f"SELECT metric, {columns} FROM predictions WHERE {condition} GROUP BY metric"):
        for partition in ("train", "val", "test"):
            if row["metric"] and row[partition] is not None:
                means.setdefault(partition, {})[row["metric"]] = row[partition]
    return means


def n_features(store: Store, pipelines: Sequence[PipelineRecord]) -> int | None:
    """Give how many columns X had, as far as predictions tell."""
    condition = condition_of(pipelines)
    (row,) = _asked(store, f"SELECT max(n_features) AS most FROM predictions WHERE {condition}") or [{"most": None}]
    return row["most"] or None


def condition_of(pipelines: Sequence[PipelineRecord]) -> str:
    """Give the condition that predictions belong to some pipelines."""
    return of_pipelines((pipeline.dataset, pipeline.pipeline_id) for pipeline in pipelines)


def condition_of_dataset(dataset: str | None) -> str:
    """Give the condition that predictions belong to a dataset."""
    return f"dataset_name = {literal(dataset)}"


def _asked(store: Store, sql: str) -> list[dict[str, Any]]:
    return ask(store, sql).to_dicts() if has_predictions(store.database) else []


def files(database: Database, store: Store, condition: str, data: Mapping[str, Any] | None) -> dict[str, int]:
    """Put predictions that meet a condition, and data of the user's, into the blob table; give keys by file name.

    Runs within the caller's transaction.
    """
    kept: dict[str, int] = {}
    with scratch_folder() as folder, device_errors(folder), ExitStack() as opened:
        with state_of(database, store.inspector) as state:
            pair = write_pair(store, state, folder, condition)
        for path, _ in pair.values():
            stream = opened.enter_context(path.open("rb"))
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            kept[path.name] = _put(database, memoryview(mapped))
    for name, values in (data or {}).items():
        kept[f"{name}.npy"] = _put(database, memoryview(_npy(name, values)))
    return kept


def _put(database: Database, data: memoryview) -> int:
    return keep_content(database, Content([Segment(data)]))


def _npy(name: str, values: Any) -> bytes:
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.array([None])
    if not isinstance(name, str) or not name.isidentifier() or array.dtype.hasobject:
        raise InvalidValueError(
            f"data {name!r} is no array of numbers or texts under a plain name.",
            hint="Give e.g. data={'X': X, 'y': y}.",
        )
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
