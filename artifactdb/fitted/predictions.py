"""How well a fitted object predicts, as rows of the catalog that do not know yet what they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from artifactdb.artifacts.parameters import readable
from artifactdb.catalog.columns import lower_is_better
from artifactdb.errors import InvalidValueError
from artifactdb.estimators import kinds, scores
from artifactdb.estimators.blocks import labels_behind, places, positions, take
from artifactdb.fitted.structure import class_name, final_estimator

UNNAMED = "score"
"""What scikit-learn calls a score whose metric it does not say."""


def require_pairs(X: Any, y: Any) -> None:  # noqa: N803
    """Refuse X without y, y without X, and both of different lengths.

    Raises
    ------
    InvalidValueError
    """
    if (X is None) != (y is None):
        raise InvalidValueError("scores need X and y, and only one is given.", hint="Give both, or neither.")
    if X is not None and _length(X) != _length(y):
        raise InvalidValueError(f"X has {_length(X)} samples and y has {_length(y)}.", hint="Give them row by row.")


def about(model: Any, predictor: Any = None) -> dict[str, Any]:
    """Give what a row says of a model; ``predictor`` is what predicts in the end, where it is another than now."""
    name = class_name(final_estimator(model) if predictor is None else predictor)
    return {"model_name": name, "model_classname": name, "task_type": _task(model)}


def of_training(model: Any, X: Any, y: Any, metric: str | None) -> list[dict[str, Any]]:  # noqa: N803
    """Give the row of what a model predicts for the samples that it is given; none for what does not predict."""
    task = _task(model)
    if X is None or task is None:
        return []
    measures = task if metric is None else scores.task_of(metric)
    if measures != task:
        raise InvalidValueError(f"{metric} is for {measures}, and {type(model).__name__} is for {task}.")
    predicted, computed = _predicted(model, X, y, task, metric)
    chosen = metric or next(iter(computed))
    return [
        {
            **about(model),
            **predicted,
            "partition": "train",
            "metric": chosen,
            "train_score": computed[chosen],
            "scores": {"train": readable(computed)},
            "n_features": _width(X),
        }
    ]


def of_folds(results: Mapping[str, Any], X: Any, y: Any, metric: str | None) -> list[dict[str, Any]]:  # noqa: N803
    """Give a row for each fold of a ``cross_validate``, in their order; with arrays where its indices are known.

    Raises
    ------
    InvalidValueError
        When ``metric`` is none of several that were computed, or the indices are not of these samples.
    """
    names = [key.removeprefix("test_") for key in results if key.startswith("test_")]
    held_out = results["indices"]["test"] if X is not None and "indices" in results else None
    rows = []
    computed: list[dict[str, float]] = []
    # Of searches, each fold may have come to a predictor of its own; they are one model all the same.
    several = len({class_name(final_estimator(model)) for model in results["estimator"]}) > 1
    for fold, model in enumerate(results["estimator"]):
        row = {**about(model, model if several else None), "partition": "val", "fold_id": fold, "op_counter": 0}
        task = _task(model)
        if held_out is not None and task is not None:
            indices = positions(held_out[fold])
            if len(indices) and indices.max() >= _length(y):
                raise InvalidValueError(
                    f"fold {fold} holds out sample {indices.max()}, and X has {_length(X)}.",
                    hint="Give the X and y that were cross-validated.",
                )
            arrays, own = _predicted(model, _rows(X, indices), _rows(y, indices), task, among=y)
            row |= {**arrays, "sample_indices": indices, "n_features": _width(X)}
            computed.append(own)
        rows.append(row)
    main, called = _names_of_folds(names, results, computed, metric)
    signs = {name: sign_of(called[name], results[f"test_{name}"]) for name in names}
    for fold, row in enumerate(rows):
        val, train = (
            {called[name]: signs[name] * float(results[key][fold]) for name in names if (key := of(name)) in results}
            for of in ("test_{}".format, "train_{}".format)
        )
        row |= {"metric": main, "val_score": val.get(main or ""), "train_score": train.get(main or "")}
        every = {**(computed[fold] if computed else {}), **val}
        row["scores"] = readable({"val": every, "train": train} if train else {"val": every})
    return rows


def sign_of(metric: str, values: Any, scorer: Any = None) -> int:
    """Give -1 for an error that scikit-learn gives as a number below zero, as greater is better with its scorers.

    Examples
    --------
    >>> sign_of("rmse", [-2.0, -1.0]), sign_of("rmse", [2.0, 1.0]), sign_of("neg_root_mean_squared_error", [-2.0, -1.0])
    (-1, 1, 1)
    """
    try:
        is_error = lower_is_better(metric)
    except InvalidValueError:
        return 1
    known = [value for value in values if value == value]
    turned = metric not in _SIGNED and bool(known) and max(known) <= 0
    return -1 if is_error and getattr(scorer, "_sign", -1 if turned else 1) < 0 else 1


_SIGNED = ("bias", "mbe")
"""Errors that may well be below zero."""


def _names_of_folds(
    names: list[str], results: Mapping[str, Any], computed: list[dict[str, float]], metric: str | None
) -> tuple[str | None, dict[str, str]]:
    """Give the main metric, and what each is called; ``cross_validate`` does not say what ``test_score`` is."""
    called = {name: name for name in names}
    if names != [UNNAMED]:
        if metric is not None and metric not in names:
            raise InvalidValueError(f"the folds have no scores in {metric!r}.", hint=f"They have {', '.join(names)}.")
        return metric or next(iter(names), None), called
    usual = next((name for name in ("r2", "accuracy") if computed and name in computed[0]), UNNAMED)
    agrees = usual != UNNAMED and np.allclose(
        [own[usual] for own in computed], results["test_score"], rtol=1e-6, equal_nan=True
    )
    called[UNNAMED] = metric or (usual if agrees else UNNAMED)
    return called[UNNAMED], called


def _predicted(
    model: Any,
    X: Any,  # noqa: N803
    y: Any,
    task: str,
    metric: str | None = None,
    among: Any = None,
) -> tuple[dict[str, Any], dict[str, float]]:
    """Give arrays for the catalog, and scores.

    Labels that are no numbers become indices of the sorted classes, ``among`` being all labels that there are; what a
    model predicts besides, as for what it rejects, stands behind them.
    """
    try:
        predicted, measured = np.asarray(model.predict(X)), np.asarray(y)
        if task == "regression" and measured.dtype.kind == "O":  # nullable numbers of pandas
            measured = measured.astype(float)
        if measured.size == predicted.size:
            predicted = predicted.reshape(measured.shape)  # (n, 1) and (n,) would be compared all with all
        computed = scores.scores(task, measured, predicted, metric)
    except Exception as error:
        raise InvalidValueError(
            f"{type(model).__name__} cannot be scored by this X and y ({type(error).__name__}: {error}).",
            hint="Give them as they were for fit.",
        ) from error
    if task == "regression" or {measured.dtype.kind, predicted.dtype.kind} <= set("biuf"):
        return {"y_true": measured, "y_pred": predicted}, computed
    known = np.unique(measured if among is None else np.asarray(among))
    classes = labels_behind(known, predicted)
    return {
        "y_true": places(measured, classes),
        "y_pred": places(predicted, classes),
        "metadata": {"classes": readable(classes.tolist())},
    }, computed


def _task(model: Any) -> str | None:
    if kinds.is_classifier(model):
        return "classification"
    return "regression" if kinds.is_regressor(model) else None


def _length(samples: Any) -> int:
    return int(samples.shape[0]) if getattr(samples, "shape", ()) else len(samples)


def _width(samples: Any) -> int:
    shape: tuple[int, ...] = getattr(samples, "shape", ())
    return int(shape[1]) if len(shape) > 1 else 0


def _rows(samples: Any, indices: Any) -> Any:
    return take(samples if hasattr(samples, "shape") else np.asarray(samples), indices)
