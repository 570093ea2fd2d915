"""Predictions in nirs4all 1.4.10's store, in its own environment: add_prediction, flushed per pipeline or at once."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from nirs4all.data.predictions import Predictions
from nirs4all.pipeline.storage.workspace_store import WorkspaceStore

from benchmarks.catalog_rows import rows

NAMES = (
    "dataset_name", "config_name", "step_idx", "op_counter", "model_name", "model_classname", "fold_id", "partition",
    "val_score", "test_score", "train_score", "metric", "task_type", "n_features", "preprocessings", "best_params",
    "scores", "y_true", "y_pred",
)  # fmt: skip


def main() -> None:
    count, at_once = int(sys.argv[2]), sys.argv[1] == "at-once"
    given = list(rows(count))
    with tempfile.TemporaryDirectory() as folder, WorkspaceStore(Path(folder)) as store:
        run_id = store.begin_run("study", {}, [])
        chains = {}
        for row in given:
            if row["pipeline_uid"] not in chains:
                pipeline_id = store.begin_pipeline(
                    run_id, row["pipeline_uid"], {}, [], row["dataset_name"], row["pipeline_uid"]
                )
                chain_id = store.save_chain(pipeline_id, [], 4, row["model_name"], "MinMax", "per_fold", {}, {})
                chains[row["pipeline_uid"]] = pipeline_id, chain_id
        started = time.perf_counter()
        theirs = Predictions(store=store)
        for number, row in enumerate(given, start=1):
            theirs.add_prediction(**{name: row[name] for name in NAMES}, n_samples=len(row["y_pred"]))
            if not at_once and number % 15 == 0:
                pipeline_id, chain_id = chains[row["pipeline_uid"]]
                theirs.flush(pipeline_id, chain_id)
                theirs = Predictions(store=store)
        if at_once:
            first, _ = chains[given[0]["pipeline_uid"]]
            theirs.flush(first, chain_id_resolver=lambda row: chains[row["config_name"]][1])
        seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "rows": count}))


if __name__ == "__main__":
    main()
