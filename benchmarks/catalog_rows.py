"""Rows like those of a large study, for the measurements of the catalog: five folds, three partitions each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

DATASETS = tuple(f"site_{number:02}" for number in range(20))
MODELS = ("PLSRegression", "Ridge", "SVR", "RandomForestRegressor", "KNeighborsRegressor", "ElasticNet")
PARTITIONS = ("train", "val", "test")
SAMPLES = 50


def rows(count: int, *, distinct_arrays: int | None = None, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Give predictions with two arrays of 50 floats each.

    Parameters
    ----------
    distinct_arrays : int, optional
        How many different arrays of predicted values there are; else each row has its own.
    """
    rng = np.random.default_rng(seed)
    measured = {(dataset, fold): rng.normal(10, 2, SAMPLES) for dataset in DATASETS for fold in range(5)}
    pool = None if distinct_arrays is None else list(rng.normal(10, 2, (distinct_arrays, SAMPLES)))
    scores = rng.gamma(4, 0.3, count)
    for number in range(count):
        pipeline, within = divmod(number, 15)
        fold, partition = divmod(within, 3)
        dataset, model = DATASETS[pipeline % len(DATASETS)], MODELS[pipeline // len(DATASETS) % len(MODELS)]
        uid = f"{pipeline:06}_{model.lower()}_{pipeline * 2654435761 % 2**24:06x}"
        score = float(scores[number])
        yield {
            "dataset_name": dataset,
            "config_name": uid,
            "pipeline_uid": uid,
            "step_idx": 4,
            "op_counter": 1,
            "model_name": model,
            "model_classname": model,
            "model_artifact_id": f"{uid}$4a40f902eb51:{fold}",
            "fold_id": fold,
            "partition": PARTITIONS[partition],
            "val_score": score,
            "test_score": score * 1.1,
            "train_score": score * 0.8,
            "metric": "rmse",
            "task_type": "regression",
            "n_features": 262,
            "preprocessings": "MinMax|SNV" if pipeline % 3 else "MinMax",
            "best_params": {"n_components": pipeline % 30},
            "scores": {"val": {"rmse": score, "r2": 1 - score / 8}},
            "y_true": measured[dataset, fold],
            "y_pred": rng.normal(10, 2, SAMPLES) if pool is None else pool[number % len(pool)],
        }
