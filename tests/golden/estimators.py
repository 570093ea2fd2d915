"""Fits what is kept in ``environment_*.sqlite.gz`` and writes such a file; ``environments.py`` runs it in each.

    python tests/golden/estimators.py TARGET

It needs the installed project and scikit-learn alone, so that nothing of a test suite is asked of old versions.
"""

from __future__ import annotations

import gzip
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.cross_decomposition import PLSRegression
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor, StackingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from artifactdb import Workspace

DATASET, PIPELINE = "wheat", "0001_golden"
# Quotients of small integers, which every numpy gives to the last bit; a random generator or a sine might not.
X = (np.arange(160) * 7919 % 997 / 997).reshape(40, 4)
Y = (X * [1, 2, 3, 4]).sum(axis=1) + X[:, 0] * X[:, 1]
ROWS = (np.arange(32) * 6007 % 991 / 991).reshape(8, 4)


def fitted() -> list[Any]:
    """Give one object of each kind, and those whose private parts are known to have moved between versions."""
    gappy = np.where(X > 0.9, np.nan, X)
    forest = RandomForestRegressor(3, max_depth=3, random_state=0)
    return [
        StandardScaler().fit(X),
        SimpleImputer().fit(gappy),
        ColumnTransformer([("scaled", StandardScaler(), [0, 1])], remainder="passthrough").fit(X),
        PLSRegression(2).fit(X, Y),
        Ridge(0.5).fit(X, Y),
        forest.fit(X, Y),
        SVR(C=2.0).fit(X, Y),
        KNeighborsRegressor(3).fit(X, Y),
        HistGradientBoostingRegressor(max_iter=3, min_samples_leaf=8, random_state=0).fit(X, Y),
        make_pipeline(StandardScaler(), PLSRegression(2)).fit(X, Y),
        StackingRegressor([("ridge", Ridge()), ("svr", SVR())], Ridge(), cv=3).fit(X, Y),
    ]


def answer(obj: Any, rows: Any) -> Any:
    """Give what a fitted object makes of rows."""
    return obj.predict(rows) if hasattr(obj, "predict") else obj.transform(rows)


def write(target: Path) -> None:
    """Save the objects and what they answer; log a pipeline, which is stored in parts; pack it all into one file."""
    with tempfile.TemporaryDirectory() as folder, Workspace(Path(folder) / "study.sqlite") as workspace:
        registry = workspace.registry(DATASET, PIPELINE)
        answers = {"rows": ROWS}
        for step, obj in enumerate(fitted(), 1):
            kind = "model" if hasattr(obj, "predict") else "transformer"
            registry.register_with_chain(obj, f"s{step}.{type(obj).__name__}", kind, step)
            answers[type(obj).__name__] = answer(obj, ROWS)
        parts = make_pipeline(StandardScaler(), StackingRegressor([("pls", PLSRegression(2))], Ridge(), cv=3))
        workspace.log(parts.fit(X, Y), X, Y, dataset=DATASET, name="logged")
        answers["logged"] = answer(parts, ROWS)
        registry.register_with_chain(answers, "s99.answers", "model", 99)
        packed = workspace.pack(Path(folder) / "packed.sqlite")
        target.write_bytes(gzip.compress(packed.read_bytes(), mtime=0))  # two thirds of a small workspace is empty


if __name__ == "__main__":
    socket.gethostname = lambda: "golden"  # whose machine it was is not kept
    write(Path(sys.argv[1]))
