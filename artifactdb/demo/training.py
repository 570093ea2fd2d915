"""The first process of the demo: five pipelines with five folds each, every fitted object registered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chemotools.datasets
import joblib
import matplotlib
import numpy as np
from chemotools.derivative import SavitzkyGolay
from chemotools.scatter import StandardNormalVariate
from sklearn.base import clone
from sklearn.cross_decomposition import PLSRegression
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from artifactdb.demo import DATASET
from artifactdb.records import MetaModelConfig
from artifactdb.registry import ArtifactRegistry
from artifactdb.workspace import Workspace

SECONDS_A_SPECTRUM = 75
"""How often the fermentation was measured; its references carry the time in hours."""
LOWEST_NM, HIGHEST_NM = 950, 1500
"""The wavelengths, in nm, in which sugar absorbs and the detector is not saturated."""


@dataclass(frozen=True)
class Pipeline:
    """A configuration: what is done to X, and the model."""

    name: str
    transformers: tuple[Any, ...]
    model: Any


PIPELINES = (
    Pipeline("0001_pls", (StandardNormalVariate(), SavitzkyGolay(window_length=15, polyorder=2)), PLSRegression(6)),
    Pipeline("0002_ridge", (StandardNormalVariate(),), Ridge(alpha=0.01)),
    Pipeline(
        "0003_forest", (SavitzkyGolay(window_length=15, polyorder=2),), RandomForestRegressor(100, random_state=0)
    ),
    Pipeline("0004_svr", (StandardNormalVariate(), StandardScaler()), SVR(C=100.0)),
)
STACKED = ("0001_pls", "0002_ridge", "0004_svr")


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
    """Train everything and pack it into ``file``; give the predictions that the second process must repeat."""
    x, y = spectra()
    if verbose:
        print(
            f"{len(x)} near-infrared spectra with {x.shape[1]} wavelengths, "
            f"glucose from {y.min():.0f} to {y.max():.0f} g/l"
        )
    expected: dict[str, Any] = {}
    objects: list[Any] = []
    with Workspace(scratch / "study.sqlite") as workspace:
        out_of_fold, whole = {}, {}
        for pipeline in PIPELINES:
            # Everything of a pipeline becomes durable at once.
            with workspace.transaction():
                trained = _Trained(workspace.registry(DATASET, pipeline.name), pipeline, x, y)
                workspace.catalog.add_many(trained.rows)
            expected |= trained.predictions
            objects += trained.objects
            out_of_fold[pipeline.name] = trained.out_of_fold
            whole[pipeline.name] = trained.whole_id
            if verbose:
                error = float(np.sqrt(np.mean((trained.out_of_fold - y) ** 2)))
                print(f"  {pipeline.name:12} cross-validated RMSE {error:5.2f} g/l")
        stack = Ridge(alpha=1.0, positive=True).fit(np.column_stack([out_of_fold[name] for name in STACKED]), y)
        registry = workspace.registry(DATASET, "0005_stack")
        sources = [whole[name] for name in STACKED]
        config = MetaModelConfig.of_sources(sources, ["PLSRegression_pred", "Ridge_pred", "SVR_pred"])
        chain = "s4.PLSRegression+s3.Ridge+s4.SVR>s5.Ridge"
        stack_id = registry.register_with_chain(stack, chain, "meta_model", 5, meta_config=config).artifact_id
        objects.append(stack)
        expected[stack_id] = stack.predict(np.column_stack([expected[source] for source in sources]))
        workspace.pack(file)
        _draw(workspace, picture)
    sizes = [_joblib_bytes(objects, scratch, compress) for compress in (0, 3)]
    predictions = scratch / "predictions.npz"
    np.savez(
        predictions, x=x, y=y, stack_id=stack_id, joblib_bytes=sizes, **{f"id:{key}": v for key, v in expected.items()}
    )
    return predictions


class _Trained:
    """One pipeline, fitted and registered."""

    def __init__(self, registry: ArtifactRegistry, pipeline: Pipeline, x: Any, y: Any) -> None:
        self.registry = registry
        self.predictions: dict[str, Any] = {}
        self.objects: list[Any] = []
        self.rows: list[dict[str, Any]] = []
        self.needed: list[str] = []
        keys: list[str] = []
        for transformer in map(clone, pipeline.transformers):
            keys.append(f"s{len(keys) + 1}.{type(transformer).__name__}")
            x = transformer.fit_transform(x)
            self._register(transformer, ">".join(keys), "transformer", len(keys))
        folds = list(KFold(5, shuffle=True, random_state=0).split(x))
        step = len(keys) + 1
        self._register(KFold(5, shuffle=True, random_state=0), ">".join([*keys, f"s{step}.KFold"]), "splitter", step)
        self.needed.pop()  # predicting needs no splitter
        scaler = StandardScaler().fit(y.reshape(-1, 1))
        self._register(scaler, ">".join([*keys, f"s{step}.StandardScaler"]), "encoder", step)
        scaled = scaler.transform(y.reshape(-1, 1)).ravel()
        chain = ">".join([*keys, f"s{step + 1}.{type(pipeline.model).__name__}"])
        self.out_of_fold = np.empty(len(y))
        for fold, (fitted, held_out) in enumerate([*folds, (slice(None), slice(0))]):
            model = clone(pipeline.model).fit(x[fitted], scaled[fitted])
            whole = fold == len(folds)
            artifact_id = self._register(model, chain, "model", step + 1, None if whole else fold)
            predicted = scaler.inverse_transform(model.predict(x).reshape(-1, 1)).ravel()
            self.predictions[artifact_id] = predicted
            self.out_of_fold[held_out] = predicted[held_out]
            if not whole:
                self._score(pipeline, step + 1, fold, artifact_id, held_out, y[held_out], predicted[held_out])
        self.whole_id = artifact_id

    def _score(
        self, pipeline: Pipeline, step: int, fold: int, artifact_id: str, held_out: Any, y: Any, predicted: Any
    ) -> None:
        self.rows.append(
            {
                "dataset_name": DATASET,
                "config_name": pipeline.name,
                "pipeline_uid": pipeline.name,
                "step_idx": step,
                "model_name": type(pipeline.model).__name__,
                "model_classname": type(pipeline.model).__name__,
                "model_artifact_id": artifact_id,
                "fold_id": fold,
                "partition": "val",
                "metric": "rmse",
                "val_score": float(np.sqrt(np.mean((predicted - y) ** 2))),
                "task_type": "regression",
                "preprocessings": "|".join(type(transformer).__name__ for transformer in pipeline.transformers),
                "y_true": y,
                "y_pred": predicted,
                "sample_indices": held_out,
            }
        )

    def _register(self, obj: Any, chain: str, kind: str, step: int, fold_id: int | None = None) -> str:
        sources = self.needed if kind == "model" else []
        record = self.registry.register_with_chain(obj, chain, kind, step, fold_id=fold_id, depends_on=sources)
        self.objects.append(obj)
        if kind != "model":
            self.needed.append(record.artifact_id)
        return record.artifact_id


def _draw(workspace: Workspace, picture: Path) -> None:
    """Draw what the folds of the best model predicted for the samples that they had not seen."""
    matplotlib.use("Agg")
    best = workspace.catalog.fold_summary("rmse").to_dicts()[0]
    one = workspace.catalog.best("rmse", pipeline_uid=best["pipeline_uid"])
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
