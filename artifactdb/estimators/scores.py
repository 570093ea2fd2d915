"""How well predictions agree with what was measured; most of it is computed by scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import numpy as np

from artifactdb.errors import InvalidValueError

REGRESSION = ("rmse", "mae", "r2")
CLASSIFICATION = ("accuracy",)
"""What is computed of every fold, the first of them by default what pipelines are compared by."""


def _numbers(y: Any, predicted: Any) -> tuple[Any, Any]:
    # As floats: whole numbers without a sign have no differences below zero.
    return np.asarray(y, dtype=float), np.asarray(predicted, dtype=float)


def _rmse(y: Any, predicted: Any) -> float:
    y, predicted = _numbers(y, predicted)
    return float(np.mean(np.sqrt(np.mean((predicted - y) ** 2, axis=0))))  # the mean over several targets


def _mse(y: Any, predicted: Any) -> float:
    y, predicted = _numbers(y, predicted)
    return float(np.mean((predicted - y) ** 2))


def _mae(y: Any, predicted: Any) -> float:
    y, predicted = _numbers(y, predicted)
    return float(np.mean(np.abs(predicted - y)))


def _r2(y: Any, predicted: Any) -> float:
    # The mean over several targets, as scikit-learn has it; not a number where all that was measured is the same.
    y, predicted = _numbers(y, predicted)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        spread = ((y - y.mean(axis=0)) ** 2).sum(axis=0)
        shares = ((predicted - y) ** 2).sum(axis=0) / spread
    return float(np.mean(1 - shares)) if np.all(spread) else float("nan")


def _accuracy(y: Any, predicted: Any) -> float:
    same = np.asarray(y) == np.asarray(predicted)
    return float(np.mean(same.all(axis=1) if same.ndim == 2 else same))  # of several labels all have to be right


def _sklearn(name: str, **options: Any) -> Callable[[Any, Any], float]:
    def compute(y: Any, predicted: Any) -> float:
        from sklearn import metrics

        return float(getattr(metrics, name)(y, predicted, **options))

    return compute


_METRICS: dict[str, tuple[str, Callable[[Any, Any], float]]] = {
    "rmse": ("regression", _rmse),
    "mse": ("regression", _mse),
    "mae": ("regression", _mae),
    "r2": ("regression", _r2),
    "mape": ("regression", _sklearn("mean_absolute_percentage_error")),
    "medae": ("regression", _sklearn("median_absolute_error")),
    "max_error": ("regression", _sklearn("max_error")),
    "explained_variance": ("regression", _sklearn("explained_variance_score")),
    "accuracy": ("classification", _accuracy),
    "balanced_accuracy": ("classification", _sklearn("balanced_accuracy_score")),
    "f1_macro": ("classification", _sklearn("f1_score", average="macro")),
    "f1_micro": ("classification", _sklearn("f1_score", average="micro")),
    "f1_weighted": ("classification", _sklearn("f1_score", average="weighted")),
    "precision_macro": ("classification", _sklearn("precision_score", average="macro", zero_division=0)),
    "recall_macro": ("classification", _sklearn("recall_score", average="macro", zero_division=0)),
    "mcc": ("classification", _sklearn("matthews_corrcoef")),
    "kappa": ("classification", _sklearn("cohen_kappa_score")),
}
_SHARES = ("r2", "explained_variance")
"""Of the metrics of regression those that are better when higher."""


def task_of(metric: str) -> str:
    """Give "regression" or "classification".

    Raises
    ------
    InvalidValueError
        For a metric that is not known, with the nearest names.

    Examples
    --------
    >>> task_of("rmse")
    'regression'
    """
    if not isinstance(metric, str) or metric not in _METRICS:
        close = get_close_matches(str(metric), _METRICS, 3)
        meant = f"Did you mean {' or '.join(close)}? " if close else ""
        raise InvalidValueError(f"no metric {metric!r} is known.", hint=f"{meant}Known are {', '.join(_METRICS)}.")
    return _METRICS[metric][0]


def score(metric: str, y: Any, predicted: Any) -> float:
    """Give one score; of predictions that are no finite numbers the worst that there is.

    Examples
    --------
    >>> score("rmse", [1.0, 2.0], [1.0, 4.0]), score("r2", [1.0, 3.0], [1.0, 3.0])
    (1.4142135623730951, 1.0)
    >>> score("rmse", [1.0, 2.0], [1.0, float("nan")]), score("r2", [1.0, 2.0], [1.0, float("inf")])
    (inf, -inf)
    """
    if task_of(metric) == "regression" and not np.all(np.isfinite(np.asarray(predicted, dtype=float))):
        return float("-inf") if metric in _SHARES else float("inf")
    return _METRICS[metric][1](y, predicted)


def scores(task_type: str, y: Any, predicted: Any, metric: str | None = None) -> dict[str, float]:
    """Give the usual scores of a task, and ``metric``."""
    usual = REGRESSION if task_type == "regression" else CLASSIFICATION
    names = usual if metric is None or metric in usual else (metric, *usual)
    return {name: score(name, y, predicted) for name in names}
