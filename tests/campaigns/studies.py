"""Workspaces with something of everything in them, for what damages them afterwards."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from artifactdb import Workspace
from artifactdb.catalog.files import catalog_folder


def make_study(
    path: Path, pipelines: int = 3, folds: int = 3, *, weight: int = 0, flushed: bool = True, staged: bool = True
) -> Path:
    """Train pipelines on two datasets, with a stack, predictions, a run, metrics and library entries.

    Parameters
    ----------
    weight : int, default 0
        How many rows of random numbers each model keeps besides, for files that are large.
    flushed, staged : bool, default True
        Whether predictions lie in Parquet files, and in the workspace itself.
    """
    x, y = load_diabetes(return_X_y=True)
    chance = np.random.default_rng(0)
    with Workspace(path) as workspace:
        for dataset in ("wheat", "barley"):
            with workspace.run(dataset, name="first", configuration={"folds": folds}, tags=["nir"]) as run:
                for number in range(pipelines):
                    with run.pipeline([{"model": "PLS", "n": number}], name=f"pls{number}") as pipeline:
                        _train(workspace, pipeline, x, y, folds, number, weight, chance, dataset)
        workspace.library.save_template([{"class": "PLSRegression"}], "baseline", tags=["pls"])
        workspace.library.save_pipeline_full("wheat", pipeline.pipeline_id, "quality")
        if flushed:
            workspace.catalog.compact()
        if staged:
            for fold in range(folds):
                _predict(workspace, "oats", "0001_pls", "0001_pls$aaaaaaaaaaaa:0", fold, y[:40] + fold, y[:40])
        workspace.database.close()  # without moving the staged rows
    return path


def copied(study: Path, target: Path) -> Path:
    """Copy a closed workspace, and its catalog if it has one, to another name."""
    if catalog_folder(study).exists():
        shutil.copytree(catalog_folder(study), catalog_folder(target))
    return Path(shutil.copyfile(study, target))


def _train(
    workspace: Workspace, pipeline: Any, x: Any, y: Any, folds: int, number: int, weight: int, chance: Any, dataset: str
) -> None:
    registry = pipeline.registry
    scaler = StandardScaler().fit(x[number:])
    first = registry.register_with_chain(scaler, "s1.StandardScaler", "transformer", 1)
    models = []
    for fold in range(folds):
        model = PLSRegression(1 + number % 10).fit(
            np.delete(x, slice(fold, None, folds), 0), np.delete(y, slice(fold, None, folds))
        )
        if weight:
            model.spectra_ = chance.normal(size=(weight, 100))
        record = registry.register_with_chain(
            model, "s1.StandardScaler>s3.PLSRegression[br=0]", "model", 3, fold_id=fold,
            params={"n_components": 1 + number}, depends_on=[first.artifact_id], branch_path=[0],
            custom_name=f"model of fold {fold}",
        )  # fmt: skip
        models.append(record.artifact_id)
        _predict(
            workspace,
            dataset,
            pipeline.pipeline_id,
            record.artifact_id,
            fold,
            y[fold::folds],
            model.predict(x[fold::folds]),
        )
    registry.register_with_chain(
        Ridge().fit(x, y), "s1.StandardScaler>s3.PLSRegression[br=0]>s5.Ridge", "model", 5, depends_on=models
    )
    pipeline.log_metrics({"val": {"rmse": 50.0 + number}})


def _predict(
    workspace: Workspace, dataset: str, pipeline: str, artifact_id: str, fold: int, true: Any, predicted: Any
) -> None:
    workspace.catalog.add(
        dataset_name=dataset, pipeline_uid=pipeline, model_name="PLS", model_artifact_id=artifact_id, fold_id=fold,
        partition="val", metric="rmse", val_score=float(np.sqrt(np.mean((true - np.ravel(predicted)) ** 2))),
        y_true=true, y_pred=np.ravel(predicted),
    )  # fmt: skip
