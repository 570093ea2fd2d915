"""Train the study with nirs4all 0.6.2's runner, which saves artifacts and predictions as it does by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nirs4all.pipeline import PipelineRunner

from benchmarks.peers.run_study import FOLDS, grid, measure, rmse


def train(x: Any, y: Any, folder: Path, pipelines: int, _jobs: int) -> Any:
    runner = PipelineRunner(
        folder,
        verbose=0,
        save_charts=False,
        enable_tab_reports=False,
        show_spinner=False,
        show_progress_bar=False,
    )
    predictions, _ = runner.run(grid(pipelines), (x, y), dataset_name="spectra")
    return predictions


def scores(predictions: Any) -> list[float]:
    # Beside the folds it has their averages.
    rows = predictions.filter_predictions(partition="val")
    return [rmse(row["y_true"], row["y_pred"]) for row in rows if str(row["fold_id"]) in map(str, range(FOLDS))]


if __name__ == "__main__":
    measure(train, scores)
