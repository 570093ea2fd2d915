"""Kills a process at every kind of step of flush, compact and bulk adding; looks whether anything was lost or doubled.

    python -m tests.campaigns.catalog_kills --kills 1000 --seed 0

A step is a call, made or returned from, in the code that merges and in what it calls: SQLite statements, writes of
Parquet, syncs, links, removals. The process is killed by SIGKILL right before one; then the catalog is opened, compared
row by row and array by array with what was acknowledged, and the same operation is done again to its end.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from artifactdb import Catalog, Workspace
from artifactdb.catalog import bulk
from artifactdb.catalog.rows import to_rows

NEW = range(60, 90)


def add(catalog: Catalog) -> None:
    """Add many rows at once, some of which are there already."""
    bulk.add_many(catalog._store, [prediction(number) for number in (0, 1, 45, *NEW)])


OPERATIONS: dict[str, Callable[[Catalog], Any]] = {"flush": Catalog.flush, "compact": Catalog.compact, "add": add}
_WATCHED = ("artifactdb/catalog/", "artifactdb/database/")


def prediction(number: int) -> dict[str, Any]:
    return {
        "dataset_name": f"site_{number % 3}",
        "pipeline_uid": f"{number // 5:04}_pls",
        "model_name": "PLS",
        "fold_id": number % 5,
        "partition": "val",
        "metric": "rmse",
        "val_score": number / 7,
        "y_true": np.arange(5.0) + number % 3,
        "y_pred": np.sin(np.arange(5.0) + number),
    }


def make(folder: Path) -> dict[str, float]:
    """Make a catalog with every kind of row: compacted, flushed, staged and deleted; give what is acknowledged."""
    with Workspace(folder / "study.sqlite") as workspace:
        catalog = workspace.catalog
        ids = catalog.add_many(prediction(number) for number in range(40))
        catalog.compact()
        ids += catalog.add_many(prediction(number) for number in range(40, 50))
        catalog.flush()
        gone = set(ids[::7])
        catalog.delete(sorted(gone))
        ids += catalog.add_many(prediction(number) for number in range(50, 60))
        workspace.database.close()
    return {prediction_id: number / 7 for number, prediction_id in enumerate(ids) if prediction_id not in gone}


def run_and_die(folder: Path, operation: str, step: int | None) -> int:
    """Do the operation in a forked process that is killed before a step; give the steps it took, or -1 if killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            taken = _count(folder, operation, step)
            os.write(writing, str(taken).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        said = stream.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return -1
    assert said, f"{operation} failed at step {step}"
    return int(said)


def _count(folder: Path, operation: str, step: int | None) -> int:
    taken = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal taken
        # What a watched function calls or returns from; c_call events carry the name of the function in C.
        if any(part in frame.f_code.co_filename for part in _WATCHED):
            taken += 1
            if taken == step:
                os.kill(os.getpid(), signal.SIGKILL)

    workspace = Workspace(folder / "study.sqlite")
    catalog = workspace.catalog
    sys.setprofile(profile)
    OPERATIONS[operation](catalog)
    sys.setprofile(None)
    workspace.database.close()
    return taken


def check(folder: Path, operation: str, acknowledged: dict[str, float]) -> None:
    """Compare what is there with what was acknowledged, before and after the operation is done to its end."""
    with Workspace(folder / "study.sqlite") as workspace:
        catalog = workspace.catalog
        for again in (lambda: None, lambda: OPERATIONS[operation](catalog)):
            again()
            rows = catalog.filter().to_dicts()
            if operation == "add" and len(rows) > len(acknowledged):  # all of the new ones, or none
                acknowledged = acknowledged | {
                    to_rows([prediction(number)])[0][0][0]: number / 7 for number in (0, *NEW)
                }
            assert len(rows) == len(acknowledged), f"{len(rows)} rows, {len(acknowledged)} acknowledged"
            assert {row["id"]: row["val_score"] for row in rows} == acknowledged
            arrays = catalog.arrays(sorted(acknowledged))
            for prediction_id, score in acknowledged.items():
                expected = prediction(round(score * 7))
                for name in ("y_true", "y_pred"):
                    assert np.array_equal(arrays[prediction_id][name], expected[name]), (prediction_id, name)
        found = workspace.verify()
        assert found.ok, found.problems
        if operation == "add":
            catalog.flush()  # clears away what a killed process left over
        live = sorted(name for (name,) in workspace.database.rows("SELECT name FROM catalog_files"))
        assert sorted(path.name for path in catalog.folder.iterdir()) == live, "nothing is left over"
        if operation == "compact":
            assert live == ["predictions_data.parquet", "predictions_meta.parquet"]


def campaign(kills: int, seed: int, report: Callable[[str], None] = print) -> None:
    """Kill so many times, spread evenly over all steps of each operation."""
    chance = random.Random(seed)
    root = Path(tempfile.mkdtemp(prefix="artifactdb-kills-"))
    try:
        acknowledged = make(root / "whole")
        steps = {}
        for operation in OPERATIONS:
            shutil.copytree(root / "whole", root / "count")
            steps[operation] = run_and_die(root / "count", operation, None)
            shutil.rmtree(root / "count")
        report(f"seed {seed}; steps: {steps}")
        started, killed = time.monotonic(), 0
        for number in range(kills):
            operation = list(OPERATIONS)[number % len(OPERATIONS)]
            share = (number // len(OPERATIONS) + chance.random()) / (kills / len(OPERATIONS))
            step = min(steps[operation], 1 + int(share * steps[operation]))
            shutil.copytree(root / "whole", root / "one")
            killed += run_and_die(root / "one", operation, step) == -1
            try:
                check(root / "one", operation, acknowledged)
            except BaseException:
                report(
                    f"FAILED: {operation} killed at step {step} of {steps[operation]}, seed {seed}; see {root / 'one'}"
                )
                raise
            shutil.rmtree(root / "one")
            if (number + 1) % 100 == 0:
                report(f"{number + 1} runs, {killed} killed, {time.monotonic() - started:.0f} s")
        report(f"{killed} kills in {kills} runs: nothing lost, nothing doubled, nothing left over")
        assert killed >= 0.75 * kills, "most runs must really be killed"
    finally:
        if sys.exc_info()[0] is None:
            shutil.rmtree(root)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    campaign(options.kills, options.seed)


if __name__ == "__main__":
    main()
