"""A fitted object becomes a run, a pipeline, records and predictions: all of it at once, or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from artifactdb.artifacts.composite import Composite, Part
from artifactdb.artifacts.parameters import readable
from artifactdb.errors import InvalidValueError
from artifactdb.fitted import candidates, predictions
from artifactdb.fitted.logged import Logged
from artifactdb.fitted.structure import Piece, is_search, pieces_of
from artifactdb.records import ArtifactType, MetaModelConfig

if TYPE_CHECKING:
    from artifactdb.registry import ArtifactRegistry
    from artifactdb.workspace import Workspace

Row = dict[str, Any]


def log(
    workspace: Workspace,
    fitted: Any,
    X: Any,  # noqa: N803
    y: Any,
    *,
    dataset: str,
    name: str,
    metric: str | None,
    tags: Sequence[str],
    notes: str,
) -> Logged:
    """Enter a fitted object as a pipeline of its own; ``Workspace.log`` says more."""
    folds = estimators_of(fitted)
    predictions.require_pairs(X, y)
    searched: list[Row] = []
    if isinstance(fitted, Mapping):
        rows = predictions.of_folds(fitted, X, y, metric)
    else:
        rows = predictions.of_training(fitted, X, y, metric)
        searched = candidates.of_search(fitted) if is_search(fitted) else []
    configuration = readable(next(iter(folds.values())))
    about: dict[str, Any] = {"name": name, "tags": tags, "notes": notes}
    with (
        workspace.transaction(),
        workspace.run(dataset, **about) as run,
        run.pipeline(configuration, **about) as pipeline,
    ):
        registry = pipeline.registry
        entered = {fold: _Entered(registry, pieces_of(obj, name), fold) for fold, obj in folds.items()}
        step = max(one.root.node.step_index for one in entered.values())  # folds of a search may differ in their steps
        for row in rows:
            row |= entered[row.get("fold_id")].about | {"step_idx": step}
        for candidate, row in enumerate(searched):
            is_best = candidate == fitted.best_index_
            row |= entered[None].about | {"model_artifact_id": entered[None].best_id if is_best else None}
        of_pipeline = {"dataset_name": dataset, "pipeline_uid": pipeline.pipeline_id, "config_name": name or None}
        ids = workspace.catalog.add_many([{**row, **of_pipeline} for row in [*rows, *searched]])
        # What the candidates scored in training is of other models than the one that was fitted to everything.
        best = [{**row, "scores": {"val": row["scores"]["val"]}} for row in searched if row["model_artifact_id"]]
        pipeline.log_folds((row.get("fold_id"), row["scores"]) for row in [*rows, *best])
    every = [artifact_id for fold in entered.values() for artifact_id in fold.ids.values()]
    first = next(iter(entered.values()))
    return Logged(first.ids[first.root], pipeline.pipeline_id, dataset, run.run_id, every, ids)


class _Entered:
    """What a fitted object consists of, registered.

    Attributes
    ----------
    ids : dict
        Artifact ids by piece; the last is the object itself.
    """

    def __init__(self, registry: ArtifactRegistry, pieces: Sequence[Piece], fold_id: int | None) -> None:
        self.ids: dict[Piece, str] = {}
        for piece in pieces:
            self.ids[piece] = self._register(registry, piece, fold_id)
        self.root = pieces[-1]

    def _register(self, registry: ArtifactRegistry, piece: Piece, fold_id: int | None) -> str:
        stored = piece.obj
        if piece.parts:
            stored = Composite.of(piece.obj, {id(part.obj): self.ids[part] for part in piece.parts})
            # One object in several places is a record for each place, and all of them are parts.
            named = stored.part_ids()
            stored.parts += [Part(self.ids[part]) for part in piece.parts if self.ids[part] not in named]
        meta_config = None
        if piece.stacked:
            meta_config = MetaModelConfig.of_sources([self.ids[source] for source in piece.stacked], piece.columns)
        return registry.register_with_chain(
            stored,
            piece.chain,
            piece.artifact_type,
            piece.node.step_index,
            fold_id=fold_id,
            depends_on=[self.ids[source] for source in piece.sources],
            meta_config=meta_config,
            custom_name=piece.name,
        ).artifact_id

    @property
    def best_id(self) -> str:
        """Of a search, the best estimator's."""
        return self.ids[self.root.parts[0]]

    @property
    def about(self) -> Row:
        """What rows of predictions say of the object."""
        transformers = [
            piece.node.operator_class
            for piece in self.ids
            if piece.artifact_type == ArtifactType.TRANSFORMER and not piece.parts
        ]
        return {
            "model_artifact_id": self.ids[self.root],
            "step_idx": self.root.node.step_index,
            "preprocessings": "|".join(transformers),
        }


def estimators_of(fitted: Any) -> dict[int | None, Any]:
    """Give the fitted estimators by fold, None for one that is of no fold.

    Raises
    ------
    InvalidValueError
        For what is not fitted, is no estimator, or is a dict without estimators.
    """
    if not isinstance(fitted, Mapping):
        _require_fitted(fitted, "")
        return {None: fitted}
    if not len(fitted.get("estimator", ())):
        raise InvalidValueError(
            "a dict is taken for what cross_validate gives, and this one holds no fitted 'estimator'.",
            hint="Call cross_validate(..., return_estimator=True).",
        )
    for fold, estimator in enumerate(fitted["estimator"]):
        _require_fitted(estimator, f" of fold {fold}")
    return dict(enumerate(fitted["estimator"]))


def _require_fitted(obj: Any, where: str) -> None:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    name = type(obj).__name__
    if isinstance(obj, type) or not callable(getattr(obj, "fit", None)):
        what = f"the class {obj.__name__}" if isinstance(obj, type) else f"{name}{where}"
        raise InvalidValueError(f"{what} is no fitted estimator.", hint="Give what fit(X, y) returned.")
    if is_search(obj) and not hasattr(obj, "best_estimator_"):
        raise InvalidValueError(
            f"{name}{where} has no best estimator, because it was made with refit=False.",
            hint="Let it refit, or log the estimator that you fitted with its best parameters.",
        )
    try:
        check_is_fitted(obj)
    except NotFittedError:
        raise InvalidValueError(f"{name}{where} is not fitted.", hint="Call fit(X, y) first.") from None
    except Exception:
        return  # it is none of scikit-learn's kind, and cannot be asked
