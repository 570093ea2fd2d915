"""What can be predicted with: a pipeline, a prediction, an artifact or an entry of the library, as fold models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from artifactdb.artifacts import find, load
from artifactdb.artifacts.find import StoredRecord
from artifactdb.chain import OperatorChain
from artifactdb.errors import (
    ArtifactNotFoundError,
    InvalidValueError,
    LibraryEntryNotFoundError,
    PredictionNotFoundError,
    RunNotFoundError,
)
from artifactdb.library import entries
from artifactdb.runner.replay import Find, Load, among, finder, needed_by
from artifactdb.runner.rows import rank
from artifactdb.runs import PipelineRecord
from artifactdb.runs import store as runs
from artifactdb.workspace import Workspace


@dataclass(frozen=True)
class FoldModels:
    """The fitted models to predict with, and what is known of their training.

    Attributes
    ----------
    records : list of StoredRecord
        One for each fold, or one.
    needed : dict
        These and all that they depend on, by id.
    scores : list of float
        Of each fold, in ``metric``; empty where they are not known.
    n_features : list of int
        By source; empty where it is not known.
    columns : callable
        Gives the names that the run knows of columns: ``features`` by source, ``target``.
    """

    records: list[StoredRecord]
    needed: dict[str, StoredRecord]
    find_record: Find
    load_records: Load
    metric: str = ""
    scores: list[float] = field(default_factory=list)
    n_features: list[int] = field(default_factory=list)
    columns: Callable[[], Mapping[str, Any]] = dict


def fold_models(workspace: Workspace, source: Any, dataset: str | None = None) -> FoldModels:
    """Give the models that a source names.

    Parameters
    ----------
    source : str or dict
        A pipeline's id (its best model, all folds), an artifact's id (that model), a prediction's id (the model that
        made it), the name of a trained entry of the library; or a row that ``Predictions.top`` gave.

    Raises
    ------
    ArtifactNotFoundError
        A KeyError, when nothing answers to the source.
    """
    if isinstance(source, Mapping):
        return _of_row(workspace, source)
    if not isinstance(source, str):
        raise InvalidValueError(f"a source is an id or a name, not a {type(source).__name__}.")
    try:
        pipeline = workspace.pipeline(source, dataset)
    except RunNotFoundError:
        pass
    else:
        return _of_pipeline(workspace, pipeline)
    record = find.by_id(workspace.database, source, dataset)
    if record is not None:
        return _of_records(workspace, [record])
    try:
        entry = workspace.library.get(source)
    except LibraryEntryNotFoundError:
        pass
    else:
        return _of_entry(workspace, entry)
    begun = runs.ids_that_begin(workspace.database, source, dataset)
    if len(begun) == 1:
        return _of_pipeline(workspace, workspace.pipeline(begun[0], dataset))
    if begun:
        raise InvalidValueError(
            f"{len(begun)} pipelines begin with {source!r}: {', '.join(begun[:5])}.", hint="Name one in full."
        )
    if workspace._has_predictions():
        try:
            return _of_row(workspace, workspace.catalog.get(source, arrays=False))
        except PredictionNotFoundError:
            pass
    raise ArtifactNotFoundError(
        f"no pipeline, artifact, library entry or prediction is called {source!r}.",
        hint="`artifactdb runs --pipelines`, `artifactdb ls`, `artifactdb library ls` and `artifactdb top` list them.",
    )


def _of_row(workspace: Workspace, row: Mapping[str, Any]) -> FoldModels:
    dataset = row.get("dataset_name")
    if row.get("model_artifact_id"):
        return _of_records(workspace, [find.require(workspace.database, row["model_artifact_id"], dataset)])
    if row.get("pipeline_id"):
        return _of_pipeline(workspace, workspace.pipeline(row["pipeline_id"], dataset), row.get("chain_path"))
    raise InvalidValueError("the prediction names no artifact to predict with.")


def _of_records(
    workspace: Workspace, records: Sequence[StoredRecord], pipeline: PipelineRecord | None = None
) -> FoldModels:
    database, dataset = workspace.database, records[0].dataset
    known = needed_by(database, records)
    if pipeline is None:
        pipeline = workspace.pipeline(records[0].pipeline_id, dataset)
    metadata = pipeline.metadata
    _require_whole(workspace, records[0], known)
    if records[0].meta_config is not None and not metadata.get("models"):
        _require_no_container(workspace, records[0])
    found = FoldModels(
        list(records), known, finder(database, known, dataset), partial(load.load_with_parts, workspace.database),
        n_features=_n_features(metadata), columns=partial(_columns_of_run, workspace, dataset, pipeline.run_id),
    )  # fmt: skip
    return _with_scores(found, metadata.get("models") or ())


def _require_whole(workspace: Workspace, record: StoredRecord, known: Mapping[str, StoredRecord]) -> None:
    """Refuse a model whose chain leaves out what its pipeline did to the data: its predictions would be wrong."""
    if record.meta_config is not None or len(OperatorChain.from_path(record.chain_path)) != 1:
        return
    beside = find.filtered(workspace.database, dataset=record.dataset, pipeline_id=record.pipeline_id)
    unsaid = [
        one.chain_path or one.artifact_id
        for one in beside
        if str(one.artifact_type) in ("transformer", "encoder") and one.artifact_id not in known
        and one.step_index < record.step_index and one.fold_id in (None, record.fold_id)
        and one.branch_path == record.branch_path[: len(one.branch_path)]
    ]  # fmt: skip
    if unsaid:
        raise InvalidValueError(
            f"{record.artifact_id} cannot be replayed: its pipeline has {', '.join(unsaid[:5])} before it, and its "
            f"chain {record.chain_path} does not say so.",
            hint="Load its objects with a loader, as the program that wrote them does.",
        )


def _require_no_container(workspace: Workspace, record: StoredRecord) -> None:
    """Refuse the final estimator of a stack that was logged: what it is shown only the stack knows."""
    beside = find.filtered(workspace.database, dataset=record.dataset, pipeline_id=record.pipeline_id)
    whole = [one.artifact_id for one in beside if record.artifact_id in one.depends_on]
    if whole:
        raise InvalidValueError(f"{record.artifact_id} is a part of {whole[0]}.", hint="Predict with that.")


def _of_pipeline(workspace: Workspace, pipeline: PipelineRecord, chain_path: str | None = None) -> FoldModels:
    pipeline_id = pipeline.pipeline_id
    if pipeline.status == "failed":
        raise ArtifactNotFoundError(f"{pipeline_id} failed and has no model: {pipeline.error}")
    best = None if chain_path else _best(pipeline.metadata.get("models") or (), pipeline_id)
    wanted = best["chain_path"] if best else chain_path
    records = find.filtered(workspace.database, dataset=pipeline.dataset, pipeline_id=pipeline_id)
    return _of_records(workspace, _chosen(records, pipeline_id, wanted), pipeline)


def _of_entry(workspace: Workspace, entry: Mapping[str, Any]) -> FoldModels:
    if entry["type"] not in ("pipeline", "fullrun"):
        raise InvalidValueError(
            f"the library's {entry['name']!r} is a {entry['type']}, which holds no fitted objects.",
            hint="Save the pipeline with save_pipeline_full.",
        )
    key = entries.key_of(workspace.database, entry["type"], entry["name"])
    records = {record.artifact_id: record for record in entries.artifacts_of(workspace.database, key)}
    content = entries.content_of(workspace.database, key)
    described = {one["pipeline_id"]: one for one in content.get("pipelines") or []}
    models = [{**model, "of": name} for name, one in described.items() for model in one.get("models") or ()]
    best = _best(models, entry["name"])
    own = [record for record in records.values() if best is None or record.pipeline_id == best["of"]]
    chosen = _chosen(own, entry["name"], best["chain_path"] if best else None)
    found = FoldModels(
        chosen, records, among(records), partial(load.load_entry, workspace.database),
        n_features=_n_features(described[best["of"]] if best else {}),
        columns=partial(_columns, [run.get("configuration") for run in content.get("runs") or ()]),
    )  # fmt: skip
    return _with_scores(found, [best] if best else ())


def _best(models: Sequence[Mapping[str, Any]], what: str) -> Mapping[str, Any] | None:
    """Give the best model by what folds held out, else by what there is; None of none.

    Raises
    ------
    InvalidValueError
        For models that are scored by several metrics: no score of one compares with one of the other.
    """
    there = {model["partition"] for model in models}
    partition = next((name for name in ("val", "test", "train") if name in there), None)
    own = [model for model in models if model["partition"] == partition]
    metrics = sorted({model["metric"] for model in own})
    if len(metrics) > 1:
        which = ", ".join(f"{model.get('of', what)} {model['chain_path']} ({model['metric']})" for model in own[:5])
        raise InvalidValueError(
            f"{what} has models that are scored by {' and by '.join(metrics)}: {which}.",
            hint="Name a pipeline or an artifact by its id.",
        )
    return min(own, key=rank, default=None)


def _chosen(records: Sequence[StoredRecord], what: str, chain_path: str | None) -> list[StoredRecord]:
    """Give the fold models of a chain; without one, of the only chain that ends in a model.

    Searches of several folds are one model, though each may have come to a chain of its own.
    """
    # What clusters also transforms, and is entered as that.
    models = [record for record in records if find.is_model(record)] or list(records)
    stacked = {source for record in models for source in record.depends_on}
    ends = [record for record in models if record.artifact_id not in stacked]
    chains = sorted({record.chain_path for record in ends})
    folds = {record.fold_id for record in ends}
    of_one = len({record.class_name for record in ends}) == 1 and len(folds) == len(ends) and None not in folds
    if chain_path is None and len(chains) > 1 and of_one:
        return sorted(ends, key=lambda record: record.fold_id or 0)
    if chain_path is None and len(chains) > 1:
        those = "models" if find.is_model(ends[0]) else "ends"
        raise InvalidValueError(
            f"{what} has {len(chains)} {those}: {', '.join(chains[:5])}.", hint="Name an artifact by its id."
        )
    wanted = chain_path or (chains[0] if chains else None)
    chosen = [record for record in models if record.chain_path == wanted]
    if not chosen:
        raise ArtifactNotFoundError(f"{what} has no model{f' {chain_path} any more' if chain_path else ''}.")
    of_folds = [record for record in chosen if record.fold_id is not None]
    return sorted(of_folds, key=lambda record: record.fold_id or 0) or chosen


def _with_scores(found: FoldModels, models: Sequence[Mapping[str, Any]]) -> FoldModels:
    model = next((one for one in models if one["chain_path"] == found.records[0].chain_path), None)
    if model is None:
        return found
    of_fold = model["scores"]
    folds = ["all" if record.fold_id is None else str(record.fold_id) for record in found.records]
    if not all(fold in of_fold for fold in folds):
        return found
    scores = [math.nan if of_fold[fold] is None else float(of_fold[fold]) for fold in folds]
    return replace(found, metric=model["metric"], scores=scores)


def _n_features(metadata: Mapping[str, Any]) -> list[int]:
    return list((metadata.get("data") or {}).get("n_features") or ())


def _columns_of_run(workspace: Workspace, dataset: str, run_id: str | None) -> Mapping[str, Any]:
    runs = workspace.runs(dataset, run_id=run_id) if run_id else []
    return _columns([run.configuration for run in runs])


def _columns(configurations: Iterable[Any]) -> Mapping[str, Any]:
    """Give what the configurations of runs say of the data."""
    for configuration in configurations:
        if isinstance(configuration, Mapping) and isinstance(configuration.get("dataset"), Mapping):
            return dict(configuration["dataset"])
    return {}
