"""Calls that go to joblib's workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any


def delayed(function: Callable[..., Any]) -> Any:
    """Give joblib's ``delayed`` of a function, which then has scikit-learn's settings of this thread wherever it runs.

    Examples
    --------
    >>> import joblib, sklearn
    >>> with sklearn.config_context(transform_output="pandas"):
    ...     (found,) = joblib.Parallel(n_jobs=2, backend="threading")([delayed(sklearn.get_config)()])
    >>> found["transform_output"]
    'pandas'
    """
    from joblib import delayed as of_joblib
    from sklearn import get_config

    return of_joblib(partial(_with_settings, get_config(), function))


def _with_settings(settings: Mapping[str, Any], function: Callable[..., Any], *given: Any) -> Any:
    from sklearn import config_context

    with config_context(**settings):
        return function(*given)
