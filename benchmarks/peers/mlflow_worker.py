"""MLflow's ``log_model``, measured in its own environment: ``register FIRST COUNT``, one JSON an answer."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
import warnings

import mlflow

from benchmarks.peers.objects import scaler


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        mlflow.set_experiment("wheat")
        for line in sys.stdin:
            _, first, count = line.split()
            objects = [scaler(number) for number in range(int(first), int(first) + int(count))]
            with mlflow.start_run():
                started = time.perf_counter()
                for number, obj in enumerate(objects, start=int(first)):
                    # Requirements are given, so that MLflow does not start a process for each model to find them.
                    mlflow.sklearn.log_model(
                        obj,
                        name=f"model_{number}",
                        pip_requirements=["scikit-learn"],
                        serialization_format="cloudpickle",
                    )
                print(json.dumps({"seconds": time.perf_counter() - started}), flush=True)


if __name__ == "__main__":
    main()
