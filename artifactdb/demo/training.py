"""The first process of the demo: four pipelines and a stack, five folds each, trained by the runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import chemotools.datasets
import joblib
import matplotlib
import numpy as np
from chemotools.derivative import SavitzkyGolay
from chemotools.scatter import StandardNormalVariate
from sklearn.cross_decomposition import PLSRegression
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from artifactdb.demo import DATASET
from artifactdb.runner.runner import PipelineRunner
from artifactdb.workspace import Workspace

SECONDS_A_SPECTRUM = 75
"""How often the fermentation was measured; its references carry the time in hours."""
LOWEST_NM, HIGHEST_NM = 950, 1500
"""The wavelengths, in nm, in which sugar absorbs and the detector is not saturated."""

FOLDS = KFold(5, shuffle=True, random_state=0)
DERIVATIVE = SavitzkyGolay(window_length=15, polyorder=2)
SCALED_Y = {"y_processing": StandardScaler()}
PIPELINES: dict[str, list[Any]] = {
    "pls": [StandardNormalVariate(), DERIVATIVE, SCALED_Y, FOLDS, PLSRegression(6)],
    "ridge": [StandardNormalVariate(), SCALED_Y, FOLDS, Ridge(alpha=0.01)],
    "forest": [DERIVATIVE, SCALED_Y, FOLDS, RandomForestRegressor(100, random_state=0)],
    "svr": [StandardNormalVariate(), StandardScaler(), SCALED_Y, FOLDS, SVR(C=100.0)],
    "stack": [
        StandardNormalVariate(),
        SCALED_Y,
        FOLDS,
        {
            "branch": {
                "pls": [DERIVATIVE, PLSRegression(6)],
                "ridge": [Ridge(alpha=0.01)],
                "svr": [StandardScaler(), SVR(C=100.0)],
            }
        },
        {"meta_model": Ridge(alpha=1.0, positive=True), "name": "stack"},
    ],
}


def spectra() -> tuple[Any, Any]:
    """Give the near-infrared spectra (n_samples, n_wavelengths) with a reference, and their glucose in g/l."""
    spectra_1, glucose_1 = chemotools.datasets.load_fermentation_train()
    spectra_2, references = chemotools.datasets.load_fermentation_test()
    measured = np.rint(references["time"].to_numpy() * 3600 / SECONDS_A_SPECTRUM).astype(int)
    kept = np.minimum(measured, len(spectra_2) - 1)
    x = np.vstack([spectra_1.to_numpy(), spectra_2.to_numpy()[kept]])
    y = np.concatenate([glucose_1["glucose"].to_numpy(), references["glucose"].to_numpy()])
    wavelengths = spectra_1.columns.to_numpy(dtype=float)
    x = x[:, (wavelengths > LOWEST_NM) & (wavelengths < HIGHEST_NM)]
    live = np.ptp(x, axis=1) > 0  # the sensor was off once
    return x[live], y[live]


def train(file: Path, picture: Path, scratch: Path, *, verbose: bool) -> Path:
    """Train everything and pack it into ``file``; give what the second process needs to compare."""
    x, y = spectra()
    if verbose:
        print(
            f"{len(x)} near-infrared spectra with {x.shape[1]} wavelengths, "
            f"glucose from {y.min():.0f} to {y.max():.0f} g/l"
        )
    with Workspace(scratch / "study.sqlite") as workspace:
        runner = PipelineRunner(workspace, verbose=int(verbose))
        for name, steps in PIPELINES.items():
            predictions = runner.run(steps, (x, y), dataset_name=DATASET, name=name)
            (best,) = predictions.top(1).to_dicts()
            if verbose:
                print(f"  {best['pipeline_id']:20} cross-validated RMSE {best['score']:5.2f} g/l")
        stack_id = predictions.pipelines[0].pipeline_id
        averaged = runner.predict(stack_id, x)
        workspace.pack(file)
        _draw(workspace, picture)
        loader = workspace.loader(DATASET)
        objects = [loader.load_by_id(record.artifact_id) for record in loader.get_all_records()]
    sizes = [_joblib_bytes(objects, scratch, compress) for compress in (0, 3)]
    expected = scratch / "expected.npz"
    np.savez(expected, x=x, y=y, joblib_bytes=sizes, stack_id=stack_id, averaged=averaged)
    return expected


def _draw(workspace: Workspace, picture: Path) -> None:
    """Draw what the folds of the best model predicted for the samples that they had not seen."""
    matplotlib.use("Agg")
    best = workspace.catalog.fold_summary("rmse").to_dicts()[0]
    chosen = {name: best[name] for name in ("pipeline_uid", "model_name", "branch_name")}
    one = workspace.catalog.best("rmse", **chosen)
    assert one is not None
    ax = workspace.catalog.plot_predictions(one["id"])
    ax.set_xlabel("measured glucose, g/l")
    ax.set_ylabel("predicted glucose, g/l")
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.savefig(picture, dpi=110)


def _joblib_bytes(objects: list[Any], scratch: Path, compress: int) -> int:
    folder = scratch / f"joblib-{compress}"
    folder.mkdir()
    for number, obj in enumerate(objects):
        joblib.dump(obj, folder / f"{number}.joblib", compress=compress)
    return sum(file.stat().st_size for file in folder.iterdir())
