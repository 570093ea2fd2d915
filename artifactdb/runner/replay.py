"""Predicting from the file: the chain of a model loaded operator by operator, and carried out as in training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from artifactdb.artifacts import dependencies, find
from artifactdb.artifacts.find import StoredRecord
from artifactdb.catalog.columns import lower_is_better
from artifactdb.chain import compute_chain_hash
from artifactdb.database import Database
from artifactdb.errors import InvalidValueError, MissingDependencyError
from artifactdb.estimators import kinds
from artifactdb.ids import artifact_id_of_hash
from artifactdb.runner.chains import inputs_of
from artifactdb.runner.operators import MetaModel, Model, Node, Source, Transformer
from artifactdb.runner.threads import one_blas_thread

Find = Callable[..., StoredRecord | None]
Load = Callable[[Sequence[StoredRecord]], Iterator[tuple[Any, Mapping[str, StoredRecord]]]]

_SMALLEST = 1e-12
"""A score of nothing would weigh infinitely."""


class Replay:
    """Makes models of records.

    Parameters
    ----------
    find_record : callable
        Gives the record of the first of some ids that is there, or None: of the file, or of an entry of the library.
    load_records : callable
        Gives the objects of records, each with the records of the parts that it holds itself.
    n_sources : int
        Blocks of X.
    """

    def __init__(self, find_record: Find, load_records: Load, n_sources: int) -> None:
        self._find = find_record
        self._load = load_records
        self._n_sources = n_sources
        self._objects: dict[str, Any] = {}
        self._parts: dict[str, Mapping[str, StoredRecord]] = {}
        self._nodes: dict[str, Node] = {}
        self._models: dict[str, Model] = {}

    def load(self, records: Sequence[StoredRecord]) -> None:
        """Load objects ahead, a few at a time."""
        new = [record for record in records if record.artifact_id not in self._objects]
        for record, (obj, parts) in zip(new, self._load(new), strict=True):
            self._objects[record.artifact_id] = obj
            self._parts[record.artifact_id] = parts

    def model(self, record: StoredRecord) -> Model:
        """Give a record's model behind all that feeds it.

        Raises
        ------
        MissingDependencyError
            When the chain names an operator that is not there.
        """
        if record.artifact_id not in self._models:
            self._models[record.artifact_id] = self._made(record)
        return self._models[record.artifact_id]

    def _made(self, record: StoredRecord) -> Model:
        fitted = self._object(record)
        if not hasattr(fitted, "predict"):
            raise InvalidValueError(
                f"{record.artifact_id} ({record.class_name}) does not predict.", hint="Name a model, or its pipeline."
            )
        if record.meta_config is not None:
            sources = sorted(record.meta_config.source_models, key=lambda source: int(source.get("feature_index", 0)))
            models = [self.model(self._require(str(source["artifact_id"]), record)) for source in sources]
            return MetaModel(fitted, sources=models)
        return Model(fitted, self._inputs(record), [self._object(one) for one in self._encoders(record)])

    def _inputs(self, record: StoredRecord, source: int | None = None) -> list[Node]:
        """Give what feeds a record; where nothing does, X: its source, else that of what asks."""
        source = source if record.source_index is None else record.source_index
        found = [node for one in self._before(record) for node in self._nodes_of(one, source)]
        return found or [Source(index) for index in (range(self._n_sources) if source is None else [source])]

    def _before(self, record: StoredRecord) -> list[StoredRecord]:
        """Give what feeds a record: by its chain; of a container, what its parts depend on and is no part of it."""
        self._object(record)  # first, because only then its parts are known
        parts = self._parts[record.artifact_id]
        if parts:
            outside = {source: part for part in parts.values() for source in part.depends_on if source not in parts}
            return [self._require(source, part) for source, part in outside.items()]
        feeding = inputs_of(record.chain_path) if record.chain_path else []
        return [self._operator(path, record) for _, path in feeding]

    def _nodes_of(self, record: StoredRecord, source: int | None) -> list[Node]:
        """Give what an operator makes of X: an encoder is of y, and X goes past it."""
        return self._inputs(record, source) if _is_encoder(record) else [self._transformer(record)]

    def _encoders(self, record: StoredRecord) -> list[StoredRecord]:
        """Give the encoders that y went through, the first one first: of the chain, and what is depended on."""
        found: dict[str, StoredRecord] = {}
        waiting = {record.artifact_id: record}
        while waiting:
            before = {each.artifact_id: each for one in waiting.values() for each in self._before(one)}
            found |= {name: each for name, each in before.items() if _is_encoder(each)}
            waiting = before
        inside = self._parts[record.artifact_id]
        needed = [self._require(source, record) for source in record.depends_on if source not in inside]
        found |= {one.artifact_id: one for one in needed if _is_encoder(one)}
        return sorted(found.values(), key=lambda one: one.step_index)

    def _operator(self, path: str, needed_by: StoredRecord) -> StoredRecord:
        """Give the fitted operator of a chain: of the fold, else what all folds share."""
        pipeline_id, chain_hash = needed_by.pipeline_id, compute_chain_hash(path)
        wanted = [
            artifact_id_of_hash(pipeline_id, chain_hash, fold) for fold in dict.fromkeys((needed_by.fold_id, None))
        ]
        record = self._find(*wanted)
        if record is None:
            raise MissingDependencyError(
                f"{needed_by.artifact_id} cannot be replayed: {path} ({' or '.join(wanted)}) is missing.",
                hint="Register every transformer of the chain under its chain.",
                missing=wanted,
            )
        return record

    def _transformer(self, record: StoredRecord) -> Node:
        if record.artifact_id not in self._nodes:
            self._nodes[record.artifact_id] = Transformer(self._object(record), self._inputs(record))
        return self._nodes[record.artifact_id]

    def _require(self, artifact_id: str, needed_by: StoredRecord) -> StoredRecord:
        record = self._find(artifact_id)
        if record is None:
            raise MissingDependencyError(
                f"{needed_by.artifact_id} cannot be replayed: {artifact_id} is missing.", missing=[artifact_id]
            )
        return record

    def _object(self, record: StoredRecord) -> Any:
        if record.artifact_id not in self._objects:
            self.load([record])
        return self._objects[record.artifact_id]


def _is_encoder(record: StoredRecord) -> bool:
    return str(record.artifact_type) == "encoder"


def needed_by(database: Database, records: Sequence[StoredRecord]) -> dict[str, StoredRecord]:
    """Give records and all that they depend on, by id, each once, sources first."""
    sources = dependencies.transitive(database, *(record.record_key for record in records))
    return {record.artifact_id: record for record in (*sources, *records)}


def among(known: Mapping[str, StoredRecord]) -> Find:
    """Give a look-up in what is known."""
    return lambda *wanted: next((known[one] for one in wanted if one in known), None)


def finder(database: Database, known: Mapping[str, StoredRecord], dataset: str) -> Find:
    """Give a look-up that asks what is known first: what a model says it depends on goes before what is there too."""
    there = among(known)

    def found(*wanted: str) -> StoredRecord | None:
        return there(*wanted) or next(filter(None, (find.by_id(database, one, dataset) for one in wanted)), None)

    return found


def weights_of(metric: str, scores: Sequence[float]) -> list[float]:
    """Give how much each fold counts: 1 / score where lower is better, else the score, and nothing below zero.

    Examples
    --------
    >>> weights_of("rmse", [0.5, 0.25]), weights_of("r2", [0.5, -1.0])
    ([2.0, 4.0], [0.5, 0.0])
    """
    if lower_is_better(metric):
        return [0.0 if math.isnan(score) else 1 / max(score, _SMALLEST) for score in scores]
    return [0.0 if math.isnan(score) else max(score, 0.0) for score in scores]


def averaged(models: Sequence[Model], blocks: Sequence[Any], weights: Sequence[float] | None) -> Any:
    """Give what fold models predict together: the mean of numbers, the label of the most probability or votes.

    Parameters
    ----------
    weights : sequence of float, optional
        One for each model; None for all alike.
    """
    with one_blas_thread():
        return _averaged(models, blocks, weights)


def _averaged(models: Sequence[Model], blocks: Sequence[Any], weights: Sequence[float] | None) -> Any:
    memo: dict[int, Any] = {}
    if len(models) == 1:
        return models[0].predict(blocks, memo)
    counted = np.ones(len(models)) if weights is None else np.asarray(weights, dtype=float)
    if not np.all(np.isfinite(counted)) or counted.sum() <= 0:
        raise InvalidValueError("no fold has a score that it could be weighed by.", hint="Leave weighted out.")
    models = [model for model, weight in zip(models, counted, strict=True) if weight]  # 0 times NaN would be NaN
    counted = counted[counted > 0]
    numbering = next((model.fitted for model in models if kinds.is_clusterer(model.fitted)), None)
    if numbering is not None and len(models) > 1:
        raise InvalidValueError(
            f"{type(numbering).__name__} numbers its clusters in each fold anew, and {len(models)} folds have no mean.",
            hint="Name the artifact of one fold.",
        )
    if not any(model.classifies for model in models):
        return np.average([model.predict(blocks, memo) for model in models], axis=0, weights=counted)
    probas = [model.predict_proba(blocks, memo) for model in models]
    # What is predicted need not be a class, as a label for what is rejected.
    labels = [
        model.predict(blocks, memo) if proba is None else model.classes
        for model, proba in zip(models, probas, strict=True)
    ]
    classes = np.unique(np.concatenate(labels))
    votes = np.zeros((len(blocks[0]), len(classes)))
    for own, proba, weight in zip(labels, probas, counted, strict=True):
        places = np.searchsorted(classes, own)
        if proba is None:
            votes[np.arange(len(votes)), places] += weight
        else:
            votes[:, places] += weight * proba
    return classes[np.argmax(votes, axis=1)]
