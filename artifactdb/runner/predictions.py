"""What a study came to: its models ranked, its predictions, and what failed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from artifactdb.catalog.columns import lower_is_better
from artifactdb.errors import ArtifactDBError, InvalidValueError
from artifactdb.results import QueryResult
from artifactdb.runs import PipelineRecord
from artifactdb.workspace import Workspace

if TYPE_CHECKING:
    import pandas
    import polars

_COLUMNS = (
    "pipeline_id", "dataset_name", "model_name", "branch_name", "metric", "score", "std", "folds", "partition",
    "chain_path",
)  # fmt: skip
_ROWS = """
SELECT pipeline_uid AS pipeline_id, dataset_name, model_name, coalesce(branch_name, '') AS branch_name,
  ? AS metric, avg(score) AS score, CASE WHEN isfinite(avg(score)) THEN stddev_samp(score) END AS std,
  count(score) AS folds,
  '{partition}' AS "partition", any_value(chain_path) AS chain_path
FROM (
  SELECT p.*, a.chain_path,
    nullif(CASE WHEN p.metric = ? THEN p.{partition}_score
      ELSE try_cast(json_extract_string(p.scores, ?) AS DOUBLE) END, 'NaN'::DOUBLE) AS score
  FROM predictions AS p LEFT JOIN artifacts AS a
    ON a.artifact_id = p.model_artifact_id AND a.dataset = p.dataset_name
  WHERE p.dataset_name = ? AND p.pipeline_uid IN ({marks}) AND p."partition" = ?
)
GROUP BY pipeline_uid, dataset_name, model_name, branch_name, step_idx, op_counter
"""


class Predictions:
    """The predictions of a run; ``PipelineRunner.run`` gives them.

    Attributes
    ----------
    run_id : str
    pipelines : list of PipelineRecord
        Every pipeline of the run, failed ones included.
    """

    def __init__(self, workspace: Workspace, run_id: str, dataset: str) -> None:
        self._workspace = workspace
        self.run_id = run_id
        self.dataset = dataset
        self.pipelines: list[PipelineRecord] = workspace.pipelines(dataset, run_id=run_id)

    @property
    def failed(self) -> list[PipelineRecord]:
        """Pipelines that gave no model; ``error`` of each says why."""
        return [pipeline for pipeline in self.pipelines if pipeline.status == "failed"]

    @property
    def metric(self) -> str:
        """What models are compared by when no metric is named.

        Raises
        ------
        ArtifactDBError
            When no pipeline was trained; says why.
        """
        found = self._metrics()
        if len(found) > 1:
            raise InvalidValueError(f"the models are scored by {' and by '.join(found)}.", hint="Name a metric.")
        if not found:
            failed = self.failed
            why = f" {len(failed)} failed, e.g. {failed[0].pipeline_id}: {failed[0].error}" if failed else ""
            raise ArtifactDBError(f"the run trained no pipeline.{why}")
        return str(found[0])

    def _metrics(self) -> list[str]:
        return sorted({model["metric"] for model in self._models()})

    def _models(self) -> list[dict[str, Any]]:
        """Give every model as its pipeline's record has it."""
        return [
            {**model, "pipeline_id": pipeline.pipeline_id, "dataset_name": pipeline.dataset}
            for pipeline in self.pipelines
            if pipeline.status == "completed"
            for model in pipeline.metadata.get("models", ())
        ]

    def top(
        self, n: int = 10, metric: str | None = None, ascending: bool | None = None, partition: str | None = None
    ) -> QueryResult:
        """Give the best models, best first, each with the mean and the spread (n - 1) of its scores over folds.

        Parameters
        ----------
        n : int, default 10
        metric : str, optional
            Default: what the run was scored by.
        ascending : bool, optional
            Whether lower is better; known for the usual metrics.
        partition : {"val", "test", "train"}, optional
            Default: what folds held out, else what there is.
        """
        if not isinstance(n, int) or n < 0:
            raise InvalidValueError(f"n is a whole number, 0 or more, not {n!r}.")
        metric = metric or self.metric
        models = self._models()
        # What folds held out is not compared with what a model was trained on.
        there = [name for name in ("val", "test", "train") if any(model["partition"] == name for model in models)]
        chosen = partition or (there[0] if there else "val")
        own = [model for model in models if model["partition"] == chosen]
        # What is not finite no record of a pipeline says, and the catalog does.
        if own and all(model["metric"] == metric and None not in model["scores"].values() for model in own):
            rows = [_row(model) for model in own]
        else:
            rows = self._asked(metric, chosen)
        ranked = [row for row in rows if row[5] is not None and not math.isnan(row[5])]
        ranked.sort(key=lambda row: row[5], reverse=not (lower_is_better(metric) if ascending is None else ascending))
        return QueryResult(list(_COLUMNS), ranked[:n])

    def _asked(self, metric: str, partition: str) -> list[tuple[Any, ...]]:
        if partition not in ("val", "test", "train") or '"' in metric:
            raise InvalidValueError(f"there is no partition {partition!r} with a metric {metric!r}.")
        ids = [pipeline.pipeline_id for pipeline in self.pipelines]
        if not ids:
            return []
        sql = _ROWS.format(partition=partition, marks=", ".join("?" * len(ids)))
        values = [metric, metric, f'$."{partition}"."{metric}"', self.dataset, *ids, partition]
        return self._workspace.sql(sql, values).rows

    def best(
        self, metric: str | None = None, ascending: bool | None = None, partition: str | None = None
    ) -> dict[str, Any]:
        """Give the best model as a dict, which ``PipelineRunner.predict`` takes as a source.

        Raises
        ------
        ArtifactDBError
            When no pipeline was trained; says why.
        """
        found = self.top(1, metric, ascending, partition).to_dicts()
        if not found:
            where = f" of the partition {partition}" if partition else ""
            raise ArtifactDBError(f"no prediction{where} of the run has a {metric or self.metric}.")
        return found[0]

    def score(self, metric: str | None = None, partition: str | None = None) -> float:
        """Give the mean score of the best model over its folds."""
        return float(self.best(metric, partition=partition)["score"])

    def rows(self) -> QueryResult:
        """Give every row of the catalog that the run left: each model, fold and partition."""
        ids = [pipeline.pipeline_id for pipeline in self.pipelines]
        return self._workspace.catalog.filter(dataset_name=self.dataset, pipeline_uid=ids)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Give every row of the catalog as a dict."""
        return self.rows().to_dicts()

    def to_pandas(self) -> pandas.DataFrame:
        """Give every row of the catalog as a pandas data frame."""
        return self.rows().to_pandas()

    def to_polars(self) -> polars.DataFrame:
        """Give every row of the catalog as a polars data frame."""
        return self.rows().to_polars()

    def __len__(self) -> int:
        return len(self.rows())

    def __repr__(self) -> str:
        trained = sum(pipeline.status == "completed" for pipeline in self.pipelines)
        failed = f", {len(self.failed)} failed" if self.failed else ""
        found = self.top(1).to_dicts() if len(self._metrics()) == 1 else []
        best = f", best {found[0]['pipeline_id']} {found[0]['metric']} {found[0]['score']:.4g}" if found else ""
        return f"<Predictions on {self.dataset}: {trained} pipelines{failed}{best}>"

    def _repr_html_(self) -> str:
        table = self.top()._repr_html_() if len(self._metrics()) == 1 else ""
        return f"<p>{escape(repr(self))}</p>{table}"


def _row(model: dict[str, Any]) -> tuple[Any, ...]:
    scores: Sequence[float] = list(model["scores"].values())
    mean = model["score"]
    spread = math.sqrt(sum((score - mean) ** 2 for score in scores) / (len(scores) - 1)) if len(scores) > 1 else None
    return (
        model["pipeline_id"], model["dataset_name"], model["name"], model["branch_name"], model["metric"], mean, spread,
        len(scores), model["partition"], model["chain_path"],
    )  # fmt: skip
