"""What a fitted object consists of: the operators inside, in the order in which data goes through them.

Each becomes a record of its own, with a chain. Steps count from 1 and go on through what is nested; the branches
of a union are numbered as such, the models of an ensemble as substeps of one step.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from artifactdb.chain import OperatorNode
from artifactdb.estimators import kinds
from artifactdb.records import ArtifactType

_NOT_IN_NAMES = re.compile(r"[\s>+\[\],=\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One operator of a fitted object.

    Attributes
    ----------
    obj : object
    node : OperatorNode
        Its step, branch and substep.
    artifact_type : ArtifactType
    name : str
        What the user, or scikit-learn, calls it; "" for nothing.
    sources : tuple of Piece
        What its input comes from.
    line : tuple of (int, str)
        Step and key of every operator that its input went through, itself last.
    parts : tuple of Piece
        For a container: what is stored apart from it.
    stacked : tuple of Piece
        For a meta-model: its source models.
    columns : tuple of str
        For a meta-model: the names of the columns of its X.
    """

    obj: Any
    node: OperatorNode
    artifact_type: ArtifactType
    name: str
    sources: tuple[Piece, ...]
    line: tuple[tuple[int, str], ...]
    parts: tuple[Piece, ...] = ()
    stacked: tuple[Piece, ...] = ()
    columns: tuple[str, ...] = ()

    @property
    def chain(self) -> str:
        """The operators up to this one, those of one step joined by ``+``."""
        steps: dict[int, list[str]] = {}
        for step, key in self.line:
            steps.setdefault(step, []).append(key)
        return ">".join("+".join(steps[step]) for step in sorted(steps))


def pieces_of(fitted: Any, name: str = "") -> list[Piece]:
    """Give the operators of a fitted object, sources before what is made of them; the last is the object itself.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> for piece in pieces_of(make_pipeline(StandardScaler(), Ridge()).fit([[0.0], [1.0]], [0.0, 1.0])):
    ...     print(piece.chain)
    s1.StandardScaler
    s1.StandardScaler>s2.Ridge
    s1.StandardScaler>s2.Ridge>s3.Pipeline
    """
    walk = _Walk()
    walk.whole(fitted, name, _Place())
    return walk.pieces


def final_estimator(obj: Any) -> Any:
    """Give what predicts in the end, inside pipelines and searches."""
    if is_search(obj):
        return final_estimator(getattr(obj, "best_estimator_", obj.estimator))
    steps = [step for _, step in obj.steps if not _is_left_out(step)] if _is_pipeline(obj) else []
    return final_estimator(steps[-1]) if steps else obj


def is_search(obj: Any) -> bool:
    """Tell whether an object is a search over parameters that has been carried out."""
    return "params" in getattr(obj, "cv_results_", ())  # RFECV has results too, but of no candidates


def class_name(obj: Any) -> str:
    """Give the name of an object's class as chains can hold it.

    Examples
    --------
    >>> class_name(type("My Scaler[2]", (), {})())
    'My_Scaler_2_'
    """
    return _NOT_IN_NAMES.sub("_", type(obj).__name__) or "_"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the structure one is, and what the input comes from."""

    sources: tuple[Piece, ...] = ()
    branch: tuple[int, ...] = ()
    substep: int | None = None

    def after(self, *sources: Piece) -> _Place:
        return replace(self, sources=sources)

    def _inner(self) -> tuple[int, ...]:
        return self.branch if self.substep is None else (*self.branch, self.substep)

    def in_branch(self, index: int) -> _Place:
        return replace(self, branch=(*self._inner(), index), substep=None)

    def in_substep(self, index: int) -> _Place:
        return replace(self, branch=self._inner(), substep=index)


class _Walk:
    """Goes through a fitted object, and collects its operators."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []

    def whole(
        self,
        obj: Any,
        name: str,
        place: _Place,
        kind: ArtifactType | None = None,
        stacked: Sequence[Piece] = (),
        columns: Sequence[str] = (),
    ) -> Piece:
        """Enter what is inside an object, then the object; give its piece."""
        parts, ends = self._inside(obj, place)
        sources = tuple(ends) or place.sources
        step = 1 + max((source.node.step_index for source in sources), default=0)
        node = OperatorNode(step, class_name(obj), list(place.branch), substep_index=place.substep)
        line = dict.fromkeys([*(key for source in sources for key in source.line), (step, node.to_key())])
        kind = kind or kinds.artifact_type(obj)
        piece = Piece(obj, node, kind, name, sources, tuple(line), tuple(parts), tuple(stacked), tuple(columns))
        self.pieces.append(piece)
        return piece

    def _inside(self, obj: Any, place: _Place) -> tuple[list[Piece], Sequence[Piece]]:
        """Enter what is inside; give it, and what of it the object itself takes as input."""
        from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
        from sklearn.ensemble import StackingClassifier, StackingRegressor, VotingClassifier, VotingRegressor
        from sklearn.pipeline import FeatureUnion

        if _is_pipeline(obj):
            parts = self._steps(obj.steps, place)
            return parts, parts[-1:]
        if isinstance(obj, ColumnTransformer | FeatureUnion):
            branches = [self._steps([step], place.in_branch(index)) for index, step in _transformers(obj)]
            return [part for branch in branches for part in branch], [branch[-1] for branch in branches if branch]
        if isinstance(obj, StackingRegressor | StackingClassifier):
            models = self._models(obj, place)
            meta = self.whole(
                obj.final_estimator_, "final_estimator", place.after(*models), ArtifactType.META_MODEL, models,
                list(_stacked_columns(obj, [model.name for model in models])),
            )  # fmt: skip
            return [*models, meta], [meta]
        if isinstance(obj, VotingRegressor | VotingClassifier):
            models = self._models(obj, place)
            return models, models
        if isinstance(obj, TransformedTargetRegressor):
            encoder = self.whole(obj.transformer_, "transformer", place, ArtifactType.ENCODER)
            model = self.whole(obj.regressor_, "regressor", place.after(encoder))
            return [encoder, model], [model]
        if is_search(obj) and hasattr(obj, "best_estimator_"):
            best = self.whole(obj.best_estimator_, "best_estimator", place)
            return [best], [best]
        return [], []

    def _steps(self, steps: Iterable[tuple[str, Any]], place: _Place) -> list[Piece]:
        """Enter steps one after the other; those of a pipeline among them as if they stood in its place."""
        entered: list[Piece] = []
        kept = [(name, step) for name, step in steps if not _is_left_out(step)]
        for position, (name, step) in enumerate(kept, start=1):
            # What also predicts, as RFE, only transforms where something comes behind it.
            kind = ArtifactType.TRANSFORMER if position < len(kept) and kinds.is_selector(step) else None
            entered += self._steps(step.steps, place) if _is_pipeline(step) else [self.whole(step, name, place, kind)]
            place = place.after(*entered[-1:] or place.sources)
        return entered

    def _models(self, ensemble: Any, place: _Place) -> list[Piece]:
        names = [name for name, estimator in ensemble.estimators if not _is_left_out(estimator)]
        return [
            self.whole(model, name, place.in_substep(index))
            for index, (name, model) in enumerate(zip(names, ensemble.estimators_, strict=True))
        ]


def _transformers(union: Any) -> Iterator[tuple[int, tuple[str, Any]]]:
    """Give position, name and fitted transformer of what a union consists of, but for columns passed through."""
    if hasattr(union, "transformer_list"):
        yield from enumerate((name, transformer) for name, transformer in union.transformer_list)
        return
    given = {**{name: transformer for name, transformer, _ in union.transformers}, "remainder": union.remainder}
    for index, (name, transformer, _) in enumerate(union.transformers_):
        # A column that is passed through has a transformer that does nothing.
        if not _is_left_out(given.get(name)):
            yield index, (name, transformer)


def _stacked_columns(stack: Any, names: Sequence[str]) -> Iterator[str]:
    """Name the columns that a stack's final estimator is shown, as scikit-learn puts them side by side."""
    classes = getattr(stack, "classes_", ())
    for name, method in zip(names, stack.stack_method_, strict=True):
        if method == "predict" or not len(classes) or isinstance(classes, list):  # a list: of several targets
            yield f"{name}_pred"
            continue
        what = "proba" if method == "predict_proba" else "decision"
        yield from (f"{name}_{what}_{one}" for one in (classes[1:] if len(classes) == 2 else classes))
    if stack.passthrough:
        known = getattr(stack, "feature_names_in_", None)
        yield from map(str, range(stack.n_features_in_) if known is None else known)


def _is_left_out(step: Any) -> bool:
    return step is None or isinstance(step, str)  # "passthrough", "drop"


def _is_pipeline(obj: Any) -> bool:
    from sklearn.pipeline import Pipeline

    return isinstance(obj, Pipeline)
