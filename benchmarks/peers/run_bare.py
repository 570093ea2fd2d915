"""Train the study with scikit-learn alone: fit, predict the held-out rows, compute their RMSE, keep nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from joblib import Parallel, delayed
from sklearn.base import clone

from benchmarks.peers.run_study import measure, rmse, single, splitter


def pipeline(preprocessing: Any, model: Any, x: Any, y: Any) -> list[float]:
    treated = clone(preprocessing).fit(x).transform(x)
    scores = []
    for train, test in splitter().split(x):
        fitted = clone(model).fit(treated[train], y[train])
        scores.append(rmse(y[test], fitted.predict(treated[test])))
    return scores


def train(x: Any, y: Any, _folder: Path, pipelines: int, jobs: int) -> list[float]:
    if jobs == 1:
        done = [pipeline(*pair, x, y) for pair in single(pipelines)]
    else:
        done = Parallel(jobs)(delayed(pipeline)(*pair, x, y) for pair in single(pipelines))
    return [score for scores in done for score in scores]


if __name__ == "__main__":
    measure(train, list)
