"""The best pipeline of a dataset as files that open quickly: its configuration, metrics and predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from artifactdb.catalog.catalog import Catalog
from artifactdb.errors import InvalidValueError
from artifactdb.interop.texts import write_json
from artifactdb.interop.tree import CONFIGURATION, METRICS
from artifactdb.runs import store as runs
from artifactdb.runs.naming import FolderNames

_METRICS = """
SELECT metric FROM predictions WHERE dataset_name = ? AND metric IS NOT NULL AND "partition" = ?
GROUP BY metric ORDER BY count(*) DESC, metric
"""


def export_best(catalog: Catalog, folder: Path, dataset: str, names: FolderNames) -> None:
    """Write the best pipeline of a dataset, and the predictions of its best model."""
    best = best_of(catalog, dataset)
    if best is None:
        return
    safe = names.of(dataset)
    singles = folder / "best_predictions"
    singles.mkdir(parents=True, exist_ok=True)
    catalog.export_csv(best["id"], singles / f"{safe}.csv")
    pipeline_id = best["pipeline_uid"]
    if not pipeline_id or runs.key_of(catalog.database, pipeline_id, dataset) is None:
        return
    inner = folder / safe / FolderNames().of(pipeline_id)
    inner.mkdir(parents=True)
    pipeline = runs.pipeline(catalog.database, pipeline_id, dataset)
    for name, value in ((CONFIGURATION, pipeline.configuration), (METRICS, pipeline.metrics)):
        write_json(inner / name, value)
    predicted = catalog.residuals(dataset_name=dataset, pipeline_uid=pipeline_id)
    (inner / "predictions.csv").write_text(predicted.to_csv(), encoding="utf-8")


def best_of(catalog: Catalog, dataset: str) -> dict[str, Any] | None:
    """Give the best prediction of a dataset by the metric that most are scored in; None where none is known."""
    for partition in ("val", "test"):
        for (metric,) in catalog.sql(_METRICS, (dataset, partition)):
            try:
                best = catalog.best(metric, partition=partition, dataset_name=dataset)
            except InvalidValueError:
                continue  # whether it is better when lower is not known
            if best is not None:
                return best
    return None
