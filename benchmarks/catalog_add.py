"""How long does it take to add predictions with two arrays of 50 floats and to flush them?

Peers: nirs4all 0.6.2's ``add_prediction`` and ``save_to_parquet``, whose cost for a row grows with the rows that are
there, so that fewer rows flatter it; and nirs4all 1.4.10's store, flushed after each pipeline as its own orchestrator
does, and all at once. Goals: 10 times the first, 5 times the second.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from artifactdb import Workspace
from benchmarks.catalog_rows import rows
from benchmarks.measure import header, run_fresh, spread, table, verdict
from benchmarks.peer_environment import NIRS4ALL, NIRS4ALL_STORE, add_option, peer_python

PIPELINE = 15


def ours(count: int, at_once: bool) -> float:
    """Give the seconds that artifactdb takes."""
    given = list(rows(count))
    with tempfile.TemporaryDirectory() as folder, Workspace(Path(folder) / "study.sqlite") as workspace:
        catalog = workspace.catalog
        started = time.perf_counter()
        if at_once:
            catalog.add_many(given)
        else:
            for start in range(0, count, PIPELINE):
                catalog.add_many(given[start : start + PIPELINE])
        catalog.flush()
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ours", choices=["at-once", "pipeline"], help=argparse.SUPPRESS)
    add_option(parser)
    options = parser.parse_args()
    if options.ours:
        print(json.dumps({"seconds": ours(options.rows, options.ours == "at-once")}))
        return
    header(
        "How long does it take to add predictions with two arrays of 50 floats, and to flush?", ["duckdb", "pyarrow"]
    )
    store = peer_python(NIRS4ALL_STORE, options.peers)
    old = peer_python(NIRS4ALL, options.peers)
    # Each in a process of its own, in turn; microseconds for one row.
    here = [sys.executable, "-m", "benchmarks.catalog_add", "--ours"]
    runs = {
        "artifactdb, at once": (options.rows, [*here, "at-once", "--rows"]),
        "artifactdb, after each pipeline": (options.rows, [*here, "pipeline", "--rows"]),
        "nirs4all 1.4.10, at once": (
            options.rows, [store, "-m", "benchmarks.peers.predictions_nirs4all_1_4", "at-once"],
        ),
        "nirs4all 1.4.10, after each pipeline": (
            options.rows // 5, [store, "-m", "benchmarks.peers.predictions_nirs4all_1_4", "pipeline"],
        ),
        "nirs4all 0.6.2": (options.rows // 50, [old, "-m", "benchmarks.peers.predictions_nirs4all"]),
    }  # fmt: skip
    micros: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, (count, (python, *arguments)) in runs.items():
            micros[name].append(1e6 * run_fresh([*arguments, str(count)], python)["seconds"] / count)
    table(
        ["", "rows", "microseconds for one row"],
        [(name, f"{count:,}", spread(micros[name])) for name, (count, _) in runs.items()],
    )
    typical = {name: median(values) for name, values in micros.items()}
    verdict(
        "nirs4all 0.6.2 / artifactdb", typical["nirs4all 0.6.2"] / typical["artifactdb, at once"], 10, at_least=True
    )
    for how in ("after each pipeline", "at once"):
        ratio = typical[f"nirs4all 1.4.10, {how}"] / typical[f"artifactdb, {how}"]
        verdict(f"nirs4all 1.4.10 / artifactdb, {how}", ratio, 5, at_least=True)


if __name__ == "__main__":
    main()
