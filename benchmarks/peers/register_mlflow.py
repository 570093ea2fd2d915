"""Logs scalers with MLflow, told how many on each line of standard input; runs in the peer's environment.

The requirements are given, because working them out for each model would take MLflow seconds.
"""

import json
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import sklearn
from sklearn.preprocessing import StandardScaler

rng = np.random.default_rng(0)
folder = Path(sys.argv[1])
mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
mlflow.create_experiment("wheat", artifact_location=(folder / "artifacts").as_uri())
mlflow.set_experiment("wheat")
requirements = [f"scikit-learn=={sklearn.__version__}"]
for line in sys.stdin:
    scalers = [StandardScaler().fit(rng.normal(size=(60, 50))) for _ in range(int(line))]
    with mlflow.start_run():
        start = time.perf_counter()
        for index, scaler in enumerate(scalers):
            mlflow.sklearn.log_model(
                scaler, name=f"s{index}", pip_requirements=requirements, serialization_format="cloudpickle"
            )
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds}), flush=True)
