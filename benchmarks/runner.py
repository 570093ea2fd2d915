"""What does keeping everything cost, when 100 pipelines of five folds are trained on 200 spectra of 700 wavelengths?

Four preprocessings times 25 models: 10 PLS, 3 ridge, 3 support vector machines, 2 nearest neighbours, 4 random
forests and 3 of extra trees, of 100 trees (``peers/run_study.py``). Every system fits the same estimators on the same
rows, which the numbers of fits and the RMSE of the held-out rows show. Bare is scikit-learn alone, which fits,
predicts the held-out rows, computes their RMSE, and keeps nothing. Systems take turns, each in a fresh process and a
new folder; imports are not timed, since each trains a few pipelines elsewhere first. Linear algebra runs on one
thread everywhere.

Also: what a second job gains, where pipelines are shared out over two processes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import header, run_fresh, spread, table, verdict
from benchmarks.peer_environment import MLFLOW, NIRS4ALL, NIRS4ALL_STORE, add_option, peer_python

PEERS = Path(__file__).parent / "peers"
FOLDS = 5
PREPROCESSINGS = 4
FOR_ALL = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "PYTHONWARNINGS": "ignore",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}
"""What every system's process finds in its environment."""


@dataclass(frozen=True)
class System:
    """How a system is driven: its script, its environment, and how much of the study it can be asked for."""

    script: str
    peer: str | None = None
    jobs: int = 1
    repeated: bool = False
    pipelines: int = 100


SYSTEMS = {
    "bare": System("run_bare.py", repeated=True),
    "artifactdb": System("run_artifactdb.py", repeated=True),
    "bare-2": System("run_bare.py", jobs=2, repeated=True),
    "artifactdb-2": System("run_artifactdb.py", jobs=2, repeated=True),
    "nirs4all-0.6.2": System("run_nirs4all.py", NIRS4ALL),
    "nirs4all-1.4.10": System("run_nirs4all_1_4.py", NIRS4ALL_STORE),
    "mlflow-3.17.2": System("run_mlflow.py", MLFLOW, pipelines=8),
    "mlflow-3.17.2-quick": System("run_mlflow_quick.py", MLFLOW),
}
"""By name. MLflow as it is works for two seconds on the requirements of each model, so it trains a few pipelines."""


def make_spectra(file: Path) -> None:
    """Write 200 spectra of 700 wavelengths: mixtures of neighbouring ones of a real fermentation, with noise."""
    import numpy as np

    from artifactdb.demo.training import spectra

    rng = np.random.default_rng(0)
    x, y = spectra()
    order = np.argsort(y, kind="stable")
    x, y = x[order], y[order]
    left, share = rng.integers(0, len(x) - 1, 200), rng.uniform(size=200)
    mixed = share[:, None] * x[left] + (1 - share[:, None]) * x[left + 1]
    places = np.linspace(0, x.shape[1] - 1, 700)
    mixed = np.array([np.interp(places, np.arange(x.shape[1]), row) for row in mixed])
    mixed += rng.normal(0, 0.05 * x.std(axis=0).mean(), mixed.shape)
    y = share * y[left] + (1 - share) * y[left + 1]
    # nirs4all takes both to single precision, whatever it is given: here nothing is lost by that.
    np.savez(file, x=mixed.astype(np.float32), y=y.astype(np.float32).astype(float))


class Study:
    """The systems that are measured, and what each run of them took."""

    def __init__(self, names: list[str], pipelines: int, repeat: int, peers: Path) -> None:
        self.names, self.repeat = names, repeat
        self.pythons = {
            name: peer_python(peer, peers) if (peer := SYSTEMS[name].peer) else Path(sys.executable) for name in names
        }
        self.asked = {name: min(pipelines, SYSTEMS[name].pipelines) for name in names}
        self.runs: dict[tuple[str, int], list[dict[str, Any]]] = {}

    def measure(self, spectra: Path) -> None:
        """Train with each system in turn; what trains a part of the study is compared with bare on that part."""
        for turn in range(self.repeat):
            for name in self.names:
                if turn == 0 or SYSTEMS[name].repeated:
                    self._train(name, self.asked[name], spectra)
            if "bare" in self.names:
                for part in set(self.asked.values()) - {self.asked["bare"]}:
                    self._train("bare", part, spectra)

    def _train(self, name: str, pipelines: int, spectra: Path) -> None:
        script = str(PEERS / SYSTEMS[name].script)
        with tempfile.TemporaryDirectory() as folder:
            run = run_fresh([script, str(spectra), folder, str(pipelines), str(SYSTEMS[name].jobs)], self.pythons[name])
            run["bytes"] = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        print(f"{name}, {pipelines} pipelines: {run}", file=sys.stderr, flush=True)
        self.runs.setdefault((name, pipelines), []).append(run)

    def values(self, name: str, what: str, pipelines: int | None = None) -> list[float]:
        """Give what each run took."""
        return [run[what] for run in self.runs[name, pipelines or self.asked[name]]]

    def overhead(self, name: str, what: str = "seconds") -> float:
        """Give what a pipeline takes beyond bare."""
        asked = self.asked[name]
        return (median(self.values(name, what)) - median(self.values("bare", what, asked))) / asked

    def show_overhead(self) -> None:
        """Print the table of all that trains with one job."""
        ours = self.overhead("artifactdb") if "artifactdb" in self.names and "bare" in self.names else None
        rows = [self._row(name, ours) for name in self.names if SYSTEMS[name].jobs == 1]
        table(
            ["", "pipelines", "seconds", "of them CPU", "beyond bare: ms a pipeline", "CPU ms", "percent",
             "times artifactdb's", "MB", "fits of transformers, of models", "mean RMSE"],
            rows,
        )  # fmt: skip
        if ours is None:
            return
        bare = median(self.values("bare", "seconds", self.asked["artifactdb"]))
        verdict("overhead, percent of bare", 100 * ours * self.asked["artifactdb"] / bare, 5)
        for name in self.names:
            if SYSTEMS[name].jobs == 1 and name not in ("bare", "artifactdb"):
                verdict(f"{name}: overhead, times artifactdb's", self.overhead(name) / ours, 3, at_least=True)

    def _row(self, name: str, ours: float | None) -> list[object]:
        asked, last = self.asked[name], self.runs[name, self.asked[name]][-1]
        beyond: list[object] = ["", "", "", ""]
        if name != "bare" and "bare" in self.names:
            over, bare = self.overhead(name), median(self.values("bare", "seconds", asked))
            percent = 100 * over * asked / bare
            beyond = [f"{1000 * over:,.1f}", f"{1000 * self.overhead(name, 'cpu'):,.1f}", f"{percent:,.1f}"]
            beyond.append("" if ours is None else f"{over / ours:,.1f}")
        return [
            name,
            asked,
            spread(self.values(name, "seconds"), digits=2),
            spread(self.values(name, "cpu"), digits=2),
            *beyond,
            f"{last['bytes'] / 1e6:,.1f}" if last["bytes"] else "",
            f"{last['transformers']}, {last['models']}",
            f"{last['rmse']:.6f}",
        ]

    def show_efficiency(self) -> None:
        """Print what two jobs gain: the time of one over twice that of two."""
        found = {}
        rows = []
        for name in ("bare", "artifactdb"):
            if {name, f"{name}-2"} <= set(self.names):
                one, two = self.values(name, "seconds"), self.values(f"{name}-2", "seconds")
                found[name] = median(one) / (2 * median(two))
                rows.append([name, spread(one, digits=2), spread(two, digits=2), f"{found[name]:.2f}"])
        if rows:
            table(["", "one job, seconds", "two jobs, seconds", "efficiency"], rows)
        if "artifactdb" in found:
            verdict("efficiency of two jobs", found["artifactdb"], 0.8, at_least=True)

    def check(self) -> None:
        """See that all did the same.

        Transformers may be fewer: nirs4all 1.4.10 takes one that it has fitted to the same data before.
        """
        means: dict[int, float] = {}
        for (name, pipelines), runs in self.runs.items():
            for run in runs:
                mean = means.setdefault(pipelines, run["rmse"])
                fits = run["models"] if SYSTEMS[name].jobs == 1 else pipelines * FOLDS
                if fits != pipelines * FOLDS or run["scores"] != pipelines * FOLDS or abs(run["rmse"] - mean) > 1e-6:
                    raise SystemExit(f"{name} did not train the same: {run}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipelines", type=int, default=100, help="a multiple of four up to 100, else rounded up")
    parser.add_argument("--repeat", type=int, default=3, help="runs of bare and artifactdb; peers run once")
    parser.add_argument("--only", help=f"some of {','.join(SYSTEMS)}")
    add_option(parser)
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(SYSTEMS)
    unknown = [name for name in names if name not in SYSTEMS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(SYSTEMS)}")
    pipelines = min(100, -(-options.pipelines // PREPROCESSINGS) * PREPROCESSINGS)

    os.environ.update(FOR_ALL)
    header(
        f"What does keeping everything cost, when {pipelines} pipelines of {FOLDS} folds are trained?",
        ["scikit-learn", "numpy", "joblib"],
    )
    study = Study(names, pipelines, options.repeat, options.peers)
    with tempfile.TemporaryDirectory() as folder:
        spectra = Path(folder) / "spectra.npz"
        make_spectra(spectra)
        study.measure(spectra)
    study.check()
    study.show_overhead()
    study.show_efficiency()


if __name__ == "__main__":
    main()
