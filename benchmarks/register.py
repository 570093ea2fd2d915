"""How fast are small fitted transformers registered, durably, where 6,000 are there already?

Peers: nirs4all 0.6.2's registry with as many files there, and MLflow's ``log_model``.
Goals: 20 and 30 times their rate.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from artifactdb import ArtifactRegistry, Workspace
from benchmarks.measure import Worker, header, spread, table, verdict, workers
from benchmarks.peer_environment import MLFLOW, NIRS4ALL, add_option, peer_python
from benchmarks.peers.objects import scaler

GROUP = 10


def register(workspace: Workspace, registry: ArtifactRegistry, first: int, count: int) -> float:
    """Give the seconds that registering takes, in groups of ``GROUP`` a transaction, synced each."""
    objects = [scaler(number) for number in range(first, first + count)]
    started = time.perf_counter()
    for start in range(0, count, GROUP):
        with workspace.transaction():
            for number, obj in enumerate(objects[start : start + GROUP], start=first + start):
                chain = f"s1.StandardScaler>s{number}.X"
                registry.register_with_chain(obj, chain, "transformer", number)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--existing", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=5)
    add_option(parser)
    options = parser.parse_args()
    nirs4all = peer_python(NIRS4ALL, options.peers)
    mlflow = peer_python(MLFLOW, options.peers)
    header("How fast are small fitted transformers registered, durably?", ["scikit-learn", "apsw", "zstandard"])
    module = ["-m", "benchmarks.peers.nirs4all_worker"]
    with (
        tempfile.TemporaryDirectory() as folder,
        Workspace(Path(folder) / "study.sqlite") as workspace,
        workers(Worker(nirs4all, module), Worker(mlflow, ["-m", "benchmarks.peers.mlflow_worker"])) as (theirs, models),
    ):
        registry = workspace.registry("wheat", "0001_x")
        register(workspace, registry, 0, options.existing)
        theirs.ask("register", 0, options.existing)
        models.ask("register", 0, 2)  # the first ones make its database
        ours_ms, nirs4all_ms, mlflow_ms = [], [], []
        for number in range(options.rounds):
            first = options.existing + number * 200
            ours_ms.append(1000 * register(workspace, registry, first, 200) / 200)
            nirs4all_ms.append(1000 * theirs.ask("register", first, 20)["seconds"] / 20)
            mlflow_ms.append(1000 * models.ask("register", first, 3)["seconds"] / 3)
    rows = [
        ("artifactdb, groups of 10", spread(ours_ms, digits=2)),
        ("nirs4all 0.6.2", spread(nirs4all_ms, digits=2)),
        (MLFLOW.replace("==", " "), spread(mlflow_ms, digits=0)),
    ]
    table(["", f"ms an artifact, {options.existing} there"], rows)
    verdict("nirs4all 0.6.2 / artifactdb", median(nirs4all_ms) / median(ours_ms), 20, at_least=True)
    verdict("MLflow / artifactdb", median(mlflow_ms) / median(ours_ms), 30, at_least=True)


if __name__ == "__main__":
    main()
