"""How fast are small fitted transformers registered, next to 6,000 that are there already?

Three processes take turns: artifactdb (durable, ten artifacts of a pipeline to a transaction), nirs4all 0.6.2
(files, not synced to the disk) and ``mlflow.sklearn.log_model`` (SQLite and files; its store is empty at first).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.measure import Worker, header, spread, table, verdict, workers
from benchmarks.peer_environment import MLFLOW, NIRS4ALL, add_option, peer_python

FEATURES = 50
GROUP = 10
PEERS = Path(__file__).parent / "peers"


def work(folder: Path) -> None:
    """Register as many scalers as each line of standard input says."""
    import numpy as np
    from sklearn.preprocessing import StandardScaler

    from artifactdb import ArtifactType, Workspace

    rng = np.random.default_rng(0)
    done = 0
    with Workspace(folder / "study.sqlite") as workspace:
        for line in sys.stdin:
            count = int(line)
            scalers = [StandardScaler().fit(rng.normal(size=(60, FEATURES))) for _ in range(count)]
            start = time.perf_counter()
            for first in range(0, count, GROUP):
                registry = workspace.registry("wheat", pipeline_id=f"{(done + first) // GROUP:05d}_pls")
                with workspace.transaction():
                    for index, scaler in enumerate(scalers[first : first + GROUP]):
                        chain = f"s1.MinMaxScaler>s{2 + index}.StandardScaler"
                        registry.register_with_chain(scaler, chain, ArtifactType.TRANSFORMER, 2 + index)
            seconds = time.perf_counter() - start
            done += count
            print(json.dumps({"seconds": seconds}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--present", type=int, default=6000, help="artifacts that are there already")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    add_option(parser)
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return

    header("Registering a fitted StandardScaler (50 features, content of its own)", ["scikit-learn", "apsw"])
    nirs4all, mlflow = peer_python(NIRS4ALL, options.peers), peer_python(MLFLOW, options.peers)
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / program for program in ("artifactdb", "nirs4all", "mlflow")]
        for folder in folders:
            folder.mkdir()
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "ERROR"}
        started = (
            Worker(sys.executable, ["-m", "benchmarks.register", "--work", str(folders[0])]),
            Worker(nirs4all, [str(PEERS / "register_nirs4all.py"), str(folders[1])]),
            Worker(mlflow, [str(PEERS / "register_mlflow.py"), str(folders[2])], quiet),
        )
        with workers(*started):
            for worker, present in zip(started, (options.present, options.present, 2), strict=True):
                worker.ask(present)
            counts = (200, 50, 4)
            times: list[list[float]] = [[], [], []]
            for _ in range(options.rounds):
                for worker, count, of_worker in zip(started, counts, times, strict=True):
                    of_worker.append(worker.ask(count)["seconds"] / count * 1000)

    ours = median(times[0])
    names = ("artifactdb", NIRS4ALL, f"{MLFLOW} log_model")
    rows = [
        (program, spread(values, digits=2), f"{1000 / median(values):,.0f}", f"{median(values) / ours:,.1f}")
        for program, values in zip(names, times, strict=True)
    ]
    table(["", "ms for one: median (quartiles)", "a second", "times artifactdb's"], rows)
    verdict("faster than nirs4all", median(times[1]) / ours, 20, " times", at_least=True)
    verdict("faster than MLflow", median(times[2]) / ours, 30, " times", at_least=True)


if __name__ == "__main__":
    main()
