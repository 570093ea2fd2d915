"""Writes ``schema_N.sqlite`` with the schema of this checkout: run once for each schema, then kept as it is.

    python -m tests.golden.make

What is stored needs nothing but numpy to load, so that the file says something about the format alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from artifactdb import ArtifactType, MetaModelConfig, Workspace
from artifactdb.database.migrations import latest_version

FOLDER = Path(__file__).parent
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


def main() -> None:
    path = FOLDER / f"schema_{latest_version()}.sqlite"
    path.unlink(missing_ok=True)
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
    print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
