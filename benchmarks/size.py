"""How many bytes do about 1,000 fitted objects take, and for how many are the bytes the same after a load?

Peers: joblib files, joblib files with compress=3, nirs4all 0.6.2's folder. Goal: below all three.
"""

from __future__ import annotations

import argparse
import pickle
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from chemotools.derivative import SavitzkyGolay
from chemotools.scatter import StandardNormalVariate
from sklearn.base import clone
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor, RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import ElasticNet, Lasso, Ridge
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVR

from artifactdb import Workspace
from artifactdb.demo.training import spectra
from artifactdb.formats import dump
from benchmarks.measure import Worker, header, table, verdict, workers
from benchmarks.peer_environment import NIRS4ALL, add_option, peer_python


def estimators() -> Iterator[Any]:
    """Give the grid of a study, unfitted."""
    yield from (PLSRegression(n) for n in range(1, 11))
    yield from (Ridge(alpha) for alpha in np.logspace(-4, 2, 10))
    yield from (Lasso(alpha) for alpha in (0.01, 0.1, 1.0))
    yield from (ElasticNet(alpha) for alpha in (0.01, 0.1, 1.0))
    yield from (SVR(C=c) for c in np.logspace(-1, 3, 8))
    yield from (KNeighborsRegressor(n) for n in range(1, 9))
    yield from (RandomForestRegressor(n, random_state=0) for n in (10, 30, 100))
    yield ExtraTreesRegressor(30, random_state=0)
    yield GradientBoostingRegressor(n_estimators=30, random_state=0)
    yield GaussianProcessRegressor(alpha=1e-3)
    yield from (make_pipeline(StandardScaler(), PCA(n), Ridge()) for n in (2, 5, 10))
    yield from (MinMaxScaler(), StandardScaler(), PCA(8))


def corpus() -> Iterator[Any]:
    """Fit the grid on four preprocessings and five folds of real spectra."""
    x, y = spectra()
    for steps in ((), (StandardNormalVariate(),), (SavitzkyGolay(window_length=15, polyorder=2),), (MinMaxScaler(),)):
        treated = make_pipeline(*map(clone, steps)).fit_transform(x) if steps else x
        for train, _ in KFold(5, shuffle=True, random_state=0).split(x):
            for estimator in estimators():
                yield clone(estimator).fit(treated[train], y[train])


def stays(obj: Any, folder: Path) -> tuple[bool, bool]:
    """Tell whether artifactdb's bytes, and those of plain pickle, are the same after a load."""
    with Workspace(folder / "one.sqlite") as workspace:
        record = workspace.registry("x", "0001").register(obj, "0001$aaaaaaaaaaaa:all", "model")
        again = dump(workspace.load(record.artifact_id))[0].content.digest.hex()
    plain = pickle.dumps(obj, 5)
    return record.content_hash == f"sha256:{again}", pickle.dumps(pickle.loads(plain), 5) == plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_option(parser)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    header("How many bytes do fitted objects take?", ["scikit-learn", "joblib", "chemotools", "zstandard"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count = same = same_plain = 0
        for compress in (0, 3):
            (folder / f"joblib{compress}").mkdir()
        with Workspace(folder / "study.sqlite") as workspace:
            registry = workspace.registry("fermentation", "0001_x")
            for count, obj in enumerate(corpus(), start=1):
                registry.register_with_chain(obj, f"s{count}.X", "model", count)
                for compress in (0, 3):
                    joblib.dump(obj, folder / f"joblib{compress}" / f"{count:05}.joblib", compress=compress)
                ours, plain = stays(obj, folder)
                same, same_plain = same + ours, same_plain + plain
            stats = workspace.stats()
        ours_bytes = (folder / "study.sqlite").stat().st_size
        peers = {
            f"joblib{', compress=3' if compress else ''}": sum(
                file.stat().st_size for file in (folder / f"joblib{compress}").iterdir()
            )
            for compress in (0, 3)
        }
        with workers(Worker(peer_python(NIRS4ALL, options.peers), ["benchmarks/peers/store_nirs4all.py"])) as (peer,):
            peers["nirs4all 0.6.2"] = peer.ask(folder / "joblib0")["bytes"]
    print(f"{count} objects, {stats['unique_files']} distinct contents.\n")
    rows = [("artifactdb", f"{ours_bytes / 1e6:.1f}", "1.00")]
    rows += [(peer, f"{size / 1e6:.1f}", f"{ours_bytes / size:.2f}") for peer, size in peers.items()]
    table(["", "MB", "artifactdb / it"], rows)
    for peer, size in peers.items():
        verdict(f"artifactdb / {peer}", ours_bytes / size, 1.0)
    print(f"\nThe same bytes after a load: {same / count:.1%} of the objects; plain pickle {same_plain / count:.1%}.")


if __name__ == "__main__":
    main()
