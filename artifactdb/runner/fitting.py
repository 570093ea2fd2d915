"""Fitting one pipeline: every operator on the rows it may see, and what its models predict for those they may not.

Nothing here touches a file, so it runs in any process. What stands before the splitter is fitted once, on X of all rows
and never on y; what stands behind it, and encoders of y wherever they stand, within each fold. A meta-model learns from
out-of-fold predictions that are made within the rows of its own fold, by splitting these again: so no value of a row
that it is tested on reaches it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from artifactdb.chain import OperatorNode, compute_chain_hash
from artifactdb.errors import InvalidValueError
from artifactdb.estimators import kinds
from artifactdb.estimators.blocks import positions
from artifactdb.ids import artifact_id_of_hash
from artifactdb.records import ArtifactType
from artifactdb.runner.chains import Nodes, merged, node_of, path_of, side_by_side
from artifactdb.runner.datasets import Dataset, take
from artifactdb.runner.operators import (
    MetaModel,
    Model,
    Node,
    Source,
    Transformer,
    as_of,
    as_stored,
    drawing,
    encoded,
    joined,
    own,
)
from artifactdb.runner.rows import Tested, rows_of
from artifactdb.runner.steps import Branch, Plan, Step
from artifactdb.runner.threads import one_blas_thread
from artifactdb.runner.workers import delayed

_TYPES = {
    "transformer": ArtifactType.TRANSFORMER,
    "encoder": ArtifactType.ENCODER,
    "splitter": ArtifactType.SPLITTER,
    "model": ArtifactType.MODEL,
    "meta_model": ArtifactType.META_MODEL,
}


@dataclass(frozen=True)
class Job:
    """One pipeline to be fitted."""

    pipeline_id: str
    name: str
    plan: Plan
    dataset: Dataset
    metric: str | None = None
    train_scores: bool = False
    seed: int = 0  # what splitters draw from that have no state of their own


@dataclass(frozen=True)
class Fitted:
    """A fitted object and its place, ready to be registered."""

    fitted: Any
    artifact_id: str
    chain_path: str
    artifact_type: ArtifactType
    step: Step
    source_index: int | None
    fold_id: int | None
    depends_on: tuple[str, ...] = ()
    source_models: tuple[str, ...] = ()
    feature_columns: tuple[str, ...] = ()


@dataclass
class Trained:
    """What fitting a pipeline gave; ``error`` says why it gave nothing."""

    pipeline_id: str
    artifacts: list[Fitted] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None


@dataclass
class _Flow:
    """Where the data of a branch stand."""

    data: list[Any]
    y: Any
    nodes: list[Node]
    chains: list[Nodes]
    upstream: tuple[str, ...] = ()
    encoders: tuple[Any, ...] = ()
    encoder_ids: tuple[str, ...] = ()
    encoder_nodes: Nodes = ()

    def at(self, rows: Any) -> _Flow:
        """Give the flow of some rows; what is done to it does not reach this one."""
        return replace(self.apart(), data=[take(block, rows) for block in self.data], y=self.y[rows])

    def apart(self) -> _Flow:
        """Give a flow that goes on by itself."""
        return replace(self, data=list(self.data), nodes=list(self.nodes), chains=list(self.chains))


@dataclass(frozen=True)
class _FittedModel:
    model: Model
    artifact_id: str
    nodes: Nodes
    preprocessings: str


def fit_pipeline(job: Job, parallel: Any = None) -> Trained:
    """Fit a pipeline; what goes wrong in it is said in the result, so that others go on.

    Parameters
    ----------
    parallel : joblib.Parallel, optional
        Fits the folds side by side.
    """
    done = Trained(job.pipeline_id)
    try:
        before, folds = _before_folds(job, done)
    except (Exception, SystemExit) as error:
        return Trained(job.pipeline_id, error=_said(error))
    if parallel is None:
        results = (_fit_fold(job, before, *fold) for fold in folds)
    else:
        results = parallel(delayed(_fit_fold)(job, before, *fold) for fold in folds)
    for found in results:
        if isinstance(found, str):
            return Trained(job.pipeline_id, error=found)
        done.artifacts += found[0]
        done.rows += found[1]
    return done


def _before_folds(job: Job, done: Trained) -> tuple[_Flow, list[tuple[int | None, Any, Any]]]:
    """Fit what all folds share; give the data as they are then (no branch stands before a splitter), and the folds."""
    blocks, y = job.dataset.sources, job.dataset.y
    start = _Flow(list(blocks), y, [Source(index) for index in range(len(blocks))], [() for _ in blocks])
    shared = _Fit(job, None, start, shared=job.plan.splitter is not None)
    shared.carry_out(job.plan.before_folds())
    done.artifacts += shared.artifacts
    splitter = job.plan.splitter
    if splitter is None:
        return start, [(None, np.arange(len(y)), np.arange(0))]
    done.artifacts.append(shared.keep_splitter(splitter))
    cuts = _split(splitter, job.seed, start, job.dataset, np.arange(len(y)))
    return start, [(fold, *cut) for fold, cut in enumerate(cuts)]


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _fit_fold(job: Job, before: _Flow, fold: int | None, train: Any, held_out: Any) -> tuple[Any, Any] | str:
    """Give the artifacts and rows of a fold, or why there are none: what is raised here would stop the other fits."""
    try:
        return _fitted_fold(job, before, fold, train, held_out)
    except (Exception, SystemExit) as error:
        return _said(error)


def _fitted_fold(job: Job, before: _Flow, fold: int | None, train: Any, held_out: Any) -> tuple[Any, Any]:
    fit = _Fit(job, fold, before.at(train), rows=train, before=before)
    fit.carry_out(job.plan.within_folds())
    dataset = job.dataset
    parts = {"val": (held_out, dataset.sources, dataset.y)} if len(held_out) else {}
    if fold is None or job.train_scores:
        parts["train"] = (train, dataset.sources, dataset.y)
    if dataset.test_sources is not None:
        parts["test"] = (np.arange(len(dataset.test_y)), dataset.test_sources, dataset.test_y)
    found: dict[Step, dict[str, Any]] = {step: {} for step in fit.models}
    classes: dict[Step, Any] = {}
    with one_blas_thread():
        for partition, (rows, blocks, y) in parts.items():
            seen, memo = [take(block, rows) for block in blocks], {}  # type: ignore[var-annotated]
            for step, one in fit.models.items():
                proba = one.model.predict_proba(seen, memo)
                if proba is not None and hasattr(one.model.fitted, "classes_"):
                    classes[step] = one.model.classes
                found[step][partition] = (rows, y[rows], one.model.predict(seen, memo), proba)
    tested = [
        Tested(step, fold, one.artifact_id, one.preprocessings, one.model.classifies, found[step], classes.get(step))
        for step, one in fit.models.items()
    ]
    return fit.artifacts, rows_of(job, tested)


def _split(splitter: Step, seed: int, before: _Flow, dataset: Dataset, rows: Any) -> Iterator[tuple[Any, Any]]:
    from sklearn.model_selection import PredefinedSplit

    flow = before.at(rows)
    groups = None if dataset.groups is None else dataset.groups[rows]
    count = 0
    operator = drawing(splitter.operator, seed)
    if isinstance(operator, PredefinedSplit):
        given, needed = len(operator.test_fold), len(dataset.y)
        if given != needed:
            raise InvalidValueError(
                f"PredefinedSplit has {given} labels for {needed} samples.", hint="Give one for each."
            )
        if len(rows) < needed:
            operator = PredefinedSplit(operator.test_fold[rows])
    for train, held_out in operator.split(joined(flow.data), dataset.y[rows], groups):
        count += 1
        yield positions(train), positions(held_out)
    if not count:
        raise InvalidValueError(f"{splitter.class_name} makes no folds of {len(rows)} samples.")


class _Fit:
    """Fits steps on the rows that a flow holds, and keeps what came of it."""

    def __init__(
        self, job: Job, fold: int | None, start: _Flow, *, rows: Any = None, before: _Flow | None = None,
        shared: bool = False,
    ) -> None:  # fmt: skip
        self.job, self.fold = job, fold
        self.flows: dict[Branch, _Flow] = {(): start}
        self.rows, self.before, self.shared = rows, before, shared
        self.artifacts: list[Fitted] = []
        self.models: dict[Step, _FittedModel] = {}
        self._again: dict[frozenset[Step], list[tuple[Any, dict[Step, _FittedModel]]]] = {}

    def carry_out(self, steps: Sequence[Step]) -> None:
        """Fit the steps in their order."""
        for step in steps:
            {
                "transformer": self._transformer, "encoder": self._encoder, "model": self._model,
                "meta_model": self._meta_model,
            }[step.role](step)  # fmt: skip

    def keep_splitter(self, step: Step) -> Fitted:
        """Give the splitter as what is kept of it."""
        nodes = (*merged(self.flows[()].chains), node_of(step))
        return self._kept(step, drawing(step.operator, self.job.seed), nodes)

    def _flow(self, branch: Branch) -> _Flow:
        """Give the data of a branch, which begin as those of the branch around it."""
        if branch not in self.flows:
            self.flows[branch] = self._flow(branch[:-1]).apart()
        return self.flows[branch]

    def _transformer(self, step: Step) -> None:
        flow = self._flow(step.branch)
        several = len(flow.data) > 1
        upstream = []
        for source, block in enumerate(flow.data):
            fitted = _fresh(step.operator)
            transformed = self._learn(fitted, own(fitted, block), flow.y, step)
            nodes = (*flow.chains[source], node_of(step, source if several else None))
            before = flow.upstream[source : source + 1]
            kept = self._keep(step, fitted, nodes, before, source if several else None)
            flow.data[source] = transformed
            flow.nodes[source] = Transformer(fitted, [flow.nodes[source]])
            flow.chains[source] = nodes
            upstream.append(kept.artifact_id)
        flow.upstream = tuple(upstream)

    def _learn(self, fitted: Any, block: Any, y: Any, step: Step) -> Any:
        """Fit a transformer, and give the block transformed."""
        given = (block,) if self.shared else (block, own(fitted, y))
        try:
            if hasattr(fitted, "fit_transform"):
                # Some, as TargetEncoder, treat the rows that they learn from in another way.
                found = fitted.fit_transform(*given)
                as_stored(fitted)
                return found[0] if isinstance(found, tuple) else found
            fitted.fit(*given)
            return as_stored(fitted).transform(block)
        except TypeError as error:
            if not self.shared:
                raise
            raise InvalidValueError(
                f"{step.class_name} at step {step.index} learns from y ({error}).",
                hint="Put it behind the splitter, so that it is fitted within each fold.",
            ) from error
        except ValueError as error:
            if not self.shared or "y" not in str(error).replace(",", " ").replace("`", " ").split():
                raise
            raise InvalidValueError(
                f"{step.class_name} at step {step.index} cannot be fitted on X alone ({error}).",
                hint="If it learns from y, put it behind the splitter, so that it is fitted within each fold.",
            ) from error

    def _encoder(self, step: Step) -> None:
        flow = self._flow(step.branch)
        fitted = _fresh(step.operator)
        y = own(fitted, flow.y)
        fitted.fit(y if kinds.takes_labels(fitted) else np.asarray(y).reshape(len(y), -1))
        nodes = (*flow.encoder_nodes, node_of(step))
        as_stored(fitted)
        kept = self._keep(step, fitted, nodes, flow.encoder_ids[-1:], None)
        flow.y = encoded(fitted, flow.y)
        flow.encoders += (fitted,)
        flow.encoder_ids += (kept.artifact_id,)
        flow.encoder_nodes = nodes

    def _model(self, step: Step) -> None:
        flow = self._flow(step.branch)
        fitted = _fresh(step.operator)
        if kinds.is_classifier(fitted) and flow.encoders and np.ndim(flow.y) == 2:
            raise InvalidValueError(
                f"{type(flow.encoders[-1]).__name__} makes {np.shape(flow.y)[1]} columns of the classes in y, and "
                f"{step.class_name} takes one.",
                hint="Use LabelEncoder, or leave it out: labels are kept as they are.",
            )
        if kinds.predicts_labels(fitted) and not kinds.is_classifier(fitted):
            self._require_usual(flow, step)
        fitted.fit(own(fitted, joined(flow.data)), own(fitted, flow.y))
        as_stored(fitted)
        nodes = (*merged(flow.chains), node_of(step))
        kept = self._keep(step, fitted, nodes, flow.upstream + flow.encoder_ids, None)
        before = "|".join(node.operator_class for node in flow.chains[0])
        model = Model(fitted, list(flow.nodes), flow.encoders)
        if kinds.is_classifier(fitted) and flow.encoders and hasattr(fitted, "classes_"):
            self._require_labels(model, step)
        self.models[step] = _FittedModel(model, kept.artifact_id, nodes, before)

    def _require_usual(self, flow: _Flow, step: Step) -> None:
        y = self.job.dataset.y
        if flow.encoders or y.dtype.kind not in "if" or not np.isin(y, (1, -1)).all():
            raise InvalidValueError(
                f"{step.class_name} predicts 1 for what is usual and -1 for what is not; y holds something else.",
                hint="Give such a y, without y_processing.",
            )

    def _require_labels(self, model: Model, step: Step) -> None:
        """See that the classes go back to labels of y: the middle of an interval is none, and never right."""
        strange = model.classes[~np.isin(model.classes, self.job.dataset.y)]
        if len(strange):
            raise InvalidValueError(
                f"{step.class_name} would predict {strange[0]}, to which the encoders of y go back, and no y is that.",
                hint="Make classes of y before the run, or take a regressor.",
            )

    def _meta_model(self, step: Step) -> None:
        sources = [self.models[source] for source in step.sources]
        shown, covered = self._out_of_fold(step.sources)
        fitted = _fresh(step.operator)
        fitted.fit(np.column_stack(shown)[covered], self.job.dataset.y[self.rows][covered])
        as_stored(fitted)
        before = merged([source.nodes[:-1] for source in sources])
        stacked = side_by_side(one for source in sources for one in source.nodes[-1].each())
        nodes = (*before, stacked, node_of(step))
        kept = replace(
            self._kept(step, fitted, nodes),
            source_models=tuple(source.artifact_id for source in sources),
            feature_columns=tuple(_columns_of(step.sources, sources, shown)),
        )
        self.artifacts.append(kept)
        model = MetaModel(fitted, sources=[source.model for source in sources])
        self.models[step] = _FittedModel(model, kept.artifact_id, nodes, "")

    def _out_of_fold(self, steps: Sequence[Step]) -> tuple[list[Any], Any]:
        """Give what each model predicts for rows that it did not see, and which rows there are such predictions for."""
        filled: list[Any] = [None] * len(steps)
        covered = np.zeros(len(self.rows), dtype=bool)
        for held_out, models in self._split_again(steps):
            new = held_out[~covered[held_out]]
            if not len(new):
                continue
            blocks, memo = [take(block, self.rows[new]) for block in self.job.dataset.sources], {}  # type: ignore[var-annotated]
            for position, step in enumerate(steps):
                found = as_of(self.models[step].model, models[step].model, models[step].model.columns(blocks, memo))
                if filled[position] is None:
                    filled[position] = np.zeros((len(self.rows), found.shape[1]))
                filled[position][new] = found
            covered[new] = True
        return filled, covered

    def _split_again(self, sources: Sequence[Step]) -> list[tuple[Any, dict[Step, _FittedModel]]]:
        """Fit source models on parts of this fold's rows; once, for all meta-models that stack the same."""
        needed = _with_sources(sources)
        if needed not in self._again:
            assert self.before is not None
            splitter = self.job.plan.splitter
            assert splitter is not None
            steps = [step for step in self.job.plan.within_folds() if step in needed or not step.predicts]
            self._again[needed] = []
            for train, held_out in self._cuts_within(splitter):
                rows = self.rows[train]
                fit = _Fit(self.job, self.fold, self.before.at(rows), rows=rows, before=self.before)
                fit.carry_out(steps)
                self._again[needed].append((held_out, fit.models))
        return self._again[needed]

    def _cuts_within(self, splitter: Step) -> list[tuple[Any, Any]]:
        assert self.before is not None
        try:
            cuts = list(_split(splitter, self.job.seed, self.before, self.job.dataset, self.rows))
            if not all(len(train) for train, _ in cuts):
                raise InvalidValueError("nothing is left to train on.")
        except Exception as error:
            raise InvalidValueError(
                f"{splitter.class_name} cannot split the {len(self.rows)} training rows of fold {self.fold} again, "
                f"and a meta-model learns from out-of-fold predictions within them ({error}).",
                hint="Take fewer folds, more groups or another splitter, or leave the meta-model out.",
            ) from error
        return cuts

    def _keep(
        self, step: Step, fitted: Any, nodes: Sequence[OperatorNode], depends_on: tuple[str, ...], source: int | None
    ) -> Fitted:
        kept = self._kept(step, fitted, nodes, depends_on, source)
        self.artifacts.append(kept)
        return kept

    def _kept(
        self, step: Step, fitted: Any, nodes: Sequence[OperatorNode], depends_on: tuple[str, ...] = (),
        source: int | None = None,
    ) -> Fitted:  # fmt: skip
        path = path_of(nodes)
        artifact_id = artifact_id_of_hash(self.job.pipeline_id, compute_chain_hash(path), self.fold)
        return Fitted(fitted, artifact_id, path, _TYPES[step.role], step, source, self.fold, depends_on)


def _fresh(operator: Any) -> Any:
    from sklearn.base import clone

    return clone(operator, safe=False)


def _with_sources(steps: Iterable[Step]) -> frozenset[Step]:
    """Give models and all that they stack, however far."""
    found: set[Step] = set()
    waiting = list(steps)
    while waiting:
        step = waiting.pop()
        if step not in found:
            found.add(step)
            waiting += step.sources
    return frozenset(found)


def _columns_of(steps: Sequence[Step], models: Sequence[_FittedModel], shown: Sequence[Any]) -> Iterator[str]:
    for step, one, columns in zip(steps, models, shown, strict=True):
        label = f"{step.branch_name}/{step.name}" if step.branch else step.name
        yield from (f"{label}_{name}" for name in one.model.column_names(columns.shape[1]))
