"""What fitted models predicted, as rows of the catalog, and as the ranking of a pipeline's models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from artifactdb.artifacts.parameters import readable
from artifactdb.catalog.columns import lower_is_better
from artifactdb.estimators.blocks import labels_behind, places
from artifactdb.estimators.scores import CLASSIFICATION, REGRESSION, scores
from artifactdb.runner.steps import Step

if TYPE_CHECKING:
    from artifactdb.runner.fitting import Job


@dataclass(frozen=True)
class Tested:
    """One fitted model and, by partition, the rows it was asked for, their y, predictions and probabilities.

    ``classes`` says whose probability each column is.
    """

    step: Step
    fold_id: int | None
    artifact_id: str
    preprocessings: str
    classifies: bool
    found: Mapping[str, tuple[Any, Any, Any, Any]]
    classes: Any = None


def rows_of(job: Job, tested: Sequence[Tested]) -> list[dict[str, Any]]:
    """Give a row for each model and partition."""
    models = job.plan.models
    labels = _labels(job) if any(one.classifies for one in tested) else None
    classes = None
    if labels is not None and labels.dtype.kind not in "biufc":
        predicted = [predicted for one in tested for _, _, predicted, _ in one.found.values()]
        classes = labels_behind(labels, np.concatenate([labels, *predicted]))  # so that all folds count alike
    return [row for one in tested for row in _rows(job, one, models.index(one.step), labels, classes)]


def _labels(job: Job) -> Any:
    """Give all labels, sorted."""
    given = [job.dataset.y] if job.dataset.test_y is None else [job.dataset.y, job.dataset.test_y]
    return np.unique(np.concatenate(given))


def _rows(job: Job, tested: Tested, counter: int, labels: Any, classes: Any) -> list[dict[str, Any]]:
    step = tested.step
    task = _task(job.dataset.y) if tested.classifies else "regression"
    kind = "classification" if tested.classifies else "regression"
    metric = job.metric or (CLASSIFICATION if tested.classifies else REGRESSION)[0]
    all_scores = {name: scores(kind, y, given, metric) for name, (_, y, given, _) in tested.found.items()}
    metadata: dict[str, Any] = {"n_features": job.dataset.n_features}
    if classes is not None:
        metadata["classes"] = [str(name) for name in classes]
    common = {
        "dataset_name": job.dataset.name,
        "config_name": job.name or job.pipeline_id,
        "pipeline_uid": job.pipeline_id,
        "step_idx": step.index,
        "op_counter": counter,
        "model_name": step.name,
        "model_classname": step.class_name,
        "model_artifact_id": tested.artifact_id,
        "fold_id": tested.fold_id,
        "metric": metric,
        "task_type": task,
        "n_features": sum(job.dataset.n_features),
        "preprocessings": tested.preprocessings,
        "best_params": readable(dict(step.params)),
        "branch_id": step.branch[-1] if step.branch else None,
        "branch_name": step.branch_name or None,
        "metadata": metadata,
        "scores": all_scores,
        **{f"{name}_score": values[metric] for name, values in all_scores.items()},
    }
    return [
        {
            **common,
            "partition": name,
            "y_true": _numeric(y, classes),
            "y_pred": _numeric(predicted, classes),
            "y_proba": _spread(proba, tested.classes, labels),
            "sample_indices": rows,
        }
        for name, (rows, y, predicted, proba) in tested.found.items()
    ]


def _task(y: Any) -> str:
    return "binary_classification" if len(np.unique(y)) <= 2 else "multiclass_classification"


def _numeric(values: Any, classes: Any) -> Any:
    """Give numbers; labels that are texts as their positions among the classes."""
    return values if classes is None else places(values, classes)


def _spread(proba: Any, own: Any, labels: Any) -> Any:
    """Give probabilities with a column for each label in order; 0 for one that a fold was not trained on."""
    if proba is None or own is None or np.array_equal(own, labels) or not np.isin(own, labels).all():
        return proba
    spread = np.zeros((len(proba), len(labels)), dtype=proba.dtype)
    spread[:, places(own, labels)] = proba
    return spread


def ranked(rows: Sequence[Mapping[str, Any]], chains: Mapping[str, str]) -> list[dict[str, Any]]:
    """Give the models of a pipeline, best first, with the score of each fold.

    Parameters
    ----------
    rows : sequence of dict
        What ``rows_of`` gave for all folds.
    chains : dict
        The chain path of each artifact.
    """
    partition = next((name for name in ("val", "test", "train") if any(row["partition"] == name for row in rows)), "")
    models: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["partition"] != partition:
            continue
        model = models.setdefault(
            chains[row["model_artifact_id"]],
            {
                "chain_path": chains[row["model_artifact_id"]], "name": row["model_name"],
                "branch_name": row["branch_name"] or "", "metric": row["metric"], "partition": partition, "scores": {},
            },
        )  # fmt: skip
        model["scores"]["all" if row["fold_id"] is None else str(row["fold_id"])] = row[f"{partition}_score"]
    for model in models.values():
        # R2 of one sample is not a number, and says nothing; what is endless is as bad as can be.
        known = [score for score in model["scores"].values() if not math.isnan(score)]
        model["score"] = _finite(float(np.mean(known))) if known else None
        model["scores"] = {fold: _finite(score) for fold, score in model["scores"].items()}
    return sorted(models.values(), key=rank)


def _finite(score: float) -> float | None:
    """Give a score as JSON can hold it, which knows no NaN and no infinity."""
    return score if math.isfinite(score) else None


def rank(model: Mapping[str, Any]) -> float:
    """Give what models are sorted by: the least is the best, and those without a score come last."""
    score: float | None = model["score"]
    if score is None:
        return math.inf
    return score if lower_is_better(model["metric"]) else -score
