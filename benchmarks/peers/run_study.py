"""The study that every system trains, and how it is timed and counted; runs in the environment of each of them.

Each of these scripts is given the file of the spectra, a folder to write to, how many pipelines, and how many jobs.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.cross_decomposition import PLSRegression
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler
from sklearn.svm import SVR

FOLDS = 5


def preprocessings() -> list[Any]:
    """Give four ways of preparing spectra: autoscaled, mean-centred, between 0 and 1, each of length 1."""
    return [StandardScaler(), StandardScaler(with_std=False), MinMaxScaler(), Normalizer()]


def all_models() -> list[Any]:
    """Give 25 models: 10 PLS, 3 ridge, 3 support vectors, 2 neighbours, 4 random forests, 3 of extra trees."""
    trees: dict[str, Any] = {"n_estimators": 100, "random_state": 0}
    return [
        *(PLSRegression(n) for n in range(2, 21, 2)),
        *(Ridge(alpha) for alpha in (0.001, 0.1, 10.0)),
        *(SVR(C=c) for c in (1.0, 10.0, 100.0)),
        *(KNeighborsRegressor(n) for n in (3, 7)),
        *(RandomForestRegressor(max_features="sqrt", min_samples_leaf=leaf, **trees) for leaf in (1, 3)),
        *(RandomForestRegressor(max_features=1 / 3, min_samples_leaf=leaf, **trees) for leaf in (1, 3)),
        ExtraTreesRegressor(max_features="sqrt", **trees),
        *(ExtraTreesRegressor(max_features=1 / 3, min_samples_leaf=leaf, **trees) for leaf in (1, 3)),
    ]


def models(pipelines: int) -> list[Any]:
    """Give the models of a study of so many pipelines (a multiple of four), chosen evenly from all."""
    every = all_models()
    count = pipelines // len(preprocessings())
    return [every[(2 * position + 1) * len(every) // (2 * count)] for position in range(count)]


def splitter() -> Any:
    return KFold(FOLDS, shuffle=True, random_state=0)


def grid(pipelines: int) -> list[Any]:
    """Give the study in the syntax that artifactdb and nirs4all share.

    Preprocessing comes before the folds and is fitted once to all rows, since nirs4all does so wherever it stands.
    """
    return [{"_or_": preprocessings()}, splitter(), {"_or_": [{"model": model} for model in models(pipelines)]}]


def single(pipelines: int) -> Iterator[tuple[Any, Any]]:
    """Give preprocessing and model of each pipeline."""
    for preprocessing in preprocessings():
        for model in models(pipelines):
            yield preprocessing, model


def rmse(measured: Any, predicted: Any) -> float:
    return float(np.sqrt(np.mean((np.ravel(measured) - np.ravel(predicted)) ** 2)))


def count_fits() -> dict[str, int]:
    """Count from now on how often each class of the study is fitted in this process."""
    counts = dict.fromkeys(("transformers", "models"), 0)
    for kind, objects in (("transformers", preprocessings()), ("models", all_models())):
        for cls in {type(obj) for obj in objects}:
            cls.fit = _counted(cls.fit, counts, kind)
    return counts


def _counted(fit: Callable[..., Any], counts: dict[str, int], kind: str) -> Callable[..., Any]:
    @functools.wraps(fit)
    def counting(*args: Any, **kwargs: Any) -> Any:
        counts[kind] += 1
        return fit(*args, **kwargs)

    return counting


def measure(train: Callable[[Any, Any, Path, int, int], Any], scores: Callable[[Any], list[float]]) -> None:
    """Time ``train``, and print what it took and what it did.

    A small study is trained elsewhere first, so that no import is timed, nor the start of workers (the first of which
    would take a few quick pipelines alone). ``scores`` is not timed either: it reads, from what ``train`` gave, the
    RMSE of the held-out rows of each fold of each pipeline.
    """
    warnings.simplefilter("ignore")
    file, folder, pipelines, jobs = sys.argv[1:]
    spectra = np.load(file)
    x, y = spectra["x"], spectra["y"]
    counts = count_fits()
    with tempfile.TemporaryDirectory() as elsewhere:
        train(x, y, Path(elsewhere), 4 if jobs == "1" else 24, int(jobs))
    counts.update(dict.fromkeys(counts, 0))
    cpu = os.times()
    started = time.perf_counter()
    trained = train(x, y, Path(folder), int(pipelines), int(jobs))
    seconds = time.perf_counter() - started
    spent = [after - before for after, before in zip(os.times(), cpu, strict=True)][:4]
    found = scores(trained)
    print()
    print(
        json.dumps(
            {"seconds": seconds, "cpu": sum(spent), "scores": len(found), "rmse": float(np.mean(found)), **counts}
        )
    )
