"""How long does predicting with a stored pipeline take in a fresh process?

Peer: the same objects (the scaler and the models of five folds) as joblib files, one each, loaded, asked and averaged
by hand. Goal: within 1.3 times. Imports are done before; what a run imports only when it is needed counts. The mean of
the folds must be the same on both sides.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import joblib
import numpy as np
from sklearn.cross_decomposition import PLSRegression
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from artifactdb import PipelineRunner, Workspace
from benchmarks.measure import header, run_fresh, spread, table, verdict
from benchmarks.runner import FOR_ALL, make_spectra

IMPORTS = """
import json, sys, time
import numpy, joblib, sklearn.cross_decomposition, sklearn.ensemble, sklearn.linear_model
import sklearn.preprocessing, sklearn.svm
x = numpy.load(sys.argv[1])
"""
OURS = f"""
from artifactdb import PipelineRunner
{IMPORTS}
source = json.loads(sys.argv[3])
started = time.perf_counter()
predicted = PipelineRunner(sys.argv[2], verbose=0).predict(source, x)
print(json.dumps({{"seconds": time.perf_counter() - started, "predicted": predicted.tolist()}}))
"""
THEIRS = f"""
{IMPORTS}
from joblib import load
folder, sources, stacked = sys.argv[2], int(sys.argv[3]), sys.argv[4] == "stacked"
started = time.perf_counter()
treated = load(f"{{folder}}/scaler.joblib").transform(x)
folds = []
for fold in range(5):
    own = [load(f"{{folder}}/{{fold}}_{{source}}.joblib").predict(treated).ravel() for source in range(sources)]
    if stacked:
        own = [load(f"{{folder}}/{{fold}}_meta.joblib").predict(numpy.column_stack(own))]
    folds.append(own[0])
predicted = numpy.mean(folds, axis=0)
print(json.dumps({{"seconds": time.perf_counter() - started, "predicted": predicted.tolist()}}))
"""
MODELS: dict[str, list[dict[str, Any]]] = {
    "pls": [{"model": PLSRegression(10)}],
    "forest": [{"model": RandomForestRegressor(100, max_features="sqrt", random_state=0)}],
    "svr": [{"model": SVR(C=10.0)}],
    "stack": [
        {"model": PLSRegression(10), "name": "pls"},
        {"model": RandomForestRegressor(100, max_features="sqrt", random_state=0), "name": "forest"},
        {"model": SVR(C=10.0), "name": "svr"},
        {"meta_model": Ridge(), "source_models": ["pls", "forest", "svr"], "name": "stacked"},
    ],
}
"""What stands behind the scaler and the folds."""


def train(file: Path, x: Any, y: Any) -> dict[str, Any]:
    """Train the pipelines, and give what each is predicted with: its id, or the row of the stack's meta-model."""
    found: dict[str, Any] = {}
    with PipelineRunner(file) as runner:
        for name, models in MODELS.items():
            steps = [StandardScaler(), KFold(5, shuffle=True, random_state=0), *models]
            rows = runner.run(steps, (x, y), dataset_name="spectra", name=name, verbose=0).top().to_dicts()
            found[name] = rows[0]["pipeline_id"]
            if len(models) > 1:  # its best model may be one of those that are stacked
                found[name] = next(row for row in rows if row["model_name"] == "stacked")
    return found


def dump(file: Path, pipeline_id: str, folder: Path) -> None:
    """Write the objects of a pipeline as joblib files, one each."""
    folder.mkdir()
    with Workspace(file) as workspace:
        loader = workspace.loader("spectra")
        records = [record for record in loader.get_all_records() if record.pipeline_id == pipeline_id]
        for record in records:
            obj = loader.load_by_id(record.artifact_id)
            if record.artifact_type == "transformer":
                joblib.dump(obj, folder / "scaler.joblib")
            elif record.artifact_type == "meta_model":
                joblib.dump(obj, folder / f"{record.fold_id}_meta.joblib")
            elif record.artifact_type == "model":
                number = len(list(folder.glob(f"{record.fold_id}_[0-9].joblib")))
                joblib.dump(obj, folder / f"{record.fold_id}_{number}.joblib")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--samples", type=int, default=20, help="spectra to predict")
    options = parser.parse_args()
    os.environ.update(FOR_ALL)
    header(
        f"How long does predicting {options.samples} spectra with a stored pipeline take in a fresh process?",
        ["scikit-learn", "joblib"],
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_spectra(folder / "spectra.npz")
        spectra = np.load(folder / "spectra.npz")
        new = folder / "new.npy"
        np.save(new, spectra["x"][: options.samples] * np.float32(1.01))
        file = folder / "study.sqlite"
        rows, ratios = [], {}
        for model, source in train(file, spectra["x"], spectra["y"]).items():
            stacked = isinstance(source, dict)
            dump(file, source["pipeline_id"] if stacked else source, folder / model)
            theirs_given = [str(new), str(folder / model), str(max(1, len(MODELS[model]) - 1))]
            ours, theirs = [], []
            for _ in range(options.rounds):
                mine = run_fresh(["-c", OURS, str(new), str(file), json.dumps(source)])
                other = run_fresh(["-c", THEIRS, *theirs_given, "stacked" if stacked else "single"])
                np.testing.assert_allclose(mine["predicted"], other["predicted"], rtol=1e-9)
                ours.append(1000 * mine["seconds"])
                theirs.append(1000 * other["seconds"])
            ratios[model] = median(ours) / median(theirs)
            rows.append((model, spread(ours), spread(theirs), f"{ratios[model]:.2f}"))
    table(["five folds of", "artifactdb, ms", "joblib, ms", "ratio"], rows)
    for model, ratio in ratios.items():
        verdict(f"{model}: artifactdb / joblib", ratio, 1.3)


if __name__ == "__main__":
    main()
