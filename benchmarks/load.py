"""How long do the five fold models of a pipeline take to load in a fresh process?

Peer: ``joblib.load`` of five plain files. Goal: not slower; from the cache under 10 microseconds each. Measured
twice: the loading alone, with every import done before, and the whole process, as whoever starts it waits for it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import joblib
import numpy as np
from sklearn.cross_decomposition import PLSRegression
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsRegressor
from sklearn.svm import SVR

from artifactdb import Workspace
from benchmarks.measure import ROOT, header, run_fresh, spread, table, verdict

OURS = """
import json, sys, time
import numpy, joblib, sklearn.cross_decomposition, sklearn.ensemble, sklearn.linear_model
import sklearn.svm, sklearn.neighbors
from artifactdb import ArtifactLoader
started = time.perf_counter()
loader = ArtifactLoader(sys.argv[1], "wheat")
models = loader.load_fold_models(3, pipeline_id=sys.argv[2])
seconds = time.perf_counter() - started
assert len(models) == 5
ids = [record.artifact_id for record in loader.get_all_records() if record.pipeline_id == sys.argv[2]]
started = time.perf_counter()
for _ in range(200):
    for artifact_id in ids:
        loader.load_by_id(artifact_id)
print(json.dumps({"seconds": seconds, "cached": (time.perf_counter() - started) / 1000}))
"""
THEIRS = """
import json, sys, time
import numpy, joblib, sklearn.cross_decomposition, sklearn.ensemble, sklearn.linear_model
import sklearn.svm, sklearn.neighbors
started = time.perf_counter()
models = [joblib.load(f"{sys.argv[1]}/{sys.argv[2]}_{fold}.joblib") for fold in range(5)]
print(json.dumps({"seconds": time.perf_counter() - started}))
"""
OURS_WHOLE = """
import sys
from artifactdb import ArtifactLoader
models = ArtifactLoader(sys.argv[1], "wheat").load_fold_models(3, pipeline_id=sys.argv[2])
assert len(models) == 5
"""
THEIRS_WHOLE = """
import sys
import joblib
models = [joblib.load(f"{sys.argv[1]}/{sys.argv[2]}_{fold}.joblib") for fold in range(5)]
"""
MODELS = {
    "pls": PLSRegression(10),
    "ridge": Ridge(),
    "forest": RandomForestRegressor(100, random_state=0),
    "svr": SVR(),
    "neighbors": KNeighborsRegressor(),
}


def data() -> tuple[Any, Any]:
    """Give 200 smooth spectra of 700 wavelengths."""
    rng = np.random.default_rng(0)
    bands = np.exp(-(((np.arange(700)[None, :] - rng.uniform(0, 700, (12, 1))) / 60) ** 2))
    amounts = rng.uniform(0, 1, (200, 12))
    return amounts @ bands + rng.normal(0, 0.002, (200, 700)), amounts[:, 0]


def whole(code: str, *arguments: str) -> float:
    """Give the milliseconds of a whole process."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, cwd=ROOT)
    return 1000 * (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    header("How long do five fold models take to load in a fresh process?", ["scikit-learn", "joblib"])
    x, y = data()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "study.sqlite"
        with Workspace(file) as workspace:
            for name, model in MODELS.items():
                for fold, (train, _) in enumerate(KFold(5).split(x)):
                    model.fit(x[train], y[train])
                    workspace.registry("wheat", name).register_with_chain(model, f"s3.{name}", "model", 3, fold_id=fold)
                    joblib.dump(model, Path(folder) / f"{name}_{fold}.joblib")
        rows, ratios, whole_ratios, cached = [], {}, {}, []
        for name in MODELS:
            ours, theirs, ours_whole, theirs_whole = [], [], [], []
            for _ in range(options.rounds):
                run = run_fresh(["-c", OURS, str(file), name])
                ours.append(1000 * run["seconds"])
                cached.append(1e6 * run["cached"])
                theirs.append(1000 * run_fresh(["-c", THEIRS, folder, name])["seconds"])
                ours_whole.append(whole(OURS_WHOLE, str(file), name))
                theirs_whole.append(whole(THEIRS_WHOLE, folder, name))
            ratios[name] = median(ours) / median(theirs)
            whole_ratios[name] = median(ours_whole) / median(theirs_whole)
            alone = (spread(ours), spread(theirs), f"{ratios[name]:.2f}")
            rows.append((name, *alone, spread(ours_whole), spread(theirs_whole), f"{whole_ratios[name]:.2f}"))
    columns = ["artifactdb, ms", "joblib, ms", "ratio"]
    table(["five fold models", *columns, *(f"whole process: {column}" for column in columns)], rows)
    for name, ratio in ratios.items():
        verdict(f"{name}: artifactdb / joblib", ratio, 1.0)
    for name, ratio in whole_ratios.items():
        verdict(f"{name}, whole process: artifactdb / joblib", ratio, 1.0)
    verdict("from the cache, each", median(cached), 10, " us")


if __name__ == "__main__":
    main()
