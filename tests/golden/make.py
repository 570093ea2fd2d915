"""Writes ``schema_N.sqlite`` with the schema of this checkout: run once for each schema, then kept as it is.

    python -m tests.golden.make

What is stored needs nothing but numpy to load, so that the file says something about the format alone.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from artifactdb import ArtifactType, MetaModelConfig, Workspace
from artifactdb.database.migrations import latest_version

FOLDER = Path(__file__).parent
CONFIGURATION = [{"class": "MinMaxScaler"}, {"model": "PLSRegression", "params": {"n_components": 10}}]
CHAIN = "s1.MinMaxScaler>s3.PLSRegression"


def scaler() -> dict[str, Any]:
    return {"scale": np.linspace(0, 1, 40), "names": {"b", "a", "c"}, "offset": 1.5}


def fold_model(fold: int) -> dict[str, Any]:
    """Small and large arrays, several dtypes; the largest is the same in all folds and takes a blob of its own."""
    return {
        "coefficients": np.arange(100, dtype=np.float32) * (fold + 1),
        "rows": np.arange(fold, fold + 5),
        "spectra": np.asfortranarray(np.sin(np.arange(6000.0)).reshape(60, 100)),
        "flags": np.array([True, False, True]),
        "text": "été",
    }


def prediction(fold: int, artifact_id: str) -> dict[str, Any]:
    return {
        "dataset_name": "wheat", "pipeline_uid": "0001_pls", "model_name": "PLS10", "model_artifact_id": artifact_id,
        "fold_id": fold, "partition": "val", "metric": "rmse", "val_score": [0.5, float("nan"), float("inf")][fold],
        "y_true": np.arange(4.0), "y_pred": np.arange(4, dtype=np.float32) + np.float32(0.1) * fold,
        "sample_indices": np.arange(4), "y_proba": np.full((4, 2), 2**63, np.uint64) - np.uint64(fold),
    }  # fmt: skip


def main() -> None:
    path = FOLDER / f"schema_{latest_version()}.sqlite"
    path.unlink(missing_ok=True)
    shutil.rmtree(path.with_suffix(".catalog"), ignore_errors=True)
    with Workspace(path) as workspace:
        registry = workspace.registry("wheat", "0001_pls")
        shared = registry.register_with_chain(
            scaler(), "s1.MinMaxScaler", ArtifactType.TRANSFORMER, 1, params={"feature_range": [0, 1]}
        )
        models = [
            registry.register_with_chain(
                fold_model(fold), CHAIN, ArtifactType.MODEL, 3, fold_id=fold, depends_on=[shared.artifact_id],
                params={"n_components": 10}, custom_name="PLS10",
            ).artifact_id
            for fold in range(3)
        ]  # fmt: skip
        registry.register_with_chain(
            {"weights": np.ones(3)}, f"{CHAIN}>s4.MetaModel_Ridge", ArtifactType.META_MODEL, 4,
            meta_config=MetaModelConfig.of_sources(models, ["a", "b", "c"]),
        )  # fmt: skip
        catalog = workspace.catalog
        catalog.add_many(prediction(fold, models[fold]) for fold in range(2))
        catalog.compact()
        catalog.add(**prediction(2, models[2]))
        first = workspace.run("wheat", name="first", configuration={"folds": 3}, tags=["nir"], notes="by hand")
        with first as run, run.pipeline(CONFIGURATION, name="pls") as pipeline:
            pipeline.registry.register_with_chain(fold_model(0), CHAIN, ArtifactType.MODEL, 3, fold_id=0)
            pipeline.log_metrics({"val": {"rmse": 0.5, "r2": float("nan")}})
            pipeline.log_metrics({"val": {"rmse": 0.25}}, fold_id=0)
        library = workspace.library
        library.save_template(CONFIGURATION, "baseline", "as in the lab", category="nir", tags=["pls"])
        library.save_filtered(pipeline.pipeline_id, "numbers")
        library.save_pipeline_full("wheat", "0001_pls", "quality_v1")
        library.save_fullrun("wheat", "everything", data={"X": np.eye(3)})
        workspace.database.close()  # without moving the last one: rows may be staged in any file
    print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
