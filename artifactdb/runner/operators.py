"""Fitted operators tied together: what data go through on their way to a prediction.

Training and replaying both predict with these, with the same calls on the same shapes: so a replay gives the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from artifactdb.errors import InvalidValueError
from artifactdb.estimators import kinds
from artifactdb.fitted.structure import class_name, final_estimator

Blocks = Sequence[Any]
"""X as it was given, one block a source."""
Memo = dict[int, Any]
"""What nodes gave for one X, so that models which share a transformer run it once."""


class Node(Protocol):
    """Something that gives a block of features."""

    def output(self, blocks: Blocks, memo: Memo) -> Any:
        """Give the features for X."""


@dataclass(eq=False)
class Source:
    """A block of X as it came."""

    index: int

    def output(self, blocks: Blocks, memo: Memo) -> Any:
        """Give the block."""
        return blocks[self.index]


@dataclass(eq=False)
class Transformer:
    """A fitted transformer behind what feeds it."""

    fitted: Any
    inputs: Sequence[Node]

    def output(self, blocks: Blocks, memo: Memo) -> Any:
        """Give the transformed block."""
        if id(self) not in memo:
            given = joined([node.output(blocks, memo) for node in self.inputs])
            memo[id(self)] = self.fitted.transform(own(self.fitted, given))
        return memo[id(self)]


@dataclass(eq=False)
class Model:
    """A fitted model behind what feeds it; what it predicts goes back through the encoders of y."""

    fitted: Any
    inputs: Sequence[Node]
    encoders: Sequence[Any] = ()

    def features(self, blocks: Blocks, memo: Memo) -> Any:
        """Give what the model is shown."""
        return own(self.fitted, joined([node.output(blocks, memo) for node in self.inputs]))

    def predict(self, blocks: Blocks, memo: Memo) -> Any:
        """Give predictions in the units of y."""
        return decoded(self.fitted.predict(self.features(blocks, memo)), self.encoders)

    def predict_proba(self, blocks: Blocks, memo: Memo) -> Any | None:
        """Give the probability of each class, or None."""
        if not (kinds.is_classifier(self.fitted) and hasattr(self.fitted, "predict_proba")):
            return None
        return np.asarray(self.fitted.predict_proba(self.features(blocks, memo)))

    @property
    def classifies(self) -> bool:
        """Whether it predicts labels, by itself or because an encoder of y makes labels of what it predicts."""
        return kinds.predicts_labels(self.fitted) or any(map(kinds.gives_labels_back, self.encoders))

    @property
    def classes(self) -> Any:
        """The classes in the order of the probabilities, in the units of y."""
        return decoded(self.fitted.classes_, self.encoders)

    def columns(self, blocks: Blocks, memo: Memo) -> Any:
        """Give what a meta-model is shown: what this model predicts, or a column a class; of two the second.

        Returns
        -------
        array of shape (n_samples, n_columns)
        """
        if id(self) not in memo:
            memo[id(self)] = self._columns(blocks, memo)
        return memo[id(self)]

    def _columns(self, blocks: Blocks, memo: Memo) -> Any:
        if not kinds.is_classifier(self.fitted):
            predicted = np.asarray(self.predict(blocks, memo))
            if predicted.dtype.kind not in "biuf":
                raise InvalidValueError(
                    f"{type(self.fitted).__name__} predicts texts by way of an encoder of y, and a meta-model takes "
                    "numbers.",
                    hint="Stack classifiers.",
                )
            return predicted.reshape(len(predicted), -1)
        found = self.predict_proba(blocks, memo)
        if found is None and self.decides:
            decided = np.asarray(self.fitted.decision_function(self.features(blocks, memo)))
            return decided.reshape(len(decided), -1)
        if found is None:
            labels = np.asarray(self.fitted.predict(self.features(blocks, memo)))
            found = np.asarray(labels[:, None] == np.asarray(self.fitted.classes_)[None, :], dtype=float)
        return found[:, 1:] if found.shape[1] == 2 else found

    def column_names(self, width: int) -> list[str]:
        """Name the columns that a meta-model is shown: by the classes that they are of, else by their numbers."""
        if not kinds.is_classifier(self.fitted):
            return ["pred"] if width == 1 else [f"pred_{target}" for target in range(width)]
        names = self.classes[1:] if len(self.classes) == 2 else self.classes
        what = "decision" if self.decides else "proba"
        return [f"{what}_{name}" for name in (range(width) if self.decides_pairs or len(names) != width else names)]

    @property
    def decides(self) -> bool:
        """Whether a classifier is asked for its decision function, because it gives no probabilities."""
        return not hasattr(self.fitted, "predict_proba") and hasattr(self.fitted, "decision_function")

    @property
    def decides_pairs(self) -> bool:
        """Whether its decision function has a column for each pair of classes, which are as many for three of them."""
        shape = getattr(final_estimator(self.fitted), "decision_function_shape", "ovr")
        return self.decides and shape == "ovo" and len(self.fitted.classes_) > 2


@dataclass(eq=False)
class MetaModel(Model):
    """A fitted meta-model over the predictions of its source models."""

    inputs: Sequence[Node] = ()
    sources: Sequence[Model] = field(default=())

    def features(self, blocks: Blocks, memo: Memo) -> Any:
        """Give the predictions of the source models, side by side."""
        return np.column_stack([source.columns(blocks, memo) for source in self.sources])


def as_of(model: Model, other: Model, columns: Any) -> Any:
    """Give columns of a model that may have seen fewer classes in the order of one that saw them all."""
    if not kinds.is_classifier(model.fitted):
        return columns
    known, seen = list(model.classes), list(other.classes)
    if known == seen:
        return columns
    if model.decides_pairs or columns.shape[1] != (1 if len(seen) == 2 else len(seen)):
        decider = class_name(final_estimator(model.fitted))
        raise InvalidValueError(
            f"{decider} decides between pairs of classes, and not all of them are in each fold.",
            hint="Take decision_function_shape='ovr', or a splitter that stratifies.",
        )
    if len(seen) == 2:
        columns = np.column_stack([-columns if model.decides else 1 - columns, columns])
    placed = np.full((len(columns), len(known)), columns.min() if model.decides else 0.0)
    for position, name in enumerate(seen):
        if name in known:
            placed[:, known.index(name)] = columns[:, position] if len(seen) > 1 else 1.0
    return placed[:, 1:] if len(known) == 2 else placed


def drawing(splitter: Any, seed: int) -> Any:
    """Give a splitter that draws the same for the same rows each time: scores compare within the same folds.

    Examples
    --------
    >>> from sklearn.model_selection import KFold
    >>> drawing(KFold(3, shuffle=True), 7), drawing(KFold(3), 7)
    (KFold(n_splits=3, random_state=7, shuffle=True), KFold(n_splits=3, random_state=None, shuffle=False))
    """
    own = deepcopy(splitter)
    if getattr(own, "random_state", seed) is None and getattr(own, "shuffle", True):
        with suppress(AttributeError):  # one that cannot be told draws as it does
            own.random_state = seed
    return own


def joined(blocks: Blocks) -> Any:
    """Give blocks of features side by side; a single one as it is."""
    if len(blocks) == 1:
        return blocks[0]
    if any(hasattr(block, "tocsr") for block in blocks):
        from scipy import sparse

        return sparse.hstack(blocks).tocsr()
    return np.hstack([np.asarray(block) for block in blocks])


def own(operator: Any, block: Any) -> Any:
    """Give the block, or a copy where the operator works in place, or may for all that is known: others use it too.

    Examples
    --------
    >>> from sklearn.preprocessing import FunctionTransformer, StandardScaler
    >>> block = np.zeros((2, 2))
    >>> own(StandardScaler(), block) is block, own(StandardScaler(copy=False), block) is block
    (True, False)
    >>> own(FunctionTransformer(np.log1p), block) is block
    False
    """
    told = operator.get_params() if hasattr(operator, "get_params") else {}
    in_place = any(value is False and name.rpartition("__")[2] in _COPIES for name, value in told.items())
    return block.copy() if in_place or any(map(_is_unknown, (operator, *told.values()))) else block


_COPIES = ("copy", "copy_X", "copy_x")


def _is_unknown(operator: Any) -> bool:
    """Tell whether an operator is, or calls, what is none of scikit-learn's own: that leaves what it is given alone."""
    from sklearn.preprocessing import FunctionTransformer

    if not hasattr(operator, "fit"):
        return False
    return isinstance(operator, FunctionTransformer) or not type(operator).__module__.startswith("sklearn.")


def as_stored(fitted: Any) -> Any:
    """Give a fitted object with its arrays as they come back from the file, so that it gives the same bits then.

    Pickling writes an array that lies neither by rows nor by columns by rows, and BLAS sums in another order.
    """
    _settle(fitted, 0)
    return fitted


_DEEP = 6


def _settle(value: Any, depth: int) -> None:
    if depth > _DEEP or isinstance(value, type):
        return
    inside = value if isinstance(value, dict | list | tuple) else getattr(value, "__dict__", None)
    if not isinstance(inside, dict | list | tuple):
        return
    for place, item in list(inside.items() if isinstance(inside, dict) else enumerate(inside)):
        if _is_strided(item) and not isinstance(inside, tuple):
            inside[place] = np.ascontiguousarray(item)
        elif not isinstance(item, _PLAIN):
            _settle(item, depth + 1)


_PLAIN = (str, int, float, bool, bytes, type(None), np.ndarray, np.generic)


def _is_strided(value: Any) -> bool:
    return type(value) is np.ndarray and not (value.flags.c_contiguous or value.flags.f_contiguous)


def encoded(fitted: Any, y: Any) -> Any:
    """Give y as a fitted encoder has it; one target stays of one dimension."""
    y = own(fitted, y)
    found = fitted.transform(y if kinds.takes_labels(fitted) else np.asarray(y).reshape(len(y), -1))
    return _flat(np.asarray(found.toarray() if hasattr(found, "toarray") else found))


def decoded(values: Any, encoders: Sequence[Any]) -> Any:
    """Give predictions in the units of y: back through the encoders, the last one first."""
    values = _flat(np.asarray(values))
    for encoder in reversed(encoders):
        values = own(encoder, values)
        try:
            if kinds.takes_labels(encoder):
                values = encoder.inverse_transform(values)
            else:
                values = _flat(np.asarray(encoder.inverse_transform(values.reshape(len(values), -1))))
        except (ValueError, IndexError) as error:
            if not kinds.gives_labels_back(encoder):
                raise
            raise InvalidValueError(
                f"{type(encoder).__name__} has no label for what is predicted ({error}).",
                hint="Take a classifier; or LabelBinarizer, which gives the nearest label back to a regressor.",
            ) from error
    return values


def require_features(trained: Sequence[int] | None, blocks: Blocks) -> None:
    """See that X has as many blocks and features as in training.

    Raises
    ------
    InvalidValueError
        With both numbers.
    """
    if not trained:
        return
    given = [int(block.shape[1]) for block in blocks]
    if len(given) != len(trained):
        raise InvalidValueError(
            f"the pipeline was trained on {len(trained)} sources, X has {len(given)}.",
            hint="Give X as a list with one block for each source.",
        )
    for position, (wanted, got) in enumerate(zip(trained, given, strict=True)):
        if wanted != got:
            where = f"source {position} of X" if len(trained) > 1 else "X"
            raise InvalidValueError(f"the pipeline was trained on {wanted} features, {where} has {got}.")


def _flat(values: Any) -> Any:
    return values.ravel() if values.ndim == 2 and values.shape[1] == 1 else values
