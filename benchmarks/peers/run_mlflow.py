"""Train the study with MLflow's autologging: a run for each fold of each pipeline, with its model, into SQLite.

Autologging leaves out what is in ``sklearn.preprocessing``, so transformers are not stored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
from sklearn.base import clone

from benchmarks.peers.run_study import measure, rmse, single, splitter


def train(x: Any, y: Any, folder: Path, pipelines: int, _jobs: int) -> list[float]:
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.create_experiment("spectra", artifact_location=(folder / "artifacts").as_uri())
    mlflow.set_experiment("spectra")
    mlflow.sklearn.autolog(silent=True)
    scores = []
    for preprocessing, model in single(pipelines):
        treated = clone(preprocessing).fit(x).transform(x)
        for fold, (train, test) in enumerate(splitter().split(x)):
            with mlflow.start_run(tags={"fold": str(fold)}):
                fitted = clone(model).fit(treated[train], y[train])
                scores.append(rmse(y[test], fitted.predict(treated[test])))
                mlflow.log_metric("val_rmse", scores[-1])
    return scores


if __name__ == "__main__":
    measure(train, list)
