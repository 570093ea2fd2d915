"""Operators that go wrong in a way of their own; worker processes import them from here."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin
from sklearn.linear_model import Ridge


class Killer(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Ends its process as the system does for want of memory: ``times`` times, as counted by files in a folder."""

    def __init__(self, folder: str = "", times: int = 1) -> None:
        self.folder, self.times = folder, times

    def fit(self, x: Any, y: Any) -> Killer:
        before = len(list(Path(self.folder).iterdir()))
        if before < self.times:
            (Path(self.folder) / f"{before}-{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        self.model_ = Ridge().fit(x, y)
        return self

    def predict(self, x: Any) -> Any:
        return self.model_.predict(x)


class Counted(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Leaves a file for each fit, and takes its time."""

    def __init__(self, folder: str = "", alpha: float = 1.0, seconds: float = 0.0) -> None:
        self.folder, self.alpha, self.seconds = folder, alpha, seconds

    def fit(self, x: Any, y: Any) -> Counted:
        (Path(self.folder) / f"{self.alpha}-{time.monotonic_ns()}-{os.getpid()}").touch()
        time.sleep(self.seconds)
        self.model_ = Ridge(alpha=self.alpha).fit(x, y)
        return self

    def predict(self, x: Any) -> Any:
        return self.model_.predict(x)


class Memorizing(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Knows the y of every row that it was trained on by heart, and nothing else."""

    def fit(self, x: Any, y: Any) -> Memorizing:
        self.known_ = {row.tobytes(): value for row, value in zip(np.asarray(x), y, strict=True)}
        self.mean_ = float(np.mean(y))
        return self

    def predict(self, x: Any) -> Any:
        return np.array([self.known_.get(row.tobytes(), self.mean_) for row in np.asarray(x)])


class Neither(BaseEstimator):  # type: ignore[misc]
    """Can be fitted, and is then of no use."""

    def fit(self, x: Any, y: Any = None) -> Neither:
        return self


class NeedsY(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A transformer that cannot be fitted without y."""

    def fit(self, x: Any, y: Any) -> NeedsY:
        self.weight_ = float(np.mean(y))
        return self

    def transform(self, x: Any) -> Any:
        return np.asarray(x) * self.weight_


class Leaving(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Would have the whole program end."""

    def fit(self, x: Any, y: Any) -> Leaving:
        raise SystemExit(3)

    def predict(self, x: Any) -> Any:
        raise AssertionError


class Centring(RegressorMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Writes into the y that it is given; what it transforms, it leaves as it is."""

    def fit(self, x: Any, y: Any) -> Centring:
        self.mean_ = float(np.mean(y))
        y -= self.mean_
        return self

    def transform(self, x: Any) -> Any:
        return x

    def predict(self, x: Any) -> Any:
        return np.full(len(x), self.mean_)
