"""Estimators that another scikit-learn wrote: told apart by its own warnings, for which one of ours stands."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_OTHER_NUMBERS = "predicts other numbers"
_MISSING = "lacks an attribute that is needed"
CHANGED: dict[str, tuple[tuple[int, int], str]] = {
    # In 1.5 the coefficients came to include the scale of X, by which they had been divided when predicting.
    "PLSRegression": ((1, 5), _OTHER_NUMBERS),
    "PLSCanonical": ((1, 5), _OTHER_NUMBERS),
    "CCA": ((1, 5), _OTHER_NUMBERS),
    "SimpleImputer": ((1, 8), _MISSING),
}
"""Estimators that load across a version and are then not what they were: found by the golden files of the tests."""

_lock = threading.RLock()  # what filters warnings filters those of all threads


class ChangedEstimatorError(Exception):
    """An estimator loads, and would silently or only later be another one than was saved."""


@contextmanager
def compared(*, said: bool) -> Iterator[None]:
    """Refuse what scikit-learn unpickles in the block though it has changed since; drop its warnings if ``said``.

    scikit-learn warns once for each estimator, nested ones too, and names the version that wrote it.

    Parameters
    ----------
    said : bool
        Whether the user hears of the versions from us.

    Raises
    ------
    ChangedEstimatorError
    """
    try:
        from sklearn.exceptions import InconsistentVersionWarning
    except ImportError:  # what needs it will say so
        yield
        return
    with _lock, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InconsistentVersionWarning)
        yield
    for found in caught:
        if isinstance(found.message, InconsistentVersionWarning):
            theirs = found.message
            require_unchanged(theirs.estimator_name, theirs.original_sklearn_version, theirs.current_sklearn_version)
            if said:
                continue
        warnings.warn_explicit(found.message, found.category, found.filename, found.lineno, source=found.source)


def require_unchanged(name: str, written: str, here: str) -> None:
    """Refuse an estimator that means something else in one of two versions.

    Raises
    ------
    ChangedEstimatorError

    Examples
    --------
    >>> require_unchanged("PLSRegression", "1.5.2", "1.9.1")
    >>> require_unchanged("PLSRegression", "1.4.2", "1.9.1")
    Traceback (most recent call last):
    artifactdb.estimators.versions.ChangedEstimatorError: PLSRegression of scikit-learn 1.4.2 predicts other numbers ...
    """
    since, what = CHANGED.get(name, ((0, 0), ""))
    older = _release(written) < since
    if older != (_release(here) < since) and (older or what == _OTHER_NUMBERS):
        raise ChangedEstimatorError(f"{name} of scikit-learn {written} {what} in {here}")


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
