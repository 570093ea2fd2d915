"""Train the study with nirs4all 1.4.10's legacy engine, without the refit of the best, which the others do not do.

By default it writes the artifacts only of a pipeline that scores better than all before it in the run, and reuses a
transformer that it has fitted to the same data before: it keeps, and fits, less than the others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nirs4all

from benchmarks.peers.run_study import FOLDS, grid, measure, rmse


def train(x: Any, y: Any, folder: Path, pipelines: int, jobs: int) -> Any:
    return nirs4all.run(
        grid(pipelines),
        (x, y),
        engine="legacy",
        workspace_path=folder,
        verbose=0,
        save_charts=False,
        enable_tab_reports=False,
        show_spinner=False,
        show_progress_bar=False,
        refit=False,
        n_jobs=jobs,
    )


def scores(result: Any) -> list[float]:
    rows = result.predictions.filter_predictions(partition="val")
    return [rmse(row["y_true"], row["y_pred"]) for row in rows if str(row["fold_id"]) in map(str, range(FOLDS))]


if __name__ == "__main__":
    measure(train, scores)
