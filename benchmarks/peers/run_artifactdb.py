"""Train the study with artifactdb, until the file is closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from artifactdb import PipelineRunner, Workspace
from benchmarks.peers.run_study import grid, measure


def train(x: Any, y: Any, folder: Path, pipelines: int, jobs: int) -> Path:
    with PipelineRunner(folder / "study.sqlite") as runner:
        runner.run(grid(pipelines), (x, y), dataset_name="spectra", verbose=0, n_jobs=jobs)
    return folder / "study.sqlite"


def scores(file: Path) -> list[float]:
    with Workspace(file) as workspace:
        return [row["val_score"] for row in workspace.catalog.filter(partition="val").to_dicts()]


if __name__ == "__main__":
    measure(train, scores)
