"""Train the study with MLflow's autologging, without its working out requirements: two seconds for each model."""

from __future__ import annotations

from typing import Any

import mlflow.models

from benchmarks.peers.run_mlflow import train
from benchmarks.peers.run_study import measure


def known(_model: str, _flavor: str, fallback: Any) -> Any:
    """Give the requirements that MLflow falls back to: scikit-learn and cloudpickle."""
    return fallback


if __name__ == "__main__":
    mlflow.models.infer_pip_requirements = known  # autologging has no parameter for it
    measure(train, list)
