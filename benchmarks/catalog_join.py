"""Does a question about ten predictions stay fast when the file has a million artifacts?

The same statements over 1,000 and over 1,000,000 artifacts, with 50 predictions; goal: at most twice as long.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from sklearn.preprocessing import MinMaxScaler

from artifactdb import Workspace
from benchmarks.measure import header, spread, table, verdict

STATEMENTS = {
    "ten best, with parameter and size": """
        SELECT p.val_score, a.parameters ->> 'copy' AS copy, a.stored_bytes
        FROM predictions AS p JOIN artifacts AS a ON a.artifact_id = p.model_artifact_id
        WHERE p.partition = 'val' ORDER BY p.val_score LIMIT 10""",
    "ten best first, then their artifacts": """
        WITH best AS (SELECT * FROM predictions ORDER BY val_score LIMIT 10)
        SELECT best.id, a.class_name FROM best JOIN artifacts AS a ON a.artifact_id = best.model_artifact_id""",
    "artifacts of a pipeline": "SELECT artifact_id, class_name FROM artifacts WHERE pipeline_id = '0004_x'",
    "artifacts of some predictions": """
        SELECT class_name FROM artifacts
        WHERE artifact_id IN (SELECT model_artifact_id FROM predictions WHERE val_score < 0.1)""",
}

# The records of a registered scaler, repeated: made by SQLite, since registering a million would take minutes.
NUMBERS = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {})"
PIPELINES = NUMBERS + (
    " INSERT INTO pipelines (dataset_key, pipeline_id, created_at) SELECT 1, printf('%04d_x', i), '' FROM n"
)
RECORDS = (
    NUMBERS
    + """
    INSERT INTO records (dataset_key, pipeline_key, artifact_id, chain_key, step_index, fold_id, artifact_type,
      class_name, parameter_set_key, blob_key, format, environment_key, created_at)
    SELECT 1, 2 + i / 50, printf('%04d_x$abcdef%06d:%d', i / 50, i, i % 5), 1, 3, i % 5, 'model',
      'PLSRegression', 1, 1, 'pickle5', 1, '' FROM n"""
)


def make(path: Path, artifacts: int) -> None:
    """Make a workspace with so many artifacts and 50 predictions."""
    with Workspace(path) as workspace:
        scaler = MinMaxScaler().fit([[0.0], [1.0]])
        workspace.registry("wheat", "first").register_with_chain(scaler, "s1.MinMaxScaler", "transformer", 1)
        with workspace.transaction():
            workspace.database.rows(PIPELINES.format(-(-artifacts // 50)))
            workspace.database.rows(RECORDS.format(artifacts))
        ids = workspace.database.rows("SELECT artifact_id FROM records WHERE record_key % ? = 7", (artifacts // 50,))
        workspace.catalog.add_many(
            {
                "dataset_name": "wheat", "model_name": "PLS", "partition": "val", "op_counter": number,
                "metric": "rmse", "val_score": number / 100, "model_artifact_id": artifact_id,
            }
            for number, (artifact_id,) in enumerate(ids)
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifacts", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()
    header(f"Does a question about ten stay fast among {options.artifacts:,} artifacts?", ["duckdb", "pyarrow"])
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"small": 1000, "large": options.artifacts}
        for name, artifacts in sizes.items():
            make(Path(folder) / f"{name}.sqlite", artifacts)
        with Workspace(Path(folder) / "small.sqlite") as small, Workspace(Path(folder) / "large.sqlite") as large:
            shown, ratios = [], {}
            for question, sql in STATEMENTS.items():
                taken: dict[str, list[float]] = {"small": [], "large": []}
                for _ in range(options.rounds):
                    for name, workspace in (("small", small), ("large", large)):
                        started = time.perf_counter()
                        workspace.sql(sql)
                        taken[name].append(1000 * (time.perf_counter() - started))
                ratios[question] = median(taken["large"]) / median(taken["small"])
                shown.append((question, spread(taken["small"]), spread(taken["large"]), f"{ratios[question]:.2f}"))
            started = time.perf_counter()
            large.sql("SELECT count(DISTINCT class_name) FROM artifacts")
            everything = time.perf_counter() - started
    table(["", "1,000 artifacts, ms", f"{options.artifacts:,} artifacts, ms", "ratio"], shown)
    print(f"A question that does need all of them takes {everything:.1f} s.\n")
    for question, ratio in ratios.items():
        verdict(question, ratio, 2.0)


if __name__ == "__main__":
    main()
