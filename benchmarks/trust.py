"""What do signatures, history and checks of rows cost, and does a file with very many signatures still open at once?

Peer: the same code with the check, the signature, the history or the checks of rows left out, in turns with it.
Goals: at most 3 % of a load and of a save; opening a file with 200,000 signed records under 10 ms.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
from sklearn.cross_decomposition import PLSRegression
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from artifactdb import Workspace
from artifactdb.artifacts import gate, history, save
from artifactdb.database import row_checks
from benchmarks.growth import fill
from benchmarks.measure import header, run_fresh, spread, table, verdict

OPEN = """
import json, sys, time
from artifactdb import Workspace
started = time.perf_counter()
with Workspace(sys.argv[1], mode=sys.argv[2]) as workspace:
    opened = time.perf_counter() - started
    workspace.record(sys.argv[3], "wheat")
print(json.dumps({"opened": opened * 1000}))
"""


@contextmanager
def unchecked() -> Iterator[None]:
    with patch.object(gate, "is_trusted", lambda *_: True), patch.object(gate, "require_same", lambda *_: None):
        yield


@contextmanager
def unsigned() -> Iterator[None]:
    with patch.object(save, "_signature", lambda *_: None):
        yield


@contextmanager
def unwritten() -> Iterator[None]:
    with patch.object(history, "note_new", lambda *_: None):
        yield


@contextmanager
def without_row_checks() -> Iterator[None]:
    with patch.object(row_checks.Written, "compute", lambda written, _: written.forget()):
        yield


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def loads(folder: Path, rounds: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 100)), rng.normal(size=200)
    models: dict[str, Any] = {
        "Ridge": Ridge().fit(x, y),
        "PLSRegression": PLSRegression(10).fit(x, y),
        "RandomForestRegressor": RandomForestRegressor(50, random_state=0).fit(x, y),
    }
    rows, ratios = [], []
    with Workspace(folder / "loads.sqlite") as workspace:
        registry = workspace.registry("wheat", "0001_models")
        for step, (name, model) in enumerate(models.items(), start=1):
            artifact_id = registry.register_with_chain(model, f"s{step}.{name}", "model", step).artifact_id

            def ten(artifact_id: str = artifact_id) -> None:
                for _ in range(10):
                    workspace.load(artifact_id, "wheat")

            checked, plain = [], []
            for turn in range(rounds * 4):
                for check in (True, False) if turn % 2 else (False, True):
                    if check:
                        checked.append(seconds(ten) * 100)
                    else:
                        with unchecked():
                            plain.append(seconds(ten) * 100)
            ratio = median(a / b for a, b in zip(checked, plain, strict=True))
            ratios.append(ratio)
            rows.append((name, spread(checked, " ms", 3), spread(plain, " ms", 3), f"{(ratio - 1) * 100:+.1f} %"))
    table(("load of", "checked", "unchecked", "costs"), rows)
    verdict("a load with its signature checked", (max(ratios) - 1) * 100, 3, " %")


def saves(folder: Path, rounds: int) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for group in (1, 10):
        with Workspace(folder / f"saves_{group}.sqlite") as workspace:
            count = 0

            def some(group: int = group, workspace: Workspace = workspace) -> float:
                nonlocal count
                scalers = [StandardScaler().fit(rng.normal(size=(60, 50))) for _ in range(40)]
                started = time.perf_counter()
                for first in range(0, 40, group):
                    count += 1
                    registry = workspace.registry("wheat", f"{count:05d}_pls")
                    with workspace.transaction():
                        for step, scaler in enumerate(scalers[first : first + group]):
                            registry.register_with_chain(scaler, f"s{step}.StandardScaler", "transformer", step)
                return (time.perf_counter() - started) * 25

            some()
            left_out = {"signature": unsigned, "history": unwritten, "row checks": without_row_checks}
            ways: list[tuple[str, Callable[[], AbstractContextManager[None]]]] = [
                ("all", nullcontext), *left_out.items(),
            ]  # fmt: skip
            times: dict[str, list[float]] = {name: [] for name, _ in ways}
            for turn in range(rounds * 4):
                # The file grows, and the machine warms up: none of the ways is always the first or the last.
                for name, way in ways[turn % 4 :] + ways[: turn % 4]:
                    with way():
                        times[name].append(some())
            costs = [
                (median(a / b for a, b in zip(times["all"], times[name], strict=True)) - 1) * 100 for name in left_out
            ]
            said = (f"{cost:+.1f} %" for cost in costs)
            rows.append((f"{group} to a transaction", spread(times["all"], " ms", 3), *said))
            if group == 10:
                verdict("a save with its signature", costs[0], 3, " %")
    table(("save of a StandardScaler", "all", "signature costs", "history costs", "row checks cost"), rows)


def opening(folder: Path, records: int, rounds: int) -> None:
    path = folder / "large.sqlite"
    with Workspace(path) as workspace:
        fill(workspace, records)
        signed = workspace.query("SELECT count(*) FROM artifacts WHERE signed_by IS NOT NULL")[0][0]
        artifact_id = workspace.records(limit=1)[0].artifact_id
    rows = []
    for mode in ("rw", "ro"):
        times = [run_fresh(["-c", OPEN, str(path), mode, artifact_id])["opened"] for _ in range(rounds)]
        rows.append((mode, f"{signed:,}", spread(times, " ms", 2)))
        verdict(f"opening {signed:,} signed records ({mode})", median(times), 10, " ms")
    table(("mode", "signed records", "opening in a fresh process"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    header("What signatures cost", ["scikit-learn", "apsw"])
    with tempfile.TemporaryDirectory() as name:
        loads(Path(name), options.rounds)
        saves(Path(name), options.rounds)
        opening(Path(name), options.records, 7)


if __name__ == "__main__":
    main()
